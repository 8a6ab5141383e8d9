//! Users and passwords before a route: Traefik's `basicAuth` in tags and Fabio's `auth=` with schemes of
//! the configuration, over real sockets.

use super::support::client::{self, Answer};
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::server::Server;
use base64::Engine as _;
use std::path::PathBuf;

/// `myPassword`, by bcrypt with its least cost but one.
const BCRYPT: &str = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";
/// `secret`, by Apache's MD5.
const APR1: &str = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/";

fn basic(user: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {pair}\r\n")
}

fn ask(proxy: &Proxy, host: &str, headers: &str) -> Answer {
    client::send(proxy.web(), "GET", host, "/", headers, "")
}

fn file(dir: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("htpasswd");
    std::fs::write(&path, text).expect("written");
    path
}

#[test]
fn schemes_of_the_configuration_guard_fabios_routes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path =
        file(&dir, &format!("# team\nbob:{APR1}\neve:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\nmax:{BCRYPT}\npat:plain\n"));
    let scheme = format!("--rustLb.fabio.auth.team=type=basic;file={};realm=Team room;refresh=5s", path.display());
    let proxy = Proxy::start(&[&scheme]);
    let server = Server::start("x");
    proxy.catalog.register(
        "a",
        "a",
        server.addr,
        &["urlprefix-team.test/ auth=team", "urlprefix-none.test/ auth=nobody"],
    );
    let refused = proxy.wait_for("team.test", "/", 401);
    assert_eq!(refused.header("www-authenticate"), Some("Basic realm=\"Team room\""));
    for (user, password) in [("bob", "secret"), ("eve", "secret"), ("max", "myPassword"), ("pat", "plain")] {
        for _ in 0..2 {
            assert_eq!(ask(&proxy, "team.test", &basic(user, password)).status, 200, "{user}");
            // unlike in Fabio a failure carries a challenge, so that browsers ask again
            let wrong = ask(&proxy, "team.test", &basic(user, "wrong"));
            assert!(wrong.status == 401 && wrong.header("www-authenticate").is_some(), "{user}");
        }
    }
    assert_eq!(ask(&proxy, "team.test", &basic("nobody", "secret")).status, 401);
    // a hash is no password
    assert_eq!(ask(&proxy, "team.test", &basic("bob", APR1)).status, 401);
    // a scheme that nobody defines keeps its route closed
    assert_eq!(ask(&proxy, "none.test", &basic("bob", "secret")).status, 401);
    assert_eq!(server.requests(), 8, "what is refused reaches no server");

    std::fs::write(&path, format!("bob:{BCRYPT}\n")).expect("written");
    eventually("the new password counts", || {
        (ask(&proxy, "team.test", &basic("bob", "myPassword")).status == 200).then_some(())
    });
    assert_eq!(ask(&proxy, "team.test", &basic("bob", "secret")).status, 401, "the old one does not");
    std::fs::remove_file(&path).expect("removed");
    eventually("nobody is let in any more", || {
        (ask(&proxy, "team.test", &basic("bob", "myPassword")).status == 401).then_some(())
    });
    let problems = proxy.admin("/api/problems").text();
    assert!(problems.contains("nobody is let in"), "{problems}");
}

#[test]
fn traefiks_basic_auth_in_tags() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = file(&dir, &format!("max:{BCRYPT}\nraw:secret\n"));
    let proxy = Proxy::start(&[]);
    let server = Server::start("x");
    let users = format!("traefik.http.middlewares.m.basicauth.users=alice:{APR1}");
    let users_file = format!("traefik.http.middlewares.m.basicauth.usersFile={}", path.display());
    proxy.catalog.register(
        "a",
        "a",
        server.addr,
        &[
            "traefik.enable=true",
            "traefik.http.routers.r.rule=Host(`a.test`)",
            "traefik.http.routers.r.middlewares=m",
            &users,
            &users_file,
            "traefik.http.middlewares.m.basicauth.headerField=X-User",
            "traefik.http.middlewares.m.basicauth.removeHeader=true",
        ],
    );
    let refused = proxy.wait_for("a.test", "/", 401);
    assert_eq!(
        (refused.header("www-authenticate"), refused.text().as_str()),
        (Some("Basic realm=\"traefik\""), "401 Unauthorized\n")
    );
    let answer = ask(&proxy, "a.test", &format!("{}X-User: spoof\r\n", basic("alice", "secret"))).text();
    let saw = answer.to_ascii_lowercase();
    assert!(saw.contains("x-user: alice\r\n") && !saw.contains("spoof") && !saw.contains("authorization"), "{answer}");
    eventually("the file is read", || (ask(&proxy, "a.test", &basic("max", "myPassword")).status == 200).then_some(()));
    assert_eq!(ask(&proxy, "a.test", &basic("raw", "secret")).status, 401, "only Fabio takes plain texts");

    for path in ["/api/rawdata", "/api/http/middlewares", "/api/problems", "/api/http/middlewares/m@consulcatalog"] {
        let text = proxy.admin(path).text();
        assert!(!text.contains("h9FWgUz3n9YxylKLlR5SQ") && !text.contains("c4WoMPo3SXsafkva"), "{path}: {text}");
    }
}

#[test]
fn an_allow_list_in_tags_asks_for_the_peer() {
    let proxy = Proxy::start(&["--entryPoints.web.forwardedHeaders.insecure=true"]);
    let server = Server::start("x");
    let tags = |host: &str, range: &str| {
        [
            "traefik.enable=true".to_owned(),
            format!("traefik.http.routers.{host}.rule=Host(`{host}.test`)"),
            format!("traefik.http.routers.{host}.middlewares={host}"),
            format!("traefik.http.middlewares.{host}.ipallowlist.sourcerange={range}"),
        ]
    };
    for (host, range) in [("in", "10.0.0.0/8, 127.0.0.1"), ("out", "10.0.0.0/8")] {
        let tags = tags(host, range);
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        proxy.catalog.register(host, host, server.addr, &tags);
    }
    proxy.wait_for("in.test", "/", 200);
    let refused = proxy.wait_for("out.test", "/", 403);
    assert_eq!(refused.text(), "Forbidden");
    assert_eq!(ask(&proxy, "out.test", "X-Forwarded-For: 10.0.0.1\r\n").status, 403);
}

#[test]
fn fabios_settings_come_from_the_configuration() {
    let flags = [
        "--rustLb.legacyTags.matcher=iprefix",
        "--rustLb.legacyTags.serviceStatus=passing,warning",
        "--rustLb.legacyTags.globDisabled=true",
        "--providers.nomad.legacyTags.matcher=glob",
    ];
    let proxy = Proxy::start(&flags);
    let server = Server::start("x");
    proxy.catalog.register("a", "a", server.addr, &["urlprefix-case.test/App", "urlprefix-*.glob.test/"]);
    proxy.catalog.register_nomad("b", "b", server.addr, &["urlprefix-glob.test/a*z"]);
    proxy.wait_for("case.test", "/aPP/x", 200);
    proxy.wait_for("glob.test", "/abcz", 200);
    assert_eq!(proxy.get("glob.test", "/abc").status, 404, "the whole path has to fit");
    assert_eq!(proxy.get("x.glob.test", "/").status, 404);
    assert!(proxy.admin("/api/problems").text().contains("host globs are disabled"));
}
