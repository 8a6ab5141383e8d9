//! State by identity, shared by all workers.

use super::clients::ClientCounts;
use super::departed::Departed;
use super::service::ServiceState;
use super::verdict::{Checked, Failures, Verdict};
use crate::model::ServerId;
use crate::table::Passive;
use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// First time for which a refusing server is left alone.
const EJECT_FIRST: Duration = Duration::from_millis(500);
/// Longest such time.
const EJECT_MOST: Duration = Duration::from_secs(10);
/// Answers of which a mean response time is at most.
const SAMPLES: u64 = 100;
/// Bits for their number.
const SAMPLE_BITS: u32 = 7;
/// Longest response time that is told apart, in microseconds.
const LONGEST: u64 = 1 << 40;
/// Time without an answer after which a response time counts half.
const FORGET_HALF: Duration = Duration::from_secs(10);
/// How long an entry that nobody holds is kept.
const KEEP_UNUSED: Duration = Duration::from_secs(60);

/// Share of a service's servers, in percent, that may be left alone at once because of failed requests; one may always.
const MOST_EJECTED: usize = 50;

/// A value on a cache line of its own, so that workers writing to neighbours do not slow each other.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// All servers and services that are or recently were in use.
#[derive(Debug)]
pub struct Registry {
    started: Instant,
    // Taken when a worker takes up a changed service and by views; never for a request.
    servers: Mutex<HashMap<ServerId, Entry<ServerState>>>,
    services: Mutex<HashMap<Arc<str>, Entry<ServiceState>>>,
    // What else is remembered by a name; its type belongs to who remembers it.
    memories: Mutex<HashMap<Arc<str>, Entry<dyn Any + Send + Sync>>>,
    /// Below this share of healthy servers, in percent, all are served.
    panic_threshold: u8,
    verdicts: watch::Sender<u64>,
    departures: watch::Sender<u64>,
    // Taken for connections whose router counts them.
    clients: Mutex<HashMap<Arc<str>, Entry<ClientCounts>>>,
}

#[derive(Debug)]
struct Entry<T: ?Sized> {
    unused_since: Option<Instant>,
    state: Arc<T>,
}

impl<T> Entry<T> {
    fn new(state: T) -> Self {
        Self { state: Arc::new(state), unused_since: None }
    }
}

impl<T: ?Sized> Entry<T> {
    /// True while somebody else holds the state, or did until lately.
    fn stays(&mut self, now: Instant) -> bool {
        if Arc::strong_count(&self.state) > 1 {
            self.unused_since = None;
            return true;
        }
        now.duration_since(*self.unused_since.get_or_insert(now)) < KEEP_UNUSED
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(Instant::now())
    }
}

impl Registry {
    /// An empty registry whose clock starts at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            started: now,
            servers: Mutex::default(),
            services: Mutex::default(),
            memories: Mutex::default(),
            clients: Mutex::default(),
            panic_threshold: 0,
            verdicts: watch::Sender::new(0),
            departures: watch::Sender::new(0),
        }
    }

    /// Where fewer than `percent` of a service's servers are healthy, all are served (`rustLb.panicThreshold`).
    /// With 0 that is so only where none is.
    #[must_use]
    pub fn with_panic_threshold(self, percent: u8) -> Self {
        Self { panic_threshold: percent.min(100), ..self }
    }

    /// The share of healthy servers, in percent, below which all are served.
    pub fn panic_threshold(&self) -> u8 {
        self.panic_threshold
    }

    /// Moves whenever a server may have become able to answer: for requests that wait for one.
    pub fn verdicts(&self) -> watch::Receiver<u64> {
        self.verdicts.subscribe()
    }

    /// A server may have become able to answer.
    pub fn tell(&self) {
        self.verdicts.send_modify(|moves| *moves = moves.wrapping_add(1));
    }

    pub(super) fn departed_sender(&self) -> &watch::Sender<u64> {
        &self.departures
    }

    pub(super) fn each_server(&self, mut look: impl FnMut(&ServerState)) {
        lock(&self.servers).values().for_each(|entry| look(&entry.state));
    }

    /// The time that ejections are measured in: milliseconds since the registry was made.
    pub fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_millis() as u64
    }

    /// The moment of such a time.
    pub fn moment(&self, millis: u64) -> Instant {
        self.started.checked_add(Duration::from_millis(millis)).unwrap_or(self.started)
    }

    /// The state of a server, made if need be.
    pub fn server(&self, id: &ServerId) -> Arc<ServerState> {
        let mut servers = lock(&self.servers);
        if let Some(entry) = servers.get(id) {
            return entry.state.clone();
        }
        let entry = Entry::new(ServerState::new(id.clone(), self.millis(Instant::now())));
        let state = entry.state.clone();
        servers.insert(id.clone(), entry);
        state
    }

    /// The state of a service, made if need be.
    pub fn service(&self, id: &Arc<str>) -> Arc<ServiceState> {
        lock(&self.services).entry(id.clone()).or_insert_with(|| Entry::new(ServiceState::default())).state.clone()
    }

    /// What is remembered by a name, made if need be.
    pub fn memory<T: Any + Send + Sync>(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut memories = lock(&self.memories);
        if let Some(memory) = memories.get(name).and_then(|entry| entry.state.clone().downcast().ok()) {
            return memory;
        }
        let memory = Arc::new(make());
        memories.insert(name.into(), Entry { state: memory.clone(), unused_since: None });
        memory
    }

    /// How many connections each client has, by what limits them; made if need be.
    pub fn clients(&self, by: &Arc<str>) -> Arc<ClientCounts> {
        lock(&self.clients).entry(by.clone()).or_insert_with(|| Entry::new(ClientCounts::default())).state.clone()
    }

    /// Where a service's round robin stands; for the API. Nothing is made or moved.
    pub fn turn(&self, id: &Arc<str>) -> u32 {
        lock(&self.services).get(id).map_or(0, |entry| entry.state.turn())
    }

    /// Copies of requests for services as mirrors, by what became of them ([`crate::http::CopyFate::ALL`]), sorted by
    /// service; for metrics.
    pub fn copies(&self) -> Vec<(Arc<str>, [u64; 4])> {
        let services = lock(&self.services);
        let copies = services.iter().map(|(id, entry)| (id.clone(), entry.state.copies()));
        let mut copies: Vec<_> = copies.filter(|(_, copies)| *copies != [0; 4]).collect();
        copies.sort();
        copies
    }

    /// Requests that wait for a place at a server, of services that limit them, sorted by service; for metrics.
    pub fn queued(&self) -> Vec<(Arc<str>, u32)> {
        let services = lock(&self.services);
        let limited = services.iter().filter(|(_, entry)| entry.state.crowd().is_limited());
        let mut queued: Vec<_> = limited.map(|(id, entry)| (id.clone(), entry.state.waiting())).collect();
        queued.sort();
        queued
    }

    /// Lets go of what nobody has held for a while.
    pub fn sweep(&self, now: Instant) {
        lock(&self.servers).retain(|_, entry| entry.stays(now));
        lock(&self.services).retain(|_, entry| entry.stays(now));
        lock(&self.memories).retain(|_, entry| entry.stays(now));
        lock(&self.clients).retain(|_, entry| entry.stays(now));
    }

    /// Whether a server is thought able to answer; one that nobody has tried yet is. For the API.
    pub fn is_up(&self, id: &ServerId, now: Instant) -> bool {
        let millis = self.millis(now);
        lock(&self.servers).get(id).is_none_or(|entry| entry.state.trouble(millis).is_none())
    }

    /// Servers that are not thought able to answer, sorted by identity, and why; for the API.
    pub fn down(&self, now: Instant) -> Vec<(ServerId, Arc<str>)> {
        let millis = self.millis(now);
        let servers = lock(&self.servers);
        let trouble = servers.values().filter_map(|e| Some((e.state.id.clone(), e.state.trouble(millis)?)));
        let mut down: Vec<_> = trouble.collect();
        drop(servers);
        down.sort_by(|a, b| a.0.cmp(&b.0));
        down
    }

    /// All servers, sorted by identity; for the API.
    pub fn servers(&self, now: Instant) -> Vec<ServerView> {
        let millis = self.millis(now);
        let mut views: Vec<_> = lock(&self.servers)
            .values()
            .map(|entry| ServerView {
                id: entry.state.id.clone(),
                in_flight: entry.state.in_flight.0.load(Relaxed),
                connections: entry.state.connections.0.load(Relaxed),
                ejected: entry.state.is_ejected(millis),
                trouble: entry.state.trouble(millis),
            })
            .collect();
        views.sort_by(|a, b| a.id.cmp(&b.id));
        views
    }
}

/// A poisoned map is still a map: whoever panicked did so outside of a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server's state at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerView {
    /// Which.
    pub id: ServerId,
    /// Requests that it works on.
    pub in_flight: u32,
    /// Connections to it, used or not.
    pub connections: u32,
    /// Gets no requests just now, as long as there is another one.
    pub ejected: bool,
    /// Why it is not thought able to answer; `None` if it is.
    pub trouble: Option<Arc<str>>,
}

/// What is shared of a server.
#[derive(Debug)]
pub struct ServerState {
    id: ServerId,
    in_flight: Padded<AtomicU32>,
    connections: Padded<AtomicU32>,
    ejected_until: AtomicU64,
    ejections: AtomicU32,
    since: u64,
    response_time: Padded<ResponseTime>,
    /// When it first refused a connection since it was reached last, plus one; 0 if it has not.
    refused_since: AtomicU64,
    checked: Checked,
    /// By its catalog, apart from what is checked here: both have to be well.
    reported: Checked,
    failures: Failures,
    departed: Departed,
    /// Its service, once requests have been limited: those who wait are told when one ends.
    limited: OnceLock<Arc<ServiceState>>,
}

/// How quickly a server answers. Writers do not wait for each other: what one loses is one answer of many.
#[derive(Debug, Default)]
struct ResponseTime {
    /// Mean in microseconds, and in the lowest bits how many answers it is of.
    mean: AtomicU64,
    /// When the last answer came, in milliseconds.
    at: AtomicU64,
}

/// How a server stands, for a request that looks for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing speaks against it for good.
    Usable,
    /// Its first health check has not ended.
    Awaited,
    /// Its health check fails.
    Failing,
    /// It refuses connections since then, by the registry's clock.
    Refuses(u64),
}

impl ServerState {
    fn new(id: ServerId, since: u64) -> Self {
        Self {
            since,
            response_time: Padded::default(),
            id,
            in_flight: Padded::default(),
            connections: Padded::default(),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            refused_since: AtomicU64::new(0),
            checked: Checked::default(),
            reported: Checked::default(),
            failures: Failures::default(),
            departed: Departed::default(),
            limited: OnceLock::new(),
        }
    }

    /// Which server.
    pub fn id(&self) -> &ServerId {
        &self.id
    }

    /// Requests that it works on.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.0.load(Relaxed)
    }

    pub(super) fn departed(&self) -> &Departed {
        &self.departed
    }

    /// It is in the table that somebody goes by: what was noted of its leaving is forgotten.
    pub(super) fn back(&self) {
        self.departed.back();
    }

    /// Whether it left so long ago that what it still has is to end.
    pub fn is_over(&self) -> bool {
        self.departed.is_over()
    }

    /// Counts a request (1) or its end (-1).
    pub(super) fn request(&self, delta: i32) {
        self.in_flight.0.fetch_add(delta as u32, Relaxed);
    }

    /// Counts a request, unless that makes more than `most`.
    pub(super) fn request_below(&self, most: u32) -> bool {
        self.in_flight.0.fetch_update(Relaxed, Relaxed, |count| (count < most).then(|| count + 1)).is_ok()
    }

    /// Counts the end of a request.
    pub(super) fn request_ended(&self) {
        self.request(-1);
        if let Some(service) = self.limited.get() {
            service.place_freed();
        }
    }

    /// Those who wait for a place at the service's servers are told from now on.
    pub fn limit(&self, service: &Arc<ServiceState>) {
        self.limited.get_or_init(|| service.clone());
        service.crowd().limit();
    }

    /// Counts a connection (1) or its end (-1).
    pub(super) fn connection(&self, delta: i32) {
        self.connections.0.fetch_add(delta as u32, Relaxed);
    }

    /// Milliseconds since somebody first used it.
    pub fn age(&self, millis: u64) -> u64 {
        millis.saturating_sub(self.since)
    }

    /// Notes how long it took to the head of an answer. The mean is that of the last hundred answers or so, as in
    /// Traefik's `leasttime`.
    pub fn answered_in(&self, time: Duration, millis: u64) {
        let ResponseTime { mean, at } = &self.response_time.0;
        let (before, sample) = (mean.load(Relaxed), u64::try_from(time.as_micros()).unwrap_or(u64::MAX >> SAMPLE_BITS));
        let (count, total) = ((before & ((1 << SAMPLE_BITS) - 1)).min(SAMPLES - 1), before >> SAMPLE_BITS);
        let sample = sample.min(LONGEST);
        let new = (total * count + sample) / (count + 1);
        mean.store((new << SAMPLE_BITS) | (count + 1), Relaxed);
        at.store(millis, Relaxed);
    }

    /// How long it takes to the head of an answer, in microseconds and at least 1; `None` if it has not answered yet. Counts
    /// half after each ten seconds without an answer, so that one that was slow once is asked again.
    pub fn response_time(&self, millis: u64) -> Option<f64> {
        let ResponseTime { mean, at } = &self.response_time.0;
        let mean = mean.load(Relaxed);
        let halves = millis.saturating_sub(at.load(Relaxed)) / FORGET_HALF.as_millis() as u64;
        (mean != 0).then(|| (((mean >> SAMPLE_BITS) >> halves.min(63)) as f64).max(1.0))
    }

    /// True while it is left alone, whatever for: it refused connections, its health check has not passed, it failed
    /// too many requests. `millis` by the registry's clock.
    pub fn is_ejected(&self, millis: u64) -> bool {
        millis < self.ejected_until.load(Relaxed)
            || self.checked.speaks_against()
            || self.reported.speaks_against()
            || self.failures.ejects(millis)
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        match (self.refused_since.load(Relaxed), self.checked.verdict(), self.reported.verdict()) {
            (0, Verdict::Failing, _) | (0, _, Verdict::Failing) => Standing::Failing,
            (0, Verdict::Awaited, _) | (0, _, Verdict::Awaited) => Standing::Awaited,
            (0, ..) => Standing::Usable,
            (since, ..) => Standing::Refuses(since - 1),
        }
    }

    /// What its health check says.
    pub fn verdict(&self) -> Verdict {
        self.checked.verdict()
    }

    /// Whether something is still to be known about it before it may be used at all.
    pub fn is_awaited(&self) -> bool {
        [self.checked.verdict(), self.reported.verdict()].contains(&Verdict::Awaited)
    }

    /// Takes down what its catalog says of it.
    pub fn reported(&self, verdict: Verdict, why: Option<Arc<str>>) {
        self.reported.set(verdict, why);
    }

    /// What its catalog says of it.
    pub fn report(&self) -> Verdict {
        self.reported.verdict()
    }

    /// Takes a verdict down, with its reason.
    pub fn judged(&self, verdict: Verdict, why: Option<Arc<str>>) {
        self.checked.set(verdict, why);
    }

    /// Why it is not thought able to answer; for people.
    fn trouble(&self, millis: u64) -> Option<Arc<str>> {
        match self.checked.verdict() {
            Verdict::Awaited => return Some("its first health check has not ended yet".into()),
            Verdict::Failing => {
                let why = self.checked.why();
                return Some(format!("its health check fails: {}", why.as_deref().unwrap_or("no reason known")).into());
            }
            Verdict::Unchecked | Verdict::Passing => {}
        }
        match self.reported.verdict() {
            Verdict::Awaited => return Some("its checks in the catalog have not ended yet".into()),
            Verdict::Failing => {
                let why = self.reported.why();
                return Some(
                    format!("its check in the catalog fails: {}", why.as_deref().unwrap_or("no reason known")).into(),
                );
            }
            Verdict::Unchecked | Verdict::Passing => {}
        }
        if self.failures.ejects(millis) {
            return Some("it failed too many requests in a row".into());
        }
        if self.refused_since.load(Relaxed) != 0 {
            return Some("it refuses connections".into());
        }
        (self.ejections.load(Relaxed) != 0).then(|| "it could not be reached the last time".into())
    }

    /// Whether this request may go to it. After an ejection one request tries it, and the others
    /// leave it alone until that one knows: a server that swallows connections would otherwise hold as many
    /// as come within a dial time-out. Call it for a server that was chosen, and choose again when it says no.
    pub fn may_try(&self, millis: u64) -> bool {
        if self.checked.speaks_against() || self.reported.speaks_against() {
            return false;
        }
        let until = self.ejected_until.load(Relaxed);
        until == 0 || (millis >= until && self.eject(until, millis))
    }

    /// It refused a connection: nobody listens there. See [`Self::unreachable`] for what follows.
    pub fn refused(&self, millis: u64) {
        // One after the other; what counts is that the first time stays.
        let _ = self.refused_since.compare_exchange(0, millis + 1, Relaxed, Relaxed);
        self.unreachable(millis);
    }

    /// A request came to an end there that does not speak against it.
    pub fn served(&self) {
        if self.failures.passed() {
            tracing::info!(service = %self.id.service, server = %self.id.url, "server answers again");
        }
    }

    /// A request failed there. Leaves it alone if that is one too many by the rule, and not too many of the service's
    /// servers are already: `others` gives all of them.
    pub fn failed<'a>(&self, rule: &Passive, millis: u64, others: impl Iterator<Item = &'a ServerState>) {
        let may_eject = || {
            let (all, out) = others.fold((0, 0), |(all, out): (usize, usize), other| {
                (all + 1, out + usize::from(other.failures.ejects(millis)))
            });
            (out + 1) * 100 <= all * MOST_EJECTED || out == 0
        };
        if let Some(time) = self.failures.failed(rule, millis, may_eject) {
            let (service, server) = (&self.id.service, &self.id.url);
            tracing::warn!(%service, %server, failures = rule.failures, for_ = ?time, "server fails requests and is left alone");
        }
    }

    /// No connection could be made: it is left alone, longer each time in a row.
    pub fn unreachable(&self, millis: u64) {
        let until = self.ejected_until.load(Relaxed);
        if millis < until {
            return; // Requests that failed together count once, and so does one that was let try.
        }
        self.eject(until, millis);
    }

    /// Leaves it alone from now on, unless another one has just done so.
    fn eject(&self, until: u64, millis: u64) -> bool {
        let doublings = self.ejections.load(Relaxed).min(16);
        let time = EJECT_FIRST.saturating_mul(1 << doublings).min(EJECT_MOST).as_millis() as u64;
        let ours = self.ejected_until.compare_exchange(until, millis + time, Relaxed, Relaxed).is_ok();
        if ours && self.ejections.fetch_add(1, Relaxed) == 0 {
            let refuses = self.refused_since.load(Relaxed) != 0;
            let why = if refuses { "it refuses connections" } else { "no connection could be made" };
            tracing::warn!(service = %self.id.service, server = %self.id.url, why, "server is left alone for a moment");
        }
        ours
    }

    /// A connection was made, or an answer came by one: the past is forgotten.
    pub fn reachable(&self) {
        if self.ejections.load(Relaxed) != 0 {
            self.refused_since.store(0, Relaxed);
            self.ejected_until.store(0, Relaxed);
            if self.ejections.swap(0, Relaxed) != 0 {
                tracing::info!(service = %self.id.service, server = %self.id.url, "server takes connections again");
            }
        }
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
