//! A request as a record tells of it, and as it is sent. What identifies it (method, scheme, host, target, fields that a
//! router may look at, body) makes one of many equal records.

use super::hide;
use crate::http::{HeaderValue, Method, split_port};
use aws_lc_rs::digest;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName};
use std::fmt::{self, Write};
use std::sync::Arc;

/// Whether it came encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As in URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// From a word, in any case.
    pub fn named(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            _ => None,
        }
    }

    /// The port that a URL need not say.
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// File, `-` or option.
    pub source: Arc<str>,
    /// Line, or entry of a document, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.line)
    }
}

/// What a record says, not yet looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// `GET`.
    pub method: String,
    /// Where the record tells.
    pub scheme: Option<Scheme>,
    /// Host, with a port where it has one; Common Log Format has none.
    pub host: Option<String>,
    /// Path with query, or a whole URL.
    pub target: String,
    /// Fields as recorded.
    pub headers: Vec<(String, String)>,
    /// The body, where it was recorded.
    pub body: Bytes,
}

/// What a record leaves open.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// Host of records without one.
    pub host: Option<String>,
    /// Scheme of records without one.
    pub scheme: Option<Scheme>,
    /// Whether recorded credentials are sent.
    pub credentials: bool,
    /// Fields that are sent with each.
    pub headers: HeaderMap,
}

/// Why a record makes no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It has not the form.
    #[error("expected {0}")]
    Form(&'static str),
    /// It is longer than [`super::read::MAX_LINE`].
    #[error("longer than {} bytes", super::read::MAX_LINE)]
    TooLong,
    /// Not text.
    #[error("not UTF-8")]
    NotText,
    /// No host in it, and none given.
    #[error("no host in it")]
    NoHost,
    /// A host that cannot stand in a request.
    #[error("not a host: `{0}`")]
    Host(String),
    /// A method that cannot stand in a request.
    #[error("not a method: `{0}`")]
    Method(String),
    /// A target that cannot stand in a request.
    #[error("not a request target: `{0}`")]
    Target(String),
    /// Another form than that which is read.
    #[error("not JSON: {0}")]
    Json(String),
}

/// A request that can be sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`.
    pub method: Method,
    /// By the record, or as it was said for those that do not tell.
    pub scheme: Option<Scheme>,
    /// The Host field.
    pub host: HeaderValue,
    /// Path with query.
    pub target: PathAndQuery,
    /// Fields besides Host.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Where it was first seen.
    pub place: Place,
    /// Whether the record has credentials that are not sent.
    pub held_back: bool,
    /// How many records are equal to it.
    pub times: u64,
}

/// Fields that are about the recorded connection, or would have the answer depend on what a cache had.
const NOT_SENT: [&str; 24] = [
    "host",
    "content-length",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "accept-encoding",
    "forwarded",
    "via",
    "x-real-ip",
    "alt-used",
    "priority",
    "early-data",
];
const CREDENTIALS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];
/// Fields that tell of the client; two requests that differ in nothing else are one.
const OF_CLIENT: [&str; 11] = [
    "user-agent",
    "accept",
    "accept-language",
    "accept-charset",
    "referer",
    "origin",
    "cache-control",
    "pragma",
    "dnt",
    "upgrade-insecure-requests",
    "save-data",
];
/// What Caddy writes in place of a credential.
const REDACTED: &str = "REDACTED";
/// Text of a bad record that is shown.
const SHOWN: usize = 80;

fn shown(text: &str) -> String {
    let short: String = hide::printable(text).chars().take(SHOWN).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

impl Recorded {
    /// A `GET` of a URL.
    pub fn get(url: &str) -> Self {
        Self { method: "GET".to_owned(), target: url.to_owned(), ..Self::default() }
    }

    /// What is sent.
    ///
    /// # Errors
    /// What cannot be.
    pub fn request(self, defaults: &Defaults, place: Place) -> Result<Request, Bad> {
        let not_text = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
        if not_text(&self.method) || not_text(&self.target) || self.host.as_deref().is_some_and(not_text) {
            return Err(Bad::NotText);
        }
        let method = Method::from_bytes(self.method.as_bytes()).map_err(|_| Bad::Method(shown(&self.method)))?;
        let (mut scheme, mut host, mut target) = (self.scheme, self.host, self.target);
        if let Some((word, rest)) = target.split_once("://").filter(|(word, _)| Scheme::named(word).is_some()) {
            scheme = Scheme::named(word);
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            // users in URLs are credentials, and no part of a request
            host = Some(authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned());
            let path = path.split('#').next().unwrap_or_default();
            target = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        }
        let host = host.filter(|host| !host.is_empty()).or_else(|| defaults.host.clone()).ok_or(Bad::NoHost)?;
        let host = host_value(&host).ok_or_else(|| Bad::Host(shown(&host)))?;
        let bad = || Bad::Target(shown(&hide::query(&target)));
        let parsed = PathAndQuery::try_from(target.as_str()).map_err(|_| bad())?;
        // what the parser leaves out (`#…`) would be another request
        if parsed.as_str() != target || !(target.starts_with('/') || target == "*" && method == Method::OPTIONS) {
            return Err(bad());
        }
        let (mut headers, mut held_back) = (HeaderMap::new(), false);
        for (name, value) in &self.headers {
            let lower = name.to_ascii_lowercase();
            let hop =
                NOT_SENT.contains(&&*lower) || lower.starts_with("x-forwarded-") || lower.starts_with("sec-websocket-");
            if hop || lower.starts_with(':') {
                continue;
            }
            let secret = CREDENTIALS.contains(&&*lower);
            if secret && (!defaults.credentials || value == REDACTED) {
                held_back = true;
                continue;
            }
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(lower.as_str()), HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        }
        for name in defaults.headers.keys() {
            headers.remove(name);
        }
        headers.extend(defaults.headers.clone());
        let scheme = scheme.or(defaults.scheme);
        Ok(Request { method, scheme, host, target: parsed, headers, body: self.body, place, held_back, times: 1 })
    }
}

/// A host as it may stand in the Host field.
fn host_value(host: &str) -> Option<HeaderValue> {
    let (name, port) = split_port(host);
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&b);
    let fits = !name.is_empty() && host.len() <= 512 && host.bytes().all(legal) && port;
    fits.then(|| HeaderValue::from_str(host).ok()).flatten()
}

impl Request {
    /// Two requests with equal keys are one.
    pub fn key(&self) -> String {
        let scheme = self.scheme.map_or("", Scheme::as_str);
        let mut key = format!("{} {scheme} {} {}", self.method, self.host_text().to_ascii_lowercase(), self.target);
        for (name, value) in self.telling() {
            let _ = write!(key, "\n{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
        if !self.body.is_empty() {
            let _ = write!(key, "\n\n{:?}", digest::digest(&digest::SHA256, &self.body).as_ref());
        }
        key
    }

    /// Fields that a router may look at.
    fn telling(&self) -> impl Iterator<Item = (&str, &HeaderValue)> {
        let of_client = |name: &str| OF_CLIENT.contains(&name) || name.starts_with("sec-");
        self.headers.iter().map(|(name, value)| (name.as_str(), value)).filter(move |(name, _)| !of_client(name))
    }

    /// The Host field as text.
    pub fn host_text(&self) -> &str {
        self.host.to_str().unwrap_or_default()
    }

    /// The URL without credentials, for people.
    pub fn url(&self) -> String {
        let scheme = self.scheme.map_or("http", Scheme::as_str);
        hide::printable(&format!("{scheme}://{}{}", self.host_text(), hide::query(self.target.as_str())))
    }

    /// The fields that a router may look at, without credentials, for people.
    pub fn shown_headers(&self) -> Vec<(String, String)> {
        let shown = |(name, value): (&str, &HeaderValue)| {
            let value =
                if hide::field(name) { "***".to_owned() } else { String::from_utf8_lossy(value.as_bytes()).into() };
            (name.to_owned(), hide::printable(&value))
        };
        self.telling().map(shown).collect()
    }

    /// Whether asking does nothing but read (RFC 9110, 9.2.1).
    pub fn is_safe(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// A number by which requests are chosen: the same for the same request, in every run.
    pub fn lot(&self) -> f64 {
        let hash = digest::digest(&digest::SHA256, self.key().as_bytes());
        let mut first = [0; 4];
        first.copy_from_slice(&hash.as_ref()[..4]);
        f64::from(u32::from_be_bytes(first)) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> Place {
        Place { source: "log".into(), line: 1 }
    }

    fn request(recorded: Recorded, defaults: &Defaults) -> Result<Request, Bad> {
        recorded.request(defaults, place())
    }

    #[test]
    fn a_url_is_taken_apart() {
        let found = request(Recorded::get("https://u:p@shop.test:8443?a=b#c"), &Defaults::default()).unwrap();
        assert_eq!((found.host_text(), found.target.as_str()), ("shop.test:8443", "/?a=b"));
        assert_eq!(found.url(), "https://shop.test:8443/?a=b");
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let with = |method: &str, host: Option<&str>, target: &str| {
            let recorded = Recorded {
                method: method.to_owned(),
                host: host.map(str::to_owned),
                target: target.to_owned(),
                ..Recorded::default()
            };
            request(recorded, &Defaults::default()).map(drop)
        };
        assert_eq!(with("GET", None, "/"), Err(Bad::NoHost));
        assert!(matches!(with("G T", Some("a"), "/"), Err(Bad::Method(_))));
        for host in ["a b", "a\r\nX: y", "a:port", "a/b", "ü.example"] {
            assert!(matches!(with("GET", Some(host), "/"), Err(Bad::Host(_))), "{host}");
        }
        for target in ["", "a", "/a b", "/a#b", "*", "/a\u{1}"] {
            assert!(matches!(with("GET", Some("a"), target), Err(Bad::Target(_))), "{target:?}");
        }
        for target in ["/", "//x", "/a/../b", "/%2F?x=%", "/{a}|b?q=[1]"] {
            assert_eq!(with("GET", Some("a.test"), target), Ok(()), "{target}");
        }
        assert_eq!(with("OPTIONS", Some("a"), "*"), Ok(()));
    }

    #[test]
    fn credentials_go_on_only_when_told() {
        let recorded = Recorded {
            headers: [("Cookie", "id=1"), ("X-Canary", "1"), ("If-None-Match", "x"), ("X-Forwarded-For", "y")]
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .to_vec(),
            ..Recorded::get("http://a.test/")
        };
        let found = request(recorded.clone(), &Defaults::default()).unwrap();
        assert!(found.held_back && found.headers.len() == 1 && found.headers.contains_key("x-canary"));
        let told = Defaults { credentials: true, ..Defaults::default() };
        let found = request(recorded, &told).unwrap();
        assert!(!found.held_back && found.headers.contains_key("cookie"));
        assert!(found.shown_headers().contains(&("cookie".to_owned(), "***".to_owned())));
    }

    #[test]
    fn equal_requests_have_equal_keys() {
        let with = |name: &str, value: &str| {
            let headers = vec![(name.to_owned(), value.to_owned())];
            request(Recorded { headers, ..Recorded::get("http://A.test/x") }, &Defaults::default()).unwrap()
        };
        assert_eq!(with("user-agent", "a").key(), with("Accept", "b").key());
        assert_ne!(with("x-canary", "a").key(), with("x-canary", "b").key());
        assert!(with("a", "b").lot() < 1.0);
    }

    proptest! {
        #[test]
        fn no_record_panics(method in "\\PC{0,9}", host in proptest::option::of("\\PC{0,20}"), target in "\\PC{0,40}") {
            let recorded = Recorded { method, host, target, ..Recorded::default() };
            if let Ok(found) = request(recorded, &Defaults::default()) {
                prop_assert!(!found.url().chars().any(char::is_control));
                prop_assert!((0.0..1.0).contains(&found.lot()));
            }
        }
    }
}
