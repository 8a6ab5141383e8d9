//! What one worker has counted. A plain value without lock or atomic: a worker owns one and adds
//! to it, a scrape gets a copy, copies are added up.
//!
//! The number of series is bounded by what is declared (entry points, routers, services) times
//! methods, protocols, statuses, TLS ciphers and causes of failure, all of which are closed sets.
//! Where a request's counts are is found once by name and then remembered (`memo`).

use super::memo::{Memo, Place};
use super::record::RequestRecord;
use crate::http::{Cause, Reason, TlsInfo};
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
    pub(super) fn of(record: &RequestRecord<'_>) -> Self {
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
    #[inline]
    fn add(&mut self, record: &RequestRecord<'_>, took: Took) {
        self.requests += 1;
        self.request_bytes += record.request_bytes;
        self.response_bytes += record.response_bytes;
        self.nanos = self.nanos.saturating_add(took.nanos);
        if let Some(count) = self.buckets.get_mut(took.bucket) {
            *count += 1;
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

/// Bounds of the duration histograms, in nanoseconds, rising.
#[derive(Debug, Clone)]
pub(super) struct Bounds(Vec<u64>);

impl Bounds {
    pub(super) fn new(seconds: &[f64]) -> Self {
        // Options hold numbers above zero; what is beyond the type is beyond every request.
        Self(seconds.iter().map(|bound| (bound * 1e9).round() as u64).collect())
    }

    fn of(&self, duration: Duration) -> Took {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Took { nanos, bucket: self.0.iter().position(|bound| nanos <= *bound).unwrap_or(usize::MAX) }
    }
}

/// How long a request took, and which bucket that is; beyond all of them for the last.
#[derive(Debug, Clone, Copy)]
struct Took {
    nanos: u64,
    bucket: usize,
}

/// Adds to the count of a key in a short list.
fn count<K: PartialEq + Copy>(list: &mut SmallVec<[(K, u64); 1]>, key: K, more: u64) {
    match list.iter_mut().find(|(known, _)| *known == key) {
        Some((_, count)) => *count += more,
        None => list.push((key, more)),
    }
}

/// Counts by a key of a closed set.
pub(super) type By<K> = SmallVec<[(K, u64); 1]>;

/// All series of one entry point, service, or router with its service.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) name: Arc<str>,
    /// Empty unless it is a router's.
    pub(super) service: Arc<str>,
    pub(super) series: Vec<(Kind, Counts)>,
    pub(super) tls: By<TlsInfo>,
    pub(super) failures: By<Cause>,
    pub(super) retries: u64,
    /// Since when its name is in no table; it goes after a grace.
    gone: Option<Instant>,
}

impl Scope {
    fn place(&mut self, kind: Kind, tls: Option<TlsInfo>, buckets: usize) -> (usize, usize) {
        let series = self.series.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
            self.series.push((kind, Counts { buckets: smallvec![0; buckets], ..Counts::default() }));
            self.series.len() - 1
        });
        let tls = tls.map_or(usize::MAX, |tls| {
            self.tls.iter().position(|(known, _)| *known == tls).unwrap_or_else(|| {
                self.tls.push((tls, 0));
                self.tls.len() - 1
            })
        });
        (series, tls)
    }

    fn merge(&mut self, other: &Self) {
        self.retries += other.retries;
        for (kind, counts) in &other.series {
            let (series, _) = self.place(*kind, None, 0);
            self.series[series].1.merge(counts);
        }
        other.tls.iter().for_each(|(tls, n)| count(&mut self.tls, *tls, *n));
        other.failures.iter().for_each(|(cause, n)| count(&mut self.failures, *cause, *n));
    }
}

/// Scopes by name; a router's also by its service, which may change under one name.
#[derive(Debug, Clone, Default)]
pub(super) struct Scopes {
    list: Vec<Scope>,
    by_name: HashMap<Arc<str>, SmallVec<[usize; 1]>>,
}

impl Scopes {
    /// Where a scope is, made if need be.
    fn find(&mut self, name: &Arc<str>, service: Option<&Arc<str>>) -> usize {
        let wanted = service.map_or("", |s| s);
        let known = self.by_name.get(name).and_then(|all| all.iter().find(|at| *self.list[**at].service == *wanted));
        if let Some(at) = known {
            return *at;
        }
        self.list.push(Scope {
            name: name.clone(),
            service: service.cloned().unwrap_or_default(),
            series: Vec::new(),
            tls: SmallVec::new(),
            failures: SmallVec::new(),
            retries: 0,
            gone: None,
        });
        let at = self.list.len() - 1;
        self.by_name.entry(name.clone()).or_default().push(at);
        at
    }

    fn place(&mut self, name: &Arc<str>, service: Option<&Arc<str>>, record: &RequestRecord<'_>, n: usize) -> Place {
        let scope = self.find(name, service);
        let (series, tls) = self.list[scope].place(Kind::of(record), record.tls, n);
        // What is beyond the type is counted nowhere; no table is that large.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Place { scope: place(scope), series: place(series), tls: place(tls) }
    }

    /// Adds to what was placed; a place is good until the next sweep.
    #[inline]
    fn add(&mut self, place: Place, record: &RequestRecord<'_>, took: Took) -> Option<&mut Scope> {
        let scope = self.list.get_mut(place.scope as usize)?;
        if let Some((_, counts)) = scope.series.get_mut(place.series as usize) {
            counts.add(record, took);
        }
        if let Some((_, count)) = scope.tls.get_mut(place.tls as usize) {
            *count += 1;
        }
        Some(scope)
    }

    /// All of them, in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.list.iter()
    }

    fn merge(&mut self, other: &Self) {
        for scope in other.iter() {
            let service = Some(&scope.service).filter(|service| !service.is_empty());
            let at = self.find(&scope.name, service);
            self.list[at].merge(scope);
        }
    }

    fn sweep(&mut self, live: &dyn Known, now: Instant) {
        let before = self.list.len();
        self.list.retain_mut(|scope| {
            scope.gone = if live.has(&scope.name) { None } else { Some(scope.gone.unwrap_or(now)) };
            scope.gone.is_none_or(|since| now.saturating_duration_since(since) < GRACE)
        });
        if self.list.len() != before {
            self.by_name.clear();
            for (at, scope) in self.list.iter().enumerate() {
                self.by_name.entry(scope.name.clone()).or_default().push(at);
            }
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
    pub(super) reasons: By<Reason>,
    /// Failures of requests that have no service, or of all where services are not counted, and of TCP connections.
    pub(super) failures: By<Cause>,
}

impl Shard {
    /// Counts a request. `memo` is of this shard alone.
    pub(super) fn finished(&mut self, record: &RequestRecord<'_>, wanted: Wanted, bounds: &Bounds, memo: &mut Memo) {
        let took = bounds.of(record.duration);
        let [entry_point, router, service] = memo.places(record, || {
            let n = bounds.0.len();
            let place = |scopes: &mut Scopes, wanted: bool, name: Option<&Arc<str>>, service| match name {
                Some(name) if wanted => scopes.place(name, service, record, n),
                _ => Place::NONE,
            };
            [
                place(&mut self.entry_points, wanted.entry_points, Some(record.entry_point), None),
                place(&mut self.routers, wanted.routers, record.router, record.service),
                place(&mut self.services, wanted.services, record.service, None),
            ]
        });
        self.entry_points.add(entry_point, record, took);
        self.routers.add(router, record, took);
        let service = self.services.add(service, record, took);
        if let Some(reason) = record.reason {
            count(&mut self.reasons, reason, 1);
        }
        match service {
            Some(service) => {
                service.retries += u64::from(record.retries);
                if let Some(failure) = &record.failure {
                    count(&mut service.failures, failure.cause, 1);
                }
            }
            None => {
                if let Some(failure) = &record.failure {
                    count(&mut self.failures, failure.cause, 1);
                }
            }
        }
    }

    /// Counts a failure that belongs to no request.
    pub(super) fn failed(&mut self, cause: Cause) {
        count(&mut self.failures, cause, 1);
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
        other.reasons.iter().for_each(|(reason, n)| count(&mut self.reasons, *reason, *n));
        other.failures.iter().for_each(|(cause, n)| count(&mut self.failures, *cause, *n));
    }

    /// Marks what is in no table and drops what has been so for the grace. Places are not good after it.
    pub(super) fn sweep(&mut self, live: &Live, now: Instant, memo: &mut Memo) {
        memo.forget();
        self.routers.sweep(&*live.routers, now);
        self.services.sweep(&*live.services, now);
    }
}
