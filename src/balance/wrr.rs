//! Smooth weighted round robin: the order in which nginx hands out servers, worked out once for a
//! set of weights, then walked with a shared cursor, so that choosing takes no lock.
//!
//! What always holds: over one whole round each candidate comes exactly as often as its weight says
//! (weights are divided by their greatest common divisor); candidates that are skipped leave the
//! shares of the others as they were.

/// Steps of a round at most. Weights that need more are scaled down; shares are then right to
/// about one part in this number.
const MAX_ROUND: u64 = 4_096;
/// Steps times candidates up to which a round is worked out as nginx does.
const MAX_WORK: u64 = 1 << 20;

/// One round: positions of candidates in the order in which they are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    round: Box<[u32]>,
}

impl Schedule {
    /// Works the round out. A weight of 0 gets nothing unless all are 0; then all are equal.
    pub fn new(weights: &[u32]) -> Self {
        let mut weights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight)).collect();
        if weights.iter().all(|weight| *weight == 0) {
            weights.fill(1);
        }
        let divisor = weights.iter().copied().fold(0, gcd).max(1);
        weights.iter_mut().for_each(|weight| *weight /= divisor);
        let total: u64 = weights.iter().sum();
        let limit = MAX_ROUND.max(weights.len() as u64);
        if total > limit {
            for weight in weights.iter_mut().filter(|weight| **weight > 0) {
                *weight = (u128::from(*weight) * u128::from(limit) / u128::from(total)).max(1) as u64;
            }
        }
        let total: u64 = weights.iter().sum();
        if weights.iter().all(|weight| *weight == 1) {
            return Self { round: (0..weights.len() as u32).collect() };
        }
        if total * weights.len() as u64 > MAX_WORK {
            return Self { round: spread(&weights, total) };
        }
        let total = total as i64;
        // nginx's algorithm: each step every candidate gains its weight, the greatest is taken and pays the total.
        let mut credit = vec![0i64; weights.len()];
        let mut round = Vec::with_capacity(total as usize);
        for _ in 0..total {
            let mut best = 0;
            for (at, weight) in weights.iter().enumerate() {
                credit[at] += *weight as i64;
                if credit[at] > credit[best] {
                    best = at;
                }
            }
            credit[best] -= total;
            round.push(best as u32);
        }
        Self { round: round.into() }
    }

    /// Two rounds in the order of Traefik, where each step takes the candidate whose deadline is the earliest, and that is
    /// then due again one weight's part of a unit later; of equal ones the one that waited longest. Where that does not come
    /// to exact shares, or would be long work, it is as [`Self::new`] has it.
    pub fn by_deadlines(weights: &[u32]) -> Self {
        let smooth = Self::new(weights);
        let steps = 2 * smooth.round.len();
        if steps * weights.len() > MAX_WORK as usize || smooth.round.is_empty() {
            return smooth;
        }
        let mut due: Vec<(f64, u32)> =
            (0u32..).zip(weights).map(|(at, weight)| (1.0 / f64::from(*weight), at)).collect();
        let mut round = Vec::with_capacity(steps);
        for _ in 0..steps {
            let Some(first) = (0..due.len()).min_by(|a, b| due[*a].0.total_cmp(&due[*b].0)) else { break };
            let (deadline, at) = due.remove(first);
            due.push((deadline + 1.0 / f64::from(weights[at as usize]), at));
            round.push(at);
        }
        let (mut twice, mut sorted) = ([&smooth.round[..], &smooth.round[..]].concat(), round.clone());
        twice.sort_unstable();
        sorted.sort_unstable();
        if twice == sorted { Self { round: round.into() } } else { smooth }
    }

    /// The next usable candidate. `next` moves the shared cursor by one and gives its old value;
    /// each candidate that is passed over costs one move, so that the order of the others stays.
    pub fn pick(&self, mut next: impl FnMut() -> u32, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let length = self.round.len();
        for _ in 0..length {
            let at = self.round[next() as usize % length] as usize;
            if usable(at) {
                return Some(at);
            }
        }
        None
    }

    /// The candidate of a step.
    pub fn at(&self, step: u32) -> Option<usize> {
        self.round.get(step as usize % self.round.len().max(1)).map(|at| *at as usize)
    }

    /// Steps of a round.
    pub fn len(&self) -> usize {
        self.round.len()
    }

    /// True when there is no candidate.
    pub fn is_empty(&self) -> bool {
        self.round.is_empty()
    }
}

/// A round of many candidates: each one's steps lie evenly in it, as far as others leave room.
fn spread(weights: &[u64], total: u64) -> Box<[u32]> {
    let mut steps: Vec<(u64, u32)> = Vec::with_capacity(total as usize);
    for (at, weight) in weights.iter().enumerate() {
        steps.extend((0..*weight).map(|nth| ((2 * nth + 1) * (1 << 40) / weight, at as u32)));
    }
    steps.sort_unstable();
    steps.into_iter().map(|(_, at)| at).collect()
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    fn counter() -> impl FnMut() -> u32 {
        let cursor = Cell::new(0u32);
        move || cursor.replace(cursor.get().wrapping_add(1))
    }

    fn take(schedule: &Schedule, count: usize, usable: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut next = counter();
        (0..count).map(|_| schedule.pick(&mut next, &usable).expect("one is usable")).collect()
    }

    #[test]
    fn spreads_as_nginx_does() {
        assert_eq!(take(&Schedule::new(&[5, 1, 1]), 7, |_| true), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(take(&Schedule::new(&[1, 1]), 4, |_| true), [0, 1, 0, 1]);
        assert_eq!(take(&Schedule::new(&[300, 100]), 4, |_| true), [0, 0, 1, 0]);
    }

    #[test]
    fn deadlines_are_kept_as_by_traefik() {
        let order = |weights: &[u32]| take(&Schedule::by_deadlines(weights), 8, |_| true);
        // recorded
        assert_eq!(order(&[3, 1]), [0, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(order(&[1, 1]), [0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!(Schedule::by_deadlines(&[]), Schedule::new(&[]));
        assert_eq!(order(&[0, 2]), [1; 8]);
    }

    #[test]
    fn zero_gets_nothing_unless_all_are_zero() {
        assert_eq!(take(&Schedule::new(&[0, 2]), 3, |_| true), [1, 1, 1]);
        assert_eq!(take(&Schedule::new(&[0, 0]), 4, |_| true), [0, 1, 0, 1]);
        assert_eq!(Schedule::new(&[]).pick(counter(), |_| true), None);
        assert_eq!(Schedule::new(&[1]).pick(counter(), |_| false), None);
    }

    #[test]
    fn huge_weights_do_not_make_huge_rounds() {
        let schedule = Schedule::new(&[u32::MAX, 1, u32::MAX - 1]);
        assert!(schedule.len() as u64 <= MAX_ROUND + 3);
        assert!(take(&schedule, schedule.len(), |_| true).contains(&1));
    }

    #[test]
    fn many_candidates_are_no_long_work() {
        let weights: Vec<u32> = (0..10_000).map(|at| 1 + at % 2).collect();
        let schedule = Schedule::new(&weights);
        let mut counts = vec![0u32; weights.len()];
        for at in take(&schedule, schedule.len(), |_| true) {
            counts[at] += 1;
        }
        assert!(counts.iter().all(|count| *count > 0), "everybody gets something");
        let spread = Schedule { round: spread(&[5, 1, 1], 7) };
        assert_eq!(take(&spread, 7, |_| true), [0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(Schedule::new(&vec![7; 20_000]).len(), 20_000);
    }

    proptest! {
        #[test]
        fn shares_of_a_round_are_exact(weights in proptest::collection::vec(0u32..40, 1..12)) {
            let schedule = Schedule::new(&weights);
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let mut counts = vec![0u32; weights.len()];
            let rounds = total as usize;
            for at in take(&schedule, rounds, |_| true) {
                counts[at] += 1;
            }
            prop_assert_eq!(counts, weights);
        }

        #[test]
        fn shares_of_two_rounds_by_deadlines_are_exact(weights in proptest::collection::vec(1u32..40, 1..8)) {
            let (smooth, schedule) = (Schedule::new(&weights), Schedule::by_deadlines(&weights));
            let count = |schedule: &Schedule| {
                let mut counts = vec![0u32; weights.len()];
                for at in take(schedule, 2 * smooth.len(), |_| true) {
                    counts[at] += 1;
                }
                counts
            };
            prop_assert_eq!(count(&schedule), count(&smooth));
        }

        #[test]
        fn skipping_one_keeps_the_shares_of_the_others(
            weights in proptest::collection::vec(1u32..20, 2..8),
            out in 0usize..8,
        ) {
            let out = out % weights.len();
            let schedule = Schedule::new(&weights);
            let kept: u32 = weights.iter().enumerate().filter(|(at, _)| *at != out).map(|(_, w)| w).sum();
            let mut counts = vec![0u32; weights.len()];
            for at in take(&schedule, kept as usize, |at| at != out) {
                counts[at] += 1;
            }
            let mut expected = weights.clone();
            expected[out] = 0;
            prop_assert_eq!(counts, expected);
        }
    }
}
