//! Answers that the proxy makes itself, over HTTP/1.1.

use super::pump::{Pump, Sent};
use super::{After, Arrived, Session, write};
use crate::http::h1::{Chunked, Framing, What};
use crate::http::{AnswerHead, Made, Method, Protocol, Reason, name};
use crate::proxy::client::Client;
use crate::proxy::finish::{self, Finish};
use crate::proxy::request;
use std::future::poll_fn;
use std::task::{Poll, ready};

/// What is known of the request that is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct To {
    pub(super) old: bool,
    pub(super) head: bool,
    /// The connection can go on: the client wants to, and nothing of its request is unread.
    pub(super) keep: bool,
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
    send(session, made, to).await.0
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
    let text = if to.head { "" } else { text };
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
        (true, false) => After::Close,
    };
    (after, text.len() as u64)
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
