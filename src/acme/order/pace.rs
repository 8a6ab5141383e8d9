//! How often an order looks at what the authority does: growing pauses, longer where it asks for it, within a limit.

use crate::acme::client::Timing;
use crate::acme::error::{AcmeError, Phase};
use std::time::Duration;
use tokio::time::Instant;

/// Looks in a row that may fail before waiting is given up.
const FAILURES: u32 = 3;
/// Longest `Retry-After` that a caller is told of an order in progress.
const TELL: Duration = Duration::from_secs(86_400);

/// Pauses between two looks.
pub(super) struct Pace<'a> {
    timing: &'a Timing,
    pause: Duration,
    limit: Duration,
    end: Instant,
    pub(super) failures: u32,
}

impl<'a> Pace<'a> {
    pub(super) fn new(timing: &'a Timing, limit: Duration) -> Self {
        Self { timing, pause: timing.first_pause, limit, end: Instant::now() + limit, failures: 0 }
    }

    /// Waits until the next look is due: what the authority said, within bounds.
    pub(super) async fn wait(&mut self, retry_after: Option<Duration>, phase: Phase) -> Result<(), AcmeError> {
        let longest = self.timing.longest_pause;
        let pause = self.pause.max(retry_after.unwrap_or_default()).min(longest);
        self.pause = (self.pause * 3 / 2).min(longest);
        if Instant::now() + pause > self.end {
            let retry_after = retry_after.map(|after| after.min(TELL));
            return Err(AcmeError::TimedOut { phase, limit: self.limit, retry_after });
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Whether a look that failed may be repeated.
    pub(super) fn forgives(&mut self, error: &AcmeError) -> bool {
        self.failures += 1;
        self.failures < FAILURES && error.is_passing()
    }
}
