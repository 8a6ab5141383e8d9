//! What is: the state of servers and services by their identity, and the connections to them.
//!
//! What always holds: the [`Registry`] is keyed by [`crate::model::ServerId`] and by service name, never by
//! a table's generation, so that it outlives tables; what many workers write there are relaxed
//! atomics on cache lines of their own. Connections belong to one worker's [`Pools`] and never
//! cross a thread. An entry goes some time after its last use, once nobody holds it.

mod connect;
pub mod h2;
mod pool;
mod registry;
mod resolve;

pub use connect::ConnectError;
pub use h2::{H2, H2Error, H2Settings, H2Stream, Repeatable};
pub use pool::{Answer, Connection, Endpoint, InFlight, Pool, Pools, SendError};
pub use registry::{Registry, ServerState, ServerView, ServiceState};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Time-outs and limits towards servers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Until a connection is made, its TLS handshake included.
    pub dial_timeout: Duration,
    /// From the last byte of the request to the head of the answer; zero means none.
    pub response_header_timeout: Duration,
    /// How long a connection is kept without use.
    pub idle_timeout: Duration,
    /// Unused connections kept for one server by one worker.
    pub max_idle: usize,
    /// How `https://` servers are verified.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Speak HTTP/1.1 to `https://` servers, whatever they offer (Traefik's `disableHTTP2`).
    pub disable_http2: bool,
    /// Silence on an HTTP/2 connection after which the server is asked whether it is there; zero means never.
    pub read_idle_timeout: Duration,
    /// How long it has to answer that.
    pub ping_timeout: Duration,
    /// The name that `https://` servers must prove instead of their host.
    pub server_name: Option<Arc<str>>,
    /// Services that are reached in a way of their own, by qualified name.
    pub own: BTreeMap<Arc<str>, Settings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(30),
            response_header_timeout: Duration::ZERO,
            idle_timeout: Duration::from_secs(90),
            max_idle: 200,
            tls: None,
            disable_http2: false,
            read_idle_timeout: Duration::ZERO,
            ping_timeout: Duration::from_secs(15),
            server_name: None,
            own: BTreeMap::new(),
        }
    }
}
