//! Nomad's watcher.

mod resets;

use super::server::{Answer, Asked, Reply, Script, Server};
use super::{AWAY, TAG, common, harsh, names, ports, spawn, timing, until};
use rust_lb::catalog::{Handle, Snapshot, SourceState, Timing, nomad};
use rust_lb::config::{NomadProvider, Token};
use rust_lb::model::Secret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_util::sync::DropGuard;

/// A catalog as Nomad shows it.
struct Nomad {
    index: u64,
    /// Ports by namespace and name.
    services: BTreeMap<(String, String), Vec<u16>>,
    lines: broadcast::Sender<String>,
    /// First line of a stream; nothing at all is what a refused one says.
    hello: &'static str,
    /// Namespaces that streams opened so far carry.
    streamed: Vec<String>,
    token: &'static str,
    /// What the list answers instead, what a name does, and what is said of the token.
    list: Option<Answer>,
    service: Option<Answer>,
    kind: Option<Answer>,
}

impl Nomad {
    fn new(names: &[&str]) -> Self {
        let services = names.iter().map(|name| (("default".into(), (*name).into()), vec![1000])).collect();
        let lines = broadcast::channel(1000).0;
        let (index, hello, token) = (10, "{}\n", "");
        Self { index, services, lines, hello, streamed: vec![], token, list: None, service: None, kind: None }
    }

    fn instance(&self, namespace: &str, name: &str, port: u16) -> Value {
        json!({"ID": format!("{name}-{port}"), "ServiceName": name, "Namespace": namespace, "NodeID": "node", "Datacenter": "dc1",
            "JobID": "job", "AllocID": "alloc", "Tags": [TAG], "Address": "10.0.0.1", "Port": port, "CreateIndex": 5, "ModifyIndex": 5})
    }

    fn event(&self, kind: &str, namespace: &str, name: &str, port: u16) {
        if self.streamed.iter().any(|streamed| streamed == namespace) {
            let payload = json!({"Service": self.instance(namespace, name, port)});
            let event = json!({"Topic": "Service", "Type": kind, "Index": self.index, "Namespace": namespace, "Payload": payload});
            let _ = self.lines.send(json!({"Index": self.index, "Events": [event]}).to_string());
        }
    }

    fn register(&mut self, namespace: &str, name: &str, port: u16) {
        self.index += 1;
        self.services.entry((namespace.into(), name.into())).or_default().push(port);
        self.event("ServiceRegistration", namespace, name, port);
    }

    fn remove(&mut self, kind: &str, name: &str, port: u16) {
        self.index += 1;
        let key = ("default".to_owned(), name.to_owned());
        self.services.get_mut(&key).unwrap().retain(|p| *p != port);
        self.services.retain(|_, ports| !ports.is_empty());
        self.event(kind, "default", name, port);
    }
}

impl Script for Nomad {
    const PRODUCT: &'static str = "Nomad";

    fn answer(&mut self, asked: &Asked) -> Reply {
        if asked.token != self.token {
            return Reply::Status(403, "Permission denied");
        }
        let namespace = asked.query.get("namespace").cloned().unwrap_or_default();
        match (&*asked.path, asked.path.strip_prefix("/v1/service/")) {
            ("/v1/event/stream", _) => {
                self.streamed = self.services.keys().map(|(namespace, _)| namespace.clone()).collect();
                self.streamed.push("default".into());
                Reply::Stream(self.lines.subscribe(), self.hello)
            }
            ("/v1/acl/token/self", _) if self.kind.is_some() => self.kind.map_or(Reply::Wait, |answer| answer(asked)),
            ("/v1/acl/token/self", _) => Reply::Json(0, json!({"AccessorID": "anonymous", "Type": "client"})),
            ("/v1/services", _) => match self.list {
                Some(answer) => answer(asked),
                None if asked.index().is_some_and(|index| index >= self.index) => Reply::Wait,
                None => {
                    let mut list: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
                    for (namespace, name) in self.services.keys() {
                        list.entry(namespace).or_default().push(json!({"ServiceName": name, "Tags": [TAG]}));
                    }
                    let list = list.into_iter().map(|(ns, services)| json!({"Namespace": ns, "Services": services}));
                    Reply::Json(self.index, list.collect())
                }
            },
            (_, Some(name)) => match self.service {
                Some(answer) => answer(asked),
                None => {
                    let ports = self.services.get(&(namespace.clone(), name.to_owned()));
                    let found = ports.into_iter().flatten().map(|port| self.instance(&namespace, name, *port));
                    Reply::Json(self.index, found.collect())
                }
            },
            _ => Reply::Status(404, "Invalid URL Path"),
        }
    }
}

fn watch(address: &str, token: Token, timing: Timing) -> (Handle, DropGuard) {
    let config = NomadProvider {
        common: common(address, token),
        namespaces: vec!["*".into()],
        region: String::new(),
        allocation_checks: false,
    };
    let (spawn, guard) = spawn(timing);
    (nomad::spawn(&config, spawn).unwrap(), guard)
}

fn is(wanted: &'static str) -> impl Fn(&Snapshot) -> bool {
    move |snapshot| names(snapshot) == wanted && snapshot.status.state == SourceState::Connected
}

#[tokio::test]
async fn follows_events_over_three_connections_however_many_services() {
    let many: Vec<String> = (0..300).map(|n| format!("s{n:03}")).collect();
    let server = Server::start(Nomad::new(&many.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    let first =
        until(&mut handle.snapshots, |s| s.inventory.is_some() && s.status.state == SourceState::Connected).await;
    assert_eq!((first.status.services_seen, first.status.strategy, first.status.known_leader), (300, "events", true));

    server.change(|nomad| nomad.register("default", "web", 80));
    server.change(|nomad| nomad.register("default", "web", 81));
    until(&mut handle.snapshots, |s| ports(s, "web") == [80, 81]).await;
    server.change(|nomad| nomad.remove("PlanResult", "web", 80));
    until(&mut handle.snapshots, |s| ports(s, "web") == [81]).await;
    server.change(|nomad| nomad.remove("ServiceDeregistration", "web", 81));
    let last = until(&mut handle.snapshots, |s| s.status.services_seen == 300).await;
    assert!(server.peak() <= 3, "{} connections", server.peak());
    assert!(last.status.connections <= 3);
    assert_eq!((last.status.held, last.status.notes, last.status.missing_rights), (vec![], vec![], vec![]));
}

#[tokio::test]
async fn a_silent_stream_is_a_refused_one_and_the_list_does_instead() {
    let mut fake = Nomad::new(&["web"]);
    fake.hello = "";
    let server = Server::start(fake).await;
    let short = Timing { hello: Duration::from_millis(100), head_start: Duration::from_millis(10), ..timing() };
    let (mut handle, _guard) = watch(&server.address, Token::None, short);
    until(&mut handle.snapshots, is("web")).await;
    let refused = until(&mut handle.snapshots, |s| s.status.strategy == "list").await;
    assert_eq!(refused.status.missing_rights, ["namespace \"*\" needs `read-job`"]);
    assert!(refused.status.notes[0].starts_with("event stream without a line"), "{:?}", refused.status.notes);

    server.change(|nomad| nomad.register("default", "api", 90));
    server.change(|nomad| nomad.register("default", "web", 1001));
    until(&mut handle.snapshots, |s| names(s) == "api web" && ports(s, "web") == [1000, 1001]).await;
    server.change(|nomad| nomad.remove("ServiceDeregistration", "api", 90));
    until(&mut handle.snapshots, is("web")).await;
    assert!(server.peak() <= 3);
}

#[tokio::test]
async fn bad_answers_change_nothing_and_say_what_came() {
    let server = Server::start(Nomad::new(&["web", "api"])).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    until(&mut handle.snapshots, is("api web")).await;
    let bad: [(Answer, &str); 7] = [
        (
            |_| Reply::Json(99, json!([{"Namespace": "default", "Services": "none"}])),
            "answer cannot be read: invalid type",
        ),
        (
            |_| Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Nomad-Index: 99\r\n\r\n[{\"".to_vec()),
            "answer cannot be read: EOF",
        ),
        (
            |_| {
                Reply::Raw(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>Login</a>".to_vec(),
                )
            },
            "answered HTML instead of JSON",
        ),
        (
            |_| Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\nX-Nomad-Index: 99\r\n\r\n[".to_vec()),
            "answer is larger than 67108864 bytes",
        ),
        (
            |_| Reply::Raw(b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\n\r\nslow down".to_vec()),
            "answered 429 `slow down`; raise `limits.http_max_conns_per_client`",
        ),
        (|_| Reply::Status(500, "No cluster leader"), "answered 500 `No cluster leader`"),
        (|_| Reply::Raw(b"\x15\x03\x01\x00\x02\x02".to_vec()), "connection ended"),
    ];
    for (answer, error) in bad {
        server.change(|nomad| {
            nomad.index += 1;
            nomad.list = Some(answer);
        });
        let failed = until(&mut handle.snapshots, |s| s.status.last_error.starts_with(error)).await;
        assert_eq!((names(&failed).as_str(), failed.status.state), ("api web", SourceState::Retrying), "{error}");
        server.change(|nomad| nomad.list = None);
        let back = until(&mut handle.snapshots, is("api web")).await;
        assert_eq!(back.status.last_error, "");
    }
}

#[tokio::test]
async fn one_name_that_cannot_be_read_keeps_only_itself_back() {
    let server = Server::start(Nomad::new(&["web"])).await;
    server.change(|nomad| {
        nomad.service = Some(|asked| match &*asked.path {
            "/v1/service/web" => Reply::Json(99, json!([{"ID": 7}])),
            _ => Reply::Json(
                99,
                json!([{"ID": "a", "ServiceName": "api", "Namespace": "default", "Port": 1, "Tags": [TAG]}]),
            ),
        });
        nomad.services.insert(("default".into(), "api".into()), vec![1]);
    });
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    let first = until(&mut handle.snapshots, is("api")).await;
    assert!(
        first.status.notes[0].starts_with("service `default/web`: answer cannot be read"),
        "{:?}",
        first.status.notes
    );
    server.change(|nomad| nomad.service = None);
    let both = until(&mut handle.snapshots, is("api web")).await;
    assert!(both.status.notes.is_empty() || handle.snapshots.borrow().status.notes.is_empty());
}

#[tokio::test]
async fn a_dead_agent_is_found_again_and_what_changed_meanwhile_is_read() {
    let mut server = Server::start(Nomad::new(&["web", "api"])).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    until(&mut handle.snapshots, is("api web")).await;
    server.stop();
    let dead = until(&mut handle.snapshots, |s| s.status.last_error.starts_with("cannot connect")).await;
    assert_eq!(names(&dead), "api web");
    server.change(|nomad| {
        nomad.remove("ServiceDeregistration", "api", 1000);
        nomad.register("default", "web", 1001);
    });
    server.restart().await;
    let back = until(&mut handle.snapshots, is("web")).await;
    assert_eq!((ports(&back, "web"), back.status.held), (vec![1000, 1001], vec![]));
}

#[tokio::test]
async fn refused_connections_make_nobody_wait_who_is_back() {
    let mut server = Server::start(Nomad::new(&["web"])).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, harsh());
    until(&mut handle.snapshots, is("web")).await;
    server.stop();
    tokio::time::sleep(AWAY).await;
    // It is there, but not ready yet.
    server.change(|nomad| nomad.list = Some(|_| Reply::Status(500, "not ready")));
    server.restart().await;
    until(&mut handle.snapshots, |s| s.status.last_error.contains("not ready")).await;
    server.change(|nomad| {
        nomad.list = None;
        nomad.register("default", "web", 1001);
    });
    until(&mut handle.snapshots, |s| ports(s, "web") == [1000, 1001]).await;
}

#[tokio::test]
async fn an_agent_that_is_back_is_not_read_anew_because_old_connections_are_gone() {
    let mut server = Server::start(Nomad::new(&["web"])).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, harsh());
    until(&mut handle.snapshots, is("web")).await;
    server.stop();
    tokio::time::sleep(AWAY).await;
    let before = server.log().len();
    server.change(|nomad| nomad.service = Some(|_| Reply::Wait));
    server.restart().await;
    // The pulse finds that what was open before is lost; its word is heard well before the names are read.
    server.asked_since(before, |path| path == "/v1/status/leader").await;
    tokio::time::sleep(AWAY).await;
    server.change(|nomad| nomad.service = None);
    until(&mut handle.snapshots, is("web")).await;
    let log = server.log();
    let streams = log[before..].iter().filter(|path| path.starts_with("/v1/event/stream")).count();
    assert_eq!(streams, 1, "{log:#?}");
}

#[tokio::test]
async fn a_token_file_is_read_again_when_the_token_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let mut fake = Nomad::new(&["web"]);
    fake.token = "first";
    let server = Server::start(fake).await;
    let (mut handle, _guard) = watch(&server.address, Token::File(file.clone()), timing());
    until(&mut handle.snapshots, is("web")).await;
    server.change(|nomad| {
        nomad.token = "second";
        nomad.register("default", "api", 80);
    });
    let refused = until(&mut handle.snapshots, |s| s.status.last_error.contains("403")).await;
    assert_eq!(refused.status.missing_rights, ["namespace \"*\" needs `read-job`"]);
    std::fs::write(&file, "second\n").unwrap();
    until(&mut handle.snapshots, is("api web")).await;
}

#[tokio::test]
async fn a_refused_token_is_said_and_never_shown() {
    let mut fake = Nomad::new(&["web"]);
    fake.token = "other";
    let server = Server::start(fake).await;
    let (mut handle, _guard) = watch(&server.address, Token::Value(Secret::new("hunter2")), timing());
    let refused = until(&mut handle.snapshots, |s| !s.status.last_error.is_empty()).await;
    assert_eq!(refused.status.last_error, "answered 403 `Permission denied`");
    assert!(!format!("{refused:?} {handle:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_namespace_made_after_the_stream_was_opened_is_found_and_followed() {
    let server = Server::start(Nomad::new(&["web"])).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    until(&mut handle.snapshots, is("web")).await;
    server.change(|nomad| nomad.register("late", "new", 80));
    until(&mut handle.snapshots, |s| names(s) == "web late/new").await;
    let streams = |log: Vec<String>| log.iter().filter(|line| line.starts_with("/v1/event")).count();
    let reopened = async {
        while streams(server.log()) < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reopened).await.expect("the stream was not opened anew");
    until(&mut handle.snapshots, |s| s.status.strategy == "events").await;
    server.change(|nomad| nomad.register("late", "new", 81));
    until(&mut handle.snapshots, |s| ports(s, "new") == [80, 81]).await;
}

#[tokio::test]
async fn an_agent_that_hangs_is_given_up_on_and_keeps_its_services() {
    let server = Server::start(Nomad::new(&["web"])).await;
    let mut short = timing();
    short.waits = rust_lb::catalog::poll::Waits {
        wait: Duration::from_millis(100),
        margin: Duration::from_millis(200),
        read: Duration::from_millis(200),
    };
    let (mut handle, _guard) = watch(&server.address, Token::None, short);
    until(&mut handle.snapshots, |s| names(s) == "web").await;
    server.change(|nomad| {
        nomad.index += 1;
        nomad.list = Some(|_| Reply::Wait);
    });
    let hanging = until(&mut handle.snapshots, |s| s.status.last_error.starts_with("no complete answer within")).await;
    assert_eq!(names(&hanging), "web");
    server.change(|nomad| nomad.list = None);
    until(&mut handle.snapshots, is("web")).await;
}

#[tokio::test]
async fn a_unix_socket_and_single_namespaces_do_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_unix(&dir.path().join("api.sock"), Nomad::new(&["web"]));
    let (spawn, _guard) = spawn(timing());
    let namespaces = vec!["default".into(), "team".into()];
    let config = NomadProvider {
        common: common(&server.address, Token::None),
        namespaces,
        region: String::new(),
        allocation_checks: false,
    };
    let mut handle = nomad::spawn(&config, spawn).unwrap();
    until(&mut handle.snapshots, is("web")).await;
    server.asked(|line| line == "/v1/services?namespace=team").await;
}

#[tokio::test]
async fn rights_on_one_name_that_come_back_are_no_longer_missed() {
    let server = Server::start(Nomad::new(&["web"])).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    until(&mut handle.snapshots, is("web")).await;
    server.change(|nomad| {
        nomad.service = Some(|_| Reply::Status(403, "Permission denied"));
        nomad.register("team", "api", 1000);
    });
    let lacking = until(&mut handle.snapshots, |s| !s.status.missing_rights.is_empty()).await;
    assert_eq!(lacking.status.missing_rights, ["namespace \"team\" needs `read-job`"]);
    server.change(|nomad| {
        nomad.service = None;
        nomad.index += 1;
    });
    let full = until(&mut handle.snapshots, |s| s.status.missing_rights.is_empty()).await;
    assert!(names(&full).contains("web"));
    until(&mut handle.snapshots, is("web team/api")).await;
}

#[tokio::test]
async fn a_stream_that_does_not_last_is_not_opened_again_and_again() {
    let server = Server::start(Nomad::new(&["web"])).await;
    let (mut handle, _guard) = watch(&server.address, Token::None, timing());
    until(&mut handle.snapshots, is("web")).await;
    // Its senders gone, a stream ends.
    while handle.snapshots.borrow().status.strategy == "events" {
        server.change(|nomad| nomad.lines = broadcast::channel(1000).0);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let streams = server.log().iter().filter(|line| line.starts_with("/v1/event/stream")).count();
    assert!(streams <= 4, "{streams} streams");
    let by_list = until(&mut handle.snapshots, is("web")).await;
    assert!(by_list.status.notes[0].contains("does not last"), "{:?}", by_list.status.notes);
    server.change(|nomad| nomad.register("default", "api", 1000));
    until(&mut handle.snapshots, is("api web")).await;
}
