//! Answers that the proxy itself makes. Their bodies are the ones that Traefik sends, so that
//! whoever looks for them finds them.

use super::{AnswerHead, Failure, HeaderValue, Reason, Side, StatusCode, name};
use std::borrow::Cow;

/// An answer of the proxy's own, and why it was made.
#[derive(Debug)]
pub struct Made {
    /// Head; boxed, since it goes through many hands as an error.
    pub head: Box<AnswerHead>,
    /// Body.
    pub text: Cow<'static, str>,
    /// Why.
    pub reason: Reason,
    /// What went wrong, where something did.
    pub failure: Option<Failure>,
}

impl Made {
    /// A status and a text.
    pub fn new(status: StatusCode, text: impl Into<Cow<'static, str>>, reason: Reason) -> Self {
        Self { head: Box::new(AnswerHead::new(status)), text: text.into(), reason, failure: reason.failure(status) }
    }

    /// The answer to a failure: its status, and the status' standard phrase as the body. After a
    /// failure of the client's the connection is not used again.
    pub fn failed(failure: Failure) -> Self {
        let made = match failure.status() {
            StatusCode::BAD_REQUEST => return Self { failure: Some(failure), ..Self::bad_request() },
            StatusCode::SERVICE_UNAVAILABLE => Self::unavailable(failure.reason()),
            status => Self::status(status, failure.reason()),
        };
        let made = Self { failure: Some(failure), ..made };
        if failure.side == Side::Client { made.closing() } else { made }
    }

    /// A status with its standard phrase as the body.
    pub fn status(status: StatusCode, reason: Reason) -> Self {
        Self::new(status, status.canonical_reason().unwrap_or(""), reason)
    }

    /// 404, as Go's HTTP library words it.
    pub fn not_found(reason: Reason) -> Self {
        Self::error(StatusCode::NOT_FOUND, "404 page not found\n", reason)
    }

    /// A text as Go's `http.Error` sends it, with its line end.
    pub fn error(status: StatusCode, text: impl Into<Cow<'static, str>>, reason: Reason) -> Self {
        let mut made = Self::new(status, text, reason);
        made.head.headers.set(name::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        made.head.headers.set(name::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        made
    }

    /// 400, after which the connection is not used again.
    pub fn bad_request() -> Self {
        Self::refused(StatusCode::BAD_REQUEST, "400 Bad Request")
    }

    /// The answer to a head that is not acceptable, in the words of Go's HTTP library; the connection is not used again.
    pub fn refused(status: StatusCode, text: &'static str) -> Self {
        let mut made = Self::new(status, text, Reason::BadRequest);
        made.head.headers.set(name::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        made.closing()
    }

    /// 503 that asks the client to come again.
    pub fn unavailable(reason: Reason) -> Self {
        let mut made = Self::status(StatusCode::SERVICE_UNAVAILABLE, reason);
        made.head.headers.set(name::RETRY_AFTER, HeaderValue::from_static("1"));
        made
    }

    /// A redirect.
    pub fn redirect(status: StatusCode, location: HeaderValue) -> Self {
        let mut made = Self::status(status, Reason::Redirect);
        made.head.headers.set(name::LOCATION, location);
        made
    }

    /// The same, and the connection is closed after it.
    pub fn closing(mut self) -> Self {
        self.head.headers.set(name::CONNECTION, HeaderValue::from_static("close"));
        self
    }
}
