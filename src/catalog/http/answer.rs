//! What comes back: the head's figures, the body, or what went wrong.

use super::Product;
use http::HeaderMap;
use std::time::Duration;

/// Largest body that is read. 10,000 services are 2.3 MB.
pub const MAX_BODY: usize = 64 << 20;

/// A good (200) answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Figures of its head.
    pub meta: Meta,
    /// Its body.
    pub body: Vec<u8>,
}

/// What an answer's head says. Names as in X-Nomad-Index and X-Consul-Index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meta {
    /// Index to wait beyond; never taken from an answer that is not 200.
    pub index: Option<u64>,
    /// The answering server knows a leader. False when the header is missing.
    pub known_leader: bool,
    /// How long ago it heard of one.
    pub last_contact: Duration,
    /// Consul 1.11 and later: rights took something out of the answer.
    pub filtered: bool,
    /// Consul 1.9 and later: what is not allowed is denied.
    pub default_deny: bool,
}

impl Meta {
    /// Reads the headers of one product.
    pub fn read(product: Product, headers: &HeaderMap) -> Self {
        let get = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
        let (index, leader, contact) = match product {
            Product::Nomad => ("x-nomad-index", "x-nomad-knownleader", "x-nomad-lastcontact"),
            Product::Consul => ("x-consul-index", "x-consul-knownleader", "x-consul-lastcontact"),
        };
        Self {
            index: get(index).and_then(|v| v.parse().ok()),
            known_leader: get(leader) == Some("true"),
            last_contact: Duration::from_millis(get(contact).and_then(|v| v.parse().ok()).unwrap_or_default()),
            filtered: get("x-consul-results-filtered-by-acls") == Some("true"),
            default_deny: get("x-consul-default-acl-policy") == Some("deny"),
        }
    }
}

/// Why there is no good answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configured address is none.
    #[error("`{endpoint}` is not an address: {reason}")]
    Endpoint {
        /// As configured, without credentials.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// A file named in the configuration.
    #[error("cannot read `{file}`: {reason}")]
    File {
        /// Path.
        file: String,
        /// Why.
        reason: String,
    },
    /// The configured token has characters that no header can carry.
    #[error("the token has characters that no header can carry")]
    Token,
    /// TLS could not be set up from the configuration.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Nothing, or not all, in time.
    #[error("no complete answer within {0:.1?}")]
    Deadline(Duration),
    /// The connection ended before the answer was complete.
    #[error("connection ended before the answer was complete: {0}")]
    Cut(String),
    /// Not 200.
    #[error("answered {code} `{text}`")]
    Status {
        /// Status code.
        code: u16,
        /// Begin of the body, one line.
        text: String,
    },
    /// 200, and something else.
    #[error("answered {0} instead of JSON; is there a proxy or another server at this address?")]
    NotJson(String),
    /// Too much.
    #[error("answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// 200 and nearly JSON.
    #[error("answer cannot be read: {0}")]
    Decode(String),
}

impl Error {
    /// The caller may not read this, or is not known (401, 403).
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { code: 401 | 403, .. })
    }

    /// The server is there and cannot answer for lack of a leader or of an upstream (5xx), or hangs.
    pub fn may_be_leaderless(&self) -> bool {
        matches!(self, Self::Status { code: 500.., .. } | Self::Deadline(_))
    }

    /// Only this answer is bad; others of the same agent may be good.
    pub fn is_of_one_answer(&self) -> bool {
        matches!(
            self,
            Self::Decode(_) | Self::NotJson(_) | Self::TooLarge { .. } | Self::Status { code: 400..=428 | 430..=499, .. }
        )
    }

    /// From a status and the begin of its body.
    pub(in crate::catalog) fn status(code: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&body[..body.len().min(400)]);
        let mut text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('`', "'");
        if let Some((end, _)) = text.char_indices().nth(200) {
            text.truncate(end);
            text.push('…');
        }
        Self::Status { code, text: text.chars().filter(|c| !c.is_control()).collect() }
    }

    /// From a client library's error, without the address (it is said elsewhere) but with causes.
    pub(super) fn transport(error: reqwest::Error, deadline: Duration) -> Self {
        if error.is_timeout() && !error.is_connect() {
            return Self::Deadline(deadline);
        }
        let (connect, error) = (error.is_connect(), error.without_url());
        let text = causes(&error);
        if connect { Self::Connect(text) } else { Self::Cut(text) }
    }
}

/// The innermost causes of an error, in one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut chain = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if chain.last().is_none_or(|last| !last.contains(&text)) {
            chain.push(text);
        }
        source = cause.source();
    }
    // The outer ones only say that a request failed.
    let from = chain.len().saturating_sub(2);
    chain[from..].join(": ")
}

/// Refuses a body that is obviously not JSON, with words for what it is.
pub(super) fn check_json(headers: &HeaderMap, body: &[u8]) -> Result<(), Error> {
    let content_type = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let start = body.trim_ascii_start();
    if content_type.starts_with("text/html") || start.starts_with(b"<") {
        return Err(Error::NotJson("HTML".into()));
    }
    match start.first() {
        Some(b'[' | b'{' | b'"' | b'n' | b't' | b'f' | b'0'..=b'9' | b'-') => Ok(()),
        None => Err(Error::NotJson("an empty body".into())),
        Some(_) if content_type.is_empty() => Err(Error::NotJson("something".into())),
        Some(_) => Err(Error::NotJson(format!("`{}`", content_type.escape_default().take(60).collect::<String>()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_short_line() {
        assert_eq!(Error::status(403, b"Permission denied\n").to_string(), "answered 403 `Permission denied`");
        let long = Error::status(500, "é\n".repeat(300).as_bytes()).to_string();
        assert!(long.chars().count() < 230 && long.ends_with("…`"), "{long}");
        assert_eq!(Error::status(500, b"a\x1b[31m`b\0").to_string(), "answered 500 `a[31m'b`");
    }

    #[test]
    fn says_what_came_instead_of_json() {
        let mut headers = HeaderMap::new();
        assert_eq!(check_json(&headers, b" <html>"), Err(Error::NotJson("HTML".into())));
        assert_eq!(check_json(&headers, b""), Err(Error::NotJson("an empty body".into())));
        for json in ["[]", " {}", "null", "true"] {
            assert_eq!(check_json(&headers, json.as_bytes()), Ok(()));
        }
        headers.insert("content-type", "text/plain".parse().unwrap());
        assert_eq!(check_json(&headers, b"hello"), Err(Error::NotJson("`text/plain`".into())));
        headers.insert("content-type", "text/html; charset=utf-8".parse().unwrap());
        assert_eq!(check_json(&headers, b"[]"), Err(Error::NotJson("HTML".into())));
    }

    #[test]
    fn figures_of_both_products_in_any_letter_case() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("X-Nomad-Index", "12"),
            ("X-Nomad-Knownleader", "true"),
            ("X-Nomad-Lastcontact", "90"),
            ("X-Consul-Index", "x"),
        ] {
            headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let meta = Meta::read(Product::Nomad, &headers);
        assert_eq!((meta.index, meta.known_leader, meta.last_contact), (Some(12), true, Duration::from_millis(90)));
        assert_eq!(Meta::read(Product::Consul, &headers), Meta::default());
    }
}
