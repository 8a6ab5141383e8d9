//! Connections that one worker keeps to servers.
//!
//! What always holds: a connection is given out when the codec is ready for a request on it, once
//! at a time, and the taker knows whether it was used before, since only then a failure before the
//! answer's first byte may mean that the server had closed it already.

use super::connect::{self, ConnectError, Meter, Metered};
use super::h2::{H2, H2Settings};
use super::resolve::Addresses;
use super::{Registry, ServerState, Settings};
use crate::http::{AnswerHead, Body, Headers, Method};
use crate::model::ServerId;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Over TLS.
    pub tls: bool,
    /// HTTP/2 without TLS, known to be spoken.
    pub h2c: bool,
    /// Address or name, without brackets.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
}

/// The pools of one worker.
#[derive(Debug)]
pub struct Pools {
    settings: Rc<Settings>,
    own: HashMap<Arc<str>, Rc<Settings>>,
    pools: RefCell<HashMap<ServerId, Rc<Pool>>>,
}

impl Pools {
    /// Without any connection.
    pub fn new(mut settings: Settings) -> Self {
        let own = std::mem::take(&mut settings.own).into_iter().map(|(service, own)| (service, Rc::new(own)));
        Self { own: own.collect(), settings: Rc::new(settings), pools: RefCell::default() }
    }

    /// The pool of a server, made if need be.
    pub fn get(&self, registry: &Registry, id: &ServerId, endpoint: &Endpoint) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        match pools.get(id) {
            Some(pool) if pool.server.endpoint == *endpoint => pool.clone(),
            _ => {
                let settings = self.own.get(&id.service).unwrap_or(&self.settings).clone();
                let pool = Rc::new(Pool::new(endpoint.clone(), registry.server(id), settings));
                pools.insert(id.clone(), pool.clone());
                pool
            }
        }
    }

    /// Closes connections that were unused for too long, and forgets servers that nobody names.
    pub fn sweep(&self, now: Instant) {
        self.pools.borrow_mut().retain(|_, pool| {
            let mut idle = pool.server.idle.borrow_mut();
            idle.retain(|kept| kept.is_usable(now, &pool.server.settings));
            pool.http2.sweep(now);
            Rc::strong_count(pool) > 1 || !idle.is_empty() || pool.http2.connections() > 0
        });
    }

    /// Unused connections; for tests and the API.
    pub fn idle(&self) -> usize {
        self.pools.borrow().values().map(|pool| pool.server.idle.borrow().len()).sum()
    }
}

/// One worker's connections to one server.
#[derive(Debug)]
pub struct Pool {
    server: Rc<Server>,
    http2: H2<Body>,
}

/// A server as its connections know it.
#[derive(Debug)]
struct Server {
    settings: Rc<Settings>,
    state: Arc<ServerState>,
    addresses: Rc<Addresses>,
    endpoint: Endpoint,
    idle: RefCell<Vec<Idle>>,
    /// Offered HTTP/2 over TLS, it chose HTTP/1.1.
    chose_http1: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Body>,
    driver: AbortHandle,
    meter: Arc<Meter>,
    since: Instant,
}

impl Idle {
    fn is_usable(&self, now: Instant, settings: &Settings) -> bool {
        !self.sender.is_closed()
            && (settings.idle_timeout.is_zero() || now.duration_since(self.since) < settings.idle_timeout)
    }
}

/// A request that a server works on; counted until it is dropped.
#[derive(Debug)]
pub struct InFlight(Rc<Pool>);

impl InFlight {
    /// The server's pool.
    pub fn pool(&self) -> &Pool {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state().request(-1);
    }
}

impl Pool {
    fn new(endpoint: Endpoint, state: Arc<ServerState>, settings: Rc<Settings>) -> Self {
        let limits = H2Settings {
            settings_timeout: settings.dial_timeout,
            idle_timeout: settings.idle_timeout,
            read_idle_timeout: settings.read_idle_timeout,
            ping_timeout: settings.ping_timeout,
            ..H2Settings::default()
        };
        let server = Rc::new(Server {
            addresses: Rc::new(Addresses::new(endpoint.host.clone(), endpoint.port)),
            settings,
            state,
            endpoint,
            idle: RefCell::default(),
            chose_http1: Cell::new(false),
        });
        let connecting = server.clone();
        let http2 = H2::new(limits, move || {
            let server = connecting.clone();
            async move { server.connect_http2().await }
        });
        Self { server, http2 }
    }

    /// The HTTP/2 connections, where requests go over these. A request that wants to switch protocols does not.
    pub fn http2(&self, switches: bool) -> Option<&H2<Body>> {
        let Server { endpoint, settings, chose_http1, .. } = &*self.server;
        let offered = endpoint.tls && !settings.disable_http2 && !chose_http1.get() && !switches;
        (endpoint.h2c || offered).then_some(&self.http2)
    }

    /// What `:scheme` says to it.
    pub fn scheme(&self) -> &'static str {
        if self.server.endpoint.tls { "https" } else { "http" }
    }

    /// Counts a request.
    pub fn enter(self: &Rc<Self>) -> InFlight {
        self.state().request(1);
        InFlight(self.clone())
    }

    /// How the server is reached.
    pub fn settings(&self) -> &Settings {
        &self.server.settings
    }

    /// The server's shared state.
    pub fn state(&self) -> &Arc<ServerState> {
        &self.server.state
    }

    /// The connection that was used last, if it is still good.
    pub fn take(&self, now: Instant) -> Option<Connection> {
        let mut idle = self.server.idle.borrow_mut();
        for at in (0..idle.len()).rev() {
            if !idle[at].is_usable(now, &self.server.settings) {
                idle.swap_remove(at);
            } else if idle[at].sender.is_ready() {
                let Idle { sender, driver, meter, .. } = idle.swap_remove(at);
                return Some(Connection { sender, driver, meter, reused: true });
            }
        }
        None
    }

    /// Keeps a connection whose answer came to its end.
    pub fn put(&self, connection: Connection, now: Instant) {
        self.server.put(connection, now);
    }

    /// Makes a connection.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let Server { endpoint, addresses, settings, .. } = &*self.server;
        let stream = connect::connect(endpoint, addresses, settings, &[]).await?;
        self.server.http1(stream).await
    }
}

impl Server {
    fn put(&self, connection: Connection, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if connection.sender.is_closed() || idle.len() >= self.settings.max_idle {
            return;
        }
        let Connection { sender, driver, meter, .. } = connection;
        idle.push(Idle { sender, driver, meter, since: now });
    }

    /// A stream for HTTP/2. A server that chose HTTP/1.1 has an unused connection from then on.
    async fn connect_http2(&self) -> Result<Counted, ConnectError> {
        let alpn: &[&[u8]] = if self.endpoint.tls { &[b"h2", b"http/1.1"] } else { &[] };
        let stream = connect::connect(&self.endpoint, &self.addresses, &self.settings, alpn).await?;
        if self.endpoint.tls && !stream.chose_http2() {
            self.chose_http1.set(true);
            let connection = self.http1(stream).await?;
            self.put(connection, Instant::now());
            return Err(ConnectError::ChoseHttp1);
        }
        Ok(Counted { stream, _open: OpenConnection::new(self.state.clone()) })
    }

    async fn http1(&self, stream: Metered) -> Result<Connection, ConnectError> {
        let meter = stream.meter.clone();
        let (sender, driver) = Builder::new()
            .writev(false)
            .title_case_headers(true)
            .handshake::<_, Body>(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Failed(std::io::Error::other(error)))?;
        let open = OpenConnection::new(self.state.clone());
        let driver = tokio::task::spawn_local(async move {
            let _open = open;
            // Its errors reach the request that they concern; an unused connection may end as it likes.
            let _ = driver.with_upgrades().await;
        });
        Ok(Connection { sender, driver: driver.abort_handle(), meter, reused: false })
    }
}

/// A connection that counts as open.
struct Counted {
    stream: Metered,
    _open: OpenConnection,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

struct OpenConnection(Arc<ServerState>);

impl OpenConnection {
    fn new(state: Arc<ServerState>) -> Self {
        state.connection(1);
        Self(state)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connection(-1);
    }
}

/// A connection in the hands of one request.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Body>,
    driver: AbortHandle,
    meter: Arc<Meter>,
    reused: bool,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// Head.
    pub head: AnswerHead,
    /// Body, still to come.
    pub body: Body,
    /// The raw connection once it switched protocols (101).
    pub upgrade: Option<OnUpgrade>,
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection was closed before anything was sent; the body is untouched.
    #[error("the connection was closed already")]
    Unsent(Body),
    /// The connection ended without a byte of an answer.
    #[error("the server closed without an answer: {0}")]
    Silent(hyper::Error),
    /// What came is not an answer, or broke off within its head.
    #[error("the answer is not HTTP: {0}")]
    Malformed(hyper::Error),
    /// The request's own body failed.
    #[error("the request's body failed: {0}")]
    Body(hyper::Error),
}

impl Connection {
    /// Closes it, whatever is still being sent on it. Dropping it lets a request's body be sent to its end.
    pub fn close(self) {
        self.driver.abort();
    }

    /// Whether an earlier request was sent on it.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(
        &mut self,
        method: Method,
        uri: ::http::Uri,
        headers: Headers,
        body: Body,
    ) -> Result<Answer, SendError> {
        let mut request = ::http::Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers.into_map();
        let before = self.meter.read();
        match self.sender.try_send_request(request).await {
            Ok(mut response) => {
                let upgrade = (response.status() == ::http::StatusCode::SWITCHING_PROTOCOLS)
                    .then(|| hyper::upgrade::on(&mut response));
                let (parts, incoming) = response.into_parts();
                let head = AnswerHead { status: parts.status, headers: Headers::from_map(parts.headers) };
                Ok(Answer { head, body: Body::from_incoming(incoming), upgrade })
            }
            Err(mut error) => match error.take_message() {
                Some(request) => Err(SendError::Unsent(request.into_body())),
                None => {
                    let error = error.into_error();
                    Err(if error.is_user() {
                        SendError::Body(error)
                    } else if self.meter.read() == before {
                        SendError::Silent(error)
                    } else {
                        SendError::Malformed(error)
                    })
                }
            },
        }
    }
}
