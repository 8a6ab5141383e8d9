//! One request over HTTP/2: from its head to the head of its answer.

use super::Running;
use super::answer::{AnswerBody, Down, Shared};
use super::upload::{Broken, Upload};
use crate::http::h1::Framing;
use crate::http::{AnswerHead, BadAnswer, Cause, Made, Method, Protocol, StatusCode, name};
use crate::proxy::choose::{Choice, Leased};
use crate::proxy::client::Client;
use crate::proxy::deadline::Deadline;
use crate::proxy::finish::{self, Finish};
use crate::proxy::head::{self, Checked};
use crate::proxy::http1::exchange::failure;
use crate::proxy::http1::relay::{Answer, Asked, Failed, Incoming as Arriving};
use crate::proxy::http1::write;
use crate::proxy::routes::BoundService;
use crate::proxy::{hop, preview, request};
use crate::upstream::Stream;
use http_body::Body as _;
use hyper::body::Incoming;
use std::future::poll_fn;
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
    let (parts, incoming) = request.into_parts();
    let Checked { exchange, .. } = match preview::parsed(parts).and_then(|parsed| head::check(&client, parsed)) {
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
    match forward(&client, finish, incoming, &bound.service, running).await {
        Ok(answer) => answer,
        Err((made, finish, running)) => made_by_us(&client, made, Some(finish), running),
    }
}

type Unanswered = (Made, Box<Finish>, Running);

/// *Choose*, *connect*, *send*, *receive*, *middlewares out*; by the rules of HTTP/1.1's side.
async fn forward(
    client: &Rc<Client>,
    mut finish: Box<Finish>,
    mut incoming: Incoming,
    service: &BoundService,
    running: Running,
) -> Result<hyper::Response<AnswerBody>, Unanswered> {
    let method = finish.exchange.request.method.clone();
    let framing = match incoming.size_hint().exact() {
        _ if incoming.is_end_stream() => match method {
            Method::POST | Method::PUT | Method::PATCH => Framing::Length(0),
            _ => Framing::None,
        },
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    let has_body = !incoming.is_end_stream();
    let peer = client.open.entry.head.append_forwarded_for.then_some(&*client.peer_text);
    hop::for_server(&mut finish.exchange, peer, None, has_body);
    let mut choice = Choice::new(service, finish.exchange.peer.ip(), finish.begun());
    let mut chosen = choice.next(client, &finish).await;
    loop {
        let mut leased = match chosen {
            Ok(leased) => leased,
            Err(made) => return Err((made, finish, running)),
        };
        finish.is_sent();
        let Some(asked) = service.service.servers.get(leased.at) else {
            return Err((Made::failed(Cause::Internal.into()), finish, running));
        };
        let host = finish.exchange.host_for(service.service.pass_host_header, &asked.authority);
        let mut lead = client.open.worker.buffers.take();
        write::request(&mut lead, &finish.exchange, asked.base.as_deref(), host, framing);
        let mut up = Upload::new(lead, incoming, framing);
        let asked = Asked { head: method == Method::HEAD, upgrade: false, expects: false, old: true };
        let patience = leased.in_flight.pool().settings().response_header_timeout;
        match receive(client, &mut leased.connection.stream, &mut up, asked, patience, &finish).await {
            Ok((answer, sent)) => {
                leased.in_flight.pool().state().reachable();
                return respond(client, finish, running, answer, leased, (!sent).then_some(up));
            }
            Err(failed) => {
                let (at, reused, unsent) = (leased.at, leased.connection.reused(), !up.has_written);
                drop(leased);
                let body = up.into_body();
                let harmless = unsent || (!has_body && method.is_idempotent());
                match body {
                    Some(body) if matches!(failed, Failed::Silent) && reused && harmless => {
                        incoming = body;
                        chosen = choice.fresh(client, &finish, at).await;
                    }
                    Some(body) if matches!(failed, Failed::Silent) && unsent => {
                        incoming = body;
                        choice.failed(at, Cause::ResetBeforeAnswer.into());
                        finish.again();
                        chosen = choice.next(client, &finish).await;
                    }
                    body => {
                        let whole = body.is_some() && harmless;
                        return Err((failure(&finish, &failed, patience, whole), finish, running));
                    }
                }
            }
        }
    }
}

/// Sends the request and waits for the head of its answer. Tells besides whether all of the request is sent.
async fn receive(
    client: &Client,
    server: &mut Stream,
    up: &mut Upload,
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
                Poll::Ready(Err(Broken::Client)) => return Poll::Ready(Err(Failed::Gone)),
                // Its answer may be there all the same.
                Poll::Ready(Err(Broken::Server)) => refused = true,
                Poll::Pending => {}
            }
            finish.request_bytes.set(up.bytes);
        }
        if let Some(answer) = arriving.poll(cx, server, asked, buffers, &mut nowhere)? {
            return Poll::Ready(Ok((answer, sent)));
        }
        let for_client = !sent && !refused && up.waits_for_client;
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
    up: Option<Upload>,
) -> Result<hyper::Response<AnswerBody>, Unanswered> {
    let buffers = &client.open.worker.buffers;
    let Answer { line, framing, headers, length, filled, .. } = answer;
    let Ok(status) = StatusCode::from_u16(line.status) else {
        return Err((Made::failed(Cause::BadAnswer(BadAnswer::Framing).into()), finish, running));
    };
    finish.origin_status.set(line.status);
    finish.received(&headers);
    let mut head = AnswerHead { status, headers };
    let announced = write::announced(&head.headers);
    hop::for_client(&mut head, false);
    request::secure(client, &mut head);
    finish.answers(&head.headers);
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
    let down = match Down::new(framing.body, read) {
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
