//! One TCP connection that has its router: middlewares, a server, then bytes until both sides have ended.

use super::bound::Tried;
use super::{postgres, relay};
use crate::http::{Cause, TlsFailure};
use crate::proxy::accept::Open;
use crate::proxy::failure;
use crate::proxy::stream::ClientStream;
use crate::table::tcp::{MiddlewareKind, Router};
use crate::upstream::{ClientPlace, Connection, InFlight, Proxied};
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a PostgreSQL server has to say whether it speaks TLS.
const ANSWER: Duration = Duration::from_secs(30);

/// Serves a connection of which `early` was read already.
pub(super) async fn run(
    open: Open,
    client: ClientStream,
    peer: SocketAddr,
    early: Vec<u8>,
    router: &Arc<Router>,
    is_postgres: bool,
) {
    let Some(places) = admit(&open, peer, router) else {
        tracing::debug!(entry_point = %open.entry.name, %peer, router = %router.id, "connection refused");
        return open.worker.buffers.give(early);
    };
    let Some((server, connection, in_flight)) = server(&open, peer, router, is_postgres).await else {
        return open.worker.buffers.give(early);
    };
    relay::run(&open, client, connection, early, server, in_flight.pool()).await;
    drop((places, in_flight));
}

/// Asks the middlewares; gives what they count, for as long as the connection lives.
fn admit(open: &Open, peer: SocketAddr, router: &Router) -> Option<SmallVec<[ClientPlace; 1]>> {
    let worker = &open.worker;
    let ip = peer.ip().to_canonical();
    let within = |networks: &[ipnet::IpNet]| networks.iter().any(|network| network.contains(&ip));
    if worker.settings.services_allow.as_ref().is_some_and(|allowed| !within(allowed)) {
        return None;
    }
    let mut places = SmallVec::new();
    for middleware in &router.middlewares {
        match &middleware.kind {
            MiddlewareKind::AllowList(networks) if within(networks) => {}
            MiddlewareKind::DenyList(networks) if !within(networks) => {}
            MiddlewareKind::AllowList(_) | MiddlewareKind::DenyList(_) => return None,
            MiddlewareKind::InFlight(amount) => {
                // Each router counts for itself, as in Traefik.
                let counts = worker.registry.clients(&format!("{} {}", router.id, middleware.id).into());
                places.push(counts.enter(ip, *amount)?);
            }
        }
    }
    Some(places)
}

/// A connection to a server; one that cannot be reached is tried once, then the next one is. All tries together take no
/// longer than one server's dial time-out and one try.
async fn server(
    open: &Open,
    peer: SocketAddr,
    router: &Arc<Router>,
    is_postgres: bool,
) -> Option<(Option<Duration>, Connection, InFlight)> {
    let worker = &open.worker;
    let bound = worker.tcp.borrow_mut().get(&router.service, &worker.registry, &worker.pools);
    let client = open.local.map(|local| Proxied { source: peer, destination: local });
    let begun = Instant::now();
    let mut tried: SmallVec<[Tried; 4]> = SmallVec::new();
    let mut last = Cause::NoServer;
    loop {
        let Some((of, at)) = bound.choose(&tried, &worker.registry) else {
            let tried = tried.len();
            worker.sink.failed(last);
            tracing::debug!(entry_point = %open.entry.name, %peer, service = %bound.id(), tried, "no server reached");
            return None;
        };
        let pool = &of.pools[at];
        let patience = pool.settings().dial_timeout;
        if !tried.is_empty() && !patience.is_zero() && begun.elapsed() >= patience {
            worker.sink.failed(last);
            return None;
        }
        let in_flight = pool.enter();
        match pool.connect(client).await {
            Ok(mut connection) => {
                pool.state().reachable();
                let limit = if patience.is_zero() { ANSWER } else { patience };
                if is_postgres
                    && !tokio::time::timeout(limit, postgres::ask(&mut connection.stream)).await.unwrap_or_default()
                {
                    tracing::debug!(server = %pool.state().id().url, "the server does not agree to TLS");
                    worker.sink.failed(Cause::Tls(TlsFailure::Other));
                    return None;
                }
                return Some((of.termination_delay, connection, in_flight));
            }
            Err(error) => {
                if !error.is_ours() {
                    pool.state().unreachable(worker.registry.millis(std::time::Instant::now()));
                }
                tracing::debug!(server = %pool.state().id().url, %error, "server not reached");
                last = failure::connect(&error).cause;
                tried.push((std::rc::Rc::as_ptr(&of), at));
            }
        }
    }
}
