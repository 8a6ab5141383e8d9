//! Variables to settings.

use super::*;
use std::collections::BTreeMap;

fn read_all(provider: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
    let map: BTreeMap<&str, &str> = variables.iter().copied().collect();
    Settings::from_variables(provider, |name| map.get(name).map(|v| (*v).to_owned())).map_err(|e| e.to_string())
}

#[test]
fn an_unknown_provider_is_told_with_those_that_are_known() {
    let error = read_all("route53", &[]).expect_err("unknown");
    for known in PROVIDERS {
        assert!(error.contains(known), "{error}");
        let known = read_all(known, &[]).expect_err("nothing is set");
        assert!(known.contains(" needs "), "{known}");
    }
    assert!(error.contains("route53"));
}

#[test]
fn what_is_missing_is_named() {
    for (provider, variables, missing) in [
        ("acme-dns", &[][..], "ACME_DNS_STORAGE_PATH"),
        ("rfc2136", &[], "RFC2136_NAMESERVER"),
        ("rfc2136", &[("RFC2136_NAMESERVER", "ns"), ("RFC2136_TSIG_KEY", "k")], "RFC2136_TSIG_SECRET"),
        ("rfc2136", &[("RFC2136_NAMESERVER", "ns"), ("RFC2136_TSIG_SECRET", "c2VjcmV0")], "RFC2136_TSIG_KEY"),
        ("cloudflare", &[], "CF_DNS_API_TOKEN"),
        ("cloudflare", &[("CF_API_EMAIL", "a@b.test")], "CF_API_KEY"),
        ("cloudflare", &[("CF_API_KEY", "k")], "CF_API_EMAIL"),
        ("exec", &[], "EXEC_PATH"),
        ("httpreq", &[], "HTTPREQ_ENDPOINT"),
        ("httpreq", &[("HTTPREQ_ENDPOINT", "http://h.test"), ("HTTPREQ_USERNAME", "u")], "HTTPREQ_PASSWORD"),
    ] {
        let error = read_all(provider, variables).expect_err(missing);
        assert!(error.contains(missing) && error.contains(provider), "{provider}: {error}");
    }
}

#[test]
fn values_without_sense_are_refused_without_telling_secrets() {
    let secret = "hunter2-hunter2";
    for (provider, variables, says) in [
        ("rfc2136", &[("RFC2136_NAMESERVER", "a b")][..], "RFC2136_NAMESERVER"),
        (
            "rfc2136",
            &[("RFC2136_NAMESERVER", "ns"), ("RFC2136_TSIG_KEY", "k"), ("RFC2136_TSIG_SECRET", secret)],
            "RFC2136_TSIG_SECRET: ",
        ),
        ("rfc2136", &[("RFC2136_NAMESERVER", "ns"), ("RFC2136_TSIG_ALGORITHM", "hmac-md5")], "hmac-sha512"),
        ("rfc2136", &[("RFC2136_NAMESERVER", "ns"), ("RFC2136_ZONE", "a..b")], "label is empty"),
        ("rfc2136", &[("RFC2136_NAMESERVER", "ns"), ("RFC2136_TTL", "soon")], "RFC2136_TTL: expected a number"),
        ("rfc2136", &[("RFC2136_NAMESERVER", "ns"), ("RFC2136_PROPAGATION_TIMEOUT", "0")], "1 to 86400"),
        ("rfc2136", &[("RFC2136_NAMESERVER", "ns"), ("RFC2136_TSIG_GSS_USERNAME", "u")], "GSS-TSIG is not served"),
        ("cloudflare", &[("CF_DNS_API_TOKEN", secret), ("CF_TTL", "60")], "at least 120"),
        ("cloudflare", &[("CF_DNS_API_TOKEN", secret), ("CF_BASE_URL", "ftp://x")], "CF_BASE_URL: expected http"),
        ("exec", &[("EXEC_PATH", "/bin/true"), ("EXEC_MODE", "raw")], "say RAW"),
        ("httpreq", &[("HTTPREQ_ENDPOINT", "http://u:hunter2-hunter2@h.test/")], "name or password"),
        ("acme-dns", &[("ACME_DNS_STORAGE_PATH", "/x"), ("ACME_DNS_ALLOWLIST", "10.0.0.0/8,there")], "`there`"),
        ("acme-dns", &[("ACME_DNS_STORAGE_BASE_URL", "http://h.test")], "not served"),
        ("exec", &[("EXEC_PATH", "/bin/true"), ("LEGO_DISABLE_CNAME_SUPPORT", "maybe")], "true or false"),
        ("exec", &[("EXEC_PATH_FILE", "/does/not/exist")], "EXEC_PATH_FILE: /does/not/exist: "),
    ] {
        let error = read_all(provider, variables).expect_err(says);
        assert!(error.contains(says), "{provider}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn files_hold_what_variables_may() {
    let dir = tempfile::tempdir().expect("a directory");
    let token = dir.path().join("token");
    std::fs::write(&token, "from-a-file\r\n").expect("written");
    let path = token.to_str().expect("UTF-8");
    let settings = read_all("cloudflare", &[("CF_DNS_API_TOKEN_FILE", path)]).expect("settings");
    let Provider::Cloudflare(Cloudflare { credentials: CloudflareCredentials::Token { dns, zone }, .. }) =
        settings.provider
    else {
        panic!("{settings:?}")
    };
    assert_eq!((dns.reveal(), zone), ("from-a-file", None));
    // The variable itself goes first, as with lego.
    let settings = read_all("exec", &[("EXEC_PATH", "/bin/true"), ("EXEC_PATH_FILE", path)]).expect("settings");
    assert!(matches!(&settings.provider, Provider::Exec(exec) if exec.path == Path::new("/bin/true")), "{settings:?}");
    std::fs::write(&token, "\n").expect("written");
    let error = read_all("exec", &[("EXEC_PATH_FILE", path)]).expect_err("empty");
    assert!(error.contains("it is empty"), "{error}");
}

#[test]
fn every_setting_arrives_in_either_spelling() {
    for prefix in ["RFC2136", "DNSUPDATE"] {
        let variables = [
            ("NAMESERVER", "192.0.2.1:5353"),
            ("TSIG_ALGORITHM", "HMAC-SHA256."),
            ("TSIG_KEY", "Acme."),
            ("TSIG_SECRET", "c2VjcmV0"),
            ("ZONES", "a.test, b.test"),
            ("TTL", "60"),
            ("PROPAGATION_TIMEOUT", "300"),
            ("POLLING_INTERVAL", "5"),
            ("DNS_TIMEOUT", "3"),
        ]
        .map(|(name, value)| (format!("{prefix}_{name}"), value));
        let map: BTreeMap<&str, &str> = variables.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let settings = Settings::from_variables("rfc2136", |n| map.get(n).map(|v| (*v).to_owned())).expect(prefix);
        let key = TsigKey { name: "Acme.".into(), algorithm: Algorithm::Sha256, secret: Secret::new("c2VjcmV0") };
        let expected = Rfc2136 {
            nameserver: "192.0.2.1:5353".into(),
            key: Some(key),
            zones: vec!["a.test".into(), "b.test".into()],
            ttl: 60,
        };
        assert_eq!(settings.provider, Provider::Rfc2136(expected));
        let seconds = Duration::from_secs;
        let Timing { propagation, interval, query, .. } = settings.timing;
        assert_eq!((propagation, interval, query), (seconds(300), seconds(5), seconds(3)));
    }
    let settings = read_all("cloudflare", &[("CLOUDFLARE_EMAIL", "a@b.test"), ("CLOUDFLARE_API_KEY", "k")]);
    let settings = settings.expect("settings");
    assert!(
        matches!(&settings.provider, Provider::Cloudflare(Cloudflare { credentials: CloudflareCredentials::Key { email, .. }, base_url, ttl: 120 })
            if email == "a@b.test" && base_url.starts_with("https://api.cloudflare.com/")),
        "{settings:?}"
    );
    assert_eq!(settings.timing.propagation, Duration::from_secs(120));
    let raw = read_all(
        "httpreq",
        &[("HTTPREQ_ENDPOINT", "https://h.test/dns"), ("HTTPREQ_MODE", "RAW"), ("LEGO_DISABLE_CNAME_SUPPORT", "true")],
    );
    assert!(matches!(
        raw,
        Ok(Settings { provider: Provider::HttpReq(HttpReq { raw: true, .. }), follow_cname: false, .. })
    ));
}

#[test]
fn a_key_file_of_tsig_keygen_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("acme.key");
    std::fs::write(&file, "key \"acme\" {\n\talgorithm hmac-sha512;\n\tsecret \"c2VjcmV0\";\n};\n").expect("written");
    let path = file.to_str().expect("UTF-8");
    let set = [("RFC2136_NAMESERVER", "ns.test"), ("RFC2136_TSIG_FILE", path)];
    let settings = read_all("rfc2136", &set).expect("settings");
    let Provider::Rfc2136(Rfc2136 { key: Some(key), .. }) = settings.provider else { panic!("{settings:?}") };
    assert_eq!((key.name.as_str(), key.algorithm, key.secret.reveal()), ("acme", Algorithm::Sha512, "c2VjcmV0"));
    std::fs::write(&file, "key \"acme\" { algorithm hmac-sha512; };").expect("written");
    let error = read_all("rfc2136", &set).expect_err("no secret");
    assert!(error.contains("RFC2136_TSIG_FILE: it has no `secret`"), "{error}");
}

#[test]
fn nothing_shows_a_secret() {
    let secret = "hunter2hunter2=="; // no base64 of anything, but of its form
    let settings = [
        read_all("cloudflare", &[("CF_DNS_API_TOKEN", secret), ("CF_ZONE_API_TOKEN", secret)]),
        read_all("cloudflare", &[("CF_API_EMAIL", "a@b.test"), ("CF_API_KEY", secret)]),
        read_all(
            "httpreq",
            &[("HTTPREQ_ENDPOINT", "http://h.test"), ("HTTPREQ_USERNAME", "u"), ("HTTPREQ_PASSWORD", secret)],
        ),
    ];
    for settings in settings {
        let settings = settings.expect("settings");
        assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
        crate::certs::install_provider();
        let solver = crate::acme::dns::Solver::new(&settings, crate::acme::dns::Propagation::default());
        let shown = format!("{solver:?}");
        assert!(solver.is_ok() && !shown.contains("hunter2"), "{shown}");
    }
}
