//! From a tag in a catalog to a served request, and what happens to the route when the catalog fails:
//! the whole proxy over real sockets beside the embedded catalog.

mod trouble;

use super::support::client::Connection;
use super::support::eventually;
use super::support::proxy::{Catalog, Proxy};
use super::support::server::Server;
use super::support::traffic::Traffic;
use std::sync::Arc;

#[test]
fn a_consul_service_is_served_and_its_removal_seen() {
    let proxy = Proxy::start(&["--rustLb.linger.for=0s"]);
    let server = Server::start("hello");
    assert_eq!(proxy.get("hello.test", "/").status, 404);
    proxy.catalog.register(
        "h1",
        "hello",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.hello.rule=Host(`hello.test`)"],
    );
    let answer = proxy.wait_for("hello.test", "/a?b=c", 200);
    assert!(answer.text().starts_with("hello\nGET /a?b=c HTTP/1.1\r\n"), "{}", answer.text());
    proxy.catalog.deregister("h1");
    proxy.wait_for("hello.test", "/", 404);
}

#[test]
fn a_nomad_service_is_served_and_its_removal_seen() {
    let proxy = Proxy::start(&["--rustLb.linger.for=0s"]);
    let server = Server::start("hello");
    proxy.catalog.register_nomad(
        "n1",
        "hello",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.hello.rule=Host(`hello.test`) && PathPrefix(`/api`)"],
    );
    proxy.wait_for("hello.test", "/api/x", 200);
    assert_eq!(proxy.get("hello.test", "/other").status, 404);
    proxy.catalog.deregister_nomad("hello", "n1");
    proxy.wait_for("hello.test", "/api/x", 404);
}

#[test]
fn every_dialect_routes() {
    let proxy = Proxy::start(&[]);
    let (fabio, site, plain) = (Server::start("fabio"), Server::start("site"), Server::start("plain"));
    proxy.catalog.register("f1", "fab", fabio.addr, &["urlprefix-fab.test/app strip=/app"]);
    proxy.catalog.register("s1", "site", site.addr, &["https://site.test"]);
    proxy.catalog.register("p1", "plain", plain.addr, &["traefik.enable=true"]);
    let answer = proxy.wait_for("fab.test", "/app/x", 200);
    assert!(answer.text().starts_with("fabio\nGET /x HTTP/1.1"), "{}", answer.text());
    proxy.wait_for("plain.localhost", "/", 200);
    let redirect = proxy.wait_for("site.test", "/y?z=1", 301);
    assert_eq!(redirect.header("location"), Some("https://site.test/y?z=1"));
}

#[test]
fn weights_share_requests() {
    let proxy = Proxy::start(&[]);
    let (a, b) = (Server::start("a"), Server::start("b"));
    proxy.catalog.register("a", "wa", a.addr, &["urlprefix-w.test/ weight=0.75"]);
    proxy.catalog.register("b", "wb", b.addr, &["urlprefix-w.test/ weight=0.25"]);
    eventually("both servers are known", || {
        let raw = proxy.admin("/api/rawdata").json();
        let services = raw["services"].as_object()?;
        let both = |s: &serde_json::Value| s["loadBalancer"]["servers"].as_array().is_some_and(|s| s.len() == 2);
        services.values().any(both).then_some(())
    });
    let mut connection = Connection::open(proxy.web()).expect("connects");
    let (before_a, before_b) = (a.requests(), b.requests());
    for _ in 0..40 {
        assert_eq!(connection.get("w.test", "/").expect("an answer").status, 200);
    }
    assert_eq!((a.requests() - before_a, b.requests() - before_b), (30, 10));
}

#[test]
fn a_bad_tag_disables_only_itself_and_is_visible() {
    let proxy = Proxy::start(&[]);
    let server = Server::start("x");
    proxy.catalog.register(
        "x1",
        "x",
        server.addr,
        &[
            "traefik.enable=true",
            "traefik.http.routers.good.rule=Host(`good.test`)",
            "traefik.http.routers.bad.rule=Host(`bad.test`",
            "traefik.http.routers.typo.rule=Host(`typo.test`)",
            "traefik.http.routers.typo.priotity=7",
            "traefik.http.routers.lost.rule=Host(`lost.test`)",
            "traefik.http.routers.lost.middlewares=nonesuch@file",
        ],
    );
    proxy.wait_for("good.test", "/", 200);
    assert_eq!(proxy.get("bad.test", "/").status, 404);
    // A misspelt option may be the one that protects the route: its router is refused, not served without it.
    assert_eq!(proxy.get("typo.test", "/").status, 404);
    let problems = proxy.admin("/api/problems").json().to_string();
    assert!(problems.contains("routers.bad.rule"), "{problems}");
    assert!(problems.contains("priority"), "the nearest known option is named: {problems}");
    let problems = proxy.admin("/api/problems").json();
    let lost = problems.as_array().and_then(|all| all.iter().find(|p| p["code"] == "unknown_middleware"));
    let lost = lost.expect("the missing middleware is a problem");
    assert_eq!(lost["tag"], "traefik.http.routers.lost.middlewares=nonesuch@file", "the tag concerned is named");
    assert_eq!(lost["column"], 39);
}

#[test]
fn a_definition_that_turns_bad_keeps_its_last_good_form() {
    let proxy = Proxy::start(&[]);
    let server = Server::start("x");
    proxy.catalog.register(
        "x1",
        "x",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.x.rule=Host(`x.test`)"],
    );
    proxy.wait_for("x.test", "/", 200);
    proxy.catalog.register(
        "x1",
        "x",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.x.rule=Host(`x.test`"],
    );
    eventually("the bad rule is reported", || {
        proxy.admin("/api/problems").text().contains("routers.x.rule").then_some(())
    });
    assert_eq!(proxy.get("x.test", "/").status, 200);
}

#[test]
fn a_request_waits_for_a_server_to_come_back() {
    let proxy = Proxy::start(&["--rustLb.linger.for=1h", "--rustLb.linger.wait=1h"]);
    let (first, second) = (Server::start("first"), Server::start("second"));
    let tags = ["traefik.enable=true", "traefik.http.routers.w.rule=Host(`w.test`)"];
    proxy.catalog.register("w1", "w", first.addr, &tags);
    proxy.wait_for("w.test", "/", 200);
    proxy.catalog.deregister("w1");
    eventually("the server has left the table", || {
        let service = proxy.admin("/api/http/services/w@consulcatalog");
        (!service.text().contains("http://127.0.0.1")).then(|| assert_eq!(service.status, 200))
    });
    let mut connection = Connection::open(proxy.web()).expect("connects");
    connection.send(b"GET / HTTP/1.1\r\nHost: w.test\r\n\r\n").expect("sent");
    proxy.catalog.register("w2", "w", second.addr, &tags);
    let answer = connection.read(false).expect("an answer");
    assert_eq!((answer.status, answer.header("x-server")), (200, Some("second")));
}

#[test]
fn a_wait_that_ends_is_503_and_then_404() {
    let proxy = Proxy::start(&["--rustLb.linger.for=500ms", "--rustLb.linger.wait=10ms"]);
    let server = Server::start("x");
    proxy.catalog.register(
        "w1",
        "w",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.w.rule=Host(`w.test`)"],
    );
    proxy.wait_for("w.test", "/", 200);
    proxy.catalog.deregister("w1");
    let answer = proxy.wait_for("w.test", "/", 503);
    assert!(answer.header("retry-after").is_some());
    proxy.wait_for("w.test", "/", 404);
}

fn provider_state(proxy: &Proxy, provider: &str) -> String {
    proxy.admin("/api/rawdata").json()["providers"][provider]["state"].as_str().unwrap_or("missing").to_owned()
}

#[test]
fn a_catalog_that_stops_and_returns_loses_no_request() {
    let proxy = Proxy::start(&[]);
    let server = Server::start("x");
    proxy.catalog.register(
        "x1",
        "x",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.x.rule=Host(`x.test`)"],
    );
    proxy.catalog.register_nomad(
        "y1",
        "y",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.y.rule=Host(`y.test`)"],
    );
    proxy.wait_for("x.test", "/", 200);
    proxy.wait_for("y.test", "/", 200);
    let traffic = (Traffic::start(proxy.web(), "x.test"), Traffic::start(proxy.web(), "y.test"));
    traffic.0.pass(20);
    proxy.catalog.stop();
    for provider in ["consulcatalog", "nomad"] {
        eventually("the outage is shown", || (provider_state(&proxy, provider) == "retrying").then_some(()));
    }
    traffic.0.pass(50);
    traffic.1.pass(50);
    proxy.catalog.resume();
    for provider in ["consulcatalog", "nomad"] {
        eventually("the return is shown", || (provider_state(&proxy, provider) == "connected").then_some(()));
    }
    traffic.0.pass(20);
    traffic.0.finish();
    traffic.1.finish();
}

#[test]
fn a_wiped_catalog_keeps_the_routes() {
    let proxy = Proxy::start(&["--rustLb.linger.for=0s"]);
    let server = Server::start("x");
    proxy.catalog.register(
        "x1",
        "x",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.x.rule=Host(`x.test`)"],
    );
    proxy.catalog.register_nomad(
        "y1",
        "y",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.y.rule=Host(`y.test`)"],
    );
    proxy.wait_for("x.test", "/", 200);
    proxy.wait_for("y.test", "/", 200);
    let traffic = (Traffic::start(proxy.web(), "x.test"), Traffic::start(proxy.web(), "y.test"));
    proxy.catalog.wipe();
    for provider in ["consulcatalog", "nomad"] {
        eventually("the removals are held and said so", || {
            let held = proxy.admin("/api/rawdata").json()["providers"][provider]["held"].clone();
            held.as_array().is_some_and(|held| !held.is_empty()).then_some(())
        });
    }
    traffic.0.pass(50);
    traffic.1.pass(50);
    traffic.0.finish();
    traffic.1.finish();
}

#[test]
fn started_without_a_catalog_it_serves_what_it_last_knew() {
    let catalog = Catalog::start();
    let dir = Arc::new(tempfile::tempdir().expect("a folder"));
    let server = Server::start("x");
    let first = Proxy::over(catalog.clone(), dir.clone(), &[]);
    catalog.register("x1", "x", server.addr, &["traefik.enable=true", "traefik.http.routers.x.rule=Host(`x.test`)"]);
    first.wait_for("x.test", "/", 200);
    first.running.stop();
    catalog.stop();
    let second = Proxy::over(catalog, dir, &[]);
    assert_eq!(second.get("x.test", "/").status, 200);
    assert_eq!(second.admin("/ready").status, 200);
    eventually("the outage is shown", || (provider_state(&second, "consulcatalog") == "retrying").then_some(()));
}

#[test]
fn the_primary_wins_between_equal_routers() {
    for (primary, winner) in [("nomad", "from-nomad"), ("consul", "from-consul")] {
        let proxy = Proxy::start(&[&format!("--rustLb.primary={primary}")]);
        let (nomad, consul) = (Server::start("from-nomad"), Server::start("from-consul"));
        let tags = ["traefik.enable=true", "traefik.http.routers.both.rule=Host(`both.test`)"];
        proxy.catalog.register("c", "both", consul.addr, &tags);
        proxy.catalog.register_nomad("n", "both", nomad.addr, &tags);
        eventually("both routers are known", || {
            let routers = proxy.admin("/api/rawdata").json()["routers"].clone();
            (routers["both@nomad"].is_object() && routers["both@consulcatalog"].is_object()).then_some(())
        });
        assert_eq!(proxy.get("both.test", "/").header("x-server"), Some(winner), "primary {primary}");
    }
}

#[test]
fn the_admin_api_tells_what_is_running() {
    let proxy = Proxy::start(&[]);
    let server = Server::start("x");
    proxy.catalog.register(
        "x1",
        "x",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.x.rule=Host(`x.test`)"],
    );
    proxy.wait_for("x.test", "/", 200);
    assert_eq!(proxy.admin("/ping").text(), "OK");
    assert_eq!(proxy.admin("/health").status, 200);
    let raw = proxy.admin("/api/rawdata").json();
    assert_eq!(raw["routers"]["x@consulcatalog"]["status"], "enabled");
    assert_eq!(raw["providers"]["consulcatalog"]["state"], "connected");
    assert_eq!(raw["providers"]["consulcatalog"]["servicesSeen"], 1);
    let metrics = proxy.admin("/metrics").text();
    for name in ["traefik_entrypoint_requests_total", "traefik_service_requests_total", "rust_lb_table_changes_total"] {
        assert!(metrics.contains(name), "{name} is missing:\n{metrics}");
    }
    let history = proxy.admin("/api/history").json().to_string();
    assert!(history.contains("x@consulcatalog"), "{history}");
}

#[test]
fn a_burst_of_registrations_arrives_whole() {
    let proxy = Proxy::start(&[]);
    let server = Server::start("many");
    for i in 0..100 {
        proxy.catalog.register_nomad(
            &format!("m{i}"),
            &format!("m{i}"),
            server.addr,
            &["traefik.enable=true", &format!("traefik.http.routers.m{i}.rule=Host(`m{i}.test`)")],
        );
    }
    for i in 0..100 {
        proxy.wait_for(&format!("m{i}.test"), "/", 200);
    }
    let connections = proxy.admin("/api/rawdata").json()["providers"]["nomad"]["connections"].as_u64();
    // one of them asks for the checks of allocations
    assert!(connections.is_some_and(|n| n <= 4), "{connections:?} connections to Nomad");
}

#[test]
fn a_catalog_wiped_while_the_proxy_was_away_keeps_the_routes() {
    let catalog = Catalog::start();
    let dir = Arc::new(tempfile::tempdir().expect("a folder"));
    let server = Server::start("x");
    let first = Proxy::over(catalog.clone(), dir.clone(), &[]);
    // The index has to be beyond what a fresh catalog begins with.
    for i in 0..50 {
        catalog.register("filler", "filler", server.addr, &["traefik.enable=true", &format!("n{i}")]);
        catalog.register_nomad("filler", "filler", server.addr, &["traefik.enable=true", &format!("n{i}")]);
    }
    catalog.register("x1", "x", server.addr, &["traefik.enable=true", "traefik.http.routers.x.rule=Host(`x.test`)"]);
    catalog.register_nomad(
        "y1",
        "y",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.y.rule=Host(`y.test`)"],
    );
    first.wait_for("x.test", "/", 200);
    first.wait_for("y.test", "/", 200);
    first.running.stop();
    catalog.wipe();
    let second = Proxy::over(catalog, dir, &["--rustLb.linger.for=0s"]);
    for provider in ["consulcatalog", "nomad"] {
        eventually("the removals are held and said so", || {
            let held = second.admin("/api/rawdata").json()["providers"][provider]["held"].clone();
            held.as_array().is_some_and(|held| held.len() == 2).then_some(())
        });
    }
    assert_eq!(second.get("x.test", "/").status, 200);
    assert_eq!(second.get("y.test", "/").status, 200);
}

#[test]
fn a_service_that_went_while_the_proxy_was_away_is_gone() {
    let catalog = Catalog::start();
    let dir = Arc::new(tempfile::tempdir().expect("a folder"));
    let server = Server::start("x");
    let first = Proxy::over(catalog.clone(), dir.clone(), &[]);
    catalog.register("x1", "x", server.addr, &["traefik.enable=true", "traefik.http.routers.x.rule=Host(`x.test`)"]);
    catalog.register_nomad(
        "y1",
        "y",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.y.rule=Host(`y.test`)"],
    );
    first.wait_for("x.test", "/", 200);
    first.wait_for("y.test", "/", 200);
    first.running.stop();
    catalog.deregister("x1");
    catalog.deregister_nomad("y", "y1");
    let second = Proxy::over(catalog, dir, &["--rustLb.linger.for=0s"]);
    second.wait_for("x.test", "/", 404);
    second.wait_for("y.test", "/", 404);
}
