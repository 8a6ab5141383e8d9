//! *Finish*: what is known of a request, gathered on its way and handed to the sink when it has
//! ended, whatever ended it.

use super::client::Client;
use super::failure;
use super::logged::LoggedHeads;
use super::routes::BoundRouter;
use super::service::{BoundServer, BoundService};
use crate::http::{
    AnswerHead, CLIENT_CLOSED_REQUEST, Cause, Exchange, Failure, HeaderValue, Headers, Made, Protocol, Reason, Side,
    name,
};
use crate::middleware::{self, Held};
use crate::observe::record::{HeadView, RequestRecord};
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

/// What is known of a request that never came to be routed.
#[derive(Default)]
pub(super) struct Refused<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    pub(super) target: &'a str,
    pub(super) response_bytes: u64,
}

/// Records what was answered and never became a request: a head that is not acceptable, or that
/// did not come to its end in time.
pub(super) fn refused(client: &Client, asked: &Refused<'_>, protocol: Protocol, made: &Made) {
    client.open.worker.sink.finished(&RequestRecord {
        entry_point: &client.open.entry.name,
        router: None,
        service: None,
        server: None,
        method: asked.method,
        host: asked.host,
        target: asked.target,
        protocol,
        tls: client.tls_info,
        client: client.peer,
        forwarded_for: None,
        status: made.head.status.as_u16(),
        origin_status: 0,
        reason: Some(made.reason),
        failure: made.failure,
        request_bytes: 0,
        response_bytes: asked.response_bytes,
        started: SystemTime::now(),
        duration: Duration::ZERO,
        origin_duration: Duration::ZERO,
        retries: 0,
        heads: None,
    });
}

/// A request that goes on. Dropping it ends it.
pub(super) struct Finish {
    pub(super) client: Rc<Client>,
    /// The request.
    pub(super) exchange: Exchange,
    begun: Instant,
    /// The router that took it.
    pub(super) router: RefCell<Option<Rc<BoundRouter>>>,
    /// Which of its servers was asked last.
    pub(super) server: Cell<Option<usize>>,
    /// Cookies that the answer sets, last one first.
    cookies: Cell<SmallVec<[HeaderValue; 1]>>,
    /// When the server was asked whose response times are noted.
    asked: Cell<Option<Instant>>,
    /// How many of the router's middlewares it passed: those see the answer.
    pub(super) passed: Cell<usize>,
    /// Where it is counted until it has ended.
    pub(super) held: Held,
    /// Status sent; 0 while there is none.
    pub(super) status: Cell<u16>,
    /// Status that the server sent; 0 while there is none.
    pub(super) origin_status: Cell<u16>,
    /// When the request was first sent.
    pub(super) sent: Cell<Option<Instant>>,
    /// When the server's answer had ended.
    pub(super) answered: Cell<Option<Instant>>,
    /// Why the proxy made the answer.
    pub(super) reason: Cell<Option<Reason>>,
    /// What went wrong.
    failure: Cell<Option<Failure>>,
    /// `X-Forwarded-For` of a peer that is believed.
    forwarded_for: Option<HeaderValue>,
    /// What the access log wants to see; `None` when it wants nothing.
    heads: Option<Box<LoggedHeads>>,
    /// The client asks, and may know, why the request fails.
    reveal: bool,
    /// Bytes of the request's body so far; with a switched connection, those from the client.
    pub(super) request_bytes: Cell<u64>,
    /// Bytes of the answer's body so far.
    pub(super) response_bytes: Cell<u64>,
    /// Tries beyond the first.
    pub(super) retries: Cell<u32>,
}

impl Finish {
    pub(super) fn new(client: Rc<Client>, exchange: Exchange) -> Self {
        let worker = &client.open.worker;
        worker.gauges.requests.fetch_add(1, Relaxed);
        let fields = &exchange.request.headers;
        let wanted = worker.sink.wants_heads();
        let heads = (wanted.request || wanted.answers)
            .then(|| Box::new(LoggedHeads::new(wanted.request.then(|| fields.clone()), wanted.answers)));
        let forwarded_for = if client.trusted { fields.value_of(&name::X_FORWARDED_FOR) } else { None };
        let reveal = failure::asks(worker.settings.reveal.as_deref(), client.peer.ip(), fields);
        Self {
            client,
            exchange,
            begun: Instant::now(),
            router: RefCell::default(),
            server: Cell::default(),
            cookies: Cell::default(),
            asked: Cell::default(),
            passed: Cell::new(0),
            held: Held::default(),
            status: Cell::new(0),
            origin_status: Cell::new(0),
            sent: Cell::default(),
            answered: Cell::default(),
            reason: Cell::default(),
            failure: Cell::default(),
            forwarded_for: forwarded_for.filter(|value| !value.is_empty()),
            heads,
            reveal,
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            retries: Cell::new(0),
        }
    }

    /// When the request came.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// The answer is one of the proxy's own. Tells why in it, where the client may know.
    pub(super) fn made(&self, made: &mut Made) {
        self.status.set(made.head.status.as_u16());
        self.reason.set(Some(made.reason));
        self.failure.set(made.failure);
        if made.failure.is_some_and(|failure| failure.side == Side::Server) {
            self.judge(false);
        }
        self.leave(&mut made.head);
        if self.reveal {
            failure::reveal(&mut made.head, made.reason, made.failure.as_ref());
        }
        self.answers(&made.head.headers);
    }

    /// A server is asked.
    pub(super) fn asks(&self, server: &BoundServer) {
        self.asked.set(server.timed.then(Instant::now));
    }

    /// The answer of the server that is asked now sets these, and no others.
    pub(super) fn set_cookies(&self, cookies: SmallVec<[HeaderValue; 1]>) {
        self.cookies.set(cookies);
    }

    /// Sets the cookies of sticky services in an answer.
    pub(super) fn stick(&self, headers: &mut Headers) {
        for cookie in self.cookies.take().into_iter().rev() {
            headers.append(name::SET_COOKIE, cookie);
        }
    }

    /// Does something with the server whose answer is awaited, and its service.
    fn with_server(&self, work: impl FnOnce(&BoundServer, &BoundService)) {
        let router = self.router.borrow();
        let Some(service) = router.as_ref().map(|bound| &bound.service) else { return };
        if let Some(server) = self.server.get().and_then(|at| service.servers.get(at)) {
            work(server, service);
        }
    }

    /// *Middlewares out*: what those that the request passed do to its answer.
    pub(super) fn leave(&self, head: &mut AnswerHead) {
        let router = self.router.borrow();
        let Some(bound) = router.as_ref().filter(|bound| bound.router.answers) else { return };
        let chain = bound.router.chain(&self.exchange.entry_point);
        middleware::leave(chain.get(..self.passed.get()).unwrap_or(chain), &self.exchange, head);
    }

    /// A server's answer came.
    pub(super) fn received(&self, headers: &Headers) {
        if let Some(asked) = self.asked.take() {
            let now = self.client.open.worker.registry.millis(Instant::now());
            self.with_server(|server, _| server.pool.state().answered_in(asked.elapsed(), now));
        }
        if let Some(heads) = &self.heads {
            heads.received(headers);
        }
    }

    /// The client is answered.
    pub(super) fn answers(&self, headers: &Headers) {
        if let Some(heads) = &self.heads {
            heads.answers(headers);
        }
    }

    /// It broke off; what went wrong first stays.
    pub(super) fn because(&self, cause: Cause) {
        if self.reason.get().is_none() {
            self.reason.set(Some(cause.reason()));
            self.failure.set(Some(cause.into()));
            if cause.reason() == Reason::AnswerCut {
                self.judge(false);
            }
        }
    }

    /// Counts for or against the server, where its service has a rule for failures.
    pub(super) fn judge(&self, well: bool) {
        self.with_server(|server, service| {
            let Some((rule, beside)) = &server.passive else { return };
            let state = server.pool.state();
            if well {
                return state.served();
            }
            let now = self.client.open.worker.registry.millis(Instant::now());
            let beside = service.servers.get(beside.clone()).unwrap_or_default();
            state.failed(rule, now, beside.iter().map(|server| &**server.pool.state()));
        });
    }

    /// The request is sent, for the first time or again; `at_once` if nothing was waited for since it came.
    pub(super) fn is_sent(&self, at_once: bool) {
        if self.sent.get().is_none() {
            self.sent.set(Some(if at_once { self.begun } else { Instant::now() }));
        }
    }

    /// The server's answer has ended. Gives when.
    pub(super) fn is_answered(&self) -> Instant {
        let now = Instant::now();
        self.answered.set(Some(now));
        now
    }

    /// One more try.
    pub(super) fn again(&self) {
        self.retries.set(self.retries.get() + 1);
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let worker = &self.client.open.worker;
        worker.gauges.requests.fetch_sub(1, Relaxed);
        if self.status.get() == 0 {
            self.status.set(CLIENT_CLOSED_REQUEST);
            self.client.given_up();
            self.because(Cause::ClientGone);
        }
        let router = self.router.take();
        let router = router.as_ref();
        let server = router.and_then(|bound| bound.service.servers.get(self.server.get()?));
        let ended = self.answered.get().unwrap_or_else(Instant::now);
        self.held.ended(self.status.get(), ended.duration_since(self.begun));
        let origin = self.sent.get().map(|sent| ended.duration_since(sent));
        let request = &self.exchange.request;
        worker.sink.finished(&RequestRecord {
            entry_point: &self.client.open.entry.name,
            router: router.map(|bound| &bound.router.id),
            // of a service that is made of others, the one that was asked
            service: server.map(|bound| &bound.server.id.service).or(router.map(|b| &b.router.service.id)),
            server: server.map(|bound| &bound.server.id.url),
            method: request.method.as_str(),
            host: request.host(),
            target: request.sent(),
            protocol: self.exchange.protocol,
            tls: self.client.tls_info,
            client: self.client.peer,
            forwarded_for: self.forwarded_for.as_ref().and_then(|value| value.to_str().ok()),
            failure: self.failure.get(),
            status: self.status.get(),
            origin_status: self.origin_status.get(),
            reason: self.reason.get(),
            request_bytes: self.request_bytes.get(),
            response_bytes: self.response_bytes.get(),
            started: worker.epoch.of(self.begun),
            duration: ended.duration_since(self.begun),
            origin_duration: origin.unwrap_or(Duration::ZERO),
            retries: self.retries.get(),
            heads: self.heads.as_deref().map(|heads| heads as &dyn HeadView),
        });
        worker.buffers.give_head(std::mem::take(&mut self.exchange.request));
    }
}
