//! The walk of one request through its phases up to the choice of a server, whatever protocol it came by.

use super::client::Client;
use super::finish::Finish;
use super::routes::BoundRouter;
use super::standing::Outlook;
use super::wait::Waiting;
use super::{certify, forwarded, head, hop, http1};
use crate::http::{AnswerHead, Exchange, HeaderValue, Made, Reason, RequestHead, StatusCode, canonical_host, name};
use crate::middleware::{self, Held, Step, Walk};
use crate::model::Provider;
use crate::table::{Middleware, MiddlewareKind, RequestView};
use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// *Route* and *middlewares in*, again and again while the service has no server and the request
/// may wait for one.
///
/// What needs no waiting is done in the first poll, without anything being set up for more.
pub(super) async fn enter(finish: &mut Finish) -> Result<Rc<BoundRouter>, Made> {
    let client = finish.client.clone();
    let worker = &client.open.worker;
    let begun = finish.begun();
    let exchange = &mut finish.exchange;
    if certify::may_be_challenge(&worker.settings, exchange.request.routing_path())
        && let Some(made) = Box::pin(certify::answer(&client, exchange)).await
    {
        return Err(made);
    }
    if let Some(made) = redirected(&client, exchange) {
        return Err(head::encoded(exchange, &client.open.entry.head).err().unwrap_or(made));
    }
    let mut waiting: Option<Waiting> = None;
    loop {
        let bound = route(&client, exchange);
        if let Some(made) = to_tls(&client, exchange, bound.is_some()) {
            return Err(made);
        }
        let bound = bound.ok_or_else(|| no_route(&client))?;
        finish.router.replace(Some(bound.clone()));
        if let Some(options) = &client.tls_options
            && !worker.routes.borrow_mut().takes(&bound.router, &exchange.entry_point, options)
        {
            return Err(misdirected());
        }
        head::encoded(exchange, &client.open.entry.head)?;
        finish.passed.set(0);
        exchange.reset();
        if bound.service.servers.is_empty() {
            exchange.keep_fields();
        }
        let built_in = bound.router.provider == Provider::Internal;
        if built_in && client.trusted {
            // Nobody's word about other hops counts on built-in routes.
            forwarded::distrust(
                exchange,
                &client.peer_text,
                worker.settings.hostname.as_ref(),
                &client.open.entry.head,
            );
        }
        let redirects = |middleware: &Arc<Middleware>| {
            use MiddlewareKind::{PrefixRedirect, RedirectScheme};
            matches!(middleware.kind, RedirectScheme { .. } | PrefixRedirect { port: Some(_), .. })
        };
        // A redirect to HTTPS is for everybody, as in HinD: there the refusal comes behind it.
        let mut shut_out = if built_in { None } else { shut_out(&client, exchange) };
        if !bound.router.chain(&exchange.entry_point).first().is_some_and(redirects)
            && let Some(made) = shut_out.take()
        {
            return Err(made);
        }
        middlewares_in(&client, &bound, exchange, &finish.passed, &mut finish.held).await?;
        if let Some(made) = shut_out {
            return Err(made);
        }
        // A service without servers has nothing that could be looked at.
        let patience = worker.settings.linger_wait;
        let outlook = bound.service.outlook(&worker.registry, patience);
        let Outlook::Wait { serve, .. } = outlook else { return Ok(bound) };
        // A change between the look above and the place in the queue must not be missed.
        let ended = match &mut waiting {
            None => Waiting::enter(worker, begun).map(|place| waiting = Some(place)),
            Some(waiting) => Box::pin(waiting.changed(&bound.service, outlook)).await,
        };
        match ended {
            Ok(()) => {}
            Err(_) if serve => return Ok(bound),
            Err(made) => return Err(made),
        }
    }
}

/// The redirect of the entry point, unless a router of a higher priority takes the request.
fn redirected(client: &Client, exchange: &Exchange) -> Option<Made> {
    let redirect = client.open.entry.redirect.as_ref()?;
    let outranks = |bound: Rc<BoundRouter>| bound.router.priority > redirect.priority;
    if redirect.yields() && route(client, exchange).is_some_and(outranks) {
        return None;
    }
    redirect.answer(exchange)
}

/// The redirect to the encrypted entry point, where the request belongs there.
fn to_tls(client: &Client, exchange: &Exchange, known: bool) -> Option<Made> {
    let to_tls = client.open.entry.to_tls.as_ref().filter(|_| !exchange.tls)?;
    let belongs = !known || (to_tls.certified)(&canonical_host(exchange.request.host()));
    belongs.then(|| to_tls.redirection.answer(exchange)).flatten()
}

/// The router's middlewares; what one of them has to ask is waited for here.
async fn middlewares_in(
    client: &Client,
    bound: &BoundRouter,
    exchange: &mut Exchange,
    passed: &Cell<usize>,
    held: &mut Held,
) -> Result<(), Made> {
    let guard = &client.open.worker.guard;
    let mut walk = Walk { guard, memories: &bound.memories, held };
    let chain = bound.router.chain(&exchange.entry_point);
    let mut from = 0;
    loop {
        match middleware::step(chain, from, exchange, &mut walk) {
            Step::On => {
                passed.set(chain.len());
                return Ok(());
            }
            Step::Made(at, made) => {
                passed.set(at);
                return Err(made);
            }
            Step::Wait(next, time) => {
                passed.set(next);
                Box::pin(tokio::time::sleep(time)).await;
                from = next;
            }
            Step::Ask(at, question) => {
                passed.set(at);
                Box::pin(question.ask(guard)).await?;
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

/// The answer to a request that came by a connection whose handshake went by other TLS options than its router needs:
/// else who asks for one host and means another would pass by the client certificates that this one wants. The words
/// are Traefik's.
fn misdirected() -> Made {
    let mut made = Made::new(StatusCode::MISDIRECTED_REQUEST, "Misdirected Request\n", Reason::Denied);
    made.head.headers.set(name::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    made.head.headers.set(name::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    made
}

/// A server's answer becomes the client's: what concerned the hop is taken off, *middlewares out*. Gives the length that
/// the server announced.
pub(super) fn answered(finish: &Finish, head: &mut AnswerHead) -> Option<u64> {
    finish.origin_status.set(head.status.as_u16());
    finish.received(&head.headers);
    finish.judge(!head.status.is_server_error());
    let announced = http1::write::announced(&head.headers);
    hop::for_client(head, false);
    finish.stick(&mut head.headers);
    finish.leave(head);
    secure(&finish.client, head);
    finish.answers(&head.headers);
    announced
}

/// *Middlewares out*.
pub(super) fn secure(client: &Client, head: &mut AnswerHead) {
    if client.open.worker.settings.security_headers {
        middleware::secure(head, client.tls);
    }
}
