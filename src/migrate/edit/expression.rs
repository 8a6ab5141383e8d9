//! Expressions of HCL that make lists of tags: literal lists, those inside of `concat`, `flatten` and their like, under
//! conditions and behind `local.…` and `var.…`; and the texts in them, with their templates' expressions as holes.

use super::list::{Element, List};
use super::reading::{Reading, has_legacy};
use crate::migrate::Tag;
use hcl_edit::expr::{Array, Expression, FuncCall, Traversal, TraversalOperator};
use hcl_edit::structure::Body;
use hcl_edit::template::{Element as Part, Template};
use hcl_edit::{Decorate, Span};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// A name that leads to itself is not followed for ever.
const MOST_STEPS: usize = 16;

/// Functions whose result has the elements of the lists that they are given, and no others.
const TRANSPARENT: [&str; 12] = [
    "concat",
    "flatten",
    "distinct",
    "compact",
    "tolist",
    "toset",
    "sort",
    "reverse",
    "setunion",
    "coalescelist",
    "try",
    "coalesce",
];

/// How texts of a document are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Templates {
    /// `${…}` is an expression of the document (Nomad's jobs).
    Live,
    /// `${…}` is text like any other (Consul's definitions, which know no templates).
    Plain,
}

/// What names stand for in a document.
#[derive(Debug, Default)]
pub(super) struct Names<'b> {
    locals: HashMap<&'b str, &'b Expression>,
    variables: HashMap<&'b str, &'b Expression>,
}

impl<'b> Names<'b> {
    /// Those that a document's top level defines.
    pub(super) fn of(body: &'b Body) -> Self {
        let mut names = Self::default();
        for block in body.blocks() {
            match (block.ident.as_str(), block.labels.first()) {
                ("locals", _) => {
                    let all = block.body.attributes();
                    names.locals.extend(all.map(|attribute| (attribute.key.as_str(), &attribute.value)));
                }
                ("variable", Some(label)) => {
                    if let Some(default) = block.body.get_attribute("default") {
                        names.variables.insert(label.as_str(), &default.value);
                    }
                }
                _ => {}
            }
        }
        names
    }

    /// What an expression is once names are followed; itself where they lead out of the document.
    pub(super) fn follow<'e>(&self, mut expression: &'e Expression) -> &'e Expression
    where
        'b: 'e,
    {
        for _ in 0..MOST_STEPS {
            expression = match expression {
                Expression::Parenthesis(inner) => inner.inner(),
                Expression::Traversal(traversal) => match self.named(traversal) {
                    Some(known) => known,
                    None => return expression,
                },
                _ => return expression,
            };
        }
        expression
    }

    fn named(&self, traversal: &Traversal) -> Option<&'b Expression> {
        let (Expression::Variable(of), [one]) = (&traversal.expr, traversal.operators.as_slice()) else { return None };
        let TraversalOperator::GetAttr(name) = one.value() else { return None };
        match of.as_str() {
            "local" => self.locals.get(name.as_str()).copied(),
            "var" => self.variables.get(name.as_str()).copied(),
            _ => None,
        }
    }
}

/// Where an expression stands.
pub(super) fn span(expression: &Expression) -> Range<usize> {
    expression.span().unwrap_or(0..0)
}

/// The lists that make up the tags of a service.
pub(super) struct Collector<'r, 't, 'b> {
    pub(super) reading: &'r mut Reading<'t>,
    pub(super) names: &'r Names<'b>,
    pub(super) templates: Templates,
    pub(super) service: &'r str,
    pub(super) lists: Vec<usize>,
}

impl Collector<'_, '_, '_> {
    fn source(&self, at: Range<usize>) -> &str {
        self.reading.text.body.get(at).unwrap_or("")
    }

    /// Takes the lists of an expression.
    pub(super) fn collect(&mut self, expression: &Expression, conditional: bool, steps: usize) {
        if steps > MOST_STEPS {
            return;
        }
        let at = span(expression);
        match expression {
            Expression::Array(array) => self.array(array, at, conditional, steps),
            Expression::Parenthesis(inner) => self.collect(inner.inner(), conditional, steps + 1),
            Expression::Conditional(either) => {
                self.collect(&either.true_expr, true, steps + 1);
                self.collect(&either.false_expr, true, steps + 1);
            }
            Expression::FuncCall(call) if TRANSPARENT.contains(&call.name.name.as_str()) => {
                let conditional = conditional || call.name.name.starts_with("coalesce") || &**call.name.name == "try";
                for argument in call.args.iter() {
                    self.collect(argument, conditional, steps + 1);
                }
            }
            Expression::Traversal(traversal) => match self.names.named(traversal) {
                Some(known) => self.collect(known, conditional, steps + 1),
                None => {
                    let message =
                        format!("tags come from `{}`, which this document does not define", self.source(at.clone()));
                    let help = "look for legacy tags where it is defined";
                    self.reading.remark(at.start, self.service, message, help);
                }
            },
            Expression::Null(_) => {}
            other => self.opaque(other, at),
        }
    }

    fn array(&mut self, array: &Array, at: Range<usize>, conditional: bool, steps: usize) {
        let mut elements = Vec::new();
        let count = array.len();
        for (number, expression) in array.iter().enumerate() {
            let at = span(expression);
            let suffix = expression.decor().suffix().map_or(0, |s| s.len());
            let behind = at.end + suffix;
            let has_comma = number + 1 < count || array.trailing_comma();
            let comma = (has_comma && self.source(behind..behind + 1) == ",").then_some(behind);
            let tag = match expression {
                Expression::String(text) => Some(self.plain(text, at.start)),
                Expression::StringTemplate(template) => Some(self.template(template, at.start)),
                Expression::FuncCall(call) => self.formatted(call, at.start),
                _ => None,
            };
            if tag.is_none() {
                self.element(expression, at.clone(), steps);
            }
            elements.push(Element { at, comma, tag });
        }
        let inside = (at.start + 1).min(at.end)..at.end.saturating_sub(1).max(at.start);
        let number = self.reading.list(List { inside, elements, conditional, lenient: true });
        if !self.lists.contains(&number) {
            self.lists.push(number);
        }
    }

    /// An element that is no literal text.
    fn element(&mut self, expression: &Expression, at: Range<usize>, steps: usize) {
        match self.names.follow(expression) {
            // A list in a list, for `flatten`.
            Expression::Array(_) | Expression::Conditional(_) | Expression::ForExpr(_) => {
                self.collect(expression, true, steps + 1);
            }
            Expression::String(text) if has_legacy(&format!("\"{}", text.as_str())) => {
                let message = format!("the tag `{}` is a name for one text", self.source(at.clone()));
                self.reading.refuse(at.start, self.service, message, "write the text itself into the list");
            }
            other => {
                let there = span(other);
                if has_legacy(self.source(there)) {
                    self.opaque(expression, at);
                }
            }
        }
    }

    /// An expression that makes tags in a way that has no place for more of them.
    fn opaque(&mut self, expression: &Expression, at: Range<usize>) {
        if !has_legacy(self.source(span(self.names.follow(expression)))) {
            return;
        }
        let how = match expression {
            Expression::FuncCall(call) => format!("the function `{}`", call.name.name.as_str()),
            // Each turn would define the same router with a rule of its own, and none of them would count.
            Expression::ForExpr(_) => "a `for` expression".to_owned(),
            Expression::HeredocTemplate(_) => "a heredoc".to_owned(),
            Expression::Conditional(_) => "a condition on a single text".to_owned(),
            _ => "an expression".to_owned(),
        };
        let message = format!("legacy tags are made by {how}, which cannot be edited in place");
        self.reading.refuse(
            at.start,
            self.service,
            message,
            "write them as a list of texts, or write the new tags by hand",
        );
    }

    fn plain(&self, text: &str, at: usize) -> Tag {
        let text = match self.templates {
            Templates::Live => text.to_owned(),
            // What the parser has taken for an escape is none here.
            Templates::Plain => text.replace("${", "$${").replace("%{", "%%{"),
        };
        Tag { text: text.into(), holes: Vec::new(), place: self.reading.place(at) }
    }

    fn template(&self, template: &Template, at: usize) -> Tag {
        let mut text = String::new();
        let mut holes: Vec<Arc<str>> = Vec::new();
        for part in template.iter() {
            match (part, self.templates) {
                (Part::Literal(literal), _) => text.push_str(literal),
                (other, Templates::Live) => {
                    holes.push(self.source(other.span().unwrap_or(0..0)).into());
                    text.push(Tag::HOLE);
                }
                (other, Templates::Plain) => text.push_str(self.source(other.span().unwrap_or(0..0))),
            }
        }
        Tag { text: text.into(), holes, place: self.reading.place(at) }
    }

    /// `format("urlprefix-%s/", var.host)` is the template `"urlprefix-${var.host}/"`.
    fn formatted(&self, call: &FuncCall, at: usize) -> Option<Tag> {
        if &**call.name.name != "format" || call.args.expand_final() || self.templates == Templates::Plain {
            return None;
        }
        let mut arguments = call.args.iter();
        let Some(Expression::String(pattern)) = arguments.next() else { return None };
        let (mut text, mut holes) = (String::new(), Vec::<Arc<str>>::new());
        let mut letters = pattern.chars();
        while let Some(letter) = letters.next() {
            match (letter, if letter == '%' { letters.next() } else { None }) {
                ('%', Some('%')) => text.push('%'),
                ('%', Some('s' | 'v' | 'd')) => match arguments.next()? {
                    Expression::String(word) => text.push_str(word),
                    argument => {
                        holes.push(format!("${{{}}}", self.source(span(argument)).trim()).into());
                        text.push(Tag::HOLE);
                    }
                },
                ('%', _) => return None,
                (other, _) => text.push(other),
            }
        }
        arguments.next().is_none().then(|| Tag { text: text.into(), holes, place: self.reading.place(at) })
    }
}

/// A text as an HCL literal.
pub(super) fn quoted(pieces: &[super::Piece<'_>], holes: &[Arc<str>], templates: Templates) -> String {
    let mut out = String::from("\"");
    for piece in pieces {
        match piece {
            super::Piece::Hole(number) => out.push_str(holes.get(*number).map_or("", |hole| hole)),
            super::Piece::Text(text) => {
                let text = match templates {
                    Templates::Live => text.replace("${", "$${").replace("%{", "%%{"),
                    Templates::Plain => (*text).to_owned(),
                };
                for letter in text.chars() {
                    match letter {
                        '"' => out.push_str("\\\""),
                        '\\' => out.push_str("\\\\"),
                        '\n' => out.push_str("\\n"),
                        '\r' => out.push_str("\\r"),
                        '\t' => out.push_str("\\t"),
                        control if control.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(control))),
                        other => out.push(other),
                    }
                }
            }
        }
    }
    out.push('"');
    out
}
