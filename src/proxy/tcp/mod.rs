//! TCP routers: which connection goes to them and not to HTTP, and its way to a server.
//!
//! What always holds: an entry point without TCP routers does nothing of this. The table of the moment at which a
//! connection has said enough decides; once it is on its way, no table and no router concern it any more. What Traefik
//! does is in its `pkg/server/router/tcp/router.go`.

mod bound;
mod hello;
mod postgres;
mod relay;
mod serve;

pub(super) use bound::Bindings;

use super::accept::Open;
use super::certify;
use super::deadline::Deadline;
use super::handshake::{Begun, TLS_HANDSHAKE, first};
use super::settings::TlsChoice;
use super::stream::{ClientStream, Prefixed};
use crate::rule::ConnectionView;
use crate::table::tcp::{Router, Tls};
use hello::Hello;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// A connection of which nothing or little was read.
pub(super) type Opening = (Open, TcpStream, SocketAddr, Deadline, Begun);

/// What rules see of a connection.
struct View<'a> {
    hello: Option<&'a Hello>,
    peer: SocketAddr,
}

impl ConnectionView for View<'_> {
    fn server_name(&self) -> &str {
        self.hello.map_or("", |hello| &hello.name)
    }

    fn any_alpn(&self, f: &mut dyn FnMut(&str) -> bool) -> bool {
        self.hello.is_some_and(|hello| hello.alpn.iter().any(|protocol| f(protocol)))
    }

    fn client_ip(&self) -> Option<IpAddr> {
        Some(self.peer.ip())
    }
}

/// Whether there are TCP routers where the connection came in.
pub(super) fn has_routers(open: &Open) -> bool {
    open.worker.routes.borrow_mut().table().tcp_door(&open.entry.name).is_some()
}

/// What the routers of the entry point's encrypted and plain connections ask for.
struct Doors {
    /// Plain connections are routed before their first byte.
    early: bool,
    /// Some routers want TLS.
    tls: bool,
}

fn doors(open: &Open) -> Doors {
    let mut routes = open.worker.routes.borrow_mut();
    let (table, name) = (routes.table(), &open.entry.name);
    let door = table.tcp_door(name);
    Doors {
        early: door.is_some_and(|door| table.tcp_is_early(name, door)),
        tls: door.is_some_and(|door| door.has_tls()),
    }
}

fn plain(open: &Open, peer: SocketAddr) -> Option<Arc<Router>> {
    let mut routes = open.worker.routes.borrow_mut();
    routes.table().tcp_door(&open.entry.name)?.plain(&View { hello: None, peer }).cloned()
}

/// Gives a connection to a TCP router; gives it back where HTTP is to have it.
pub(super) async fn route(opening: Opening) -> Option<Opening> {
    let (open, mut stream, mut peer, mut clock, mut begun) = opening;
    let Doors { early, tls } = doors(&open);
    if early {
        // No more than a PROXY protocol header is waited for: the server may be the one who speaks first.
        if !first(&open, &mut stream, &mut peer, &mut clock, &mut begun, &|_| true).await {
            return None;
        }
        if let Some(router) = plain(&open, peer) {
            serve::run(open, ClientStream::Plain(stream), peer, begun.read, &router, false).await;
            return None;
        }
    }
    let enough = |read: &[u8]| !(read.is_empty() || tls && postgres::may_become(read));
    if !first(&open, &mut stream, &mut peer, &mut clock, &mut begun, &enough).await {
        return None;
    }
    let is_postgres = tls && postgres::take(&mut begun.read);
    if is_postgres && !postgres::agree(&mut stream).await {
        return None;
    }
    if is_postgres || tls && begun.read.first() == Some(&TLS_HANDSHAKE) {
        if !first(&open, &mut stream, &mut peer, &mut clock, &mut begun, &hello::is_whole).await {
            return None;
        }
        let hello = hello::read(&begun.read);
        if let Some(hello) = hello.as_ref().filter(|_| !is_postgres)
            && certify::is_tls_challenge(hello.alpn.iter().map(|protocol| protocol.as_bytes()))
            && certify::tls_challenge(&open.worker.settings, Some(&hello.name)).await.is_some()
        {
            // an authority's question is answered by who orders, whatever the routers say
            return Some((open, stream, peer, clock, begun));
        }
        let router = hello.as_ref().and_then(|hello| encrypted(&open, peer, hello, is_postgres));
        return match router {
            Some(router) => {
                clock = Deadline::default();
                over_tls((open, stream, peer, clock, begun), &router, is_postgres).await;
                None
            }
            None if is_postgres => None,
            None => Some((open, stream, peer, clock, begun)),
        };
    }
    let is_tls = begun.read.first() == Some(&TLS_HANDSHAKE);
    match plain(&open, peer).filter(|_| !is_tls) {
        Some(router) => {
            serve::run(open, ClientStream::Plain(stream), peer, begun.read, &router, false).await;
            None
        }
        None => Some((open, stream, peer, clock, begun)),
    }
}

/// The router of a TLS connection. What HTTPS would have of one that began as PostgreSQL does is not asked.
fn encrypted(open: &Open, peer: SocketAddr, hello: &Hello, is_postgres: bool) -> Option<Arc<Router>> {
    let view = View { hello: Some(hello), peer };
    let (mut routes, name) = (open.worker.routes.borrow_mut(), &open.entry.name);
    let table = routes.table();
    match is_postgres {
        true => table.tcp_door(name)?.tls(&view),
        false => table.tcp_over_tls(name, &view),
    }
    .cloned()
}

/// Hands a TLS connection on as it is, or ends TLS and hands on what is inside.
async fn over_tls(opening: Opening, router: &Arc<Router>, is_postgres: bool) {
    let (open, stream, peer, _, begun) = opening;
    let Some(Tls::Terminate { options }) = &router.tls else {
        return serve::run(open, ClientStream::Plain(stream), peer, begun.read, router, is_postgres).await;
    };
    let Some(TlsChoice { config, .. }) = open.worker.settings.tls_options.get(options) else {
        tracing::debug!(entry_point = %open.entry.name, %peer, options = %options, "TLS options are broken");
        return;
    };
    let limit = open.entry.read_timeout;
    let limit = if limit.is_zero() { Duration::MAX } else { limit };
    // The buffer belongs to the worker; a handshake needs little of it.
    let prefixed = Prefixed::new(begun.read.as_slice().to_vec(), stream);
    open.worker.buffers.give(begun.read);
    let shaking = tokio::time::timeout(limit, TlsAcceptor::from(config).accept(prefixed));
    let shaken = shaking.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match shaken {
        Ok(stream) => serve::run(open, ClientStream::Tls(Box::new(stream)), peer, Vec::new(), router, false).await,
        Err(error) => tracing::debug!(entry_point = %open.entry.name, %peer, %error, "handshake failed"),
    }
}
