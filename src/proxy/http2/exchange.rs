//! One request over HTTP/2: from its head to the head of its answer.

use super::Running;
use super::answer::{AnswerBody, Shared};
use crate::http::h1::Framing;
use crate::http::{
    AnswerHead, BadAnswer, Body, Cause, Failure, H2Body, HeaderValue, Headers, Made, Method, Protocol, StatusCode,
    Transfer, Upload, h2, name,
};
use crate::proxy::choose::{self, Choice, Chosen, Leased, Taken};
use crate::proxy::client::Client;
use crate::proxy::connect_protocol::{self, Asked as Asking};
use crate::proxy::deadline::Deadline;
use crate::proxy::finish::{self, Finish};
use crate::proxy::frames::Frames;
use crate::proxy::head::{self, Checked};
use crate::proxy::http1::exchange::failure;
use crate::proxy::http1::relay::{Answer, Asked, Failed, Incoming as Arriving};
use crate::proxy::http1::{tunnel, write};
use crate::proxy::over_h2;
use crate::proxy::retry::Retrying;
use crate::proxy::sender::{Broken, Sender};
use crate::proxy::service::BoundService;
use crate::proxy::{failure as failures, hop, preview, request};
use crate::upstream::{ConnectError, Stream};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Answers a request.
pub(super) async fn run(
    client: Rc<Client>,
    running: Running,
    request: hyper::Request<Incoming>,
) -> hyper::Response<AnswerBody> {
    if client.count() {
        running.is_last();
    }
    let (mut parts, incoming) = request.into_parts();
    let tunnel = match connect_protocol::translate(&mut parts) {
        Ok(asked) => asked.zip(parts.extensions.remove::<OnUpgrade>()),
        Err(made) => return refused(&client, made, &parts, running),
    };
    if h2::check_request(&parts.method, &parts.uri, &parts.headers).is_err() {
        return refused(&client, Made::bad_request(), &parts, running);
    }
    let buffers = &client.open.worker.buffers;
    let parsed = preview::parsed(parts, buffers.room(), buffers.text());
    let Checked { exchange, upgrade } = match head::check(&client, parsed) {
        Ok(checked) => checked,
        Err(refused) => {
            let head::Refused { made, method, target } = *refused;
            let bytes = made.text.len() as u64;
            let asked = finish::Refused { method: method.as_str(), target: &target, response_bytes: bytes, host: "" };
            finish::refused(&client, &asked, Protocol::Http2, &made);
            return made_by_us(&client, made, None, running);
        }
    };
    let mut finish = Box::new(Finish::new(client.clone(), exchange));
    let bound = match request::enter(&mut finish).await {
        Ok(bound) => bound,
        Err(made) => return made_by_us(&client, made, Some(finish), running),
    };
    let upgrade = upgrade.filter(|_| tunnel.is_some());
    match forward(&client, finish, incoming, &bound.service, upgrade, tunnel, running).await {
        Ok(answer) => answer,
        Err((made, finish, running)) => made_by_us(&client, made, Some(finish), running),
    }
}

fn refused(
    client: &Client,
    made: Made,
    parts: &::http::request::Parts,
    running: Running,
) -> hyper::Response<AnswerBody> {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let bytes = made.text.len() as u64;
    let asked = finish::Refused { method: parts.method.as_str(), target, response_bytes: bytes, host: "" };
    finish::refused(client, &asked, Protocol::Http2, &made);
    made_by_us(client, made, None, running)
}

type Unanswered = (Made, Box<Finish>, Running);
/// A tunnel that the client asked for, and its side of it.
type Tunnel = (Asking, OnUpgrade);

/// *Choose*, *connect*, *send*, *receive*, *middlewares out*; by the rules of HTTP/1.1's side.
async fn forward(
    client: &Rc<Client>,
    mut finish: Box<Finish>,
    incoming: Incoming,
    service: &Rc<BoundService>,
    upgrade: Option<HeaderValue>,
    tunnel: Option<Tunnel>,
    mut running: Running,
) -> Result<hyper::Response<AnswerBody>, Unanswered> {
    let method = finish.exchange.request.method.clone();
    // A tunnel's bytes are no body.
    let has_body = !incoming.is_end_stream() && tunnel.is_none();
    let framing = match incoming.size_hint().exact() {
        _ if !has_body => match method {
            Method::POST | Method::PUT | Method::PATCH => Framing::Length(0),
            _ => Framing::None,
        },
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    let peer = client.open.entry.head.append_forwarded_for.then_some(&*client.peer_text);
    hop::for_server(&mut finish.exchange, peer, upgrade.as_ref(), has_body);
    let switches = tunnel.is_some();
    let mut body = if has_body { Some(H2Body::new(incoming)) } else { None };
    let mut retrying = Retrying::of(&finish);
    // A body that comes by HTTP/2 is never in memory as a whole.
    let bodiless = (!has_body).then_some(0);
    let mut choice = Choice::new(service.clone(), &finish, framing, switches);
    let mut chosen = choice.next(client, &finish, switches).await;
    loop {
        let mut leased = match chosen {
            Ok(Chosen::Http1(leased)) => leased,
            Ok(Chosen::Http2(taken)) => {
                let at = taken.at;
                match over(client, finish, running, &choice, taken, (body.take(), framing), retrying.as_mut()).await {
                    Over::Done(Err((made, back, still))) => {
                        (finish, running) = (back, still);
                        if choice.elsewhere(&finish, &made) {
                            chosen = choice.next(client, &finish, switches).await;
                            continue;
                        }
                        let status = made.head.status.as_u16();
                        let Some(retrying) = &mut retrying else { return Err((made, finish, running)) };
                        if !retrying.after(&finish, status, bodiless) {
                            return Err((made, finish, running));
                        }
                        choice.another(at);
                        Box::pin(retrying.pause(&finish)).await;
                        chosen = choice.next(client, &finish, switches).await;
                    }
                    Over::Done(answer) => return answer,
                    Over::Again(back) => {
                        (finish, running) = (back.0, back.1);
                        choice.another(at);
                        if let Some(retrying) = &mut retrying {
                            Box::pin(retrying.pause(&finish)).await;
                        }
                        chosen = choice.next(client, &finish, switches).await;
                    }
                    Over::Next(at, why, back) => {
                        (finish, running) = (back.0, back.1);
                        body = back.2;
                        choice.failed(at, why);
                        finish.again();
                        chosen = choice.next(client, &finish, switches).await;
                    }
                    Over::Leave(range, back) => {
                        (finish, running) = (back.0, back.1);
                        body = back.2;
                        choice.leave(range);
                        finish.again();
                        chosen = choice.next(client, &finish, switches).await;
                    }
                    Over::Http1(taken, back) => {
                        (finish, running) = (back.0, back.1);
                        body = back.2;
                        chosen = match choice.http1(client, &finish, taken).await {
                            Some(leased) => Ok(Chosen::Http1(leased)),
                            None => choice.next(client, &finish, switches).await,
                        };
                    }
                }
                continue;
            }
            Err(made) => {
                let Some(retrying) = &mut retrying else { return Err((made, finish, running)) };
                if !retrying.after_all(&finish, &made, choice.forget(), bodiless) {
                    return Err((made, finish, running));
                }
                Box::pin(retrying.pause(&finish)).await;
                chosen = choice.next(client, &finish, switches).await;
                continue;
            }
        };
        finish.is_sent(leased.connection.reused());
        let Some(server) = choice.service().servers.get(leased.at) else {
            return Err((Made::failed(Cause::Internal.into()), finish, running));
        };
        let host = finish.exchange.host_for(server.pass_host_header, &server.server.authority);
        let mut lead = client.open.worker.buffers.take();
        write::request(&mut lead, &finish.exchange, server.server.base.as_deref(), host, framing);
        let sent = body.take().map_or(Body::Empty, |body| choice.tapped(Body::Http2(body)));
        let mut up = Sender::new(lead, sent, framing);
        let asked = Asked { head: method == Method::HEAD, upgrade: switches, expects: false, old: true };
        let patience = leased.in_flight.pool().settings().response_header_timeout;
        match receive(client, &mut leased.connection.stream, &mut up, asked, patience, &finish).await {
            Ok((answer, _)) if answer.line.status == StatusCode::SWITCHING_PROTOCOLS.as_u16() => {
                return switch(finish, running, answer, leased, upgrade.as_ref(), tunnel);
            }
            Ok((answer, sent)) => {
                leased.in_flight.pool().state().reachable();
                let other = choice.service().fails_over(leased.at, answer.line.status).filter(|_| !has_body);
                if let Some(range) = other.filter(|range| choice.has_other(range)) {
                    let buffers = &client.open.worker.buffers;
                    buffers.give(buffers.bytes_of(answer.headers));
                    drop(leased);
                    choice.leave(range);
                    finish.again();
                    chosen = choice.next(client, &finish, switches).await;
                    continue;
                }
                if let Some(retrying) = &mut retrying
                    && retrying.after(&finish, answer.line.status, bodiless.filter(|_| sent && !switches))
                {
                    choice.another(leased.at);
                    drop(leased);
                    let buffers = &client.open.worker.buffers;
                    buffers.give(buffers.bytes_of(answer.headers));
                    Box::pin(retrying.pause(&finish)).await;
                    chosen = choice.next(client, &finish, switches).await;
                    continue;
                }
                if switches && StatusCode::from_u16(answer.line.status).is_ok_and(|s| !connect_protocol::may_pass(s)) {
                    let made = Made::failed(Cause::BadAnswer(BadAnswer::Switched).into());
                    return Err((made, finish, running));
                }
                return respond(client, finish, running, answer, leased, (!sent).then_some(up));
            }
            Err(failed) => {
                let (at, reused, unsent) = (leased.at, leased.connection.reused(), !up.has_written);
                drop(leased);
                let back = up.into_body().map(|body| choice.untapped(body));
                let harmless = unsent || (!has_body && method.is_idempotent());
                let silent = matches!(failed, Failed::Silent);
                match back {
                    Some(back) if silent && reused && harmless => {
                        body = back;
                        chosen = choice.fresh(client, &finish, at, switches).await;
                    }
                    Some(back) if silent && unsent => {
                        body = back;
                        choice.failed(at, Cause::ResetBeforeAnswer.into());
                        finish.again();
                        chosen = choice.next(client, &finish, switches).await;
                    }
                    back => {
                        let whole = back.is_some() && harmless;
                        let made = failure(&finish, &failed, patience, whole);
                        if choice.elsewhere(&finish, &made) {
                            chosen = choice.next(client, &finish, switches).await;
                            continue;
                        }
                        let servers_fault = !matches!(failed, Failed::Gone | Failed::Stalled | Failed::Broken(_));
                        if let Some(retrying) = retrying.as_mut().filter(|_| servers_fault && !switches)
                            && retrying.after(&finish, made.head.status.as_u16(), bodiless)
                        {
                            choice.another(at);
                            Box::pin(retrying.pause(&finish)).await;
                            chosen = choice.next(client, &finish, switches).await;
                            continue;
                        }
                        return Err((made, finish, running));
                    }
                }
            }
        }
    }
}

/// What became of a try with an HTTP/2 server.
enum Over {
    Done(Result<hyper::Response<AnswerBody>, Unanswered>),
    /// The answer is given up for another try.
    Again(Back),
    /// Another server may be tried, in place of this one.
    Next(usize, Failure, Back),
    /// The servers here are to be left, and others asked.
    Leave(Range<usize>, Back),
    /// The server speaks HTTP/1.1 only.
    Http1(Taken, Back),
}

/// What a try gives back.
type Back = (Box<Finish>, Running, Option<H2Body>);

/// One try with a server that speaks HTTP/2.
async fn over(
    client: &Rc<Client>,
    finish: Box<Finish>,
    running: Running,
    choice: &Choice,
    taken: Taken,
    (body, framing): (Option<H2Body>, Framing),
    retrying: Option<&mut Retrying>,
) -> Over {
    let service = choice.service();
    let Some(server) = service.servers.get(taken.at) else {
        return Over::Done(Err((Made::failed(Cause::Internal.into()), finish, running)));
    };
    let Some(http2) = taken.in_flight.pool().http2(false) else { return Over::Http1(taken, (finish, running, body)) };
    finish.is_sent(false);
    let has_body = body.is_some();
    let (body, transfer) = match body {
        Some(body) => {
            let (upload, transfer) = Upload::new(choice.tapped(Body::Http2(body)), client.open.entry.read_timeout);
            (Body::Upload(Box::new(upload)), Some(transfer))
        }
        None => (Body::Empty, None),
    };
    let length = match framing {
        Framing::Length(length) => Some(length),
        _ => None,
    };
    let answer = {
        let host = finish.exchange.host_for(server.pass_host_header, &server.server.authority);
        let watched = transfer.as_deref();
        over_h2::ask(&taken, http2, host, server.server.base.as_deref(), (body, length), watched, &finish).await
    };
    match answer {
        Ok(answer) => {
            let status = answer.head.status.as_u16();
            let other = service.fails_over(taken.at, status).filter(|_| !has_body);
            if let Some(range) = other.filter(|range| choice.has_other(range)) {
                return Over::Leave(range, (finish, running, None));
            }
            if retrying.is_some_and(|retrying| retrying.after(&finish, status, (!has_body).then_some(0))) {
                return Over::Again((finish, running, None));
            }
            Over::Done(Ok(respond_over(client, finish, running, taken, answer, transfer)))
        }
        Err(over_h2::Unanswered::Failed(failure)) => Over::Done(Err((Made::failed(failure), finish, running))),
        Err(over_h2::Unanswered::NotReached(error, body)) => {
            let back = (finish, running, choice.untapped(body));
            if matches!(*error, ConnectError::ChoseHttp1) {
                return Over::Http1(taken, back);
            }
            choose::not_reached(client, taken.in_flight.pool(), &error);
            Over::Next(taken.at, failures::connect(&error), back)
        }
        Err(over_h2::Unanswered::NotProcessed(body)) => {
            Over::Next(taken.at, Cause::ResetBeforeAnswer.into(), (finish, running, choice.untapped(body)))
        }
    }
}

/// *Middlewares out*, and the head of an HTTP/2 server's answer.
fn respond_over(
    client: &Client,
    finish: Box<Finish>,
    running: Running,
    taken: Taken,
    answer: over_h2::Answer,
    transfer: Option<Rc<Transfer>>,
) -> hyper::Response<AnswerBody> {
    let over_h2::Answer { head, body, stream } = answer;
    let buffers = &client.open.worker.buffers;
    let mut head = AnswerHead { status: head.status, headers: Headers::from_map(&head.headers, buffers.room()) };
    finish.status.set(head.status.as_u16());
    let announced = request::answered(&finish, &mut head);
    let mut map = head.headers.to_map();
    if let Some(length) = announced.filter(|_| head.status != StatusCode::NO_CONTENT) {
        map.insert(::http::header::CONTENT_LENGTH, length.into());
    }
    buffers.give_headers(head.headers);
    response(head.status, map, AnswerBody::of_http2(body, stream, taken.in_flight, transfer, finish, running))
}

/// A switch of protocols, if it is the one that was asked for: the client's stream becomes a tunnel.
fn switch(
    finish: Box<Finish>,
    running: Running,
    answer: Answer,
    leased: Leased,
    upgrade: Option<&HeaderValue>,
    tunnel: Option<Tunnel>,
) -> Result<hyper::Response<AnswerBody>, Unanswered> {
    let Answer { line, headers, length, filled, .. } = answer;
    finish.origin_status.set(line.status);
    let mut head = AnswerHead { status: StatusCode::SWITCHING_PROTOCOLS, headers };
    let switched = choose::switches(upgrade.map(HeaderValue::as_bytes), head.headers.get(&name::UPGRADE));
    let accepted = tunnel.filter(|(asked, _)| switched && asked.is_accepted(&head.headers));
    let Some((_, on_upgrade)) = accepted else {
        return Err((Made::failed(Cause::BadAnswer(BadAnswer::Switched).into()), finish, running));
    };
    let read = head.headers.bytes().get(length..filled).unwrap_or_default().to_vec();
    connect_protocol::opened(&mut head);
    hop::for_client(&mut head, false);
    finish.stick(&mut head.headers);
    finish.status.set(head.status.as_u16());
    finish.answers(&head.headers);
    let map = head.headers.to_map();
    let (open, told) = running.pair();
    tokio::task::spawn_local(async move {
        let _open = open;
        let Ok(upgraded) = on_upgrade.await else { return };
        let first = tunnel::First { early: &[], lead: Vec::new(), read: &read };
        tunnel::run(&mut TokioIo::new(upgraded), leased, &finish, first).await;
    });
    Ok(response(StatusCode::OK, map, AnswerBody::made("".into(), None, told)))
}

/// Sends the request and waits for the head of its answer. Tells besides whether all of the request is sent.
async fn receive(
    client: &Client,
    server: &mut Stream,
    up: &mut Sender<Body>,
    asked: Asked,
    patience: Duration,
    finish: &Finish,
) -> Result<(Answer, bool), Failed> {
    let buffers = &client.open.worker.buffers;
    let mut arriving = Arriving::default();
    let mut clock = Deadline::default();
    let (mut sent, mut refused, mut waited) = (false, false, false);
    let mut nowhere = Vec::new();
    poll_fn(|cx| {
        if !sent && !refused {
            match up.poll(cx, server) {
                Poll::Ready(Ok(())) => sent = true,
                Poll::Ready(Err(Broken::Source)) => return Poll::Ready(Err(Failed::Gone)),
                // Its answer may be there all the same.
                Poll::Ready(Err(Broken::Sink)) => refused = true,
                Poll::Pending => {}
            }
            if let Some(spent) = up.spent() {
                buffers.give(spent);
            }
            finish.request_bytes.set(up.bytes);
        }
        if let Some(answer) = arriving.poll(cx, server, asked, buffers, &mut nowhere)? {
            return Poll::Ready(Ok((answer, sent)));
        }
        let for_client = !sent && !refused && up.waits_for_body;
        let limit = if for_client { client.open.entry.read_timeout } else { patience };
        if limit.is_zero() {
            clock.set(None);
        } else if up.moved || waited != for_client {
            clock.set(Some(Instant::now() + limit));
            up.moved = false;
        }
        waited = for_client;
        ready!(clock.poll(cx));
        Poll::Ready(Err(if for_client { Failed::Stalled } else { Failed::TimedOut }))
    })
    .await
}

/// *Middlewares out*, and the answer's head.
fn respond(
    client: &Rc<Client>,
    finish: Box<Finish>,
    running: Running,
    answer: Answer,
    leased: Leased,
    up: Option<Sender<Body>>,
) -> Result<hyper::Response<AnswerBody>, Unanswered> {
    let buffers = &client.open.worker.buffers;
    let Answer { line, framing, headers, length, filled, .. } = answer;
    let Ok(status) = StatusCode::from_u16(line.status) else {
        return Err((Made::failed(Cause::BadAnswer(BadAnswer::Framing).into()), finish, running));
    };
    let mut head = AnswerHead { status, headers };
    let announced = request::answered(&finish, &mut head);
    let mut map = head.headers.to_map();
    let asked_head = finish.exchange.request.method == Method::HEAD;
    let said = match framing.body {
        Framing::Length(length) => Some(length),
        Framing::None if asked_head || status == StatusCode::NOT_MODIFIED => announced,
        _ => None,
    };
    if let Some(length) = said {
        map.insert(::http::header::CONTENT_LENGTH, length.into());
    }
    let bytes = buffers.bytes_of(head.headers);
    let read = bytes.get(length..filled).unwrap_or_default();
    let shared = Shared::new(leased, framing.keep_alive, up.is_none());
    let down = match Frames::new(framing.body, read) {
        Ok(down) => down,
        Err(_) => return Err((Made::failed(Cause::BadAnswer(BadAnswer::Framing).into()), finish, running)),
    };
    buffers.give(bytes);
    finish.status.set(line.status);
    let body = AnswerBody::of_server(down, shared, up, finish, running);
    Ok(response(status, map, body))
}

fn made_by_us(
    client: &Client,
    mut made: Made,
    finish: Option<Box<Finish>>,
    running: Running,
) -> hyper::Response<AnswerBody> {
    if let Some(finish) = &finish {
        finish.made(&mut made);
        finish.response_bytes.set(made.text.len() as u64);
    }
    let Made { mut head, text, .. } = made;
    head.headers.remove(&name::CONNECTION);
    request::secure(client, &mut head);
    let mut map = head.headers.to_map();
    // Also where the body itself is not sent (HEAD).
    map.insert(::http::header::CONTENT_LENGTH, text.len().into());
    response(head.status, map, AnswerBody::made(text, finish, running))
}

fn response(status: StatusCode, map: ::http::HeaderMap, body: AnswerBody) -> hyper::Response<AnswerBody> {
    let mut response = hyper::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = map;
    response
}
