//! A time by which something must have happened, moved often and reached seldom.
//!
//! What always holds: moving it to later costs nothing but the note; the timer fires early then, and is set
//! anew. One that was never needed has no timer at all.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep};

/// The deadline of one task.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Deadline {
    /// Moves it; `None` means that nothing must happen.
    pub(super) fn set(&mut self, at: Option<Instant>) {
        self.at = at;
    }

    /// Whether there is one.
    pub(super) fn is_set(&self) -> bool {
        self.at.is_some()
    }

    /// Brings it forward if it is later, or none.
    pub(super) fn at_most(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }

    /// Ready when the time is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| {
            self.armed = false;
            Box::pin(tokio::time::sleep_until(at))
        });
        if self.armed && timer.deadline() <= at && !timer.is_elapsed() {
            return Poll::Pending;
        }
        loop {
            if timer.deadline() > at || (timer.is_elapsed() && timer.deadline() < at) {
                timer.as_mut().reset(at);
            }
            self.armed = true;
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= at {
                self.armed = false;
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test]
    async fn it_moves_both_ways() {
        let start = Instant::now();
        let mut deadline = Deadline::default();
        let after = |millis| Some(start + Duration::from_millis(millis));
        deadline.set(after(10));
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_pending());
        deadline.set(after(30));
        poll_fn(|cx| deadline.poll(cx)).await;
        assert!(start.elapsed() >= Duration::from_millis(30));
        deadline.set(after(1_000_000));
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_pending());
        deadline.at_most(start + Duration::from_millis(40));
        poll_fn(|cx| deadline.poll(cx)).await;
        assert!(start.elapsed() >= Duration::from_millis(40));
        deadline.set(None);
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx))).await.is_pending());
    }
}
