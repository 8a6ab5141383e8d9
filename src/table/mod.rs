//! Declarations to an immutable routing table: checked, compiled, indexed by host and path,
//! compared with the last one, and kept on disk. Pure but for `store`.
//!
//! What always holds: a [`Table`] has no lock, atomic, counter, handle or connection in it; what
//! did not change keeps its `Arc` from one table to the next.

mod build;
mod composite;
mod diff;
mod explain;
mod health;
mod index;
mod limit;
mod linger;
mod ready;
mod reserved;
mod resolve;
mod rivals;
mod router;
mod services;
mod sticky;
mod store;
#[allow(clippy::module_inception)]
mod table;
pub mod tcp;
mod tls;
mod transport;
mod users;

pub use build::{Accepted, BuildOptions, Built, EntryPoint, build, rebuild};
pub use composite::{Child, Composite, CompositeKind, Mirror};
pub use diff::{Cause, Change, Changes, Diff, diff};
pub use explain::{Asked, Explanation, Failure, NearMiss, failures_of};
pub use health::{Check, CheckKind, CheckScheme, GrpcCheck, Health, HttpCheck, Passive, TcpCheck};
pub use limit::Limit;
pub use linger::{Planned, Planner};
pub use ready::{
    Address, Allowed, Comparison, Condition, Cors, Criterion, Measure, Middleware, NONCE, Ready, ReadyBreaker,
    ReadyHeaders, ReadyInFlight, ReadyRate, ReadyRetry, Security,
};
pub use sticky::Sticky;
pub use store::{Store, StoreError, Stored};
pub use table::Table;
pub use tls::{DEFAULT_TLS_OPTIONS, TlsHosts};
pub use transport::{DEFAULT_TRANSPORT, PeerName, Pem, ProxyProtocol, TlsVersion, Transport, TransportTls};
pub use users::Users;

/// What the data side needs of the stages before, so that it knows the table alone.
pub use crate::declare::{MiddlewareKind, Strategy};
pub use crate::rule::RequestView;

use crate::declare;
use crate::model::{Provider, ServerId};
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
    /// Whether one of them has to do with answers.
    pub answers: bool,
    /// Whether one of them tries requests again.
    pub retries: bool,
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
    /// Keeps a client on one server, or on one of the services that it is made of.
    pub sticky: Option<Arc<Sticky>>,
    /// The services that it is made of; it has no servers of its own then.
    pub composite: Option<Arc<Composite>>,
    /// How the servers are asked whether they are well; `None` means not at all.
    pub health: Option<Arc<Health>>,
    /// When a server that fails requests is left alone.
    pub passive: Option<Passive>,
    /// How many requests each of its servers works on at once.
    pub limit: Option<Limit>,
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
