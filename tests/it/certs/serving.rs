//! Which certificate a client gets, as files come, change and go.

use super::{Rig, ask, client, dial, eventually, fs, place, request};
use rustls::HandshakeKind;

#[test]
fn a_renewed_certificate_is_served_and_nobody_is_disturbed() {
    let rig = Rig::new();
    rig.caddy("a.test", 1);
    let proxy = rig.start("");
    let addr = proxy.entry_point("websecure");
    let mut open = dial(addr, &rig.client(), "a.test").expect("a connection");
    assert_eq!(request(&mut open, "a.test").map(|got| (got.status, got.serial)), Some((200, 1)));
    let client = rig.client();
    assert_eq!(rig.ask(&proxy, &client).expect("an answer").kind, HandshakeKind::Full);

    for serial in 2..5 {
        rig.caddy("a.test", serial);
        rig.wait_for(&proxy, "a.test", serial);
        // The connection from before goes on, and so does the session.
        assert_eq!(request(&mut open, "a.test").map(|got| (got.status, got.serial)), Some((200, 1)));
        assert_eq!(rig.ask(&proxy, &client).expect("an answer").kind, HandshakeKind::Resumed);
    }

    // Ticket keys are the process's own: after a restart there is one full handshake.
    drop(proxy);
    let proxy = rig.start("");
    let addr = proxy.entry_point("websecure");
    let got = ask(addr, &client, "a.test").expect("an answer");
    assert_eq!((got.serial, got.kind), (4, HandshakeKind::Full));
    assert_eq!(ask(addr, &client, "a.test").expect("an answer").kind, HandshakeKind::Resumed);
}

#[test]
fn a_new_host_and_traefiks_document_are_found_while_it_runs() {
    let rig = Rig::new();
    let proxy = rig.start("");
    rig.caddy("new.test", 5);
    rig.wait_for(&proxy, "new.test", 5);
    let pair = rig.authority.sign("old.test", 6);
    let base64 = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let document = serde_json::json!({"le": {"Certificates": [
        {"domain": {"main": "old.test"}, "certificate": base64(&pair.chain), "key": base64(&pair.key), "Store": "default"},
    ]}});
    place(&rig.certs(), "acme.json", &document.to_string());
    rig.wait_for(&proxy, "old.test", 6);

    let inventory = proxy.admin("/api/certificates").json();
    let of = |serial: &str| inventory.as_array().and_then(|all| all.iter().find(|c| c["serial"] == serial));
    let (new, old) = (of("5").expect("in the inventory"), of("6").expect("in the inventory"));
    assert_eq!(new["servedFor"], serde_json::json!(["new.test"]));
    assert_eq!(old["entry"], "le: old.test");
    assert!(new["file"].as_str().is_some_and(|file| file.ends_with("new.test/new.test.crt")), "{new}");
    assert!(new["issuer"].as_str().is_some_and(|issuer| issuer.contains("Test Authority")), "{new}");
    assert!(!inventory.to_string().contains("PRIVATE"));

    // A key that does not fit changes nothing and is told.
    let other = rig.authority.sign("new.test", 7);
    place(&rig.certs().join("certificates/ca.test-dir/new.test"), "new.test.key", &other.key);
    let told = eventually("the problem is told", || {
        let problems = proxy.admin("/api/problems").json();
        problems.as_array()?.iter().find(|problem| problem["code"] == "bad_certificate").cloned()
    });
    assert!(told.to_string().contains("do not belong together"), "{told}");
    rig.wait_for(&proxy, "new.test", 5);
}

#[test]
fn a_default_certificate_and_pem_in_a_file_are_served() {
    let rig = Rig::new();
    let (default, text) = (rig.authority.sign("unknown.test", 8), rig.authority.sign("a.test", 9));
    place(rig.dir.path(), "d.crt", &default.chain);
    place(rig.dir.path(), "d.key", &default.key);
    let file = |name: &str| rig.dir.path().join(name).display().to_string();
    let indent = |text: &str| text.lines().map(|line| format!("        {line}\n")).collect::<String>();
    let proxy = rig.start(&format!(
        "tls:\n  stores:\n    default:\n      defaultCertificate:\n        certFile: {}\n        keyFile: {}\n  certificates:\n    \
         - certFile: |\n{}      keyFile: |\n{}  options:\n    o:\n      sniStrict: true\n",
        file("d.crt"),
        file("d.key"),
        indent(&text.chain),
        indent(&text.key)
    ));
    let addr = proxy.entry_point("websecure");
    let serial = |host: &str| ask(addr, &rig.client(), host).map(|got| (got.status, got.serial));
    assert_eq!(serial("a.test"), Some((200, 9)));
    // Of a host that no certificate names; nor does a router.
    assert_eq!(serial("unknown.test"), Some((404, 8)));
    let problems = client::get(proxy.entry_point("traefik"), "127.0.0.1", "/api/problems").json();
    assert_eq!(problems, serde_json::json!([]));
}

#[test]
fn the_local_copy_serves_where_the_directory_is_away_at_the_start() {
    let rig = Rig::new();
    rig.caddy("a.test", 1);
    let proxy = rig.start("");
    let copy = rig.dir.path().join("state/certificates");
    eventually("the copy", || fs::read_dir(&copy).ok()?.flatten().find(|entry| entry.path().extension().is_some()));
    drop(proxy);
    fs::rename(rig.certs(), rig.dir.path().join("away")).expect("a rename");
    let proxy = rig.start("");
    rig.wait_for(&proxy, "a.test", 1);
    let problems = proxy.admin("/api/problems").json().to_string();
    assert!(problems.contains("of the local copy are served"), "{problems}");
    fs::rename(rig.dir.path().join("away"), rig.certs()).expect("a rename");
    rig.caddy("a.test", 2);
    rig.wait_for(&proxy, "a.test", 2);
}
