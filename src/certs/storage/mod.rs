//! Caddy's storage: the place that rust-lb and Caddy share for certificates, ACME accounts, running
//! challenges and the internal authority, with its names ([`layout`]), its way of writing and its
//! locks. It is a directory, or Consul's key-value store.
//!
//! What always holds: a value is there whole or not at all; nothing gets below `certificates/` that
//! Caddy would not have put there; a crash leaves at most a file named by digits, which everybody
//! ignores; keys are readable to their owner alone. Locks in Consul are sessions. Every call blocks, and for as long as a dead NFS
//! server likes: no worker and no control thread may make one.

mod consul;
mod directory;
pub mod layout;
mod lock;

pub use consul::{ConsulError, ConsulScope, ConsulStorage, ConsulToken, DEFAULT_PREFIX};
pub(super) use consul::{News, Row, Tell};
pub use lock::LockError;

use directory::Directory;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Larger values are neither chains, keys nor metadata.
pub const VALUE_LIMIT: u64 = 1024 * 1024;

/// Why something could not be read or written. Texts never quote a value: it may be a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The file system is mounted read-only (EROFS).
    #[error("`{}`: the file system is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// No space, no inode or no quota left (ENOSPC, EDQUOT).
    #[error("`{}`: no space left", .0.display())]
    Full(PathBuf),
    /// Not permitted (EACCES, EPERM).
    #[error("`{}`: permission denied", .0.display())]
    Denied(PathBuf),
    /// Replaced on the NFS server again and again while it was read (ESTALE).
    #[error("`{}`: stale NFS file handle", .0.display())]
    Stale(PathBuf),
    /// Anything else that the system answers.
    #[error("`{}`: {error}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// The system's answer.
        #[source]
        error: io::Error,
    },
    /// Something else than a file where a value belongs.
    #[error("`{}` is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// A value larger than [`VALUE_LIMIT`].
    #[error("`{}` is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A key that leads out of the storage, or is none.
    #[error("`{0}` is no key of the storage")]
    BadKey(String),
    /// Consul does not do it.
    #[error("Consul at {address}: {error}")]
    Consul {
        /// Its address, without a token.
        address: String,
        /// What it answered.
        #[source]
        error: ConsulError,
    },
    /// A key or a value below `certificates/` that Caddy would not have written.
    #[error("`{0}` is not of the form that Caddy keeps below `certificates/`")]
    Foreign(String),
}

impl StorageError {
    /// The system's answer for a path.
    pub(super) fn of(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        if is_stale(&error) {
            return Self::Stale(path);
        }
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(path),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(path),
            io::ErrorKind::PermissionDenied => Self::Denied(path),
            _ => Self::Io { path, error },
        }
    }

    /// The file or directory that it is about, if any.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::ReadOnly(path) | Self::Full(path) | Self::Denied(path) | Self::Stale(path) | Self::NotAFile(path) => {
                Some(path)
            }
            Self::Io { path, .. } | Self::TooLarge { path, .. } => Some(path),
            Self::BadKey(_) | Self::Foreign(_) | Self::Consul { .. } => None,
        }
    }
}

/// What NFS answers when another machine has replaced the file behind a handle.
fn is_stale(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StaleNetworkFileHandle
}

/// The three values of a certificate.
#[derive(Clone, Copy)]
pub struct SiteValue<'a> {
    /// PEM private key.
    pub key: &'a [u8],
    /// PEM chain, leaf first, without the root.
    pub crt: &'a [u8],
    /// Caddy's metadata, JSON.
    pub json: &'a [u8],
}

impl std::fmt::Debug for SiteValue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A key is never written anywhere but into the storage.
        f.write_str("SiteValue")
    }
}

/// The storage. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Storage {
    inner: Arc<Kind>,
}

#[derive(Debug)]
enum Kind {
    Directory(Directory),
    Consul(consul::Consul),
}

/// A lock that is held. Its end releases it, and waits for that.
#[derive(Debug)]
pub struct Lock(Holder);

#[derive(Debug)]
enum Holder {
    File(lock::FileLock),
    Consul(consul::ConsulLock),
}

impl Lock {
    /// Whether we hold it still: nobody took it over, and it could be refreshed. Ask before writing what
    /// it protects. Blocks, as everything here.
    pub fn still_ours(&self) -> bool {
        match &self.0 {
            Holder::File(lock) => lock.still_ours(),
            Holder::Consul(lock) => lock.still_ours(),
        }
    }
}

fn checked(key: &str) -> Result<&str, StorageError> {
    if layout::is_key(key) { Ok(key) } else { Err(StorageError::BadKey(key.to_owned())) }
}

fn checked_value<'a>(key: &'a str, value: &[u8]) -> Result<&'a str, StorageError> {
    let key = checked(key)?;
    if layout::is_caddys(key, value) { Ok(key) } else { Err(StorageError::Foreign(key.to_owned())) }
}

impl Storage {
    /// The storage in a directory (HinD's /pv/CERTS), which need not exist yet. Touches nothing.
    pub fn directory(root: PathBuf) -> Self {
        Self { inner: Arc::new(Kind::Directory(Directory::new(root))) }
    }

    /// The storage in Consul's key-value store. Asks nothing yet.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn consul(options: ConsulStorage) -> io::Result<Self> {
        Ok(Self { inner: Arc::new(Kind::Consul(consul::Consul::new(options)?)) })
    }

    /// The value of a key; `None` when there is none.
    ///
    /// # Errors
    /// The key is none, or the value cannot be read.
    pub fn read(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let key = checked(key)?;
        match &*self.inner {
            Kind::Directory(directory) => directory.read(key),
            Kind::Consul(consul) => consul.read(key),
        }
    }

    /// Writes a value: as a whole or not at all, for its owner's eyes only.
    ///
    /// # Errors
    /// The key is none or not Caddy's, or the value cannot be written; then the old one stands.
    pub fn write(&self, key: &str, value: &[u8]) -> Result<(), StorageError> {
        let key = checked_value(key, value)?;
        match &*self.inner {
            Kind::Directory(directory) => directory.write(&[(key, value)]),
            Kind::Consul(consul) => consul.write(&[(key, value)]),
        }
    }

    /// Removes a value; that there is none is no error.
    ///
    /// # Errors
    /// The key is none, or the value cannot be removed.
    pub fn remove(&self, key: &str) -> Result<(), StorageError> {
        let key = checked(key)?;
        match &*self.inner {
            Kind::Directory(directory) => directory.remove(key),
            Kind::Consul(consul) => consul.remove(key),
        }
    }

    /// Every key below a prefix (a directory), sorted; none when it is not there.
    ///
    /// # Errors
    /// The prefix is none, or cannot be listed.
    pub fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let prefix = checked(prefix)?;
        match &*self.inner {
            Kind::Directory(directory) => directory.list(prefix),
            Kind::Consul(consul) => consul.list(prefix),
        }
    }

    /// Writes a certificate: key, chain and metadata, in this order, as Caddy does. All three are on
    /// the disk before the first takes its place, so running out of space leaves the old pair.
    ///
    /// # Errors
    /// As [`Self::write`]; what had been replaced is put back as far as the storage lets.
    pub fn write_site(&self, issuer: &str, name: &str, site: &SiteValue<'_>) -> Result<(), StorageError> {
        let keys = layout::site(issuer, name);
        let values = [(&*keys.key, site.key), (&*keys.crt, site.crt), (&*keys.json, site.json)];
        self.write_all(&values)
    }

    /// Writes values in this order, as [`Self::write_site`] does.
    pub(super) fn write_all(&self, values: &[(&str, &[u8])]) -> Result<(), StorageError> {
        for (key, value) in values {
            checked_value(key, value)?;
        }
        match &*self.inner {
            Kind::Directory(directory) => directory.write(values),
            Kind::Consul(consul) => consul.write(values),
        }
    }

    /// As [`Self::read`]; that there is none is Consul's leader's word, and not that of one who may have been replaced.
    pub(super) fn read_surely(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        match &*self.inner {
            Kind::Directory(directory) => directory.read(checked(key)?),
            Kind::Consul(consul) => consul.read_surely(checked(key)?),
        }
    }

    /// Tells all that lies below a prefix of Consul's, now and whenever it changes, until `stop`. Gives what stands before our keys
    /// in those that are told; `None` for a directory, which is watched elsewhere.
    pub(super) fn watch(
        &self,
        below: &str,
        tell: Tell,
        stop: CancellationToken,
    ) -> Result<Option<String>, StorageError> {
        match &*self.inner {
            Kind::Directory(_) => Ok(None),
            Kind::Consul(consul) => consul.watch(below, tell, stop).map(Some),
        }
    }

    /// Takes a lock, waiting for it at most `limit` (zero: one attempt; a lock whose holder died is
    /// taken over within it). Whoever has got one reads the storage again: the work may be done.
    ///
    /// # Errors
    /// Somebody holds it, or the storage does not let it be made.
    pub fn lock(&self, name: &str, limit: Duration) -> Result<Lock, LockError> {
        let key = layout::lock(name);
        let key = checked(&key)?;
        Ok(Lock(match &*self.inner {
            Kind::Directory(directory) => Holder::File(lock::acquire(&directory.path(key), limit)?),
            Kind::Consul(consul) => Holder::Consul(consul.lock(key, limit)?),
        }))
    }
}

#[cfg(test)]
mod tests;
