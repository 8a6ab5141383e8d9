//! Answers that the proxy makes itself, over HTTP/1.1.

use super::pump::{Pump, Sent};
use super::{After, Arrived, LAST_WORDS, Session, write};
use crate::http::h1::{Chunked, Framing, What};
use crate::http::{AnswerHead, Cause, Made, Method, Protocol, Reason, name};
use crate::proxy::client::Client;
use crate::proxy::finish::{self, Finish};
use crate::proxy::request;
use std::future::poll_fn;
use std::task::{Poll, ready};
use tokio::io::AsyncWriteExt;

/// What is known of the request that is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct To {
    pub(super) old: bool,
    pub(super) head: bool,
    /// The connection can go on: the client wants to, and nothing of its request is unread.
    pub(super) keep: bool,
    /// Nothing of its request is unread.
    pub(super) read: bool,
}

/// Answers a request that was taken in.
pub(super) async fn made(session: &mut Session, finish: Finish, made: Made, to: To) -> After {
    let mut made = made;
    finish.made(&mut made);
    if made.reason == Reason::ClientGone {
        return After::Gone;
    }
    let (after, bytes) = send(session, made, to).await;
    finish.response_bytes.set(bytes);
    after
}

/// Answers a request that is not acceptable.
pub(super) async fn refused(session: &mut Session, asked: &finish::Refused<'_>, made: Made, to: To) -> After {
    let protocol = if to.old { Protocol::Http10 } else { Protocol::Http11 };
    let response_bytes = if to.head { 0 } else { made.text.len() as u64 };
    let asked = finish::Refused { response_bytes, ..*asked };
    finish::refused(&session.client, &asked, protocol, &made);
    if !made.text.is_empty() && made.head.headers.has_token(&name::CONNECTION, "close") {
        return send_bare(session, made, to.head).await;
    }
    send(session, made, to).await.0
}

/// Answers a head that never became a request.
pub(super) async fn no_request(session: &mut Session, mut made: Made, cause: Cause) -> After {
    made.reason = cause.reason();
    made.failure = Some(cause.into());
    if made.text.is_empty() {
        made.head.headers.remove(&name::CONTENT_TYPE);
    }
    let asked = finish::Refused { response_bytes: made.text.len() as u64, ..Default::default() };
    finish::refused(&session.client, &asked, session.client.protocol, &made);
    if made.text.is_empty() {
        return send(session, made, To { old: false, head: false, keep: false, read: false }).await.0;
    }
    send_bare(session, made, false).await
}

/// Writes an answer as Go's HTTP library writes those before which it understood no request: without a date, and its end
/// is that of the connection.
async fn send_bare(session: &mut Session, made: Made, asked_head: bool) -> After {
    let Made { mut head, text, .. } = made;
    request::secure(&session.client, &mut head);
    let mut answer = Vec::with_capacity(512);
    let reason = text.strip_prefix(head.status.as_str()).map_or("", str::trim_start);
    write::bare(&mut answer, &head, reason.as_bytes());
    if !asked_head {
        answer.extend_from_slice(text.as_bytes());
    }
    let words = async {
        session.stream.write_all(&answer).await?;
        session.stream.flush().await
    };
    let _ = tokio::time::timeout(LAST_WORDS, words).await;
    After::Linger
}

async fn send(session: &mut Session, made: Made, to: To) -> (After, u64) {
    let client = session.client.clone();
    let buffers = &client.open.worker.buffers;
    let Made { mut head, text, .. } = made;
    let keep = to.keep && !head.headers.has_token(&name::CONNECTION, "close") && may_go_on(session);
    head.headers.remove(&name::CONNECTION);
    request::secure(&client, &mut head);
    let mut lead = buffers.take();
    let length = write::Body::Length(text.len() as u64);
    write::answer(&mut lead, to.old, &head, &[], length, connection(keep, to.old), buffers);
    let text = if to.head { "" } else { &*text };
    lead.extend_from_slice(text.as_bytes());
    let Ok(mut pump) = Pump::new(lead, Framing::None, Sent::Plain, &[]) else { return (After::Gone, 0) };
    session.wait_for(client.open.entry.write_timeout);
    let written = poll_fn(|cx| {
        if let Poll::Ready(written) = pump.poll_write(cx, &mut session.stream) {
            return Poll::Ready(written.is_ok());
        }
        ready!(session.clock.poll(cx));
        Poll::Ready(false)
    })
    .await;
    pump.put_back(buffers);
    let after = match (written, keep) {
        (false, _) => After::Gone,
        (true, true) => After::Next,
        (true, false) if to.read => ends(session),
        (true, false) => After::Linger,
    };
    (after, text.len() as u64)
}

/// How a connection ends whose last request was read to its end.
pub(super) fn ends(session: &Session) -> After {
    // Who closes over bytes that it has not read resets the connection.
    if session.pending.is_empty() { After::Close } else { After::Linger }
}

/// What is said of a connection that goes on or not.
pub(super) fn connection(keep: bool, old: bool) -> write::Connection {
    match (keep, old) {
        (true, true) => write::Connection::KeepAlive,
        (true, false) => write::Connection::Unsaid,
        (false, _) => write::Connection::Close,
    }
}

/// Whether the proxy itself wants the connection to go on.
pub(super) fn may_go_on(session: &Session) -> bool {
    goes_on(&session.client) && !session.half_closed
}

fn goes_on(client: &Client) -> bool {
    !client.open.worker.bell.has_rung()
}

/// Whether a request's body came whole with its head; then what stands behind it begins the next request.
pub(super) fn is_read(session: &mut Session, arrived: &Arrived) -> bool {
    let mut behind = arrived.headers.bytes().get(arrived.length..).unwrap_or_default();
    match arrived.framing.body {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) => match usize::try_from(length).ok().and_then(|length| behind.get(length..)) {
            Some(rest) => behind = rest,
            None => return false,
        },
        Framing::Chunked => {
            let mut decoder = Chunked::new(1_024);
            loop {
                let Ok(piece) = decoder.next(behind) else { return false };
                behind = behind.get(piece.consumed..).unwrap_or_default();
                match piece.what {
                    What::Data(_) => {}
                    What::More => return false,
                    What::End => break,
                }
            }
        }
    }
    session.pending.extend_from_slice(behind);
    true
}

/// The head of an answer as a client of this kind gets it: how its body is framed there.
pub(super) fn framed(
    head: &AnswerHead,
    body: Framing,
    announced: Option<u64>,
    old: bool,
    method: &Method,
) -> (write::Body, Sent) {
    match body {
        Framing::Length(length) => (write::Body::Length(length), Sent::Plain),
        Framing::Chunked | Framing::UntilClose if old => (write::Body::UntilClose, Sent::Plain),
        Framing::Chunked | Framing::UntilClose => (write::Body::Chunked, Sent::Chunked),
        // What a HEAD or a 304 tells of the body that there would be.
        Framing::None if *method == Method::HEAD || head.status == crate::http::StatusCode::NOT_MODIFIED => {
            (announced.map_or(write::Body::None, write::Body::Length), Sent::Plain)
        }
        Framing::None => (write::Body::None, Sent::Plain),
    }
}
