//! Expressions of HCL that make lists of tags: literal lists, those inside of `concat`, `flatten` and their like, under
//! conditions and behind `local.…` and `var.…`; and the texts in them, with their templates' expressions as holes.

use super::list::{Element, List};
use super::names::{MOST_STEPS, Named, Names, span};
use super::reading::{Beyond, Reading};
use crate::migrate::Tag;
use hcl_edit::expr::{Array, Expression, FuncCall};
use hcl_edit::template::{Element as Part, Template};
use hcl_edit::{Decorate, Span};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

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

/// The lists that make up the tags of a service.
pub(super) struct Collector<'r, 't, 'b> {
    pub(super) reading: &'r mut Reading<'t>,
    pub(super) names: &'r Names<'b>,
    pub(super) templates: Templates,
    pub(super) service: &'r str,
    /// What the dynamic blocks around the service go through.
    pub(super) turns: &'r [&'b Expression],
    pub(super) lists: Vec<usize>,
    /// Legacy tags that stand in no list that can be edited, and why.
    pub(super) beyond: Vec<(Beyond, Arc<str>)>,
    /// Where values begin that names have led to, and whether under a condition.
    pub(super) seen: HashSet<(usize, bool)>,
}

impl<'t, 'b> Collector<'_, 't, 'b> {
    fn source(&self, at: Range<usize>) -> &'t str {
        self.reading.text.body.get(at).unwrap_or("")
    }

    /// Takes the lists of an expression.
    pub(super) fn collect(&mut self, expression: &Expression, conditional: bool, steps: usize) {
        if steps > MOST_STEPS {
            return self.opaque(expression);
        }
        match expression {
            Expression::Array(array) => self.array(array, span(expression), conditional, steps),
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
                Named::Value(known) => {
                    if self.seen.insert((span(known).start, conditional)) {
                        self.collect(known, conditional, steps + 1);
                    }
                }
                Named::Within(_) => self.opaque(expression),
                Named::Elsewhere => {
                    let of = traversal.expr.as_variable().map_or("", |of| of.as_str());
                    self.elsewhere(expression, !matches!(of, "var" | "local"));
                }
            },
            Expression::Null(_) => {}
            other => self.opaque(other),
        }
    }

    /// Tags of a name that the document does not define; `turn`: it may be that of a dynamic block.
    fn elsewhere(&mut self, expression: &Expression, turn: bool) {
        let at = span(expression);
        let found = self.beyond.len();
        self.opaque(expression);
        let name = self.source(at.clone());
        for turn in self.turns.iter().filter(|_| turn) {
            let why: Arc<str> = format!("legacy tags come from `{name}`, a value of a dynamic block").into();
            let its = self.names.legacy_within(&self.reading.text.body, turn);
            // Such values have addresses of all kinds.
            let its = its.into_iter().filter(|tag| !tag.text.starts_with("https://"));
            self.beyond.extend(its.map(|tag| (tag, why.clone())));
        }
        if self.beyond.len() == found {
            let message = format!("tags come from `{name}`, which this document does not define");
            self.reading.remark(at.start, self.service, message, "look for legacy tags where it is defined");
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
                Expression::StringTemplate(template) => {
                    let tag = self.template(template, at.start);
                    // What comes first may be the prefix.
                    let hides = tag.text.trim_start().starts_with(Tag::HOLE)
                        && !self.names.legacy_within(&self.reading.text.body, expression).is_empty();
                    (!hides).then_some(tag)
                }
                Expression::Traversal(traversal) => self.names.text(traversal).map(|text| self.plain(text, at.start)),
                Expression::FuncCall(call) => self.formatted(call, at.start),
                _ => None,
            };
            if tag.is_none() {
                self.element(expression, steps);
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
    fn element(&mut self, expression: &Expression, steps: usize) {
        match self.names.follow(expression) {
            // A list in a list, for `flatten`.
            Expression::Array(_) => self.collect(expression, true, steps + 1),
            _ => self.opaque(expression),
        }
    }

    /// An expression that makes tags in a way that has no place for more of them.
    fn opaque(&mut self, expression: &Expression) {
        let found = self.names.legacy_within(&self.reading.text.body, expression);
        if found.is_empty() {
            return;
        }
        let how = match expression {
            Expression::FuncCall(call) => format!("the function `{}`", call.name.name.as_str()),
            // Each turn would define the same router with a rule of its own, and none of them would count.
            Expression::ForExpr(_) => "a `for` expression".to_owned(),
            Expression::HeredocTemplate(_) => "a heredoc".to_owned(),
            Expression::Conditional(_) => "a condition on a single text".to_owned(),
            Expression::Traversal(_) => format!("`{}`", self.source(span(expression)).trim()),
            Expression::String(_) => "a text that is no list".to_owned(),
            _ => "an expression".to_owned(),
        };
        let line = |at: usize| self.reading.place(at).line;
        let here = line(span(expression).start);
        let why = |tag: &Beyond| {
            let from = if line(tag.at) == here { String::new() } else { format!(" in line {here}") };
            format!("legacy tags are made by {how}{from}, which cannot be edited in place")
        };
        let found: Vec<(Beyond, Arc<str>)> = found
            .into_iter()
            .map(|tag| {
                let why = why(&tag).into();
                (tag, why)
            })
            .collect();
        self.beyond.extend(found);
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
