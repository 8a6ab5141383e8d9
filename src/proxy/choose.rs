//! *Choose* and *connect*: a connection to one of a service's servers.
//!
//! What always holds: a server that cannot be reached is tried once, then the next one is; all
//! tries together cost no more time than one server's dial time-out and one try.

use super::client::Client;
use super::failure;
use super::finish::Finish;
use super::routes::BoundService;
use crate::http::{Cause, Failure, Made};
use crate::upstream::{ConnectError, Connection, InFlight, Pool};
use smallvec::SmallVec;
use std::net::IpAddr;
use tokio::time::Instant;

/// The choices of one request.
pub(super) struct Choice<'a> {
    service: &'a BoundService,
    peer: IpAddr,
    begun: Instant,
    tried: SmallVec<[usize; 4]>,
    last: Failure,
}

/// The way to a chosen server.
pub(super) enum Chosen {
    /// A connection of its own.
    Http1(Leased),
    /// A stream of a connection that requests share, to be asked for.
    Http2(Taken),
}

/// A chosen server, and the request counted there.
pub(super) struct Taken {
    pub(super) at: usize,
    pub(super) in_flight: InFlight,
}

/// A connection to a chosen server, and the request counted there.
pub(super) struct Leased {
    pub(super) at: usize,
    pub(super) connection: Connection,
    pub(super) in_flight: InFlight,
}

impl<'a> Choice<'a> {
    pub(super) fn new(service: &'a BoundService, peer: IpAddr, begun: std::time::Instant) -> Self {
        let last = Cause::NotConnected.into();
        Self { service, peer, begun: begun.into(), tried: SmallVec::new(), last }
    }

    /// The next server and the way to it. A request that `switches` protocols goes over HTTP/1.1.
    ///
    /// # Errors
    /// The answer when none is left.
    pub(super) async fn next(&mut self, client: &Client, finish: &Finish, switches: bool) -> Result<Chosen, Made> {
        loop {
            let taken = self.server(client)?;
            finish.server.set(Some(taken.at));
            if taken.in_flight.pool().http2(switches).is_some() {
                return Ok(Chosen::Http2(taken));
            }
            if let Some(leased) = self.http1(client, finish, taken).await {
                return Ok(Chosen::Http1(leased));
            }
        }
    }

    /// A connection of HTTP/1.1 to a server that was chosen; `None` if it cannot be reached.
    pub(super) async fn http1(&mut self, client: &Client, finish: &Finish, taken: Taken) -> Option<Leased> {
        let Taken { at, in_flight } = taken;
        if let Some(connection) = in_flight.pool().take(self.begun) {
            return Some(Leased { at, connection, in_flight });
        }
        match Box::pin(connect(client, in_flight.pool())).await {
            Ok(connection) => Some(Leased { at, connection, in_flight }),
            Err(error) => {
                self.failed(at, failure::connect(&error));
                finish.again();
                None
            }
        }
    }

    /// A fresh connection to a server that was chosen before, or else the next one.
    ///
    /// # Errors
    /// The answer when none is left.
    pub(super) async fn fresh(
        &mut self,
        client: &Client,
        finish: &Finish,
        at: usize,
        switches: bool,
    ) -> Result<Chosen, Made> {
        finish.again();
        if let Some(server) = self.service.servers.get(at) {
            let in_flight = server.pool.enter();
            match connect(client, &server.pool).await {
                Ok(connection) => return Ok(Chosen::Http1(Leased { at, connection, in_flight })),
                Err(error) => self.failed(at, failure::connect(&error)),
            }
        }
        self.next(client, finish, switches).await
    }

    /// A server took the connection and gave it up before anything could be sent, or could not be reached.
    pub(super) fn failed(&mut self, at: usize, why: Failure) {
        self.tried.push(at);
        self.last = why;
    }

    /// All servers may be tried again. Gives how many were.
    pub(super) fn forget(&mut self) -> usize {
        let tried = self.tried.len();
        self.tried.clear();
        tried
    }

    /// Another server is to be tried in place of this one, if there is one.
    pub(super) fn another(&mut self, at: usize) {
        self.tried.push(at);
        if self.tried.len() >= self.service.servers.len() {
            self.tried.clear();
        }
    }

    fn server(&mut self, client: &Client) -> Result<Taken, Made> {
        let registry = &client.open.worker.registry;
        let chosen = self.service.choose(self.peer, &self.tried, registry);
        let server = chosen.and_then(|at| self.service.servers.get(at).map(|server| (at, server)));
        let Some((at, server)) = server else { return Err(Made::failed(self.last)) };
        // Servers that do not answer the knock may not cost more than one's time-out together.
        let patience = server.pool.settings().dial_timeout;
        if !self.tried.is_empty() && !patience.is_zero() && self.begun.elapsed() >= patience {
            return Err(Made::failed(self.last));
        }
        Ok(Taken { at, in_flight: server.pool.enter() })
    }
}

async fn connect(client: &Client, pool: &Pool) -> Result<Connection, ConnectError> {
    let result = pool.connect(client.proxied()).await;
    match &result {
        Ok(_) => pool.state().reachable(),
        Err(error) => not_reached(client, pool, error),
    }
    result
}

/// Notes that a server could not be reached, for others who would choose it.
pub(super) fn not_reached(client: &Client, pool: &Pool, error: &ConnectError) {
    if !error.is_ours() {
        pool.state().unreachable(client.open.worker.registry.millis(std::time::Instant::now()));
    }
    tracing::debug!(server = %pool.state().id().url, %error, "server not reached");
}

/// Whether an answer switches to the protocol that was asked for.
pub(super) fn switches(asked: Option<&[u8]>, answered: Option<&[u8]>) -> bool {
    asked.zip(answered).is_some_and(|(asked, answered)| asked.eq_ignore_ascii_case(answered))
}
