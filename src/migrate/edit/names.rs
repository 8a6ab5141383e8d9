//! What names stand for in a document (`local.…`, `var.…`, and parts of them), and the legacy tags that stand somewhere
//! inside of an expression.
//!
//! What always holds: a name that leads to itself ends the search, and a text is looked at once however many names lead to
//! it.

use super::reading::{Beyond, legacy_texts};
use crate::migrate::Tag;
use hcl_edit::Span;
use hcl_edit::expr::{Expression, Object, ObjectKey, Traversal, TraversalOperator};
use hcl_edit::structure::Body;
use hcl_edit::template::Element as Part;
use hcl_edit::visit::{self, Visit};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// A name that leads to itself is not followed for ever.
pub(super) const MOST_STEPS: usize = 16;

/// What names stand for in a document.
#[derive(Debug, Default)]
pub(super) struct Names<'b> {
    locals: HashMap<&'b str, &'b Expression>,
    variables: HashMap<&'b str, &'b Expression>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Named<'b> {
    /// This value.
    Value(&'b Expression),
    /// Some part of this value, which one cannot be seen.
    Within(&'b Expression),
    /// A value that the document does not show.
    Elsewhere,
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
    pub(super) fn follow<'e>(&self, expression: &'e Expression) -> &'e Expression
    where
        'b: 'e,
    {
        self.followed(expression, 0)
    }

    fn followed<'e>(&self, mut expression: &'e Expression, steps: usize) -> &'e Expression
    where
        'b: 'e,
    {
        for step in steps..MOST_STEPS {
            expression = match expression {
                Expression::Parenthesis(inner) => inner.inner(),
                Expression::Traversal(traversal) => match self.resolved(traversal, step + 1) {
                    Named::Value(known) => known,
                    Named::Within(_) | Named::Elsewhere => return expression,
                },
                _ => return expression,
            };
        }
        expression
    }

    /// What `local.tags`, `var.tags`, `local.tags.web` and `local.tags["web"][0]` stand for.
    pub(super) fn named(&self, traversal: &Traversal) -> Named<'b> {
        self.resolved(traversal, 0)
    }

    fn resolved(&self, traversal: &Traversal, steps: usize) -> Named<'b> {
        let (Expression::Variable(of), Some((first, parts))) = (&traversal.expr, traversal.operators.split_first())
        else {
            return Named::Elsewhere;
        };
        let TraversalOperator::GetAttr(name) = first.value() else { return Named::Elsewhere };
        let whole = match of.as_str() {
            "local" => self.locals.get(name.as_str()),
            "var" => self.variables.get(name.as_str()),
            _ => None,
        };
        let Some(whole) = whole.copied() else { return Named::Elsewhere };
        if steps >= MOST_STEPS {
            return Named::Within(whole);
        }
        let mut value = whole;
        for part in parts {
            value = match part_of(self.followed(value, steps + 1), part.value()) {
                Some(part) => part,
                None => return Named::Within(whole),
            };
        }
        Named::Value(value)
    }

    /// The text that `local.name` is, where it is one as it stands.
    pub(super) fn text(&self, traversal: &Traversal) -> Option<&'b str> {
        let is_local = matches!(&traversal.expr, Expression::Variable(of) if of.as_str() == "local");
        match self.named(traversal) {
            Named::Value(Expression::String(text)) if is_local => Some(text.as_str()),
            _ => None,
        }
    }

    /// The legacy tags inside of an expression and of what its names stand for.
    pub(super) fn legacy_within(&self, source: &str, expression: &Expression) -> Vec<Beyond> {
        let mut search = Search { names: self, source, seen: HashSet::new(), steps: 0, found: Vec::new() };
        search.visit_expr(expression);
        search.found
    }
}

/// The elements of an object or list, as far as they stand there.
fn part_of<'b>(value: &'b Expression, part: &TraversalOperator) -> Option<&'b Expression> {
    match (value, part) {
        (Expression::Object(object), TraversalOperator::GetAttr(name)) => member(object, name.as_str()),
        (Expression::Object(object), TraversalOperator::Index(index)) => member(object, index.as_str()?),
        (Expression::Array(array), TraversalOperator::Index(index)) => {
            array.get(usize::try_from(index.as_number()?.as_u64()?).ok()?)
        }
        _ => None,
    }
}

/// The value of a key.
pub(super) fn member<'b>(object: &'b Object, name: &str) -> Option<&'b Expression> {
    object.iter().find(|(key, _)| is_key(key, name)).map(|(_, value)| value.expr())
}

/// Whether a key is this name.
pub(super) fn is_key(key: &ObjectKey, name: &str) -> bool {
    match key {
        ObjectKey::Ident(ident) => ident.as_str() == name,
        ObjectKey::Expression(expression) => expression.as_str() == Some(name),
    }
}

/// Where an expression stands.
pub(super) fn span(expression: &Expression) -> Range<usize> {
    expression.span().unwrap_or(0..0)
}

/// Looks for legacy tags.
struct Search<'n, 'b> {
    names: &'n Names<'b>,
    source: &'n str,
    /// Where values begin that names have led to.
    seen: HashSet<usize>,
    steps: usize,
    found: Vec<Beyond>,
}

impl Search<'_, '_> {
    fn template<'p>(&mut self, parts: impl Iterator<Item = &'p Part>, at: usize) {
        let (mut text, mut holes) = (String::new(), Vec::<Arc<str>>::new());
        for part in parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                other => {
                    holes.push(other.span().and_then(|at| self.source.get(at)).unwrap_or("").into());
                    text.push(Tag::HOLE);
                }
            }
        }
        self.found.extend(legacy_texts(&text, &holes, at));
    }
}

impl Visit for Search<'_, '_> {
    fn visit_expr(&mut self, expression: &Expression) {
        let at = span(expression).start;
        match expression {
            Expression::String(text) => self.found.extend(legacy_texts(text, &[], at)),
            Expression::StringTemplate(template) => self.template(template.iter(), at),
            Expression::HeredocTemplate(heredoc) => self.template(heredoc.template.iter(), at),
            Expression::Traversal(traversal) => {
                if let Named::Value(known) | Named::Within(known) = self.names.named(traversal)
                    && self.steps < MOST_STEPS
                    && self.seen.insert(span(known).start)
                {
                    self.steps += 1;
                    self.visit_expr(known);
                    self.steps -= 1;
                }
            }
            _ => {}
        }
        visit::visit_expr(self, expression);
    }
}
