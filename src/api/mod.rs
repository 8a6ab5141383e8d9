//! The admin entry point: what the proxy is, does and suffers from, as HTTP. Paths and shapes are
//! Traefik's (<https://doc.traefik.io/traefik/operations/api/>) where it has them.
//!
//! It only reads, through [`Source`]; the exceptions, `POST /api/forget`, `POST /api/activate` and
//! `PUT /api/providers/rest`, need a token, or a peer of the same user on a Unix socket. It runs
//! on the control runtime and never touches the data side's state. What always holds: no secret is
//! shown; an address that is not loopback serves ping and metrics alone unless `api.insecure`;
//! every client is bounded in size, time and number.

mod explain;
mod guard;
mod health;
mod page;
mod rest;
mod route;
mod server;
mod tcp_views;
mod views;

pub use guard::is_own;
pub use health::{Health, Reason, judge};
pub use rest::Documents;
pub use server::{serve, serve_peer};

use crate::catalog::SourceStatus;
use crate::certs::Certificate;
use crate::config::{Bound, EntryPoint};
use crate::declare;
use crate::diagnostic::Diagnostic;
use crate::explain::{Scene, Servers};
use crate::model::{Provider, ServerId};
use crate::observe::metrics::OpenConnections;
use crate::table;
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

/// A router that was declared and does not act.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Qualified name, `web@nomad`.
    pub id: Arc<str>,
    /// Who declared it.
    pub provider: Provider,
    /// As declared.
    pub router: Arc<declare::Router>,
    /// Why not.
    pub errors: Vec<String>,
}

/// A TCP router that was declared and does not act.
#[derive(Debug, Clone)]
pub struct RefusedTcp {
    /// Qualified name, `db@nomad`.
    pub id: Arc<str>,
    /// Who declared it.
    pub provider: Provider,
    /// As declared.
    pub router: Arc<declare::TcpRouter>,
    /// Why not.
    pub errors: Vec<String>,
}

/// The routing table as the API shows it. Order does not matter.
#[derive(Debug, Clone, Default)]
pub struct Routing {
    /// Routers that act.
    pub routers: Vec<Arc<table::Router>>,
    /// Services.
    pub services: Vec<Arc<table::Service>>,
    /// Middlewares.
    pub middlewares: Vec<Arc<table::Middleware>>,
    /// Routers that do not act.
    pub refused: Vec<Refused>,
    /// TCP.
    pub tcp: Arc<table::tcp::Tcp>,
    /// TCP routers that do not act.
    pub tcp_refused: Vec<RefusedTcp>,
}

/// One change of the routing table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// When it was served.
    #[serde(serialize_with = "views::as_rfc3339")]
    pub at: SystemTime,
    /// Which provider caused it, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Which services caused it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Arc<str>>,
    /// The same, each with its provider and namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<table::Cause>,
    /// Routers that came, by qualified name.
    pub added: Vec<Arc<str>>,
    /// Routers that differ, or whose service does.
    pub changed: Vec<Arc<str>>,
    /// Routers that went.
    pub removed: Vec<Arc<str>>,
}

/// What the runtime knows of its own state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// SIGTERM has come.
    pub terminating: bool,
    /// The public ports are another process's until they are asked for.
    pub standby: bool,
    /// Every entry point listens.
    pub listeners_bound: bool,
    /// The last good table from disk is served.
    pub last_good_loaded: bool,
    /// The control loop failed by a defect and has not succeeded since.
    pub control_failing: bool,
}

/// Connections and requests towards one server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerConnections {
    /// Qualified service name.
    pub service: Arc<str>,
    /// URL of the server.
    pub url: Arc<str>,
    /// Requests in flight.
    pub in_flight: usize,
}

/// What is open now.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    /// Clients' connections by entry point.
    pub entry_points: Vec<OpenConnections>,
    /// Requests in flight by qualified router name.
    pub routers: Vec<(Arc<str>, usize)>,
    /// By server.
    pub servers: Vec<ServerConnections>,
}

/// Where the API reads from; the runtime implements it. Every method gives the state of now, is
/// cheap, and waits for nothing; those that must ask the workers are futures with a limit.
pub trait Source: Send + Sync + 'static {
    /// The routing table.
    fn routing(&self) -> Routing;
    /// How each configured provider stands.
    fn statuses(&self) -> Vec<SourceStatus>;
    /// Everything that was refused or deserves a remark.
    fn problems(&self) -> Vec<Diagnostic>;
    /// The last changes of the table, newest first.
    fn history(&self) -> Vec<Change>;
    /// Entry points as configured.
    fn entry_points(&self) -> Vec<EntryPoint>;
    /// Where they listen.
    fn bound(&self) -> Bound;
    /// The certificates.
    fn certificates(&self) -> Vec<Certificate>;
    /// The runtime's own state.
    fn readiness(&self) -> Readiness;
    /// What questions of why are answered by, and what servers do now. Answering may take long where there are many
    /// routers: it is done on a thread that nothing else needs.
    fn scene(&self) -> (Scene, Box<dyn Servers>);
    /// Whether a server is thought able to answer.
    fn server_up(&self, id: &ServerId) -> bool;
    /// What is open now.
    fn connections(&self) -> BoxFuture<'_, Connections>;
    /// Prometheus' text; `None` when metrics are off. `admin` connections are open on this entry point.
    fn metrics_text(&self, admin: usize) -> BoxFuture<'_, Option<Vec<u8>>>;
    /// Ends the hold of removals after a catalog reset; gives how many names were let go.
    fn forget(&self) -> usize;
    /// Binds the public ports of a standby: where they are then, or what went wrong.
    fn activate(&self) -> BoxFuture<'_, Result<Bound, String>> {
        Box::pin(async { Err("this is no standby".to_owned()) })
    }
    /// What takes dynamic configuration; `None` when the REST provider is off.
    fn documents(&self) -> Option<Arc<dyn Documents>> {
        None
    }
}

/// Limits for the admin entry point's clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once; more are closed.
    pub connections: usize,
    /// Time for a request's head.
    pub head: Duration,
    /// Time for a request with its answer.
    pub exchange: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 10_000, head: Duration::from_secs(10), exchange: Duration::from_secs(60) }
    }
}

/// What the admin entry point is told at the start.
#[derive(Debug, Clone)]
pub struct Options {
    /// `api.insecure`: everything is served on every address.
    pub insecure: bool,
    /// `metrics.prometheus` is on.
    pub metrics: bool,
    /// The access log is on.
    pub access_log: bool,
    /// File with the token for writes; `None` switches writes off.
    pub token_file: Option<PathBuf>,
    /// When the process started.
    pub started: SystemTime,
    /// Limits.
    pub limits: Limits,
}

/// The admin entry point.
pub struct Admin {
    source: Arc<dyn Source>,
    options: Options,
    open: AtomicUsize,
    explaining: Arc<Semaphore>,
}

impl Admin {
    /// An admin entry point that shows `source`.
    pub fn new(source: Arc<dyn Source>, options: Options) -> Self {
        Self { source, options, open: AtomicUsize::new(0), explaining: Arc::new(Semaphore::new(explain::AT_ONCE)) }
    }
}
