//! Which server gets a request, and with what head.

use super::rig::*;
use rust_lb::http::{HeaderValue, Protocol, Reason};
use rust_lb::middleware::{REDIRECTION_PRIORITY, Redirection};
use rust_lb::proxy::{EntryPoint, Settings, ToTls, Trust};
use rust_lb::table::{MiddlewareKind, Strategy};
use std::sync::Arc;
use std::time::Duration;

fn to_https() -> Redirection {
    Redirection {
        scheme: "https".into(),
        port: "".into(),
        permanent: true,
        priority: REDIRECTION_PRIORITY,
        spares_acme: false,
    }
}

#[test]
fn host_and_path_choose_the_server() {
    let (a, b, deep) = (Server::named("a"), Server::named("b"), Server::named("deep"));
    let mut under = Route::to("deep", &[&deep.url()]);
    under.rule = "Host(`a.test`) && PathPrefix(`/deep`)".to_owned();
    let rig = Rig::start(&[Route::to("a.test", &[&a.url()]), Route::to("b.test", &[&b.url()]), under]);
    assert_eq!(rig.get("a.test", "/").text(), "a");
    assert_eq!(rig.get("B.test:8080", "/x").text(), "b");
    assert_eq!(rig.get("a.test", "/deep/er?q=1").text(), "deep");
    let unknown = rig.get("nobody.test", "/");
    assert_eq!((unknown.status, unknown.text()), (404, "404 page not found\n"));
    assert_eq!(unknown.header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(unknown.header("x-content-type-options").as_deref(), Some("nosniff"));
}

#[test]
fn a_record_says_what_happened() {
    let server = Server::answering(|_| "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello".to_owned());
    let rig = Rig::start(&[Route::to("a.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("POST /x?y=1 HTTP/1.1\r\nHost: a.test:81\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.response("POST").status, 201);
    let record = rig.record();
    assert_eq!(
        record,
        Record {
            router: Some("a.test@file".to_owned()),
            server: Some(server.url()),
            method: "POST".to_owned(),
            host: "a.test:81".to_owned(),
            target: "/x?y=1".to_owned(),
            protocol: Protocol::Http11,
            status: 201,
            origin_status: 201,
            reason: None,
            request_bytes: 3,
            response_bytes: 5,
            retries: 0,
        }
    );
    client.send("GET /n HTTP/1.1\r\nHost: n.test\r\n\r\n");
    assert_eq!(client.response("GET").status, 404);
    let record = rig.record();
    assert_eq!((record.router, record.status, record.reason), (None, 404, Some(Reason::NoRoute)));
    assert_eq!(record.response_bytes, 19);
}

#[test]
fn weights_are_kept_exactly() {
    let (a, b) = (Server::named("a"), Server::named("b"));
    let mut route = Route::to("a.test", &[]);
    route.servers = vec![(a.url(), 3), (b.url(), 1)];
    let rig = Rig::start(&[route]);
    let answers: String = (0..8).map(|_| rig.get("a.test", "/").text().to_owned()).collect();
    assert_eq!(answers.matches('a').count(), 6, "{answers}");
}

#[test]
fn weights_are_kept_over_several_workers() {
    let (a, b) = (Server::named("a"), Server::named("b"));
    let mut route = Route::to("a.test", &[]);
    route.servers = vec![(a.url(), 3), (b.url(), 1)];
    let rig = Start { workers: 4, ..Start::default() }.run(&[route]);
    let answers: String = (0..40).map(|_| rig.get("a.test", "/").text().to_owned()).collect();
    assert_eq!(answers.matches('a').count(), 30, "{answers}");
}

#[test]
fn ip_hash_keeps_a_client_with_its_server() {
    let (a, b) = (Server::named("a"), Server::named("b"));
    let mut route = Route::to("a.test", &[&a.url(), &b.url()]);
    route.strategy = Strategy::IpHash;
    let rig = Rig::start(&[route]);
    let first = rig.get("a.test", "/").text().to_owned();
    for _ in 0..5 {
        assert_eq!(rig.get("a.test", "/").text(), first);
    }
}

#[test]
fn an_untrusted_peer_is_not_believed() {
    let server = Server::echo();
    let settings = Settings { hostname: Some(HeaderValue::from_static("vm")), ..Settings::default() };
    let rig = Start { settings, ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: h.test\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Host: evil.test\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Server: s\r\nX-Forwarded-Uri: /u\r\n\
         X-Forwarded-Prefix: /p\r\nX-Forwarded-Tls-Client-Cert: c\r\nX-Real-Ip: 8.8.8.8\r\nX_Forwarded_For: 7.7.7.7\r\n\
         Forwarded: for=7.7.7.7\r\nVia: 1.0 x\r\nX-Forwarded-Ssl: on\r\nX-Scheme: https\r\n\r\n",
    );
    let got = client.response("GET");
    let got = got.text();
    for (name, expected) in [
        ("Host", Some("h.test")),
        ("X-Forwarded-For", Some("127.0.0.1")),
        ("X-Forwarded-Host", Some("h.test")),
        ("X-Forwarded-Proto", Some("http")),
        ("X-Forwarded-Port", Some("80")),
        ("X-Forwarded-Server", Some("vm")),
        ("X-Real-Ip", Some("127.0.0.1")),
        ("X-Forwarded-Uri", None),
        ("X-Forwarded-Prefix", None),
        ("X-Forwarded-Tls-Client-Cert", None),
        ("X_Forwarded_For", None),
        ("X-Scheme", None),
        ("Forwarded", Some("for=7.7.7.7")),
        ("Via", Some("1.0 x")),
        ("X-Forwarded-Ssl", Some("on")),
    ] {
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(fields(got, name), expected, "{name}");
    }
}

#[test]
fn a_trusted_peer_is_believed_and_completed() {
    let server = Server::echo();
    let networks = vec!["127.0.0.0/8".parse().expect("a network")];
    let entry = EntryPoint { trust: Trust { everybody: false, networks }, ..EntryPoint::new("web") };
    let rig = Start { entry, ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: h.test:8080\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\n\
         X-Forwarded-Proto: https\r\nX-Real-Ip: 8.8.8.8\r\nX-Forwarded-Uri: /u\r\n\
         Connection: X-Gone\r\nX-Gone: 1\r\n\r\n",
    );
    let got = client.response("GET");
    let got = got.text();
    for (name, expected) in [
        ("X-Forwarded-For", Some("1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1")),
        ("X-Forwarded-Proto", Some("https")),
        ("X-Forwarded-Port", Some("8080")),
        ("X-Forwarded-Host", Some("h.test:8080")),
        ("X-Real-Ip", Some("8.8.8.8")),
        ("X-Forwarded-Uri", Some("/u")),
        ("X-Gone", None),
        ("Connection", None),
    ] {
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(fields(got, name), expected, "{name}");
    }
}

#[test]
fn fields_of_one_hop_stay_on_it() {
    let server = Server::answering(|request| {
        format!(
            "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: x\r\n\
             X-Stay: 1\r\nContent-Length: {}\r\n\r\n{}",
            request.head.len(),
            request.head
        )
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: h.test\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 3\r\n\
         Proxy-Connection: x\r\nProxy-Authorization: secret\r\nTE: trailers, gzip\r\nUpgrade: h2c\r\nX-End: 1\r\n\r\n",
    );
    let response = client.response("GET");
    for name in ["Connection", "X-Mine", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Upgrade"] {
        assert_eq!(fields(response.text(), name), [""; 0], "{name}");
    }
    assert_eq!(fields(response.text(), "TE"), ["trailers"]);
    assert_eq!(fields(response.text(), "X-End"), ["1"]);
    for name in ["Connection", "X-Hop", "Keep-Alive", "Proxy-Authenticate"] {
        assert_eq!(response.all(name), [""; 0], "{name}");
    }
    assert_eq!(response.all("X-Stay"), ["1"]);
}

#[test]
fn the_host_is_passed_or_rewritten() {
    let server = Server::echo();
    let mut own = Route::to("own.test", &[&server.url()]);
    own.pass_host_header = false;
    let rig = Rig::start(&[own, Route::to("pass.test", &[&server.url()])]);
    assert_eq!(fields(rig.get("own.test", "/").text(), "Host"), [server.address.to_string()]);
    assert_eq!(fields(rig.get("pass.test:81", "/").text(), "Host"), ["pass.test:81"]);
    assert_eq!(fields(rig.get("own.test", "/").text(), "X-Forwarded-Host"), ["own.test"]);
}

#[test]
fn prefixes_are_cut_and_told() {
    let server = Server::echo();
    let strip = |prefix: &str| MiddlewareKind::StripPrefix { prefixes: vec![prefix.into()] };
    let mut route = Route::to("h.test", &[&server.url()]);
    route.middlewares = vec![strip("/a"), strip("/b"), MiddlewareKind::AddPrefix { prefix: "/new".into() }];
    let rig = Rig::start(&[route]);
    let got = rig.get("h.test", "/a/b/c?d=e");
    assert!(got.text().starts_with("GET /new/c?d=e HTTP/1.1\r\n"), "{}", got.text());
    assert_eq!(fields(got.text(), "X-Forwarded-Prefix"), ["/a", "/b"]);
    assert_eq!(rig.record().target, "/a/b/c?d=e");
}

#[test]
fn an_entry_point_redirects_all() {
    let redirect = Some(Redirection { port: "443".into(), ..to_https() });
    let entry = EntryPoint { redirect, ..EntryPoint::new("web") };
    let rig = Start { entry, ..Start::default() }.run(&[]);
    let moved = rig.get("any.test:80", "/p?q=1");
    assert_eq!((moved.status, moved.text()), (301, "Moved Permanently"));
    assert_eq!(moved.header("location").as_deref(), Some("https://any.test/p?q=1"));
    assert_eq!(rig.record().reason, Some(Reason::Redirect));
}

#[test]
fn security_headers_are_added_where_the_server_set_none() {
    let server =
        Server::answering(|_| "HTTP/1.1 200 OK\r\nX-Frame-Options: DENY\r\nContent-Length: 0\r\n\r\n".to_owned());
    let settings = Settings { security_headers: true, linger_wait: Duration::ZERO, ..Settings::default() };
    let rig = Start { settings, ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let answer = rig.get("h.test", "/");
    assert_eq!(answer.all("x-frame-options"), ["DENY"]);
    assert_eq!(answer.all("x-content-type-options"), ["nosniff"]);
    assert_eq!(answer.all("strict-transport-security"), [""; 0]);
    assert_eq!(rig.get("n.test", "/").all("x-frame-options"), ["SAMEORIGIN"]);
}

#[test]
fn hosts_that_belong_on_the_encrypted_entry_point_are_sent_there() {
    let server = Server::echo();
    let to_tls = ToTls {
        redirection: Redirection { port: "8443".into(), ..to_https() },
        certified: Arc::new(|host| host == "certified.test"),
    };
    let entry = EntryPoint { to_tls: Some(to_tls), ..EntryPoint::new("web") };
    let rig = Start { entry, ..Start::default() }
        .run(&[Route::to("certified.test", &[&server.url()]), Route::to("plain.test", &[&server.url()])]);
    for (host, location) in [
        ("Certified.test:80", Some("https://Certified.test:8443/a?b=c")),
        ("unknown.test", Some("https://unknown.test:8443/a?b=c")),
        ("plain.test", None),
    ] {
        let response = rig.get(host, "/a?b=c");
        assert_eq!(response.status, if location.is_some() { 301 } else { 200 }, "{host}");
        assert_eq!(response.header("location").as_deref(), location, "{host}");
    }
}
