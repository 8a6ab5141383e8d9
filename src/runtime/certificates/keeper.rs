//! The keeper of certificates: knows what is wanted, what is there and when it is due, and has it ordered, a few at a time. It
//! lives on a thread and a runtime of its own, since keys are made and signatures computed there.
//!
//! What always holds: nothing is ordered unless this process is the active proxy; one name has one order at a time,
//! whoever asks; a failure costs its own name only, and is tried again later and later; what strangers can cause is counted
//! and bounded.

use super::ask::{self, Gate};
use super::entry::{Entry, SETTLE, Step, go_on};
use super::record::Record;
use super::resolvers::Resolver;
use super::wanted::{Tracker, Wants};
use super::work::{self, Failure, Looked, Outcome, Tools};
use crate::acme::limits::{Excess, Ledger, Limits};
use crate::acme::{Challenges, schedule};
use crate::certs::storage::layout;
use crate::diagnostic::{Diagnostic, Origin};
use crate::runtime::state::State;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};

/// Orders that run at once.
const AT_ONCE: usize = 4;
/// Questions when to renew that run at once, besides.
const LOOKS: usize = 2;
/// Before a question is put that there was no room for.
const ROOM: Duration = Duration::from_secs(1);
/// Names that nobody wants any more are remembered as long as their orders failed, and for so long after they could be tried
/// again: a service that comes and goes does not have them tried with each coming.
const FAILED: Duration = Duration::from_secs(3_600);
/// Orders begun within [`WINDOW`] at most: as certmagic's, far below what authorities allow.
const IN_WINDOW: usize = 10;
const WINDOW: Duration = Duration::from_secs(10);
/// A certificate that somebody else looks after is looked at so often, whether it is still there.
const LOOK: Duration = Duration::from_secs(3_600);
/// Before somebody else's lock is tried again.
const HELD: Duration = Duration::from_secs(15);
/// A lock held for so long is told.
const HELD_LONG: Duration = Duration::from_secs(600);
/// How often an authority is asked when to renew, where it says nothing of it.
const ASK: Duration = Duration::from_secs(6 * 3_600);
/// Handshakes that wait for one certificate.
const WAITERS: usize = 256;

/// What the data side asks.
pub(super) enum Ask {
    /// A handshake is for a host without a certificate; the reply comes when it has one, or when it will not.
    Certificate(Arc<str>, oneshot::Sender<()>),
    /// An authority asks for something that is not known here: another instance may have put it into the storage.
    Challenge(Arc<str>, oneshot::Sender<()>),
}

/// What is to be had from the keeper without asking.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// What is wanted.
    pub wants: ArcSwap<Wants>,
    /// What is wrong.
    pub problems: ArcSwap<Vec<Diagnostic>>,
}

/// See the module.
pub(super) struct Keeper {
    pub tools: Tools,
    pub challenges: Challenges,
    pub tracker: Tracker,
    pub state: Arc<State>,
    pub resolvers: BTreeMap<Arc<str>, Arc<Resolver>>,
    /// What is wrong with the configuration.
    pub misconfigured: Vec<Diagnostic>,
    pub limits: Limits,
    pub gate: Option<Gate>,
    pub published: Arc<Published>,
    pub orders: super::Orders,
    pub entries: BTreeMap<Arc<str>, Entry>,
    pub ledger: Ledger,
    pub record: Record,
    pub begun: std::collections::VecDeque<Instant>,
    pub running: JoinSet<Outcome>,
    /// Whose these are, and whether they only ask when to renew.
    pub tasks: HashMap<Id, (Arc<str>, bool)>,
    pub questions: JoinSet<(Arc<str>, ask::Answer)>,
}

impl Keeper {
    /// Runs until there is nobody left who could ask.
    pub async fn run(mut self, mut asks: mpsc::Receiver<Ask>, mut active: watch::Receiver<bool>) {
        let mut tables = self.state.generation.subscribe();
        // Whether it knows what the process before has left.
        let mut informed = false;
        self.reconcile();
        self.publish();
        loop {
            let wake = self.wake(*active.borrow());
            tokio::select! {
                changed = tables.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(SETTLE).await;
                    tables.mark_unchanged();
                    self.reconcile();
                }
                changed = active.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if !*active.borrow() {
                        informed = false;
                        // another process goes on; what was begun is given up and its answers are taken away
                        self.running.shutdown().await;
                        self.tasks.clear();
                        self.entries.values_mut().for_each(|entry| entry.running = false);
                    }
                }
                ask = asks.recv() => match ask {
                    None => return,
                    Some(Ask::Certificate(host, reply)) => self.asked(&host, reply),
                    Some(Ask::Challenge(host, reply)) => self.look(host, reply),
                },
                Some(ended) = self.running.join_next_with_id(), if !self.running.is_empty() => self.ended(ended),
                Some(Ok((name, answer))) = self.questions.join_next(), if !self.questions.is_empty() => {
                    self.answered(&name, answer);
                }
                () = self.record.written() => {}
                () = until(wake) => {}
            }
            if *active.borrow() {
                if !informed {
                    self.remember().await;
                    informed = true;
                }
                self.work();
                self.record.write(&self.ledger, Instant::now(), SystemTime::now());
            }
            self.publish();
        }
    }

    /// Orders that run now.
    fn ordering(&self) -> usize {
        self.tasks.values().filter(|(_, looks)| !looks).count()
    }

    /// The next moment at which something is to be done.
    fn wake(&self, active: bool) -> Option<Instant> {
        if !active || self.ordering() >= AT_ONCE {
            return None;
        }
        let next = self.entries.values().filter(|entry| !entry.running).filter_map(|entry| entry.next).min()?;
        let free = match self.begun.len() >= IN_WINDOW {
            true => self.begun.front().map(|first| *first + WINDOW),
            false => None,
        };
        Some(free.map_or(next, |free| next.max(free)))
    }

    /// Takes up what the process before knew of the names.
    async fn remember(&mut self) {
        let (now, clock) = (Instant::now(), SystemTime::now());
        self.record.read(&mut self.ledger, now, clock).await;
        for (name, entry) in &mut self.entries {
            entry.remember(name, &self.record, now, clock);
        }
    }

    /// Takes up what the table in force wants.
    fn reconcile(&mut self) {
        self.tracker.take(self.state.table.load_full());
        let wants = self.tracker.wants().clone();
        if Arc::ptr_eq(&wants, &self.published.wants.load()) {
            return;
        }
        let now = Instant::now();
        // what runs is waited for: its outcome counts if the name comes back
        self.entries.retain(|name, entry| {
            entry.wanted = wants.names.contains_key(name);
            if !entry.wanted {
                (entry.next, entry.problem, entry.asked) = (None, None, false);
                entry.release();
            }
            entry.wanted || entry.running || entry.again.is_some_and(|again| now < again + FAILED)
        });
        for (name, want) in &wants.names {
            match self.entries.get_mut(name) {
                Some(entry) => {
                    let other = entry.want.resolver != want.resolver;
                    if other {
                        (entry.failures, entry.again, entry.problem, entry.remembered) = (0, None, None, None);
                    }
                    if other || entry.want.on_demand != want.on_demand || entry.next.is_none() && !entry.running {
                        entry.next = Some(entry.again.map_or(now, |again| again.max(now)));
                    }
                    if entry.want != *want {
                        entry.want = want.clone();
                    }
                }
                None => {
                    let mut entry = Entry::new(want.clone(), now);
                    entry.remember(name, &self.record, now, SystemTime::now());
                    self.entries.insert(name.clone(), entry);
                }
            }
        }
        self.published.wants.store(wants);
    }

    /// Begins what is due.
    fn work(&mut self) {
        let now = Instant::now();
        while self.begun.front().is_some_and(|first| now.duration_since(*first) >= WINDOW) {
            self.begun.pop_front();
        }
        // those that somebody waits for go first
        let is_due = |entry: &Entry| !entry.running && entry.next.is_some_and(|next| next <= now);
        let mut due: Vec<(bool, Instant, Arc<str>)> = self
            .entries
            .iter()
            .filter(|(_, entry)| is_due(entry))
            .map(|(name, entry)| (entry.waiters.is_empty(), entry.next.unwrap_or(now), name.clone()))
            .collect();
        due.sort();
        for (_, _, name) in due {
            if self.ordering() >= AT_ONCE || self.begun.len() >= IN_WINDOW {
                return;
            }
            self.begin(&name, now);
        }
    }

    fn begin(&mut self, name: &Arc<str>, now: Instant) {
        let step = self.step(name, now);
        let Some(entry) = self.entries.get_mut(name) else { return };
        let Some(resolver) = self.resolvers.get(&entry.want.resolver).cloned() else {
            entry.next = None;
            entry.release();
            return;
        };
        let (tools, chance) = (self.tools.clone(), entry.chance);
        match step {
            Step::Nothing => entry.release(),
            Step::Order => {
                entry.running = true;
                self.begun.push_back(now);
                let (name, resolver) = (name.clone(), resolver);
                tracing::info!(%name, resolver = %entry.want.resolver, "ordering a certificate");
                let task = self.running.spawn_local(work::order(tools, resolver, name.clone(), chance));
                self.tasks.insert(task.id(), (name, false));
            }
            Step::Ask if self.tasks.values().filter(|(_, looks)| *looks).count() >= LOOKS => {
                entry.next = Some(now + ROOM.mul_f64(1.0 + chance))
            }
            Step::Ask => {
                entry.running = true;
                entry.looked_at = Some(now);
                let task = self.running.spawn_local(work::look(tools, resolver, name.clone()));
                self.tasks.insert(task.id(), (name.clone(), true));
            }
        }
    }

    /// What a name needs now; sets when to look at it again.
    fn step(&mut self, name: &Arc<str>, now: Instant) -> Step {
        let clock = SystemTime::now();
        let serving = self.tools.certificates.serving(name, clock);
        let Some(entry) = self.entries.get_mut(name) else { return Step::Nothing };
        let Some(serving) = serving.filter(|serving| !serving.local && serving.valid) else {
            if entry.want.on_demand && !entry.asked {
                entry.next = None;
                return Step::Nothing;
            }
            return entry.may_order(name, now);
        };
        let issuer = self.resolvers.get(&entry.want.resolver).map(|r| layout::issuer_key(&r.authority.directory));
        let ours = issuer.is_some_and(|issuer| {
            let site = self.tools.root.join(layout::site(&issuer, name).crt);
            serving.file == site
        });
        let after = |then: SystemTime| now + then.duration_since(clock).unwrap_or_default();
        if !ours {
            entry.is_well();
            self.record.mended(name);
            // somebody else's, and good: it is looked after there as long as it is
            entry.next = Some(after(serving.not_after).min(now + LOOK));
            return Step::Nothing;
        }
        let ask_again = match (&entry.looked, entry.looked_at) {
            (Some(looked), _) => after(looked.ask_again).max(entry.looked_at.map_or(now, |at| at + SETTLE)),
            (None, Some(at)) => at + ASK,
            (None, None) => now,
        };
        let selected = entry.looked.map(|looked| looked.selected);
        let due = schedule::due(serving.not_before, serving.not_after, selected, entry.chance);
        if clock >= due {
            return entry.may_order(name, now);
        }
        entry.is_well();
        self.record.mended(name);
        if ask_again <= now {
            return Step::Ask;
        }
        entry.next = Some(after(due).min(ask_again).min(now + LOOK));
        Step::Nothing
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => (error.id(), Outcome::Failed(Failure::Defect(error.to_string()))),
        };
        let Some((name, _)) = self.tasks.remove(&id) else { return };
        let (now, clock) = (Instant::now(), SystemTime::now());
        let Some(entry) = self.entries.get_mut(&name) else { return };
        entry.running = false;
        let resolver = entry.want.resolver.clone();
        let problem = |code: &str, message: String, origin: &Origin| {
            Some(Diagnostic::error(code, message).with_origin(origin.clone()))
        };
        match outcome {
            Outcome::Looked(looked) => {
                entry.looked = looked;
                entry.next = Some(now);
            }
            Outcome::Issued { window, begins, unstored } => {
                tracing::info!(%name, %resolver, "a certificate was issued");
                self.orders.count(&resolver, "issued");
                self.record.mended(&name);
                (entry.failures, entry.again, entry.asked, entry.problem) = (0, None, false, None);
                entry.looked = window.map(|window| Looked { selected: window.selected, ask_again: window.ask_again });
                entry.looked_at = Some(now);
                entry.next = Some(now + SETTLE);
                if begins > clock {
                    entry.wait_for_begin(&name, begins, now, clock);
                }
                if let Some(error) = unstored {
                    let message = format!("the certificate for `{name}` cannot be stored: {error}");
                    tracing::error!(%name, "{message}; it is served from memory");
                    let found = problem("certificate_not_stored", message, &entry.want.origin);
                    entry.problem =
                        found.map(|found| found.with_help("it is served from memory until the process ends"));
                    // what is in memory would be ordered again after a restart: the storage is what has to be mended
                    entry.next = Some(now + LOOK);
                }
                entry.release();
            }
            Outcome::Ahead(begins) => {
                entry.wait_for_begin(&name, begins, now, clock);
                if std::mem::take(&mut entry.asked) {
                    entry.next = None;
                    self.ledger.refuse(&name, "its certificate is not valid yet", &self.limits, now);
                }
                entry.release();
            }
            Outcome::Found => {
                self.orders.count(&resolver, "found");
                self.record.mended(&name);
                tracing::info!(%name, "another process has renewed the certificate");
                (entry.failures, entry.again, entry.looked) = (0, None, None);
                (entry.asked, entry.problem) = (false, None);
                entry.next = Some(now + SETTLE);
                entry.release();
            }
            Outcome::Held(since) => {
                entry.next = Some(now + HELD.mul_f64(1.0 + entry.chance));
                let long = since.is_some_and(|since| clock.duration_since(since).is_ok_and(|held| held >= HELD_LONG));
                entry.problem = match long {
                    true => {
                        let message =
                            format!("another process holds the lock for the certificate of `{name}` for long");
                        let found = problem("order_held", message, &entry.want.origin);
                        found.map(|found| found.with_help("its order may be failing; it is waited for"))
                    }
                    false => None,
                };
                entry.release();
            }
            Outcome::Failed(failure) => {
                self.orders.count(&resolver, "failed");
                entry.failures += 1;
                let pause = schedule::pause(entry.failures, failure.retry_after(), entry.chance);
                tracing::error!(%name, %resolver, ?pause, "no certificate: {failure}");
                let why = failure.to_string();
                entry.has_failed(&name, &why, pause);
                self.record.failed(&name, &resolver, entry.failures, &why, pause);
                entry.again = Some(now + pause);
                entry.next = entry.again;
                if std::mem::take(&mut entry.asked) {
                    entry.next = None;
                    let why = match failure {
                        Failure::Acme(_) => "the last order failed",
                        Failure::Storage(_) | Failure::Defect(_) => "the certificate storage fails",
                    };
                    self.ledger.refuse(&name, why, &self.limits, now);
                }
                entry.release();
            }
        }
        if !entry.wanted {
            (entry.next, entry.problem) = (None, None);
        }
    }

    /// A handshake asks for a host's certificate.
    fn asked(&mut self, host: &str, reply: oneshot::Sender<()>) {
        let Some((name, _)) = self.tracker.wants().find(host) else { return go_on(reply) };
        let name = name.clone();
        let now = Instant::now();
        let Some(entry) = self.entries.get_mut(&name) else { return go_on(reply) };
        if entry.waiters.len() >= WAITERS {
            return go_on(reply);
        }
        // one that has failed is tried again when its time has come
        let failing = entry.failures > 0 && !entry.running && entry.next.is_none_or(|next| next > now);
        if entry.want.on_demand && !entry.running && !entry.asked {
            match self.ledger.is_remembered(&name, now) {
                Err(_) => return go_on(reply),
                Ok(()) if self.gate.is_some() && self.questions.len() < AT_ONCE => {
                    let Some(gate) = self.gate.clone() else { return };
                    entry.asked = true;
                    entry.waiters.push(reply);
                    let asked = name.clone();
                    self.questions.spawn_local(async move { (asked.clone(), gate.ask(&asked).await) });
                    return;
                }
                Ok(()) if self.gate.is_some() => return go_on(reply),
                Ok(()) => {
                    entry.waiters.push(reply);
                    self.admit(&name, now);
                    return;
                }
            }
        }
        if failing {
            return go_on(reply);
        }
        entry.waiters.push(reply);
        if !entry.running {
            entry.next = Some(entry.next.map_or(now, |next| next.min(now)));
        }
    }

    /// Who is asked for orders on demand has answered.
    fn answered(&mut self, name: &Arc<str>, answer: ask::Answer) {
        let now = Instant::now();
        match answer {
            Ok(()) => self.admit(name, now),
            Err(why) => {
                tracing::info!(%name, "no certificate on demand: {why}");
                self.ledger.refuse(name, why, &self.limits, now);
                if let Some(entry) = self.entries.get_mut(name) {
                    entry.asked = false;
                    entry.release();
                }
            }
        }
    }

    /// Lets a name be ordered that a handshake asked for, if the limits do.
    fn admit(&mut self, name: &Arc<str>, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        match self.ledger.take(name, &entry.want.service, &self.limits, now) {
            Ok(()) => {
                self.record.placed();
                entry.asked = true;
                (entry.next, entry.again) = (Some(now), None);
            }
            Err(excess) => {
                entry.asked = false;
                if !matches!(excess, Excess::Remembered(_)) {
                    tracing::warn!(%name, "no certificate on demand: {excess}");
                    let message = format!("no certificate on demand for `{name}`: {excess}");
                    let found = Diagnostic::warning("order_limit", message).with_origin(entry.want.origin.clone());
                    entry.problem = Some(found.with_help("see `rustLb.certificates.onDemand`"));
                    self.ledger.refuse(name, excess.to_string(), &self.limits, now);
                    self.orders.count(&entry.want.resolver, "limited");
                }
                entry.release();
            }
        }
    }

    /// Looks for an answer to a challenge that another instance has put into the storage.
    fn look(&self, host: Arc<str>, reply: oneshot::Sender<()>) {
        let (challenges, storage) = (self.challenges.clone(), self.tools.storage.clone());
        tokio::task::spawn_blocking(move || {
            challenges.look(&storage, &host);
            go_on(reply);
        });
    }

    /// Makes what is wrong known.
    fn publish(&self) {
        let of_names = self.entries.values().filter_map(|entry| entry.problem.clone());
        let of_routers = self.tracker.wants().problems.iter().cloned();
        let all: Vec<Diagnostic> = self.misconfigured.iter().cloned().chain(of_routers).chain(of_names).collect();
        if **self.published.problems.load() != all {
            self.published.problems.store(Arc::new(all));
        }
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
