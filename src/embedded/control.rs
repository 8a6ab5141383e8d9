//! What a test may ask of an embedded catalog, and what it may count.
//!
//! A [`Control`] holds the behaviours that go beyond the state: whether there is a leader, whether
//! the process is paused, which answers are spoilt, how many connections a client may hold; and
//! the counters of connections and requests. [`Control::until`] waits for a count, so that a test
//! needs no sleep: `until(|s| s.blocked == 3)`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Distinct paths that are counted apart; a bound against strangers.
const MAX_PATHS: usize = 10_000;

/// How the raft cluster behind the agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leader {
    Known,
    /// Just started: every request hangs until there is one.
    Electing,
    /// Default reads fail after `hang`, stale ones go on.
    Lost {
        since: Instant,
        hang: Duration,
    },
}

/// What an answer says of the leader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contact {
    pub(crate) known_leader: bool,
    pub(crate) last_contact: Duration,
}

/// A spoilt answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The right head, half of the body, then the end of the connection.
    Truncated,
    /// 200 with a web page, as a proxy in between answers.
    Html,
    /// 200 with `[`, this many blanks, and `]`.
    Huge(usize),
    /// The right answer under another index.
    Index(u64),
    /// The right head over another body.
    Body(String),
    /// This status with this text.
    Status(u16, String),
    /// Bytes that are not HTTP.
    Garbage,
    /// The connection ends without an answer.
    Close,
    /// Nothing, for ever.
    Silence,
}

/// Counters of an embedded catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections open now, event streams among them.
    pub connections: usize,
    /// Event streams open now.
    pub streams: usize,
    /// Blocking queries asleep now.
    pub blocked: usize,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Connections turned away by the limit so far.
    pub refused: u64,
    /// Requests so far, by method and path without query: `GET /v1/services`.
    pub requests: BTreeMap<String, u64>,
}

impl Stats {
    /// Requests to a path so far, whatever the method.
    pub fn requests_to(&self, path: &str) -> u64 {
        self.requests
            .iter()
            .filter(|(key, _)| key.split_once(' ').is_some_and(|(_, p)| p == path))
            .map(|(_, n)| n)
            .sum()
    }
}

#[derive(Debug)]
pub(crate) struct State {
    leader: watch::Sender<Leader>,
    frozen: watch::Sender<bool>,
    /// Cut off from its clients.
    apart: watch::Sender<bool>,
    /// Counts how often the connections that were open were lost on the way.
    strands: watch::Sender<u64>,
    /// How late answers are.
    lateness: watch::Sender<Duration>,
    stats: watch::Sender<Stats>,
    faults: Mutex<VecDeque<(String, Fault)>>,
    limit: Mutex<usize>,
    by_client: Mutex<HashMap<IpAddr, usize>>,
}

/// Locks; what a panicking test left behind is as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Behaviours and counters of one embedded catalog.
#[derive(Debug, Clone)]
pub struct Control {
    pub(crate) state: Arc<State>,
}

impl Control {
    pub(crate) fn new(limit: usize) -> Self {
        let state = State {
            leader: watch::Sender::new(Leader::Known),
            frozen: watch::Sender::new(false),
            apart: watch::Sender::new(false),
            strands: watch::Sender::new(0),
            lateness: watch::Sender::new(Duration::ZERO),
            stats: watch::Sender::new(Stats::default()),
            faults: Mutex::default(),
            limit: Mutex::new(limit),
            by_client: Mutex::default(),
        };
        Self { state: Arc::new(state) }
    }

    /// Spoils the next answer to a path that starts with this; several wait in line.
    pub fn spoil(&self, path_prefix: impl Into<String>, fault: Fault) {
        lock(&self.state.faults).push_back((path_prefix.into(), fault));
    }

    /// Takes back what was to be spoilt and was not yet.
    pub fn unspoil(&self) {
        lock(&self.state.faults).clear();
    }

    /// As SIGSTOP: connections are accepted by the kernel and nothing is answered or ended any
    /// more; as SIGCONT: what waited is answered.
    pub fn freeze(&self, on: bool) {
        self.state.frozen.send_replace(on);
    }

    /// As a network that is cut: what is open stays open and silent, and a new connection's first packet is
    /// dropped (the kernel does so once the queue of a listener is full), so that connecting takes for ever; nothing is refused or
    /// ended. Joined again, what waited is answered.
    pub fn partition(&self, on: bool) {
        self.state.apart.send_replace(on);
    }

    /// As a firewall that forgets: every connection open now stays silent for ever, and is neither answered nor ended;
    /// new ones are served.
    pub fn strand(&self) {
        self.state.strands.send_modify(|times| *times += 1);
    }

    /// Every answer is so late: what it says is by then as old. Lines of event streams, too.
    pub fn slow(&self, by: Duration) {
        self.state.lateness.send_replace(by);
    }

    /// There is no leader, and was none for `since`: default reads fail with 500 after `hang`,
    /// blocked ones at once; stale ones go on and say so.
    pub fn lose_leader(&self, since: Duration, hang: Duration) {
        let now = Instant::now();
        let since = now.checked_sub(since).unwrap_or(now);
        self.state.leader.send_replace(Leader::Lost { since, hang });
    }

    /// As an agent just started: every request hangs until [`Control::elect`].
    pub fn await_leader(&self) {
        self.state.leader.send_replace(Leader::Electing);
    }

    /// There is a leader (again).
    pub fn elect(&self) {
        self.state.leader.send_replace(Leader::Known);
    }

    /// Connections that one client address may hold.
    pub fn limit_connections(&self, limit: usize) {
        *lock(&self.state.limit) = limit;
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        self.state.stats.borrow().clone()
    }

    /// Waits until the counters pass a test; gives them as they were then.
    pub async fn until(&self, test: impl FnMut(&Stats) -> bool) -> Stats {
        let mut stats = self.state.stats.subscribe();
        match stats.wait_for(test).await {
            Ok(stats) => stats.clone(),
            Err(_) => self.stats(), // the sender lives as long as we do
        }
    }
}

impl State {
    pub(crate) fn fault_for(&self, path: &str) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        let at = faults.iter().position(|(prefix, _)| path.starts_with(prefix.as_str()))?;
        faults.remove(at).map(|(_, fault)| fault)
    }

    /// Completes when the process is neither paused nor cut off.
    pub(crate) async fn thawed(&self) {
        loop {
            let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
            let _ = self.apart.subscribe().wait_for(|apart| !apart).await;
            if !*self.frozen.borrow() {
                return;
            }
        }
    }

    /// Waits as long as answers are late now.
    pub(crate) async fn late(&self) {
        let by = *self.lateness.borrow();
        if !by.is_zero() {
            tokio::time::sleep(by).await;
        }
    }

    /// Whether it is cut off, now and from now on.
    pub(crate) fn apart(&self) -> watch::Receiver<bool> {
        self.apart.subscribe()
    }

    /// Completes when what is open now is stranded.
    pub(crate) fn stranded(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut strands = self.strands.subscribe();
        let before = *strands.borrow_and_update();
        async move {
            if strands.wait_for(|times| *times != before).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Waits as a server does that must find its leader; false when there is none and the read
    /// needs one.
    pub(crate) async fn leader(&self, stale: bool) -> bool {
        let mut leader = self.leader.subscribe();
        loop {
            let now = *leader.borrow_and_update();
            match now {
                Leader::Known => return true,
                Leader::Lost { .. } if stale => return true,
                Leader::Lost { hang, .. } => {
                    tokio::select! {
                        () = tokio::time::sleep(hang) => return false,
                        _ = leader.changed() => {}
                    }
                }
                Leader::Electing => {
                    let _ = leader.changed().await;
                }
            }
        }
    }

    /// Completes when the leader is lost.
    pub(crate) async fn leader_lost(&self) {
        let _ = self.leader.subscribe().wait_for(|leader| matches!(leader, Leader::Lost { .. })).await;
    }

    pub(crate) fn contact(&self) -> Contact {
        match *self.leader.borrow() {
            Leader::Lost { since, .. } => Contact { known_leader: false, last_contact: since.elapsed() },
            _ => Contact { known_leader: true, last_contact: Duration::ZERO },
        }
    }

    pub(crate) fn count_request(&self, method: &str, path: &str) {
        self.stats.send_modify(|stats| {
            let key = format!("{method} {path}");
            let key = if stats.requests.len() < MAX_PATHS || stats.requests.contains_key(&key) {
                key
            } else {
                "* (other)".into()
            };
            *stats.requests.entry(key).or_default() += 1;
        });
    }

    pub(crate) fn count_refused(&self) {
        self.stats.send_modify(|stats| stats.refused += 1);
    }

    /// Takes one of the client's places; `None` when all are taken.
    pub(crate) fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let limit = *lock(&self.limit);
        let mut places = lock(&self.by_client);
        let held = places.entry(client).or_default();
        if *held >= limit {
            return None;
        }
        *held += 1;
        Some(Place { state: self.clone(), client })
    }

    pub(crate) fn counted(self: &Arc<Self>, what: fn(&mut Stats) -> &mut usize) -> Counted {
        self.stats.send_modify(|stats| *what(stats) += 1);
        Counted { state: self.clone(), what }
    }

    pub(crate) fn count_accepted(&self) {
        self.stats.send_modify(|stats| stats.accepted += 1);
    }
}

/// A place under the connection limit.
#[derive(Debug)]
pub(crate) struct Place {
    state: Arc<State>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = lock(&self.state.by_client);
        if let Some(held) = places.get_mut(&self.client) {
            *held -= 1;
            if *held == 0 {
                places.remove(&self.client);
            }
        }
    }
}

/// One in a counter, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted {
    state: Arc<State>,
    what: fn(&mut Stats) -> &mut usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.state.stats.send_modify(|stats| *(self.what)(stats) -= 1);
    }
}
