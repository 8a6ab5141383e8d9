//! Names that several services of one provider define: who has the name, what joins, what is
//! refused. The holder of a name keeps it while it declares it at all; a free name goes to the
//! older registration.

use super::fragment::{Def, Define, conflict};
use crate::catalog::ServiceKey;
use crate::diagnostic::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All claims to names of one kind.
pub struct Claims<T> {
    names: BTreeMap<Arc<str>, Claim<T>>,
}

struct Claim<T> {
    holder: Option<ServiceKey>,
    defs: BTreeMap<ServiceKey, Def<T>>,
}

impl<T> Default for Claims<T> {
    fn default() -> Self {
        Self { names: BTreeMap::new() }
    }
}

impl<T: Define> Claims<T> {
    /// Replaces what a service (or a pool) declares; the names concerned are added to `touched`.
    pub fn replace(
        &mut self,
        by: &ServiceKey,
        old: &BTreeMap<Arc<str>, Def<T>>,
        new: &BTreeMap<Arc<str>, Def<T>>,
        touched: &mut BTreeSet<Arc<str>>,
    ) {
        for name in old.keys().filter(|n| !new.contains_key(*n)) {
            if let Some(claim) = self.names.get_mut(name) {
                claim.defs.remove(by);
                touched.insert(name.clone());
            }
        }
        for (name, def) in new {
            // the source is no part of equality and may still have changed: the older one counts
            let same =
                |old: &Def<T>| old == def && old.value().source().create_index == def.value().source().create_index;
            if old.get(name).is_some_and(same) {
                continue;
            }
            let claim = self.names.entry(name.clone()).or_insert_with(|| Claim { holder: None, defs: BTreeMap::new() });
            claim.defs.insert(by.clone(), def.clone());
            touched.insert(name.clone());
        }
    }

    /// What a name stands for now, and what is refused about it.
    pub fn resolve(&mut self, name: &Arc<str>) -> (Option<Def<T>>, Vec<Diagnostic>) {
        let Some(claim) = self.names.get_mut(name) else { return (None, Vec::new()) };
        if claim.defs.is_empty() {
            self.names.remove(name);
            return (None, Vec::new());
        }
        claim.resolve(name)
    }
}

impl<T: Define> Claim<T> {
    fn resolve(&mut self, name: &str) -> (Option<Def<T>>, Vec<Diagnostic>) {
        if self.holder.as_ref().is_none_or(|h| !self.defs.contains_key(h)) {
            let age = |(key, def): &(&ServiceKey, &Def<T>)| {
                let broken = matches!(def, Def::Broken(_));
                (broken, def.value().source().create_index, (*key).clone())
            };
            self.holder = self.defs.iter().min_by_key(age).map(|(key, _)| key.clone());
        }
        let Some(holder) = &self.holder else { return (None, Vec::new()) };
        let Some(mut held) = self.defs.get(holder).cloned() else { return (None, Vec::new()) };
        let mut problems = Vec::new();
        for (key, def) in self.defs.iter().filter(|(key, _)| *key != holder) {
            let (Def::Good(other), Def::Good(mine)) = (def, &mut held) else { continue };
            let agrees = mine.agrees(other);
            // servers of another namespace join nothing, however alike the rest is
            let apart = key.namespace != holder.namespace && T::CODE == "service";
            if agrees && !apart {
                Arc::make_mut(mine).join(other);
            } else {
                let code = format!("{}_conflict", T::CODE);
                problems.push(conflict::<T>(&code, name, mine.source(), other.source()));
            }
        }
        (Some(held), problems)
    }
}
