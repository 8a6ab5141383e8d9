//! Traefik's dynamic configuration as plain values (<https://doc.traefik.io/traefik/routing/overview/>):
//! what tags, files and the REST provider declare, before anything is checked against anything
//! else. Everything here is comparable and hashable, so that an unchanged definition is known as such.

mod composite;
mod duration;
pub mod file;
mod headers;
mod http;
mod limits;
mod middleware;
pub mod options;
mod read;
pub(crate) mod reference;
mod reference_files;
mod reference_middlewares;
pub mod rest;
mod tcp;
mod tls;
mod words;

pub use composite::{
    Failover, FailoverErrors, HighestRandomWeight, Mirror, Mirroring, ServicesHealth, Weighted, WeightedService,
    status_range,
};
pub use duration::GoDuration;
pub use headers::{Fields, Headers};
pub use http::{
    Cookie, Domain, HealthCheck, LoadBalancer, Observability, PassiveHealthCheck, ResponseForwarding, Router,
    RouterTls, Server, Service, Sticky, Strategy, is_token,
};
pub use limits::{CircuitBreaker, InFlightReq, IpStrategy, RateLimit, Retry, SourceCriterion};
pub use middleware::{Hashes, Middleware, MiddlewareKind, NotServed, Options};
pub use tcp::{
    ProxyProtocol, Tcp, TcpBroken, TcpHealthCheck, TcpLoadBalancer, TcpMiddleware, TcpRouter, TcpRouterTls, TcpServer,
    TcpService, Udp, UdpLoadBalancer, UdpRouter, UdpServer, UdpService,
};

pub use tls::{ServersTransport, Tls, TlsCertificate, TlsOptions, TlsStore};

use crate::model::{Map, Provider};
use imbl::OrdSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The declarations of one provider, in Traefik's JSON form (names without `@provider`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dynamic {
    /// HTTP routers, services, middlewares, transports.
    #[serde(default, skip_serializing_if = "Http::is_empty")]
    pub http: Http,
    /// TCP routers, services, middlewares.
    #[serde(default, skip_serializing_if = "Tcp::is_empty")]
    pub tcp: Tcp,
    /// UDP routers and services.
    #[serde(default, skip_serializing_if = "is_default")]
    pub udp: Udp,
    /// Certificates, TLS options and certificate stores.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: Tls,
}

/// Whether a value is what its absence reads as, so that it need not be printed.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The `http` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Http {
    /// By name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub routers: Map<Arc<str>, Router>,
    /// By name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub services: Map<Arc<str>, Service>,
    /// By name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub middlewares: Map<Arc<str>, Middleware>,
    /// How servers are reached, by name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub servers_transports: Map<Arc<str>, ServersTransport>,
    /// What is declared and cannot be read: its last good form stays in force.
    #[serde(skip)]
    pub broken: Broken,
    /// Routers that are kept for a while after their last server left; they yield to all others.
    #[serde(skip)]
    pub lingering: OrdSet<Arc<str>>,
}

impl Http {
    /// True when nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.routers.is_empty()
            && self.services.is_empty()
            && self.middlewares.is_empty()
            && self.servers_transports.is_empty()
    }
}

/// Definitions that stand in a catalog or a file and were refused. They are known to be there, so
/// that `table::build` can keep what was last good of them instead of taking them for removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Broken {
    /// Names of routers.
    pub routers: OrdSet<Arc<str>>,
    /// Names of services, with what could be read of them: the servers of today.
    pub services: Map<Arc<str>, Service>,
    /// Names of middlewares.
    pub middlewares: OrdSet<Arc<str>>,
    /// Names of transports.
    pub servers_transports: OrdSet<Arc<str>>,
}

/// Where a definition was declared. Two definitions that differ only in it are equal.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// Namespace of the catalog service.
    pub namespace: Arc<str>,
    /// Catalog service.
    pub service: Arc<str>,
    /// First instance that declares it.
    pub instance: Arc<str>,
    /// The tag (a rule's tag for routers).
    pub tag: Arc<str>,
    /// All tags of a router, so that a message can name the one concerned.
    pub options: Vec<Arc<str>>,
    /// Lowest create index among the declaring instances: the older registration wins conflicts.
    pub create_index: u64,
    /// Which dialect it was written in.
    pub dialect: Dialect,
    /// Where it stands in a file; `None` for what comes from a catalog.
    pub place: Option<Arc<Place>>,
}

/// Where a definition stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<str>,
    /// Line and column of its name, from 1.
    pub at: (u32, u32),
    /// Lines and columns of what its options say, by the option's path in the reference
    /// (`http.routers.*.tls.options`).
    pub options: Vec<(&'static str, (u32, u32))>,
}

impl Place {
    /// Line and column of what an option says, by the last element of its path; of the definition, if
    /// it does not say it.
    pub fn of(&self, option: &str) -> (u32, u32) {
        let last = |path: &str| path.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(option));
        self.options.iter().find(|(path, _)| last(path)).map_or(self.at, |(_, at)| *at)
    }
}

impl Source {
    /// Whether both name the same place, which `==` does not ask.
    pub fn same(&self, other: &Self) -> bool {
        let key = |s: &Self| {
            let tags = (s.tag.clone(), s.options.clone());
            (s.namespace.clone(), s.service.clone(), s.instance.clone(), tags, s.create_index, s.dialect)
        };
        key(self) == key(other) && self.place == other.place
    }
}

impl PartialEq for Source {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Source {}

impl std::hash::Hash for Source {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// The language of a tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// `traefik.*`, or a dynamic configuration file.
    #[default]
    Traefik,
    /// Fabio's `urlprefix-`.
    Urlprefix,
    /// HinD's `https://host`.
    Site,
}

/// What every provider declares, the input of `table::build`.
pub type Declarations = BTreeMap<Provider, Dynamic>;
