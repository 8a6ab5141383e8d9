//! What becomes of the watcher when the agent is silent, or is there while the connections to it are lost.

use super::{Phase, Watch};
use crate::catalog::pulse::Beat;
use tokio::time::Instant;

impl Watch {
    pub(super) fn beat(&mut self, beat: Beat) {
        match beat {
            Beat::Answered => {
                self.publisher.beat();
                if std::mem::take(&mut self.silent) && self.phase == Phase::Live {
                    self.publisher.connected(false, self.agent.connections());
                }
            }
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
}
