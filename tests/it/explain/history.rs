//! What changed the routing table is always named.

use super::super::support::binary::Running;
use super::super::support::proxy::Proxy;
use super::super::support::server::Server;
use super::super::support::{client, eventually};

#[test]
fn every_change_names_its_cause() {
    let proxy = Proxy::start(&["--rustLb.linger.for=0s"]);
    let server = Server::start("x");
    // its service is there and its router is refused
    let tags = [
        "traefik.enable=true",
        "traefik.http.routers.x.rule=Host(`x.test`)",
        "traefik.http.routers.x.middlewares=nope",
    ];
    let changes = |wanted: usize| {
        eventually(&format!("{wanted} changes"), || {
            let history = proxy.admin("/api/history").json();
            history.as_array().filter(|all| all.len() >= wanted).cloned()
        })
    };
    proxy.catalog.register("x1", "x", server.addr, &tags);
    changes(1);
    proxy.catalog.deregister("x1");
    for change in changes(2) {
        assert_eq!((&change["provider"], &change["services"][0]), (&"consulcatalog".into(), &"x".into()), "{change}");
        assert_eq!(change["causes"][0]["service"], "x", "{change}");
    }
}

#[test]
fn the_log_names_what_changed_the_table() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::dev(dir.path(), &["--no-samples", "--log.level=INFO", "--log.noColor=true"]);
    let server = Server::start("x");
    let body = serde_json::json!({
        "ID": "x1", "Name": "x", "Address": "127.0.0.1", "Port": server.addr.port(),
        "Tags": ["traefik.enable=true", "traefik.http.routers.route.rule=Host(`x.test`)"],
    });
    client::send(running.addr("consul"), "PUT", "c", "/v1/agent/service/register", "", &body.to_string());
    eventually("it is routed", || (client::get(running.addr("web"), "x.test", "/").status == 200).then_some(()));
    running.signal("-TERM");
    let (status, said) = running.wait();
    assert!(status.success(), "{status}: {said}");
    let told = said.lines().find(|line| line.contains("routing table changed")).expect("the change is told");
    assert!(told.contains("x@consulcatalog") && told.contains("route@consulcatalog"), "{told}");
}
