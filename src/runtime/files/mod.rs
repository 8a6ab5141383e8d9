//! The file provider (<https://doc.traefik.io/traefik/reference/install-configuration/providers/others/file/>):
//! a thread that looks at the files at the start, when the system tells of a change, and every few
//! seconds (a change made on another machine over NFS is told by nobody), and publishes what they
//! declare.

mod scan;
#[cfg(test)]
mod tests;

use super::direct::{Said, Saying};
use crate::catalog::SourceState;
use crate::config::FileProvider;
use crate::declare::Dynamic;
use crate::declare::file::Decoded;
use crate::model::Provider;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecursiveMode, Watcher};
use scan::{Depth, Scanner};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// Looks go in between these, drawn anew each time, so that many machines on one server spread.
const POLL: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(5);
/// Each such look reads every file, the others those whose stat changed.
const EVERY: u32 = 12;
/// Events of one change come within this.
const SETTLE: Duration = Duration::from_millis(10);
/// Before it is tried again after a defect.
const AGAIN: Duration = Duration::from_secs(30);
/// How long a start waits for the first look.
const FIRST: Duration = Duration::from_secs(5);

enum Event {
    /// A file was written to.
    Written(PathBuf),
    /// A file that was written to was closed.
    Closed(PathBuf),
    /// Something else changed.
    Changed,
    Stop,
}

/// The way to the thread, which ends when this is gone.
pub(super) struct Watch(SyncSender<Event>);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.try_send(Event::Stop);
    }
}

/// Reads the files once, as they are.
pub(crate) fn read(provider: &FileProvider) -> Decoded {
    let mut scanner = Scanner::impatient(provider.path.clone(), provider.is_directory);
    scanner.look(Depth::Every, Instant::now(), SystemTime::now());
    scanner.decoded()
}

/// Starts the thread and waits until it has looked once, but not for ever. `restored` is what was last
/// good of what files declared, for those that cannot be read now.
///
/// # Errors
/// No thread can be started.
pub(super) fn start(provider: &FileProvider, restored: Dynamic) -> std::io::Result<(Watch, Saying)> {
    let (events, receiver) = sync_channel(1024);
    let (first, looked) = sync_channel(1);
    // a relative path stays right whatever the working directory is
    let path = std::path::absolute(&provider.path).unwrap_or_else(|_| provider.path.clone());
    let said = Said::nothing(Provider::File, path.display().to_string(), "files");
    let (sender, saying) = watch::channel(Arc::new(said));
    let thread = Thread {
        scanner: Scanner::new(path.clone(), provider.is_directory, restored),
        path,
        is_directory: provider.is_directory,
        watches: provider.watch,
        events: events.clone(),
        receiver,
        sender,
        again: None,
    };
    std::thread::Builder::new().name("files".to_owned()).spawn(move || thread.run(&first))?;
    if looked.recv_timeout(FIRST).is_err() {
        tracing::warn!("the files of dynamic configuration do not answer; they count once they do");
    }
    Ok((Watch(events), saying))
}

struct Thread {
    scanner: Scanner,
    path: PathBuf,
    is_directory: bool,
    watches: bool,
    events: SyncSender<Event>,
    receiver: Receiver<Event>,
    sender: watch::Sender<Arc<Said>>,
    /// When to look again for what is not settled.
    again: Option<Instant>,
}

impl Thread {
    fn run(mut self, first: &SyncSender<()>) {
        // before the first look, so that no change falls between the two
        let mut watcher = self.watches.then(|| self.watcher()).flatten();
        self.look(Depth::Every);
        let _ = first.send(());
        let mut rounds = 1u32;
        let mut poll = Instant::now() + rand::random_range(POLL);
        loop {
            let wake = match (self.watches, self.again) {
                (true, again) => again.map_or(poll, |again| again.min(poll)),
                (false, Some(again)) => again,
                // what was not settled at the start is; nothing else is waited for
                (false, None) => return,
            };
            match self.receiver.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    std::thread::sleep(SETTLE);
                    let waiting: Vec<Event> = std::iter::once(event).chain(self.receiver.try_iter()).collect();
                    for event in waiting {
                        match event {
                            Event::Written(path) => self.scanner.written(path, Instant::now()),
                            Event::Closed(path) => self.scanner.closed(&path),
                            Event::Changed => {}
                            Event::Stop => return,
                        }
                    }
                    self.look(Depth::Changed);
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let mut depth = Depth::Changed;
                    if Instant::now() >= poll {
                        rounds = rounds.wrapping_add(1);
                        poll = Instant::now() + rand::random_range(POLL);
                        if rounds.is_multiple_of(EVERY) {
                            depth = Depth::Every;
                            watcher = watcher.or_else(|| self.watcher());
                        }
                    }
                    self.look(depth);
                }
            }
        }
    }

    /// Looks, and publishes what changed. A defect is told, and what was declared stays.
    fn look(&mut self, depth: Depth) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let found = self.scanner.look(depth, Instant::now(), SystemTime::now());
            (found, found.changed.then(|| self.scanner.decoded()))
        }));
        let before = self.sender.borrow().clone();
        match outcome {
            Ok((found, decoded)) => {
                self.again = found.again;
                let unread = !before.is_read();
                // nothing at all was found: that is read, too
                let decoded = decoded.or_else(|| unread.then(|| self.scanner.decoded()));
                self.publish(&before, decoded);
            }
            Err(_) => {
                tracing::error!(
                    "the files of dynamic configuration are not taken up because of a defect; what they declared stays"
                );
                self.scanner = Scanner::new(self.path.clone(), self.is_directory, before.dynamic.clone());
                self.again = Some(Instant::now() + AGAIN);
            }
        }
    }

    fn publish(&self, before: &Arc<Said>, decoded: Option<Decoded>) {
        let now = SystemTime::now();
        let mut said = Said::clone(before);
        let trouble = self.scanner.trouble();
        said.status.last_contact = trouble.is_empty().then_some(now).or(said.status.last_contact);
        let Some(decoded) = decoded else {
            // nobody is woken by an answer without news
            self.sender.send_if_modified(|current| {
                *current = Arc::new(said);
                false
            });
            return;
        };
        said.revision += 1;
        said.status.state = if trouble.is_empty() { SourceState::Connected } else { SourceState::Retrying };
        said.status.last_error = trouble.first().map(ToString::to_string).unwrap_or_default();
        said.status.index = said.revision;
        said.status.last_change = Some(now);
        said.status.services_seen = decoded.dynamic.http.services.len();
        said.status.notes = vec![format!("{} files", self.scanner.files())];
        (said.dynamic, said.problems) = (decoded.dynamic, decoded.problems);
        self.sender.send_replace(Arc::new(said));
    }

    /// Asks the system to tell of changes. Where it does not work, looking every few seconds has to do.
    fn watcher(&self) -> Option<notify::RecommendedWatcher> {
        let events = self.events.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // a full channel means that a look is coming anyway
            event.into_iter().flat_map(news).for_each(|event| drop(events.try_send(event)));
        })
        .ok()?;
        // a file that is replaced is another file: its directory is what stays
        let (dir, mode) = match self.is_directory {
            true => (self.path.as_path(), RecursiveMode::Recursive),
            false => (self.path.parent().unwrap_or(Path::new("/")), RecursiveMode::NonRecursive),
        };
        match watcher.watch(dir, mode) {
            Ok(()) => Some(watcher),
            Err(error) => {
                tracing::debug!(dir = %dir.display(), %error, "changes of files are found by looking alone");
                None
            }
        }
    }
}

/// What the system tells of; our own reading is told as well, and no news.
fn news(event: notify::Event) -> Vec<Event> {
    match event.kind {
        EventKind::Modify(ModifyKind::Data(_)) => event.paths.into_iter().map(Event::Written).collect(),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => event.paths.into_iter().map(Event::Closed).collect(),
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => vec![Event::Changed],
        _ => Vec::new(),
    }
}
