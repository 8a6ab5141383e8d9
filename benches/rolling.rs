//! What clients see of a deployment and of a server that dies: `cargo bench --bench rolling`.
//!
//! A Nomad job with its service in the embedded Nomad, which, as the real one, lists an allocation before its port opens and takes a
//! stopped one's registration away just before the signal. Rolled over under load one allocation at a time, with `count = 3` and with
//! `count = 1`, ports opening late; servers end in peace (idle connections closed, what is asked answered). Then one of
//! three servers is killed, all its connections reset, while it stays listed for some seconds.

#![allow(clippy::print_stdout)]

mod motion;

use motion::load::{Load, Plan, Tally};
use motion::origin::{Origin, Reserved};
use motion::stage::{Catalog, Kind, Origins, Proxy, thread};
use motion::{Flags, Report, say};
use serde_json::json;
use std::time::Duration;

const FLAGS: &[(&str, &str)] = &[
    ("late", "seconds until a new allocation's port opens (4)"),
    ("healthy", "seconds before the next allocation is replaced (2)"),
    ("listed", "seconds that a killed server stays listed (3)"),
    ("rounds", "deployments of each kind, and kills (3)"),
    ("rate", "requests a second (200)"),
    ("connections", "kept connections of the load (40)"),
    ("target", "what is asked for; /slow takes 50 ms (/slow)"),
];

const KIND: Kind = Kind::Nomad;

fn main() {
    let Some(flags) = Flags::read("rolling", FLAGS) else { return };
    let mut report = Report::new("rolling");
    deploy(3, &flags, &mut report);
    deploy(1, &flags, &mut report);
    kill(&flags, &mut report);
    report.end();
}

/// A job's allocations, behind a proxy under load.
struct Job {
    catalog: Catalog,
    origins: Origins,
    running: Vec<Origin>,
    made: usize,
    proxy: Proxy,
    load: Load,
    late: Duration,
}

impl Job {
    fn start(count: usize, flags: &Flags) -> Self {
        let (catalog, origins) = (Catalog::start(), Origins::new());
        let running: Vec<_> = (0..count).map(|i| origins.start(&format!("web-{i}"))).collect();
        running.iter().for_each(|server| catalog.register(KIND, "web", &server.name, server.addr));
        let proxy = Proxy::start(&catalog, KIND, &[]);
        proxy.wait_for_routers(1);
        let plan = Plan {
            web: proxy.web,
            services: ["web".into()].into(),
            connections: flags.get("connections", 40),
            rate: flags.get("rate", 200.0),
            target: flags.get("target", "/slow".to_owned()).leak(),
        };
        // The load's runtime lives as long as the program: it has no state to lose.
        let client = Box::leak(Box::new(thread("load")));
        let load = Load::start(client.handle(), &plan);
        std::thread::sleep(Duration::from_secs(2));
        drop(load.take());
        Self { catalog, origins, running, made: count, proxy, load, late: flags.seconds("late", 4) }
    }

    /// A new allocation as Nomad lists it: before its port opens.
    fn list_next(&mut self) -> (String, Reserved) {
        let (name, port) = (format!("web-{}", self.made), Reserved::new().expect("a port"));
        self.made += 1;
        self.catalog.register(KIND, "web", &name, port.addr);
        (name, port)
    }

    /// Replaces the oldest allocation.
    fn replace(&mut self) {
        let old = self.running.remove(0);
        self.catalog.deregister(KIND, &old.name);
        old.drain();
        let (name, port) = self.list_next();
        std::thread::sleep(self.late);
        self.running.push(self.origins.open(&name, port));
    }
}

fn count(report: &mut Report, what: &str, mut tally: Tally, twice: u64) -> Tally {
    let seen = tally.clone();
    report.run(json!({"what": what, "seen": tally.json(), "posts_served_twice": twice}));
    seen
}

fn deploy(count_of: usize, flags: &Flags, report: &mut Report) {
    let mut job = Job::start(count_of, flags);
    say(&format!("rolling update, count = {count_of}"));
    let mut failed = (0, 0);
    for round in 1..=flags.get("rounds", 3) {
        for _ in 0..count_of {
            job.replace();
            std::thread::sleep(flags.seconds("healthy", 2));
        }
        let twice = job.origins.ledger.twice();
        let seen = count(report, &format!("count={count_of}, deployment {round}"), job.load.take(), twice);
        failed = (failed.0 + seen.failed_gets, failed.1 + seen.failed_posts);
    }
    let rest = job.load.finish();
    failed = (failed.0 + rest.failed_gets, failed.1 + rest.failed_posts);
    let (gets, posts) = failed;
    report.bar(&format!("count={count_of}: {gets} failed GETs, {posts} failed POSTs"), gets + posts == 0);
    let twice = job.origins.ledger.twice();
    report.bar(&format!("count={count_of}: {twice} POSTs served twice"), twice == 0);
    drop(job.proxy);
}

fn kill(flags: &Flags, report: &mut Report) {
    let mut job = Job::start(3, flags);
    say("one of three servers is killed");
    let (mut gets, mut posts) = (0, 0);
    for round in 1..=flags.get("rounds", 3) {
        let victim = job.running.remove(0);
        victim.kill();
        std::thread::sleep(flags.seconds("listed", 3));
        job.catalog.deregister(KIND, &victim.name);
        let (name, port) = job.list_next();
        std::thread::sleep(job.late);
        job.running.push(job.origins.open(&name, port));
        std::thread::sleep(flags.seconds("healthy", 2));
        let seen = count(report, &format!("kill {round}"), job.load.take(), job.origins.ledger.twice());
        (gets, posts) = (gets + seen.failed_gets, posts + seen.failed_posts);
    }
    let rest = job.load.finish();
    (gets, posts) = (gets + rest.failed_gets, posts + rest.failed_posts);
    // A POST that the dead server had may have done its work: it is not sent again.
    report.bar(&format!("kill: {gets} failed GETs ({posts} failed POSTs)"), gets == 0);
    let twice = job.origins.ledger.twice();
    report.bar(&format!("kill: {twice} POSTs served twice"), twice == 0);
    drop(job.proxy);
}
