//! When a certificate is renewed, and when a failed order is tried again: plain arithmetic, with clock and chance passed in.

use std::time::{Duration, SystemTime};

/// Between two tries of an order that fails; the last one repeats. As certmagic's, so that an authority sees what it knows.
const PAUSES: &[Duration] = &[
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(300),
    Duration::from_secs(600),
    Duration::from_secs(1_200),
    Duration::from_secs(1_800),
    Duration::from_secs(3_600),
    Duration::from_secs(2 * 3_600),
    Duration::from_secs(3 * 3_600),
    Duration::from_secs(6 * 3_600),
];
/// Spread of the pauses, as a part of each: a cluster's machines do not come together.
const JITTER: f64 = 0.2;

/// When a certificate is due: two thirds of its life after it began (as Caddy), at the latest a while before its end, and spread
/// by `chance` (0 to 1) over a tenth of what is left then, so that many machines on one directory do not come together.
/// What the authority said (`selected`, RFC 9773) goes before, as far as the certificate lives.
pub fn due(not_before: SystemTime, not_after: SystemTime, selected: Option<SystemTime>, chance: f64) -> SystemTime {
    if let Some(selected) = selected.filter(|selected| *selected < not_after) {
        return selected;
    }
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let left = life / 3;
    not_after - left + (left / 10).mul_f64(chance.clamp(0.0, 1.0))
}

/// The pause before a failed order is tried again: the more failures in a row, the longer; at least what the authority asks for.
pub fn pause(failures: usize, retry_after: Option<Duration>, chance: f64) -> Duration {
    let at = failures.saturating_sub(1).min(PAUSES.len() - 1);
    let pause = PAUSES[at].mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0));
    retry_after.map_or(pause, |least| pause.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_third_before_the_end_and_spread() {
        let begin = SystemTime::UNIX_EPOCH + 1_000 * DAY;
        let end = begin + 90 * DAY;
        assert_eq!(due(begin, end, None, 0.0), begin + 60 * DAY);
        assert_eq!(due(begin, end, None, 1.0), begin + 63 * DAY);
        assert_eq!(due(begin, end, Some(begin + 40 * DAY), 0.5), begin + 40 * DAY);
        // what would come too late does not count
        assert_eq!(due(begin, end, Some(end + DAY), 0.0), begin + 60 * DAY);
        // a certificate that ends before it begins is due at once
        assert_eq!(due(end, begin, None, 1.0), begin);
    }

    #[test]
    fn pauses_grow_and_heed_the_authority() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        assert_eq!(pause(1, None, 0.0), minutes(1));
        assert_eq!(pause(2, None, 0.0), minutes(2));
        assert_eq!(pause(2, None, 1.0), Duration::from_secs(144));
        assert_eq!(pause(1_000, None, 0.0), minutes(360));
        assert_eq!(pause(1, Some(minutes(90)), 1.0), minutes(90));
        assert_eq!(pause(0, None, 0.0), minutes(1));
    }
}
