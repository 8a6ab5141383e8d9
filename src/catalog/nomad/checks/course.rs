//! When an allocation is asked for its checks again, and what their states say of an instance. Pure: the clock and the dice
//! are handed in.
//!
//! What always holds: an instance that no check is about is never spoken of; an error says nothing of any instance; `pending` speaks
//! against an instance only as long as it has never passed.

use super::decode::{Check, Status};
use crate::catalog::CheckState;
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two questions while all is well.
const CALM: Duration = Duration::from_secs(10);
/// While a check is pending or fails, or the allocation is new.
const SOON: Duration = Duration::from_secs(1);
/// For so long an allocation is new, and a check that has not ended yet is waited for.
const NEW: Duration = Duration::from_secs(10);
/// Where none of an allocation's services has a check.
const RARELY: Duration = Duration::from_secs(60);
/// First and longest pause after failures.
const FAILED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No check is about a service that is routed.
    Unchecked,
    /// All of them passed.
    Well,
    /// One has not ended yet, or failed.
    Troubled,
    /// There was no answer.
    Failed,
}

/// When an allocation is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// Until when it is new; `None` for one that was there when the watching began.
    new_until: Option<Instant>,
    failures: u32,
}

impl Course {
    /// Of one that was seen at `now`. `new`: it was not there before.
    pub fn new(now: Instant, new: bool) -> Self {
        Self { new_until: new.then(|| now + NEW), failures: 0 }
    }

    /// How often in a row there was no answer.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Failures are forgotten: the agent was away, and is there again.
    pub fn forgive(&mut self) {
        self.failures = 0;
    }

    /// The pause before it is asked again.
    pub fn after(&mut self, outcome: Outcome, now: Instant, rng: &mut impl Rng) -> Duration {
        if outcome == Outcome::Failed {
            let pause = FAILED.0.saturating_mul(1 << self.failures.min(16)).min(FAILED.1);
            self.failures = self.failures.saturating_add(1);
            return pause.mul_f64(rng.random_range(0.5..=1.0));
        }
        self.failures = 0;
        let pause = match outcome {
            Outcome::Troubled => SOON,
            _ if self.new_until.is_some_and(|until| now < until) => SOON,
            Outcome::Well => CALM,
            Outcome::Unchecked | Outcome::Failed => RARELY,
        };
        pause.mul_f64(rng.random_range(0.75..=1.0))
    }
}

/// What is known of an instance by its checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    state: Option<CheckState>,
    passed: bool,
    pending_since: Option<Instant>,
}

impl Known {
    /// What its checks say; `None` where it has none.
    pub fn state(&self) -> Option<&CheckState> {
        self.state.as_ref()
    }

    /// Takes up the checks of its service in its allocation. True where that changes what is said of it.
    pub fn take<'a>(&mut self, checks: impl Iterator<Item = &'a Check>, now: Instant) -> bool {
        let (mut any, mut pending, mut failing) = (false, None, None::<&Check>);
        for check in checks {
            any = true;
            match check.status {
                Status::Success => {}
                Status::Pending => pending = Some(check),
                // The order of the answer is random: of several the first by name is told.
                Status::Failure if failing.is_none_or(|other| check.name < other.name) => failing = Some(check),
                Status::Failure => {}
            }
        }
        let since = pending.map(|_| *self.pending_since.get_or_insert(now));
        self.pending_since = since;
        let state = match (failing, pending, since) {
            _ if !any => None,
            (Some(check), ..) => Some(CheckState::Failing(check.trouble())),
            (None, Some(_), _) if self.passed => self.state.clone(),
            (None, Some(check), Some(since)) if now.duration_since(since) >= NEW => {
                Some(CheckState::Failing(Arc::from(format!("`{}` has not ended yet", check.name))))
            }
            (None, Some(_), _) => Some(CheckState::Pending),
            (None, None, _) => Some(CheckState::Passing),
        };
        self.passed |= state == Some(CheckState::Passing);
        let changed = self.state != state;
        self.state = state;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    const SECOND: Duration = Duration::from_secs(1);

    fn check(name: &str, status: Status) -> Check {
        Check { service: "web".into(), name: name.into(), status, code: None, output: "refused".into() }
    }

    #[test]
    fn the_pause_fits_what_was_found() {
        let (start, mut rng) = (Instant::now(), SmallRng::seed_from_u64(1));
        let mut of = |course: &mut Course, outcome, at: u64, limit: u64| {
            let pause = course.after(outcome, start + SECOND * at as u32, &mut rng);
            let limit = SECOND * limit as u32;
            assert!(pause <= limit && pause >= limit / 2, "{outcome:?} at {at}: {pause:?}, expected up to {limit:?}");
        };
        let mut new = Course::new(start, true);
        for (outcome, at, limit) in [
            (Outcome::Unchecked, 0, 1),
            (Outcome::Well, 9, 1),
            (Outcome::Well, 10, 10),
            (Outcome::Unchecked, 10, 60),
            (Outcome::Troubled, 100, 1),
        ] {
            of(&mut new, outcome, at, limit);
        }
        let mut old = Course::new(start, false);
        of(&mut old, Outcome::Well, 0, 10);
        for limit in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            of(&mut old, Outcome::Failed, 0, limit);
        }
        of(&mut old, Outcome::Unchecked, 0, 60);
        of(&mut old, Outcome::Failed, 0, 2);
        old.forgive();
        assert_eq!(old.failures(), 0);
    }

    #[test]
    fn checks_make_a_state() {
        use Status::{Failure, Pending, Success};
        let now = Instant::now();
        let mut known = Known::default();
        let mut take = |statuses: &[Status], seconds: u32| {
            let checks: Vec<_> =
                statuses.iter().enumerate().map(|(n, status)| check(&format!("c{n}"), *status)).collect();
            let changed = known.take(checks.iter(), now + SECOND * seconds);
            (known.state().cloned(), changed)
        };
        let failing = |text: &str| Some(CheckState::Failing(text.into()));
        assert_eq!(take(&[], 0), (None, false), "no check says nothing");
        assert_eq!(take(&[Pending], 1), (Some(CheckState::Pending), true));
        assert_eq!(take(&[Pending, Success], 10), (Some(CheckState::Pending), false));
        assert_eq!(take(&[Pending], 11), (failing("`c0` has not ended yet"), true), "it is not waited for for ever");
        assert_eq!(take(&[Success, Success], 12), (Some(CheckState::Passing), true));
        assert_eq!(take(&[Pending], 13), (Some(CheckState::Passing), false), "it passed before");
        assert_eq!(take(&[Pending], 99), (Some(CheckState::Passing), false));
        assert_eq!(take(&[Success, Failure, Failure, Pending], 100), (failing("`c1`: refused"), true));
        assert_eq!(take(&[Pending], 101), (failing("`c1`: refused"), false), "nothing new is known");
        assert_eq!(take(&[Success], 102), (Some(CheckState::Passing), true));
        assert_eq!(take(&[], 103), (None, true));
    }
}
