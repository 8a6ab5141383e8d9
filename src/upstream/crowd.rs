//! Requests that wait for a place at one of a service's servers, whose requests are limited.
//!
//! What always holds: the queue is bounded over all workers. Whoever ends looks at one counter; as long as nobody waits
//! that is all. A place that becomes free is told to one waiting request, the one that has waited longest; one that
//! leaves without having used what it was told passes it on.

use super::service::ServiceState;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::SeqCst, fence};
use std::task::{Context, Poll};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// Somebody may have to wait.
    limited: AtomicBool,
    waiting: AtomicU32,
    freed: Arc<Notify>,
}

impl Crowd {
    /// Requests are limited from now on.
    pub(super) fn limit(&self) {
        self.limited.store(true, Relaxed);
    }

    /// Whether requests are limited, or were.
    pub(super) fn is_limited(&self) -> bool {
        self.limited.load(Relaxed)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// A place became free, or may have. What made it so is written before.
    pub(super) fn freed(&self) {
        // Either who comes to wait sees the place, or it is seen here.
        fence(SeqCst);
        if self.waiting.load(Relaxed) > 0 {
            self.freed.notify_one();
        }
    }
}

/// A request that waits for a place; until it is dropped.
#[derive(Debug)]
pub struct Waiter {
    service: Arc<ServiceState>,
    freed: Pin<Box<OwnedNotified>>,
    is_first: bool,
}

impl Waiter {
    /// Comes to wait for a server of this service, unless `most` do already. Servers are to be looked at after it.
    pub fn join(service: &Arc<ServiceState>, most: u32) -> Option<Self> {
        let crowd = service.crowd();
        let before =
            crowd.waiting.fetch_update(Relaxed, Relaxed, |waiting| (waiting < most).then(|| waiting + 1)).ok()?;
        let mut freed = Box::pin(crowd.freed.clone().notified_owned());
        let told = freed.as_mut().enable();
        fence(SeqCst);
        Some(Self { service: service.clone(), freed, is_first: before == 0 || told })
    }

    /// Whether nobody was before it, so that a place that is free now is its own.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// Ready when a place became free. It may be taken by the time that it is looked for.
    pub fn poll_freed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.freed.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        // Before the servers are looked at, so that nothing is missed in between.
        let mut again = Box::pin(self.service.crowd().freed.clone().notified_owned());
        again.as_mut().enable();
        self.freed = again;
        Poll::Ready(())
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.service.crowd().waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn a_place_is_told_to_who_waits_longest_and_passed_on() {
        let service = Arc::new(ServiceState::default());
        let mut cx = Context::from_waker(Waker::noop());
        service.place_freed();
        let mut first = Waiter::join(&service, 3).unwrap();
        let mut second = Waiter::join(&service, 3).unwrap();
        let mut third = Waiter::join(&service, 3).unwrap();
        assert!(Waiter::join(&service, 3).is_none());
        assert_eq!((first.is_first(), second.is_first(), service.waiting()), (true, false, 3));
        let mut ready = |waiter: &mut Waiter| waiter.poll_freed(&mut cx).is_ready();
        assert!(!ready(&mut first) && !ready(&mut second) && !ready(&mut third), "it was free before anybody waited");
        service.place_freed();
        assert!(!ready(&mut second) && ready(&mut first) && !ready(&mut first));
        service.place_freed();
        drop(second);
        assert!(ready(&mut third) && !ready(&mut first));
        drop((first, third));
        assert_eq!(service.waiting(), 0);
    }
}
