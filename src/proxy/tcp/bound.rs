//! TCP services as a worker looks at them: schedules, shared state, connections by server.
//!
//! What always holds: a binding is found by the address of the service's `Arc`, which the binding itself keeps alive;
//! what a new table shares with the last one stays bound as long as it is used.

use crate::balance::wrr::Schedule;
use crate::table::tcp::{Servers, Service, ServiceKind};
use crate::upstream::{Endpoint, Pool, Pools, Registry, ServiceState};
use foldhash::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A service, bound.
pub(super) struct Bound {
    // Keeps the address by which it is found.
    service: Arc<Service>,
    state: Arc<ServiceState>,
    schedule: Schedule,
    kind: Kind,
}

enum Kind {
    Servers(Rc<BoundServers>),
    Weighted(Vec<Rc<Bound>>),
}

/// Servers, bound.
pub(super) struct BoundServers {
    pub(super) pools: Vec<Rc<Pool>>,
    pub(super) termination_delay: Option<Duration>,
}

/// A server that was tried.
pub(super) type Tried = (*const BoundServers, usize);

impl Bound {
    pub(super) fn id(&self) -> &Arc<str> {
        &self.service.id
    }

    /// A server that was not tried; one that is left alone only if there is no other.
    pub(super) fn choose(&self, tried: &[Tried], registry: &Registry) -> Option<(Rc<BoundServers>, usize)> {
        let now = registry.millis(Instant::now());
        let untried = |of: &BoundServers, at: usize| !tried.iter().any(|(by, i)| std::ptr::eq(*by, of) && *i == at);
        let is_good = |of: &BoundServers, at: usize| untried(of, at) && !of.pools[at].state().is_ejected(now);
        // One that another connection tries just now is ejected by then, so that this comes to an end.
        let good = std::iter::from_fn(|| self.pick(&is_good)).take(self.count());
        let good = good.into_iter().find(|(of, at)| of.pools[*at].state().may_try(now));
        good.or_else(|| self.pick(&untried))
    }

    fn count(&self) -> usize {
        match &self.kind {
            Kind::Servers(of) => of.pools.len(),
            Kind::Weighted(parts) => parts.iter().map(|part| part.count()).sum(),
        }
    }

    fn has(&self, usable: &dyn Fn(&BoundServers, usize) -> bool) -> bool {
        match &self.kind {
            Kind::Servers(of) => (0..of.pools.len()).any(|at| usable(of, at)),
            Kind::Weighted(parts) => parts.iter().any(|part| part.has(usable)),
        }
    }

    fn pick(&self, usable: &dyn Fn(&BoundServers, usize) -> bool) -> Option<(Rc<BoundServers>, usize)> {
        match &self.kind {
            Kind::Servers(of) => {
                let at = self.schedule.pick(|| self.state.next(), |at| usable(of, at))?;
                Some((of.clone(), at))
            }
            Kind::Weighted(parts) => {
                let at = self.schedule.pick(|| self.state.next(), |at| parts[at].has(usable))?;
                parts[at].pick(usable)
            }
        }
    }
}

/// The bindings of a worker.
#[derive(Default)]
pub(in crate::proxy) struct Bindings {
    current: HashMap<*const Service, Rc<Bound>>,
    // Not used since the last `forget`; what is used moves over.
    previous: HashMap<*const Service, Rc<Bound>>,
}

impl Bindings {
    /// The binding of a service, made if need be.
    pub(super) fn get(&mut self, service: &Arc<Service>, registry: &Registry, pools: &Pools) -> Rc<Bound> {
        let key = Arc::as_ptr(service);
        if let Some(bound) = self.current.get(&key) {
            return bound.clone();
        }
        let bound = match self.previous.remove(&key) {
            Some(bound) => bound,
            None => self.bind(service, registry, pools),
        };
        self.current.insert(key, bound.clone());
        bound
    }

    fn bind(&mut self, service: &Arc<Service>, registry: &Registry, pools: &Pools) -> Rc<Bound> {
        let (schedule, kind) = match &service.kind {
            ServiceKind::Servers(servers) => {
                (Schedule::new(&vec![1; servers.servers.len()]), Kind::Servers(Rc::new(bind(servers, registry, pools))))
            }
            ServiceKind::Weighted(parts) => {
                // Where nobody is to get anything, nobody does.
                let weights: Vec<u32> = parts.iter().map(|(_, weight)| *weight).filter(|weight| *weight > 0).collect();
                let parts = parts.iter().filter(|(_, weight)| *weight > 0);
                let parts = parts.map(|(part, _)| self.get(part, registry, pools));
                (Schedule::new(&weights), Kind::Weighted(parts.collect()))
            }
        };
        // HTTP services may have the same names.
        let state = registry.service(&format!("tcp:{}", service.id).into());
        Rc::new(Bound { service: service.clone(), state, schedule, kind })
    }

    /// Lets go of what was not used between two calls.
    pub(in crate::proxy) fn forget(&mut self) {
        self.previous = std::mem::take(&mut self.current);
    }
}

fn bind(of: &Servers, registry: &Registry, pools: &Pools) -> BoundServers {
    let settings = pools.settings_of(&of.transport);
    let pools = of.servers.iter().map(|server| {
        let endpoint = Endpoint { tls: server.tls, h2c: false, host: server.host.clone(), port: server.port };
        pools.get(registry, &server.id, &endpoint, &settings)
    });
    BoundServers { pools: pools.collect(), termination_delay: of.termination_delay }
}
