//! *Send* and *receive* over HTTP/2 to a server, whatever the client speaks: one stream of a connection that
//! requests share.
//!
//! What always holds: a request that the server did not process is sent again, if its body can be said again
//! (RFC 9113, 8.7), but not for ever. One that was lost with its connection is not sent again here: the failure tells whether
//! it may be, to another server.

use super::choose::Taken;
use super::failure;
use super::finish::Finish;
use crate::http::{Body, Cause, Failure, H2Body, Transfer, UploadFailure, h2};
use crate::upstream::{ConnectError, H2, H2Error, H2Stream, Repeatable};
use ::http::{HeaderValue, header};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How often a server may say of one request that it did not process it.
const REFUSALS: u32 = 3;

/// A server's answer.
pub(super) struct Answer {
    pub(super) head: ::http::response::Parts,
    pub(super) body: H2Body,
    /// The stream that it comes by; to be finished when the answer has ended.
    pub(super) stream: H2Stream<Body>,
}

/// Why a server gave no answer.
pub(super) enum Unanswered {
    /// It could not be reached; the body is untouched.
    NotReached(Rc<ConnectError>, Body),
    /// It did not process the request, again and again; the body is untouched.
    NotProcessed(Body),
    /// There is nothing to be repeated.
    Failed(Failure),
}

/// Asks a server. `length` is the body's, where it is known. The request's fields are those that a server gets.
///
/// # Errors
/// See [`Unanswered`].
pub(super) async fn ask(
    taken: &Taken,
    http2: &H2<Body>,
    host: &[u8],
    base: Option<&str>,
    (body, length): (Body, Option<u64>),
    transfer: Option<&Transfer>,
    finish: &Finish,
) -> Result<Answer, Unanswered> {
    let pool = taken.in_flight.pool();
    let limit = pool.settings().response_header_timeout;
    let head = head(finish, pool.scheme(), host, base, length);
    let Some(head) = head else { return Err(Unanswered::Failed(Cause::BadRequest.into())) };
    let empty = body.is_empty();
    let said = Repeatable::new(body);
    let mut refused = 0;
    loop {
        // Connecting has a time-out of its own.
        let result = match http2.ready().await {
            Ok(()) => match in_time(limit, transfer, http2.send(head.clone(), &said)).await {
                Some(result) => result,
                None => return Err(Unanswered::Failed(failure::late_head(limit))),
            },
            Err(error) => Err(error),
        };
        let error = match result {
            Ok((response, stream)) => {
                pool.state().reachable();
                let (head, incoming) = response.into_parts();
                return Ok(Answer { head, body: H2Body::new(incoming), stream });
            }
            Err(error) => error,
        };
        tracing::debug!(server = %pool.state().id().url, %error, "no answer");
        let harmless = empty && finish.exchange.request.method.is_idempotent();
        let failed = failed(&error, transfer, harmless);
        // An empty body is always as it was.
        let back = |said: Repeatable<Body>| if empty { Some(Body::Empty) } else { said.into_inner() };
        match error {
            H2Error::Connect(error) => {
                return Err(match back(said) {
                    Some(body) => Unanswered::NotReached(error, body),
                    None => Unanswered::Failed(failed),
                });
            }
            H2Error::NotProcessed(_) if refused + 1 == REFUSALS => {
                let whole = said.rewind();
                return Err(match back(said).filter(|_| whole) {
                    Some(body) => Unanswered::NotProcessed(body),
                    None => Unanswered::Failed(failed),
                });
            }
            H2Error::NotProcessed(_) if said.rewind() => {
                refused += 1;
                finish.again();
            }
            _ => return Err(Unanswered::Failed(failed)),
        }
    }
}

/// The head that the server gets.
pub(super) fn head(
    finish: &Finish,
    scheme: &str,
    host: &[u8],
    base: Option<&str>,
    length: Option<u64>,
) -> Option<::http::request::Parts> {
    let request = &finish.exchange.request;
    let target = match base {
        None => ::http::uri::PathAndQuery::try_from(&*request.request_uri()),
        Some(base) => ::http::uri::PathAndQuery::try_from([base, &request.request_uri()].concat()),
    };
    let mut parts = ::http::Request::new(()).into_parts().0;
    parts.method = request.method.clone();
    parts.uri = h2::uri(scheme, host, target.ok()?)?;
    parts.headers = request.headers.to_map();
    parts.headers.remove(header::HOST);
    if let Some(length) = length {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Some(parts)
}

/// Waits for an answer's head; the time runs from the last byte of the request that moved.
async fn in_time<T>(limit: Duration, transfer: Option<&Transfer>, sending: impl Future<Output = T>) -> Option<T> {
    if limit.is_zero() {
        return Some(sending.await);
    }
    let mut sending = std::pin::pin!(sending);
    let mut until = Instant::now() + limit;
    loop {
        if let Ok(result) = tokio::time::timeout_at(until, &mut sending).await {
            return Some(result);
        }
        match transfer.map(|transfer| transfer.moved.get() + limit) {
            Some(later) if later > until => until = later,
            _ => return None,
        }
    }
}

/// What went wrong. A request that broke off on the client's side is not the server's failure. `harmless`: it may be said again.
fn failed(error: &H2Error, transfer: Option<&Transfer>, harmless: bool) -> Failure {
    match transfer.and_then(|transfer| transfer.failure.get()) {
        Some(UploadFailure::Stalled) => return Cause::ClientStalled.into(),
        Some(UploadFailure::Broken) => return Cause::ClientBrokeFraming.into(),
        Some(UploadFailure::Gone) => return Cause::ClientGone.into(),
        None => {}
    }
    match error {
        H2Error::Connect(error) => failure::connect(error),
        H2Error::Malformed(_) => Cause::BadAnswer(crate::http::BadAnswer::Head).into(),
        H2Error::Body(_) => Cause::ClientBrokeFraming.into(),
        H2Error::Lost(_) => Failure::new(Cause::ResetBeforeAnswer).sent(harmless),
        // A server that ends the stream alone is there, and has said what it thinks of the request.
        H2Error::NotProcessed(_) | H2Error::Reset(_) => Cause::ResetBeforeAnswer.into(),
    }
}
