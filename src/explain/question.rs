//! What is asked: a request as a client would send it, within bounds.

use crate::http::Protocol;
use crate::proxy::preview::Sent;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Bytes of a URL or path.
pub const MAX_URL: usize = 8 * 1024;
/// Header fields of a request.
pub const MAX_HEADERS: usize = 100;
/// Bytes of a question as JSON.
pub const MAX_BODY: usize = 64 * 1024;
/// Bytes of a method.
const MAX_METHOD: usize = 64;

/// What a client sends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Given back in the answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Method.
    #[serde(default = "get")]
    pub method: String,
    /// As in the request's first line: a path with its query, or a whole URL.
    pub target: String,
    /// `HTTP/1.0`, `HTTP/1.1` (also when empty) or `HTTP/2.0`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proto: String,
    /// Header fields in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The client, `IP:PORT` or `IP`; empty means 127.0.0.1.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remote: String,
    /// `https` for a TLS connection.
    #[serde(default)]
    pub scheme: String,
    /// How often it is sent, to count which servers get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u32>,
}

fn get() -> String {
    "GET".to_owned()
}

impl Question {
    /// The request for a URL (or a path beside a `Host` header). An empty method is `GET`.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn of_url(method: &str, url: &str, headers: Vec<(String, String)>, from: &str) -> Result<Self, String> {
        if url.len() > MAX_URL {
            return Err(format!("the URL has more than {MAX_URL} bytes"));
        }
        if headers.len() > MAX_HEADERS {
            return Err(format!("there are more than {MAX_HEADERS} headers"));
        }
        let method = if method.is_empty() { "GET" } else { method };
        if method.len() > MAX_METHOD || !method.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("expected a method such as `GET`, got `{}`", method.escape_debug()));
        }
        if !from.is_empty() && peer(from).is_none() {
            return Err(format!("expected the client as `IP` or `IP:PORT`, got `{from}`"));
        }
        let mut headers = headers;
        let has_host = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        // a client sends a URL as its path, and its host in a field
        let (scheme, target) = match (scheme.as_deref(), url.split_once("://")) {
            (Some(scheme @ ("http" | "https")), Some((_, rest))) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (host, path) = rest.split_at(end);
                if host.is_empty() {
                    return Err(format!("the URL `{url}` names no host"));
                }
                if !has_host {
                    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                    headers.insert(0, ("Host".to_owned(), host.to_owned()));
                }
                let path = path.split('#').next().unwrap_or_default();
                (scheme.to_owned(), if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
            }
            // what stands before `://` may belong to the query of a path
            (Some(other), _) if !url.starts_with('/') => {
                return Err(format!("expected a URL of `http` or `https`, got `{other}`"));
            }
            _ if url.starts_with('/') && has_host => ("http".to_owned(), url.to_owned()),
            _ => {
                let mut message =
                    format!("expected a URL such as `https://a.example/x`, or a path and a `Host` header, got `{url}`");
                if !url.starts_with('/') && url.contains('.') {
                    message.push_str(&format!("; did you mean `http://{url}`?"));
                }
                return Err(message);
            }
        };
        let (method, remote) = (method.to_owned(), from.to_owned());
        Ok(Self { method, target, headers, remote, scheme, ..Self::default() })
    }

    /// The URL that was asked for, as people read it.
    pub fn url(&self) -> String {
        if !self.target.starts_with('/') {
            return self.target.clone();
        }
        let host = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let scheme = if self.scheme.is_empty() { "http" } else { &self.scheme };
        format!("{scheme}://{}{}", host.map_or("", |(_, host)| host), self.target)
    }

    /// The client's address.
    pub(super) fn peer(&self) -> SocketAddr {
        peer(&self.remote).unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1))
    }

    /// The request's head, as the client writes it.
    pub(super) fn sent(&self) -> Sent<'_> {
        let protocol = match self.proto.as_str() {
            "HTTP/1.0" => Protocol::Http10,
            "HTTP/2" | "HTTP/2.0" => Protocol::Http2,
            _ => Protocol::Http11,
        };
        Sent { protocol, method: &self.method, target: &self.target, fields: &self.headers }
    }
}

/// `IP:PORT`, or an address alone (port 1).
pub fn peer(text: &str) -> Option<SocketAddr> {
    let bare = || text.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 1));
    text.parse().ok().or_else(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Question, String> {
        Question::of_url("", url, Vec::new(), "")
    }

    #[test]
    fn urls_become_requests() {
        let q = of("HTTPS://u:p@a.example:8443?x=://y#z").unwrap();
        assert_eq!((&*q.method, &*q.scheme, &*q.target), ("GET", "https", "/?x=://y"));
        assert_eq!(q.headers, [("Host".to_owned(), "a.example:8443".to_owned())]);
        let host = vec![("host".to_owned(), "b".to_owned())];
        let q = Question::of_url("POST", "/x?to=http://c", host, "::1").unwrap();
        assert_eq!((&*q.target, &*q.url()), ("/x?to=http://c", "http://b/x?to=http://c"));
    }

    #[test]
    fn what_is_no_request_is_told() {
        assert!(of("ftp://a/").unwrap_err().contains("got `ftp`"));
        assert!(of("a.example/x").unwrap_err().ends_with("did you mean `http://a.example/x`?"));
        assert!(of("/x").is_err() && of("").is_err() && of("http:///x").is_err());
        assert!(of(&format!("http://a/{}", "x".repeat(MAX_URL))).is_err());
        assert!(Question::of_url("G T", "http://a/", Vec::new(), "").is_err());
        assert!(Question::of_url("GET", "http://a/", Vec::new(), "elsewhere").is_err());
        assert!(Question::of_url("GET", "http://a/", vec![Default::default(); MAX_HEADERS + 1], "").is_err());
    }
}
