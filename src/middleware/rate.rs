//! Traefik's `rateLimit` (<https://doc.traefik.io/traefik/middlewares/http/ratelimit/>): a token bucket for each source.
//!
//! What always holds: the buckets of one router's middleware are shared by all workers, in shards with a lock each that is
//! held for a look-up only; routers without the middleware never come here. How many sources are remembered is bounded, and
//! each is forgotten after a while. As in Traefik a request that would be late by little waits, and one that is refused takes
//! no token.

use super::source;
use crate::http::{Exchange, HeaderName, HeaderValue, Made, Reason, StatusCode, name};
use crate::model::format_duration;
use crate::table::ReadyRate;
use foldhash::quality::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const SHARDS: usize = 16;
/// Sources that are remembered in a shard; Traefik remembers 65,536 in all.
const SOURCES: usize = 4_096;
/// How many are looked at for one to be forgotten in place of a new one.
const LOOKED_AT: usize = 8;

const X_RETRY_IN: HeaderName = HeaderName::from_static("x-retry-in");

/// The buckets of one middleware of one router.
#[derive(Debug, Default)]
pub struct Buckets {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

/// Buckets by source.
type Shard = HashMap<Box<[u8]>, Bucket, RandomState>;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
    forgotten: Instant,
}

/// What comes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It goes on after this time.
    In(Duration),
    /// It is refused; there is room for it after this time.
    Refused(Duration),
}

impl Buckets {
    /// Takes a token of a source.
    pub(super) fn take(&self, source: &[u8], ready: &ReadyRate, now: Instant) -> Turn {
        let Some(rate) = ready.rate else { return Turn::In(Duration::ZERO) };
        let shard = self.hasher.hash_one(source) as usize % SHARDS;
        let mut buckets = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(source) {
            return bucket.take(rate, ready, now);
        }
        if buckets.len() >= SOURCES {
            // Which one does not matter much: the first ones of a map are any.
            let sample = buckets.iter().take(LOOKED_AT).min_by_key(|(_, bucket)| bucket.forgotten);
            if let Some(oldest) = sample.map(|(key, _)| key.clone()) {
                buckets.remove(&oldest);
            }
        }
        let mut bucket = Bucket { tokens: ready.burst, at: now, forgotten: now + ready.memory };
        let turn = bucket.take(rate, ready, now);
        buckets.insert(source.into(), bucket);
        turn
    }
}

impl Bucket {
    fn take(&mut self, rate: f64, ready: &ReadyRate, now: Instant) -> Turn {
        if now >= self.forgotten {
            self.tokens = ready.burst;
        }
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let tokens = (self.tokens + passed * rate).min(ready.burst) - 1.0;
        self.forgotten = now + ready.memory;
        let wait = if tokens < 0.0 { Duration::try_from_secs_f64(-tokens / rate) } else { Ok(Duration::ZERO) };
        let wait = wait.unwrap_or(Duration::MAX);
        self.at = self.at.max(now);
        if wait > ready.patience {
            self.tokens = tokens + 1.0;
            return Turn::Refused(wait);
        }
        self.tokens = tokens;
        Turn::In(wait)
    }
}

/// Lets a request in after a time, or refuses it.
pub(super) fn check(buckets: &Buckets, ready: &ReadyRate, exchange: &Exchange) -> Result<Duration, Made> {
    match buckets.take(&source::of(&ready.criterion, exchange), ready, Instant::now()) {
        Turn::In(wait) => Ok(wait),
        Turn::Refused(wait) => {
            let mut made = Made::status(StatusCode::TOO_MANY_REQUESTS, Reason::Limited);
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            made.head.headers.set(name::RETRY_AFTER, HeaderValue::from(seconds));
            if let Ok(wait) = HeaderValue::try_from(format_duration(wait)) {
                made.head.headers.set(X_RETRY_IN, wait);
            }
            Err(made)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Address, Criterion};

    fn ready(rate: f64, burst: f64, patience: u64) -> ReadyRate {
        ReadyRate {
            criterion: Criterion::Address(Address::Peer(None)),
            rate: Some(rate),
            burst,
            patience: Duration::from_millis(patience),
            memory: Duration::from_secs(2),
        }
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_rate() {
        let (buckets, begin) = (Buckets::default(), Instant::now());
        let at = |millis: u64| begin + Duration::from_millis(millis);
        let ready = ready(10.0, 2.0, 50);
        let now = Turn::In(Duration::ZERO);
        assert_eq!([buckets.take(b"a", &ready, at(0)), buckets.take(b"a", &ready, at(0))], [now, now]);
        let refused = Turn::Refused(Duration::from_millis(100));
        assert_eq!(buckets.take(b"a", &ready, at(0)), refused);
        assert_eq!(buckets.take(b"a", &ready, at(0)), refused, "who is refused takes no token");
        assert_eq!(buckets.take(b"b", &ready, at(0)), now, "others have their own");
        assert_eq!(buckets.take(b"a", &ready, at(50)), Turn::In(Duration::from_millis(50)), "a little late is late");
        assert_eq!(buckets.take(b"a", &ready, at(100)), Turn::Refused(Duration::from_millis(100)));
        assert_eq!(buckets.take(b"a", &ready, at(10_000)), now, "forgotten");
        assert_eq!(buckets.take(b"a", &ready, at(10_000)), now);
        assert!(matches!(buckets.take(b"a", &ready, at(10_000)), Turn::Refused(_)), "the burst is the most");
    }

    #[test]
    fn no_rate_is_no_limit_and_time_that_goes_back_gives_nothing() {
        let (buckets, begin) = (Buckets::default(), Instant::now());
        let unlimited = ReadyRate { rate: None, ..ready(1.0, 1.0, 0) };
        for _ in 0..100 {
            assert_eq!(buckets.take(b"a", &unlimited, begin), Turn::In(Duration::ZERO));
        }
        let slow = ready(1.0, 1.0, 0);
        assert_eq!(buckets.take(b"a", &slow, begin + Duration::from_secs(1)), Turn::In(Duration::ZERO));
        assert_eq!(buckets.take(b"a", &slow, begin), Turn::Refused(Duration::from_secs(1)));
    }

    #[test]
    fn sources_that_are_remembered_are_bounded() {
        let (buckets, begin) = (Buckets::default(), Instant::now());
        for n in 0..(SHARDS * SOURCES * 2) as u64 {
            buckets.take(&n.to_be_bytes(), &ready(1.0, 1.0, 0), begin + Duration::from_nanos(n));
        }
        let sizes: Vec<usize> = buckets.shards.iter().map(|shard| shard.lock().unwrap().len()).collect();
        assert!(sizes.iter().all(|size| *size <= SOURCES), "{sizes:?}");
    }
}
