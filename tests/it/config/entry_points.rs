//! Options of entry points: what they settle to, and which are told.

use super::*;

fn with(options: &[&str]) -> Given {
    let mut flags = vec!["--entryPoints.web.address=:80".to_owned()];
    flags.extend(options.iter().map(|option| format!("--entryPoints.web.{option}")));
    given().flags(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

fn web(options: &[&str]) -> EntryPoint {
    ep(&with(options).settled(), "web").clone()
}

#[test]
fn heads_are_treated_as_traefik_does_by_default() {
    let ep = web(&[]);
    assert_eq!(ep.head, HeadRules::default());
    assert_eq!((ep.keep_alive_max_requests, ep.keep_alive_max_time, ep.proxy_protocol), (0, secs(0), None));
    assert!(ep.middlewares.is_empty() && !ep.allow_acme_bypass);
}

#[test]
fn each_option_settles_to_its_value() {
    let ep = web(&[
        "http.sanitizePath=false",
        "http.encodeQuerySemicolons=true",
        "http.encodedCharacters.allowEncodedSlash=false",
        "http.encodedCharacters.allowEncodedHash=false",
        "http.underscoreHeadersStrategy=Reject",
        "http.middlewares=a@file,b",
        "forwardedHeaders.connection=X-Real-Ip,x-a",
        "forwardedHeaders.notAppendXForwardedFor=true",
        "forwardedHeaders.addXForwardedSchemeHeaders=true",
        "transport.keepAliveMaxRequests=7",
        "transport.keepAliveMaxTime=1h",
        "allowACMEByPass=true",
    ]);
    let head = HeadRules {
        sanitize_path: false,
        encode_query_semicolons: true,
        denied_characters: vec!["Slash", "Hash"],
        underscores: "reject".to_owned(),
        connection: vec!["X-Real-Ip".to_owned(), "x-a".to_owned()],
        not_append_forwarded_for: true,
        scheme_headers: true,
    };
    assert_eq!(ep.head, head);
    assert_eq!(ep.middlewares, ["a@file".into(), "b".into()]);
    assert_eq!((ep.keep_alive_max_requests, ep.keep_alive_max_time), (7, secs(3600)));
    assert!(ep.allow_acme_bypass);
}

#[test]
fn the_proxy_protocol_is_on_when_it_is_named_and_believes_who_is_listed() {
    let said = |options: &[&str]| web(options).proxy_protocol;
    assert_eq!(said(&["proxyProtocol.insecure=true"]).map(|t| t.insecure), Some(true));
    let listed = said(&["proxyProtocol.trustedIPs=10.0.0.0/8,192.0.2.1"]).unwrap();
    assert_eq!((listed.insecure, listed.trusted_ips.len()), (false, 2));
    let nobody = with(&["proxyProtocol=true"]);
    assert_eq!(ep(&nobody.settled(), "web").proxy_protocol, Some(Trusted::default()));
    assert!(nobody.warnings()[0].contains("believes nobody"), "{:?}", nobody.warnings());
    let refused = with(&["proxyProtocol.trustedIPs=10.0.0.0/40"]).refused();
    assert!(refused[0].contains("expected an address or a network"), "{refused:?}");
}

#[test]
fn the_priority_of_a_redirection_is_kept() {
    let to = "http.redirections.entryPoint.to=:443";
    assert_eq!(web(&[to]).redirect.unwrap().priority, i64::MAX - 1);
    assert_eq!(web(&[to, "http.redirections.entryPoint.priority=10"]).redirect.unwrap().priority, 10);
}

#[test]
fn what_is_not_served_is_told() {
    let told = with(&["http3=true"]).warnings();
    assert!(told.len() == 1 && told[0].contains("warning[not_served]"), "{told:?}");
    let told = with(&["http.tls.certResolver=le"]).warnings();
    assert!(told.len() == 1 && told[0].contains("warning[unknown_resolver]"), "{told:?}");
    assert_eq!(with(&["reusePort=true"]).warnings(), [""; 0]);
    let refused = with(&["http.underscoreHeadersStrategy=drop"]).refused();
    assert!(refused[0].contains("expected one of `keep`, `delete`, `reject`"), "{refused:?}");
}
