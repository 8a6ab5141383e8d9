//! Files as the directory of certificates has them: what tells a changed one from an unchanged one, and reading one whole
//! within limits. Whatever somebody puts there, a read ends: pipes, devices and directories are not opened to be read.

use super::pair::PairError;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Larger files are no chains and no keys.
pub(super) const FILE_LIMIT: u64 = 256 * 1024;
/// Names looked at in one directory.
pub(super) const NAME_LIMIT: usize = 50_000;

/// What tells a changed file from an unchanged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    /// Of a directory on most file systems: how many directories are in it.
    links: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Permissions and kind.
    pub(super) mode: u32,
}

pub(super) fn stamp(meta: &fs::Metadata) -> Stamp {
    Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        links: meta.nlink(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
        mode: meta.mode(),
    }
}

/// Missing, or not a directory: nothing to find there, and nothing wrong.
pub(super) fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed(file: &Path, error: &io::Error) -> PairError {
    PairError::Read { file: file.to_owned(), reason: error.to_string() }
}

/// The stamp of a regular file; links are followed.
pub(super) fn stamp_of(file: &Path) -> Result<Stamp, PairError> {
    match fs::metadata(file) {
        Ok(meta) if meta.is_file() => Ok(stamp(&meta)),
        Ok(_) => Err(PairError::NotAFile(file.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_symlink() => {
            Err(PairError::Dangling(file.to_owned()))
        }
        Err(error) => Err(failed(file, &error)),
    }
}

/// As [`stamp_of`], for a key: that it is missing is said in its own words.
pub(super) fn stamp_of_key(file: &Path) -> Result<Stamp, PairError> {
    match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !file.is_symlink() => {
            Err(PairError::KeyMissing(file.to_owned()))
        }
        _ => stamp_of(file),
    }
}

/// All of a regular file of at most `limit` bytes.
pub(super) fn read(file: &Path, limit: u64) -> Result<Vec<u8>, PairError> {
    // A pipe put in the file's place since it was looked at would be waited for.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let open = fs::OpenOptions::new().read(true).custom_flags(flags).open(file);
    let open = open.map_err(|error| failed(file, &error))?;
    let meta = open.metadata().map_err(|error| failed(file, &error))?;
    if !meta.is_file() {
        return Err(PairError::NotAFile(file.to_owned()));
    }
    let too_large = || PairError::TooLarge { file: file.to_owned(), limit };
    if meta.len() > limit {
        return Err(too_large());
    }
    let mut text = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1);
    open.take(limit + 1).read_to_end(&mut text).map_err(|error| failed(file, &error))?;
    if text.len() as u64 > limit { Err(too_large()) } else { Ok(text) }
}

/// Names in a directory, sorted, without temporary files of Caddy and of NFS and hidden ones; and whether there are more than
/// [`NAME_LIMIT`], which are left out.
pub(super) fn names(dir: &Path) -> io::Result<(Vec<String>, bool)> {
    let ignored = |name: &str| name.starts_with('.') || name.bytes().all(|b| b.is_ascii_digit());
    let mut names = Vec::new();
    let mut entries = fs::read_dir(dir)?;
    for entry in entries.by_ref().take(NAME_LIMIT) {
        if let Ok(name) = entry?.file_name().into_string()
            && !ignored(&name)
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok((names, entries.next().is_some()))
}

/// A directory changed so shortly before it was listed may change again within its time stamp.
pub(super) const STAMP_RACY: std::time::Duration = std::time::Duration::from_secs(2);
