//! *Finish*: what is known of a request, gathered on its way and handed to the sink when it has
//! ended, whatever ended it.

use super::client::Client;
use super::routes::BoundRouter;
use crate::http::{Exchange, Made, Protocol, Reason, StatusCode, name};
use crate::observe::record::RequestRecord;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

/// Status that stands in the record where the client went before an answer (nginx's and Traefik's).
const CLIENT_CLOSED: u16 = 499;

/// What is answered to a client that went away; it stands in the record.
pub(super) fn client_gone() -> Made {
    let status = StatusCode::from_u16(CLIENT_CLOSED).unwrap_or(StatusCode::BAD_REQUEST);
    Made::new(status, "", Reason::ClientGone).closing()
}

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
pub(super) fn refused(client: &Client, asked: &Refused<'_>, protocol: Protocol, status: StatusCode, reason: Reason) {
    client.open.worker.sink.finished(&RequestRecord {
        entry_point: &client.open.entry.name,
        router: None,
        service: None,
        server: None,
        method: asked.method,
        host: asked.host,
        target: asked.target,
        protocol,
        tls: client.tls,
        client: client.peer,
        status: status.as_u16(),
        origin_status: 0,
        reason: Some(reason),
        request_bytes: 0,
        response_bytes: asked.response_bytes,
        started: SystemTime::now(),
        duration: Duration::ZERO,
        origin_duration: Duration::ZERO,
        retries: 0,
        user_agent: None,
        referer: None,
    });
}

/// A request that goes on. Dropping it ends it.
pub(super) struct Finish {
    pub(super) client: Rc<Client>,
    /// The request.
    pub(super) exchange: Exchange,
    started: SystemTime,
    begun: Instant,
    /// The router that took it.
    pub(super) router: Option<Rc<BoundRouter>>,
    /// Which of its servers was asked last.
    pub(super) server: Cell<Option<usize>>,
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
    /// Bytes of the request's body so far; with a switched connection, those from the client.
    pub(super) request_bytes: Cell<u64>,
    /// Bytes of the answer's body so far.
    pub(super) response_bytes: Cell<u64>,
    /// Tries beyond the first.
    pub(super) retries: Cell<u32>,
}

impl Finish {
    pub(super) fn new(client: Rc<Client>, exchange: Exchange) -> Self {
        client.open.worker.gauges.requests.fetch_add(1, Relaxed);
        Self {
            client,
            exchange,
            started: SystemTime::now(),
            begun: Instant::now(),
            router: None,
            server: Cell::default(),
            status: Cell::new(0),
            origin_status: Cell::new(0),
            sent: Cell::default(),
            answered: Cell::default(),
            reason: Cell::default(),
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            retries: Cell::new(0),
        }
    }

    /// When the request came.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// The answer is one of the proxy's own.
    pub(super) fn made(&self, made: &Made) {
        self.status.set(made.head.status.as_u16());
        self.reason.set(Some(made.reason));
    }

    /// Why it ended as it did, unless that is known already.
    pub(super) fn because(&self, reason: Reason) {
        self.reason.set(self.reason.get().or(Some(reason)));
    }

    /// The request is sent, for the first time or again.
    pub(super) fn is_sent(&self) {
        self.sent.set(self.sent.get().or_else(|| Some(Instant::now())));
    }

    /// The server's answer has ended.
    pub(super) fn is_answered(&self) {
        self.answered.set(Some(Instant::now()));
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
            self.status.set(CLIENT_CLOSED);
            self.because(Reason::ClientGone);
        }
        let router = self.router.as_ref();
        let origin = self.sent.get().map(|sent| self.answered.get().unwrap_or_else(Instant::now).duration_since(sent));
        let request = &self.exchange.request;
        worker.sink.finished(&RequestRecord {
            entry_point: &self.client.open.entry.name,
            router: router.map(|bound| &bound.router.id),
            service: router.map(|bound| &bound.router.service.id),
            server: router.zip(self.server.get()).map(|(bound, at)| &bound.router.service.servers[at].id.url),
            method: request.method.as_str(),
            host: request.host(),
            target: request.sent(),
            protocol: self.exchange.protocol,
            tls: self.client.tls,
            client: self.client.peer,
            status: self.status.get(),
            origin_status: self.origin_status.get(),
            reason: self.reason.get(),
            request_bytes: self.request_bytes.get(),
            response_bytes: self.response_bytes.get(),
            started: self.started,
            duration: self.begun.elapsed(),
            origin_duration: origin.unwrap_or(Duration::ZERO),
            retries: self.retries.get(),
            user_agent: request.headers.text(&name::USER_AGENT),
            referer: request.headers.text(&name::REFERER),
        });
        worker.buffers.give_head(std::mem::take(&mut self.exchange.request));
    }
}
