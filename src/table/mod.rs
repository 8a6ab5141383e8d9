//! Declarations to an immutable routing table: checked, compiled, indexed by host and path,
//! compared with the last one, and kept on disk. Pure but for `store`.
//!
//! What always holds: a [`Table`] has no lock, atomic, counter, handle or connection in it; what
//! did not change keeps its `Arc` from one table to the next.

mod build;
mod diff;
mod explain;
mod index;
mod linger;
mod ready;
mod reserved;
mod resolve;
mod rivals;
mod router;
mod store;
#[allow(clippy::module_inception)]
mod table;
pub mod tcp;
mod tls;
mod transport;
mod users;

pub use build::{Accepted, BuildOptions, Built, EntryPoint, build, rebuild};
pub use diff::{Cause, Change, Changes, Diff, diff};
pub use explain::{Asked, Explanation, Failure, NearMiss, failures_of};
pub use linger::{Planned, Planner};
pub use ready::{Middleware, Ready};
pub use store::{Store, StoreError, Stored};
pub use table::Table;
pub use tls::{DEFAULT_TLS_OPTIONS, TlsHosts};
pub use transport::{DEFAULT_TRANSPORT, PeerName, Pem, ProxyProtocol, TlsVersion, Transport, TransportTls};
pub use users::Users;

/// What the data side needs of the stages before, so that it knows the table alone.
pub use crate::declare::MiddlewareKind;
pub use crate::rule::RequestView;

use crate::declare;
use crate::model::{Provider, ServerId};
use serde::Serialize;
use std::sync::Arc;

/// What requests that come by an entry point pass: its name, and the middlewares in order.
pub type Chain = (Arc<str>, Vec<Arc<Middleware>>);

/// A router as the data side sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    /// Qualified name, `web@nomad`.
    pub id: Arc<str>,
    /// Who declared it.
    pub provider: Provider,
    /// Entry points that it answers on, resolved (never empty).
    pub entry_points: Vec<Arc<str>>,
    /// The rule's text.
    pub rule: Arc<str>,
    /// Effective priority: as declared, else the rule's length in bytes.
    pub priority: i64,
    /// True when it answers TLS connections only.
    pub tls: bool,
    /// Middlewares in order of execution.
    pub middlewares: Vec<Arc<Middleware>>,
    /// On entry points that have middlewares: those, then the router's.
    pub chains: Vec<Chain>,
    /// TLS options other than the default ones that it wants, by entry point; see [`Table::tls_options_of`].
    pub tls_options: Vec<(Arc<str>, Arc<str>)>,
    /// The service that answers.
    pub service: Arc<Service>,
    /// What it was declared as, for the API.
    pub declared: Arc<declare::Router>,
}

impl Router {
    /// What a request passes that came in by an entry point.
    pub fn chain(&self, entry_point: &str) -> &[Arc<Middleware>] {
        let chain = self.chains.iter().find(|(name, _)| **name == *entry_point);
        chain.map_or(&self.middlewares, |(_, chain)| chain)
    }

    /// All middlewares that some request passes, some of them several times.
    pub fn all_middlewares(&self) -> impl Iterator<Item = &Arc<Middleware>> {
        self.chains.iter().flat_map(|(_, chain)| chain).chain(&self.middlewares)
    }
}

/// A service, resolved: its servers and how one is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Service {
    /// Qualified name, `web@nomad`.
    pub id: Arc<str>,
    /// Servers, sorted by URL; empty while the service lingers after its last server left.
    pub servers: Vec<Arc<Server>>,
    /// How a server is chosen.
    pub strategy: Strategy,
    /// Whether the client's Host goes to the server.
    pub pass_host_header: bool,
    /// How the servers are reached; `None` means as the static configuration says.
    pub transport: Option<Arc<Transport>>,
}

/// How a server is chosen: the strategies that are served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Smooth weighted round robin, also in the place of strategies that are not served.
    #[default]
    Wrr,
    /// Rendezvous hash of the TCP peer's address, as Caddy's `ip_hash` (HinD).
    IpHash,
}

impl From<&declare::Strategy> for Strategy {
    fn from(declared: &declare::Strategy) -> Self {
        match declared {
            declare::Strategy::IpHash => Self::IpHash,
            declare::Strategy::Wrr | declare::Strategy::Other(_) => Self::Wrr,
        }
    }
}

impl From<Strategy> for declare::Strategy {
    fn from(served: Strategy) -> Self {
        match served {
            Strategy::Wrr => Self::Wrr,
            Strategy::IpHash => Self::IpHash,
        }
    }
}

/// One server, ready to be dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Identity, the key of the registry.
    pub id: ServerId,
    /// True for `https://`.
    pub tls: bool,
    /// True for `h2c://`: HTTP/2 without TLS.
    pub h2c: bool,
    /// Host without brackets: an address or a DNS name.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// `host:port` as a Host header writes it (brackets around IPv6, default port kept).
    pub authority: Arc<str>,
    /// Weight, at least 0; 0 gets no requests unless all have 0.
    pub weight: u32,
    /// Path that stands before that of each request, escaped, without a slash at its end; `None` where the URL has none
    /// or it is not to be preserved (`preservePath`).
    pub base: Option<Arc<str>>,
}
