//! The files that a command line means, read and taken apart. Nothing is written here.

use crate::diagnostic::{Diagnostic, Origin};
use crate::migrate::edit::{self, Document, MAX_BYTES};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Endings of files that are read in folders.
const ENDINGS: [&str; 3] = ["nomad", "hcl", "json"];
/// Folders in folders beyond this are not looked into.
const DEEPEST: usize = 64;

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Jobs and service definitions.
    pub(super) documents: Vec<Document>,
    /// Files that are neither.
    pub(super) passed: Vec<Passed>,
    /// What cannot be read, and why.
    pub(super) unreadable: Vec<Diagnostic>,
}

/// A file that has no services.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) file: Arc<str>,
    /// It was named, and not only found in a folder.
    pub(super) named: bool,
}

/// Reads files, folders and standard input.
pub(super) fn gather(paths: &[String], stdin: &mut dyn BufRead) -> Gathered {
    let mut gathered = Gathered::default();
    let mut seen = BTreeSet::new();
    for path in paths {
        if path == "-" {
            let mut bytes = Vec::new();
            let read = stdin.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
            gathered.take("-", read.map(|_| bytes), true);
            continue;
        }
        let (found, problems) = within(Path::new(path), &|file| {
            file.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending))
        });
        gathered.unreadable.extend(problems);
        for (file, named) in found {
            // A file and a link to it, or a folder named twice: once is enough.
            if fs::canonicalize(&file).is_ok_and(|target| !seen.insert(target)) {
                continue;
            }
            let bytes = bytes(&file);
            gathered.take(&file.to_string_lossy(), bytes, named);
        }
    }
    gathered
}

impl Gathered {
    fn take(&mut self, name: &str, bytes: io::Result<Vec<u8>>, named: bool) {
        let file: Arc<str> = name.into();
        match bytes.map(|bytes| edit::read(&file, &bytes)) {
            Ok(Ok(Some(document))) => self.documents.push(document),
            Ok(Ok(None)) => self.passed.push(Passed { file, named }),
            Ok(Err(problem)) => self.unreadable.push(*problem),
            Err(error) => self.unreadable.push(unreadable(file, &error)),
        }
    }
}

fn unreadable(file: Arc<str>, error: &io::Error) -> Diagnostic {
    let origin = Origin { file: Some(file), ..Origin::default() };
    Diagnostic::error("unreadable", format!("cannot be read: {error}")).with_origin(origin)
}

/// The bytes of a regular file, at most one more than a document may have.
pub(super) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let about = fs::metadata(path)?;
    if !about.is_file() {
        let message = "this is no regular file; give it on standard input and name `-`";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0).min(MAX_BYTES));
    fs::File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A path itself (whatever its ending), or the fitting files of a folder in the order of their names, and whether it was
/// named. Hidden files and folders, and links to folders, are left out.
pub(super) fn within(path: &Path, fits: &dyn Fn(&Path) -> bool) -> (Vec<(PathBuf, bool)>, Vec<Diagnostic>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    if !path.is_dir() {
        return (vec![(path.to_owned(), true)], problems);
    }
    let mut folders = vec![(path.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = fs::read_dir(&folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                problems.push(unreadable(folder.to_string_lossy().into(), &error));
                continue;
            }
        };
        for entry in entries {
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            match entry.file_type() {
                _ if hidden => {}
                Ok(kind) if kind.is_dir() && depth < DEEPEST => folders.push((path, depth + 1)),
                Ok(kind) if (kind.is_file() || kind.is_symlink() && path.is_file()) && fits(&path) => {
                    found.push((path, false));
                }
                _ => {}
            }
        }
    }
    found.sort();
    (found, problems)
}
