//! What is: the state of servers and services by their identity, and the connections to them.
//!
//! What always holds: the [`Registry`] is keyed by [`crate::model::ServerId`] and by service name, never by
//! a table's generation, so that it outlives tables; what many workers write there are relaxed
//! atomics on cache lines of their own. Connections belong to one worker's [`Pools`] and never
//! cross a thread. An entry goes some time after its last use, once nobody holds it.

mod budget;
mod clients;
mod connect;
mod crowd;
mod departed;
pub mod h2;
mod pool;
mod probe;
pub mod proxy_protocol;
mod registry;
mod resolve;
mod service;
mod stream;
pub mod tls;
mod transport;
mod verdict;

pub use clients::{ClientCounts, ClientPlace};
pub use connect::{Alpn, ConnectError, is_exhaustion};
pub use crowd::Waiter;
pub use h2::{H2, H2Error, H2Settings, H2Stream, Repeatable};
pub use pool::{Connection, Endpoint, InFlight, Pool, Pools};
pub use probe::{ProbeError, Prober};
pub use proxy_protocol::Proxied;
pub use registry::{Registry, ServerState, ServerView, Standing};
pub use service::ServiceState;
pub use stream::Stream;
pub use transport::{TlsState, Transports};
pub use verdict::{Judge, Judged, Verdict};

use crate::table::{DEFAULT_TRANSPORT, ProxyProtocol, Transport};
use std::sync::Arc;
use std::time::Duration;

/// How servers are reached: a transport, made ready.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Until a connection is made, its TLS handshake included; zero means no limit.
    pub dial_timeout: Duration,
    /// From the last byte of the request to the head of the answer; zero means none.
    pub response_header_timeout: Duration,
    /// How long a connection is kept without use; zero means for ever.
    pub idle_timeout: Duration,
    /// Connections kept for one server by one worker that were not used for a second or more.
    pub max_idle: usize,
    /// Whether HTTP/2 may be spoken to servers.
    pub http2: bool,
    /// How `https://` servers are verified.
    pub tls: Option<ServerTls>,
    /// Silence on an HTTP/2 connection after which the server is asked whether it is there; zero means never.
    pub read_idle_timeout: Duration,
    /// How long it has to answer that.
    pub ping_timeout: Duration,
    /// The name that `https://` servers must prove instead of their host.
    pub server_name: Option<Arc<str>>,
    /// Servers are told of the client before anything else; such a connection is for one request.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// TLS towards servers, whose certificates may still be read.
#[derive(Debug, Clone)]
pub struct ServerTls(tokio::sync::watch::Receiver<TlsState>);

impl Settings {
    /// What a transport says.
    pub fn of(transport: &Transport, tls: ServerTls) -> Self {
        Self {
            dial_timeout: transport.dial_timeout,
            response_header_timeout: transport.response_header_timeout,
            idle_timeout: transport.idle_timeout,
            // a connection that names one client is not for the next one
            max_idle: if transport.proxy_protocol.is_some() { 0 } else { transport.max_idle },
            http2: transport.http2,
            read_idle_timeout: transport.read_idle_timeout,
            ping_timeout: transport.ping_timeout,
            tls: Some(tls),
            server_name: transport.tls.server_name.clone(),
            proxy_protocol: transport.proxy_protocol,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let tls = ServerTls::unusable("there is no TLS");
        Self { tls: None, ..Self::of(&Transport::plain(DEFAULT_TRANSPORT.into()), tls) }
    }
}
