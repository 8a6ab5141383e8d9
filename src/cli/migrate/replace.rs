//! Files are replaced whole: the new content is complete on disk under another name before it takes the old one's.
//!
//! What always holds: whoever reads the file sees the old or the new content, even if this process is killed half way;
//! links stay links, permissions and owners stay; a read-only file is left alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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

/// Puts new content into a file that still has the content that was read. `same` tells whether a backup that is there
/// already is one of this very document, and may stay for it.
///
/// # Errors
/// Why the file is left as it was.
pub(super) fn replace(
    path: &Path,
    old: &[u8],
    new: &[u8],
    backup: bool,
    same: &dyn Fn(&[u8]) -> bool,
) -> Result<(), String> {
    let target = target(path)?;
    let about = fs::metadata(&target).map_err(|error| format!("cannot be read: {error}"))?;
    if about.permissions().readonly() {
        return Err("is read-only and left as it is".to_owned());
    }
    if super::files::bytes(&target).map_err(|error| format!("cannot be read: {error}"))? != old {
        return Err("has changed since it was read, and is left as it is".to_owned());
    }
    let backup_file = backup_of(&target);
    if backup {
        let made = match fs::hard_link(&target, &backup_file) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match super::files::bytes(&backup_file) {
                Ok(bytes) if same(&bytes) => Ok(()),
                _ => {
                    let name = backup_file.display();
                    return Err(format!(
                        "is left as it is: its backup `{name}` is of another content; remove it, or use --no-backup"
                    ));
                }
            },
            // Not every file system has hard links.
            Err(_) => whole(&backup_file, old, &about),
            Ok(()) => Ok(()),
        };
        made.map_err(|error| format!("is left as it is: its backup cannot be written: {error}"))?;
    }
    whole(&target, new, &about).map_err(|error| format!("cannot be written: {error}"))
}

/// Writes a file whole, with the permissions and the owner of another.
fn whole(file: &Path, content: &[u8], like: &fs::Metadata) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.rust-lb-{}", std::process::id()));
    let write = || {
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        out.write_all(content)?;
        let made = out.metadata()?;
        if (made.uid(), made.gid()) != (like.uid(), like.gid()) {
            // Only root may give files away; for others the file stays their own, as with any editor.
            let _ = std::os::unix::fs::chown(&beside, Some(like.uid()), Some(like.gid()));
        }
        out.set_permissions(like.permissions())?;
        out.sync_all()?;
        fs::rename(&beside, file)
    };
    write().inspect_err(|_| {
        // It may not have been made; the first error is the one that is told.
        let _ = fs::remove_file(&beside);
    })?;
    sync(folder);
    Ok(())
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
    sync(file.parent().unwrap_or(Path::new(".")));
    Ok(())
}

/// A new name is on disk when its folder is. Where folders cannot be synced the rename itself still holds.
fn sync(folder: &Path) {
    let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
}
