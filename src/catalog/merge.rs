//! One world out of what the sources say. Pure.
//!
//! What always holds: a source that has answered counts with its own last good inventory; one
//! that has not counts with what was restored from disk, if anything was; one that is switched
//! off does not count at all.

use super::{Snapshot, World};

/// Merges the snapshots of all sources that are switched on; `restored` is the world kept on disk
/// by the last run (empty when there is none, or when it is too old).
pub fn merge<'a>(snapshots: impl IntoIterator<Item = &'a Snapshot>, restored: &World) -> World {
    let sources = snapshots
        .into_iter()
        .filter_map(|snapshot| {
            let provider = snapshot.status.provider;
            let inventory = snapshot.inventory.as_ref().or_else(|| restored.sources.get(&provider))?;
            Some((provider, inventory.clone()))
        })
        .collect();
    World { sources }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Inventory, Service, ServiceKey, SourceStatus};
    use crate::model::Provider;
    use std::sync::Arc;

    fn inventory(name: &str) -> Arc<Inventory> {
        let key = ServiceKey { namespace: "".into(), name: name.into() };
        let service = Arc::new(Service { key: key.clone(), instances: Vec::new() });
        Arc::new(Inventory { services: [(key, service)].into() })
    }

    fn snapshot(provider: Provider, inventory: Option<Arc<Inventory>>) -> Snapshot {
        Snapshot { inventory, status: SourceStatus::starting(provider, "") }
    }

    #[test]
    fn a_source_counts_once_it_answered_and_as_restored_before() {
        let restored = World {
            sources: [(Provider::Nomad, inventory("old")), (Provider::ConsulCatalog, inventory("kept"))].into(),
        };
        let nomad = snapshot(Provider::Nomad, Some(inventory("new")));
        let consul = snapshot(Provider::ConsulCatalog, None);
        let world = merge([&nomad, &consul], &restored);
        assert_eq!(world.sources[&Provider::Nomad], inventory("new"));
        assert_eq!(world.sources[&Provider::ConsulCatalog], inventory("kept"));
        assert!(Arc::ptr_eq(&world.sources[&Provider::Nomad], nomad.inventory.as_ref().unwrap()));
    }

    #[test]
    fn an_empty_answer_counts_and_a_source_that_is_off_does_not() {
        let restored = World {
            sources: [(Provider::Nomad, inventory("old")), (Provider::ConsulCatalog, inventory("off"))].into(),
        };
        let world = merge([&snapshot(Provider::Nomad, Some(Arc::default()))], &restored);
        assert_eq!(world.sources.len(), 1);
        assert!(world.sources[&Provider::Nomad].services.is_empty());
        assert_eq!(merge([&snapshot(Provider::Nomad, None)], &World::default()), World::default());
    }
}
