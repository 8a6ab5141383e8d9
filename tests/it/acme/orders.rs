//! What an order brings, and what it leaves.

use super::front::Front;
use super::{Rig, quick};
use base64::Engine;
use rust_lb::acme::{AcmeError, Challenges, Client, Eab, KeyType, Method};
use rust_lb::model::Secret;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

fn parsed<T>(chain: &str, at: usize, read: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let der = CertificateDer::pem_slice_iter(chain.as_bytes()).nth(at).expect("a certificate").expect("PEM");
    read(&X509Certificate::from_der(&der).expect("X.509").1)
}

#[tokio::test]
async fn each_challenge_brings_a_certificate_and_leaves_nothing() {
    let rig = Rig::start(|_| {}).await;
    for (method, name) in [(Method::Http, "h.test"), (Method::TlsAlpn, "t.test"), (rig.front.dns(), "d.test")] {
        let issued = rig.order(&[name], &[method]).await.expect(name);
        let json = &issued.json;
        assert_eq!(json["sans"], serde_json::json!([name]));
        assert_eq!(json["issuer_data"]["ca"], rig.ca.directory());
        assert!(json["issuer_data"]["url"].as_str().expect("a URL").contains("/cert/"));
        assert!(json["issuer_data"]["account"].as_str().expect("a URL").ends_with("/account/0"));
        let info = &json["issuer_data"]["renewal_info"];
        let selected: jiff::Timestamp = info["_selectedTime"].as_str().expect("a time").parse().expect("a time");
        assert_eq!(issued.renew_at, Some(SystemTime::from(selected)));
        let window = issued.window.expect("a window");
        assert!(window.start <= window.selected && window.selected < window.end);
        assert!(issued.key.reveal().starts_with("-----BEGIN EC PRIVATE KEY-----"));
        assert_eq!(rig.left(), [""; 0], "{name}");
    }
    assert_eq!(rig.ca.accounts().0, 1, "one account for all");
    assert_eq!(rig.ca.pending(), 0);
    let told = rig.front.told.lock().expect("not poisoned").clone();
    assert_eq!(told, ["present _acme-challenge.d.test", "cleanup _acme-challenge.d.test"]);
}

#[tokio::test]
async fn a_name_its_wildcard_and_others_go_into_one_certificate() {
    let rig = Rig::start(|manner| manner.slow = 3).await;
    let names = ["a.test", "*.a.test", "b.test"];
    let issued = rig.order(&names, &[Method::Http, rig.front.dns()]).await.expect("issued");
    let named = parsed(&issued.chain, 0, |leaf| {
        let names = leaf.subject_alternative_name().expect("parses").expect("there");
        names.value.general_names.len()
    });
    assert_eq!(named, 3);
    let told = rig.front.told.lock().expect("not poisoned").clone();
    assert_eq!(told.len(), 2, "only the wildcard needs DNS: {told:?}");
    // Both at one name: two values stand at a time.
    rig.order(&names, &[rig.front.dns()]).await.expect("issued");
    assert_eq!(rig.left(), [""; 0]);
}

#[tokio::test]
async fn the_account_is_caddys() {
    let mut rig = Rig::start(|_| {}).await;
    rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
    let keys = rig.storage.list("acme").expect("listed");
    let issuer = rust_lb::certs::storage::layout::issuer_key(&rig.ca.directory());
    let file = |ending: &str| format!("acme/{issuer}/users/default/default.{ending}");
    assert_eq!(keys, [file("json"), file("key")]);
    let json = String::from_utf8(rig.storage.read(&file("json")).expect("read").expect("there")).expect("text");
    let base = rig.ca.directory().replace("/dir", "");
    assert_eq!(
        json,
        format!(
            "{{\n\t\"status\": \"valid\",\n\t\"termsOfServiceAgreed\": true,\n\t\"orders\": \"{base}/orders/0\",\n\t\"location\": \"{base}/account/0\"\n}}"
        )
    );
    // As another process of the same storage: the same account.
    rig.client = Client::with_timing(rig.storage.clone(), rig.front.challenges.clone(), quick());
    rig.order(&["b.test"], &[Method::Http]).await.expect("issued");
    assert_eq!((rig.ca.accounts().0, rig.ca.asked("new-account")), (1, 1));
    // With an address it is another one, in the directory of its name.
    rig.authority.email = Some("Ops@a.test".to_owned());
    rig.order(&["c.test"], &[Method::Http]).await.expect("issued");
    assert_eq!(rig.ca.accounts(), (2, vec!["mailto:Ops@a.test".to_owned()]));
    let json = rig.storage.read(&format!("acme/{issuer}/users/ops@a.test/ops.json")).expect("read").expect("there");
    assert!(String::from_utf8_lossy(&json).contains("\"contact\": [\n\t\t\"mailto:Ops@a.test\"\n\t]"));
}

#[tokio::test]
async fn an_account_without_its_registration_is_looked_up() {
    let mut rig = Rig::start(|_| {}).await;
    rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
    let keys = rig.storage.list("acme").expect("listed");
    for lost in [None, Some("{\"status\":"), Some("")] {
        match lost {
            None => rig.storage.remove(&keys[0]).expect("removed"),
            Some(text) => rig.storage.write(&keys[0], text.as_bytes()).expect("written"),
        }
        rig.client = Client::with_timing(rig.storage.clone(), rig.front.challenges.clone(), quick());
        rig.order(&["b.test"], &[Method::Http]).await.expect("issued");
        assert_eq!(rig.ca.accounts().0, 1, "its key is known to the authority");
    }
    // A key that cannot be used is not overwritten.
    rig.storage.write(&keys[1], b"garbage").expect("written");
    rig.client = Client::with_timing(rig.storage.clone(), rig.front.challenges.clone(), quick());
    let error = rig.order(&["b.test"], &[Method::Http]).await.expect_err("refused");
    assert!(matches!(&error, AcmeError::Account { file, .. } if *file == keys[1]), "{error}");
    assert_eq!(rig.storage.read(&keys[1]).expect("read").as_deref(), Some(&b"garbage"[..]));
}

#[tokio::test]
async fn an_account_that_the_authority_forgot_is_made_anew() {
    let rig = Rig::start(|_| {}).await;
    rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
    rig.ca.forget_accounts();
    let issued = rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
    assert_eq!(rig.ca.accounts().0, 2);
    assert!(issued.json["issuer_data"]["account"].as_str().expect("a URL").ends_with("/account/1"));
}

#[tokio::test]
async fn an_external_account_is_bound() {
    let key = vec![9; 32];
    let mut rig = Rig::start(|manner| manner.eab = Some(("kid-1".to_owned(), vec![9; 32]))).await;
    let error = rig.order(&["a.test"], &[Method::Http]).await.expect_err("refused");
    assert_eq!(error.problem().expect("a problem").kind, "externalAccountRequired");
    let hmac = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&key);
    rig.authority.eab = Some(Eab { kid: "kid-1".to_owned(), hmac: Secret::new("not base64!") });
    assert!(matches!(rig.order(&["a.test"], &[Method::Http]).await, Err(AcmeError::Config(_))));
    rig.authority.eab = Some(Eab { kid: "kid-1".to_owned(), hmac: Secret::new(hmac) });
    rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
}

#[tokio::test]
async fn any_instance_answers() {
    let rig = Rig::start(|_| {}).await;
    // The authority reaches another instance, which has the storage only.
    let other = Front::with(Challenges::default(), rig.storage.clone()).await;
    rig.ca.change(|manner| manner.look = other.look());
    rig.order(&["h.test"], &[Method::Http]).await.expect("issued");
    rig.order(&["t.test"], &[Method::TlsAlpn]).await.expect("issued");
}

#[tokio::test]
async fn kinds_of_keys() {
    let mut rig = Rig::start(|_| {}).await;
    for (kind, bits) in
        [(KeyType::Ec256, 256), (KeyType::Ec384, 384), (KeyType::Rsa2048, 2048), (KeyType::Rsa3072, 3072)]
    {
        rig.authority.key_type = kind;
        let issued = rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
        let size = parsed(&issued.chain, 0, |leaf| leaf.public_key().parsed().expect("a key").key_size());
        assert_eq!(size, bits, "{kind:?}");
    }
}

#[tokio::test]
async fn the_preferred_chain_is_taken() {
    let mut rig = Rig::start(|_| {}).await;
    for (preferred, root, url) in [
        (None, "Test Root A", "/cert/0"),
        (Some("Test Root A"), "Test Root A", "/cert/1"),
        (Some("Test Root B"), "Test Root B", "/cert/2/1"),
        (Some("Nobody"), "Test Root A", "/cert/3"),
    ] {
        rig.authority.preferred_chain = preferred.map(str::to_owned);
        let issued = rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
        let top = parsed(&issued.chain, 1, |top| {
            top.issuer().iter_common_name().next().map(|name| name.as_str().expect("text").to_owned())
        });
        assert_eq!(top.as_deref(), Some(root), "{preferred:?}");
        assert!(issued.json["issuer_data"]["url"].as_str().expect("a URL").ends_with(url), "{}", issued.json);
    }
}

#[tokio::test]
async fn profile_and_what_is_replaced_are_said() {
    let mut rig = Rig::start(|_| {}).await;
    rig.authority.profile = Some("short".to_owned());
    let first = rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
    assert_eq!(rig.ca.last_order(), (Some("short".to_owned()), None));
    let id = first.window.expect("a window").id;
    rig.replace(&["a.test"], &[Method::Http], Some(&first.chain)).await.expect("issued");
    assert_eq!(rig.ca.last_order().1, Some(id));
    // Replaced already, not known, unreadable: no reason to have no certificate.
    rig.replace(&["a.test"], &[Method::Http], Some(&first.chain)).await.expect("issued");
    assert_eq!(rig.ca.last_order().1, None);
    let foreign = Rig::start(|_| {}).await.order(&["a.test"], &[Method::Http]).await.expect("issued");
    rig.replace(&["z.test"], &[Method::Http], Some(&foreign.chain)).await.expect("issued");
    rig.replace(&["a.test"], &[Method::Http], Some("garbage")).await.expect("issued");
    rig.authority.profile = Some("none".to_owned());
    let error = rig.order(&["a.test"], &[Method::Http]).await.expect_err("refused");
    assert_eq!(error.problem().expect("a problem").kind, "invalidProfile");
}

#[tokio::test]
async fn when_to_renew_is_asked_for() {
    let rig = Rig::start(|_| {}).await;
    let issued = rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
    let before = SystemTime::now();
    let window = rig.client.renewal_info(&rig.authority, &issued.chain).await.expect("asked").expect("a window");
    assert_eq!(window.end.duration_since(window.start).expect("later"), Duration::from_secs(7_200));
    assert!(window.ask_again >= before + Duration::from_secs(7_200));
    assert_eq!(window.explanation.as_deref(), Some("https://ca.test/why"));
    rig.ca.change(|manner| manner.ari = false);
    assert_eq!(rig.client.renewal_info(&rig.authority, &issued.chain).await.expect("asked"), None);
    let plain = rig.replace(&["a.test"], &[Method::Http], Some(&issued.chain)).await.expect("issued");
    assert!(plain.renew_at.is_none() && plain.json["issuer_data"].get("renewal_info").is_none());
}

#[tokio::test]
async fn the_authoritys_own_certificate_is_verified() {
    let mut rig = Rig::start(|manner| manner.host = "ca.internal").await;
    let error = rig.order(&["a.test"], &[Method::Http]).await.expect_err("another name");
    assert!(matches!(error, AcmeError::Connection { .. }), "{error}");
    rig.authority.server_name = Some("ca.internal".to_owned());
    rig.order(&["a.test"], &[Method::Http]).await.expect("issued");
    rig.authority.roots = vec![Rig::start(|_| {}).await.ca.root.clone()];
    assert!(matches!(rig.order(&["a.test"], &[Method::Http]).await, Err(AcmeError::Connection { .. })));
}
