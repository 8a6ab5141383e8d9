//! What the checks of allocations say of the instances that are routed. Nomad lists instances whatever their checks say, and
//! tells of no change of a check: each allocation has to be asked (`/v1/client/allocation/:id/checks`).
//!
//! What always holds: nothing here touches the inventory; no error changes what is said of an instance; at most [`AT_ONCE`] questions
//! are open, mostly one, over a connection that the reads of services do not share, since an answer may come from a node that hangs; while
//! the agent cannot be read nothing is asked.

mod course;
mod decode;

use self::course::{Course, Known, Outcome};
use super::reader::Paths;
use crate::catalog::http::{Agent, Answer, Error, Lane};
use crate::catalog::poll::Backoff;
use crate::catalog::{CheckState, Instance, Inventory, Report, Reports, ServiceKey, Snapshot, SourceState};
use crate::model::Provider;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Questions that are open at once.
const AT_ONCE: usize = 4;
/// A question that takes longer does not keep the next one waiting.
const SLOW: Duration = Duration::from_millis(50);
/// For an answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// First and longest pause while the agent cannot be reached, or refuses connections.
const AGENT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// First and longest pause in a namespace that may not be read.
const RIGHTS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// What may be asked again at once is spread over this time.
const SPREAD: Duration = Duration::from_secs(1);
/// Failures in a row of which it is told.
const TOLD: u32 = 2;

type Asked = (Arc<str>, Result<Answer, Error>);

/// Starts asking; the current runtime does so until `shutdown`, or until the snapshots end.
///
/// # Errors
/// TLS that cannot be set up.
pub fn spawn(
    agent: &Agent,
    paths: Paths,
    snapshots: watch::Receiver<Snapshot>,
    shutdown: CancellationToken,
) -> Result<watch::Receiver<Reports>, Error> {
    let (sender, reports) = watch::channel(Reports::default());
    let lane = agent.lane()?;
    let poller = Poller {
        lane,
        paths,
        sender,
        rng: SmallRng::from_rng(&mut rand::rng()),
        inventory: None,
        connected: false,
        allocations: HashMap::new(),
        due: BTreeSet::new(),
        refused: BTreeMap::new(),
        backoff: Backoff::new(AGENT.0, AGENT.1),
        paused_until: Instant::now(),
        failing: BTreeMap::new(),
        reports: Reports::default(),
        running: FuturesUnordered::new(),
        started: Instant::now(),
    };
    tokio::spawn(poller.run(snapshots, shutdown));
    Ok(reports)
}

/// An allocation with instances that are routed.
struct Allocation {
    namespace: Arc<str>,
    course: Course,
    /// When it is asked; `None` while it is.
    due: Option<Instant>,
    /// By service and id.
    instances: BTreeMap<(ServiceKey, Arc<str>), (Instance, Known)>,
}

/// A namespace whose allocations may not be read.
struct Refused {
    backoff: Backoff,
    until: Instant,
}

struct Poller {
    lane: Lane,
    paths: Paths,
    sender: watch::Sender<Reports>,
    rng: SmallRng,
    inventory: Option<Arc<Inventory>>,
    connected: bool,
    allocations: HashMap<Arc<str>, Allocation>,
    /// Those with a time at which they are asked, by it.
    due: BTreeSet<(Instant, Arc<str>)>,
    refused: BTreeMap<Arc<str>, Refused>,
    backoff: Backoff,
    paused_until: Instant,
    /// Allocations without an answer, and why.
    failing: BTreeMap<Arc<str>, String>,
    reports: Reports,
    running: FuturesUnordered<BoxFuture<'static, Asked>>,
    started: Instant,
}

impl Poller {
    async fn run(mut self, mut snapshots: watch::Receiver<Snapshot>, shutdown: CancellationToken) {
        let snapshot = snapshots.borrow_and_update().clone();
        self.take(snapshot);
        loop {
            let wake = self.wake();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let snapshot = snapshots.borrow_and_update().clone();
                    self.take(snapshot);
                }
                Some((id, answer)) = self.running.next(), if !self.running.is_empty() => self.answered(&id, answer),
                () = sleep_until(wake) => self.ask(Instant::now()),
            }
        }
    }

    /// When something may be asked.
    fn wake(&self) -> Instant {
        let first = self.due.first().filter(|_| self.connected && self.running.len() < AT_ONCE);
        let Some((due, _)) = first else { return Instant::now() + Duration::from_secs(3600) };
        let due = (*due).max(self.paused_until);
        if self.running.is_empty() { due } else { due.max(self.started + SLOW) }
    }

    /// Asks the allocation whose turn it is.
    fn ask(&mut self, now: Instant) {
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = self.due.pop_first() else { return };
            let Some(allocation) = self.allocations.get_mut(&id) else { continue };
            if let Some(refused) = self.refused.get_mut(&allocation.namespace) {
                if refused.until > now {
                    allocation.due = Some(refused.until);
                    self.due.insert((refused.until, id));
                    continue;
                }
                // One finds out for all.
                refused.until = now + DEADLINE;
            }
            allocation.due = None;
            self.started = now;
            let (lane, path) = (self.lane.clone(), self.paths.checks(&id));
            self.running.push(Box::pin(async move {
                let answer = lane.get(&path, DEADLINE).await;
                (id, answer)
            }));
            return;
        }
    }

    /// Takes up what is routed, and whether the agent can be read.
    fn take(&mut self, snapshot: Snapshot) {
        let now = Instant::now();
        let connected = matches!(snapshot.status.state, SourceState::Connected | SourceState::Stale);
        if connected && !self.connected {
            self.paused_until = now;
            self.backoff.succeeded();
            let failed = self.allocations.iter_mut().filter(|(_, allocation)| allocation.course.failures() > 0);
            let failed: Vec<Arc<str>> = failed
                .map(|(id, allocation)| {
                    allocation.course.forgive();
                    id.clone()
                })
                .collect();
            self.spread(failed, now);
        }
        self.connected = connected;
        let Some(inventory) = snapshot.inventory else { return };
        if self.inventory.as_ref().is_some_and(|before| Arc::ptr_eq(before, &inventory)) {
            return;
        }
        let new = self.inventory.is_some();
        let before = self.inventory.replace(inventory.clone()).unwrap_or_default();
        for difference in before.services.differences(&inventory.services) {
            let old = difference.before.map_or(&[][..], |service| &service.instances);
            let now_there = difference.after.map_or(&[][..], |service| &service.instances);
            for gone in old.iter().filter(|one| by_id(now_there, &one.id).is_none_or(|now| now.alloc != one.alloc)) {
                self.forget(difference.key, gone);
            }
            for instance in now_there.iter().filter(|one| by_id(old, &one.id) != Some(one)) {
                self.put(difference.key, instance, new, now);
            }
        }
        self.publish();
    }

    fn put(&mut self, key: &ServiceKey, instance: &Instance, new: bool, now: Instant) {
        if instance.alloc.is_empty() || instance.dial_address().is_none() {
            return;
        }
        let allocation = self.allocations.entry(instance.alloc.clone()).or_insert_with(|| Allocation {
            namespace: key.namespace.clone(),
            course: Course::new(now, new),
            due: Some(now),
            instances: BTreeMap::new(),
        });
        let place = (key.clone(), instance.id.clone());
        let known = allocation.instances.remove(&place).map(|(_, known)| known).unwrap_or_default();
        // It may have moved to another port.
        if let Some(state) = known.state() {
            self.reports.instances.insert(place.clone(), Arc::new(Report::of(instance, state.clone())));
        }
        allocation.instances.insert(place, (instance.clone(), known));
        if let Some(due) = allocation.due.replace(now) {
            self.due.remove(&(due, instance.alloc.clone()));
            self.due.insert((now, instance.alloc.clone()));
        } else {
            // The answer that is on its way may be too old for it.
            allocation.due = None;
        }
    }

    fn forget(&mut self, key: &ServiceKey, instance: &Instance) {
        let place = (key.clone(), instance.id.clone());
        self.reports.instances.remove(&place);
        let Some(allocation) = self.allocations.get_mut(&instance.alloc) else { return };
        allocation.instances.remove(&place);
        if allocation.instances.is_empty() {
            if let Some(due) = allocation.due {
                self.due.remove(&(due, instance.alloc.clone()));
            }
            self.allocations.remove(&instance.alloc);
            self.failing.remove(&instance.alloc);
            let namespace = &key.namespace;
            // Mostly nothing is refused, and nobody has to look for others.
            if self.refused.contains_key(namespace)
                && !self.allocations.values().any(|other| other.namespace == *namespace)
            {
                self.refused.remove(namespace);
            }
            self.tell();
        }
    }

    /// These are asked again soon, but not all at once.
    fn spread(&mut self, ids: Vec<Arc<str>>, now: Instant) {
        for id in ids {
            let Some(allocation) = self.allocations.get_mut(&id) else { continue };
            // One that is being asked gets a time with its answer.
            let Some(due) = allocation.due else { continue };
            let at = now + SPREAD.mul_f64(self.rng.random_range(0.0..1.0));
            allocation.due = Some(at);
            self.due.remove(&(due, id.clone()));
            self.due.insert((at, id));
        }
    }

    fn answered(&mut self, id: &Arc<str>, answer: Result<Answer, Error>) {
        let now = Instant::now();
        let read = answer.and_then(|answer| decode::checks(&answer.body));
        let Some(allocation) = self.allocations.get_mut(id) else { return };
        let namespace = allocation.namespace.clone();
        let (mut allowed, mut said) = (Vec::new(), true);
        let pause = match read {
            Ok(checks) => {
                self.backoff.succeeded();
                if self.refused.remove(&namespace).is_some() {
                    let others = self.allocations.iter().filter(|(_, other)| other.namespace == namespace);
                    allowed = others.map(|(id, _)| id.clone()).collect();
                }
                said = self.failing.remove(id).is_some() || !allowed.is_empty();
                let Some(allocation) = self.allocations.get_mut(id) else { return };
                let mut outcome = Outcome::Unchecked;
                for (place, (instance, known)) in &mut allocation.instances {
                    let about = checks.iter().filter(|check| check.service == place.0.name);
                    if known.take(about, now) {
                        let report = known.state().map(|state| Arc::new(Report::of(instance, state.clone())));
                        self.reports.instances.set(place, report);
                    }
                    match known.state() {
                        None => {}
                        Some(CheckState::Passing) if outcome == Outcome::Unchecked => {
                            outcome = Outcome::Well;
                        }
                        Some(CheckState::Passing) => {}
                        Some(_) => outcome = Outcome::Troubled,
                    }
                }
                allocation.course.after(outcome, now, &mut self.rng)
            }
            Err(error) if error.is_refusal() => {
                let refused = self
                    .refused
                    .entry(namespace)
                    .or_insert_with(|| Refused { backoff: Backoff::new(RIGHTS.0, RIGHTS.1), until: now });
                if refused.until <= now + DEADLINE {
                    refused.until = now + refused.backoff.failed(&mut self.rng);
                }
                refused.until.duration_since(now)
            }
            Err(Error::Connect(_) | Error::Cut(_) | Error::Status { code: 429, .. }) => {
                // The agent, not the allocation.
                said = false;
                let pause = self.backoff.failed(&mut self.rng);
                self.paused_until = now + pause;
                pause
            }
            Err(error) => {
                let pause = allocation.course.after(Outcome::Failed, now, &mut self.rng);
                said = allocation.course.failures() >= TOLD;
                if said {
                    self.failing.insert(id.clone(), error.to_string());
                }
                pause
            }
        };
        if let Some(allocation) = self.allocations.get_mut(id) {
            // It may have gone and come back meanwhile.
            if let Some(due) = allocation.due.replace(now + pause) {
                self.due.remove(&(due, id.clone()));
            }
            self.due.insert((now + pause, id.clone()));
        }
        allowed.retain(|other| other != id);
        self.spread(allowed, now);
        if said {
            self.tell();
        }
        self.publish();
    }

    /// Says what cannot be read, once.
    fn tell(&mut self) {
        let rights: Vec<String> = self
            .refused
            .keys()
            .map(|namespace| format!("namespace \"{namespace}\" needs `read-job` for the checks of allocations"))
            .collect();
        let notes: Vec<String> = match self.failing.first_key_value() {
            None => Vec::new(),
            Some((id, error)) => {
                let count = self.failing.len();
                vec![format!("the checks of {count} allocations cannot be read; of `{id}`: {error}")]
            }
        };
        let provider = Provider::Nomad;
        if rights != self.reports.missing_rights {
            match rights.is_empty() {
                true => tracing::info!(%provider, "the checks of allocations may be read"),
                false => tracing::warn!(
                    %provider,
                    missing = rights.join("; "),
                    "catalog token lacks rights; servers are used whatever their checks say"
                ),
            }
        }
        match (self.reports.notes.is_empty(), notes.first()) {
            (true, Some(note)) => tracing::warn!(%provider, note, "what was known of their health stays"),
            (false, None) => tracing::info!(%provider, "the checks of all allocations can be read"),
            _ => {}
        }
        (self.reports.missing_rights, self.reports.notes) = (rights, notes);
    }

    fn publish(&self) {
        self.sender.send_if_modified(|reports| {
            let changed = *reports != self.reports;
            if changed {
                reports.clone_from(&self.reports);
            }
            changed
        });
    }
}

/// Instances are sorted by id.
fn by_id<'a>(instances: &'a [Instance], id: &str) -> Option<&'a Instance> {
    let at = instances.binary_search_by(|instance| (*instance.id).cmp(id)).ok()?;
    instances.get(at)
}
