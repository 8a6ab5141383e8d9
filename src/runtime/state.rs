//! What is running now, as the control loop writes it and the admin API reads it. The data side
//! reads only the table in it, through [`arc_swap`], and never a lock.

use crate::api::{Change, Refused};
use crate::catalog::{Forget, SourceStatus};
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use crate::table::Table;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by the control loop (writes), the workers (read the table) and the API (reads).
pub(super) struct State {
    /// The table in force.
    pub table: Arc<ArcSwap<Table>>,
    /// Its number; a worker looks at it where a request waits for a server.
    pub generation: tokio::sync::watch::Sender<u64>,
    /// SIGTERM has come.
    pub terminating: AtomicBool,
    /// What is served came from disk, and no catalog has answered yet.
    pub restored: AtomicBool,
    statuses: Mutex<BTreeMap<Provider, SourceStatus>>,
    forget: Mutex<Vec<Forget>>,
    history: Mutex<VecDeque<Change>>,
    history_size: usize,
    refused: ArcSwap<Vec<Refused>>,
    problems: ArcSwap<Vec<Diagnostic>>,
    static_problems: Vec<Diagnostic>,
}

impl State {
    /// The state before anything was read.
    pub fn new(history_size: usize, static_problems: Vec<Diagnostic>) -> Self {
        Self {
            table: Arc::new(ArcSwap::from_pointee(Table::default())),
            generation: tokio::sync::watch::channel(0).0,
            terminating: AtomicBool::new(false),
            restored: AtomicBool::new(false),
            statuses: Mutex::default(),
            forget: Mutex::default(),
            history: Mutex::default(),
            history_size,
            refused: ArcSwap::default(),
            problems: ArcSwap::default(),
            static_problems,
        }
    }

    /// Publishes a table: workers take it up with their next request, waiting requests at once.
    pub fn publish(&self, table: Arc<Table>, change: Change) {
        self.table.store(table);
        self.generation.send_modify(|generation| *generation += 1);
        let mut history = lock(&self.history);
        history.push_front(change);
        history.truncate(self.history_size);
    }

    /// Replaces what is wrong with tags and rules now.
    pub fn set_problems(&self, problems: Vec<Diagnostic>, refused: Vec<Refused>) {
        self.problems.store(Arc::new(problems));
        self.refused.store(Arc::new(refused));
    }

    /// Everything that is wrong now, the static configuration first.
    pub fn problems(&self) -> Vec<Diagnostic> {
        self.static_problems.iter().chain(self.problems.load().iter()).cloned().collect()
    }

    /// Routers that were declared and do not act.
    pub fn refused(&self) -> Vec<Refused> {
        self.refused.load().to_vec()
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

    /// Adds a source whose holds can be ended by hand.
    pub fn add_forget(&self, forget: Forget) {
        lock(&self.forget).push(forget);
    }

    /// Ends the holds of all sources; gives how many names were held.
    pub fn forget(&self) -> usize {
        lock(&self.forget).iter().for_each(Forget::now);
        lock(&self.statuses).values().map(|status| status.held.len()).sum()
    }

    /// True once SIGTERM has come.
    pub fn is_terminating(&self) -> bool {
        self.terminating.load(Relaxed)
    }
}

/// A poisoned lock still holds a whole value: every write above is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
