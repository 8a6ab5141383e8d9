//! Where things come from: files, variables, flags, and which wins.

use super::*;

#[test]
fn later_sources_win() {
    let file = "log:\n  level: DEBUG\nentryPoints:\n  Web:\n    address: :1\n";
    let port = |given: &Given| ep(&given.settled(), "Web").address.port;
    let level = |given: &Given| given.settled().log.level;
    let given = yaml(file);
    assert_eq!((port(&given), level(&given)), (1, tracing::Level::DEBUG));
    let given = given.env("TRAEFIK_ENTRYPOINTS_WEB_ADDRESS", ":2").env("TRAEFIK_LOG_LEVEL", "warn");
    assert_eq!((port(&given), level(&given)), (2, tracing::Level::WARN));
    let given = given.env("RUST_LB_ENTRYPOINTS_WEB_ADDRESS", ":3");
    assert_eq!((port(&given), level(&given)), (3, tracing::Level::WARN));
    let given = given.flags(&["--entrypoints.WEB.address=:4", "--log.level", "error"]);
    assert_eq!((port(&given), level(&given)), (4, tracing::Level::ERROR));
}

#[test]
fn the_first_default_path_that_exists_is_read_unless_one_is_named() {
    let given = given().file("a.yaml", "log:\n  level: WARN\n").file("b.yaml", "log:\n  level: ERROR\n");
    let mut given = given;
    given.input.default_paths.insert(0, "/nowhere/rust-lb.yaml".into());
    assert_eq!(given.settled().log.level, tracing::Level::WARN);
    let b = given.input.default_paths[2].display().to_string();
    for flags in [vec!["--configFile", &b], vec!["-c", &b], vec![&format!("--configfile={b}") as &str]] {
        let input = Input { args: flags.iter().map(|f| (*f).to_owned()).collect(), ..given.input.clone() };
        assert_eq!(config::load(&input).unwrap().settled.log.level, tracing::Level::ERROR, "{flags:?}");
    }
    let mut input = given.input.clone();
    input.env.insert("RUST_LB_CONFIGFILE".into(), b.clone());
    assert_eq!(config::load(&input).unwrap().settled.file, Some(b.into()));
    input.args = vec!["-c".into(), "/nowhere/x.yaml".into()];
    let refused = lines(&config::load(&input).unwrap_err());
    assert!(refused[0].starts_with("/nowhere/x.yaml: error[unreadable_file]: cannot be read"), "{refused:?}");
    assert!(refused[0].ends_with("it was named by `-c`"), "{refused:?}");
}

#[test]
fn naming_entry_points_or_providers_drops_the_default_ones() {
    for given in [
        given().flags(&["--entryPoints.only.address=:1"]),
        given().env("TRAEFIK_ENTRYPOINTS_ONLY_ADDRESS", ":1"),
        yaml("entryPoints: {only: {address: ':1'}}"),
    ] {
        assert_eq!(addresses(&given.settled()), pairs(&[("only", ":1"), ("traefik", "127.0.0.1:8080")]));
        assert!(given.settled().nomad.is_some());
    }
    for (given, nomad, consul) in [
        (given().flags(&["--providers.nomad"]), true, false),
        (given().env("TRAEFIK_PROVIDERS_CONSULCATALOG", "true"), false, true),
        (given().flags(&["--providers.nomad=false"]), false, true),
        (given().flags(&["--providers.file.directory=/x"]), false, false),
        (given().env("NOMAD_ADDR", "http://n:4646"), true, true),
        (yaml("providers: {providersThrottleDuration: 1s}"), true, true),
    ] {
        let s = given.settled();
        assert_eq!(
            (s.nomad.is_some(), s.consul.is_some()),
            (nomad, consul),
            "{:?} {:?}",
            given.input.args,
            given.input.env
        );
    }
    let moved = given().flags(&["--entryPoints.traefik.address=127.0.0.1:9"]).settled();
    assert_eq!(addresses(&moved), pairs(&[("traefik", "127.0.0.1:9"), ("web", ":80"), ("websecure", ":443")]));
}

#[test]
fn a_file_with_rust_lbs_own_keys_alone_keeps_the_set_up() {
    let given = yaml("rustLb:\n  workers: 3\n  legacyTags: off\n  lastGood: {maxAge: off}\n");
    let s = given.settled();
    assert_eq!(s.own.workers, 3);
    assert!(s.access_log.is_some() && s.own.security_headers && s.own.last_good_max_age.is_none());
    assert_eq!(s.nomad.unwrap().common.legacy_tags.mode, LegacyMode::Off);
    let given = given.flags(&["--workers", "5", "--stateDir=/s", "--overlap", "--single-process"]);
    let own = given.env("RUST_LB_STATEDIR", "/no").env("RUST_LB_LINGER_FOR", "0s").settled().own;
    assert_eq!((own.workers, own.state_dir.to_str(), own.overlap, own.linger_for), (5, Some("/s"), true, secs(0)));
}

#[test]
fn the_admin_entry_point_listens_on_loopback_unless_insecure() {
    for (given, address) in [
        (given(), "127.0.0.1:8080"),
        (given().env("TRAEFIK_API_INSECURE", "true"), ":8080"),
        (yaml("api: {insecure: true}"), ":8080"),
        (yaml("api: {}\nping: {}\n"), "127.0.0.1:8080"),
        (given().flags(&["--api.insecure", "--entryPoints.traefik.address=127.0.0.1:0"]), "127.0.0.1:0"),
    ] {
        assert_eq!(ep(&given.settled(), "traefik").address.to_string(), address);
    }
}

#[test]
fn every_variable_of_the_agents_and_of_hind() {
    type Check = fn(&Settled) -> bool;
    let cases: &[(&str, &str, Check)] = &[
        ("DOMAIN_SUFFIX", "Apps.Example.", |s| {
            s.own.domain_suffix == "apps.example"
                && s.nomad.as_ref().unwrap().common.default_rule.contains(".apps.example`")
        }),
        ("NOMAD_ADDR", "https://n:4646", |s| s.nomad.as_ref().unwrap().common.endpoint == "https://n:4646"),
        ("NOMAD_ADDR", "unix:///secrets/api.sock", |s| {
            s.nomad.as_ref().unwrap().common.endpoint == "unix:///secrets/api.sock"
        }),
        (
            "NOMAD_TOKEN",
            "t",
            |s| matches!(&s.nomad.as_ref().unwrap().common.token, Token::Value(t) if t.reveal() == "t"),
        ),
        ("NOMAD_NAMESPACE", "team", |s| s.nomad.as_ref().unwrap().namespaces == ["team"]),
        ("NOMAD_REGION", "eu", |s| s.nomad.as_ref().unwrap().region == "eu"),
        ("NOMAD_CACERT", "/ca", |s| s.nomad.as_ref().unwrap().common.tls.ca.as_deref() == Some(Path::new("/ca"))),
        ("NOMAD_SKIP_VERIFY", "1", |s| s.nomad.as_ref().unwrap().common.tls.insecure_skip_verify),
        ("NOMAD_TLS_SERVER_NAME", "n", |s| s.nomad.as_ref().unwrap().common.tls.server_name.as_deref() == Some("n")),
        ("CONSUL_HTTP_ADDR", "c:8500", |s| s.consul.as_ref().unwrap().common.endpoint == "http://c:8500"),
        ("CONSUL_HTTP_ADDR", "unix:///c.sock", |s| s.consul.as_ref().unwrap().common.endpoint == "unix:///c.sock"),
        ("CONSUL_HTTP_SSL", "true", |s| s.consul.as_ref().unwrap().common.endpoint == "https://127.0.0.1:8500"),
        ("CONSUL_HTTP_SSL", "false", |s| s.consul.as_ref().unwrap().common.endpoint == "http://127.0.0.1:8500"),
        ("CONSUL_HTTP_SSL_VERIFY", "false", |s| s.consul.as_ref().unwrap().common.tls.insecure_skip_verify),
        ("CONSUL_HTTP_SSL_VERIFY", "true", |s| !s.consul.as_ref().unwrap().common.tls.insecure_skip_verify),
        (
            "CONSUL_HTTP_TOKEN",
            "t",
            |s| matches!(&s.consul.as_ref().unwrap().common.token, Token::Value(t) if t.reveal() == "t"),
        ),
        (
            "CONSUL_HTTP_TOKEN_FILE",
            "/t",
            |s| matches!(&s.consul.as_ref().unwrap().common.token, Token::File(f) if f == Path::new("/t")),
        ),
        ("CONSUL_CACERT", "/ca", |s| s.consul.as_ref().unwrap().common.tls.ca.as_deref() == Some(Path::new("/ca"))),
        ("CONSUL_NAMESPACE", "ns", |s| s.consul.as_ref().unwrap().namespaces == ["ns"]),
        ("CONSUL_PARTITION", "p", |s| s.consul.as_ref().unwrap().partition == "p"),
        ("TRAEFIK_PROVIDER_PRIMARY", "consul", |s| s.own.primary == Primary::Consul),
        ("TRAEFIK_API_INSECURE", "true", |s| s.api_insecure),
        ("FQDN", "a.example,b.example", |s| s.hind.fqdn == ["a.example", "b.example"]),
        ("NOMAD_ADDR_EXTRA", "x.example", |s| s.hind.nomad_addr_extra == ["x.example"]),
        ("TRUSTED_PROXIES", "192.0.2.0/24", |s| {
            s.hind.trusted_proxies.len() == 1 && ep(s, "web").forwarded_headers.trusted_ips == s.hind.trusted_proxies
        }),
        ("ALLOWED_REMOTE_IPS_CONTROL_PLANE", "192.0.2.1", |s| s.hind.allowed_remote_ips_control_plane.len() == 1),
        ("CLIENT_ONLY_NODE", "true", |s| s.nomad.is_some()),
        ("TRAEFIK_ENTRYPOINTS_TRAEFIK_FORWARDEDHEADERS_TRUSTEDIPS_0", "192.0.2.1", |s| {
            ep(s, "traefik").forwarded_headers.trusted_ips.len() == 1
        }),
        ("traefik_log_level", "debug", |s| s.log.level == tracing::Level::DEBUG),
    ];
    for (name, value, check) in cases {
        let given = given().env(name, value);
        // What is read and of no use yet is told, and nothing else.
        let idle = |told: &String| {
            ["not_served", "tls_unused", "no_control_plane"].iter().any(|code| told.contains(&format!("[{code}]")))
        };
        assert!(given.warnings().iter().all(idle), "{name}={value}: {:?}", given.warnings());
        assert!(check(&given.settled()), "{name}={value}: {:#?}", given.settled());
    }
    let both = given().env("NOMAD_CLIENT_CERT", "/c").env("NOMAD_CLIENT_KEY", "/k").settled().nomad.unwrap().common.tls;
    assert_eq!((both.cert.as_deref(), both.key.as_deref()), (Some(Path::new("/c")), Some(Path::new("/k"))));
    let both =
        given().env("CONSUL_CLIENT_CERT", "/c").env("CONSUL_CLIENT_KEY", "/k").settled().consul.unwrap().common.tls;
    assert_eq!((both.cert.as_deref(), both.key.as_deref()), (Some(Path::new("/c")), Some(Path::new("/k"))));
    let refused = given().env("NOMAD_CLIENT_CERT", "/c").refused();
    assert_eq!(
        refused[0],
        "$NOMAD_CLIENT_CERT: error[half_a_pair]: `providers.nomad.endpoint.tls` has a `cert` but no `key`"
    );
}

#[test]
fn the_agents_variables_are_defaults_below_the_file_and_traefiks_above() {
    let file = "providers:\n  nomad:\n    endpoint: {address: 'http://file:1', token: file}\n";
    let nomad = |given: &Given| given.settled().nomad.unwrap().common;
    let given = yaml(file).env("NOMAD_ADDR", "http://env:1").env("NOMAD_TOKEN", "env").env("NOMAD_REGION", "eu");
    assert_eq!(nomad(&given).endpoint, "http://file:1");
    assert!(matches!(nomad(&given).token, Token::Value(t) if t.reveal() == "file"));
    assert_eq!(given.settled().nomad.unwrap().region, "eu");
    let given = given.env("TRAEFIK_PROVIDERS_NOMAD_ENDPOINT_ADDRESS", "http://wins:1");
    assert_eq!(nomad(&given).endpoint, "http://wins:1");
    let given = given.flags(&["--providers.nomad.endpoint.tokenFile=/t"]);
    assert_eq!(nomad(&given).token, Token::File("/t".into()));
}

#[test]
fn unknown_variables_are_warnings_and_bad_values_errors() {
    let injected = given()
        .env("TRAEFIK_PORT", "tcp://10.0.0.1:80")
        .env("RUST_LB_SERVICE_HOST", "10.0.0.1")
        .env("RUST_LB_TEST_REQUIRE", "x");
    let warnings = injected.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("$TRAEFIK_PORT: warning[unknown_key]: unknown key `port`"), "{warnings:?}");
    assert_eq!(
        given().env("TRAEFIK_ENTRYPOINT_WEB_ADDRESS", ":80").warnings(),
        [
            "$TRAEFIK_ENTRYPOINT_WEB_ADDRESS: warning[unknown_key]: unknown key `entrypoint`; did you mean `entryPoints`?"
        ]
    );
    for (name, value, part) in [
        ("TRAEFIK_LOG_LEVEL", "loud", "expected one of `TRACE`"),
        ("NOMAD_ADDR", "ftp://x", "expected `http://host:port`"),
        ("NOMAD_SKIP_VERIFY", "perhaps", "expected `true` or `false`"),
        ("CONSUL_HTTP_SSL", "perhaps", "expected `true` or `false`"),
        ("TRAEFIK_PROVIDER_PRIMARY", "etcd", "expected one of `nomad`, `consul`"),
        ("TRUSTED_PROXIES", "everyone", "expected an address or a network"),
        ("RUST_LB_WORKERS", "0", "from 1 to 1024"),
    ] {
        let refused = given().env(name, value).refused();
        assert!(refused[0].starts_with(&format!("${name}: error")) && refused[0].contains(part), "{refused:?}");
    }
    assert_eq!(
        given().env("NOMAD_ADDR", "").env("TRAEFIK_LOG_LEVEL", "").settled(),
        given().settled(),
        "empty is not set"
    );
    for (text, on) in [("1", true), ("false", true), (" ", false)] {
        let given = given().env("CERTS_SELF_SIGNED", text);
        assert_eq!((given.settled().certificates.self_signed, given.warnings().len()), (on, 0), "{text:?}");
    }
}

#[test]
fn files_and_the_api_as_providers() {
    let files = |flags: &[&str]| given().flags(flags).settled().files;
    let one = files(&["--providers.file.filename=/x.yaml", "--providers.file.watch=false"]).expect("on");
    assert_eq!((one.path.to_str(), one.is_directory, one.watch), (Some("/x.yaml"), false, false));
    let both = given().flags(&["--providers.file.filename=/x.yaml", "--providers.file.directory=/d"]);
    assert!(both.warnings()[0].contains("file_unused"), "{:?}", both.warnings());
    assert!(both.settled().files.expect("on").is_directory);
    assert!(given().flags(&["--providers.file=true"]).refused()[0].contains("no_file"));
    let rest = |flags: &[&str]| (given().flags(flags).warnings(), given().flags(flags).settled().rest);
    let (warnings, on) = rest(&["--providers.rest=true"]);
    assert!(warnings[0].contains("rest_without_token") && on.is_some_and(|rest| !rest.insecure), "{warnings:?}");
    let (warnings, on) = rest(&["--providers.rest.insecure=true"]);
    assert!(warnings[0].contains("rest_insecure") && on.is_some_and(|rest| rest.insecure), "{warnings:?}");
    assert_eq!(rest(&["--providers.rest=true", "--rustLb.api.tokenFile=/t"]).0, [""; 0]);
}
