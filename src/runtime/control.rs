//! The control loop: waits until a catalog or a deadline changes something, decodes what changed, plans the table and
//! publishes it. The first change is applied at once; while more arrive, in batches of [`BATCH`].
//!
//! It may wait and may fail; the data side reads the last published table and never notices. A defect (a panic) in it leaves
//! the table in force and is told in the log and in `/health`; it is tried again with every change and after a while, from scratch.

use super::allocations::Allocations;
use super::direct::Direct;
use super::keep::{Keeper, Latest};
use super::source::Source;
use super::state::{Finder, Judged, State};
use super::tls::TlsConfigs;
use crate::api;
use crate::catalog::{Snapshot, SourceState, World, merge};
use crate::diagnostic::Problems;
use crate::model::Provider;
use crate::observe::metrics::{Live, Metrics};
use crate::table::{Cause, Change, Diff, Planner, Table};
use crate::tags::{Decoder, Step};
use crate::upstream::{Prober, Transports};
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

/// Changes that follow each other within this time are applied together.
const BATCH: Duration = Duration::from_millis(10);
/// Before it is tried again after a defect, when nothing changes meanwhile.
const AGAIN: Duration = Duration::from_secs(30);

/// Everything that the loop owns.
pub(super) struct Control {
    pub state: Arc<State>,
    /// How servers are reached; told of a table before it is in force.
    pub transports: Transports,
    /// Health checks; told of a table before it is in force.
    pub prober: Prober,
    /// What catalogs say of servers beside their inventories; told of a table before it is in force.
    pub allocations: Allocations,
    /// TLS configurations; those that a table needs are there before it is in force.
    pub tls: Arc<TlsConfigs>,
    pub sources: Vec<Source>,
    /// Providers that declare directly.
    pub direct: Direct,
    /// What stands for a source until it has answered.
    pub restored: World,
    /// Highest indexes that the process before had seen.
    pub restored_indexes: BTreeMap<Provider, u64>,
    /// A decoder and a planner that know nothing.
    pub fresh: Box<dyn Fn() -> (Decoder, Planner)>,
    pub decoder: Decoder,
    pub planner: Planner,
    pub metrics: Arc<Metrics>,
    pub keeper: Option<Keeper>,
    /// How long what is kept counts as confirmed, before it is written again although nothing changed.
    pub confirm_every: Duration,
    /// What is kept, and when it was handed over.
    pub kept: Option<(Latest, Instant)>,
    /// Dropped once every catalog has been read and its services are in the table.
    pub unread: Option<std::sync::mpsc::Sender<()>>,
    /// What the last step was done for, and when its plan wants to be looked at again.
    pub applied: Option<(World, Option<Instant>)>,
    /// Problems that the log knows already.
    pub told: BTreeMap<Finder, Problems>,
}

impl Control {
    /// Runs until cancelled; gives the keeper back so that the last write can be waited for.
    pub async fn run(mut self, mut deadline: Option<Instant>, shutdown: CancellationToken) -> Option<Keeper> {
        let mut applied = None::<Instant>;
        loop {
            let wake = self.sources.iter().filter_map(Source::again_at).chain(deadline).chain(self.confirm_at()).min();
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.confirm();
                    return self.keeper;
                }
                ended = any_changed(&mut self.sources) => {
                    if let Some(ended) = ended {
                        self.sources[ended].ended(Instant::now());
                        continue;
                    }
                }
                () = self.direct.changed() => {}
                () = at(wake) => {}
            }
            let pause = applied.map_or(Duration::ZERO, |applied| BATCH.saturating_sub(applied.elapsed()));
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let now = Instant::now();
            self.sources.iter_mut().for_each(|source| source.again(now, &mut self.restored, &self.state));
            if self.confirm_at().is_some_and(|at| at <= now) {
                self.confirm();
            }
            deadline = self.guarded(Self::apply);
            applied = Some(Instant::now());
        }
    }

    /// Does a step so that a defect in it is told and nothing else: what is in force stays. After one the
    /// next step starts from scratch, with what is served as what was accepted.
    pub fn guarded(&mut self, step: impl FnOnce(&mut Self) -> Option<Instant>) -> Option<Instant> {
        let failed = self.state.control_failing.load(Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if failed {
                (self.decoder, self.planner) = (self.fresh)();
                self.direct.forget();
                self.planner.plan(self.state.table.load().declarations(), Instant::now());
            }
            step(self)
        }));
        match outcome {
            Ok(deadline) => {
                if self.state.control_failing.swap(false, Relaxed) {
                    tracing::info!("changes are taken up again");
                }
                deadline
            }
            Err(panic) => {
                self.state.control_failing.store(true, Relaxed);
                tracing::error!(
                    defect = said(&*panic),
                    "a change is not taken up because of a defect; the routes stay"
                );
                Some(Instant::now() + AGAIN)
            }
        }
    }

    /// Reads every source, and publishes a new table where something changed. Gives the time at which
    /// the plan wants to be looked at again.
    pub fn apply(&mut self) -> Option<Instant> {
        let snapshots: Vec<Snapshot> =
            self.sources.iter_mut().map(|s| s.snapshots.borrow_and_update().clone()).collect();
        for source in &mut self.sources {
            let provider = source.snapshots.borrow().status.provider;
            self.allocations.report(provider, source.reports());
        }
        let unchanged = !self.direct.take();
        let answered = snapshots.iter().any(|snapshot| snapshot.inventory.is_some())
            || snapshots.is_empty() && self.direct.are_read();
        if answered {
            self.state.restored.store(false, Relaxed);
        }
        let world = merge(&snapshots, &self.restored);
        let now = Instant::now();
        // An index moves with every change of anything: what it says of routed services mostly stays. Nothing is
        // remembered while a step runs, so that a defect in it does not pass for a step that was done.
        let kept = !answered || self.keeper.is_none() || self.kept.is_some();
        if let Some((before, deadline)) = self.applied.take().filter(|_| kept && unchanged)
            && before == world
            && deadline.is_none_or(|at| now < at)
        {
            self.applied = Some((before, deadline));
            self.note_read(&snapshots);
            return deadline;
        }
        let Step { mut declarations, problems } = self.decoder.step(&world);
        let mut problems: BTreeMap<Finder, Problems> =
            problems.into_iter().map(|(provider, found)| (Finder::Reader(provider), found)).collect();
        self.direct.add(&mut declarations, &mut problems);
        problems.insert(Finder::TlsOptions, self.tls.update(&declarations, &self.state.table.load()));
        let planned = self.planner.plan(declarations.clone(), now);
        problems.insert(Finder::Table, planned.problems);
        self.tell(&problems);
        self.state.set_judged(Judged { declarations, table: planned.table.clone(), problems });
        self.state.set_world(&world);

        // What came from disk alone is not written again: it would look younger than it is.
        if answered && (!planned.diff.is_empty() || self.kept.is_none()) {
            let latest = Latest { world: world.clone(), indexes: self.indexes(), table: planned.table.clone() };
            self.keep(latest);
        }
        match planned.diff.is_empty() {
            true => self.state.adopt(planned.table),
            false => self.publish(planned.table, planned.diff),
        }
        self.note_read(&snapshots);
        self.applied = Some((world, planned.next_deadline));
        planned.next_deadline
    }

    /// Tells once that every catalog has been read and its services are in the table.
    fn note_read(&mut self, snapshots: &[Snapshot]) {
        if snapshots.iter().all(|snapshot| snapshot.inventory.is_some()) && self.direct.all_read() {
            self.unread = None;
            self.state.all_read.send_replace(true);
        }
    }

    fn keep(&mut self, latest: Latest) {
        if let Some(keeper) = &self.keeper {
            keeper.keep(latest.clone());
            self.kept = Some((latest, Instant::now()));
        }
    }

    /// Highest index seen by provider; what the process before had seen, where nothing has been seen since.
    fn indexes(&self) -> BTreeMap<Provider, u64> {
        let mut indexes = self.restored_indexes.clone();
        for source in &self.sources {
            let snapshot = source.snapshots.borrow();
            if snapshot.inventory.is_some() {
                indexes.insert(snapshot.status.provider, snapshot.status.index);
            }
        }
        indexes
    }

    fn confirm_at(&self) -> Option<Instant> {
        self.kept.as_ref().and_then(|(_, at)| at.checked_add(self.confirm_every))
    }

    /// Writes what is kept again, so that its age on disk is the time since it was last known to hold and
    /// not since it last changed.
    fn confirm(&mut self) {
        let connected = |source: &Source| source.snapshots.borrow().status.state == SourceState::Connected;
        match (self.kept.take(), self.sources.iter().any(connected)) {
            (Some((latest, _)), true) => self.keep(Latest { indexes: self.indexes(), ..latest }),
            (Some((latest, _)), false) => self.kept = Some((latest, Instant::now())),
            (None, _) => {}
        }
    }

    /// Puts a table in force and says what it changed.
    pub fn publish(&self, table: Arc<Table>, diff: Diff) {
        let now = SystemTime::now();
        let change = change(now, diff);
        tracing::info!(
            cause = shortly(change.causes.iter().map(shown)),
            routes = shortly(change.added.iter().chain(&change.changed).chain(&change.removed)),
            added = change.added.len(),
            changed = change.changed.len(),
            removed = change.removed.len(),
            routers = table.routers.len(),
            "routing table changed"
        );
        self.metrics.table_changed(now, change.added.len(), change.changed.len(), change.removed.len());
        self.transports.prepare(table.transports.values().chain(table.tcp.all_transports()));
        let before = self.state.table.load();
        self.prober.update(&before.services, &table.services);
        self.prober.update_tcp(&before.tcp.services, &table.tcp.services);
        self.allocations.update(&before.services, &table.services);
        drop(before);
        let live = Live { routers: Arc::new(table.routers.clone()), services: Arc::new(table.services.clone()) };
        self.state.publish(table, change);
        self.metrics.retain(live, Instant::now());
    }

    /// Logs each problem once, when it comes.
    fn tell(&mut self, problems: &BTreeMap<Finder, Problems>) {
        let nothing = Problems::new();
        for (finder, now) in problems {
            for difference in self.told.get(finder).unwrap_or(&nothing).differences(now) {
                let known = |problem| difference.before.is_some_and(|before| before.contains(problem));
                let now = difference.after.map_or(&[][..], |now| now);
                now.iter().filter(|problem| !known(problem)).for_each(super::tell);
            }
        }
        self.told.clone_from(problems);
    }
}

/// A change of the table in the API's words.
fn change(at: SystemTime, diff: Diff) -> api::Change {
    let mut change = api::Change {
        at,
        // A change with several authors names them by their services alone.
        provider: diff.causes.first().map(|c| c.provider).filter(|p| diff.causes.iter().all(|c| c.provider == *p)),
        services: diff.causes.iter().filter(|c| !c.service.is_empty()).map(|c| c.service.clone()).collect(),
        causes: diff.causes.iter().cloned().collect(),
        added: Vec::new(),
        changed: Vec::new(),
        removed: Vec::new(),
    };
    // A service alone that changed (its servers, mostly) changes what its routers do.
    let alone = diff.services.iter().filter(|(name, _)| !diff.routers.contains_key(*name));
    for (name, kind) in diff.routers.iter().chain(alone).chain(&diff.tcp) {
        match kind {
            Change::Added => change.added.push(name.clone()),
            Change::Changed => change.changed.push(name.clone()),
            Change::Removed => change.removed.push(name.clone()),
        }
    }
    change
}

/// A cause as people write it: `namespace/service@provider`, or the provider alone.
fn shown(cause: &Cause) -> String {
    let Cause { provider, namespace, service } = cause;
    match (&**namespace, &**service) {
        (_, "") => provider.to_string(),
        ("", service) => format!("{service}@{provider}"),
        (namespace, service) => format!("{namespace}/{service}@{provider}"),
    }
}

/// The first few, and how many more there are: a change may concern thousands.
fn shortly<T: AsRef<str>>(all: impl Iterator<Item = T>) -> String {
    const SHOWN: usize = 8;
    let (mut text, mut more) = (String::new(), 0);
    for (place, one) in all.enumerate() {
        match place {
            0 => text.push_str(one.as_ref()),
            1..SHOWN => text.extend([", ", one.as_ref()]),
            _ => more += 1,
        }
    }
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it gave no reason")
}

/// Ends as soon as one of the sources has published, or has ended: then with its place. Never, when there is none.
async fn any_changed(sources: &mut [Source]) -> Option<usize> {
    if sources.is_empty() {
        return std::future::pending().await;
    }
    let changes = sources.iter_mut().map(|source| Box::pin(source.changed()));
    let (ended, which, _) = futures_util::future::select_all(changes).await;
    ended.then_some(which)
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
