//! The storage of certificates in Consul: the embedded one, and a real one where it is on PATH (with
//! `RUST_LB_TEST_REQUIRE=consul` a skip is a failure).

use super::real::Agent;
use super::support::client;
use super::support::program::have;
use super::support::proxy::Catalog;
use rust_lb::certs::install_provider;
use rust_lb::certs::storage::{
    ConsulScope, ConsulStorage, DEFAULT_PREFIX, LockError, SiteValue, Storage, StorageError, layout,
};
use rust_lb::embedded::{self, Acl};
use rust_lb::model::Secret;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const CRT: &[u8] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &[u8] = b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
const JSON: &[u8] = b"{\"sans\":[\"*.wild.test\"],\"issuer_data\":null}";
const LIMIT: Duration = Duration::from_secs(60);

fn storage(addr: SocketAddr, token: &str) -> Storage {
    install_provider();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let token = rust_lb::certs::storage::ConsulToken::Value(Secret::new(token));
    let (address, prefix, scope) = (format!("http://{addr}"), DEFAULT_PREFIX.to_owned(), ConsulScope::default());
    Storage::consul(ConsulStorage { address, token, prefix, scope, client }).expect("a thread")
}

fn values_and_locks(addr: SocketAddr) {
    let (one, two) = (storage(addr, ""), storage(addr, ""));
    assert!(one.list("certificates").expect("a list").is_empty());
    one.write_site("local", "*.wild.test", &SiteValue { key: KEY, crt: CRT, json: JSON }).expect("written");
    let site = layout::site("local", "*.wild.test");
    assert_eq!(two.read(&site.key).expect("read").as_deref(), Some(KEY));
    assert_eq!(two.list("certificates").expect("a list"), [&*site.crt, &site.json, &site.key]);
    let path = format!("/v1/kv/{DEFAULT_PREFIX}/{}?raw", site.crt);
    assert_eq!(client::get(addr, "c", &path).text().as_bytes(), CRT, "raw, under the prefix");
    two.write("acme/x/users/default/default.json", b"").expect("written");
    assert_eq!(one.read("acme/x/users/default/default.json").expect("read").as_deref(), Some(&b""[..]));
    one.remove(&site.key).expect("removed");
    one.remove(&site.key).expect("gone already");
    assert_eq!(two.read(&site.key).expect("read"), None);
    assert!(matches!(one.write("certificates/local/a/a.txt", CRT), Err(StorageError::Foreign(_))));

    let name = layout::issue_lock("*.wild.test");
    let lock = one.lock(&name, Duration::ZERO).expect("the lock");
    assert!(lock.still_ours());
    let Err(LockError::Held { since: Some(_) }) = two.lock(&name, Duration::ZERO) else { panic!("held") };
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| two.lock(&name, LIMIT).expect("the lock, once it is free").still_ours());
        drop(lock);
        assert!(waits.join().expect("no panic"));
    });
    assert!(one.list("locks").expect("a list").is_empty(), "nothing is left of it");
}

#[test]
fn values_and_locks_in_the_embedded_consul() {
    values_and_locks(Catalog::start().consul());
}

#[test]
fn values_and_locks_in_a_real_consul() {
    if have("consul") {
        values_and_locks(Agent::consul("").http);
    }
}

#[test]
fn a_lock_whose_session_has_ended_is_not_ours_and_another_gets_it() {
    let catalog = Catalog::start();
    let (one, two) = (storage(catalog.consul(), ""), storage(catalog.consul(), ""));
    let lock = one.lock("issue_cert_a.test", Duration::ZERO).expect("the lock");
    catalog.embedded.consul().store(|store| store.destroy_sessions(Instant::now()));
    assert!(!lock.still_ours());
    let other = two.lock("issue_cert_a.test", LIMIT).expect("after the delay");
    drop(lock);
    assert!(other.still_ours(), "the end of the old one takes nothing away");
}

#[test]
fn what_consul_refuses_is_told_without_the_token() {
    let catalog = Catalog::start();
    let acl = Acl::deny()
        .token("s3cret", embedded::ConsulToken::management())
        .token("w3ak", embedded::ConsulToken::catalog());
    catalog.embedded.consul().set_acl(Some(acl));
    storage(catalog.consul(), "s3cret").write("last_clean.json", b"{}").expect("written");
    for token in ["", "w3ak", "unkn0wn"] {
        let storage = storage(catalog.consul(), token);
        let error = storage.read("last_clean.json").expect_err("refused");
        assert!(error.to_string().contains("refused") && !format!("{error:?} {storage:?}").contains("w3ak"), "{error}");
        assert!(storage.write("last_clean.json", b"{}").is_err() && storage.list("locks").is_err());
        assert!(matches!(storage.lock("x", Duration::ZERO), Err(LockError::Storage(StorageError::Consul { .. }))));
    }
    let addr = catalog.consul();
    catalog.stop();
    let error = storage(addr, "s3cret").read("last_clean.json").expect_err("nobody answers");
    assert!(error.to_string().contains(&addr.to_string()) && !error.to_string().contains("s3cret"), "{error}");
}
