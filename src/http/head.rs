//! Heads: what stands before a body. Fields are reached through [`Headers`] alone, so that a later
//! codec can keep a head as the bytes that came plus a list of edits.

use super::target::{self, TargetError, TargetOptions};
use ::http::header::{Entry, HeaderMap};
use ::http::{HeaderName, HeaderValue, Method, StatusCode};
use std::borrow::Cow;

/// Header fields, in order of arrival for each name.
#[derive(Debug, Clone, Default)]
pub struct Headers(HeaderMap);

impl Headers {
    /// Takes the fields that a codec parsed.
    pub fn from_map(map: HeaderMap) -> Self {
        Self(map)
    }

    /// Gives them back to a codec.
    pub fn into_map(self) -> HeaderMap {
        self.0
    }

    /// Number of field lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// First value of a name.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0.get(name)
    }

    /// First value of a name where it is text.
    pub fn text(&self, name: &HeaderName) -> Option<&str> {
        self.0.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// True when the name is there.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.0.contains_key(name)
    }

    /// All values of a name.
    pub fn all(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.0.get_all(name).iter()
    }

    /// All field lines.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter()
    }

    /// Replaces all values of a name by one.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.insert(name, value);
    }

    /// Sets a name unless it is there with a value that is not empty.
    pub fn set_default(&mut self, name: HeaderName, value: impl FnOnce() -> HeaderValue) {
        match self.0.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(value());
            }
            Entry::Occupied(mut entry) if entry.get().is_empty() => {
                entry.insert(value());
            }
            Entry::Occupied(_) => {}
        }
    }

    /// Adds a field line.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.append(name, value);
    }

    /// Removes all values of a name; gives the first.
    pub fn remove(&mut self, name: &HeaderName) -> Option<HeaderValue> {
        self.0.remove(name)
    }

    /// Removes the name, given as text; a text that is no name is not there anyway.
    pub fn remove_text(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// True when one of the comma-separated elements of the name's values is `token` (case-insensitive).
    pub fn has_token(&self, name: &HeaderName, token: &str) -> bool {
        self.all(name).any(|value| {
            value.as_bytes().split(|b| *b == b',').any(|e| e.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        })
    }

    /// Calls `f` with each value of the name that is text, until it returns true.
    pub fn any(&self, name: &str, f: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.get_all(name).iter().any(|value| std::str::from_utf8(value.as_bytes()).is_ok_and(&mut *f))
    }

    /// All values of a name in one line, separated by `, `; `None` when it is not there.
    pub fn joined(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
        let mut values = self.all(name);
        let first = values.next()?.as_bytes();
        let mut joined = Cow::Borrowed(first);
        for value in values {
            let text = joined.to_mut();
            text.extend_from_slice(b", ");
            text.extend_from_slice(value.as_bytes());
        }
        Some(joined)
    }
}

/// A request's head: as the client sent it, cleaned, plus what middlewares changed of its path.
///
/// The path exists in three forms: `sent` (for the log), `routing_path` (decoded, what rules
/// compare) and `path` (escaped, what a server gets and middlewares edit).
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// Method, as sent.
    pub method: Method,
    /// Host as the client sent it, with port; empty when it sent none.
    pub host: HeaderValue,
    /// Fields, without `Host`.
    pub headers: Headers,
    sent: ::http::uri::PathAndQuery,
    escaped: Option<String>,
    routing: Option<String>,
    query: Option<String>,
    edited: Option<String>,
}

impl RequestHead {
    /// Cleans the target as the entry chain does ([`target::normalise_with`]).
    ///
    /// # Errors
    /// Targets that are refused.
    pub fn new(
        method: Method,
        host: HeaderValue,
        sent: ::http::uri::PathAndQuery,
        headers: Headers,
        options: TargetOptions,
    ) -> Result<Self, TargetError> {
        let clean = target::normalise_with(sent.as_str(), options)?;
        // Nothing is kept that equals what was sent, so that the usual target costs no allocation.
        let escaped = (clean.escaped_path != sent.path()).then(|| clean.escaped_path.into_owned());
        let routing = (clean.routing_path != sent.path()).then(|| clean.routing_path.into_owned());
        let query = (clean.query != sent.query().unwrap_or("")).then(|| clean.query.into_owned());
        Ok(Self { method, host, headers, sent, escaped, routing, query, edited: None })
    }

    /// Path and query as the client sent them.
    pub fn sent(&self) -> &::http::uri::PathAndQuery {
        &self.sent
    }

    /// Host as text; empty when there is none.
    pub fn host(&self) -> &str {
        std::str::from_utf8(self.host.as_bytes()).unwrap_or("")
    }

    /// The path that rules compare.
    pub fn routing_path(&self) -> &str {
        self.routing.as_deref().unwrap_or(self.sent.path())
    }

    /// Escaped path as it goes on, with the edits of middlewares. May be empty after a prefix was cut off.
    pub fn path(&self) -> &str {
        self.edited.as_deref().or(self.escaped.as_deref()).unwrap_or(self.sent.path())
    }

    /// Query without `?`; empty when there is none.
    pub fn query(&self) -> &str {
        self.query.as_deref().or(self.sent.query()).unwrap_or("")
    }

    /// Replaces the escaped path; for middlewares.
    pub fn set_path(&mut self, path: String) {
        self.edited = Some(path);
    }

    /// Forgets what middlewares changed of the path.
    pub fn reset_path(&mut self) {
        self.edited = None;
    }

    /// Path and query as a request line writes them; never empty.
    pub fn request_uri(&self) -> Cow<'_, str> {
        if self.edited.is_none() && self.escaped.is_none() && self.query.is_none() {
            return Cow::Borrowed(self.sent.as_str());
        }
        let path = if self.path().is_empty() { "/" } else { self.path() };
        // `?` alone is kept as sent.
        if self.query().is_empty() && self.sent.query().is_none() {
            Cow::Owned(path.to_owned())
        } else {
            Cow::Owned(format!("{path}?{}", self.query()))
        }
    }
}

/// An answer's head.
#[derive(Debug, Clone)]
pub struct AnswerHead {
    /// Status.
    pub status: StatusCode,
    /// Fields.
    pub headers: Headers,
}

impl AnswerHead {
    /// A head without fields.
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: Headers::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::header;

    fn head(target: &str) -> RequestHead {
        RequestHead::new(
            Method::GET,
            HeaderValue::from_static("h.test"),
            target.parse().expect("a target"),
            Headers::default(),
            TargetOptions::default(),
        )
        .expect("a fine target")
    }

    #[test]
    fn plain_target_stays_as_sent() {
        let mut plain = head("/a/b?x=1");
        assert_eq!((plain.routing_path(), plain.path(), plain.query()), ("/a/b", "/a/b", "x=1"));
        assert!(matches!(plain.request_uri(), Cow::Borrowed("/a/b?x=1")));
        plain.set_path("/c".to_owned());
        assert_eq!(plain.request_uri(), "/c?x=1");
        plain.set_path(String::new());
        assert_eq!(plain.request_uri(), "/?x=1");
        plain.reset_path();
        assert_eq!(plain.request_uri(), "/a/b?x=1");
    }

    #[test]
    fn tokens_are_found_in_any_line_and_case() {
        let mut headers = Headers::default();
        headers.append(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.append(header::CONNECTION, HeaderValue::from_static("x , UPGRADE"));
        assert!(headers.has_token(&header::CONNECTION, "upgrade"));
        assert!(!headers.has_token(&header::CONNECTION, "up"));
        assert_eq!(headers.joined(&header::CONNECTION).as_deref(), Some(&b"keep-alive, x , UPGRADE"[..]));
        assert_eq!(headers.joined(&header::HOST), None);
    }
}
