//! What a storm of changes does to traffic that it does not concern: `cargo bench --bench storm`.
//!
//! 1,000 services; half of them are left alone and get 500 requests a second, 100 WebSockets, 50 event streams and 20 downloads, all
//! open from before the first round to behind the last; the other half changes 10 times a second (another port, gone, back, other
//! tags). Each round is a calm time and then a storm under the same load. Then, without load: what a change costs, and what
//! memory holds after 100 changes and after 10,000.

#![allow(clippy::print_stdout)]

mod motion;

use motion::load::{Load, Plan};
use motion::stage::{Catalog, Kind, Origins, Proxy, tags, thread};
use motion::streams::{self, Streams};
use motion::{Flags, Report, median, ms, quantile, say, until};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FLAGS: &[(&str, &str)] = &[
    ("catalog", "nomad, consul or both (both)"),
    ("services", "services in the catalog (1000)"),
    ("secs", "length of a storm (60)"),
    ("calm", "length of the calm before each (20)"),
    ("rounds", "storms (5)"),
    ("changes", "changes a second (10)"),
    ("rate", "requests a second (500)"),
    ("connections", "kept connections of the load (50)"),
    ("websockets", "open WebSockets (100)"),
    ("events", "open event streams (50)"),
    ("downloads", "open downloads (20)"),
    ("many", "changes until the second look at memory (10000)"),
];

fn main() {
    let Some(flags) = Flags::read("storm", FLAGS) else { return };
    let mut report = Report::new("storm");
    for kind in flags.catalogs() {
        run(kind, &flags, &mut report);
    }
    report.end();
}

/// The services that change, one after the other.
struct Changes<'a> {
    catalog: &'a Catalog,
    kind: Kind,
    names: Vec<String>,
    servers: [SocketAddr; 2],
    done: usize,
}

impl Changes<'_> {
    /// One change: of a service's port, of port and tags, gone, or back.
    fn next(&mut self) {
        let name = &self.names[(self.done / 4) % self.names.len()];
        match self.done % 4 {
            0 => self.catalog.register(self.kind, name, name, self.servers[1]),
            1 => {
                let mut tags = tags(name).to_vec();
                tags.push(format!("traefik.http.routers.{name}.priority={}", 100 + self.done));
                self.catalog.register_with(self.kind, name, name, self.servers[0], &tags);
            }
            2 => self.catalog.deregister(self.kind, name),
            _ => self.catalog.register(self.kind, name, name, self.servers[0]),
        }
        self.done += 1;
    }

    /// At this rate for so long; how many there were, and how long it took.
    fn storm(&mut self, rate: f64, length: Duration) -> (usize, Duration) {
        let (begin, before) = (Instant::now(), self.done);
        while begin.elapsed() < length {
            self.next();
            let due = Duration::from_secs_f64((self.done - before) as f64 / rate);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
        (self.done - before, begin.elapsed())
    }
}

fn run(kind: Kind, flags: &Flags, report: &mut Report) {
    let services: usize = flags.get("services", 1000);
    let (secs, calm) = (flags.seconds("secs", 60), flags.seconds("calm", 20));
    let rate: f64 = flags.get("changes", 10.0);
    let (catalog, origins) = (Catalog::start(), Origins::new());
    let half = services.div_ceil(2);
    let names: Vec<Arc<str>> = (0..half).map(|i| format!("calm{i}").into()).collect();
    let servers: Vec<_> = names.iter().map(|name| origins.start(name)).collect();
    for (name, server) in names.iter().zip(&servers) {
        catalog.register(kind, name, name, server.addr);
    }
    let moved = [origins.start("moved-a"), origins.start("moved-b")];
    let moving: Vec<String> = (0..services - half).map(|i| format!("moving{i}")).collect();
    for name in &moving {
        catalog.register(kind, name, name, moved[0].addr);
    }
    let watch = format!("--providers.consulCatalog.watchConnections={}", services + 200);
    let more = if kind == Kind::Consul { vec![watch] } else { Vec::new() };
    let proxy = Proxy::start(&catalog, kind, &more);
    proxy.wait_for_routers(services);
    let servers_of = [moved[0].addr, moved[1].addr];
    let mut changes = Changes { catalog: &catalog, kind, names: moving, servers: servers_of, done: 0 };

    let client = thread("load");
    let plan = Plan {
        web: proxy.web,
        services: names.clone().into(),
        connections: flags.get("connections", 50),
        rate: flags.get("rate", 500.0),
        target: "/",
    };
    let counts = [
        (streams::Kind::WebSocket, flags.get("websockets", 100)),
        (streams::Kind::Events, flags.get("events", 50)),
        (streams::Kind::Download, flags.get("downloads", 20)),
    ];
    let wanted: usize = counts.iter().map(|(_, count)| count).sum();
    let open = Streams::start(client.handle(), proxy.web, &names, &counts);
    until(Duration::from_secs(60), || open.open() == wanted).expect("every stream opens");
    let load = Load::start(client.handle(), &plan);
    std::thread::sleep(Duration::from_secs(3));
    drop((load.take(), open.take()));
    say(&format!("{}: {services} services, {wanted} streams open", kind.name()));

    let (mut calm_p99, mut storm_p99, mut under_load) = (Vec::new(), Vec::new(), Vec::new());
    let (mut failed_gets, mut failed_posts, mut closed, mut broken, mut wrong) = (0, 0, 0, 0, 0);
    for round in 1..=flags.get("rounds", 5) {
        let (cpu, begin) = (proxy.cpu(), Instant::now());
        std::thread::sleep(calm);
        let calm_cpu = (proxy.cpu() - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
        let mut before = load.take();
        let calm_broken = open.take();
        let cpu = proxy.cpu();
        let (done, took) = changes.storm(rate, secs);
        let storm_cpu = (proxy.cpu() - cpu).as_secs_f64() - calm_cpu * took.as_secs_f64();
        let mut during = load.take();
        let streams = open.take();
        let per_change = Duration::from_secs_f64((storm_cpu / done as f64).max(0.0));
        calm_p99.push(ms(quantile(&mut before.times, 0.99)));
        storm_p99.push(ms(quantile(&mut during.times, 0.99)));
        under_load.push(ms(per_change));
        failed_gets += during.failed_gets + before.failed_gets;
        failed_posts += during.failed_posts + before.failed_posts;
        closed += during.closed + before.closed;
        broken += streams.broken + calm_broken.broken;
        wrong += during.wrong + before.wrong;
        report.run(json!({
            "catalog": kind.name(), "round": round, "changes": done, "calm": before.json(), "storm": during.json(),
            "streams_open": streams.open, "streams_broken": streams.broken, "stream_reasons": streams.reasons,
            "stream_pieces": streams.pieces, "cpu_per_change_ms": ms(per_change), "calm_cpu": calm_cpu,
        }));
    }
    let name = kind.name();
    let (p99_calm, p99_storm) = (median(&calm_p99), median(&storm_p99));
    report.bar(
        &format!("{name}: {failed_gets} failed GETs, {failed_posts} failed POSTs"),
        failed_gets + failed_posts == 0,
    );
    report.bar(&format!("{name}: {broken} broken streams"), broken == 0);
    report.bar(&format!("{name}: {closed} closed keep-alive connections"), closed == 0);
    report.bar(&format!("{name}: {wrong} answers from a wrong service"), wrong == 0);
    let limit = (p99_calm * 1.2).max(p99_calm + 2.0);
    report
        .bar(&format!("{name}: p99 {p99_storm:.2} ms in the storm, {p99_calm:.2} ms in the calm"), p99_storm <= limit);
    drop((load.finish(), open));

    // What a change costs by itself.
    std::thread::sleep(Duration::from_secs(2));
    let (cpu, begin) = (proxy.cpu(), Instant::now());
    std::thread::sleep(calm);
    let rest = (proxy.cpu() - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
    let cpu = proxy.cpu();
    let (done, took) = changes.storm(rate, secs);
    std::thread::sleep(Duration::from_secs(1));
    let alone = ((proxy.cpu() - cpu).as_secs_f64() - rest * (took.as_secs_f64() + 1.0)) / done as f64 * 1e3;
    report.run(json!({"catalog": name, "cpu_per_change_alone_ms": alone, "cpu_at_rest": rest, "under_load_ms": median(&under_load)}));
    report.bar(&format!("{name}: {alone:.2} ms of CPU for a change"), alone < 3.0);
    memory(kind, &proxy, &mut changes, flags.get("many", 10_000), report);
}

/// Resident memory after 100 changes of a fresh proxy, and after many.
fn memory(kind: Kind, storm: &Proxy, changes: &mut Changes<'_>, many: usize, report: &mut Report) {
    let after_storm = storm.rss();
    let watch = format!("--providers.consulCatalog.watchConnections={}", changes.names.len() * 2 + 200);
    let more = if kind == Kind::Consul { vec![watch] } else { Vec::new() };
    let proxy = Proxy::start(changes.catalog, kind, &more);
    proxy.wait_for_routers(changes.names.len());
    let settled = |changes: &mut Changes<'_>, count: usize| {
        for _ in 0..count {
            changes.next();
            std::thread::sleep(Duration::from_millis(2));
        }
        // The last change is routed, and what it left to do (the state's file) is done.
        while !changes.done.is_multiple_of(4) {
            changes.next();
        }
        let last = &changes.names[(changes.done / 4 - 1) % changes.names.len()];
        let routed = proxy.wait_for_server(last, "moved-a", Instant::now(), Duration::from_secs(30)).is_some();
        std::thread::sleep(Duration::from_secs(5));
        (proxy.rss(), routed)
    };
    let (first, one) = settled(changes, 100);
    let (second, two) = settled(changes, many.saturating_sub(100));
    let name = kind.name();
    report.run(json!({"catalog": name, "rss_after_100_mb": first, "rss_after_many_mb": second, "many": many, "last_routed": one && two, "rss_after_storms_mb": after_storm}));
    report.bar(
        &format!("{name}: RSS {first:.1} MB after 100 changes, {second:.1} MB after {many}"),
        second <= first * 1.05 && one && two,
    );
}
