//! Bodies that come by HTTP/2.
//!
//! What always holds: such a body ends well only with END_STREAM. The codec takes a reset with
//! NO_ERROR for an end, too (RFC 9113, 8.1 has it for requests whose answer is complete already); in
//! the middle of a body that would pass a cut upload or download on as a whole one. Trailers that must
//! not be any are not in it.

use super::BodyError;
use super::h2::clean_trailers;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A body of an HTTP/2 stream.
#[derive(Debug)]
pub struct H2Body(Incoming);

impl H2Body {
    /// Of a stream; `incoming` must come by HTTP/2.
    pub fn new(incoming: Incoming) -> Self {
        Self(incoming)
    }
}

impl Body for H2Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll_frame(cx)) {
            None if !self.0.is_end_stream() => Some(Err(BodyError::Stopped)),
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(BodyError::Broken(error))),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
