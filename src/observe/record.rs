//! What is known of a request when it has ended.

use crate::http::{Cause, Failure, Protocol, Reason, TlsInfo};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// One finished request; borrowed from the exchange, consumed by metrics and access log.
#[derive(Clone)]
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
    /// What the TLS handshake agreed on; `None` when the client came without TLS.
    pub tls: Option<TlsInfo>,
    /// TCP peer.
    pub client: SocketAddr,
    /// `X-Forwarded-For` as a peer sent it that is believed: the log's `ClientHost`.
    pub forwarded_for: Option<&'a str>,
    /// Status sent to the client.
    pub status: u16,
    /// Status that the server sent; 0 when it sent none.
    pub origin_status: u16,
    /// Why the proxy itself made the answer, if it did.
    pub reason: Option<Reason>,
    /// What went wrong, if something did.
    pub failure: Option<Failure>,
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
    /// The heads, where [`Sink::wants_heads`] asked for them.
    pub heads: Option<&'a dyn HeadView>,
}

/// Which of a request's three heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichHead {
    /// The client's request, as the entry point left it.
    Request,
    /// The server's answer, as it came.
    Origin,
    /// The answer that the client got.
    Downstream,
}

/// The fields of a finished request's heads, for the access log.
pub trait HeadView {
    /// Calls `each` with name and value of every field line, in their order; not at all for a head
    /// that there was none of.
    fn each<'s>(&'s self, head: WhichHead, each: &mut dyn FnMut(&'s str, &'s [u8]));
}

/// Which heads the sink looks at; what it does not want need not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WantedHeads {
    /// The request's.
    pub request: bool,
    /// Both answers'.
    pub answers: bool,
}

/// Where the data side reports to. A worker owns one; it is neither shared nor locked.
pub trait Sink {
    /// A request has ended.
    fn finished(&self, record: &RequestRecord<'_>);

    /// `delta` connections more (or fewer) are open on an entry point. `protocol` is Traefik's
    /// label of the transport: `TCP` or `UDP`. A `delta` of 0 makes the entry point known.
    fn connection(&self, entry_point: &Arc<str>, protocol: &'static str, delta: i32);

    /// A connection of a TCP router could not be served.
    fn failed(&self, _cause: Cause) {}

    /// Which heads records should carry. The same for as long as the sink lives.
    fn wants_heads(&self) -> WantedHeads {
        WantedHeads::default()
    }
}
