//! TCP routers, services and middlewares of a table, and which router takes a connection
//! (<https://doc.traefik.io/traefik/reference/routing-configuration/tcp/router/rules-and-priority/>).
//!
//! What always holds: these are plain values, as the rest of the table; a build leaves them alone unless what is declared
//! of TCP (or the names of TLS options) changed, and then what did not change keeps its `Arc`. An entry point without a
//! TCP router has no [`Door`].

mod build;
mod parts;
mod routers;
#[cfg(test)]
mod tests;

use super::index::Order;
use super::table::{provider_of, unqualified};
use super::{Check, DEFAULT_TRANSPORT, Table, Transport};
use crate::declare::{self, Declarations};
use crate::model::{Map, Provider, ServerId};
use crate::rule::{ConnectionView, Matcher};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What is routed of TCP, by qualified name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Routers, those that lost a conflict included.
    pub routers: Map<Arc<str>, Router>,
    /// Services.
    pub services: Map<Arc<str>, Service>,
    /// Middlewares.
    pub middlewares: Map<Arc<str>, Middleware>,
    /// How services may be reached.
    pub transports: Map<Arc<str>, TcpTransport>,
    /// Routers that get no connections because another one of equal rule, priority and entry points does: by the loser's
    /// name, the winner's.
    pub shadowed: Map<Arc<str>, str>,
    doors: BTreeMap<Arc<str>, Door>,
}

/// A TCP router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    /// Qualified name, `db@nomad`.
    pub id: Arc<str>,
    /// Who declared it.
    pub provider: Provider,
    /// Entry points that it is on, resolved (never empty).
    pub entry_points: Vec<Arc<str>>,
    /// Effective priority: as declared, else the rule's length in bytes, and -1 for ``HostSNI(`*`)``.
    pub priority: i64,
    /// What it does with TLS; `None` takes plain connections.
    pub tls: Option<Tls>,
    /// Its rule is ``HostSNI(`*`)`` and nothing else.
    pub catch_all: bool,
    /// Middlewares in order of execution.
    pub middlewares: Vec<Arc<Middleware>>,
    /// The service that gets the connections.
    pub service: Arc<Service>,
    /// What it was declared as, for the API.
    pub declared: Arc<declare::TcpRouter>,
    matching: Matching,
}

/// What a router does with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// The server gets it as it is.
    Passthrough,
    /// It ends here.
    Terminate {
        /// Qualified name of the TLS options.
        options: Arc<str>,
    },
}

/// A compiled rule. It follows from the rule's text, so that all are equal.
#[derive(Debug, Clone)]
struct Matching(Arc<Matcher>);

impl PartialEq for Matching {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Matching {}

/// A TCP service, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Qualified name, `db@nomad`.
    pub id: Arc<str>,
    /// Who gets a connection.
    pub kind: ServiceKind,
    /// What it was declared as, for the API.
    pub declared: Arc<declare::TcpService>,
}

/// Who gets a service's connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceKind {
    /// Servers in turn.
    Servers(Servers),
    /// Services by their weights.
    Weighted(Vec<(Arc<Service>, u32)>),
}

/// Servers, and how they are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// Sorted by address.
    pub servers: Vec<Arc<Server>>,
    /// How they are reached.
    pub transport: Arc<Transport>,
    /// How long one direction lives on after the other has ended; `None` means until it ends by itself.
    pub termination_delay: Option<Duration>,
    /// How they are asked whether they are well.
    pub health: Option<Check>,
}

/// One TCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Identity, the key of the registry; its URL is `tcp://host:port` or `tls://host:port`.
    pub id: ServerId,
    /// Its address as declared.
    pub address: Arc<str>,
    /// Reached by TLS.
    pub tls: bool,
    /// Host without brackets: an address or a DNS name.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
}

/// How TCP servers are reached, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpTransport {
    /// Dialling, TLS, PROXY protocol.
    pub transport: Arc<Transport>,
    /// See [`Servers::termination_delay`].
    pub termination_delay: Option<Duration>,
}

/// A TCP middleware, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Middleware {
    /// Qualified name.
    pub id: Arc<str>,
    /// What it does.
    pub kind: MiddlewareKind,
    /// What it was declared as, for the API.
    pub declared: Arc<declare::TcpMiddleware>,
}

/// What a TCP middleware does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MiddlewareKind {
    /// Only clients of these networks get through.
    AllowList(Vec<IpNet>),
    /// Clients of these networks do not.
    DenyList(Vec<IpNet>),
    /// A client has at most so many connections at once.
    InFlight(u64),
}

/// The routers of one entry point in the order in which they are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Door {
    plain: Vec<Entry>,
    tls: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    router: Arc<Router>,
    order: Order,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.router == other.router
    }
}

impl Eq for Entry {}

impl Door {
    /// Whether there are routers of plain connections.
    pub fn has_plain(&self) -> bool {
        !self.plain.is_empty()
    }

    /// Whether there are routers of TLS connections.
    pub fn has_tls(&self) -> bool {
        !self.tls.is_empty()
    }

    /// The router that takes a plain connection.
    pub fn plain(&self, connection: &impl ConnectionView) -> Option<&Arc<Router>> {
        first(&self.plain, connection)
    }

    /// The router that takes a TLS connection, were there no routers of HTTPS.
    pub fn tls(&self, connection: &impl ConnectionView) -> Option<&Arc<Router>> {
        first(&self.tls, connection)
    }
}

fn first<'a>(entries: &'a [Entry], connection: &impl ConnectionView) -> Option<&'a Arc<Router>> {
    entries.iter().map(|entry| &entry.router).find(|router| router.matching.0.matches_connection(connection))
}

impl Table {
    /// The TCP routers of an entry point; `None` where there is none.
    pub fn tcp_door(&self, entry_point: &str) -> Option<&Door> {
        self.tcp.doors.get(entry_point)
    }

    /// The TCP router that takes a TLS connection. As in Traefik (`pkg/server/router/tcp/router.go`) an HTTPS router that
    /// names the host goes first, then TCP routers but those of any name, then HTTPS routers of any host, then the others.
    pub fn tcp_over_tls(&self, entry_point: &str, connection: &impl ConnectionView) -> Option<&Arc<Router>> {
        let router = self.tcp_door(entry_point)?.tls(connection)?;
        let https = self.index.over_tls(entry_point, connection.server_name(), router.catch_all);
        let yields = https.names || router.catch_all && https.takes_any;
        (!yields).then_some(router)
    }

    /// Whether a plain connection can be routed before its first byte: by TCP routers alone, where nothing but them
    /// could take it.
    pub fn tcp_is_early(&self, entry_point: &str, door: &Door) -> bool {
        door.has_plain() && !door.has_tls() && !self.index.is_over_tls(entry_point)
    }

    /// The TLS options that TCP routers name.
    pub(super) fn tcp_tls_options(&self) -> BTreeSet<&Arc<str>> {
        let routers = self.tcp.routers.values();
        let options = routers.filter_map(|router| match &router.tls {
            Some(Tls::Terminate { options }) => Some(options),
            _ => None,
        });
        options.collect()
    }
}

impl Tcp {
    /// The transports of all services, for whoever makes them ready.
    pub fn all_transports(&self) -> impl Iterator<Item = &Arc<Transport>> {
        let of_services = self.services.values().filter_map(|service| match &service.kind {
            ServiceKind::Servers(servers) => Some(&servers.transport),
            ServiceKind::Weighted(_) => None,
        });
        of_services.chain(self.transports.values().map(|transport| &transport.transport))
    }

    /// Adds the accepted definitions: built again they give this. What is named by something that stays in force is
    /// among them, even if it is declared no more.
    pub(super) fn declare(&self, out: &mut Declarations) {
        for router in self.routers.values() {
            if let Some(tcp) = section(out, &router.id) {
                tcp.routers.insert(unqualified(&router.id), router.declared.clone());
            }
            router.service.declare(out);
            router.middlewares.iter().for_each(|middleware| middleware.declare(out));
        }
        // what is in force now goes before what it was for others
        self.services.values().for_each(|service| service.declare(out));
        self.middlewares.values().for_each(|middleware| middleware.declare(out));
        for (id, transport) in &self.transports {
            if let Some(tcp) = section(out, id) {
                tcp.servers_transports.insert(unqualified(id), transport.transport.declared.clone());
            }
        }
    }
}

/// The TCP declarations of the provider that a qualified name has.
fn section<'a>(out: &'a mut Declarations, id: &str) -> Option<&'a mut declare::Tcp> {
    Some(&mut out.entry(provider_of(id)?).or_default().tcp)
}

impl Service {
    fn declare(&self, out: &mut Declarations) {
        match &self.kind {
            ServiceKind::Weighted(parts) => parts.iter().for_each(|(part, _)| part.declare(out)),
            ServiceKind::Servers(servers) if *servers.transport.id == *DEFAULT_TRANSPORT => {}
            ServiceKind::Servers(servers) => {
                let transport = &servers.transport;
                if let Some(tcp) = section(out, &transport.id) {
                    tcp.servers_transports.insert(unqualified(&transport.id), transport.declared.clone());
                }
            }
        }
        if let Some(tcp) = section(out, &self.id) {
            tcp.services.insert(unqualified(&self.id), self.declared.clone());
        }
    }
}

impl Middleware {
    fn declare(&self, out: &mut Declarations) {
        if let Some(tcp) = section(out, &self.id) {
            tcp.middlewares.insert(unqualified(&self.id), self.declared.clone());
        }
    }
}
