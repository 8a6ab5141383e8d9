//! The admin entry point over real sockets, in front of a state made by hand.

mod client;
mod fake;

use client::{Answer, Running};
use rust_lb::api::{Limits, Options};
use rust_lb::catalog::SourceState;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn options() -> Options {
    Options {
        insecure: false,
        metrics: true,
        access_log: true,
        token_file: None,
        started: UNIX_EPOCH,
        limits: Limits::default(),
    }
}

fn recorded(path: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../oracle/traefik_admin.json")).unwrap();
    all["api"][path]["body"].clone()
}

fn test<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Names of all keys, with the way to them; what is below the names in `open` is not looked at.
fn shape(value: &Value, open: &[&str]) -> BTreeSet<String> {
    fn walk(value: &Value, at: &str, open: &[&str], keys: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let at = format!("{at}.{key}");
                    if !open.contains(&&*at) {
                        walk(value, &at, open, keys);
                    }
                    keys.insert(at);
                }
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, at, open, keys)),
            _ => {}
        }
    }
    let mut keys = BTreeSet::new();
    walk(value, "", open, &mut keys);
    keys
}

/// Our answer has Traefik's keys but for those that mean nothing here, and those of our own.
async fn same_shape(admin: &Running, path: &str, open: &[&str], lacking: &[&str], own: &[&str]) {
    let (ours, theirs) = (shape(&admin.json(path).await, open), shape(&recorded(path), open));
    let set = |keys: &[&str]| keys.iter().map(|k| (*k).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(&theirs - &ours, set(lacking), "{path}: lacking");
    assert_eq!(&ours - &theirs, set(own), "{path}: own");
}

#[test]
fn shapes_are_traefiks() {
    test(async {
        let admin = Running::start(options()).await;
        same_shape(&admin, "/api/version", &[], &[], &[]).await;
        same_shape(&admin, "/api/overview", &[], &[], &[]).await;
        same_shape(&admin, "/api/http/routers/web@nomad", &[], &[], &[]).await;
        same_shape(&admin, "/api/http/middlewares/strip@nomad", &[], &[], &[]).await;
        let flush = [".loadBalancer.responseForwarding", ".loadBalancer.responseForwarding.flushInterval"];
        same_shape(&admin, "/api/http/services/web@nomad", &[], &flush, &[]).await;
        let lacking = [
            ".http.underscoreHeadersStrategy",
            ".http2.maxDecoderHeaderTableSize",
            ".http2.maxEncoderHeaderTableSize",
            ".udp",
            ".udp.timeout",
        ];
        same_shape(&admin, "/api/entrypoints/web", &[], &lacking, &[".asDefault", ".bound"]).await;
        let sections = [".routers", ".services", ".middlewares", ".providers"];
        let lacking = [".tcpRouters", ".tcpServices", ".udpRouters", ".udpServices"];
        let mut theirs = recorded("/api/rawdata");
        theirs.as_object_mut().unwrap().retain(|key, _| !lacking.contains(&&*format!(".{key}")));
        let ours = admin.json("/api/rawdata").await;
        let own: BTreeSet<_> = [".providers".to_owned()].into();
        assert_eq!(&shape(&ours, &sections) - &shape(&theirs, &sections), own);
        for (section, name) in [("routers", "web@nomad"), ("routers", "bad@nomad"), ("middlewares", "strip@nomad")] {
            let (ours, theirs) = (shape(&ours[section][name], &[]), shape(&theirs[section][name], &[]));
            // The broken router names no entry point, and nothing here gives it the default ones.
            let both = |keys: &BTreeSet<String>| {
                keys.iter().filter(|k| *k != ".entryPoints" && *k != ".using").cloned().collect::<Vec<_>>()
            };
            assert_eq!(both(&ours), both(&theirs), "{section} {name}");
        }
    });
}

#[test]
fn values_are_what_the_table_says() {
    test(async {
        let admin = Running::start(options()).await;
        let mut want = recorded("/api/http/routers/web@nomad");
        want["observability"]["tracing"] = json!(false);
        assert_eq!(admin.json("/api/http/routers/web@nomad").await, want);
        assert_eq!(admin.json("/api/http/routers/web%40nomad").await, want);
        assert_eq!(
            admin.json("/api/http/middlewares/strip@nomad").await,
            recorded("/api/http/middlewares/strip@nomad")
        );
        let mut want = recorded("/api/http/services/web@nomad");
        want["loadBalancer"].as_object_mut().unwrap().remove("responseForwarding");
        want["serverStatus"]["http://127.0.0.1:8002"] = json!("DOWN");
        assert_eq!(admin.json("/api/http/services/web@nomad").await, want);

        let bad = admin.json("/api/http/routers/bad@nomad").await;
        assert_eq!(
            (&bad["status"], &bad["error"], &bad["priority"]),
            (&json!("disabled"), &json!(["expected `)`"]), &json!(22))
        );
        assert_eq!(
            admin.json("/api/overview").await["http"]["routers"],
            json!({"total": 2, "warnings": 0, "errors": 1})
        );
        assert_eq!(admin.json("/api/overview").await["providers"], json!(["Nomad"]));
        let provider = &admin.json("/api/rawdata").await["providers"]["nomad"];
        assert_eq!((&provider["state"], &provider["index"]), (&json!("connected"), &json!(42)));
        let entry_points = admin.json("/api/entrypoints").await;
        assert_eq!(entry_points[0]["bound"], json!(["127.0.0.1:40001"]));
        assert_eq!(
            entry_points[0]["transport"]["respondingTimeouts"],
            json!({"readTimeout": "1m0s", "idleTimeout": "3m0s"})
        );
        assert_eq!(entry_points[1]["http"]["tls"], json!({}));
        assert_eq!(admin.json("/api/problems").await[0]["code"], "bad_rule");
        assert_eq!(
            admin.json("/api/history").await[0],
            json!({
                "at": "1970-01-01T00:00:00Z", "provider": "nomad", "services": ["web"],
                "added": ["web@nomad"], "changed": [], "removed": [],
            })
        );
        let certificate = &admin.json("/api/certificates").await[0];
        assert_eq!((&certificate["names"], &certificate["problem"]), (&json!(["a.test"]), &json!("expired")));
        let connections = admin.json("/api/connections").await;
        assert_eq!(connections["entryPoints"], json!({"web": {"TCP": 2}}));
        assert_eq!(connections["servers"][0]["inFlight"], 1);
        assert_eq!(admin.json("/api/tcp/routers").await, json!([]));
        assert_eq!(admin.json("/api/udp/services").await, json!([]));
    });
}

#[test]
fn lists_come_in_pages() {
    test(async {
        let admin = Running::start(options()).await;
        let first = admin.get("/api/http/routers?per_page=1&page=1").await;
        assert_eq!((&*first.headers["x-next-page"], &first.json()[0]["name"]), ("2", &json!("bad@nomad")));
        let all = admin.get("/api/http/routers").await;
        assert_eq!((&*all.headers["x-next-page"], all.json().as_array().unwrap().len()), ("1", 2));
        let found = admin.json("/api/http/routers?search=web&status=enabled").await;
        assert_eq!(found.as_array().unwrap().len(), 1);
        let refused = admin.get("/api/http/routers?page=0").await;
        assert_eq!((refused.status, refused.json()), (400, recorded("/api/http/routers?page=0")));
    });
}

#[test]
fn no_answer_shows_a_secret() {
    test(async {
        let admin = Running::start(options()).await;
        for path in [
            "/api/rawdata",
            "/api/http/services",
            "/api/http/middlewares",
            "/api/http/services/secret@file",
            "/api/connections",
        ] {
            let body = admin.get(path).await.body;
            assert!(!body.contains("hunter2") && !body.contains("apr1"), "{path}: {body}");
            assert!(body.contains("***"), "{path}: {body}");
        }
    });
}

#[test]
fn what_is_not_there_is_said() {
    test(async {
        let admin = Running::start(options()).await;
        let lost = admin.get("/api/http/services/nosuch@nomad").await;
        assert_eq!((lost.status, lost.json()), (404, recorded("/api/http/services/nosuch@nomad")));
        for path in [
            "/",
            "/api",
            "/api/",
            "/api/nonsense",
            "/api/http/nonsense",
            "/ping/",
            "/api/http/routers/a/b",
            "/%2e%2e/ping",
        ] {
            let answer = admin.get(path).await;
            assert_eq!((answer.status, &*answer.message()), (404, "404 page not found"), "{path}");
        }
        for (method, path, allow) in [
            ("POST", "/ping", "GET, HEAD"),
            ("DELETE", "/api/rawdata", "GET, HEAD"),
            ("GET", "/api/forget", "POST"),
            ("BREW", "/ready", "GET, HEAD"),
        ] {
            let answer = admin.ask(method, path, "").await;
            assert_eq!((answer.status, &*answer.headers["allow"]), (405, allow), "{method} {path}");
        }
        assert_eq!(admin.ask("POST", "/api/nonsense", "").await.status, 404);
        let head = admin.ask("HEAD", "/api/version", "").await;
        assert_eq!((head.status, &*head.body), (200, ""));
    });
}

#[test]
fn ping_ready_and_health_answer_their_own_questions() {
    test(async {
        let admin = Running::start(options()).await;
        let ping = admin.get("/ping").await;
        assert_eq!((ping.status, &*ping.body), (200, "OK"));
        assert_eq!(admin.json("/ready").await, json!({"status": "ready", "reasons": []}));
        let mut health = admin.json("/health").await;
        let providers = health.as_object_mut().and_then(|health| health.remove("providers")).expect("providers");
        assert_eq!(health, json!({"status": "ok", "ready": true, "reasons": []}));
        assert_eq!((&providers[0]["provider"], &providers[0]["state"]), (&json!("nomad"), &json!("connected")));
        assert!(providers[0]["age"].as_f64().is_some_and(|age| age >= 0.0), "{providers}");

        admin.fake.statuses.lock().unwrap()[0].state = SourceState::Retrying;
        admin.fake.statuses.lock().unwrap()[0].missing_rights.push("needs `read-job`".to_owned());
        assert_eq!(admin.json("/ready").await["status"], "ready");
        let health = admin.json("/health").await;
        assert_eq!((&health["status"], &health["ready"]), (&json!("degraded"), &json!(true)));
        assert_eq!(
            health["reasons"][1],
            json!({"code": "missing_rights", "provider": "nomad", "message": "needs `read-job`"})
        );

        admin.fake.statuses.lock().unwrap()[0].last_change = None;
        for path in ["/ready", "/health"] {
            let answer = admin.get(path).await;
            assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("starting")), "{path}");
        }
        admin.fake.readiness.lock().unwrap().terminating = true;
        for path in ["/ping", "/ready", "/health"] {
            assert_eq!(admin.get(path).await.status, 503, "{path}");
        }
    });
}

#[test]
fn metrics_are_prometheus_text() {
    test(async {
        let admin = Running::start(options()).await;
        let answer = admin.get("/metrics").await;
        assert!(answer.headers["content-type"].starts_with("text/plain; version=0.0.4"));
        assert!(
            answer.body.contains("\ntraefik_open_connections{entrypoint=\"traefik\",protocol=\"TCP\"} 1\n"),
            "{}",
            answer.body
        );
        admin.fake.metrics_on.store(false, Ordering::Relaxed);
        assert_eq!(admin.get("/metrics").await.status, 404);
    });
}

#[test]
fn pages_in_a_browser_do_not_reach_it_under_other_names() {
    test(async {
        let admin = Running::start(options()).await;
        let ask = async |host: &str, more: &str| {
            let request = format!("GET /api/version HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
            Answer::parse(&admin.raw(request.as_bytes()).await).status
        };
        for host in ["localhost:8080", "127.0.0.1", "[::1]:1", "lb.localhost"] {
            assert_eq!(ask(host, "").await, 200, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8080", ""] {
            assert_eq!(ask(host, "").await, 403, "{host}");
        }
        assert_eq!(ask("localhost", "Host: evil.example\r\n").await, 400);
        assert_eq!(ask("localhost:1", "Origin: http://localhost:1\r\n").await, 200);
        for origin in ["http://evil.example", "null", "http://localhost:2", "http://localhost:1/"] {
            assert_eq!(ask("localhost:1", &format!("Origin: {origin}\r\n")).await, 403, "{origin}");
        }
        // Health checkers ask under any name, or under none.
        assert_eq!(Answer::parse(&admin.raw(b"GET /ping HTTP/1.1\r\nHost: lb.example\r\n\r\n").await).status, 200);
        assert_eq!(Answer::parse(&admin.raw(b"GET /ready HTTP/1.0\r\n\r\n").await).status, 200);
    });
}

/// An address of this machine that is not loopback, if it has one.
fn other_address() -> Option<String> {
    // Nothing is sent: connecting a datagram socket only asks the routing table.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then(|| ip.to_string())
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn other_addresses_serve_ping_and_metrics_alone() {
    let Some(ip) = other_address() else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    test(async {
        let address = format!("{ip}:0");
        let admin = Running::start_on(&address, options()).await;
        for (path, status) in [
            ("/ping", 200),
            ("/metrics", 200),
            ("/ready", 403),
            ("/api/version", 403),
            ("/api/forget", 403),
            ("/x", 403),
        ] {
            assert_eq!(admin.get(path).await.status, status, "{path}");
        }
        let open = Running::start_on(&address, Options { insecure: true, ..options() }).await;
        assert_eq!(open.get("/api/version").await.status, 200);
        let request = b"GET /api/version HTTP/1.1\r\nHost: lb.example\r\n\r\n";
        assert_eq!(Answer::parse(&open.raw(request).await).status, 200, "under any name");
    });
}

#[test]
fn writes_need_the_token() {
    test(async {
        let closed = Running::start(options()).await;
        assert_eq!(closed.ask("POST", "/api/forget", "Authorization: Bearer x\r\n").await.status, 403);

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let admin = Running::start(Options { token_file: Some(file.clone()), ..options() }).await;
        let forget = async |headers: &str| admin.ask("POST", "/api/forget", headers).await;
        assert_eq!(forget("Authorization: Bearer x\r\n").await.status, 403, "the file is missing");
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(forget("Authorization: Bearer x\r\n").await.status, 403, "an empty file holds no token");
        assert_eq!(forget("Authorization: Bearer \r\n").await.status, 401, "and an empty token is none");
        std::fs::write(&file, "s3cret\n").unwrap();
        let answer = forget("").await;
        assert_eq!((answer.status, &*answer.headers["www-authenticate"]), (401, "Bearer"));
        assert_eq!(forget("Authorization: Basic s3cret\r\n").await.status, 401);
        for wrong in ["s3cre", "s3crett", "S3cret"] {
            let answer = forget(&format!("Authorization: Bearer {wrong}\r\n")).await;
            assert_eq!(answer.status, 403, "{wrong}");
            assert!(!answer.body.contains("s3cret"));
        }
        let answer = forget("Authorization: bearer s3cret\r\n").await;
        assert_eq!((answer.status, answer.json()), (200, json!({"forgotten": 3})));
        let foreign = "Authorization: Bearer s3cret\r\nOrigin: http://evil.example\r\n";
        assert_eq!(forget(foreign).await.status, 403);
    });
}

#[test]
fn slow_clients_and_garbage_are_shown_out() {
    test(async {
        let limits = Limits { head: Duration::from_millis(50), ..Limits::default() };
        let admin = Running::start(Options { limits, ..options() }).await;
        // Silence, and half a head: the connection ends without our doing.
        for sent in [&b""[..], b"GET /ping HTTP/1.1\r\nHo"] {
            let answer = admin.raw(sent).await;
            assert!(!answer.contains("200"), "{answer}");
        }
        for garbage in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
            b"GET\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        ] {
            assert_eq!(Answer::parse(&admin.raw(garbage).await).status, 400);
        }
        let long = format!("GET /ping HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000));
        let answer = admin.raw(long.as_bytes()).await;
        assert!(answer.is_empty() || Answer::parse(&answer).status == 431, "{answer}");
        let many = format!("GET /ping HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(200));
        assert_eq!(Answer::parse(&admin.raw(many.as_bytes()).await).status, 431);
        assert_eq!(admin.get("/ping").await.status, 200, "and it serves on");
    });
}

#[test]
fn clients_are_bounded_in_number() {
    test(async {
        let limits = Limits { connections: 1, ..Limits::default() };
        let admin = Running::start(Options { limits, ..options() }).await;
        let mut first = TcpStream::connect(admin.address).await.unwrap();
        first.write_all(b"GET /ping HTTP/1.1\r\n").await.unwrap();
        assert_eq!(admin.raw(b"").await, "", "closed without an answer");
        first.write_all(b"Host: localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        first.read_to_string(&mut answer).await.unwrap();
        assert_eq!(Answer::parse(&answer).status, 200);
        drop(first);
        assert_eq!(admin.get("/ping").await.status, 200);
    });
}
