//! The thread that looks into the certificate directory: at the start, when the system tells of a
//! change, when a handshake asked for a host that is not there, and every few seconds (a change
//! made on another machine over NFS is told by nobody). The index is swapped when it differs.

use super::index::Index;
use super::scan::{Depth, Problem, Scanner};
use arc_swap::ArcSwap;
use notify::{EventKind, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

/// Looks go in between these, drawn anew each time, so that many machines on one server spread.
const POLL: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(5);
/// Each such look reads every file's stat, the others only the directories'.
const EVERY: u32 = 12;
/// Events of one renewal come within this.
const SETTLE: Duration = Duration::from_millis(100);
/// How often a pair that has just become broken is looked at again before it is reported.
const RETRIES: usize = 3;

/// What the thread is asked.
enum Command {
    /// A host was asked for that is not there.
    Missed,
    /// Something changed on disk.
    Changed,
    /// Look at everything and answer.
    Look(SyncSender<()>),
    Stop,
}

/// The way to the thread, which ends when this is gone.
pub(super) struct Watch {
    commands: SyncSender<Command>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.commands.try_send(Command::Stop);
    }
}

/// What the thread has found; read by everybody.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) index: ArcSwap<Index>,
    pub(super) problems: ArcSwap<Vec<Problem>>,
    /// Pairs to look for besides those of the directory: chain and key.
    pub(super) named: ArcSwap<Vec<(PathBuf, PathBuf)>>,
}

impl Watch {
    /// Starts the thread and waits until it has looked once, but at most `limit`.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(
        scanner: Scanner,
        dir: PathBuf,
        limit: Duration,
    ) -> std::io::Result<(Arc<Self>, Arc<Findings>)> {
        let (commands, receiver) = sync_channel(64);
        let (first, looked) = sync_channel(1);
        let watch = Arc::new(Self { commands: commands.clone() });
        let findings = Arc::new(Findings::default());
        let thread = Thread {
            scanner,
            dir,
            commands,
            receiver,
            findings: findings.clone(),
            owner: Arc::downgrade(&watch),
            reported: Vec::new(),
        };
        std::thread::Builder::new().name("certs".to_owned()).spawn(move || thread.run(&first))?;
        if looked.recv_timeout(limit).is_err() {
            tracing::warn!("the certificate directory does not answer; it is served once it does");
        }
        Ok((watch, findings))
    }

    /// A way that leads to the test instead of a thread.
    #[cfg(test)]
    pub(super) fn unwatched() -> (Arc<Self>, impl FnMut() -> usize) {
        let (commands, receiver) = sync_channel(64);
        let missed = move || receiver.try_iter().filter(|command| matches!(command, Command::Missed)).count();
        (Arc::new(Self { commands }), missed)
    }

    /// Says that a host was asked for in vain; waits for nothing.
    pub(super) fn missed(&self) {
        let _ = self.commands.try_send(Command::Missed);
    }

    /// Says that something is to be looked for; waits for nothing.
    pub(super) fn changed(&self) {
        // a full channel means that a look is coming anyway
        let _ = self.commands.try_send(Command::Changed);
    }

    /// Looks at everything now and waits for it; false when it took longer than `limit`.
    pub(super) fn look(&self, limit: Duration) -> bool {
        let (done, looked) = sync_channel(1);
        self.commands.try_send(Command::Look(done)).is_ok() && looked.recv_timeout(limit).is_ok()
    }
}

struct Thread {
    scanner: Scanner,
    dir: PathBuf,
    commands: SyncSender<Command>,
    receiver: Receiver<Command>,
    findings: Arc<Findings>,
    owner: Weak<Watch>,
    /// Problems that were said already.
    reported: Vec<Problem>,
}

impl Thread {
    fn run(mut self, first: &SyncSender<()>) {
        // Before the first look, so that no change falls between the two.
        let mut watcher = watch(&self.dir, self.commands.clone());
        self.look(Depth::Every);
        // Nobody may be waiting any more.
        let _ = first.send(());
        let mut rounds = 1u32;
        while self.owner.strong_count() > 0 {
            if watcher.is_none() && rounds.is_multiple_of(EVERY) {
                watcher = watch(&self.dir, self.commands.clone());
            }
            let wait = rand::random_range(POLL);
            match self.receiver.recv_timeout(wait) {
                Ok(Command::Missed) => self.look(Depth::Changed),
                Ok(Command::Changed) => {
                    std::thread::sleep(SETTLE);
                    // What came meanwhile is seen by the same look; others are answered by it.
                    let mut waiting = Vec::new();
                    while let Ok(command) = self.receiver.try_recv() {
                        match command {
                            Command::Look(done) => waiting.push(done),
                            Command::Stop => return,
                            Command::Missed | Command::Changed => {}
                        }
                    }
                    self.look(Depth::Every);
                    for done in waiting {
                        let _ = done.send(());
                    }
                }
                Ok(Command::Look(done)) => {
                    self.look(Depth::Every);
                    let _ = done.send(());
                }
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    rounds = rounds.wrapping_add(1);
                    self.look(if rounds.is_multiple_of(EVERY) { Depth::Every } else { Depth::Changed });
                }
            }
        }
    }

    /// Looks, and once more shortly after as long as something has just become broken: the files
    /// of a renewal are replaced one by one.
    fn look(&mut self, depth: Depth) {
        self.scanner.name(self.findings.named.load_full());
        for again in 0..=RETRIES {
            let found = self.scanner.look(depth, SystemTime::now());
            if found.changed {
                self.findings.index.store(Arc::new(self.scanner.index()));
            }
            if !found.unsettled || again == RETRIES {
                break;
            }
            std::thread::sleep(SETTLE);
        }
        self.report();
    }

    fn report(&mut self) {
        let problems = self.scanner.problems();
        if problems == self.reported {
            return;
        }
        for problem in problems.iter().filter(|p| !self.reported.contains(p)) {
            let file = problem.file.display();
            if problem.file == self.dir {
                tracing::warn!(%file, "the certificate directory cannot be read: {}", problem.text);
            } else if problem.kept {
                tracing::warn!(%file, "certificate not replaced, the pair from before is served: {}", problem.text);
            } else {
                tracing::warn!(%file, "certificate not served: {}", problem.text);
            }
        }
        self.reported.clone_from(&problems);
        self.findings.problems.store(Arc::new(problems));
    }
}

/// Our own reading is told as well, and lock files change every few seconds.
fn interesting(event: &notify::Event, dir: &Path) -> bool {
    let noise = |path: &PathBuf| {
        let first = path.strip_prefix(dir).ok().and_then(|rest| rest.iter().next());
        first.is_some_and(|first| ["locks", "acme", "ocsp", "pki"].iter().any(|n| first == *n))
    };
    let change = matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_));
    change && !event.paths.iter().all(noise)
}

/// Asks the system to tell of changes. Where it does not work, looking every few seconds has to do.
fn watch(dir: &Path, commands: SyncSender<Command>) -> Option<notify::RecommendedWatcher> {
    let root = dir.to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| interesting(&event, &root)) {
            // A full channel means that a look is coming anyway.
            let _ = commands.try_send(Command::Changed);
        }
    })
    .ok()?;
    match watcher.watch(dir, RecursiveMode::Recursive) {
        Ok(()) => Some(watcher),
        Err(error) => {
            tracing::debug!(dir = %dir.display(), %error, "changes are found by looking alone");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{AccessKind, AccessMode, CreateKind};

    #[test]
    fn our_own_reading_and_lock_files_are_no_news() {
        let dir = Path::new("/CERTS");
        let event = |kind, paths: &[&str]| {
            paths.iter().fold(notify::Event::new(kind), |event, path| event.add_path(dir.join(path)))
        };
        let made = EventKind::Create(CreateKind::File);
        assert!(interesting(&event(made, &["certificates/le/a/a.crt"]), dir));
        assert!(interesting(&event(made, &["locks/x", "flat.crt"]), dir));
        assert!(!interesting(&event(made, &["locks/issue_cert_a.lock"]), dir));
        let read = EventKind::Access(AccessKind::Open(AccessMode::Read));
        assert!(!interesting(&event(read, &["certificates/le/a/a.crt"]), dir));
    }
}
