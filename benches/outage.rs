//! What clients see of a catalog in trouble, and how soon changes are followed again: `cargo bench --bench outage`.
//!
//! Each kind of trouble lasts for some seconds under load. At the very end of it a service is registered; recovery is the time until
//! that one is routed. Also told: what the proxy asks of the catalog within the first second after its return, with
//! 2,000 services to watch.

#![allow(clippy::print_stdout)]

mod motion;

use motion::load::{Load, Plan};
use motion::stage::{Catalog, Kind, Origins, Proxy, thread};
use motion::{Flags, Report, ms, say, until};
use rust_lb::embedded::{Acl, Stats};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FLAGS: &[(&str, &str)] = &[
    ("catalog", "nomad, consul or both (both)"),
    ("services", "services in the catalog (2000)"),
    ("secs", "length of each trouble (15)"),
    ("rate", "requests a second (200)"),
    ("connections", "kept connections of the load (20)"),
    ("watch", "Consul's watchConnections (services + 200)"),
    ("only", "one kind of trouble"),
];

/// Kinds of trouble, and within which time after its end changes have to be followed.
const TROUBLES: [(&str, f64); 9] = [
    ("refused", 2.0),
    ("restored", 2.0),
    ("wiped", 2.0),
    ("forbidden", 10.0),
    ("leaderless", 10.0),
    ("slow", 10.0),
    // `wait` + 10 s is promised.
    ("paused", 70.0),
    ("partitioned", 70.0),
    ("stranded", 70.0),
];

/// What is aimed at for the last three.
const AIM: f64 = 5.0;

fn main() {
    let Some(flags) = Flags::read("outage", FLAGS) else { return };
    let mut report = Report::new("outage");
    for kind in flags.catalogs() {
        run(kind, &flags, &mut report);
    }
    report.end();
}

/// A catalog that can be made to fail, and what is registered in it.
struct Patient<'a> {
    catalog: &'a Catalog,
    kind: Kind,
    services: Vec<(Arc<str>, SocketAddr)>,
}

impl Patient<'_> {
    fn register_all(&self) {
        self.services.iter().for_each(|(name, addr)| self.catalog.register(self.kind, name, name, *addr));
    }

    fn stop(&self) {
        let embedded = &self.catalog.embedded;
        self.catalog.runtime.block_on(async {
            match self.kind {
                Kind::Nomad => embedded.nomad().stop().await,
                Kind::Consul => embedded.consul().stop().await,
            }
        });
    }

    fn start_again(&self) {
        let embedded = &self.catalog.embedded;
        match self.kind {
            Kind::Nomad => embedded.nomad().start_again(),
            Kind::Consul => embedded.consul().start_again(),
        }
        .expect("the agent's port");
    }

    fn wipe_stopped(&self) {
        match self.kind {
            Kind::Nomad => self.catalog.embedded.nomad().store(|store| store.wipe()),
            Kind::Consul => self.catalog.embedded.consul().store(|store| store.wipe()),
        }
    }

    fn deny(&self, on: bool) {
        match self.kind {
            Kind::Nomad => self.catalog.embedded.nomad().set_acl(on.then(Acl::deny)),
            Kind::Consul => self.catalog.embedded.consul().set_acl(on.then(Acl::deny)),
        }
    }

    fn begin(&self, trouble: &str) {
        let control = self.catalog.control(self.kind);
        match trouble {
            "refused" | "restored" => self.stop(),
            "wiped" => {
                self.stop();
                self.wipe_stopped();
                self.start_again();
            }
            "forbidden" => self.deny(true),
            "leaderless" => control.lose_leader(Duration::from_secs(60), Duration::from_secs(7)),
            "slow" => control.slow(Duration::from_secs(3)),
            "paused" => control.freeze(true),
            "partitioned" => control.partition(true),
            _ => {}
        }
    }

    fn end(&self, trouble: &str) {
        let control = self.catalog.control(self.kind);
        match trouble {
            "refused" => self.start_again(),
            "restored" => {
                // A snapshot from before: the same services under a lower index.
                self.wipe_stopped();
                self.register_all();
                self.start_again();
            }
            "wiped" => self.register_all(),
            "forbidden" => self.deny(false),
            "leaderless" => control.elect(),
            "slow" => control.slow(Duration::ZERO),
            "paused" => control.freeze(false),
            "partitioned" => control.partition(false),
            // No trouble before: what was open is lost all at once, and nothing tells.
            _ => control.strand(),
        }
    }
}

fn requests(stats: &Stats) -> u64 {
    stats.requests.values().sum()
}

fn run(kind: Kind, flags: &Flags, report: &mut Report) {
    let services: usize = flags.get("services", 2000);
    let (catalog, origins) = (Catalog::start(), Origins::new());
    let servers: Vec<_> = (0..20).map(|i| origins.start(&format!("s{i}"))).collect();
    let named = (0..services).map(|i| (format!("s{i}").into(), servers[i % servers.len()].addr));
    let patient = Patient { catalog: &catalog, kind, services: named.collect() };
    patient.register_all();
    let mut more = vec!["--rustLb.linger.for=0s".to_owned()];
    if kind == Kind::Consul {
        more.push(format!("--providers.consulCatalog.watchConnections={}", flags.get("watch", services + 200)));
    }
    let proxy = Proxy::start(&catalog, kind, &more);
    proxy.wait_for_routers(services);
    let connected = || proxy.provider(kind)["state"] == "connected" && proxy.provider(kind)["lastError"] == "";
    until(Duration::from_secs(60), connected).expect("connected");
    let client = thread("load");
    let plan = Plan {
        web: proxy.web,
        // Those whose servers have their names.
        services: (0..20).map(|i| Arc::from(format!("s{i}"))).collect(),
        connections: flags.get("connections", 20),
        rate: flags.get("rate", 200.0),
        target: "/",
    };
    let load = Load::start(client.handle(), &plan);
    std::thread::sleep(Duration::from_secs(2));
    drop(load.take());
    let strategy = proxy.provider(kind)["strategy"].clone();
    say(&format!("{}, {services} services, {strategy}", kind.name()));
    let only: String = flags.get("only", String::new());
    for (number, (trouble, limit)) in TROUBLES.into_iter().enumerate() {
        if !only.is_empty() && only != trouble {
            continue;
        }
        patient.begin(trouble);
        std::thread::sleep(flags.seconds("secs", 15));
        let (state, age) = (proxy.provider(kind)["state"].clone(), proxy.provider(kind)["age"].clone());
        let before = catalog.control(kind).stats();
        patient.end(trouble);
        let begin = Instant::now();
        let marker = format!("marker{number}");
        catalog.register(kind, &marker, &marker, servers[0].addr);
        let watched = std::thread::scope(|scope| {
            let control = catalog.control(kind);
            let first = scope.spawn(move || {
                std::thread::sleep(Duration::from_secs(1));
                control.stats()
            });
            let routed = proxy.wait_for_server(&marker, "s0", begin, Duration::from_secs(90));
            first.join().map(|first| (routed, first)).expect("the counts")
        });
        let (routed, first) = watched;
        let back = until(Duration::from_secs(60), connected);
        // All watchers are back, however the catalog was lost.
        std::thread::sleep(Duration::from_secs(3));
        let mut tally = load.take();
        let (failed, wrong) = (tally.failed(), tally.wrong);
        let recovery = routed.map(ms);
        report.run(json!({
            "catalog": kind.name(), "strategy": strategy, "trouble": trouble, "load": tally.json(), "recovery_ms": recovery,
            "state_before_return": state, "age_before_return_s": age, "connected_again": back.is_some(),
            "requests_in_the_first_second": requests(&first) - requests(&before),
            "connections_in_the_first_second": first.accepted - before.accepted, "rss_mb": proxy.rss(),
        }));
        let name = kind.name();
        report.bar(&format!("{name}, {trouble}: {failed} failed requests, {wrong} wrong ones"), failed + wrong == 0);
        let took = recovery.map_or_else(|| "never".to_owned(), |ms| format!("{:.2} s", ms / 1e3));
        let aim = if limit > 60.0 { format!(", aimed at {AIM} s") } else { String::new() };
        report.bar(
            &format!("{name}, {trouble}: recovery {took} (limit {limit} s{aim})"),
            recovery.is_some_and(|ms| ms <= limit * 1e3),
        );
        catalog.deregister(kind, &marker);
    }
    drop(load.finish());
}
