//! The storage in a directory, written as Caddy does: a temporary file named by digits beside the
//! value, 0600, fsync, rename. Directories are made 0700.

use super::{StorageError, VALUE_LIMIT, is_stale, layout};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How often a file is opened again that was replaced on the NFS server meanwhile.
const ATTEMPTS: usize = 4;
/// Keys listed at most.
const LIST_LIMIT: usize = 200_000;
/// A name of digits that is taken is drawn anew so often.
const DRAWS: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
}

/// A value on the disk that has not taken its place. Removed when it never does.
struct Staged {
    temporary: PathBuf,
    file: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already where it was renamed.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Makes the directory of a file, and those above it.
pub(super) fn make_parent(file: &Path) -> Result<(), StorageError> {
    let Some(dir) = file.parent() else { return Ok(()) };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| StorageError::of(dir, error))
}

/// A file named by digits beside `file`, which did not exist before, open for writing.
pub(super) fn temporary(file: &Path) -> io::Result<(PathBuf, File)> {
    let mut taken = None;
    for _ in 0..DRAWS {
        let temporary = file.with_file_name(rand::random::<u32>().to_string());
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary) {
            Ok(open) => return Ok((temporary, open)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(taken.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into()))
}

/// Reads a whole file that is not larger than a value may be; `None` when it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    for attempt in 1.. {
        match read_once(path) {
            // Another machine has replaced it: its new content is under the same name.
            Err(Failure::Io(error)) if is_stale(&error) && attempt < ATTEMPTS => {}
            Ok(value) => return Ok(Some(value)),
            Err(Failure::Storage(error)) => return Err(error),
            Err(Failure::Io(error)) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                    _ => Err(StorageError::of(path, error)),
                };
            }
        }
    }
    Ok(None)
}

enum Failure {
    Io(io::Error),
    Storage(StorageError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn read_once(path: &Path) -> Result<Vec<u8>, Failure> {
    // Opening a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(Failure::Storage(StorageError::NotAFile(path.to_owned())));
    }
    let mut value = Vec::new();
    File::open(path)?.take(VALUE_LIMIT + 1).read_to_end(&mut value)?;
    if value.len() as u64 > VALUE_LIMIT {
        let (path, limit) = (path.to_owned(), VALUE_LIMIT);
        return Err(Failure::Storage(StorageError::TooLarge { path, limit }));
    }
    Ok(value)
}

fn stage(file: PathBuf, value: &[u8]) -> Result<Staged, StorageError> {
    make_parent(&file)?;
    let (temporary, mut open) = temporary(&file).map_err(|error| StorageError::of(&file, error))?;
    let staged = Staged { temporary, file };
    // The mode that it was made with is cut down by the umask; Caddy sets it as well.
    let written = open
        .set_permissions(fs::Permissions::from_mode(0o600))
        .and_then(|()| open.write_all(value))
        .and_then(|()| open.sync_all());
    match written {
        Ok(()) => Ok(staged),
        Err(error) => Err(StorageError::of(&staged.file, error)),
    }
}

/// Makes renames outlive a crash of the machine, where the file system can.
fn sync_directory(file: &Path) {
    if let Some(dir) = file.parent()
        && let Ok(open) = File::open(dir)
    {
        let _ = open.sync_all();
    }
}

impl Directory {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    pub(super) fn read(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        read(&self.path(key))
    }

    /// Writes values in this order; all are on the disk before the first takes its place.
    pub(super) fn write(&self, values: &[(&str, &[u8])]) -> Result<(), StorageError> {
        let staged: Vec<Staged> =
            values.iter().map(|(key, value)| stage(self.path(key), value)).collect::<Result<_, _>>()?;
        // What to put back when a later one cannot take its place. A key that stands beside a chain which
        // is not its own serves nobody.
        let mut before = Vec::new();
        for (at, one) in staged.iter().enumerate() {
            let old = if staged.len() > 1 { read(&one.file).ok().flatten() } else { None };
            if let Err(error) = fs::rename(&one.temporary, &one.file) {
                for (file, old) in before.into_iter().rev() {
                    Self::put_back(file, old);
                }
                return Err(StorageError::of(&staged[at].file, error));
            }
            before.push((one.file.clone(), old));
        }
        if let Some(last) = staged.last() {
            sync_directory(&last.file);
        }
        Ok(())
    }

    fn put_back(file: PathBuf, old: Option<Vec<u8>>) {
        let result = match old {
            Some(old) => stage(file.clone(), &old)
                .and_then(|one| fs::rename(&one.temporary, &one.file).map_err(|error| StorageError::of(&file, error))),
            None => fs::remove_file(&file).map_err(|error| StorageError::of(&file, error)),
        };
        if let Err(error) = result {
            tracing::error!(file = %file.display(), %error, "what was there before could not be put back");
        }
    }

    pub(super) fn remove(&self, key: &str) -> Result<(), StorageError> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
            other => other.map_err(|error| StorageError::of(&path, error)),
        }
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let mut keys = Vec::new();
        self.list_into(prefix, &mut keys)?;
        keys.sort_unstable();
        Ok(keys)
    }

    fn list_into(&self, prefix: &str, keys: &mut Vec<String>) -> Result<(), StorageError> {
        let dir = self.path(prefix);
        let failed = |error| StorageError::of(&dir, error);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let key = format!("{prefix}/{name}");
            if keys.len() >= LIST_LIMIT || layout::is_litter(&name) || !layout::is_key(&key) {
                continue;
            }
            // A key's depth is bounded, so links that lead in a circle end as well.
            match fs::metadata(entry.path()) {
                Ok(meta) if meta.is_dir() => self.list_into(&key, keys)?,
                Ok(meta) if meta.is_file() => keys.push(key),
                _ => {}
            }
        }
        Ok(())
    }
}
