//! What is known of a request when it has ended.

use crate::http::{Protocol, Reason};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// One finished request; borrowed from the exchange, consumed by metrics and access log.
#[derive(Debug, Clone)]
pub struct RequestRecord<'a> {
    /// Entry point name.
    pub entry_point: &'a Arc<str>,
    /// Qualified router name, `web@nomad`; `None` when none took it.
    pub router: Option<&'a Arc<str>>,
    /// Qualified service name.
    pub service: Option<&'a Arc<str>>,
    /// URL of the server that answered or failed.
    pub server: Option<&'a Arc<str>>,
    /// Client's method.
    pub method: &'a str,
    /// Host as the client sent it; empty when it sent none.
    pub host: &'a str,
    /// Request target: path and query.
    pub target: &'a str,
    /// Protocol of the client.
    pub protocol: Protocol,
    /// Whether the client came over TLS.
    pub tls: bool,
    /// TCP peer.
    pub client: SocketAddr,
    /// Status sent to the client.
    pub status: u16,
    /// Status that the server sent; 0 when it sent none.
    pub origin_status: u16,
    /// Why the proxy itself made the answer, if it did.
    pub reason: Option<Reason>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// When the head was complete.
    pub started: SystemTime,
    /// From the head to the end of the answer.
    pub duration: Duration,
    /// From sending the request to the end of the server's answer.
    pub origin_duration: Duration,
    /// Tries beyond the first.
    pub retries: u32,
    /// `User-Agent` and `Referer` as sent, for the common log format.
    pub user_agent: Option<&'a str>,
    /// `Referer`.
    pub referer: Option<&'a str>,
}

/// Where the data side reports to. A worker owns one; it is neither shared nor locked.
pub trait Sink {
    /// A request has ended.
    fn finished(&self, record: &RequestRecord<'_>);

    /// `delta` connections more (or fewer) are open on an entry point. `protocol` is Traefik's
    /// label of the transport: `TCP` or `UDP`. A `delta` of 0 makes the entry point known.
    fn connection(&self, entry_point: &Arc<str>, protocol: &'static str, delta: i32);
}
