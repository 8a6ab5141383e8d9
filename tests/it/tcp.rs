//! TCP routers in a running proxy, over real sockets: what speaks first, what speaks TLS, and what changes meanwhile.

mod changes;
mod ends;
mod health;
mod peers;
mod tls;

use super::support::eventually;
use super::support::proxy::Proxy;
use peers::{Tcp, dial, hears, says};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A proxy over a file that the test writes, with the entry points `db` (nothing else is there) and those that all have.
pub struct Rig {
    pub proxy: Proxy,
    dir: PathBuf,
    _kept: tempfile::TempDir,
}

const DB: &str = "--entryPoints.db.address=127.0.0.1:0";
const DEFAULTS: &str = "--entryPoints.web.asDefault=true";

impl Rig {
    pub fn start(text: &str, flags: &[&str]) -> Self {
        let kept = tempfile::tempdir().expect("a folder");
        let dir = kept.path().to_owned();
        fs::write(dir.join("routes.yaml"), text).expect("a file");
        let directory = format!("--providers.file.directory={}", dir.display());
        let flags: Vec<&str> = [directory.as_str(), DB, DEFAULTS].into_iter().chain(flags.iter().copied()).collect();
        Self { proxy: Proxy::start(&flags), dir, _kept: kept }
    }

    pub fn db(&self) -> SocketAddr {
        self.proxy.entry_point("db")
    }

    /// Changes what is declared, and waits until `what` holds.
    pub fn replace(&self, text: &str) {
        let before = self.changes();
        let beside = self.dir.join("routes.yaml.new");
        fs::write(&beside, text).expect("a file");
        fs::rename(&beside, self.dir.join("routes.yaml")).expect("a rename");
        eventually("the change is in force", || (self.changes() > before).then_some(()));
    }

    fn changes(&self) -> usize {
        self.proxy.admin("/api/history").json().as_array().map_or(0, Vec::len)
    }

    pub fn problems(&self) -> Vec<serde_json::Value> {
        self.proxy.admin("/api/problems").json().as_array().cloned().unwrap_or_default()
    }
}

/// A router with its service, as file.
pub fn routed(rule: &str, more: &str, service: &str, servers: &[SocketAddr]) -> String {
    let servers: String = servers.iter().map(|server| format!("          - address: {server}\n")).collect();
    format!(
        "tcp:\n  routers:\n    r:\n      entryPoints: [db]\n      rule: {rule}\n      service: s\n{more}  services:\n    s:\n      \
         loadBalancer:\n{service}        servers:\n{servers}"
    )
}

const ANY: &str = "HostSNI(`*`)";

#[test]
fn a_server_may_speak_first() {
    let server = Tcp::greets("220 ready\r\n");
    let rig = Rig::start(&routed(ANY, "", "", &[server.addr]), &[]);
    let mut client = dial(rig.db());
    assert_eq!(hears(&mut client, 11), "220 ready\r\n");
    says(&mut client, "HELO\r\n");
    assert_eq!(hears(&mut client, 6), "HELO\r\n", "and then it echoes");
}

#[test]
fn bytes_that_came_first_are_not_lost() {
    let server = Tcp::echoes();
    let mut text = routed(ANY, "", "", &[server.addr]);
    // with an HTTPS router beside it the first byte has to be looked at
    text.push_str(
        "http:\n  routers:\n    h:\n      entryPoints: [db]\n      rule: Host(`h.test`)\n      service: s\n      tls: {}\n  services:\n    s:\n      \
         loadBalancer:\n        servers:\n          - url: http://127.0.0.1:1\n",
    );
    let rig = Rig::start(&text, &[]);
    let mut client = dial(rig.db());
    // a beginning of what HTTP/2 says first, which nothing may wait for the rest of
    says(&mut client, "PRI");
    assert_eq!(hears(&mut client, 3), "PRI");
    says(&mut client, " and more");
    assert_eq!(hears(&mut client, 9), " and more");
}

#[test]
fn servers_take_turns_and_one_that_refuses_is_passed_over() {
    let (a, b) = (Tcp::greets("a"), Tcp::greets("b"));
    let closed = peers::closed();
    let rig = Rig::start(&routed(ANY, "", "", &[a.addr, closed.address, b.addr]), &["--workers=1"]);
    let heard: Vec<String> = (0..8).map(|_| hears(&mut dial(rig.db()), 1)).collect();
    let count = |name: &str| heard.iter().filter(|heard| *heard == name).count();
    assert_eq!((count("a"), count("b")), (4, 4), "{heard:?}");
    let services = rig.proxy.admin("/api/tcp/services").json();
    assert_eq!(services[0]["serverStatus"][&closed.address.to_string()], "DOWN", "{services}");
    assert_eq!(services[0]["serverStatus"][&a.addr.to_string()], "UP", "{services}");
}

#[test]
fn without_a_server_that_answers_the_connection_is_closed() {
    let closed = peers::closed();
    let rig = Rig::start(&routed(ANY, "", "", &[closed.address]), &["--metrics.prometheus=true"]);
    assert_eq!(peers::rest(&mut dial(rig.db())), "");
    let metrics = rig.proxy.admin("/metrics").text();
    assert!(metrics.contains("rust_lb_failures_total{cause=\"refused\",service=\"\"} 1"), "{metrics}");
}

#[test]
fn weights_are_kept() {
    let (a, b) = (Tcp::greets("a"), Tcp::greets("b"));
    let service =
        |name: &str, addr| format!("    {name}:\n      loadBalancer:\n        servers:\n          - address: {addr}\n");
    let text = format!(
        "tcp:\n  routers:\n    r:\n      entryPoints: [db]\n      rule: {ANY}\n      service: w\n  services:\n    w:\n      weighted:\n        \
         services:\n          - name: a\n            weight: 3\n          - name: b\n            weight: 1\n{}{}",
        service("a", a.addr),
        service("b", b.addr)
    );
    let rig = Rig::start(&text, &["--workers=1"]);
    let heard: String = (0..8).map(|_| hears(&mut dial(rig.db()), 1)).collect();
    assert_eq!(heard.matches('a').count(), 6, "{heard}");
    assert_eq!(heard.matches('b').count(), 2, "{heard}");
    let of = rig.proxy.admin("/api/tcp/services/w@file").json();
    assert_eq!((&of["type"], &of["status"]), (&"weighted".into(), &"enabled".into()), "{of}");
}

#[test]
fn a_list_lets_its_clients_in_and_no_others() {
    let server = Tcp::greets("in");
    let with = |range: &str| {
        let text = routed(ANY, "      middlewares: [m]\n", "", &[server.addr]);
        format!("{text}  middlewares:\n    m:\n      ipAllowList:\n        sourceRange: ['{range}']\n")
    };
    let rig = Rig::start(&with("127.0.0.0/8"), &[]);
    assert_eq!(hears(&mut dial(rig.db()), 2), "in");
    rig.replace(&with("10.0.0.0/8"));
    assert_eq!(peers::rest(&mut dial(rig.db())), "");
    // one that cannot be used leaves its last good form in force
    rig.replace_and_wait_for(&with("nonsense"), "bad_middleware");
    assert_eq!(peers::rest(&mut dial(rig.db())), "");
}

impl Rig {
    /// Changes what is declared, and waits until a problem of this code is told.
    pub fn replace_and_wait_for(&self, text: &str, code: &str) {
        fs::write(self.dir.join("routes.yaml"), text).expect("a file");
        eventually(code, || self.problems().iter().any(|problem| problem["code"] == code).then_some(()));
    }
}

#[test]
fn a_client_has_no_more_connections_than_it_may() {
    let server = Tcp::greets("in");
    let text = routed(ANY, "      middlewares: [m]\n", "", &[server.addr]);
    let rig = Rig::start(&format!("{text}  middlewares:\n    m:\n      inFlightConn:\n        amount: 1\n"), &[]);
    let mut first = dial(rig.db());
    assert_eq!(hears(&mut first, 2), "in");
    assert_eq!(peers::rest(&mut dial(rig.db())), "");
    drop(first);
    eventually("there is room again", || (peers::some(&mut dial(rig.db()), 2)? == "in").then_some(()));
}

#[test]
fn servers_are_told_of_the_client() {
    for (version, v2) in [(1, false), (2, true)] {
        let mut server = Tcp::records();
        let options = format!("        proxyProtocol:\n          version: {version}\n");
        let rig = Rig::start(&routed(ANY, "", &options, &[server.addr]), &[]);
        let mut client = dial(rig.db());
        says(&mut client, "hello");
        client.shutdown(std::net::Shutdown::Write).expect("the end");
        let got = server.next_recorded();
        let (from, to) = (client.local_addr().expect("an address"), rig.db());
        let expected = if v2 {
            let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".to_vec();
            header.extend(from.port().to_be_bytes());
            header.extend(to.port().to_be_bytes());
            header
        } else {
            format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", from.port(), to.port()).into_bytes()
        };
        assert_eq!(got, [&expected[..], b"hello"].concat(), "version {version}");
    }
}

#[test]
fn a_client_that_a_believed_proxy_names_is_the_one_that_rules_ask_for() {
    let server = Tcp::greets("in");
    let trusted = "--entryPoints.db.proxyProtocol.trustedIPs=127.0.0.1";
    let rig = Rig::start(&routed("ClientIP(`192.0.2.7`)", "", "", &[server.addr]), &[trusted]);
    let mut client = dial(rig.db());
    says(&mut client, "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n");
    assert_eq!(hears(&mut client, 2), "in", "nothing else had to be said");
    let mut other = dial(rig.db());
    says(&mut other, "PROXY TCP4 192.0.2.9 192.0.2.8 1 2\r\nGET / HTTP/1.0\r\n\r\n");
    assert!(peers::rest(&mut other).starts_with("HTTP/1.0 404"), "HTTP has what no TCP router takes");
}

#[test]
fn connections_are_counted_and_routers_shown() {
    let server = Tcp::greets("in");
    let rig = Rig::start(&routed(ANY, "", "", &[server.addr]), &["--metrics.prometheus=true"]);
    let mut client = dial(rig.db());
    assert_eq!(hears(&mut client, 2), "in");
    let metrics = rig.proxy.admin("/metrics").text();
    assert!(metrics.contains("traefik_open_connections{entrypoint=\"db\",protocol=\"TCP\"} 1"), "{metrics}");
    let connections = rig.proxy.admin("/api/connections").json();
    let of = |server: &serde_json::Value| server["service"] == "s@file" && server["inFlight"] == 1;
    assert!(connections["servers"].as_array().is_some_and(|all| all.iter().any(of)), "{connections}");
    let router = rig.proxy.admin("/api/tcp/routers/r@file").json();
    assert_eq!(router["status"], "enabled", "{router}");
    assert_eq!((&router["rule"], &router["priority"]), (&ANY.into(), &(-1).into()), "{router}");
    assert_eq!((&router["service"], &router["using"][0]), (&"s".into(), &"db".into()), "{router}");
    let overview = rig.proxy.admin("/api/overview").json();
    assert_eq!(overview["tcp"]["routers"]["total"], 1, "{overview}");
}

#[test]
fn catalogs_declare_them_too() {
    let (traefik, fabio) = (Tcp::greets("traefik"), Tcp::greets("fabio"));
    let port = peers::free_port();
    let rig = Rig::start("http: {}\n", &[&format!("--entryPoints.port.address=127.0.0.1:{port}")]);
    let tags = [
        "traefik.enable=true",
        "traefik.tcp.routers.db.rule=HostSNI(`*`)",
        "traefik.tcp.routers.db.entrypoints=db",
        "traefik.tcp.services.db.loadbalancer.terminationdelay=-1",
    ];
    rig.proxy.catalog.register_nomad("t-1", "db", traefik.addr, &tags);
    let prefix = format!("urlprefix-:{port}");
    rig.proxy.catalog.register("f-1", "mail", fabio.addr, &[&prefix]);
    let port = SocketAddr::from(([127, 0, 0, 1], port));
    eventually("Nomad's", || (peers::some(&mut dial(rig.db()), 7)? == "traefik").then_some(()));
    eventually("Consul's", || (peers::some(&mut dial(port), 5)? == "fabio").then_some(()));
    let routers = rig.proxy.admin("/api/tcp/routers").json();
    let names: Vec<&str> = routers.as_array().expect("a list").iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(names.len(), 2, "{routers}");
    assert!(names.contains(&"db@nomad"), "{routers}");
    rig.proxy.catalog.deregister_nomad("db", "t-1");
    eventually("HTTP has the entry point to itself again", || {
        let mut client = dial(rig.db());
        says(&mut client, "GET / HTTP/1.0\r\n\r\n");
        peers::some(&mut client, 12)?.starts_with("HTTP/1.0 404").then_some(())
    });
}
