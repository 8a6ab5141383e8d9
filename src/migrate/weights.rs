//! Weights: Fabio's shares of a pool (numbers of instances, up to 1) as Traefik's whole numbers, one for each service.

use crate::tags::legacy::slots;

/// How many instances of one service are looked at; a service with more counts as this many.
pub const MAX_COUNT: u32 = 1_000;

/// What the services of a pool get.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// By service, in the order of the shares; `None` where all instances are equal.
    pub of: Option<Vec<u32>>,
    /// They are right for the numbers of instances of now only.
    pub counted: bool,
}

/// The weights of services in a pool: of each its number of instances, and the fixed weights of its tags there.
pub fn weights(services: &[(u32, Vec<Option<f64>>)]) -> Weights {
    let all = || services.iter().flat_map(|(_, fixed)| fixed);
    let fixed = all().flatten().count();
    if fixed == 0 {
        return Weights::default();
    }
    let sums: Vec<u64> = if all().all(Option::is_some) {
        // each instance brings its own number: right for any number of instances
        let largest = all().flatten().fold(0.0f64, |a, b| a.max(*b));
        let scale = if largest > 10_000.0 { 10_000.0 / largest } else { 1.0 };
        let whole = |w: &f64| ((w * scale * 10_000.0).round() as u64).max(1);
        services.iter().map(|(_, fixed)| fixed.iter().flatten().map(whole).sum()).collect()
    } else {
        let each: Vec<Option<f64>> = services
            .iter()
            .flat_map(|(count, fixed)| (0..(*count).max(1)).flat_map(|_| fixed.iter().copied()))
            .collect();
        let slots = slots(&each).unwrap_or_default();
        let mut at = 0;
        let mut sums = Vec::with_capacity(services.len());
        for (count, fixed) in services {
            // all instances of a service have the same
            sums.push(slots.iter().skip(at).take(fixed.len()).map(|n| u64::from(*n)).sum());
            at += fixed.len() * usize::try_from((*count).max(1)).unwrap_or(1);
        }
        sums
    };
    let divisor = sums.iter().copied().fold(0, gcd).max(1);
    let of = sums.iter().map(|sum| u32::try_from(sum / divisor).unwrap_or(u32::MAX)).collect();
    Weights { of: Some(of), counted: fixed < all().count() }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_as_measured() {
        let of = |services: &[(u32, Option<f64>)]| {
            let services: Vec<_> = services.iter().map(|(count, weight)| (*count, vec![*weight])).collect();
            let weights = weights(&services);
            (weights.of.unwrap_or_default(), weights.counted)
        };
        assert_eq!(of(&[(3, None), (1, None)]), (vec![], false));
        assert_eq!(of(&[(1, Some(0.2)), (1, Some(0.8))]), (vec![1, 4], false));
        assert_eq!(of(&[(2, Some(0.2)), (1, Some(0.8))]), (vec![1, 4], false), "for any number of instances");
        assert_eq!(of(&[(1, Some(0.2)), (1, None)]), (vec![1, 4], true));
        assert_eq!(of(&[(1, Some(0.5)), (2, None)]), (vec![2, 1], true));
        assert_eq!(of(&[(1, Some(1.0)), (1, None)]), (vec![1, 0], true));
        assert_eq!(weights(&[(1, vec![Some(0.1), Some(0.3)]), (1, vec![Some(0.4)])]).of, Some(vec![1, 1]));
        assert!(weights(&[(1, vec![Some(f64::MAX)]), (1, vec![Some(1e-300)])]).of.is_some());
    }
}
