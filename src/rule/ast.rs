//! The syntax tree of a rule. Only the parser makes one, so that its matchers exist in the rule's
//! syntax and their arguments are checked. Operators are flat (no `All` directly within an `All`)
//! and negations never stand doubled, so that rules that differ in parentheses only are equal.

use super::{Kind, Syntax};
use std::hash::{Hash, Hasher};

/// A checked rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    kind: Kind,
    syntax: Syntax,
    root: Expr,
}

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expr {
    /// A matcher with its arguments.
    Test(Test),
    /// `!`.
    Not(Box<Expr>),
    /// `&&`; at least two.
    All(Vec<Expr>),
    /// `||`; at least two.
    Any(Vec<Expr>),
}

/// A matcher with its arguments, as in ``Host(`a.example`)``.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Test {
    /// Which matcher.
    pub name: Name,
    /// Its arguments, unquoted; at least one, none empty.
    pub args: Vec<String>,
    /// Where it stands in the rule's text.
    pub span: Span,
}

/// A byte range in the rule's text. It is no part of a rule's value: all spans are equal, so that a
/// rule equals its canonical form.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte behind the last.
    pub end: usize,
}

impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Span {}

impl Hash for Span {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The matchers of both syntaxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Name {
    Host,
    HostHeader,
    HostRegexp,
    Path,
    PathPrefix,
    PathRegexp,
    Method,
    Header,
    HeaderRegexp,
    Headers,
    HeadersRegexp,
    Query,
    QueryRegexp,
    ClientIp,
    HostSni,
    HostSniRegexp,
    Alpn,
}

impl Name {
    const HTTP_V3: &[Self] = &[
        Self::Host,
        Self::HostRegexp,
        Self::Path,
        Self::PathPrefix,
        Self::PathRegexp,
        Self::Method,
        Self::Header,
        Self::HeaderRegexp,
        Self::Query,
        Self::QueryRegexp,
        Self::ClientIp,
    ];
    const HTTP_V2: &[Self] = &[
        Self::Host,
        Self::HostHeader,
        Self::HostRegexp,
        Self::Path,
        Self::PathPrefix,
        Self::Method,
        Self::Headers,
        Self::HeadersRegexp,
        Self::Query,
        Self::ClientIp,
    ];
    const TCP: &[Self] = &[Self::HostSni, Self::HostSniRegexp, Self::ClientIp, Self::Alpn];

    /// The matchers of a kind and syntax.
    pub fn known(kind: Kind, syntax: Syntax) -> &'static [Self] {
        match (kind, syntax) {
            (Kind::Http, Syntax::V3) => Self::HTTP_V3,
            (Kind::Http, Syntax::V2) => Self::HTTP_V2,
            (Kind::Tcp, _) => Self::TCP,
        }
    }

    /// As the documentation writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "Host",
            Self::HostHeader => "HostHeader",
            Self::HostRegexp => "HostRegexp",
            Self::Path => "Path",
            Self::PathPrefix => "PathPrefix",
            Self::PathRegexp => "PathRegexp",
            Self::Method => "Method",
            Self::Header => "Header",
            Self::HeaderRegexp => "HeaderRegexp",
            Self::Headers => "Headers",
            Self::HeadersRegexp => "HeadersRegexp",
            Self::Query => "Query",
            Self::QueryRegexp => "QueryRegexp",
            Self::ClientIp => "ClientIP",
            Self::HostSni => "HostSNI",
            Self::HostSniRegexp => "HostSNIRegexp",
            Self::Alpn => "ALPN",
        }
    }

    /// True for the spellings that Traefik takes: as documented, all lower, all upper, and first letter
    /// upper with the rest lower.
    pub(super) fn is_spelt(self, text: &str) -> bool {
        let name = self.as_str();
        if !text.eq_ignore_ascii_case(name) {
            return false;
        }
        let rest_lower = || text.bytes().skip(1).all(|b| b.is_ascii_lowercase());
        text == name || text.bytes().all(|b| b.is_ascii_uppercase()) || rest_lower()
    }
}

impl Rule {
    pub(super) fn new(kind: Kind, syntax: Syntax, root: Expr) -> Self {
        Self { kind, syntax, root }
    }

    /// What the rule is asked about.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The syntax that it is written in.
    pub fn syntax(&self) -> Syntax {
        self.syntax
    }

    /// The expression.
    pub fn root(&self) -> &Expr {
        &self.root
    }

    /// The names that certificates are asked for and TLS options chosen by: the arguments of `Host`
    /// (TCP: `HostSNI`), lower case, in order of appearance, repeated ones and those within a
    /// negation included, as in Traefik.
    pub fn domains(&self) -> Vec<String> {
        let name = match self.kind {
            Kind::Http => Name::Host,
            Kind::Tcp => Name::HostSni,
        };
        let mut found = Vec::new();
        self.root.each_test(&mut |test| {
            if test.name == name {
                found.extend(test.args.iter().map(|arg| arg.to_lowercase()));
            }
        });
        found
    }

    /// The names that certificates are ordered for: as [`Rule::domains`], without those within a negation, which are just what
    /// the rule does not take (Traefik orders for these, too), and each once.
    pub fn certificate_names(&self) -> Vec<String> {
        let name = match self.kind {
            Kind::Http => Name::Host,
            Kind::Tcp => Name::HostSni,
        };
        let mut found: Vec<String> = Vec::new();
        self.root.each_positive_test(&mut |test| {
            if test.name == name {
                for arg in &test.args {
                    let arg = arg.to_lowercase();
                    if !found.contains(&arg) {
                        found.push(arg);
                    }
                }
            }
        });
        found
    }
}

impl Expr {
    pub(super) fn negate(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    pub(super) fn all(parts: Vec<Self>) -> Self {
        Self::join(parts, Self::All, |e| if let Self::All(inner) = e { Ok(inner) } else { Err(e) })
    }

    pub(super) fn any(parts: Vec<Self>) -> Self {
        Self::join(parts, Self::Any, |e| if let Self::Any(inner) = e { Ok(inner) } else { Err(e) })
    }

    /// One part stays itself; nested parts of the same operator are taken up.
    fn join(parts: Vec<Self>, wrap: fn(Vec<Self>) -> Self, open: fn(Self) -> Result<Vec<Self>, Self>) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match open(part) {
                Ok(inner) => flat.extend(inner),
                Err(other) => flat.push(other),
            }
        }
        match flat.pop() {
            Some(only) if flat.is_empty() => only,
            Some(last) => {
                flat.push(last);
                wrap(flat)
            }
            None => wrap(flat),
        }
    }

    /// Calls `f` with each matcher in order of appearance.
    pub fn each_test<'a>(&'a self, f: &mut dyn FnMut(&'a Test)) {
        match self {
            Self::Test(test) => f(test),
            Self::Not(inner) => inner.each_test(f),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.each_test(f)),
        }
    }

    fn each_positive_test<'a>(&'a self, f: &mut dyn FnMut(&'a Test)) {
        match self {
            Self::Test(test) => f(test),
            Self::Not(_) => {}
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.each_positive_test(f)),
        }
    }
}
