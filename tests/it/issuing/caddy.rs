//! One certificate directory, one authority and one account, served by Caddy, by rust-lb and by Caddy again: no handshake fails,
//! nothing is ordered that is there, and either answers the challenges of the other's orders. Runs where Caddy is on PATH;
//! with `RUST_LB_TEST_REQUIRE=caddy` a skip is a failure.

use super::{HTTP, Proxy, TLS, World, leaf_of};
use crate::acme::ca::{Look, Manner};
use crate::support::program::have;
use crate::support::{eventually, serve, tls};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

const DAY: i64 = 86_400;
/// Valid for ten more days, and due since long.
const DUE: (i64, i64) = (-80 * DAY, 10 * DAY);

/// A Caddy on the world's directory that orders from the world's authority.
struct Caddy {
    child: Child,
    http: SocketAddr,
    https: SocketAddr,
    dir: tempfile::TempDir,
}

#[expect(clippy::print_stderr, reason = "what Caddy said belongs to a test that fails")]
impl Drop for Caddy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
        }
    }
}

impl Caddy {
    fn start(world: &World, hosts: &[&str]) -> Self {
        Self::with(world, hosts, "")
    }

    /// The same with more in its configuration.
    fn with(world: &World, hosts: &[&str], more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let [http, https] = [0, 1].map(|_| SocketAddr::from(([127, 0, 0, 1], crate::support::ports::free())));
        let sites: Vec<String> = hosts.iter().map(|host| format!("https://{host}")).collect();
        let config = format!(
            "{{\n admin off\n skip_install_trust\n auto_https disable_redirects\n storage file_system {}\n \
             http_port {}\n https_port {}\n acme_ca {}\n acme_ca_root {}\n}}\n\
             {} {{\n bind 127.0.0.1\n respond caddy\n}}\nhttp:// {{\n bind 127.0.0.1\n respond plain\n}}\n{more}",
            world.certs.display(),
            http.port(),
            https.port(),
            world.ca.directory(),
            world.dir.path().join("ca.pem").display(),
            sites.join(", "),
        );
        let file = dir.path().join("Caddyfile");
        std::fs::write(&file, config).expect("written");
        let log = std::fs::File::create(dir.path().join("log")).expect("made");
        let child = Command::new("caddy")
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(&file)
            .current_dir(dir.path())
            .env("HOME", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("caddy starts");
        Self { child, http, https, dir }
    }

    /// Has the authority look at its ports.
    fn is_looked_at(&self, world: &World) {
        let look = Look { http: Some(self.http), tls: Some(self.https), txt: Arc::new(|_| Vec::new()) };
        world.ca.change(|manner| manner.look = look);
    }

    /// Asks it to end, and waits until it has.
    fn stop(mut self) {
        serve::kill(self.child.id(), "-TERM");
        eventually("caddy ends", || self.child.try_wait().expect("a child of ours"));
    }
}

/// Asks rust-lb to end, and waits until all its processes have.
fn stop(proxy: Proxy) {
    proxy.serve.signal("-TERM");
    proxy.serve.wait();
}

/// Where clients go, and for which hosts.
struct Target {
    addr: SocketAddr,
    hosts: Vec<&'static str>,
}

/// Clients that make full handshakes all the time, verify what they get, and ask for a page each.
struct Clients {
    target: Arc<RwLock<Target>>,
    made: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(addr: SocketAddr, hosts: &[&'static str], trust: &[u8]) -> Self {
        let target = Arc::new(RwLock::new(Target { addr, hosts: hosts.to_vec() }));
        let (made, failed, stop) =
            (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let threads = (0..2).map(|number| {
            let (target, made, failed, stop) = (target.clone(), made.clone(), failed.clone(), stop.clone());
            let trust = trust.to_vec();
            std::thread::spawn(move || {
                for turn in number.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    {
                        // Held as long as this one runs: whoever is left is left by all.
                        let target = target.read().unwrap_or_else(PoisonError::into_inner);
                        let host = target.hosts[turn % target.hosts.len()];
                        match tls::get(target.addr, &trust, host, "/") {
                            Some(200) => drop(made.fetch_add(1, Ordering::Relaxed)),
                            other => {
                                let said = format!("{host} at {}: {other:?}", target.addr);
                                failed.lock().unwrap_or_else(PoisonError::into_inner).push(said);
                            }
                        }
                    }
                    std::thread::park_timeout(Duration::from_millis(2));
                }
            })
        });
        let threads = threads.collect();
        Self { target, made, failed, stop, threads }
    }

    /// From now on they go there; those under way have ended.
    fn go_to(&self, addr: SocketAddr, hosts: &[&'static str]) {
        *self.target.write().unwrap_or_else(PoisonError::into_inner) = Target { addr, hosts: hosts.to_vec() };
    }

    /// Waits for further handshakes.
    fn go_on(&self) {
        let before = self.made.load(Ordering::Relaxed);
        eventually("further handshakes", || (self.made.load(Ordering::Relaxed) >= before + 20).then_some(()));
    }

    /// What failed, and how many did not.
    fn end(mut self) -> (Vec<String>, usize) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("no panic");
        }
        let failed = std::mem::take(&mut *self.failed.lock().unwrap_or_else(PoisonError::into_inner));
        (failed, self.made.load(Ordering::Relaxed))
    }
}

fn file(world: &World, name: &str) -> Option<Vec<u8>> {
    leaf_of(&world.site(name).join(format!("{name}.crt")))
}

#[test]
fn from_caddy_to_rust_lb_and_back_no_handshake_is_lost_and_nothing_is_ordered_twice() {
    const ONE: &str = "one.shop.com";
    const OLD: &str = "old.shop.com";
    const NEW: &str = "new.shop.com";
    const LATE: &str = "late.shop.com";
    if !have("caddy") {
        return;
    }
    // What Caddy gets for one of its hosts is due when rust-lb comes.
    let world = World::new(Manner { dates: vec![(OLD, DUE.0, DUE.1)], ..Manner::default() });
    // One host first: for two at once it would make two accounts.
    let caddy = Caddy::start(&world, &[ONE]);
    caddy.is_looked_at(&world);
    world.wait_at(caddy.https, ONE);
    caddy.stop();
    let caddy = Caddy::start(&world, &[ONE, OLD]);
    caddy.is_looked_at(&world);
    let [one, old] = [ONE, OLD].map(|name| world.wait_at(caddy.https, name));
    assert_eq!((world.orders(), world.ca.accounts().0), (2, 1));
    world.ca.change(|manner| manner.dates.clear());
    let trust = world.trust(ONE).expect("a chain");
    let clients = Clients::start(caddy.https, &[ONE, OLD], &trust);
    clients.go_on();

    // rust-lb takes over: it serves what is there, and renews what is due.
    let proxy = world.start(world.setup(&[]));
    proxy.route(&[(ONE, HTTP), (OLD, TLS)]);
    let https = proxy.serve.address("websecure");
    assert_eq!(world.wait_at(https, ONE), one);
    eventually("both hosts are served", || {
        [ONE, OLD].iter().all(|host| tls::get(https, &trust, host, "/") == Some(200)).then_some(())
    });
    clients.go_to(https, &[ONE, OLD]);
    caddy.stop();
    clients.go_on();
    eventually("what is due is renewed", || super::leaf(https, OLD, &trust).filter(|now| *now != old));
    assert_eq!(world.ca.ordered()[2..], [OLD]);
    assert!(world.ca.last_order().1.is_some(), "the authority is told what is replaced");

    // It orders what is new; one of these will be due for who does not ask the authority when to renew.
    world.ca.change(|manner| manner.dates = vec![(LATE, DUE.0, DUE.1)]);
    let all = [ONE, OLD, NEW, LATE];
    proxy.route(&[(ONE, HTTP), (OLD, TLS), (NEW, TLS), (LATE, HTTP)]);
    let [one_then, old, new, late] = all.map(|name| world.wait_at(https, name));
    world.ca.change(|manner| manner.dates.clear());
    assert_eq!(one_then, one);
    assert_eq!(
        world.ca.ordered()[3..].iter().map(|name| &**name).collect::<BTreeSet<_>>(),
        BTreeSet::from([NEW, LATE])
    );
    eventually("all hosts are served", || {
        all.iter().all(|host| tls::get(https, &trust, host, "/") == Some(200)).then_some(())
    });
    clients.go_to(https, &all);
    clients.go_on();

    // And back: Caddy serves what rust-lb has got, and renews what is due by its own rules; rust-lb takes that up.
    let caddy = Caddy::start(&world, &all);
    caddy.is_looked_at(&world);
    eventually("caddy listens", || tls::get(caddy.https, &trust, ONE, "/").filter(|status| *status == 200));
    for (name, leaf) in [(ONE, &one), (OLD, &old), (NEW, &new)] {
        assert_eq!(super::leaf(caddy.https, name, &trust).as_ref(), Some(leaf), "{name}");
    }
    let late = eventually("caddy renews", || super::leaf(caddy.https, LATE, &trust).filter(|now| *now != late));
    eventually("rust-lb serves what caddy has renewed", || super::leaf(https, LATE, &trust).filter(|now| *now == late));
    clients.go_on();
    clients.go_to(caddy.https, &all);
    stop(proxy);
    clients.go_on();

    // Once more the other way: all is there.
    let proxy = world.start(world.setup(&[]));
    proxy.route(&[(ONE, HTTP), (OLD, TLS), (NEW, TLS), (LATE, HTTP)]);
    let https = proxy.serve.address("websecure");
    let served = all.map(|name| world.wait_at(https, name));
    assert_eq!(served, [one, old, new, late]);
    eventually("all hosts are served", || {
        all.iter().all(|host| tls::get(https, &trust, host, "/") == Some(200)).then_some(())
    });
    clients.go_to(https, &all);
    caddy.stop();
    clients.go_on();
    let (failed, made) = clients.end();
    assert!(failed.is_empty(), "{} of {made}: {failed:#?}", failed.len());
    stop(proxy);
    assert_eq!(world.ca.ordered()[5..], [LATE], "two by Caddy, a renewal and two by rust-lb, a renewal by Caddy");
    assert_eq!((world.orders(), world.ca.accounts().0, world.ca.pending()), (6, 1, 0));
    let locks = std::fs::read_dir(world.certs.join("locks")).expect("there").count();
    assert_eq!(locks, 0, "nobody leaves a lock behind");
}

#[test]
fn rust_lb_answers_for_caddys_orders() {
    if !have("caddy") {
        return;
    }
    let world = World::new(Manner::default());
    let proxy = world.start(world.setup(&[]));
    proxy.serve.wait_until_served();
    for (challenge, host) in [("http-01", "one.shop.com"), ("tls-alpn-01", "two.shop.com")] {
        world.ca.change(|manner| manner.offers = vec![challenge]);
        let caddy = Caddy::start(&world, &[host]);
        let leaf = world.wait_at(caddy.https, host);
        assert_eq!(Some(leaf), file(&world, host), "{challenge}");
        caddy.stop();
    }
    assert_eq!((world.orders(), world.ca.asked("chal")), (2, 2));
}

#[test]
fn caddy_answers_for_rust_lbs_orders() {
    if !have("caddy") {
        return;
    }
    let world = World::new(Manner::default());
    // It answers for hosts of its own only, or of a site for all.
    let caddy = Caddy::with(&world, &["one.shop.com"], "https:// {\n bind 127.0.0.1\n tls {\n on_demand\n }\n}\n");
    caddy.is_looked_at(&world);
    world.wait_at(caddy.https, "one.shop.com");
    let proxy = world.start_beside(world.setup(&[]));
    let asked = world.ca.asked("chal");
    proxy.route(&[("two.shop.com", HTTP), ("three.shop.com", TLS)]);
    for name in ["two.shop.com", "three.shop.com"] {
        let leaf = world.wait_for(&proxy, name);
        assert_eq!(Some(leaf), file(&world, name));
    }
    assert_eq!((world.orders(), world.ca.asked("chal") - asked, world.ca.accounts().0), (3, 2, 1));
}
