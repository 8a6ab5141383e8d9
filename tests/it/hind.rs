//! HinD's set-up, as a person who moves from its Caddy sees it: the built-in entry points with the
//! variables of HinD, over real sockets beside the embedded catalog.

use super::support::client::{self, Answer, Connection};
use super::support::proxy::Catalog;
use super::support::server::Server;
use super::support::{PATIENCE, eventually, tls};
use rust_lb::config::{self, Input};
use rust_lb::runtime::{self, Options, Running};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

/// The proxy with HinD's own entry points, on ports of the kernel's.
struct Hind {
    running: Running,
    catalog: Arc<Catalog>,
    _dir: tempfile::TempDir,
}

/// The peer of most requests; another one is 127.0.0.1.
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

impl Hind {
    fn start(env: &[(&str, &str)]) -> Self {
        let catalog = Catalog::start();
        let nomad = format!("http://{}", catalog.nomad());
        Self::beside(catalog, &nomad, env, &[])
    }

    fn beside(catalog: Arc<Catalog>, nomad: &str, env: &[(&str, &str)], flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::create_dir(path("certs")).expect("a folder");
        let mut input = Input::default();
        let addresses = [("NOMAD_ADDR", nomad.to_owned()), ("CONSUL_HTTP_ADDR", catalog.consul().to_string())];
        input.env.extend(addresses.map(|(name, value)| (name.to_owned(), value)));
        input.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        input.args.extend([
            format!("--rustLb.stateDir={}", path("state")),
            format!("--rustLb.certificates.directory={}", path("certs")),
            format!("--accessLog.filePath={}", path("access.log")),
            "--workers=1".to_owned(),
        ]);
        input.args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let mut loaded = config::load(&input).unwrap_or_else(|problems| panic!("refused: {problems:?}"));
        for entry_point in loaded.settled.entry_points.values_mut() {
            entry_point.address.host = "127.0.0.1".to_owned();
            entry_point.address.port = 0;
        }
        let options = Options::default();
        let running = runtime::start(loaded, options).expect("the proxy starts");
        Self { running, catalog, _dir: dir }
    }

    fn addr(&self, name: &str) -> SocketAddr {
        self.running.bound()[name][0]
    }

    fn root(&self) -> Vec<u8> {
        std::fs::read(self.running.root_certificate().expect("a local root")).expect("the local root")
    }

    /// A GET over TLS from an address of this machine.
    fn secure(&self, from: Ipv4Addr, host: &str, target: &str, headers: &str) -> Answer {
        let mut stream = tls::connect(self.addr("websecure"), from, &self.root(), host).expect("a handshake");
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        let mut all = Vec::new();
        drop(stream.read_to_end(&mut all));
        client::parse(&all).expect("an answer")
    }

    fn get(&self, host: &str, target: &str) -> Answer {
        self.secure(Ipv4Addr::LOCALHOST, host, target, "")
    }

    fn plain(&self, host: &str, target: &str) -> Answer {
        client::get(self.addr("web"), host, target)
    }

    fn wait_for(&self, host: &str, target: &str, status: u16) -> Answer {
        eventually(&format!("https://{host}{target} answers {status}"), || {
            let answer = self.get(host, target);
            (answer.status == status).then_some(answer)
        })
    }

    fn problems(&self) -> serde_json::Value {
        client::get(self.addr("traefik"), "127.0.0.1", "/api/problems").json()
    }
}

#[test]
fn the_control_plane_leads_to_nomad() {
    let hind = Hind::start(&[("FQDN", "Hind.test,http://alias.test"), ("NOMAD_ADDR_EXTRA", "extra.test")]);
    for host in ["hind.test", "alias.test", "extra.test"] {
        let answer = hind.get(host, "/v1/services?namespace=*");
        assert_eq!((answer.status, answer.text().trim()), (200, "[]"), "{host}");
        assert!(answer.header("x-nomad-index").is_some(), "Nomad's own answer: {answer:?}");
        let redirect = hind.plain(host, "/ui/jobs?x=1");
        let location = format!("https://{host}/ui/jobs?x=1");
        assert_eq!((redirect.status, redirect.header("location")), (301, Some(location.as_str())));
    }
}

#[test]
fn long_polls_and_streams_of_nomad_pass() {
    // A limit that Nomad's long polls must not feel.
    let flags = ["--serversTransport.forwardingTimeouts.responseHeaderTimeout=50ms"];
    let catalog = Catalog::start();
    let nomad = format!("http://{}", catalog.nomad());
    let hind = Hind::beside(catalog, &nomad, &[("FQDN", "hind.test")], &flags);
    let server = Server::start("x");
    hind.catalog.register_nomad("a", "first", server.addr, &[]);
    let index = hind.get("hind.test", "/v1/services?namespace=*").header("x-nomad-index").map(str::to_owned);
    let index = index.expect("an index");

    let mut stream = tls::connect(hind.addr("websecure"), OTHER, &hind.root(), "hind.test").expect("a handshake");
    let target = format!("/v1/event/stream?namespace=*&topic=Service&index={index}");
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: hind.test\r\n\r\n").as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head at once");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));

    let mut poll = tls::connect(hind.addr("websecure"), OTHER, &hind.root(), "hind.test").expect("a handshake");
    let target = format!("/v1/services?namespace=*&index={index}&wait=1h");
    poll.write_all(format!("GET {target} HTTP/1.1\r\nHost: hind.test\r\nConnection: close\r\n\r\n").as_bytes())
        .expect("sent");
    let sent = std::time::Instant::now();
    eventually("the poll is open, and past the limit", || {
        let live = client::get(hind.addr("traefik"), "127.0.0.1", "/api/connections").text();
        (live.contains("control-plane") && sent.elapsed() > 3 * LIMIT).then_some(())
    });
    hind.catalog.register_nomad("b", "second", server.addr, &[]);
    let mut all = Vec::new();
    drop(poll.read_to_end(&mut all));
    let answer = client::parse(&all).expect("an answer");
    assert!(answer.status == 200 && answer.text().contains("second"), "{answer:?}");

    let mut seen = String::new();
    while !seen.contains("second") {
        let mut more = [0; 4096];
        let n = stream.read(&mut more).expect("the stream goes on");
        assert!(n > 0, "the stream ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&more[..n]));
    }
}

/// What the flag below says.
const LIMIT: std::time::Duration = std::time::Duration::from_millis(50);

#[test]
fn exec_sessions_pass_and_what_peers_say_of_others_does_not() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let nomad = format!("http://{}", listener.local_addr().expect("bound"));
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), tell) = (stream, tell.clone()) else { return };
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                if !head.contains("/exec") {
                    return drop(stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"));
                }
                drop(tell.send(head));
                let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                drop(stream.write_all(switch.as_bytes()));
                let mut word = [0; 4];
                drop(stream.read_exact(&mut word).and_then(|()| stream.write_all(&word)));
            });
        }
    });
    let hind = Hind::beside(Catalog::start(), &nomad, &[("FQDN", "hind.test")], &[]);
    let mut stream = tls::connect(hind.addr("websecure"), OTHER, &hind.root(), "hind.test").expect("a handshake");
    let head = "GET /v1/client/allocation/x/exec?tty=true HTTP/1.1\r\nHost: hind.test\r\nOrigin: https://hind.test\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Host: evil.test\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream.write_all(b"ping").expect("sent");
    let mut word = [0; 4];
    stream.read_exact(&mut word).expect("an echo");
    assert_eq!(&word, b"ping");
    let saw = told.recv_timeout(PATIENCE).expect("Nomad saw it").to_ascii_lowercase();
    // 127.0.0.2 is a trusted proxy to services, and to the control plane nobody is.
    assert!(saw.contains("x-forwarded-for: 127.0.0.2\r\n") && saw.contains("x-forwarded-host: hind.test\r\n"), "{saw}");
    assert!(saw.contains("host: hind.test\r\n") && saw.contains("origin: https://hind.test\r\n"), "{saw}");
}

#[test]
fn a_nomad_that_speaks_tls_is_verified_as_its_provider_says() {
    let back = Hind::start(&[("FQDN", "hind.test")]);
    let nomad = format!("https://{}", back.addr("websecure"));
    let ca = back.running.root_certificate().expect("a root").display().to_string();
    let with = |name: &str| {
        let env = [("FQDN", "hind.test"), ("NOMAD_CACERT", &ca), ("NOMAD_TLS_SERVER_NAME", name)];
        Hind::beside(back.catalog.clone(), &nomad, &env, &[])
    };
    let front = with("nomad.test");
    let answer = front.get("hind.test", "/v1/services?namespace=*");
    assert_eq!((answer.status, answer.header("x-nomad-index").is_some()), (200, true));
    let env = [("FQDN", "hind.test")];
    let unverified = Hind::beside(back.catalog.clone(), &nomad, &env, &[]);
    assert_eq!(unverified.get("hind.test", "/v1/services").status, 502, "nobody vouches for that Nomad");
}

#[test]
fn no_catalog_router_takes_the_control_plane_and_both_are_named() {
    let hind = Hind::start(&[("FQDN", "hind.test")]);
    let server = Server::start("thief");
    let rule = "traefik.http.routers.thief.rule=Host(`hind.test`) && PathPrefix(`/v1`)";
    let priority = "traefik.http.routers.thief.priority=9223372036854775807";
    hind.catalog.register("t1", "thief", server.addr, &["traefik.enable=true", rule, priority]);
    hind.catalog.register("t2", "site", server.addr, &["https://hind.test", "https://other.test"]);
    hind.wait_for("other.test", "/", 200);
    assert!(hind.get("hind.test", "/v1/services").header("x-nomad-index").is_some());
    assert_eq!(hind.plain("hind.test", "/v1/services").status, 301);
    let problems = hind.problems();
    let reserved = problems.as_array().expect("a list").iter().filter(|p| p["code"] == "reserved_host");
    let words: Vec<&str> = reserved.filter_map(|p| p["message"].as_str()).collect();
    assert_eq!(words.len(), 3, "the site has a router for its redirect, too: {problems}");
    for service in ["`thief@consulcatalog` (service `thief`)", "(service `site`)"] {
        let names = |word: &&str| word.contains(service) && word.contains("`control-plane@internal`");
        assert!(words.iter().any(names), "{service}: {words:?}");
    }
}

#[test]
fn remote_addresses_are_asked_of_the_peer() {
    let hind = Hind::start(&[
        ("FQDN", "hind.test"),
        ("ALLOWED_REMOTE_IPS_CONTROL_PLANE", "127.0.0.2 192.0.2.0/24"),
        ("ALLOWED_REMOTE_IPS_SERVICES", "127.0.0.0/31 255.255.255.255"),
    ]);
    let server = Server::start("app");
    hind.catalog.register("a", "a", server.addr, &["https://site.test"]);
    hind.catalog.register("b", "b", server.addr, &["urlprefix-fabio.test/"]);
    hind.catalog.register_nomad("c", "c", server.addr, &["traefik.enable=true"]);
    for host in ["site.test", "fabio.test", "c.localhost"] {
        hind.wait_for(host, "/", 200);
        let claim = "X-Forwarded-For: 127.0.0.1\r\n";
        let refused = hind.secure(OTHER, host, "/", claim);
        assert_eq!((refused.status, refused.text().as_str()), (403, "Forbidden"), "{host}");
    }
    let count = server.requests();
    assert_eq!(hind.secure(OTHER, "fabio.test", "/", "").status, 403);
    assert_eq!(server.requests(), count, "nothing reached the server");
    let refused = hind.secure(Ipv4Addr::LOCALHOST, "hind.test", "/v1/services", "X-Forwarded-For: 127.0.0.2\r\n");
    assert_eq!((refused.status, refused.text().as_str()), (403, "Forbidden"));
    assert_eq!(hind.secure(OTHER, "hind.test", "/v1/services", "").status, 200, "services' list is not for it");
    // As in HinD the redirect and the 404 are for everybody, and so is the admin entry point's own guard.
    let mut from = tls::tcp(hind.addr("web"), OTHER).expect("connects");
    from.write_all(b"GET / HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n").expect("sent");
    let mut all = Vec::new();
    from.read_to_end(&mut all).expect("an answer");
    assert_eq!(client::parse(&all).expect("an answer").status, 301);
    assert_eq!(hind.secure(OTHER, "nobody.test", "/", "").status, 404);
    assert_eq!(client::get(hind.addr("traefik"), "127.0.0.1", "/ping").status, 200);
}

#[test]
fn unknown_hosts_get_hinds_words() {
    let hind = Hind::start(&[]);
    let answer = hind.get("nobody.test", "/x");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (404, "_________________ 🕵️‍♀️ with regret, not found 🕵️‍♀️ _________________")
    );
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    let redirect = hind.plain("nobody.test", "/x?y");
    assert_eq!(redirect.status, 301);
    assert!(redirect.header("location").is_some_and(|l| l.starts_with("https://nobody.test") && l.ends_with("/x?y")));
}

#[test]
fn the_rest_of_a_host_with_a_path_is_not_found() {
    let hind = Hind::start(&[]);
    let (page, root) = (Server::start("page"), Server::start("root"));
    hind.catalog.register("p", "page", page.addr, &["https://Paths.test/Page"]);
    hind.catalog.register("r", "root", root.addr, &["https://slash.test/, https://b.test c.test", "http://d.test"]);
    hind.wait_for("paths.test", "/Page", 200);
    for (host, path) in [("paths.test", "/"), ("paths.test", "/Page/x"), ("paths.test", "/page"), ("slash.test", "/x")]
    {
        assert!(hind.get(host, path).text().contains("with regret"), "{host}{path}");
    }
    for host in ["slash.test", "b.test", "c.test"] {
        hind.wait_for(host, "/", 200);
    }
    assert_eq!(hind.get("d.test", "/").status, 404, "a tag that begins with http:// is none of HinD's");
}

#[test]
fn forwarded_fields_are_kept_from_trusted_proxies_alone() {
    let said = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: shown.test\r\n";
    for (trusted, expected) in [
        ("private_ranges", ["203.0.113.9, 127.0.0.1", "http", "shown.test"]),
        ("", ["203.0.113.9, 127.0.0.1", "http", "shown.test"]),
        ("192.0.2.0/24 127.0.0.2", ["127.0.0.1", "https", "app.test"]),
    ] {
        let hind = Hind::start(&[("TRUSTED_PROXIES", trusted)]);
        let server = Server::start("app");
        hind.catalog.register("a", "a", server.addr, &["https://app.test"]);
        hind.wait_for("app.test", "/", 200);
        let saw = hind.secure(Ipv4Addr::LOCALHOST, "app.test", "/", said).text().to_ascii_lowercase();
        for (name, value) in ["for", "proto", "host"].iter().zip(expected) {
            assert!(saw.contains(&format!("x-forwarded-{name}: {value}\r\n")), "TRUSTED_PROXIES={trusted}: {saw}");
        }
    }
}

#[test]
fn a_peer_stays_on_its_server() {
    let hind = Hind::start(&[]);
    let servers: Vec<Server> = ["a", "b", "c", "d"].into_iter().map(Server::start).collect();
    for (at, server) in servers.iter().enumerate() {
        // two services of one namespace with one tag are one pool
        let (id, name) = (format!("i{at}"), ["even", "odd"][at % 2]);
        hind.catalog.register(&id, name, server.addr, &["https://pool.test"]);
    }
    eventually("all four are one pool", || {
        let raw = client::get(hind.addr("traefik"), "127.0.0.1", "/api/rawdata").json();
        let four = |s: &serde_json::Value| s["loadBalancer"]["servers"].as_array().is_some_and(|s| s.len() == 4);
        raw["services"].as_object()?.values().any(four).then_some(())
    });
    assert_eq!(hind.problems(), serde_json::json!([]));
    let asked = |from: Ipv4Addr, claim: &str| {
        let answer = hind.secure(from, "pool.test", "/", claim);
        answer.header("x-server").expect("a server's name").to_owned()
    };
    let mut used = std::collections::BTreeSet::new();
    for last in 1..=24 {
        let from = Ipv4Addr::new(127, 0, 0, last);
        let first = asked(from, "");
        for claim in ["", "X-Forwarded-For: 203.0.113.1\r\n", "X-Forwarded-For: 203.0.113.2\r\n"] {
            assert_eq!(asked(from, claim), first, "{from} {claim}");
        }
        used.insert(first);
    }
    assert!(used.len() > 1, "24 addresses spread: {used:?}");
}

#[test]
fn a_host_of_another_namespace_stays_where_it_is() {
    let hind = Hind::start(&[]);
    let (older, younger) = (Server::start("older"), Server::start("younger"));
    let put = |namespace: &str, addr: SocketAddr| {
        let path = format!("/v1/namespace/{namespace}");
        let body = serde_json::json!({ "Name": namespace }).to_string();
        client::send(hind.catalog.nomad(), "PUT", "n", &path, "", &body);
        let body = serde_json::json!({
            "ID": namespace, "ServiceName": "wiki", "Namespace": namespace, "Address": addr.ip().to_string(),
            "Port": addr.port(), "Tags": ["https://wiki.test"],
        });
        let path = format!("/v1/service/wiki?namespace={namespace}");
        let answer = client::send(hind.catalog.nomad(), "PUT", "n", &path, "", &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    put("team-a", older.addr);
    hind.wait_for("wiki.test", "/", 200);
    put("team-b", younger.addr);
    let problem = eventually("the conflict is told", || {
        let problems = hind.problems();
        problems.as_array()?.iter().find(|p| p["code"] == "host_conflict").cloned()
    });
    let words = problem["message"].as_str().unwrap_or_default();
    assert!(words.contains("team-a") && words.contains("team-b"), "{words}");
    for last in 1..=8 {
        let answer = hind.secure(Ipv4Addr::new(127, 0, 0, last), "wiki.test", "/", "");
        assert_eq!(answer.header("x-server"), Some("older"));
    }
}

#[test]
fn a_static_file_in_traefiks_form_has_traefiks_words() {
    let proxy = super::support::proxy::Proxy::start(&[]);
    let mut connection = Connection::open(proxy.web()).expect("connects");
    assert_eq!(connection.get("nobody.test", "/").expect("an answer").text(), "404 page not found\n");
    let root = std::fs::read(proxy.running.root_certificate().expect("a root")).expect("the root");
    let mut stream = tls::connect(proxy.entry_point("websecure"), OTHER, &root, "nobody.test").expect("a handshake");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: nobody.test\r\nConnection: close\r\n\r\n").expect("sent");
    let mut all = Vec::new();
    drop(stream.read_to_end(&mut all));
    assert_eq!(client::parse(&all).expect("an answer").text(), "404 page not found\n");
}
