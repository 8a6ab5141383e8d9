//! The *crew* of an entry point: its workers, and which of them takes a fresh connection.
//!
//! The kernel spreads connections over listeners by a hash of their addresses. That is even in the long run only, and
//! not at all when the connections of some workers end sooner. So a worker that holds clearly more than the mean passes
//! a fresh connection on, before its first byte is read, to the worker that holds the fewest.
//!
//! What always holds: nothing here is touched by requests, only when a connection is accepted and when it ends. A
//! connection is counted with the worker that it is passed to from the moment of passing on, so that a burst does not
//! go to one worker. Passing on never waits: what nobody takes stays where it was accepted.

use super::worker::Gauges;
use arc_swap::ArcSwap;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicUsize, fence};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Connections that may be on their way to one worker.
const UNDER_WAY: usize = 64;
/// How many more than the mean a worker holds without passing on; evens out what is few anyway.
const MARGIN: usize = 8;

/// The workers that accept for one entry point. Clones of an entry point have one crew.
#[derive(Debug, Default)]
pub struct Crew {
    members: ArcSwap<Vec<Arc<Member>>>,
}

/// A worker at one listener of an entry point.
#[derive(Debug)]
#[repr(align(128))]
struct Member {
    /// Its connections, those on their way to it included.
    held: AtomicUsize,
    /// What its listener listens on; an entry point may have several addresses.
    listens: SocketAddr,
    gauges: Arc<Gauges>,
    fresh: mpsc::Sender<Passed>,
}

/// A connection that another worker accepted.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) stream: net::TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
}

/// One connection's place with a worker; counted until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Member>);

impl Place {
    fn take(member: &Arc<Member>) -> Self {
        member.held.fetch_add(1, Relaxed);
        member.gauges.connections.fetch_add(1, Relaxed);
        Self(member.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.gauges.connections.fetch_sub(1, Relaxed);
        self.0.held.fetch_sub(1, Relaxed);
    }
}

/// Membership, from the first connection that is accepted to the last.
pub(super) struct Seat {
    crew: Arc<Crew>,
    member: Arc<Member>,
}

impl Seat {
    /// Joins a crew. Gives what others pass on, too.
    pub(super) fn new(crew: Arc<Crew>, listens: SocketAddr, gauges: Arc<Gauges>) -> (Self, mpsc::Receiver<Passed>) {
        let (fresh, received) = mpsc::channel(UNDER_WAY);
        let member = Arc::new(Member { held: AtomicUsize::new(0), listens, gauges, fresh });
        crew.members.rcu(|members| members.iter().chain([&member]).cloned().collect::<Vec<_>>());
        (Self { crew, member }, received)
    }

    /// A place for a connection that stays here.
    pub(super) fn keep(&self) -> Place {
        Place::take(&self.member)
    }

    /// Takes a fresh connection in: gives it back with its place, unless it was passed on.
    pub(super) fn take(&self, stream: TcpStream, peer: SocketAddr) -> Option<(TcpStream, Place)> {
        let Some(other) = self.relief() else { return Some((stream, self.keep())) };
        // Without room it would have to wait there, which is no better than to be served here.
        let Ok(room) = other.fresh.try_reserve() else { return Some((stream, self.keep())) };
        let place = Place::take(&other);
        // Who has left may have seen no connection, and ended, before it was counted.
        fence(SeqCst);
        if !self.crew.members.load().iter().any(|member| Arc::ptr_eq(member, &other)) {
            return Some((stream, self.keep()));
        }
        match stream.into_std() {
            Ok(stream) => room.send(Passed { stream, peer, place }),
            // The selector gave it up, and with it the connection.
            Err(error) => tracing::warn!(%peer, %error, "connection lost while it was passed on"),
        }
        None
    }

    /// Who takes a fresh connection instead.
    fn relief(&self) -> Option<Arc<Member>> {
        let held = self.member.held.load(Relaxed);
        // So few are never too many.
        if held < MARGIN {
            return None;
        }
        let members = self.crew.members.load();
        let (mut total, mut count) = (0, 0);
        let mut least = (held, None);
        for member in members.iter().filter(|member| member.listens == self.member.listens) {
            let holds = member.held.load(Relaxed);
            total += holds;
            count += 1;
            if holds < least.0 {
                least = (holds, Some(member));
            }
        }
        least.1.filter(|_| is_too_many(held, total, count)).cloned()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let stays = |member: &&Arc<Member>| !Arc::ptr_eq(member, &self.member);
        self.crew.members.rcu(|members| members.iter().filter(stays).cloned().collect::<Vec<_>>());
        // What is counted from here on is kept by who counts it; see `take`.
        fence(SeqCst);
    }
}

/// Whether one of `workers` that holds `held` of `total` connections should not take one more: it would be over the
/// mean by a quarter and by [`MARGIN`].
fn is_too_many(held: usize, total: usize, workers: usize) -> bool {
    let then = (held + 1) * workers;
    then * 4 > total * 5 && then > total + MARGIN * workers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_over_the_mean_by_a_quarter_and_a_margin() {
        assert!(!is_too_many(1_000, 1_000, 1));
        // A mean of 1: the margin counts.
        assert!(!is_too_many(4, 4, 4));
        assert!(!is_too_many(8, 4, 4));
        assert!(is_too_many(9, 4, 4));
        // A mean of 50: the quarter counts.
        assert!(!is_too_many(61, 200, 4));
        assert!(is_too_many(62, 200, 4));
        assert!(!is_too_many(49, 200, 4));
    }

    /// Whatever the kernel does, no worker of four comes to more than 1.5 times the mean of 200.
    #[test]
    fn passing_on_keeps_the_balance() {
        for busy in 1..=4 {
            let mut held = [0_usize; 4];
            for at in 0..200 {
                let worker = at % busy;
                let total = held.iter().sum();
                let least = (0..4).min_by_key(|&other| held[other]).unwrap_or(worker);
                let taker = if is_too_many(held[worker], total, 4) { least } else { worker };
                held[taker] += 1;
            }
            assert!(held.iter().all(|&held| held <= 75), "{held:?}");
        }
    }
}
