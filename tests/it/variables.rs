//! Variables of the environment, as whole processes heed them: what they do to the requests that agents get, to routes, and
//! that those of HTTP proxies do nothing. HinD's own are in `hind`, in each respect, and here that a process heeds them;
//! what each settles to is in `config::sources`.

mod tls;

use super::support::binary::command;
use super::support::eventually;
use super::support::proxy::Catalog;
use super::support::serve::{Serve, Setup};
use super::support::server::Server;
use super::support::{client, tls as wire};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

/// An agent that refuses everything, and keeps the heads of what it was asked.
struct Agent {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let keeps = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let keeps = keeps.clone();
                std::thread::spawn(move || refuse(stream, &keeps));
            }
        });
        Self { addr, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn refuse(mut stream: std::net::TcpStream, keeps: &Mutex<Vec<String>>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            keeps.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(&head).into_owned());
            head.clear();
            let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 17\r\n\r\nPermission denied";
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// `serve` over both catalogs at these addresses, with these variables.
fn serve(server: &Server, nomad: SocketAddr, consul: SocketAddr, env: &[(&str, &str)]) -> Serve {
    let flags = ["--providers.nomad=true", "--providers.consulCatalog=true"];
    let setup = Setup::new(server.addr, &flags);
    let setup = setup.env("NOMAD_ADDR", &format!("http://{nomad}")).env("CONSUL_HTTP_ADDR", &consul.to_string());
    env.iter().fold(setup, |setup, (name, value)| setup.env(name, value)).start()
}

#[test]
fn agents_are_asked_as_the_variables_say() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("token");
    std::fs::write(&file, "from-a-file\n").expect("written");
    let file = file.display().to_string();
    let cases: &[(&str, &str, &str)] = &[
        ("NOMAD_TOKEN", "secret-n", "x-nomad-token: secret-n\r\n"),
        ("NOMAD_NAMESPACE", "team-a", "namespace=team-a"),
        ("NOMAD_REGION", "west", "region=west"),
        ("CONSUL_HTTP_TOKEN", "secret-c", "x-consul-token: secret-c\r\n"),
        ("CONSUL_HTTP_TOKEN_FILE", &file, "x-consul-token: from-a-file\r\n"),
        ("CONSUL_NAMESPACE", "team-c", "ns=team-c"),
        ("CONSUL_PARTITION", "part", "partition=part"),
    ];
    let server = Server::start("app");
    for (name, value, seen) in cases {
        let (nomad, consul) = (Agent::start(), Agent::start());
        let running = serve(&server, nomad.addr, consul.addr, &[(name, value)]);
        let agent = if name.starts_with("NOMAD") { &nomad } else { &consul };
        eventually(&format!("{name}={value} is seen by its agent"), || {
            agent.asked().iter().any(|head| head.to_ascii_lowercase().contains(seen)).then_some(())
        });
        let other = if name.starts_with("NOMAD") { &consul } else { &nomad };
        assert!(!other.asked().iter().any(|head| head.contains(value)), "{name} is not for the other agent");
        running.wait_until_served();
        // A token is in no log.
        let secret = name.contains("TOKEN") && !name.ends_with("FILE");
        assert!(!secret || !running.said().join("\n").contains(value), "{name} is told");
    }
}

#[test]
fn a_nomad_without_a_token_is_told_of_once_and_consul_serves() {
    let (nomad, catalog, server) = (Agent::start(), Catalog::start(), Server::start("app"));
    catalog.register("c", "c", server.addr, &["urlprefix-c.test/"]);
    let running = serve(&server, nomad.addr, catalog.consul(), &[]);
    let web = running.web();
    eventually("Consul's service is served", || (client::get(web, "c.test", "/").status == 200).then_some(()));
    let told = running.says("catalog token lacks rights", 1);
    for words in ["NOMAD_TOKEN", r#"namespace \"*\" { capabilities = [\"read-job\"] }"#, "\"provider\":\"nomad\""] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let asked = nomad.asked().len();
    eventually("Nomad is asked again and again", || (nomad.asked().len() >= asked + 6).then_some(()));
    let times = running.said().iter().filter(|line| line.contains("read-job")).count();
    assert_eq!(times, 1, "{}", running.said().join("\n"));
    let ready = running.admin("/ready").expect("an answer");
    let health = running.admin("/health").expect("an answer").text();
    assert!(ready.status == 200 && health.contains("read-job"), "{health}");
}

#[test]
fn variables_of_http_proxies_are_not_for_backends_and_catalogs() {
    // Whoever asks it is going astray.
    let trap = Agent::start();
    let (catalog, server) = (Catalog::start(), Server::start("app"));
    let address = format!("http://{}", trap.addr);
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let env: Vec<(&str, &str)> = names.iter().map(|name| (*name, address.as_str())).collect();
    let running = serve(&server, catalog.nomad(), catalog.consul(), &env);
    catalog.register("c", "c", server.addr, &["urlprefix-c.test/"]);
    catalog.register_nomad(
        "n",
        "n",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.n.rule=Host(`n.test`)"],
    );
    let web = running.web();
    for host in ["a.test", "c.test", "n.test"] {
        let answer = eventually(&format!("{host} is served"), || {
            let answer = client::get(web, host, "/");
            (answer.status == 200).then_some(answer)
        });
        assert_eq!(answer.header("x-server"), Some("app"));
    }
    assert_eq!(trap.asked(), Vec::<String>::new());
}

#[test]
fn the_primary_catalog_and_the_suffix_are_those_of_the_variables() {
    let (of_nomad, of_consul) = (Server::start("nomad"), Server::start("consul"));
    for primary in ["nomad", "consul"] {
        let catalog = Catalog::start();
        let tags = ["traefik.enable=true"];
        catalog.register("c", "both", of_consul.addr, &tags);
        catalog.register_nomad("n", "both", of_nomad.addr, &tags);
        let env = [("TRAEFIK_PROVIDER_PRIMARY", primary), ("DOMAIN_SUFFIX", "apps.test")];
        let running = serve(&of_nomad, catalog.nomad(), catalog.consul(), &env);
        eventually("both catalogs are read", || {
            let raw = running.admin("/api/rawdata").ok()?.json();
            let read = |name: &str| {
                raw["providers"][name]["services"].as_u64().or(raw["providers"][name]["servicesSeen"].as_u64())
            };
            (raw["providers"].as_object()?.len() >= 2 && read("nomad") == Some(1) && read("consulcatalog") == Some(1))
                .then_some(())
        });
        eventually(&format!("{primary} wins"), || {
            let answer = client::get(running.web(), "both.apps.test", "/");
            (answer.header("x-server") == Some(primary)).then_some(())
        });
    }
}

#[test]
fn the_admin_entry_point_is_open_where_the_variable_says_so() {
    for (value, address) in [("false", "127.0.0.1:"), ("true", "")] {
        let mut check = command(&["check", "--json"]);
        let output = check.env("TRAEFIK_API_INSECURE", value).output().expect("it runs");
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            said["settled"]["entryPoints"]["traefik"]["address"],
            format!("{address}{}8080", if address.is_empty() { ":" } else { "" })
        );
        assert_eq!(said["settled"]["api"]["insecure"], value == "true");
    }
}

/// What HinD's other programs read is neither unknown nor heeded.
#[test]
fn variables_of_the_box_that_are_not_for_the_proxy_are_passed_over() {
    let mut check = command(&["check", "--strict"]);
    for (name, value) in [
        ("CLIENT_ONLY_NODE", "1"),
        ("FIRST", "vm1"),
        ("HOST_UNAME", "Darwin"),
        ("HIND_C", "x"),
        ("HIND_N", "x"),
        ("PROXY_SERVER", "nonsense"),
    ] {
        check.env(name, value);
    }
    let output = check.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("(0 errors, 0 warnings)"), "{said}");
}

#[test]
fn a_state_directory_that_cannot_be_had_is_told_of_and_keeps_nothing_from_being_served() {
    let server = Server::start("app");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("written");
    // Below a file, and where not even root may write: absent, and read-only.
    for state in [file.join("rust-lb").display().to_string(), "/proc/rust-lb".to_owned()] {
        let flags = ["--entryPoints.websecure.address=127.0.0.1:0".to_owned(), format!("--stateDir={state}")];
        let running = Serve::start(&server, &flags.each_ref().map(String::as_str));
        running.wait_until_served();
        let told = running.says("state_not_written", 1);
        assert!(told.contains(&state) && told.contains("make `rustLb.stateDir` writable"), "{told}");
        eventually("it is among the problems", || {
            running
                .admin("/api/problems")
                .ok()
                .filter(|problems| problems.text().contains("state_not_written"))
                .map(drop)
        });
        assert_eq!(client::get(running.web(), "a.test", "/").status, 200);
    }
}

/// The answer to one GET from an address of this machine; over TLS without a look at the certificate.
fn ask(addr: SocketAddr, from: Ipv4Addr, secure: bool, host: &str, headers: &str) -> Option<client::Answer> {
    let mut stream = wire::tcp(addr, from).ok()?;
    let request = format!("GET /v1/services HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n");
    let mut answer = Vec::new();
    if secure {
        let name = rustls::pki_types::ServerName::try_from(host.to_owned()).ok()?;
        let session = rustls::ClientConnection::new(wire::blind(&[]), name).ok()?;
        let mut stream = rustls::StreamOwned::new(session, stream);
        stream.write_all(request.as_bytes()).ok()?;
        // Servers may close without close_notify; what came before counts.
        drop(stream.read_to_end(&mut answer));
    } else {
        stream.write_all(request.as_bytes()).ok()?;
        drop(stream.read_to_end(&mut answer));
    }
    client::parse(&answer).ok()
}

#[test]
fn the_variables_of_hind_are_heeded_by_a_process() {
    const SELF: Ipv4Addr = Ipv4Addr::LOCALHOST;
    const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    let (catalog, server) = (Catalog::start(), Server::start("app"));
    catalog.register("c", "c", server.addr, &["urlprefix-c.test/", "https://site.test"]);
    let (nomad, consul) = (catalog.nomad(), catalog.consul().to_string());
    let nomad = format!("http://{nomad}");
    let flags =
        ["--providers.nomad=true", "--providers.consulCatalog=true", "--entryPoints.websecure.address=127.0.0.1:0"];
    let setup = || Setup::new(server.addr, &flags).arg("--entryPoints.websecure.http.tls=true");
    let with = |env: &[(&str, &str)]| {
        let setup = setup().env("NOMAD_ADDR", &nomad).env("CONSUL_HTTP_ADDR", &consul);
        let running = env.iter().fold(setup, |setup, (name, value)| setup.env(name, value)).start();
        eventually("both services are served", || {
            let plain = ask(running.web(), SELF, false, "c.test", "")?;
            let secure = ask(running.address("websecure"), SELF, true, "site.test", "")?;
            (plain.status == 200 && secure.status == 200).then_some(())
        });
        running
    };
    let claim = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: gopher\r\n";
    let running = with(&[
        ("FQDN", "hind.test"),
        ("NOMAD_ADDR_EXTRA", "extra.test, more.test"),
        ("TRUSTED_PROXIES", "private_ranges"),
    ]);
    let secure = running.address("websecure");
    for host in ["hind.test", "extra.test", "more.test"] {
        let answer = ask(secure, SELF, true, host, "").expect("an answer");
        assert!(answer.status == 200 && answer.header("x-nomad-index").is_some(), "{host}: {answer:?}");
    }
    assert_eq!(ask(secure, SELF, true, "none.test", "").expect("an answer").status, 404);
    // Loopback is a private range: what it says of its client is kept.
    let saw = ask(running.web(), SELF, false, "c.test", claim).expect("an answer").text().to_ascii_lowercase();
    assert!(saw.contains("x-forwarded-for: 203.0.113.9, 127.0.0.1"), "{saw}");
    drop(running);
    let running = with(&[
        ("FQDN", "hind.test"),
        ("TRUSTED_PROXIES", "192.0.2.0/24"),
        ("ALLOWED_REMOTE_IPS_CONTROL_PLANE", "127.0.0.2"),
        ("ALLOWED_REMOTE_IPS_SERVICES", "127.0.0.1 192.0.2.0/24"),
    ]);
    let (web, secure) = (running.web(), running.address("websecure"));
    let status = |from, secure_too, addr, host| ask(addr, from, secure_too, host, claim).map(|answer| answer.status);
    assert_eq!(
        (status(SELF, true, secure, "hind.test"), status(OTHER, true, secure, "hind.test")),
        (Some(403), Some(200))
    );
    assert_eq!(
        (status(SELF, true, secure, "site.test"), status(OTHER, true, secure, "site.test")),
        (Some(200), Some(403))
    );
    assert_eq!((status(SELF, false, web, "c.test"), status(OTHER, false, web, "c.test")), (Some(200), Some(403)));
    let saw = ask(web, SELF, false, "c.test", claim).expect("an answer").text().to_ascii_lowercase();
    assert!(saw.contains("x-forwarded-for: 127.0.0.1\r\n") && !saw.contains("gopher"), "{saw}");
}
