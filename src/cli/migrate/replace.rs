//! Files are replaced whole: the new content is complete on disk under another name before it takes the old one's.
//!
//! What always holds: whoever reads the file sees the old or the new content, even if this process is killed half way;
//! no file takes its new name before all of its content is on disk; links stay links, permissions and owners stay; a read-only file is left alone.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The backup of a file.
pub(super) fn backup_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".bak");
    PathBuf::from(name)
}

/// The file itself, where the path is a link to it.
///
/// # Errors
/// Why it cannot be found.
pub(super) fn target(path: &Path) -> Result<PathBuf, String> {
    fs::canonicalize(path).map_err(|error| format!("cannot be found: {error}"))
}

/// A file with its new content.
#[derive(Debug)]
pub(super) struct Replacement<'a> {
    pub(super) path: &'a Path,
    /// What was read.
    pub(super) old: Vec<u8>,
    pub(super) new: &'a [u8],
}

/// Files whose new content waits on disk at the same time, each under another name.
const TOGETHER: usize = 128;
/// Writers, which mostly wait for the disk: what they wait for is written together.
const WRITERS: usize = 16;

/// Puts new content into files that still have the content that was read; gives for each why it is left as it was, if it
/// is. `same` tells whether a backup that is there already is one of this very document, and may stay for it.
pub(super) fn replace(
    files: &[Replacement<'_>],
    backup: bool,
    same: &dyn Fn(usize, &[u8]) -> bool,
) -> Vec<Result<(), String>> {
    clear(files);
    let mut done = Vec::with_capacity(files.len());
    for (turn, files) in files.chunks(TOGETHER).enumerate() {
        let shares = files.chunks(files.len().div_ceil(WRITERS));
        let ready: Vec<Result<Ready, String>> = std::thread::scope(|scope| {
            let each = |share: &[Replacement<'_>]| share.iter().map(ready).collect::<Vec<_>>();
            let writer = |share| (share, std::thread::Builder::new().spawn_scoped(scope, move || each(share)));
            let writers: Vec<_> = shares.map(writer).collect();
            let ready = writers.into_iter().map(|(share, writer)| match writer.map(|writer| writer.join()) {
                Ok(Ok(ready)) => ready,
                // No thread is to be had.
                _ => each(share),
            });
            ready.flatten().collect()
        });
        let mut folders = BTreeSet::new();
        for (at, (file, ready)) in files.iter().zip(ready).enumerate() {
            done.push(ready.and_then(|ready| {
                let put = put(&ready, file, backup, &|bytes| same(turn * TOGETHER + at, bytes));
                match &put {
                    Ok(()) => drop(folders.insert(folder(&ready.target).to_owned())),
                    // It is in the way of nobody; why it was not wanted is told.
                    Err(_) => drop(fs::remove_file(&ready.beside)),
                }
                put
            }));
        }
        folders.iter().for_each(|folder| sync(folder));
    }
    done
}

/// Between the name of a file and the number of a run, in the name of new content that waits beside it.
const MARK: &str = ".rust-lb-";
/// New content does not wait for so long, unless its run was killed.
const LEFT: Duration = Duration::from_secs(600);

/// Removes what runs that were killed have left beside these files.
fn clear(files: &[Replacement<'_>]) {
    let files: BTreeSet<PathBuf> = files.iter().filter_map(|file| target(file.path).ok()).collect();
    let folders: BTreeSet<&Path> = files.iter().map(|file| folder(file)).collect();
    for entry in folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
        let name = entry.file_name();
        let of = name.to_str().and_then(|name| name.strip_prefix('.')?.rsplit_once(MARK)).map(|(of, _)| of);
        let old = || {
            entry.metadata().and_then(|about| about.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|ago| ago > LEFT))
        };
        if of.is_some_and(|of| files.contains(&entry.path().with_file_name(of))) && old() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// New content that is complete on disk.
struct Ready {
    target: PathBuf,
    about: fs::Metadata,
    beside: PathBuf,
}

fn ready(file: &Replacement<'_>) -> Result<Ready, String> {
    let target = target(file.path)?;
    let about = fs::metadata(&target).map_err(|error| format!("cannot be read: {error}"))?;
    // The folder may let a file be replaced that its owner lets nobody write.
    let denied =
        || fs::File::options().write(true).open(&target).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
    if about.permissions().readonly() || denied() {
        return Err("is read-only and left as it is".to_owned());
    }
    let beside = beside(&target, file.new, &about).map_err(|error| format!("cannot be written: {error}"))?;
    Ok(Ready { target, about, beside })
}

/// Gives new content the file's name, and its old content that of the backup.
fn put(ready: &Ready, file: &Replacement<'_>, backup: bool, same: &dyn Fn(&[u8]) -> bool) -> Result<(), String> {
    let Ready { target, about, beside } = ready;
    if super::files::bytes(target).map_err(|error| format!("cannot be read: {error}"))? != file.old {
        return Err("has changed since it was read, and is left as it is; run this again".to_owned());
    }
    let backup_file = backup_of(target);
    let made = backup && keep(target, &backup_file, &file.old, about, same)?;
    fs::rename(beside, target).map_err(|error| {
        if made {
            // Two names of one file would be changed together by the next editor.
            let _ = fs::remove_file(&backup_file);
        }
        format!("cannot be written: {error}")
    })
}

/// Makes the backup of a file; `false`: it is there already.
fn keep(
    target: &Path,
    backup: &Path,
    old: &[u8],
    about: &fs::Metadata,
    same: &dyn Fn(&[u8]) -> bool,
) -> Result<bool, String> {
    let failed = |error: io::Error| format!("is left as it is: its backup cannot be written: {error}");
    match fs::hard_link(target, backup) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match super::files::bytes(backup) {
            Ok(bytes) if same(&bytes) => Ok(false),
            _ => Err(format!(
                "is left as it is: its backup `{}` is of another content; remove it, or use --no-backup",
                backup.display()
            )),
        },
        // Not every file system has hard links.
        Err(_) => {
            let written = beside(backup, old, about).map_err(failed)?;
            fs::rename(&written, backup).map_err(|error| {
                let _ = fs::remove_file(&written);
                failed(error)
            })?;
            Ok(true)
        }
    }
}

/// The folder of a file.
fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How many names are tried: runs that were killed may have left some.
const NAMES: usize = 1000;

/// Writes content whole under a new name beside a file, with the permissions and the owner of another.
fn beside(file: &Path, content: &[u8], like: &fs::Metadata) -> io::Result<PathBuf> {
    let name = file.file_name().unwrap_or_default();
    let (mut number, process) = (0, std::process::id());
    let (mut out, beside) = loop {
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!("{MARK}{process}-{number}"));
        let beside = folder(file).join(hidden);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside) {
            Ok(out) => break (out, beside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < NAMES => number += 1,
            Err(error) => return Err(error),
        }
    };
    let mut write = || {
        out.write_all(content)?;
        let made = out.metadata()?;
        if (made.uid(), made.gid()) != (like.uid(), like.gid()) {
            // Only root may give files away; for others the file stays their own, as with any editor.
            let _ = std::os::unix::fs::chown(&beside, Some(like.uid()), Some(like.gid()));
        }
        out.set_permissions(like.permissions())?;
        out.sync_all()
    };
    match write() {
        Ok(()) => Ok(beside),
        Err(error) => {
            let _ = fs::remove_file(&beside);
            Err(error)
        }
    }
}

/// Puts a backup back in the file's place.
///
/// # Errors
/// Why both are left as they are.
pub(super) fn restore(file: &Path, backup: &Path) -> io::Result<()> {
    fs::rename(backup, file)?;
    if fs::symlink_metadata(backup).is_ok() {
        // Both names were of one file, which `rename` leaves alone: nothing had been written yet.
        fs::remove_file(backup)?;
    }
    sync(folder(file));
    Ok(())
}

/// A new name is on disk when its folder is. Where folders cannot be synced the rename itself still holds.
fn sync(folder: &Path) {
    let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
}
