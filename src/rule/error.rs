//! Why a rule was refused, and where.

use std::fmt;
use std::ops::Range;
use thiserror::Error;

/// A refused rule: what is wrong with it and the place in its text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{problem}")]
pub struct RuleError {
    /// Byte range in the rule's text; empty where something is missing.
    pub span: Range<usize>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum Problem {
    /// The text is no expression, or one that rules do not know.
    #[error("expected {expected}, found {found}")]
    Syntax { expected: &'static str, found: Found },
    #[error("{what} is not closed, expected {expected}")]
    Unclosed { what: &'static str, expected: &'static str },
    #[error("{what} in a rule's text is not allowed")]
    Character { what: &'static str },
    #[error("parentheses stand deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("unknown matcher `{name}`, expected {expected}")]
    UnknownMatcher { name: String, expected: String },
    #[error("`{matcher}` got {got} arguments, expected {expected}")]
    ArgumentCount { matcher: &'static str, expected: &'static str, got: usize },
    #[error("`{matcher}` got an empty argument")]
    EmptyArgument { matcher: &'static str },
    #[error("`{matcher}` takes ASCII only, got `{value}` (write an international name in its `xn--` form)")]
    NotAscii { matcher: &'static str, value: String },
    #[error("expected a path that begins with `/`, got `{value}`")]
    Path { value: String },
    #[error("expected an IP address or a network such as `10.0.0.0/8`, got `{value}`")]
    Address { value: String },
    #[error("bad regular expression `{pattern}`: {reason}")]
    Regex { pattern: String, reason: String },
    #[error("bad template `{template}`: {reason}")]
    Template { template: String, reason: String },
    #[error("`{matcher}` does not take `{value}`: {reason}")]
    Value { matcher: &'static str, value: String, reason: &'static str },
}

impl Problem {
    /// Stable word to branch on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } | Self::Unclosed { .. } | Self::Character { .. } | Self::TooDeep { .. } => "syntax",
            Self::UnknownMatcher { .. } => "unknown_matcher",
            Self::ArgumentCount { got: 0, .. } => "no_args",
            Self::ArgumentCount { .. } => "param_count",
            Self::EmptyArgument { .. } => "empty_arg",
            Self::NotAscii { .. } => "non_ascii",
            Self::Path { .. } => "bad_path",
            Self::Address { .. } => "bad_ip",
            Self::Regex { .. } => "bad_regex",
            Self::Template { .. } => "bad_template",
            Self::Value { .. } => "bad_value",
        }
    }
}

/// What stands where something else was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing more.
    End,
    /// A line's end, where Go ends the expression.
    Line,
    /// This text.
    Text(String),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("the end"),
            Self::Line => f.write_str("the end of the line (it may only end after an operator, `,` or `(`)"),
            Self::Text(text) => write!(f, "`{text}`"),
        }
    }
}
