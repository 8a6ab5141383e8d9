//! `rust-lb explain` of a running instance, as somebody who has just registered a service would ask it.

use super::super::support::client;
use super::super::support::eventually;
use super::super::support::proxy::Proxy;
use super::super::support::server::Server;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Asks the instance; gives the exit code and what was printed.
fn ask(proxy: &Proxy, words: &[&str]) -> (u8, String) {
    let admin = format!("http://{}", proxy.entry_point("traefik"));
    let words: Vec<&str> = words.iter().copied().chain(["--admin", &admin]).collect();
    let (code, out, err) = super::run(&words, "");
    assert!(err.is_empty(), "{err}");
    (code, out)
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}

/// Registers at Consul with a check of this state.
fn register_checked(proxy: &Proxy, name: &str, addr: SocketAddr, status: &str, tags: &[&str]) {
    let body = json!({"ID": name, "Name": name, "Address": addr.ip().to_string(), "Port": addr.port(), "Tags": tags,
        "Check": {"CheckID": format!("{name}-check"), "TTL": "1h", "Status": status}});
    let path = "/v1/agent/service/register";
    assert_eq!(client::send(proxy.catalog.consul(), "PUT", "c", path, "", &body.to_string()).status, 200);
}

/// Waits until the last service that was registered is routed, so that those before it are known.
fn settled(proxy: &Proxy, server: &Server) {
    proxy.catalog.register("last", "last", server.addr, &["urlprefix-last.test/"]);
    proxy.wait_for("last.test", "/", 200);
}

#[test]
fn a_request_is_followed_to_its_server() {
    let proxy = Proxy::start(&[]);
    let server = Server::start("x");
    proxy.catalog.register("x", "x", server.addr, &["urlprefix-x.test/app strip=/app"]);
    proxy.wait_for("x.test", "/app", 200);
    let (code, out) = ask(&proxy, &["http://x.test/app/1?a=b", "--from", "192.0.2.7"]);
    assert_eq!(code, 0, "{out}");
    let to = format!("proxied to http://{} as `/1?a=b`, Host `x.test`", server.addr);
    contains(&out, &["takes it fb-x-test--app", "`/app/1?a=b` becomes `/1?a=b`", "up, 0 in flight", &to]);
    let (_, out) = ask(&proxy, &["http://x.test:1/app"]);
    contains(&out, &["no entry point listens on port 1"]);
}

#[test]
fn every_cause_of_a_404_is_told() {
    let proxy = Proxy::start(&[]);
    let server = Server::start("x");
    let rule = |name: &str| format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)");
    let register = |name: &str, tags: &[&str]| {
        let own = rule(name);
        let tags: Vec<&str> = ["traefik.enable=true", &own].into_iter().chain(tags.iter().copied()).collect();
        proxy.catalog.register(name, name, server.addr, &tags);
    };
    register("right", &[]);
    register("typo", &["traefik.http.routers.typo.priotity=7"]);
    register("door", &["traefik.http.routers.door.entrypoints=wbe"]);
    register("guarded", &["traefik.http.routers.guarded.middlewares=nope"]);
    register("both", &["urlprefix-old.test/"]);
    register("secure", &["traefik.http.routers.secure.tls=true"]);
    proxy.catalog.register(
        "syntax",
        "syntax",
        server.addr,
        &["traefik.enable=true", "traefik.http.routers.syntax.rule=Host(`syntax.test`"],
    );
    proxy.catalog.register("hidden", "hidden", server.addr, &[&rule("hidden")]);
    proxy.catalog.register("off", "off", server.addr, &["traefik.enable=flase", &rule("off")]);
    register_checked(&proxy, "sick", server.addr, "critical", &["traefik.enable=true", &rule("sick")]);
    settled(&proxy, &server);
    for (url, parts) in [
        ("http://rihgt.test/", &["near     right@consulcatalog", "^^^^^^^^^^^^^^^^^^ the host is `rihgt.test`"][..]),
        ("http://www.right.test/", &["near     right@consulcatalog"]),
        (
            "http://typo.test/",
            &["so router `typo` is refused", "|                           ^^^^^^^^\n", "did you mean `priority`?"],
        ),
        ("http://door.test/", &["names the entry point `wbe`; there are `web`, `websecure`", " ^^^\n"]),
        ("http://guarded.test/", &["its rule holds, but it is refused", "names the middleware `nope`, which does not"]),
        ("http://old.test/", &["both@consulcatalog", "warning[legacy_ignored]", "`legacyTags` is `fallback`"]),
        ("http://secure.test/", &["its rule holds, but it answers TLS connections only"]),
        ("http://syntax.test/", &["error[bad_rule]", "expected `,` or `)`, found the end", " ^\n"]),
        (
            "http://hidden.test/",
            &["it is not exposed: it has no tag `traefik.enable=true`", "explain --service hidden"],
        ),
        ("http://off.test/", &["expected `true` or `false`, got `flase`, so the service is not exposed", " ^^^^^\n"]),
        ("http://sick.test/", &["no instance of it (of 1) is healthy: the catalog says `critical`"]),
    ] {
        let (code, out) = ask(&proxy, &[url]);
        assert_eq!(code, 1, "{url}: {out}");
        contains(&out, parts);
        contains(&out, &["answer 404: no router takes it [no_route]"]);
    }
    // a host that is nothing like any
    let (_, out) = ask(&proxy, &["http://elsewhere.invalid/"]);
    assert!(!out.contains("near "), "{out}");
}

#[test]
fn what_became_of_a_service_is_told_tag_by_tag() {
    let proxy = Proxy::start(&[]);
    let server = Server::start("x");
    let tags = [
        "traefik.enable=true",
        "traefik.http.routers.good.rule=Host(`good.test`) && PathPrefix(`/a`)",
        "traefik.http.routers.bad.rule=Host(`bad.test`)",
        "traefik.http.routers.bad.entrypoints=wbe",
        "traefik.http.routers.late.rule=Host(`good.test`) && PathPrefix(`/a`)",
        "traefik.http.routers.low.rule=Host(`good.test`) && PathPrefix(`/a/b`)",
        "traefik.http.routers.low.priority=1",
        "version=7",
    ];
    proxy.catalog.register("shop-1", "shop", server.addr, &tags);
    register_checked(&proxy, "sick", server.addr, "critical", &["urlprefix-sick.test/"]);
    let wild = ["traefik.enable=true", "traefik.http.routers.wild.rule=Host(`*.wild.test`)"];
    proxy.catalog.register("wild", "wild", server.addr, &wild);
    proxy.catalog.register("empty", "empty", server.addr, &["traefik.enable=false", "urlprefix-empty.test/"]);
    settled(&proxy, &server);
    let (code, out) = ask(&proxy, &["--service", "shop"]);
    assert_eq!(code, 0, "{out}");
    let port = proxy.web().port();
    let example = format!("try http://good.test:{port}/a\n");
    contains(
        &out,
        &[
            &format!("instance shop-1 at {}, passing", server.addr),
            "refused  tag traefik.http.routers.bad.entrypoints=wbe",
            "                                      ^^^\n",
            "-        tag version=7",
            "router good@consulcatalog on `web`, `websecure` (priority 37)",
            &example,
            "late@consulcatalog",
            "shadowed, it gets nothing: its requests go to good@consulcatalog (service `shop`), which has the same rule",
            "served: a request such as this example goes to good@consulcatalog (service `shop`), which has priority 37 (this one has 1)",
        ],
    );
    for (name, parts) in [
        (
            "sick",
            &["sick-check", "nothing routes to this service", "`legacyTags.serviceStatus` asks for `passing`"][1..],
        ),
        ("empty", &["`traefik.enable=false` switches the service off", "ignored  tag urlprefix-empty.test/"]),
        ("shpo", &["no catalog has a service `shpo`", "did you mean shop@consulcatalog?"]),
    ] {
        let (code, out) = ask(&proxy, &["--service", name]);
        assert_eq!(code, 1, "{name}: {out}");
        contains(&out, parts);
    }
}

#[test]
fn rivals_of_two_catalogs_and_a_catalog_that_is_down_are_told() {
    let proxy = Proxy::start(&[]);
    let server = Server::start("x");
    let tags = ["traefik.enable=true", "traefik.http.routers.x.rule=Host(`x.test`)"];
    proxy.catalog.register("c1", "x", server.addr, &tags);
    proxy.catalog.register_nomad("n1", "x", server.addr, &tags);
    eventually("both are known", || {
        let routers = proxy.admin("/api/rawdata").json();
        routers["routers"].as_object().is_some_and(|all| all.len() == 2).then_some(())
    });
    let (code, out) = ask(&proxy, &["http://x.test/"]);
    assert_eq!(code, 0, "{out}");
    let why = "the same priority, and `nomad` is the primary catalog";
    contains(&out, &["takes it x@nomad", "behind   x@consulcatalog", "gets nothing: its requests go to x@nomad", why]);
    let (_, out) = ask(&proxy, &["--service", "x"]);
    contains(
        &out,
        &["service x@nomad in namespace `default`", "service x@consulcatalog", "shadowed, it gets nothing", why],
    );

    proxy.catalog.stop();
    eventually("the catalogs are known to be down", || {
        let health = proxy.admin("/health").json();
        health["reasons"].as_array().is_some_and(|all| all.len() == 2).then_some(())
    });
    let (code, out) = ask(&proxy, &["http://x.test/"]);
    assert_eq!(code, 0, "what was good last is served: {out}");
    contains(
        &out,
        &["`nomad` at http://", "does not answer", "its services are those of its last answer, ", " s ago: changes"],
    );
}

#[test]
fn the_api_gives_what_the_command_prints() {
    let proxy = Proxy::start(&[]);
    let server = Server::start("x");
    let tags = ["traefik.enable=true", "traefik.http.routers.x.rule=Host(`x.test`) && Header(`X-Env`, `prod`)"];
    proxy.catalog.register("x", "x", server.addr, &tags);
    let without = eventually("the service is known", || {
        let told = proxy.admin("/api/explain?url=http%3A%2F%2Fx.test%2Fa").json();
        told["routers"][0]["router"].is_string().then_some(told)
    });
    assert_eq!((&without["outcome"], &without["reason"]), (&json!("no_route"), &json!("no_route")));
    assert_eq!(without["routers"][0]["failures"][0]["why"], "there is no header `X-Env`");
    let with = proxy.admin("/api/explain?method=POST&url=http%3A%2F%2Fx.test%2Fa&header=X-Env:prod").json();
    assert_eq!((&with["outcome"], &with["request"]["method"]), (&json!("proxied"), &json!("POST")));

    let admin = proxy.entry_point("traefik");
    let post = |body: &str| client::send(admin, "POST", "127.0.0.1", "/api/explain", "", body);
    let asked = json!({"method": "POST", "url": "http://x.test/a", "headers": [["X-Env", "prod"]]}).to_string();
    let answer: Value = post(&asked).json();
    assert_eq!(answer["outcome"], "proxied");
    let (_, printed) = ask(&proxy, &["POST", "http://x.test/a", "-H", "X-Env: prod", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), answer);
    let (_, printed) = ask(&proxy, &["--service", "x", "--json"]);
    let service = proxy.admin("/api/explain?service=x").json();
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), service);

    let long = format!("http://x.test/{}", "a".repeat(9_000));
    for (body, status) in [
        ("", 400),
        ("[]", 400),
        (r#"{"ulr":"http://x.test/"}"#, 400),
        (r#"{"url":"ftp://x.test/"}"#, 400),
        (&json!({"url": long}).to_string(), 400),
        (&json!({"url": "http://x/", "headers": vec![["a", "b"]; 101]}).to_string(), 400),
        (&json!({"service": "a".repeat(70_000)}).to_string(), 413),
    ] {
        let answer = post(body);
        assert_eq!(answer.status, status, "{}: {}", &body[..body.len().min(60)], answer.text());
        assert!(answer.json()["message"].is_string(), "{}", answer.text());
    }
    assert_eq!(proxy.admin("/api/explain").status, 400);
    assert_eq!(client::send(admin, "PUT", "127.0.0.1", "/api/explain", "", "{}").status, 405);
    let foreign = client::send(admin, "POST", "127.0.0.1", "/api/explain", "Origin: http://evil.example\r\n", &asked);
    assert_eq!(foreign.status, 403, "a page of another site asks");
    assert_eq!(client::get(admin, "evil.example", "/api/explain?url=http://x.test/").status, 403);
}

#[test]
fn asking_changes_nothing() {
    let proxy = Proxy::start(&[]);
    let (a, b) = (Server::start("a"), Server::start("b"));
    proxy.catalog.register("a", "two", a.addr, &["urlprefix-two.test/"]);
    proxy.catalog.register("b", "two", b.addr, &["urlprefix-two.test/"]);
    eventually("both servers are known", || {
        let told = proxy.admin("/api/explain?url=http://two.test/").json();
        told["backend"]["servers"].as_array().is_some_and(|all| all.len() == 2).then_some(())
    });
    let chosen = || {
        let told = proxy.admin("/api/explain?url=http://two.test/").json();
        told["upstream"]["addr"].as_str().unwrap_or_default().to_owned()
    };
    for _ in 0..4 {
        let said = chosen();
        assert_eq!(said, chosen(), "the turn does not move by asking");
        let answer = proxy.get("two.test", "/").text();
        let by = if answer.starts_with("a\n") { a.addr } else { b.addr };
        assert_eq!(said, by.to_string(), "the request goes where it was said to go");
    }
}
