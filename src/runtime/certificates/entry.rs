//! One name that a certificate is wanted for: what went wrong, when it is tried again, and who waits for it.

use super::record::Record;
use super::wanted::Want;
use super::work::Looked;
use crate::acme::schedule;
use crate::diagnostic::Diagnostic;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

/// Changes of the table that follow each other are taken up together.
pub(super) const SETTLE: Duration = Duration::from_millis(50);

/// One name.
pub(super) struct Entry {
    pub want: Want,
    /// When to look at it again; `None`: not before somebody asks.
    pub next: Option<Instant>,
    pub running: bool,
    /// False while no route names it.
    pub wanted: bool,
    pub failures: usize,
    /// Not before this, after a failure.
    pub again: Option<Instant>,
    /// Why it failed in the process before, until that is told.
    pub remembered: Option<Arc<str>>,
    pub problem: Option<Diagnostic>,
    pub waiters: Vec<oneshot::Sender<()>>,
    /// Somebody asked, and may have it ordered.
    pub asked: bool,
    /// When the authority wants it renewed.
    pub looked: Option<Looked>,
    /// Draws the moment of renewal.
    pub chance: f64,
    /// When the authority was last asked.
    pub looked_at: Option<Instant>,
}

impl Entry {
    pub fn new(want: Want, now: Instant) -> Self {
        Self {
            next: Some(now),
            want,
            running: false,
            wanted: true,
            failures: 0,
            again: None,
            remembered: None,
            problem: None,
            waiters: Vec::new(),
            asked: false,
            looked: None,
            chance: rand::random(),
            looked_at: None,
        }
    }

    /// The process before has failed to get it, and it is not time yet to try again.
    pub fn remember(&mut self, name: &str, record: &Record, now: Instant, clock: SystemTime) {
        let Some((failed, wait)) = record.of(name, &self.want.resolver, clock) else { return };
        if self.failures > 0 || self.running {
            return;
        }
        self.failures = failed.failures;
        self.again = Some(now + wait);
        self.remembered = Some(failed.why.clone());
    }

    /// It is to be ordered: whether that may be now. If not, it is looked at again when it may.
    pub fn may_order(&mut self, name: &str, now: Instant) -> Step {
        let Some(again) = self.again.filter(|again| *again > now) else { return Step::Order };
        if let Some(why) = self.remembered.take() {
            self.has_failed(name, &why, again - now);
        }
        self.next = Some(again);
        Step::Nothing
    }

    /// Says why there is none, and when it is tried again.
    pub fn has_failed(&mut self, name: &str, why: &str, wait: Duration) {
        let message = format!("no certificate for `{name}` by `{}`: {why}", self.want.resolver);
        let found = Diagnostic::error("order_failed", message).with_origin(self.want.origin.clone());
        self.problem = Some(found.with_help(format!("it is tried again in {wait:.0?}")));
    }

    /// There is a good certificate, whoever has got it: what went wrong before is over, but for one that is in memory alone.
    pub fn is_well(&mut self) {
        (self.failures, self.again, self.remembered) = (0, None, None);
        self.problem.take_if(|problem| &*problem.code != "certificate_not_stored");
    }

    /// There is a certificate that is not valid before `begins`: it is looked at again then, and later and later before that.
    pub fn wait_for_begin(&mut self, name: &str, begins: SystemTime, now: Instant, clock: SystemTime) {
        self.failures += 1;
        let pause = schedule::pause(self.failures, None, self.chance);
        self.next = Some((now + begins.duration_since(clock).unwrap_or_default() + SETTLE).min(now + pause));
        let from = jiff::Timestamp::try_from(begins).map(|from| format!("{from:.0}")).unwrap_or_default();
        let message = format!("the new certificate for `{name}` is not valid before {from}");
        tracing::error!(name, "{message}");
        let found = Diagnostic::error("certificate_ahead", message).with_origin(self.want.origin.clone());
        self.problem = Some(found.with_help("the clock of this machine or the authority's is wrong; it is waited for"));
    }

    /// Lets the handshakes go on that wait for it.
    pub fn release(&mut self) {
        self.waiters.drain(..).for_each(go_on);
    }
}

/// What is to be done for a name.
pub(super) enum Step {
    Nothing,
    Order,
    Ask,
}

/// Tells one who waits that it may go on; whoever has gone away waits no more.
pub(super) fn go_on(waiter: oneshot::Sender<()>) {
    let _ = waiter.send(());
}
