//! Waiting for a server to appear: a restart of a service's only instance costs its clients a
//! moment instead of an error.
//!
//! What always holds: at most `max_waiting` requests of a worker wait at once, none longer than
//! `linger_wait` in all, and each is routed anew when the table has changed.

use super::worker::Worker;
use crate::http::{Made, Reason};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::watch;
use tokio::time::Instant;

/// A request's place in the queue.
pub(super) struct Waiting {
    worker: Rc<Worker>,
    generation: watch::Receiver<u64>,
    until: Instant,
}

impl Waiting {
    /// Takes a place; the table must be looked at once more after it, since it may have changed.
    ///
    /// # Errors
    /// The answer when there is no waiting or no place.
    pub(super) fn enter(worker: &Rc<Worker>) -> Result<Self, Made> {
        let settings = &worker.settings;
        if settings.linger_wait.is_zero() {
            return Err(Made::unavailable(Reason::NoServer));
        }
        if worker.waiting.get() >= settings.max_waiting {
            return Err(Made::unavailable(Reason::QueueFull));
        }
        worker.waiting.set(worker.waiting.get() + 1);
        worker.gauges.waiting.fetch_add(1, Relaxed);
        let mut generation = worker.generation.clone();
        generation.mark_unchanged();
        Ok(Self { worker: worker.clone(), generation, until: Instant::now() + settings.linger_wait })
    }

    /// Waits until the table has changed.
    ///
    /// # Errors
    /// The answer when the time is over.
    pub(super) async fn changed(&mut self) -> Result<(), Made> {
        match tokio::time::timeout_at(self.until, self.generation.changed()).await {
            Ok(Ok(())) => Ok(()),
            // Too late, or nobody publishes any more.
            Err(_) | Ok(Err(_)) => Err(Made::unavailable(Reason::NoServer)),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.worker.waiting.set(self.worker.waiting.get() - 1);
        self.worker.gauges.waiting.fetch_sub(1, Relaxed);
    }
}
