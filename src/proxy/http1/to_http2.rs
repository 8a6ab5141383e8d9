//! A request of HTTP/1.1 to a server that speaks HTTP/2.
//!
//! What always holds: the request's body is handed over piece by piece while the answer is waited for and brought,
//! each at the pace of its receiver.

use super::answer;
use super::exchange::Request;
use super::{After, HALF_CLOSED, Session, write};
use crate::http::h1::Framing;
use crate::http::{AnswerHead, Body, Cause, Failure, H2Body, Headers, Made, Pipe, StatusCode};
use crate::proxy::choose::{self, Choice, Taken};
use crate::proxy::deadline::Deadline;
use crate::proxy::finish::Finish;
use crate::proxy::frames::Frames;
use crate::proxy::lasting::Lasting;
use crate::proxy::over_h2::{self, Unanswered};
use crate::proxy::retry::Retrying;
use crate::proxy::sender::{Broken, Sender};
use crate::proxy::{failure, request};
use crate::upstream::{ConnectError, Pool};
use http_body::Body as _;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// What became of a try.
pub(super) enum Outcome {
    Done(After),
    /// The proxy answers.
    Made(Made),
    /// Another server may be tried, in place of this one.
    Next(usize, Failure),
    /// The servers here are to be left, and others asked.
    FailsOver(Range<usize>),
    /// The server speaks HTTP/1.1 only.
    Http1(Taken),
    /// The answer of this server is given up for another try.
    Again(usize),
}

/// The request's body on its way into a pipe.
struct Filling {
    frames: Frames,
    pipe: Rc<Pipe>,
    done: bool,
    bytes: u64,
    /// More was read than what came with the head.
    has_read: bool,
    clock: Deadline,
}

/// Why the client's side of an exchange ended it.
enum Ended {
    Gone,
    Stalled,
    Broken,
}

impl Filling {
    /// Moves the body on.
    fn poll(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Result<(), Ended> {
        let worker = session.client.open.worker.clone();
        while !self.done && self.pipe.poll_room(cx).is_ready() {
            if let Some(frame) = self.frames.next() {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.pipe.put(frame);
                continue;
            }
            if self.frames.is_read() {
                self.done = true;
                self.pipe.end(true);
                if !self.frames.surplus.is_empty() {
                    session.pending = std::mem::take(&mut self.frames.surplus);
                }
                break;
            }
            match self.frames.poll_read(cx, &mut session.stream, &worker.buffers) {
                Poll::Ready(Ok(())) => {
                    self.has_read = true;
                    self.clock.set(None);
                }
                Poll::Ready(Err(crate::proxy::frames::Cut::Gone)) => return self.end(Ended::Gone),
                Poll::Ready(Err(_)) => return self.end(Ended::Broken),
                Poll::Pending => {
                    let patience = session.client.open.entry.read_timeout;
                    if !patience.is_zero() && !self.clock.is_set() {
                        self.clock.set(Some(Instant::now() + patience));
                    }
                    if self.clock.poll(cx).is_ready() {
                        return self.end(Ended::Stalled);
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, why: Ended) -> Result<(), Ended> {
        self.done = true;
        self.pipe.end(false);
        Err(why)
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // Who still reads from it must not wait for ever.
        self.pipe.end(false);
    }
}

/// Sends the request and brings the answer.
pub(super) async fn run(
    session: &mut Session,
    finish: &Finish,
    request: &Request,
    choice: &Choice,
    taken: Taken,
    retrying: Option<&mut Retrying>,
) -> Outcome {
    let client = session.client.clone();
    let service = choice.service();
    let Some(asked) = service.servers.get(taken.at) else {
        return Outcome::Made(Made::failed(Cause::Internal.into()));
    };
    let pool = taken.in_flight.pool();
    let Some(http2) = pool.http2(false) else { return Outcome::Http1(taken) };
    finish.is_sent(false);
    let host = finish.exchange.host_for(asked.pass_host_header, &asked.server.authority);
    let read = finish.exchange.request.headers.bytes().get(request.length..request.filled).unwrap_or_default();
    let Ok(frames) = Frames::new(request.body, read) else {
        return Outcome::Made(Made::failed(Cause::ClientBrokeFraming.into()));
    };
    let pipe = Rc::new(Pipe::default());
    let body = if request.has_body() { choice.tapped(Body::Pipe(pipe.clone())) } else { Body::Empty };
    let length = match request.body {
        Framing::Length(length) => Some(length),
        _ => None,
    };
    let mut up =
        Filling { frames, pipe, done: !request.has_body(), bytes: 0, has_read: false, clock: Deadline::default() };
    if request.asked.expects {
        // The server's word does not come through its codec; the client is told by us.
        use tokio::io::AsyncWriteExt;
        if session.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
            return Outcome::Done(After::Gone);
        }
    }
    let answer = {
        let asking = over_h2::ask(&taken, http2, host, asked.server.base.as_deref(), (body, length), None, finish);
        let mut asking = pin!(asking);
        session.clock.set(None);
        poll_fn(|cx| {
            let ended = up.poll(cx, session).err();
            finish.request_bytes.set(up.bytes);
            if let Some(ended) = ended {
                return Poll::Ready(Err(ended));
            }
            if let Poll::Ready(answer) = asking.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            let listens = up.done && !session.poll_listen(cx);
            if listens || session.clock.poll(cx).is_ready() { Poll::Ready(Err(Ended::Gone)) } else { Poll::Pending }
        })
        .await
    };
    let answer = match answer {
        Ok(Ok(answer)) => {
            let other = service.fails_over(taken.at, answer.head.status.as_u16()).filter(|_| !request.has_body());
            if let Some(range) = other.filter(|range| choice.has_other(range)) {
                return Outcome::FailsOver(range);
            }
            answer
        }
        Ok(Err(unanswered)) => {
            let untouched = !up.has_read;
            return match unanswered {
                Unanswered::NotReached(error, body) if matches!(*error, ConnectError::ChoseHttp1) && untouched => {
                    choice.untapped(body);
                    Outcome::Http1(taken)
                }
                Unanswered::NotReached(error, body) => {
                    choice.untapped(body);
                    choose::not_reached(&client, pool, &error);
                    again(taken.at, failure::connect(&error), untouched)
                }
                Unanswered::NotProcessed(body) => {
                    choice.untapped(body);
                    again(taken.at, Cause::ResetBeforeAnswer.into(), untouched)
                }
                Unanswered::Failed(failure) => Outcome::Made(Made::failed(failure)),
            };
        }
        Err(Ended::Gone) => return Outcome::Done(After::Gone),
        Err(Ended::Stalled) => return Outcome::Made(Made::failed(Cause::ClientStalled.into())),
        Err(Ended::Broken) => return Outcome::Made(Made::failed(Cause::ClientBrokeFraming.into())),
    };
    if let Some(retrying) = retrying {
        let body = (up.done && !up.has_read).then_some(up.bytes);
        if retrying.after(finish, answer.head.status.as_u16(), body) {
            return Outcome::Again(taken.at);
        }
    }
    Outcome::Done(respond(session, finish, request, up, answer, pool).await)
}

/// What was taken of the body for one server is gone for the next.
fn again(at: usize, why: Failure, untouched: bool) -> Outcome {
    if untouched { Outcome::Next(at, why) } else { Outcome::Made(Made::failed(why)) }
}

/// *Middlewares out*, and the answer on its way.
async fn respond(
    session: &mut Session,
    finish: &Finish,
    request: &Request,
    mut up: Filling,
    answer: over_h2::Answer,
    pool: &Rc<Pool>,
) -> After {
    let client = session.client.clone();
    let buffers = &client.open.worker.buffers;
    let over_h2::Answer { head, body, stream } = answer;
    let mut head = AnswerHead { status: head.status, headers: Headers::from_map(&head.headers, buffers.room()) };
    finish.status.set(head.status.as_u16());
    let announced = request::answered(finish, &mut head);
    let old = request.asked.old;
    let bodiless = request.asked.head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match (bodiless || body.is_end_stream(), announced) {
        (true, None) if !bodiless => Framing::Length(0),
        (true, _) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Chunked,
    };
    let (said, _) = answer::framed(&head, framing, announced, old, &finish.exchange.request.method);
    let keep = request.keep_alive && said != write::Body::UntilClose && answer::may_go_on(session);
    let mut lead = buffers.take();
    write::answer(&mut lead, old, &head, &[], said, answer::connection(keep, old), buffers);
    buffers.give_headers(head.headers);
    let framing = if old && framing == Framing::Chunked { Framing::UntilClose } else { framing };
    let mut down: Sender<H2Body> = Sender::new(lead, body, framing);
    let mut half_closed = session.half_closed;
    let (mut lasting, mut is_over) = (Lasting::default(), false);
    let ended = poll_fn(|cx| {
        let _ = up.poll(cx, session);
        finish.request_bytes.set(up.bytes);
        let sent = down.poll(cx, &mut session.stream);
        finish.response_bytes.set(down.bytes);
        if let Poll::Ready(sent) = sent {
            return Poll::Ready(sent);
        }
        if up.done && !session.poll_listen(cx) {
            return Poll::Ready(Err(Broken::Sink));
        }
        if lasting.is_over(cx, &client.open.worker, pool) {
            is_over = true;
            return Poll::Ready(Err(Broken::Source));
        }
        // A silent server is not held for a client that may be gone.
        let limit = match down.waits_for_body {
            true if session.half_closed => HALF_CLOSED,
            true => Duration::ZERO,
            false => session.client.open.entry.write_timeout,
        };
        let ended = session.half_closed && !std::mem::replace(&mut half_closed, session.half_closed);
        if limit.is_zero() {
            session.clock.set(None);
        } else if down.moved || ended {
            session.wait_for(limit);
            down.moved = false;
        }
        match session.clock.poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Broken::Sink)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    finish.is_answered();
    match ended {
        Ok(()) => {
            stream.finish();
            // What is left of the request is of no more use to anybody.
            match (keep, up.done) {
                (true, true) => After::Next,
                (false, true) => answer::ends(session),
                (_, false) => After::Linger,
            }
        }
        Err(Broken::Source) if is_over => {
            finish.because(Cause::DrainLimit);
            After::Linger
        }
        Err(Broken::Source) => {
            finish.because(Cause::ResetWithinAnswer);
            After::Gone
        }
        Err(Broken::Sink) => {
            finish.because(Cause::ClientGone);
            After::Gone
        }
    }
}
