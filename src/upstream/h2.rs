//! HTTP/2 towards one server, for one worker: few connections that many requests share.
//!
//! What always holds: a connection is handed to requests only after the server's SETTINGS came, so
//! that a server which speaks something else is a failed *connect* and no request was lost on it; at
//! most one connection is being made at a time, the others wait for it; no connection carries more
//! streams than the server allows (RFC 9113, 5.1.2); none is used after its GOAWAY. What a request
//! becomes is told exactly: a stream that the server did not process (RFC 9113, 8.7) may be repeated
//! whatever its method is, if its body can be said again ([`Repeatable::rewind`]).
//!
//! Everything lives on one thread; tasks are spawned with `spawn_local`.

mod body;
mod error;
mod link;
#[cfg(test)]
mod tests;

pub use body::Repeatable;
pub use error::H2Error;

use super::ConnectError;
use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use link::{Link, Slot};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Limits of HTTP/2 connections to servers.
#[derive(Debug, Clone)]
pub struct H2Settings {
    /// How long the server's SETTINGS may take once the connection is made; zero means for ever.
    pub settings_timeout: Duration,
    /// How long a connection is kept without a request; zero means for ever.
    pub idle_timeout: Duration,
    /// Silence after which the server is asked with a PING whether it is there (Traefik's
    /// `readIdleTimeout`); zero means never.
    pub read_idle_timeout: Duration,
    /// How long it has to answer that (Traefik's `pingTimeout`).
    pub ping_timeout: Duration,
    /// Bytes of an answer's head, as RFC 9113, 6.5.2 counts them; more is refused.
    pub max_header_bytes: u32,
}

impl Default for H2Settings {
    fn default() -> Self {
        Self {
            settings_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(90),
            read_idle_timeout: Duration::ZERO,
            ping_timeout: Duration::from_secs(15),
            max_header_bytes: 256 * 1_024,
        }
    }
}

/// What connections to one server run over, once it is connected.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Transport for T {}

type Connecting<B> = Pin<Box<dyn Future<Output = Result<Rc<Link<B>>, ConnectError>>>>;

/// The HTTP/2 connections of one worker to one server. Requests have bodies of type `B`.
pub struct H2<B: Body + 'static> {
    shared: Rc<Shared<B>>,
}

struct Shared<B: Body + 'static> {
    connect: Box<dyn Fn() -> Connecting<B>>,
    idle_timeout: Duration,
    links: RefCell<Vec<Rc<Link<B>>>>,
    /// The connection that is being made.
    attempt: RefCell<Option<Rc<Making>>>,
}

/// A connection on its way, for all who wait for it.
#[derive(Default)]
struct Making {
    result: RefCell<Option<Result<(), Rc<ConnectError>>>>,
    done: Notify,
}

impl Making {
    async fn result(&self) -> Result<(), Rc<ConnectError>> {
        loop {
            let done = self.done.notified();
            if let Some(result) = &*self.result.borrow() {
                return result.clone();
            }
            done.await;
        }
    }

    fn end(&self, result: Result<(), Rc<ConnectError>>) {
        *self.result.borrow_mut() = Some(result);
        self.done.notify_waiters();
    }
}

/// A stream whose answer has begun. Dropping it cancels what is still being sent of the request; the
/// answer's body, when dropped early, cancels the rest (RST_STREAM with CANCEL). A piece of the request that
/// waits for the server's window keeps the stream until there is room: hyper looks at the body only then.
pub struct H2Stream<B: Body> {
    _slot: Rc<Slot>,
    upload: Repeatable<B>,
    finished: bool,
}

impl<B: Body> H2Stream<B> {
    /// The answer's body has come to its end: what is left of the request's may still be sent.
    pub fn finish(mut self) {
        self.finished = true;
    }
}

impl<B: Body> Drop for H2Stream<B> {
    fn drop(&mut self) {
        if !self.finished {
            self.upload.cancel();
        }
    }
}

impl<B> H2<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    /// Without any connection. `connect` gives a connected stream over which HTTP/2 may be spoken at
    /// once (prior knowledge, or `h2` agreed on by ALPN); it keeps its own time-out.
    pub fn new<S, F>(settings: H2Settings, connect: impl Fn() -> F + 'static) -> Self
    where
        S: Transport,
        F: Future<Output = Result<S, ConnectError>> + 'static,
    {
        let idle_timeout = settings.idle_timeout;
        let connect = Box::new(move || -> Connecting<B> {
            let (stream, settings) = (connect(), settings.clone());
            Box::pin(async move { link::open(stream.await?, &settings).await })
        });
        let (links, attempt) = (RefCell::default(), RefCell::default());
        Self { shared: Rc::new(Shared { connect, idle_timeout, links, attempt }) }
    }

    /// Sends a request and waits for the head of its answer. Dropping the future cancels the stream.
    ///
    /// The request has an absolute URI (`:scheme`, `:authority`, `:path` come of it) and no fields
    /// that concern one connection; `body` stays the caller's, who may [`Repeatable::rewind`] it.
    ///
    /// # Errors
    /// See [`H2Error`].
    pub async fn send(
        &self,
        head: http::request::Parts,
        body: &Repeatable<B>,
    ) -> Result<(http::Response<Incoming>, H2Stream<B>), H2Error> {
        let mut request = http::Request::from_parts(head, ());
        loop {
            let (link, slot) = self.reserve().await?;
            let (head, ()) = request.into_parts();
            // Cancels when this future is dropped.
            let stream = H2Stream { _slot: slot.clone(), upload: body.clone(), finished: false };
            let sent = http::Request::from_parts(head, body.attempt(slot));
            match link.sender().try_send_request(sent).await {
                Ok(response) => {
                    body.forget();
                    return Ok((response, stream));
                }
                Err(mut error) => match error.take_message() {
                    // The connection had ended or said GOAWAY; it never saw the request.
                    Some(unsent) => {
                        link.retire();
                        let (head, _attempt) = unsent.into_parts();
                        if !body.rewind() {
                            return Err(H2Error::NotProcessed(error.into_error()));
                        }
                        stream.finish();
                        request = http::Request::from_parts(head, ());
                    }
                    None => {
                        let error = H2Error::of(error.into_error());
                        if error.ends_connection() {
                            link.retire();
                        }
                        return Err(error);
                    }
                },
            }
        }
    }

    /// Waits until there is a connection, made if need be, so that what [`Self::send`] takes is the server's time.
    ///
    /// # Errors
    /// [`H2Error::Connect`].
    pub async fn ready(&self) -> Result<(), H2Error> {
        self.reserve().await.map(drop)
    }

    /// A place for one more stream on a connection, made if need be.
    async fn reserve(&self) -> Result<(Rc<Link<B>>, Rc<Slot>), H2Error> {
        loop {
            if let Some(reserved) = self.take() {
                return Ok(reserved);
            }
            let making = self.shared.attempt.borrow().clone();
            let making = making.unwrap_or_else(|| self.make());
            making.result().await.map_err(H2Error::Connect)?;
        }
    }

    /// A connection with room, the fullest first, so that the others fall idle and go.
    fn take(&self) -> Option<(Rc<Link<B>>, Rc<Slot>)> {
        let mut links = self.shared.links.borrow_mut();
        links.retain(|link| !link.has_ended());
        let link = links.iter().filter(|link| link.has_room()).max_by_key(|link| link.streams())?;
        Some((link.clone(), link.enter()))
    }

    /// Begins to make a connection, in a task of its own: it goes on if who asked for it goes away.
    fn make(&self) -> Rc<Making> {
        let making = Rc::new(Making::default());
        *self.shared.attempt.borrow_mut() = Some(making.clone());
        let connecting = (self.shared.connect)();
        let (weak, told) = (Rc::downgrade(&self.shared), making.clone());
        tokio::task::spawn_local(async move {
            let result = connecting.await;
            let Some(shared) = weak.upgrade() else { return };
            shared.attempt.borrow_mut().take();
            let result = match result {
                // More of them would not help, either.
                Ok(link) if !link.has_room() => Err(Rc::new(ConnectError::NoStreams)),
                Ok(link) => {
                    shared.links.borrow_mut().push(link);
                    Ok(())
                }
                Err(error) => Err(Rc::new(error)),
            };
            told.end(result);
        });
        making
    }

    /// Closes connections that were unused for too long, and forgets those that ended.
    pub fn sweep(&self, now: Instant) {
        let limit = self.shared.idle_timeout;
        self.shared.links.borrow_mut().retain(|link| !link.has_ended() && !link.is_idle(now, limit));
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.shared.links.borrow().iter().filter(|link| !link.has_ended()).count()
    }

    /// Requests on their way.
    pub fn streams(&self) -> usize {
        self.shared.links.borrow().iter().map(|link| link.streams()).sum()
    }
}

impl<B: Body> std::fmt::Debug for H2<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H2").field("connections", &self.shared.links.borrow().len()).finish_non_exhaustive()
    }
}

impl<B: Body> std::fmt::Debug for H2Stream<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H2Stream").finish_non_exhaustive()
    }
}
