//! The access log: workers hand batches of finished lines to a bounded queue, a thread of its own
//! writes them. A queue that is full (a slow disk, a pipe that nobody reads) costs lines, which are
//! counted, and never a request's time.

use super::writer::Output;
use bytes::Bytes;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Batches that may wait.
const QUEUE: usize = 256;
/// Bytes that may wait: clients decide how long a line is.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// How many line numbers a worker takes at once.
const NUMBERS: u64 = 256;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Traefik's common format.
    Common,
    /// One JSON object a line.
    Json,
}

/// Why the access log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file cannot be opened for appending.
    #[error("access log `{}` cannot be opened: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The writer's thread cannot be started.
    #[error("the access log's thread cannot be started: {0}")]
    Thread(std::io::Error),
}

enum Message {
    Lines(Bytes, u64),
    /// Look at the flags.
    Wake,
}

#[derive(Default)]
struct Flags {
    reopen: AtomicBool,
    close: AtomicBool,
    dropped: AtomicU64,
    /// Bytes handed over and not written yet.
    waiting: AtomicUsize,
}

/// The handle: cheap to clone, one clone a worker.
#[derive(Clone)]
pub struct AccessLog {
    format: Format,
    queue: SyncSender<Message>,
    flags: Arc<Flags>,
    numbers: Arc<AtomicU64>,
}

/// Keeps the writer's thread; the runtime holds it and closes it last.
pub struct AccessLogWriter {
    log: AccessLog,
    done: Receiver<()>,
}

/// Starts the writer. `None` writes to standard output.
///
/// # Errors
/// The file cannot be opened, or no thread can be started.
pub fn start(format: Format, file: Option<&Path>) -> Result<AccessLogWriter, AccessLogError> {
    let output = match file {
        None => Output::stdout(),
        Some(path) => Output::file(path).map_err(|source| AccessLogError::Open { path: path.to_owned(), source })?,
    };
    let (queue, messages) = sync_channel(QUEUE);
    let (ended, done) = sync_channel(1);
    let flags = Arc::new(Flags::default());
    let writer = Writer { output, messages, flags: flags.clone(), failing: false };
    std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || {
            writer.run();
            // Nobody may be waiting.
            let _ = ended.send(());
        })
        .map_err(AccessLogError::Thread)?;
    let log = AccessLog { format, queue, flags, numbers: Arc::default() };
    Ok(AccessLogWriter { log, done })
}

impl AccessLogWriter {
    /// A handle for a worker.
    pub fn handle(&self) -> AccessLog {
        self.log.clone()
    }

    /// Opens the file again under its name (SIGUSR1).
    pub fn reopen(&self) {
        self.log.flags.reopen.store(true, Ordering::Release);
        self.log.wake();
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.log.dropped()
    }

    /// Writes what was handed over and ends the thread. Waits at most `limit`, since an output may
    /// be stuck; returns whether all was written.
    pub fn close(self, limit: Duration) -> bool {
        self.log.flags.close.store(true, Ordering::Release);
        self.log.wake();
        self.done.recv_timeout(limit).is_ok()
    }
}

impl AccessLog {
    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.flags.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn numbers(&self) -> Numbers {
        Numbers::starting_at(self.numbers.clone())
    }

    /// Hands over finished lines; when the queue is full they are dropped and counted.
    pub(super) fn send(&self, text: Bytes, lines: u64) {
        let length = text.len();
        let waiting = self.flags.waiting.fetch_add(length, Ordering::Relaxed);
        // One batch always has room, however large.
        let fits = waiting == 0 || waiting + length <= QUEUE_BYTES;
        if !fits || self.queue.try_send(Message::Lines(text, lines)).is_err() {
            self.flags.waiting.fetch_sub(length, Ordering::Relaxed);
            self.flags.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }

    fn wake(&self) {
        // When the queue is full the writer is awake and sees the flags anyway.
        let _ = self.queue.try_send(Message::Wake);
    }
}

/// `RequestCount`: unique in the process, rising within a worker, taken in blocks so that workers
/// do not meet at one counter for each request.
pub(super) struct Numbers {
    next: u64,
    end: u64,
    shared: Arc<AtomicU64>,
}

impl Numbers {
    /// Numbers above what `shared` holds.
    pub(super) fn starting_at(shared: Arc<AtomicU64>) -> Self {
        Self { next: 0, end: 0, shared }
    }

    pub(super) fn next(&mut self) -> u64 {
        if self.next == self.end {
            self.next = self.shared.fetch_add(NUMBERS, Ordering::Relaxed);
            self.end = self.next + NUMBERS;
        }
        self.next += 1;
        self.next
    }
}

struct Writer {
    output: Output,
    messages: Receiver<Message>,
    flags: Arc<Flags>,
    /// The last write failed: said once, until one succeeds.
    failing: bool,
}

impl Writer {
    fn run(mut self) {
        while let Ok(message) = self.messages.recv() {
            self.reopen_if_asked();
            self.write(message);
            if self.flags.close.load(Ordering::Acquire) {
                while let Ok(message) = self.messages.try_recv() {
                    self.write(message);
                }
                return;
            }
        }
    }

    fn reopen_if_asked(&mut self) {
        if self.flags.reopen.swap(false, Ordering::AcqRel)
            && let Err(error) = self.output.reopen()
        {
            tracing::error!(%error, "access log cannot be opened again, the old file goes on");
        }
    }

    fn write(&mut self, message: Message) {
        let Message::Lines(text, lines) = message else { return };
        let written = self.output.write_all(&text).and_then(|()| self.output.flush());
        self.flags.waiting.fetch_sub(text.len(), Ordering::Relaxed);
        match written {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.flags.dropped.fetch_add(lines, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "access log cannot be written, lines are dropped");
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
