//! A rule made ready to be asked, many times a second: arguments checked and folded, regular
//! expressions compiled. Immutable; asking it does not allocate and, regular expressions aside, takes
//! no lock. Those of the `regex` crate keep their scratch space in a pool: the first thread that asks gets at
//! it freely, others through a short lock. A clone has a pool of its own, so a worker may keep one.

use super::ast::{Expr, Rule, Test};
use super::error::RuleError;
use super::predicate::{self, Connection, Refusal, Request};
use super::query::{self, Buffer};
use super::{ConnectionView, Kind, RequestView, regex};
use crate::model::{lossy, without_port};
use ::regex::bytes::Regex;

/// A compiled rule.
#[derive(Debug, Clone)]
pub struct Matcher(Tree);

#[derive(Debug, Clone)]
enum Tree {
    Http(Node<Request<Regex>>),
    Tcp(Node<Connection<Regex>>),
}

#[derive(Debug, Clone)]
enum Node<T> {
    Test(T),
    Not(Box<Node<T>>),
    All(Box<[Node<T>]>),
    Any(Box<[Node<T>]>),
}

impl<T> Node<T> {
    fn build(expr: &Expr, test: &dyn Fn(&Test) -> Result<T, RuleError>) -> Result<Self, RuleError> {
        let each = |parts: &[Expr]| parts.iter().map(|part| Self::build(part, test)).collect::<Result<_, _>>();
        Ok(match expr {
            Expr::Test(leaf) => Self::Test(test(leaf)?),
            Expr::Not(inner) => Self::Not(Box::new(Self::build(inner, test)?)),
            Expr::All(parts) => Self::All(each(parts)?),
            Expr::Any(parts) => Self::Any(each(parts)?),
        })
    }

    fn ask(&self, holds: &impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Test(test) => holds(test),
            Self::Not(inner) => !inner.ask(holds),
            Self::All(parts) => parts.iter().all(|part| part.ask(holds)),
            Self::Any(parts) => parts.iter().any(|part| part.ask(holds)),
        }
    }
}

impl Matcher {
    /// Compiles a rule.
    ///
    /// # Errors
    /// [`RuleError`] when a regular expression is too large; everything else was checked by
    /// [`parse`](super::parse).
    pub fn compile(rule: &Rule) -> Result<Self, RuleError> {
        let refused = |test: &Test, refusal: Refusal| RuleError {
            span: test.span.start..test.span.end,
            problem: refusal.problem,
        };
        Ok(Self(match rule.kind() {
            Kind::Http => Tree::Http(Node::build(rule.root(), &|test| {
                let request = predicate::request(rule.syntax(), test, &regex::compile);
                request.map(settled).map_err(|refusal| refused(test, refusal))
            })?),
            Kind::Tcp => Tree::Tcp(Node::build(rule.root(), &|test| {
                let connection = predicate::connection(rule.syntax(), test, &regex::compile);
                connection.map_err(|refusal| refused(test, refusal))
            })?),
        }))
    }

    /// True if an HTTP rule matches the request. A TCP rule matches none.
    pub fn matches(&self, request: &impl RequestView) -> bool {
        match &self.0 {
            Tree::Http(root) => root.ask(&|test| holds(test, request)),
            Tree::Tcp(_) => false,
        }
    }

    /// True if a TCP rule matches the connection. An HTTP rule matches none.
    pub fn matches_connection(&self, connection: &impl ConnectionView) -> bool {
        match &self.0 {
            Tree::Tcp(root) => root.ask(&|test| holds_for_connection(test, connection)),
            Tree::Http(_) => false,
        }
    }
}

/// Traefik compares `HostRegexp` with the host and also with its CNAME, which is empty as long as CNAMEs are
/// not asked for: what fits the empty text fits every request.
fn settled(test: Request<Regex>) -> Request<Regex> {
    match test {
        Request::HostRegex(regex) if regex.is_match(b"") => Request::Always,
        other => other,
    }
}

fn holds(test: &Request<Regex>, request: &impl RequestView) -> bool {
    let fits = |regexes: &[Regex], text: &str| regexes.iter().any(|regex| regex.is_match(text.as_bytes()));
    match test {
        Request::Always => true,
        Request::Never => false,
        Request::Host(names) => names.iter().any(|name| name.is_with_or_without_dot(request.host())),
        Request::HostRegex(regex) => regex.is_match(request.host().as_bytes()),
        Request::AuthorityRegex(regexes) => {
            fits(regexes, without_port(request.authority()).unwrap_or(request.authority()))
        }
        Request::Path(path) => request.path() == path,
        Request::PathPrefix(prefix) => request.path().starts_with(&**prefix),
        Request::PathRegex(regexes) => fits(regexes, request.path()),
        Request::Method(methods) => methods.iter().any(|method| method == request.method()),
        Request::Headers(headers) => {
            headers.iter().all(|(name, value)| request.any_header(name, &mut |got| got == value))
        }
        Request::HeadersRegex(headers) => {
            headers.iter().all(|(name, regex)| request.any_header(name, &mut |got| regex.is_match(got.as_bytes())))
        }
        Request::Query(name, value) => query::values(request.query(), name).any(|got| query::is(got, value)),
        Request::QueryRegex(name, regex) => query::values(request.query(), name).any(|got| {
            // The usual value stands for itself.
            if got.contains(['%', '+']) {
                fits_decoded(regex, &query::bytes(got).collect())
            } else {
                regex.is_match(got.as_bytes())
            }
        }),
        Request::QueryTemplates(queries) => queries.iter().all(|(name, regex)| {
            let mut pair = Buffer::new();
            if let Some(value) = query::values(request.query(), name).next() {
                pair.extend(name.bytes().chain([b'=']).chain(query::bytes(value)));
            }
            fits_decoded(regex, &pair)
        }),
        Request::ClientIp(networks) => predicate::contains(networks, request.client_ip()),
    }
}

fn holds_for_connection(test: &Connection<Regex>, connection: &impl ConnectionView) -> bool {
    let name = connection.server_name();
    match test {
        Connection::Always => true,
        Connection::Named => !name.is_empty(),
        Connection::ServerName(names) => !name.is_empty() && names.iter().any(|host| host.is(name)),
        Connection::ServerNameRegex(regexes) => regexes.iter().any(|regex| regex.is_match(name.as_bytes())),
        Connection::Alpn(protocols) => connection.any_alpn(&mut |offered| protocols.iter().any(|p| p == offered)),
        Connection::ClientIp(networks) => predicate::contains(networks, connection.client_ip()),
    }
}

/// True if a decoded text fits; what is no UTF-8 counts as U+FFFD, byte by byte, as in Go.
fn fits_decoded(regex: &Regex, decoded: &Buffer) -> bool {
    match std::str::from_utf8(decoded) {
        Ok(_) => regex.is_match(decoded),
        Err(_) => regex.is_match(lossy(decoded.to_vec()).as_bytes()),
    }
}
