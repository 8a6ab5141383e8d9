//! *Finish*: what is known of a request, gathered on its way and handed to the sink when it has
//! ended, whatever ended it.

use super::connection::Client;
use super::failure;
use super::logged::LoggedHeads;
use super::routes::BoundRouter;
use crate::http::{
    Body, BodyError, CLIENT_CLOSED_REQUEST, Cause, Failure, HeaderValue, Headers, Made, Method, Protocol, Reason,
    StatusCode, Transfer, name,
};
use crate::observe::record::{HeadView, RequestRecord};
use crate::upstream::{Connection, InFlight};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

const X_FORWARDED_FOR: crate::http::HeaderName = crate::http::HeaderName::from_static("x-forwarded-for");

/// What is answered to a client that went away; it stands in the record.
pub(super) fn client_gone() -> Made {
    Made::new(Cause::ClientGone.status(), "", Reason::ClientGone).closing()
}

/// Records what was answered and never became a request: a head that the codec refused, or that
/// did not come to its end in time.
pub(super) fn refused(client: &Client, status: StatusCode, reason: Reason) {
    client.open.worker.sink.finished(&RequestRecord {
        entry_point: &client.open.entry.name,
        router: None,
        service: None,
        server: None,
        method: "",
        host: "",
        target: "",
        protocol: client.protocol,
        tls: client.tls_info,
        client: client.peer,
        forwarded_for: None,
        status: status.as_u16(),
        origin_status: 0,
        reason: Some(reason),
        failure: reason.failure(status),
        request_bytes: 0,
        response_bytes: 0,
        started: SystemTime::now(),
        duration: Duration::ZERO,
        origin_duration: Duration::ZERO,
        retries: 0,
        heads: None,
    });
}

/// A request that goes on. Dropping it ends it.
pub(super) struct Finish {
    client: Rc<Client>,
    method: Method,
    host: Option<HeaderValue>,
    target: ::http::Uri,
    protocol: Protocol,
    /// `X-Forwarded-For` of a peer that is believed.
    pub(super) forwarded_for: Option<HeaderValue>,
    /// What the access log wants to see; `None` when it wants nothing.
    pub(super) heads: Option<Box<LoggedHeads>>,
    /// The client asks, and may know, why the request fails.
    pub(super) reveal: bool,
    started: SystemTime,
    begun: Instant,
    /// The router that took it.
    pub(super) router: Option<Rc<BoundRouter>>,
    /// Which of its servers was asked last.
    pub(super) server: Option<usize>,
    /// How far the request's body has come.
    pub(super) transfer: Option<Rc<Transfer>>,
    /// Status sent; 0 while there is none.
    pub(super) status: u16,
    /// Status that the server sent; 0 while there is none.
    pub(super) origin_status: u16,
    /// When the request was first sent.
    pub(super) sent: Option<Instant>,
    /// When the server's answer had ended.
    pub(super) answered: Option<Instant>,
    /// Why the proxy made the answer.
    pub(super) reason: Option<Reason>,
    /// What went wrong.
    pub(super) failure: Option<Failure>,
    /// Bytes of the answer's body.
    pub(super) response_bytes: u64,
    /// Bytes from the client on a switched connection.
    pub(super) tunnel_bytes: u64,
    /// Tries beyond the first.
    pub(super) retries: u32,
}

impl Finish {
    pub(super) fn new(client: Rc<Client>, head: &::http::request::Parts) -> Box<Self> {
        client.clock.begin();
        let wanted = client.open.worker.sink.wants_heads();
        client.open.worker.gauges.requests.fetch_add(1, Relaxed);
        Box::new(Self {
            client,
            method: head.method.clone(),
            host: head.headers.get(name::HOST).cloned(),
            target: head.uri.clone(),
            protocol: super::head::protocol(head.version),
            forwarded_for: None,
            heads: (wanted.request || wanted.answers).then(Box::default),
            reveal: false,
            started: SystemTime::now(),
            begun: Instant::now(),
            router: None,
            server: None,
            transfer: None,
            status: 0,
            origin_status: 0,
            sent: None,
            answered: None,
            reason: None,
            failure: None,
            response_bytes: 0,
            tunnel_bytes: 0,
            retries: 0,
        })
    }

    /// The head was checked: what of it the end needs.
    pub(super) fn checked(&mut self, headers: &Headers) {
        if self.client.trusted {
            self.forwarded_for = headers.get(&X_FORWARDED_FOR).filter(|value| !value.is_empty()).cloned();
        }
        let worker = &self.client.open.worker;
        self.reveal = failure::asks(worker.settings.reveal.as_deref(), self.client.peer.ip(), headers);
        if let Some(heads) = &mut self.heads
            && worker.sink.wants_heads().request
        {
            heads.request = Some(headers.clone());
        }
    }

    /// A server's answer came.
    pub(super) fn received(&mut self, headers: &Headers) {
        if self.wants_answers()
            && let Some(heads) = &mut self.heads
        {
            heads.origin = Some(headers.clone());
        }
    }

    /// The client is answered.
    pub(super) fn answers(&mut self, headers: &Headers) {
        if self.wants_answers()
            && let Some(heads) = &mut self.heads
        {
            heads.downstream = Some(headers.clone());
        }
    }

    fn wants_answers(&self) -> bool {
        self.heads.is_some() && self.client.open.worker.sink.wants_heads().answers
    }

    /// It broke off; what went wrong first stays.
    fn ended_by(&mut self, cause: Cause) {
        if self.reason.is_none() {
            self.reason = Some(cause.reason());
            self.failure = Some(cause.into());
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        if self.status == 0 {
            self.status = CLIENT_CLOSED_REQUEST;
            self.ended_by(Cause::ClientGone);
        }
        let worker = &self.client.open.worker;
        let unread = self.transfer.as_ref().is_some_and(|transfer| !transfer.ended.get());
        self.client.clock.end(unread);
        worker.gauges.requests.fetch_sub(1, Relaxed);
        let router = self.router.as_ref();
        let authority = self.target.authority().map(|authority| authority.as_str());
        let origin = self.sent.map(|sent| self.answered.unwrap_or_else(Instant::now).duration_since(sent));
        worker.sink.finished(&RequestRecord {
            entry_point: &self.client.open.entry.name,
            router: router.map(|bound| &bound.router.id),
            service: router.map(|bound| &bound.router.service.id),
            server: router.zip(self.server).map(|(bound, at)| &bound.router.service.servers[at].id.url),
            method: self.method.as_str(),
            host: authority.or(text(&self.host)).unwrap_or(""),
            target: self.target.path_and_query().map_or("", |target| target.as_str()),
            protocol: self.protocol,
            tls: self.client.tls_info,
            client: self.client.peer,
            forwarded_for: text(&self.forwarded_for),
            status: self.status,
            origin_status: self.origin_status,
            reason: self.reason,
            failure: self.failure,
            request_bytes: self.transfer.as_ref().map_or(0, |transfer| transfer.bytes.get()) + self.tunnel_bytes,
            response_bytes: self.response_bytes,
            started: self.started,
            duration: self.begun.elapsed(),
            origin_duration: origin.unwrap_or(Duration::ZERO),
            retries: self.retries,
            heads: self.heads.as_deref().map(|heads| heads as &dyn HeadView),
        });
    }
}

fn text(value: &Option<HeaderValue>) -> Option<&str> {
    value.as_ref().and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
}

/// A connection to a server that goes back to its pool when the answer has come to its end.
pub(super) struct Borrowed {
    pub(super) connection: Connection,
    pub(super) in_flight: InFlight,
}

/// An answer's body on its way to the client; carries the request to its end.
pub(super) struct AnswerBody {
    body: Body,
    finish: Option<Box<Finish>>,
    borrowed: Option<Borrowed>,
    ended: bool,
}

impl AnswerBody {
    /// A body that the proxy made.
    pub(super) fn made(body: Body, finish: Box<Finish>) -> Self {
        Self { body, finish: Some(finish), borrowed: None, ended: false }
    }

    /// A body that a server sends.
    pub(super) fn of_server(body: Body, finish: Box<Finish>, borrowed: Borrowed) -> Self {
        let mut this = Self { body, finish: Some(finish), borrowed: Some(borrowed), ended: false };
        if this.body.is_end_stream() {
            this.end();
        }
        this
    }

    /// None; the request goes on elsewhere.
    pub(super) fn none() -> Self {
        Self { body: Body::Empty, finish: None, borrowed: None, ended: true }
    }

    fn end(&mut self) {
        self.ended = true;
        let Some(borrowed) = self.borrowed.take() else { return };
        let Some(finish) = &mut self.finish else { return };
        finish.answered = Some(Instant::now());
        match finish.transfer.clone().filter(|transfer| !transfer.ended.get()) {
            None => borrowed.in_flight.pool().put(borrowed.connection, tokio::time::Instant::now()),
            Some(transfer) => {
                let patience = finish.client.open.entry.read_timeout;
                tokio::task::spawn_local(send_the_rest(borrowed, transfer, patience));
            }
        }
    }
}

/// Lets a request's body be sent to its end after the answer, as long as it moves: a server that
/// answers and reads no further would hold the client's connection for ever.
async fn send_the_rest(borrowed: Borrowed, transfer: Rc<Transfer>, patience: Duration) {
    while !patience.is_zero() && !transfer.ended.get() && transfer.failure.get().is_none() {
        let until = transfer.moved.get() + patience;
        if tokio::time::Instant::now() >= until {
            return borrowed.connection.close();
        }
        tokio::time::sleep_until(until).await;
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(finish)) = (frame.data_ref(), &mut this.finish) {
                    finish.response_bytes += data.len() as u64;
                }
                // Nothing comes after trailers, and the codec does not ask.
                if frame.is_trailers() || this.body.is_end_stream() {
                    this.end();
                }
            }
            Some(Err(_)) => {
                // Whether the connection can be used again is not known: it is dropped.
                this.ended = true;
                this.borrowed = None;
                if let Some(finish) = &mut this.finish {
                    finish.ended_by(Cause::ResetWithinAnswer);
                }
            }
            None => this.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // The codec takes no body for HEAD, 204 and 304, and stops at the announced length.
        if !self.ended
            && !self.body.is_end_stream()
            && !matches!(self.body, Body::Full(_))
            && let Some(finish) = &mut self.finish
        {
            finish.ended_by(Cause::ClientGone);
        }
    }
}
