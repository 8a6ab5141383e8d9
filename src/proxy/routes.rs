//! *Route*: the table as a worker looks at it, and each router and service bound to its slots:
//! schedules, shared state, pools.
//!
//! What always holds: a binding is found by the address of the router's `Arc`, which the binding
//! itself keeps alive; what a new table shares with the last one stays bound as long as it is used.

use crate::balance::{rendezvous, wrr::Schedule};
use crate::table::{RequestView, Router, Service, Strategy, Table};
use crate::upstream::{Endpoint, Pool, Pools, Registry, ServiceState};
use arc_swap::{ArcSwap, Cache};
use foldhash::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// A router and what it needs to be served by this worker.
pub(super) struct BoundRouter {
    pub(super) router: Arc<Router>,
    pub(super) service: Rc<BoundService>,
}

/// A service, bound.
pub(super) struct BoundService {
    pub(super) service: Arc<Service>,
    pub(super) servers: Vec<BoundServer>,
    state: Arc<ServiceState>,
    schedule: Schedule,
}

/// A server, bound.
pub(super) struct BoundServer {
    pub(super) pool: Rc<Pool>,
    fingerprint: u64,
}

impl BoundService {
    fn new(service: &Arc<Service>, registry: &Registry, pools: &Pools) -> Self {
        let weights: Vec<u32> = service.servers.iter().map(|server| server.weight).collect();
        let settings = pools.settings(service);
        let servers = service.servers.iter().map(|server| {
            let endpoint = Endpoint { tls: server.tls, h2c: server.h2c, host: server.host.clone(), port: server.port };
            BoundServer {
                pool: pools.get(registry, &server.id, &endpoint, &settings),
                fingerprint: rendezvous::fingerprint(&server.id.url),
            }
        });
        Self {
            servers: servers.collect(),
            state: registry.service(&service.id),
            schedule: Schedule::new(&weights),
            service: service.clone(),
        }
    }

    /// *Choose*: a server that was not tried; one that is left alone only if there is no other.
    pub(super) fn choose(&self, client: std::net::IpAddr, tried: &[usize], registry: &Registry) -> Option<usize> {
        if let [_] = *self.servers {
            return tried.is_empty().then_some(0);
        }
        let now = registry.millis(std::time::Instant::now());
        let untried = |at: usize| !tried.contains(&at);
        let state = |at: usize| self.servers[at].pool.state();
        let good = || self.pick(client, |at| untried(at) && !state(at).is_ejected(now));
        // One that another request is trying just now is ejected by then, so that this comes to an end.
        let good = std::iter::from_fn(good).take(self.servers.len()).find(|at| state(*at).may_try(now));
        good.or_else(|| self.pick(client, untried)).or_else(|| {
            // What is left has no weight; still better than no answer.
            (0..self.servers.len()).find(|at| untried(*at))
        })
    }

    fn pick(&self, client: std::net::IpAddr, usable: impl Fn(usize) -> bool) -> Option<usize> {
        match self.service.strategy {
            Strategy::Wrr => self.schedule.pick(|| self.state.next(), usable),
            Strategy::IpHash => {
                let fingerprints = self.servers.iter().map(|server| server.fingerprint);
                rendezvous::pick(rendezvous::client(client), fingerprints, usable)
            }
        }
    }
}

/// A worker's view of the table.
pub(super) struct Routes {
    table: Cache<Arc<ArcSwap<Table>>, Arc<Table>>,
    // At the last `forget`. Compared only, never followed.
    seen: *const Table,
    current: Bindings,
    // Not used since the last `forget` that saw another table; what is used moves over.
    previous: Bindings,
}

#[derive(Default)]
struct Bindings {
    routers: HashMap<*const Router, Rc<BoundRouter>>,
    services: HashMap<*const Service, Rc<BoundService>>,
}

impl Routes {
    pub(super) fn new(table: Arc<ArcSwap<Table>>) -> Self {
        let mut table = Cache::new(table);
        let seen = Arc::as_ptr(table.load());
        Self { table, seen, current: Bindings::default(), previous: Bindings::default() }
    }

    /// The table of this moment.
    pub(super) fn table(&mut self) -> &Arc<Table> {
        self.table.load()
    }

    /// The router that takes a request by the table of this moment.
    pub(super) fn find(
        &mut self,
        entry_point: &str,
        tls: bool,
        request: &impl RequestView,
        registry: &Registry,
        pools: &Pools,
    ) -> Option<Rc<BoundRouter>> {
        let Self { table, current, previous, .. } = self;
        let router = table.load().find(entry_point, tls, request)?;
        let key = Arc::as_ptr(router);
        if let Some(bound) = current.routers.get(&key) {
            return Some(bound.clone());
        }
        let bound = previous.routers.remove(&key).unwrap_or_else(|| {
            let key = Arc::as_ptr(&router.service);
            let service = current.services.get(&key).or_else(|| previous.services.get(&key)).cloned();
            let service = service.unwrap_or_else(|| Rc::new(BoundService::new(&router.service, registry, pools)));
            Rc::new(BoundRouter { router: router.clone(), service })
        });
        current.services.insert(Arc::as_ptr(&router.service), bound.service.clone());
        current.routers.insert(key, bound.clone());
        Some(bound)
    }

    /// Whether a router's requests may come by a connection that was made with these TLS options.
    pub(super) fn takes(&mut self, router: &Router, entry_point: &str, tls_options: &str) -> bool {
        self.table.load().tls_options_of(entry_point, router) == tls_options
    }

    /// Lets go of bindings that only earlier tables may have: what was not used between two calls with another table.
    /// A new table by itself costs a worker nothing, however many bindings there are.
    pub(super) fn forget(&mut self) {
        // A worker without requests would otherwise hold an old table for ever.
        let table = Arc::as_ptr(self.table.load());
        self.previous = if table == self.seen { Bindings::default() } else { std::mem::take(&mut self.current) };
        self.seen = table;
    }
}
