//! The recordings of real agents, asked again of the embedded ones: same status line, same header
//! names in the same letter case, same framing, same values where they do not depend on the run,
//! same texts of errors, bodies of the same shape.

use super::raw::{self, Response};
use rust_lb::embedded::{Acl, AllocationCheck, ConsulToken, Definition, NomadToken, Registration, Scope, Status};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

fn recording(name: &str) -> Value {
    let path = format!("{}/tests/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).expect("a recording")
}

/// A request of a recording with what was answered.
struct Exchange {
    method: String,
    target: String,
    version: String,
    headers: Vec<(String, String)>,
    body: String,
    response: Value,
}

fn pairs(headers: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    headers.as_array().expect("headers").iter().map(|h| (text(&h[0]), text(&h[1]))).collect()
}

fn exchanges(recording: &Value) -> Vec<Exchange> {
    let all = recording["exchanges"].as_array().expect("exchanges");
    let answered = all.iter().filter(|e| !e["response"].is_null());
    answered
        .map(|e| {
            let line: Vec<_> = e["request"]["line"].as_str().expect("line").split(' ').collect();
            let ours = ["host", "content-length", "accept-encoding"];
            let headers = pairs(&e["request"]["headers"]);
            let body = &e["request"]["body_json"];
            Exchange {
                method: line[0].into(),
                target: line[1].into(),
                version: line[2].into(),
                headers: headers.into_iter().filter(|(n, _)| !ours.contains(&n.to_lowercase().as_str())).collect(),
                body: if body.is_null() { String::new() } else { body.to_string() },
                response: e["response"].clone(),
            }
        })
        .collect()
}

/// The kinds of values by path; lists by what is in them.
fn shape(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            items.iter().for_each(|item| shape(item, &format!("{at}[]"), into));
            "list"
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| shape(value, &format!("{at}.{name}"), into));
            "object"
        }
    };
    into.insert(format!("{at}: {kind}"));
}

fn shape_of(value: &Value) -> BTreeSet<String> {
    let mut shapes = BTreeSet::new();
    shape(value, "", &mut shapes);
    shapes
}

/// Headers whose value depends on the run.
const FREE: [&str; 5] = ["Date", "Content-Length", "X-Nomad-Index", "X-Consul-Index", "Connection"];

fn compare(label: &str, recorded: &Value, ours: &Response, body: bool) {
    assert_eq!(recorded["line"].as_str().expect("line"), ours.line, "{label}");
    let names = |headers: &[(String, String)]| -> BTreeMap<String, String> {
        let free = |n: &str, v: &str| if FREE.contains(&n) { String::new() } else { v.to_owned() };
        headers.iter().map(|(n, v)| (n.clone(), free(n, v))).collect()
    };
    let was = pairs(&recorded["headers"]);
    let long = |framing: &str| framing == "chunked" || framing == "content-length";
    let framing = recorded["framing"].as_str().expect("framing");
    let (mut was, mut is) = (names(&was), names(&ours.headers));
    if long(framing) && long(ours.framing) && ours.status == 200 {
        // How it is cut depends on the length, which depends on the services.
        for side in [&mut was, &mut is] {
            side.remove("Content-Length");
            side.remove("Transfer-Encoding");
        }
    } else {
        assert_eq!(framing, ours.framing, "{label}");
    }
    assert_eq!(was, is, "{label}: header names, case and values");
    if let Some(text) = recorded["body_text"].as_str() {
        assert_eq!(text, ours.text(), "{label}: text");
    }
    if body && !recorded["body_json"].is_null() {
        let (was, is) = (shape_of(&recorded["body_json"]), shape_of(&ours.json()));
        assert_eq!(was, is, "{label}: shape of the body");
    }
}

/// `index` moved to where ours stands, waits cut short.
fn retarget(target: &str, recorded_index: Option<u64>, our_index: u64) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let edit = |pair: &str| match pair.split_once('=') {
        Some(("index", n)) => match (n.parse::<u64>(), recorded_index) {
            (Ok(n), Some(then)) if n > 1 && n >= then => format!("index={}", our_index + (n - then)),
            _ => pair.to_owned(),
        },
        Some(("wait", w)) if w.ends_with('s') && w.starts_with(|c: char| c.is_ascii_digit()) => "wait=40ms".to_owned(),
        _ => pair.to_owned(),
    };
    format!("{path}?{}", query.split('&').map(edit).collect::<Vec<_>>().join("&"))
}

fn recorded_index(response: &Value, header: &str) -> Option<u64> {
    pairs(&response["headers"]).iter().find(|(n, _)| n == header).and_then(|(_, v)| v.parse().ok())
}

/// Asks everything of a recording again that `served` lets through; gives how many that were.
async fn replay(
    addr: SocketAddr,
    name: &str,
    header: &str,
    index: impl Fn() -> u64,
    served: impl Fn(&Exchange) -> bool,
    with_body: impl Fn(&Exchange) -> bool,
) -> usize {
    let mut compared = 0;
    for exchange in exchanges(&recording(name)).iter().filter(|e| served(e)) {
        let target = retarget(&exchange.target, recorded_index(&exchange.response, header), index());
        let line = format!("{} {target} {}", exchange.method, exchange.version);
        let headers: Vec<_> = exchange.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let ours = raw::ask(addr, &line, &headers, &exchange.body).await.expect("an answer");
        compare(&format!("{name}: {line}"), &exchange.response, &ours, with_body(exchange));
        compared += 1;
    }
    compared
}

fn row(name: &str, id: &str) -> Registration {
    let address = SocketAddr::from(([127, 0, 0, 1], 23000));
    let rule = format!("traefik.http.routers.{name}.rule=Host(`{name}.example.test`)");
    Registration::new(name, address).id(id).tags(["traefik.enable=true", &rule])
}

/// What this catalog answers otherwise on purpose: 501 for what it does not serve, its extension,
/// no compression, and what Go's router does on its own.
fn nomad_differs(e: &Exchange) -> bool {
    let has = |part: &str| e.target.contains(part);
    let not_served = e.target.starts_with("/v1/service/") && ["filter=", "choose=", "per_page="].iter().any(|p| has(p));
    let not_here = [
        "/v1/jobs",
        "/v1/job/",
        "/v1/acl/policy",
        "/v1/acl/bootstrap",
        "/v1/acl/policies",
        "/v1/allocation",
        "/v1/client",
        "/v1/nodes",
        "/v1/status/peers",
        "/v1/agent/members",
        "/v1/operator",
        "/v1/metrics",
        "/v1/acl/token",
    ];
    let not_here = not_here.iter().any(|p| has(p)) && !has("/v1/acl/token/self");
    let packed = e.response["headers"].to_string().contains("Content-Encoding");
    let extension = e.method == "PUT" && has("/v1/service/");
    not_served || not_here || packed || extension || e.method == "HEAD" || has("event/stream")
}

#[tokio::test]
async fn nomad_answers_as_recorded() {
    let embedded = rust_lb::embedded::start(&Default::default()).unwrap();
    let (nomad, addr) = (embedded.nomad(), embedded.nomad_addr().unwrap());
    let served = |e: &Exchange| !nomad_differs(e);
    let index = || nomad.store(|s| s.service("default", "absent").index);

    nomad.store(|s| s.add_namespace("late-ns"));
    let empty = |e: &Exchange| e.response["body_json"].as_array().is_some_and(|list| list.is_empty());
    let before = |e: &Exchange| served(e) && empty(e) && !e.target.contains("s00");
    assert_eq!(replay(addr, "nomad/services-and-service", "X-Nomad-Index", index, before, |_| true).await, 3);
    for n in 0..50 {
        nomad.register_all(["a", "b"].map(|i| row(&format!("s{n:02}"), &format!("{i}-s{n:02}"))));
    }
    let after = |e: &Exchange| served(e) && !(empty(e) && e.target == "/v1/services");
    let compared = replay(addr, "nomad/services-and-service", "X-Nomad-Index", index, after, |_| true).await;
    assert_eq!(compared, 26);
    // Of the agent's own description only the members that this one has.
    let agent = |e: &Exchange| !e.target.contains("agent/self");
    let compared = replay(addr, "nomad/status-and-agent", "X-Nomad-Index", index, served, agent).await;
    assert_eq!(compared, 6);
}

#[tokio::test]
async fn nomad_lists_odd_services_as_recorded() {
    let embedded = rust_lb::embedded::start(&Default::default()).unwrap();
    let (nomad, addr) = (embedded.nomad(), embedded.nomad_addr().unwrap());
    nomad.register_all([
        Registration { tags: vec![], ..row("notags", "1") },
        Registration { port: 0, ..row("noport", "2") },
        Registration { address: String::new(), port: 8080, ..row("litport", "3") },
        row("odd-name-1", "4"),
        Registration { address: "2001:db8::1".into(), ..row("with-addr6", "5") },
        row("shared", "6"),
        row("shared", "7"),
        row("shared", "8").namespace("team"),
    ]);
    let index = || nomad.store(|s| s.service("default", "absent").index);
    let (served, single) = (|e: &Exchange| !nomad_differs(e), |e: &Exchange| !e.target.contains("services"));
    let compared = replay(addr, "nomad/odd-services", "X-Nomad-Index", index, served, single).await;
    assert_eq!(compared, 11);
    let literal = raw::get(addr, "/v1/service/litport").await.json();
    assert_eq!((&literal[0]["Address"], &literal[0]["Port"]), (&"".into(), &8080.into()));
}

#[tokio::test]
async fn nomad_tells_of_checks_as_recorded() {
    let embedded = rust_lb::embedded::start(&Default::default()).unwrap();
    let (nomad, addr) = (embedded.nomad(), embedded.nomad_addr().unwrap());
    nomad.register_all(["web", "web-tcp"].map(|name| Registration { alloc_id: "a-0".into(), ..row(name, name) }));
    let index = raw::get(addr, "/v1/services").await.nomad_index();
    nomad.set_check("a-0", "web-tcp", "service: \"web-tcp\" check", AllocationCheck::success());
    let recording = exchanges(&recording("nomad/lifecycle"));
    let recorded: Vec<_> = recording.iter().filter(|e| e.target.ends_with("/checks")).collect();
    assert_eq!(recorded.len(), 2);
    for exchange in recorded {
        let was = exchange.response["body_json"].as_object().unwrap();
        let http = was.values().find(|check| check["Service"] == "web").unwrap();
        let check = match http["Status"].as_str() {
            Some("failure") => AllocationCheck::failure(404),
            _ => AllocationCheck { status_code: Some(200), ..AllocationCheck::success() },
        };
        nomad.set_check("a-0", "web", "up", check);
        let ours = raw::get(addr, "/v1/client/allocation/a-0/checks").await;
        compare("checks", &exchange.response, &ours, false);
        let ours = ours.json();
        assert_eq!(ours.as_object().unwrap().len(), was.len());
        for (id, check) in ours.as_object().unwrap() {
            let was = was.values().find(|one| one["Service"] == check["Service"]).unwrap();
            assert_eq!((&check["ID"], shape_of(check)), (&Value::from(id.as_str()), shape_of(was)));
            for member in ["Check", "Status", "Mode", "StatusCode"] {
                assert_eq!(check[member], was[member], "{member}");
            }
        }
    }
    assert_eq!(raw::get(addr, "/v1/services").await.nomad_index(), index, "a check moves no index");
    nomad.register(Registration { alloc_id: "b-0".into(), ..row("plain", "p") });
    assert_eq!(raw::get(addr, "/v1/client/allocation/b-0/checks").await.text(), "{}");
    let unknown = raw::get(addr, "/v1/client/allocation/gone/checks").await;
    assert_eq!((unknown.status, unknown.text()), (404, "Unknown allocation gone".into()));
}

#[tokio::test]
async fn nomad_refuses_as_recorded() {
    let embedded = rust_lb::embedded::start(&Default::default()).unwrap();
    let (nomad, addr) = (embedded.nomad(), embedded.nomad_addr().unwrap());
    let with_check = Registration { alloc_id: "a-0".into(), ..row("svc-a", "a") };
    nomad.register_all([with_check, row("svc-team", "t").namespace("team")]);
    nomad.set_check("a-0", "svc-a", "c", AllocationCheck::success());
    let default = || Scope::only(["default"]);
    let tokens = [
        ("management", NomadToken::management()),
        ("read-job in default", NomadToken::read(default())),
        ("read-job in *", NomadToken::read(Scope::All)),
        ("policy=read in default", NomadToken::read(default())),
        ("list-jobs only in *", NomadToken { other: Scope::All, ..NomadToken::default() }),
        ("node+agent read only", NomadToken { agent: true, ..NomadToken::default() }),
        ("read-job in default and team by name", NomadToken::read(Scope::only(["default", "team"]))),
        ("policy=scale in default", NomadToken::read(default())),
        ("workload identity (default, no policy)", NomadToken { workload_identity: true, ..NomadToken::default() }),
    ];
    let acl = tokens.iter().fold(Acl::deny(), |acl, (name, token)| acl.token(name, token.clone()));
    nomad.set_acl(Some(acl));
    let recording = recording("nomad/acl");
    let mut compared = 0;
    for row in recording["measurements"]["matrix"].as_array().unwrap() {
        let (path, token) = (row["path"].as_str().unwrap(), row["token"].as_str().unwrap());
        let checks = path == "/v1/client/allocation/:alloc_id/checks";
        let elsewhere = ["allocation", "/v1/jobs", "/v1/nodes", "event/stream"];
        if !checks && elsewhere.iter().any(|p| path.contains(p)) {
            continue;
        }
        let path = &path.replace(":alloc_id", "a-0");
        let secret = match token {
            "none" => "",
            "unknown (well-formed)" => "11111111-2222-3333-4444-555555555555",
            "malformed" => "garbage",
            known => known,
        };
        let headers = [("X-Nomad-Token", secret)];
        let ours = raw::get_with(addr, path, if secret.is_empty() { &[] } else { &headers }).await;
        let label = format!("{token} {path}");
        assert_eq!(row["status"], ours.status, "{label}");
        match row["text"].as_str() {
            Some(text) if ours.status != 200 => assert_eq!(text, ours.text(), "{label}"),
            _ => {}
        }
        let listing = path.starts_with("/v1/service") || path == "/v1/namespaces";
        if let (Some(entries), true) = (row["entries"].as_u64(), listing) {
            assert_eq!(entries as usize, ours.json().as_array().unwrap().len(), "{label}: entries");
            assert_eq!(row["index"] == "0", ours.nomad_index() == 0, "{label}: index");
        }
        compared += 1;
    }
    assert_eq!(compared, 13 * 12);

    for (sent, status) in [
        (("X-Nomad-Token", "read-job in *"), 200),
        (("Authorization", "Bearer read-job in *"), 200),
        (("authorization", "bearer read-job in *"), 200),
        (("Authorization", "Token read-job in *"), 403),
        (("Authorization", "read-job-in-*"), 403),
    ] {
        assert_eq!(raw::get_with(addr, "/v1/services", &[sent]).await.status, status, "{sent:?}");
    }
    assert_eq!(raw::get(addr, "/v1/services?token=management").await.status, 403);
}

fn web(id: &str, tags: &[&str], port: u16, status: Status) -> Definition {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    Definition::new("web", address).id(id).tags(tags.iter().copied()).check(status)
}

fn consul_differs(e: &Exchange) -> bool {
    let has = |part: &str| e.target.contains(part);
    let not_served = has("cached") || has("node-meta") || has("filter=") && !has("catalog/services");
    let served = [
        "/v1/catalog/services",
        "/v1/catalog/service/",
        "/v1/health/service/",
        "/v1/health/state/",
        "/v1/status/leader",
        "/v1/agent/self",
        "/v1/agent/service/register",
        "/v1/nosuch",
    ];
    not_served || !served.iter().any(|p| e.target.starts_with(p))
}

#[tokio::test]
async fn consul_answers_as_recorded() {
    let embedded = rust_lb::embedded::start(&Default::default()).unwrap();
    let (consul, addr) = (embedded.consul(), embedded.consul_addr().unwrap());
    let served = |e: &Exchange| !consul_differs(e);
    let with_body = |e: &Exchange| !e.target.contains("agent/self");
    // The recording begins with the agent as it starts and registers everything itself.
    let index = || consul.store(|s| s.services().index);
    let header = "X-Consul-Index";
    assert_eq!(replay(addr, "consul/catalog-services", header, index, served, with_body).await, 16);
    assert_eq!(replay(addr, "consul/health-service", header, index, served, with_body).await, 11);
    assert_eq!(replay(addr, "consul/health-state-and-catalog-service", header, index, served, with_body).await, 5);
    assert_eq!(replay(addr, "consul/blocking", header, index, served, with_body).await, 10);
    assert_eq!(replay(addr, "consul/status-and-agent", header, index, served, with_body).await, 2);
    let names = raw::get(addr, "/v1/catalog/services").await;
    assert!(names.text().starts_with("{\n    \"consul\": []"), "a dev agent indents: {}", names.text());
}

#[tokio::test]
async fn consul_refuses_as_recorded() {
    let embedded = rust_lb::embedded::start(&Default::default()).unwrap();
    let (consul, addr) = (embedded.consul(), embedded.consul_addr().unwrap());
    let other = Definition::new("other", SocketAddr::from(([127, 0, 0, 1], 1)));
    consul.register(other.check(Status::Passing));
    consul.register(web("web-1", &["urlprefix-web.example.test/"], 23001, Status::Passing));
    let services = |services| ConsulToken { services, ..ConsulToken::default() };
    let nodes = |token| ConsulToken { nodes: true, ..token };
    let tokens = [
        ("services+nodes read", ConsulToken::catalog()),
        ("services read only", services(Scope::All)),
        ("nodes read only", nodes(ConsulToken::default())),
        ("one service + nodes", nodes(services(Scope::only(["web"])))),
        ("empty policy", ConsulToken::default()),
        ("lock", ConsulToken::default()),
        ("key_prefix only", ConsulToken::default()),
        ("leaf", ConsulToken::catalog()),
    ];
    let acl = tokens.iter().fold(Acl::deny(), |acl, (name, token)| acl.token(name, token.clone()));
    consul.set_acl(Some(acl));
    let recording = recording("consul/acl-default-deny");
    let mut compared = 0;
    for row in recording["measurements"].as_array().unwrap().iter().filter(|row| row["path"].is_string()) {
        let (path, token) = (row["path"].as_str().unwrap(), row["token"].as_str().unwrap());
        let here = ["/v1/catalog/service", "/v1/health/service", "/v1/health/state", "/v1/status", "/v1/agent/self"];
        if !here.iter().any(|p| path.starts_with(p)) {
            continue;
        }
        let headers = [("X-Consul-Token", token)];
        let ours = raw::get_with(addr, path, if token.starts_with("no token") { &[] } else { &headers }).await;
        let label = format!("{token} {path}");
        assert_eq!(row["status"], ours.status, "{label}");
        if ours.status != 200 {
            assert_eq!(row["text"], ours.text(), "{label}");
            assert_eq!(row["index"].is_null(), ours.header("X-Consul-Index").is_none(), "{label}: index");
        } else if let Some(entries) = row["entries"].as_u64() {
            let json = ours.json();
            let count = json.as_array().map(Vec::len).or_else(|| json.as_object().map(serde_json::Map::len));
            assert_eq!(Some(entries as usize), count, "{label}: entries");
        }
        compared += 1;
    }
    assert_eq!(compared, 7 * 11);

    let refused = raw::put(addr, "/v1/agent/service/register", r#"{"Name":"x"}"#).await;
    assert_eq!((refused.status, refused.text().as_str()), (403, "Permission denied: Missing service:write on x"));
    assert_eq!(refused.header("X-Consul-Index"), None);
}

#[tokio::test]
async fn event_lines_have_the_recorded_shape() {
    let embedded = rust_lb::embedded::start(&Default::default()).unwrap();
    let (nomad, addr) = (embedded.nomad(), embedded.nomad_addr().unwrap());
    nomad.register_all([row("es-a", "a"), row("es-b", "b")]);
    nomad.deregister("default", "a");
    let mut stream = raw::stream(addr, "/v1/event/stream?topic=Service", &[]).await;
    let (ours, gone) = (raw::event(&mut stream).await, raw::event(&mut stream).await);
    assert_eq!(shape_of(&ours), shape_of(&gone));
    let mut compared = 0;
    for exchange in exchanges(&recording("nomad/event-stream")) {
        let lines = exchange.response["body_ndjson"].as_array().cloned().unwrap_or_default();
        for line in lines.iter().filter(|line| line["Events"].is_array()) {
            assert_eq!(shape_of(line), shape_of(&ours), "{}", exchange.target);
            compared += 1;
        }
    }
    assert!(compared >= 8, "{compared}");
}
