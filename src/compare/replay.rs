//! Sends each request to both proxies, at a rate, a few at a time. What differs is asked again on both: where the old
//! proxy differs from itself in the same thing, the page is unstable and not a difference.

use super::client::{Client, Proxy, Trouble};
use super::differ::{Aspect, Difference, Got, Rules, differences};
use super::request::Request;
use http::Version;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Refused connections in a row after which a proxy is taken to be gone.
const GONE: usize = 20;

/// What is replayed, and how.
#[derive(Debug)]
pub struct Replay {
    /// The proxy that is known to be right.
    pub old: Proxy,
    /// The one to be tried.
    pub new: Proxy,
    /// The requests, in order.
    pub requests: Vec<Request>,
    /// What counts as a difference.
    pub rules: Rules,
    /// Requests a second to each proxy; nothing for no limit.
    pub rate: Option<f64>,
    /// Requests at once.
    pub concurrency: usize,
    /// How often a request that differs is asked again.
    pub repeat: u32,
}

/// What came of one request.
#[derive(Debug)]
pub struct Verdict {
    /// Its place in [`Replay::requests`].
    pub request: usize,
    /// What differs; nothing where the answers are the same.
    pub differences: Vec<Difference>,
    /// In what the old proxy differs from itself.
    pub unstable: BTreeSet<Aspect>,
    /// In what the answers were the same when asked again, at least once.
    pub wavering: BTreeSet<Aspect>,
    /// How often it was asked again.
    pub repeated: u32,
    /// Why the old and the new proxy gave no answer; the time of each, where it gave one.
    pub old: Result<Duration, super::NoAnswer>,
    /// As `old`.
    pub new: Result<Duration, super::NoAnswer>,
    /// What each spoke, where it answered: the old and the new one.
    pub versions: [Option<Version>; 2],
}

/// Hands out times at which requests may go.
struct Pace {
    gap: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    async fn turn(&self) {
        if self.gap.is_zero() {
            return;
        }
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            *next = at + self.gap;
            at
        };
        sleep_until(at).await;
    }
}

struct Shared {
    replay: Arc<Replay>,
    pace: Pace,
    next: AtomicUsize,
    /// Refused connections in a row, old and new.
    refused: [AtomicUsize; 2],
    stopped: AtomicBool,
}

/// Replays all; each verdict goes to `told`. True when it came to the end, false when a proxy was gone.
pub async fn replay(replay: Arc<Replay>, told: mpsc::Sender<Verdict>) -> bool {
    let gap = replay.rate.filter(|rate| *rate > 0.0).map_or(0.0, f64::recip);
    let gap = Duration::try_from_secs_f64(gap).unwrap_or(Duration::from_secs(3600));
    let askers = replay.concurrency.clamp(1, 1024);
    let shared = Arc::new(Shared {
        replay,
        pace: Pace { gap, next: Mutex::new(Instant::now()) },
        next: AtomicUsize::new(0),
        refused: [AtomicUsize::new(0), AtomicUsize::new(0)],
        stopped: AtomicBool::new(false),
    });
    let mut set = JoinSet::new();
    for _ in 0..askers {
        set.spawn(asker(shared.clone(), told.clone()));
    }
    drop(told);
    while set.join_next().await.is_some() {}
    !shared.stopped.load(Ordering::Relaxed)
}

async fn asker(shared: Arc<Shared>, told: mpsc::Sender<Verdict>) {
    let replay = shared.replay.clone();
    let mut pair = (Client::new(&replay.old), Client::new(&replay.new));
    while !shared.stopped.load(Ordering::Relaxed) {
        let at = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = replay.requests.get(at) else { return };
        let verdict = shared.judge(at, request, &mut pair).await;
        // nobody listens any more: the command ended
        if told.send(verdict).await.is_err() {
            return;
        }
    }
}

impl Shared {
    async fn ask(&self, request: &Request, (old, new): &mut (Client<'_>, Client<'_>)) -> (Got, Got) {
        self.pace.turn().await;
        let got = tokio::join!(old.ask(request), new.ask(request));
        for (count, got) in self.refused.iter().zip([&got.0, &got.1]) {
            if got.as_ref().is_err_and(|error| error.trouble == Trouble::Connect) {
                if count.fetch_add(1, Ordering::Relaxed) + 1 >= GONE {
                    self.stopped.store(true, Ordering::Relaxed);
                }
            } else {
                count.store(0, Ordering::Relaxed);
            }
        }
        got
    }

    async fn judge(&self, at: usize, request: &Request, pair: &mut (Client<'_>, Client<'_>)) -> Verdict {
        let Replay { old: of_old, new: of_new, rules, repeat, .. } = &*self.replay;
        let (old, new) = self.ask(request, pair).await;
        let mut found = differences(rules, (&old, of_old), (&new, of_new));
        let aspects = |found: &[Difference]| found.iter().map(|d| d.aspect.clone()).collect::<BTreeSet<_>>();
        let first = aspects(&found);
        let (mut unstable, mut wavering, mut repeated) = (BTreeSet::new(), BTreeSet::new(), 0);
        // what changes something is not done twice
        while !found.is_empty() && request.is_safe() && repeated < *repeat && !first.is_subset(&unstable) {
            let (again, new_again) = self.ask(request, pair).await;
            repeated += 1;
            let mut own = aspects(&differences(rules, (&old, of_old), (&again, of_old)));
            // times are held against those of the same moment
            own.remove(&Aspect::Time);
            unstable.extend(own);
            let still = aspects(&differences(rules, (&again, of_old), (&new_again, of_new)));
            wavering.extend(first.difference(&still).cloned());
        }
        unstable.retain(|aspect| first.contains(aspect));
        // one slow answer is chance
        if wavering.remove(&Aspect::Time) {
            found.retain(|difference| difference.aspect != Aspect::Time);
        }
        wavering.retain(|aspect| !unstable.contains(aspect));
        found.retain(|difference| !unstable.contains(&difference.aspect));
        let versions = [&old, &new].map(|got| got.as_ref().ok().map(|answer| answer.version));
        let (old, new) = (old.map(|answer| answer.took), new.map(|answer| answer.took));
        Verdict { request: at, differences: found, unstable, wavering, repeated, old, new, versions }
    }
}
