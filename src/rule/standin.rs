//! A small part of the rule language, standing in for the complete one until it is merged:
//! Host, HostRegexp, Path, PathPrefix, `&&`, `||` and brackets.

use super::RequestView;
use regex::Regex;

/// What a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP requests.
    Http,
}

/// Version of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// Traefik v2's.
    V2,
    /// Traefik v3's.
    V3,
}

/// Why a rule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuleError {
    /// Byte range in the text.
    pub span: (usize, usize),
    /// What is wrong.
    pub message: String,
}

/// A parsed rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Both.
    And(Box<Rule>, Box<Rule>),
    /// Either.
    Or(Box<Rule>, Box<Rule>),
    /// A matcher with its value and place.
    Test(Test, String, usize),
}

/// The matchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Exact host.
    Host,
    /// Host by expression.
    HostRegexp,
    /// Exact path.
    Path,
    /// Prefix of the path.
    PathPrefix,
}

/// A compiled rule.
#[derive(Debug, Clone)]
pub enum Matcher {
    /// Both.
    And(Box<Matcher>, Box<Matcher>),
    /// Either.
    Or(Box<Matcher>, Box<Matcher>),
    /// A test without an expression.
    Plain(Test, String),
    /// A host expression.
    Regex(Regex),
}

/// What a matching request must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Host, if only one fits.
    pub host: Option<String>,
    /// Path.
    pub path: PathHint,
}

/// The path of a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathHint {
    /// Any path.
    Any,
    /// Paths that start so.
    Prefix(String),
    /// This path.
    Exact(String),
}

/// Default priority: the rule's length in bytes.
pub fn priority(text: &str, _rule: &Rule) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

/// Parses a rule.
///
/// # Errors
/// Anything outside the small language.
pub fn parse(text: &str, _kind: Kind, _syntax: Syntax) -> Result<Rule, RuleError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let rule = parser.either()?;
    if parser.at < text.len() { Err(parser.fail("expected `&&`, `||` or the end")) } else { Ok(rule) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn fail(&self, message: &str) -> RuleError {
        RuleError { span: (self.at, self.text.len()), message: message.to_owned() }
    }

    fn eat(&mut self, word: &str) -> bool {
        self.at = self.text.len() - self.text[self.at..].trim_start().len();
        let found = self.text[self.at..].starts_with(word);
        if found {
            self.at += word.len();
            self.at = self.text.len() - self.text[self.at..].trim_start().len();
        }
        found
    }

    fn either(&mut self) -> Result<Rule, RuleError> {
        let mut left = self.both()?;
        while self.eat("||") {
            left = Rule::Or(Box::new(left), Box::new(self.both()?));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Rule, RuleError> {
        let mut left = self.one()?;
        while self.eat("&&") {
            left = Rule::And(Box::new(left), Box::new(self.one()?));
        }
        Ok(left)
    }

    fn one(&mut self) -> Result<Rule, RuleError> {
        if self.eat("(") {
            self.depth += 1;
            if self.depth > 50 {
                return Err(self.fail("too deep"));
            }
            let inner = self.either()?;
            self.depth -= 1;
            return if self.eat(")") { Ok(inner) } else { Err(self.fail("expected `)`")) };
        }
        let start = self.at;
        let test = [
            ("HostRegexp", Test::HostRegexp),
            ("Host", Test::Host),
            ("PathPrefix", Test::PathPrefix),
            ("Path", Test::Path),
        ]
        .into_iter()
        .find(|(name, _)| self.text[self.at..].starts_with(&format!("{name}(")))
        .ok_or_else(|| self.fail("unknown matcher"))?;
        self.at += test.0.len() + 1;
        let quote = self.text[self.at..]
            .chars()
            .next()
            .filter(|c| "`\"".contains(*c))
            .ok_or_else(|| self.fail("expected a quoted text"))?;
        self.at += 1;
        let end = self.text[self.at..].find(quote).ok_or_else(|| self.fail("expected the closing quote"))?;
        let value = self.text[self.at..self.at + end].to_owned();
        self.at += end + 1;
        if value.is_empty() || (test.1 == Test::Host && !value.is_ascii()) {
            return Err(self.fail("bad value"));
        }
        if self.eat(")") { Ok(Rule::Test(test.1, value, start)) } else { Err(self.fail("expected `)`")) }
    }
}

impl Matcher {
    /// Compiles a rule.
    ///
    /// # Errors
    /// A regular expression that is not one.
    pub fn compile(rule: &Rule) -> Result<Self, RuleError> {
        Ok(match rule {
            Rule::And(a, b) => Self::And(Box::new(Self::compile(a)?), Box::new(Self::compile(b)?)),
            Rule::Or(a, b) => Self::Or(Box::new(Self::compile(a)?), Box::new(Self::compile(b)?)),
            Rule::Test(Test::HostRegexp, value, at) => Self::Regex(
                Regex::new(&format!("(?i){value}"))
                    .map_err(|e| RuleError { span: (*at, *at + value.len()), message: e.to_string() })?,
            ),
            Rule::Test(Test::Host, value, _) => Self::Plain(Test::Host, value.to_ascii_lowercase()),
            Rule::Test(test, value, _) => Self::Plain(*test, value.clone()),
        })
    }

    /// Whether the request fits.
    pub fn matches(&self, request: &impl RequestView) -> bool {
        match self {
            Self::And(a, b) => a.matches(request) && b.matches(request),
            Self::Or(a, b) => a.matches(request) || b.matches(request),
            Self::Regex(r) => r.is_match(request.host()),
            Self::Plain(Test::Host, value) => request.host().trim_end_matches('.') == value.trim_end_matches('.'),
            Self::Plain(Test::Path, value) => request.path() == value,
            Self::Plain(_, value) => request.path().starts_with(value.as_str()),
        }
    }
}

/// Hints of which a matching request satisfies at least one.
pub fn hints(rule: &Rule) -> Vec<Hint> {
    match rule {
        Rule::Or(a, b) => [hints(a), hints(b)].concat(),
        Rule::And(a, b) => {
            let (a, b) = (hints(a), hints(b));
            let pick = |x: &PathHint, y: &PathHint| if *x == PathHint::Any { y.clone() } else { x.clone() };
            a.iter()
                .flat_map(|x| {
                    b.iter().map(|y| Hint { host: x.host.clone().or(y.host.clone()), path: pick(&x.path, &y.path) })
                })
                .collect()
        }
        Rule::Test(Test::Host, value, _) => vec![Hint { host: Some(value.to_ascii_lowercase()), path: PathHint::Any }],
        Rule::Test(Test::HostRegexp, ..) => vec![Hint { host: None, path: PathHint::Any }],
        Rule::Test(Test::Path, value, _) => vec![Hint { host: None, path: PathHint::Exact(value.clone()) }],
        Rule::Test(Test::PathPrefix, value, _) => vec![Hint { host: None, path: PathHint::Prefix(value.clone()) }],
    }
}
