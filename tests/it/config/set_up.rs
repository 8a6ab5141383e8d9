//! What holds when nothing is said, and the static files that people bring.

use super::*;

#[test]
fn without_anything_said_the_hind_set_up_holds() {
    let loaded = given().load().unwrap();
    assert_eq!((lines(&loaded.diagnostics), loaded.notes), (vec![], vec![]));
    assert!(loaded.default_entry_points);
    let s = loaded.settled;
    assert_eq!(addresses(&s), pairs(&[("traefik", "127.0.0.1:8080"), ("web", ":80"), ("websecure", ":443")]));
    let (admin, web, secure) = (ep(&s, "traefik"), ep(&s, "web"), ep(&s, "websecure"));
    assert_eq!((admin.as_default, web.as_default, secure.as_default), (false, true, true));
    assert_eq!((admin.tls, web.tls, secure.tls), (false, false, true));
    assert_eq!((web.max_connections, web.max_header_bytes, web.max_concurrent_streams), (10_000, 1 << 20, 250));
    assert_eq!(web.forwarded_headers.trusted_ips.len(), 6, "private ranges");
    assert_eq!((web.timeouts.read, web.timeouts.write, web.timeouts.idle), (secs(60), secs(0), secs(180)));
    assert_eq!(s.lifecycle.grace, secs(30));
    let (nomad, consul) = (s.nomad.unwrap(), s.consul.unwrap());
    assert_eq!((nomad.common.endpoint.as_str(), nomad.namespaces), ("http://127.0.0.1:4646", vec!["*".to_owned()]));
    assert_eq!((consul.common.endpoint.as_str(), consul.watch_connections), ("http://127.0.0.1:8500", 128));
    assert_eq!(consul.strict_checks, ["passing", "warning"]);
    for common in [&nomad.common, &consul.common] {
        assert!(!common.exposed_by_default && !common.stale);
        assert_eq!(common.default_rule, "Host(`{{ normalize .Name }}.localhost`)");
        assert_eq!((common.prefix.as_str(), common.legacy_tags.mode), ("traefik", LegacyMode::Fallback));
        assert_eq!((common.legacy_tags.prefix.as_str(), common.legacy_tags.dialects.len()), ("urlprefix-", 3));
        assert_eq!(common.token, Token::None);
    }
    assert_eq!(s.access_log.unwrap().format, AccessFormat::Json);
    assert!(s.metrics.unwrap().routers_labels && s.own.security_headers);
    assert_eq!(s.log.level, tracing::Level::INFO);
    assert_eq!(
        (s.own.state_dir.as_path(), s.certificates.directory.as_path()),
        (Path::new("/var/lib/rust-lb"), Path::new("/pv/CERTS"))
    );
    assert_eq!(s.own.drain_limit, secs(3_600));
    assert_eq!((s.own.linger_for, s.own.linger_wait, s.own.reset_hold), (secs(10), secs(5), secs(600)));
    assert_eq!((s.own.last_good_max_age, s.own.primary), (Some(secs(86_400)), Primary::Nomad));
    assert!(s.own.workers >= 1);
}

#[test]
fn nomad_endpoint_as_a_plain_string() {
    let given = yaml("providers:\n  nomad:\n    endpoint: \"http://127.0.0.1:4646\"\n");
    assert_eq!(given.warnings(), [""; 0]);
    let s = given.settled();
    let nomad = s.nomad.clone().unwrap();
    assert_eq!((nomad.common.endpoint.as_str(), nomad.common.exposed_by_default), ("http://127.0.0.1:4646", false));
    assert_eq!(nomad.namespaces, ["*"]);
    assert!(s.consul.is_none(), "a provider is named, so the default ones are dropped");
    assert_eq!(addresses(&s).len(), 3, "no entry point is named");
}

#[test]
fn consul_endpoint_as_a_plain_string_means_the_catalog() {
    let given = yaml("providers:\n  consul:\n    endpoint: \"http://127.0.0.1:8501\"\n");
    assert_eq!(given.warnings(), [""; 0]);
    let s = given.settled();
    let consul = s.consul.unwrap();
    assert_eq!((consul.common.endpoint.as_str(), consul.common.exposed_by_default), ("http://127.0.0.1:8501", false));
    assert!(s.nomad.is_none());
}

#[test]
fn refresh_interval_is_accepted_and_told() {
    let given = yaml("providers:\n  nomad:\n    endpoint: \"http://127.0.0.1:4646\"\n    refreshInterval: 5s\n");
    let loaded = given.load().unwrap();
    assert_eq!(loaded.diagnostics, []);
    assert!(loaded.notes.iter().any(|n| n.origin.line == Some(4) && n.message.contains("changes are waited for")));
    assert_eq!(yaml("providers:\n  nomad:\n    refreshInterval: soon\n").refused().len(), 1);
}

#[test]
fn watch_is_always_on() {
    assert_eq!(yaml("providers:\n  nomad:\n    watch: true\n").warnings(), [""; 0]);
    assert_eq!(
        yaml("providers:\n  consul:\n    endpoint: http://c:8500\n    watch: false\n").warnings(),
        [
            "t.yaml:4:12: warning[watch_is_on]: `providers.consulCatalog.watch`: changes are always waited for; `false` does nothing"
        ]
    );
}

#[test]
fn a_traefik_yaml_with_entry_points_and_global() {
    let given = yaml(
        "global:\n  checkNewVersion: false\n  sendAnonymousUsage: false\nentryPoints:\n  web:\n    address: \":80\"\n  websecure:\n    address: \":443\"\nproviders:\n  consulCatalog:\n    endpoint:\n      address: 127.0.0.1:8500\n",
    );
    let loaded = given.load().unwrap();
    assert_eq!(lines(&loaded.diagnostics), [""; 0]);
    assert!(!loaded.default_entry_points);
    assert!(loaded.notes.iter().any(|n| n.message.contains("default ones (`web` :80")), "{:?}", loaded.notes);
    let s = loaded.settled;
    assert_eq!(addresses(&s), pairs(&[("traefik", "127.0.0.1:8080"), ("web", ":80"), ("websecure", ":443")]));
    assert!(!ep(&s, "websecure").tls, "as Traefik: TLS is said by routers or `http.tls`");
    assert_eq!((s.lifecycle.grace, ep(&s, "web").forwarded_headers.trusted_ips.len()), (secs(10), 0));
    assert!(s.access_log.is_none() && s.metrics.is_none() && !s.own.security_headers, "as the file says");
    let consul = s.consul.unwrap().common;
    assert!(consul.exposed_by_default, "Traefik's default where a file in Traefik's form names the provider");
    assert_eq!(consul.default_rule, "Host(`{{ normalize .Name }}`)");
    assert_eq!(
        given.env("DOMAIN_SUFFIX", "x.org").settled().consul.unwrap().common.default_rule,
        "Host(`{{ normalize .Name }}.x.org`)"
    );
}

#[test]
fn the_examples_hold_and_are_twins() {
    let read =
        |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("etc").join(name)).unwrap();
    let settle = |name: &str| {
        let given = given().file(name, read(name));
        assert_eq!(given.warnings(), [""; 0], "{name}");
        Settled { file: None, ..given.settled() }
    };
    assert_eq!(settle("example.yaml"), settle("example.toml"));
    let mut hind = settle("rust-lb.hind.yaml");
    hind.consul.as_mut().unwrap().watch_connections = 128;
    assert_eq!(hind, given().settled(), "what holds without a file");
}
