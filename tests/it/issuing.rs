//! Certificates that the binary orders, from the routes to what a client's handshake gets, with the test's own authority
//! (`acme::ca`), which looks at the answers to its challenges over the binary's own ports.

mod caddy;
mod consul;
mod demand;
mod faults;
mod hind;
mod sharing;
mod trouble;

use crate::acme::ca::{Ca, Look, Manner};
use crate::support::client::Answer;
use crate::support::serve::{Serve, Setup};
use crate::support::{self, eventually, server::Server, tls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The authority, where it lives, and a server behind.
pub struct World {
    /// Ends after the authority that runs on it.
    _runtime: tokio::runtime::Runtime,
    pub ca: Ca,
    pub server: Server,
    /// The certificate directory of all that run.
    pub certs: PathBuf,
    dir: tempfile::TempDir,
}

/// A running binary and its routes.
pub struct Proxy {
    pub serve: Serve,
    routes: PathBuf,
    server: SocketAddr,
}

impl World {
    pub fn new(manner: Manner) -> Self {
        rust_lb::certs::install_provider();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("one");
        let ca = runtime.block_on(Ca::start(manner));
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("ca.pem"), &ca.root).expect("written");
        let certs = dir.path().join("certs");
        std::fs::create_dir(&certs).expect("made");
        Self { _runtime: runtime, ca, server: Server::start("s"), certs, dir }
    }

    /// A binary with the resolvers `http` and `tls`, each with its challenge; not asked for anything yet.
    pub fn setup(&self, flags: &[&str]) -> Setup {
        let (ca, root) = (self.ca.directory(), self.dir.path().join("ca.pem").display().to_string());
        let mut setup = Setup::new(self.server.addr, &[])
            .arg("--entryPoints.websecure.address=127.0.0.1:0")
            .arg("--entryPoints.websecure.http.tls=true")
            .arg("--metrics.prometheus=true")
            .arg(format!("--rustLb.certificates.directory={}", self.certs.display()));
        for (name, challenge) in [("http", "httpChallenge"), ("tls", "tlsChallenge")] {
            let key = format!("--certificatesResolvers.{name}.acme");
            setup = setup
                .arg(format!("{key}.caServer={ca}"))
                .arg(format!("{key}.caCertificates={root}"))
                .arg(format!("{key}.{challenge}=true"));
        }
        flags.iter().fold(setup, |setup, flag| setup.arg(flag))
    }

    /// Starts it, and has the authority look at its ports.
    pub fn start(&self, setup: Setup) -> Proxy {
        let proxy = self.start_beside(setup);
        self.look_at(&proxy);
        proxy
    }

    /// Starts it; the authority looks where it looked before.
    pub fn start_beside(&self, setup: Setup) -> Proxy {
        let routes = setup.dir().join("routes.yaml");
        Proxy { serve: setup.start(), routes, server: self.server.addr }
    }

    pub fn look_at(&self, proxy: &Proxy) {
        let (http, tls) = (proxy.serve.web(), proxy.serve.address("websecure"));
        self.ca.change(|manner| {
            manner.look = Look { http: Some(http), tls: Some(tls), txt: Arc::new(|_| Vec::new()) };
        });
    }

    /// Orders that were begun.
    pub fn orders(&self) -> usize {
        self.ca.asked("new-order")
    }

    /// The files of a name's certificate.
    pub fn site(&self, name: &str) -> PathBuf {
        let issuer = rust_lb::certs::storage::layout::issuer_key(&self.ca.directory());
        self.certs.join("certificates").join(issuer).join(name)
    }

    /// What a client has to trust to verify the authority's certificates.
    pub fn trust(&self, name: &str) -> Option<Vec<u8>> {
        let chain = std::fs::read_to_string(self.site(name).join(format!("{name}.crt"))).ok()?;
        let second = chain.rfind("-----BEGIN CERTIFICATE-----")?;
        Some(chain.as_bytes()[second..].to_vec())
    }

    /// Waits until clients of this port get the authority's certificate for a name; gives the leaf.
    pub fn wait_for(&self, proxy: &Proxy, name: &str) -> Vec<u8> {
        self.wait_at(proxy.serve.address("websecure"), name)
    }

    /// The same for whoever listens there.
    pub fn wait_at(&self, addr: SocketAddr, name: &str) -> Vec<u8> {
        eventually(&format!("a certificate for {name}"), || leaf(addr, name, &self.trust(name)?))
    }
}

impl Proxy {
    /// Replaces the routes: each a host and its `tls` section; without one the router has none.
    pub fn route(&self, routers: &[(&str, &str)]) {
        let mut text = String::from("http:\n  routers:\n    a: {rule: 'Host(`a.test`)', service: s}\n");
        for (at, (host, tls)) in routers.iter().enumerate() {
            let tls = if tls.is_empty() { String::new() } else { format!(", tls: {tls}") };
            text += &format!("    r{at}: {{rule: 'Host(`{host}`)', service: s{tls}}}\n");
        }
        text += &format!("  services: {{s: {{loadBalancer: {{servers: [{{url: 'http://{}'}}]}}}}}}\n", self.server);
        let temporary = self.routes.with_extension("new");
        std::fs::write(&temporary, text).expect("written");
        std::fs::rename(temporary, &self.routes).expect("renamed");
    }

    pub fn admin(&self, path: &str) -> Answer {
        self.serve.admin(path).expect("an answer")
    }

    /// Waits until a problem with this code is told; gives its message.
    pub fn problem(&self, code: &str) -> String {
        eventually(&format!("the problem {code}"), || {
            let problems = self.admin("/api/problems").json();
            let found = problems.as_array()?.iter().find(|problem| problem["code"] == code)?.clone();
            Some(found["message"].as_str()?.to_owned())
        })
    }

    /// Waits until metrics have this line.
    pub fn counts(&self, line: &str) {
        eventually(line, || self.admin("/metrics").text().contains(line).then_some(()));
    }
}

/// The first certificate of a handshake that a client verifies.
pub fn leaf(addr: SocketAddr, host: &str, trust: &[u8]) -> Option<Vec<u8>> {
    let mut stream = tls::connect(addr, Ipv4Addr::UNSPECIFIED, trust, host)?;
    stream.conn.complete_io(&mut stream.sock).ok()?;
    Some(stream.conn.peer_certificates()?.first()?.to_vec())
}

/// The first certificate of a file.
pub fn leaf_of(file: &Path) -> Option<Vec<u8>> {
    Some(CertificateDer::from_pem_slice(&std::fs::read(file).ok()?).ok()?.to_vec())
}

const HTTP: &str = "{certResolver: http}";
const TLS: &str = "{certResolver: tls}";

#[test]
fn hosts_of_routers_get_certificates_by_both_challenges_and_keep_them() {
    let world = World::new(Manner::default());
    let proxy = world.start(world.setup(&[]));
    proxy.route(&[("one.shop.com", HTTP), ("two.shop.com", TLS), ("a.test", HTTP)]);
    let served = ["one.shop.com", "two.shop.com"].map(|name| world.wait_for(&proxy, name));
    assert_eq!(world.orders(), 2);
    // nothing is asked for names that nobody issues for, and it is told
    assert!(proxy.problem("not_orderable").contains("`a.test`"));
    proxy.counts("rust_lb_certificate_orders_total{resolver=\"http\",result=\"issued\"} 1");
    for name in ["one.shop.com", "two.shop.com"] {
        for end in ["crt", "key", "json"] {
            let file = world.site(name).join(format!("{name}.{end}"));
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("there").permissions());
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        }
    }
    let listed = proxy.admin("/api/certificates").text();
    assert!(listed.contains("two.shop.com") && !listed.contains("PRIVATE"), "{listed}");
    drop(proxy);

    // the next one finds them, and orders nothing
    let proxy = world.start(world.setup(&[]));
    proxy.route(&[("one.shop.com", HTTP), ("two.shop.com", TLS)]);
    assert_eq!(world.wait_for(&proxy, "one.shop.com"), served[0]);
    assert_eq!(world.wait_for(&proxy, "two.shop.com"), served[1]);
    proxy.route(&[("one.shop.com", HTTP), ("two.shop.com", TLS), ("three.shop.com", HTTP)]);
    world.wait_for(&proxy, "three.shop.com");
    assert_eq!(world.orders(), 3);
    assert_eq!(world.ca.accounts().0, 1, "one account for all");
}

#[test]
fn a_handshake_waits_for_the_certificate_that_is_being_ordered() {
    let world = World::new(Manner { slow: 2, ..Manner::default() });
    let proxy = world.start(world.setup(&[]));
    proxy.route(&[("one.shop.com", TLS)]);
    let addr = proxy.serve.address("websecure");
    eventually("the order has begun", || (world.orders() > 0).then_some(()));
    // begun before there is anything to verify it with
    let connection = support::tls::tcp(addr, Ipv4Addr::UNSPECIFIED).expect("a connection");
    let waiting = std::thread::spawn(move || unverified(connection, "one.shop.com"));
    let got = waiting.join().expect("no panic").expect("a handshake");
    assert_eq!(Some(got), leaf_of(&world.site("one.shop.com").join("one.shop.com.crt")));
    assert_eq!(world.orders(), 1);
}

#[test]
fn what_is_due_is_renewed_and_open_connections_stay() {
    let world = World::new(Manner { life: Duration::from_secs(6), ari: false, ..Manner::default() });
    let proxy = world.start(world.setup(&[]));
    proxy.route(&[("one.shop.com", HTTP)]);
    let addr = proxy.serve.address("websecure");
    let (first, mut open) = eventually("the first certificate", || {
        let mut open = tls::connect(addr, Ipv4Addr::UNSPECIFIED, &world.trust("one.shop.com")?, "one.shop.com")?;
        open.conn.complete_io(&mut open.sock).ok()?;
        Some((open.conn.peer_certificates()?.first()?.to_vec(), open))
    });
    eventually("another certificate", || {
        leaf(addr, "one.shop.com", &world.trust("one.shop.com")?).filter(|now| *now != first)
    });
    std::io::Write::write_all(&mut open, b"GET / HTTP/1.1\r\nHost: one.shop.com\r\n\r\n").expect("sent");
    let mut answer = [0; 12];
    std::io::Read::read_exact(&mut open, &mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

/// The leaf of a handshake of a client that believes everybody.
pub fn unverified(stream: std::net::TcpStream, host: &str) -> Option<Vec<u8>> {
    let config = tls::blind(&[]);
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).ok()?;
    let mut connection = rustls::ClientConnection::new(config, name).ok()?;
    let mut stream = stream;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).ok()?;
    }
    Some(connection.peer_certificates()?.first()?.to_vec())
}
