//! The rule language: text to syntax tree ([`parse`]), tree to text (`Display`), default priority,
//! domains, and a compiled [`Matcher`] that tests a request or a connection. Pure: no IO, no async.
//!
//! What always holds: parsing returns a value or an error with its byte span and never panics;
//! printing a [`Rule`] and parsing the text again gives the same rule; matching does not allocate
//! (but for percent-encoded query values that are long or no UTF-8, and the scratch space that a
//! regular expression keeps for each thread); every request that a rule matches satisfies one of its [`hints`].
//!
//! Source of the behaviour: Traefik v3's rule documentation
//! (<https://doc.traefik.io/traefik/routing/routers/#rule>), v2's
//! (<https://doc.traefik.io/traefik/v2.11/routing/routers/#rule>), and recorded answers (`tests/oracle`).
//! Rules have the lexical form of Go expressions, so strings stand in backticks (raw) or in double
//! quotes (with Go's escapes), comments are allowed, and a line may only end after an operator, a
//! comma or an opening parenthesis.

mod ast;
mod error;
mod hints;
mod matcher;
mod parse;
mod predicate;
mod print;
mod query;
mod regex;
mod template;
#[cfg(test)]
mod tests;

pub use ast::{Expr, Name, Rule, Span, Test};
pub use error::{Problem, RuleError};
pub use hints::{Hint, PathHint, hints, host_key};
pub use matcher::Matcher;
pub use parse::parse;
pub use regex::replacing;

use std::net::IpAddr;

/// What a rule may look at. The proxy's request implements it without copying.
pub trait RequestView {
    /// Canonical host: without port, lower case ([`crate::model::canonical_host`]).
    fn host(&self) -> &str;
    /// Host as sent, with its port: the absolute target's, else the Host header. Only syntax v2's
    /// `HostRegexp` looks at it.
    fn authority(&self) -> &str {
        self.host()
    }
    /// The path that path matchers compare: percent-decoded except for reserved characters.
    fn path(&self) -> &str;
    /// Method, as sent.
    fn method(&self) -> &str;
    /// Raw query, without `?`, semicolons turned into `&`; empty when there is none.
    fn query(&self) -> &str;
    /// Calls `f` with each value of the header (name case-insensitive) until it returns true; true
    /// if one did. Values come without surrounding blanks.
    fn any_header(&self, name: &str, f: &mut dyn FnMut(&str) -> bool) -> bool;
    /// Address that `ClientIP` compares.
    fn client_ip(&self) -> Option<IpAddr>;
}

/// What a TCP rule may look at.
pub trait ConnectionView {
    /// Server name of the TLS handshake, lower case, without surrounding blanks; empty when there is none.
    fn server_name(&self) -> &str;
    /// Calls `f` with each protocol that the client offers by ALPN until it returns true; true if one did.
    fn any_alpn(&self, f: &mut dyn FnMut(&str) -> bool) -> bool;
    /// Address that `ClientIP` compares.
    fn client_ip(&self) -> Option<IpAddr>;
}

/// Which set of matchers a rule is written with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Syntax {
    /// Traefik v2's matchers: several arguments mean "or", `{name:regexp}` templates.
    V2,
    /// Traefik v3's matchers.
    #[default]
    V3,
}

impl Syntax {
    /// The syntax that a router's `ruleSyntax` names: `v2`, exactly so written; anything else is v3, as in Traefik.
    pub fn named(name: &str) -> Self {
        if name == "v2" { Self::V2 } else { Self::V3 }
    }
}

/// What a rule is asked about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Requests.
    #[default]
    Http,
    /// Connections.
    Tcp,
}

/// The default priority of a router: the length of its rule's text in bytes, as written, and -1
/// for a TCP rule that is nothing but `HostSNI` of `*`, also negated
/// (<https://doc.traefik.io/traefik/routing/routers/#priority>).
pub fn priority(text: &str, rule: &Rule) -> i64 {
    let mut root = rule.root();
    while let Expr::Not(inner) = root {
        root = inner;
    }
    match root {
        Expr::Test(test) if test.name == Name::HostSni && test.args == ["*"] => -1,
        _ => i64::try_from(text.len()).unwrap_or(i64::MAX),
    }
}
