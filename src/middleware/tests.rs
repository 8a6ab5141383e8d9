//! Middlewares on exchanges, with the cases of Traefik's recorded answers.

use super::*;
use crate::http::{AnswerHead, HeaderName, HeaderValue, Headers, Method, Protocol, RequestHead, name};
use serde_json::json;

fn exchange(method: Method, target: &str, host: &'static str, tls: bool) -> Exchange {
    Exchange {
        request: RequestHead::new(method, host, target, Headers::default(), Default::default()).expect("a fine target"),
        entry_point: "web".into(),
        peer: "127.0.0.1:1".parse().expect("an address"),
        tls,
        protocol: Protocol::Http11,
        prefixes: Default::default(),
        host: None,
        identity: Default::default(),
        claimed_for: None,
        original: None,
    }
}

/// A middleware as files declare it.
fn kind(declared: serde_json::Value) -> MiddlewareKind {
    serde_json::from_value(declared).expect("a kind with its options")
}

fn chain(kinds: impl IntoIterator<Item = MiddlewareKind>) -> Vec<Arc<Middleware>> {
    let ready = |kind| Arc::new(Middleware::new("m@file".into(), kind).expect("a fine middleware"));
    kinds.into_iter().map(ready).collect()
}

fn strip(prefixes: &[&str]) -> MiddlewareKind {
    MiddlewareKind::StripPrefix { prefixes: prefixes.iter().map(|prefix| (*prefix).into()).collect() }
}

#[test]
fn strips_as_traefik_does() {
    for (prefixes, target, sent, noted) in [
        (&["/api"][..], "/api", "/", Some("/api")),
        (&["/api"], "/api?x=1", "/?x=1", Some("/api")),
        (&["/api"], "/other", "/other", None),
        (&["/api"], "/api%2Fusers", "/users", Some("/api")),
        (&["/api"], "/apiary", "/ary", Some("/api")),
        (&["/api"], "/api/a%2Fb", "/a%2Fb", Some("/api")),
        (&["/a b"], "/a%20b/c", "/c", Some("/a b")),
        (&["/x", "/y", "/yz"], "/yz/1", "/z/1", Some("/y")),
    ] {
        let mut exchange = exchange(Method::GET, target, "h.test", false);
        assert!(enter(&chain([strip(prefixes)]), &mut exchange, &UserFiles::default()).is_none());
        assert_eq!(exchange.request.request_uri(), sent, "{prefixes:?} from {target}");
        assert_eq!(exchange.prefixes.first().map(|prefix| &**prefix), noted, "{prefixes:?} from {target}");
    }
}

#[test]
fn no_edit_leads_out_of_the_path() {
    for (target, sent) in [
        ("/api../admin", "/admin"),
        ("/api%2F..%2Fadmin", "/admin"),
        ("/api%2F%2Fevil.test/x", "/evil.test/x"),
        ("/api%2F.%2Fx/", "/x/"),
    ] {
        let mut exchange = exchange(Method::GET, target, "h.test", false);
        let add = MiddlewareKind::AddPrefix { prefix: "/base".into() };
        assert!(enter(&chain([strip(&["/api"])]), &mut exchange, &UserFiles::default()).is_none());
        assert_eq!(exchange.request.request_uri(), sent, "{target}");
        exchange.reset();
        assert!(enter(&chain([strip(&["/api"]), add]), &mut exchange, &UserFiles::default()).is_none());
        assert_eq!(exchange.request.request_uri(), format!("/base{sent}"), "{target}");
    }
}

#[test]
fn strips_in_a_row_and_again_after_a_reset() {
    let mut exchange = exchange(Method::GET, "/a/b/c", "h.test", false);
    let middlewares = chain([strip(&["/a"]), strip(&["/b"])]);
    for _ in 0..2 {
        exchange.reset();
        assert!(enter(&middlewares, &mut exchange, &UserFiles::default()).is_none());
        assert_eq!(exchange.request.request_uri(), "/c");
        assert_eq!(exchange.prefixes.len(), 2);
    }
}

#[test]
fn adds_prefixes() {
    for (prefix, target, sent) in [
        ("/base", "/a%2Fb", "/base/a%2Fb"),
        ("base", "/a?q", "/base/a?q"),
        ("/b c", "/a", "/b%20c/a"),
        ("/b%2Fc", "/a", "/b%252Fc/a"),
    ] {
        let mut exchange = exchange(Method::GET, target, "h.test", false);
        assert!(
            enter(&chain([MiddlewareKind::AddPrefix { prefix: prefix.into() }]), &mut exchange, &UserFiles::default())
                .is_none()
        );
        assert_eq!(exchange.request.request_uri(), sent, "{prefix} before {target}");
    }
}

fn redirect(scheme: &str, port: &str, permanent: bool) -> MiddlewareKind {
    MiddlewareKind::RedirectScheme { scheme: scheme.into(), port: port.into(), permanent }
}

fn location(kind: MiddlewareKind, exchange: &mut Exchange) -> Option<(u16, String)> {
    let made = enter(&chain([kind]), exchange, &UserFiles::default())?;
    let location = made.head.headers.text(&name::LOCATION).unwrap_or("").to_owned();
    Some((made.head.status.as_u16(), location))
}

#[test]
fn redirects_as_traefik_does() {
    for (method, host, tls, kind, status, expected) in [
        (Method::GET, "h.test", false, redirect("https", "", false), 302, "https://h.test/a%20b?x=1&y=%2F"),
        (Method::GET, "h.test:8080", false, redirect("https", "", true), 301, "https://h.test/a%20b?x=1&y=%2F"),
        (Method::POST, "h.test", false, redirect("https", "443", false), 307, "https://h.test/a%20b?x=1&y=%2F"),
        (Method::HEAD, "h.test", false, redirect("https", "8443", true), 308, "https://h.test:8443/a%20b?x=1&y=%2F"),
        (Method::GET, "[::1]:80", false, redirect("https", "8443", true), 301, "https://[::1]:8443/a%20b?x=1&y=%2F"),
        (Method::GET, "h.test", true, redirect("http", "", false), 302, "http://h.test/a%20b?x=1&y=%2F"),
    ] {
        let mut exchange = exchange(method, "/a%20b?x=1&y=%2F", host, tls);
        assert_eq!(location(kind, &mut exchange), Some((status, expected.to_owned())), "{host}");
    }
}

#[test]
fn a_request_that_is_there_already_passes() {
    for (host, tls, kind) in [
        ("h.test", true, redirect("https", "", true)),
        ("h.test:443", true, redirect("https", "443", true)),
        ("h.test:8443", true, redirect("https", "8443", true)),
        ("h.test", false, redirect("http", "", true)),
    ] {
        assert_eq!(location(kind, &mut exchange(Method::GET, "/", host, tls)), None, "{host}");
    }
    let mut behind_tls = exchange(Method::GET, "/", "h.test", false);
    behind_tls.request.headers.set(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("wss"));
    assert_eq!(location(redirect("https", "", true), &mut behind_tls), None);
}

#[test]
fn security_headers_leave_the_servers_own() {
    let mut head = AnswerHead::new(StatusCode::OK);
    head.headers.set(name::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    secure(&mut head, false);
    assert_eq!(head.headers.text(&name::X_FRAME_OPTIONS), Some("DENY"));
    assert_eq!(head.headers.text(&name::X_CONTENT_TYPE_OPTIONS), Some("nosniff"));
    assert_eq!(head.headers.text(&name::REFERRER_POLICY), Some("strict-origin-when-cross-origin"));
    assert_eq!(head.headers.text(&name::X_XSS_PROTECTION), Some("0"));
    assert!(!head.headers.contains(&name::STRICT_TRANSPORT_SECURITY));
    secure(&mut head, true);
    assert_eq!(head.headers.text(&name::STRICT_TRANSPORT_SECURITY), Some("max-age=31536000"));
}

#[test]
fn redirects_by_expression() {
    let kind = |replacement: &str, permanent| MiddlewareKind::RedirectRegex {
        regex: "^https?://[^/]+([^?]*)(\\?.*)?$".into(),
        replacement: replacement.into(),
        permanent,
    };
    for (method, kind, status, expected) in [
        (Method::GET, kind("https://n${1}${2}", true), 301, "https://n/a%20b?x=1"),
        (Method::POST, kind("https://n${1}", false), 307, "https://n/a%20b"),
        (Method::POST, kind("/else", true), 308, "/else"),
        (Method::GET, kind("https://n/grün", true), 301, "https://n/gr%C3%BCn"),
    ] {
        let mut exchange = exchange(method, "/a%20b?x=1", "h.test", false);
        assert_eq!(location(kind, &mut exchange), Some((status, expected.to_owned())));
    }
    // its own target, and what is no header's value
    let there = kind("http://h.test${1}${2}", true);
    assert_eq!(location(there, &mut exchange(Method::GET, "/x?y", "h.test", false)), None);
    let bad = kind("https://n/\n", true);
    assert_eq!(location(bad, &mut exchange(Method::GET, "/", "h.test", false)).map(|(status, _)| status), Some(400));
}

#[test]
fn redirects_as_fabio_does() {
    let to = |url: &str, strip: &str, prepend: &str, target: &str| {
        let (url, strip, prepend) = (url.into(), strip.into(), prepend.into());
        let kind = MiddlewareKind::PrefixRedirect { url, status: 307, strip, prepend, port: None };
        let (status, location) = location(kind, &mut exchange(Method::GET, target, "h.test:80", false)).unwrap();
        assert_eq!(status, 307);
        location
    };
    for (url, strip, prepend, target, expected) in [
        ("https://n$path", "", "", "/a/b?x=1", "https://n/a/b?x=1"),
        ("https://n/x", "", "", "/a/b?x=1", "https://n/x"),
        ("https://n", "", "", "/a", "https://n/"),
        ("https://n$path?x=1", "", "", "/a?y", "https://n/a?x=1"),
        ("https://n$path", "", "", "/a?", "https://n/a"),
        ("https://$host$path", "", "", "/a", "https://h.test:80/a"),
        ("/x/$path", "", "", "/a", "/x/a"),
        ("//n/$path", "", "", "/a", "//n/a"),
        ("https://u:p@n/$path#top", "", "", "/a", "https://n/a"),
        // what is cut off and put before is text
        ("http://n/x$path", "/a", "", "/ab", "http://n/xb"),
        ("http://n/x$path", "/a", "", "/b", "http://n/x/b"),
        ("http://n$path", "/a", "", "/ab", "http://n/b"),
        ("http://n$path", "/a", "", "/a", "http://n/"),
        ("http://n$path", "/a", "p", "/a/b", "http://n/p/b"),
        ("http://n/x$path", "", "p", "/a", "http://n/xp/a"),
        ("http://n$path", "/", "/p", "/a", "http://n/pa"),
        // the path as escaped by the client behind a path, written anew behind a host, an escaped slash stays
        ("http://n/$path", "", "", "/a!b%2Fc", "http://n/a!b%2Fc"),
        ("http://n$path", "", "", "/a!b%2Fc", "http://n/a%21b%2Fc"),
        ("http://n/x%20y/$path", "", "", "/%C3%A9", "http://n/x%20y/%C3%A9"),
        ("http://n/\u{e9}$path", "", "", "/a?\u{e9}", "http://n/%C3%A9/a?%c3%a9"),
        // no path makes another host of a target without one
        ("/$path", "/a", "", "/a%2F%2Fevil.test", "/%2F%2Fevil.test"),
        ("$path", "/a", "/", "/a/evil.test", "/evil.test"),
    ] {
        assert_eq!(to(url, strip, prepend, target), expected, "{url} {strip} {prepend} {target}");
    }
}

#[test]
fn a_redirect_to_itself_is_not_found() {
    let asked = |url: &str, port: Option<&str>, host: &'static str, tls: bool| {
        let (url, port) = (url.into(), port.map(Into::into));
        let kind = MiddlewareKind::PrefixRedirect {
            url,
            status: 301,
            strip: Default::default(),
            prepend: Default::default(),
            port,
        };
        let made = enter(&chain([kind]), &mut exchange(Method::GET, "/x", host, tls), &UserFiles::default()).unwrap();
        let location = made.head.headers.text(&name::LOCATION).unwrap_or_default().to_owned();
        (made.head.status.as_u16(), location)
    };
    assert_eq!(asked("https://h.test/x", None, "h.test", true).0, 404);
    assert_eq!(asked("https://$host$path", None, "H.test:443", true).0, 404);
    assert_eq!(asked("https://h.test/y", None, "h.test", true).0, 301);
    assert_eq!(asked("https://h.test/x", None, "h.test", false), (301, "https://h.test/x".to_owned()));
    // a redirect to HTTPS on the same host goes to the port where HTTPS is
    assert_eq!(asked("https://$host$path", Some(""), "h.test:80", false), (301, "https://h.test/x".to_owned()));
    let mapped = asked("https://h.test$path", Some("8443"), "h.test", false);
    assert_eq!(mapped, (301, "https://h.test:8443/x".to_owned()));
}

#[test]
fn access_lists_look_at_the_peer_and_at_what_it_says() {
    let networks = vec!["127.0.0.0/8".into(), "192.0.2.0/24".into()];
    let allow = MiddlewareKind::PrefixAllowList { source_range: networks.clone() };
    let deny = MiddlewareKind::PrefixDenyList { source_range: networks };
    let status = |kind: &MiddlewareKind, peer: &str, said: Option<&'static str>, believed: bool| {
        let mut exchange = exchange(Method::GET, "/", "h.test", false);
        exchange.peer = peer.parse().expect("an address");
        let said = said.map(HeaderValue::from_static);
        match (said, believed) {
            (Some(said), true) => exchange.request.headers.set(HeaderName::from_static("x-forwarded-for"), said),
            (said, _) => exchange.claimed_for = said,
        }
        enter(&chain([kind.clone()]), &mut exchange, &UserFiles::default()).map(|made| made.head.status.as_u16())
    };
    for (peer, said, allowed, denied) in [
        ("192.0.2.1:1", None, None, Some(403)),
        ("[::ffff:192.0.2.1]:1", None, None, Some(403)),
        ("198.51.100.7:1", None, Some(403), None),
        ("192.0.2.1:1", Some("192.0.2.9, 203.0.113.5"), Some(403), Some(403)),
        ("198.51.100.7:1", Some("192.0.2.9"), Some(403), Some(403)),
        ("192.0.2.1:1", Some("unknown,203.0.113.5:80, "), None, Some(403)),
    ] {
        for believed in [false, true] {
            assert_eq!(status(&allow, peer, said, believed), allowed, "allow {peer} {said:?}");
            assert_eq!(status(&deny, peer, said, believed), denied, "deny {peer} {said:?}");
        }
    }
    assert_eq!(status(&MiddlewareKind::Refuse { status: 401 }, "127.0.0.1:1", None, false), Some(401));
}

#[test]
fn a_host_of_its_own_goes_to_servers_until_a_reset() {
    let kind = kind(json!({"headers": {"customRequestHeaders": {"host": "own.test"}}}));
    let mut exchange = exchange(Method::GET, "/", "h.test", false);
    let server = "10.0.0.1:80";
    assert_eq!(exchange.host_for(true, server), b"h.test");
    assert_eq!(exchange.host_for(false, server), b"10.0.0.1:80");
    assert!(enter(&chain([kind]), &mut exchange, &UserFiles::default()).is_none());
    assert_eq!(exchange.host_for(false, server), b"own.test");
    assert_eq!(exchange.request.host(), "h.test");
    exchange.reset();
    assert_eq!(exchange.host_for(true, server), b"h.test");
}

#[test]
fn paths_are_replaced_and_stripped_as_traefik_does() {
    let replace = |regex: &str, by: &str| json!({"replacePathRegex": {"regex": regex, "replacement": by}});
    let strip = |regex: &str| json!({"stripPrefixRegex": {"regex": [regex, "^/x"]}});
    for (declared, target, expected) in [
        (json!({"replacePath": {"path": "/new%20x"}}), "/old?x=1", Ok("/new%20x?x=1")),
        (json!({"replacePath": {"path": "/a?b"}}), "/old", Ok("/a%3Fb")),
        (replace("^/api/(v[0-9]+)/(.*)$", "/$2/${1}/$1x"), "/api/v1/users?q", Ok("/users/v1/?q")),
        (replace("^/u/(.*)", "/x?id=$1"), "/u/9", Ok("/x%3Fid=9")),
        (replace("^/(?P<first>[^/]*?)/", "/${first}-"), "/a/b/c", Ok("/a-b/c")),
        (replace("^/u", "/v"), "/a", Ok("/a")),
        (replace("^/(.*)$", "/../$1"), "/a", Err(400)),
        (replace("^/(.*)$", "//$1"), "/a", Err(400)),
        (replace("^/", "/%zz"), "/a", Err(500)),
        (strip("^/api/v[0-9]+"), "/api/v12/a%2Fb", Ok("/a%2Fb")),
        (strip("^/a b"), "/a%20b/c", Ok("/c")),
        (strip("/v[0-9]"), "/api/v1/x", Ok("/api/v1/x")),
        (strip("^/api"), "/api../x", Err(400)),
        (strip("^/api"), "/api%2F..%2Fx", Err(400)),
        (strip("^/api"), "/x", Ok("/")),
    ] {
        let mut exchange = exchange(Method::GET, target, "h.test", false);
        let made = enter(&chain([kind(declared.clone())]), &mut exchange, &UserFiles::default());
        let came = match &made {
            Some(made) => Err(made.head.status.as_u16()),
            None => Ok(exchange.request.request_uri()),
        };
        assert_eq!(came.as_deref(), expected.as_deref(), "{declared} {target}");
    }
    let mut exchange = exchange(Method::GET, "/old/p%20q", "h.test", false);
    exchange.keep_fields();
    let new = chain([kind(json!({"replacePath": {"path": "/new"}}))]);
    assert!(enter(&new, &mut exchange, &UserFiles::default()).is_none());
    assert_eq!(exchange.request.headers.first("X-Replaced-Path"), Some(&b"/old/p%20q"[..]));
    exchange.reset();
    assert_eq!(exchange.request.headers.first("X-Replaced-Path"), None);
}

#[test]
fn the_clients_address_is_chosen_as_traefik_does() {
    for (strategy, said, passes) in [
        (json!({}), "1.2.3.4", false),
        (json!({"depth": 1}), "9.9.9.9, 1.2.3.4", true),
        (json!({"depth": 1}), "1.2.3.4:80", true),
        (json!({"depth": 2}), "1.2.3.4", false),
        (json!({"depth": 2}), "1.2.3.4, 9.9.9.9", true),
        (json!({"excludedIPs": ["9.0.0.0/8"]}), "7.7.7.7, 1.2.3.4, 9.9.9.9, ", true),
        (json!({"excludedIPs": ["9.0.0.0/8"]}), "1.2.3.4, x, 9.9.9.9", false),
        (json!({"excludedIPs": ["9.0.0.0/8"]}), "9.1.1.1", false),
        (json!({"depth": 1, "ipv6Subnet": 64}), "2001:db8::5:6", true),
        (json!({"depth": 1}), "2001:db8::5:6", false),
    ] {
        let list = json!({"ipAllowList": {"sourceRange": ["1.2.3.0/24", "2001:db8::"], "ipStrategy": strategy}});
        let mut exchange = exchange(Method::GET, "/", "h.test", false);
        exchange.request.headers.set(name::X_FORWARDED_FOR, HeaderValue::from_str(said).expect("a value"));
        let made = enter(&chain([kind(list)]), &mut exchange, &UserFiles::default());
        assert_eq!(made.is_none(), passes, "{strategy} {said}");
    }
}
