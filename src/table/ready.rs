//! Middlewares made ready to be asked: what their declarations say as text, compiled once.

mod condition;
mod headers;
mod limits;
mod source;

pub use condition::{Comparison, Condition, Measure};
pub use headers::{Allowed, Cors, NONCE, ReadyHeaders, Security};
pub use limits::{ReadyBreaker, ReadyInFlight, ReadyRate, ReadyRetry};
pub use source::{Address, Criterion};

use super::Users;
use crate::declare::MiddlewareKind;
use ipnet::IpNet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A middleware, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Middleware {
    /// Qualified name, `strip@nomad`.
    pub id: Arc<str>,
    /// What it does; never `NotServed` in a table.
    pub kind: MiddlewareKind,
    /// What of it was compiled.
    pub ready: Ready,
}

impl Middleware {
    /// Compiles what there is to compile.
    ///
    /// # Errors
    /// The option that cannot be used, and why.
    pub fn new(id: Arc<str>, kind: MiddlewareKind) -> Result<Self, String> {
        let ready = match &kind {
            MiddlewareKind::RedirectRegex { regex, .. } => Ready::Pattern(expression(regex)?),
            MiddlewareKind::Headers(declared) => Ready::Headers(Box::new(ReadyHeaders::new(declared)?)),
            MiddlewareKind::PrefixAllowList { source_range } | MiddlewareKind::PrefixDenyList { source_range } => {
                let network = |text: &Arc<str>| text.parse().map_err(|_| format!("`{text}` is not a network"));
                Ready::Networks(source_range.iter().map(network).collect::<Result<_, _>>()?)
            }
            MiddlewareKind::IpAllowList { source_range, ip_strategy, reject_status_code } => {
                if *reject_status_code != 0 && http::StatusCode::from_u16(*reject_status_code).is_err() {
                    return Err(format!("`rejectStatusCode`: `{reject_status_code}` is not a status"));
                }
                allowed(source_range, ip_strategy.as_ref())?
            }
            MiddlewareKind::IpWhiteList { source_range, ip_strategy } => allowed(source_range, ip_strategy.as_ref())?,
            MiddlewareKind::ReplacePath { path } if !is_escaped(path) => {
                return Err(format!("`path`: `{path}` is not escaped as a path is"));
            }
            MiddlewareKind::ReplacePathRegex { regex, .. } => Ready::Pattern(expression(regex)?),
            MiddlewareKind::StripPrefixRegex { regex } => {
                Ready::Patterns(regex.iter().map(|regex| expression(regex)).collect::<Result<_, _>>()?)
            }
            MiddlewareKind::RateLimit(declared) => Ready::Rate(Box::new(ReadyRate::new(declared)?)),
            MiddlewareKind::InFlightReq(declared) => Ready::InFlight(Box::new(ReadyInFlight::new(declared)?)),
            MiddlewareKind::Retry(declared) => Ready::Retry(Box::new(ReadyRetry::new(declared)?)),
            MiddlewareKind::CircuitBreaker(declared) => Ready::Breaker(Box::new(ReadyBreaker::new(declared)?)),
            MiddlewareKind::BasicAuth { users, users_file, header_field, .. } => {
                let (users, bad) = Users::read(users.0.iter().map(|user| &**user));
                if let Some(at) = bad.first() {
                    return Err(format!("`users`: number {at} is not `name:hash`"));
                }
                if users.any().is_none() && users_file.is_empty() {
                    return Err("it names neither `users` nor a `usersFile`".to_owned());
                }
                if !header_field.is_empty() && http::HeaderName::try_from(&**header_field).is_err() {
                    return Err(format!("`headerField`: `{header_field}` is not the name of a field"));
                }
                Ready::Users(users)
            }
            MiddlewareKind::PrefixRedirect { status, .. } if !(300..400).contains(status) => {
                return Err(format!("`{status}` is not the status of a redirect"));
            }
            MiddlewareKind::Refuse { status } if http::StatusCode::from_u16(*status).is_err() => {
                return Err(format!("`{status}` is not a status"));
            }
            _ => Ready::Nothing,
        };
        Ok(Self { id, kind, ready })
    }

    /// Whether it has to do with answers.
    pub fn answers(&self) -> bool {
        matches!(&self.ready, Ready::Headers(headers) if headers.answers())
    }
}

/// What lets only some addresses in.
fn allowed(source_range: &[Arc<str>], strategy: Option<&crate::declare::IpStrategy>) -> Result<Ready, String> {
    if source_range.is_empty() {
        return Err("`sourceRange` is empty".to_owned());
    }
    Ok(Ready::Allowed(networks("sourceRange", source_range)?, Address::new(strategy)?))
}

/// Addresses and networks.
fn networks(option: &str, texts: &[Arc<str>]) -> Result<Vec<IpNet>, String> {
    let network = |text: &Arc<str>| match text.trim().parse::<IpNet>() {
        Ok(network) => Ok(network),
        Err(_) => match text.trim().parse::<std::net::IpAddr>() {
            Ok(address) => Ok(address.to_canonical().into()),
            Err(_) => Err(format!("`{option}`: `{text}` is not an address or a network")),
        },
    };
    texts.iter().map(network).collect()
}

/// An expression in Go's syntax.
fn expression(regex: &str) -> Result<regex::Regex, String> {
    crate::rule::replacing(regex.trim()).map_err(|why| format!("`regex`: {why}"))
}

/// Whether each `%` begins an encoding.
fn is_escaped(text: &str) -> bool {
    let mut parts = text.split('%');
    parts.next();
    parts.all(|part| part.len() >= 2 && part.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit))
}

/// What was compiled of a middleware. It follows from the declaration, so it is no part of what a
/// middleware is: all are equal.
#[derive(Debug, Clone, Default)]
pub enum Ready {
    /// There is nothing to compile.
    #[default]
    Nothing,
    /// An expression.
    Pattern(regex::Regex),
    /// Expressions.
    Patterns(Vec<regex::Regex>),
    /// Networks.
    Networks(Vec<IpNet>),
    /// Networks, and which address must be in one.
    Allowed(Vec<IpNet>, Address),
    /// Users with the hashes of their passwords.
    Users(Users),
    /// Fields of requests and answers.
    Headers(Box<ReadyHeaders>),
    /// A limit by time.
    Rate(Box<ReadyRate>),
    /// A limit at a time.
    InFlight(Box<ReadyInFlight>),
    /// When to try again.
    Retry(Box<ReadyRetry>),
    /// When to stop asking.
    Breaker(Box<ReadyBreaker>),
}

impl PartialEq for Ready {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Ready {}

impl Hash for Ready {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_compiled_says_why() {
        let new = |kind| Middleware::new("m@file".into(), kind).map(|_| ()).unwrap_err();
        let regex = |regex: &str| MiddlewareKind::RedirectRegex {
            regex: regex.into(),
            replacement: "x".into(),
            permanent: false,
        };
        assert!(new(regex("(")).starts_with("`regex`: "));
        let headers = |declared: serde_json::Value| {
            new(serde_json::from_value(serde_json::json!({"headers": declared})).unwrap())
        };
        let set = |name: &str, value: &str| headers(serde_json::json!({"customRequestHeaders": {name: value}}));
        assert_eq!(set("X A", "b"), "`customRequestHeaders`: `X A` is not the name of a field");
        assert_eq!(set("host", "a\nb"), "`customRequestHeaders.host`: it holds what no field can hold");
        assert_eq!(
            set("Transfer-Encoding", "b"),
            "`customRequestHeaders`: `Transfer-Encoding` is the proxy's own to set: it concerns one connection"
        );
        assert_eq!(headers(serde_json::json!({"sslRedirect": false})), "it says nothing");
        assert!(headers(serde_json::json!({"accessControlAllowOriginListRegex": ["("]})).contains("`(`"));
        let list = MiddlewareKind::PrefixAllowList { source_range: vec!["10.0.0.0/33".into()] };
        assert_eq!(new(list), "`10.0.0.0/33` is not a network");
        assert_eq!(new(MiddlewareKind::Refuse { status: 7 }), "`7` is not a status");
    }
}
