//! What becomes of the watcher when the agent or one answer refuses, is silent, or is there while the connections to it are lost; and how
//! what is held, was answered too late or was missed by the stream is asked for again.

use super::{Alarm, Phase, Reader, Watch};
use crate::catalog::ServiceKey;
use crate::catalog::http::Error;
use crate::catalog::nomad::stream::Signal;
use crate::catalog::pulse::Beat;
use crate::catalog::reach::{Stage, Word};
use std::time::Duration;
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
            Word::Lost => self.signal(Signal::Ended("the connections to it were lost".to_owned())),
        }
    }

    /// A name that could not be read keeps what was last good.
    pub(super) fn unread(&mut self, key: &ServiceKey, error: &Error) {
        self.outstanding.remove(key);
        let now = Instant::now();
        if error.is_refusal() {
            self.forbidden.insert(key.clone());
            let pause = self.spawn.timing.backoff.1.max(Duration::from_millis(50) * self.forbidden.len() as u32);
            self.broken_at.get_or_insert(now + pause);
            self.rights();
            self.state.belief.hold([key.clone()], now);
        } else if error.is_of_one_answer() {
            self.broken.insert(key.clone(), error.to_string());
            self.broken_at = Some(now + self.spawn.timing.backoff.1);
            self.notes();
        } else {
            return self.refuse_or_fail(error);
        }
        self.complete();
    }

    pub(super) fn refuse_or_fail(&mut self, error: &Error) {
        if error.is_refusal() {
            self.lack(true);
        }
        let hint = match error {
            Error::Status { code: 429, .. } => "; raise `limits.http_max_conns_per_client` in nomad's configuration",
            Error::Status { code: 404, .. } => "; services need Nomad 1.3 or later",
            _ => "",
        };
        self.fail(&format!("{error}{hint}"));
        if matches!(error, Error::Connect(_)) {
            // Nobody heard of it: no reason to let who comes back wait for long, whatever it answers first.
            self.backoff.succeeded();
            self.phase = Phase::Waiting(Instant::now() + self.knocks.failed(&mut self.rng));
        }
    }

    /// The answer of a name is older than what is known: it is asked for again within seconds.
    pub(super) fn ask_late(&mut self, key: ServiceKey, now: Instant) {
        self.late.insert(key);
        self.broken_at.get_or_insert(now + self.spawn.timing.backoff.1);
    }

    /// A look at what is held is due.
    pub(super) fn look(&mut self, now: Instant) {
        if self.phase == Phase::Live {
            let (names, list) = self.looks.take(&self.state.belief, now);
            self.ask(names);
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

    /// The stream had its time to tell of what the list knows. Where it has not, it missed
    /// something (a namespace made after it was opened is never in it).
    pub(super) fn missed(&mut self, now: Instant) {
        let Some(alarm) = self.alarms.pop_front() else { return };
        let told = self.state.highest() >= alarm.index && alarm.namespaces.is_subset(&self.covered);
        if told || !self.streaming || self.phase != Phase::Live {
            return;
        }
        let at = self.reopen.take(now);
        if at > now {
            self.alarms.clear();
            self.alarms.push_back(Alarm { at, ..alarm });
            return self.read_list();
        }
        tracing::debug!(index = alarm.index, "nomad's event stream missed a change; opening it anew");
        (self.stream, self.streaming) = (None, false);
        self.start(now);
    }

    pub(super) fn forget(&mut self) {
        let names = self.state.belief.forget();
        self.publisher.dropped(&names);
        self.publish();
    }

    /// A failure: what is known stays, everything is asked for again after a pause. A stream
    /// that still runs is kept.
    pub(super) fn fail(&mut self, reason: &str) {
        self.reader = Reader::new(self.read_lane.clone(), self.paths.clone(), self.stale, self.spawn.timing);
        self.outstanding.clear();
        self.alarms.clear();
        (self.blocked, self.list_at, self.broken_at) = (None, None, None);
        if !self.streaming && !matches!(self.phase, Phase::Opening(_)) {
            self.stream = None;
        }
        self.list.failed();
        self.publisher.failed(reason, self.agent.connections());
        let now = Instant::now();
        self.looks.failed();
        self.reach.failed(now);
        if self.stream.is_none() {
            self.reach.opened(now);
        }
        self.phase = Phase::Waiting(now + self.backoff.failed(&mut self.rng));
    }
}
