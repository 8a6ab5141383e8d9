//! The thread that looks into the certificate directory: at the start, when the system tells of a
//! change (then just there), when a handshake asked for a host that is not there, and every few seconds (a change
//! made on another machine over NFS is told by nobody). The index is swapped when it differs.

use super::copy::{self, Writer};
use super::events::{Events, News};
use super::folder::{Depth, Problem};
use super::index::Index;
use super::mirror;
use super::named::Named;
use super::scan::Scanner;
use crate::diagnostic::Diagnostic;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

/// Looks go in between these, drawn anew each time, so that many machines on one server spread.
const POLL: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_millis(4_500);
/// Of many sources, each such look reads every file's stamp, the others only the directories'.
const EVERY: u32 = 12;
/// So many are few enough for every file's stamp at each look.
const FEW: usize = 1_000;
/// A pair that has just become broken is looked at again so often, and reported when it stays so for longer than [`SETTLE`]: the
/// files of a renewal are replaced one by one.
const AGAIN: Duration = Duration::from_millis(50);
const SETTLE: Duration = Duration::from_millis(150);
/// A look that somebody waits for does not wait for longer than so many of [`AGAIN`], whatever is being written.
const TRIES: u32 = 6;
/// A new directory is looked at again after these.
const LATER: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(150), Duration::from_millis(500)];
/// What no handshake has needed for between one and two of these is given back.
const REST: Duration = Duration::from_secs(300);
/// Lines that one look logs.
const LINES: usize = 20;
/// No look that is answered lasts for so long.
const HANGS: Duration = Duration::from_secs(10);
/// Places that are to be looked at again, at most.
const DUE_LIMIT: usize = 4_096;

/// What the thread is asked.
pub(super) enum Command {
    /// A host was asked for that is not there.
    Missed(String),
    /// These changed on disk.
    Told(News),
    /// Something changed.
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
    /// Certificates to look for besides those of the directory.
    pub(super) named: ArcSwap<Vec<Arc<Named>>>,
    /// Certificates that could not be stored and are nowhere else.
    pub(super) held: ArcSwap<Vec<Arc<Named>>>,
    /// Traefik's documents to read besides.
    pub(super) documents: ArcSwap<Vec<PathBuf>>,
    /// Chains that lie in the mirror.
    pub(super) mirrored: ArcSwap<Vec<PathBuf>>,
    /// What is wrong with what is to be mirrored, and from when on that is told.
    pub(super) mirror_problems: ArcSwap<Vec<(Diagnostic, Instant)>>,
    /// The house's own certificates before public ones.
    pub(super) prefer_local: AtomicBool,
    /// How many are served of the local copy.
    pub(super) copied: AtomicUsize,
    /// Why the local copy is not up to date.
    pub(super) copy_trouble: ArcSwapOption<String>,
    /// Whether the directory has been looked at once.
    looked: Mutex<bool>,
    /// Since when the thread is looking; `None` while it waits.
    looking: Mutex<Option<Instant>>,
}

impl Findings {
    fn looks(&self, since: Option<Instant>) {
        *self.looking.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Whether a look has lasted for so long that what it looks at must hang: a server of files that is away.
    pub(super) fn hangs(&self, now: Instant) -> bool {
        let since = *self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| now.saturating_duration_since(since) >= HANGS)
    }

    /// Serves the copy as long as the directory has not been looked at.
    fn serve_copy(&self, dir: &std::path::Path) {
        let pairs = match copy::read(dir) {
            Ok(pairs) => pairs,
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the local copy of the certificates cannot be read");
                return;
            }
        };
        let pairs: Vec<_> = pairs.into_iter().map(Arc::new).collect();
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if *looked || pairs.is_empty() {
            return;
        }
        let count = pairs.len();
        let hint =
            |pair: &&Arc<super::pair::Pair>| pair.file.ends_with("cert.pem") || pair.file.ends_with("fullchain.pem");
        let no_host = pairs.iter().find(hint).cloned();
        self.index.store(Arc::new(Index::new(pairs, super::index::Defaults { everybody: None, no_host })));
        self.copied.store(count, Ordering::Relaxed);
        tracing::warn!(count, "the certificate directory does not answer; the local copy is served");
    }
}

/// Where the thread looks and what it keeps.
pub(super) struct Places {
    pub(super) dir: PathBuf,
    /// Directory of the local copy.
    pub(super) copy: Option<PathBuf>,
    /// Directory of the mirror.
    pub(super) mirror: Option<PathBuf>,
}

impl Watch {
    /// Starts the thread and waits until it has looked once, but at most `limit`.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(places: Places, limit: Duration) -> std::io::Result<(Arc<Self>, Arc<Findings>)> {
        let (commands, receiver) = sync_channel(1_024);
        let (first, looked) = sync_channel(1);
        let watch = Arc::new(Self { commands: commands.clone() });
        let findings = Arc::new(Findings::default());
        let copy = places.copy;
        let writer = copy.clone().map(|dir| Writer::start(dir, places.mirror.clone(), &findings)).transpose()?;
        let thread = Thread {
            scanner: Scanner::new(places.dir.clone(), places.mirror.is_some()),
            mirror: places.mirror,
            dir: places.dir,
            copy: copy.clone(),
            writer,
            commands,
            receiver,
            findings: findings.clone(),
            owner: Arc::downgrade(&watch),
            reported: Vec::new(),
            due: Vec::new(),
            lost: Arc::default(),
        };
        std::thread::Builder::new().name("certs".to_owned()).spawn(move || thread.run(&first))?;
        if looked.recv_timeout(limit / 2).is_ok() {
            return Ok((watch, findings));
        }
        // It hangs, or there is very much of it. What comes first is served; the state directory may hang, too.
        let (read, copied) = sync_channel(1);
        if let Some(dir) = copy {
            let findings = findings.clone();
            std::thread::Builder::new().name("certs-copy-read".to_owned()).spawn(move || {
                findings.serve_copy(&dir);
                let _ = read.send(());
            })?;
        }
        let until = Instant::now() + limit / 2;
        while looked.try_recv().is_err() {
            if copied.try_recv().is_ok() && findings.copied.load(Ordering::Relaxed) > 0 {
                return Ok((watch, findings));
            }
            if Instant::now() >= until {
                tracing::warn!("the certificate directory does not answer; it is served once it does");
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok((watch, findings))
    }

    /// A way that leads to the test instead of a thread.
    #[cfg(test)]
    pub(super) fn unwatched() -> (Arc<Self>, impl FnMut() -> usize) {
        let (commands, receiver) = sync_channel(64);
        let missed = move || receiver.try_iter().filter(|command| matches!(command, Command::Missed(_))).count();
        (Arc::new(Self { commands }), missed)
    }

    /// Says that a host was asked for in vain; waits for nothing.
    pub(super) fn missed(&self, host: &str) {
        let _ = self.commands.try_send(Command::Missed(host.to_owned()));
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
    copy: Option<PathBuf>,
    mirror: Option<PathBuf>,
    writer: Option<Writer>,
    commands: SyncSender<Command>,
    receiver: Receiver<Command>,
    findings: Arc<Findings>,
    owner: Weak<Watch>,
    /// Problems that were said already.
    reported: Vec<Problem>,
    /// What is to be looked at again, and when.
    due: Vec<(Instant, PathBuf)>,
    /// The system told more than could be taken.
    lost: Arc<AtomicBool>,
}

impl Thread {
    fn run(mut self, first: &SyncSender<()>) {
        self.findings.looks(Some(Instant::now()));
        self.first_look();
        // Nobody may be waiting any more.
        let _ = first.send(());
        let mut events = self.watch();
        // What changed before it was watched.
        self.look(Depth::Changed);
        let (mut rounds, mut rest) = (1u32, Instant::now() + REST);
        let mut poll = Instant::now() + rand::random_range(POLL);
        while self.owner.strong_count() > 0 {
            let next = self.due.iter().map(|(at, _)| *at).chain([poll]).min().unwrap_or(poll);
            self.findings.looks(None);
            let received = self.receiver.recv_timeout(next.saturating_duration_since(Instant::now()));
            self.findings.looks(Some(Instant::now()));
            match received {
                Ok(command) => {
                    if !self.obey(command, &mut events) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.look_again();
            if Instant::now() < poll {
                continue;
            }
            rounds = rounds.wrapping_add(1);
            let all = self.scanner.len() <= FEW || rounds.is_multiple_of(EVERY);
            self.look(if all { Depth::Files } else { Depth::Changed });
            if events.is_none() && rounds.is_multiple_of(EVERY) {
                events = self.watch();
            }
            if Instant::now() >= rest {
                rest = Instant::now() + REST;
                self.findings.index.load().all().iter().for_each(|pair| pair.rest());
            }
            poll = Instant::now() + rand::random_range(POLL);
        }
    }

    fn watch(&self) -> Option<Events> {
        let mut events = Events::of(&self.dir, self.commands.clone(), self.lost.clone())?;
        events.besides(&self.dir, self.named_files());
        Some(events)
    }

    fn named_files(&self) -> impl Iterator<Item = PathBuf> {
        let (named, documents) = (self.findings.named.load_full(), self.findings.documents.load_full());
        let files: Vec<PathBuf> = named.iter().flat_map(|named| named.paths()).collect();
        files.into_iter().chain(documents.to_vec())
    }

    /// Does what was asked for, with everything that was asked besides; false at the end.
    fn obey(&mut self, command: Command, events: &mut Option<Events>) -> bool {
        let (mut told, mut waiting) = (BTreeSet::new(), Vec::new());
        let (mut changed, mut missed) = (false, Vec::new());
        let more: Vec<Command> = std::iter::from_fn(|| self.receiver.try_recv().ok()).collect();
        for command in std::iter::once(command).chain(more) {
            match command {
                Command::Stop => return false,
                Command::Look(done) => waiting.push(done),
                Command::Changed => changed = true,
                Command::Missed(host) => missed.push(host),
                Command::Told(news) => {
                    if news.folder {
                        for (path, later) in news.paths.iter().flat_map(|path| LATER.map(|later| (path, later))) {
                            self.later(path, later);
                        }
                    }
                    told.extend(news.paths);
                }
            }
        }
        if changed && let Some(events) = events {
            events.besides(&self.dir, self.named_files());
        }
        if !told.is_empty() {
            self.touch(&told);
        }
        if !waiting.is_empty() {
            self.look_settled();
            for done in waiting {
                let _ = done.send(());
            }
        } else if changed || self.lost.swap(false, Ordering::Relaxed) {
            self.look(Depth::Files);
        } else {
            for host in missed {
                let index = self.scanner.seek(&host, SystemTime::now());
                self.publish(index);
            }
        }
        true
    }

    /// Tells the scanner what to look for besides the directory.
    fn name(&mut self) {
        let named =
            self.findings.named.load().iter().chain(self.findings.held.load().iter()).cloned().collect::<Vec<_>>();
        self.scanner.name(&named, &self.findings.documents.load());
        self.scanner.mirror(&self.findings.mirrored.load());
    }

    fn first_look(&mut self) {
        if let Some(root) = &self.mirror {
            let files = Arc::new(mirror::files(root));
            // Whoever keeps it may have been faster.
            self.findings.mirrored.rcu(|known| if known.is_empty() { files.clone() } else { known.clone() });
        }
        self.name();
        self.scanner.look(Depth::Every, SystemTime::now());
        let findings = self.findings.clone();
        // Nothing is removed from the copy before it was read.
        let writer = self.writer.take();
        {
            let mut looked = findings.looked.lock().unwrap_or_else(PoisonError::into_inner);
            *looked = self.scanner.serves();
            if *looked {
                self.publish(true);
            }
        }
        // What is there is served already; what is missing may be in the copy.
        let copy = self.copy.as_ref().filter(|_| self.scanner.lacks());
        let copied = copy.and_then(|dir| copy::read(dir).ok()).unwrap_or_default();
        let taken = self.scanner.seed(copied);
        if taken > 0 {
            tracing::warn!(taken, "the local copy of certificates is served where the directory does not answer");
        }
        *findings.looked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.writer = writer;
        self.publish(true);
    }

    fn look(&mut self, depth: Depth) {
        self.name();
        let changed = self.scanner.look(depth, SystemTime::now());
        self.publish(changed);
    }

    /// Looks at everything until nothing is half-way. A directory whose stamp is the same has the same names in it.
    fn look_settled(&mut self) {
        self.look(Depth::Files);
        for _ in 0..TRIES {
            if self.scanner.unsettled(SETTLE).is_empty() {
                break;
            }
            std::thread::sleep(AGAIN);
            self.look(Depth::Files);
        }
    }

    fn touch(&mut self, paths: &BTreeSet<PathBuf>) {
        let changed = self.scanner.touch(paths, SystemTime::now());
        self.publish(changed);
    }

    fn look_again(&mut self) {
        let now = Instant::now();
        let due: BTreeSet<PathBuf> = self.due.extract_if(.., |(at, _)| *at <= now).map(|(_, path)| path).collect();
        if !due.is_empty() {
            self.touch(&due);
        }
    }

    fn later(&mut self, path: &std::path::Path, after: Duration) {
        if self.due.len() < DUE_LIMIT {
            self.due.push((Instant::now() + after, path.to_owned()));
        } else {
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Puts what was found where everybody sees it.
    fn publish(&mut self, changed: bool) {
        if changed {
            self.findings.index.store(Arc::new(self.scanner.index()));
        }
        self.findings.copied.store(self.scanner.copied(), Ordering::Relaxed);
        if changed && let Some(writer) = &self.writer {
            writer.wake();
        }
        for path in self.scanner.unsettled(SETTLE) {
            let soon = Instant::now() + AGAIN;
            if !self.due.iter().any(|(at, due)| *at <= soon && *due == path) {
                self.later(&path, AGAIN);
            }
        }
        self.report();
    }

    fn report(&mut self) {
        let problems = self.scanner.problems(SETTLE);
        if problems == self.reported {
            return;
        }
        let known: std::collections::HashSet<(&PathBuf, &str)> =
            self.reported.iter().map(|problem| (&problem.file, &*problem.text)).collect();
        let new: Vec<&Problem> = problems.iter().filter(|p| !known.contains(&(&p.file, &*p.text))).collect();
        for problem in new.iter().take(LINES) {
            let file = problem.file.display();
            if problem.remark {
                tracing::warn!(%file, "{}", problem.text);
            } else if problem.file == self.dir {
                tracing::warn!(%file, "the certificate directory cannot be read: {}", problem.text);
            } else if problem.kept {
                tracing::warn!(%file, "certificate not replaced, the pair from before is served: {}", problem.text);
            } else {
                tracing::warn!(%file, "certificate not served: {}", problem.text);
            }
        }
        if let Some(more) = new.len().checked_sub(LINES).filter(|more| *more > 0) {
            tracing::warn!(more, "further files of certificates have problems; the API lists them");
        }
        self.reported.clone_from(&problems);
        self.findings.problems.store(Arc::new(problems));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_lasts_is_told_until_it_ends() {
        let (findings, start) = (Findings::default(), Instant::now());
        assert!(!findings.hangs(start + HANGS), "nobody looks");
        findings.looks(Some(start));
        assert!(!findings.hangs(start + HANGS / 2) && findings.hangs(start + HANGS));
        findings.looks(None);
        assert!(!findings.hangs(start + 2 * HANGS));
    }
}
