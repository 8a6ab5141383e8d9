//! The watcher of one namespace, or of all: keeps stream, list and reads in the order that loses
//! nothing, and publishes what comes of them.
//!
//! Everything happens in one loop over what stream, list, reader and timers bring. What always
//! holds: whatever fails, the last good services stay; after any failure the next reads are
//! without index and follow the shared back-off; the stream is never reopened in a tight loop.

mod pulse;
mod tell;

use super::decode;
use super::reader::{Job, Paths, Reader};
use super::state::{Read, State, Told};
use super::stream::{Signal, Stream};
use crate::catalog::believe::{Trust, trust};
use crate::catalog::http::{Agent, Answer, Error, Lane, Meta};
use crate::catalog::looks::Looks;
use crate::catalog::names::Names;
use crate::catalog::poll::{self, Backoff, Bucket, Early, Poll, Query, Step};
use crate::catalog::publish::Publisher;
use crate::catalog::pulse::Pulse;
use crate::catalog::reach::Reach;
use crate::catalog::{ServiceKey, Spawn};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

type Blocked = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

/// Where the watcher stands in the order of steps.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// After a failure, until then.
    Waiting(Instant),
    /// The stream is being opened; the list is read at its first line, or then at the latest.
    Opening(Instant),
    /// The list is being read.
    Listing,
    /// The routed names are being read.
    Reading(Trust),
    /// Complete.
    Live,
}

/// Something that the list knows and no event told of yet.
#[derive(Debug)]
struct Alarm {
    at: Instant,
    index: u64,
    namespaces: BTreeSet<Arc<str>>,
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
    stream_lane: Lane,
    list_lane: Lane,
    read_lane: Lane,

    phase: Phase,
    backoff: Backoff,
    /// Pauses while nobody listens.
    knocks: Backoff,
    /// The index went back and what is missing has not been judged by it yet.
    reset: bool,

    reader: Reader,
    /// Names that are being read, and those whose answer could not be understood.
    outstanding: BTreeSet<ServiceKey>,
    broken: BTreeMap<ServiceKey, String>,
    broken_at: Option<Instant>,
    /// Names whose answers are older than what is known: asked for again after a pause.
    late: BTreeSet<ServiceKey>,
    /// Names that may be listed and not read, and whether the token lacks rights on all of it.
    forbidden: BTreeSet<ServiceKey>,
    lacking: bool,

    looks: Looks,
    /// Highest index known when the list was asked for, and how often a list was below it since.
    behind: (u64, u8),

    stream: Option<Stream>,
    streaming: bool,
    refused: Option<String>,
    stream_at: Option<Instant>,
    stream_backoff: Backoff,
    reopen: Bucket,
    covered: BTreeSet<Arc<str>>,
    alarms: VecDeque<Alarm>,

    list: Poll,
    list_at: Option<Instant>,
    blocked: Option<(Blocked, Query, Instant)>,
    /// How often the list is read while the stream tells of changes, and without it.
    list_rate: (Bucket, Bucket),
    list_early: Early,
    /// How often everything is read anew because the index went back.
    resets: Bucket,
    published: Instant,
    pulse: Pulse,
    reach: Reach,
}

/// Least time between two lists while the stream tells of changes.
const TOLD: Duration = Duration::from_secs(1);
/// How many lists in a row, up to a lag apart, are below what was known before that is taken for a reset.
const BEHIND: u8 = 4;

impl Watch {
    /// A watcher that has not asked yet.
    pub fn new(
        agent: Agent,
        namespace: &str,
        paths: Paths,
        stale: bool,
        spawn: Spawn,
        publisher: Publisher,
    ) -> Result<Self, Error> {
        let (stream_lane, list_lane, read_lane) = (agent.lane()?, agent.lane()?, agent.lane()?);
        let timing = spawn.timing;
        let now = Instant::now();
        Ok(Self {
            reader: Reader::new(read_lane.clone(), paths.clone(), stale, timing),
            state: State::new(spawn.clone(), namespace),
            rng: SmallRng::from_rng(&mut rand::rng()),
            phase: Phase::Waiting(now),
            backoff: Backoff::new(timing.backoff.0, timing.backoff.1),
            knocks: Backoff::new(timing.backoff.0, timing.reconnect),
            reset: false,
            outstanding: BTreeSet::new(),
            broken: BTreeMap::new(),
            broken_at: None,
            late: BTreeSet::new(),
            forbidden: BTreeSet::new(),
            lacking: false,
            looks: Looks::default(),
            behind: (0, 0),
            stream: None,
            streaming: false,
            refused: None,
            stream_at: None,
            stream_backoff: Backoff::new(timing.stream_retry, timing.stream_retry * 5),
            reopen: Bucket::new(2, Duration::from_secs(15)),
            covered: BTreeSet::new(),
            alarms: VecDeque::new(),
            list: Poll::after(spawn.before.as_ref().map_or(0, |before| before.index)),
            list_at: None,
            blocked: None,
            list_rate: (Bucket::new(2, TOLD), Bucket::new(4, poll::pace(0))),
            list_early: Early::default(),
            resets: Bucket::new(2, Duration::from_secs(5)),
            published: now,
            pulse: Pulse::start(agent.clone(), read_lane.clone(), timing.pulse),
            reach: Reach::new(now),
            agent,
            paths,
            stale,
            spawn,
            publisher,
            stream_lane,
            list_lane,
            read_lane,
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
                signal = signal(&mut self.stream) => self.signal(signal),
                Some((job, answer)) = self.reader.answers.recv() => self.answered(job, answer),
                answer = answer(&mut self.blocked) => self.listed_blocked(answer),
                beat = self.pulse.beat() => self.beat(beat),
                () = forget.notified() => self.forget(),
                () = sleep_until(wake) => self.timers(Instant::now()),
            }
        }
    }

    fn next_timer(&self) -> Instant {
        let phase = match self.phase {
            Phase::Waiting(at) | Phase::Opening(at) => Some(at),
            _ => None,
        };
        let alarm = self.alarms.front().map(|alarm| alarm.at);
        [phase, alarm, self.broken_at, self.stream_at, self.list_at, self.looks.due()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    fn timers(&mut self, now: Instant) {
        if self.looks.due().is_some_and(|at| at <= now) {
            self.look(now);
        }
        match self.phase {
            Phase::Waiting(at) if at <= now => self.start(now),
            Phase::Opening(at) if at <= now => self.read_list(),
            _ => {}
        }
        if self.stream_at.is_some_and(|at| at <= now) {
            let live = self.phase == Phase::Live;
            // Names that are being read just now come first.
            self.stream_at = (!live).then(|| now + self.spawn.timing.lag);
            if live && self.stream.is_none() {
                self.open_stream();
            }
        }
        if self.broken_at.is_some_and(|at| at <= now) {
            self.broken_at = None;
            // One refusal may be a token on its way to be replaced: what is listed is asked for again before its hold ends.
            let names = self.broken.keys().chain(&self.forbidden).chain(&self.late).cloned().collect();
            self.ask(names);
        }
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = None;
            self.block();
        }
        while self.alarms.front().is_some_and(|alarm| alarm.at <= now) {
            self.missed(now);
        }
    }

    /// Steps 1 and 2: the stream first, so that nothing changes unseen between it and the reads.
    fn start(&mut self, now: Instant) {
        self.alarms.clear();
        if self.streaming || (self.stream.is_none() && self.stream_at.is_some_and(|at| at > now)) {
            self.read_list();
            return;
        }
        self.open_stream();
        self.phase = Phase::Opening(now + self.spawn.timing.head_start);
    }

    fn open_stream(&mut self) {
        self.streaming = false;
        self.covered.clear();
        self.stream = Some(Stream::open(self.stream_lane.clone(), self.paths.stream(), self.spawn.timing));
    }

    /// Step 3, the list.
    fn read_list(&mut self) {
        self.phase = Phase::Listing;
        self.blocked = None;
        self.list_at = None;
        self.behind.0 = self.state.top();
        self.reader.ask(Job::List);
    }

    /// Reads names, each once at a time.
    fn ask(&mut self, names: Vec<ServiceKey>) {
        for key in names {
            if self.outstanding.insert(key.clone()) {
                self.reader.ask(Job::Service(key));
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        let now = Instant::now();
        match signal {
            Signal::Hello => {
                self.streaming = true;
                self.refused = None;
                self.stream_backoff.succeeded();
                self.publisher.strategy("events");
                self.lack(false);
                self.notes();
                if !matches!(self.phase, Phase::Waiting(_)) {
                    self.read_list();
                }
            }
            Signal::Events(events) => {
                self.events(events, now);
                // What is there already is published together.
                while let Some(Ok(Signal::Events(more))) = self.stream.as_mut().map(|s| s.signals.try_recv()) {
                    self.events(more, now);
                }
                self.publish();
            }
            Signal::Refused { reason, rights } => {
                self.stream = None;
                self.streaming = false;
                self.stream_at = Some(now + self.stream_backoff.failed(&mut self.rng));
                self.refused = Some(reason);
                self.publisher.strategy("list");
                if rights {
                    self.lack(true);
                }
                self.notes();
                if matches!(self.phase, Phase::Opening(_)) {
                    self.read_list();
                }
            }
            Signal::Unreached(error) => {
                self.stream = None;
                self.refuse_or_fail(&error);
            }
            Signal::Ended(reason) => {
                self.stream = None;
                if std::mem::take(&mut self.streaming) {
                    // One that is cut again and again costs a read of everything each time, and Nomad a descriptor.
                    let at = self.reopen.take(now);
                    if at > now {
                        self.stream_at = Some(at);
                        self.refused = Some(format!("the event stream does not last ({reason})"));
                        self.publisher.strategy("list");
                        self.notes();
                    }
                }
                self.fail(&reason);
            }
        }
    }

    fn events(&mut self, events: Vec<decode::Event>, now: Instant) {
        for event in events {
            self.covered.insert(event.registration.key.namespace.clone());
            match self.state.event(event, now) {
                Told::Enough => {}
                Told::Part(key) => self.ask(vec![key]),
                Told::Doubt(key) => self.ask_late(key, now),
            }
        }
    }

    fn answered(&mut self, job: Job, answer: Result<Answer, Error>) {
        match (job, answer) {
            (Job::List, Ok(answer)) => self.listed(&answer),
            (Job::List, Err(error)) => self.refuse_or_fail(&error),
            (Job::Service(key), Ok(answer)) => self.read(&key, &answer),
            (Job::Service(key), Err(error)) => self.unread(&key, &error),
            (Job::Token, answer) => self.token(answer),
        }
    }

    /// The list of a resync.
    fn listed(&mut self, answer: &Answer) {
        if self.phase != Phase::Listing {
            return;
        }
        let list = match decode::list(&answer.body, self.spawn.as_routes()) {
            Ok(list) => list,
            Err(error) => return self.fail(&error.to_string()),
        };
        if list.is_empty() && answer.meta.index == Some(0) {
            return self.reader.ask(Job::Token);
        }
        self.covered.extend(list.namespaces.iter().map(|namespace| Arc::from(&**namespace)));
        self.sync(&list.routed, answer.meta);
    }

    /// Step 3, the names.
    fn sync(&mut self, routed: &Names<'_>, meta: Meta) {
        let now = Instant::now();
        self.reset |= self.list.answered(meta.index) == Step::Back;
        if self.list.index() < self.behind.0 && !self.reset {
            // A server that lags has caught up by then; one that was wiped stays below what it said before.
            self.behind.1 += 1;
            if self.behind.1 < BEHIND {
                // Who answers by a leader's word lags by no more than what it is just applying.
                let by_leader = !self.stale && meta.known_leader && meta.last_contact.is_zero();
                let lag = self.spawn.timing.lag / if by_leader { 8 } else { 1 };
                self.phase = Phase::Waiting(now + lag);
                return;
            }
            self.reset = true;
        }
        self.behind.1 = 0;
        self.state.belief.away(self.reach.read(now));
        let trust = self.trust(meta, self.reset);
        if trust == Trust::Reset {
            tracing::warn!(index = self.list.index(), "nomad's index went back: its state was wiped or restored");
            self.state.reset();
            self.reset = false;
        }
        self.contact(meta);
        self.forbidden.clear();
        self.lack(self.lacking && self.refused.is_some());
        self.phase = Phase::Reading(trust);
        self.broken.clear();
        self.late.clear();
        let names = self.state.unsettled(routed, true, trust, now);
        self.ask(names);
        self.complete();
    }

    fn read(&mut self, key: &ServiceKey, answer: &Answer) {
        self.outstanding.remove(key);
        let found = match decode::service(&answer.body) {
            Ok(found) => found,
            Err(error) => return self.unread(key, &error),
        };
        self.contact(answer.meta);
        // After a reset no index tells whether this comes from the server that the list came from, or from one wiped since.
        let trust = self.trust(answer.meta, self.phase == Phase::Reading(Trust::Reset));
        let index = (answer.meta.index.unwrap_or_default(), self.list.index());
        let now = Instant::now();
        match self.state.read(key, found, index, trust, now) {
            Read::Again => return self.ask(vec![key.clone()]),
            Read::Late => self.ask_late(key.clone(), now),
            Read::Taken => drop(self.late.remove(key)),
        }
        if self.broken.remove(key).is_some() {
            self.notes();
        }
        if self.forbidden.remove(key) {
            self.rights();
        }
        self.complete();
    }

    /// Publishes, and goes live when all names are read.
    fn complete(&mut self) {
        if let Phase::Reading(trust) = self.phase
            && self.outstanding.is_empty()
        {
            self.phase = Phase::Live;
            self.reach.live(Instant::now());
            self.state.complete_to(self.list.index());
            self.backoff.succeeded();
            self.knocks.succeeded();
            self.publish();
            self.publisher.connected(trust == Trust::Aged, self.agent.connections());
            self.block();
        } else if self.publisher.is_complete() {
            let now = Instant::now();
            // A resync may change thousands of names one by one.
            if self.phase == Phase::Live || now - self.published > Duration::from_millis(20) {
                self.published = now;
                self.publish();
            }
        }
    }

    /// Step 6: waits for the list to change.
    fn block(&mut self) {
        let query = self.list.query(&self.spawn.timing.waits, &mut self.rng);
        let stale = if self.stale { "&stale" } else { "" };
        let separator = if query.index.is_some() { "&" } else { "" };
        let path = format!("{}{stale}{separator}{}", self.paths.list(), query.parameters());
        let lane = self.list_lane.clone();
        let asked = Box::pin(async move { lane.get(&path, query.deadline).await });
        self.blocked = Some((asked, query, Instant::now()));
    }

    fn listed_blocked(&mut self, (answer, query, sent): (Result<Answer, Error>, Query, Instant)) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.refuse_or_fail(&error),
        };
        let list = match decode::list(&answer.body, self.spawn.as_routes()) {
            Ok(list) => list,
            Err(error) => return self.fail(&error.to_string()),
        };
        let now = Instant::now();
        // It is only to be sure, and costs the agent more than the reader: tens of milliseconds for 10,000 names.
        self.list_rate.0.set_every((poll::pace(answer.body.len()) * 16).max(TOLD), now);
        self.list_rate.1.set_every(poll::pace(answer.body.len()), now);
        let rate = if self.streaming { &mut self.list_rate.0 } else { &mut self.list_rate.1 };
        let again_at = rate.take(now);
        if list.is_empty() && answer.meta.index == Some(0) {
            let pause = self.list_early.pause(Step::Same, now - sent, query.wait);
            if !pause.is_zero() {
                self.phase = Phase::Waiting(now + pause);
                return;
            }
            self.phase = Phase::Listing;
            return self.reader.ask(Job::Token);
        }
        let step = self.list.answered(answer.meta.index);
        let looking = self.looks.take_list();
        let early = if looking { Duration::ZERO } else { self.list_early.pause(step, now - sent, query.wait) };
        let again_at = again_at.max(now + early);
        self.contact(answer.meta);
        if step == Step::Back {
            self.reset = true;
            // Two servers that disagree behind one address must not keep both busy.
            self.phase = Phase::Waiting(again_at.max(self.resets.take(now)));
            (self.stream, self.streaming) = (None, false);
            return;
        }
        let index = self.list.index();
        let trust = self.trust(answer.meta, false);
        self.publisher.connected(trust == Trust::Aged, self.agent.connections());
        let (forbidden, belief) = (self.forbidden.len(), &self.state.belief);
        self.forbidden.retain(|key| list.routed.contains(key) || belief.get(key).is_some());
        if self.forbidden.len() != forbidden {
            self.rights();
        }
        let names = self.state.unsettled(&list.routed, !self.streaming && step == Step::Forward, trust, now);
        self.ask(names);
        self.state.prune(index);
        let woken = step == Step::Forward && (looking || now - sent < query.wait);
        if self.streaming {
            let uncovered = list.namespaces.iter().filter(|namespace| !self.covered.contains(&***namespace));
            let namespaces: BTreeSet<Arc<str>> = uncovered.map(|namespace| (&**namespace).into()).collect();
            if woken && index > self.state.highest() || !namespaces.is_empty() {
                self.alarms.push_back(Alarm { at: now + self.spawn.timing.lag, index, namespaces });
            }
        } else {
            self.state.complete_to(index);
        }
        self.list_at = Some(again_at);
    }

    /// Nomad answers a caller without rights with an empty list and index 0 where all namespaces
    /// are asked for. Whose token it is tells that apart from an empty catalog.
    fn token(&mut self, answer: Result<Answer, Error>) {
        if self.phase != Phase::Listing {
            return;
        }
        let empty = match &answer {
            Ok(answer) => {
                let kind = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
                kind.is_some_and(|token| token["Type"] == "management")
            }
            // ACLs are off: everything may be read, and there is nothing.
            Err(Error::Status { code: 400 | 404 | 500 | 501, text }) => !text.contains("leader"),
            Err(error) if error.is_refusal() => false,
            Err(error) => return self.refuse_or_fail(error),
        };
        if empty && !self.state.belief.services().is_empty() {
            // Rights that came back between list and token look the same; the next list tells.
            return self.fail("it lists nothing under index 0, though the token may read everything");
        }
        if empty {
            let index = Some(self.list.index());
            return self.sync(&Names::default(), Meta { index, known_leader: true, ..Meta::default() });
        }
        self.lack(true);
        self.fail("the token may read no namespace");
    }

    fn publish(&mut self) {
        // Before the first complete read there is nothing to publish, whatever events told.
        if self.publisher.is_complete() || self.phase == Phase::Live {
            self.publisher.inventory(&mut self.state.belief, self.agent.connections());
            self.publisher.dropped(&self.state.belief.take_ended());
            self.looks.plan(&self.state.belief, self.spawn.timing.backoff.1, Instant::now());
        }
    }

    fn contact(&self, meta: Meta) {
        let index = self.list.index().max(self.state.highest());
        self.publisher.contact(index, meta.known_leader, self.agent.connections());
    }

    fn trust(&self, meta: Meta, back: bool) -> Trust {
        trust(meta.known_leader, meta.last_contact, self.spawn.timing.stale_bound, back)
    }
}

async fn signal(stream: &mut Option<Stream>) -> Signal {
    match stream {
        Some(stream) => stream.signals.recv().await.unwrap_or_else(|| Signal::Ended("event stream ended".into())),
        None => std::future::pending().await,
    }
}

async fn answer(blocked: &mut Option<(Blocked, Query, Instant)>) -> (Result<Answer, Error>, Query, Instant) {
    let Some((asked, query, sent)) = blocked else { return std::future::pending().await };
    let (query, sent) = (*query, *sent);
    let answer = asked.as_mut().await;
    *blocked = None;
    (answer, query, sent)
}
