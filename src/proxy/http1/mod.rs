//! A client's HTTP/1.1 connection: one request after the other, by our own codec.
//!
//! What always holds: a connection that waits for a request holds no buffer. The next request is
//! looked at when the last one's answer is written. A connection ends in order: what was answered
//! arrives, even where the client was still talking (RFC 9112, 9.6).

mod answer;
pub(super) mod exchange;
mod pump;
#[cfg(test)]
mod pump_tests;
pub(super) mod relay;
mod to_http2;
pub(super) mod tunnel;
pub(super) mod write;
#[cfg(test)]
mod write_tests;

use super::buffers::poll_fill;
use super::client::{Client, Listener};
use super::deadline::Deadline;
use super::head;
use super::stream::ClientStream;
use crate::http::h1::{self, Fault, Parsed, RequestFraming, RequestLine};
use crate::http::{Cause, Headers, Made, StatusCode, TooLarge};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

/// Room above `max_header_bytes`, as Go's HTTP library leaves it.
const HEAD_SLACK: usize = 4_096;
/// How long a client has to take the last words.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long an answer may take to begin for a client that has ended its side: it may wait for it, or be gone.
const HALF_CLOSED: Duration = Duration::from_secs(3);
/// How long a client that waits for 100 waits for a server to say it (Traefik's time).
const CONTINUE: Duration = Duration::from_secs(1);

/// A connection.
struct Session {
    client: Rc<Client>,
    stream: ClientStream,
    /// What was read and belongs to the next request.
    pending: Vec<u8>,
    clock: Deadline,
    /// When the last answer had ended.
    quiet_since: Option<std::time::Instant>,
    /// The client has ended its side.
    half_closed: bool,
}

/// A request's head.
struct Arrived {
    /// The fields, over all that was read.
    headers: Headers,
    line: RequestLine,
    framing: RequestFraming,
    /// Where the head ends.
    length: usize,
}

/// What came next on a connection.
enum Next {
    Request(Arrived),
    /// Nothing more will.
    End,
    /// A head began and did not end in time.
    Late,
    /// A head that is not acceptable, and what it was part of.
    Refused(Fault),
}

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// The next request may come.
    Next,
    /// It ends; all that the client said was heard.
    Close,
    /// It ends; the client may still be talking.
    Linger,
    /// It is gone.
    Gone,
}

/// Serves HTTP/1.1 until the connection ends. `read` was read already; `clock` is one that can be used again.
pub(super) async fn serve(client: Rc<Client>, stream: ClientStream, read: Vec<u8>, clock: Deadline) {
    let mut session = Session { client, stream, pending: read, clock, quiet_since: None, half_closed: false };
    let client = session.client.clone();
    let worker = client.open.worker.clone();
    let mut bell = Listener::new(&worker.bell);
    let entry = client.open.entry.clone();
    session.wait_for(if session.pending.is_empty() { entry.read_timeout } else { Duration::ZERO });
    let after = loop {
        let next = {
            let mut head = Vec::new();
            let mut looked_at = 0;
            poll_fn(|cx| session.poll_next(cx, &mut bell, &mut head, &mut looked_at)).await
        };
        match next {
            // On the heap while it lasts: a connection that waits for a request is small without it.
            Next::Request(arrived) => match Box::pin(exchange::run(&mut session, arrived)).await {
                After::Next => {}
                after => break after,
            },
            Next::End => break After::Gone,
            Next::Late => {
                let made = Made::refused(StatusCode::REQUEST_TIMEOUT, "408 Request Timeout");
                break answer::no_request(&mut session, made, Cause::ClientStalled).await;
            }
            Next::Refused(fault) => {
                tracing::debug!(entry_point = %entry.name, peer = %client.peer, %fault, "request refused");
                let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::BAD_REQUEST);
                let made = Made::refused(status, fault.words());
                let cause = match status {
                    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Cause::TooLarge(TooLarge::Head),
                    _ => Cause::BadRequest,
                };
                break answer::no_request(&mut session, made, cause).await;
            }
        }
        let now = session.quiet_since.take().map_or_else(Instant::now, Into::into);
        session.clock.set((!entry.idle_timeout.is_zero()).then(|| now + entry.idle_timeout));
    };
    match after {
        After::Linger => Box::pin(session.close()).await,
        // TLS says that it ends; TCP does so by itself.
        After::Close if session.client.tls => {
            let _ = tokio::time::timeout(LAST_WORDS, session.stream.shutdown()).await;
        }
        After::Close | After::Gone | After::Next => {}
    }
}

impl Session {
    /// Something must come within `limit`; zero means that nothing must.
    fn wait_for(&mut self, limit: Duration) {
        self.clock.set((!limit.is_zero()).then(|| Instant::now() + limit));
    }

    /// The next request. `head` is what there is of it, `looked_at` how much of that cannot end it.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        bell: &mut Listener<'_>,
        head: &mut Vec<u8>,
        looked_at: &mut usize,
    ) -> Poll<Next> {
        let client = self.client.clone();
        let worker = &client.open.worker;
        if head.is_empty() && !self.pending.is_empty() {
            *head = std::mem::take(&mut self.pending);
        }
        loop {
            if head.len() > *looked_at {
                let begins = *looked_at == 0;
                // A long one is refused before it ends.
                let may_end = *looked_at == 0
                    || h1::may_end(head, *looked_at)
                    || head.len() > self.client.open.entry.max_header_bytes;
                *looked_at = head.len();
                if may_end && let Some(next) = self.parse(head) {
                    self.clock.set(None);
                    return Poll::Ready(next);
                }
                if begins {
                    self.wait_for(self.client.open.entry.read_timeout);
                }
            }
            if self.half_closed {
                return Poll::Ready(Next::End);
            }
            let mut buffer = if head.is_empty() { worker.buffers.take() } else { std::mem::take(head) };
            let read = poll_fill(&mut self.stream, cx, &mut buffer, u64::MAX);
            if buffer.is_empty() {
                worker.buffers.give(buffer);
            } else {
                *head = buffer;
            }
            match read {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(Next::End),
                Poll::Pending => {
                    if bell.hears(cx) && head.is_empty() {
                        match worker.bell.patience() {
                            None if self.client.requests.get() > 0 => return Poll::Ready(Next::End),
                            // Who is told by an answer that it is the last sends no request into a closed connection.
                            Some(patience) if self.client.requests.get() > 0 => self.clock.at_most(patience),
                            // Who has asked nothing yet may still do so for a moment.
                            _ => self.clock.at_most(worker.bell.first_by()),
                        }
                    }
                    ready!(self.clock.poll(cx));
                    return Poll::Ready(if head.is_empty() { Next::End } else { Next::Late });
                }
            }
        }
    }

    /// What a head is, once it is complete.
    fn parse(&mut self, head: &mut Vec<u8>) -> Option<Next> {
        let client = self.client.clone();
        let limits = h1::Limits {
            head_bytes: client.open.entry.max_header_bytes.saturating_add(HEAD_SLACK),
            lines: head::MAX_LINES,
        };
        let buffers = &client.open.worker.buffers;
        let mut lines = buffers.lines.borrow_mut();
        let parsed = h1::parse_request(head, &limits, &mut lines);
        let (line, length) = match parsed {
            Ok(Parsed::Complete { line, length }) => (line, length),
            Ok(Parsed::Partial) => return None,
            Err(fault) => return Some(Next::Refused(fault)),
        };
        let framing = match h1::request_framing(head, &lines, &line) {
            Ok(framing) => framing,
            Err(fault) => return Some(Next::Refused(fault)),
        };
        let headers = Headers::parsed(std::mem::take(head), &lines, buffers.room());
        Some(Next::Request(Arrived { headers, line, framing, length }))
    }

    /// Ends the connection so that the client gets all that was answered: our side first, then what it still says is
    /// heard for a moment. A kernel that has unread bytes at the end resets the connection.
    async fn close(&mut self) {
        let client = self.client.clone();
        let words = async {
            self.stream.shutdown().await?;
            while !self.half_closed {
                let mut buffer = client.open.worker.buffers.take();
                let read = poll_fn(|cx| poll_fill(&mut self.stream, cx, &mut buffer, u64::MAX)).await;
                client.open.worker.buffers.give(buffer);
                if read? == 0 {
                    break;
                }
            }
            Ok::<_, std::io::Error>(())
        };
        let _ = tokio::time::timeout(LAST_WORDS, words).await;
    }

    /// Reads what comes while a request is being answered: the next one's beginning, or the client's end.
    /// False when the client is gone.
    fn poll_listen(&mut self, cx: &mut Context<'_>) -> bool {
        if self.half_closed || !self.pending.is_empty() {
            return true;
        }
        let client = self.client.clone();
        let buffers = &client.open.worker.buffers;
        let mut buffer = buffers.take();
        let read = poll_fill(&mut self.stream, cx, &mut buffer, u64::MAX);
        match read {
            Poll::Ready(Ok(1..)) => {
                self.pending = buffer;
                return true;
            }
            Poll::Ready(Ok(0)) => {
                self.half_closed = true;
                self.clock.at_most(Instant::now() + HALF_CLOSED);
            }
            Poll::Ready(Err(_)) => {
                buffers.give(buffer);
                return false;
            }
            Poll::Pending => {}
        }
        buffers.give(buffer);
        true
    }
}
