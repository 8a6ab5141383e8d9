//! What becomes of the watcher when the agent refuses, is silent, or is there while the connections to it are lost; how what is held is asked for
//! again, and when a person ends holds.

use super::{NODES, Phase, Readers, SERVICES, Watch};
use crate::catalog::http::Error;
use crate::catalog::pulse::Beat;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How many held names are read at a time.
const LOOK: usize = 64;

impl Watch {
    pub(super) fn beat(&mut self, beat: Beat) {
        match beat {
            Beat::Answered => {
                let silent = std::mem::take(&mut self.silent);
                // What is not complete, or may not be read, is not confirmed by somebody being there.
                if self.phase == Phase::Live {
                    self.publisher.beat();
                    if silent {
                        self.publisher.connected(false, self.agent.connections());
                    }
                }
            }
            // Where something else failed, that says more.
            Beat::Silent if self.phase != Phase::Live => {}
            Beat::Silent => {
                self.silent = true;
                self.publisher.failed("it does not answer", self.agent.connections());
            }
            // What was read since came over connections that work, and what failed since was opened anew.
            Beat::Lost(since)
                if !matches!(self.phase, Phase::Waiting(_)) && self.live_since.max(self.renewed) < since =>
            {
                let now = Instant::now();
                if self.losses.take(now) > now {
                    return;
                }
                self.fail("the connections to it were lost");
            }
            Beat::Lost(_) => {}
        }
    }

    /// Plans the next look at what is held, while something is.
    pub(super) fn look_later(&mut self) {
        let Some(end) = self.state.belief.next_end() else {
            (self.look_at, self.looked) = (None, None);
            return;
        };
        let now = Instant::now();
        let pause = self.spawn.timing.backoff.1;
        let at = self.look_at.get_or_insert(now + pause);
        if end > now {
            *at = (*at).min(end);
        }
    }

    /// What is held may have come back unseen, so a few of those names are read. Where the time of a hold is over, the list is
    /// read at once: together with the reads that it leads to it says whether the name is gone.
    pub(super) fn look(&mut self, now: Instant) {
        self.look_at = None;
        if self.phase == Phase::Live {
            let names = self.state.belief.held_after(self.looked.as_ref(), LOOK);
            self.looked = names.last().cloned();
            self.ask(names.into_iter().map(|key| key.name).collect(), false);
            if self.state.belief.next_end().is_some_and(|end| end <= now) {
                self.list.at_once();
                self.list_at = None;
                self.looking = true;
                self.block();
            }
        }
        self.look_later();
    }

    pub(super) fn refuse_or_fail(&mut self, error: &Error) {
        if error.is_refusal() {
            self.missing.extend([SERVICES, NODES]);
            self.rights();
        }
        self.fail(&error.to_string());
        if matches!(error, Error::Connect(_)) {
            // Nobody heard of it: no reason to let who comes back wait for long, whatever it answers first.
            self.backoff.succeeded();
            self.phase = Phase::Waiting(Instant::now() + self.knocks.failed(&mut self.rng));
        }
    }

    pub(super) fn forget(&mut self) {
        let names = self.state.forget();
        self.publisher.dropped(&names);
        self.publish();
    }

    /// A failure: what is known stays, everything is asked for again after a pause.
    pub(super) fn fail(&mut self, reason: &str) {
        self.readers = Readers::new(&self.read_lanes, &self.paths, self.stale, self.spawn.timing);
        self.outstanding.clear();
        self.watchers.clear();
        self.told = mpsc::channel(64);
        self.struck.clear();
        (self.strikes, self.blocked, self.rung, self.looking) = (None, None, None, false);
        // An agent that comes back may have been configured anew.
        self.allowed = self.wanted;
        (self.list_at, self.broken_at, self.ring_at, self.listen_at) = (None, None, None, None);
        self.list.failed();
        self.checks.failed();
        self.publisher.failed(reason, self.agent.connections());
        self.renewed = Instant::now();
        self.away_since.get_or_insert(self.renewed);
        self.phase = Phase::Waiting(self.renewed + self.backoff.failed(&mut self.rng));
    }
}
