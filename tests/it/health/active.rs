//! `healthCheck`: who gets requests by its verdict, and what is asked.

use super::backend::{Backend, Says};
use super::{Rig, often, over};
use crate::support::proxy::{Catalog, Proxy};
use crate::support::traffic::Traffic;
use crate::support::{client, eventually};
use serde_json::json;
use std::sync::Arc;

#[test]
fn an_unhealthy_server_gets_no_requests_and_comes_back() {
    let (a, b) = (Backend::start("a", Says::Status(200)), Backend::start("b", Says::Status(204)));
    let rig = Rig::start(&[]);
    let service = over(&[a.addr, b.addr], often(json!({})));
    rig.put_and_see(&[("web", service)]);
    rig.wait("web", a.addr, "UP");
    rig.wait("web", b.addr, "UP");
    assert_eq!(rig.who("web", 8), ["a", "b"]);
    a.say(Says::Status(500));
    rig.wait("web", a.addr, "DOWN");
    assert_eq!(rig.why("web", a.addr), "its health check fails: status 500");
    let before = a.requests();
    assert_eq!(rig.who("web", 8), ["b"]);
    assert_eq!(a.requests(), before);
    assert_eq!(rig.problem("no_healthy_server"), None);
    a.say(Says::Status(399));
    rig.wait("web", a.addr, "UP");
    assert_eq!(rig.who("web", 8), ["a", "b"]);
}

#[test]
fn where_none_is_healthy_all_are_served_and_a_problem_tells() {
    let (a, b) = (Backend::start("a", Says::Status(500)), Backend::start("b", Says::Status(404)));
    let rig = Rig::start(&[]);
    rig.put_and_see(&[("web", over(&[a.addr, b.addr], often(json!({}))))]);
    assert_eq!(rig.who("web", 8), ["a", "b"]);
    let problem = eventually("the problem", || rig.problem("no_healthy_server"));
    assert!(problem.starts_with("service `web@rest` has no healthy server of 2: `http://127.0.0.1:"), "{problem}");
    b.say(Says::Status(200));
    rig.wait("web", b.addr, "UP");
    assert_eq!(rig.problem("no_healthy_server"), None);
    assert_eq!(rig.who("web", 8), ["b"]);
}

#[test]
fn below_the_panic_threshold_all_are_served() {
    let servers: Vec<Backend> =
        ["a", "b", "c"].into_iter().map(|name| Backend::start(name, Says::Status(200))).collect();
    let rig = Rig::start(&["--rustLb.panicThreshold=50"]);
    let addrs: Vec<_> = servers.iter().map(|server| server.addr).collect();
    rig.put_and_see(&[("web", over(&addrs, often(json!({}))))]);
    servers[0].say(Says::Status(500));
    rig.wait("web", addrs[0], "DOWN");
    eventually("the others are up", || (rig.who("web", 6) == ["b", "c"]).then_some(()));
    servers[1].say(Says::Status(500));
    rig.wait("web", addrs[1], "DOWN");
    assert_eq!(rig.who("web", 9), ["a", "b", "c"]);
    servers[1].say(Says::Status(200));
    rig.wait("web", addrs[1], "UP");
    assert_eq!(rig.who("web", 6), ["b", "c"]);
}

#[test]
fn a_new_server_gets_requests_after_its_first_check() {
    let (old, new) = (Backend::start("old", Says::Status(200)), Backend::start("new", Says::Nothing));
    let rig = Rig::start(&[]);
    rig.put_and_see(&[("web", over(&[old.addr], often(json!({}))))]);
    rig.wait("web", old.addr, "UP");
    rig.put_and_see(&[("web", over(&[old.addr, new.addr], often(json!({}))))]);
    eventually("the check has come", || (new.checks().len() == 1).then_some(()));
    assert_eq!(rig.status("web", new.addr).as_deref(), Some("DOWN"));
    assert_eq!(rig.why("web", new.addr), "its first health check has not ended yet");
    assert_eq!(rig.who("web", 10), ["old"]);
    assert_eq!(new.requests(), 0);
    new.say(Says::Status(200));
    rig.wait("web", new.addr, "UP");
    assert_eq!(rig.who("web", 8), ["new", "old"]);
}

#[test]
fn requests_wait_for_the_first_check() {
    let server = Backend::start("only", Says::Nothing);
    let rig = Rig::start(&["--rustLb.linger.wait=1h"]);
    let web = rig.proxy.web();
    rig.put_and_see(&[("web", over(&[server.addr], often(json!({}))))]);
    std::thread::scope(|scope| {
        let request = scope.spawn(|| client::get(web, "web.test", "/"));
        eventually("the check has come", || (server.checks().len() == 1).then_some(()));
        server.say(Says::Status(200));
        assert_eq!(request.join().expect("an answer").text(), "only");
    });
    assert_eq!(server.order()[0], "check");
}

#[test]
fn a_server_that_nobody_judged_gets_nothing_when_the_wait_ends() {
    let server = Backend::start("only", Says::Nothing);
    let rig = Rig::start(&["--rustLb.linger.wait=50ms"]);
    rig.put_and_see(&[("web", over(&[server.addr], often(json!({}))))]);
    let answer = rig.get("web");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_check_asks_as_it_is_told() {
    let (server, asked) = (Backend::start("web", Says::Status(404)), Backend::start("asked", Says::Status(418)));
    let rig = Rig::start(&[]);
    let check = often(json!({
        "path": "health?deep=1", "method": "PURGE", "status": 418, "port": asked.addr.port(), "hostname": "inner.test",
        "headers": {"X-Probe": "yes", "User-Agent": "me"},
    }));
    rig.put_and_see(&[("web", over(&[server.addr], check))]);
    rig.wait("web", server.addr, "UP");
    let head = asked.checks()[0].to_ascii_lowercase();
    assert!(head.starts_with("purge /health?deep=1 http/1.1\r\n"), "{head}");
    for line in ["host: inner.test\r\n", "x-probe: yes\r\n", "user-agent: me\r\n", "connection: close\r\n"] {
        assert_eq!(head.matches(line).count(), 1, "{line} {head}");
    }
    assert_eq!(head.matches("user-agent").count(), 1, "{head}");
    assert!(server.checks().is_empty());
    let shown = rig.service("web").expect("it is there")["loadBalancer"]["healthCheck"].clone();
    assert_eq!((&shown["hostname"], &shown["headers"]["X-Probe"]), (&json!("inner.test"), &json!("***")));
    asked.say(Says::Status(200));
    rig.wait("web", server.addr, "DOWN");
    assert_eq!(rig.why("web", server.addr), "its health check fails: status 200, expected 418");
}

#[test]
fn redirects_are_followed_or_not() {
    let fine = Backend::start("fine", Says::Status(200));
    let target = format!("http://{}/health/there", fine.addr);
    let (one, two) = (Backend::start("1", Says::Redirect(target.clone())), Backend::start("2", Says::Redirect(target)));
    let round = Backend::start("round", Says::Redirect("/health".to_owned()));
    let nowhere = Backend::start("nowhere", Says::Redirect("gopher://x/".to_owned()));
    let rig = Rig::start(&[]);
    let secret = json!({"status": 200, "headers": {"Authorization": "secret"}, "hostname": "one.inner"});
    rig.put_and_see(&[
        ("one", over(&[one.addr], often(secret))),
        ("two", over(&[two.addr], often(json!({"status": 200, "followRedirects": false})))),
        ("round", over(&[round.addr], often(json!({})))),
        ("nowhere", over(&[nowhere.addr], often(json!({})))),
    ]);
    rig.wait("one", one.addr, "UP");
    let why = "its health check fails: status 302, expected 200";
    eventually(why, || (rig.why("two", two.addr) == why).then_some(()));
    for (name, server, why) in [
        ("round", round.addr, "more than 10 redirects"),
        ("nowhere", nowhere.addr, "a redirect to a place that cannot be asked"),
    ] {
        eventually(why, || (rig.why(name, server) == format!("its health check fails: {why}")).then_some(()));
        rig.wait(name, server, "DOWN");
    }
    assert!(one.checks()[0].contains("authorization: secret"), "{:?}", one.checks()[0]);
    // 127.0.0.1 is the server's own host, whatever the port
    assert!(fine.checks()[0].starts_with("GET /health/there HTTP/1.1\r\n"), "{:?}", fine.checks()[0]);
    let head = fine.checks()[0].to_ascii_lowercase();
    assert!(head.contains("authorization: secret") && head.contains(&format!("host: {}\r\n", fine.addr)), "{head}");
}

#[test]
fn servers_that_hang_or_never_end_cost_a_bounded_check() {
    let hangs = Backend::start("hangs", Says::Nothing);
    let half = Backend::start("half", Says::Bytes(b"HTTP/1.1 200 O".to_vec()));
    let endless = Backend::start("endless", Says::Endless);
    let mut giant = b"HTTP/1.1 200 OK\r\n".to_vec();
    giant.extend(format!("X-Fill: {}\r\n", "x".repeat(1_000)).repeat(2_000).bytes());
    let giant = Backend::start("giant", Says::Bytes(giant));
    let garbage = Backend::start("garbage", Says::Bytes(b"SSH-2.0-x\r\n\r\n".to_vec()));
    let rig = Rig::start(&[]);
    rig.put_and_see(&[
        ("hangs", over(&[hangs.addr], often(json!({"timeout": "100ms"})))),
        ("half", over(&[half.addr], often(json!({"timeout": "100ms"})))),
        ("endless", over(&[endless.addr], often(json!({})))),
        ("giant", over(&[giant.addr], often(json!({})))),
        ("garbage", over(&[garbage.addr], often(json!({})))),
    ]);
    rig.wait("endless", endless.addr, "UP");
    for (name, server, why) in [
        ("hangs", hangs.addr, "no answer within 100ms"),
        ("half", half.addr, "no answer within 100ms"),
        ("giant", giant.addr, "no answer over HTTP"),
        ("garbage", garbage.addr, "no answer over HTTP"),
    ] {
        rig.wait(name, server, "DOWN");
        eventually(name, || rig.why(name, server).contains(why).then_some(()));
    }
}

#[test]
fn a_change_of_the_table_leaves_other_checks_alone() {
    let (a, b) = (Backend::start("a", Says::Status(200)), Backend::start("b", Says::Status(200)));
    let rig = Rig::start(&[]);
    let rarely = || often(json!({"interval": "1h"}));
    rig.put_and_see(&[("web", over(&[a.addr], rarely()))]);
    rig.wait("web", a.addr, "UP");
    a.say(Says::Status(500));
    for round in 0..5 {
        // another server, another service, another option of the service
        let mut service = over(&[a.addr, b.addr], rarely());
        service["passHostHeader"] = json!(round % 2 == 0);
        rig.put_and_see(&[("web", service), (&format!("other{round}"), over(&[b.addr], json!({})))]);
        rig.wait("web", b.addr, "UP");
        assert_eq!(rig.status("web", a.addr).as_deref(), Some("UP"));
    }
    assert_eq!((a.checks().len(), b.checks().len()), (1, 1));
    // Another check is another thing; until it has ended the server stays what it was.
    a.say(Says::Nothing);
    rig.put_and_see(&[("web", over(&[a.addr], often(json!({"interval": "2h"}))))]);
    eventually("the new check has come", || (a.checks().len() == 2).then_some(()));
    assert_eq!(rig.status("web", a.addr).as_deref(), Some("UP"));
    assert_eq!(rig.who("web", 2), ["a"]);
    a.say(Says::Status(500));
    rig.wait("web", a.addr, "DOWN");
}

#[test]
fn a_check_of_what_went_is_broken_off() {
    let server = Backend::start("web", Says::Nothing);
    let rig = Rig::start(&[]);
    rig.put_and_see(&[("web", over(&[server.addr], often(json!({"timeout": "1h"}))))]);
    eventually("the check has come", || (server.checks().len() == 1).then_some(()));
    // without its check the server is as good as any
    rig.put(&[("web", over(&[server.addr], json!({})))]);
    eventually("the check is broken off", || (server.gone() == 1).then_some(()));
    assert_eq!(rig.who("web", 2), ["web"]);
    rig.wait("web", server.addr, "UP");
}

#[test]
fn a_server_that_flaps_costs_no_request() {
    let (flaps, other) = (Backend::start("flaps", Says::InTurn), Backend::start("other", Says::Status(200)));
    let rig = Rig::start(&[]);
    rig.put_and_see(&[("web", over(&[flaps.addr, other.addr], often(json!({}))))]);
    let traffic = Traffic::start(rig.proxy.web(), "web.test");
    eventually("it has turned often", || (flaps.checks().len() > 20).then_some(()));
    traffic.pass(50);
    traffic.finish();
    flaps.say(Says::Status(200));
    rig.wait("web", flaps.addr, "UP");
    assert_eq!(rig.who("web", 8), ["flaps", "other"]);
}

#[test]
fn a_check_that_cannot_work_is_told_and_its_servers_are_used() {
    let server = Backend::start("web", Says::Status(200));
    let rig = Rig::start(&[]);
    let bad = often(json!({"path": "http://elsewhere/", "status": 9999}));
    rig.put_and_see(&[("web", over(&[server.addr], bad))]);
    let problem = eventually("the problem", || rig.problem("bad_health_check"));
    assert!(problem.starts_with("service `web`: its health is not checked: "), "{problem}");
    assert_eq!(rig.who("web", 2), ["web"]);
    assert!(server.checks().is_empty());
}

#[test]
fn tags_declare_checks() {
    let server = Backend::start("web", Says::Status(200));
    let rig = Rig::start(&[]);
    rig.proxy.catalog.register(
        "w1",
        "web",
        server.addr,
        &[
            "traefik.enable=true",
            "traefik.http.routers.web.rule=Host(`web.test`)",
            "traefik.http.services.web.loadbalancer.healthcheck.path=/health",
            "traefik.http.services.web.loadbalancer.healthcheck.interval=1h",
        ],
    );
    rig.proxy.wait_for("web.test", "/", 200);
    assert_eq!(server.order()[..2], ["check", "request"]);
    assert_eq!(rig.problem("not_served"), None);
    // the state on disk holds the check, so that another start asks first, too
    let answer = client::get(rig.proxy.entry_point("traefik"), "127.0.0.1", "/api/http/services/web@consulcatalog");
    assert_eq!(answer.json()["loadBalancer"]["healthCheck"]["path"], "/health");
}

#[test]
fn a_restored_server_gets_requests_after_its_check() {
    let server = Backend::start("web", Says::Status(200));
    let (catalog, dir) = (Catalog::start(), Arc::new(tempfile::tempdir().expect("a folder")));
    let proxy = Proxy::over(catalog.clone(), dir.clone(), &[]);
    catalog.register(
        "w1",
        "web",
        server.addr,
        &[
            "traefik.enable=true",
            "traefik.http.routers.web.rule=Host(`web.test`)",
            "traefik.http.services.web.loadbalancer.healthcheck.path=/health",
        ],
    );
    proxy.wait_for("web.test", "/", 200);
    proxy.running.stop();
    catalog.stop();
    server.say(Says::Nothing);
    let (checks, requests) = (server.checks().len(), server.requests());
    let proxy = Proxy::over(catalog, dir, &["--rustLb.linger.wait=1h"]);
    let web = proxy.web();
    std::thread::scope(|scope| {
        let request = scope.spawn(move || client::get(web, "web.test", "/"));
        eventually("the check has come", || (server.checks().len() == checks + 1).then_some(()));
        assert_eq!(server.requests(), requests);
        server.say(Says::Status(200));
        assert_eq!(request.join().expect("an answer").text(), "web");
    });
}
