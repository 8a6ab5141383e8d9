//! What a watcher tells the rest: its [`Snapshot`] on a watch channel, and the log. A state is
//! logged when it changes, not at each attempt.

use super::believe::Belief;
use super::{Snapshot, SourceState, SourceStatus};
use crate::model::Provider;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// The sending side of a source.
#[derive(Debug)]
pub struct Publisher {
    sender: watch::Sender<Snapshot>,
    provider: Provider,
    address: String,
}

impl Publisher {
    /// A source that has not answered yet.
    pub fn new(provider: Provider, address: &str, strategy: &'static str) -> (Self, watch::Receiver<Snapshot>) {
        let status = SourceStatus { strategy, ..SourceStatus::starting(provider, address) };
        let (sender, receiver) = watch::channel(Snapshot { inventory: None, status });
        (Self { sender, provider, address: address.to_owned() }, receiver)
    }

    /// A good answer came. Receivers see it with the next change; they are not woken for it.
    pub fn contact(&self, index: u64, known_leader: bool, connections: usize) {
        self.sender.send_if_modified(|s| {
            let woken = s.status.known_leader != known_leader;
            s.status.index = index;
            s.status.known_leader = known_leader;
            s.status.connections = connections;
            s.status.last_contact = Some(SystemTime::now());
            woken
        });
    }

    /// The agent is there, and what waits there for changes too: what is known holds. Receivers see it with the next change.
    pub fn beat(&self) {
        self.sender.send_if_modified(|s| {
            s.status.last_contact = Some(SystemTime::now());
            false
        });
    }

    /// Reads succeed. `stale`: only from a server without a leader, beyond the accepted age.
    pub fn connected(&self, stale: bool, connections: usize) {
        let state = if stale { SourceState::Stale } else { SourceState::Connected };
        let mut before = state;
        self.sender.send_if_modified(|s| {
            before = std::mem::replace(&mut s.status.state, state);
            s.status.connections = connections;
            let error = !s.status.last_error.is_empty();
            s.status.last_error.clear();
            before != state || error
        });
        if before != state {
            let (provider, address) = (self.provider, &self.address);
            if stale {
                tracing::warn!(%provider, address, "catalog answers without a leader, beyond the accepted age");
            } else {
                tracing::info!(%provider, address, "catalog connected");
            }
        }
    }

    /// A read failed; the last good inventory goes on being served. The error carries no secret.
    pub fn failed(&self, error: &str, connections: usize) {
        let (mut news, mut read) = (false, false);
        self.sender.send_if_modified(|s| {
            let state = SourceState::Retrying;
            read = s.inventory.is_some();
            news = (s.status.state == state || s.status.state == SourceState::Starting)
                && s.status.last_error.is_empty()
                || s.status.state != state;
            s.status.connections = connections;
            let woken = s.status.state != state || s.status.last_error != error;
            s.status.state = state;
            s.status.last_error.clear();
            s.status.last_error.push_str(error);
            woken
        });
        if news {
            let (provider, address) = (self.provider, &self.address);
            let serving = if read { "serving what was last good" } else { "it has not been read yet" };
            tracing::warn!(%provider, address, error, "catalog cannot be read; {serving}");
        }
    }

    /// How the catalog is watched.
    pub fn strategy(&self, strategy: &'static str) {
        let mut before = strategy;
        self.sender.send_if_modified(|s| {
            before = std::mem::replace(&mut s.status.strategy, strategy);
            before != strategy
        });
        if before != strategy {
            tracing::info!(provider = %self.provider, before, strategy, "catalog is watched another way");
        }
    }

    /// Capabilities that the token lacks, in words.
    pub fn rights(&self, missing: Vec<String>) {
        let news = self.sender.send_if_modified(|s| {
            let woken = s.status.missing_rights != missing;
            s.status.missing_rights.clone_from(&missing);
            woken
        });
        if news && !missing.is_empty() {
            let (missing, add) = (missing.join("; "), self.add());
            tracing::warn!(provider = %self.provider, missing, add, "catalog token lacks rights");
        } else if news {
            tracing::info!(provider = %self.provider, "catalog token has the rights it needs");
        }
    }

    /// What gives a token the rights that routing takes, to the letter.
    fn add(&self) -> &'static str {
        match self.provider {
            Provider::Nomad => {
                "NOMAD_TOKEN (or providers.nomad.endpoint.tokenFile) with the policy: namespace \"*\" { capabilities = [\"read-job\"] }"
            }
            _ => {
                "CONSUL_HTTP_TOKEN (or providers.consulCatalog.endpoint.tokenFile) with the policy: node_prefix \"\" { policy = \"read\" } \
                 service_prefix \"\" { policy = \"read\" }"
            }
        }
    }

    /// Remarks on how the catalog is watched.
    pub fn notes(&self, notes: Vec<String>) {
        // A count that changes in a note is no news.
        let wording = |notes: &[String]| notes.concat().replace(|c: char| c.is_ascii_digit(), "");
        let mut news = false;
        self.sender.send_if_modified(|s| {
            let woken = s.status.notes != notes;
            news = woken && wording(&s.status.notes) != wording(&notes);
            s.status.notes.clone_from(&notes);
            woken
        });
        if news && !notes.is_empty() {
            tracing::warn!(provider = %self.provider, notes = notes.join("; "), "catalog watcher");
        }
    }

    /// Publishes what is believed, if it changed or was never published.
    pub fn inventory(&self, belief: &mut Belief, connections: usize) {
        let changed = belief.take_changed();
        if !changed && self.sender.borrow().inventory.is_some() {
            return;
        }
        let inventory = belief.inventory();
        let held = belief.held();
        let newly_held: Vec<_> = {
            let now = self.sender.borrow();
            held.iter().filter(|name| !now.status.held.contains(name)).cloned().collect()
        };
        self.sender.send_modify(|s| {
            s.status.services_seen = inventory.services.len();
            s.status.connections = connections;
            s.status.held = held;
            s.status.last_change = Some(SystemTime::now());
            s.inventory = Some(inventory);
        });
        if !newly_held.is_empty() {
            tracing::warn!(
                provider = %self.provider,
                services = some(&newly_held),
                "services vanished with a reset of the catalog; held until they reappear"
            );
        }
    }

    /// Holds that ended, by time or by hand.
    pub fn dropped(&self, names: &[String]) {
        if !names.is_empty() {
            tracing::warn!(provider = %self.provider, services = some(names), "held services are dropped");
        }
    }

    /// True once a complete read was published.
    pub fn is_complete(&self) -> bool {
        self.sender.borrow().inventory.is_some()
    }
}

/// A few names and how many more there are: a reset may concern thousands.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(10) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The age of an answer that is still taken for current.
pub const STALE_BOUND: Duration = Duration::from_secs(10);
