//! What is remembered of orders from one process to the next, in the state directory: which names failed, how often and why, and what
//! strangers have caused. Without it a proxy that ends and starts again and again would ask an authority as often.
//!
//! What always holds: nothing secret is in it; a record that cannot be read or written costs its memory only and is told; after a start
//! a name waits for [`SOON`] at most, so that a person who has mended something does not wait for hours.

use crate::acme::limits::{Ledger, Placed};
use crate::table::Store;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;

/// A failed name is tried no sooner than so long after its last try, whoever starts: Let's Encrypt grants five failed validations an
/// hour for a name, one each twelve minutes (<https://letsencrypt.org/docs/rate-limits/>).
const SOON: Duration = Duration::from_secs(720);
/// What is older than the longest limit says nothing any more.
const OLD: Duration = Duration::from_secs(86_400);
/// How long a state directory may take that hangs.
const PATIENCE: Duration = Duration::from_secs(2);

/// A name whose last order failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failed {
    /// Whom it was ordered from.
    pub resolver: Arc<str>,
    /// How often in a row.
    pub failures: usize,
    /// Why, the last time.
    pub why: Arc<str>,
    /// When it was tried last, in seconds since 1970.
    tried: u64,
    /// When it may be tried again, in seconds since 1970.
    again: u64,
}

/// An order that a stranger has caused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OnDemand {
    at: u64,
    domain: Arc<str>,
    service: Arc<str>,
}

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    failed: BTreeMap<Arc<str>, Failed>,
    on_demand: Vec<OnDemand>,
}

/// See the module.
pub(super) struct Record {
    store: Store<Document>,
    failed: BTreeMap<Arc<str>, Failed>,
    changed: bool,
    writing: JoinSet<()>,
}

impl Record {
    /// In this directory; nothing is read yet.
    pub fn new(directory: &Path) -> Self {
        let store = Store::new(directory, "certificate-orders.json");
        Self { store, failed: BTreeMap::new(), changed: false, writing: JoinSet::new() }
    }

    /// Reads what the process before has left.
    pub async fn read(&mut self, ledger: &mut Ledger, now: Instant, clock: SystemTime) {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || store.read(Duration::MAX, clock));
        let document = match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(Ok(Some(stored)))) => stored.value,
            Ok(Ok(Ok(None))) => return,
            Ok(Ok(Err(error))) => return tracing::warn!("what is known of failed certificate orders is lost: {error}"),
            Ok(Err(_)) => return,
            Err(_) => {
                let path = self.store.path().display();
                return tracing::warn!(%path, "what is known of failed certificate orders cannot be read in time");
            }
        };
        self.failed = document.failed;
        let then = |at: u64| {
            let ago = clock.duration_since(time(at)).unwrap_or_default();
            now.checked_sub(ago).unwrap_or(now)
        };
        let orders = document.on_demand.into_iter().filter(|order| time(order.at) + OLD > clock);
        ledger.remember(orders.map(|order| Placed {
            at: then(order.at),
            domain: order.domain,
            service: order.service,
        }));
    }

    /// What is known of a name, and how long it has to wait yet.
    pub fn of(&self, name: &str, resolver: &str, clock: SystemTime) -> Option<(&Failed, Duration)> {
        let failed = self.failed.get(name).filter(|failed| *failed.resolver == *resolver)?;
        let again = time(failed.again).min(time(failed.tried) + SOON);
        Some((failed, again.duration_since(clock).unwrap_or_default()))
    }

    /// An order has failed, and may be made again after `pause`.
    pub fn failed(&mut self, name: &Arc<str>, resolver: &Arc<str>, failures: usize, why: &str, pause: Duration) {
        let clock = SystemTime::now();
        let (resolver, why) = (resolver.clone(), why.into());
        let failed = Failed { resolver, failures, why, tried: seconds(clock), again: seconds(clock + pause) };
        self.failed.insert(name.clone(), failed);
        self.changed = true;
    }

    /// A name has what it needs.
    pub fn mended(&mut self, name: &str) {
        self.changed |= self.failed.remove(name).is_some();
    }

    /// A stranger has caused an order.
    pub fn placed(&mut self) {
        self.changed = true;
    }

    /// Writes what has changed, unless a write is under way: then [`Self::written`] comes, and this is to be called again.
    pub fn write(&mut self, ledger: &Ledger, now: Instant, clock: SystemTime) {
        if !self.changed || !self.writing.is_empty() {
            return;
        }
        self.changed = false;
        self.failed.retain(|_, failed| time(failed.again) + OLD > clock);
        let placed = ledger.placed().filter(|placed| now.duration_since(placed.at) < OLD).map(|placed| OnDemand {
            at: seconds(clock - now.duration_since(placed.at)),
            domain: placed.domain.clone(),
            service: placed.service.clone(),
        });
        let document = Document { failed: self.failed.clone(), on_demand: placed.collect() };
        let store = self.store.clone();
        self.writing.spawn_blocking(move || {
            if let Err(error) = store.write(&document, clock) {
                tracing::warn!("a restart will not know which certificate orders have failed: {error}");
            }
        });
    }

    /// The write that is under way has ended.
    pub async fn written(&mut self) {
        match self.writing.join_next().await {
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn time(at: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(at)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::limits::Limits;

    const MINUTE: Duration = Duration::from_secs(60);

    async fn end(record: &mut Record) {
        while !record.writing.is_empty() {
            record.written().await;
        }
    }

    #[tokio::test]
    async fn what_failed_and_what_strangers_caused_is_known_to_the_next_process() {
        let dir = tempfile::tempdir().expect("a folder");
        let (now, clock) = (Instant::now(), SystemTime::now());
        let (mut record, mut ledger) = (Record::new(dir.path()), Ledger::default());
        let limits = Limits { per_domain: 1, ..Limits::default() };
        let (name, resolver): (Arc<str>, Arc<str>) = ("one.shop.com".into(), "le".into());
        record.failed(&name, &resolver, 3, "answered 500", 5 * MINUTE);
        record.failed(&"two.shop.com".into(), &resolver, 9, "answered 403", 180 * MINUTE);
        record.failed(&"three.shop.com".into(), &resolver, 1, "answered 403", MINUTE);
        record.mended("three.shop.com");
        ledger.take("a.shop.com", &"web".into(), &limits, now).expect("within the limits");
        record.write(&ledger, now, clock);
        end(&mut record).await;

        let (mut record, mut ledger) = (Record::new(dir.path()), Ledger::default());
        record.read(&mut ledger, now, clock).await;
        let (failed, wait) = record.of(&name, "le", clock).expect("known");
        assert_eq!((failed.failures, &*failed.why), (3, "answered 500"));
        assert!(wait > 4 * MINUTE && wait <= 5 * MINUTE, "{wait:?}");
        let (_, wait) = record.of("two.shop.com", "le", clock).expect("known");
        assert!(wait > 11 * MINUTE && wait <= SOON, "{wait:?}");
        assert_eq!(record.of("two.shop.com", "le", clock + SOON + MINUTE).map(|(_, wait)| wait), Some(Duration::ZERO));
        assert!(record.of(&name, "another", clock).is_none(), "another resolver may do better");
        assert!(record.of("three.shop.com", "le", clock).is_none());
        ledger.take("b.shop.com", &"web".into(), &limits, now).expect_err("the limit is reached");
        ledger.take("b.shop.com", &"web".into(), &limits, now + 61 * MINUTE).expect("an hour later");
    }

    #[tokio::test]
    async fn a_record_that_is_garbage_or_nowhere_costs_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let (now, clock) = (Instant::now(), SystemTime::now());
        let mut ledger = Ledger::default();
        let mut record = Record::new(dir.path());
        std::fs::write(record.store.path(), "{\"version\":").expect("written");
        record.read(&mut ledger, now, clock).await;
        assert!(record.failed.is_empty());
        std::fs::write(dir.path().join("file"), "").expect("written");
        let mut record = Record::new(&dir.path().join("file/below"));
        record.read(&mut ledger, now, clock).await;
        record.failed(&"one.shop.com".into(), &"le".into(), 1, "no", MINUTE);
        record.write(&ledger, now, clock);
        end(&mut record).await;
    }
}
