//! What becomes of the watcher when the agent refuses, is silent, or is there while the connections to it are lost; how what is held is asked for
//! again, and when a person ends holds.

use super::{NODES, Phase, Readers, SERVICES, Watch};
use crate::catalog::http::Error;
use crate::catalog::pulse::Beat;
use crate::catalog::reach::{Stage, Word};
use tokio::sync::mpsc;
use tokio::time::Instant;

impl Watch {
    pub(super) fn beat(&mut self, beat: Beat) {
        let stage = match self.phase {
            Phase::Live => Stage::Live,
            Phase::Waiting(_) => Stage::Waiting,
            _ => Stage::Busy,
        };
        match self.reach.weigh(beat, stage, Instant::now()) {
            Word::Nothing => {}
            Word::There { again } => {
                self.publisher.beat();
                if again {
                    self.publisher.connected(false, self.agent.connections());
                }
            }
            Word::Silent => self.publisher.failed("it does not answer", self.agent.connections()),
            Word::Lost => self.fail("the connections to it were lost"),
        }
    }

    /// A look at what is held is due.
    pub(super) fn look(&mut self, now: Instant) {
        if self.phase == Phase::Live {
            let (names, list) = self.looks.take(&self.state.belief, now);
            self.ask(names.into_iter().map(|key| key.name).collect(), false);
            if list {
                self.list.at_once();
                self.list_at = None;
                self.block();
            }
        } else {
            self.looks.pass();
        }
        self.looks.plan(&self.state.belief, self.spawn.timing.backoff.1, now);
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
        (self.strikes, self.blocked, self.rung) = (None, None, None);
        // An agent that comes back may have been configured anew.
        self.allowed = self.wanted;
        (self.list_at, self.broken_at, self.ring_at, self.listen_at) = (None, None, None, None);
        self.list.failed();
        self.checks.failed();
        self.publisher.failed(reason, self.agent.connections());
        let now = Instant::now();
        self.looks.failed();
        self.reach.failed(now);
        self.reach.opened(now);
        self.phase = Phase::Waiting(now + self.backoff.failed(&mut self.rng));
    }
}
