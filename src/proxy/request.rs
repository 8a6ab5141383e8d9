//! The walk of one request through its phases.

use super::connection::Client;
use super::finish::{AnswerBody, Finish};
use super::forward::{self, Received};
use super::head::{self, Checked};
use super::routes::BoundRouter;
use super::wait::Waiting;
use super::{connect_protocol, forwarded, hop, tunnel};
use crate::http::{
    AnswerHead, Body, Exchange, HeaderValue, Made, Protocol, Reason, RequestHead, StatusCode, Upload, canonical_host,
    name,
};
use crate::middleware::{self, Step};
use crate::model::Provider;
use crate::table::{Middleware, MiddlewareKind, RequestView};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Answers a request. It counts from this call on, before the future is polled.
pub(super) fn run(
    client: Rc<Client>,
    request: hyper::Request<Incoming>,
) -> impl Future<Output = hyper::Response<AnswerBody>> {
    let (parts, incoming) = request.into_parts();
    let finish = Finish::new(client.clone(), &parts);
    walk(client, parts, incoming, finish)
}

async fn walk(
    client: Rc<Client>,
    mut parts: ::http::request::Parts,
    incoming: Incoming,
    mut finish: Box<Finish>,
) -> hyper::Response<AnswerBody> {
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();

    // Head.
    let asked = match connect_protocol::translate(&mut parts) {
        Ok(asked) => asked,
        Err(made) => return answer_made(&client, made, finish),
    };
    let Checked { mut exchange, upgrade } = match head::check(&client, parts) {
        Ok(checked) => checked,
        Err(made) => return answer_made(&client, made, finish),
    };
    let upgrade = upgrade.filter(|_| on_upgrade.is_some());
    let body = body(&client, incoming, &mut finish);

    // Route, middlewares in.
    let bound = match enter(&client, &mut exchange, &mut finish).await {
        Ok(bound) => bound,
        Err(made) => return answer_made(&client, made, finish),
    };

    // Choose, connect, send, receive.
    let received = forward::run(&client, &exchange, &bound.service, upgrade.as_ref(), body, &mut finish).await;
    let Received { mut answer, borrowed } = match received {
        Ok(received) => received,
        Err(made) => return answer_made(&client, made, finish),
    };
    finish.origin_status = answer.head.status.as_u16();
    if answer.head.status == StatusCode::SWITCHING_PROTOCOLS {
        let switched = forward::switches(upgrade.as_ref(), answer.head.headers.get(&name::UPGRADE));
        let switched = switched && asked.as_ref().is_none_or(|asked| asked.is_accepted(&answer.head.headers));
        let (Some(to_client), Some(to_server), true) = (on_upgrade, answer.upgrade.take(), switched) else {
            // Traefik's answer to a server that switches where nobody asked.
            return answer_made(&client, Made::status(StatusCode::BAD_GATEWAY, Reason::BadAnswer), finish);
        };
        hop::for_client(&mut answer.head, &answer.body, true);
        if asked.is_some() {
            connect_protocol::opened(&mut answer.head);
        }
        finish.status = answer.head.status.as_u16();
        let idle = client.open.worker.settings.tunnel_idle;
        tokio::task::spawn_local(tunnel::run(to_client, to_server, idle, finish, borrowed));
        return respond(answer.head, AnswerBody::none());
    }

    if asked.is_some() && !connect_protocol::may_pass(answer.head.status) {
        return answer_made(&client, Made::status(StatusCode::BAD_GATEWAY, Reason::BadAnswer), finish);
    }

    // Middlewares out.
    hop::for_client(&mut answer.head, &answer.body, false);
    secure(&client, &mut answer.head);
    finish.status = answer.head.status.as_u16();
    respond(answer.head, AnswerBody::of_server(answer.body, finish, borrowed))
}

/// The request's body, watched for progress.
fn body(client: &Client, incoming: Incoming, finish: &mut Finish) -> Body {
    let body = match client.protocol {
        Protocol::Http2 => Body::from_h2(incoming),
        Protocol::Http10 | Protocol::Http11 => Body::from_incoming(incoming),
    };
    if body.is_empty() {
        return body;
    }
    let (upload, transfer) = Upload::new(body, client.open.entry.read_timeout);
    finish.transfer = Some(transfer);
    Body::Upload(Box::new(upload))
}

/// *Route* and *middlewares in*, again and again while the service has no server and the request
/// may wait for one.
async fn enter(client: &Rc<Client>, exchange: &mut Exchange, finish: &mut Finish) -> Result<Rc<BoundRouter>, Made> {
    let worker = &client.open.worker;
    if let Some(made) = client.open.entry.redirect.as_ref().and_then(|redirect| redirect.answer(exchange)) {
        return Err(made);
    }
    let mut waiting: Option<Waiting> = None;
    loop {
        let bound = route(client, exchange);
        if let Some(made) = to_tls(client, exchange, bound.is_some()) {
            return Err(made);
        }
        let bound = bound.ok_or_else(|| no_route(client))?;
        finish.router = Some(bound.clone());
        exchange.reset();
        let built_in = bound.router.provider == Provider::Internal;
        if built_in && client.trusted {
            // Nobody's word about other hops counts on built-in routes.
            forwarded::distrust(exchange, client.peer_text.as_ref(), worker.settings.hostname.as_ref());
        }
        let redirects = |middleware: &Arc<Middleware>| {
            use MiddlewareKind::{PrefixRedirect, RedirectScheme};
            matches!(middleware.kind, RedirectScheme { .. } | PrefixRedirect { port: Some(_), .. })
        };
        // A redirect to HTTPS is for everybody, as in HinD: there the refusal comes behind it.
        let mut shut_out = if built_in { None } else { shut_out(client, exchange) };
        if !bound.router.middlewares.first().is_some_and(redirects)
            && let Some(made) = shut_out.take()
        {
            return Err(made);
        }
        middlewares_in(client, &bound, exchange).await?;
        if let Some(made) = shut_out {
            return Err(made);
        }
        if !bound.service.servers.is_empty() {
            return Ok(bound);
        }
        // A change between the look above and the place in the queue must not be missed.
        match &mut waiting {
            None => waiting = Some(Waiting::enter(worker)?),
            Some(waiting) => waiting.changed().await?,
        }
    }
}

/// The redirect to the encrypted entry point, where the request belongs there.
fn to_tls(client: &Client, exchange: &Exchange, known: bool) -> Option<Made> {
    let to_tls = client.open.entry.to_tls.as_ref().filter(|_| !exchange.tls)?;
    let belongs = !known || (to_tls.certified)(&canonical_host(exchange.request.host()));
    belongs.then(|| to_tls.redirection.answer(exchange)).flatten()
}

/// The router's middlewares; what one of them has to ask is waited for here.
async fn middlewares_in(client: &Client, bound: &BoundRouter, exchange: &mut Exchange) -> Result<(), Made> {
    let guard = &client.open.worker.guard;
    let mut from = 0;
    loop {
        match middleware::step(&bound.router.middlewares, from, exchange, guard) {
            Step::On => return Ok(()),
            Step::Made(made) => return Err(made),
            Step::Ask(at, question) => {
                question.ask(guard).await?;
                from = at;
            }
        }
    }
}

/// The answer to what no router takes.
fn no_route(client: &Client) -> Made {
    match client.open.entry.not_found.filter(|_| client.tls) {
        Some(text) => {
            let mut made = Made::new(StatusCode::NOT_FOUND, text, Reason::NoRoute);
            made.head.headers.set(name::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            made
        }
        None => Made::not_found(Reason::NoRoute),
    }
}

/// The refusal of a peer that may not use services at all.
fn shut_out(client: &Client, exchange: &Exchange) -> Option<Made> {
    let allowed = client.open.worker.settings.services_allow.as_ref()?;
    middleware::peer_within(allowed, StatusCode::FORBIDDEN, exchange)
}

fn route(client: &Client, exchange: &Exchange) -> Option<Rc<BoundRouter>> {
    let worker = &client.open.worker;
    let view = View::of(exchange);
    let mut routes = worker.routes.borrow_mut();
    routes.find(&exchange.entry_point, exchange.tls, &view, &worker.registry, &worker.pools)
}

/// A request as rules see it.
pub(super) struct View<'a> {
    host: Cow<'a, str>,
    request: &'a RequestHead,
    client: IpAddr,
}

impl<'a> View<'a> {
    pub(super) fn of(exchange: &'a Exchange) -> Self {
        Self { host: canonical_host(exchange.request.host()), request: &exchange.request, client: exchange.peer.ip() }
    }
}

impl RequestView for View<'_> {
    fn host(&self) -> &str {
        &self.host
    }

    fn authority(&self) -> &str {
        self.request.host()
    }

    fn path(&self) -> &str {
        self.request.routing_path()
    }

    fn method(&self) -> &str {
        self.request.method.as_str()
    }

    fn query(&self) -> &str {
        self.request.query()
    }

    fn any_header(&self, name: &str, f: &mut dyn FnMut(&str) -> bool) -> bool {
        self.request.headers.any(name, f)
    }

    fn client_ip(&self) -> Option<IpAddr> {
        Some(self.client)
    }
}

fn answer_made(client: &Client, made: Made, mut finish: Box<Finish>) -> hyper::Response<AnswerBody> {
    let Made { mut head, text, reason } = made;
    finish.status = head.status.as_u16();
    finish.reason = Some(reason);
    // Also where the body itself is not sent (HEAD).
    head.headers.set(name::CONTENT_LENGTH, HeaderValue::from(text.len()));
    if client.protocol == Protocol::Http2 {
        head.headers.remove(&name::CONNECTION);
    }
    secure(client, &mut head);
    respond(*head, AnswerBody::made(Body::text(text), finish))
}

/// *Middlewares out*.
fn secure(client: &Client, head: &mut AnswerHead) {
    if client.open.worker.settings.security_headers {
        middleware::secure(head, client.tls);
    }
}

fn respond(head: AnswerHead, body: AnswerBody) -> hyper::Response<AnswerBody> {
    let mut response = hyper::Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers.into_map();
    response
}
