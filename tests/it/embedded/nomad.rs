//! The embedded Nomad, statement by statement.

use super::raw::{self, Raw, event, get, get_with, put, soon, stream};
use rust_lb::embedded::store::nomad::NODE_ID;
use rust_lb::embedded::{Acl, Embedded, Fault, NomadToken, Options, Registration, Scope, start};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

fn begin() -> (Embedded, SocketAddr) {
    begin_with(&Options { consul: None, ..Options::default() })
}

fn begin_with(options: &Options) -> (Embedded, SocketAddr) {
    let embedded = start(options).expect("start");
    let addr = embedded.nomad_addr().expect("an address");
    (embedded, addr)
}

fn row(name: &str) -> Registration {
    Registration::new(name, SocketAddr::from(([127, 0, 0, 1], 1))).id(name)
}

/// A blocked query, asleep when this returns.
async fn blocked(embedded: &Embedded, addr: SocketAddr, target: &str) -> Raw {
    let asleep = embedded.nomad().control().stats().blocked;
    let mut raw = Raw::connect(addr).await;
    raw.send(&format!("GET {target} HTTP/1.1"), &[], "").await;
    soon(embedded.nomad().control().until(|stats| stats.blocked > asleep)).await;
    raw
}

#[tokio::test]
async fn order_of_names_and_tags_is_random() {
    let (embedded, addr) = begin();
    embedded.nomad().register_all((0..8).map(|n| row(&format!("s{n}")).tags((0..8).map(|t| format!("t{t}")))));
    let (mut names, mut tags) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..20 {
        let list = get(addr, "/v1/services").await.json();
        let services = list[0]["Services"].as_array().unwrap();
        names.insert(services.iter().map(|s| s["ServiceName"].to_string()).collect::<Vec<_>>());
        tags.insert(services[0]["Tags"].to_string());
    }
    assert!(names.len() > 1 && tags.len() > 1);
}

#[tokio::test]
async fn every_answer_carries_the_index_of_the_whole_table() {
    let (embedded, addr) = begin();
    assert_eq!(get(addr, "/v1/services").await.nomad_index(), 1);
    let web = embedded.nomad().register(row("web"));
    let other = embedded.nomad().register(row("other"));
    assert!(other > web);
    for target in ["/v1/service/web", "/v1/service/absent", "/v1/services", "/v1/services?namespace=nosuch"] {
        assert_eq!(get(addr, target).await.nomad_index(), other, "{target}");
    }
    assert_eq!(get(addr, "/v1/service/web").await.json()[0]["ModifyIndex"], web);
}

#[tokio::test]
async fn a_change_wakes_the_list_its_own_name_and_absent_names() {
    let (embedded, addr) = begin();
    let nomad = embedded.nomad();
    for group in ["a", "b"] {
        nomad.register_all((0..10).map(|n| row(&format!("s{n}")).id(format!("{group}{n}"))));
    }
    let index = get(addr, "/v1/services").await.nomad_index();
    let mut waiting = Vec::new();
    for path in ["/v1/services", "/v1/services?namespace=*", "/v1/service/s3", "/v1/service/absent"] {
        let and = if path.contains('?') { '&' } else { '?' };
        waiting.push(blocked(&embedded, addr, &format!("{path}{and}index={index}&wait=60s")).await);
    }
    let mut asleep = Vec::new();
    for n in [0, 1, 2, 4, 5, 6, 7, 8, 9] {
        asleep.push(blocked(&embedded, addr, &format!("/v1/service/s{n}?index={index}&wait=60s")).await);
    }
    let moved = nomad.register(row("s3").id("a3").tags(["new"]));
    for raw in &mut waiting {
        assert_eq!(soon(raw.response()).await.unwrap().nomad_index(), moved);
    }
    soon(nomad.control().until(|stats| stats.blocked <= 9)).await;
    assert_eq!(nomad.control().stats().blocked, 9);
    assert!(asleep.iter_mut().all(Raw::is_silent));
    // A list that woke for an address alone has the body it had.
    let list = blocked(&embedded, addr, &format!("/v1/services?index={moved}&wait=60s")).await;
    let before = sorted(&get(addr, "/v1/services").await.json());
    nomad.register(Registration { address: "127.0.0.9".into(), ..row("s3").id("a3").tags(["new"]) });
    let mut list = list;
    assert_eq!(sorted(&soon(list.response()).await.unwrap().json()), before);
}

fn sorted(list: &Value) -> BTreeSet<String> {
    let services = list[0]["Services"].as_array().unwrap();
    services.iter().map(|s| s["ServiceName"].to_string()).collect()
}

#[tokio::test]
async fn a_wait_that_ends_answers_with_what_was() {
    let (embedded, addr) = begin();
    let index = embedded.nomad().register(row("web"));
    let asked = Instant::now();
    let answer = get(addr, &format!("/v1/service/web?index={index}&wait=50ms")).await;
    assert!(asked.elapsed() >= Duration::from_millis(50), "a wait is lengthened, never cut");
    assert_eq!((answer.status, answer.nomad_index()), (200, index));
}

#[tokio::test]
async fn index_zero_does_not_block_and_one_ahead_sleeps_through_changes() {
    let (embedded, addr) = begin();
    let index = embedded.nomad().register(row("web"));
    assert_eq!(get(addr, "/v1/services?index=0&wait=300s").await.nomad_index(), index);
    let asked = Instant::now();
    let mut ahead = blocked(&embedded, addr, &format!("/v1/services?index={}&wait=300ms", index + 1000)).await;
    let moved = embedded.nomad().register(row("new"));
    let answer = soon(ahead.response()).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(300), "slept through a registration");
    assert_eq!(answer.nomad_index(), moved, "and answers with an index below the one asked from");
}

#[tokio::test]
async fn short_answers_have_a_length_and_long_ones_come_in_chunks() {
    let (embedded, addr) = begin();
    embedded.nomad().register(row("web"));
    assert_eq!(get(addr, "/v1/services").await.framing, "content-length");
    embedded.nomad().register_all((0..100).map(|n| row(&format!("service-{n}"))));
    let long = get(addr, "/v1/services").await;
    assert_eq!((long.framing, long.body.len() > 2048), ("chunked", true));
    assert_eq!(sorted(&long.json()).len(), 101);
}

#[tokio::test]
async fn without_rights_the_list_of_all_is_empty_at_index_zero() {
    let (embedded, addr) = begin();
    embedded.nomad().register(row("web"));
    embedded.nomad().set_acl(Some(Acl::deny()));
    let list = get(addr, "/v1/services?namespace=*").await;
    assert_eq!((list.status, list.text().as_str(), list.nomad_index()), (200, "[]", 0));
    let one = get(addr, "/v1/services").await;
    assert_eq!((one.status, one.text().as_str()), (403, "Permission denied"));
    // With an index it sleeps, whatever happens.
    let asleep = blocked(&embedded, addr, "/v1/services?namespace=*&index=1&wait=60s").await;
    embedded.nomad().register(row("other"));
    let mut asleep = asleep;
    assert_eq!(get(addr, "/v1/status/leader").await.status, 200);
    assert!(asleep.is_silent() && embedded.nomad().control().stats().blocked == 1);
}

#[tokio::test]
async fn a_token_deleted_under_a_query_ends_it_with_data() {
    let (embedded, addr) = begin();
    let nomad = embedded.nomad();
    let index = nomad.register(row("web"));
    nomad.set_acl(Some(Acl::deny().token("t", NomadToken::read(Scope::All))));
    let mut raw = Raw::connect(addr).await;
    raw.send(&format!("GET /v1/services?index={index}&wait=60s HTTP/1.1"), &[("X-Nomad-Token", "t")], "").await;
    soon(nomad.control().until(|stats| stats.blocked == 1)).await;
    nomad.set_acl(Some(Acl::deny()));
    nomad.register(row("other"));
    let answer = soon(raw.response()).await.unwrap();
    assert_eq!((answer.status, sorted(&answer.json()).len()), (200, 2));
    assert_eq!(get_with(addr, "/v1/services", &[("X-Nomad-Token", "t")]).await.status, 403);
}

#[tokio::test]
async fn the_stream_ends_with_the_connection_and_beats_at_once_and_then_on() {
    let (_embedded, addr) = begin_with(&Options { heartbeat: Duration::from_millis(20), ..Options::default() });
    let mut raw = Raw::connect(addr).await;
    raw.send("GET /v1/event/stream?topic=Service&index=999999 HTTP/1.1", &[], "").await;
    let head = soon(raw.head()).await.unwrap();
    assert_eq!((head.line.as_str(), head.framing), ("HTTP/1.1 200 OK", "until close"));
    let names: Vec<_> = head.headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    let expected =
        ["Connection: close", "Cache-Control: no-cache", "Content-Type: application/json", "Vary: Accept-Encoding"];
    assert_eq!(names, expected);
    for _ in 0..3 {
        assert_eq!(soon(raw.line()).await.as_deref(), Some("{}"));
    }
    let mut old = Raw::connect(addr).await;
    old.send("GET /v1/event/stream?topic=Service HTTP/1.0", &[], "").await;
    let head = soon(old.head()).await.unwrap();
    assert_eq!((head.line.as_str(), head.header("Connection")), ("HTTP/1.0 200 OK", None));
}

#[tokio::test]
async fn the_stream_carries_whole_instances_by_topic_and_key() {
    let (embedded, addr) = begin();
    let mut all = stream(addr, "/v1/event/stream?topic=Service&index=999999", &[]).await;
    let mut one = stream(addr, "/v1/event/stream?topic=Service:web&index=999999", &[]).await;
    let mut job = stream(addr, "/v1/event/stream?topic=Service:other&index=999999", &[]).await;
    let mut none = stream(addr, "/v1/event/stream?topic=Nosuch&index=999999", &[]).await;
    for raw in [&mut all, &mut one, &mut job, &mut none] {
        assert_eq!(soon(raw.line()).await.as_deref(), Some("{}"));
    }
    let index = embedded.nomad().register_all([row("web").tags(["t"]), row("other")]);
    let line = event(&mut all).await;
    assert_eq!(
        (line["Index"].as_u64(), line["Events"].as_array().unwrap().len()),
        (Some(index), 2),
        "one write, one line"
    );
    let first = &line["Events"][0];
    assert_eq!(first["Type"], "ServiceRegistration");
    assert_eq!(first["FilterKeys"].to_string(), r#"["web","web"]"#);
    assert_eq!(first["Payload"]["Service"]["Tags"][0], "t");
    assert_eq!(event(&mut one).await["Events"].as_array().unwrap().len(), 1);
    assert_eq!(event(&mut job).await["Events"][0]["Key"], "other");
    let gone = embedded.nomad().deregister("default", "web").unwrap();
    let line = event(&mut all).await;
    assert_eq!((line["Index"].as_u64(), &line["Events"][0]["Type"]), (Some(gone), &"ServiceDeregistration".into()));
    assert_eq!(line["Events"][0]["Payload"]["Service"]["Tags"][0], "t", "as it was before");
    embedded.nomad().store(|s| s.lose_node(NODE_ID));
    assert_eq!(event(&mut all).await["Events"][0]["Type"], "PlanResult");
    assert!(none.is_silent());
}

#[tokio::test]
async fn the_stream_replays_from_the_index_asked_for_and_hides_what_it_lost() {
    let (embedded, addr) = begin();
    let first = embedded.nomad().register(row("a"));
    let second = embedded.nomad().register(row("b"));
    let mut from = stream(addr, &format!("/v1/event/stream?topic=Service&index={second}"), &[]).await;
    assert_eq!(event(&mut from).await["Index"], second, "the index is replayed too");
    for all in ["", "&index=0", "&index=1"] {
        let mut all = stream(addr, &format!("/v1/event/stream?topic=Service{all}"), &[]).await;
        assert_eq!(soon(all.line()).await.as_deref(), Some("{}"));
        assert_eq!(event(&mut all).await["Index"], first);
    }
    embedded.nomad().store(|s| s.other_writes(99));
    let mut late = stream(addr, &format!("/v1/event/stream?topic=Service&index={first}"), &[]).await;
    assert_eq!(event(&mut late).await["Index"], second, "starts at the oldest of a hundred, without a mark");

    let mut live = stream(addr, "/v1/event/stream?topic=Service&index=999999", &[]).await;
    assert_eq!(soon(live.line()).await.as_deref(), Some("{}"));
    embedded.nomad().store(|s| s.lose_events(true));
    embedded.nomad().register(row("lost"));
    embedded.nomad().store(|s| s.lose_events(false));
    embedded.nomad().register(row("seen"));
    assert_eq!(event(&mut live).await["Events"][0]["Key"], "seen");
    assert_eq!(get(addr, "/v1/service/lost").await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn all_namespaces_are_those_of_the_opening_and_need_rights_in_each() {
    let (embedded, addr) = begin();
    let nomad = embedded.nomad();
    let star = "/v1/event/stream?topic=Service&namespace=*&index=999999";
    let mut early = stream(addr, star, &[]).await;
    assert_eq!(soon(early.line()).await.as_deref(), Some("{}"));
    assert_eq!(put(addr, "/v1/namespace/late", r#"{"Name":"late"}"#).await.status, 200);
    let mut late = stream(addr, star, &[]).await;
    assert_eq!(soon(late.line()).await.as_deref(), Some("{}"));
    nomad.register(row("in-late").namespace("late"));
    nomad.register(row("in-default"));
    assert_eq!(event(&mut late).await["Events"][0]["Namespace"], "late");
    assert_eq!(event(&mut early).await["Events"][0]["Key"], "in-default", "the later namespace is not in it");
    let list = get(addr, "/v1/services?namespace=*").await.json();
    assert_eq!(list.as_array().unwrap().len(), 2, "the list has it");

    let acl = Acl::deny().token("default", NomadToken::read(Scope::only(["default"])));
    nomad.set_acl(Some(acl.token("all", NomadToken::read(Scope::All))));
    let topicless = "/v1/event/stream?index=999999";
    let mut good = stream(addr, star, &[("X-Nomad-Token", "all")]).await;
    assert_eq!(soon(good.line()).await.as_deref(), Some("{}"));
    let mut refused = Vec::new();
    for (target, token) in [
        (star, "default"),
        (star, ""),
        (star, "garbage"),
        (topicless, "all"),
        ("/v1/event/stream?topic=Service&region=nowhere", "all"),
    ] {
        refused.push(stream(addr, target, &[("X-Nomad-Token", token)]).await);
    }
    nomad.register(row("event"));
    assert_eq!(event(&mut good).await["Events"][0]["Key"], "event");
    assert!(refused.iter_mut().all(Raw::is_silent), "200, and not one byte");
    assert_eq!(nomad.control().stats().streams, 8);
    // Rights that end later: silence, not an end.
    nomad.set_acl(Some(Acl::deny()));
    nomad.register(row("unheard"));
    assert_eq!(get(addr, "/v1/status/leader").await.status, 200);
    assert!(good.is_silent());
}

#[tokio::test]
async fn malformed_streams_are_refused_before_they_begin() {
    let (_embedded, addr) = begin();
    for (query, text) in [
        ("topic=a:b:c", "Invalid topic query: error parsing topics: Invalid key value pair for topic, topic: a:b:c"),
        ("index=abc", "Unable to parse index: strconv.Atoi: parsing \"abc\": invalid syntax"),
    ] {
        let answer = get(addr, &format!("/v1/event/stream?{query}")).await;
        assert_eq!((answer.status, answer.text().as_str()), (400, text));
    }
    let post = raw::ask(addr, "POST /v1/event/stream?topic=Service HTTP/1.1", &[], "{}").await.unwrap();
    assert_eq!((post.status, post.text().as_str()), (405, "Invalid method"));
}

#[tokio::test]
async fn a_stop_closes_everything_without_an_answer_and_keeps_the_state() {
    let (embedded, addr) = begin();
    let nomad = embedded.nomad();
    let index = nomad.register(row("web"));
    let mut query = blocked(&embedded, addr, &format!("/v1/services?index={index}&wait=60s")).await;
    let mut events = stream(addr, "/v1/event/stream?topic=Service&index=999999", &[]).await;
    assert_eq!(soon(events.line()).await.as_deref(), Some("{}"));
    soon(nomad.stop()).await;
    assert!(soon(query.response()).await.is_none(), "no answer");
    assert!(soon(events.line()).await.is_none(), "end of file");
    assert_eq!(nomad.control().stats().connections, 0);
    let refused = tokio::net::TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    nomad.start_again().unwrap();
    assert_eq!(get(addr, "/v1/services").await.nomad_index(), index, "the index does not move");
    soon(nomad.wipe()).await.unwrap();
    let wiped = get(addr, "/v1/services").await;
    assert_eq!((wiped.nomad_index(), wiped.text().as_str()), (1, "[]"));
}

#[tokio::test]
async fn the_first_request_hangs_until_there_is_a_leader() {
    let (embedded, addr) = begin();
    let nomad = embedded.nomad();
    soon(nomad.stop()).await;
    nomad.control().await_leader();
    nomad.start_again().unwrap();
    let mut first = Raw::connect(addr).await;
    first.send("GET /v1/services HTTP/1.1", &[], "").await;
    soon(nomad.control().until(|stats| stats.requests_to("/v1/services") == 1)).await;
    assert!(first.is_silent());
    nomad.control().elect();
    assert_eq!(soon(first.response()).await.unwrap().status, 200);
}

#[tokio::test]
async fn without_a_leader_default_reads_fail_and_stale_ones_go_on() {
    let (embedded, addr) = begin();
    let nomad = embedded.nomad();
    let index = nomad.register(row("web"));
    let mut default = blocked(&embedded, addr, &format!("/v1/services?index={index}&wait=60s")).await;
    let mut stale = blocked(&embedded, addr, &format!("/v1/services?stale&index={index}&wait=60s")).await;
    nomad.control().lose_leader(Duration::from_secs(28), Duration::ZERO);
    let cut = soon(default.response()).await.unwrap();
    assert_eq!((cut.status, cut.text().as_str(), cut.header("X-Nomad-Index")), (500, "rpc error: EOF", None));
    let failed = get(addr, "/v1/services").await;
    assert_eq!((failed.status, failed.text().as_str()), (500, "No cluster leader"));
    let read = get(addr, "/v1/services?stale").await;
    assert_eq!((read.status, read.header("X-Nomad-Knownleader")), (200, Some("false")));
    assert!(read.number("X-Nomad-Lastcontact") >= 28_000);
    assert_eq!(get(addr, "/v1/status/leader").await.text(), "No cluster leader");
    let health = get(addr, "/v1/agent/health").await;
    assert_eq!((health.status, &health.json()["server"]["ok"]), (500, &false.into()));
    assert!(stale.is_silent());
    nomad.control().elect();
    nomad.register(row("other"));
    let woken = soon(stale.response()).await.unwrap();
    assert_eq!((woken.status, woken.header("X-Nomad-Knownleader")), (200, Some("true")));
}

#[tokio::test]
async fn over_the_limit_429_comes_before_the_request() {
    let options = Options { nomad_connections: 3, ..Options::default() };
    let (embedded, addr) = begin_with(&options);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Raw::connect(addr).await);
    }
    soon(embedded.nomad().control().until(|stats| stats.connections == 3)).await;
    let mut over = Raw::connect(addr).await;
    let answer = soon(over.response()).await.unwrap();
    assert_eq!(answer.line, "HTTP/1.1 429 Too Many Requests");
    let headers: Vec<_> = answer.headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    assert_eq!(headers, ["Content-Type: text/plain", "Content-Length: 81", "Connection: close"]);
    let text = "Your IP is issuing too many concurrent connections, please rate limit your calls\n";
    assert_eq!(answer.text(), text);
    assert_eq!(embedded.nomad().control().stats().refused, 1);
    held.pop();
    soon(embedded.nomad().control().until(|stats| stats.connections == 2)).await;
    // Event streams do not count, blocked queries do.
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut events = stream(addr, "/v1/event/stream?topic=Service&index=999999", &[]).await;
        assert_eq!(soon(events.line()).await.as_deref(), Some("{}"));
        streams.push(events);
    }
    let _query = blocked(&embedded, addr, "/v1/services?index=1&wait=60s").await;
    assert_eq!(soon(Raw::connect(addr).await.response()).await.unwrap().status, 429);
}

#[tokio::test]
async fn a_burst_over_the_limit_is_told_a_hundred_times() {
    let (embedded, addr) = begin_with(&Options { nomad_connections: 0, ..Options::default() });
    let (mut told, mut closed) = (0, 0);
    for _ in 0..150 {
        match soon(Raw::connect(addr).await.response()).await {
            Some(_) => told += 1,
            None => closed += 1,
        }
    }
    assert!(told >= 100 && told + closed == 150, "{told}");
    assert_eq!(embedded.nomad().control().stats().refused, 150);
}

#[tokio::test]
async fn paused_it_accepts_and_never_answers() {
    let (embedded, addr) = begin();
    let nomad = embedded.nomad();
    let index = nomad.register(row("web"));
    let mut query = blocked(&embedded, addr, &format!("/v1/services?index={index}&wait=60s")).await;
    nomad.control().freeze(true);
    let mut new = Raw::connect(addr).await;
    new.send("GET /v1/services HTTP/1.1", &[], "").await;
    nomad.register(row("other"));
    soon(nomad.control().until(|stats| stats.blocked == 0)).await;
    assert!(query.is_silent() && new.is_silent());
    nomad.control().freeze(false);
    assert_eq!(soon(query.response()).await.unwrap().status, 200);
    assert_eq!(soon(new.response()).await.unwrap().status, 200);
}

#[tokio::test]
async fn spoils_answers_on_request() {
    let (embedded, addr) = begin();
    let (nomad, list) = (embedded.nomad(), "/v1/services");
    let index = nomad.register(row("web"));
    let spoilt = async |fault| {
        nomad.control().spoil(list, fault);
        assert_eq!(get(addr, "/v1/service/web").await.nomad_index(), index, "other paths are left alone");
        raw::ask(addr, &format!("GET {list} HTTP/1.1"), &[], "").await
    };
    let mut raw = Raw::connect(addr).await;
    nomad.control().spoil(list, Fault::Truncated);
    raw.send("GET /v1/services HTTP/1.1", &[], "").await;
    let head = soon(raw.head()).await.unwrap();
    let (length, body) = (head.number("Content-Length"), soon(raw.line()).await);
    assert!(head.status == 200 && body.is_none() && length > 10);
    assert!(spoilt(Fault::Close).await.is_none());
    let html = spoilt(Fault::Html).await.unwrap();
    assert_eq!((html.status, html.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(spoilt(Fault::Huge(3_000_000)).await.unwrap().body.len(), 3_000_000);
    assert_eq!(spoilt(Fault::Index(index - 1)).await.unwrap().nomad_index(), index - 1);
    assert_eq!(spoilt(Fault::Body("[{".into())).await.unwrap().text(), "[{");
    let status = spoilt(Fault::Status(503, "later".into())).await.unwrap();
    assert_eq!((status.status, status.text().as_str()), (503, "later"));
    nomad.control().spoil(list, Fault::Silence);
    let mut silent = Raw::connect(addr).await;
    silent.send("GET /v1/services HTTP/1.1", &[], "").await;
    assert_eq!(get(addr, list).await.status, 200, "one answer a fault");
    assert!(silent.is_silent());
    nomad.control().spoil(list, Fault::Garbage);
    let mut garbage = Raw::connect(addr).await;
    garbage.send("GET /v1/services HTTP/1.1", &[], "").await;
    assert!(soon(garbage.line()).await.is_none(), "no line of HTTP");

    let mut events = stream(addr, "/v1/event/stream?topic=Service&index=999999", &[]).await;
    assert_eq!(soon(events.line()).await.as_deref(), Some("{}"));
    nomad.store(|s| s.raw_line("{\"Index\":"));
    assert_eq!(soon(events.line()).await.as_deref(), Some("{\"Index\":"));
    nomad.store(|s| s.end_streams());
    assert!(soon(events.line()).await.is_none());
}

#[tokio::test]
async fn registers_and_deletes_over_http() {
    let (_embedded, addr) = begin();
    let body = r#"{"Port":8080,"Tags":["traefik.enable=true"]}"#;
    for _ in 0..2 {
        assert_eq!(put(addr, "/v1/service/web", body).await.status, 200);
    }
    let listed = get(addr, "/v1/service/web").await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "the same registration again is the same");
    let put_back = put(addr, "/v1/service/web", &listed[0].to_string()).await;
    assert_eq!((put_back.status, get(addr, "/v1/service/web").await.json() == listed), (200, true));
    for (target, body, part) in [
        ("/v1/service/web", "{", "EOF"),
        ("/v1/service/web", "[]", "expected one registration"),
        ("/v1/service/web", r#"{"ServiceName":"api"}"#, "the path names service `web`, the body \"api\""),
        ("/v1/service/web", r#"{"Port":70000}"#, "70000"),
        ("/v1/service/web", r#"{"Tags":"a"}"#, "string"),
        ("/v1/service/web", r#"{"tags":["a"]}"#, "unknown field `tags`, expected one of `Address`"),
        ("/v1/service/odd.name_1", "{}", "valid per RFC 1123"),
    ] {
        let refused = put(addr, target, body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.text().contains(part), "{body}: {}", refused.text());
    }
    let id = listed[0]["ID"].as_str().unwrap();
    let delete =
        async |id: &str| raw::ask(addr, &format!("DELETE /v1/service/web/{id} HTTP/1.1"), &[], "").await.unwrap();
    let deleted = delete(id).await;
    assert_eq!((deleted.status, deleted.text().as_str(), deleted.nomad_index() > 1), (200, "", true));
    let again = delete(id).await;
    assert_eq!((again.status, again.text().as_str()), (500, "service registration not found"));
    assert_eq!(get(addr, "/v1/service/web/").await.status, 405);
    for refused in ["filter=x", "choose=1|k", "per_page=1"] {
        assert_eq!(get(addr, &format!("/v1/service/web?{refused}")).await.status, 501, "{refused}");
    }
}

#[tokio::test]
async fn counts_connections_and_requests() {
    let (embedded, addr) = begin();
    let control = embedded.nomad().control();
    let mut kept = Raw::connect(addr).await;
    for _ in 0..3 {
        kept.send("GET /v1/services?namespace=* HTTP/1.1", &[], "").await;
        soon(kept.response()).await.unwrap();
    }
    let stats = control.stats();
    assert_eq!((stats.connections, stats.accepted, stats.requests_to("/v1/services")), (1, 1, 3));
    assert_eq!(stats.requests["GET /v1/services"], 3);
    drop(kept);
    soon(control.until(|stats| stats.connections == 0)).await;
    // A client that leaves takes its blocked query along.
    let gone = blocked(&embedded, addr, "/v1/services?index=1&wait=60s").await;
    drop(gone);
    soon(control.until(|stats| stats.blocked == 0 && stats.connections == 0)).await;
}

#[tokio::test]
async fn two_thousand_services_are_read_name_by_name() {
    let (embedded, addr) = begin();
    embedded.nomad().register_all((0..2000).map(|n| row(&format!("s{n:04}")).tags(["traefik.enable=true"])));
    let mut raw = Raw::connect(addr).await;
    for n in 0..2000 {
        raw.send(&format!("GET /v1/service/s{n:04} HTTP/1.1"), &[], "").await;
        assert_eq!(soon(raw.response()).await.unwrap().json()[0]["ServiceName"], format!("s{n:04}"));
    }
    assert_eq!(embedded.nomad().control().stats().accepted, 1);
}
