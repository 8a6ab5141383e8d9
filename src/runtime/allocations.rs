//! What catalogs say of health beside their inventories (the checks of Nomad's allocations), taken to the servers of the
//! table by their addresses: a port that a label says instead of the instance's own is not what the checks are about.
//!
//! What always holds: a server of which nothing is said is left alone; what is said of one that goes, or no more, is taken back; a change
//! costs what it changes, of the table as of the reports.

use crate::catalog::{CheckState, Report, Reports, ServiceKey};
use crate::model::{Difference, Map, Provider, ServerId};
use crate::table::Service;
use crate::upstream::{Registry, ServerState, Verdict};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Where an instance is, by its provider.
type Place = (Provider, Arc<str>, u16);

/// What is said of the instances at one address.
type Said = BTreeMap<(ServiceKey, Arc<str>), Arc<Report>>;

/// The servers and what is said of them.
#[derive(Debug)]
pub(super) struct Allocations {
    registry: Arc<Registry>,
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    reports: BTreeMap<Provider, Reports>,
    /// Of several services, those with checks.
    said: HashMap<Place, Said>,
    /// Of the table in force.
    servers: HashMap<Place, BTreeSet<ServerId>>,
    /// Those of which something is said; what the registry knows of them stays as long as it is.
    judged: HashMap<ServerId, Arc<ServerState>>,
}

impl Allocations {
    /// Without a table, and nothing said.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, inner: RefCell::default() }
    }

    /// Takes up what a catalog says now.
    pub fn report(&self, provider: Provider, reports: Reports) {
        let inner = &mut *self.inner.borrow_mut();
        let before = inner.reports.insert(provider, reports.clone()).unwrap_or_default();
        let mut touched = BTreeSet::new();
        for Difference { key, before, after } in before.instances.differences(&reports.instances) {
            if let Some(report) = before {
                let place = (provider, report.host.clone(), report.port);
                if let Some(said) = inner.said.get_mut(&place) {
                    said.remove(key);
                    if said.is_empty() {
                        inner.said.remove(&place);
                    }
                }
                touched.insert(place);
            }
            if let Some(report) = after {
                let place = (provider, report.host.clone(), report.port);
                inner.said.entry(place.clone()).or_default().insert(key.clone(), report.clone());
                touched.insert(place);
            }
        }
        for place in touched {
            let servers: Vec<ServerId> = inner.servers.get(&place).into_iter().flatten().cloned().collect();
            servers.iter().for_each(|id| inner.judge(&self.registry, id, &place));
        }
    }

    /// Takes up what changes from one table's services to the next one's; to be called before that is in force.
    pub fn update(&self, before: &Map<Arc<str>, Service>, after: &Map<Arc<str>, Service>) {
        let inner = &mut *self.inner.borrow_mut();
        for Difference { key, before, after } in before.differences(after) {
            let Some(provider) = provider_of(key) else { continue };
            let places = |service: Option<&Arc<Service>>| -> BTreeMap<ServerId, Place> {
                let servers = service.into_iter().flat_map(|service| &service.servers);
                servers.map(|server| (server.id.clone(), (provider, server.host.clone(), server.port))).collect()
            };
            let (before, after) = (places(before), places(after));
            for (id, place) in before.iter().filter(|(id, _)| !after.contains_key(*id)) {
                if let Some(servers) = inner.servers.get_mut(place) {
                    servers.remove(id);
                    if servers.is_empty() {
                        inner.servers.remove(place);
                    }
                }
                if let Some(state) = inner.judged.remove(id) {
                    state.reported(Verdict::Unchecked, None);
                }
            }
            for (id, place) in after.iter().filter(|(id, _)| !before.contains_key(*id)) {
                inner.servers.entry(place.clone()).or_default().insert(id.clone());
                inner.judge(&self.registry, id, place);
            }
        }
    }
}

impl Inner {
    /// Tells the registry what is said of a server.
    fn judge(&mut self, registry: &Registry, id: &ServerId, place: &Place) {
        let said = self.said.get(place).map(|said| worst(said, id));
        let known = self.judged.get(id).cloned();
        let (Some(state), Some(said)) = (known.clone().or_else(|| said.map(|_| registry.server(id))), said) else {
            if let Some(state) = known {
                self.judged.remove(id);
                state.reported(Verdict::Unchecked, None);
                registry.tell();
            }
            return;
        };
        let (verdict, why) = match said {
            CheckState::Pending => (Verdict::Awaited, None),
            CheckState::Passing => (Verdict::Passing, None),
            CheckState::Failing(why) => (Verdict::Failing, Some(why.clone())),
        };
        let before = state.report();
        state.reported(verdict, why.clone());
        self.judged.insert(id.clone(), state);
        if before != verdict {
            let (service, server) = (&id.service, &id.url);
            match (verdict, why) {
                (Verdict::Failing, why) => {
                    let why = why.as_deref().unwrap_or_default();
                    tracing::warn!(%service, %server, why, "server's check in the catalog fails");
                }
                (Verdict::Passing, _) if before != Verdict::Unchecked => {
                    tracing::info!(%service, %server, "server's checks in the catalog pass");
                }
                _ => {}
            }
            registry.tell();
        }
    }
}

/// What speaks most against a server. Where a service of its own name is at its address, only that is asked.
fn worst<'a>(said: &'a Said, id: &ServerId) -> &'a CheckState {
    let name = id.service.rsplit_once('@').map_or(&*id.service, |(name, _)| name);
    let own = said.keys().any(|(key, _)| *key.name == *name);
    let states = said.iter().filter(|((key, _), _)| !own || *key.name == *name).map(|(_, report)| &report.state);
    let rank = |state: &&CheckState| match state {
        CheckState::Passing => 0,
        CheckState::Pending => 1,
        CheckState::Failing(_) => 2,
    };
    states.max_by_key(rank).unwrap_or(&CheckState::Passing)
}

fn provider_of(service: &str) -> Option<Provider> {
    // The only one of which anything is said.
    let provider = Provider::Nomad;
    service.rsplit_once('@').is_some_and(|(_, name)| name == provider.as_str()).then_some(provider)
}
