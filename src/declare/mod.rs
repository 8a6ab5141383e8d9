//! Traefik's dynamic configuration as plain values (<https://doc.traefik.io/traefik/routing/overview/>):
//! what tags, files and the REST provider declare, before anything is checked against anything
//! else. Everything here is comparable and hashable, so that an unchanged definition is known as such.

use crate::model::Provider;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The declarations of one provider, in Traefik's JSON form (names without `@provider`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dynamic {
    /// HTTP routers, services, middlewares, transports.
    #[serde(default, skip_serializing_if = "Http::is_empty")]
    pub http: Http,
}

/// The `http` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Http {
    /// By name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub routers: BTreeMap<Arc<str>, Arc<Router>>,
    /// By name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<Arc<str>, Arc<Service>>,
    /// By name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub middlewares: BTreeMap<Arc<str>, Arc<Middleware>>,
    /// What is declared and cannot be read: its last good form stays in force.
    #[serde(skip)]
    pub broken: Broken,
    /// Routers that are kept for a while after their last server left; they yield to all others.
    #[serde(skip)]
    pub lingering: BTreeSet<Arc<str>>,
}

impl Http {
    /// True when nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.routers.is_empty() && self.services.is_empty() && self.middlewares.is_empty()
    }
}

/// Definitions that stand in a catalog or a file and were refused. They are known to be there, so
/// that `table::build` can keep what was last good of them instead of taking them for removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Broken {
    /// Names of routers.
    pub routers: BTreeSet<Arc<str>>,
    /// Names of services, with what could be read of them: the servers of today.
    pub services: BTreeMap<Arc<str>, Arc<Service>>,
    /// Names of middlewares.
    pub middlewares: BTreeSet<Arc<str>>,
}

/// An HTTP router (<https://doc.traefik.io/traefik/routing/routers/>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Router {
    /// Entry point names; empty means the default ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entry_points: Vec<Arc<str>>,
    /// Middleware names, in order of execution; unqualified names belong to the same provider.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<Arc<str>>,
    /// Service name; unqualified names belong to the same provider.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub service: Arc<str>,
    /// The rule.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub rule: Arc<str>,
    /// `v2` or `v3`; empty means v3.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub rule_syntax: Arc<str>,
    /// 0 means: the length of the rule.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: i64,
    /// Present: the router answers TLS connections only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouterTls>,
    /// Where it was declared (service, instance, tag), for messages; not part of what it is.
    #[serde(skip)]
    pub source: Source,
}

fn is_no_status(n: &u16) -> bool {
    *n == 0
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// TLS section of a router.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouterTls {
    /// Name of TLS options.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub options: Arc<str>,
    /// Name of a certificate resolver.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub cert_resolver: Arc<str>,
    /// Domains to ask certificates for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Domain>,
}

/// A certificate's names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Domain {
    /// Main name.
    pub main: Arc<str>,
    /// Further names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<Arc<str>>,
}

/// An HTTP service. Exactly one kind is set; later kinds (weighted, mirroring, failover) join here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// Servers behind a balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// Where it was declared, for messages; not part of what it is.
    #[serde(skip)]
    pub source: Source,
}

/// Servers and how one of them is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// The servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
    /// How a server is chosen.
    pub strategy: Strategy,
    /// Whether the client's Host goes to the server (Traefik's default: true).
    pub pass_host_header: bool,
}

impl Default for LoadBalancer {
    fn default() -> Self {
        Self { servers: Vec::new(), strategy: Strategy::Wrr, pass_host_header: true }
    }
}

/// How a server is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Smooth weighted round robin.
    #[default]
    Wrr,
    /// Rendezvous hash of the TCP peer's address, as Caddy's `ip_hash` (HinD).
    #[serde(rename = "ip_hash")]
    IpHash,
}

/// One server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// `http://host:port`.
    pub url: Arc<str>,
    /// Weight; `None` means 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// A middleware. Kinds that rust-lb knows but does not serve yet are kept as declared: a router
/// that names one is refused with a diagnostic, never served without it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Middleware {
    /// What it does.
    #[serde(flatten)]
    pub kind: MiddlewareKind,
    /// Where it was declared, for messages; not part of what it is.
    #[serde(skip)]
    pub source: Source,
}

/// What a middleware does (<https://doc.traefik.io/traefik/middlewares/http/overview/>).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MiddlewareKind {
    /// Cuts the first of these prefixes that fits off the path.
    StripPrefix {
        /// Raw prefixes.
        prefixes: Vec<Arc<str>>,
    },
    /// Puts a prefix before the path.
    AddPrefix {
        /// The prefix.
        prefix: Arc<str>,
    },
    /// Redirects to another scheme, and port where given.
    #[serde(rename_all = "camelCase")]
    RedirectScheme {
        /// `https`.
        scheme: Arc<str>,
        /// Port; empty means the scheme's default.
        #[serde(default)]
        port: Arc<str>,
        /// 301 (308 for other methods than GET) instead of 302 (307).
        #[serde(default)]
        permanent: bool,
    },
    /// Redirects what an expression matches, the whole URL
    /// (<https://doc.traefik.io/traefik/middlewares/http/redirectregex/>).
    #[serde(rename_all = "camelCase")]
    RedirectRegex {
        /// The expression.
        regex: Arc<str>,
        /// The new URL, with `${1}` for what groups matched.
        replacement: Arc<str>,
        /// 301 (308 for other methods than GET) instead of 302 (307).
        #[serde(default)]
        permanent: bool,
        /// rust-lb's own, for Fabio's `redirect=`: this status whatever the method; 0 means none.
        #[serde(default, skip_serializing_if = "is_no_status")]
        status: u16,
    },
    /// Sets fields of the request. Only `Host` is served.
    #[serde(rename_all = "camelCase")]
    Headers {
        /// By name.
        custom_request_headers: BTreeMap<Arc<str>, Arc<str>>,
    },
    /// rust-lb's own, for Fabio's `allow=`: 403 unless the peer, and every address that
    /// `X-Forwarded-For` names, is in one of the networks.
    #[serde(rename_all = "camelCase")]
    PrefixAllowList {
        /// The networks.
        source_range: Vec<Arc<str>>,
    },
    /// rust-lb's own, for Fabio's `deny=`: 403 if the peer, or an address that `X-Forwarded-For`
    /// names, is in one of the networks.
    #[serde(rename_all = "camelCase")]
    PrefixDenyList {
        /// The networks.
        source_range: Vec<Arc<str>>,
    },
    /// rust-lb's own: nobody gets through. What stands where an access rule cannot be read or used.
    Refuse {
        /// Status of the answer.
        status: u16,
    },
    /// A kind of Traefik's that is not served yet: its name and options as declared.
    #[serde(untagged)]
    NotServed(NotServed),
}

/// A middleware that is known and not served yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NotServed {
    /// Name of the kind in Traefik's spelling (`basicAuth`).
    pub kind: Arc<str>,
    /// Its options by dotted path, as declared.
    pub options: BTreeMap<Arc<str>, Arc<str>>,
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
    /// Lowest create index among the declaring instances: the older registration wins conflicts.
    pub create_index: u64,
    /// Which dialect it was written in.
    pub dialect: Dialect,
}

impl Source {
    /// Whether both name the same place, which `==` does not ask.
    pub fn same(&self, other: &Self) -> bool {
        let key = |s: &Self| {
            (s.namespace.clone(), s.service.clone(), s.instance.clone(), s.tag.clone(), s.create_index, s.dialect)
        };
        key(self) == key(other)
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
