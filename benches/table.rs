//! The table's numbers: `cargo bench --bench table`.
//!
//! - look-ups: 100,000 host routers (random hosts, so that their cache lines are cold), 10,000 path routers under one
//!   host, 1,000 `HostRegexp` routers;
//! - a table of 10,000 routers from tags;
//! - one changed service among 10,000, from the catalog's inventory to the table and its difference, in CPU time of the
//!   thread; a changed regex host among 1,000.

// A benchmark's result is what it prints.
#![allow(clippy::print_stdout)]

use divan::Bencher;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rust_lb::catalog::Snapshot;
use rust_lb::catalog::{Health, Instance, Inventory, Service, ServiceKey, SourceStatus, World, merge};
use rust_lb::declare::{self, Declarations, Dynamic, LoadBalancer};
use rust_lb::model::Provider;
use rust_lb::table::{Accepted, BuildOptions, EntryPoint, Planner, RequestView, Table, build};
use rust_lb::tags::{Decoder, TagOptions};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    // `cargo test` also starts benches; this one measures only when asked to.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    one_regex_changed();
    from_tags();
    one_changed();
    divan::main();
}

struct Request<'a> {
    host: &'a str,
    path: &'a str,
}

impl RequestView for Request<'_> {
    fn host(&self) -> &str {
        self.host
    }
    fn path(&self) -> &str {
        self.path
    }
    fn method(&self) -> &str {
        "GET"
    }
    fn query(&self) -> &str {
        ""
    }
    fn any_header(&self, _: &str, _: &mut dyn FnMut(&str) -> bool) -> bool {
        false
    }
    fn client_ip(&self) -> Option<IpAddr> {
        None
    }
}

fn options() -> BuildOptions {
    BuildOptions {
        entry_points: vec![EntryPoint {
            name: "web".into(),
            tls: false,
            as_default: true,
            middlewares: Vec::new(),
            tls_options: Default::default(),
        }],
        primary: Provider::Nomad,
        internal: Dynamic::default(),
    }
}

fn declared(rules: impl Iterator<Item = String>) -> Declarations {
    let mut dynamic = Dynamic::default();
    let server = declare::Server { url: "http://10.0.0.1:80".into(), ..declare::Server::default() };
    let load_balancer = LoadBalancer { servers: vec![server], ..LoadBalancer::default() };
    let service = declare::Service { load_balancer: Some(load_balancer), ..declare::Service::default() };
    dynamic.http.services.insert("s".into(), Arc::new(service));
    for (i, rule) in rules.enumerate() {
        let router = declare::Router { rule: rule.into(), service: "s".into(), ..declare::Router::default() };
        dynamic.http.routers.insert(format!("r-{i}").into(), Arc::new(router));
    }
    [(Provider::Nomad, dynamic)].into()
}

fn table(rules: impl Iterator<Item = String>) -> Arc<Table> {
    let built = build(&declared(rules), &Accepted::default(), &options());
    assert!(built.diagnostics.is_empty(), "{:?}", built.diagnostics.first());
    built.table
}

/// Asks for one of `asked` after another, in random order.
fn look_up(bencher: Bencher<'_, '_>, table: &Table, mut asked: Vec<(String, String)>) {
    asked.shuffle(&mut SmallRng::seed_from_u64(7));
    // the requests themselves are near: only the table is cold
    let requests: Vec<Request<'_>> = asked.iter().map(|(host, path)| Request { host, path }).collect();
    let mut at = 0;
    bencher.bench_local(|| {
        at = (at + 1) % requests.len();
        let found = table.find("web", false, &requests[at]);
        assert!(found.is_some());
        found
    });
}

#[divan::bench(sample_count = 500, sample_size = 1000)]
fn hosts_100000(bencher: Bencher<'_, '_>) {
    let host = |i: usize| format!("service-{i}.apps.example.com");
    let table = table((0..100_000).map(|i| format!("Host(`{}`)", host(i))));
    look_up(bencher, &table, (0..100_000).map(|i| (host(i), "/".to_owned())).collect());
}

#[divan::bench(sample_count = 500, sample_size = 1000)]
fn hosts_with_a_path_100000(bencher: Bencher<'_, '_>) {
    let host = |i: usize| format!("service-{i}.apps.example.com");
    let table = table((0..100_000).map(|i| format!("Host(`{}`) && PathPrefix(`/api`)", host(i))));
    look_up(bencher, &table, (0..100_000).map(|i| (host(i), "/api/v1/x".to_owned())).collect());
}

#[divan::bench(sample_count = 100, sample_size = 1000)]
fn paths_of_one_host_10000(bencher: Bencher<'_, '_>) {
    let path = |i: usize| format!("/api/v1/service-{i}/");
    let table = table((0..10_000).map(|i| format!("Host(`a.example`) && PathPrefix(`{}`)", path(i))));
    look_up(bencher, &table, (0..10_000).map(|i| ("a.example".to_owned(), path(i) + "x/y")).collect());
}

#[divan::bench(sample_count = 100, sample_size = 1000)]
fn paths_of_any_host_10000(bencher: Bencher<'_, '_>) {
    let path = |i: usize| format!("/api/v1/service-{i}/");
    let table = table((0..10_000).map(|i| format!("PathPrefix(`{}`)", path(i))));
    look_up(bencher, &table, (0..10_000).map(|i| ("a.example".to_owned(), path(i) + "x/y")).collect());
}

#[divan::bench(sample_count = 100, sample_size = 1000)]
fn host_regexes_1000(bencher: Bencher<'_, '_>) {
    let table = table((0..1_000).map(|i| format!("HostRegexp(`^[a-z0-9-]+\\.tenant-{i}\\.example\\.com$`)")));
    let mut rng = SmallRng::seed_from_u64(1);
    let host = |rng: &mut SmallRng, i: usize| format!("app-{}.tenant-{i}.example.com", rng.random_range(0..1000));
    look_up(bencher, &table, (0..1_000).map(|i| (host(&mut rng, i), "/".to_owned())).collect());
}

#[divan::bench(sample_count = 100, sample_size = 1000)]
fn host_regexes_with_inner_text_1000(bencher: Bencher<'_, '_>) {
    let table = table((0..1_000).map(|i| format!("HostRegexp(`^[a-z]+-{i}-[a-z0-9]+\\.example\\.com$`)")));
    let mut rng = SmallRng::seed_from_u64(1);
    let host = |rng: &mut SmallRng, i: usize| format!("app-{i}-pr{}.example.com", rng.random_range(0..1000));
    look_up(bencher, &table, (0..1_000).map(|i| (host(&mut rng, i), "/".to_owned())).collect());
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_default()
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |p: usize| times[(times.len() - 1) * p / 100];
    println!("{what}: median {:?}, p99 {:?}, most {:?}", at(50), at(99), at(100));
}

fn service(i: usize, port: u16, rule: &str) -> Arc<Service> {
    let key = ServiceKey { namespace: "default".into(), name: format!("service-{i}").into() };
    let tags = ["traefik.enable=true".into(), format!("traefik.http.routers.service-{i}.rule={rule}").into()];
    let instance = |n: usize| Instance {
        checks: None,
        id: format!("_nomad-task-{i}-{n}").into(),
        node: "node".into(),
        address: format!("10.0.{}.{}", i / 250, i % 250).into(),
        node_address: "".into(),
        port: port + u16::try_from(n).unwrap_or_default(),
        tags: tags.to_vec(),
        health: Health::Unknown,
        datacenter: "dc1".into(),
        create_index: i as u64,
        job: format!("job-{i}").into(),
        alloc: format!("alloc-{i}-{n}").into(),
    };
    Arc::new(Service { key, instances: vec![instance(0), instance(1)] })
}

fn inventory(services: impl Iterator<Item = Arc<Service>>) -> Inventory {
    Inventory { services: services.map(|service| (service.key.clone(), service)).collect() }
}

fn host_rule(i: usize) -> String {
    format!("Host(`service-{i}.apps.example.com`)")
}

fn regex_rule(i: usize) -> String {
    format!("HostRegexp(`^[a-z0-9-]+\\.tenant-{i}\\.example\\.com$`)")
}

fn world(inventory: &Inventory) -> World {
    let mut status = SourceStatus::starting(Provider::Nomad, "http://127.0.0.1:4646");
    status.known_leader = true;
    let snapshot = Snapshot { inventory: Some(Arc::new(inventory.clone())), status };
    merge([&snapshot], &World::default())
}

fn decoder() -> Decoder {
    Decoder::new([(Provider::Nomad, TagOptions::default())].into())
}

fn from_tags() {
    let inventory = inventory((0..10_000).map(|i| service(i, 8000, &host_rule(i))));
    let times = (0..10).map(|_| {
        let (mut decoder, mut planner) = (decoder(), Planner::new(options(), Duration::from_secs(10)));
        let (start, now) = (cpu(), Instant::now());
        let step = decoder.step(&world(&inventory));
        let decoded = cpu() - start;
        let planned = planner.plan(step.declarations, now);
        let times = (decoded, cpu() - start, now.elapsed());
        assert_eq!(planned.table.routers.len(), 10_000);
        times
    });
    let times: Vec<_> = times.collect();
    report("10,000 services decoded (CPU)", times.iter().map(|t| t.0).collect());
    report("10,000 routers from tags (CPU)", times.iter().map(|t| t.1).collect());
    report("10,000 routers from tags (wall)", times.iter().map(|t| t.2).collect());
}

/// Changes one service after another; gives the CPU time that each took.
fn changes(mut inventory: Inventory, count: usize, changed: impl Fn(usize) -> Arc<Service>) -> Vec<Duration> {
    let (mut decoder, mut planner) = (decoder(), Planner::new(options(), Duration::from_secs(10)));
    let now = Instant::now();
    planner.plan(decoder.step(&world(&inventory)).declarations, now);
    let mut times = Vec::new();
    // what a worker holds until its next request
    let mut before = planner.table().clone();
    for i in 0..count {
        let new = changed(i);
        let start = cpu();
        inventory.services.insert(new.key.clone(), new);
        let step = decoder.step(&world(&inventory));
        let planned = planner.plan(step.declarations, now);
        assert!(!planned.diff.is_empty());
        before = planned.table;
        times.push(cpu() - start);
    }
    assert!(!before.routers.is_empty());
    times
}

fn one_changed() {
    let all = || inventory((0..10_000).map(|i| service(i, 8000, &host_rule(i))));
    report(
        "one service among 10,000 has other servers (CPU)",
        changes(all(), 300, |i| service(i * 31, 9000, &host_rule(i * 31))),
    );
    let moved = |i: usize| service(i * 31, 8000, &format!("Host(`moved-{i}.apps.example.com`)"));
    report("one service among 10,000 has another rule (CPU)", changes(all(), 300, moved));
    report(
        "one service comes to 10,000 (CPU)",
        changes(all(), 300, |i| service(10_000 + i, 8000, &host_rule(10_000 + i))),
    );
    let paths = |i: usize| format!("Host(`a.example`) && PathPrefix(`/api/v1/service-{i}/`)");
    let one_host = || inventory((0..10_000).map(|i| service(i, 8000, &paths(i))));
    report(
        "one service among 10,000 of one host has another path (CPU)",
        changes(one_host(), 300, |i| service(i * 31, 8000, &paths(20_000 + i))),
    );
}

fn one_regex_changed() {
    let before = resident();
    let all = inventory((0..1_000).map(|i| service(i, 8000, &regex_rule(i))));
    let (mut decoder, mut planner) = (decoder(), Planner::new(options(), Duration::from_secs(10)));
    let start = Instant::now();
    planner.plan(decoder.step(&world(&all)).declarations, start);
    println!("1,000 regex hosts from tags: {:?}, {} KiB more", start.elapsed(), resident().saturating_sub(before));
    let table = planner.table();
    for i in 0..1_000 {
        let host = format!("app-{i}.tenant-{i}.example.com");
        assert!(table.find("web", false, &Request { host: &host, path: "/" }).is_some());
    }
    println!("… after 1,000 look-ups: {} KiB more", resident().saturating_sub(before));
    report(
        "one regex host among 1,000 changed (CPU)",
        changes(all, 100, |i| service(i, 8000, &regex_rule(10_000 + i))),
    );
}
