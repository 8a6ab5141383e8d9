//! What is running now, as the control loop writes it and the admin API reads it. The data side
//! reads only the table in it, through [`arc_swap`], and never a lock.

use super::direct::Saying;
use super::holder::Deaths;
use crate::api::{Change, Refused, RefusedTcp};
use crate::catalog::{Handle, Reports, SourceStatus, World};
use crate::declare::Declarations;
use crate::diagnostic::{self, Diagnostic, Problems};
use crate::model::Provider;
use crate::table::Table;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Who found problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finder {
    /// Who read what a provider declares.
    Reader(Provider),
    /// Who gathers the certificates that it names.
    Stores,
    /// Who builds TLS configurations of it.
    TlsOptions,
    /// Who made the table of it.
    Table,
}

/// What a step of the control loop judged, kept as it came: what people ask of it is worked out when they ask.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// What every provider declares.
    pub declarations: Declarations,
    /// The table of it.
    pub table: Arc<Table>,
    /// What is wrong, by who found it.
    pub problems: BTreeMap<Finder, Problems>,
}

impl Judged {
    /// Routers that are declared and not in the table, with what the diagnostics say of them.
    fn refused(&self) -> Vec<Refused> {
        let said = self.said("router `");
        let mut refused = Vec::new();
        for (provider, dynamic) in &self.declarations {
            for (name, router) in &dynamic.http.routers {
                let id: Arc<str> = format!("{name}@{provider}").into();
                if !self.table.routers.contains_key(&id) {
                    let errors = said.get(&(provider.as_str(), name)).cloned().unwrap_or_default();
                    refused.push(Refused { id, provider: *provider, router: router.clone(), errors });
                }
            }
        }
        refused
    }

    /// The same of TCP.
    fn refused_tcp(&self) -> Vec<RefusedTcp> {
        let said = self.said("TCP router `");
        let mut refused = Vec::new();
        for (provider, dynamic) in &self.declarations {
            for (name, router) in &dynamic.tcp.routers {
                let id: Arc<str> = format!("{name}@{provider}").into();
                if !self.table.tcp.routers.contains_key(&id) {
                    let errors = said.get(&(provider.as_str(), name)).cloned().unwrap_or_default();
                    refused.push(RefusedTcp { id, provider: *provider, router: router.clone(), errors });
                }
            }
        }
        refused
    }

    /// What diagnostics say that begin with a word for a definition, by provider and its name.
    fn said(&self, word: &str) -> HashMap<(&str, &str), Vec<String>> {
        let mut said: HashMap<(&str, &str), Vec<String>> = HashMap::new();
        for problem in self.problems.values().flat_map(|of_one| of_one.values()).flat_map(|list| list.iter()) {
            let name = problem.message.strip_prefix(word).and_then(|rest| rest.split('`').next());
            if let (Some(provider), Some(name)) = (&problem.origin.provider, name) {
                said.entry((provider, name)).or_default().push(problem.message.clone());
            }
        }
        said
    }
}

/// Shared by the control loop (writes), the workers (read the table) and the API (reads).
pub(super) struct State {
    /// The table in force.
    pub table: Arc<ArcSwap<Table>>,
    /// Its number; a worker looks at it where a request waits for a server.
    pub generation: tokio::sync::watch::Sender<u64>,
    /// Every catalog has been read and its services are in the table.
    pub all_read: watch::Sender<bool>,
    /// The public ports are not bound: they are another process's.
    pub standby: AtomicBool,
    /// SIGTERM has come.
    pub terminating: AtomicBool,
    /// What is served came from disk, and no catalog has answered yet.
    pub restored: AtomicBool,
    /// The control loop failed by a defect and has not succeeded since.
    pub control_failing: AtomicBool,
    /// Workers that died before this one.
    pub deaths: watch::Sender<Deaths>,
    sources: Mutex<BTreeMap<Provider, Handle>>,
    direct: Mutex<Vec<Saying>>,
    history: Mutex<VecDeque<Change>>,
    history_size: usize,
    judged: ArcSwap<Judged>,
    world: ArcSwap<World>,
    static_problems: Vec<Diagnostic>,
}

impl State {
    /// The state before anything was read.
    pub fn new(history_size: usize, static_problems: Vec<Diagnostic>) -> Self {
        Self {
            table: Arc::new(ArcSwap::from_pointee(Table::default())),
            generation: tokio::sync::watch::channel(0).0,
            all_read: watch::channel(false).0,
            standby: AtomicBool::new(false),
            terminating: AtomicBool::new(false),
            restored: AtomicBool::new(false),
            control_failing: AtomicBool::new(false),
            deaths: watch::Sender::default(),
            sources: Mutex::default(),
            direct: Mutex::default(),
            history: Mutex::default(),
            history_size,
            judged: ArcSwap::default(),
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

    /// Puts a table in force that routes alike and was declared otherwise: by another service, or earlier. That is no
    /// change to tell of.
    pub fn adopt(&self, table: Arc<Table>) {
        let before = self.table.load();
        let same = table.routers.differences(&before.routers).next().is_none()
            && table.shadowed == before.shadowed
            && Arc::ptr_eq(&table.tcp, &before.tcp);
        if !same {
            self.table.store(table);
            self.generation.send_modify(|generation| *generation += 1);
        }
    }

    /// Replaces the services that the table is made of.
    pub fn set_world(&self, world: &World) {
        self.world.store(Arc::new(world.clone()));
    }

    /// The services that the table is made of.
    pub fn world(&self) -> World {
        (**self.world.load()).clone()
    }

    /// Replaces what was declared, what came of it and what is wrong with it.
    pub fn set_judged(&self, judged: Judged) {
        self.judged.store(Arc::new(judged));
    }

    /// Everything that is wrong now, the static configuration first.
    pub fn problems(&self) -> Vec<Diagnostic> {
        let judged = self.judged.load();
        let found = judged.problems.values().flat_map(diagnostic::list);
        self.static_problems.iter().cloned().chain(found).collect()
    }

    /// Routers that were declared and do not act.
    pub fn refused(&self) -> Vec<Refused> {
        self.judged.load().refused()
    }

    /// TCP routers that were declared and do not act.
    pub fn refused_tcp(&self) -> Vec<RefusedTcp> {
        self.judged.load().refused_tcp()
    }

    /// Takes note of a source; one of the same provider is replaced.
    pub fn add_source(&self, handle: &Handle) {
        let provider = handle.snapshots.borrow().status.provider;
        lock(&self.sources).insert(provider, handle.clone());
    }

    /// Takes note of a provider that declares directly.
    pub fn add_direct(&self, saying: Saying) {
        lock(&self.direct).push(saying);
    }

    /// How every source stands, to the last answer: an answer without news wakes nobody.
    pub fn statuses(&self) -> Vec<SourceStatus> {
        let direct: Vec<SourceStatus> = lock(&self.direct).iter().map(|said| said.borrow().status.clone()).collect();
        let sources = lock(&self.sources);
        let catalogs = sources.values().map(|Handle { snapshots, reports, .. }| {
            let mut status = snapshots.borrow().status.clone();
            if let Some(reports) = reports {
                let Reports { missing_rights, notes, .. } = &*reports.borrow();
                status.missing_rights.extend_from_slice(missing_rights);
                status.notes.extend_from_slice(notes);
            }
            status
        });
        direct.into_iter().chain(catalogs).collect()
    }

    /// The last changes, newest first.
    pub fn history(&self) -> Vec<Change> {
        lock(&self.history).iter().cloned().collect()
    }

    /// Ends the holds of all sources; gives how many names were held.
    pub fn forget(&self) -> usize {
        let sources = lock(&self.sources);
        let held = sources.values().map(|handle| handle.snapshots.borrow().status.held.len()).sum();
        sources.values().for_each(|handle| handle.forget.now());
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
