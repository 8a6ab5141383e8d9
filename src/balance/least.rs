//! Choosing by what candidates are doing: the one that does least, of all or of two that are drawn.
//!
//! What always holds: a candidate without a weight gets nothing; equal ones take turns by weight.

use super::Random;
use super::wrr::Schedule;

/// Draws before all are looked at.
const DRAWS: u32 = 16;

/// The usable candidate with the lowest score for its weight; of equal ones the first behind the place where the
/// `schedule` stands, so that they take turns.
pub fn least(
    schedule: &Schedule,
    next: impl FnOnce() -> u32,
    weights: impl ExactSizeIterator<Item = u32>,
    score: impl Fn(usize) -> f64,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    let (count, from) = (weights.len(), schedule.at(next())?);
    let turn = |at: usize| (at + count - from.min(count)) % count;
    weights
        .enumerate()
        .filter(|(at, weight)| *weight > 0 && usable(*at))
        .map(|(at, weight)| (at, score(at) / f64::from(weight)))
        .min_by(|a, b| a.1.total_cmp(&b.1).then_with(|| turn(a.0).cmp(&turn(b.0))))
        .map(|(at, _)| at)
}

/// Drawn by weight.
pub fn random(schedule: &Schedule, random: &Random, usable: impl Fn(usize) -> bool) -> Option<usize> {
    let draw = || schedule.at(random.below(schedule.len() as u32));
    let drawn = (0..DRAWS).filter_map(|_| draw()).find(|at| usable(*at));
    drawn.or_else(|| {
        // Few are usable: the first behind a place that is drawn.
        let from = random.next();
        (0..schedule.len() as u32).filter_map(|step| schedule.at(from.wrapping_add(step))).find(|at| usable(*at))
    })
}

/// Of two that are drawn, the one that works on less (Mitzenmacher, "The Power of Two Choices in Randomized Load
/// Balancing").
pub fn p2c(
    schedule: &Schedule,
    drawn: &Random,
    load: impl Fn(usize) -> u32,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    let first = random(schedule, drawn, &usable)?;
    match random(schedule, drawn, |at| at != first && usable(at)) {
        Some(second) if load(second) < load(first) => Some(second),
        _ => Some(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::{Cell, RefCell};

    #[test]
    fn the_least_is_taken_and_equals_take_turns() {
        let (schedule, cursor) = (Schedule::new(&[1, 1, 1]), Cell::new(0));
        let next = || cursor.replace(cursor.get() + 1);
        let take = |scores: [f64; 3]| least(&schedule, next, [1, 1, 1].into_iter(), |at| scores[at], |_| true);
        assert_eq!(take([2.0, 1.0, 3.0]), Some(1));
        let turns: Vec<_> = (0..6).filter_map(|_| take([1.0, 1.0, 1.0])).collect();
        assert_eq!(turns, [1, 2, 0, 1, 2, 0]);
        assert_eq!(least(&schedule, next, [1, 0, 1].into_iter(), |at| at as f64, |at| at == 1), None);
        assert_eq!(least(&Schedule::new(&[]), next, [].into_iter(), |_| 0.0, |_| true), None);
    }

    #[test]
    fn drawing_follows_the_weights() {
        let (schedule, drawn) = (Schedule::new(&[3, 1, 0]), Random::new(7));
        let mut counts = [0u32; 3];
        for _ in 0..8_000 {
            counts[random(&schedule, &drawn, |_| true).expect("one is usable")] += 1;
        }
        assert!((5_800..6_200).contains(&counts[0]) && counts[2] == 0, "{counts:?}");
        assert_eq!(random(&schedule, &drawn, |_| false), None);
        assert_eq!(random(&Schedule::new(&[1; 500]), &drawn, |at| at == 499), Some(499));
        assert_eq!(p2c(&schedule, &drawn, |_| 0, |at| at == 1), Some(1));
    }

    #[test]
    fn two_choices_keep_the_fullest_low() {
        let (schedule, drawn) = (Schedule::new(&[1; 100]), Random::new(3));
        let fullest = |pick: &dyn Fn(&[u32]) -> usize| {
            let loads = RefCell::new(vec![0u32; 100]);
            for _ in 0..2_000 {
                let at = pick(&loads.borrow());
                loads.borrow_mut()[at] += 1;
            }
            loads.into_inner().into_iter().max().expect("there are loads")
        };
        let two = fullest(&|loads| p2c(&schedule, &drawn, |at| loads[at], |_| true).expect("one is usable"));
        let one = fullest(&|_| random(&schedule, &drawn, |_| true).expect("one is usable"));
        assert!(two <= 25 && one > two, "mean 20, of two {two}, of one {one}");
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_usable_and_has_a_weight(
            candidates in proptest::collection::vec((0u32..4, any::<bool>(), 0u32..9), 1..30), seed in any::<u64>(),
        ) {
            let weights: Vec<u32> = candidates.iter().map(|(weight, ..)| *weight).collect();
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let (schedule, drawn) = (Schedule::new(&weights), Random::new(seed));
            let usable = |at: usize| candidates[at].1;
            let load = |at: usize| candidates[at].2;
            let some = candidates.iter().any(|(weight, usable, _)| *weight > 0 && *usable);
            for picked in [
                random(&schedule, &drawn, usable),
                p2c(&schedule, &drawn, load, usable),
                least(&schedule, || drawn.next(), weights.iter().copied(), |at| f64::from(load(at)), usable),
            ] {
                prop_assert_eq!(picked.is_some(), some);
                prop_assert!(picked.is_none_or(|at| usable(at) && weights[at] > 0));
            }
        }
    }
}
