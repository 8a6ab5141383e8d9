//! Traefik's `circuitBreaker` (<https://doc.traefik.io/traefik/middlewares/http/circuitbreaker/>).
//!
//! Closed, it lets all requests pass and counts their answers of the last 10 seconds (how long they took: of the last 60);
//! when its expression holds, it opens and answers by itself; after a while it lets more and more through, and closes if the
//! expression holds no more.
//!
//! What always holds: a request that passes a closed breaker reads and adds atomics; a lock is taken only where the breaker
//! is not closed, and when it opens. Time is passed in.

use crate::table::{Measure, ReadyBreaker};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const RECOVERING: u8 = 2;

/// The breaker of one middleware of one router.
#[derive(Debug)]
pub struct Breaker {
    begun: Instant,
    state: AtomicU8,
    /// In microseconds since it was made, as all times here.
    next_check: AtomicU64,
    way: Mutex<Way>,
    answers: Box<Answers>,
    latencies: OnceLock<Box<Latencies>>,
}

/// How it closes again.
#[derive(Debug, Default)]
struct Way {
    until: u64,
    since: u64,
    allowed: u64,
    denied: u64,
}

impl Breaker {
    /// A closed one.
    pub fn new(now: Instant) -> Self {
        Self {
            begun: now,
            state: AtomicU8::new(CLOSED),
            next_check: AtomicU64::new(0),
            way: Mutex::default(),
            answers: Box::default(),
            latencies: OnceLock::new(),
        }
    }

    fn micros(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.begun))
    }

    /// Whether a request may pass.
    pub(super) fn passes(&self, ready: &ReadyBreaker, now: Instant) -> bool {
        if self.state.load(Acquire) == CLOSED {
            return true;
        }
        let now = self.micros(now);
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        let recovery = micros(ready.recovery);
        match self.state.load(Acquire) {
            CLOSED => return true,
            OPEN if now < way.until => return false,
            OPEN => {
                *way = Way { until: now + recovery, since: now, ..Way::default() };
                self.state.store(RECOVERING, Release);
            }
            _ => {}
        }
        if now > way.until {
            self.state.store(CLOSED, Release);
            return true;
        }
        // Up to half of them, in the end.
        let wanted = 0.5 * (now - way.since) as f64 / recovery as f64;
        let share = (way.allowed + 1) as f64 / (way.allowed + 1 + way.denied) as f64;
        let passes = share < wanted;
        way.allowed += u64::from(passes);
        way.denied += u64::from(!passes);
        passes
    }

    /// A request that passed has ended; the breaker may open of it.
    pub(super) fn ended(&self, ready: &ReadyBreaker, status: u16, took: Duration, now: Instant) {
        let at = self.micros(now);
        self.answers.add(at, status);
        if ready.condition.asks_for_latency() {
            self.latencies.get_or_init(Box::default).add(at, micros(took));
        }
        let due = self.next_check.load(Relaxed);
        let next = at + micros(ready.check);
        if at < due || self.next_check.compare_exchange(due, next, Relaxed, Relaxed).is_err() {
            return;
        }
        if self.state.load(Acquire) == OPEN || !ready.condition.holds(&|measure| self.measure(measure, at)) {
            return;
        }
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        way.until = at + micros(ready.open);
        self.state.store(OPEN, Release);
        self.answers.forget();
        if let Some(latencies) = self.latencies.get() {
            latencies.forget();
        }
    }

    fn measure(&self, measure: Measure, at: u64) -> f64 {
        match measure {
            Measure::NetworkErrorRatio => ratio(
                self.answers.count(at, 502, 503) + self.answers.count(at, 504, 505),
                self.answers.count(at, 0, i64::MAX),
            ),
            Measure::ResponseCodeRatio([a, b, c, d]) => {
                ratio(self.answers.count(at, a, b), self.answers.count(at, c, d))
            }
            Measure::LatencyAtQuantileMs(quantile) => {
                let micros = self.latencies.get().map_or(0, |latencies| latencies.quantile(at, quantile));
                (micros / 1_000) as f64
            }
        }
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Counters of a stretch of time; what is older than the ring is long is counted no more.
#[derive(Debug)]
struct Stretch<const COUNTERS: usize> {
    /// Which stretch it is, from 1.
    of: AtomicU64,
    counters: [AtomicU32; COUNTERS],
}

impl<const COUNTERS: usize> Default for Stretch<COUNTERS> {
    fn default() -> Self {
        Self { of: AtomicU64::new(0), counters: [const { AtomicU32::new(0) }; COUNTERS] }
    }
}

impl<const COUNTERS: usize> Stretch<COUNTERS> {
    fn forget(&self) {
        for counter in &self.counters {
            counter.store(0, Relaxed);
        }
    }
}

/// Adds one to a counter of the present stretch. What others add while it begins anew may be lost: a share does not
/// depend on a few.
fn add<const COUNTERS: usize>(ring: &[Stretch<COUNTERS>], at: u64, long: u64, counter: usize) {
    let now = at / long + 1;
    let Some(stretch) = ring.get((now % ring.len() as u64) as usize) else { return };
    let of = stretch.of.load(Relaxed);
    if of != now && stretch.of.compare_exchange(of, now, Relaxed, Relaxed).is_ok() {
        stretch.forget();
    }
    if let Some(counter) = stretch.counters.get(counter) {
        counter.fetch_add(1, Relaxed);
    }
}

fn recent<const COUNTERS: usize>(
    ring: &[Stretch<COUNTERS>],
    at: u64,
    long: u64,
) -> impl Iterator<Item = &Stretch<COUNTERS>> {
    let (now, length) = (at / long + 1, ring.len() as u64);
    ring.iter().filter(move |stretch| {
        let of = stretch.of.load(Relaxed);
        of != 0 && of + length > now
    })
}

/// Statuses from 100 that are told apart; what is beyond counts as the last one.
const STATUSES: usize = 900;
const SECOND: u64 = 1_000_000;

/// Answers of the last 10 seconds by status.
#[derive(Debug, Default)]
struct Answers([Stretch<STATUSES>; 10]);

impl Answers {
    fn add(&self, at: u64, status: u16) {
        add(&self.0, at, SECOND, usize::from(status.saturating_sub(100)).min(STATUSES - 1));
    }

    /// Those from a status up to, but without, another.
    fn count(&self, at: u64, from: i64, to: i64) -> u64 {
        let place = |status: i64| status.clamp(100, 100 + STATUSES as i64) as usize - 100;
        let (from, to) = (place(from), place(to));
        let counters =
            recent(&self.0, at, SECOND).flat_map(|stretch| stretch.counters.get(from..to).unwrap_or_default());
        counters.map(|counter| u64::from(counter.load(Relaxed))).sum()
    }

    fn forget(&self) {
        self.0.iter().for_each(Stretch::forget);
    }
}

/// Counters of a histogram from a microsecond to 71 minutes: 256 of a microsecond, then 128 for each doubling, so that
/// a length of time is known to 1 per cent.
const LENGTHS: usize = 256 + 24 * 128;

/// How long the requests of the last 60 seconds took.
#[derive(Debug, Default)]
struct Latencies([Stretch<LENGTHS>; 6]);

impl Latencies {
    fn add(&self, at: u64, micros: u64) {
        add(&self.0, at, 10 * SECOND, place(micros));
    }

    /// Microseconds within which so many per cent of the requests ended.
    fn quantile(&self, at: u64, quantile: f64) -> u64 {
        let mut counts = vec![0u64; LENGTHS];
        for stretch in recent(&self.0, at, 10 * SECOND) {
            for (count, counter) in counts.iter_mut().zip(&stretch.counters) {
                *count += u64::from(counter.load(Relaxed));
            }
        }
        let all: u64 = counts.iter().sum();
        let wanted = (quantile.min(100.0) / 100.0 * all as f64 + 0.5) as u64;
        let mut seen = 0;
        let found = counts.iter().position(|count| {
            seen += count;
            *count > 0 && seen >= wanted
        });
        found.map_or(0, longest)
    }

    fn forget(&self) {
        self.0.iter().for_each(Stretch::forget);
    }
}

fn place(micros: u64) -> usize {
    if micros < 256 {
        return micros as usize;
    }
    let shift = 56 - u64::from(micros.leading_zeros());
    (256 + (shift - 1) * 128 + (micros >> shift) - 128).min(LENGTHS as u64 - 1) as usize
}

/// The longest time that is counted at a place.
fn longest(place: usize) -> u64 {
    let place = place as u64;
    if place < 256 {
        return place;
    }
    let (shift, rest) = ((place - 256) / 128 + 1, (place - 256) % 128 + 128);
    ((rest + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::StatusCode;
    use crate::table::Condition;
    use proptest::prelude::*;

    fn ready(expression: &str) -> ReadyBreaker {
        ReadyBreaker {
            condition: Condition::parse(expression).unwrap(),
            check: Duration::from_millis(100),
            open: Duration::from_secs(10),
            recovery: Duration::from_secs(10),
            status: StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    #[test]
    fn opens_of_what_fails_and_closes_step_by_step() {
        let begin = Instant::now();
        let at = |millis: u64| begin + Duration::from_millis(millis);
        let breaker = Breaker::new(begin);
        let ready = ready("ResponseCodeRatio(500, 600, 0, 600) > 0.5");
        for (millis, status) in [(0, 200), (10, 500), (20, 500), (30, 500)] {
            assert!(breaker.passes(&ready, at(millis)));
            breaker.ended(&ready, status, Duration::ZERO, at(millis));
        }
        assert!(breaker.passes(&ready, at(99)), "it is not looked at all the time");
        breaker.ended(&ready, 200, Duration::ZERO, at(100));
        assert!(!breaker.passes(&ready, at(101)) && !breaker.passes(&ready, at(10_099)));
        // One that came before it opened changes nothing.
        breaker.ended(&ready, 500, Duration::ZERO, at(10_000));
        let passed = |from: u64| (0..1_000).filter(|n| breaker.passes(&ready, at(from + n))).count();
        let (first, second) = (passed(10_100), passed(15_100));
        assert!(first < 60 && first > 5, "{first}");
        // the share is that of all requests since it began to close
        assert!(second > 2 * first && second < 600, "{first} {second}");
        assert!(breaker.passes(&ready, at(20_101)) && breaker.passes(&ready, at(20_101)));
        breaker.ended(&ready, 200, Duration::ZERO, at(20_300));
        assert!(breaker.passes(&ready, at(20_301)), "what was counted before it opened is forgotten");
    }

    #[test]
    fn fails_again_while_it_closes() {
        let begin = Instant::now();
        let at = |millis: u64| begin + Duration::from_millis(millis);
        let breaker = Breaker::new(begin);
        let ready = ready("NetworkErrorRatio() > 0.1");
        breaker.ended(&ready, 502, Duration::ZERO, at(0));
        assert!(!breaker.passes(&ready, at(1)));
        assert!(!breaker.passes(&ready, at(10_001)), "none to begin with");
        assert!((0..4).any(|_| breaker.passes(&ready, at(19_000))), "and more and more");
        breaker.ended(&ready, 504, Duration::ZERO, at(19_100));
        assert!(!breaker.passes(&ready, at(29_099)), "open anew, for its whole time");
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        let begin = Instant::now();
        let at = |millis: u64| begin + Duration::from_millis(millis);
        let breaker = Breaker::new(begin);
        let fine = ready("ResponseCodeRatio(500, 600, 0, 600) > 2");
        for millis in 0..50 {
            breaker.ended(&fine, 500, Duration::ZERO, at(millis));
        }
        let answers = |millis: u64| breaker.measure(Measure::ResponseCodeRatio([500, 600, 0, 600]), millis * 1_000);
        assert_eq!(answers(9_999), 1.0);
        assert_eq!(answers(10_000), 0.0);
        breaker.ended(&fine, 200, Duration::ZERO, at(10_500));
        assert_eq!(breaker.measure(Measure::NetworkErrorRatio, 10_500_000), 0.0);
    }

    #[test]
    fn slow_answers_open_it() {
        let begin = Instant::now();
        let breaker = Breaker::new(begin);
        let ready = ready("LatencyAtQuantileMS(50.0) > 100");
        let at = |millis: u64| begin + Duration::from_millis(millis);
        for n in 0..10 {
            breaker.ended(&ready, 200, Duration::from_millis(50 + n * 10), at(n));
        }
        breaker.ended(&ready, 200, Duration::from_millis(100), at(200));
        assert!(breaker.passes(&ready, at(201)));
        for n in 0..10 {
            breaker.ended(&ready, 200, Duration::from_millis(300), at(201 + n));
        }
        breaker.ended(&ready, 200, Duration::from_millis(300), at(400));
        assert!(!breaker.passes(&ready, at(401)));
    }

    proptest! {
        #[test]
        fn a_length_of_time_is_known_to_one_per_cent(micros in 0u64..3_600_000_000) {
            let longest = longest(place(micros));
            prop_assert!(longest >= micros && (longest - micros) as f64 <= micros as f64 / 100.0, "{} {}", micros, longest);
        }

        #[test]
        fn no_length_is_out_of_place(micros: u64) {
            prop_assert!(place(micros) < LENGTHS);
        }
    }
}
