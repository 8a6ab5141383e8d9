//! What changed between two tables, and who caused it.

use super::{Router, Service, Table};
use crate::declare::Source;
use crate::model::Provider;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How a definition changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was not there.
    Added,
    /// It is another one.
    Changed,
    /// It is gone.
    Removed,
}

/// Changes of one kind of definition, by qualified name.
pub type Changes = BTreeMap<Arc<str>, Change>;

/// Who caused a change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cause {
    /// Provider.
    pub provider: Provider,
    /// Namespace of the catalog service.
    pub namespace: Arc<str>,
    /// Catalog service; empty for definitions of files.
    pub service: Arc<str>,
}

/// The difference of two tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Routers.
    pub routers: Changes,
    /// Services: settings or servers.
    pub services: Changes,
    /// Who caused it: the catalog services that declare the routers concerned.
    pub causes: BTreeSet<Cause>,
}

impl Diff {
    /// True when both tables route alike.
    pub fn is_empty(&self) -> bool {
        self.routers.is_empty() && self.services.is_empty()
    }
}

/// Compares two tables. What both share is told by its `Arc`, so that a small change is found fast.
pub fn diff(before: &Table, after: &Table) -> Diff {
    let routers = changes(&before.routers, &after.routers);
    let services = changes(&before.services, &after.services);
    let mut causes = BTreeSet::new();
    let cause = |router: &Arc<Router>| {
        let Source { namespace, service, .. } = &router.declared.source;
        Cause { provider: router.provider, namespace: namespace.clone(), service: service.clone() }
    };
    for name in routers.keys() {
        causes.extend(after.routers.get(name).or_else(|| before.routers.get(name)).map(cause));
    }
    // a service whose servers changed is caused by whoever routes to it
    if !services.is_empty() {
        let touched = |service: &Arc<Service>| services.contains_key(&service.id);
        causes.extend(after.routers.values().filter(|r| touched(&r.service)).map(cause));
    }
    Diff { routers, services, causes }
}

fn changes<T: PartialEq>(before: &BTreeMap<Arc<str>, Arc<T>>, after: &BTreeMap<Arc<str>, Arc<T>>) -> Changes {
    let mut changes = Changes::new();
    for (name, new) in after {
        match before.get(name) {
            None => drop(changes.insert(name.clone(), Change::Added)),
            Some(old) if !Arc::ptr_eq(old, new) && old != new => drop(changes.insert(name.clone(), Change::Changed)),
            Some(_) => {}
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        changes.insert(name.clone(), Change::Removed);
    }
    changes
}
