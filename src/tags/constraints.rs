//! `constraints` of a catalog provider: which registrations are considered at all, by their tags:
//! ``Tag(`a`) && !TagRegex(`^b`)`` (<https://doc.traefik.io/traefik/providers/consul-catalog/#constraints>).

use regex::Regex;
use std::sync::Arc;

/// Brackets within brackets that are followed.
const MAX_DEPTH: usize = 64;

/// A parsed expression.
#[derive(Debug, Clone)]
pub enum Constraint {
    /// Everything passes.
    Any,
    /// Some tag is this text.
    Tag(String),
    /// Some tag fits this expression.
    TagRegex(Regex),
    /// Not.
    Not(Box<Constraint>),
    /// Both.
    And(Box<Constraint>, Box<Constraint>),
    /// Either.
    Or(Box<Constraint>, Box<Constraint>),
}

/// Why an expression was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at byte {at} of the constraint")]
pub struct ConstraintError {
    /// Byte offset.
    pub at: usize,
    /// What was expected.
    pub message: String,
}

impl Constraint {
    /// Parses an expression; blank text lets everything pass.
    ///
    /// # Errors
    /// Anything but `Tag`, `TagRegex`, `!`, `&&`, `||` and brackets.
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        if text.trim().is_empty() {
            return Ok(Self::Any);
        }
        let mut parser = Parser { text, at: 0, depth: 0 };
        let parsed = parser.either()?;
        if parser.at < text.len() { Err(parser.error("expected `&&`, `||` or the end")) } else { Ok(parsed) }
    }

    /// Whether a registration with these tags is considered.
    pub fn allows(&self, tags: &[Arc<str>]) -> bool {
        match self {
            Self::Any => true,
            Self::Tag(tag) => tags.iter().any(|t| **t == **tag),
            Self::TagRegex(regex) => tags.iter().any(|t| regex.is_match(t)),
            Self::Not(inner) => !inner.allows(tags),
            Self::And(a, b) => a.allows(tags) && b.allows(tags),
            Self::Or(a, b) => a.allows(tags) || b.allows(tags),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn error(&self, message: &str) -> ConstraintError {
        ConstraintError { at: self.at, message: message.to_owned() }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, word: &str) -> bool {
        self.blanks();
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
            self.blanks();
        }
        found
    }

    fn either(&mut self) -> Result<Constraint, ConstraintError> {
        let mut left = self.both()?;
        while self.eat("||") {
            left = Constraint::Or(Box::new(left), Box::new(self.both()?));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Constraint, ConstraintError> {
        let mut left = self.one()?;
        while self.eat("&&") {
            left = Constraint::And(Box::new(left), Box::new(self.one()?));
        }
        Ok(left)
    }

    fn one(&mut self) -> Result<Constraint, ConstraintError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("too many brackets"));
        }
        let parsed = if self.eat("!") {
            Constraint::Not(Box::new(self.one()?))
        } else if self.eat("(") {
            let inner = self.either()?;
            if !self.eat(")") {
                return Err(self.error("expected `)`"));
            }
            inner
        } else if self.eat("TagRegex") {
            let start = self.at;
            let pattern = self.argument()?;
            let regex = Regex::new(&pattern).map_err(|e| ConstraintError {
                at: start,
                message: format!("`{pattern}` is not an expression ({e})"),
            })?;
            Constraint::TagRegex(regex)
        } else if self.eat("Tag") {
            Constraint::Tag(self.argument()?)
        } else {
            return Err(self.error("expected `Tag`, `TagRegex`, `!` or `(`"));
        };
        self.depth -= 1;
        Ok(parsed)
    }

    fn argument(&mut self) -> Result<String, ConstraintError> {
        if !self.eat("(") {
            return Err(self.error("expected `(`"));
        }
        let quote = match self.rest().chars().next() {
            Some(c @ ('`' | '"')) => c,
            _ => return Err(self.error("expected a text in back-ticks or double quotes")),
        };
        self.at += 1;
        let Some(end) = self.rest().find(quote) else { return Err(self.error("expected the closing quote")) };
        let value = self.rest()[..end].to_owned();
        self.at += end + 1;
        if self.eat(")") { Ok(value) } else { Err(self.error("expected `)`")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_as_recorded() {
        let web: [Arc<str>; 2] = ["a".into(), "env=prod".into()];
        let api: [Arc<str>; 2] = ["b".into(), "env=dev".into()];
        for (text, for_web, for_api) in [
            ("", true, true),
            ("Tag(`a`)", true, false),
            ("Tag(`a`) && Tag(`b`)", false, false),
            ("Tag(`a`) && !TagRegex(`^env=dev$`)", true, false),
            ("(Tag(`a`) || Tag(`z`)) && !Tag(`q`)", true, false),
            ("!Tag(\"a\")", false, true),
        ] {
            let parsed = Constraint::parse(text).unwrap();
            assert_eq!((parsed.allows(&web), parsed.allows(&api)), (for_web, for_api), "{text}");
        }
    }

    #[test]
    fn refuses_with_the_place() {
        assert_eq!(Constraint::parse("Tag(a)").unwrap_err().at, 4);
        assert_eq!(Constraint::parse("Tag(`a`) Tag(`b`)").unwrap_err().at, 9);
        assert!(Constraint::parse("TagRegex(`(`)").unwrap_err().message.contains("not an expression"));
        assert!(Constraint::parse(&"(".repeat(10_000)).is_err());
        assert!(Constraint::parse(&"!".repeat(10_000)).is_err());
    }
}
