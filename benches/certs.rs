//! What many certificates cost and how soon a new one is served: `cargo bench --bench certs`.
//!
//! Ten thousand pairs in Caddy's layout: the time until all are indexed, the time of a look at everything when nothing has changed, the
//! memory of the real binary with and without them, and the time from a replaced pair (key and chain renamed) until a handshake shows it:
//! by events, and by looking alone, where what a link leads to was replaced, which no event tells. Then pairs are replaced one after another
//! under handshakes at a steady rate, none of which may fail.

#![allow(clippy::print_stdout)]

mod motion;

use motion::{Flags, Report, ms, quantile, say};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rust_lb::certs::{Store, StoreOptions};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::json;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

const FLAGS: &[(&str, &str)] = &[
    ("pairs", "pairs in the directory (10000)"),
    ("replaced", "pairs replaced one by one, each waited for (50)"),
    ("polled", "the same without events (5)"),
    ("replacements", "pairs replaced under handshakes (10000)"),
    ("rate", "handshakes a second meanwhile (200)"),
];

/// Nothing takes so long.
const LIMIT: Duration = Duration::from_secs(60);

/// Signs by an intermediate, as authorities do.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    intermediate: String,
    root: String,
}

impl Authority {
    fn new() -> Self {
        let of = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).expect("parameters");
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            (params, KeyPair::generate().expect("a key"))
        };
        let (params, key) = of("Root");
        let root = params.self_signed(&key).expect("a certificate").pem();
        let above = Issuer::new(params, key);
        let (params, key) = of("Intermediate");
        let intermediate = params.signed_by(&key, &above).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), intermediate, root }
    }

    /// Chain and key.
    fn sign(&self, host: &str, serial: u64) -> (String, String) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        params.serial_number = Some(serial.into());
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        (leaf + &self.intermediate, key.serialize_pem())
    }
}

fn host(n: usize) -> String {
    format!("host-{n}.example.test")
}

fn dir_of(root: &Path, n: usize) -> PathBuf {
    root.join(format!("certificates/acme-v02.api.letsencrypt.org-directory/{}", host(n)))
}

/// Key, chain, description, each beside itself and renamed.
fn place(dir: &Path, name: &str, (chain, key): &(String, String)) {
    for (end, text) in [("key", key.as_str()), ("crt", chain), ("json", "{}")] {
        let beside = dir.join("3862962393");
        fs::write(&beside, text).expect("a file");
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).expect("its mode");
        fs::rename(&beside, dir.join(format!("{name}.{end}"))).expect("a rename");
    }
}

fn fill(root: &Path, pairs: usize, authority: &Authority) {
    for n in 0..pairs {
        let dir = dir_of(root, n);
        fs::create_dir_all(&dir).expect("a folder");
        place(&dir, &host(n), &authority.sign(&host(n), 1));
    }
}

fn main() {
    let Some(flags) = Flags::read("certs", FLAGS) else { return };
    rust_lb::certs::install_provider();
    let mut report = Report::new("certs");
    let authority = Authority::new();
    let temporary = tempfile::tempdir().expect("a folder");
    let (many, few) = (temporary.path().join("many"), temporary.path().join("few"));
    let pairs = flags.get("pairs", 10_000);
    fs::create_dir(&many).expect("a folder");
    fs::create_dir(&few).expect("a folder");
    say(&format!("{pairs} pairs are made"));
    fill(&many, pairs, &authority);
    index(&many, temporary.path(), pairs, &mut report);
    serve(&many, temporary.path(), pairs, flags.get("replaced", 50), &authority, &mut report);
    poll(&few, temporary.path(), flags.get("polled", 5), &authority, &mut report);
    let (replacements, rate) = (flags.get("replacements", 10_000), flags.get("rate", 200));
    if replacements > 0 {
        replace(&temporary.path().join("live"), temporary.path(), replacements, rate, &authority, &mut report);
    }
    report.end();
}

/// In this process: the index from nothing, and looks at what has not changed.
fn index(dir: &Path, state: &Path, pairs: usize, report: &mut Report) {
    let mut cold = Vec::new();
    let mut rescans = Vec::new();
    for round in 0..3 {
        let begin = Instant::now();
        let store = Store::open(&StoreOptions {
            directory: dir.to_owned(),
            local_root: state.join(format!("local-{round}")),
            ..StoreOptions::default()
        });
        while !store.covers(&host(pairs - 1), SystemTime::now()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        cold.push(begin.elapsed());
        assert_eq!(store.certificates(SystemTime::now()).len(), pairs, "all at once");
        for _ in 0..3 {
            let begin = Instant::now();
            assert!(store.rescan(LIMIT), "the thread does not answer");
            rescans.push(begin.elapsed());
        }
    }
    let (cold, worst) = (quantile(&mut cold, 0.5), quantile(&mut cold, 1.0));
    // The first after a start may come while the system is asked to tell of changes.
    let rescan = quantile(&mut rescans, 0.5);
    report.run(json!({"pairs": pairs, "cold_ms": ms(cold), "cold_worst_ms": ms(worst), "rescan_ms": ms(rescan)}));
    report.bar(&format!("cold index {:.0} ms (below 2 s)", ms(cold)), worst < Duration::from_secs(2));
    report.bar(&format!("rescan {:.1} ms (below 200 ms)", ms(rescan)), rescan < Duration::from_millis(200));
}

/// The real binary over a directory of certificates.
struct Proxy {
    child: Child,
    addr: SocketAddr,
    client: Arc<ClientConfig>,
}

impl Proxy {
    fn start(dir: &Path, state: &Path, root: &str) -> Self {
        let port = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("its address")
        };
        let (addr, admin) = (port(), port());
        let state = tempfile::tempdir_in(state).expect("a folder").keep();
        let child = Command::new(env!("CARGO_BIN_EXE_rust-lb"))
            .args([
                "serve",
                "--single-process",
                "--workers=2",
                "--providers.nomad=false",
                "--providers.consulCatalog=false",
                "--providers.rest=true",
            ])
            .args([format!("--entryPoints.websecure.address={addr}"), format!("--entryPoints.traefik.address={admin}")])
            .args([
                "--entryPoints.websecure.http.tls=true".to_owned(),
                format!("--rustLb.stateDir={}", state.display()),
            ])
            .arg(format!("--rustLb.certificates.directory={}", dir.display()))
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut roots = RootCertStore::empty();
        let root = rustls::pki_types::CertificateDer::from_pem_slice(root.as_bytes()).expect("a certificate");
        roots.add(root).expect("a root");
        let mut client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        client.resumption = Resumption::disabled();
        Self { child, addr, client: Arc::new(client) }
    }

    /// The serial number that a handshake shows.
    fn serial(&self, host: &str) -> io::Result<u64> {
        serial(self.addr, &self.client, host)
    }

    fn wait(&self, host: &str, serial: u64) -> Duration {
        let begin = Instant::now();
        while self.serial(host).ok() != Some(serial) {
            assert!(begin.elapsed() < LIMIT, "`{host}` is not served with {serial}");
            std::thread::sleep(Duration::from_millis(1));
        }
        begin.elapsed()
    }

    fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn serial(addr: SocketAddr, client: &Arc<ClientConfig>, host: &str) -> io::Result<u64> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(client.clone(), name).map_err(io::Error::other)?;
    let mut tcp = TcpStream::connect(addr)?;
    tcp.set_read_timeout(Some(Duration::from_secs(5)))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp)?;
    }
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let leaf = leaf.ok_or_else(|| io::Error::other("no certificate"))?;
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).map_err(io::Error::other)?;
    Ok(leaf.raw_serial().iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte)))
}

/// Memory, and a pair replaced among many.
fn serve(dir: &Path, state: &Path, pairs: usize, replaced: usize, authority: &Authority, report: &mut Report) {
    let empty = state.join("empty");
    fs::create_dir_all(&empty).expect("a folder");
    let bare = Proxy::start(&empty, state, &authority.root);
    while TcpStream::connect(bare.addr).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_secs(2));
    let without = bare.resident();
    drop(bare);
    let proxy = Proxy::start(dir, state, &authority.root);
    proxy.wait(&host(pairs - 1), 1);
    // The copy is written and the system asked for events meanwhile.
    std::thread::sleep(Duration::from_secs(5));
    let with = proxy.resident();
    report.run(json!({"pairs": pairs, "rss_mib": with.round(), "rss_without_mib": without.round()}));
    report.bar(
        &format!("{with:.0} MiB with, {without:.0} MiB without certificates (share below 60)"),
        with - without < 60.0,
    );

    let mut times: Vec<Duration> = (0..replaced)
        .map(|n| {
            let n = n * 97 % pairs;
            let next = proxy.serial(&host(n)).expect("a handshake") + 1;
            let new = authority.sign(&host(n), next);
            place(&dir_of(dir, n), &host(n), &new);
            proxy.wait(&host(n), next)
        })
        .collect();
    let (median, max) = (ms(quantile(&mut times, 0.5)), ms(quantile(&mut times, 1.0)));
    report.run(json!({"replaced": replaced, "median_ms": median, "max_ms": max}));
    report.bar(&format!("replaced and served: median {median:.1} ms, at most {max:.1} ms (100 ms)"), max < 100.0);
}

/// What a link leads to is replaced: no event tells of it.
fn poll(dir: &Path, state: &Path, polled: usize, authority: &Authority, report: &mut Report) {
    let outside = state.join("outside");
    let own = dir_of(dir, 0);
    fs::create_dir_all(&outside).expect("a folder");
    fs::create_dir_all(&own).expect("a folder");
    place(&outside, "x", &authority.sign(&host(0), 1));
    for end in ["crt", "key"] {
        let link = own.join(format!("{}.{end}", host(0)));
        std::os::unix::fs::symlink(outside.join(format!("x.{end}")), link).expect("a link");
    }
    let proxy = Proxy::start(dir, state, &authority.root);
    proxy.wait(&host(0), 1);
    let mut times: Vec<Duration> = (2..)
        .take(polled)
        .map(|number| {
            place(&outside, "x", &authority.sign(&host(0), number));
            proxy.wait(&host(0), number)
        })
        .collect();
    let (median, max) = (ms(quantile(&mut times, 0.5)), ms(quantile(&mut times, 1.0)));
    report.run(json!({"without_events": polled, "median_ms": median, "max_ms": max}));
    report.bar(&format!("without events: median {median:.0} ms, at most {max:.0} ms (5 s)"), max < 5_000.0);
}

/// Replacements under handshakes.
fn replace(dir: &Path, state: &Path, replacements: u64, rate: u64, authority: &Authority, report: &mut Report) {
    const HOSTS: u64 = 20;
    fill(dir, usize::try_from(HOSTS).unwrap_or(1), authority);
    let proxy = Proxy::start(dir, state, &authority.root);
    proxy.wait(&host(0), 1);
    let (over, shaken, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let pause = Duration::from_secs_f64(1.0 / rate.max(1) as f64);
    let begin = Instant::now();
    let of = |n: u64| host(usize::try_from(n % HOSTS).unwrap_or(0));
    std::thread::scope(|scope| {
        for lane in 0..4u64 {
            let (over, shaken, failed, of, proxy) = (&over, &shaken, &failed, &of, &proxy);
            scope.spawn(move || {
                let mut next = Instant::now() + pause * u32::try_from(lane).unwrap_or(0);
                for n in (lane..).step_by(4) {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    next += pause * 4;
                    shaken.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = proxy.serial(&of(n)) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        say(&format!("  failed: {error}"));
                    }
                }
            });
        }
        for n in 0..replacements {
            let name = of(n);
            let serial = n / HOSTS + 2;
            place(&dir_of(dir, usize::try_from(n % HOSTS).unwrap_or(0)), &name, &authority.sign(&name, serial));
            // Not faster than handshakes come.
            let due = begin + pause * u32::try_from(n).unwrap_or(u32::MAX);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        over.store(true, Ordering::Relaxed);
    });
    let took = begin.elapsed().as_secs_f64();
    let last = replacements.saturating_sub(1);
    proxy.wait(&of(last), last / HOSTS + 2);
    let (shaken, failed) = (shaken.into_inner(), failed.into_inner());
    let per_second = (shaken as f64 / took).round();
    report.run(json!({"replacements": replacements, "seconds": took.round(), "handshakes": shaken, "a_second": per_second, "failed": failed}));
    report.bar(
        &format!("{failed} of {shaken} handshakes failed in {replacements} replacements ({per_second} a second)"),
        failed == 0,
    );
}
