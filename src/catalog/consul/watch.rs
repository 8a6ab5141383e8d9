//! The watcher of one namespace: keeps list, watchers and reads together, and publishes what
//! comes of them.
//!
//! Everything happens in one loop over what list, watchers, readers and timers bring. What always
//! holds: whatever fails, the last good services stay; all failures share one back-off, and one
//! read of the list, not a return of hundreds of watchers, finds out whether the agent is back.

mod doorbell;
mod pulse;

use super::decode;
use super::reader::{Job, Paths, Readers};
use super::state::{Read, State};
use super::watcher::{self, Told};
use crate::catalog::believe::{Trust, trust};
use crate::catalog::http::{Agent, Answer, Error, Lane, Meta};
use crate::catalog::looks::Looks;
use crate::catalog::names::Names;
use crate::catalog::poll::{self, Backoff, Bucket, Early, Poll, Step};
use crate::catalog::publish::Publisher;
use crate::catalog::pulse::Pulse;
use crate::catalog::reach::Reach;
use crate::catalog::{Instance, Spawn};
use crate::config::ConsulProvider;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

type Pending<T> = Option<(Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>, Instant)>;

/// Where the watcher stands.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// After a failure, until then.
    Waiting(Instant),
    /// The list is being read.
    Listing,
    /// The routed names are being read.
    Reading(Trust),
    /// Complete.
    Live,
}

/// The watcher.
pub struct Watch {
    agent: Agent,
    paths: Paths,
    stale: bool,
    spawn: Spawn,
    publisher: Publisher,
    state: State,
    rng: SmallRng,

    phase: Phase,
    backoff: Backoff,
    /// Pauses while nobody listens.
    knocks: Backoff,
    reset: bool,
    /// The last empty list said that what is not allowed is denied (later versions do).
    denies: bool,

    list_lane: Lane,
    list: Poll,
    list_at: Option<Instant>,
    list_rate: Bucket,
    /// Least time between two lists of the size of the last.
    list_pace: Duration,
    list_early: Early,
    list_wait: Duration,
    /// How often everything is read anew because the index went back.
    resets: Bucket,
    blocked: Pending<Answer>,

    read_lanes: Vec<Lane>,
    readers: Readers,
    outstanding: BTreeSet<Arc<str>>,
    broken: BTreeMap<Arc<str>, String>,
    broken_at: Option<Instant>,
    looks: Looks,

    watchers: BTreeMap<Arc<str>, AbortOnDropHandle<()>>,
    told: (mpsc::Sender<Told>, mpsc::Receiver<Told>),
    /// `watchConnections`, and what the agent turned out to allow.
    wanted: usize,
    allowed: usize,
    /// Watchers that ended although the agent answers: since when, how many, which.
    strikes: Option<(Instant, usize)>,
    struck: BTreeSet<Arc<str>>,

    doorbell: bool,
    checks_lane: Lane,
    checks: Poll,
    checks_early: Early,
    checks_wait: Duration,
    rung: Pending<Meta>,
    /// When to wait for the next ring: after what it told was asked for.
    listen_at: Option<Instant>,
    ring_rate: Bucket,
    ring_at: Option<Instant>,

    missing: BTreeSet<&'static str>,
    published: Instant,
    pulse: Pulse,
    reach: Reach,
}

/// Rights in the words of Consul's policies.
const SERVICES: &str = "service_prefix \"\" needs `read`";
const NODES: &str = "node_prefix \"\" needs `read`";

/// A list that is empty because there is nothing.
const NOTHING: decode::List<'static> = decode::List { routed: Names::none(), servers: false, is_empty: true };

impl Watch {
    /// A watcher that has not asked yet.
    pub fn new(
        agent: Agent,
        paths: Paths,
        config: &ConsulProvider,
        namespace: &str,
        spawn: Spawn,
        publisher: Publisher,
    ) -> Result<Self, Error> {
        let timing = spawn.timing;
        let stale = config.common.stale;
        let read_lanes = Readers::lanes(&agent)?;
        // Mostly idle, and as old as the others.
        let pulse_lane = read_lanes[0].clone();
        let now = Instant::now();
        Ok(Self {
            readers: Readers::new(&read_lanes, &paths, stale, timing),
            state: State::new(spawn.clone(), namespace),
            rng: SmallRng::from_rng(&mut rand::rng()),
            phase: Phase::Waiting(now),
            backoff: Backoff::new(timing.backoff.0, timing.backoff.1),
            knocks: Backoff::new(timing.backoff.0, timing.reconnect),
            reset: false,
            denies: false,
            list_lane: agent.lane()?,
            list: Poll::after(spawn.before.as_ref().map_or(0, |before| before.index)),
            list_at: None,
            list_rate: Bucket::new(4, poll::pace(0)),
            list_pace: poll::pace(0),
            list_early: Early::default(),
            list_wait: Duration::ZERO,
            resets: Bucket::new(2, Duration::from_secs(5)),
            blocked: None,
            read_lanes,
            outstanding: BTreeSet::new(),
            broken: BTreeMap::new(),
            broken_at: None,
            looks: Looks::default(),
            watchers: BTreeMap::new(),
            told: mpsc::channel(64),
            wanted: config.watch_connections,
            allowed: config.watch_connections,
            strikes: None,
            struck: BTreeSet::new(),
            doorbell: false,
            checks_lane: agent.lane()?,
            checks: Poll::default(),
            checks_early: Early::default(),
            checks_wait: Duration::ZERO,
            rung: None,
            listen_at: None,
            ring_rate: Bucket::new(2, Duration::from_secs(1)),
            ring_at: None,
            missing: BTreeSet::new(),
            published: now,
            pulse: Pulse::start(agent.clone(), pulse_lane, timing.pulse),
            reach: Reach::new(now),
            agent,
            paths,
            stale,
            spawn,
            publisher,
        })
    }

    /// Watches until the source is shut down.
    pub async fn run(mut self, forget: Arc<Notify>) {
        let shutdown = self.spawn.shutdown.clone();
        loop {
            let wake = self.next_timer();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                (answer, asked) = pending(&mut self.blocked) => self.listed(answer, asked),
                Some(told) = self.told.1.recv() => self.told(told),
                Some((job, answer)) = self.readers.answers.recv() => self.answered(job, answer),
                (answer, asked) = pending(&mut self.rung) => self.rung(answer, asked),
                beat = self.pulse.beat() => self.beat(beat),
                () = forget.notified() => self.forget(),
                () = sleep_until(wake) => self.timers(Instant::now()),
            }
        }
    }

    fn next_timer(&self) -> Instant {
        let phase = match self.phase {
            Phase::Waiting(at) => Some(at),
            _ => None,
        };
        let ring = self.ring_at.filter(|_| self.outstanding.is_empty());
        [phase, self.list_at, self.broken_at, ring, self.listen_at, self.looks.due()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    fn timers(&mut self, now: Instant) {
        if self.looks.due().is_some_and(|at| at <= now) {
            self.look(now);
        }
        if matches!(self.phase, Phase::Waiting(at) if at <= now) {
            self.phase = Phase::Listing;
            self.list.at_once();
            self.block();
        }
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = None;
            if self.state.waits_for_list() {
                self.list.at_once();
                self.blocked = None;
            }
            if self.blocked.is_none() {
                self.block();
            }
        }
        if self.broken_at.is_some_and(|at| at <= now) {
            self.broken_at = None;
            // What rights hid moves no index when they come back, so nobody who waits is woken for it.
            let names = self.broken.keys().chain(self.state.doubted()).cloned().collect();
            self.ask(names, true);
        }
        if self.listen_at.is_some_and(|at| at <= now) {
            self.listen_at = None;
            self.wait_for_ring();
        }
        if self.ring_at.is_some_and(|at| at <= now) && self.outstanding.is_empty() {
            self.ring_at = None;
            let names = self.state.listed().iter().cloned().collect();
            self.ask(names, false);
        }
    }

    /// Asks for the list: at once after a failure or a doubt, else when it changes.
    fn block(&mut self) {
        let timing = self.spawn.timing;
        let query = self.list.query(&timing.waits, &mut self.rng);
        self.list_wait = query.wait;
        let (lane, stale) = (self.list_lane.clone(), self.stale);
        let asked: Pin<Box<dyn Future<Output = _> + Send>> = if query.index.is_some() {
            let path = self.paths.list(&with_stale(query.parameters(), stale));
            Box::pin(async move { lane.get(&path, query.deadline).await })
        } else {
            let path = self.paths.list("");
            Box::pin(async move { lane.read(&path, stale, query.deadline, timing.stale_bound).await })
        };
        self.blocked = Some((asked, Instant::now()));
    }

    fn listed(&mut self, answer: Result<Answer, Error>, asked: Instant) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.refuse_or_fail(&error),
        };
        let namespace = self.state.namespace().clone();
        let list = match decode::list(&answer.body, &namespace, self.spawn.as_routes()) {
            Ok(list) => list,
            Err(error) => return self.fail(&error.to_string()),
        };
        if list.is_empty {
            self.denies = answer.meta.default_deny || answer.meta.filtered;
            // Every server lists itself: nothing at all is what a caller without rights sees.
            // Nodes tell, since there is always one.
            self.phase = Phase::Listing;
            self.reset |= self.list.answered(answer.meta.index) == Step::Back;
            return self.readers.ask(Job::Nodes, true);
        }
        self.list_pace = poll::pace(answer.body.len());
        let step = self.list.answered(answer.meta.index);
        self.take(&list, answer.meta, step, asked);
    }

    fn take(&mut self, list: &decode::List<'_>, meta: Meta, step: Step, asked: Instant) {
        let now = Instant::now();
        if step == Step::Back && !matches!(self.phase, Phase::Listing) {
            // Read everything anew: what the watchers wait for is void as well.
            self.reset = true;
            self.watchers.clear();
            self.list_at = None;
            // Two servers that disagree behind one address must not keep both busy.
            let at = self.resets.take(now);
            if at > now {
                self.phase = Phase::Waiting(at);
                return;
            }
            self.phase = Phase::Listing;
            return self.block();
        }
        self.reset |= step == Step::Back;
        let sync = self.phase == Phase::Listing;
        self.state.belief.away(self.reach.read(now));
        let reset = std::mem::take(&mut self.reset);
        let trust = self.trust(meta, reset);
        if trust == Trust::Reset {
            tracing::warn!(index = self.list.index(), "consul's index went back: its state was wiped or restored");
        }
        self.contact(meta);
        let next = self.state.list(list, trust, asked, now);
        self.lack(SERVICES, next.narrowed);
        for name in &next.gone {
            self.watchers.remove(name);
        }
        if next.changed {
            self.watchers.retain(|name, _| self.state.listed().contains(name));
        }
        self.broken.retain(|name, _| self.state.listed().contains(name));
        if sync {
            self.phase = Phase::Reading(trust);
        } else {
            self.publisher.connected(trust == Trust::Aged, self.agent.connections());
        }
        self.choose_strategy();
        self.ask(next.read, true);
        self.ask(next.gone, true);
        // Every watcher is of a name that is listed.
        if sync || !self.doorbell && self.watchers.len() < self.state.listed().len() {
            let unwatched = |name: &&Arc<str>| sync || !self.watchers.contains_key(*name);
            let names = self.state.listed().iter().filter(unwatched).cloned().collect();
            self.ask(names, false);
        }
        if self.doorbell && step == Step::Forward && !sync {
            self.ring();
        }
        // Where names come and go, more may follow; where only instances change, others tell of it.
        self.list_rate.set_every(self.list_pace * if next.changed { 1 } else { 2 }, now);
        let looking = self.looks.take_list();
        let pause = if looking { Duration::ZERO } else { self.list_early.pause(step, now - asked, self.list_wait) };
        self.list_at = Some(self.list_rate.take(now).max(now + pause));
        self.complete();
    }

    /// Reads names, each once at a time.
    fn ask(&mut self, names: Vec<Arc<str>>, urgent: bool) {
        for name in names {
            // What waits for its turn is brought forward by asking again.
            if self.outstanding.insert(name.clone()) || urgent {
                self.readers.ask(Job::Service(name), urgent);
            }
        }
    }

    fn answered(&mut self, job: Job, answer: Result<Answer, Error>) {
        let name = match job {
            Job::Service(name) => name,
            Job::Nodes => return self.nodes(answer),
        };
        self.outstanding.remove(&name);
        let read = answer.and_then(|answer| Ok((decode::service(&answer.body)?, answer.meta)));
        match read {
            Ok((instances, meta)) => {
                if self.broken.remove(&name).is_some() {
                    self.notes();
                }
                self.survived(&name);
                self.contact(meta);
                let empty = instances.is_empty();
                self.read(&name, instances, meta);
                self.watch(&name, meta.index, empty);
                self.complete();
            }
            Err(error) if error.is_of_one_answer() && !error.is_refusal() => {
                // A name that could not be read keeps what was last good.
                self.broken.insert(name, error.to_string());
                self.broken_at = Some(Instant::now() + self.spawn.timing.backoff.1);
                self.notes();
                self.complete();
            }
            Err(error) => self.refuse_or_fail(&error),
        }
    }

    fn told(&mut self, told: Told) {
        let mut next = Some(told);
        // What is there already is published together.
        while let Some(Told { name, what, lasted }) = next {
            match what {
                // One that was stopped may have told before.
                _ if !self.watchers.contains_key(&name) => {}
                Ok((instances, meta)) => {
                    self.contact(meta);
                    self.read(&name, instances, meta);
                }
                Err(error) => {
                    self.watchers.remove(&name);
                    // A connection over the agent's limit is closed at once, or told so.
                    let refused = matches!(error, Error::Connect(_) | Error::Cut(_) | Error::Status { code: 429, .. });
                    if refused && lasted < Duration::from_secs(1) {
                        self.struck.insert(name.clone());
                    }
                    // Whether it is the agent or only this query, a read tells.
                    self.ask(vec![name], true);
                }
            }
            next = self.told.1.try_recv().ok();
        }
        self.complete();
    }

    fn read(&mut self, name: &Arc<str>, instances: Vec<Instance>, meta: Meta) {
        let now = Instant::now();
        // Filtered to nothing is not gone: later versions say which it is.
        let trust = self.trust(meta, meta.filtered && instances.is_empty());
        match self.state.read(name, instances, meta.index.unwrap_or_default(), trust, now) {
            // The list usually follows by itself, within milliseconds.
            Read::Doubted => drop(self.list_at.get_or_insert(now + self.spawn.timing.lag / 10)),
            Read::Again => self.ask(vec![name.clone()], true),
            Read::Unseen => {
                let pause = Duration::from_millis(50) * self.state.doubted().len() as u32;
                self.broken_at.get_or_insert(now + pause.max(self.spawn.timing.backoff.1));
            }
            Read::Taken => {}
        }
        let unseen = self.state.unseen();
        self.lack(NODES, unseen);
    }

    /// Puts a watcher on a name that was read, where that is the strategy.
    fn watch(&mut self, name: &Arc<str>, index: Option<u64>, empty: bool) {
        if self.doorbell || self.watchers.contains_key(name) || !self.state.listed().contains(name) {
            return;
        }
        // TLS files that can no longer be read show with the next read of the list as well.
        let Ok(parked) = self.agent.parked() else { return };
        let (waits, sender) = (self.spawn.timing.waits, self.told.0.clone());
        let index = index.unwrap_or_default();
        let task = watcher::start(parked, name.clone(), (index, empty), self.paths.clone(), self.stale, waits, sender);
        self.watchers.insert(name.clone(), task);
    }

    /// Publishes, and goes live when all names are read.
    fn complete(&mut self) {
        let idle = self.outstanding.is_empty();
        let now = Instant::now();
        let trust = match self.phase {
            Phase::Reading(trust) if idle => trust,
            // A re-reading may change thousands of names one by one; what came of it so far is followed at once.
            Phase::Live | Phase::Reading(_)
                if self.publisher.is_complete() && (idle || now - self.published > Duration::from_millis(20)) =>
            {
                self.published = now;
                return self.publish();
            }
            _ => return,
        };
        if self.state.sees_no_instance() {
            self.lack(NODES, true);
            return self.fail("services are listed, but no instance of any may be seen");
        }
        self.phase = Phase::Live;
        self.reach.live(now);
        self.backoff.succeeded();
        self.knocks.succeeded();
        self.publish();
        self.publisher.connected(trust == Trust::Aged, self.agent.connections());
    }

    fn nodes(&mut self, answer: Result<Answer, Error>) {
        if self.phase != Phase::Listing {
            return;
        }
        let empty = |answer: &Answer| {
            serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(&answer.body).is_ok_and(|n| n.is_empty())
        };
        match answer {
            Ok(answer) if empty(&answer) => self.nothing_visible(),
            Ok(answer) => {
                self.take(&NOTHING, answer.meta, Step::Same, Instant::now());
                // Rights that came back between list and nodes wake nobody who waits: ask for the list again.
                if !self.state.belief.services().is_empty() {
                    self.list.at_once();
                }
            }
            Err(error) if error.is_refusal() || self.denies => self.nothing_visible(),
            Err(error) if error.is_of_one_answer() => {
                let meta = Meta { known_leader: true, ..Meta::default() };
                self.take(&NOTHING, meta, Step::Same, Instant::now());
            }
            Err(error) => self.refuse_or_fail(&error),
        }
    }

    fn nothing_visible(&mut self) {
        self.missing.extend([SERVICES, NODES]);
        self.rights();
        self.fail("the token may see no service");
    }

    fn publish(&mut self) {
        // Before the first complete read there is nothing to publish.
        if self.publisher.is_complete() || self.phase == Phase::Live {
            self.publisher.inventory(&mut self.state.belief, self.agent.connections());
            self.publisher.dropped(&self.state.belief.take_ended());
            self.looks.plan(&self.state.belief, self.spawn.timing.backoff.1, Instant::now());
        }
    }

    fn contact(&self, meta: Meta) {
        self.publisher.contact(self.list.index(), meta.known_leader, self.agent.connections());
    }

    fn trust(&self, meta: Meta, back: bool) -> Trust {
        trust(meta.known_leader, meta.last_contact, self.spawn.timing.stale_bound, back)
    }

    fn lack(&mut self, right: &'static str, lacking: bool) {
        let changed = if lacking { self.missing.insert(right) } else { self.missing.remove(right) };
        if changed {
            self.rights();
        }
    }

    fn rights(&self) {
        self.publisher.rights(self.missing.iter().map(ToString::to_string).collect());
    }

    fn notes(&self) {
        let (routed, wanted, allowed) = (self.state.listed().len(), self.wanted, self.allowed);
        let doorbell = self.doorbell.then(|| {
            if allowed < wanted {
                format!(
                    "the agent refuses more than about {allowed} connections: reading {routed} services by doorbell; \
                     raise its `limits.http_max_conns_per_client` or lower `watchConnections` ({wanted})"
                )
            } else {
                format!(
                    "{routed} services are over `watchConnections` ({wanted}): reading by doorbell; raise it to {routed} or \
                     more, and the agent's `limits.http_max_conns_per_client` above it"
                )
            }
        });
        let broken = self.broken.iter().map(|(name, error)| format!("service `{name}`: {error}"));
        self.publisher.notes(doorbell.into_iter().chain(broken).collect());
    }
}

fn with_stale(mut parameters: String, stale: bool) -> String {
    if stale {
        parameters.push_str(if parameters.is_empty() { "stale" } else { "&stale" });
    }
    parameters
}

async fn pending<T>(pending: &mut Pending<T>) -> (Result<T, Error>, Instant) {
    let Some((asked, at)) = pending else { return std::future::pending().await };
    let (answer, at) = (asked.as_mut().await, *at);
    *pending = None;
    (answer, at)
}
