//! Static configuration as people give it: files, variables and flags through [`config::load`], and
//! what `check` says of them.

use proptest::prelude::*;
use rust_lb::cli::check;
use rust_lb::config::{self, EntryPoint, Input, LegacyMode, LogFormat, Primary, Settled, Token};
use rust_lb::diagnostic::Diagnostic;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What a run would be given: files in a directory of their own, no real environment.
#[derive(Default)]
struct Given {
    input: Input,
    dir: Option<tempfile::TempDir>,
}

impl Given {
    fn env(mut self, name: &str, value: &str) -> Self {
        self.input.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flags(mut self, flags: &[&str]) -> Self {
        self.input.args.extend(flags.iter().map(|f| (*f).to_owned()));
        self
    }

    fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let dir = self.dir.take().unwrap_or_else(|| tempfile::tempdir().unwrap());
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        self.input.default_paths.push(path);
        self.dir = Some(dir);
        self
    }

    fn load(&self) -> Result<config::Loaded, Vec<Diagnostic>> {
        config::load(&self.input)
    }

    /// What is settled; nothing may be refused.
    #[track_caller]
    fn settled(&self) -> Settled {
        match self.load() {
            Ok(loaded) => loaded.settled,
            Err(problems) => panic!("{}", lines(&problems).join("\n")),
        }
    }

    /// Warnings of what holds.
    #[track_caller]
    fn warnings(&self) -> Vec<String> {
        self.cut(&self.load().unwrap_or_else(|p| panic!("{}", lines(&p).join("\n"))).diagnostics)
    }

    /// Problems of what does not hold.
    #[track_caller]
    fn refused(&self) -> Vec<String> {
        self.cut(&self.load().expect_err("should be refused"))
    }

    /// Without the directory, which differs with each run.
    fn cut(&self, problems: &[Diagnostic]) -> Vec<String> {
        let dir = self.dir.as_ref().map(|dir| format!("{}/", dir.path().display())).unwrap_or_default();
        let cut = |line: String| if dir.is_empty() { line } else { line.replace(&dir, "") };
        lines(problems).into_iter().map(cut).collect()
    }
}

fn given() -> Given {
    Given::default()
}

fn yaml(text: &str) -> Given {
    given().file("t.yaml", text)
}

fn toml(text: &str) -> Given {
    given().file("t.toml", text)
}

fn lines(problems: &[Diagnostic]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn addresses(settled: &Settled) -> Vec<(String, String)> {
    settled.entry_points.values().map(|ep| (ep.name.to_string(), ep.address.to_string())).collect()
}

fn ep<'a>(settled: &'a Settled, name: &str) -> &'a EntryPoint {
    &settled.entry_points[name]
}

fn pairs(want: &[(&str, &str)]) -> Vec<(String, String)> {
    want.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

// ---- nothing said ----

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
    assert_eq!(s.access_log.unwrap().format, LogFormat::Json);
    assert!(s.metrics.unwrap().routers_labels && s.own.security_headers);
    assert_eq!(s.log.level, tracing::Level::INFO);
    assert_eq!(
        (s.own.state_dir.as_path(), s.own.certificates_dir.as_path()),
        (Path::new("/var/lib/rust-lb"), Path::new("/pv/CERTS"))
    );
    assert_eq!((s.own.linger_for, s.own.linger_wait, s.own.reset_hold), (secs(10), secs(5), secs(600)));
    assert_eq!((s.own.last_good_max_age, s.own.primary), (Some(secs(86_400)), Primary::Nomad));
    assert!(s.own.workers >= 1);
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

// ---- the static files of the design start unchanged ----

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
    assert_eq!(settle("rust-lb.yaml"), settle("rust-lb.toml"));
    let mut hind = settle("hind.yaml");
    hind.consul.as_mut().unwrap().watch_connections = 128;
    assert_eq!(hind, given().settled(), "what holds without a file");
}

// ---- where things come from ----

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

// ---- the environment ----

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
        ("CERTS_SELF_SIGNED", "yes", |s| s.hind.certs_self_signed),
        ("ALLOWED_REMOTE_IPS_CONTROL_PLANE", "192.0.2.1", |s| s.hind.allowed_remote_ips_control_plane.len() == 1),
        ("ALLOWED_REMOTE_IPS_SERVICES", "192.0.2.1 10.0.0.0/8", |s| s.hind.allowed_remote_ips_services.len() == 2),
        ("CLIENT_ONLY_NODE", "true", |s| s.nomad.is_some()),
        ("TRAEFIK_ENTRYPOINTS_TRAEFIK_FORWARDEDHEADERS_TRUSTEDIPS_0", "192.0.2.1", |s| {
            ep(s, "traefik").forwarded_headers.trusted_ips.len() == 1
        }),
        ("traefik_log_level", "debug", |s| s.log.level == tracing::Level::DEBUG),
    ];
    for (name, value, check) in cases {
        let given = given().env(name, value);
        assert_eq!(given.warnings(), [""; 0], "{name}={value}");
        assert!(check(&given.settled()), "{name}={value}: {:#?}", given.settled());
    }
    let both = given().env("NOMAD_CLIENT_CERT", "/c").env("NOMAD_CLIENT_KEY", "/k").settled().nomad.unwrap().common.tls;
    assert_eq!((both.cert.as_deref(), both.key.as_deref()), (Some(Path::new("/c")), Some(Path::new("/k"))));
    let both =
        given().env("CONSUL_CLIENT_CERT", "/c").env("CONSUL_CLIENT_KEY", "/k").settled().consul.unwrap().common.tls;
    assert_eq!((both.cert.as_deref(), both.key.as_deref()), (Some(Path::new("/c")), Some(Path::new("/k"))));
    let refused = given().env("NOMAD_CLIENT_CERT", "/c").refused();
    assert_eq!(
        refused,
        ["$NOMAD_CLIENT_CERT: error[half_a_pair]: `providers.nomad.endpoint.tls` has a `cert` but no `key`"]
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
    for name in ["ACME_DNS", "ON_DEMAND_TLS_ASK"] {
        assert!(given().env(name, "x").warnings()[0].contains("not served yet"));
    }
}

// ---- files ----

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
        "providers:\n  nomad: {}\n  docker:\n    exposedByDefault: false\n  file:\n    directory: /d\n  consul:\n    endpoints: ['127.0.0.1:8500']\n    rootKey: traefik\ncertificatesResolvers:\n  le:\n    acme:\n      email: a@b.c\n      httpChallenge:\n        entryPoint: web\ntracing:\n  otlp: {}\nhostResolver: false\n",
    );
    let told = given.warnings();
    let starts = [
        "t.yaml:3:3: warning[not_served]: `providers.docker` is known to Traefik",
        "t.yaml:5:3: warning[not_served]: `providers.file` is known to Traefik",
        "t.yaml:7:3: warning[not_served]: `providers.consul` is known to Traefik",
        "t.yaml:10:1: warning[not_served]: `certificatesResolvers` is known to Traefik",
        "t.yaml:16:1: warning[not_served]: `tracing` is known to Traefik",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told}");
    }
    assert!(told[1].contains("dynamic configuration are not read yet") && told[3].contains("ACME"));
    assert!(given.settled().consul.is_none(), "KV is not the catalog");
}

#[test]
fn twins_in_yaml_toml_and_json_settle_equal() {
    let yaml_text = "accessLog:\n  filePath: /var/log/a.log\nmetrics:\n  prometheus:\n    buckets: [0.1, 2]\nentryPoints:\n  a:\n    address: 127.0.0.1:1\n    http:\n      middlewares: [x@nomad, y@nomad]\n      maxHeaderBytes: 64KiB\n    http2:\n      maxConcurrentStreams: 7\nserversTransport:\n  rootCAs: [/a.pem]\n  maxIdleConnsPerHost: 3\n  forwardingTimeouts:\n    dialTimeout: 5\n";
    let toml_text = "[accessLog]\nfilePath = '/var/log/a.log'\n[metrics.prometheus]\nbuckets = [0.1, 2]\n[entryPoints.a]\naddress = '127.0.0.1:1'\nhttp.middlewares = ['x@nomad', 'y@nomad']\nhttp.maxHeaderBytes = '64KiB'\nhttp2.maxConcurrentStreams = 7\n[serversTransport]\nrootCAs = ['/a.pem']\nmaxIdleConnsPerHost = 3\nforwardingTimeouts.dialTimeout = 5\n";
    let json_text = r#"{"accessLog":{"filePath":"/var/log/a.log"},"metrics":{"prometheus":{"buckets":[0.1,2]}},"entryPoints":{"a":{"address":"127.0.0.1:1","http":{"middlewares":["x@nomad","y@nomad"],"maxHeaderBytes":"64KiB"},"http2":{"maxConcurrentStreams":7}}},"serversTransport":{"rootCAs":["/a.pem"],"maxIdleConnsPerHost":3,"forwardingTimeouts":{"dialTimeout":5}}}"#;
    let bare = |given: Given| Settled { file: None, ..given.settled() };
    let first = bare(yaml(yaml_text));
    assert_eq!(first, bare(toml(toml_text)));
    assert_eq!(first, bare(given().file("t.json", json_text)));
    let a = ep(&first, "a");
    assert_eq!((a.middlewares.len(), a.max_header_bytes, a.max_concurrent_streams), (2, 65_536, 7));
    assert_eq!((first.servers_transport.dial_timeout, first.servers_transport.max_idle_per_server), (secs(5), 3));
    assert_eq!(first.access_log.unwrap().format, LogFormat::Common);
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
    assert!(told.len() == 1 && told[0].contains("certificates are not ordered by ACME yet"), "{told:?}");
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

// ---- check ----

fn check_of(given: &Given, strict: bool, json: bool) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = check::run(&given.input, check::Options { strict, json, ..Default::default() }, &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn check_tells_problems_and_what_is_settled() {
    let (code, out, err) = check_of(&given(), true, false);
    assert_eq!((code, err.as_str()), (0, ""));
    for part in [
        "the configuration holds",
        "websecure",
        ":443",
        "127.0.0.1:8080",
        "http://127.0.0.1:4646",
        "up to 128 routed services",
        "http_max_conns_per_client",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let bad = yaml("entryPoints:\n  web:\n    adress: ':80'\n");
    let (code, out, err) = check_of(&bad, false, false);
    assert_eq!(code, 1);
    assert!(out.contains("does not hold (1 error, 0 warnings)"), "{out}");
    assert!(
        err.contains("t.yaml:3:5\n") && err.contains("    ^^^^^^\n") && err.contains("did you mean `address`?"),
        "{err}"
    );
    let warned = yaml("tracing: {}\n");
    assert_eq!((check_of(&warned, false, false).0, check_of(&warned, true, false).0), (0, 1));
    assert_eq!(check_of(&yaml("entryPoints: {a: {address: ':1'}}"), true, false).0, 0, "notes are no warnings");
}

#[test]
fn check_exits_with_two_when_the_command_line_is_wrong() {
    for flags in [&["--bogus"][..], &["stray"], &["--log.level"], &["--standby", "unix:/x"]] {
        assert_eq!(check_of(&given().flags(flags), false, false).0, 2, "{flags:?}");
    }
    assert_eq!(check_of(&given().flags(&["--log.level=loud"]), false, false).0, 1);
}

#[test]
fn check_in_json_is_one_document_without_secrets() {
    let given = yaml("providers:\n  nomad:\n    endpoint: {token: hunter2}\ntracing: {}\n");
    let (code, out, err) = check_of(&given, false, true);
    assert_eq!((code, err.as_str()), (0, ""));
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&value["ok"], &value["problems"][0]["code"]), (&true.into(), &"not_served".into()));
    assert_eq!(value["settled"]["providers"]["nomad"]["token"], "given");
    assert_eq!(value["settled"]["entryPoints"]["web"]["address"], ":80");
    assert!(!out.contains("hunter2"));
    let (code, out, _) = check_of(&yaml("tracin: {}\n"), false, true);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &value["ok"], &value["settled"], &value["problems"][0]["line"]),
        (1, &false.into(), &().into(), &1.into())
    );
}

// ---- whatever comes ----

fn keyish() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("entryPoints".to_owned()),
        Just("providers".to_owned()),
        Just("consul".to_owned()),
        Just("nomad".to_owned()),
        Just("endpoint".to_owned()),
        Just("address".to_owned()),
        Just("forwardedHeaders".to_owned()),
        Just("trustedIPs".to_owned()),
        Just("rustLb".to_owned()),
        Just("[0]".to_owned()),
        "[a-zé.\\[\\]0-9]{0,6}",
    ]
}

proptest! {
    #[test]
    fn any_text_as_a_file_is_answered(text in "\\PC{0,200}", toml in any::<bool>()) {
        let given = given().file(if toml { "t.toml" } else { "t.yaml" }, text);
        let _ = given.load();
        check_of(&given, true, false);
    }

    #[test]
    fn any_bytes_as_a_file_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200), toml in any::<bool>()) {
        let _ = given().file(if toml { "t.toml" } else { "t.yaml" }, bytes).load();
    }

    #[test]
    fn any_groups_as_a_file_are_answered(lines in proptest::collection::vec((0usize..6, keyish(), "\\PC{0,10}"), 0..12)) {
        let text: String = lines.iter().map(|(depth, key, value)| format!("{}{key}: {value}\n", "  ".repeat(*depth))).collect();
        let given = given().file("t.yaml", text);
        let _ = given.load();
        check_of(&given, false, true);
    }

    #[test]
    fn any_flags_and_variables_are_answered(
        flags in proptest::collection::vec((proptest::collection::vec(keyish(), 0..5), "\\PC{0,12}", any::<bool>()), 0..5),
        env in proptest::collection::btree_map("(TRAEFIK|RUST_LB|NOMAD|CONSUL)_(ADDR|TOKEN|[A-Z0-9_é]{0,20})|FQDN|TRUSTED_PROXIES", "\\PC{0,12}", 0..5),
    ) {
        let mut input = Input { env, ..Input::default() };
        for (path, value, joined) in flags {
            match joined {
                true => input.args.push(format!("--{}={value}", path.join("."))),
                false => input.args.extend([format!("--{}", path.join(".")), value]),
            }
        }
        // A path to a file of this machine is nothing to try at random.
        input.env.retain(|name: &String, _| !name.contains("CONFIG"));
        input.args.retain(|arg| !arg.starts_with("-c"));
        let _ = config::load(&input);
    }
}

#[test]
fn the_process_is_asked_only_here() {
    let input = Input::of_process(vec!["--log.level=warn".into()]);
    assert_eq!(input.default_paths.len(), config::DEFAULT_PATHS.len());
    let same: BTreeMap<_, _> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    assert_eq!(input.env, same);
}
