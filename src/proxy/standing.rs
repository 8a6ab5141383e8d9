//! What may be expected of a service's servers as a whole, and knocking at those that refuse connections while
//! requests wait for one of them.
//!
//! What always holds: a request waits only where waiting may help, and for servers that refuse connections no longer
//! than `linger.wait` from their first refusal on; after that they are tried by each request, which is answered at
//! once, until one of them takes a connection. A worker knocks at a server once at a time, whatever number of
//! requests wait, and not at all when none does.

use super::service::{BoundServer, BoundService};
use crate::upstream::{Registry, Standing};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// First pause between two knocks; it doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(80);
/// For one knock.
const KNOCK: Duration = Duration::from_secs(1);
/// Servers of one service that are knocked at.
const MOST_SERVERS: usize = 16;

/// What may be expected of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Some server may be asked.
    Good,
    /// None may be asked now, and waiting may help: until then by the registry's clock, or for as long as anybody
    /// wants to wait. `serve`: afterwards one may be asked that is thought unhealthy.
    Wait { until: Option<u64>, serve: bool },
    /// All servers have refused connections for too long to be waited for.
    Bad,
}

/// Held by each request for which somebody knocks.
#[derive(Debug)]
pub(super) struct Knocking;

impl BoundService {
    /// What may be expected; looks no further than to the first server of which nothing bad is known.
    pub(super) fn outlook(&self, registry: &Registry, patience: Duration) -> Outlook {
        let mut awaited = self.servers.is_empty();
        let (mut failing, mut until) = (false, 0);
        for server in &self.servers {
            match server.pool.state().standing() {
                Standing::Usable => return Outlook::Good,
                Standing::Awaited => awaited = true,
                Standing::Failing => failing = true,
                Standing::Refuses(since) => until = until.max(since.saturating_add(patience.as_millis() as u64)),
            }
        }
        match (awaited, failing) {
            (true, serve) => Outlook::Wait { until: None, serve },
            // Where none is healthy all are served.
            (false, true) => Outlook::Good,
            (false, false) if until > registry.millis(std::time::Instant::now()) => {
                Outlook::Wait { until: Some(until), serve: false }
            }
            (false, false) => Outlook::Bad,
        }
    }

    /// Whether so few servers are healthy that all are served (`rustLb.panicThreshold`). Where none is, that is so anyway.
    pub(super) fn panics(&self, now: u64, registry: &Registry) -> bool {
        let threshold = usize::from(registry.panic_threshold());
        if threshold == 0 {
            return false;
        }
        let judged = self.servers.iter().filter(|server| server.is_judged());
        let (well, all) = judged.fold((0, 0), |(well, all): (usize, usize), server| {
            (well + usize::from(!server.pool.state().is_ejected(now)), all + 1)
        });
        well * 100 < all * threshold
    }

    /// Has the servers that refuse connections knocked at for as long as what is given is held.
    pub(super) fn knock(self: &Rc<Self>, registry: &Arc<Registry>) -> Rc<Knocking> {
        if let Some(knocking) = self.knocking.borrow().upgrade() {
            return knocking;
        }
        let knocking = Rc::new(Knocking);
        *self.knocking.borrow_mut() = Rc::downgrade(&knocking);
        tokio::task::spawn_local(knock(self.clone(), registry.clone(), Rc::downgrade(&knocking)));
        knocking
    }
}

impl BoundServer {
    /// Whether nothing is to be known about it first.
    pub(super) fn is_judged(&self) -> bool {
        !self.pool.state().is_awaited()
    }
}

async fn knock(service: Rc<BoundService>, registry: Arc<Registry>, wanted: Weak<Knocking>) {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        if wanted.strong_count() == 0 {
            return;
        }
        let refuse = |server: &&BoundServer| matches!(server.pool.state().standing(), Standing::Refuses(_));
        let mut knocks: FuturesUnordered<_> =
            service.servers.iter().filter(refuse).take(MOST_SERVERS).map(knock_at).collect();
        while let Some(opened) = knocks.next().await {
            if opened {
                registry.tell();
            }
        }
    }
}

/// Whether a server takes connections. The one that was made is for the next request.
async fn knock_at(server: &BoundServer) -> bool {
    let pool = &server.pool;
    let Ok(Ok(connection)) = tokio::time::timeout(KNOCK, pool.connect(None)).await else { return false };
    pool.state().reachable();
    if pool.http2(false).is_none() {
        pool.put(connection, Instant::now());
    }
    true
}
