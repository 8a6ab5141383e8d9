//! A catalog's watcher as the control loop holds it: what it publishes, and how it is started again should it end by a
//! defect. Its last good inventory stands in until the new one has read everything.

use super::state::State;
use crate::catalog::{Handle, Reports, Snapshot, World, http};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// First and longest pause before a watcher is started again.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Starts the watcher, and ends the one before.
pub(super) type Start = Box<dyn FnMut() -> Result<Handle, http::Error>>;

/// One catalog.
pub(super) struct Source {
    /// What the watcher publishes.
    pub snapshots: watch::Receiver<Snapshot>,
    /// What it says of health beside them.
    reports: Option<watch::Receiver<Reports>>,
    start: Start,
    again_at: Option<Instant>,
    pause: Duration,
}

impl Source {
    /// Starts its watcher, and makes it known.
    ///
    /// # Errors
    /// An endpoint or TLS files that make no sense.
    pub fn start(mut start: Start, state: &State) -> Result<Self, http::Error> {
        let handle = start()?;
        state.add_source(&handle);
        Ok(Self { snapshots: handle.snapshots, reports: handle.reports, start, again_at: None, pause: PAUSE.0 })
    }

    /// Waits until it publishes; true when its watcher has ended instead, which only a defect does.
    pub async fn changed(&mut self) -> bool {
        if self.again_at.is_some() {
            return std::future::pending().await;
        }
        tokio::select! {
            changed = self.snapshots.changed() => changed.is_err(),
            () = news(&mut self.reports) => false,
        }
    }

    /// What it says of the health of instances; nothing once it says no more.
    pub fn reports(&mut self) -> Reports {
        let Some(reports) = &mut self.reports else { return Reports::default() };
        let said = reports.borrow_and_update().clone();
        if reports.has_changed().is_err() {
            // Whatever it said last would hold for ever.
            self.reports = None;
            return Reports::default();
        }
        said
    }

    /// The watcher has ended.
    pub fn ended(&mut self, now: Instant) {
        let provider = self.snapshots.borrow().status.provider;
        tracing::error!(%provider, again_in = ?self.pause, "the catalog's watcher ended by a defect; its routes stay");
        self.again_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    /// When to call [`Self::again`].
    pub fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Starts it again when it is time; what it knew stands in `restored` until it has read everything.
    pub fn again(&mut self, now: Instant, restored: &mut World, state: &State) {
        if self.again_at.is_none_or(|at| at > now) {
            return;
        }
        self.again_at = None;
        let before = self.snapshots.borrow().clone();
        match (self.start)() {
            Ok(handle) => {
                if let Some(inventory) = before.inventory {
                    restored.sources.insert(before.status.provider, inventory);
                }
                state.add_source(&handle);
                (self.snapshots, self.reports) = (handle.snapshots, handle.reports);
            }
            Err(error) => {
                tracing::error!(provider = %before.status.provider, "the catalog's watcher does not start: {error}");
                self.again_at = Some(now + self.pause);
            }
        }
    }
}

/// Ends when there are reports, or when there will be none any more.
async fn news(reports: &mut Option<watch::Receiver<Reports>>) {
    match reports {
        Some(reports) => drop(reports.changed().await),
        None => std::future::pending().await,
    }
}
