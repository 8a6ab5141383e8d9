//! `serversTransport`: how servers are reached, over real sockets and from real files.

mod handshake;
mod proxy_protocol;
pub mod rig;

use super::support::client::Connection;
use super::support::proxy::Proxy;
use super::support::server::Server;
use rig::{ALL, Authority, Rig, TlsServer, dynamic, ok, request, server_config};
use serde_json::json;
use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc;

#[test]
fn servers_are_verified_by_the_authorities_that_are_named() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = TlsServer::of(&ours, "localhost");
    let url = server.url("localhost");
    let rig = Rig::start(|files| {
        let routes = [
            ("file", &*url, "file"),
            ("text", &url, "text@file"),
            ("wrong", &url, "wrong"),
            ("unset", &url, ""),
            ("skip", &url, "skip"),
            ("default", &url, "default@internal"),
        ];
        let transports = json!({
            "file": {"rootCAs": [files.write("ours.pem", &ours.pem)]},
            "text": {"rootCAs": [ours.pem]},
            "wrong": {"rootCAs": [files.write("theirs.pem", &theirs.pem)]},
            "skip": {"insecureSkipVerify": true},
        });
        dynamic(&routes, transports)
    });
    for (name, status) in
        [("file", 200), ("text", 200), ("wrong", 502), ("unset", 502), ("default", 502), ("skip", 200)]
    {
        assert_eq!(rig.get(&format!("{name}.test")).0, status, "{name}");
    }
    assert!(rig.get("file.test").1.contains("sni=localhost TLSv1_3 client=false"));
}

#[test]
fn tags_of_fabios_say_whether_certificates_are_verified() {
    let server = TlsServer::of(&Authority::new("ours"), "localhost");
    let proxy = Proxy::start(&[]);
    let register = |service: &str, tag: &str| proxy.catalog.register(service, service, server.addr, &[tag]);
    register("skips", "urlprefix-skips.test/ proto=https tlsskipverify=true");
    register("verifies", "urlprefix-verifies.test/ proto=https tlsskipverify=false");
    register("both-1", "urlprefix-both.test/ proto=https tlsskipverify=true");
    register("both-2", "urlprefix-both.test/ proto=https");
    proxy.wait_for("skips.test", "/", 200);
    proxy.wait_for("verifies.test", "/", 502);
    // What one tag does not allow, another one of the pool cannot.
    proxy.wait_for("both.test", "/", 502);
    assert!(!proxy.admin("/api/problems").text().contains("not_served"));
}

#[test]
fn the_static_transport_holds_where_none_is_named() {
    let ours = Authority::new("ours");
    let server = TlsServer::of(&ours, "localhost");
    let kept = tempfile::tempdir().expect("a folder");
    let file = kept.path().join("ca.pem");
    std::fs::write(&file, &ours.pem).expect("a file");
    let flag = format!("--serversTransport.rootCAs={}", file.display());
    let url = server.url("localhost");
    let rig = Rig::with(&[&flag, "--providers.nomad=false", "--providers.consulCatalog=false"], |_| {
        dynamic(&[("a", &url, ""), ("b", &url, "default@internal"), ("own", &url, "own")], json!({"own": {}}))
    });
    assert_eq!(["a.test", "b.test"].map(|host| rig.get(host).0), [200, 200]);
    assert_eq!(rig.get("own.test").0, 502, "a transport of its own takes nothing from the default one");
}

#[test]
fn the_name_that_is_asked_for_can_be_said() {
    let ours = Authority::new("ours");
    let server = TlsServer::of(&ours, "backend.internal");
    let url = server.url("127.0.0.1");
    let transports = json!({
        "named": {"rootCAs": [ours.pem], "serverName": "backend.internal"},
        "plain": {"rootCAs": [ours.pem]},
    });
    let rig = Rig::start(|_| dynamic(&[("named", &url, "named"), ("plain", &url, "plain")], transports));
    assert!(rig.get("named.test").1.contains("sni=backend.internal"));
    assert_eq!(rig.get("plain.test").0, 502);
}

#[test]
fn servers_may_ask_for_a_certificate() {
    let (ours, clients, others) = (Authority::new("ours"), Authority::new("clients"), Authority::new("others"));
    let server = TlsServer::start(server_config(&ours.sign(&["localhost"]), Some(&clients), ALL));
    let (mine, other) = (clients.sign(&["proxy"]), others.sign(&["proxy"]));
    let url = server.url("localhost");
    let rig = Rig::start(|files| {
        let pair = |name: &str, pair: &rig::Pair| {
            let chain = files.write(&format!("{name}.crt"), &pair.chain);
            json!({"certFile": chain, "keyFile": files.write(&format!("{name}.key"), &pair.key)})
        };
        let (mine_files, other_files) = (pair("mine", &mine), pair("other", &other));
        let with = |certificates: serde_json::Value| json!({"rootCAs": [ours.pem], "certificates": certificates});
        let transports = json!({
            "mine": with(json!([mine_files])),
            "text": with(json!([{"certFile": mine.chain, "keyFile": mine.key}])),
            "both": with(json!([other_files, mine_files])),
            "other": with(json!([other_files])),
            "none": {"rootCAs": [ours.pem]},
            "mixed": with(json!([{"certFile": mine.chain, "keyFile": other.key}])),
        });
        let routes = ["mine", "text", "both", "other", "none", "mixed"].map(|name| (name, &*url, name));
        dynamic(&routes, transports)
    });
    for name in ["mine", "text", "both"] {
        let (status, body) = rig.get(&format!("{name}.test"));
        assert!(status == 200 && body.contains("client=true"), "{name}: {status} {body}");
    }
    for name in ["other", "none", "mixed"] {
        assert_eq!(rig.get(&format!("{name}.test")).0, 502, "{name}");
    }
    let problem = rig.wait_for_problem("servers_transport_files");
    let message = problem["message"].as_str().expect("a message");
    assert!(message.contains("`mixed@file`") && !message.contains("BEGIN"), "{message}");
}

#[test]
fn peers_may_be_known_by_a_uri_instead_of_a_host() {
    let ours = Authority::new("ours");
    let id = "spiffe://example.org/web";
    let server = TlsServer::start(server_config(&ours.sign_uri(id), None, ALL));
    let url = server.url("localhost");
    let by = |id: &str| {
        let names = json!([{"type": "URI", "value": id}]);
        json!({"rootCAs": [ours.pem], "insecureSkipVerify": true, "peerCertSANs": names})
    };
    let stranger = Authority::new("stranger");
    let transports = json!({
        "id": by(id),
        "old": {"rootCAs": [ours.pem], "insecureSkipVerify": true, "peerCertURI": id},
        "other": by("spiffe://example.org/db"),
        "host": {"rootCAs": [ours.pem], "peerCertURI": id},
        "chain": {"rootCAs": [stranger.pem], "insecureSkipVerify": true, "peerCertURI": id},
    });
    let routes = ["id", "old", "other", "host", "chain"].map(|name| (name, &*url, name));
    let rig = Rig::start(|_| dynamic(&routes, transports));
    let statuses = ["id", "old", "other", "host", "chain"].map(|name| rig.get(&format!("{name}.test")).0);
    assert_eq!(statuses, [200, 200, 502, 502, 502]);
}

#[test]
fn versions_and_suites_are_kept() {
    let ours = Authority::new("ours");
    let pair = ours.sign(&["localhost"]);
    let old = TlsServer::start(server_config(&pair, None, &[&rustls::version::TLS12]));
    let new = TlsServer::of(&ours, "localhost");
    let transport = |more: serde_json::Value| {
        let mut transport = json!({"rootCAs": [ours.pem]});
        transport.as_object_mut().expect("keys").extend(more.as_object().expect("keys").clone());
        transport
    };
    let transports = json!({
        "any": transport(json!({})),
        "min": transport(json!({"minVersion": "VersionTLS13"})),
        "max": transport(json!({"maxVersion": "VersionTLS12"})),
        "suite": transport(json!({"cipherSuites": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]})),
        "rsa": transport(json!({"cipherSuites": ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]})),
    });
    let (old, new) = (old.url("localhost"), new.url("localhost"));
    let routes = [
        ("any", &*old, "any"),
        ("min", &old, "min"),
        ("max", &new, "max"),
        ("suite", &old, "suite"),
        ("rsa", &old, "rsa"),
    ];
    let rig = Rig::start(|_| dynamic(&routes, transports));
    assert!(rig.get("any.test").1.contains("TLSv1_2"));
    assert_eq!(rig.get("min.test").0, 502);
    assert!(rig.get("max.test").1.contains("TLSv1_2"));
    assert!(rig.get("suite.test").1.contains("TLSv1_2"));
    assert_eq!(rig.get("rsa.test").0, 502, "the server's key is none of RSA");
}

#[test]
fn sessions_with_servers_are_resumed() {
    let ours = Authority::new("ours");
    let server = TlsServer::of(&ours, "localhost");
    let url = server.url("localhost");
    let transports = json!({"t": {"rootCAs": [ours.pem], "maxIdleConnsPerHost": -1}});
    let rig = Rig::start(|_| dynamic(&[("a", &url, "t")], transports));
    assert!(rig.get("a.test").1.contains(" Full "));
    assert!(rig.get("a.test").1.contains(" Resumed "));
}

#[test]
fn a_server_that_is_slow_to_connect_or_to_answer_is_given_up() {
    // takes connections, and says nothing
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let (tls, plain) = (format!("https://127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"));
    let transports = json!({
        "dial": {"forwardingTimeouts": {"dialTimeout": "50ms"}},
        "head": {"forwardingTimeouts": {"responseHeaderTimeout": "50ms"}},
    });
    let rig = Rig::start(|_| dynamic(&[("dial", &tls, "dial"), ("head", &plain, "head")], transports));
    assert_eq!(rig.get("dial.test").0, 504);
    assert_eq!(rig.get("head.test").0, 504);
}

#[test]
fn idle_connections_are_kept_as_far_as_it_says() {
    let servers = [(); 4].map(|()| Counted::start());
    let transports = json!({
        "kept": {},
        "none": {"maxIdleConnsPerHost": -1},
        "short": {"forwardingTimeouts": {"idleConnTimeout": "1ns"}},
        "ever": {"forwardingTimeouts": {"idleConnTimeout": "0s"}},
    });
    let names = ["kept", "none", "short", "ever"];
    let urls = servers.each_ref().map(|server| format!("http://{}", server.addr));
    let routes: Vec<_> = names.iter().zip(&urls).map(|(name, url)| (*name, &**url, *name)).collect();
    let rig = Rig::start(|_| dynamic(&routes, transports));
    // one connection is with one worker, and so with one pool
    let mut client = Connection::open(rig.proxy.web()).expect("a connection");
    for (name, accepted) in names.iter().zip([1, 3, 3, 1]) {
        let last = (0..3).map(|_| client.get(&format!("{name}.test"), "/").expect("an answer").text()).last();
        assert_eq!(last, Some((accepted - 1).to_string()), "{name}");
    }
}

/// A server that answers with the number of the connection.
struct Counted {
    addr: std::net::SocketAddr,
}

impl Counted {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    while request(&mut stream).is_some() {
                        if stream.get_mut().write_all(ok(&number.to_string()).as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { addr }
    }
}

#[test]
fn tags_name_transports_of_other_providers() {
    let server = Server::start("tagged");
    let rig = Rig::with(&[], |_| dynamic(&[], json!({"there": {}})));
    let catalog = &rig.proxy.catalog;
    let tags = |name: &str, transport: &str| {
        [
            "traefik.enable=true".to_owned(),
            format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)"),
            format!("traefik.http.services.{name}.loadbalancer.serverstransport={transport}"),
        ]
    };
    for (name, transport) in
        [("good", "there@file"), ("lost", "nowhere@file"), ("near", "there"), ("deflt", "default@internal")]
    {
        let tags = tags(name, transport);
        catalog.register(name, name, server.addr, &tags.each_ref().map(String::as_str));
    }
    rig.wait_for("good.test", 200);
    rig.wait_for("deflt.test", 200);
    let refused = |name: &str| {
        super::support::eventually("the refusal", || {
            let problems = rig.proxy.admin("/api/problems").json();
            let of = |p: &&serde_json::Value| {
                p["code"] == "unknown_servers_transport" && p["service"] == name && p["severity"] == "error"
            };
            problems.as_array()?.iter().find(of).cloned()
        })
    };
    let problem = refused("lost");
    let message = problem["message"].as_str().expect("a message");
    assert!(message.contains("`nowhere@file`") && message.contains("does not exist"), "{message}");
    assert!(problem["tag"].as_str().is_some_and(|tag| tag.contains("serverstransport=nowhere@file")), "{problem}");
    refused("near");
    assert_eq!(["lost.test", "near.test"].map(|host| rig.get(host).0), [404, 404]);
    let service = rig.proxy.admin("/api/http/services/good@consulcatalog").json();
    assert_eq!(service["loadBalancer"]["serversTransport"], "there@file", "{service}");
    // what is named later is found
    rig.replace(&dynamic(&[], json!({"there": {}, "nowhere": {}})));
    rig.wait_for("lost.test", 200);
}

#[test]
fn a_transport_that_cannot_be_used_refuses_its_routers_or_keeps_its_last_form() {
    let server = Server::start("a");
    let url = format!("http://{}", server.addr);
    let with = |version: &str| {
        dynamic(
            &[("a", &url, "t"), ("free", &url, ""), ("s", &url, "spiffe")],
            json!({
                "t": {"minVersion": version},
                "spiffe": {"spiffe": {"ids": ["spiffe://example.org/a"]}},
            }),
        )
    };
    let rig = Rig::start(|_| with("1.2"));
    assert_eq!(["a.test", "s.test", "free.test"].map(|host| rig.get(host).0), [404, 404, 200]);
    let bad = rig.wait_for_problem("bad_servers_transport");
    assert!(bad["message"].as_str().is_some_and(|m| m.contains("`minVersion`")), "{bad}");
    let refused = rig.wait_for_problem("refused_servers_transport");
    assert!(refused["file"].as_str().is_some_and(|file| file.ends_with("a.yaml")), "{refused}");
    let spiffe = rig.wait_for_problem("bad_value");
    let message = spiffe["message"].as_str().expect("a message");
    assert!(message.contains("spiffe") && message.contains("workload API"), "{message}");
    rig.replace(&with("VersionTLS12"));
    rig.wait_for("a.test", 200);
    rig.replace(&with("1.3"));
    let kept = super::support::eventually("the last good form is told of", || {
        let problem = rig.wait_for_problem("bad_servers_transport");
        problem["message"].as_str().filter(|m| m.contains("1.3")).map(str::to_owned)
    });
    assert!(kept.contains("last good form"), "{kept}");
    assert_eq!(rig.get("a.test").0, 200);
}

#[test]
fn a_change_makes_new_connections_and_lets_requests_finish() {
    let (begun, told) = mpsc::channel();
    let (go, may) = mpsc::channel::<()>();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (may, accepted) = (std::sync::Mutex::new(may), listener);
    std::thread::spawn(move || {
        let may = std::sync::Arc::new(may);
        for (number, stream) in accepted.incoming().flatten().enumerate() {
            let (begun, may) = (begun.clone(), may.clone());
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                while let Some(head) = request(&mut stream) {
                    if head.starts_with("GET /slow") {
                        begun.send(()).expect("somebody waits");
                        may.lock().expect("whole").recv().expect("somebody says so");
                    }
                    stream.get_mut().write_all(ok(&number.to_string()).as_bytes()).expect("written");
                }
            });
        }
    });
    let other = Counted::start();
    let beside = format!("http://{}", other.addr);
    let with = |most: i64| {
        let transports = json!({"t": {"maxIdleConnsPerHost": most}, "u": {}});
        dynamic(&[("a", &url, "t"), ("b", &beside, "u")], transports)
    };
    let rig = Rig::with(&["--workers=1", "--providers.nomad=false", "--providers.consulCatalog=false"], |_| with(5));
    let mut client = Connection::open(rig.proxy.web()).expect("a connection");
    let mut get = |host: &str| client.get(host, "/").expect("an answer").text();
    assert_eq!((get("a.test"), get("a.test"), get("b.test")), ("0".into(), "0".into(), "0".into()));
    let web = rig.proxy.web();
    let slow = std::thread::spawn(move || super::support::client::get(web, "a.test", "/slow"));
    told.recv_timeout(super::support::PATIENCE).expect("it is there");
    rig.replace(&with(6));
    // the slow request has the first connection; what is used again after the change was made after it
    super::support::eventually("the change is in force", || {
        let history = rig.proxy.admin("/api/history").json();
        history.as_array()?.iter().any(|change| change["changed"].to_string().contains("a@file")).then_some(())
    });
    assert_eq!((get("a.test"), get("a.test")), ("1".into(), "1".into()));
    assert_eq!(get("b.test"), "0", "another transport's connections stay");
    go.send(()).expect("it waits");
    let slow = slow.join().expect("the client");
    assert_eq!((slow.status, slow.text()), (200, "0".into()));
    assert_eq!(get("a.test"), "1", "the old connection is not used again");
}

#[test]
fn files_are_read_again_when_they_change() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = TlsServer::of(&ours, "localhost");
    let url = server.url("localhost");
    let rig = Rig::start(|files| {
        let file = files.write("ca.pem", &theirs.pem);
        dynamic(&[("a", &url, "t")], json!({"t": {"rootCAs": [file], "maxIdleConnsPerHost": -1}}))
    });
    assert_eq!(rig.get("a.test").0, 502);
    rig.files().write("ca.pem", &ours.pem);
    rig.wait_for("a.test", 200);
    // what was read last stays in force
    rig.files().remove("ca.pem");
    let problem = rig.wait_for_problem("servers_transport_files");
    assert!(problem["message"].as_str().is_some_and(|m| m.contains("ca.pem")), "{problem}");
    assert_eq!(rig.get("a.test").0, 200);
    rig.files().write("ca.pem", &theirs.pem);
    rig.wait_for("a.test", 502);
    assert!(server.accepted() >= 4);
}

#[test]
fn a_start_without_the_static_authorities_fails_and_names_them() {
    let kept = tempfile::tempdir().expect("a folder");
    let args = [
        "--entryPoints.web.address=127.0.0.1:0".to_owned(),
        "--entryPoints.traefik.address=127.0.0.1:0".to_owned(),
        format!("--rustLb.stateDir={}", kept.path().join("state").display()),
        format!("--serversTransport.rootCAs={}", kept.path().join("none.pem").display()),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = super::support::binary::output(&args);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("serversTransport") && told.contains("none.pem"), "{told}");
}
