//! When names are watched one by one and when by doorbell, and the doorbell itself: one blocked query over all checks,
//! after whose answer all routed names are read again.
//!
//! What always holds: names are read again at a bounded rate, and the bell is listened to again only when what it told is
//! being read, from the index of its last answer, so that nothing that happened meanwhile is missed.

use super::{Watch, with_stale};
use crate::catalog::http::{Error, Meta};
use crate::catalog::poll::Step;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

impl Watch {
    pub(super) fn choose_strategy(&mut self) {
        let routed = self.state.listed().len();
        // Back below the limit there is some room, so that it does not change to and fro.
        let doorbell = if self.doorbell { routed > self.allowed - self.allowed / 10 } else { routed > self.allowed };
        if doorbell != self.doorbell {
            self.doorbell = doorbell;
            self.watchers.clear();
            (self.rung, self.listen_at) = (None, None);
            self.publisher.strategy(if doorbell { "doorbell" } else { "watch" });
            if !doorbell {
                let names = self.state.listed().iter().cloned().collect();
                self.ask(names, false);
            }
        }
        if self.doorbell && self.rung.is_none() && self.listen_at.is_none() {
            self.wait_for_ring();
        }
        self.notes();
    }

    pub(super) fn wait_for_ring(&mut self) {
        let query = self.checks.query(&self.spawn.timing.waits, &mut self.rng);
        self.checks_wait = query.wait;
        let path = self.paths.checks(&with_stale(query.parameters(), self.stale));
        let lane = self.checks_lane.clone();
        self.rung = Some((Box::pin(async move { lane.ring(&path, query.deadline).await }), Instant::now()));
    }

    pub(super) fn rung(&mut self, answer: Result<Meta, Error>, asked: Instant) {
        match answer {
            Ok(meta) => {
                let step = self.checks.answered(meta.index);
                if step != Step::Same {
                    self.ring();
                }
                if self.doorbell {
                    // Each ring is a body with every check: while names are to be read, more of them tell nothing.
                    let now = Instant::now();
                    let pause = self.checks_early.pause(step, now - asked, self.checks_wait);
                    self.listen_at = Some(self.ring_at.unwrap_or(now).max(now + pause));
                }
            }
            Err(error) => self.refuse_or_fail(&error),
        }
    }

    /// Something changed: all routed names are read again, at a bounded rate.
    pub(super) fn ring(&mut self) {
        if self.ring_at.is_none() {
            self.ring_at = Some(self.ring_rate.take(Instant::now()));
        }
    }

    /// A read after a watcher's failure succeeded: the agent is there, and may refuse connections
    /// beyond its limit. After three such in a while fewer are asked for.
    pub(super) fn survived(&mut self, name: &Arc<str>) {
        if !self.struck.remove(name) {
            return;
        }
        let now = Instant::now();
        let (since, strikes) =
            self.strikes.filter(|(since, _)| now - *since < Duration::from_secs(10)).unwrap_or((now, 0));
        self.strikes = Some((since, strikes + 1));
        if strikes + 1 >= 3 {
            self.strikes = None;
            self.allowed = self.watchers.len() * 8 / 10;
            self.choose_strategy();
        }
    }
}
