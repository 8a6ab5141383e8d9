//! *Finish*: what is known of a request, gathered on its way and handed to the sink when it has
//! ended, whatever ended it.

use super::connection::Client;
use super::routes::BoundRouter;
use crate::http::{Body, BodyError, HeaderValue, Made, Method, Protocol, Reason, StatusCode, Transfer, name};
use crate::observe::record::RequestRecord;
use crate::upstream::{Connection, H2Stream, InFlight};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

/// Status that stands in the record where the client went before an answer (nginx's and Traefik's).
const CLIENT_CLOSED: u16 = 499;

/// What is answered to a client that went away; it stands in the record.
pub(super) fn client_gone() -> Made {
    let status = StatusCode::from_u16(CLIENT_CLOSED).unwrap_or(StatusCode::BAD_REQUEST);
    Made::new(status, "", Reason::ClientGone).closing()
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
        tls: client.tls,
        client: client.peer,
        status: status.as_u16(),
        origin_status: 0,
        reason: Some(reason),
        request_bytes: 0,
        response_bytes: 0,
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
    client: Rc<Client>,
    method: Method,
    host: Option<HeaderValue>,
    target: ::http::Uri,
    protocol: Protocol,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
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
        client.open.worker.gauges.requests.fetch_add(1, Relaxed);
        Box::new(Self {
            client,
            method: head.method.clone(),
            host: head.headers.get(name::HOST).cloned(),
            target: head.uri.clone(),
            protocol: super::head::protocol(head.version),
            user_agent: head.headers.get(name::USER_AGENT).cloned(),
            referer: head.headers.get(name::REFERER).cloned(),
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
            response_bytes: 0,
            tunnel_bytes: 0,
            retries: 0,
        })
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let worker = &self.client.open.worker;
        let unread = self.transfer.as_ref().is_some_and(|transfer| !transfer.ended.get());
        self.client.clock.end(unread);
        worker.gauges.requests.fetch_sub(1, Relaxed);
        if self.status == 0 {
            self.status = CLIENT_CLOSED;
            self.client.given_up();
            self.reason = self.reason.or(Some(Reason::ClientGone));
        }
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
            tls: self.client.tls,
            client: self.client.peer,
            status: self.status,
            origin_status: self.origin_status,
            reason: self.reason,
            request_bytes: self.transfer.as_ref().map_or(0, |transfer| transfer.bytes.get()) + self.tunnel_bytes,
            response_bytes: self.response_bytes,
            started: self.started,
            duration: self.begun.elapsed(),
            origin_duration: origin.unwrap_or(Duration::ZERO),
            retries: self.retries,
            user_agent: text(&self.user_agent),
            referer: text(&self.referer),
        });
    }
}

fn text(value: &Option<HeaderValue>) -> Option<&str> {
    value.as_ref().and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
}

/// A connection to a server that goes back to its pool when the answer has come to its end.
pub(super) struct Borrowed {
    pub(super) way: Way,
    pub(super) in_flight: InFlight,
}

/// What an answer comes by.
pub(super) enum Way {
    /// A connection of its own, which goes back to the pool when the answer has come to its end.
    Http1(Connection),
    /// A stream of a shared connection.
    Http2(H2Stream<Body>),
}

impl Borrowed {
    /// The answer and the request have come to their ends.
    fn done(self) {
        match self.way {
            Way::Http1(connection) => self.in_flight.pool().put(connection, tokio::time::Instant::now()),
            Way::Http2(stream) => stream.finish(),
        }
    }

    /// Ends what is still being sent.
    fn close(self) {
        match self.way {
            Way::Http1(connection) => connection.close(),
            Way::Http2(stream) => drop(stream),
        }
    }
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
            None => borrowed.done(),
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
            return borrowed.close();
        }
        tokio::time::sleep_until(until).await;
    }
    // What was taken of the body may still be on its way.
    if let Way::Http2(stream) = borrowed.way {
        stream.finish();
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
                    finish.reason = finish.reason.or(Some(Reason::AnswerCut));
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
            finish.reason = finish.reason.or(Some(Reason::ClientGone));
        }
    }
}
