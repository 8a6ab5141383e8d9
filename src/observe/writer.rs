//! Where lines go: a standard stream, or a file that can be opened again under its name after a
//! log rotation has moved it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

enum To {
    Stdout,
    Stderr,
    File(PathBuf, File),
}

/// An output that stays usable: when it cannot be opened again, the old file goes on.
pub(super) struct Output(To);

fn open(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self(To::Stdout)
    }

    pub(super) fn stderr() -> Self {
        Self(To::Stderr)
    }

    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self(To::File(path.to_owned(), open(path)?)))
    }

    /// Opens the file of that name again; nothing for a standard stream.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let To::File(path, file) = &mut self.0 {
            *file = open(path)?;
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            To::Stdout => io::stdout().write(bytes),
            To::Stderr => io::stderr().write(bytes),
            To::File(_, file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            To::Stdout => io::stdout().flush(),
            To::Stderr => io::stderr().flush(),
            To::File(_, file) => file.flush(),
        }
    }
}
