//! What becomes of the watcher when the agent is silent, or is there while the connections to it are lost, and when a person ends holds.

use super::{Phase, Watch};
use crate::catalog::pulse::Beat;
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
                self.fail("the connections to it were lost");
            }
            Beat::Lost(_) => {}
        }
    }

    pub(super) fn forget(&mut self) {
        let names = self.state.forget();
        self.publisher.dropped(&names);
        self.publish();
    }
}
