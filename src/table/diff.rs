//! What changed between two tables, and who caused it.

use super::table::provider_of;
use super::{Router, Table};
use crate::declare::Source;
use crate::model::{Difference, Map, Provider};
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
    /// TCP routers, and services whose routers stayed as they were.
    #[serde(skip_serializing_if = "Changes::is_empty")]
    pub tcp: Changes,
    /// Who caused it: the catalog services that declare the routers concerned.
    pub causes: BTreeSet<Cause>,
}

impl Diff {
    /// True when both tables route alike.
    pub fn is_empty(&self) -> bool {
        self.routers.is_empty() && self.services.is_empty() && self.tcp.is_empty()
    }
}

/// Compares two tables. What both share is passed over, so that it costs what differs.
pub fn diff(before: &Table, after: &Table) -> Diff {
    let routers = changes(&before.routers, &after.routers);
    let services = changes(&before.services, &after.services);
    let mut causes = BTreeSet::new();
    let cause = |router: &Arc<Router>| {
        let Source { namespace, service, .. } = &router.declared.source;
        Cause { provider: router.provider, namespace: namespace.clone(), service: service.clone() }
    };
    // whoever routes to a service that changed is among them: the service is a part of the router
    for name in routers.keys() {
        causes.extend(after.routers.get(name).or_else(|| before.routers.get(name)).map(cause));
    }
    let tcp = tcp(before, after, &mut causes);
    Diff { routers, services, tcp, causes }
}

fn tcp(before: &Table, after: &Table, causes: &mut BTreeSet<Cause>) -> Changes {
    if Arc::ptr_eq(&before.tcp, &after.tcp) {
        return Changes::new();
    }
    let (before, after) = (&before.tcp, &after.tcp);
    let mut all = changes(&before.routers, &after.routers);
    for (id, change) in changes(&before.services, &after.services) {
        all.entry(id).or_insert(change);
    }
    for id in all.keys() {
        let router = after.routers.get(id).or_else(|| before.routers.get(id)).map(|router| &router.declared.source);
        let service = || after.services.get(id).or_else(|| before.services.get(id)).map(|s| &s.declared.source);
        if let (Some(source), Some(provider)) = (router.or_else(service), provider_of(id)) {
            let Source { namespace, service, .. } = source;
            causes.insert(Cause { provider, namespace: namespace.clone(), service: service.clone() });
        }
    }
    all
}

fn changes<T: PartialEq>(before: &Map<Arc<str>, T>, after: &Map<Arc<str>, T>) -> Changes {
    let change = |difference: Difference<'_, Arc<str>, T>| {
        let change = match (difference.before, difference.after) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (Some(old), Some(new)) if old != new => Change::Changed,
            _ => return None,
        };
        Some((difference.key.clone(), change))
    };
    before.differences(after).filter_map(change).collect()
}
