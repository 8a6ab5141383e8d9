//! Certificates that are kept in Consul: one order for all who share it, what is put there by hand, and what stays served when
//! Consul is away, refuses, or has lost everything.

use super::{HTTP, Manner, Proxy, TLS, World, leaf};
use crate::support::binary::output;
use crate::support::proxy::Catalog;
use crate::support::{client, eventually};
use rust_lb::certs::storage::layout;
use rust_lb::embedded::Acl;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Where certificates are in Consul.
const BELOW: &str = "/v1/kv/rust-lb/certificates/";

/// A binary that keeps its certificates in this Consul.
fn over(world: &World, catalog: &Catalog) -> crate::support::serve::Setup {
    world.setup(&[
        "--rustLb.certificates.store=consul",
        "--providers.consulCatalog=true",
        &format!("--providers.consulCatalog.endpoint.address=http://{}", catalog.consul()),
    ])
}

fn mirror(proxy: &Proxy) -> PathBuf {
    proxy.routes.with_file_name("state").join("consul-certificates")
}

fn put(catalog: &Catalog, key: &str, value: &str) {
    let answer = client::send(catalog.consul(), "PUT", "c", &format!("{BELOW}{key}"), "", value);
    assert_eq!(answer.text().trim(), "true", "{key}");
}

/// Puts a pair there, chain first; gives what to trust.
fn put_pair(catalog: &Catalog, name: &str) -> String {
    let pair = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a pair");
    let site = layout::site("ca.example-dir", name);
    put(catalog, &site.crt, &pair.cert.pem());
    put(catalog, &site.key, &pair.signing_key.serialize_pem());
    put(catalog, &site.json, "{\"sans\":[],\"issuer_data\":null}");
    pair.cert.pem()
}

fn serves(proxy: &Proxy, name: &str, trust: &str) -> bool {
    leaf(proxy.serve.address("websecure"), name, trust.as_bytes()).is_some()
}

#[test]
fn two_processes_over_one_consul_order_once_and_serve_on_without_it() {
    let (world, catalog) = (World::new(Manner::default()), Catalog::start());
    let first = world.start(over(&world, &catalog));
    let second = world.start_beside(over(&world, &catalog));
    let names = ["one.shop.com", "two.shop.com"];
    // The authority comes to the first, whichever of the two has ordered.
    for proxy in [&second, &first] {
        proxy.route(&[(names[0], HTTP), (names[1], TLS)]);
    }
    let issuer = layout::issuer_key(&world.ca.directory());
    let trust = names.map(|name| {
        let path = format!("{BELOW}{}?raw", layout::site(&issuer, name).crt);
        let chain = eventually(&format!("{name} in Consul"), || {
            let answer = client::get(catalog.consul(), "c", &path);
            (answer.status == 200).then(|| answer.text())
        });
        chain[chain.rfind("-----BEGIN CERTIFICATE-----").expect("an intermediate")..].to_owned()
    });
    for (name, trust) in names.iter().zip(&trust) {
        for proxy in [&first, &second] {
            eventually(&format!("{name} is served"), || serves(proxy, name, trust).then_some(()));
        }
    }
    assert_eq!(world.orders(), 2);
    assert!(!world.certs.join("certificates").exists(), "nothing of it goes to the directory");
    let crt = mirror(&first).join(layout::site(&issuer, names[0]).crt);
    for (path, mode) in [(crt.clone(), 0o600), (crt.with_extension("key"), 0o600), (mirror(&first), 0o700)] {
        let found = std::fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }

    catalog.stop();
    assert!(first.problem("certificate_store").contains("not to be had"));
    // A process that begins now has the mirror alone.
    first.serve.hand_over(1);
    for (name, trust) in names.iter().zip(&trust) {
        assert!(serves(&first, name, trust) && serves(&second, name, trust), "{name}");
    }
    let state = format!("--rustLb.stateDir={}", mirror(&first).with_file_name("").display());
    let certs = format!("--rustLb.certificates.directory={}", world.certs.display());
    let listed = output(&[
        "certs",
        "--json",
        "--rustLb.certificates.store=consul",
        "--providers.consulCatalog=true",
        &state,
        &certs,
    ]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains(&crt.display().to_string()) && !listed.contains("PRIVATE"), "{listed}");
    assert_eq!(world.orders(), 2, "what is there is not ordered again");
}

#[test]
fn what_is_put_into_consul_is_served_and_only_what_is_removed_there_goes() {
    let (world, catalog) = (World::new(Manner::default()), Catalog::start());
    let proxy = world.start(over(&world, &catalog));
    let trust = put_pair(&catalog, "hand.shop.com");
    eventually("what was put there", || serves(&proxy, "hand.shop.com", &trust).then_some(()));
    let other = put_pair(&catalog, "other.shop.com");
    eventually("the other", || serves(&proxy, "other.shop.com", &other).then_some(()));

    // Half of another pair does not take the place of one that works.
    let site = layout::site("ca.example-dir", "other.shop.com");
    let stranger = rcgen::generate_simple_self_signed(["other.shop.com".to_owned()]).expect("a pair");
    put(&catalog, &site.crt, &stranger.cert.pem());
    assert!(proxy.problem("bad_certificate").contains("key"));
    assert!(serves(&proxy, "other.shop.com", &other));
    put(&catalog, &site.key, &stranger.signing_key.serialize_pem());
    let other = stranger.cert.pem();
    eventually("both halves", || serves(&proxy, "other.shop.com", &other).then_some(()));

    // Rights that are gone remove nothing.
    catalog.embedded.consul().set_acl(Some(Acl::deny()));
    catalog.stop();
    catalog.resume();
    eventually("the refusal is told", || proxy.problem("certificate_store").contains("refused").then_some(()));
    assert!(serves(&proxy, "hand.shop.com", &trust));
    catalog.embedded.consul().set_acl(None);

    // A removal removes.
    let path = format!("{BELOW}certificates/ca.example-dir/hand.shop.com?recurse");
    assert_eq!(client::send(catalog.consul(), "DELETE", "c", &path, "", "").status, 200);
    let crt = mirror(&proxy).join(layout::site("ca.example-dir", "hand.shop.com").crt);
    eventually("the removal", || (!serves(&proxy, "hand.shop.com", &trust) && !crt.exists()).then_some(()));
    assert!(serves(&proxy, "other.shop.com", &other));

    // A Consul that has lost everything removes nothing.
    catalog.wipe();
    let third = put_pair(&catalog, "third.shop.com");
    eventually("what was put there since", || serves(&proxy, "third.shop.com", &third).then_some(()));
    assert!(serves(&proxy, "other.shop.com", &other));
}
