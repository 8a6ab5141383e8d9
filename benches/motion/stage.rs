//! The embedded catalog on a thread of its own, and the real binary that watches it.

use super::client::{Conn, Head};
use super::load::number;
use super::origin::{Ledger, Origin, Reserved};
use super::until;
use rust_lb::embedded::{self, Definition, Embedded, Registration};
use std::io::Result;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Which catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Nomad,
    Consul,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nomad => "nomad",
            Self::Consul => "consul",
        }
    }

    /// As in `/api/rawdata`.
    pub fn provider(self) -> &'static str {
        match self {
            Self::Nomad => "nomad",
            Self::Consul => "consulcatalog",
        }
    }
}

/// A runtime with one thread of its own.
pub fn thread(name: &str) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).thread_name(name).enable_all().build().expect("a runtime")
}

/// The embedded catalogs.
pub struct Catalog {
    pub embedded: Embedded,
    pub runtime: Runtime,
}

/// The tags of a service with one route.
pub fn tags(name: &str) -> [String; 2] {
    ["traefik.enable=true".to_owned(), format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)")]
}

impl Catalog {
    /// With room for so many watchers, as HinD gives it.
    pub fn start() -> Self {
        let runtime = thread("catalog");
        let guard = runtime.enter();
        let options = embedded::Options { consul_connections: 32_767, ..embedded::Options::default() };
        let embedded = embedded::start(&options).expect("the embedded catalog");
        drop(guard);
        Self { embedded, runtime }
    }

    pub fn addr(&self, kind: Kind) -> SocketAddr {
        let addr = match kind {
            Kind::Nomad => self.embedded.nomad_addr(),
            Kind::Consul => self.embedded.consul_addr(),
        };
        addr.expect("both listen")
    }

    /// Registers a server of a service; the id is the server's own.
    pub fn register(&self, kind: Kind, service: &str, id: &str, addr: SocketAddr) {
        self.register_with(kind, service, id, addr, &tags(service));
    }

    /// As [`Catalog::register`], with other tags.
    pub fn register_with(&self, kind: Kind, service: &str, id: &str, addr: SocketAddr, tags: &[String]) {
        match kind {
            Kind::Nomad => {
                self.embedded.nomad().register(Registration::new(service, addr).tags(tags).id(id));
            }
            Kind::Consul => {
                self.embedded.consul().register(Definition::new(service, addr).tags(tags).id(id));
            }
        }
    }

    pub fn deregister(&self, kind: Kind, id: &str) {
        match kind {
            Kind::Nomad => drop(self.embedded.nomad().deregister("default", id)),
            Kind::Consul => drop(self.embedded.consul().deregister(id)),
        }
    }

    pub fn control(&self, kind: Kind) -> &embedded::Control {
        match kind {
            Kind::Nomad => self.embedded.nomad().control(),
            Kind::Consul => self.embedded.consul().control(),
        }
    }
}

/// Servers on a thread of their own.
pub struct Origins {
    pub runtime: Runtime,
    pub ledger: Arc<Ledger>,
}

impl Origins {
    pub fn new() -> Self {
        Self { runtime: thread("origins"), ledger: Arc::default() }
    }

    pub fn start(&self, name: &str) -> Origin {
        Origin::start(self.runtime.handle(), name, &self.ledger).expect("a server")
    }

    pub fn open(&self, name: &str, port: Reserved) -> Origin {
        Origin::open(self.runtime.handle(), name, &self.ledger, port).expect("a server")
    }
}

/// The proxy that is measured.
pub struct Proxy {
    child: Child,
    pub web: SocketAddr,
    pub admin: SocketAddr,
    state: tempfile::TempDir,
    asks: Runtime,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Proxy {
    /// Starts `rust-lb serve` over one catalog and waits until it is ready. `RUST_LB_LOG_FILE` keeps what it says.
    pub fn start(catalog: &Catalog, kind: Kind, flags: &[String]) -> Self {
        let log = std::env::var_os("RUST_LB_LOG_FILE").map(std::path::PathBuf::from);
        Self::start_logging(catalog, kind, flags, log.as_deref())
    }

    /// As [`Proxy::start`], with what it says behind what is in this file.
    pub fn start_logging(catalog: &Catalog, kind: Kind, flags: &[String], log: Option<&std::path::Path>) -> Self {
        let (web, admin) = (free_port(), free_port());
        let state = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_rust-lb"));
        command
            .args(["serve", "--workers=2", "--accessLog=false"])
            .arg(format!("--entryPoints.web.address={web}"))
            .arg(format!("--entryPoints.traefik.address={admin}"))
            .arg(format!("--rustLb.stateDir={}", state.path().join("state").display()))
            .arg(format!("--rustLb.certificates.directory={}", state.path().join("certs").display()));
        let provider = if kind == Kind::Nomad { "nomad" } else { "consulCatalog" };
        command
            .arg(format!("--providers.{provider}.endpoint.address=http://{}", catalog.addr(kind)))
            .arg(format!("--providers.{provider}.exposedByDefault=false"))
            .args(flags)
            .env_clear()
            .stdin(Stdio::null());
        let log = log
            .map(|file| std::fs::OpenOptions::new().create(true).append(true).open(file).expect("a file for the log"));
        command.stdout(Stdio::null()).stderr(log.map_or_else(Stdio::null, Stdio::from));
        let child = command.spawn().expect("the proxy starts");
        let asks = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let proxy = Self { child, web, admin, state, asks };
        until(Duration::from_secs(60), || proxy.try_admin("/ready").is_ok_and(|(status, _)| status == 200))
            .expect("the proxy is ready within a minute");
        proxy
    }

    fn try_admin(&self, path: &str) -> Result<(u16, Vec<u8>)> {
        self.asks.block_on(async {
            let (head, body) = Conn::open(self.admin).await?.exchange("GET", "127.0.0.1", path, number(), b"").await?;
            Ok((head.status, body))
        })
    }

    /// Where it keeps its state.
    pub fn state_dir(&self) -> std::path::PathBuf {
        self.state.path().join("state")
    }

    /// The body of an admin answer.
    pub fn admin(&self, path: &str) -> String {
        let (_, body) = self.try_admin(path).expect("the admin API answers");
        String::from_utf8_lossy(&body).into_owned()
    }

    /// What `/api/rawdata` says of a provider.
    pub fn provider(&self, kind: Kind) -> serde_json::Value {
        let raw: serde_json::Value = serde_json::from_str(&self.admin("/api/rawdata")).unwrap_or_default();
        raw["providers"][kind.provider()].clone()
    }

    /// Waits until so many routers are in the table.
    pub fn wait_for_routers(&self, count: usize) {
        let routers = || {
            let text = self.admin("/metrics");
            let line = text.lines().find(|line| line.starts_with("rust_lb_table_routers ")).map(str::to_owned);
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
        };
        until(Duration::from_secs(180), || routers() >= count as f64).expect("every router is in the table");
    }

    /// Asks until the service's answer comes from this server; how long after `begin` that was.
    pub fn wait_for_server(&self, service: &str, server: &str, begin: Instant, limit: Duration) -> Option<Duration> {
        self.wait_for(service, begin, limit, |head| head.status == 200 && head.server == server)
    }

    /// As [`Proxy::wait_for_server`], for any answer with this status.
    pub fn wait_for_status(&self, service: &str, status: u16, begin: Instant, limit: Duration) -> Option<Duration> {
        self.wait_for(service, begin, limit, |head| head.status == status)
    }

    fn wait_for(&self, service: &str, begin: Instant, limit: Duration, so: impl Fn(&Head) -> bool) -> Option<Duration> {
        let host = format!("{service}.test");
        self.asks.block_on(async {
            let mut kept = None;
            while begin.elapsed() < limit {
                let mut conn: Conn = match kept.take() {
                    Some(conn) => conn,
                    None => Conn::open(self.web).await.ok()?,
                };
                let asked = tokio::time::timeout(limit, conn.ask("GET", &host, "/", number(), b"")).await;
                if let Ok(Ok(head)) = asked {
                    if so(&head) {
                        return Some(begin.elapsed());
                    }
                    kept = (!head.close).then_some(conn);
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
            None
        })
    }

    /// The process and what it started.
    fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut at = 0;
        while let Some(pid) = family.get(at).copied() {
            at += 1;
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            for task in tasks {
                let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                family.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
        }
        family
    }

    /// Time on the processor so far, user's and system's, from `/proc/PID/stat`.
    pub fn cpu(&self) -> Duration {
        let ticks = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The command's name may hold blanks; it ends with the last parenthesis.
            let fields: Vec<u64> =
                stat.rsplit_once(')')?.1.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect();
            Some(fields.get(10)? + fields.get(11)?)
        };
        let ticks: u64 = self.family().into_iter().filter_map(ticks).sum();
        // The kernel counts for programs in hundredths of a second, whatever it uses itself (USER_HZ).
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory in MB (10^6 bytes).
    pub fn rss(&self) -> f64 {
        let kb = |pid: u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status.lines().find(|line| line.starts_with("VmRSS:"))?.split_whitespace().nth(1)?.parse::<f64>().ok()
        };
        self.family().into_iter().filter_map(kb).sum::<f64>() * 1024.0 / 1e6
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        let count = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.family().into_iter().map(count).sum()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a loopback port")
}
