//! Routers that are alike: of those with the same rule, priority and places one gets all requests.

use super::build::{Builder, Name};
use super::index::{Entry, Slot};
use super::resolve::{origin, qualified};
use crate::diagnostic::{Diagnostic, Stage};
use crate::model::Provider;
use smallvec::SmallVec;
use std::sync::Arc;

/// A router among those that are alike. Its order puts them beside each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rival {
    rule: Arc<str>,
    priority: i64,
    slots: SmallVec<[Slot; 2]>,
    of: Name,
}

impl Rival {
    fn new(of: &Name, entry: &Entry) -> Self {
        let Entry { router, slots, .. } = entry;
        Self { rule: router.rule.clone(), priority: router.priority, slots: slots.clone(), of: of.clone() }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.rule == other.rule && self.priority == other.priority && self.slots == other.slots
    }

    /// What stands before all that are like this one.
    fn first(&self) -> Self {
        Self { of: (Provider::Internal, Arc::default()), ..self.clone() }
    }
}

impl Builder<'_> {
    /// Puts a router in the place of what stood under its name.
    pub fn replace(&mut self, of: &Name, old: Option<Arc<Entry>>, new: Option<Arc<Entry>>) {
        self.will_change(of, old.as_ref());
        let id = old.as_ref().or(new.as_ref()).map_or_else(|| qualified(&of.1, of.0), |entry| entry.router.id.clone());
        self.table.routers.set(&id, new.as_ref().map(|entry| entry.router.clone()));
        if let Some(old) = old {
            let rival = Rival::new(of, &old);
            self.rivals.remove(&rival);
            self.likenesses.insert(rival.first());
            self.table.shadowed.remove(&id);
            self.set_problems(Stage::Rivalry, "router", of, Vec::new());
        }
        if let Some(new) = new {
            let rival = Rival::new(of, &new);
            self.likenesses.insert(rival.first());
            self.rivals.insert(rival);
        }
    }

    /// Notes what the index has of a router, before the first change.
    fn will_change(&mut self, of: &Name, entry: Option<&Arc<Entry>>) {
        let active = entry.filter(|entry| self.table.is_active(&entry.router.id));
        self.indexed.entry(of.clone()).or_insert_with(|| active.cloned());
    }

    /// Of routers that are alike the one that gets the requests: what does not linger, by
    /// provider, what had them so far, the older registration.
    pub fn shadow(&mut self) {
        let before = &self.accepted.table;
        for likeness in std::mem::take(&mut self.likenesses) {
            let alike = self.rivals.range(likeness.clone()..).take_while(|rival| rival.is_like(&likeness));
            let alike: SmallVec<[Name; 2]> = alike.map(|rival| rival.of.clone()).collect();
            // mostly nobody is or was in anybody's way
            if self.table.shadowed.is_empty() && alike.len() < 2 {
                continue;
            }
            let entry = |of: Name| {
                let entry = self.good.get(&of.0)?.routers.get(&of.1)?.clone();
                Some((of, entry))
            };
            let mut alike: Vec<(Name, Arc<Entry>)> = alike.into_iter().filter_map(entry).collect();
            alike.sort_by_cached_key(|(_, e)| {
                let had = before.routers.contains_key(&e.router.id) && !before.shadowed.contains_key(&e.router.id);
                (e.order.lingering, e.order.provider, !had, e.order.clone())
            });
            let Some((winner, losers)) = alike.split_first() else { continue };
            for (of, entry) in std::iter::once(winner).chain(losers) {
                let lost = !Arc::ptr_eq(entry, &winner.1);
                let shadowed = lost.then(|| winner.1.router.id.clone());
                let problem = shadowed.as_ref().filter(|_| !entry.order.lingering);
                let problem = problem.and_then(|_| rivalry(&winner.1, entry));
                self.set_problems(Stage::Rivalry, "router", of, problem.into_iter().collect());
                self.will_change(of, Some(entry));
                self.table.shadowed.set(&entry.router.id, shadowed);
            }
        }
    }
}

/// The word about a router that gets no requests. Two catalogs that know the same service are no
/// trouble: that is what the primary is for.
fn rivalry(winner: &Entry, loser: &Entry) -> Option<Diagnostic> {
    let catalog = |p: Provider| matches!(p, Provider::Nomad | Provider::ConsulCatalog);
    let (w, l) = (&winner.router, &loser.router);
    let (ws, ls) = (&w.declared.source, &l.declared.source);
    if w.provider != l.provider && catalog(w.provider) && catalog(l.provider) && ws.service == ls.service {
        return None;
    }
    let message = format!(
        "router `{}` (service `{}`) gets no requests: router `{}` (service `{}`) has the same rule, priority and entry points",
        l.id, ls.service, w.id, ws.service
    );
    let apart = w.provider == l.provider && ws.namespace != ls.namespace;
    let problem = match w.provider {
        Provider::Internal if l.provider != Provider::Internal => Diagnostic::error("reserved_rule", message),
        _ if apart => {
            let message = format!("{message}, in namespace `{}`", ws.namespace);
            Diagnostic::error("host_conflict", message)
        }
        _ => Diagnostic::warning("shadowed_router", message),
    };
    Some(problem.with_origin(origin(ls, l.provider)).with_help("give one of them another rule or priority"))
}
