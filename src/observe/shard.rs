//! What one worker has counted. A plain value without lock or atomic: a worker owns one and adds
//! to it, a scrape gets a copy, copies are added up.
//!
//! The number of series is bounded by what is declared (entry points, routers, services) times
//! methods, protocols and statuses, all of which are closed sets.

use super::record::RequestRecord;
use crate::http::Reason;
use crate::model::Map;
use foldhash::HashMap;
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The `method` label: Traefik's set, everything else is `EXTENSION_METHOD`
/// (<https://github.com/traefik/traefik/blob/v3.6/pkg/middlewares/metrics/metrics.go>).
pub(super) fn method_label(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        "CONNECT" => "CONNECT",
        "TRACE" => "TRACE",
        "PRI" => "PRI",
        _ => "EXTENSION_METHOD",
    }
}

/// The labels that differ between the requests of one router or service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) code: u16,
    pub(super) method: &'static str,
    pub(super) protocol: &'static str,
}

impl Kind {
    fn of(record: &RequestRecord<'_>) -> Self {
        let protocol = if record.status == 101 { "websocket" } else { "http" };
        Self { code: record.status, method: method_label(record.method), protocol }
    }
}

/// Counts of one series. `buckets` are not cumulative; what is above the last bound is in none.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) nanos: u64,
    pub(super) buckets: SmallVec<[u64; 4]>,
}

impl Counts {
    fn add(&mut self, record: &RequestRecord<'_>, bounds: &[f64]) {
        if self.buckets.len() != bounds.len() {
            self.buckets.resize(bounds.len(), 0);
        }
        self.requests += 1;
        self.request_bytes += record.request_bytes;
        self.response_bytes += record.response_bytes;
        self.nanos = self.nanos.saturating_add(u64::try_from(record.duration.as_nanos()).unwrap_or(u64::MAX));
        let seconds = record.duration.as_secs_f64();
        if let Some(bucket) = bounds.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket] += 1;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.nanos = self.nanos.saturating_add(other.nanos);
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
    }
}

/// All series of one entry point, service, or router with its service.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub(super) series: HashMap<Kind, Counts>,
    pub(super) retries: u64,
    /// Since when its name is in no table; it goes after a grace.
    gone: Option<Instant>,
}

impl Scope {
    fn merge(&mut self, other: &Self) {
        self.retries += other.retries;
        for (kind, counts) in &other.series {
            self.series.entry(*kind).or_default().merge(counts);
        }
    }
}

/// Scopes of one name: a router's also by its service, which may change under one name.
pub(super) type OfName = SmallVec<[(Arc<str>, Scope); 1]>;

/// Scopes by name. A name gets a slot when it is first seen, so that the usual request finds its
/// counts by one look-up and touches no reference count that other workers share.
#[derive(Debug, Clone, Default)]
pub(super) struct Scopes {
    slots: HashMap<Arc<str>, usize>,
    list: Vec<(Arc<str>, OfName)>,
}

impl Scopes {
    fn get(&mut self, name: &Arc<str>, service: Option<&Arc<str>>) -> &mut Scope {
        let slot = match self.slots.get(name) {
            Some(slot) => *slot,
            None => {
                self.list.push((name.clone(), SmallVec::new()));
                self.slots.insert(name.clone(), self.list.len() - 1);
                self.list.len() - 1
            }
        };
        let list = &mut self.list[slot].1;
        let wanted = service.map_or("", |s| s);
        let at = match list.iter().position(|(of, _)| **of == *wanted) {
            Some(at) => at,
            None => {
                list.push((service.cloned().unwrap_or_default(), Scope::default()));
                list.len() - 1
            }
        };
        &mut list[at].1
    }

    /// Name, service (empty unless a router's) and counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &Scope)> {
        self.list.iter().flat_map(|(name, list)| list.iter().map(move |(service, scope)| (name, service, scope)))
    }

    fn merge(&mut self, other: &Self) {
        for (name, service, scope) in other.iter() {
            self.get(name, Some(service)).merge(scope);
        }
    }

    fn sweep(&mut self, live: &dyn Known, now: Instant) {
        let before = self.list.len();
        self.list.retain_mut(|(name, list)| {
            let lives = live.has(name);
            list.retain(|(_, scope)| {
                scope.gone = if lives { None } else { Some(scope.gone.unwrap_or(now)) };
                scope.gone.is_none_or(|since| now.saturating_duration_since(since) < GRACE)
            });
            !list.is_empty()
        });
        if self.list.len() != before {
            self.slots = self.list.iter().enumerate().map(|(slot, (name, _))| (name.clone(), slot)).collect();
        }
    }
}

/// Names that can be asked for; a table's maps are that, so that they need not be listed for each table.
pub trait Known: Send + Sync {
    /// Whether it has the name.
    fn has(&self, name: &str) -> bool;
}

impl<V: Send + Sync + ?Sized> Known for Map<Arc<str>, V> {
    fn has(&self, name: &str) -> bool {
        self.contains_key(name)
    }
}

/// The names that the routing table has now; series of others go after the grace.
pub struct Live {
    /// Qualified router names.
    pub routers: Arc<dyn Known>,
    /// Qualified service names.
    pub services: Arc<dyn Known>,
}

/// How long the series of a vanished router or service stay, so that its last requests are scraped.
pub const GRACE: Duration = Duration::from_secs(300);

/// Which scopes are counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) entry_points: bool,
    pub(super) routers: bool,
    pub(super) services: bool,
}

/// Open connections by transport (`TCP`, `UDP`).
pub(super) type ByTransport = SmallVec<[(&'static str, i64); 1]>;

/// What one worker has counted since it started.
#[derive(Debug, Clone, Default)]
pub(super) struct Shard {
    pub(super) entry_points: Scopes,
    pub(super) routers: Scopes,
    pub(super) services: Scopes,
    /// Open connections by entry point and transport.
    pub(super) connections: HashMap<Arc<str>, ByTransport>,
    /// Answers that the proxy made itself.
    pub(super) reasons: HashMap<Reason, u64>,
}

impl Shard {
    pub(super) fn finished(&mut self, record: &RequestRecord<'_>, wanted: Wanted, bounds: &[f64]) {
        let kind = Kind::of(record);
        if wanted.entry_points {
            self.entry_points.get(record.entry_point, None).series.entry(kind).or_default().add(record, bounds);
        }
        if wanted.routers
            && let Some(router) = record.router
        {
            let scope = self.routers.get(router, record.service);
            scope.series.entry(kind).or_default().add(record, bounds);
        }
        if wanted.services
            && let Some(service) = record.service
        {
            let scope = self.services.get(service, None);
            scope.retries += u64::from(record.retries);
            scope.series.entry(kind).or_default().add(record, bounds);
        }
        if let Some(reason) = record.reason {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    pub(super) fn connection(&mut self, entry_point: &Arc<str>, protocol: &'static str, delta: i32) {
        if let Some(list) = self.connections.get_mut(entry_point) {
            match list.iter_mut().find(|(p, _)| *p == protocol) {
                Some((_, open)) => *open += i64::from(delta),
                None => list.push((protocol, i64::from(delta))),
            }
        } else {
            self.connections.insert(entry_point.clone(), smallvec![(protocol, i64::from(delta))]);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.entry_points.merge(&other.entry_points);
        self.routers.merge(&other.routers);
        self.services.merge(&other.services);
        for (entry_point, list) in &other.connections {
            let mine = self.connections.entry(entry_point.clone()).or_default();
            for (protocol, open) in list {
                match mine.iter_mut().find(|(p, _)| p == protocol) {
                    Some((_, sum)) => *sum += open,
                    None => mine.push((protocol, *open)),
                }
            }
        }
        for (reason, count) in &other.reasons {
            *self.reasons.entry(*reason).or_default() += count;
        }
    }

    /// Marks what is in no table and drops what has been so for the grace.
    pub(super) fn sweep(&mut self, live: &Live, now: Instant) {
        self.routers.sweep(&*live.routers, now);
        self.services.sweep(&*live.services, now);
    }
}
