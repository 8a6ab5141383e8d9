//! *Route*: the table as a worker looks at it, and each router bound to its service.
//!
//! What always holds: a binding is found by the address of the router's `Arc`, which the binding
//! itself keeps alive; what a new table shares with the last one stays bound as long as it is used.

use super::service::{BoundService, Chooser};
use crate::middleware::Memories;
use crate::table::{RequestView, Router, Service, Table};
use crate::upstream::{Pools, Registry};
use arc_swap::{ArcSwap, Cache};
use foldhash::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// A router and what it needs to be served by this worker.
pub(super) struct BoundRouter {
    pub(super) router: Arc<Router>,
    pub(super) service: Rc<BoundService>,
    pub(super) memories: Memories,
}

/// A worker's view of the table.
pub(super) struct Routes {
    table: Cache<Arc<ArcSwap<Table>>, Arc<Table>>,
    // At the last `forget`. Compared only, never followed.
    seen: *const Table,
    chooser: Rc<Chooser>,
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
    pub(super) fn new(table: Arc<ArcSwap<Table>>, chooser: Chooser) -> Self {
        let mut table = Cache::new(table);
        let seen = Arc::as_ptr(table.load());
        Self { table, seen, chooser: Rc::new(chooser), current: Bindings::default(), previous: Bindings::default() }
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
        let router = self.table.load().find(entry_point, tls, request)?;
        if let Some(bound) = self.current.routers.get(&Arc::as_ptr(router)) {
            return Some(bound.clone());
        }
        let router = router.clone();
        Some(self.bind(&router, registry, pools))
    }

    fn bind(&mut self, router: &Arc<Router>, registry: &Registry, pools: &Pools) -> Rc<BoundRouter> {
        let Self { chooser, current, previous, .. } = self;
        let key = Arc::as_ptr(router);
        if let Some(bound) = current.routers.get(&key) {
            return bound.clone();
        }
        let bound = previous.routers.remove(&key).unwrap_or_else(|| {
            let key = Arc::as_ptr(&router.service);
            let service = current.services.get(&key).or_else(|| previous.services.get(&key)).cloned();
            let service =
                service.unwrap_or_else(|| Rc::new(BoundService::new(&router.service, registry, pools, chooser)));
            let memories = Memories::of(router, |name, make| registry.memory(name, make));
            Rc::new(BoundRouter { router: router.clone(), service, memories })
        });
        current.services.insert(Arc::as_ptr(&router.service), bound.service.clone());
        current.routers.insert(key, bound.clone());
        bound
    }

    /// A router as it is now, if its requests are still let through and changed in the same way: for one that waits
    /// behind the middlewares.
    pub(super) fn again(&mut self, router: &Router, registry: &Registry, pools: &Pools) -> Option<Rc<BoundRouter>> {
        let now = self.table.load().routers.get(&router.id)?.clone();
        let alike =
            now.declared == router.declared && now.middlewares == router.middlewares && now.chains == router.chains;
        alike.then(|| self.bind(&now, registry, pools))
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
