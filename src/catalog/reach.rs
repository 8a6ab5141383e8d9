//! Whether an agent is within reach: what its pulse says is weighed against what the watcher knows by itself, and the time in which
//! nothing could be read is counted.
//!
//! What always holds: a loss that the watcher has noticed by itself, or that is older than what was read or opened since, is nothing new;
//! and connections are not given up more often than twice in half a minute.

use super::poll::Bucket;
use super::pulse::Beat;
use std::time::Duration;
use tokio::time::Instant;

/// How far the watcher is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// All that was asked for is read.
    Live,
    /// It reads.
    Busy,
    /// It failed, and waits before it asks again.
    Waiting,
}

/// What a beat means to the watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Nothing that it does not know.
    Nothing,
    /// The agent is there; `again`: after it was silent.
    There { again: bool },
    /// The agent does not answer.
    Silent,
    /// The agent is there, and the connections to it lead nowhere.
    Lost,
}

/// One watcher's reach.
#[derive(Debug)]
pub struct Reach {
    silent: bool,
    live_since: Instant,
    opened: Instant,
    away_since: Option<Instant>,
    losses: Bucket,
}

impl Reach {
    /// Nothing was read, opened or lost yet.
    pub fn new(now: Instant) -> Self {
        let losses = Bucket::new(2, Duration::from_secs(30));
        Self { silent: false, live_since: now, opened: now, away_since: None, losses }
    }

    /// What this beat means to a watcher that is so far.
    pub fn weigh(&mut self, beat: Beat, stage: Stage, now: Instant) -> Word {
        match (beat, stage) {
            // What is not complete, or may not be read, is not confirmed by somebody being there.
            (Beat::Answered, Stage::Live) => Word::There { again: std::mem::take(&mut self.silent) },
            (Beat::Answered, _) => {
                self.silent = false;
                Word::Nothing
            }
            (Beat::Silent, Stage::Live) => {
                self.silent = true;
                Word::Silent
            }
            // Where something else failed, that says more.
            (Beat::Silent, _) => Word::Nothing,
            // What was read since came over connections that work, and what failed since was opened anew.
            (Beat::Lost(since), Stage::Live | Stage::Busy) if self.live_since.max(self.opened) < since => {
                if self.losses.take(now) > now { Word::Nothing } else { Word::Lost }
            }
            (Beat::Lost(_), _) => Word::Nothing,
        }
    }

    /// All was read.
    pub fn live(&mut self, now: Instant) {
        self.live_since = now;
    }

    /// Every connection is opened anew.
    pub fn opened(&mut self, now: Instant) {
        self.opened = now;
    }

    /// The catalog cannot be read from now on.
    pub fn failed(&mut self, now: Instant) {
        self.away_since.get_or_insert(now);
    }

    /// The catalog was read: for how long it could not be.
    pub fn read(&mut self, now: Instant) -> Duration {
        self.away_since.take().map_or(Duration::ZERO, |since| now - since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn silence_is_told_while_all_is_read_and_so_is_its_end() {
        let now = Instant::now();
        let mut reach = Reach::new(now);
        assert_eq!(reach.weigh(Beat::Silent, Stage::Busy, now), Word::Nothing);
        assert_eq!(reach.weigh(Beat::Answered, Stage::Live, now), Word::There { again: false });
        assert_eq!(reach.weigh(Beat::Silent, Stage::Live, now), Word::Silent);
        assert_eq!(reach.weigh(Beat::Answered, Stage::Live, now), Word::There { again: true });
        assert_eq!(reach.weigh(Beat::Silent, Stage::Live, now), Word::Silent);
        assert_eq!(reach.weigh(Beat::Answered, Stage::Waiting, now), Word::Nothing);
        assert_eq!(reach.weigh(Beat::Answered, Stage::Live, now), Word::There { again: false });
    }

    #[tokio::test(start_paused = true)]
    async fn a_loss_counts_once_and_only_of_what_is_open() {
        let now = Instant::now();
        let mut reach = Reach::new(now);
        let lost = |after: u32| Beat::Lost(now + SECOND * after);
        assert_eq!(reach.weigh(Beat::Lost(now), Stage::Live, now + SECOND), Word::Nothing, "older than what is open");
        assert_eq!(reach.weigh(lost(1), Stage::Waiting, now + SECOND), Word::Nothing, "noticed already");
        assert_eq!(reach.weigh(lost(1), Stage::Busy, now + SECOND), Word::Lost);
        reach.opened(now + SECOND * 2);
        assert_eq!(reach.weigh(lost(2), Stage::Busy, now + SECOND * 3), Word::Nothing, "opened anew since");
        reach.live(now + SECOND * 4);
        assert_eq!(reach.weigh(lost(3), Stage::Live, now + SECOND * 5), Word::Nothing, "read since");
        assert_eq!(reach.weigh(lost(5), Stage::Live, now + SECOND * 5), Word::Lost);
        assert_eq!(
            reach.weigh(lost(6), Stage::Live, now + SECOND * 6),
            Word::Nothing,
            "not three times in half a minute"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_away_counts_from_the_first_failure_and_once() {
        let now = Instant::now();
        let mut reach = Reach::new(now);
        assert_eq!(reach.read(now + SECOND), Duration::ZERO);
        reach.failed(now + SECOND);
        reach.failed(now + SECOND * 3);
        assert_eq!((reach.read(now + SECOND * 4), reach.read(now + SECOND * 5)), (SECOND * 3, Duration::ZERO));
    }
}
