//! A measure of what an HTTP/2 client gives up: requests that it resets before their answer cost a
//! server their whole way and the client nothing (CVE-2023-44487). The codec counts those that it has
//! not handed on yet; these are the others.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Resets that a connection may hold at once. A browser that leaves a page of map tiles gives up
/// some hundred requests in one moment.
const ROOM: u32 = 500;
/// How long it takes to forget one.
const FORGET: Duration = Duration::from_millis(20);

/// Resets of one connection, in a bucket that leaks.
#[derive(Debug)]
pub(super) struct Resets {
    level: Cell<u32>,
    since: Cell<Instant>,
}

impl Resets {
    pub(super) fn new(now: Instant) -> Self {
        Self { level: Cell::new(0), since: Cell::new(now) }
    }

    /// Counts one; true when that is one too many.
    pub(super) fn count(&self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since.get());
        let forgotten = u32::try_from(passed.as_millis() / FORGET.as_millis()).unwrap_or(u32::MAX);
        // The rest of a step is kept for the next time.
        self.since.set(self.since.get() + FORGET * forgotten.min(1 << 20));
        if forgotten >= 1 << 20 {
            self.since.set(now);
        }
        let level = self.level.get().saturating_sub(forgotten) + 1;
        self.level.set(level);
        level > ROOM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_fine_and_a_flood_is_not() {
        let begun = Instant::now();
        let resets = Resets::new(begun);
        for _ in 0..ROOM {
            assert!(!resets.count(begun));
        }
        assert!(resets.count(begun));
        assert!(!resets.count(begun + FORGET * 100), "time makes room");
    }

    #[test]
    fn what_leaks_as_fast_as_it_comes_goes_on_for_ever() {
        let begun = Instant::now();
        let resets = Resets::new(begun);
        for at in 0..10_000 {
            assert!(!resets.count(begun + FORGET * at), "{at}");
        }
        // Twice as fast is a flood in the end.
        let late = begun + Duration::from_secs(3_600 * 24 * 365);
        assert!((0..2 * ROOM + 10).any(|at| resets.count(late + FORGET * at / 2)));
    }
}
