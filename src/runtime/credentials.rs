//! Files of users (`usersFile`, Fabio's schemes): which ones the table names, read when they change.
//!
//! What always holds: a file is read on a thread that may hang, never on a worker's; one that cannot be
//! read keeps what was read of it last, one that is gone lets nobody in any more; both are told in the
//! log and in `/api/problems`. Nothing of what a file holds is printed.

use super::state::State;
use crate::declare::MiddlewareKind;
use crate::diagnostic::{Diagnostic, Origin};
use crate::middleware::UserFiles;
use crate::table::{Table, Users};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How long a start waits for them.
const START_LIMIT: Duration = Duration::from_secs(2);
/// What a file may hold, in bytes.
const MOST: u64 = 1 << 20;

/// What stands in the files that the table names.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    files: UserFiles,
    problems: Arc<ArcSwap<Vec<Diagnostic>>>,
}

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    inode: (u64, u64),
    length: u64,
    changed: (i64, i64),
}

impl Mark {
    pub(super) fn of(data: &std::fs::Metadata) -> Self {
        Self {
            inode: (data.dev(), data.ino()),
            length: data.len(),
            changed: (data.mtime().max(data.ctime()), data.mtime_nsec() ^ data.ctime_nsec()),
        }
    }
}

/// A file as it was last looked at.
#[derive(Debug, Clone, Default)]
struct Known {
    mark: Option<Mark>,
    users: Option<Arc<Users>>,
    problem: Option<Diagnostic>,
}

type All = BTreeMap<Arc<str>, Known>;

impl Credentials {
    /// For workers.
    pub fn files(&self) -> UserFiles {
        self.files.clone()
    }

    /// What is wrong with files now.
    pub fn problems(&self) -> Vec<Diagnostic> {
        self.problems.load().to_vec()
    }

    /// Reads what the table and the configuration (`fixed`) name, as long as a start may wait, and goes on looking until cancelled.
    pub fn start(&self, state: &Arc<State>, fixed: BTreeSet<Arc<str>>, shutdown: CancellationToken) {
        let wanted = wanted(&state.table.load(), &fixed);
        let mut known = All::new();
        if !wanted.is_empty() {
            let (tell, told) = mpsc::channel();
            std::thread::spawn(move || drop(tell.send(look(&wanted, All::new()))));
            match told.recv_timeout(START_LIMIT) {
                Ok(all) => known = all,
                Err(_) => tracing::warn!("files of users gave nothing within {START_LIMIT:?}"),
            }
            self.publish(&known);
        }
        tokio::task::spawn_local(self.clone().watch(state.clone(), fixed, known, shutdown));
    }

    async fn watch(self, state: Arc<State>, fixed: BTreeSet<Arc<str>>, mut known: All, shutdown: CancellationToken) {
        let mut generation = state.generation.subscribe();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = generation.changed() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            let wanted = wanted(&state.table.load(), &fixed);
            if wanted.is_empty() && known.is_empty() {
                continue;
            }
            let before = known.clone();
            // A look that hangs ends with its file system; what was read stays in force.
            if let Ok(now) = tokio::task::spawn_blocking(move || look(&wanted, before)).await {
                known = now;
                self.publish(&known);
            }
        }
    }

    fn publish(&self, all: &All) {
        let read = all.iter().filter_map(|(path, known)| Some((path.clone(), known.users.clone()?)));
        let read: BTreeMap<Arc<str>, Arc<Users>> = read.collect();
        let before = self.files.current();
        let same = read.len() == before.len()
            && read.iter().all(|(path, users)| before.get(path).is_some_and(|old| Arc::ptr_eq(old, users)));
        if !same {
            tracing::info!(files = read.len(), "files of users read");
            self.files.publish(read);
        }
        let problems: Vec<Diagnostic> = all.values().filter_map(|known| known.problem.clone()).collect();
        if **self.problems.load() != problems {
            problems.iter().for_each(super::tell);
            self.problems.store(Arc::new(problems));
        }
    }
}

/// The files that a table names, and those of the configuration.
fn wanted(table: &Table, fixed: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
    let file = |kind: &MiddlewareKind| match kind {
        MiddlewareKind::BasicAuth { users_file, .. } if !users_file.is_empty() => Some(users_file.clone()),
        _ => None,
    };
    table.middlewares.values().filter_map(|middleware| file(&middleware.kind)).chain(fixed.iter().cloned()).collect()
}

/// Looks at files, and reads those that changed.
fn look(wanted: &BTreeSet<Arc<str>>, mut before: All) -> All {
    let one = |path: &Arc<str>| {
        let old = before.remove(path).unwrap_or_default();
        (path.clone(), again(path, old))
    };
    wanted.iter().map(one).collect()
}

fn again(path: &Arc<str>, old: Known) -> Known {
    let told = |message: String, error: bool| {
        let message = format!("the file of users `{path}`: {message}");
        let new = if error { Diagnostic::error } else { Diagnostic::warning };
        Some(new("users_file", message).with_origin(Origin { file: Some(path.clone()), ..Origin::default() }))
    };
    match read(path, old.mark) {
        Ok(None) => old,
        Ok(Some((mark, text))) => {
            let (users, bad) = Users::read(text.lines());
            let problem = bad.first().and_then(|at| told(format!("line {at} is not `name:hash`"), false));
            Known { mark: Some(mark), users: Some(Arc::new(users)), problem }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Known { problem: told("there is none; nobody is let in".to_owned(), true), ..Known::default() }
        }
        Err(error) => {
            let stays = if old.users.is_some() { "what was read last stays in force" } else { "nobody is let in" };
            Known { problem: told(format!("{error}; {stays}"), true), mark: None, users: old.users }
        }
    }
}

/// The content, unless it is what was read before.
fn read(path: &str, before: Option<Mark>) -> std::io::Result<Option<(Mark, String)>> {
    // A pipe or a device would hold the thread for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let file = std::fs::File::open(path)?;
    let mark = Mark::of(&file.metadata()?);
    if before == Some(mark) {
        return Ok(None);
    }
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST {
        return Err(std::io::Error::other(format!("it is longer than {MOST} bytes")));
    }
    Ok(Some((mark, text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_when_it_changes_and_forgotten_when_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path: Arc<str> = dir.path().join("users").display().to_string().into();
        let none = again(&path, Known::default());
        assert!(none.users.is_none() && none.problem.unwrap().message.contains("nobody is let in"));
        std::fs::write(&*path, "bob:x\nbroken\n").unwrap();
        let first = again(&path, Known::default());
        let users = first.users.clone().unwrap();
        assert!(users.hash("bob").is_some() && first.problem.clone().unwrap().message.contains("line 2"));
        let same = again(&path, first);
        assert!(Arc::ptr_eq(same.users.as_ref().unwrap(), &users));
        std::fs::write(&*path, "eve:longer\n").unwrap();
        let second = again(&path, same);
        assert!(second.users.as_ref().unwrap().hash("eve").is_some() && second.problem.is_none());
        std::fs::remove_file(&*path).unwrap();
        assert!(again(&path, second.clone()).users.is_none());
        std::fs::create_dir(&*path).unwrap();
        let kept = again(&path, second);
        assert!(kept.users.is_some() && kept.problem.unwrap().message.contains("stays in force"));
    }
}
