//! The metrics of the whole process: [`Metrics`] knows every worker's channel, adds up their counts
//! on a scrape, joins what the control side knows ([`Facts`]) and writes Prometheus' text.
//!
//! Names, labels and buckets are Traefik's (<https://doc.traefik.io/traefik/observability/metrics/overview/>),
//! so that existing dashboards work; what Traefik lacks is under `rust_lb_`. A worker that does not
//! answer in time is counted with its last answer, so that no counter ever goes back.

use super::access::AccessLog;
use super::family::{Families, Family};
use super::process;
use super::shard::{Counts, Kind, Scopes, Shard, Wanted};
use super::worker::{Ask, Observer};
use crate::http::CopyFate;
use crate::model::Provider;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

pub use super::shard::{GRACE, Live};

/// How long a scrape waits for the workers.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_millis(500);

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is counted (`metrics.prometheus`).
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Bounds of the duration histograms in seconds, rising.
    pub buckets: Vec<f64>,
    /// `addEntryPointsLabels`.
    pub entry_points_labels: bool,
    /// `addRoutersLabels`.
    pub routers_labels: bool,
    /// `addServicesLabels`.
    pub services_labels: bool,
}

impl Default for Options {
    /// Traefik's defaults.
    fn default() -> Self {
        Self {
            buckets: vec![0.1, 0.3, 1.2, 5.0],
            entry_points_labels: true,
            routers_labels: false,
            services_labels: true,
        }
    }
}

impl Options {
    pub(super) fn wanted(&self) -> Wanted {
        Wanted { entry_points: self.entry_points_labels, routers: self.routers_labels, services: self.services_labels }
    }
}

/// How a provider stands, for the freshness metrics.
#[derive(Debug, Clone)]
pub struct ProviderFact {
    /// Which provider.
    pub provider: Provider,
    /// Whether its last read succeeded.
    pub connected: bool,
    /// When an answer last came.
    pub last_contact: Option<SystemTime>,
    /// Services seen.
    pub services: usize,
}

/// A certificate in the store, for `traefik_tls_certs_not_after`.
#[derive(Debug, Clone)]
pub struct CertificateFact {
    /// Common name of the subject; may be empty.
    pub common_name: String,
    /// DNS names, joined with `,`.
    pub sans: String,
    /// Serial number, decimal.
    pub serial: String,
    /// End of validity.
    pub not_after: SystemTime,
}

/// A server of a service and whether it is thought able to answer.
#[derive(Debug, Clone)]
pub struct ServerFact {
    /// Qualified service name.
    pub service: Arc<str>,
    /// URL of the server.
    pub url: Arc<str>,
    /// Up or down.
    pub up: bool,
}

/// What the control side knows at the time of a scrape.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Providers.
    pub providers: Vec<ProviderFact>,
    /// Certificates.
    pub certificates: Vec<CertificateFact>,
    /// Servers with a health verdict; those without are left out.
    pub servers: Vec<ServerFact>,
    /// Copies of requests: the mirror, and how many met which fate ([`CopyFate::ALL`]).
    pub mirrored: Vec<(Arc<str>, [u64; 4])>,
    /// Certificate orders since the start: the resolver, the outcome, how many.
    pub orders: Vec<(Arc<str>, &'static str, u64)>,
    /// Certificates that cannot be served, by their files' problems.
    pub broken_certificates: usize,
    /// Requests that wait, for a server or for a place at one.
    pub waiting: usize,
    /// Those that wait for a place: the service that limits them, how many.
    pub queued: Vec<(Arc<str>, u32)>,
    /// Routers in the table.
    pub routers: usize,
    /// Services in the table.
    pub services: usize,
    /// Problems that refuse something.
    pub errors: usize,
    /// Problems worth knowing.
    pub warnings: usize,
    /// Open connections that no worker counts (the admin entry point's): entry point, number.
    pub connections: Vec<(Arc<str>, i64)>,
    /// Worker processes that died since the holder started.
    pub worker_deaths: u64,
    /// Access log lines dropped so far.
    pub dropped_lines: u64,
}

/// How many connections are open on an entry point.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenConnections {
    /// Entry point.
    pub entry_point: Arc<str>,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// How many.
    pub open: i64,
}

/// Without scrapes workers look for series to let go of at most this often, and only when the table changes.
const SWEEP: Duration = Duration::from_secs(60);

struct Worker {
    asks: mpsc::Sender<Ask>,
    last: Mutex<Arc<Shard>>,
}

/// The hub: one a process.
pub struct Metrics {
    options: Arc<Options>,
    workers: Mutex<Vec<Arc<Worker>>>,
    live: Mutex<Option<Arc<Live>>>,
    /// When workers were last told of them.
    told: Mutex<Option<Instant>>,
    reloads: AtomicU64,
    last_reload: AtomicU64,
    added: AtomicU64,
    changed: AtomicU64,
    removed: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    /// A hub without workers.
    pub fn new(options: Options) -> Self {
        Self {
            options: Arc::new(options),
            workers: Mutex::default(),
            live: Mutex::default(),
            told: Mutex::default(),
            reloads: AtomicU64::new(0),
            last_reload: AtomicU64::new(0),
            added: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            removed: AtomicU64::new(0),
        }
    }

    /// Makes the observer of one more worker. It is moved to the worker's thread, which puts it
    /// into an `Rc` and spawns [`Observer::serve`] there.
    pub fn observer(&self, access: Option<AccessLog>) -> Observer {
        let (asks, receiver) = mpsc::channel(16);
        lock(&self.workers).push(Arc::new(Worker { asks, last: Mutex::default() }));
        Observer::new(self.options.clone(), receiver, access)
    }

    /// Notes that a new table is served since `at`, with so many routers added, changed and removed.
    pub fn table_changed(&self, at: SystemTime, added: usize, changed: usize, removed: usize) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.last_reload.store(seconds, Ordering::Relaxed);
        for (counter, n) in [(&self.added, added), (&self.changed, changed), (&self.removed, removed)] {
            counter.fetch_add(n as u64, Ordering::Relaxed);
        }
    }

    /// Tells which routers and services there are now. The series of others go when they have
    /// been missing for [`GRACE`]. Workers look for them with each scrape, and without scrapes now and then: a look at
    /// all series with each of many changes would cost more than the changes.
    pub fn retain(&self, live: Live, now: Instant) {
        let live = Arc::new(live);
        *lock(&self.live) = Some(live.clone());
        let mut told = lock(&self.told);
        if told.is_some_and(|at| now.saturating_duration_since(at) < SWEEP) {
            return;
        }
        *told = Some(now);
        for worker in lock(&self.workers).iter() {
            // A full channel means that the worker is asked already; the next ask brings `live` too.
            let _ = worker.asks.try_send(Ask { live: Some(live.clone()), now, reply: None });
        }
    }

    /// The sum of all workers' counts.
    async fn gather(&self, now: Instant) -> Shard {
        let workers = lock(&self.workers).clone();
        let live = lock(&self.live).clone();
        let deadline = tokio::time::Instant::now() + SCRAPE_TIMEOUT;
        let asked: Vec<_> = workers
            .into_iter()
            .map(|worker| {
                let (reply, answer) = oneshot::channel();
                let sent = worker.asks.try_send(Ask { live: live.clone(), now, reply: Some(reply) });
                (worker, sent.is_ok().then_some(answer))
            })
            .collect();
        let mut sum = Shard::default();
        for (worker, answer) in asked {
            if let Some(answer) = answer
                && let Ok(Ok(shard)) = tokio::time::timeout_at(deadline, answer).await
            {
                *lock(&worker.last) = Arc::new(shard);
            }
            let last = lock(&worker.last).clone();
            sum.merge(&last);
        }
        sum
    }

    /// Open connections by entry point, sorted.
    pub async fn connections(&self) -> Vec<OpenConnections> {
        let sum = self.gather(Instant::now()).await;
        open_connections(&sum)
    }

    /// The text of a scrape at `now` and `wall` (the same moment on both clocks).
    pub async fn text(&self, facts: &Facts, now: Instant, wall: SystemTime) -> Vec<u8> {
        let sum = self.gather(now).await;
        let mut families = Families::default();
        let bounds = &self.options.buckets;
        requests(&mut families, &ENTRY_POINT, &sum.entry_points, bounds);
        requests(&mut families, &ROUTER, &sum.routers, bounds);
        requests(&mut families, &SERVICE, &sum.services, bounds);
        retries(&mut families, &sum.services);
        connections(&mut families, open_connections(&sum), &facts.connections);
        self.reloads(&mut families);
        reasons(&mut families, &sum);
        failures(&mut families, &sum);
        control(&mut families, facts, wall);
        process::families(&mut families);
        families.text()
    }

    fn reloads(&self, families: &mut Families) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let help = "Config reloads";
        families.single(Family::counter("traefik_config_reloads_total", help), load(&self.reloads));
        let help = "Last config reload success";
        families.single(Family::gauge("traefik_config_last_reload_success", help), load(&self.last_reload));
        let help = "Routers added to, changed in and removed from the routing table";
        let mut family = Family::counter("rust_lb_table_changes_total", help);
        family.add(&[("kind", "added")], load(&self.added));
        family.add(&[("kind", "changed")], load(&self.changed));
        family.add(&[("kind", "removed")], load(&self.removed));
        families.push(family);
    }
}

/// How the families of one kind of scope are called.
struct Names {
    prefix: &'static str,
    /// Label of the name itself.
    label: &'static str,
    /// Whether a label `service` follows.
    with_service: bool,
    what: &'static str,
}

const ENTRY_POINT: Names =
    Names { prefix: "traefik_entrypoint", label: "entrypoint", with_service: false, what: "on an entrypoint" };
const ROUTER: Names = Names { prefix: "traefik_router", label: "router", with_service: true, what: "on a router" };
const SERVICE: Names = Names { prefix: "traefik_service", label: "service", with_service: false, what: "on a service" };

fn requests(families: &mut Families, names: &Names, scopes: &Scopes, bounds: &[f64]) {
    let mut series: Vec<(&Arc<str>, &Arc<str>, Kind, &Counts)> = scopes
        .iter()
        .flat_map(|scope| scope.series.iter().map(move |(kind, counts)| (&scope.name, &scope.service, *kind, counts)))
        .collect();
    series.sort_by_key(|(name, service, kind, _)| (*name, *service, *kind));
    let name = |suffix: &str| format!("{}_{suffix}", names.prefix);
    let what = names.what;
    let help = format!("How many HTTP requests processed {what}, partitioned by status code, protocol, and method.");
    let mut total = Family::counter(&name("requests_total"), &help);
    let help =
        format!("How long it took to process the request {what}, partitioned by status code, protocol, and method.");
    let mut duration = Family::histogram(&name("request_duration_seconds"), &help);
    let help = format!(
        "The total size of requests in bytes handled {what}, partitioned by status code, protocol, and method."
    );
    let mut received = Family::counter(&name("requests_bytes_total"), &help);
    let help = format!(
        "The total size of responses in bytes handled {what}, partitioned by status code, protocol, and method."
    );
    let mut sent = Family::counter(&name("responses_bytes_total"), &help);
    for (scope, service, kind, counts) in series {
        let code = kind.code.to_string();
        let mut labels = vec![
            ("code", code.as_str()),
            ("method", kind.method),
            ("protocol", kind.protocol),
            (names.label, scope.as_ref()),
        ];
        if names.with_service {
            labels.push(("service", service));
        }
        labels.sort_unstable();
        total.add(&labels, counts.requests as f64);
        let seconds = Duration::from_nanos(counts.nanos).as_secs_f64();
        duration.add_histogram(&labels, bounds, &counts.buckets, counts.requests, seconds);
        received.add(&labels, counts.request_bytes as f64);
        sent.add(&labels, counts.response_bytes as f64);
    }
    for family in [total, tls(names, scopes), duration, received, sent] {
        families.push(family);
    }
}

fn tls(names: &Names, scopes: &Scopes) -> Family {
    let what = names.what;
    let help =
        format!("How many HTTP requests with TLS processed {what}, partitioned by TLS version and TLS cipher used.");
    let mut family = Family::counter(&format!("{}_requests_tls_total", names.prefix), &help);
    let mut series: Vec<_> = scopes
        .iter()
        .flat_map(|scope| scope.tls.iter().map(move |(tls, count)| (&scope.name, &scope.service, *tls, *count)))
        .collect();
    series.sort_unstable();
    for (scope, service, tls, count) in series {
        let mut labels = vec![(names.label, scope.as_ref())];
        if names.with_service {
            labels.push(("service", service));
        }
        labels.extend([("tls_cipher", tls.cipher), ("tls_version", tls.version)]);
        family.add(&labels, count as f64);
    }
    family
}

fn retries(families: &mut Families, services: &Scopes) {
    let mut retried: Vec<_> = services.iter().filter(|scope| scope.retries > 0).collect();
    retried.sort_by_key(|scope| &scope.name);
    let help = "How many request retries happened on a service.";
    let mut family = Family::counter("traefik_service_retries_total", help);
    for scope in retried {
        family.add(&[("service", &scope.name)], scope.retries as f64);
    }
    families.push(family);
}

fn open_connections(sum: &Shard) -> Vec<OpenConnections> {
    let mut all = Vec::new();
    for (entry_point, list) in &sum.connections {
        all.extend(list.iter().map(|(protocol, open)| OpenConnections {
            entry_point: entry_point.clone(),
            protocol,
            open: *open,
        }));
    }
    all.sort_unstable();
    all
}

fn connections(families: &mut Families, open: Vec<OpenConnections>, more: &[(Arc<str>, i64)]) {
    let mut sums: BTreeMap<(Arc<str>, &str), i64> = BTreeMap::new();
    for c in open {
        *sums.entry((c.entry_point, c.protocol)).or_default() += c.open;
    }
    for (entry_point, open) in more {
        *sums.entry((entry_point.clone(), "TCP")).or_default() += open;
    }
    let help = "How many open connections exist, by entryPoint and protocol";
    let mut family = Family::gauge("traefik_open_connections", help);
    for ((entry_point, protocol), open) in &sums {
        family.add(&[("entrypoint", entry_point), ("protocol", protocol)], *open as f64);
    }
    families.push(family);
}

fn reasons(families: &mut Families, sum: &Shard) {
    let mut reasons: Vec<_> = sum.reasons.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    reasons.sort_unstable();
    let help = "Answers that the proxy made itself, by reason";
    let mut family = Family::counter("rust_lb_proxy_answers_total", help);
    for (reason, count) in reasons {
        family.add(&[("reason", reason)], count as f64);
    }
    families.push(family);
}

fn failures(families: &mut Families, sum: &Shard) {
    let of_services = sum.services.iter().flat_map(|scope| {
        scope.failures.iter().map(move |(cause, count)| (scope.name.as_ref(), cause.as_str(), *count))
    });
    let others = sum.failures.iter().map(|(cause, count)| ("", cause.as_str(), *count));
    let mut failures: Vec<_> = of_services.chain(others).collect();
    failures.sort_unstable();
    let help = "Requests that failed, by what went wrong; without a service where they had none";
    let mut family = Family::counter("rust_lb_failures_total", help);
    for (service, cause, count) in failures {
        family.add(&[("cause", cause), ("service", service)], count as f64);
    }
    families.push(family);
}

fn control(families: &mut Families, facts: &Facts, wall: SystemTime) {
    let mut connected = Family::gauge("rust_lb_provider_connected", "Whether the last read of the catalog succeeded");
    let help = "Seconds since the catalog last answered";
    let mut contact = Family::gauge("rust_lb_provider_last_contact_seconds", help);
    let help = "Services with a routing tag that the catalog lists";
    let mut services = Family::gauge("rust_lb_provider_services", help);
    for fact in &facts.providers {
        let labels = [("provider", fact.provider.as_str())];
        connected.add(&labels, f64::from(u8::from(fact.connected)));
        if let Some(last) = fact.last_contact {
            contact.add(&labels, wall.duration_since(last).unwrap_or_default().as_secs_f64());
        }
        services.add(&labels, fact.services as f64);
    }
    for family in [connected, contact, services] {
        families.push(family);
    }
    families.single(Family::gauge("rust_lb_table_routers", "Routers in the routing table"), facts.routers as f64);
    families.single(Family::gauge("rust_lb_table_services", "Services in the routing table"), facts.services as f64);
    let mut problems = Family::gauge("rust_lb_problems", "Tags, files and rules that deserve a remark, by severity");
    problems.add(&[("severity", "error")], facts.errors as f64);
    problems.add(&[("severity", "warning")], facts.warnings as f64);
    families.push(problems);
    let help = "Worker processes that died since the holder started";
    families.single(Family::counter("rust_lb_worker_deaths_total", help), facts.worker_deaths as f64);
    let help = "Access log lines that were dropped because they could not be written in time";
    families.single(Family::counter("rust_lb_access_log_dropped_lines_total", help), facts.dropped_lines as f64);
    let mut up =
        Family::gauge("traefik_service_server_up", "service server is up, described by gauge value of 0 or 1.");
    // Keyed, since a text with one series twice is refused as a whole.
    let servers: BTreeMap<_, _> = facts.servers.iter().map(|s| ((&s.service, &s.url), s.up)).collect();
    for ((service, url), is_up) in servers {
        up.add(&[("service", service), ("url", url)], f64::from(u8::from(is_up)));
    }
    families.push(up);
    let help = "Copies of requests for mirrors, by the mirror and what became of them: sent, dropped (too many, or the \
                mirror did not take it), too_long (maxBodySize), cut (the request's own body broke off)";
    let mut copies = Family::counter("rust_lb_mirrored_requests_total", help);
    for (service, counts) in &facts.mirrored {
        for (fate, count) in CopyFate::ALL.into_iter().zip(counts) {
            // The first two are always there, so that a rate of them can be had.
            if *count > 0 || matches!(fate, CopyFate::Sent | CopyFate::Dropped) {
                copies.add(&[("service", service), ("result", fate.as_str())], *count as f64);
            }
        }
    }
    families.push(copies);
    let help = "Requests that wait for a server to appear, to take connections or to have a place";
    families.single(Family::gauge("rust_lb_waiting_requests", help), facts.waiting as f64);
    let help = "Requests that wait for a place at a server, by the service whose limit they wait for";
    let mut queued = Family::gauge("rust_lb_service_queued_requests", help);
    for (service, waiting) in &facts.queued {
        queued.add(&[("service", service)], f64::from(*waiting));
    }
    families.push(queued);
    let mut certs = Family::gauge("traefik_tls_certs_not_after", "Certificate expiration timestamp");
    let by_labels: BTreeMap<_, _> =
        facts.certificates.iter().map(|c| ((&c.common_name, &c.sans, &c.serial), c.not_after)).collect();
    for ((common_name, sans, serial), not_after) in by_labels {
        let labels = [("cn", common_name.as_str()), ("sans", sans), ("serial", serial)];
        certs.add(&labels, not_after.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64()));
    }
    families.push(certs);
    let help = "Files of the certificate store that are not served as they are";
    let mut broken = Family::gauge("rust_lb_certificates_broken", help);
    broken.add(&[], facts.broken_certificates as f64);
    families.push(broken);
    let help =
        "Certificate orders by resolver and outcome: issued, found (renewed by another process), failed, limited";
    let mut orders = Family::counter("rust_lb_certificate_orders_total", help);
    for (resolver, outcome, count) in &facts.orders {
        orders.add(&[("resolver", resolver), ("result", outcome)], *count as f64);
    }
    families.push(orders);
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
