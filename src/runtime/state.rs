//! What is running now, as the control loop writes it and the admin API reads it. The data side
//! reads only the table in it, through [`arc_swap`], and never a lock.

use super::direct::Saying;
use crate::api::{Change, Refused};
use crate::catalog::{Forget, Handle, Snapshot, SourceStatus, World};
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use crate::table::Table;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

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
    /// The control loop failed by a defect and has not succeeded since.
    pub control_failing: AtomicBool,
    sources: Mutex<BTreeMap<Provider, (watch::Receiver<Snapshot>, Forget)>>,
    direct: Mutex<Vec<Saying>>,
    history: Mutex<VecDeque<Change>>,
    history_size: usize,
    refused: ArcSwap<Vec<Refused>>,
    problems: ArcSwap<Vec<Diagnostic>>,
    world: ArcSwap<World>,
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
            control_failing: AtomicBool::new(false),
            sources: Mutex::default(),
            direct: Mutex::default(),
            history: Mutex::default(),
            history_size,
            refused: ArcSwap::default(),
            problems: ArcSwap::default(),
            world: ArcSwap::default(),
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

    /// Replaces the services that the table is made of.
    pub fn set_world(&self, world: &World) {
        self.world.store(Arc::new(world.clone()));
    }

    /// The services that the table is made of.
    pub fn world(&self) -> World {
        (**self.world.load()).clone()
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

    /// Takes note of a source; one of the same provider is replaced.
    pub fn add_source(&self, handle: &Handle) {
        let provider = handle.snapshots.borrow().status.provider;
        lock(&self.sources).insert(provider, (handle.snapshots.clone(), handle.forget.clone()));
    }

    /// Takes note of a provider that declares directly.
    pub fn add_direct(&self, saying: Saying) {
        lock(&self.direct).push(saying);
    }

    /// How every source stands, to the last answer: an answer without news wakes nobody.
    pub fn statuses(&self) -> Vec<SourceStatus> {
        let direct: Vec<SourceStatus> = lock(&self.direct).iter().map(|said| said.borrow().status.clone()).collect();
        let sources = lock(&self.sources);
        let catalogs = sources.values().map(|(snapshots, _)| snapshots.borrow().status.clone());
        direct.into_iter().chain(catalogs).collect()
    }

    /// The last changes, newest first.
    pub fn history(&self) -> Vec<Change> {
        lock(&self.history).iter().cloned().collect()
    }

    /// Ends the holds of all sources; gives how many names were held.
    pub fn forget(&self) -> usize {
        let sources = lock(&self.sources);
        let held = sources.values().map(|(snapshots, _)| snapshots.borrow().status.held.len()).sum();
        sources.values().for_each(|(_, forget)| forget.now());
        held
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
