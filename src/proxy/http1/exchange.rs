//! One request over HTTP/1.1: from its head to the end of its answer.

use super::answer::{self, To};
use super::pump::Pump;
use super::relay::{self, Answer, Asked, Ended, Failed, Up};
use super::to_http2::{self, Outcome};
use super::{After, Arrived, Session, tunnel, write};
use crate::http::h1::{Fault, Framing};
use crate::http::{AnswerHead, BadAnswer, Cause, HeaderValue, Made, Method, Protocol, StatusCode, name};
use crate::proxy::choose::{Choice, Chosen, Leased, switches};
use crate::proxy::finish::{self, Finish};
use crate::proxy::head::{self, Checked, Parsed};
use crate::proxy::http1::pump::Sent;
use crate::proxy::retry::Retrying;
use crate::proxy::service::BoundService;
use crate::proxy::{failure as failures, hop, request};
use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// What is known of a request besides its head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// Where the head ends in what was read, and where that ends.
    pub(super) length: usize,
    pub(super) filled: usize,
    pub(super) body: Framing,
    pub(super) keep_alive: bool,
    pub(super) asked: Asked,
}

impl Request {
    pub(super) fn has_body(&self) -> bool {
        !matches!(self.body, Framing::None | Framing::Length(0))
    }
}

/// Answers a request.
pub(super) async fn run(session: &mut Session, arrived: Arrived) -> After {
    let client = session.client.clone();
    let last = client.count();
    let old = arrived.line.minor == 0;
    let bytes = arrived.headers.bytes();
    let method = bytes.get(arrived.line.method.clone()).and_then(|name| Method::from_bytes(name).ok());
    let sent = bytes.get(arrived.line.target.clone()).and_then(|target| std::str::from_utf8(target).ok());
    let (Some(method), Some(sent)) = (method, sent) else {
        let to = To { old, head: false, keep: false, read: false };
        return answer::refused(session, &finish::Refused::default(), Made::bad_request(), to).await;
    };
    let mut target = client.open.worker.buffers.text();
    target.clear();
    target.push_str(sent);
    let filled = bytes.len();
    let bodiless = arrived.framing.body == Framing::None;
    // Should the proxy answer by itself, a body that is here whole is passed over; any other ends the connection.
    let whole = (bodiless && filled == arrived.length) || answer::is_read(session, &arrived);
    let asked_head = method == Method::HEAD;
    let to = To { old, head: asked_head, keep: arrived.framing.keep_alive && whole && !last, read: whole };
    let mut request = Request {
        length: arrived.length,
        filled: if bodiless { arrived.length } else { filled },
        body: arrived.framing.body,
        keep_alive: arrived.framing.keep_alive && !last,
        asked: Asked { head: asked_head, upgrade: false, expects: arrived.framing.expects_continue, old },
    };
    if bodiless && matches!(method, Method::POST | Method::PUT | Method::PATCH) {
        // Servers expect to be told (RFC 9110, 8.6).
        request.body = Framing::Length(0);
    }
    let protocol = if old { Protocol::Http10 } else { Protocol::Http11 };
    let checked = head::check(&client, Parsed { protocol, method, target, headers: arrived.headers });
    let Checked { exchange, upgrade } = match checked {
        Ok(checked) => checked,
        Err(refused) => {
            let head::Refused { made, method, target } = *refused;
            let asked = finish::Refused { method: method.as_str(), target: &target, ..Default::default() };
            return answer::refused(session, &asked, made, to).await;
        }
    };
    let mut finish = Finish::new(client, exchange);
    let entered = {
        let mut entering = pin!(request::enter(&mut finish));
        session.clock.set(None);
        poll_fn(|cx| {
            if let Poll::Ready(entered) = entering.as_mut().poll(cx) {
                return Poll::Ready(Some(entered));
            }
            // What is left of a body is not read here.
            let gone = bodiless && (!session.poll_listen(cx) || session.clock.poll(cx).is_ready());
            if gone { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    };
    let bound = match entered {
        Some(Ok(bound)) => bound,
        Some(Err(made)) => return answer::made(session, finish, made, to).await,
        None => return After::Gone,
    };
    if !bodiless {
        // The pump finds it again behind the body.
        session.pending.clear();
    }
    request.asked.upgrade = upgrade.is_some();
    forward(session, finish, request, &bound.service, upgrade, to).await
}

/// What came of one try.
enum Tried {
    Done(After, bool),
    Switched(Answer),
    /// The servers here are to be left, and others asked.
    FailsOver(Range<usize>),
    /// The answer is given up for another try; whether the connection can be used again.
    Again(bool),
    Failed {
        failed: Failed,
        untouched: bool,
        unsent: bool,
    },
    Unframed(Fault),
}

/// *Choose*, *connect*, *send*, *receive*, *middlewares out*.
///
/// A request is sent again only if the connection ended without a byte of an answer, and either nothing of the request was
/// written or it has no body and an idempotent method (RFC 9110, 9.2.2): to the same server if the connection was used before,
/// to another one, and only once, if it was fresh.
async fn forward(
    session: &mut Session,
    mut finish: Finish,
    request: Request,
    service: &Rc<BoundService>,
    upgrade: Option<HeaderValue>,
    to: To,
) -> After {
    let client = session.client.clone();
    let peer = client.open.entry.head.append_forwarded_for.then_some(&*client.peer_text);
    hop::for_server(&mut finish.exchange, peer, upgrade.as_ref(), request.has_body());
    // Its body may be on its way, or never come.
    let failing = To { keep: to.keep && !request.has_body(), read: !request.has_body(), ..to };
    let mut retrying = Retrying::of(&finish);
    let bodiless = (!request.has_body()).then_some(0);
    let switches = upgrade.is_some();
    let mut choice = Choice::new(service.clone(), &finish, request.body, switches);
    let mut chosen = {
        let mut choosing = pin!(choice.next(&client, &finish, switches));
        let chosen = poll_fn(|cx| {
            if let Poll::Ready(chosen) = choosing.as_mut().poll(cx) {
                return Poll::Ready(Some(chosen));
            }
            // Who is gone waits for nothing.
            let gone = bodiless.is_some() && (!session.poll_listen(cx) || session.clock.poll(cx).is_ready());
            if gone { Poll::Ready(None) } else { Poll::Pending }
        });
        match chosen.await {
            Some(chosen) => chosen,
            None => return After::Gone,
        }
    };
    loop {
        let mut leased = match chosen {
            Ok(Chosen::Http1(leased)) => leased,
            Ok(Chosen::Http2(taken)) => {
                match Box::pin(to_http2::run(session, &finish, &request, &choice, taken, retrying.as_mut())).await {
                    Outcome::Done(after) => return after,
                    Outcome::Made(made) if choice.elsewhere(&finish, &made) => {
                        chosen = Box::pin(choice.next(&client, &finish, switches)).await;
                    }
                    Outcome::Made(made) => {
                        let status = made.head.status.as_u16();
                        let Some(retrying) = retrying.as_mut().filter(|_| bodiless.is_some()) else {
                            return answer::made(session, finish, made, failing).await;
                        };
                        if !retrying.after(&finish, status, bodiless) {
                            return answer::made(session, finish, made, failing).await;
                        }
                        Box::pin(retrying.pause(&finish)).await;
                        chosen = Box::pin(choice.next(&client, &finish, switches)).await;
                    }
                    Outcome::Again(at) => {
                        choice.another(at);
                        if let Some(retrying) = &mut retrying {
                            Box::pin(retrying.pause(&finish)).await;
                        }
                        chosen = Box::pin(choice.next(&client, &finish, switches)).await;
                    }
                    Outcome::Next(at, why) => {
                        choice.failed(at, why);
                        finish.again();
                        chosen = Box::pin(choice.next(&client, &finish, switches)).await;
                    }
                    Outcome::FailsOver(range) => {
                        choice.leave(range);
                        finish.again();
                        chosen = Box::pin(choice.next(&client, &finish, switches)).await;
                    }
                    Outcome::Http1(taken) => {
                        chosen = match Box::pin(choice.http1(&client, &finish, taken)).await {
                            Some(leased) => Ok(Chosen::Http1(leased)),
                            None => Box::pin(choice.next(&client, &finish, switches)).await,
                        };
                    }
                }
                continue;
            }
            Err(made) => {
                let Some(retrying) = &mut retrying else { return answer::made(session, finish, made, failing).await };
                if !retrying.after_all(&finish, &made, choice.forget(), bodiless) {
                    return answer::made(session, finish, made, failing).await;
                }
                Box::pin(retrying.pause(&finish)).await;
                chosen = Box::pin(choice.next(&client, &finish, switches)).await;
                continue;
            }
        };
        let reused = leased.connection.reused();
        finish.is_sent(reused);
        let patience = leased.in_flight.pool().settings().response_header_timeout;
        match attempt(session, &finish, &request, &choice, &mut leased, retrying.as_mut()).await {
            Tried::Done(after, reusable) => {
                session.quiet_since = finish.answered.get();
                if reusable {
                    let now = session.quiet_since.map_or_else(tokio::time::Instant::now, Into::into);
                    leased.in_flight.pool().put(leased.connection, now);
                }
                return after;
            }
            Tried::Again(reusable) => {
                choice.another(leased.at);
                if reusable {
                    leased.in_flight.pool().put(leased.connection, tokio::time::Instant::now());
                } else {
                    drop(leased);
                }
                if let Some(retrying) = &mut retrying {
                    Box::pin(retrying.pause(&finish)).await;
                }
                chosen = Box::pin(choice.next(&client, &finish, switches)).await;
            }
            Tried::Switched(answer) => {
                return Box::pin(switch(session, finish, answer, upgrade, leased, failing)).await;
            }
            Tried::FailsOver(range) => {
                drop(leased);
                choice.leave(range);
                finish.again();
                chosen = Box::pin(choice.next(&client, &finish, switches)).await;
            }
            Tried::Unframed(fault) => {
                let made = failure(&finish, &Failed::Broken(fault), patience, false);
                return answer::made(session, finish, made, failing).await;
            }
            Tried::Failed { failed, untouched, unsent } => {
                let silent = matches!(failed, Failed::Silent) && untouched;
                let harmless = unsent || (!request.has_body() && finish.exchange.request.method.is_idempotent());
                let at = leased.at;
                drop(leased);
                if silent && reused && harmless {
                    chosen = Box::pin(choice.fresh(&client, &finish, at, switches)).await;
                } else if silent && unsent {
                    choice.failed(at, Cause::ResetBeforeAnswer.into());
                    finish.again();
                    chosen = Box::pin(choice.next(&client, &finish, switches)).await;
                } else {
                    let made = failure(&finish, &failed, patience, untouched && harmless);
                    if choice.elsewhere(&finish, &made) {
                        chosen = Box::pin(choice.next(&client, &finish, switches)).await;
                        continue;
                    }
                    let servers_fault = !matches!(failed, Failed::Gone | Failed::Stalled | Failed::Broken(_));
                    if let Some(retrying) = retrying.as_mut().filter(|_| servers_fault)
                        && retrying.after(&finish, made.head.status.as_u16(), bodiless)
                    {
                        choice.another(at);
                        Box::pin(retrying.pause(&finish)).await;
                        chosen = Box::pin(choice.next(&client, &finish, switches)).await;
                        continue;
                    }
                    return answer::made(session, finish, made, failing).await;
                }
            }
        }
    }
}

/// One try with one server.
async fn attempt(
    session: &mut Session,
    finish: &Finish,
    request: &Request,
    choice: &Choice,
    leased: &mut Leased,
    retrying: Option<&mut Retrying>,
) -> Tried {
    let client = session.client.clone();
    let buffers = &client.open.worker.buffers;
    let service = choice.service();
    let Some(asked) = service.servers.get(leased.at) else { return Tried::Done(After::Gone, false) };
    let host = finish.exchange.host_for(asked.pass_host_header, &asked.server.authority);
    let mut lead = buffers.take();
    write::request(&mut lead, &finish.exchange, asked.server.base.as_deref(), host, request.body);
    let sent = if request.body == Framing::Chunked { Sent::Chunked } else { Sent::Plain };
    let read = finish.exchange.request.headers.bytes().get(request.length..request.filled).unwrap_or_default();
    let mut up = match Pump::tapped(lead, request.body, sent, read, choice.tap()) {
        Ok(pump) => Up { pump, done: false, refused: false },
        Err(fault) => return Tried::Unframed(fault),
    };
    let patience = leased.in_flight.pool().settings().response_header_timeout;
    let server = &mut leased.connection.stream;
    let tried = match relay::receive(session, server, &mut up, request.asked, patience, finish).await {
        Ok(answer) => {
            leased.in_flight.pool().state().reachable();
            let switched = answer.line.status == StatusCode::SWITCHING_PROTOCOLS.as_u16();
            // Of this try the client has heard nothing, and what was said can be said again.
            let whole = up.done && !up.pump.has_read && answer.before.is_empty() && !switched;
            let body = whole.then_some(up.pump.bytes);
            let other = service.fails_over(leased.at, answer.line.status).filter(|_| !request.has_body());
            if let Some(range) = other.filter(|range| choice.has_other(range)) {
                buffers.give(buffers.bytes_of(answer.headers));
                Tried::FailsOver(range)
            } else if retrying.is_some_and(|retrying| retrying.after(finish, answer.line.status, body)) {
                let rest = answer.filled - answer.length;
                let ended = match answer.framing.body {
                    Framing::None => rest == 0,
                    Framing::Length(length) => length == rest as u64,
                    Framing::Chunked | Framing::UntilClose => false,
                };
                buffers.give(buffers.bytes_of(answer.headers));
                Tried::Again(ended && answer.framing.keep_alive)
            } else if switched {
                Tried::Switched(answer)
            } else {
                let (after, reusable) = respond(session, finish, request, &mut up, answer, leased).await;
                Tried::Done(after, reusable)
            }
        }
        Err(failed) => Tried::Failed { failed, untouched: !up.pump.has_read, unsent: !up.pump.has_written },
    };
    up.pump.put_back(buffers);
    choice.untap(up.pump.untap());
    tried
}

/// *Middlewares out*, and the answer on its way. Tells what becomes of the client's connection, and whether the
/// server's can be used again.
async fn respond(
    session: &mut Session,
    finish: &Finish,
    request: &Request,
    up: &mut Up<'_>,
    answer: Answer,
    leased: &mut Leased,
) -> (After, bool) {
    let client = session.client.clone();
    let buffers = &client.open.worker.buffers;
    let Answer { line, framing, headers, length, filled, before, continued } = answer;
    let Ok(status) = StatusCode::from_u16(line.status) else { return (After::Gone, false) };
    finish.status.set(line.status);
    let mut head = AnswerHead { status, headers };
    let announced = request::answered(finish, &mut head);
    let old = request.asked.old;
    let (body, sent) = answer::framed(&head, framing.body, announced, old, &finish.exchange.request.method);
    // A client that was not told to send its body may do so, or not: who would know where the next request begins?
    let unsure = request.asked.expects && !continued && !up.done && up.pump.bytes == 0;
    let keep = request.keep_alive
        && body != write::Body::UntilClose
        && !unsure
        && (up.done || (framing.keep_alive && !up.refused))
        && answer::may_go_on(session);
    let mut lead = if before.is_empty() { buffers.take() } else { before };
    let reason = head.headers.bytes().get(line.reason).unwrap_or_default();
    write::answer(&mut lead, old, &head, reason, body, answer::connection(keep, old), buffers);
    let bytes = buffers.bytes_of(head.headers);
    let read = bytes.get(length..filled).unwrap_or_default();
    let mut down = match Pump::new(lead, framing.body, sent, read) {
        Ok(down) => down,
        Err(fault) => {
            tracing::debug!(entry_point = %client.open.entry.name, %fault, "the answer is not HTTP");
            finish.because(Cause::ResetWithinAnswer);
            return (After::Gone, false);
        }
    };
    let ended = relay::deliver(session, leased, up, &mut down, finish).await;
    finish.is_answered();
    down.put_back(buffers);
    let clean = down.surplus.is_empty() && framing.keep_alive;
    drop(down);
    buffers.give(bytes);
    match ended {
        Ended::Cut => {
            finish.because(Cause::ResetWithinAnswer);
            return (After::Gone, false);
        }
        Ended::Gone => {
            finish.because(Cause::ClientGone);
            return (After::Gone, false);
        }
        Ended::Over => {
            finish.because(Cause::DrainLimit);
            return (After::Linger, false);
        }
        Ended::Whole => {}
    }
    let server = &mut leased.connection.stream;
    let sent = up.done || (keep && Box::pin(relay::send_the_rest(session, server, up, finish)).await);
    let after = match (keep, sent) {
        (true, true) => After::Next,
        (false, true) => answer::ends(session),
        (_, false) => After::Linger,
    };
    (after, clean && sent)
}

/// A switch of protocols, if it is the one that was asked for.
async fn switch(
    session: &mut Session,
    finish: Finish,
    answer: Answer,
    upgrade: Option<HeaderValue>,
    leased: Leased,
    to: To,
) -> After {
    let client = session.client.clone();
    let buffers = &client.open.worker.buffers;
    let Answer { line, headers, length, filled, before, .. } = answer;
    finish.origin_status.set(line.status);
    let mut head = AnswerHead { status: StatusCode::SWITCHING_PROTOCOLS, headers };
    if !switches(upgrade.as_ref().map(HeaderValue::as_bytes), head.headers.get(&name::UPGRADE)) {
        // Traefik's answer to a server that switches where nobody asked.
        return answer::made(session, finish, Made::failed(Cause::BadAnswer(BadAnswer::Switched).into()), to).await;
    }
    hop::for_client(&mut head, true);
    finish.stick(&mut head.headers);
    finish.status.set(line.status);
    let mut lead = if before.is_empty() { buffers.take() } else { before };
    let reason = head.headers.bytes().get(line.reason).unwrap_or_default();
    write::answer(&mut lead, false, &head, reason, write::Body::None, write::Connection::Unsaid, buffers);
    let bytes = buffers.bytes_of(head.headers);
    let read = bytes.get(length..filled).unwrap_or_default();
    let early = std::mem::take(&mut session.pending);
    let first = tunnel::First { early: &early, lead, read };
    tunnel::run(&mut session.stream, leased, &finish, first).await;
    buffers.give(bytes);
    After::Gone
}

/// The answer to a request that got none.
pub(in crate::proxy) fn failure(finish: &Finish, failed: &Failed, patience: Duration, repeatable: bool) -> Made {
    let entry_point = &finish.client.open.entry.name;
    match failed {
        Failed::Malformed(fault) => tracing::debug!(%entry_point, %fault, "the server's answer is not HTTP"),
        Failed::Broken(fault) => tracing::debug!(%entry_point, %fault, "the request's body is not HTTP"),
        failed => tracing::debug!(%entry_point, ?failed, "no answer"),
    }
    Made::failed(failures::exchange(failed, patience, repeatable))
}
