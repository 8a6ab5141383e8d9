//! Consul's watcher.

use super::server::{Answer, Asked, Reply, Script, Server};
use super::{AWAY, TAG, common, harsh, names, ports, spawn, timing, until};
use rust_lb::catalog::{Handle, Health, Snapshot, SourceState, Timing, consul};
use rust_lb::config::{ConsulProvider, Token};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::DropGuard;

/// Port and check state of an instance.
type Port = (u16, &'static str);

/// A catalog as Consul shows it: an index for each service, and one for the list.
struct Consul {
    index: u64,
    list_index: u64,
    services: BTreeMap<String, (u64, Vec<Port>)>,
    nodes_visible: bool,
    services_visible: bool,
    service: Option<Answer>,
    /// False: every query is answered at once, whatever index it brings.
    waits: bool,
    /// The list's index falls with every answer, and starts over.
    falls: bool,
    /// One list with an index of 1, and no more after it.
    dips: Option<bool>,
}

impl Consul {
    fn new(names: &[&str]) -> Self {
        let services = names.iter().map(|name| ((*name).to_owned(), (10, vec![(1000, "passing")]))).collect();
        Self {
            index: 10,
            list_index: 10,
            services,
            nodes_visible: true,
            services_visible: true,
            service: None,
            waits: true,
            falls: false,
            dips: None,
        }
    }

    fn set(&mut self, name: &str, instances: &[Port]) {
        self.index += 1;
        let before = self.services.get(name).map(|(_, instances)| instances.len());
        if before != Some(instances.len()) {
            self.list_index = self.index;
        }
        if instances.is_empty() {
            self.services.remove(name);
        } else {
            self.services.insert(name.to_owned(), (self.index, instances.to_vec()));
        }
    }

    fn entry(name: &str, (port, status): (u16, &str)) -> Value {
        json!({"Node": {"Node": "node", "Address": "10.0.0.1", "Datacenter": "dc1"},
            "Service": {"ID": format!("{name}-{port}"), "Service": name, "Tags": [TAG], "Address": "", "Port": port, "CreateIndex": 5},
            "Checks": [{"CheckID": "serfHealth", "Status": "passing"}, {"CheckID": format!("service:{name}"), "Status": status}]})
    }
}

impl Script for Consul {
    const PRODUCT: &'static str = "Consul";

    fn answer(&mut self, asked: &Asked) -> Reply {
        if self.falls {
            self.list_index = if self.list_index > 1 { self.list_index - 1 } else { 20 };
        }
        let waits = |index: u64| self.waits && !self.falls && asked.index().is_some_and(|asked| asked >= index);
        match (&*asked.path, asked.path.strip_prefix("/v1/health/service/")) {
            ("/v1/catalog/services", _) if waits(self.list_index) || self.dips == Some(false) => Reply::Wait,
            ("/v1/catalog/services", _) => {
                let mut list: BTreeMap<_, _> = self.services.keys().map(|name| (name.as_str(), vec![TAG])).collect();
                list.insert("consul", vec![]);
                let index = if self.dips.is_some() { 1 } else { self.list_index };
                self.dips = self.dips.map(|_| false);
                Reply::Json(index, if self.services_visible { json!(list) } else { json!({}) })
            }
            ("/v1/health/state/any", _) if waits(self.index) => Reply::Wait,
            ("/v1/health/state/any", _) => Reply::Json(self.index, json!([])),
            ("/v1/catalog/nodes", _) if self.nodes_visible => Reply::Json(1, json!([{"Node": "node"}])),
            ("/v1/catalog/nodes", _) => Reply::Json(1, json!([])),
            (_, Some(name)) => match (self.service, self.services.get(name)) {
                (Some(answer), _) => answer(asked),
                (None, found) => {
                    let (index, instances) = found.cloned().unwrap_or((self.index, vec![]));
                    if waits(index) {
                        return Reply::Wait;
                    }
                    let visible = instances.into_iter().filter(|_| self.nodes_visible && self.services_visible);
                    Reply::Json(index, visible.map(|instance| Self::entry(name, instance)).collect())
                }
            },
            _ => Reply::Status(404, ""),
        }
    }
}

fn watch(address: &str, watch_connections: usize) -> (Handle, DropGuard) {
    watch_with(address, watch_connections, timing())
}

fn watch_with(address: &str, watch_connections: usize, timing: Timing) -> (Handle, DropGuard) {
    let config = ConsulProvider {
        common: common(address, Token::None),
        namespaces: vec![],
        partition: String::new(),
        datacenter: String::new(),
        strict_checks: vec![],
        watch_connections,
    };
    let (spawn, guard) = spawn(timing);
    (consul::spawn(&config, spawn).unwrap(), guard)
}

fn is(wanted: &'static str) -> impl Fn(&Snapshot) -> bool {
    move |snapshot| names(snapshot) == wanted && snapshot.status.state == SourceState::Connected
}

fn health(snapshot: &Snapshot, name: &str) -> Vec<Health> {
    let services = snapshot.inventory.iter().flat_map(|i| i.services.values());
    services.filter(|s| &*s.key.name == name).flat_map(|s| s.instances.iter().map(|i| i.health)).collect()
}

#[tokio::test]
async fn watches_each_name_by_a_query_of_its_own() {
    let server = Server::start(Consul::new(&["web", "api"])).await;
    let (mut handle, _guard) = watch(&server.address, 128);
    let first = until(&mut handle.snapshots, is("api web")).await;
    assert_eq!((first.status.strategy, health(&first, "web")), ("watch", vec![Health::Passing]));
    let unchanged = first.inventory.unwrap().services.values().find(|s| &*s.key.name == "api").unwrap().clone();

    server.change(|consul| consul.set("web", &[(1000, "critical"), (1001, "warning")]));
    let changed = until(&mut handle.snapshots, |s| health(s, "web") == [Health::Critical, Health::Warning]).await;
    let kept = changed.inventory.unwrap().services.values().find(|s| &*s.key.name == "api").unwrap().clone();
    assert!(std::sync::Arc::ptr_eq(&unchanged, &kept));

    server.change(|consul| consul.set("new", &[(80, "passing")]));
    until(&mut handle.snapshots, |s| names(s) == "api new web").await;
    server.change(|consul| consul.set("web", &[]));
    let last = until(&mut handle.snapshots, is("api new")).await;
    assert_eq!((last.status.held, last.status.missing_rights, last.status.notes), (vec![], vec![], vec![]));
    server.asked(|line| line.starts_with("/v1/health/service/new?index=")).await;
    assert!(!server.log().iter().any(|line| line.contains("health/state/any")));
}

#[tokio::test]
async fn above_the_limit_of_connections_it_goes_by_doorbell() {
    let many: Vec<String> = (0..60).map(|n| format!("s{n:02}")).collect();
    let server = Server::start(Consul::new(&many.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let (mut handle, _guard) = watch(&server.address, 50);
    let first =
        until(&mut handle.snapshots, |s| s.status.services_seen == 60 && s.status.state == SourceState::Connected)
            .await;
    assert_eq!(first.status.strategy, "doorbell");
    assert!(
        first.status.notes[0].starts_with("60 services are over `watchConnections` (50)"),
        "{:?}",
        first.status.notes
    );
    server.asked(|line| line.starts_with("/v1/health/state/any?index=")).await;
    server.change(|consul| consul.set("s07", &[(2000, "passing")]));
    until(&mut handle.snapshots, |s| ports(s, "s07") == [2000]).await;
    server.change(|consul| consul.set("s08", &[]));
    until(&mut handle.snapshots, |s| s.status.services_seen == 59).await;
    assert!(server.peak() <= 6, "{} connections", server.peak());
    for name in &many[..20] {
        server.change(|consul| consul.set(name, &[]));
    }
    let fewer = until(&mut handle.snapshots, |s| s.status.strategy == "watch" && s.status.notes.is_empty()).await;
    assert!(fewer.status.services_seen <= 60);
}

#[tokio::test]
async fn an_agent_that_refuses_connections_gets_fewer() {
    let many: Vec<String> = (0..40).map(|n| format!("s{n:02}")).collect();
    let server = Server::start(Consul::new(&many.iter().map(String::as_str).collect::<Vec<_>>())).await;
    server.limit(25);
    let (mut handle, _guard) = watch(&server.address, 128);
    let fewer = until(&mut handle.snapshots, |s| s.status.strategy == "doorbell").await;
    assert!(fewer.status.notes[0].starts_with("the agent refuses more than about"), "{:?}", fewer.status.notes);
    let all =
        until(&mut handle.snapshots, |s| s.status.services_seen == 40 && s.status.state == SourceState::Connected)
            .await;
    assert_eq!(all.status.last_error, "");
    server.change(|consul| consul.set("s33", &[(2000, "passing")]));
    until(&mut handle.snapshots, |s| ports(s, "s33") == [2000]).await;
}

#[tokio::test]
async fn names_without_instances_are_missing_rights_on_nodes() {
    let server = Server::start(Consul::new(&["web"])).await;
    server.change(|consul| consul.nodes_visible = false);
    let (mut handle, _guard) = watch(&server.address, 128);
    let lacking =
        until(&mut handle.snapshots, |s| !s.status.missing_rights.is_empty() && !s.status.last_error.is_empty()).await;
    assert_eq!((names(&lacking).as_str(), lacking.status.state), ("-", SourceState::Retrying));
    assert_eq!(lacking.status.missing_rights, ["node_prefix \"\" needs `read`"]);
    server.change(|consul| consul.nodes_visible = true);
    let full = until(&mut handle.snapshots, is("web")).await;
    assert!(full.status.missing_rights.is_empty());

    server.change(|consul| {
        consul.nodes_visible = false;
        consul.set("web", &[(1000, "warning")]);
    });
    let lost = until(&mut handle.snapshots, |s| s.status.held == ["web"] && !s.status.missing_rights.is_empty()).await;
    assert_eq!(names(&lost), "web");
}

#[tokio::test]
async fn nothing_visible_is_no_empty_catalog() {
    let server = Server::start(Consul::new(&["web"])).await;
    let (mut handle, _guard) = watch(&server.address, 128);
    until(&mut handle.snapshots, is("web")).await;
    server.change(|consul| {
        (consul.services_visible, consul.nodes_visible) = (false, false);
        consul.list_index += 1;
    });
    let lost = until(&mut handle.snapshots, |s| s.status.missing_rights.len() == 2).await;
    assert_eq!((names(&lost).as_str(), lost.status.last_error.as_str()), ("web", "the token may see no service"));
    server.change(|consul| (consul.services_visible, consul.nodes_visible) = (true, true));
    let back = until(&mut handle.snapshots, is("web")).await;
    assert!(back.status.held.is_empty());
    until(&mut handle.snapshots, |s| s.status.missing_rights.is_empty()).await;
    server.change(|consul| {
        consul.services_visible = false;
        consul.list_index += 1;
    });
    let narrowed = until(&mut handle.snapshots, |s| s.status.held == ["web"]).await;
    assert_eq!(
        (names(&narrowed).as_str(), &*narrowed.status.missing_rights),
        ("web", &["service_prefix \"\" needs `read`".to_owned()][..])
    );
}

#[tokio::test]
async fn a_dead_or_wiped_agent_loses_nothing() {
    let mut server = Server::start(Consul::new(&["web", "api"])).await;
    let (mut handle, _guard) = watch(&server.address, 128);
    until(&mut handle.snapshots, is("api web")).await;
    server.stop();
    let dead = until(&mut handle.snapshots, |s| s.status.last_error.starts_with("cannot connect")).await;
    assert_eq!((names(&dead).as_str(), dead.status.state), ("api web", SourceState::Retrying));
    server.restart().await;
    let back = until(&mut handle.snapshots, is("api web")).await;
    assert!(back.status.held.is_empty());

    server.stop();
    server.change(|consul| *consul = Consul { index: 2, list_index: 2, ..Consul::new(&[]) });
    server.restart().await;
    let wiped = until(&mut handle.snapshots, |s| s.status.held == ["api", "web"]).await;
    assert_eq!(names(&wiped), "api web");
    server.change(|consul| consul.set("web", &[(3000, "passing")]));
    let again = until(&mut handle.snapshots, |s| ports(s, "web") == [3000]).await;
    assert_eq!(again.status.held, ["api"]);
    handle.forget.now();
    until(&mut handle.snapshots, |s| names(s) == "web" && s.status.held.is_empty()).await;
}

#[tokio::test]
async fn a_low_index_before_a_failure_hides_no_wipe() {
    let mut server = Server::start(Consul::new(&["web", "api"])).await;
    let (mut handle, _guard) = watch(&server.address, 128);
    until(&mut handle.snapshots, is("api web")).await;
    server.stop();
    // It is read up to the names, which cannot be.
    server.change(|consul| {
        consul.dips = Some(true);
        consul.service = Some(|_| Reply::Raw(Vec::new()));
    });
    let asked = server.log().len();
    server.restart().await;
    server.asked_since(asked, |path| path.starts_with("/v1/health/service/")).await;
    server.stop();
    server.change(|consul| *consul = Consul { index: 5, list_index: 5, ..Consul::new(&["web"]) });
    server.restart().await;
    let held = until(&mut handle.snapshots, |s| names(s) != "api web" || !s.status.held.is_empty()).await;
    assert_eq!((names(&held).as_str(), &*held.status.held), ("api web", &["api".to_owned()][..]));
}

#[tokio::test]
async fn refused_connections_make_nobody_wait_who_is_back() {
    let mut server = Server::start(Consul::new(&["web"])).await;
    let (mut handle, _guard) = watch_with(&server.address, 128, harsh());
    until(&mut handle.snapshots, is("web")).await;
    server.stop();
    tokio::time::sleep(AWAY).await;
    // It is there, but hides everything until it knows who asks.
    server.change(|consul| (consul.services_visible, consul.nodes_visible) = (false, false));
    server.restart().await;
    until(&mut handle.snapshots, |s| s.status.last_error == "the token may see no service").await;
    server.change(|consul| {
        (consul.services_visible, consul.nodes_visible) = (true, true);
        consul.set("web", &[(2000, "passing")]);
    });
    until(&mut handle.snapshots, |s| ports(s, "web") == [2000]).await;
}

#[tokio::test]
async fn an_agent_that_is_back_is_not_read_anew_because_old_connections_are_gone() {
    let mut server = Server::start(Consul::new(&["web", "api"])).await;
    let (mut handle, _guard) = watch_with(&server.address, 128, harsh());
    until(&mut handle.snapshots, is("api web")).await;
    server.stop();
    tokio::time::sleep(AWAY).await;
    let before = server.log().len();
    server.change(|consul| consul.service = Some(|_| Reply::Wait));
    server.restart().await;
    // The pulse finds that what was open before is lost; its word is heard well before the names are read.
    server.asked_since(before, |path| path == "/v1/status/leader").await;
    tokio::time::sleep(AWAY).await;
    server.change(|consul| consul.service = None);
    until(&mut handle.snapshots, is("api web")).await;
    let log = server.log();
    let lists =
        log[before..].iter().filter(|path| path.starts_with("/v1/catalog/services") && !path.contains("index="));
    assert_eq!(lists.count(), 1, "{log:#?}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_keeps_what_was_good() {
    let server = Server::start(Consul::new(&["web", "api"])).await;
    let (mut handle, _guard) = watch(&server.address, 128);
    until(&mut handle.snapshots, is("api web")).await;
    for (answer, note) in [
        ((|_| Reply::Json(99, json!([{"Node": 1}]))) as Answer, "answer cannot be read"),
        (
            |_| Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>".to_vec()),
            "answered HTML instead of JSON",
        ),
        (|_| Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n[".to_vec()), "answer is larger"),
    ] {
        server.change(|consul| consul.service = Some(answer));
        let broken = until(&mut handle.snapshots, |s| s.status.notes.iter().any(|n| n.contains(note))).await;
        assert_eq!((names(&broken).as_str(), ports(&broken, "web")), ("api web", vec![1000]));
        server.change(|consul| consul.service = None);
        until(&mut handle.snapshots, |s| s.status.notes.is_empty() && s.status.state == SourceState::Connected).await;
    }
}

/// As behind a cache. The pauses are the shortest that there may be, so a slow machine makes the test slow and no more.
#[tokio::test]
async fn a_server_that_does_not_wait_is_not_asked_in_a_loop() {
    for (limit, path) in [(128, "/v1/catalog/services"), (128, "/v1/health/service/web"), (0, "/v1/health/state/any")] {
        let server = Server::start(Consul::new(&["web"])).await;
        server.change(|consul| consul.waits = false);
        let (mut handle, _guard) = watch(&server.address, limit);
        until(&mut handle.snapshots, is("web")).await;
        let started = std::time::Instant::now();
        let before = server.log().len();
        let asked = || server.log()[before..].iter().filter(|line| line.starts_with(path)).count();
        while asked() < 6 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(started.elapsed() >= Duration::from_millis(700), "{path}: six queries in {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn an_index_that_goes_to_and_fro_is_not_read_anew_each_time() {
    let server = Server::start(Consul::new(&["web"])).await;
    let (mut handle, _guard) = watch(&server.address, 128);
    until(&mut handle.snapshots, is("web")).await;
    let (started, before) = (std::time::Instant::now(), server.log().len());
    server.change(|consul| consul.falls = true);
    let anew = || server.log()[before..].iter().filter(|line| *line == "/v1/catalog/services").count();
    // Two resets at once, each with the read after it, are allowed.
    while anew() < 6 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(started.elapsed() >= Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(names(&handle.snapshots.borrow()), "web");
}
