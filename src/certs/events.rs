//! What the system tells of changes in the certificate directory, where it tells any: on a network file system nothing of what other
//! machines do, so that looking every few seconds has to do besides.

use super::watch::Command;
use notify::event::{CreateKind, ModifyKind, RenameMode};
use notify::{EventKind, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

/// Where to look because of an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) paths: Vec<PathBuf>,
    /// They are new directories: what was put into them before they were watched, nobody tells.
    pub(super) folder: bool,
}

/// What an event says; `None` for what changes no certificate: our own reading is told as well, Caddy's temporary files come and go,
/// and lock files change every few seconds.
fn news(event: &notify::Event, dir: &Path) -> Option<News> {
    if !matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_))
        // Comes besides those of its two halves.
        || event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::Both))
    {
        return None;
    }
    let noise = |path: &PathBuf| {
        let below = path.strip_prefix(dir).ok().map(|rest| rest.iter().collect::<Vec<_>>());
        let temporary = path.file_name().is_some_and(|name| {
            let name = name.as_encoded_bytes();
            name.starts_with(b".") || name.iter().all(u8::is_ascii_digit)
        });
        let first = below.as_deref().and_then(|below| below.first());
        temporary || first.is_some_and(|first| ["locks", "acme", "ocsp", "pki"].iter().any(|n| *first == *n))
    };
    let paths: Vec<PathBuf> = event.paths.iter().filter(|path| !noise(path)).cloned().collect();
    let folder = match event.kind {
        EventKind::Create(kind) => kind != CreateKind::File,
        // A directory may have been moved there as a whole.
        EventKind::Modify(ModifyKind::Name(_)) => {
            let file = |path: &PathBuf| {
                path.extension().is_some_and(|e| ["crt", "key", "pem", "json"].iter().any(|n| e == *n))
            };
            !paths.iter().all(file)
        }
        _ => false,
    };
    (!paths.is_empty()).then_some(News { paths, folder })
}

/// What watches, as long as it is kept.
pub(super) struct Events {
    watcher: notify::RecommendedWatcher,
    /// Directories of files that configuration names.
    besides: BTreeSet<PathBuf>,
}

impl Events {
    /// Asks the system to tell of changes below `dir`; `lost` is set when it told more than could be taken.
    pub(super) fn of(dir: &Path, commands: SyncSender<Command>, lost: Arc<AtomicBool>) -> Option<Self> {
        let root = dir.to_owned();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let sent = match event {
                Ok(event) if event.need_rescan() => false,
                Ok(event) => news(&event, &root).is_none_or(|news| commands.try_send(Command::Told(news)).is_ok()),
                Err(_) => false,
            };
            if !sent {
                lost.store(true, Ordering::Relaxed);
                // Full: then a look is coming anyway.
                let _ = commands.try_send(Command::Changed);
            }
        })
        .ok()?;
        match watcher.watch(dir, RecursiveMode::Recursive) {
            Ok(()) => Some(Self { watcher, besides: BTreeSet::new() }),
            Err(error) => {
                tracing::debug!(dir = %dir.display(), %error, "changes are found by looking alone");
                None
            }
        }
    }

    /// Besides, watches the directories of these files, and no longer those of before.
    pub(super) fn besides(&mut self, dir: &Path, files: impl Iterator<Item = PathBuf>) {
        let parents = files.filter_map(|file| file.parent().map(Path::to_owned));
        let wanted: BTreeSet<PathBuf> = parents.filter(|parent| !parent.starts_with(dir)).collect();
        for gone in self.besides.difference(&wanted) {
            let _ = self.watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.besides) {
            if let Err(error) = self.watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::debug!(dir = %new.display(), %error, "changes are found by looking alone");
            }
        }
        self.besides = wanted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{AccessKind, AccessMode};

    #[test]
    fn our_own_reading_and_lock_files_are_no_news() {
        let dir = Path::new("/CERTS");
        let event = |kind, paths: &[&str]| {
            paths.iter().fold(notify::Event::new(kind), |event, path| event.add_path(dir.join(path)))
        };
        let told = |kind, paths: &[&str]| news(&event(kind, paths), dir).map(|news| news.paths.len());
        let made = EventKind::Create(CreateKind::File);
        assert_eq!(told(made, &["certificates/le/a/a.crt"]), Some(1));
        assert_eq!(told(made, &["locks/x", "flat.crt"]), Some(1));
        assert_eq!(told(made, &["locks/issue_cert_a.lock"]), None);
        assert_eq!(told(made, &["certificates/le/a/3862962393"]), None);
        assert_eq!(told(made, &["certificates/le/a/.nfs0001"]), None);
        let read = EventKind::Access(AccessKind::Open(AccessMode::Read));
        assert_eq!(told(read, &["certificates/le/a/a.crt"]), None);
        let folder = event(EventKind::Create(CreateKind::Folder), &["certificates/le/b"]);
        assert!(news(&folder, dir).is_some_and(|news| news.folder));
    }
}
