//! TCP and UDP routers, services and middlewares as Traefik 3.7 takes them
//! (<https://doc.traefik.io/traefik/routing/routers/#configuring-tcp-routers>).

use super::{Domain, GoDuration, Options, ServersTransport, Source, is_default};
use crate::model::Map;
use imbl::OrdSet;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The `tcp` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tcp {
    /// By name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub routers: Map<Arc<str>, TcpRouter>,
    /// By name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub services: Map<Arc<str>, TcpService>,
    /// By name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub middlewares: Map<Arc<str>, TcpMiddleware>,
    /// How servers are reached, by name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub servers_transports: Map<Arc<str>, ServersTransport>,
    /// What is declared and cannot be read: its last good form stays in force.
    #[serde(skip)]
    pub broken: TcpBroken,
}

impl Tcp {
    /// True when nothing is declared that can be read.
    pub fn is_empty(&self) -> bool {
        self.routers.is_empty()
            && self.services.is_empty()
            && self.middlewares.is_empty()
            && self.servers_transports.is_empty()
    }
}

/// Definitions of TCP that stand in a catalog or a file and were refused; see [`super::Broken`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TcpBroken {
    /// Names of routers.
    pub routers: OrdSet<Arc<str>>,
    /// Names of services, with what could be read of them.
    pub services: Map<Arc<str>, TcpService>,
    /// Names of middlewares.
    pub middlewares: OrdSet<Arc<str>>,
    /// Names of transports.
    pub servers_transports: OrdSet<Arc<str>>,
}

/// A TCP router.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRouter {
    /// Entry point names; empty means the default ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entry_points: Vec<Arc<str>>,
    /// Middleware names, in order of execution.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<Arc<str>>,
    /// Service name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub service: Arc<str>,
    /// The rule.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub rule: Arc<str>,
    /// `v2` or `v3`; empty means v3.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub rule_syntax: Arc<str>,
    /// 0 means: the length of the rule.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: i64,
    /// Present: TLS connections only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TcpRouterTls>,
    /// Where it was declared, for messages; not part of what it is.
    #[serde(skip)]
    pub source: Source,
}

/// TLS section of a TCP router.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRouterTls {
    /// The connection goes to the server as it is.
    pub passthrough: bool,
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

/// A TCP service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpService {
    /// Servers behind a balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<TcpLoadBalancer>,
    /// Other services by weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighted: Option<Options>,
    /// Where it was declared, for messages; not part of what it is.
    #[serde(skip)]
    pub source: Source,
}

/// TCP servers and how they are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpLoadBalancer {
    /// The servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<TcpServer>,
    /// Name of the transport that reaches the servers.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub servers_transport: Arc<str>,
    /// The PROXY protocol is spoken to the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Milliseconds that one direction lives on after the other has ended; below zero: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination_delay: Option<i64>,
    /// Asks the servers whether they are well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<TcpHealthCheck>,
}

impl TcpLoadBalancer {
    /// What it says besides its servers.
    #[must_use]
    pub fn without_servers(&self) -> Self {
        Self {
            servers: Vec::new(),
            servers_transport: self.servers_transport.clone(),
            proxy_protocol: self.proxy_protocol.clone(),
            termination_delay: self.termination_delay,
            health_check: self.health_check.clone(),
        }
    }
}

/// One TCP server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpServer {
    /// `host:port`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub address: Arc<str>,
    /// Reached by TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: bool,
}

/// The PROXY protocol towards servers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxyProtocol {
    /// 1 or 2.
    #[serde(skip_serializing_if = "is_default")]
    pub version: i64,
}

impl Default for ProxyProtocol {
    fn default() -> Self {
        Self { version: 2 }
    }
}

/// Asks TCP servers whether they are well.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpHealthCheck {
    /// Port; 0 means the server's.
    #[serde(skip_serializing_if = "is_default")]
    pub port: i64,
    /// What is sent first.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub send: Arc<str>,
    /// What must be answered.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub expect: Arc<str>,
    /// Time between two checks of a healthy server.
    #[serde(skip_serializing_if = "is_default")]
    pub interval: GoDuration,
    /// Time between two checks of an unhealthy server; absent means the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_interval: Option<GoDuration>,
    /// How long an answer may take.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: GoDuration,
}

impl Default for TcpHealthCheck {
    fn default() -> Self {
        Self {
            port: 0,
            send: Arc::default(),
            expect: Arc::default(),
            interval: GoDuration::from_seconds(30),
            unhealthy_interval: None,
            timeout: GoDuration::from_seconds(5),
        }
    }
}

/// A TCP middleware: its kind (`inFlightConn`, `ipAllowList`, `ipWhiteList`) with its options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TcpMiddleware {
    /// By kind.
    pub kinds: Options,
    /// Where it was declared, for messages; not part of what it is.
    #[serde(skip)]
    pub source: Source,
}

/// The `udp` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Udp {
    /// By name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub routers: Map<Arc<str>, UdpRouter>,
    /// By name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub services: Map<Arc<str>, UdpService>,
}

/// A UDP router.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UdpRouter {
    /// Entry point names; empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entry_points: Vec<Arc<str>>,
    /// Service name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub service: Arc<str>,
    /// Where it was declared, for messages; not part of what it is.
    #[serde(skip)]
    pub source: Source,
}

/// A UDP service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UdpService {
    /// Servers behind a balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<UdpLoadBalancer>,
    /// Other services by weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighted: Option<Options>,
    /// Where it was declared, for messages; not part of what it is.
    #[serde(skip)]
    pub source: Source,
}

/// UDP servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct UdpLoadBalancer {
    /// The servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<UdpServer>,
}

/// One UDP server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct UdpServer {
    /// `host:port`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub address: Arc<str>,
}
