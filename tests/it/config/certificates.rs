//! Who orders certificates, as it is said in files, flags and HinD's variables.

use super::*;
use rust_lb::config::{CertificateStore, DEFAULT_RESOLVER};

#[test]
fn hinds_set_up_orders_from_lets_encrypt_unless_resolvers_are_named_or_it_signs_itself() {
    let hind = given().settled().certificates;
    let resolver = &hind.resolvers[DEFAULT_RESOLVER];
    assert_eq!(hind.automatic.as_deref(), Some(DEFAULT_RESOLVER));
    assert_eq!(resolver.ca_server, "https://acme-v02.api.letsencrypt.org/directory");
    assert!(resolver.http.is_some() && resolver.tls.is_some() && resolver.dns.is_none() && resolver.email.is_empty());
    assert_eq!((hind.store, hind.on_demand), (CertificateStore::Directory, None));

    let own = yaml("certificatesResolvers:\n  le:\n    acme: {email: a@example.com, tlsChallenge: {}}\n").settled();
    assert_eq!((own.certificates.resolvers.len(), own.certificates.automatic), (1, None));
    let named = "--rustLb.certificates.resolver=le";
    let own = given().flags(&["--certificatesResolvers.le.acme.httpChallenge=true", named]).settled();
    assert_eq!(own.certificates.automatic.as_deref(), Some("le"));

    let signed = given().env("CERTS_SELF_SIGNED", "true").settled().certificates;
    assert!(signed.self_signed && signed.resolvers.is_empty() && signed.automatic.is_none());
    let none = given().flags(&["--rustLb.certificates.resolver=none"]).settled().certificates;
    assert_eq!((none.resolvers.len(), none.automatic), (0, None));
    let other = given().flags(&["--entryPoints.web.address=:81"]).settled().certificates;
    assert_eq!((other.resolvers.len(), other.automatic), (0, None), "only in HinD's set-up");
}

#[test]
fn acme_dns_has_wildcards_ordered_and_no_other_challenge() {
    let given = given().env("ACME_DNS", "Example.com, *.b.example.org").env("ON_DEMAND_TLS_ASK", "http://127.0.0.1/ok");
    assert_eq!(given.warnings(), [""; 0]);
    let said = given.settled().certificates;
    let resolver = &said.resolvers[DEFAULT_RESOLVER];
    assert_eq!(said.wildcards, ["example.com", "b.example.org"]);
    assert!(resolver.http.is_none() && resolver.tls.is_none());
    let dns = resolver.dns.as_ref().expect("by DNS");
    assert_eq!(dns.provider, "acme-dns");
    assert_eq!(dns.variables["ACME_DNS_STORAGE_PATH"].reveal(), "/pv/CERTS/acme-dns.json");
    let on_demand = said.on_demand.expect("on");
    assert_eq!(on_demand.ask.as_deref(), Some("http://127.0.0.1/ok"));
    assert_eq!((on_demand.per_domain, on_demand.per_process, on_demand.per_service), (5, 20, 10));
    assert_eq!(on_demand.remember, secs(600));
}

#[test]
fn a_resolver_is_read_in_traefiks_words() {
    let text = "entryPoints:\n  web: {address: ':80'}\n  sec:\n    address: ':443'\n    http:\n      tls:\n        certResolver: le\n        domains:\n          - {main: Example.com, sans: ['*.example.com', b.example.com]}\n\
         certificatesResolvers:\n  le:\n    acme:\n      caServer: https://ca.example/dir\n      email: ops@example.com\n      storage: /x/acme.json\n      \
         keyType: RSA4096\n      preferredChain: X1\n      profile: short\n      caCertificates: [/x/ca.pem]\n      caServerName: ca\n      eab: {kid: k, hmacEncoded: c2VjcmV0}\n      \
         clientTimeout: 5s\n      httpChallenge: {entryPoint: web, delay: 2s}\n      dnsChallenge:\n        provider: CloudFlare\n        resolvers: ['1.1.1.1:53']\n        \
         propagation: {delayBeforeChecks: 3s, requireAllRNS: true, disableANSChecks: true}\n";
    let given = yaml(text).env("CF_DNS_API_TOKEN", "hush").env("PATH", "/bin");
    assert_eq!(given.warnings(), [""; 0]);
    let settled = given.settled();
    let sec = ep(&settled, "sec");
    assert_eq!(&*sec.cert_resolver, "le");
    assert_eq!(sec.cert_domains, ["example.com", "*.example.com", "b.example.com"]);
    let le = &settled.certificates.resolvers["le"];
    assert_eq!(
        (le.ca_server.as_str(), le.email.as_str(), le.key_type.as_str()),
        ("https://ca.example/dir", "ops@example.com", "RSA4096")
    );
    assert_eq!(le.storage.as_deref(), Some(Path::new("/x/acme.json")));
    assert_eq!((le.preferred_chain.as_deref(), le.profile.as_deref()), (Some("X1"), Some("short")));
    let (kid, key) = le.eab.as_ref().expect("an external account");
    assert_eq!((kid.as_str(), key.reveal()), ("k", "c2VjcmV0"));
    assert_eq!((le.http, le.tls, le.client_timeout), (Some(secs(2)), None, secs(5)));
    let dns = le.dns.as_ref().expect("by DNS");
    assert_eq!((dns.provider.as_str(), dns.delay), ("cloudflare", secs(3)));
    assert!(dns.require_all && dns.skip_authoritative && !dns.disable_checks);
    assert_eq!(dns.variables.keys().collect::<Vec<_>>(), ["CF_DNS_API_TOKEN"]);
    assert!(!format!("{settled:?}").contains("hush"));
}

#[test]
fn what_cannot_work_is_refused() {
    let resolver = |more: &str| yaml(&format!("certificatesResolvers:\n  le:\n    acme: {{{more}}}\n"));
    for (given, part) in [
        (resolver("email: a@b.c"), "no challenge is named"),
        (resolver("caServer: http://ca.example/dir, tlsChallenge: {}"), "expected an `https://` URL"),
        (resolver("eab: {kid: k}, tlsChallenge: {}"), "no `hmacEncoded`"),
        (resolver("eab: {hmacEncoded: aa}, tlsChallenge: {}"), "no `kid`"),
        (resolver("httpChallenge: {entryPoint: wbe}"), "no entry point `wbe`"),
        (resolver("dnsChallenge: {}"), "names no `provider`"),
        (resolver("keyType: DSA, tlsChallenge: {}"), "expected one of"),
        (given().flags(&["--rustLb.certificates.resolver=le"]), "names `le`"),
        (given().env("ON_DEMAND_TLS_ASK", "ask.example"), "expected the URL"),
        (given().env("ACME_DNS", "true"), "expected domains"),
    ] {
        let refused = given.refused();
        assert!(refused.iter().any(|line| line.contains(part)), "{part}: {refused:?}");
    }
    let here = resolver("caServer: 'http://127.0.0.1:14000/dir', tlsChallenge: {}");
    assert_eq!(here.settled().certificates.resolvers.len(), 1, "plain HTTP within this machine");
}
