//! What is known and not served is never passed over where it protects something.

use super::*;

/// A key, a value that asks for protection, and one that asks for nothing.
const GUARDS: &[(&str, &str, &str)] = &[
    ("providers.consulCatalog.connectByDefault", "true", "false"),
    ("serversTransport.spiffe", "true", "false"),
    ("metrics.prometheus.manualRouting", "true", "false"),
];

#[test]
fn what_would_weaken_a_set_up_if_ignored_is_an_error_from_every_source() {
    for (key, asks, nothing) in GUARDS {
        let flag = |value: &str| given().flags(&["--entryPoints.web.address=:80", &format!("--{key}={value}")]);
        let refused = flag(asks).refused();
        let start = format!(
            "--{key}: error[not_served]: `{key}` is known to Traefik, but not served yet; it is not passed over"
        );
        assert!(refused.len() == 1 && refused[0].starts_with(&start), "{refused:?}");
        assert_eq!(flag(nothing).warnings(), [""; 0], "{key}");

        let variable = format!("TRAEFIK_{}", key.replace('.', "_").to_ascii_uppercase());
        let refused = given().env("TRAEFIK_ENTRYPOINTS_WEB_ADDRESS", ":80").env(&variable, asks).refused();
        assert!(refused[0].starts_with(&format!("${variable}: error[not_served]")), "{refused:?}");
    }
}

#[test]
fn what_would_protect_the_admin_entry_point_is_not_passed_over() {
    for (key, value) in [("http.middlewares", "auth@file"), ("proxyProtocol.insecure", "true")] {
        let refused = given().flags(&[&format!("--entryPoints.traefik.{key}={value}")]).refused();
        assert!(refused[0].contains("error[not_served]: `entryPoints.traefik."), "{refused:?}");
    }
}

#[test]
fn identities_of_servers_are_not_passed_over() {
    let refused = given().flags(&["--serversTransport.spiffe.ids=spiffe://example.org/a"]).refused();
    assert!(refused[0].contains("error[not_served]: `serversTransport.spiffe`"), "{refused:?}");
}

#[test]
fn tls_on_the_admin_entry_point_is_refused_and_what_only_tunes_it_is_told() {
    let refused = given().flags(&["--entryPoints.traefik.http.tls=true"]).refused();
    assert!(refused[0].contains("error[not_served]: `entryPoints.traefik.http.tls`"), "{refused:?}");
    let told = given().flags(&["--entryPoints.traefik.transport.respondingTimeouts.readTimeout=5s"]).warnings();
    assert!(told[0].contains("readTimeout` does nothing"), "{told:?}");
}

#[test]
fn a_list_of_addresses_that_may_come_is_not_passed_over() {
    for name in ["ALLOWED_REMOTE_IPS_SERVICES", "ALLOWED_REMOTE_IPS_CONTROL_PLANE"] {
        let refused = given().env(name, "192.0.2.0/24 somewhere").refused();
        assert!(refused[0].starts_with(&format!("${name}: error")), "{refused:?}");
    }
    let control = given().env("ALLOWED_REMOTE_IPS_CONTROL_PLANE", "192.0.2.0/24");
    assert!(control.warnings()[0].contains("neither `FQDN` nor `NOMAD_ADDR_EXTRA`"), "{:?}", control.warnings());
    assert_eq!(control.env("FQDN", "hind.example").warnings(), [""; 0]);
    let socket = given().env("FQDN", "hind.example").env("NOMAD_ADDR", "unix:///secrets/api.sock").warnings();
    assert!(socket[0].contains("the control plane of `FQDN` is not served"), "{socket:?}");
}

#[test]
fn tls_files_towards_plain_http_are_told() {
    let told = given().env("CONSUL_CACERT", "/ca.pem").env("CONSUL_HTTP_ADDR", "c:8500").warnings();
    assert!(told[0].starts_with("$CONSUL_CACERT: warning[tls_unused]"), "{told:?}");
    assert_eq!(given().env("CONSUL_CACERT", "/ca.pem").env("CONSUL_HTTP_ADDR", "https://c:8501").warnings(), [""; 0]);
}

#[test]
fn a_token_in_the_address_is_refused_and_not_shown() {
    let refused = given().env("CONSUL_HTTP_ADDR", "http://c:8500/?token=hunter2").refused().join(" ");
    assert!(refused.contains("which has a query") && !refused.contains("hunter2"), "{refused}");
}

#[test]
fn certificates_are_not_kept_elsewhere_than_it_was_said() {
    let consul = ["--entryPoints.web.address=:80", "--rustLb.certificates.store=consul"];
    let with = |more: &'static str| given().flags(&[consul[0], consul[1], more]);
    let refused = with("--providers.nomad=true").refused();
    assert!(refused.len() == 1 && refused[0].contains("error[no_consul]: `rustLb.certificates.store`"), "{refused:?}");
    assert_eq!(with("--providers.consulCatalog=true").warnings(), [""; 0]);
    let refused = given().flags(&[consul[0], consul[1], "--rustLb.certificates.consul.prefix=a//../b"]).refused();
    assert!(refused.iter().any(|line| line.contains("error[bad_value]") && line.contains("a//../b")), "{refused:?}");
}
