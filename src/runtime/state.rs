//! What is running now, as the control loop writes it and the admin API reads it. The data side
//! reads only the table in it, through [`arc_swap`], and never a lock.

use crate::catalog::SourceStatus;
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use crate::table::Table;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// One change of the routing table.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Change {
    /// When it was published.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// Number of the table.
    pub generation: u64,
    /// What changed and who caused it.
    #[serde(flatten)]
    pub diff: crate::table::Diff,
}

fn rfc3339<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    match jiff::Timestamp::try_from(*time) {
        Ok(time) => serializer.collect_str(&time),
        Err(_) => serializer.serialize_none(),
    }
}

/// Shared by the control loop (writes), the workers (read the table) and the API (reads).
pub struct State {
    /// The table in force.
    pub table: Arc<ArcSwap<Table>>,
    /// Its number; workers wait on it where a request waits for a server.
    pub generation: tokio::sync::watch::Sender<u64>,
    /// Tables published since start.
    pub changes: AtomicU64,
    /// Set once SIGTERM has come.
    pub terminating: AtomicBool,
    /// When the last good state on disk was written, if it is what is served.
    pub restored: ArcSwapOption<SystemTime>,
    statuses: Mutex<BTreeMap<Provider, SourceStatus>>,
    history: Mutex<VecDeque<Change>>,
    history_size: usize,
    catalog_problems: ArcSwap<Vec<Diagnostic>>,
    static_problems: ArcSwap<Vec<Diagnostic>>,
}

impl State {
    /// The state before anything was read.
    pub fn new(history_size: usize, static_problems: Vec<Diagnostic>) -> Self {
        Self {
            table: Arc::new(ArcSwap::from_pointee(Table::empty())),
            generation: tokio::sync::watch::channel(0).0,
            changes: AtomicU64::new(0),
            terminating: AtomicBool::new(false),
            restored: ArcSwapOption::empty(),
            statuses: Mutex::default(),
            history: Mutex::default(),
            history_size,
            catalog_problems: ArcSwap::default(),
            static_problems: ArcSwap::from_pointee(static_problems),
        }
    }

    /// Publishes a table: workers take it up with their next request, waiting requests at once.
    pub fn publish(&self, table: Arc<Table>, diff: crate::table::Diff) {
        self.table.store(table);
        self.changes.fetch_add(1, Ordering::Relaxed);
        let mut generation = 0;
        self.generation.send_modify(|g| {
            *g += 1;
            generation = *g;
        });
        let mut history = lock(&self.history);
        history.push_front(Change { time: SystemTime::now(), generation, diff });
        history.truncate(self.history_size);
    }

    /// Replaces what is wrong with tags and rules now.
    pub fn set_problems(&self, problems: Vec<Diagnostic>) {
        self.catalog_problems.store(Arc::new(problems));
    }

    /// Replaces the remarks on the static configuration.
    pub fn set_static_problems(&self, problems: Vec<Diagnostic>) {
        self.static_problems.store(Arc::new(problems));
    }

    /// Everything that is wrong now.
    pub fn problems(&self) -> Vec<Diagnostic> {
        self.static_problems.load().iter().chain(self.catalog_problems.load().iter()).cloned().collect()
    }

    /// Takes note of how a source stands.
    pub fn set_status(&self, status: SourceStatus) {
        lock(&self.statuses).insert(status.provider, status);
    }

    /// How every source stands.
    pub fn statuses(&self) -> Vec<SourceStatus> {
        lock(&self.statuses).values().cloned().collect()
    }

    /// The last changes, newest first.
    pub fn history(&self) -> Vec<Change> {
        lock(&self.history).iter().cloned().collect()
    }
}

/// A poisoned lock still holds a whole value: every write above is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
