//! When a worker that died is followed by the next one. Pure; the clock is passed in.

use std::time::{Duration, Instant};

/// Longest wait, in first ones.
const MOST: u32 = 50;
/// A worker that served so long starts the count anew.
const GOOD: Duration = Duration::from_secs(10);
/// Deaths in a row after which no other worker is started.
const DEATHS: u32 = 10;

/// Counts deaths in a row.
#[derive(Debug)]
pub struct BackOff {
    /// Wait before the second worker in a row; doubles.
    first: Duration,
    deaths: u32,
}

impl BackOff {
    /// Nobody died.
    pub fn new(first: Duration) -> Self {
        Self { first, deaths: 0 }
    }

    /// A worker died that was started at `born`: when the next one is due, or `None` when it is given up.
    pub fn died(&mut self, born: Instant, now: Instant) -> Option<Instant> {
        if now.saturating_duration_since(born) >= GOOD {
            self.deaths = 0;
        }
        self.deaths += 1;
        if self.deaths >= DEATHS {
            return None;
        }
        let wait = match self.deaths {
            1 => Duration::ZERO,
            more => self.first.saturating_mul(MOST.min(1 << (more - 2))),
        };
        Some(now + wait)
    }

    /// Deaths in a row so far.
    pub fn deaths(&self) -> u32 {
        self.deaths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_death_is_followed_at_once_and_many_in_a_row_end_it() {
        let start = Instant::now();
        let mut back_off = BackOff::new(Duration::from_millis(100));
        let waits: Vec<_> = (0..10).map(|_| back_off.died(start, start).map(|at| (at - start).as_millis())).collect();
        let expected = [0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000].map(Some);
        assert_eq!(waits, expected.into_iter().chain([None]).collect::<Vec<_>>());
    }

    #[test]
    fn who_served_a_while_starts_anew() {
        let start = Instant::now();
        let mut back_off = BackOff::new(Duration::from_millis(100));
        for _ in 0..8 {
            assert!(back_off.died(start, start).is_some());
        }
        let later = start + GOOD;
        assert_eq!(back_off.died(start, later), Some(later));
        assert_eq!(back_off.deaths(), 1);
    }
}
