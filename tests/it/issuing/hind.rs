//! HinD's way: hosts of `https://` tags and of `FQDN` get certificates without anybody asking for them.

use super::World;
use crate::acme::ca::{Look, Manner};
use crate::support::proxy::Catalog;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

#[test]
fn hosts_of_site_tags_and_of_fqdn_are_ordered_for() {
    let world = World::new(Manner { waits: true, ..Manner::default() });
    let catalog = Catalog::start();
    let tag = ["https://app.shop.com", "urlprefix-old.shop.com/"];
    catalog.register("a", "app", world.server.addr, &tag[..1]);
    // Fabio's tags and Traefik's without a resolver ask for nothing, nor do names of the own network.
    catalog.register("b", "old", world.server.addr, &tag[1..]);
    catalog.register(
        "c",
        "web",
        world.server.addr,
        &["traefik.enable=true", "traefik.http.routers.w.rule=Host(`w.shop.com`)"],
    );
    catalog.register("d", "inner", world.server.addr, &["https://inner.localhost"]);
    let setup = world.setup(&["--rustLb.certificates.resolver=tls"]);
    let setup = setup
        .env("FQDN", "nomad.shop.com")
        .arg(format!("--providers.consulCatalog.endpoint.address=http://{}", catalog.consul()))
        .arg("--providers.consulCatalog.exposedByDefault=false");
    let proxy = world.start(setup);
    world.wait_for(&proxy, "app.shop.com");
    world.wait_for(&proxy, "nomad.shop.com");
    assert_eq!(world.orders(), 2);
    // One more tag, one more order; one that goes leaves its certificate where it is.
    catalog.register("e", "new", world.server.addr, &["https://new.shop.com"]);
    world.wait_for(&proxy, "new.shop.com");
    catalog.deregister("a");
    assert!(world.site("app.shop.com").join("app.shop.com.crt").exists());
    assert_eq!(world.orders(), 3);
}

#[test]
fn the_domain_of_acme_dns_gets_a_wildcard_by_dns() {
    let world = World::new(Manner { waits: true, ..Manner::default() });
    let dir = tempfile::tempdir().expect("a folder");
    let (program, zone) = (dir.path().join("records"), dir.path().join("zone"));
    let script = format!("#!/bin/sh\n[ \"$1\" != present ] || echo \"${{2%.}} $3\" >>'{}'\n", zone.display());
    fs::write(&program, script).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("executable");
    let key = "--certificatesResolvers.wild.acme";
    let mut setup = world.setup(&["--rustLb.certificates.resolver=wild"]);
    for flag in [
        format!("caServer={}", world.ca.directory()),
        format!("caCertificates={}", world.dir.path().join("ca.pem").display()),
        "dnsChallenge.provider=exec".to_owned(),
        "dnsChallenge.propagation.disableChecks=true".to_owned(),
    ] {
        setup = setup.arg(format!("{key}.{flag}"));
    }
    let setup = setup
        .env("ACME_DNS", "shop.com")
        .env("PATH", "/usr/bin:/bin")
        .env("EXEC_PATH", &program.display().to_string())
        .env("LEGO_DISABLE_CNAME_SUPPORT", "true");
    let proxy = world.start_beside(setup);
    let (http, tls) = (proxy.serve.web(), proxy.serve.address("websecure"));
    let txt = move |name: &str| {
        let records = fs::read_to_string(&zone).unwrap_or_default();
        let of_name = records.lines().filter_map(|line| line.split_once(' ')).filter(|(of, _)| *of == name);
        of_name.map(|(_, value)| value.to_owned()).collect()
    };
    world.ca.change(|manner| manner.look = Look { http: Some(http), tls: Some(tls), txt: Arc::new(txt) });
    let site = world.site("wildcard_.shop.com").join("wildcard_.shop.com.crt");
    let chain = crate::support::eventually("the wildcard is there", || fs::read_to_string(&site).ok());
    let second = chain.rfind("-----BEGIN CERTIFICATE-----").expect("a chain");
    crate::support::eventually("any host of the domain has it", || {
        super::leaf(tls, "any.shop.com", &chain.as_bytes()[second..])
    });
    assert_eq!(world.orders(), 1);
}
