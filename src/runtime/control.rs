//! The control loop: waits until a catalog or a deadline changes something, decodes what changed, plans the table and
//! publishes it. The first change is applied at once; while more arrive, in batches of [`BATCH`].
//!
//! It may wait and may fail; the data side reads the last published table and never notices.

use super::keep::{Keeper, LastGood};
use super::state::State;
use crate::api::{self, Refused};
use crate::catalog::{Snapshot, World, merge};
use crate::declare::Declarations;
use crate::diagnostic::Diagnostic;
use crate::observe::metrics::{Live, Metrics};
use crate::table::{Change, Diff, Planner, Table};
use crate::tags::Decoder;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Changes that follow each other within this time are applied together.
const BATCH: Duration = Duration::from_millis(10);

/// Everything that the loop owns.
pub(super) struct Control {
    pub state: Arc<State>,
    pub sources: Vec<watch::Receiver<Snapshot>>,
    /// What stands for a source until it has answered.
    pub restored: World,
    pub decoder: Decoder,
    pub planner: Planner,
    pub metrics: Arc<Metrics>,
    pub keeper: Option<Keeper>,
    /// Problems that the log knows already.
    pub told: Vec<Diagnostic>,
}

impl Control {
    /// Runs until cancelled; gives the keeper back so that the last write can be waited for.
    pub async fn run(mut self, mut deadline: Option<Instant>, shutdown: CancellationToken) -> Option<Keeper> {
        let mut applied = None::<Instant>;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return self.keeper,
                () = any_changed(&mut self.sources) => {}
                () = at(deadline) => {}
            }
            let pause = applied.map_or(Duration::ZERO, |applied| BATCH.saturating_sub(applied.elapsed()));
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            deadline = self.apply();
            applied = Some(Instant::now());
        }
    }

    /// Reads every source, and publishes a new table where something changed. Gives the time at which
    /// the plan wants to be looked at again.
    pub fn apply(&mut self) -> Option<Instant> {
        let snapshots: Vec<Snapshot> = self.sources.iter_mut().map(|s| s.borrow_and_update().clone()).collect();
        for snapshot in &snapshots {
            self.state.set_status(snapshot.status.clone());
        }
        if snapshots.iter().any(|snapshot| snapshot.inventory.is_some()) {
            self.state.restored.store(false, Relaxed);
        }
        let world = merge(&snapshots, &self.restored);
        let decoded = self.decoder.decode(&world);
        let planned = self.planner.plan(decoded.declarations.clone(), Instant::now());

        let mut problems = decoded.diagnostics;
        problems.extend(planned.diagnostics);
        problems.extend(self.keeper.as_ref().and_then(Keeper::problem));
        self.tell(&problems);
        let refused = refused(&decoded.declarations, &planned.table, &problems);
        self.state.set_problems(problems, refused);

        if !planned.diff.is_empty() {
            if let Some(keeper) = &self.keeper {
                keeper.keep(LastGood { world, accepted: planned.table.declarations() });
            }
            self.publish(planned.table, planned.diff);
        }
        planned.next_deadline
    }

    /// Puts a table in force and says what it changed.
    pub fn publish(&self, table: Arc<Table>, diff: Diff) {
        let now = SystemTime::now();
        let change = change(now, diff);
        tracing::info!(
            added = change.added.len(),
            changed = change.changed.len(),
            removed = change.removed.len(),
            routers = table.routers.len(),
            "routing table changed"
        );
        self.metrics.table_changed(now, change.added.len(), change.changed.len(), change.removed.len());
        let live = Live {
            routers: table.routers.keys().cloned().collect(),
            services: table.services.keys().cloned().collect(),
        };
        self.state.publish(table, change);
        self.metrics.retain(live, Instant::now());
    }

    /// Logs each problem once, when it comes.
    fn tell(&mut self, problems: &[Diagnostic]) {
        if self.told == problems {
            return;
        }
        let known: BTreeSet<&Diagnostic> = self.told.iter().collect();
        problems.iter().filter(|problem| !known.contains(problem)).for_each(super::tell);
        self.told = problems.to_vec();
    }
}

/// A change of the table in the API's words.
fn change(at: SystemTime, diff: Diff) -> api::Change {
    let mut change = api::Change {
        at,
        // A change with several authors names them by their services alone.
        provider: diff.causes.first().map(|c| c.provider).filter(|p| diff.causes.iter().all(|c| c.provider == *p)),
        services: diff.causes.iter().filter(|c| !c.service.is_empty()).map(|c| c.service.clone()).collect(),
        added: Vec::new(),
        changed: Vec::new(),
        removed: Vec::new(),
    };
    // A service alone that changed (its servers, mostly) changes what its routers do.
    let alone = diff.services.iter().filter(|(name, _)| !diff.routers.contains_key(*name));
    for (name, kind) in diff.routers.iter().chain(alone) {
        match kind {
            Change::Added => change.added.push(name.clone()),
            Change::Changed => change.changed.push(name.clone()),
            Change::Removed => change.removed.push(name.clone()),
        }
    }
    change
}

/// Routers that are declared and not in the table, with what the diagnostics say of them.
fn refused(declarations: &Declarations, table: &Table, problems: &[Diagnostic]) -> Vec<Refused> {
    let mut refused = Vec::new();
    for (provider, dynamic) in declarations {
        for (name, router) in &dynamic.http.routers {
            let id: Arc<str> = format!("{name}@{provider}").into();
            if table.routers.contains_key(&id) {
                continue;
            }
            let about = format!("router `{name}`");
            let errors = problems
                .iter()
                .filter(|d| d.origin.provider.as_deref() == Some(provider.as_str()) && d.message.starts_with(&about));
            let errors = errors.map(|d| d.message.clone()).collect();
            refused.push(Refused { id, provider: *provider, router: router.clone(), errors });
        }
    }
    refused
}

/// Ends as soon as one of the sources has published; never, when there is none (left).
async fn any_changed(sources: &mut [watch::Receiver<Snapshot>]) {
    let changes: Vec<_> = sources
        .iter_mut()
        .map(|source| {
            Box::pin(async move {
                if source.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        })
        .collect();
    if changes.is_empty() {
        return std::future::pending().await;
    }
    futures_util::future::select_all(changes).await;
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
