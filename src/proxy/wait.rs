//! Waiting for a server to appear, to take connections or to be judged: a restart of a service's only instance
//! costs its clients a moment instead of an error.
//!
//! What always holds: at most `max_waiting` requests of a worker wait at once, none longer than
//! `linger_wait` in all, and each is routed anew when the table has changed.

use super::service::BoundService;
use super::standing::{Knocking, Outlook};
use super::worker::Worker;
use crate::http::{Cause, Made, Reason};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::watch;
use tokio::time::Instant;

/// A request's place in the queue.
pub(super) struct Waiting {
    worker: Rc<Worker>,
    generation: watch::Receiver<u64>,
    verdicts: watch::Receiver<u64>,
    until: Instant,
    /// Kept from one change to the next, so that changes of other things do not keep anybody from knocking.
    knocking: Option<Rc<Knocking>>,
}

impl Waiting {
    /// Takes a place for a request that has `begun` then; table and servers must be looked at once more after it,
    /// since they may have changed.
    ///
    /// # Errors
    /// The answer when there is no waiting or no place.
    pub(super) fn enter(worker: &Rc<Worker>, begun: std::time::Instant) -> Result<Self, Made> {
        let settings = &worker.settings;
        if settings.linger_wait.is_zero() {
            return Err(Made::unavailable(Reason::NoServer));
        }
        if worker.waiting.get() >= settings.max_waiting {
            return Err(Made::unavailable(Reason::QueueFull));
        }
        worker.waiting.set(worker.waiting.get() + 1);
        worker.gauges.waiting.fetch_add(1, Relaxed);
        let (mut generation, verdicts) = (worker.generation.clone(), worker.registry.verdicts());
        generation.mark_unchanged();
        let until = Instant::from_std(begun) + settings.linger_wait;
        Ok(Self { worker: worker.clone(), generation, verdicts, until, knocking: None })
    }

    /// Waits until the table or what is thought of a server has changed.
    ///
    /// # Errors
    /// The answer when the time is over.
    pub(super) async fn changed(&mut self, service: &Rc<BoundService>, outlook: Outlook) -> Result<(), Made> {
        let Self { worker, generation, verdicts, until, knocking } = self;
        let registry = &worker.registry;
        let refusal = match outlook {
            Outlook::Wait { until: Some(millis), .. } => Some(Instant::from_std(registry.moment(millis))),
            _ => None,
        };
        *knocking = (!service.servers.is_empty()).then(|| service.knock(registry));
        let until = refusal.map_or(*until, |refusal| refusal.min(*until));
        let change = async {
            tokio::select! {
                // An error means that nobody tells any more.
                changed = generation.changed() => changed.is_ok(),
                changed = verdicts.changed() => changed.is_ok(),
            }
        };
        match tokio::time::timeout_at(until, change).await {
            Ok(true) => Ok(()),
            Err(_) | Ok(false) if refusal.is_some() => {
                let made = Made::unavailable(Reason::ConnectRefused);
                Err(Made { failure: Some(Cause::Refused.into()), ..made })
            }
            Err(_) | Ok(false) => Err(Made::unavailable(Reason::NoServer)),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.worker.waiting.set(self.worker.waiting.get() - 1);
        self.worker.gauges.waiting.fetch_sub(1, Relaxed);
    }
}
