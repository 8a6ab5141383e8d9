//! Caddy's locks: a file that is made with O_EXCL, holds when it was made and last refreshed, is
//! refreshed each 5 s, counts as stale when that is more than 10 s ago, and is unlinked at the end
//! (certmagic's `filestorage.go`). No flock: NFS mounts with `nolock` keep those to one machine.
//!
//! What always holds, beyond certmagic: our file is never seen empty once written (it is rewritten
//! in place at the same length, through the handle that made it, so a lock that somebody took over
//! is not touched); a stale file is moved aside before it is removed and put back when it turns out
//! to be somebody's fresh one; nobody else's lock is unlinked. As in certmagic, exclusion is as good
//! as the clocks of the machines: they must agree to well under 10 s.

use super::{StorageError, directory, is_stale};
use serde::Deserialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How often a lock is refreshed.
const REFRESH: Duration = Duration::from_secs(5);
/// A lock that was not refreshed for so long has lost its holder.
const STALE: Duration = Duration::from_secs(10);
/// Pause between looks at a lock that somebody holds.
const POLL: Duration = Duration::from_secs(1);
/// Pause between looks at one that is empty or cut off: it may be being written.
const POLL_UNREADABLE: Duration = Duration::from_millis(250);
/// One that is empty so often is nobody's.
const EMPTY: u32 = 8;
/// Turns without a pause, each after something was removed or taken by somebody else.
const TURNS: usize = 64;
/// A lock file is not larger.
const LIMIT: u64 = 2_048;

/// Why a lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds it.
    #[error("held by somebody else{}", match since {
        Some(since) => jiff::Timestamp::try_from(*since).map(|t| format!(" since {t:.0}")).unwrap_or_default(),
        None => String::new(),
    })]
    Held {
        /// Since when, by the holder's clock; `None` when its file does not say.
        since: Option<SystemTime>,
    },
    /// The storage does not let it be made or read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What is in a lock file.
#[derive(Deserialize)]
struct Written {
    created: Option<String>,
    updated: Option<String>,
}

/// A lock file as somebody left it.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// Made and refreshed then. Go's zero time, which it writes for none, is far in the past.
    Times { created: jiff::Timestamp, updated: jiff::Timestamp },
    /// Nothing yet.
    Empty,
    /// No JSON, or no times.
    Garbage,
}

fn parse(text: &[u8]) -> Content {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Content::Empty;
    }
    // Only the first value counts, as for Go's decoder.
    let Some(Ok(written)) = serde_json::Deserializer::from_slice(text).into_iter::<Written>().next() else {
        return Content::Garbage;
    };
    let time = |text: Option<String>| text.map_or(Ok(jiff::Timestamp::MIN), |text| text.parse());
    let (Ok(created), Ok(updated)) = (time(written.created), time(written.updated)) else { return Content::Garbage };
    let zero = jiff::Timestamp::from_second(-62_135_596_800).unwrap_or(jiff::Timestamp::MIN);
    Content::Times { created, updated: if updated <= zero { created } else { updated } }
}

/// A lock file's text, always of one length.
fn text(created: jiff::Timestamp, updated: jiff::Timestamp) -> String {
    format!("{{\"created\":\"{created:.9}\",\"updated\":\"{updated:.9}\"}}\n")
}

fn read(path: &Path) -> io::Result<(Vec<u8>, fs::Metadata)> {
    let meta = fs::metadata(path)?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let open = File::open(path)?;
    let (mut text, meta) = (Vec::new(), open.metadata()?);
    open.take(LIMIT).read_to_end(&mut text)?;
    Ok((text, meta))
}

fn age(of: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(of).unwrap_or_default()
}

/// What one waiting for a lock has seen so far.
#[derive(Default)]
struct Watched {
    text: Option<(Vec<u8>, Instant)>,
    empty: u32,
}

impl Watched {
    /// How long the file has been as it is, by our own clock.
    fn unchanged(&mut self, text: &[u8], clock: Instant) -> Duration {
        match &self.text {
            Some((last, since)) if last == text => clock.saturating_duration_since(*since),
            _ => {
                self.text = Some((text.to_owned(), clock));
                Duration::ZERO
            }
        }
    }
}

/// What came of one attempt.
enum Attempt {
    Got(Arc<Held>),
    /// Something is different now: try again at once.
    Again,
    /// Somebody's; look again after so long.
    Wait(Duration, Option<SystemTime>),
}

/// Tries once. `now` is the time that files are compared with and marked by, `clock` ours.
fn attempt(path: &Path, now: SystemTime, watched: &mut Watched, clock: Instant) -> Result<Attempt, StorageError> {
    match Held::make(path, now, clock) {
        Ok(Some(held)) => return Ok(Attempt::Got(Arc::new(held))),
        Ok(None) => {}
        Err(error) => return Err(error),
    }
    let (text, meta) = match read(path) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_stale(&error) => return Ok(Attempt::Again),
        Err(error) => return Err(StorageError::of(path, error)),
    };
    let unchanged = watched.unchanged(&text, clock);
    let untouched = meta.modified().map_or(Duration::ZERO, |modified| age(modified, now));
    let (stale, wait, since) = match parse(&text) {
        Content::Times { created, updated } => {
            let updated = SystemTime::from(updated);
            // A holder rewrites its lock, so one that stays as it is has none, even where its clock was
            // ahead of ours. Who does not wait for so long goes by the file's own time, where the one in it tells nothing.
            let left = updated > now && untouched > STALE;
            let stale = age(updated, now) > STALE || unchanged > STALE || left;
            (stale, POLL, Some(SystemTime::from(created)))
        }
        Content::Empty => {
            watched.empty += 1;
            (watched.empty >= EMPTY || untouched > STALE, POLL_UNREADABLE, None)
        }
        // Certmagic waits for these for ever: their holder has given up refreshing.
        Content::Garbage => (unchanged > STALE || untouched > STALE, POLL_UNREADABLE, None),
    };
    if !stale {
        return Ok(Attempt::Wait(wait, since));
    }
    tracing::info!(file = %path.display(), "the lock is stale; it is removed");
    remove_stale(path, &text)?;
    *watched = Watched::default();
    Ok(Attempt::Again)
}

/// Removes a lock file that holds `seen`, and no other.
fn remove_stale(path: &Path, seen: &[u8]) -> Result<(), StorageError> {
    let failed = |error| StorageError::of(path, error);
    let (aside, _) = directory::temporary(path).map_err(failed)?;
    let moved = match fs::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(()) => {
            if !read(&aside).is_ok_and(|(text, _)| text == seen) {
                // Somebody was faster and has made theirs. Fails where a third has one meanwhile.
                let _ = fs::hard_link(&aside, path);
            }
            Ok(())
        }
    };
    let _ = fs::remove_file(&aside);
    moved
}

/// A lock file of ours.
struct Held {
    path: PathBuf,
    /// The handle that made the file.
    file: File,
    /// Tells our file from others': no two are of the same nanosecond.
    created: jiff::Timestamp,
    refreshed: Mutex<Instant>,
    lost: AtomicBool,
}

impl Held {
    /// Makes the file; `None` when there is one.
    fn make(path: &Path, now: SystemTime, clock: Instant) -> Result<Option<Self>, StorageError> {
        let failed = |error| StorageError::of(path, error);
        directory::make_parent(path)?;
        let open = OpenOptions::new().read(true).write(true).create_new(true).mode(0o644).open(path);
        let file = match open {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let created = jiff::Timestamp::try_from(now).unwrap_or_default();
        // Clocks that tick coarsely would give two of them the same time.
        let created = created - jiff::SignedDuration::from_nanos(rand::random_range(0..1_000_000));
        let held =
            Self { path: path.to_owned(), file, created, refreshed: Mutex::new(clock), lost: AtomicBool::new(false) };
        match held.write(now) {
            Ok(()) if held.ours() => Ok(Some(held)),
            Ok(()) => Ok(None),
            Err(error) => {
                held.unlink();
                Err(failed(error))
            }
        }
    }

    fn write(&self, now: SystemTime) -> io::Result<()> {
        let text = text(self.created, jiff::Timestamp::try_from(now).unwrap_or_default());
        self.file.write_all_at(text.as_bytes(), 0)?;
        // A Caddy that did not see us take its lock over may have written a longer one.
        if self.file.metadata()?.len() != text.len() as u64 {
            self.file.set_len(text.len() as u64)?;
        }
        self.file.sync_all()
    }

    /// Whether the file at our place is still the one that we made.
    fn ours(&self) -> bool {
        let Ok(own) = self.file.metadata() else { return false };
        for _ in 0..2 {
            match read(&self.path) {
                Ok((text, meta)) => {
                    let same = match parse(&text) {
                        Content::Times { created, .. } => created == self.created,
                        // Being written by a Caddy that refreshes what it believes to be its own.
                        Content::Empty | Content::Garbage => true,
                    };
                    return same && (meta.dev(), meta.ino()) == (own.dev(), own.ino());
                }
                Err(error) if is_stale(&error) => {}
                Err(_) => return false,
            }
        }
        false
    }

    fn refresh(&self, now: SystemTime, clock: Instant) {
        if !self.ours() {
            if !self.lost.swap(true, Ordering::Relaxed) {
                tracing::warn!(file = %self.path.display(), "somebody else has taken the lock over");
            }
            return;
        }
        match self.write(now) {
            Ok(()) => *self.refreshed.lock().unwrap_or_else(PoisonError::into_inner) = clock,
            Err(error) => tracing::warn!(file = %self.path.display(), %error, "the lock cannot be refreshed"),
        }
    }

    fn still_ours(&self, clock: Instant) -> bool {
        let refreshed = *self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
        !self.lost.load(Ordering::Relaxed) && clock.saturating_duration_since(refreshed) <= STALE && self.ours()
    }

    /// Removes the file, if it is ours.
    fn unlink(&self) {
        if self.ours()
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %self.path.display(), %error, "the lock cannot be removed; it is stale in 10 s");
        }
    }
}

/// A lock file that is held. Its end releases it, and waits for that.
pub(super) struct FileLock {
    held: Arc<Held>,
    /// Its end stops the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for FileLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FileLock").field(&self.held.path).finish()
    }
}

impl FileLock {
    fn keep(held: Arc<Held>, every: Duration) -> Result<Self, StorageError> {
        let (stop, stopped) = channel::<()>();
        let kept = held.clone();
        let keeper = move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                kept.refresh(SystemTime::now(), Instant::now());
            }
        };
        match std::thread::Builder::new().name("certs-lock".to_owned()).spawn(keeper) {
            Ok(thread) => Ok(Self { held, stop: Some(stop), thread: Some(thread) }),
            Err(error) => {
                held.unlink();
                Err(StorageError::of(&held.path, error))
            }
        }
    }

    /// See [`super::Lock::still_ours`].
    pub(super) fn still_ours(&self) -> bool {
        self.held.still_ours(Instant::now())
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and if it did, the lock is to be released all the same.
            let _ = thread.join();
        }
        self.held.unlink();
    }
}

/// Takes the lock whose file is `path`, waiting for it at most `limit`.
pub(super) fn acquire(path: &Path, limit: Duration) -> Result<FileLock, LockError> {
    let start = Instant::now();
    let mut watched = Watched::default();
    let (mut turns, mut last) = (0, false);
    loop {
        match attempt(path, SystemTime::now(), &mut watched, Instant::now())? {
            Attempt::Got(held) => return Ok(FileLock::keep(held, REFRESH)?),
            Attempt::Again if turns < TURNS => turns += 1,
            Attempt::Again => return Err(LockError::Held { since: None }),
            Attempt::Wait(_, since) if last || limit.is_zero() => return Err(LockError::Held { since }),
            Attempt::Wait(pause, _) => {
                turns = 0;
                let left = limit.saturating_sub(start.elapsed());
                last = left <= pause;
                std::thread::sleep(pause.min(left));
            }
        }
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
