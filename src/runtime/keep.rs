//! Writes the last good state on a thread of its own: the state directory may be on a network file system that hangs,
//! and nothing may wait for it. Only the newest value counts; at most one write a second, fewer where a write takes long. What could not be written is
//! tried again until it is, or something newer is there.

use crate::catalog::World;
use crate::declare::Declarations;
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use crate::table::{Store, StoreError, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// What is kept: the inventories as last believed, and what was last good of each definition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LastGood {
    /// Inventories by provider.
    pub world: World,
    /// Highest index seen by provider: a catalog that answers below it has been wiped meanwhile.
    #[serde(default)]
    pub indexes: BTreeMap<Provider, u64>,
    /// What was served: the last good form of definitions whose live form is bad.
    pub accepted: Declarations,
}

/// What is to be kept, as the control loop hands it over: it costs nothing to make, and becomes a [`LastGood`] on the
/// writing thread.
#[derive(Debug, Clone, Default)]
pub struct Latest {
    /// Inventories by provider.
    pub world: World,
    /// Highest index seen by provider.
    pub indexes: BTreeMap<Provider, u64>,
    /// What is served.
    pub table: Arc<Table>,
}

impl Latest {
    fn last_good(&self) -> LastGood {
        LastGood { world: self.world.clone(), indexes: self.indexes.clone(), accepted: self.table.declarations() }
    }
}

/// Least time between two writes.
const PAUSE: Duration = Duration::from_secs(1);
/// So many times as long as a write took no other follows, up to [`LONGEST_PAUSE`]: a state of ten thousand services
/// takes tenths of a second, and changes may come ten times a second.
const REST: u32 = 50;
/// What the next start may miss at most after a crash, in time.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Slot {
    newest: Option<Latest>,
    ended: bool,
    /// Another process writes: nothing is written, and only the newest is remembered.
    held: bool,
    writing: bool,
    problem: Option<Diagnostic>,
}

/// Handle of the writing thread.
pub struct Keeper {
    shared: Arc<(Mutex<Slot>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(store: Store<LastGood>) -> std::io::Result<Self> {
        let shared = Arc::new((Mutex::new(Slot::default()), Condvar::new()));
        let theirs = shared.clone();
        let thread =
            std::thread::Builder::new().name("keeper".to_owned()).spawn(move || write_newest(&store, &theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hands over the newest value; never waits for the disk.
    pub fn keep(&self, value: Latest) {
        lock(&self.shared.0).newest = Some(value);
        self.shared.1.notify_all();
    }

    /// What writing suffers from, to be looked at any time.
    pub fn trouble(&self) -> Trouble {
        Trouble(self.shared.clone())
    }

    /// What says whether this process writes at all.
    pub fn pen(&self) -> Pen {
        Pen(self.shared.clone())
    }

    /// Writes what is still to be written, and ends; gives up after `patience`.
    pub fn finish(mut self, patience: Duration) {
        lock(&self.shared.0).ended = true;
        self.shared.1.notify_all();
        let Some(thread) = self.thread.take() else { return };
        let end = Instant::now() + patience;
        while !thread.is_finished() && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

/// Whether this process is the one that writes: two that serve one after the other on the same sockets have one state
/// directory, and what the older one knows must not replace what the newer one knows.
#[derive(Clone)]
pub struct Pen(Arc<(Mutex<Slot>, Condvar)>);

impl Pen {
    /// Writes no more from now on.
    pub fn hold(&self) {
        lock(&self.0.0).held = true;
    }

    /// Writes no more, and waits until the write that is under way has ended, or for `patience`.
    pub fn put_down(&self, patience: Duration) {
        let mut slot = lock(&self.0.0);
        slot.held = true;
        drop(self.0.1.wait_timeout_while(slot, patience, |slot| slot.writing));
    }

    /// Writes from now on, what was handed over meanwhile first.
    pub fn take_up(&self) {
        lock(&self.0.0).held = false;
        self.0.1.notify_all();
    }
}

/// Why the last write failed.
#[derive(Clone)]
pub struct Trouble(Arc<(Mutex<Slot>, Condvar)>);

impl Trouble {
    /// The reason, until a write succeeds.
    pub fn now(&self) -> Option<Diagnostic> {
        lock(&self.0.0).problem.clone()
    }
}

fn write_newest(store: &Store<LastGood>, shared: &(Mutex<Slot>, Condvar)) {
    loop {
        let (value, ended) = {
            let mut slot = lock(&shared.0);
            while (slot.newest.is_none() || slot.held) && !slot.ended {
                slot = shared.1.wait(slot).unwrap_or_else(PoisonError::into_inner);
            }
            let newest = slot.newest.take().filter(|_| !slot.held);
            slot.writing = newest.is_some();
            (newest, slot.ended)
        };
        let mut pause = PAUSE;
        if let Some(value) = value {
            let start = Instant::now();
            let outcome = store.write(&value.last_good(), SystemTime::now());
            pause = pause.max(start.elapsed().saturating_mul(REST).min(LONGEST_PAUSE));
            let failed = outcome.is_err();
            let mut slot = lock(&shared.0);
            slot.writing = false;
            shared.1.notify_all();
            report(&mut slot.problem, outcome);
            if failed {
                pause = RETRY;
                slot.newest.get_or_insert(value);
            }
        }
        if ended {
            return;
        }
        // A storm of changes costs a fiftieth of a core at most; the end is not delayed by it.
        let slot = lock(&shared.0);
        drop(shared.1.wait_timeout_while(slot, pause, |slot| !slot.ended));
    }
}

fn report(problem: &mut Option<Diagnostic>, outcome: Result<(), StoreError>) {
    match outcome {
        Ok(()) => {
            if problem.take().is_some() {
                tracing::info!("the last good state is written again");
            }
        }
        Err(e) => {
            let diagnostic = Diagnostic::warning("state_not_written", e.to_string()).with_help(
                "after a restart without a catalog no route would be known; make `rustLb.stateDir` writable",
            );
            if problem.as_ref() != Some(&diagnostic) {
                tracing::warn!("{diagnostic}");
            }
            *problem = Some(diagnostic);
        }
    }
}

fn lock(mutex: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_have_the_pen_writes_nothing_not_even_at_the_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::new(dir.path(), "last-good.json");
        let path = store.path().to_owned();
        let keeper = Keeper::start(store.clone()).expect("a thread");
        let pen = keeper.pen();
        pen.hold();
        keeper.keep(Latest::default());
        keeper.finish(Duration::from_secs(5));
        assert!(!path.exists());

        let keeper = Keeper::start(store).expect("a thread");
        let pen = keeper.pen();
        pen.hold();
        keeper.keep(Latest::default());
        pen.take_up();
        keeper.finish(Duration::from_secs(5));
        assert!(path.exists(), "what was handed over before is written after");
    }
}
