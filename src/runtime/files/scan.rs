//! Looking for files of dynamic configuration, and what they declare.
//!
//! What always holds: a file whose stat did not change is not read again, one whose content did not
//! change not decoded; a file that cannot be decoded keeps what it declared last; a directory that
//! cannot be listed loses nothing. A file that went is missed for a moment before what it declares
//! goes (an editor may be replacing it), one that turned empty for longer (it is being written).

use crate::declare::Dynamic;
use crate::declare::file::{self, Decoded, MAX_FILE_BYTES};
use crate::diagnostic::{Diagnostic, Origin};
use crate::model::Provider;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long a file that went is missed.
const GONE: Duration = Duration::from_millis(300);
/// How long one that turned empty counts as half-written.
const EMPTY: Duration = Duration::from_secs(2);
/// How long after its last write a file that is still open counts as half-written.
const WRITING: Duration = Duration::from_secs(2);
/// Before a file that cannot be decoded is looked at again.
const RETRY: Duration = Duration::from_millis(100);
/// How often it is, before it is told.
const RETRIES: u8 = 3;
/// A file changed so shortly before it was read may change again within its time stamp.
const RACY: Duration = Duration::from_secs(2);
/// Files read at most.
const MAX_FILES: usize = 10_000;
/// Directories within directories.
const MAX_DEPTH: usize = 16;

/// How thoroughly to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Files whose stat changed.
    Changed,
    /// The content of every file.
    Every,
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Something else is declared, or wrong.
    pub changed: bool,
    /// When to look again for what is not settled.
    pub again: Option<Instant>,
}

/// What tells a changed file from an unchanged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn stamp(meta: &fs::Metadata) -> Stamp {
    Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    }
}

/// A file as last read.
#[derive(Default)]
struct Known {
    stamp: Option<Stamp>,
    racy: bool,
    /// Of the content that was read last.
    hash: Option<u64>,
    /// What was last good of it.
    good: Option<Decoded>,
    /// Why what stands there now is not.
    problem: Option<Diagnostic>,
    retries: u8,
    gone: Option<Instant>,
    empty: Option<Instant>,
}

/// Remembers what it has seen.
pub(super) struct Scanner {
    path: PathBuf,
    is_directory: bool,
    known: BTreeMap<PathBuf, Known>,
    /// What is wrong with directories.
    trouble: Vec<Diagnostic>,
    /// When files that are open for writing were last written to.
    writing: BTreeMap<PathBuf, Instant>,
    /// What stands for files that never could be read.
    restored: Option<Dynamic>,
    hasher: RandomState,
    /// Whether what is not settled is waited for.
    patient: bool,
}

impl Scanner {
    /// A scanner that has seen nothing. What of `restored` a file that cannot be read may declare
    /// counts as declared and broken.
    pub fn new(path: PathBuf, is_directory: bool, restored: Dynamic) -> Self {
        Self {
            path,
            is_directory,
            known: BTreeMap::new(),
            trouble: Vec::new(),
            writing: BTreeMap::new(),
            restored: Some(restored),
            hasher: RandomState::new(),
            patient: true,
        }
    }

    /// One that takes everything as it is, for a single look.
    pub fn impatient(path: PathBuf, is_directory: bool) -> Self {
        Self { patient: false, ..Self::new(path, is_directory, Dynamic::default()) }
    }

    /// A file was written to, and is still open.
    pub fn written(&mut self, path: PathBuf, now: Instant) {
        if self.writing.len() < MAX_FILES {
            self.writing.insert(path, now);
        }
    }

    /// It was closed.
    pub fn closed(&mut self, path: &Path) {
        self.writing.remove(path);
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.known.len()
    }

    /// What is wrong with the file or directory itself.
    pub fn trouble(&self) -> &[Diagnostic] {
        &self.trouble
    }

    /// Looks once. `clock` is the time that files' time stamps are compared with.
    pub fn look(&mut self, depth: Depth, now: Instant, clock: SystemTime) -> Found {
        let mut found = Found { changed: false, again: None };
        self.writing.retain(|_, at| now.duration_since(*at) < WRITING);
        let before = std::mem::take(&mut self.trouble);
        let mut files = Vec::new();
        let path = self.path.clone();
        // a directory that cannot be listed: everything below it stays
        let mut unlisted = Vec::new();
        if self.is_directory {
            self.list(&path, 0, &mut files, &mut unlisted);
            if files.len() > MAX_FILES {
                let message = format!("more than {MAX_FILES} files of dynamic configuration; the others are not read");
                self.trouble.push(problem(&path, "too_many_files", message));
                files.truncate(MAX_FILES);
            }
        } else {
            files.push(path);
        }
        for file in &files {
            match fs::metadata(file) {
                Ok(meta) if meta.is_file() => self.file(file, &meta, depth, (now, clock), &mut found),
                Ok(_) if self.is_directory => {}
                Ok(_) => self.trouble.push(problem(file, "unreadable_file", "is no file".to_owned())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.missing(file, now, &mut found);
                    if !self.is_directory && !self.known.contains_key(file) {
                        self.trouble.push(problem(file, "unreadable_file", format!("cannot be read: {e}")));
                    }
                }
                Err(e) => self.trouble.push(problem(file, "unreadable_file", format!("cannot be read: {e}"))),
            }
        }
        files.sort_unstable();
        let gone =
            |path: &&PathBuf| files.binary_search(path).is_err() && !unlisted.iter().any(|d| path.starts_with(d));
        let gone: Vec<PathBuf> = self.known.keys().filter(gone).cloned().collect();
        gone.iter().for_each(|file| self.missing(file, now, &mut found));
        found.changed |= self.trouble != before;
        found
    }

    /// Files of configuration in a directory and those below it, in the order of their names.
    fn list(&mut self, dir: &Path, depth: usize, files: &mut Vec<PathBuf>, unlisted: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(dir).and_then(|entries| {
            let entries = entries
                .take(MAX_FILES * 2)
                .map(|entry| entry.and_then(|e| Ok((e.file_name(), e.file_type()?.is_dir()))));
            entries.collect::<io::Result<Vec<_>>>()
        });
        let mut entries = match entries {
            Ok(entries) => entries,
            // one that went since it was named: its files are missing
            Err(e) if depth > 0 && e.kind() == io::ErrorKind::NotFound => return,
            Err(e) => {
                self.trouble.push(problem(dir, "unreadable_directory", format!("cannot be listed: {e}")));
                unlisted.push(dir.to_owned());
                return;
            }
        };
        entries.sort_unstable();
        for (name, is_dir) in entries {
            let text = name.to_string_lossy();
            let path = dir.join(&name);
            // `..2026_01_02` is where Kubernetes keeps what the visible names link to
            if is_dir && !text.starts_with("..") {
                if depth >= MAX_DEPTH {
                    self.trouble.push(problem(&path, "too_deep", "directories too deep within directories".to_owned()));
                } else if files.len() <= MAX_FILES {
                    self.list(&path, depth + 1, files, unlisted);
                }
            } else if !is_dir && is_configuration(&text) {
                files.push(path);
            }
        }
    }

    fn file(
        &mut self,
        path: &Path,
        meta: &fs::Metadata,
        depth: Depth,
        (now, clock): (Instant, SystemTime),
        found: &mut Found,
    ) {
        let known = self.known.entry(path.to_owned()).or_default();
        known.gone = None;
        let stamp = stamp(meta);
        let unsettled = known.empty.is_some() || (known.problem.is_some() && known.retries < RETRIES);
        if depth == Depth::Changed && known.stamp == Some(stamp) && !known.racy && !unsettled {
            return;
        }
        if let Some(at) = self.writing.get(path) {
            again(found, *at + WRITING);
            return;
        }
        let modified = meta.modified().unwrap_or(clock);
        let racy = clock.duration_since(modified).map_or(true, |age| age < RACY);
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(why) => {
                let told = Some(*why);
                found.changed |= known.problem != told;
                known.problem = told;
                known.stamp = None;
                return;
            }
        };
        (known.stamp, known.racy) = (Some(stamp), racy);
        let had = known.good.as_ref().is_some_and(|good| good.dynamic != Dynamic::default());
        if bytes.is_empty() && had && self.patient {
            let since = *known.empty.get_or_insert(now);
            if now.duration_since(since) < EMPTY {
                again(found, since + EMPTY);
                return;
            }
        }
        known.empty = None;
        let hash = self.hasher.hash_one(&bytes);
        if known.hash == Some(hash) && known.problem.is_none() {
            return;
        }
        let tried = known.hash == Some(hash);
        known.hash = Some(hash);
        let name: Arc<str> = path.to_string_lossy().into();
        match file::decode(&bytes, &name) {
            Ok(mut decoded) => {
                if let Some(before) = &known.good {
                    if decoded.unclear {
                        decoded.keep(&before.dynamic);
                    }
                    decoded.share(before);
                }
                (known.good, known.problem, known.retries) = (Some(decoded), None, 0);
                found.changed = true;
            }
            Err(why) => {
                known.retries = if tried { known.retries.saturating_add(1) } else { 0 };
                if known.retries < RETRIES && self.patient {
                    again(found, now + RETRY);
                }
                let told = Some(*why);
                // it may be half-written: it is told when it stays so
                if known.retries >= RETRIES || known.good.is_none() || !self.patient {
                    found.changed |= !tried || known.retries == RETRIES || known.problem.is_none();
                }
                known.problem = told;
            }
        }
    }

    /// A file that is not there any more.
    fn missing(&mut self, path: &Path, now: Instant, found: &mut Found) {
        let Some(known) = self.known.get_mut(path) else { return };
        let since = *known.gone.get_or_insert(now);
        if now.duration_since(since) < GONE {
            again(found, since + GONE);
            return;
        }
        self.known.remove(path);
        found.changed = true;
    }

    /// What the files declare now.
    pub fn decoded(&mut self) -> Decoded {
        let mut all = file::join(self.known.values().filter_map(|known| known.good.as_ref()));
        let mut complete = self.trouble.is_empty() && !all.unclear;
        for known in self.known.values() {
            let Some(problem) = &known.problem else { continue };
            complete &= known.good.is_some();
            let half_written = self.patient && known.good.is_some() && known.retries < RETRIES;
            if !half_written {
                let mut problem = problem.clone();
                if known.good.is_some() {
                    let also = "what the file declared last stays in force";
                    problem.help = Some(problem.help.map_or_else(|| also.to_owned(), |help| format!("{help}; {also}")));
                }
                all.problems.push(problem);
            }
        }
        all.problems.extend(self.trouble.iter().cloned());
        if complete {
            self.restored = None;
        } else if let Some(restored) = &self.restored {
            all.keep(restored);
        }
        all
    }
}

/// Whether a file of this name is one of configuration: by Traefik's endings; a lock of Emacs is none.
fn is_configuration(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    matches!(ending.as_deref(), Some("yaml" | "yml" | "toml")) && !name.starts_with(".#")
}

fn again(found: &mut Found, at: Instant) {
    found.again = Some(found.again.map_or(at, |before| before.min(at)));
}

fn problem(path: &Path, code: &str, message: String) -> Diagnostic {
    let origin = Origin {
        provider: Some(Provider::File.as_str().into()),
        file: Some(path.to_string_lossy().into()),
        ..Origin::default()
    };
    Diagnostic::error(code, message).with_origin(origin)
}

fn read(path: &Path) -> Result<Vec<u8>, Box<Diagnostic>> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|e| Box::new(problem(path, "unreadable_file", format!("cannot be read: {e}"))))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("is larger than {MAX_FILE_BYTES} bytes");
        return Err(Box::new(problem(path, "file_too_large", message)));
    }
    Ok(bytes)
}
