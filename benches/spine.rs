//! The spine's numbers, measured on the real binary: `cargo bench --bench spine`.
//!
//! - registration until the first 200, deregistration until 404 (100 of each; embedded Consul and Nomad, and the real
//!   Consul at `CONSUL_HTTP_ADDR` where that is set);
//! - start with 2,000 services until the last is served;
//! - resident memory with 10 and with 2,000 services, for Nomad and for both of Consul's strategies;
//! - with 10,000 services: CPU time of each thread for one changed service, at ten changes a second, and when nothing
//!   changes; resident memory.
//!
//! The catalog runs in one process (`rust-lb dev`), the proxy that is measured in another (`rust-lb serve`).

// A benchmark's result is what it prints.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_rust-lb");

fn main() {
    // `cargo test` also starts benches; this one measures only when asked to.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let backend = backend();
    latency("embedded Consul", &Catalog::start(), backend, true);
    latency("embedded Nomad", &Catalog::start(), backend, false);
    if let Ok(consul) = std::env::var("CONSUL_HTTP_ADDR") {
        let consul = consul.trim_start_matches("http://").parse().expect("CONSUL_HTTP_ADDR is host:port");
        latency("real Consul", &Catalog { _process: None, nomad: None, consul }, backend, true);
    } else {
        println!("real Consul: not measured, CONSUL_HTTP_ADDR is not set");
    }
    changes("Nomad", backend, false, 128);
    changes("Consul, each service watched", backend, true, 16_000);
    changes("Consul, by doorbell", backend, true, 128);
    for services in [10, 2000] {
        memory("Nomad", services, backend, false, 128);
        memory("Consul, watchConnections above", services, backend, true, services + 16);
        if services > 128 {
            memory("Consul, watchConnections below (128)", services, backend, true, 128);
        }
    }
}

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Where services are registered.
struct Catalog {
    _process: Option<Process>,
    nomad: Option<SocketAddr>,
    consul: SocketAddr,
}

impl Catalog {
    fn start() -> Self {
        let state = tempfile::tempdir().expect("a folder").keep();
        let any = "127.0.0.1:0";
        let mut child = Command::new(BINARY)
            .args(["dev", "--json", "--no-samples", "--web", any, "--websecure", any, "--admin", any, "--nomad", any])
            .args(["--consul", any, "--stateDir", &state.display().to_string()])
            // Its own proxy half sleeps: it watches an address where nothing is.
            .args(["--providers.nomad.endpoint.address=http://127.0.0.1:1"])
            .args(["--providers.consulCatalog.endpoint.address=http://127.0.0.1:1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the catalog starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let said: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let addr = |name: &str| said[name].as_str().and_then(|s| s.parse().ok()).expect("an address");
        Self { _process: Some(Process(child)), nomad: Some(addr("nomad")), consul: addr("consul") }
    }

    fn register(&self, consul: bool, name: &str, backend: SocketAddr) {
        let tags = ["traefik.enable=true".to_owned(), format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)")];
        if consul {
            let body = serde_json::json!({"ID": name, "Name": name, "Address": "127.0.0.1", "Port": backend.port(), "Tags": tags});
            assert_eq!(request(self.consul, "PUT", "c", "/v1/agent/service/register", &body.to_string()).0, 200);
        } else {
            let body = serde_json::json!({"ID": name, "ServiceName": name, "Namespace": "default", "Address": "127.0.0.1", "Port": backend.port(), "Tags": tags});
            let nomad = self.nomad.expect("an embedded Nomad");
            assert_eq!(request(nomad, "PUT", "n", &format!("/v1/service/{name}"), &body.to_string()).0, 200);
        }
    }

    fn deregister(&self, consul: bool, name: &str) {
        let status = if consul {
            request(self.consul, "PUT", "c", &format!("/v1/agent/service/deregister/{name}"), "").0
        } else {
            request(self.nomad.expect("an embedded Nomad"), "DELETE", "n", &format!("/v1/service/{name}/{name}"), "").0
        };
        assert_eq!(status, 200);
    }
}

/// The proxy that is measured.
struct Proxy {
    process: Process,
    web: SocketAddr,
    admin: SocketAddr,
    started: Instant,
}

impl Proxy {
    fn start(catalog: &Catalog, consul: bool, watch_connections: usize) -> Self {
        let (web, admin) = (free_port(), free_port());
        let state = tempfile::tempdir().expect("a folder").keep();
        let mut command = Command::new(BINARY);
        command
            .args(["serve", "--single-process", "--workers=2", "--rustLb.linger.for=0s", "--accessLog=false"])
            .arg(format!("--entryPoints.web.address={web}"))
            .arg(format!("--entryPoints.traefik.address={admin}"))
            .args(["--stateDir", &state.display().to_string()])
            .arg(format!("--rustLb.certificates.directory={}", state.join("certs").display()));
        if consul {
            command
                .arg(format!("--providers.consulCatalog.endpoint.address=http://{}", catalog.consul))
                .arg("--providers.consulCatalog.exposedByDefault=false")
                .arg(format!("--providers.consulCatalog.watchConnections={watch_connections}"));
        } else {
            let nomad = catalog.nomad.expect("an embedded Nomad");
            command
                .arg(format!("--providers.nomad.endpoint.address=http://{nomad}"))
                .arg("--providers.nomad.exposedByDefault=false");
        }
        let started = Instant::now();
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the proxy starts");
        let proxy = Self { process: Process(child), web, admin, started };
        spin("ready", || {
            TcpStream::connect(proxy.admin).is_ok() && request(proxy.admin, "GET", "127.0.0.1", "/ready", "").0 == 200
        });
        proxy
    }

    fn status(&self, host: &str) -> u16 {
        request(self.web, "GET", host, "/", "").0
    }

    /// How many are in the table.
    fn routers(&self) -> f64 {
        let raw = request(self.admin, "GET", "127.0.0.1", "/metrics", "").1;
        let line = raw.lines().find(|line| line.starts_with("rust_lb_table_routers")).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next().and_then(|n| n.parse().ok())).unwrap_or(0.0)
    }

    /// Resident set in MB (10^6 bytes).
    fn rss(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).expect("Linux");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("kB") * 1024.0 / 1e6
    }
}

fn latency(what: &str, catalog: &Catalog, backend: SocketAddr, consul: bool) {
    let proxy = Proxy::start(catalog, consul, 128);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for i in 0..100 {
        let name = format!("latency-{i}");
        let host = format!("{name}.test");
        let begin = Instant::now();
        catalog.register(consul, &name, backend);
        spin("200", || proxy.status(&host) == 200);
        up.push(begin.elapsed());
        let begin = Instant::now();
        catalog.deregister(consul, &name);
        spin("404", || proxy.status(&host) == 404);
        down.push(begin.elapsed());
    }
    println!("{what}: registered until 200: {}; deregistered until 404: {}", spread(up), spread(down));
}

fn memory(what: &str, services: usize, backend: SocketAddr, consul: bool, watch_connections: usize) {
    let catalog = Catalog::start();
    for i in 0..services {
        catalog.register(consul, &format!("m{i}"), backend);
    }
    let proxy = Proxy::start(&catalog, consul, watch_connections);
    spin("every router is in the table", || proxy.routers() >= services as f64);
    let served = proxy.started.elapsed();
    let rss = proxy.rss();
    for i in 0..services {
        spin("every service", || proxy.status(&format!("m{i}.test")) == 200);
    }
    let raw = request(proxy.admin, "GET", "127.0.0.1", "/api/rawdata", "").1;
    let raw: serde_json::Value = serde_json::from_str(&raw).expect("JSON");
    let provider = &raw["providers"][if consul { "consulcatalog" } else { "nomad" }];
    println!(
        "{what}, {services} services: all in the table {:.2} s after start, RSS {rss:.1} MB ({:.1} MB with an idle connection kept to each), {} connections to the catalog, strategy {}",
        served.as_secs_f64(),
        proxy.rss(),
        provider["connections"],
        provider["strategy"],
    );
}

/// CPU time of the threads by name.
fn cpu(process: &Process) -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::new();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.0.id())).expect("Linux");
    for task in tasks.flatten() {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let spent = read("schedstat").split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default();
        *times.entry(read("comm").trim().to_owned()).or_default() += Duration::from_nanos(spent);
    }
    times
}

/// What each thread spent since `before`, as a share of `per`.
fn spent(process: &Process, before: &BTreeMap<String, Duration>, per: u32) -> String {
    let mut said = Vec::new();
    for (thread, now) in cpu(process) {
        let spent = now.saturating_sub(before.get(&thread).copied().unwrap_or_default()) / per;
        if spent > Duration::from_micros(1) {
            said.push(format!("{thread} {spent:.1?}"));
        }
    }
    said.join(", ")
}

fn changes(what: &str, backend: SocketAddr, consul: bool, watch_connections: usize) {
    const SERVICES: usize = 10_000;
    const CHANGES: u32 = 200;
    let catalog = Catalog::start();
    for i in 0..SERVICES {
        catalog.register(consul, &format!("m{i}"), backend);
    }
    let proxy = Proxy::start(&catalog, consul, watch_connections);
    spin("every router is in the table", || proxy.routers() >= SERVICES as f64);
    // What the start left to do (watchers, the state's file) is done then.
    std::thread::sleep(Duration::from_secs(15));
    let (before, seconds) = (cpu(&proxy.process), 10);
    std::thread::sleep(Duration::from_secs(u64::from(seconds)));
    let idle = spent(&proxy.process, &before, seconds);
    let (before, start) = (cpu(&proxy.process), Instant::now());
    for i in 1..=CHANGES {
        // Another port: the server behind it does not matter.
        let moved = SocketAddr::new(backend.ip(), u16::try_from(20_000 + i).expect("a port"));
        catalog.register(consul, &format!("m{}", i as usize * 31 % SERVICES), moved);
        std::thread::sleep((Duration::from_millis(100) * i).saturating_sub(start.elapsed()));
    }
    std::thread::sleep(Duration::from_secs(2));
    let each = spent(&proxy.process, &before, CHANGES);
    println!("{what}, {SERVICES} services: CPU a change: {each}; a second of rest: {idle}; RSS {:.1} MB", proxy.rss());
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    format!(
        "median {:.1} ms, p95 {:.1} ms, max {:.1} ms of {}",
        ms(times[times.len() / 2]),
        ms(times[times.len() * 95 / 100]),
        ms(times[times.len() - 1]),
        times.len()
    )
}

fn spin(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "not within a minute: {what}");
        std::thread::park_timeout(Duration::from_micros(500));
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a loopback port")
}

fn request(addr: SocketAddr, method: &str, host: &str, target: &str, body: &str) -> (u16, String) {
    let run = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        let length = body.len();
        write!(
            stream,
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = run().unwrap_or_default();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => unchunk(body),
        false => body.to_owned(),
    };
    (status, body)
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        if size == 0 || after.len() < size + 2 {
            break;
        }
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    body
}

/// A server that answers `ok` to everything.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let addr = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().expect("a socket");
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                    if line == "\r\n" && writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    addr
}
