//! The functions of default rules: Traefik's `normalize`, Go's own and sprig's common ones for texts.

use super::{MAX_OUTPUT, Model, TemplateError, Value, fail};
use crate::tags::names::normalize;

macro_rules! functions {
    ($($variant:ident $name:literal $least:literal $most:literal),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Function { $($variant),* }
        impl Function {
            pub(super) fn by_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
            pub(super) fn arity(self) -> (usize, usize) {
                match self { $(Self::$variant => ($least, $most)),* }
            }
        }
    };
}

functions! {
    Normalize "normalize" 1 1, Lower "lower" 1 1, Upper "upper" 1 1, Trim "trim" 1 1, TrimAll "trimAll" 2 2,
    TrimPrefix "trimPrefix" 2 2, TrimSuffix "trimSuffix" 2 2, Replace "replace" 3 3, Contains "contains" 2 2,
    HasPrefix "hasPrefix" 2 2, HasSuffix "hasSuffix" 2 2, Default "default" 2 2, Printf "printf" 1 9, Print "print" 0 9,
    Quote "quote" 1 1, Index "index" 2 2, Len "len" 1 1, Eq "eq" 2 9, Ne "ne" 2 2, And "and" 1 9, Or "or" 1 9, Not "not" 1 1,
    SplitList "splitList" 2 2, Join "join" 2 2, First "first" 1 1, Last "last" 1 1, Trunc "trunc" 2 2, Empty "empty" 1 1,
    Title "title" 1 1, ToString "toString" 1 1, HasKey "hasKey" 2 2,
}

/// Calls a function whose number of values was checked when the template was parsed.
pub(super) fn call(function: Function, values: &[Value], model: Model<'_>) -> Result<Value, TemplateError> {
    let text = |at: usize| -> Result<&str, TemplateError> {
        match values.get(at) {
            Some(Value::Text(text)) => Ok(text),
            Some(Value::Missing) => Ok(""),
            other => fail(format!("`{}` expects a text, got {other:?}", function.name())),
        }
    };
    let done = |text: String| {
        if text.len() > MAX_OUTPUT { fail("the result is too long") } else { Ok(Value::Text(text)) }
    };
    match function {
        Function::Normalize => done(normalize(text(0)?).to_string()),
        Function::Lower => done(text(0)?.to_lowercase()),
        Function::Upper => done(text(0)?.to_uppercase()),
        Function::Trim => done(text(0)?.trim().to_owned()),
        Function::Title => {
            let mut start = true;
            done(
                text(0)?
                    .chars()
                    .map(|c| {
                        let upper = if start { c.to_ascii_uppercase() } else { c };
                        start = !c.is_alphanumeric();
                        upper
                    })
                    .collect(),
            )
        }
        Function::TrimAll => {
            let cut = text(0)?;
            done(text(1)?.trim_matches(|c| cut.contains(c)).to_owned())
        }
        Function::TrimPrefix => done(text(1)?.strip_prefix(text(0)?).unwrap_or(text(1)?).to_owned()),
        Function::TrimSuffix => done(text(1)?.strip_suffix(text(0)?).unwrap_or(text(1)?).to_owned()),
        Function::Replace => done(text(2)?.replace(text(0)?, text(1)?)),
        Function::Contains => Ok(Value::Bool(text(1)?.contains(text(0)?))),
        Function::HasPrefix => Ok(Value::Bool(text(1)?.starts_with(text(0)?))),
        Function::HasSuffix => Ok(Value::Bool(text(1)?.ends_with(text(0)?))),
        Function::Default => Ok(values[usize::from(values[1].is_true(model))].clone()),
        Function::Print => done(values.iter().map(Value::print).collect()),
        Function::Printf => done(printf(text(0)?, &values[1..])),
        Function::Quote | Function::ToString => match function {
            Function::Quote => done(format!("{:?}", values[0].print())),
            _ => done(values[0].print()),
        },
        Function::Index => match (&values[0], &values[1]) {
            (Value::Labels, Value::Text(key)) => done(model.labels.get(key).cloned().unwrap_or_default()),
            (Value::List(items), Value::Int(at)) => match usize::try_from(*at).ok().and_then(|at| items.get(at)) {
                Some(item) => done(item.clone()),
                None => fail(format!("index {at} is out of range")),
            },
            _ => fail("`index` expects `.Labels` and a text, or a list and a number"),
        },
        Function::HasKey => match &values[0] {
            Value::Labels => Ok(Value::Bool(model.labels.contains_key(text(1)?))),
            _ => fail("`hasKey` expects `.Labels`"),
        },
        Function::Len => Ok(Value::Int(
            i64::try_from(match &values[0] {
                Value::Text(text) => text.len(),
                Value::List(items) => items.len(),
                Value::Labels => model.labels.len(),
                _ => return fail("`len` expects a text or a list"),
            })
            .unwrap_or(i64::MAX),
        )),
        Function::Eq => Ok(Value::Bool(values[1..].contains(&values[0]))),
        Function::Ne => Ok(Value::Bool(values[0] != values[1])),
        Function::And | Function::Or => {
            let stop = function == Function::Or;
            let found = values.iter().find(|v| v.is_true(model) == stop).or(values.last());
            Ok(found.cloned().unwrap_or(Value::Missing))
        }
        Function::Not => Ok(Value::Bool(!values[0].is_true(model))),
        Function::Empty => Ok(Value::Bool(!values[0].is_true(model))),
        Function::SplitList => Ok(Value::List(text(1)?.split(text(0)?).map(str::to_owned).collect())),
        Function::Join => match &values[1] {
            Value::List(items) => done(items.join(text(0)?)),
            other => done(other.print()),
        },
        Function::First | Function::Last => match &values[0] {
            Value::List(items) => {
                let item = if function == Function::First { items.first() } else { items.last() };
                Ok(item.map_or(Value::Missing, |i| Value::Text(i.clone())))
            }
            _ => fail(format!("`{}` expects a list", function.name())),
        },
        Function::Trunc => match &values[0] {
            Value::Int(length) => {
                let all = text(1)?;
                let keep = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX).min(all.chars().count());
                let skip = if *length < 0 { all.chars().count() - keep } else { 0 };
                done(all.chars().skip(skip).take(keep).collect())
            }
            _ => fail("`trunc` expects a number"),
        },
    }
}

/// `%s`, `%v`, `%d`, `%q` and `%%`.
fn printf(format: &str, values: &[Value]) -> String {
    let mut values = values.iter();
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some('%')) => out.push('%'),
            ('%', Some('q')) => out.push_str(&values.next().map_or_else(String::new, |v| format!("{:?}", v.print()))),
            ('%', Some(_)) => out.push_str(&values.next().map(Value::print).unwrap_or_default()),
            (c, _) => out.push(c),
        }
    }
    out
}
