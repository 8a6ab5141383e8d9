//! Traefik's `inFlightReq` (<https://doc.traefik.io/traefik/middlewares/http/inflightreq/>): requests of one source at a
//! time.
//!
//! What always holds: a request that was let in is counted until its answer has ended, whatever ended it; a source without
//! requests takes no memory. The counts of one router's middleware are shared by all workers, in shards with a lock each.

use super::source;
use crate::http::{Exchange, Made, Reason, StatusCode};
use crate::table::ReadyInFlight;
use foldhash::quality::RandomState;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;

/// The requests in flight of one middleware of one router.
#[derive(Debug, Default)]
pub struct Counts {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

/// Requests in flight by source.
type Shard = HashMap<Box<[u8]>, i64, RandomState>;

impl Counts {
    fn shard(&self, source: &[u8]) -> MutexGuard<'_, Shard> {
        let shard = self.hasher.hash_one(source) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request of a source, if there is room for it.
    pub(super) fn enter(&self, source: &[u8], most: i64) -> bool {
        let mut counts = self.shard(source);
        match counts.get_mut(source) {
            Some(count) if *count < most => *count += 1,
            None if most > 0 => drop(counts.insert(source.into(), 1)),
            _ => return false,
        }
        true
    }

    /// One has ended.
    pub(super) fn leave(&self, source: Box<[u8]>) {
        if let Entry::Occupied(mut count) = self.shard(&source).entry(source) {
            *count.get_mut() -= 1;
            if *count.get() <= 0 {
                count.remove();
            }
        }
    }
}

/// Counts a request, or refuses it. Gives its source, for when it has ended.
pub(super) fn check(counts: &Counts, ready: &ReadyInFlight, exchange: &Exchange) -> Result<Box<[u8]>, Made> {
    let source = source::of(&ready.criterion, exchange);
    if counts.enter(&source, ready.amount) {
        return Ok(source.into());
    }
    let text = format!("max connections reached: {}", ready.amount);
    Err(Made::new(StatusCode::TOO_MANY_REQUESTS, text, Reason::Limited))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_makes_room_and_leaves_nothing() {
        let counts = Counts::default();
        assert!(counts.enter(b"a", 2) && counts.enter(b"a", 2) && counts.enter(b"b", 2));
        assert!(!counts.enter(b"a", 2) && !counts.enter(b"c", 0));
        counts.leave(b"a"[..].into());
        assert!(counts.enter(b"a", 2));
        for source in [b"a", b"a", b"b"] {
            counts.leave(source[..].into());
        }
        assert!(counts.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
        counts.leave(b"a"[..].into());
        assert!(counts.enter(b"a", 1) && !counts.enter(b"a", 1), "what was not counted changes nothing");
    }
}
