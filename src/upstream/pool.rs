//! Connections that one worker keeps to servers. Servers of several services that are one address, reached in one way,
//! share those that are unused, as in Traefik.
//!
//! What always holds: a connection belongs to one request at a time, or to nobody; one that is kept has
//! nothing unread on it and holds no buffer. The taker knows whether it was used before, since only then a
//! failure before the answer's first byte may mean that the server had closed it already.

use super::connect::{self, Alpn, ConnectError};
use super::h2::{H2, H2Settings};
use super::resolve::Addresses;
use super::stream::Stream;
use super::{Proxied, Registry, ServerState, Settings, Transports};
use crate::http::Body;
use crate::model::ServerId;
use crate::table::{Service, Transport};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long an unused connection beyond the limit of unused ones is kept.
const BURST: Duration = Duration::from_secs(1);
/// Unused connections to one server, however short their rest.
const MAX_BURST: usize = 4_096;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    transports: Transports,
    pools: RefCell<HashMap<ServerId, Rc<Pool>>>,
    // By where they lead, and the address of how, which they keep alive.
    unused: RefCell<HashMap<(Endpoint, *const Settings), Rc<Unused>>>,
}

impl Pools {
    /// Without any connection.
    pub fn new(transports: Transports) -> Self {
        Self { transports, pools: RefCell::default(), unused: RefCell::default() }
    }

    /// How the servers of a service are reached.
    pub fn settings(&self, service: &Service) -> Arc<Settings> {
        self.transports.of(service)
    }

    /// How servers are reached by a transport.
    pub fn settings_of(&self, transport: &Arc<Transport>) -> Arc<Settings> {
        self.transports.named(transport)
    }

    /// The pool of a server, made if need be. One that is reached in another way than before gets a new one; requests
    /// in flight finish on the old one.
    pub fn get(&self, registry: &Registry, id: &ServerId, endpoint: &Endpoint, settings: &Arc<Settings>) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        match pools.get(id) {
            Some(pool) if pool.endpoint == *endpoint && Arc::ptr_eq(&pool.settings, settings) => {
                pool.state.back();
                pool.clone()
            }
            _ => {
                let mut unused = self.unused.borrow_mut();
                let unused = unused.entry((endpoint.clone(), Arc::as_ptr(settings)));
                let unused = unused.or_insert_with(|| Rc::new(Unused::new(settings.clone()))).clone();
                let pool = Rc::new_cyclic(|own| Pool {
                    settings: settings.clone(),
                    state: registry.server(id),
                    addresses: Rc::new(Addresses::new(endpoint.host.clone(), endpoint.port)),
                    endpoint: endpoint.clone(),
                    unused,
                    chose_http1: Cell::new(false),
                    http2: http2(own, settings),
                });
                pool.state.back();
                pools.insert(id.clone(), pool.clone());
                pool
            }
        }
    }

    /// Closes connections that were unused for too long, and forgets servers that nobody names.
    pub fn sweep(&self, now: Instant) {
        self.pools.borrow_mut().retain(|_, pool| {
            pool.http2.sweep(now);
            Rc::strong_count(pool) > 1 || pool.http2.connections() > 0
        });
        self.unused.borrow_mut().retain(|_, unused| unused.sweep(now) || Rc::strong_count(unused) > 1);
    }

    /// Unused connections; for tests and the API.
    pub fn idle(&self) -> usize {
        self.unused.borrow().values().map(|unused| unused.idle.borrow().len()).sum()
    }
}

/// One worker's connections to one server.
#[derive(Debug)]
pub struct Pool {
    settings: Arc<Settings>,
    state: Arc<ServerState>,
    addresses: Rc<Addresses>,
    endpoint: Endpoint,
    unused: Rc<Unused>,
    /// Offered HTTP/2 over TLS, it chose HTTP/1.1.
    chose_http1: Cell<bool>,
    http2: H2<Body>,
}

/// The HTTP/2 connections of a pool, none of which is made yet.
fn http2(pool: &Weak<Pool>, settings: &Settings) -> H2<Body> {
    let limits = H2Settings {
        settings_timeout: settings.dial_timeout,
        idle_timeout: settings.idle_timeout,
        read_idle_timeout: settings.read_idle_timeout,
        ping_timeout: settings.ping_timeout,
        ..H2Settings::default()
    };
    let pool = pool.clone();
    H2::new(limits, move || {
        let pool = pool.upgrade();
        async move {
            match pool {
                Some(pool) => pool.connect_http2().await,
                None => Err(ConnectError::NoStreams),
            }
        }
    })
}

/// Unused connections that lead to one place in one way.
#[derive(Debug)]
struct Unused {
    settings: Arc<Settings>,
    idle: RefCell<Vec<Idle>>,
}

impl Unused {
    fn new(settings: Arc<Settings>) -> Self {
        Self { settings, idle: RefCell::default() }
    }

    /// The one that was used last, if it is still good.
    fn take(&self, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut kept) = idle.pop() {
            if kept.is_fresh(now, &self.settings) && kept.connection.is_silent() {
                kept.connection.reused = true;
                return Some(kept.connection);
            }
        }
        None
    }

    /// More than the limit are kept for a moment: as many requests at once would otherwise make and close connections
    /// all the time.
    fn put(&self, connection: Connection, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.settings.max_idle || (self.settings.max_idle > 0 && idle.len() < MAX_BURST) {
            idle.push(Idle { connection, since: now });
        }
    }

    /// Closes what was unused for too long, or exceeds the limit and was not used for a moment. The one that was used
    /// last is taken first, so that those are the first in the list. Tells whether any is left.
    fn sweep(&self, now: Instant) -> bool {
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|kept| kept.is_fresh(now, &self.settings) && kept.connection.is_silent());
        let over = idle.len().saturating_sub(self.settings.max_idle);
        let rested = idle.iter().take(over).take_while(|kept| now.duration_since(kept.since) >= BURST).count();
        idle.drain(..rested);
        !idle.is_empty()
    }
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Idle {
    fn is_fresh(&self, now: Instant, settings: &Settings) -> bool {
        settings.idle_timeout.is_zero() || now.duration_since(self.since) < settings.idle_timeout
    }
}

/// A request that a server works on; counted until it is dropped.
#[derive(Debug)]
pub struct InFlight(Rc<Pool>);

impl InFlight {
    /// The server's pool.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state.request_ended();
    }
}

impl Pool {
    /// Counts a request.
    pub fn enter(self: &Rc<Self>) -> InFlight {
        self.state.request(1);
        InFlight(self.clone())
    }

    /// Counts a request, unless the server works on `most` already, whoever's they are.
    pub fn enter_below(self: &Rc<Self>, most: u32) -> Option<InFlight> {
        self.state.request_below(most).then(|| InFlight(self.clone()))
    }

    /// How the server is reached.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The server's shared state.
    pub fn state(&self) -> &Arc<ServerState> {
        &self.state
    }

    /// The connection that was used last, if it is still good.
    pub fn take(&self, now: Instant) -> Option<Connection> {
        let mut connection = self.unused.take(now)?;
        connection.open.belongs_to(&self.state);
        Some(connection)
    }

    /// Keeps a connection on which request and answer came to their ends.
    pub fn put(&self, connection: Connection, now: Instant) {
        self.unused.put(connection, now);
    }

    /// Makes a connection; `client` is told to the server where the transport says so.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, client: Option<Proxied>) -> Result<Connection, ConnectError> {
        let dialed = connect::connect(&self.endpoint, &self.addresses, &self.settings, client, &[]).await?;
        Ok(self.connection(dialed.stream))
    }

    fn connection(&self, stream: Stream) -> Connection {
        Connection { stream, reused: false, open: OpenConnection::new(self.state.clone()) }
    }

    /// The HTTP/2 connections, where requests go over these. A request that wants to switch protocols does not.
    pub fn http2(&self, switches: bool) -> Option<&H2<Body>> {
        let Self { endpoint, settings, chose_http1, http2, .. } = self;
        // A connection that names one client is not for others.
        let shared = settings.proxy_protocol.is_none();
        let offered = endpoint.tls && settings.http2 && shared && !chose_http1.get() && !switches;
        (endpoint.h2c || offered).then_some(http2)
    }

    /// What `:scheme` says to the server.
    pub fn scheme(&self) -> &'static str {
        if self.endpoint.tls { "https" } else { "http" }
    }

    /// A stream for HTTP/2. A server that chose HTTP/1.1 has an unused connection from then on.
    async fn connect_http2(&self) -> Result<Connection, ConnectError> {
        let offered: &[&[u8]] = if self.endpoint.tls { &[b"h2", b"http/1.1"] } else { &[] };
        let dialed = connect::connect(&self.endpoint, &self.addresses, &self.settings, None, offered).await?;
        let connection = self.connection(dialed.stream);
        if self.endpoint.tls && dialed.alpn != Alpn::Http2 {
            self.chose_http1.set(true);
            self.put(connection, Instant::now());
            return Err(ConnectError::ChoseHttp1);
        }
        Ok(connection)
    }
}

#[derive(Debug)]
struct OpenConnection(Arc<ServerState>);

impl OpenConnection {
    fn new(state: Arc<ServerState>) -> Self {
        state.connection(1);
        Self(state)
    }

    /// Counts it as another server's, if it is one.
    fn belongs_to(&mut self, state: &Arc<ServerState>) {
        if !Arc::ptr_eq(&self.0, state) {
            *self = Self::new(state.clone());
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connection(-1);
    }
}

/// A connection to a server. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    /// Its bytes.
    pub stream: Stream,
    reused: bool,
    open: OpenConnection,
}

impl Connection {
    /// Whether an earlier request was sent on it.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Whether the server has said nothing on it, not even that it ends. What comes before anything was asked
    /// is no answer. The kernel is asked itself: what the runtime knows of it may be older than the request.
    fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        // Not by the budget of the task, which would say that nothing has come.
        let look = std::future::poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
        std::pin::pin!(tokio::task::coop::unconstrained(look)).poll(&mut cx).is_pending() && self.stream.has_nothing()
    }
}

/// For HTTP/2, which has what it says and hears framed by somebody else.
impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
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
