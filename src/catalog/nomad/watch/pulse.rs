//! What becomes of the watcher when the agent or one answer refuses, is silent, or is there while the connections to it are lost.

use super::{Phase, Watch};
use crate::catalog::ServiceKey;
use crate::catalog::http::Error;
use crate::catalog::nomad::stream::Signal;
use crate::catalog::pulse::Beat;
use std::time::Duration;
use tokio::time::Instant;

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
            // What was read since came over connections that work.
            Beat::Lost(since) if !matches!(self.phase, Phase::Waiting(_)) && self.live_since < since => {
                let now = Instant::now();
                if self.losses.take(now) > now {
                    return;
                }
                self.signal(Signal::Ended("the connections to it were lost".to_owned()));
            }
            Beat::Lost(_) => {}
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
            return self.fail(&error.to_string());
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
        if let (Error::Connect(_), Phase::Waiting(at)) = (error, &mut self.phase) {
            *at = (*at).min(Instant::now() + self.spawn.timing.reconnect);
        }
    }

    pub(super) fn forget(&mut self) {
        let names = self.state.belief.forget();
        self.publisher.dropped(&names);
        self.publish();
    }
}
