//! Servers that are in no table any more: how long they keep the streams that they have.
//!
//! What always holds: whoever takes a server up brings it back, whatever was noted of it before; a stream asks one flag,
//! and nobody but streams that last asks it.

use super::registry::{Registry, ServerState};
use crate::model::ServerId;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Whether a server has left, and since when.
#[derive(Debug, Default)]
pub(super) struct Departed {
    /// By the registry's clock, plus one; 0 while it is there.
    since: AtomicU64,
    over: AtomicBool,
}

impl Departed {
    /// It is there.
    pub(super) fn back(&self) {
        if self.since.load(Relaxed) != 0 {
            self.since.store(0, Relaxed);
            self.over.store(false, Relaxed);
        }
    }

    /// Whether what it still has is to end.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// It is not there; tells whether its time is over just now.
    fn away(&self, millis: u64, limit: u64) -> bool {
        let since = match self.since.compare_exchange(0, millis + 1, Relaxed, Relaxed) {
            Ok(_) => millis,
            Err(since) => since - 1,
        };
        millis.saturating_sub(since) >= limit && !self.over.swap(true, Relaxed)
    }
}

impl Registry {
    /// Notes which servers are there. Those that have been away for `limit` are to give up what they still have: how
    /// many such there are is told to [`Self::departures`].
    pub fn look_who_left(&self, now: Instant, limit: Duration, is_there: impl Fn(&ServerId) -> bool) {
        let millis = self.millis(now);
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let mut over = 0;
        self.each_server(|server: &ServerState| {
            if is_there(server.id()) {
                server.departed().back();
            } else if server.departed().away(millis, limit) && server.in_flight() > 0 {
                over += 1;
                let (service, url, streams) = (&server.id().service, &server.id().url, server.in_flight());
                tracing::info!(%service, server = %url, streams, "server left long ago; what it still has is ended");
            }
        });
        if over > 0 {
            self.departed_sender().send_modify(|all| *all = all.wrapping_add(over));
        }
    }

    /// Moves whenever servers are to give up what they still have.
    pub fn departures(&self) -> watch::Receiver<u64> {
        self.departed_sender().subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_has_its_time_and_who_comes_back_has_all_of_it_again() {
        let start = Instant::now();
        let registry = Registry::new(start);
        let id = |url: &str| ServerId { service: "a@nomad".into(), url: url.into() };
        let (stays, goes) = (registry.server(&id("http://10.0.0.1:80")), registry.server(&id("http://10.0.0.2:80")));
        goes.request(1);
        let mut told = registry.departures();
        let limit = Duration::from_secs(10);
        let look = |after: u64, all: bool| {
            registry.look_who_left(start + Duration::from_secs(after), limit, |id| all || id == stays.id());
        };
        look(0, false);
        look(9, false);
        assert!(!goes.is_over() && !told.has_changed().unwrap());
        look(10, false);
        assert!(goes.is_over() && !stays.is_over() && told.has_changed().unwrap());
        told.mark_unchanged();
        look(11, false);
        assert!(!told.has_changed().unwrap(), "once");
        look(12, true);
        assert!(!goes.is_over());
        look(13, false);
        look(22, false);
        assert!(!goes.is_over());
        look(23, false);
        assert!(goes.is_over() && told.has_changed().unwrap());
        goes.back();
        assert!(!goes.is_over());
    }
}
