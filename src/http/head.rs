//! Heads: what stands before a body. Fields are reached through [`Headers`] alone.

use super::target::{self, TargetError, TargetOptions};
use super::{Headers, Method, StatusCode};
use std::borrow::Cow;

/// A request's head: as the client sent it, cleaned, plus what middlewares changed of its path.
///
/// The path exists in three forms: `sent` (for the log), `routing_path` (decoded, what rules
/// compare) and `path` (escaped, what a server gets and middlewares edit).
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    /// Method, as sent.
    pub method: Method,
    /// Fields, without `Host`.
    pub headers: Headers,
    // Path and query as sent, and the host behind them: one piece of memory that is used again.
    text: String,
    path_end: usize,
    target_end: usize,
    escaped: Option<String>,
    routing: Option<String>,
    query: Option<String>,
    edited: Option<String>,
}

impl RequestHead {
    /// Cleans the target as the entry chain does ([`target::normalise_with`]). `sent` is path and query, `host`
    /// the host as the client sent it, with port (empty when it sent none).
    ///
    /// # Errors
    /// Targets that are refused.
    pub fn new(
        method: Method,
        host: &str,
        sent: &str,
        headers: Headers,
        options: TargetOptions,
    ) -> Result<Self, TargetError> {
        Self::of_text([sent, host].concat(), sent.len(), method, headers, options).map_err(|(error, _)| error)
    }

    /// The same of a text in which the host stands right behind the target, which ends at `target_end`.
    ///
    /// # Errors
    /// As [`Self::new`], with the text.
    pub(crate) fn of_text(
        text: String,
        target_end: usize,
        method: Method,
        headers: Headers,
        options: TargetOptions,
    ) -> Result<Self, (TargetError, String)> {
        let sent = text.get(..target_end).unwrap_or_default();
        let clean = match target::normalise_with(sent, options) {
            Ok(clean) => clean,
            Err(error) => return Err((error, text)),
        };
        let (path, query) = sent.split_once('?').unwrap_or((sent, ""));
        // Nothing is kept that equals what was sent, so that the usual target costs no allocation.
        let escaped = changed(clean.escaped_path, path);
        let routing = changed(clean.routing_path, path);
        let query = changed(clean.query, query);
        let path_end = path.len();
        Ok(Self { method, headers, text, path_end, target_end, escaped, routing, query, edited: None })
    }

    /// What can be used again.
    pub(crate) fn into_parts(self) -> (String, Headers) {
        (self.text, self.headers)
    }

    /// Path and query as the client sent them.
    pub fn sent(&self) -> &str {
        &self.text[..self.target_end]
    }

    fn sent_path(&self) -> &str {
        &self.text[..self.path_end]
    }

    /// Query as sent, if there is one, without `?`.
    fn sent_query(&self) -> Option<&str> {
        self.text.get(self.path_end + 1..self.target_end)
    }

    /// Host as the client sent it, with port; empty when there is none.
    pub fn host(&self) -> &str {
        &self.text[self.target_end..]
    }

    /// The host, and the fields to be changed.
    pub(crate) fn host_and_fields(&mut self) -> (&str, &mut Headers) {
        (&self.text[self.target_end..], &mut self.headers)
    }

    /// The path that rules compare.
    pub fn routing_path(&self) -> &str {
        self.routing.as_deref().unwrap_or(self.sent_path())
    }

    /// Escaped path as it goes on, with the edits of middlewares. May be empty after a prefix was cut off.
    pub fn path(&self) -> &str {
        self.edited.as_deref().or(self.escaped.as_deref()).unwrap_or(self.sent_path())
    }

    /// Query without `?`; empty when there is none.
    pub fn query(&self) -> &str {
        self.query.as_deref().or(self.sent_query()).unwrap_or("")
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
            return Cow::Borrowed(self.sent());
        }
        let path = if self.path().is_empty() { "/" } else { self.path() };
        // `?` alone is kept as sent.
        if self.query().is_empty() && self.sent_query().is_none() {
            Cow::Owned(path.to_owned())
        } else {
            Cow::Owned(format!("{path}?{}", self.query()))
        }
    }
}

/// What became of a part of the target, where it is not what was sent. What was borrowed whole is.
fn changed(clean: Cow<'_, str>, sent: &str) -> Option<String> {
    match clean {
        Cow::Borrowed(clean) if clean.len() == sent.len() && clean.as_ptr() == sent.as_ptr() => None,
        clean if clean == sent => None,
        clean => Some(clean.into_owned()),
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

    fn head(target: &str) -> RequestHead {
        RequestHead::new(Method::GET, "h.test", target, Headers::default(), TargetOptions::default())
            .expect("a fine target")
    }

    #[test]
    fn plain_target_stays_as_sent() {
        let mut plain = head("/a/b?x=1");
        assert_eq!((plain.routing_path(), plain.path(), plain.query()), ("/a/b", "/a/b", "x=1"));
        assert_eq!(plain.host(), "h.test");
        assert!(matches!(plain.request_uri(), Cow::Borrowed("/a/b?x=1")));
        plain.set_path("/c".to_owned());
        assert_eq!(plain.request_uri(), "/c?x=1");
        plain.set_path(String::new());
        assert_eq!(plain.request_uri(), "/?x=1");
        plain.reset_path();
        assert_eq!(plain.request_uri(), "/a/b?x=1");
        let mut bare = head("/a?");
        bare.set_path("/b".to_owned());
        assert_eq!(bare.request_uri(), "/b?");
        let mut none = head("/a");
        none.set_path("/b".to_owned());
        assert_eq!(none.request_uri(), "/b");
    }
}
