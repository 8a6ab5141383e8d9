//! The table itself: what is routed now, immutable and shared, and the look-up of a request.

use super::index::Index;
use super::tcp::{ServiceKind, Tcp};
use super::{Middleware, Router, Service, TlsHosts, Transport};
use crate::declare::{self, Declarations, LoadBalancer};
use crate::model::{Map, Provider, ServerId};
use crate::rule::RequestView;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is routed: routers, services, middlewares and transports by qualified name. Two tables are equal when
/// they route alike, whatever they were built from.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Routers, those that lost a conflict included.
    pub routers: Map<Arc<str>, Router>,
    /// Services.
    pub services: Map<Arc<str>, Service>,
    /// Middlewares.
    pub middlewares: Map<Arc<str>, Middleware>,
    /// How services may be reached.
    pub transports: Map<Arc<str>, Transport>,
    /// Routers that get no requests because another one of equal rule, priority and entry points
    /// does: by the loser's name, the winner's.
    pub shadowed: Map<Arc<str>, str>,
    /// TCP.
    pub tcp: Arc<Tcp>,
    pub(super) tls: Arc<TlsHosts>,
    pub(super) index: Index,
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.routers == other.routers
            && self.services == other.services
            && self.middlewares == other.middlewares
            && self.transports == other.transports
            && self.shadowed == other.shadowed
            && self.tls == other.tls
            && self.tcp == other.tcp
            && self.index.entry_points() == other.index.entry_points()
    }
}

impl Eq for Table {}

impl Table {
    /// The servers of all services.
    pub fn server_ids(&self) -> impl Iterator<Item = &ServerId> {
        let tcp = self.tcp.services.values().filter_map(|service| match &service.kind {
            ServiceKind::Servers(of) => Some(of.servers.iter().map(|server| &server.id)),
            ServiceKind::Weighted(_) => None,
        });
        let http = self.services.values().flat_map(|service| service.servers.iter().map(|server| &server.id));
        http.chain(tcp.flatten())
    }

    /// The router that takes the request: of all that match on this entry point the one of the
    /// highest priority; of equal ones the older registration, then by provider, namespace and
    /// name. `tls` tells whether the connection is encrypted. Allocates nothing.
    pub fn find(&self, entry_point: &str, tls: bool, request: &impl RequestView) -> Option<&Arc<Router>> {
        self.index.walk(entry_point, tls, request, &mut ())
    }

    /// Whether a router gets requests, as far as routers that are alike go.
    pub(super) fn is_active(&self, id: &str) -> bool {
        !self.shadowed.contains_key(id)
    }

    /// The accepted definitions as declarations, for the store: built again they give this table.
    pub fn declarations(&self) -> Declarations {
        let mut out = Declarations::new();
        // what a router runs beyond its own middlewares is its service's
        let mut of_services: BTreeMap<&Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
        for router in self.routers.values() {
            let own = router.declared.middlewares.len();
            let further: Vec<_> = router.middlewares.iter().skip(own).map(|m| m.id.clone()).collect();
            let known = of_services.entry(&router.service.id).or_default();
            if further.len() > known.len() {
                *known = further;
            }
            let name = unqualified(&router.id);
            out.entry(router.provider).or_default().http.routers.insert(name, router.declared.clone());
        }
        for (id, service) in &self.services {
            let Some(provider) = provider_of(id) else { continue };
            if let Some(composite) = &service.composite {
                let middlewares = of_services.remove(id).unwrap_or_default();
                let declared = declare::Service { middlewares, ..composite.declared.clone() };
                out.entry(provider).or_default().http.services.insert(unqualified(id), Arc::new(declared));
                continue;
            }
            let servers = service.servers.iter().map(|s| declare::Server {
                url: s.id.url.clone(),
                weight: (s.weight != 1).then_some(s.weight),
                preserve_path: s.base.is_some(),
            });
            let mut load_balancer = LoadBalancer {
                servers: servers.collect(),
                strategy: service.strategy.clone(),
                sticky: service.sticky.as_ref().map(|s| declare::Sticky { cookie: Some(s.declared.clone()) }),
                pass_host_header: service.pass_host_header,
                health_check: service.health.as_ref().map(|health| health.declared.clone()),
                passive_health_check: service.passive.map(|passive| passive.declared()),
                servers_transport: service.transport.as_ref().map_or_else(Arc::default, |t| t.id.clone()),
                ..LoadBalancer::default()
            };
            if let Some(limit) = &service.limit {
                limit.declare(&mut load_balancer);
            }
            let declared = declare::Service {
                middlewares: of_services.remove(id).unwrap_or_default(),
                load_balancer: Some(load_balancer),
                ..declare::Service::default()
            };
            out.entry(provider).or_default().http.services.insert(unqualified(id), Arc::new(declared));
        }
        for (id, middleware) in &self.middlewares {
            let Some(provider) = provider_of(id) else { continue };
            let declared = declare::Middleware { kind: middleware.kind.clone(), source: declare::Source::default() };
            out.entry(provider).or_default().http.middlewares.insert(unqualified(id), Arc::new(declared));
        }
        self.tcp.declare(&mut out);
        // one that is gone stays in force where nothing better was said
        let used = self
            .services
            .values()
            .filter_map(|service| Some((&service.transport.as_ref()?.id, service.transport.as_ref()?)));
        for (id, transport) in used.chain(&self.transports) {
            let Some(provider) = provider_of(id) else { continue };
            out.entry(provider)
                .or_default()
                .http
                .servers_transports
                .insert(unqualified(id), transport.declared.clone());
        }
        out
    }
}

/// The name before the last `@`.
pub(super) fn unqualified(id: &str) -> Arc<str> {
    id.rsplit_once('@').map_or(id, |(name, _)| name).into()
}

/// The provider behind the last `@`.
pub(super) fn provider_of(id: &str) -> Option<Provider> {
    let (_, name) = id.rsplit_once('@')?;
    [Provider::Internal, Provider::File, Provider::Rest, Provider::Nomad, Provider::ConsulCatalog]
        .into_iter()
        .find(|p| p.as_str() == name)
}
