//! What became of a stream that has no answer.

use super::ConnectError;
use std::error::Error as _;
use std::rc::Rc;

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum H2Error {
    /// There is no connection; nothing was sent.
    #[error("{0}")]
    Connect(Rc<ConnectError>),
    /// The server did not process the request: REFUSED_STREAM, a stream above GOAWAY's last one, or a
    /// connection that was closed before the stream was opened. Safe to repeat whatever the method is (RFC 9113, 8.7).
    #[error("the server did not process the request: {0}")]
    NotProcessed(hyper::Error),
    /// The server reset the stream with a code.
    #[error("the server reset the stream: {0}")]
    Reset(h2::Reason),
    /// The connection ended. The request may have been processed.
    #[error("the connection was lost: {0}")]
    Lost(hyper::Error),
    /// What came is not HTTP/2, or not an answer.
    #[error("the answer is not HTTP: {0}")]
    Malformed(hyper::Error),
    /// The request's own body failed.
    #[error("the request's body failed: {0}")]
    Body(hyper::Error),
}

impl H2Error {
    pub(super) fn of(error: hyper::Error) -> Self {
        match cause(&error) {
            _ if error.is_user() => Self::Body(error),
            Some(cause) => match cause.reason() {
                Some(_) if cause.is_remote() && cause.is_go_away() => Self::NotProcessed(error),
                Some(h2::Reason::REFUSED_STREAM) if cause.is_remote() => Self::NotProcessed(error),
                Some(reason) if cause.is_remote() => Self::Reset(reason),
                Some(_) if cause.is_library() => Self::Malformed(error),
                // Reset from this side: only a body that failed does that while somebody waits.
                Some(_) => Self::Body(error),
                None => Self::Lost(error),
            },
            None => Self::Lost(error),
        }
    }

    /// Whether it says that the connection is of no more use.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::NotProcessed(error) | Self::Malformed(error) => cause(error).is_some_and(|cause| cause.is_go_away()),
            Self::Connect(_) | Self::Reset(_) | Self::Body(_) => false,
        }
    }

    /// The code with which a peer ended a stream or connection, for bodies that broke off.
    pub fn code(error: &hyper::Error) -> Option<h2::Reason> {
        cause(error)?.reason()
    }
}

fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<h2::Error>() {
            return Some(found);
        }
        source = error.source();
    }
    None
}
