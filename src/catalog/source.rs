//! What a source is started with and what it is held by, the same for every catalog; and how the
//! watchers of several namespaces are one source.

use super::names::Routes;
use super::poll::Waits;
use super::publish::STALE_BOUND;
use super::{Inventory, Reports, Service, ServiceKey, Snapshot, SourceState, SourceStatus};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// What a watcher is started with.
#[derive(Clone)]
pub struct Spawn {
    /// True for a tag that makes its service one that is routed.
    pub routing: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Every service is routed, whatever its tags (`exposedByDefault`).
    pub all: bool,
    /// How long removals are held after a reset (`rustLb.resetHold`).
    pub reset_hold: Duration,
    /// What was known when the process before ended, so that a catalog that was wiped meanwhile is known as such.
    pub before: Option<Before>,
    /// Ends the watcher.
    pub shutdown: CancellationToken,
    /// Durations; the defaults are right but for tests.
    pub timing: Timing,
}

/// What a source knew at the end of the process before.
#[derive(Debug, Clone)]
pub struct Before {
    /// Its services.
    pub inventory: Arc<Inventory>,
    /// The highest index it had seen. A first list below it comes from a catalog that started anew: what it does not
    /// name is held and not removed.
    pub index: u64,
}

impl Spawn {
    /// The services known before, of one namespace (`*`: of all).
    pub(super) fn remembered(&self, namespace: &str) -> Vec<Arc<Service>> {
        let all = self.before.iter().flat_map(|before| before.inventory.services.values());
        all.filter(|service| namespace == "*" || *service.key.namespace == *namespace).cloned().collect()
    }

    /// Which services are routed.
    pub(super) fn as_routes(&self) -> Routes<'_> {
        Routes { tag: &*self.routing, all: self.all }
    }

    /// Whether a service with these tags is routed.
    pub fn routes<T: AsRef<str>>(&self, tags: impl IntoIterator<Item = T>) -> bool {
        self.all || tags.into_iter().any(|tag| (self.routing)(tag.as_ref()))
    }
}

impl fmt::Debug for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn").field("all", &self.all).field("reset_hold", &self.reset_hold).finish_non_exhaustive()
    }
}

/// Durations of a watcher. The reasons are in the catalogs' measured behaviour: a server without
/// a leader lets a request hang for up to 8 s, sends a heartbeat every 30 s, and lengthens waits
/// by up to 1/16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Until a connection stands (3 s).
    pub connect: Duration,
    /// Waits and deadlines of queries (60 s, 7 s beyond it; 10 s for a read without index).
    pub waits: Waits,
    /// Until an event stream's first line; later means that it is refused (3 s).
    pub hello: Duration,
    /// How long the first read waits for that line before it goes ahead without the stream (300 ms).
    pub head_start: Duration,
    /// Without a line for so long an event stream is dead (45 s; heartbeats come every 30 s).
    pub silence: Duration,
    /// How long an event may lag behind the list that knows of its change (1 s).
    pub lag: Duration,
    /// Before a refused event stream is tried again (60 s).
    pub stream_retry: Duration,
    /// First and longest pause after failures (100 ms, 5 s).
    pub backoff: (Duration, Duration),
    /// Longest pause while nobody listens, which costs the agent nothing (800 ms).
    pub reconnect: Duration,
    /// How often the agent is asked whether it is there (2 s).
    pub pulse: Duration,
    /// Age up to which a read without a leader counts as current (10 s).
    pub stale_bound: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            connect: s(3),
            waits: Waits { wait: s(60), margin: s(7), read: s(10) },
            hello: s(3),
            head_start: Duration::from_millis(300),
            silence: s(45),
            lag: s(1),
            stream_retry: s(60),
            backoff: (Duration::from_millis(100), s(5)),
            reconnect: Duration::from_millis(800),
            pulse: s(2),
            stale_bound: STALE_BOUND,
        }
    }
}

/// A running source.
#[derive(Debug, Clone)]
pub struct Handle {
    /// The latest of what it knows and how it stands.
    pub snapshots: watch::Receiver<Snapshot>,
    /// Ends holds by hand.
    pub forget: Forget,
    /// What it says of the health of instances, where it says it apart from its inventory.
    pub reports: Option<watch::Receiver<Reports>>,
}

/// Tells a source to drop the services it holds after a reset.
#[derive(Debug, Clone, Default)]
pub struct Forget(Vec<Arc<Notify>>);

impl Forget {
    /// One that reaches a single watcher.
    pub(super) fn new() -> (Self, Arc<Notify>) {
        let notify = Arc::new(Notify::new());
        (Self(vec![notify.clone()]), notify)
    }

    /// Drops what is held, now.
    pub fn now(&self) {
        self.0.iter().for_each(|notify| notify.notify_one());
    }
}

/// One source out of the watchers of several namespaces. A single one is passed on as it is.
pub(super) fn join(mut parts: Vec<Handle>, shutdown: CancellationToken) -> Option<Handle> {
    if parts.len() < 2 {
        return parts.pop();
    }
    let forget = Forget(parts.iter().flat_map(|part| part.forget.0.clone()).collect());
    let mut receivers: Vec<_> = parts.into_iter().map(|part| part.snapshots).collect();
    let mut join = Join::default();
    let (sender, snapshots) = watch::channel(join.joined(&mut receivers));
    tokio::spawn(async move {
        loop {
            let changes = receivers.iter_mut().map(|r| Box::pin(r.changed()));
            tokio::select! {
                () = shutdown.cancelled() => return,
                (ended, ..) = futures_util::future::select_all(changes) => if ended.is_err() { return },
            }
            sender.send_replace(join.joined(&mut receivers));
        }
    });
    Some(Handle { snapshots, forget, reports: None })
}

/// What the parts know together: what one of them changes costs what it changes.
#[derive(Default)]
struct Join {
    parts: Vec<Arc<Inventory>>,
    inventory: Arc<Inventory>,
}

impl Join {
    /// All services of the parts; of one that two have, the later's.
    fn inventory(&mut self, parts: Vec<Arc<Inventory>>) -> Arc<Inventory> {
        self.parts.resize_with(parts.len(), Arc::default);
        let changed: Vec<ServiceKey> = std::iter::zip(&self.parts, &parts)
            .flat_map(|(before, after)| before.services.differences(&after.services).map(|d| d.key.clone()))
            .collect();
        self.parts = parts;
        if !changed.is_empty() {
            let mut services = self.inventory.services.clone();
            for key in changed {
                let service = self.parts.iter().rev().find_map(|part| part.services.get(&key));
                services.set(&key, service.cloned());
            }
            self.inventory = Arc::new(Inventory { services });
        }
        self.inventory.clone()
    }

    fn joined(&mut self, receivers: &mut [watch::Receiver<Snapshot>]) -> Snapshot {
        let parts: Vec<Snapshot> = receivers.iter_mut().map(|r| r.borrow_and_update().clone()).collect();
        // Complete only when every namespace is.
        let inventories = parts.iter().map(|part| part.inventory.clone()).collect::<Option<Vec<_>>>();
        Snapshot { inventory: inventories.map(|all| self.inventory(all)), status: status(&parts) }
    }
}

fn status(parts: &[Snapshot]) -> SourceStatus {
    let rank = |state| match state {
        SourceState::Connected => 0,
        SourceState::Stale => 1,
        SourceState::Retrying => 2,
        SourceState::Starting => 3,
    };
    let worst = parts.iter().max_by_key(|p| rank(p.status.state)).map(|p| p.status.clone());
    let all = |texts: fn(&SourceStatus) -> &Vec<String>| {
        let mut texts: Vec<String> = parts.iter().flat_map(|p| texts(&p.status).clone()).collect();
        texts.dedup();
        texts
    };
    let (rights, held, notes) = (all(|s| &s.missing_rights), all(|s| &s.held), all(|s| &s.notes));
    let sum = |count: fn(&SourceStatus) -> usize| parts.iter().map(|p| count(&p.status)).sum();
    let worst = worst.unwrap_or_else(|| SourceStatus::starting(crate::model::Provider::Nomad, ""));
    SourceStatus {
        index: parts.iter().map(|p| p.status.index).max().unwrap_or_default(),
        last_change: parts.iter().filter_map(|p| p.status.last_change).max(),
        last_contact: parts.iter().filter_map(|p| p.status.last_contact).min(),
        known_leader: parts.iter().all(|p| p.status.known_leader),
        services_seen: sum(|s| s.services_seen),
        connections: sum(|s| s.connections),
        missing_rights: rights,
        held,
        notes,
        ..worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Provider;

    fn part(namespace: &str, state: SourceState) -> Snapshot {
        let key = ServiceKey { namespace: namespace.into(), name: "web".into() };
        let service = Arc::new(Service { key: key.clone(), instances: Vec::new() });
        let inventory =
            (state != SourceState::Starting).then(|| Arc::new(Inventory { services: [(key, service)].into() }));
        let status =
            SourceStatus { state, services_seen: 1, connections: 3, ..SourceStatus::starting(Provider::Nomad, "a") };
        Snapshot { inventory, status }
    }

    #[test]
    fn a_source_of_several_namespaces_is_complete_when_all_are_and_as_well_as_the_worst() {
        let (one, first) = watch::channel(part("one", SourceState::Connected));
        let (two, second) = watch::channel(part("two", SourceState::Starting));
        let mut receivers = [first, second];
        let mut join = Join::default();
        let before = join.joined(&mut receivers);
        assert_eq!((before.inventory, before.status.state), (None, SourceState::Starting));
        two.send_replace(part("two", SourceState::Retrying));
        let after = join.joined(&mut receivers);
        let inventory = after.inventory.unwrap();
        assert_eq!(inventory.services.len(), 2);
        assert_eq!(after.status.state, SourceState::Retrying);
        assert_eq!((after.status.services_seen, after.status.connections), (2, 6));
        one.send_modify(|part| part.status.index = 7);
        let same = join.joined(&mut receivers);
        assert!(Arc::ptr_eq(&same.inventory.unwrap(), &inventory), "nothing changed but an index");
        one.send_modify(|part| part.inventory = Some(Arc::default()));
        let less = join.joined(&mut receivers).inventory.unwrap();
        assert_eq!(less.services.keys().map(|key| &*key.namespace).collect::<Vec<_>>(), ["two"]);
        assert!(Arc::ptr_eq(less.services.values().next().unwrap(), inventory.services.values().nth(1).unwrap()));
    }
}
