//! How long a change takes until requests follow it: `cargo bench --bench change`.
//!
//! Each change is seen twice: by a reader of its own that waits in a blocked query at the same agent, as any client of the catalog
//! does, and by requests through the proxy. The difference is the proxy's part. Three kinds of change, in turn: a service that moves
//! to another server, one that is new, and one that goes (until it is answered by 404). At 1,000 and at 10,000 services; for Consul both with a
//! watcher for each name, and by doorbell.

#![allow(clippy::print_stdout)]

mod motion;

use motion::client::Conn;
use motion::load::number;
use motion::stage::{Catalog, Kind, Origins, Proxy, thread};
use motion::{Flags, Report, ms, quantile, say, spread};
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const FLAGS: &[(&str, &str)] = &[
    ("catalog", "nomad, consul or both (both)"),
    ("services", "sizes of the catalog, with commas (1000,10000)"),
    ("changes", "changes of each kind (100)"),
    ("below", "changes of each kind where Consul is read by doorbell (34)"),
    ("settle", "seconds of rest before the first change (10)"),
];

/// Rest between two changes: what follows of one is over, as it mostly is between two changes.
const REST: Duration = Duration::from_millis(20);
/// The same by doorbell, where each ring is a read of every name and these are paced at one a second.
const REST_BELOW: Duration = Duration::from_millis(1500);

/// A change is missed after this time.
const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    let Some(flags) = Flags::read("change", FLAGS) else { return };
    let mut report = Report::new("change");
    let sizes: String = flags.get("services", "1000,10000".to_owned());
    for size in sizes.split(',').filter_map(|size| size.trim().parse().ok()) {
        for kind in flags.catalogs() {
            let changes = flags.get("changes", 100);
            match kind {
                Kind::Nomad => run(kind, size, None, changes, &flags, &mut report),
                Kind::Consul => {
                    run(kind, size, Some(size + 500), changes, &flags, &mut report);
                    run(kind, size, Some(128.min(size / 2)), flags.get("below", 34), &flags, &mut report);
                }
            }
        }
    }
    report.end();
}

/// Somebody else who waits for the same change.
struct Reader {
    agent: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

impl Reader {
    /// Starts to wait; the handle gives the time at which the answer was there.
    fn wait(&self, path: &'static str, name: &str) -> tokio::task::JoinHandle<Option<Instant>> {
        let (agent, path) = (self.agent, format!("{path}{name}"));
        let (ready, blocked) = std::sync::mpsc::channel();
        let waits = self.runtime.spawn(async move {
            let mut conn = Conn::open(agent).await.ok()?;
            let separator = if path.contains('?') { '&' } else { '?' };
            let (head, _) = conn.exchange("GET", "agent", &path, number(), b"").await.ok()?;
            let blocking = format!("{path}{separator}index={}&wait=60s", head.index?.max(1));
            let request = format!("GET {blocking} HTTP/1.1\r\nHost: agent\r\n\r\n");
            conn.send(request.as_bytes()).await.ok()?;
            let _ = ready.send(());
            let head = conn.head().await.ok()?;
            conn.body(&head).await.ok()?;
            Some(Instant::now())
        });
        let _ = blocked.recv();
        // It was sent; that it is being waited on shows nowhere outside of the agent.
        std::thread::sleep(Duration::from_millis(20));
        waits
    }

    fn answered(&self, waits: tokio::task::JoinHandle<Option<Instant>>) -> Option<Instant> {
        self.runtime.block_on(waits).ok().flatten()
    }
}

fn run(kind: Kind, services: usize, watch: Option<usize>, changes: usize, flags: &Flags, report: &mut Report) {
    let (catalog, origins) = (Catalog::start(), Origins::new());
    let servers = [origins.start("a"), origins.start("b")];
    for i in 0..services {
        catalog.register(kind, &format!("s{i}"), &format!("s{i}"), servers[0].addr);
    }
    let mut more = vec!["--rustLb.linger.for=0s".to_owned()];
    more.extend(watch.map(|watch| format!("--providers.consulCatalog.watchConnections={watch}")));
    let proxy = Proxy::start(&catalog, kind, &more);
    proxy.wait_for_routers(services);
    std::thread::sleep(flags.seconds("settle", 10));
    let strategy = proxy.provider(kind)["strategy"].as_str().unwrap_or_default().to_owned();
    say(&format!("{}, {services} services, {strategy}: {changes} changes of each kind", kind.name()));
    let reader = Reader { agent: catalog.addr(kind), runtime: thread("reader") };
    let list = if kind == Kind::Nomad { "/v1/services?namespace=*" } else { "/v1/catalog/services" };
    let one = if kind == Kind::Nomad { "/v1/service/" } else { "/v1/health/service/" };

    let mut missed = 0;
    let mut all: Vec<Duration> = Vec::new();
    for what in ["moved", "new", "gone"] {
        let (mut routed, mut catalogs, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..changes {
            let name = if what == "moved" { format!("s{}", i * 31 % services) } else { format!("new{i}") };
            let waits = if what == "moved" { reader.wait(one, &name) } else { reader.wait(list, "") };
            let begin = Instant::now();
            match what {
                "moved" => catalog.register(kind, &name, &name, servers[1].addr),
                "new" => catalog.register(kind, &name, &name, servers[0].addr),
                _ => catalog.deregister(kind, &name),
            }
            let seen = match what {
                "moved" => proxy.wait_for_server(&name, "b", begin, LIMIT),
                "new" => proxy.wait_for_server(&name, "a", begin, LIMIT),
                _ => proxy.wait_for_status(&name, 404, begin, LIMIT),
            };
            let (Some(seen), Some(answered)) = (seen, reader.answered(waits)) else {
                missed += 1;
                continue;
            };
            routed.push(seen);
            catalogs.push(answered - begin);
            beyond.push(seen.saturating_sub(answered - begin));
            std::thread::sleep(if strategy == "doorbell" { REST_BELOW } else { REST });
        }
        all.extend(&beyond);
        report.run(json!({
            "catalog": kind.name(), "services": services, "strategy": strategy, "change": what, "routed": spread(routed),
            "reader": spread(catalogs), "beyond": spread(beyond),
        }));
    }
    let (median, max) = (ms(quantile(&mut all, 0.5)), ms(quantile(&mut all, 1.0)));
    let head = format!(
        "{}, {services} services, {strategy}: {median:.2} ms beyond the catalog (median), {max:.2} ms at most",
        kind.name()
    );
    let holds = match strategy.as_str() {
        "doorbell" => median < 50.0 + 0.25 * services as f64,
        _ => median < 20.0 && max < 100.0,
    };
    report.bar(&head, holds);
    report.bar(&format!("{missed} changes missed"), missed == 0);
}
