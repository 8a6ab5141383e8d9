//! Providers with an HTTP interface, against servers that check what they are sent.

use super::server::Server;
use super::{looking_at, solver};
use rust_lb::acme::dns::{DnsError, Propagation, Solver};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What came: `POST /path?query`, headers (lower-case names) and the body.
#[derive(Debug, Clone)]
struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: Value,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }
}

struct Fake {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Fake {
    /// Answers by status, further headers and body.
    fn start(mut answer: impl FnMut(&Request) -> (u16, &'static str, Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (got, stop): (Arc<Mutex<Vec<Request>>>, Arc<AtomicBool>) = Default::default();
        let (kept, stopped) = (got.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let Some(request) = read(&stream) else { continue };
                let (status, headers, body) = answer(&request);
                kept.lock().expect("requests").push(request);
                let body = if body.is_null() { String::new() } else { body.to_string() };
                let head =
                    format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}Content-Length: {}\r\n", body.len());
                drop((&stream).write_all(format!("{head}\r\n{body}").as_bytes()));
            }
        });
        Self { address, got, stop }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn got(&self) -> Vec<Request> {
        self.got.lock().expect("requests").clone()
    }

    fn lines(&self) -> Vec<String> {
        self.got().into_iter().map(|request| request.line).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(n, _)| n == "content-length").map_or(Some(0), |(_, v)| v.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Some(Request { line, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

// acme-dns

fn acme_dns(file: &Path, more: &[(&str, &str)]) -> Solver {
    let mut variables = vec![("ACME_DNS_STORAGE_PATH", file.to_str().expect("UTF-8"))];
    variables.extend(more);
    solver("acme-dns", &variables, Propagation::default())
}

#[tokio::test]
async fn acme_dns_updates_with_the_account_of_caddys_file() {
    let fake = Fake::start(|_| (200, "", json!({ "txt": "value" })));
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("acme-dns.json");
    let account = json!({ "username": "user", "password": "pass", "fulldomain": "sub.auth.test",
        "subdomain": "sub", "server_url": fake.url(), "allowfrom": [] });
    // The other spelling is that of lego's older files; the third is the plug-in's single account.
    let older = json!({ "Username": "user", "Password": "pass", "SubDomain": "sub", "FullDomain": "sub.auth.test" });
    for (content, base) in [
        (json!({ "zone.test": account }), ""),
        (json!({ "Zone.Test.": older }), fake.url().as_str()),
        (account.clone(), ""),
    ] {
        std::fs::write(&file, content.to_string()).expect("written");
        acme_dns(&file, &[("ACME_DNS_API_BASE", base)]).present("*.zone.test", "value").await.expect("set");
        let request = fake.got().pop().expect("a request");
        assert_eq!(request.line, "POST /update");
        assert_eq!((request.header("x-api-user"), request.header("x-api-key")), ("user", "pass"));
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.body, json!({ "subdomain": "sub", "txt": "value" }));
    }
    acme_dns(&file, &[]).clean_up("zone.test", "value").await.expect("nothing to do");
    assert_eq!(fake.got().len(), 3);
}

#[tokio::test]
async fn acme_dns_registers_and_tells_the_cname() {
    let fake = Fake::start(|request| match request.line.as_str() {
        "POST /register" => (
            201,
            "",
            json!({ "username": "new", "password": "secret", "fulldomain": "x1.auth.test",
            "subdomain": "x1", "allowfrom": ["10.0.0.0/8"] }),
        ),
        _ => (200, "", json!({ "txt": "" })),
    });
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("acme-dns.json");
    let other = json!({ "username": "u", "password": "p", "subdomain": "s", "server_url": "http://h.test", "note": 1 });
    std::fs::write(&file, json!({ "other.test": other }).to_string()).expect("written");
    let url = fake.url();
    let solver = acme_dns(&file, &[("ACME_DNS_API_BASE", &url), ("ACME_DNS_ALLOWLIST", "10.0.0.0/8")]);
    let error = solver.present("zone.test", "value").await.expect_err("a person has to act");
    let DnsError::CnameRequired { fqdn, target, registered: true, .. } = &error else { panic!("{error}") };
    assert_eq!((fqdn.as_str(), target.as_str()), ("_acme-challenge.zone.test.", "x1.auth.test."));
    assert!(error.to_string().contains("_acme-challenge.zone.test. CNAME x1.auth.test."), "{error}");
    assert_eq!(fake.got()[0].body, json!({ "allowfrom": ["10.0.0.0/8"] }));
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    assert_eq!((&kept["other.test"], &kept["zone.test"]["server_url"]), (&other, &json!(fake.url())));
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 1, "no rest is left");
    solver.present("zone.test", "value").await.expect("the account is there now");
    assert_eq!(fake.lines(), ["POST /register", "POST /update"]);
}

#[tokio::test]
async fn acme_dns_tells_what_its_file_lacks() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("acme-dns.json");
    let present = async || acme_dns(&file, &[]).present("zone.test", "value").await.expect_err("no").to_string();
    assert!(present().await.contains("no acme-dns account for zone.test (it has: none)"));
    for (content, says) in [
        ("", "it is no JSON"),
        ("[]", "no JSON object"),
        (r#"{"a.test":{}}"#, "it has: a.test"),
        (r#"{"zone.test":{"username":"u"}}"#, "ACME_DNS_API_BASE is not set"),
        (r#"{"zone.test":{"username":"u","server_url":"ftp://x"}}"#, "expected http"),
        (r#"{"zone.test":{"username":"u","server_url":"http://h.test"}}"#, "it has no `password`"),
    ] {
        std::fs::write(&file, content).expect("written");
        let error = present().await;
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn acme_dns_that_refuses_or_is_linked_nowhere() {
    let fake = Fake::start(|_| (401, "", json!({ "error": "forbidden" })));
    let server = Server::one();
    server.zone("zone.test.", &[("ns1.zone.test.", server.address.ip())]);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("acme-dns.json");
    let account = json!({ "username": "user", "password": "hunter2", "fulldomain": "sub.auth.test",
        "subdomain": "sub", "server_url": fake.url() });
    std::fs::write(&file, json!({ "zone.test": account }).to_string()).expect("written");
    let error = acme_dns(&file, &[]).present("zone.test", "value").await.expect_err("refused").to_string();
    assert!(error.contains("status 401: {\"error\":\"forbidden\"}") && !error.contains("hunter2"), "{error}");
    let mut settings = rust_lb::acme::dns::Settings::acme_dns(&file);
    settings.timing.propagation = Duration::from_millis(300);
    settings.timing.interval = Duration::from_millis(5);
    let solver = Solver::new(&settings, looking_at(server.address)).expect("a solver");
    let error = solver.wait("zone.test", "value").await.expect_err("no CNAME");
    assert!(
        matches!(&error, DnsError::CnameRequired { registered: false, target, .. } if target == "sub.auth.test."),
        "{error}"
    );
}

// Cloudflare

/// An account with the zone `zone.test`; checks the token of each request.
fn cloudflare(records: Arc<Mutex<Vec<(String, Value)>>>) -> Fake {
    let mut last = 0;
    Fake::start(move |request| {
        let good = |result: Value| (200, "", json!({ "success": true, "errors": [], "result": result }));
        let bad = |status, code, message: &str| {
            (
                status,
                "Retry-After: 7\r\n",
                json!({ "success": false, "errors": [{ "code": code, "message": message }], "result": null }),
            )
        };
        let mut records = records.lock().expect("records");
        let wanted = if request.line.starts_with("GET /v4/zones?") { "Bearer zone-token" } else { "Bearer dns-token" };
        if request.header("authorization") != wanted {
            return bad(403, 9109, "Invalid access token");
        }
        match request.line.split_once(' ').expect("a line") {
            ("GET", "/v4/zones?name=zone.test&per_page=50") => {
                good(json!([{ "id": "z1", "name": "zone.test", "status": "active" }]))
            }
            ("GET", line) if line.starts_with("/v4/zones?") => good(json!([])),
            ("POST", "/v4/zones/z1/dns_records") => {
                if request.body["content"] == "\"busy\"" {
                    return bad(429, 10000, "slow down");
                }
                if records.iter().any(|(_, record)| *record == request.body) {
                    return bad(400, 81058, "An identical record already exists.");
                }
                last += 1;
                records.push((format!("r{last}"), request.body.clone()));
                good(json!({ "id": format!("r{last}") }))
            }
            ("GET", "/v4/zones/z1/dns_records?type=TXT&name=_acme-challenge.www.zone.test&per_page=100") => {
                good(records.iter().map(|(id, r)| json!({ "id": id, "content": r["content"] })).collect())
            }
            ("DELETE", path) => {
                let id = path.trim_start_matches("/v4/zones/z1/dns_records/");
                match records.iter().position(|(known, _)| known == id) {
                    Some(at) => good(json!({ "id": records.remove(at).0 })),
                    None => bad(404, 81044, "Record does not exist."),
                }
            }
            _ => bad(404, 7003, "Could not route"),
        }
    })
}

fn at_cloudflare(fake: &Fake, token: &str) -> Solver {
    let base = format!("{}/v4", fake.url());
    let variables = [("CF_DNS_API_TOKEN", token), ("CF_ZONE_API_TOKEN", "zone-token"), ("CF_BASE_URL", &base)];
    solver("cloudflare", &variables, Propagation::default())
}

#[tokio::test]
async fn cloudflare_keeps_several_values_and_deletes_by_id() {
    let records = Arc::new(Mutex::new(Vec::new()));
    let fake = cloudflare(records.clone());
    let solver = at_cloudflare(&fake, "dns-token");
    solver.present("www.zone.test", "first").await.expect("set");
    solver.present("*.www.zone.test", "second").await.expect("set");
    solver.present("www.zone.test", "second").await.expect("it is there already");
    let content = |value: &str| json!({ "type": "TXT", "name": "_acme-challenge.www.zone.test", "content": format!("\"{value}\""), "ttl": 120 });
    let now = || records.lock().expect("records").iter().map(|(_, record)| record.clone()).collect::<Vec<_>>();
    assert_eq!(now(), [content("first"), content("second")]);
    solver.clean_up("www.zone.test", "first").await.expect("deleted");
    assert_eq!(now(), [content("second")]);
    let asked = fake.lines();
    assert_eq!(
        asked[..3].iter().filter(|l| l.starts_with("GET /v4/zones?name=")).count(),
        3,
        "the nearest zone first: {asked:?}"
    );
    assert_eq!(asked.iter().filter(|l| l.ends_with("name=zone.test&per_page=50")).count(), 1, "remembered: {asked:?}");
    assert_eq!(asked.last().map(String::as_str), Some("DELETE /v4/zones/z1/dns_records/r1"));
    // Another process finds the record; one that is gone is no error.
    at_cloudflare(&fake, "dns-token").clean_up("www.zone.test", "second").await.expect("deleted");
    solver.clean_up("www.zone.test", "second").await.expect("gone already");
    assert_eq!(now(), Vec::<Value>::new());
}

#[tokio::test]
async fn cloudflares_refusals_are_told() {
    let fake = cloudflare(Arc::default());
    let error =
        at_cloudflare(&fake, "other-token").present("www.zone.test", "first").await.expect_err("no").to_string();
    assert!(error.contains("status 403: 9109: Invalid access token") && !error.contains("other-token"), "{error}");
    let error = at_cloudflare(&fake, "dns-token").present("www.zone.test", "busy").await.expect_err("too much");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{error}");
    let error = at_cloudflare(&fake, "dns-token").present("www.other.test", "v").await.expect_err("not its zone");
    assert!(matches!(error, DnsError::Zone { .. }), "{error}");
    let nonsense = Fake::start(|_| (200, "", json!("hello")));
    let error = at_cloudflare(&nonsense, "dns-token").present("www.zone.test", "v").await.expect_err("nonsense");
    assert!(matches!(error, DnsError::Status { .. }), "{error}");
    let odd = Fake::start(|_| (200, "", json!({ "success": true, "result": [{ "id": "../x", "status": "active" }] })));
    let error = at_cloudflare(&odd, "dns-token").present("www.zone.test", "v").await.expect_err("an odd id");
    assert!(error.to_string().contains("no id"), "{error}");
}

#[tokio::test]
async fn cloudflares_global_key_is_sent_in_its_headers() {
    let fake = Fake::start(|_| (200, "", json!({ "success": true, "result": [] })));
    let url = fake.url();
    let variables = [("CF_API_EMAIL", "me@zone.test"), ("CF_API_KEY", "key"), ("CF_BASE_URL", url.as_str())];
    drop(
        solver("cloudflare", &variables, Propagation::default()).present("zone.test", "v").await.expect_err("no zone"),
    );
    let request = fake.got().remove(0);
    assert_eq!((request.header("x-auth-email"), request.header("x-auth-key")), ("me@zone.test", "key"));
}

// httpreq

#[tokio::test]
async fn httpreq_is_told_name_and_value_or_the_key() {
    let fake = Fake::start(|_| (204, "", Value::Null));
    let endpoint = format!("{}/dns/", fake.url());
    let login = [("HTTPREQ_ENDPOINT", endpoint.as_str()), ("HTTPREQ_USERNAME", "me"), ("HTTPREQ_PASSWORD", "pass")];
    let plain = solver("httpreq", &login, Propagation::default());
    plain.present("*.zone.test", "value").await.expect("told");
    plain.clean_up("zone.test", "value").await.expect("told");
    let raw = solver("httpreq", &[("HTTPREQ_ENDPOINT", &endpoint), ("HTTPREQ_MODE", "RAW")], Propagation::default());
    raw.present_key("zone.test", "tok", "tok.thumb").await.expect("told");
    assert!(matches!(raw.present("zone.test", "value").await, Err(DnsError::RawNeedsKey)));
    let got = fake.got();
    assert_eq!(fake.lines(), ["POST /dns/present", "POST /dns/cleanup", "POST /dns/present"]);
    for request in &got[..2] {
        assert_eq!(request.body, json!({ "fqdn": "_acme-challenge.zone.test.", "value": "value" }));
        assert_eq!(request.header("authorization"), "Basic bWU6cGFzcw==");
    }
    assert_eq!(got[2].body, json!({ "domain": "zone.test", "token": "tok", "keyAuth": "tok.thumb" }));
    assert_eq!(got[2].header("authorization"), "");
    // A mode that needs no key takes one too: the value is its hash.
    plain.present_key("zone.test", "tok", "tok.thumb").await.expect("told");
    let value = fake.got()[3].body["value"].as_str().map(str::len);
    assert_eq!(value, Some(43));
}

#[tokio::test]
async fn httpreq_that_fails_redirects_or_is_away() {
    let fake = Fake::start(|request| match request.body["value"].as_str() {
        Some("away") => (307, "Location: http://192.0.2.1/\r\n", Value::Null),
        _ => (500, "", json!("no\nzone")),
    });
    let url = fake.url();
    let solver = solver("httpreq", &[("HTTPREQ_ENDPOINT", &url)], Propagation::default());
    let error = solver.present("zone.test", "value").await.expect_err("failed").to_string();
    assert!(error.starts_with(&format!("POST {url}/present: status 500: ")), "{error}");
    let error = solver.present("zone.test", "away").await.expect_err("not followed");
    assert!(matches!(error, DnsError::Status { status: 307, .. }), "{error}");
    drop(fake);
    let error = solver.present("zone.test", "value").await.expect_err("nobody there");
    assert!(matches!(error, DnsError::Request { .. }), "{error}");
}
