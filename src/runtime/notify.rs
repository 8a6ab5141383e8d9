//! Tells a supervisor that there is something to serve by, in s6's way: a newline on a file descriptor that it left open for
//! this (`notification-fd`, <https://skarnet.org/software/s6/notifywhenup.html>).

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Writes the newline.
///
/// # Errors
/// There is no such descriptor, or nobody reads at its other end.
pub(super) fn ready(fd: u32) -> io::Result<()> {
    // By its name: what is open stays open, as whoever owns the number may have it. Without a reader this does not wait.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut end = OpenOptions::new().write(true).custom_flags(flags).open(format!("/proc/self/fd/{fd}"))?;
    end.write_all(b"\n")
}
