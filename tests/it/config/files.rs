//! What files say, well and badly.

use super::*;

#[test]
fn unknown_keys_are_refused_with_place_and_nearest() {
    assert_eq!(
        yaml("entryPoints:\n  web:\n    adress: \":80\"\n    http:\n      tls: {}\nlogg: {}\n").refused(),
        [
            "t.yaml:3:5: error[unknown_key]: unknown key `adress` in `entryPoints.web`; did you mean `address`?",
            "t.yaml:6:1: error[unknown_key]: unknown key `logg`; did you mean `log`?",
            "t.yaml:5:12: error[no_address]: entry point `web` has no address; say `entryPoints.web.address`, \
             for example `:80`; naming any entry point drops the default ones",
        ]
    );
    assert_eq!(
        toml("[entryPoints.web]\naddress = ':80'\n[entryPoints.web.forwardHeaders]\ntrustedIPs = []\n").refused(),
        [
            "t.toml:3:18: error[unknown_key]: unknown key `forwardHeaders` in `entryPoints.web`; did you mean `forwardedHeaders`?"
        ]
    );
    assert_eq!(
        given().flags(&["--providers.nomad.endpont=x"]).refused(),
        [
            "--providers.nomad.endpont: error[unknown_key]: unknown key `endpont` in `providers.nomad`; did you mean `endpoint`?"
        ]
    );
}

#[test]
fn keys_of_traefik_that_are_not_served_are_warnings() {
    let given = yaml(
        "providers:\n  nomad: {}\n  docker:\n    exposedByDefault: false\n  etcd:\n    rootKey: /d\n  consul:\n    endpoints: ['127.0.0.1:8500']\n    rootKey: traefik\ncertificatesResolvers:\n  le:\n    # Tailscale's own\n    tailscale: true\ntracing:\n  otlp: {}\nhostResolver: false\n",
    );
    let told = given.warnings();
    let starts = [
        "t.yaml:3:3: warning[not_served]: `providers.docker` is known to Traefik",
        "t.yaml:5:3: warning[not_served]: `providers.etcd` is known to Traefik",
        "t.yaml:7:3: warning[not_served]: `providers.consul` is known to Traefik",
        "t.yaml:13:5: warning[not_served]: `certificatesResolvers.le.tailscale` is known to Traefik",
        "t.yaml:14:1: warning[not_served]: `tracing` is known to Traefik",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told}");
    }
    assert!(told[3].contains("Tailscale"));
    assert!(given.settled().consul.is_none(), "KV is not the catalog");
}

#[test]
fn twins_in_yaml_toml_and_json_settle_equal() {
    let yaml_text = "accessLog:\n  filePath: /var/log/a.log\nmetrics:\n  prometheus:\n    buckets: [0.1, 2]\nentryPoints:\n  a:\n    address: 127.0.0.1:1\n    http:\n      maxHeaderBytes: 64KiB\n    http2:\n      maxConcurrentStreams: 7\nserversTransport:\n  rootCAs: [/a.pem]\n  maxIdleConnsPerHost: 3\n  forwardingTimeouts:\n    dialTimeout: 5\n";
    let toml_text = "[accessLog]\nfilePath = '/var/log/a.log'\n[metrics.prometheus]\nbuckets = [0.1, 2]\n[entryPoints.a]\naddress = '127.0.0.1:1'\nhttp.maxHeaderBytes = '64KiB'\nhttp2.maxConcurrentStreams = 7\n[serversTransport]\nrootCAs = ['/a.pem']\nmaxIdleConnsPerHost = 3\nforwardingTimeouts.dialTimeout = 5\n";
    let json_text = r#"{"accessLog":{"filePath":"/var/log/a.log"},"metrics":{"prometheus":{"buckets":[0.1,2]}},"entryPoints":{"a":{"address":"127.0.0.1:1","http":{"maxHeaderBytes":"64KiB"},"http2":{"maxConcurrentStreams":7}}},"serversTransport":{"rootCAs":["/a.pem"],"maxIdleConnsPerHost":3,"forwardingTimeouts":{"dialTimeout":5}}}"#;
    let bare = |given: Given| Settled { file: None, ..given.settled() };
    let first = bare(yaml(yaml_text));
    assert_eq!(first, bare(toml(toml_text)));
    assert_eq!(first, bare(given().file("t.json", json_text)));
    let a = ep(&first, "a");
    assert_eq!((a.max_header_bytes, a.max_concurrent_streams), (65_536, 7));
    assert_eq!((first.servers_transport.dial_timeout, first.servers_transport.max_idle_per_server), (secs(5), 3));
    assert_eq!(first.access_log.unwrap().format, AccessFormat::Common);
    assert_eq!(first.metrics.unwrap().buckets, [0.1, 2.0]);
}

#[test]
fn files_that_do_not_parse_are_refused_with_a_place() {
    for (name, content, start) in [
        ("t.yaml", b"entryPoints:\n  web: [\n".to_vec(), "t.yaml:"),
        ("t.yaml", b"a: b: c\n".to_vec(), "t.yaml:1:"),
        ("t.yaml", b"log:\n\tlevel: x\n".to_vec(), "t.yaml:2:"),
        ("t.toml", b"[log\nlevel = 1".to_vec(), "t.toml:1:"),
        (
            "t.yaml",
            b"<!DOCTYPE html>\n<html><head><title>502</title>".to_vec(),
            "t.yaml:1:1: error[malformed_file]: expected YAML or TOML",
        ),
        ("t.toml", b"<html>".to_vec(), "t.toml:1:1: error[malformed_file]: expected YAML or TOML"),
        ("t.yaml", b"\x89PNG\r\n\x1a\n\x00".to_vec(), "t.yaml:1:1: error[malformed_file]"),
        ("t.toml", b"a = \"\xff\"".to_vec(), "t.toml:1:6: error[malformed_file]"),
        ("t.yaml", vec![b'#'; 2_000_000], "t.yaml: error[file_too_large]: is larger than 1048576 bytes"),
        ("t.yaml", b"[1, 2]".to_vec(), "t.yaml:1:1: error[malformed_file]: expected keys"),
    ] {
        let refused = given().file(name, &content).refused();
        assert!(refused.len() == 1 && refused[0].starts_with(start), "{start}: {refused:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let mut given = given();
    given.input.default_paths = vec![directory.path().to_owned()];
    assert!(given.refused()[0].contains("is a directory"));
}

#[test]
fn values_that_do_not_fit_are_refused_with_their_place() {
    for (text, want) in [
        (
            "entryPoints:\n  web:\n    address: 80\n",
            "t.yaml:3:14: error[bad_address]: `entryPoints.web.address`: expected `[host]:port`",
        ),
        ("entryPoints: yes\n", "t.yaml:1:14: error[bad_value]: `entryPoints`: expected a group of keys"),
        (
            "rustLb:\n  linger:\n    for: -1s\n",
            "t.yaml:3:10: error[bad_value]: `rustLb.linger.for`: expected a duration",
        ),
        (
            "providers:\n  nomad:\n    endpoint: [a]\n",
            "t.yaml:3:15: error[bad_value]: `providers.nomad.endpoint`: expected a text or a group",
        ),
        (
            "providers:\n  nomad:\n    endpoint:\n      token: [hunter2]\n",
            "t.yaml:4:14: error[bad_value]: `providers.nomad.endpoint.token`: expected a text",
        ),
        ("log:\n  level: {}\n", "t.yaml:2:10: error[bad_value]: `log.level`: expected a text, got a group"),
        (
            "entryPoints:\n  a: {address: ':1'}\n  b: {address: ':1'}\n",
            "t.yaml:3:16: error[address_conflict]: entry points `a` and `b` have the same address `:1`",
        ),
        (
            "entryPoints:\n  a: {address: ':1', http: {redirections: {entryPoint: {to: b}}}}\n",
            "t.yaml:2:61: error[bad_redirect]: `entryPoints.a.http.redirections.entryPoint.to`: there is no entry point `b`",
        ),
        (
            "entryPoints:\n  a: {address: ':1', http: {redirections: {entryPoint: {to: a}}}}\n",
            "t.yaml:2:61: error[bad_redirect]",
        ),
        ("providers:\n  nomad: {endpoint: 'http://me:hunter2@x:1'}\n", "t.yaml:2:21: error[bad_endpoint]"),
    ] {
        let refused = yaml(text).refused();
        assert!(refused.len() == 1 && refused[0].starts_with(want), "{want}\n{refused:?}");
        assert!(!refused[0].contains("hunter2"), "{refused:?}");
    }
}

#[test]
fn what_is_said_twice_or_without_a_value_is_told() {
    assert_eq!(
        yaml("log:\n  level: INFO\n  Level: WARN\nping:\naccessLog:\n").warnings(),
        [
            "t.yaml:4:5: warning[empty_value]: `ping` has no value and is left out; write `{}` for an empty group",
            "t.yaml:5:10: warning[empty_value]: `accessLog` has no value and is left out; write `{}` for an empty group",
            "t.yaml:3:10: warning[duplicate_key]: `log.level` was said before, in line 2; this one counts",
        ]
    );
}

#[test]
fn entry_points_as_default_redirect_and_udp() {
    let given = yaml(
        "entryPoints:\n  web:\n    address: ':80'\n    http: {redirections: {entryPoint: {to: Secure, permanent: false}}}\n  secure: {address: ':443', asDefault: true, http: {tls: {}}}\n  dns: {address: ':53/udp'}\n",
    );
    let told = given.warnings();
    assert!(told.len() == 1 && told[0].contains("UDP is known to Traefik, but not served yet"), "{told:?}");
    let s = given.settled();
    assert!(!s.entry_points.contains_key("dns"));
    assert_eq!((ep(&s, "web").as_default, ep(&s, "secure").as_default), (false, true));
    let redirect = ep(&s, "web").redirect.clone().unwrap();
    assert_eq!((&*redirect.to, &*redirect.scheme, redirect.permanent), ("secure", "https", false));
}

#[test]
fn a_key_that_does_nothing_still_names_its_group() {
    assert!(yaml("providers:\n  nomad:\n    refreshInterval: 5s\n").settled().nomad.is_some());
    assert!(yaml("providers:\n  consulCatalog:\n    cache: true\n").settled().consul.is_some());
    let given = yaml("entryPoints:\n  a:\n    address: ':1'\n    http:\n      tls:\n        certResolver: le\n");
    let told = given.warnings();
    assert!(told.len() == 1 && told[0].contains("unknown_resolver"), "{told:?}");
    assert!(ep(&given.settled(), "a").tls);
}

#[test]
fn switches_go_off_again() {
    let file = "accessLog: {format: json}\nmetrics: {prometheus: {}}\n";
    assert!(yaml(file).settled().access_log.is_some());
    let s = yaml(file).flags(&["--accessLog=false"]).env("TRAEFIK_METRICS_PROMETHEUS", "false").settled();
    assert!(s.access_log.is_none() && s.metrics.is_none());
    assert!(yaml("accessLog: false\n").flags(&["--accessLog.format=json"]).settled().access_log.is_some());
    assert!(given().flags(&["--accessLog=false"]).settled().access_log.is_none());
}

#[test]
fn flags_of_lists_add_up() {
    let flags = |flags: &[&str]| {
        let s = given().flags(&["--entryPoints.a.address=:1"]).flags(flags).settled();
        ep(&s, "a").forwarded_headers.trusted_ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(flags(&["--entryPoints.a.forwardedHeaders.trustedIPs=10.0.0.1,10.0.0.2"]), "10.0.0.1/32 10.0.0.2/32");
    let repeated = [
        "--entryPoints.a.forwardedHeaders.trustedIPs=10.0.0.1",
        "--entryPoints.a.forwardedHeaders.trustedIPs",
        "10.0.0.2",
    ];
    assert_eq!(flags(&repeated), "10.0.0.1/32 10.0.0.2/32");
    let placed = [
        "--entryPoints.a.forwardedHeaders.trustedIPs[1]=10.0.0.1",
        "--entryPoints.a.forwardedHeaders.trustedIPs[0]=10.0.0.2",
    ];
    assert_eq!(flags(&placed), "10.0.0.2/32 10.0.0.1/32");
}
