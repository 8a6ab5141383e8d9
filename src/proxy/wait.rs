//! Waiting for a server to appear, to take connections or to be judged: a restart of a service's only instance
//! costs its clients a moment instead of an error. And waiting for a place at a server whose requests are limited.
//!
//! What always holds: at most `max_waiting` requests of a worker wait at once, none for a server longer than
//! `linger_wait` in all, and each is routed anew when the table has changed. For places no more wait, and no longer, than
//! the service says; who came first is told first.

use super::service::BoundService;
use super::standing::{Knocking, Outlook};
use super::worker::Worker;
use crate::http::{Cause, Made, Reason};
use crate::upstream::Waiter;
use smallvec::SmallVec;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{Ordering::Relaxed, Ordering::SeqCst, fence};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often a request that waits for a place looks by itself: a server that is left alone for a time comes back
/// without a word.
const LOOK: Duration = Duration::from_millis(500);

/// One of those of a worker that wait.
struct Place(Rc<Worker>);

impl Place {
    fn take(worker: &Rc<Worker>) -> Result<Self, Made> {
        if worker.waiting.get() >= worker.settings.max_waiting {
            return Err(Made::unavailable(Reason::QueueFull));
        }
        worker.waiting.set(worker.waiting.get() + 1);
        worker.gauges.waiting.fetch_add(1, Relaxed);
        Ok(Self(worker.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
        self.0.gauges.waiting.fetch_sub(1, Relaxed);
    }
}

/// A request's place in the queue.
pub(super) struct Waiting {
    place: Place,
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
        let place = Place::take(worker)?;
        let (mut generation, verdicts) = (worker.generation.clone(), worker.registry.verdicts());
        generation.mark_unchanged();
        let until = Instant::from_std(begun) + settings.linger_wait;
        Ok(Self { place, generation, verdicts, until, knocking: None })
    }

    /// Waits until the table or what is thought of a server has changed.
    ///
    /// # Errors
    /// The answer when the time is over.
    pub(super) async fn changed(&mut self, service: &Rc<BoundService>, outlook: Outlook) -> Result<(), Made> {
        let Self { place: Place(worker), generation, verdicts, until, knocking } = self;
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

/// A request's place in the queue of a service whose servers are all busy.
pub(super) struct Queued {
    _place: Place,
    service: Rc<BoundService>,
    waiters: SmallVec<[Waiter; 1]>,
    generation: watch::Receiver<u64>,
    verdicts: watch::Receiver<u64>,
    begun: Instant,
    until: Instant,
}

impl Queued {
    /// Takes a place; servers must be looked at once more after it if [`Self::is_first`] says so.
    ///
    /// # Errors
    /// The answer when there is no waiting or no place.
    pub(super) fn enter(worker: &Rc<Worker>, service: &Rc<BoundService>) -> Result<Self, Made> {
        let place = Place::take(worker)?;
        let (mut generation, verdicts) = (worker.generation.clone(), worker.registry.verdicts());
        generation.mark_unchanged();
        let begun = Instant::now();
        let (service, waiters) = (service.clone(), SmallVec::new());
        let mut queued = Self { _place: place, service, waiters, generation, verdicts, begun, until: begun };
        queued.join()?;
        Ok(queued)
    }

    fn join(&mut self) -> Result<(), Made> {
        let usual = self._place.0.settings.linger_wait;
        let mut patience = None;
        for (state, limit) in &self.service.limited {
            let wait = limit.wait.unwrap_or(usual);
            if wait.is_zero() {
                continue;
            }
            if let Some(waiter) = Waiter::join(state, limit.queue) {
                self.waiters.push(waiter);
                patience = patience.max(Some(wait));
            }
        }
        // Without any limit it waits for a server.
        let patience = if self.service.limited.is_empty() { Some(usual) } else { patience };
        self.until = self.begun + patience.ok_or_else(|| Made::unavailable(Reason::QueueFull))?;
        Ok(())
    }

    /// Whether nobody was there before it.
    pub(super) fn is_first(&self) -> bool {
        self.waiters.iter().any(Waiter::is_first)
    }

    /// Queues for another service instead, if it is another one.
    ///
    /// # Errors
    /// The answer when there is no place.
    pub(super) fn move_to(&mut self, service: &Rc<BoundService>) -> Result<(), Made> {
        if Rc::ptr_eq(&self.service, service) {
            return Ok(());
        }
        self.leave();
        self.service = service.clone();
        self.join()
    }

    /// Waits until a place became free, or the table or what is thought of a server has changed, or may have.
    ///
    /// # Errors
    /// The answer when the time is over.
    pub(super) async fn changed(&mut self) -> Result<(), Made> {
        let Self { waiters, generation, verdicts, until, .. } = self;
        let look = Instant::now() + LOOK;
        let freed = poll_fn(|cx| {
            // Each of them, so that each is told again.
            let ready = waiters.iter_mut().fold(false, |ready, waiter| ready | waiter.poll_freed(cx).is_ready());
            if ready { Poll::Ready(()) } else { Poll::Pending }
        });
        let change = async {
            tokio::select! {
                () = freed => true,
                changed = generation.changed() => changed.is_ok(),
                changed = verdicts.changed() => changed.is_ok(),
            }
        };
        match tokio::time::timeout_at(look.min(*until), change).await {
            Ok(true) => Ok(()),
            Err(_) if look < *until => Ok(()),
            Err(_) | Ok(false) => Err(Made::unavailable(Reason::QueueTimeout)),
        }
    }

    /// What it was told of and did not use is for the next one.
    fn leave(&mut self) {
        self.waiters.clear();
        fence(SeqCst);
        self.service.tell_of_places();
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.leave();
    }
}
