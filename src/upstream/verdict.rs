//! What is thought of a server because of its health check and of the requests that it failed: a pure state
//! machine for the checks, and what the data side reads of both.
//!
//! What always holds: what a request looks at are relaxed atomics; the words behind a verdict are for people
//! and behind a lock that no request takes. Clocks are handed in.

use crate::table::Passive;
use arc_swap::ArcSwapOption;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// First pause after a failed check of a server that never passed one. It doubles up to the interval of
/// unhealthy servers: catalogs list servers that do not listen yet.
const SOON: Duration = Duration::from_millis(100);
/// Longest time for which a server that goes on failing requests is left alone, unless its window is longer.
const LONGEST: Duration = Duration::from_secs(300);

/// What the last checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// It is not checked.
    Unchecked = 0,
    /// It is checked and no check has ended yet.
    Awaited = 1,
    /// The last check passed.
    Passing = 2,
    /// The last check failed.
    Failing = 3,
}

impl Verdict {
    fn of(number: u8) -> Self {
        match number {
            1 => Self::Awaited,
            2 => Self::Passing,
            3 => Self::Failing,
            _ => Self::Unchecked,
        }
    }
}

/// From checks to verdicts: one passed check makes a server healthy, one failed check unhealthy, as with Traefik.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    verdict: Verdict,
    passed_once: bool,
    failed: u32,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// What is thought now.
    pub verdict: Verdict,
    /// Whether that is news.
    pub changed: bool,
    /// From the end of this check to the next one.
    pub pause: Duration,
}

impl Judge {
    /// Before the first check; `verdict` is what was thought before it was asked in this way.
    pub fn new(verdict: Verdict) -> Self {
        Self { verdict, passed_once: verdict == Verdict::Passing, failed: 0 }
    }

    /// Takes up a check's outcome.
    pub fn take(&mut self, passed: bool, interval: Duration, unhealthy_interval: Duration) -> Judged {
        let before = self.verdict;
        self.verdict = if passed { Verdict::Passing } else { Verdict::Failing };
        let pause = match passed {
            true => interval,
            false if self.passed_once => unhealthy_interval,
            false => SOON.saturating_mul(1 << self.failed.min(20)).min(unhealthy_interval),
        };
        self.failed = if passed { 0 } else { self.failed.saturating_add(1) };
        self.passed_once |= passed;
        Judged { verdict: self.verdict, changed: self.verdict != before, pause }
    }
}

/// A server's verdict as others read it.
#[derive(Debug, Default)]
pub(super) struct Checked {
    verdict: AtomicU8,
    why: Mutex<Option<Arc<str>>>,
}

impl Checked {
    pub(super) fn verdict(&self) -> Verdict {
        Verdict::of(self.verdict.load(Relaxed))
    }

    /// Whether it keeps requests away.
    pub(super) fn speaks_against(&self) -> bool {
        matches!(self.verdict(), Verdict::Awaited | Verdict::Failing)
    }

    pub(super) fn set(&self, verdict: Verdict, why: Option<Arc<str>>) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
        self.verdict.store(verdict as u8, Relaxed);
    }

    pub(super) fn why(&self) -> Option<Arc<str>> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Requests that a server failed in a row, and for how long it is left alone because of them.
#[derive(Debug, Default)]
pub(super) struct Failures {
    times: ArcSwapOption<Box<[AtomicU64]>>,
    /// Since the last request that did not fail.
    count: AtomicU32,
    until: AtomicU64,
    /// How often it was left alone since then.
    ejections: AtomicU32,
}

impl Failures {
    /// Whether it is left alone.
    pub(super) fn ejects(&self, millis: u64) -> bool {
        let until = self.until.load(Relaxed);
        until != 0 && millis < until
    }

    /// A request that did not fail. Tells whether it was the first one since it had been left alone.
    pub(super) fn passed(&self) -> bool {
        if self.count.load(Relaxed) == 0 {
            return false;
        }
        self.count.store(0, Relaxed);
        self.until.store(0, Relaxed);
        self.ejections.swap(0, Relaxed) != 0
    }

    /// A request that failed. Gives for how long the server is left alone, if this was one too many and `may_eject`.
    pub(super) fn failed(&self, rule: &Passive, millis: u64, may_eject: impl FnOnce() -> bool) -> Option<Duration> {
        let size = rule.failures as usize;
        let mut times = self.times.load_full();
        if times.as_ref().is_none_or(|times| times.len() != size) {
            // Its rule is new: what was counted by another one is forgotten.
            times = Some(Arc::new((0..size).map(|_| AtomicU64::new(0)).collect()));
            self.times.store(times.clone());
            self.count.store(0, Relaxed);
        }
        let times = times?;
        let number = self.count.fetch_add(1, Relaxed) as usize;
        times.get(number % size)?.store(millis, Relaxed);
        if self.ejects(millis) {
            return None; // Requests that were under way when it was left alone.
        }
        let ejected_before = self.ejections.load(Relaxed);
        let oldest = times.get((number + 1) % size)?.load(Relaxed);
        let window = rule.window.as_millis() as u64;
        let too_many = number + 1 >= size && millis.saturating_sub(oldest) < window.max(1);
        // After it was left alone, the first failure is enough.
        if !(too_many || ejected_before > 0) || !may_eject() {
            return None;
        }
        let time = rule.window.saturating_mul(1 << ejected_before.min(16)).min(LONGEST.max(rule.window));
        self.until.store(millis.saturating_add(time.as_millis().max(1) as u64), Relaxed);
        self.ejections.fetch_add(1, Relaxed);
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_check_changes_the_verdict_and_only_changes_are_news() {
        let mut judge = Judge::new(Verdict::Awaited);
        let news: Vec<_> = [true, true, false, false, true]
            .into_iter()
            .map(|passed| {
                let judged = judge.take(passed, MINUTE, SECOND);
                (judged.verdict, judged.changed, judged.pause)
            })
            .collect();
        use Verdict::{Failing, Passing};
        assert_eq!(
            news,
            [
                (Passing, true, MINUTE),
                (Passing, false, MINUTE),
                (Failing, true, SECOND),
                (Failing, false, SECOND),
                (Passing, true, MINUTE)
            ]
        );
    }

    #[test]
    fn a_server_that_never_passed_is_asked_again_soon() {
        let mut judge = Judge::new(Verdict::Awaited);
        let pauses: Vec<_> = (0..6).map(|_| judge.take(false, MINUTE, SECOND).pause.as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(judge.take(true, MINUTE, SECOND).pause, MINUTE);
        assert_eq!(judge.take(false, MINUTE, SECOND).pause, SECOND);
        // what passed by a check of another form is no stranger
        assert_eq!(Judge::new(Verdict::Passing).take(false, MINUTE, SECOND).pause, SECOND);
    }

    fn rule(seconds: u64, failures: u32) -> Passive {
        Passive::new(Duration::from_secs(seconds), failures)
    }

    #[test]
    fn failures_in_a_row_within_the_window_count() {
        let (failures, rule) = (Failures::default(), rule(10, 3));
        let fail = |millis| failures.failed(&rule, millis, || true);
        assert_eq!((fail(1), fail(9_000), fail(11_000)), (None, None, None), "the first one is too old by then");
        assert_eq!(fail(12_000), Some(10 * SECOND), "9, 11 and 12 are three");
        assert!(failures.ejects(21_999) && !failures.ejects(22_000));
        assert_eq!(fail(12_001), None, "it is left alone already");

        assert!(failures.passed() && !failures.passed(), "the first good one is news");
        assert_eq!((fail(30_000), fail(30_001)), (None, None));
        assert!(!failures.passed());
        assert_eq!((fail(30_002), fail(30_003)), (None, None), "not in a row");
        assert_eq!(fail(30_004), Some(10 * SECOND));
    }

    #[test]
    fn it_is_left_alone_longer_each_time_in_a_row() {
        let (failures, rule) = (Failures::default(), rule(10, 2));
        let fail = |millis| failures.failed(&rule, millis, || true).map(|time| time.as_secs());
        assert_eq!((fail(0), fail(1)), (None, Some(10)));
        assert_eq!(fail(20_000), Some(20), "one failure is enough after the first time");
        assert_eq!(fail(50_000), Some(40));
        let mut at = 100_000;
        for expected in [80, 160, 300, 300] {
            assert_eq!(fail(at), Some(expected));
            at += 1_000_000;
        }
        assert!(failures.passed());
        assert_eq!((fail(at), fail(at + 1)), (None, Some(10)));
    }

    #[test]
    fn it_stays_where_too_many_are_left_alone_already() {
        let (failures, rule) = (Failures::default(), rule(10, 1));
        assert_eq!(failures.failed(&rule, 0, || false), None);
        assert!(!failures.ejects(0));
        assert_eq!(failures.failed(&rule, 1, || true), Some(10 * SECOND));
    }
}
