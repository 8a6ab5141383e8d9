//! The control loop: waits until a catalog, a deadline or a person changes something, decodes what changed, plans the
//! table and publishes it. The first change is applied at once; while more arrive, batches of [`BATCH`].
//!
//! It may wait and may fail; the data side reads the last published table and never notices.

use super::keep::{Keeper, LastGood};
use super::state::State;
use crate::catalog::merge::Merge;
use crate::catalog::{Snapshot, SourceState};
use crate::model::Provider;
use crate::table::{Accepted, Planner};
use crate::tags::{Decoder, TagOptions};
use crate::upstream::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Changes that follow each other within this time are applied together.
const BATCH: Duration = Duration::from_millis(10);

/// Everything that the loop owns.
pub struct Control {
    pub state: Arc<State>,
    pub sources: Vec<watch::Receiver<Snapshot>>,
    pub merge: Merge,
    pub decoder: Decoder,
    pub tag_options: BTreeMap<Provider, TagOptions>,
    pub planner: Planner,
    pub registry: Arc<Registry>,
    pub keeper: Option<Keeper>,
}

impl Control {
    /// Runs until cancelled; gives the keeper back so that the last write can be waited for.
    pub async fn run(mut self, shutdown: CancellationToken) -> Option<Keeper> {
        let mut deadline = self.apply();
        let mut applied = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return self.keeper,
                () = any_changed(&mut self.sources) => {}
                () = at(deadline) => {}
            }
            let pause = BATCH.saturating_sub(applied.elapsed());
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            deadline = self.apply();
            applied = Instant::now();
        }
    }

    /// Reads every source, and publishes a new table where something changed. Gives the time at which
    /// the plan wants to be looked at again.
    fn apply(&mut self) -> Option<Instant> {
        for source in &mut self.sources {
            let snapshot = source.borrow_and_update().clone();
            if snapshot.status.state == SourceState::Connected {
                self.state.restored.store(None);
            }
            self.state.set_status(snapshot.status.clone());
            self.merge.update(snapshot);
        }
        let world = self.merge.world();
        let decoded = self.decoder.decode(&world, &self.tag_options);
        let planned = self.planner.plan(&decoded.declarations, Instant::now());
        let mut problems = decoded.diagnostics;
        problems.extend(planned.diagnostics);
        problems.extend(self.keeper.as_ref().and_then(Keeper::problem));
        self.state.set_problems(problems);
        if !planned.diff.is_empty() {
            tracing::info!(
                added = planned.diff.added.len(),
                changed = planned.diff.changed.len(),
                removed = planned.diff.removed.len(),
                "routing table changed"
            );
            self.registry.retain(&planned.table);
            self.state.publish(planned.table, planned.diff);
            if let Some(keeper) = &self.keeper {
                keeper.keep(LastGood { world, accepted: self.accepted() });
            }
        }
        planned.next_deadline
    }

    fn accepted(&self) -> Accepted {
        self.planner.accepted().clone()
    }
}

/// Ends as soon as one of the sources has published; never, when there is none (left).
async fn any_changed(sources: &mut [watch::Receiver<Snapshot>]) {
    let changes = sources.iter_mut().map(|source| {
        Box::pin(async move {
            if source.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    let changes: Vec<_> = changes.collect();
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
