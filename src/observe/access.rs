//! The access log: workers hand batches of finished lines to a bounded queue, a thread of its own
//! writes them. A queue that is full (a slow disk, a pipe that nobody reads) costs lines, which are
//! counted, and never a request's time.

pub use super::access_options::{Fields, Filters, Format, Headers, Mode, Options};
pub use super::zone::Zone;

use super::writer::Output;
use bytes::Bytes;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Batches that may wait.
const QUEUE: usize = 256;
/// Bytes that may wait: clients decide how long a line is.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a usual line, and lines of the smallest usual batch, by which `bufferingSize` widens both.
const USUAL_LINE: usize = 1024;
const USUAL_BATCH: usize = 8;
/// How many line numbers a worker takes at once.
const NUMBERS: u64 = 256;

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

/// Batches and bytes that may wait, for a `bufferingSize`.
fn room(lines: usize) -> (usize, usize) {
    (QUEUE.max(lines / USUAL_BATCH), QUEUE_BYTES.max(lines.saturating_mul(USUAL_LINE)))
}

/// The handle: cheap to clone, one clone a worker.
#[derive(Clone)]
pub struct AccessLog {
    options: Arc<Options>,
    most_bytes: usize,
    queue: SyncSender<Message>,
    flags: Arc<Flags>,
    numbers: Arc<AtomicU64>,
}

/// Keeps the writer's thread; the runtime holds it and closes it last.
pub struct AccessLogWriter {
    log: AccessLog,
    done: Receiver<()>,
}

/// Starts the writer.
///
/// # Errors
/// The file cannot be opened, or no thread can be started.
pub fn start(options: Options) -> Result<AccessLogWriter, AccessLogError> {
    let output = match &options.file {
        None => Output::stdout(),
        Some(path) => Output::file(path).map_err(|source| AccessLogError::Open { path: path.to_owned(), source })?,
    };
    let (batches, most_bytes) = room(options.buffering);
    let (queue, messages) = sync_channel(batches);
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
    let log = AccessLog { options: Arc::new(options), most_bytes, queue, flags, numbers: Arc::default() };
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

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn numbers(&self) -> Numbers {
        Numbers::starting_at(self.numbers.clone())
    }

    /// Hands over finished lines; when the queue is full they are dropped and counted.
    pub(super) fn send(&self, text: Bytes, lines: u64) {
        let length = text.len();
        let waiting = self.flags.waiting.fetch_add(length, Ordering::Relaxed);
        // One batch always has room, however large.
        let fits = waiting == 0 || waiting + length <= self.most_bytes;
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
