//! What the middlewares of a router remember from one request to the next: buckets, counts, breakers.
//!
//! What always holds: it is kept by the names of router and middleware, so that a new table changes nothing; as in Traefik
//! each router has its own of a middleware that several name. Who counts a request is told when it has ended.

use super::breaker::Breaker;
use super::in_flight::Counts;
use super::rate::Buckets;
use crate::table::{Middleware, Ready, Router};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one middleware of one router remembers.
#[derive(Debug)]
pub enum Memory {
    /// `rateLimit`.
    Rate(Buckets),
    /// `inFlightReq`.
    InFlight(Counts),
    /// `circuitBreaker`.
    Breaker(Breaker),
}

/// The kind of a middleware that remembers, and how what it remembers begins.
type Beginning = (&'static str, fn() -> Memory);

impl Memory {
    /// An empty one, where the middleware remembers anything.
    fn of(middleware: &Middleware) -> Option<Beginning> {
        match &middleware.ready {
            Ready::Rate(_) => Some(("rateLimit", || Self::Rate(Buckets::default()))),
            Ready::InFlight(_) => Some(("inFlightReq", || Self::InFlight(Counts::default()))),
            Ready::Breaker(_) => Some(("circuitBreaker", || Self::Breaker(Breaker::new(Instant::now())))),
            _ => None,
        }
    }
}

/// What the middlewares of one router remember.
#[derive(Debug, Default)]
pub struct Memories(SmallVec<[(Arc<str>, Arc<Memory>); 1]>);

impl Memories {
    /// Those of a router; `kept` gives what is kept by a name, or keeps what it is given.
    pub fn of(router: &Router, mut kept: impl FnMut(&str, fn() -> Memory) -> Arc<Memory>) -> Self {
        let mut memories = Self::default();
        for middleware in router.all_middlewares() {
            if memories.get(&middleware.id).is_none()
                && let Some((kind, make)) = Memory::of(middleware)
            {
                let memory = kept(&format!("{kind} {} {}", router.id, middleware.id), make);
                memories.0.push((middleware.id.clone(), memory));
            }
        }
        memories
    }

    /// That of a middleware.
    pub(super) fn get(&self, id: &Arc<str>) -> Option<&Arc<Memory>> {
        self.0.iter().find(|(of, _)| Arc::ptr_eq(of, id)).map(|(_, memory)| memory)
    }
}

/// Where a request is counted.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) memory: Arc<Memory>,
    pub(super) middleware: Arc<Middleware>,
    /// Its source, where that is counted.
    pub(super) source: Option<Box<[u8]>>,
}

/// Where a request is counted, until it has ended. One that walks through its middlewares again is not counted again.
#[derive(Debug, Default)]
pub struct Held(pub(super) SmallVec<[Hold; 1]>);

impl Held {
    pub(super) fn has(&self, memory: &Arc<Memory>) -> bool {
        self.0.iter().any(|hold| Arc::ptr_eq(&hold.memory, memory))
    }

    /// The request has ended, with this status, after this time.
    pub fn ended(&mut self, status: u16, took: Duration) {
        if self.0.is_empty() {
            return;
        }
        let now = Instant::now();
        for hold in std::mem::take(&mut self.0) {
            match (&*hold.memory, hold.source, &hold.middleware.ready) {
                (Memory::InFlight(counts), Some(source), _) => counts.leave(source),
                (Memory::Breaker(breaker), _, Ready::Breaker(ready)) => breaker.ended(ready, status, took, now),
                _ => {}
            }
        }
    }
}
