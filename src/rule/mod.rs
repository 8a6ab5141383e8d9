//! The rule language: text to syntax tree ([`parse`]), tree to text, default priority, domains, and
//! a compiled [`Matcher`] that tests a request. Pure: no IO, no async. Parsing returns a value or
//! an error with its byte span; it never panics.
//!
//! Source of the behaviour: Traefik v3's rule documentation
//! (<https://doc.traefik.io/traefik/routing/routers/#rule>) and its recorded answers (tests/oracle).

mod standin;

pub use standin::{Hint, Kind, Matcher, PathHint, Rule, RuleError, Syntax, hints, parse, priority};

use std::net::IpAddr;

/// What a rule may look at. The proxy's request implements it without copying.
pub trait RequestView {
    /// Canonical host: without port, lower case.
    fn host(&self) -> &str;
    /// The path that path matchers compare: percent-decoded except for reserved characters.
    fn path(&self) -> &str;
    /// Method, as sent.
    fn method(&self) -> &str;
    /// Raw query, without `?`; empty when there is none.
    fn query(&self) -> &str;
    /// Calls `f` with each value of the header (name case-insensitive) until it returns true.
    fn any_header(&self, name: &str, f: &mut dyn FnMut(&str) -> bool) -> bool;
    /// Address that `ClientIP` compares.
    fn client_ip(&self) -> Option<IpAddr>;
}
