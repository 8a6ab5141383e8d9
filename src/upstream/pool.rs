//! Connections that one worker keeps to servers.
//!
//! What always holds: a connection is given out when the codec is ready for a request on it, once
//! at a time, and the taker knows whether it was used before, since only then a failure before the
//! answer's first byte may mean that the server had closed it already.

use super::connect::{self, Alpn, ConnectError, Meter};
use super::resolve::Addresses;
use super::{Proxied, Registry, ServerState, Settings, Transports};
use crate::http::{AnswerHead, Body, Headers, Method};
use crate::model::ServerId;
use crate::table::Service;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Over TLS.
    pub tls: bool,
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
}

impl Pools {
    /// Without any connection.
    pub fn new(transports: Transports) -> Self {
        Self { transports, pools: RefCell::default() }
    }

    /// How the servers of a service are reached.
    pub fn settings(&self, service: &Service) -> Arc<Settings> {
        self.transports.of(service)
    }

    /// The pool of a server, made if need be. One that is reached in another way than before gets a new one; requests
    /// in flight finish on the old one.
    pub fn get(&self, registry: &Registry, id: &ServerId, endpoint: &Endpoint, settings: &Arc<Settings>) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        match pools.get(id) {
            Some(pool) if pool.endpoint == *endpoint && Arc::ptr_eq(&pool.settings, settings) => pool.clone(),
            _ => {
                let pool = Rc::new(Pool {
                    settings: settings.clone(),
                    state: registry.server(id),
                    addresses: Rc::new(Addresses::new(endpoint.host.clone(), endpoint.port)),
                    endpoint: endpoint.clone(),
                    idle: RefCell::default(),
                });
                pools.insert(id.clone(), pool.clone());
                pool
            }
        }
    }

    /// Closes connections that were unused for too long, and forgets servers that nobody names.
    pub fn sweep(&self, now: Instant) {
        self.pools.borrow_mut().retain(|_, pool| {
            let mut idle = pool.idle.borrow_mut();
            idle.retain(|kept| kept.is_usable(now, &pool.settings));
            Rc::strong_count(pool) > 1 || !idle.is_empty()
        });
    }

    /// Unused connections; for tests and the API.
    pub fn idle(&self) -> usize {
        self.pools.borrow().values().map(|pool| pool.idle.borrow().len()).sum()
    }
}

/// One worker's connections to one server.
#[derive(Debug)]
pub struct Pool {
    settings: Arc<Settings>,
    state: Arc<ServerState>,
    addresses: Rc<Addresses>,
    endpoint: Endpoint,
    idle: RefCell<Vec<Idle>>,
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
        self.0.state.request(-1);
    }
}

impl Pool {
    /// Counts a request.
    pub fn enter(self: &Rc<Self>) -> InFlight {
        self.state.request(1);
        InFlight(self.clone())
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
        let mut idle = self.idle.borrow_mut();
        for at in (0..idle.len()).rev() {
            if !idle[at].is_usable(now, &self.settings) {
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
        let mut idle = self.idle.borrow_mut();
        if connection.sender.is_closed() || idle.len() >= self.settings.max_idle {
            return;
        }
        let Connection { sender, driver, meter, .. } = connection;
        idle.push(Idle { sender, driver, meter, since: now });
    }

    /// Makes a connection; `client` is told to the server where the transport says so.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, client: Option<Proxied>) -> Result<Connection, ConnectError> {
        let dialed = connect::connect(&self.endpoint, &self.addresses, &self.settings, client).await?;
        if dialed.alpn != Alpn::Http11 {
            // Only what is offered is chosen, and HTTP/2 is not offered.
            return Err(ConnectError::Failed(std::io::Error::other("the server chose HTTP/2")));
        }
        let stream = dialed.stream;
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
