//! The last good state on disk: one JSON document, so that a start without a catalog serves what
//! was last known. It is written beside itself and renamed, so a crash leaves the old or the new
//! one, and it is readable by its owner only.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Version of the document's shape; another one is not read.
const VERSION: u32 = 1;
/// A larger document is a mistake (10,000 services take about 10 MB).
const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Why the state could not be written or read. Every text names the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory could not be made.
    #[error("cannot make the state directory `{path}`: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Writing failed; the former document is still there.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Reading failed.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// What is there is no document of this shape: cut off, edited, of another program.
    #[error("`{path}` is damaged and is passed over: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The document is of another version.
    #[error("`{path}` is of version {found}, expected {VERSION}; it is passed over")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u32,
    },
    /// The document is older than allowed.
    #[error("`{path}` is {} s old, more than the {} s of `rustLb.lastGood.maxAge`; it is passed over", age.as_secs(), limit.as_secs())]
    TooOld {
        /// The file.
        path: PathBuf,
        /// How old.
        age: Duration,
        /// How old it may be.
        limit: Duration,
    },
}

/// A document that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// When it was written.
    pub written: SystemTime,
    /// What it holds.
    pub value: T,
}

#[derive(Serialize)]
struct Out<'a, T> {
    version: u32,
    written: u64,
    value: &'a T,
}

#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Deserialize)]
struct In<T> {
    written: u64,
    value: T,
}

/// A place for one value.
#[derive(Debug, Clone)]
pub struct Store<T> {
    directory: PathBuf,
    path: PathBuf,
    value: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Store<T> {
    /// A store in `directory`, in the file `name`. Nothing is touched yet.
    pub fn new(directory: impl Into<PathBuf>, name: &str) -> Self {
        let directory = directory.into();
        Self { path: directory.join(name), directory, value: PhantomData }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the value; the directory is made (0700) if it is not there, the file is 0600. The
    /// time is counted in whole seconds.
    ///
    /// # Errors
    /// What the file system refuses; the former document stays.
    pub fn write(&self, value: &T, now: SystemTime) -> Result<(), StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|source| StoreError::Directory { path: self.directory.clone(), source })?;
        let written = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let beside = self.path.with_extension(format!("{}.new", std::process::id()));
        self.replace(&beside, &Out { version: VERSION, written, value }).map_err(|source| {
            // what could not be finished is of no use to anybody
            let _ = fs::remove_file(&beside);
            StoreError::Write { path: self.path.clone(), source }
        })
    }

    fn replace(&self, beside: &Path, document: &Out<'_, T>) -> io::Result<()> {
        // one that a crash left behind may have other rights
        match fs::remove_file(beside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
        let mut writer = io::BufWriter::new(file);
        serde_json::to_writer(&mut writer, document)?;
        writer.flush()?;
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(beside, &self.path)?;
        File::open(&self.directory)?.sync_all()
    }

    /// Reads the value; `None` when there is none. A document of the future counts as fresh.
    ///
    /// # Errors
    /// A damaged document, one of another version, one older than `max_age`, or what the file
    /// system refuses.
    pub fn read(&self, max_age: Duration, now: SystemTime) -> Result<Option<Stored<T>>, StoreError> {
        let failed = |source| StoreError::Read { path: self.path.clone(), source };
        let damaged = |reason: String| StoreError::Damaged { path: self.path.clone(), reason };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let mut text = String::new();
        match file.take(MAX_BYTES + 1).read_to_string(&mut text) {
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(damaged("it is not UTF-8".to_owned())),
            Err(e) => return Err(failed(e)),
            Ok(read) if read as u64 > MAX_BYTES => return Err(damaged(format!("it is larger than {MAX_BYTES} bytes"))),
            Ok(_) => {}
        }
        let head: Head = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        if head.version != VERSION {
            return Err(StoreError::Version { path: self.path.clone(), found: head.version });
        }
        let document: In<T> = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let written = UNIX_EPOCH
            .checked_add(Duration::from_secs(document.written))
            .ok_or_else(|| damaged("its time cannot be".to_owned()))?;
        let age = now.duration_since(written).unwrap_or_default();
        if age > max_age {
            return Err(StoreError::TooOld { path: self.path.clone(), age, limit: max_age });
        }
        Ok(Some(Stored { written, value: document.value }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const DAY: Duration = Duration::from_secs(86_400);

    fn store(dir: &Path) -> Store<Vec<String>> {
        Store::new(dir.join("state"), "last-good.json")
    }

    #[test]
    fn what_was_written_is_read_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert_eq!(store.read(DAY, at(0)).unwrap(), None);
        store.write(&vec!["a".into()], at(1_000)).unwrap();
        store.write(&vec!["b".into()], at(2_000)).unwrap();
        let stored = store.read(DAY, at(2_500)).unwrap().unwrap();
        assert_eq!(stored, Stored { written: at(2_000), value: vec!["b".to_owned()] });
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir.path().join("state")), mode(store.path())), (0o700, 0o600));
        assert_eq!(fs::read_dir(dir.path().join("state")).unwrap().count(), 1, "nothing is left beside it");
        // a clock that was set back does not make it old
        assert!(store.read(DAY, at(10)).unwrap().is_some());
    }

    #[test]
    fn old_foreign_and_damaged_documents_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.write(&vec!["a".into()], at(1_000)).unwrap();
        let error = store.read(DAY, at(1_000) + DAY + DAY).unwrap_err();
        assert!(matches!(error, StoreError::TooOld { .. }), "{error}");
        assert!(error.to_string().contains("172800 s old"), "{error}");
        for (text, version) in [
            ("", false),
            ("{\"version\":1,\"writ", false),
            ("{\"version\":1,\"written\":1,\"value\":{}}", false),
            ("{\"version\":1,\"written\":18446744073709551615,\"value\":[]}", false),
            ("{\"version\":2,\"written\":1,\"value\":[]}", true),
            ("\u{0}\u{1}", false),
        ] {
            fs::write(store.path(), text).unwrap();
            let error = store.read(DAY, at(1)).unwrap_err();
            assert_eq!(matches!(error, StoreError::Version { .. }), version, "{text}: {error}");
            assert_eq!(matches!(error, StoreError::Damaged { .. }), !version, "{text}: {error}");
            assert!(error.to_string().contains("last-good.json"));
        }
        fs::write(store.path(), [0xff, 0xfe]).unwrap();
        assert!(matches!(store.read(DAY, at(1)).unwrap_err(), StoreError::Damaged { .. }));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state"), "a file").unwrap();
        let error = store(dir.path()).write(&vec![], at(1)).unwrap_err();
        assert!(matches!(error, StoreError::Directory { .. }), "{error}");
    }
}
