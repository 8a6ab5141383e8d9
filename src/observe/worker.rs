//! A worker's own [`Observer`]: counts and access log lines, in plain cells of the worker's thread.
//! Nothing of it is shared; the rest of the process asks through a channel that the worker's task
//! [`Observer::serve`] answers between requests.

use super::access::AccessLog;
use super::access_line::Encoder;
use super::memo::Memo;
use super::metrics::Options;
use super::record::{RequestRecord, Sink, WantedHeads};
use super::shard::{Bounds, Live, Shard};
use crate::http::Cause;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};

/// How long an access log line waits for company before it is handed over.
const FLUSH_AFTER: Duration = Duration::from_millis(20);
/// A batch of lines that has grown to this is handed over at once.
const FLUSH_AT: usize = 32 * 1024;

/// What the hub asks of a worker.
pub(super) struct Ask {
    /// Names of the current table, for dropping the series of others.
    pub(super) live: Option<Arc<Live>>,
    /// The hub's clock.
    pub(super) now: Instant,
    /// Where the copy goes; `None` only sweeps.
    pub(super) reply: Option<oneshot::Sender<Shard>>,
}

/// Lines not handed over yet, and how many they are.
struct Pending {
    encoder: Encoder,
    lines: u64,
}

/// Counts what the worker's requests were and writes their access log lines. Made by
/// [`super::metrics::Metrics::observer`], then kept by one worker; `!Sync`.
pub struct Observer {
    options: Arc<Options>,
    shard: RefCell<(Shard, Memo)>,
    bounds: Bounds,
    asks: Cell<Option<mpsc::Receiver<Ask>>>,
    access: Option<(AccessLog, RefCell<Pending>)>,
    heads: WantedHeads,
    written: Notify,
}

impl Observer {
    pub(super) fn new(options: Arc<Options>, asks: mpsc::Receiver<Ask>, access: Option<AccessLog>) -> Self {
        let heads = access.as_ref().map(|log| log.options().wanted_heads()).unwrap_or_default();
        let access = access.map(|log| {
            let encoder = Encoder::new(log.options().clone(), log.numbers());
            (log, RefCell::new(Pending { encoder, lines: 0 }))
        });
        let bounds = Bounds::new(&options.buckets);
        Self {
            options,
            bounds,
            shard: RefCell::default(),
            asks: Cell::new(Some(asks)),
            access,
            heads,
            written: Notify::new(),
        }
    }

    /// Answers scrapes and hands access log lines over. The worker spawns it once on its own
    /// thread; it ends when the [`super::metrics::Metrics`] is gone.
    pub async fn serve(self: Rc<Self>) {
        let Some(mut asks) = self.asks.take() else { return };
        loop {
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => self.answer(ask),
                    None => break,
                },
                () = self.written.notified() => {
                    tokio::time::sleep(FLUSH_AFTER).await;
                    self.flush();
                }
            }
        }
        self.flush();
    }

    fn answer(&self, ask: Ask) {
        let (shard, memo) = &mut *self.shard.borrow_mut();
        if let Some(live) = &ask.live {
            shard.sweep(live, ask.now, memo);
        }
        if let Some(reply) = ask.reply {
            // The asker may have given up: then nobody wants the copy.
            let _ = reply.send(shard.clone());
        }
    }

    /// Hands over the lines that are waiting; the worker calls it when it ends.
    pub fn flush(&self) {
        if let Some((log, pending)) = &self.access {
            let mut pending = pending.borrow_mut();
            if pending.lines > 0 {
                let lines = std::mem::take(&mut pending.lines);
                log.send(pending.encoder.take(), lines);
            }
        }
    }
}

impl Sink for Observer {
    fn finished(&self, record: &RequestRecord<'_>) {
        {
            let (shard, memo) = &mut *self.shard.borrow_mut();
            shard.finished(record, self.options.wanted(), &self.bounds, memo);
        }
        if let Some((_, pending)) = &self.access {
            let full = {
                let mut pending = pending.borrow_mut();
                if !pending.encoder.encode(record) {
                    return;
                }
                pending.lines += 1;
                if pending.lines == 1 {
                    self.written.notify_one();
                }
                pending.encoder.len() >= FLUSH_AT
            };
            if full {
                self.flush();
            }
        }
    }

    fn wants_heads(&self) -> WantedHeads {
        self.heads
    }

    fn failed(&self, cause: Cause) {
        self.shard.borrow_mut().0.failed(cause);
    }

    fn connection(&self, entry_point: &Arc<str>, protocol: &'static str, delta: i32) {
        self.shard.borrow_mut().0.connection(entry_point, protocol, delta);
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.flush();
    }
}
