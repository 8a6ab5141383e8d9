//! *Send* and *receive*: a request on its way to a server, while its answer is waited for and then on its way back.
//!
//! What always holds: both directions move at the same time, each at the pace of its slower side. Time-outs measure lack of
//! progress. What the client does meanwhile is noticed: its next request is kept, its end does not end
//! the answer, its reset does.

use super::pump::{Broken, Pump, Waits};
use super::write;
use super::{CONTINUE, HALF_CLOSED, Session};
use crate::http::h1::{self, AnswerFraming, Fault, Parsed, StatusLine};
use crate::http::{AnswerHead, Headers, Room, StatusCode};
use crate::proxy::buffers::{Buffers, poll_fill};
use crate::proxy::choose::Leased;
use crate::proxy::finish::Finish;
use crate::proxy::hop;
use crate::proxy::lasting::Lasting;
use crate::upstream::Stream;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;

/// Limits of an answer's head; the size is that of Go's HTTP library.
const LIMITS: h1::Limits = h1::Limits { head_bytes: 10 << 20, lines: 1_000 };
/// Interim answers that one request may get.
const INTERIM: u32 = 32;

/// The request's side of an exchange.
pub(super) struct Up<'a> {
    pub(super) pump: Pump<'a>,
    /// All of it was read and written.
    pub(super) done: bool,
    /// The server takes no more of it.
    pub(super) refused: bool,
}

/// What of the answer is to be known before it comes.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct Asked {
    pub(in crate::proxy) head: bool,
    pub(in crate::proxy) upgrade: bool,
    /// The client waits for 100 before it sends its body.
    pub(in crate::proxy) expects: bool,
    /// The client speaks HTTP/1.0, which has no interim answers.
    pub(in crate::proxy) old: bool,
}

/// An answer's head.
pub(in crate::proxy) struct Answer {
    pub(in crate::proxy) line: StatusLine,
    pub(in crate::proxy) framing: AnswerFraming,
    /// The fields, over all that was read.
    pub(in crate::proxy) headers: Headers,
    /// Where the head ends in what was read, and where that ends.
    pub(in crate::proxy) length: usize,
    pub(in crate::proxy) filled: usize,
    /// What is still to be written to the client before it.
    pub(in crate::proxy) before: Vec<u8>,
    /// The client was told to send its body.
    pub(in crate::proxy) continued: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::proxy) enum Failed {
    /// The server ended the connection without a byte of an answer.
    Silent,
    /// It ended it within the head.
    Cut,
    /// What it sent is no answer.
    Malformed(Fault),
    /// It sent too many interim answers.
    Interim,
    /// It took too long.
    TimedOut,
    /// The client sent nothing for too long.
    Stalled,
    /// The client's body makes no sense.
    Broken(Fault),
    /// The client is gone.
    Gone,
}

/// How an answer's way to the client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// All of it was written.
    Whole,
    /// The server broke it off.
    Cut,
    /// The client is gone, or takes nothing for too long.
    Gone,
    /// The server left, and its time is over.
    Over,
}

impl Up<'_> {
    /// Moves the request on. An error is the client's.
    fn poll(&mut self, cx: &mut Context<'_>, session: &mut Session, server: &mut Stream) -> Result<(), Failed> {
        if self.done || self.refused {
            return Ok(());
        }
        let worker = session.client.open.worker.clone();
        match self.pump.poll(cx, &mut session.stream, server, &worker.buffers) {
            Poll::Ready(Ok(())) => {
                self.done = true;
                if !self.pump.surplus.is_empty() {
                    session.pending = std::mem::take(&mut self.pump.surplus);
                }
            }
            Poll::Ready(Err(Broken::Source)) => return Err(Failed::Gone),
            Poll::Ready(Err(Broken::Framing(fault))) => return Err(Failed::Broken(fault)),
            // Its answer may be there all the same.
            Poll::Ready(Err(Broken::Sink)) => self.refused = true,
            Poll::Pending => {}
        }
        Ok(())
    }
}

/// Whose turn it is while an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// The client has ended its side; it may be gone.
    Nobody,
    /// The server, for its answer or to take more.
    Server,
    /// The server, to say that the client may go on.
    Go,
    /// The client, for more of its body.
    Client,
}

/// Sends the request and waits for the head of its answer.
///
/// # Errors
/// See [`Failed`]. What was sent of the request is known to `up`.
pub(super) async fn receive(
    session: &mut Session,
    server: &mut Stream,
    up: &mut Up<'_>,
    asked: Asked,
    patience: Duration,
    finish: &Finish,
) -> Result<Answer, Failed> {
    let client = session.client.clone();
    let buffers = &client.open.worker.buffers;
    let mut incoming = Incoming::default();
    let mut out = Vec::new();
    let mut out_at = 0;
    let mut awaits = None;
    poll_fn(|cx| {
        up.poll(cx, session, server)?;
        finish.request_bytes.set(up.pump.bytes);
        if let Some(mut answer) = incoming.poll(cx, server, asked, buffers, &mut out)? {
            out.drain(..out_at);
            answer.before = std::mem::take(&mut out);
            return Poll::Ready(Ok(answer));
        }
        if out_at < out.len() && poll_out(cx, &mut session.stream, &out, &mut out_at).is_err() {
            return Poll::Ready(Err(Failed::Gone));
        }
        if up.done && !session.poll_listen(cx) {
            return Poll::Ready(Err(Failed::Gone));
        }
        let now = match () {
            () if session.half_closed && up.done => Awaits::Nobody,
            () if up.done || up.refused || up.pump.waits == Waits::Sink => Awaits::Server,
            () if asked.expects && !incoming.continued && !up.pump.has_read => Awaits::Go,
            () => Awaits::Client,
        };
        let limit = match now {
            Awaits::Nobody => HALF_CLOSED,
            Awaits::Server => patience,
            Awaits::Go => CONTINUE,
            Awaits::Client => session.client.open.entry.read_timeout,
        };
        if limit.is_zero() {
            session.clock.set(None);
        } else if up.pump.moved || awaits != Some(now) {
            session.wait_for(limit);
            up.pump.moved = false;
        }
        awaits = Some(now);
        ready!(session.clock.poll(cx));
        match now {
            Awaits::Nobody => Poll::Ready(Err(Failed::Gone)),
            Awaits::Server => Poll::Ready(Err(Failed::TimedOut)),
            Awaits::Client => Poll::Ready(Err(Failed::Stalled)),
            Awaits::Go => {
                // The server leaves it to us.
                incoming.continued = true;
                out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    })
    .await
}

/// What came of an answer's head so far.
#[derive(Default)]
pub(in crate::proxy) struct Incoming {
    read: Vec<u8>,
    looked_at: usize,
    interim: u32,
    continued: bool,
}

impl Incoming {
    /// Reads on. Interim answers for the client are put into `out`.
    pub(in crate::proxy) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut Stream,
        asked: Asked,
        buffers: &Buffers,
        out: &mut Vec<u8>,
    ) -> Result<Option<Answer>, Failed> {
        loop {
            while self.read.len() > self.looked_at {
                let again = h1::may_end(&self.read, self.looked_at) || self.read.len() > LIMITS.head_bytes;
                self.looked_at = self.read.len();
                if !again {
                    break;
                }
                match self.parse(asked, buffers, out)? {
                    Some(answer) => return Ok(Some(answer)),
                    // Behind an interim answer may stand the next one.
                    None => continue,
                }
            }
            let mut buffer = if self.read.is_empty() { buffers.take() } else { std::mem::take(&mut self.read) };
            let read = poll_fill(server, cx, &mut buffer, u64::MAX);
            if buffer.is_empty() {
                buffers.give(buffer);
            } else {
                self.read = buffer;
            }
            match read {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) if self.read.is_empty() && self.interim == 0 => return Err(Failed::Silent),
                Poll::Ready(_) => return Err(Failed::Cut),
                Poll::Pending => return Ok(None),
            }
        }
    }

    fn parse(&mut self, asked: Asked, buffers: &Buffers, out: &mut Vec<u8>) -> Result<Option<Answer>, Failed> {
        let mut lines = buffers.lines.borrow_mut();
        let (line, length) = match h1::parse_answer(&self.read, &LIMITS, &mut lines).map_err(Failed::Malformed)? {
            Parsed::Complete { line, length } => (line, length),
            Parsed::Partial => return Ok(None),
        };
        let framing = h1::answer_framing(&self.read, &lines, &line, asked.head, asked.upgrade, false)
            .map_err(Failed::Malformed)?;
        let filled = self.read.len();
        if (100..200).contains(&line.status) && line.status != 101 {
            self.interim += 1;
            if self.interim > INTERIM {
                return Err(Failed::Interim);
            }
            let forward = !asked.old && (line.status != 100 || (asked.expects && !self.continued));
            self.continued |= line.status == 100;
            if forward && let Ok(status) = StatusCode::from_u16(line.status) {
                let head = self.read.get(..length).unwrap_or_default().to_vec();
                let mut head = AnswerHead { status, headers: Headers::parsed(head, &lines, Room::default()) };
                hop::for_client(&mut head, false);
                write::bare(out, &head, &[]);
            }
            self.read.drain(..length);
            self.looked_at = 0;
            if self.read.is_empty() {
                buffers.give(std::mem::take(&mut self.read));
            }
            return Ok(None);
        }
        let headers = Headers::parsed(std::mem::take(&mut self.read), &lines, buffers.room());
        let (before, continued) = (Vec::new(), self.continued);
        Ok(Some(Answer { line, framing, headers, length, filled, before, continued }))
    }
}

/// Writes what can be written now.
fn poll_out<W: AsyncWrite + Unpin>(cx: &mut Context<'_>, to: &mut W, out: &[u8], at: &mut usize) -> io::Result<()> {
    while let Some(left) = out.get(*at..).filter(|left| !left.is_empty()) {
        match Pin::new(&mut *to).poll_write(cx, left)? {
            Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(written) => *at += written,
            Poll::Pending => return Ok(()),
        }
    }
    // A flush that has to wait is done with the answer.
    let _ = Pin::new(to).poll_flush(cx)?;
    Ok(())
}

/// Brings the answer to the client, and what is left of the request to the server.
pub(super) async fn deliver(
    session: &mut Session,
    leased: &mut Leased,
    up: &mut Up<'_>,
    down: &mut Pump<'_>,
    finish: &Finish,
) -> Ended {
    let client = session.client.clone();
    let buffers = &client.open.worker.buffers;
    let Leased { connection, in_flight, .. } = leased;
    let server = &mut connection.stream;
    let mut lasting = Lasting::default();
    let mut half_closed = session.half_closed;
    poll_fn(|cx| {
        // A client that cannot end its request may still read the answer.
        if up.poll(cx, session, server).is_err() {
            up.refused = true;
        }
        finish.request_bytes.set(up.pump.bytes);
        let moved = down.poll(cx, server, &mut session.stream, buffers);
        finish.response_bytes.set(down.bytes);
        match moved {
            Poll::Ready(Ok(())) => return Poll::Ready(Ended::Whole),
            Poll::Ready(Err(Broken::Source | Broken::Framing(_))) => return Poll::Ready(Ended::Cut),
            Poll::Ready(Err(Broken::Sink)) => return Poll::Ready(Ended::Gone),
            Poll::Pending => {}
        }
        if up.done && !session.poll_listen(cx) {
            return Poll::Ready(Ended::Gone);
        }
        if lasting.is_over(cx, &client.open.worker, in_flight.pool()) {
            return Poll::Ready(Ended::Over);
        }
        let limit = match down.waits {
            Waits::Sink => session.client.open.entry.write_timeout,
            // It may be gone, which shows only when more comes; a server that is silent must not be held for that.
            Waits::Source if session.half_closed => HALF_CLOSED,
            Waits::Source => Duration::ZERO,
        };
        let ended = session.half_closed && !std::mem::replace(&mut half_closed, session.half_closed);
        if limit.is_zero() {
            session.clock.set(None);
        } else if down.moved || ended {
            session.wait_for(limit);
            down.moved = false;
        }
        ready!(session.clock.poll(cx));
        Poll::Ready(Ended::Gone)
    })
    .await
}

/// Lets a request's body be sent to its end after the answer, as long as it moves: a server that
/// answers and reads no further would hold the client's connection for ever. True when it came to its end.
pub(super) async fn send_the_rest(
    session: &mut Session,
    server: &mut Stream,
    up: &mut Up<'_>,
    finish: &Finish,
) -> bool {
    let patience = session.client.open.entry.read_timeout;
    session.wait_for(patience);
    poll_fn(|cx| {
        let gone = up.poll(cx, session, server).is_err();
        finish.request_bytes.set(up.pump.bytes);
        if gone || up.done || up.refused {
            return Poll::Ready(up.done);
        }
        if up.pump.moved {
            session.wait_for(patience);
            up.pump.moved = false;
        }
        ready!(session.clock.poll(cx));
        Poll::Ready(false)
    })
    .await
}
