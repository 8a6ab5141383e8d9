//! What options of an entry point do to requests and connections.

use super::rig::*;
use rust_lb::http::target::{EncodedCharacters, TargetOptions};
use rust_lb::middleware::{REDIRECTION_PRIORITY, Redirection};
use rust_lb::proxy::{EntryPoint, HeadRules, Trust, Underscores};
use std::io::Write;
use std::time::Duration;

fn web(change: impl FnOnce(&mut EntryPoint)) -> Start {
    let mut entry = EntryPoint::new("web");
    change(&mut entry);
    Start { entry, ..Start::default() }
}

fn loopback() -> Trust {
    Trust { everybody: false, networks: vec!["127.0.0.0/8".parse().unwrap()] }
}

#[test]
fn encoded_characters_are_refused_where_a_router_takes_the_request() {
    let server = Server::echo();
    let refusing = EncodedCharacters { slash: false, hash: false, ..EncodedCharacters::default() };
    let rules = HeadRules { encoded_characters: refusing, ..HeadRules::default() };
    let rig = web(|entry| entry.head = rules).run(&[Route::to("a.test", &[&server.url()])]);
    for path in ["/a%2Fb", "/a%2fb", "/x?y=1#", "/%23"] {
        let answer = rig.get("a.test", path);
        let expected = if path.contains('?') { 200 } else { 400 };
        assert_eq!(answer.status, expected, "{path}");
    }
    let refused = rig.get("a.test", "/a%2Fb");
    assert_eq!((refused.text(), refused.header("content-length").as_deref()), ("", Some("0")));
    assert_eq!(rig.get("a.test", "/a%3Bb").status, 200);
    assert_eq!(rig.get("b.test", "/a%2Fb").status, 404);
}

#[test]
fn paths_and_queries_go_on_as_the_entry_point_says() {
    let server = Server::echo();
    let target = TargetOptions { sanitize_path: false, encode_query_semicolons: true };
    let rig = web(|entry| entry.head = HeadRules { target, ..HeadRules::default() })
        .run(&[Route::to("a.test", &[&server.url()])]);
    for (sent, seen) in [("/a//b/../c", "GET /a//b/../c HTTP"), ("/?a;b", "GET /?a%3Bb HTTP")] {
        let answer = rig.get("a.test", sent);
        assert!(answer.text().starts_with(seen), "{}", answer.text());
    }
}

#[test]
fn fields_with_underscores_are_taken_off_or_refused() {
    let server = Server::echo();
    let start = |underscores| {
        web(|entry| entry.head = HeadRules { underscores, ..HeadRules::default() })
            .run(&[Route::to("a.test", &[&server.url()])])
    };
    let ask = |rig: &Rig| {
        let mut client = rig.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX_A: 1\r\nX-B: 2\r\n\r\n");
        client.response("GET")
    };
    let kept = ask(&start(Underscores::Keep)).text().to_ascii_lowercase();
    assert!(kept.contains("x_a: 1") && kept.contains("x-b: 2"), "{kept}");
    let deleted = ask(&start(Underscores::Delete)).text().to_ascii_lowercase();
    assert!(!deleted.contains("x_a") && deleted.contains("x-b: 2"), "{deleted}");
    let rejected = ask(&start(Underscores::Reject));
    assert_eq!((rejected.status, rejected.text()), (400, "Bad Request\n"));
}

#[test]
fn forwarded_headers_follow_the_options() {
    let server = Server::echo();
    let rules = HeadRules {
        append_forwarded_for: false,
        scheme_headers: true,
        kept_connection: vec!["x-a".to_owned()],
        ..HeadRules::default()
    };
    let rig = web(|entry| {
        entry.head = rules;
        entry.trust = loopback();
    })
    .run(&[Route { rule: "Host(`a.test`) && Header(`X-A`, `1`)".to_owned(), ..Route::to("a.test", &[&server.url()]) }]);
    let mut client = rig.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\nX-B: 1\r\nConnection: x-a, x-b\r\n\
         X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\n\r\n",
    );
    // The rule sees the field that `Connection` names; the server does not get it.
    let answer = client.response("GET");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = answer.text().to_ascii_lowercase();
    assert_eq!(fields(&seen, "x-forwarded-for"), ["1.1.1.1, 2.2.2.2"]);
    assert_eq!(
        (fields(&seen, "x-forwarded-scheme"), fields(&seen, "x-scheme")),
        (vec!["https".into()], vec!["https".into()])
    );
    assert!(fields(&seen, "x-a").is_empty() && fields(&seen, "x-b").is_empty(), "{seen}");
}

#[test]
fn a_connection_ends_with_its_last_request() {
    let server = Server::echo();
    let routes = [Route::to("a.test", &[&server.url()])];
    let rig = web(|entry| entry.keep_alive_max_requests = 2).run(&routes);
    let mut client = rig.connect();
    for last in [false, true] {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let close = client.response("GET").header("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
        assert_eq!(close, last);
    }
    assert!(client.rest().is_empty());

    let rig = web(|entry| entry.keep_alive_max_time = Duration::from_nanos(1)).run(&routes);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response("GET").header("connection").as_deref(), Some("close"));
    assert!(client.rest().is_empty());
}

#[test]
fn the_proxy_protocol_names_the_client() {
    let server = Server::echo();
    let routes = [Route::to("a.test", &[&server.url()])];
    let ask = |rig: &Rig, parts: &[&[u8]]| {
        let mut client = rig.connect();
        for part in parts {
            client.stream.write_all(part).expect("written");
        }
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let answer = client.response("GET");
        assert_eq!(answer.status, 200);
        fields(&answer.text().to_ascii_lowercase(), "x-forwarded-for").join("|")
    };
    let line: &[u8] = b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 80\r\n";
    let binary: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xcb\0\x71\x0a\xc0\0\x02\x01\x15\xb3\0\x50\x04\0\0";
    let rig = web(|entry| entry.proxy_protocol = Some(loopback())).run(&routes);
    assert_eq!(ask(&rig, &[line]), "203.0.113.9");
    assert_eq!(ask(&rig, &[binary]), "203.0.113.10");
    // In pieces, also within the signature.
    assert_eq!(ask(&rig, &[&line[..2], &line[2..9], &line[9..]]), "203.0.113.9");
    assert_eq!(ask(&rig, &[&binary[..3], &binary[3..20], &binary[20..]]), "203.0.113.10");
    assert_eq!(ask(&rig, &[b"PROXY UNKNOWN\r\n"]), "127.0.0.1");
    assert_eq!(ask(&rig, &[]), "127.0.0.1");

    // Of others it is thrown away.
    let nobody = web(|entry| entry.proxy_protocol = Some(Trust::default())).run(&routes);
    assert_eq!(ask(&nobody, &[line]), "127.0.0.1");

    // A malformed one ends the connection, and where nobody sends one it is a bad request.
    let mut client = rig.connect();
    client.send("PROXY TCP4 203.0.113.9 192.0.2.1 5555\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert!(client.rest().is_empty());
    let plain = web(|_| {}).run(&routes);
    let mut client = plain.connect();
    client.send("PROXY TCP4 203.0.113.9 192.0.2.1 5555 80\r\n\r\n");
    assert_eq!(client.response("GET").status, 400);
}

#[test]
fn a_servers_path_stands_before_that_of_requests_where_it_is_preserved() {
    let server = Server::echo();
    let url = format!("{}/base/", server.url());
    let preserving = Route { preserve_path: true, ..Route::to("a.test", &[&url]) };
    let rig = Rig::start(&[preserving, Route::to("b.test", &[&url])]);
    for (host, target, line) in [
        ("a.test", "/x?y=1", "GET /base/x?y=1 HTTP"),
        ("a.test", "/", "GET /base/ HTTP"),
        ("a.test", "/a/../b%2f", "GET /base/b%2F HTTP"),
        ("b.test", "/x", "GET /x HTTP"),
    ] {
        let answer = rig.get(host, target);
        assert!(answer.text().starts_with(line), "{}", answer.text());
    }
}

#[test]
fn a_redirection_spares_acme_and_routers_of_a_higher_priority() {
    let server = Server::echo();
    let redirect = |priority| Redirection {
        scheme: "https".into(),
        port: "443".into(),
        permanent: true,
        priority,
        spares_acme: true,
    };
    let routes = [Route::to("a.test", &[&server.url()])];
    let rig = web(|entry| entry.redirect = Some(redirect(REDIRECTION_PRIORITY))).run(&routes);
    assert_eq!(rig.get("a.test", "/").status, 301);
    assert_eq!(rig.get("a.test", "/.well-known/acme-challenge/x").status, 200);
    // The rule's own priority is its length.
    let rig = web(|entry| entry.redirect = Some(redirect(1))).run(&routes);
    assert_eq!((rig.get("a.test", "/").status, rig.get("b.test", "/").status), (200, 301));
}
