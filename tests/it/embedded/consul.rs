//! The embedded Consul, statement by statement.

use super::raw::{self, Raw, get, put, soon};
use rust_lb::embedded::store::consul::LOCAL_NODE;
use rust_lb::embedded::{Acl, ConsulToken, Definition, Embedded, Options, Scope, Status, start};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn begin() -> (Embedded, SocketAddr) {
    let embedded = start(&Options { nomad: None, ..Options::default() }).expect("start");
    let addr = embedded.consul_addr().expect("an address");
    (embedded, addr)
}

fn service(name: &str, id: &str) -> Definition {
    Definition::new(name, SocketAddr::from(([127, 0, 0, 1], 1))).id(id).check(Status::Passing)
}

async fn blocked(embedded: &Embedded, addr: SocketAddr, target: &str) -> Raw {
    let asleep = embedded.consul().control().stats().blocked;
    let mut raw = Raw::connect(addr).await;
    raw.send(&format!("GET {target} HTTP/1.1"), &[], "").await;
    soon(embedded.consul().control().until(|stats| stats.blocked > asleep)).await;
    raw
}

#[tokio::test]
async fn order_of_tags_is_random() {
    let (embedded, addr) = begin();
    embedded.consul().register(service("web", "1").tags((0..8).map(|t| format!("t{t}"))));
    let mut orders = BTreeSet::new();
    for _ in 0..20 {
        orders.insert(get(addr, "/v1/catalog/services").await.json()["web"].to_string());
    }
    assert!(orders.len() > 1);
}

#[tokio::test]
async fn each_service_has_an_index_of_its_own() {
    let (embedded, addr) = begin();
    let web = embedded.consul().register(service("web", "1"));
    let other = embedded.consul().register(service("other", "2"));
    assert_eq!(get(addr, "/v1/health/service/web").await.consul_index(), web);
    assert_eq!(get(addr, "/v1/health/service/other").await.consul_index(), other);
    assert_eq!(get(addr, "/v1/catalog/services").await.consul_index(), other);
    assert_eq!(get(addr, "/v1/health/service/absent").await.consul_index(), other);
    embedded.consul().set_health("1", Status::Critical);
    assert!(get(addr, "/v1/health/service/web").await.consul_index() > other, "health moves the service");
    assert_eq!(get(addr, "/v1/catalog/services").await.consul_index(), other, "and not the list");
}

#[tokio::test]
async fn health_wakes_the_service_and_not_the_list() {
    let (embedded, addr) = begin();
    let consul = embedded.consul();
    consul.register(service("web", "1"));
    consul.register(service("other", "2"));
    let index = get(addr, "/v1/catalog/services").await.consul_index();
    let mut queries = Vec::new();
    for path in ["catalog/services", "catalog/service/web", "health/service/other", "health/service/absent"] {
        queries.push(blocked(&embedded, addr, &format!("/v1/{path}?index={index}&wait=60s")).await);
    }
    let mut own = blocked(&embedded, addr, &format!("/v1/health/service/web?index={index}&wait=60s")).await;
    let mut passing =
        blocked(&embedded, addr, &format!("/v1/health/service/web?passing=1&index={index}&wait=60s")).await;
    let mut state = blocked(&embedded, addr, &format!("/v1/health/state/any?index={index}&wait=60s")).await;
    consul.set_health("1", Status::Critical);
    assert_eq!(soon(own.response()).await.unwrap().json()[0]["Checks"][1]["Status"], "critical");
    assert_eq!(soon(passing.response()).await.unwrap().text(), "[]\n");
    assert_eq!(soon(state.response()).await.unwrap().status, 200);
    assert_eq!(soon(consul.control().until(|stats| stats.blocked <= 4)).await.blocked, 4);
    assert!(queries.iter_mut().all(Raw::is_silent));
    consul.deregister("1");
    for raw in queries.iter_mut().take(2) {
        assert_eq!(soon(raw.response()).await.unwrap().status, 200);
    }
    assert_eq!(soon(queries[3].response()).await.unwrap().text(), "[]\n", "an extinction wakes absent names");
    assert!(queries[2].is_silent());
}

#[tokio::test]
async fn passing_drops_warning_and_tags_select() {
    let (embedded, addr) = begin();
    for (id, tag, status) in [("1", "a", Status::Passing), ("2", "b", Status::Warning), ("3", "b", Status::Critical)] {
        embedded.consul().register(service("web", id).tags([tag]).check(status));
    }
    let count =
        async |query: &str| get(addr, &format!("/v1/health/service/web{query}")).await.json().as_array().unwrap().len();
    assert_eq!((count("").await, count("?passing").await, count("?passing=1").await), (3, 1, 1));
    assert_eq!((count("?passing=false").await, count("?tag=b").await, count("?tag=b&passing=1").await), (3, 2, 0));
    assert_eq!(get(addr, "/v1/health/service/web?passing=maybe").await.status, 400);
    embedded.consul().store(|s| s.set_check(LOCAL_NODE, "serfHealth", Status::Critical, "gone"));
    assert_eq!(count("?passing").await, 0, "a check of the node counts");
}

#[tokio::test]
async fn waits_and_indexes_are_those_of_the_real_one() {
    let (embedded, addr) = begin();
    embedded.consul().register(service("web", "1"));
    let index = get(addr, "/v1/catalog/services").await.consul_index();
    let asked = Instant::now();
    let same = get(addr, &format!("/v1/catalog/services?index={index}&wait=50ms")).await;
    assert!(asked.elapsed() >= Duration::from_millis(50));
    assert_eq!(same.consul_index(), index);
    assert_eq!(get(addr, "/v1/catalog/services?index=0&wait=300s").await.consul_index(), index);
    let asked = Instant::now();
    let mut ahead = blocked(&embedded, addr, &format!("/v1/catalog/services?index={}&wait=300ms", index + 1000)).await;
    let moved = embedded.consul().register(service("new", "2"));
    assert_eq!(soon(ahead.response()).await.unwrap().consul_index(), moved);
    assert!(asked.elapsed() >= Duration::from_millis(300), "slept through a registration");
}

#[tokio::test]
async fn a_token_that_may_not_read_nodes_sees_names_without_instances() {
    let (embedded, addr) = begin();
    embedded.consul().register(service("web", "1").tags(["t"]));
    let token = ConsulToken { services: Scope::All, ..ConsulToken::default() };
    embedded.consul().set_acl(Some(Acl::deny().token("t", token)));
    for with in ["?token=t", ""] {
        let header = [("X-Consul-Token", if with.is_empty() { "t" } else { "" })];
        let names = raw::get_with(addr, &format!("/v1/catalog/services{with}"), &header).await;
        assert_eq!(names.json()["web"][0], "t");
        let health = raw::get_with(addr, &format!("/v1/health/service/web{with}"), &header).await;
        assert_eq!((health.status, health.text().as_str()), (200, "[]\n"));
    }
    assert_eq!(get(addr, "/v1/catalog/services").await.text(), "{}\n", "and without a token nothing, in a 200");
}

#[tokio::test]
async fn sigterm_answers_what_was_and_sigkill_nothing() {
    let (embedded, addr) = begin();
    let consul = embedded.consul();
    consul.register(service("web", "1"));
    let index = get(addr, "/v1/catalog/services").await.consul_index();
    let target = format!("/v1/catalog/services?index={index}&wait=60s");
    let mut query = blocked(&embedded, addr, &target).await;
    let mut idle = Raw::connect(addr).await;
    idle.send("GET /v1/status/leader HTTP/1.1", &[], "").await;
    soon(idle.response()).await.unwrap();
    soon(consul.terminate()).await;
    let answer = soon(query.response()).await.unwrap();
    assert_eq!((answer.status, answer.consul_index()), (200, index), "unchanged");
    assert!(soon(idle.line()).await.is_none());
    let refused = tokio::net::TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    consul.start_again().unwrap();
    assert_eq!(get(addr, "/v1/catalog/services").await.consul_index(), index);
    let mut query = blocked(&embedded, addr, &target).await;
    soon(consul.stop()).await;
    assert!(soon(query.response()).await.is_none());
    soon(consul.wipe()).await.unwrap();
    let wiped = get(addr, "/v1/catalog/services").await;
    assert!(wiped.consul_index() < index && wiped.json().get("web").is_none());
}

#[tokio::test]
async fn without_a_leader_errors_carry_index_one() {
    let (embedded, addr) = begin();
    let consul = embedded.consul();
    consul.register(service("web", "1"));
    let index = get(addr, "/v1/catalog/services").await.consul_index();
    let mut query = blocked(&embedded, addr, &format!("/v1/catalog/services?index={index}&wait=60s")).await;
    consul.control().lose_leader(Duration::from_secs(12), Duration::ZERO);
    let cut = soon(query.response()).await.unwrap();
    assert_eq!((cut.status, cut.text().as_str(), cut.consul_index()), (500, "rpc error making call: EOF", 1));
    let failed = get(addr, "/v1/health/service/web").await;
    assert_eq!((failed.status, failed.text().as_str(), failed.consul_index()), (500, "No cluster leader", 1));
    assert_eq!(failed.header("X-Consul-Knownleader"), Some("false"));
    let stale = get(addr, "/v1/catalog/services?stale").await;
    assert_eq!((stale.status, stale.header("X-Consul-Effective-Consistency")), (200, Some("stale")));
    assert_eq!((stale.header("X-Consul-Knownleader"), stale.consul_index()), (Some("false"), index));
    assert!(stale.number("X-Consul-Lastcontact") >= 12_000);
    let leader = get(addr, "/v1/status/leader").await;
    assert_eq!((leader.status, leader.text().as_str()), (200, "\"\"\n"));
}

#[tokio::test]
async fn over_the_limit_connections_are_reset() {
    let embedded = start(&Options { consul_connections: 1, ..Options::default() }).unwrap();
    let addr = embedded.consul_addr().unwrap();
    let _held = blocked(&embedded, addr, "/v1/catalog/services?index=1000&wait=60s").await;
    let mut over = Raw::connect(addr).await;
    assert_eq!(soon(over.end()).await, Some(std::io::ErrorKind::ConnectionReset));
    assert_eq!(embedded.consul().control().stats().refused, 1);
}

#[tokio::test]
async fn the_agent_takes_registrations_and_updates_as_the_real_one() {
    let (_embedded, addr) = begin();
    let ok = async |target: &str, body: &str| assert_eq!(put(addr, target, body).await.status, 200, "{target}");
    let status = async |name: &str| -> Vec<String> {
        let entries = get(addr, &format!("/v1/health/service/{name}")).await.json();
        let checks = entries[0]["Checks"].as_array().unwrap().iter();
        checks.map(|c| format!("{} {} {}", c["CheckID"], c["Status"], c["Output"]).replace('"', "")).collect()
    };
    ok("/v1/agent/service/register", r#"{"ID":"w1","Name":"web","Port":80,"Tags":["a"],"Check":{"TTL":"1h"}}"#).await;
    assert_eq!(status("web").await[1], "service:w1 critical ", "no status named: critical until it has run");
    ok("/v1/agent/check/pass/service:w1?note=fine", "").await;
    assert_eq!(status("web").await[1], "service:w1 passing fine");
    ok("/v1/agent/check/warn/service:w1?note=hm", "").await;
    ok("/v1/agent/check/warn/service:w1?note=again", "").await;
    assert_eq!(status("web").await[1], "service:w1 warning hm", "output alone is not written");
    ok("/v1/agent/check/update/service:w1", r#"{"Status":"critical","Output":"no"}"#).await;
    assert_eq!(status("web").await[1], "service:w1 critical no");
    ok("/v1/agent/service/maintenance/w1?enable=true&reason=move", "").await;
    assert_eq!(status("web").await[0], "serfHealth passing Agent alive and reachable");
    assert_eq!(status("web").await[1], "_service_maintenance:w1 critical ");
    ok("/v1/agent/service/maintenance/w1?enable=false", "").await;
    ok("/v1/agent/maintenance?enable=true", "").await;
    assert_eq!(status("web").await.len(), 3);
    ok("/v1/agent/maintenance?enable=false", "").await;
    assert_eq!(status("web").await.len(), 2);
    ok("/v1/agent/service/deregister/w1", "").await;
    ok("/v1/agent/service/deregister/w1", "").await;
    assert_eq!(get(addr, "/v1/health/service/web").await.text(), "[]\n");
    for (target, body, status, text) in [
        ("/v1/agent/check/pass/nosuch", "", 500, "CheckID \"nosuch\" does not have associated TTL"),
        ("/v1/agent/check/pass/serfHealth", "", 500, "CheckID \"serfHealth\" does not have associated TTL"),
        ("/v1/agent/check/update/x", r#"{"Status":"bogus"}"#, 400, "Invalid check status: 'bogus'"),
        ("/v1/agent/service/register", "{}", 400, "Missing service name"),
        ("/v1/agent/service/deregister/", "", 500, "ServiceID missing"),
        ("/v1/agent/service/maintenance/x?enable=true", "", 404, "No service registered with ID \"x\""),
        ("/v1/agent/service/maintenance/x", "", 400, "Missing value for enable"),
        ("/v1/agent/maintenance?enable=maybe", "", 400, "Invalid value for enable: \"maybe\""),
        ("/v1/catalog/services", "", 405, "method PUT not allowed"),
    ] {
        let refused = put(addr, target, body).await;
        assert_eq!((refused.status, refused.text().as_str()), (status, text), "{target} {body}");
    }
    let read = get(addr, "/v1/agent/service/register").await;
    assert_eq!((read.status, read.header("Allow")), (405, Some("OPTIONS,PUT")));
    for refused in ["health/service/web?filter=x", "catalog/services?node-meta=a:b", "catalog/service/web?cached"] {
        assert_eq!(get(addr, &format!("/v1/{refused}")).await.status, 501, "{refused}");
    }
}

/// Sleeps on a service until its check named so has this state; gives its output.
async fn until_check(addr: SocketAddr, name: &str, id: &str, wanted: &str) -> String {
    let mut index = 1;
    loop {
        let answer = get(addr, &format!("/v1/health/service/{name}?index={index}&wait=60s")).await;
        index = answer.consul_index();
        let entries = answer.json();
        let checks: Vec<Value> = entries[0]["Checks"].as_array().cloned().unwrap_or_default();
        if let Some(check) = checks.iter().find(|c| c["CheckID"] == id && c["Status"] == wanted) {
            return check["Output"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn checks_of_a_registration_are_run() {
    let (_embedded, addr) = begin();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 512];
            let n = stream.read(&mut head).await.unwrap_or(0);
            let answer = if head[..n].starts_with(b"GET /busy") { "429 Too Many Requests" } else { "200 OK" };
            let text = format!("HTTP/1.1 {answer}\r\nContent-Length: 3\r\n\r\nyes");
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    let check = |kind: &str, at: &str| format!(r#"{{"{kind}":"{at}","Interval":"20ms"}}"#);
    let checks = [
        check("HTTP", &format!("http://{target}/")),
        check("HTTP", &format!("http://{target}/busy")),
        check("TCP", &target.to_string()),
        r#"{"TTL":"20ms","Status":"passing"}"#.to_owned(),
    ];
    let body = format!(r#"{{"Name":"web","Port":{},"Checks":[{}]}}"#, target.port(), checks.join(","));
    assert_eq!(put(addr, "/v1/agent/service/register", &body).await.status, 200);
    let passing = soon(until_check(addr, "web", "service:web:1", "passing")).await;
    assert_eq!(passing, format!("HTTP GET http://{target}/: 200 OK Output: yes"));
    soon(until_check(addr, "web", "service:web:2", "warning")).await;
    let tcp = soon(until_check(addr, "web", "service:web:3", "passing")).await;
    assert_eq!(tcp, format!("TCP connect {target}: Success"));
    assert_eq!(soon(until_check(addr, "web", "service:web:4", "critical")).await, "TTL expired");
    server.abort();
    let _ = server.await;
    soon(until_check(addr, "web", "service:web:1", "critical")).await;
    soon(until_check(addr, "web", "service:web:3", "critical")).await;
    assert_eq!(put(addr, "/v1/agent/check/pass/service:web:4?note=ok", "").await.status, 200);
    let expired = soon(until_check(addr, "web", "service:web:4", "critical")).await;
    assert!(expired.starts_with("TTL expired"), "{expired}");
}

#[tokio::test]
async fn an_empty_address_means_the_nodes() {
    let (embedded, addr) = begin();
    embedded.consul().register(service("web", "1").at_node());
    embedded.consul().register_on("far", "10.0.0.9", service("web", "2").at_node());
    let entries = get(addr, "/v1/health/service/web").await.json();
    let at: Vec<_> =
        entries.as_array().unwrap().iter().map(|e| (&e["Service"]["Address"], &e["Node"]["Address"])).collect();
    assert_eq!(at, [(&"".into(), &"127.0.0.1".into()), (&"".into(), &Value::from("10.0.0.9"))]);
}

#[tokio::test]
async fn keys_below_a_prefix_can_be_waited_on_also_while_there_are_none() {
    let (embedded, addr) = begin();
    assert_eq!(put(addr, "/v1/kv/b/1", "x").await.status, 200);
    let none = get(addr, "/v1/kv/a/?recurse").await;
    assert_eq!((none.status, none.text().as_str()), (404, ""));
    let index = none.consul_index();
    let mut first = blocked(&embedded, addr, &format!("/v1/kv/a/?recurse&index={index}&wait=60s")).await;
    put(addr, "/v1/kv/a/1", "v").await;
    let first = soon(first.response()).await.unwrap();
    assert_eq!(
        (first.status, &first.json()[0]["Key"], &first.json()[0]["Value"]),
        (200, &"a/1".into(), &"dg==".into())
    );
    let index = first.consul_index();
    assert!(index > none.consul_index() && first.json()[0]["ModifyIndex"] == index);
    let mut more = blocked(&embedded, addr, &format!("/v1/kv/a/?keys&index={index}&wait=60s")).await;
    let mut one = blocked(&embedded, addr, &format!("/v1/kv/a/1?raw&index={index}&wait=60s")).await;
    put(addr, "/v1/kv/b/2", "elsewhere").await;
    put(addr, "/v1/kv/a/2", "v").await;
    assert_eq!(soon(more.response()).await.unwrap().json().as_array().unwrap().len(), 2);
    assert!(one.is_silent());
    put(addr, "/v1/kv/a/1", "w").await;
    assert_eq!(soon(one.response()).await.unwrap().text(), "w");
    let index = get(addr, "/v1/kv/a/?recurse").await.consul_index();
    let mut gone = blocked(&embedded, addr, &format!("/v1/kv/a/?recurse&index={index}&wait=60s")).await;
    embedded.consul().store(|store| store.delete_keys("a/"));
    let gone = soon(gone.response()).await.unwrap();
    assert!(gone.status == 404 && gone.consul_index() > index);
    embedded.consul().control().lose_leader(Duration::from_secs(12), Duration::ZERO);
    assert_eq!(get(addr, "/v1/kv/a/?recurse").await.status, 500);
}
