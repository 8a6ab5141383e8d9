//! What is read besides pairs of files, what is kept in memory for it, and files that no one should have put there.

use super::*;
use crate::certs::pair::Pair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::os::unix::fs::symlink;
use std::path::Path;

fn said(store: &Store) -> Vec<String> {
    store.diagnostics(SystemTime::now()).iter().map(ToString::to_string).collect()
}

fn pair(store: &Store, name: &str) -> Arc<Pair> {
    let index = store.findings.index.load();
    index.all().iter().find(|pair| pair.names.iter().any(|n| **n == *name)).unwrap().clone()
}

fn acme_json(entries: &[(&str, &str, &Made)]) -> String {
    let mut all = serde_json::json!({ "idle": { "Account": null, "Certificates": null } });
    for (resolver, main, made) in entries {
        let value = serde_json::json!({
            "domain": {"main": main}, "certificate": STANDARD.encode(&made.chain), "key": STANDARD.encode(&made.key), "Store": "default",
        });
        // Both spellings are met.
        let key = if resolver.starts_with('l') { "Certificates" } else { "certificates" };
        let resolver = all.as_object_mut().unwrap().entry(*resolver).or_insert_with(|| serde_json::json!({}));
        resolver
            .as_object_mut()
            .unwrap()
            .entry(key)
            .or_insert_with(|| serde_json::json!([]))
            .as_array_mut()
            .unwrap()
            .push(value);
    }
    all.to_string()
}

#[test]
fn traefiks_document_is_read_and_kept_while_it_is_written() {
    let world = World::new();
    let made = [want(&["a.test"], 1), want(&["b.test"], 2), want(&["c.test"], 3)].map(|want| world.make(&want));
    let text = acme_json(&[("le", "a.test", &made[0]), ("le", "b.test", &made[1]), ("other", "c.test", &made[2])]);
    world.write("acme.json", &text);
    let store = world.open();
    for (host, number) in [("a.test", "1"), ("b.test", "2"), ("c.test", "3")] {
        assert_eq!(serial(&store, host), number);
    }
    assert_eq!(said(&store), Vec::<String>::new());
    let inventory = store.certificates(SystemTime::now());
    assert_eq!(inventory.len(), 3);
    assert_eq!(inventory[0].entry.as_deref(), Some("le: a.test"));
    assert!(inventory[0].file.ends_with("acme.json"));

    // It is written in place: whatever of it is there, nothing is lost, and it is said.
    for length in [0, 1, text.len() / 2, text.len() - 1] {
        world.write("acme.json", &text[..length]);
        look(&store);
        assert_eq!(serial(&store, "c.test"), "3", "{length} bytes");
        assert!(said(&store)[0].contains("cut off"), "{:?}", said(&store));
    }
    // One bad certificate hurts no other.
    let mixed = Made { chain: made[1].chain.clone(), key: made[0].key.clone() };
    let new = world.make(&want(&["c.test"], 4));
    world.write(
        "acme.json",
        acme_json(&[("le", "a.test", &made[0]), ("le", "b.test", &mixed), ("other", "c.test", &new)]),
    );
    look(&store);
    assert_eq!([serial(&store, "a.test"), serial(&store, "b.test"), serial(&store, "c.test")], ["1", "2", "4"]);
    assert!(said(&store)[0].contains("`le: b.test`: key and certificate do not belong together"), "{:?}", said(&store));
    let inventory = store.certificates(SystemTime::now());
    assert_eq!(inventory.iter().filter(|c| c.problem.is_some()).count(), 1, "{inventory:#?}");
    // What is no longer in it has gone; Traefik itself refuses a file that others can read.
    world.write("acme.json", acme_json(&[("le", "a.test", &made[0])]));
    fs::set_permissions(world.dir.join("acme.json"), fs::Permissions::from_mode(0o640)).unwrap();
    look(&store);
    assert!(!store.covers("c.test", SystemTime::now()));
    assert!(said(&store)[0].contains("mode 0640"), "{:?}", said(&store));

    // One that lies elsewhere.
    let elsewhere = world.state.join("t/acme.json");
    fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
    fs::write(&elsewhere, acme_json(&[("le", "d.test", &world.make(&want(&["d.test"], 5)))])).unwrap();
    store.import(vec![elsewhere]);
    look(&store);
    assert_eq!(serial(&store, "d.test"), "5");
}

#[test]
fn keys_of_every_form_are_taken() {
    let world = World::new();
    let kinds: [&rcgen::SignatureAlgorithm; 4] =
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256];
    for (number, kind) in kinds.into_iter().enumerate() {
        let name = format!("{number}.test");
        let key = KeyPair::generate_for(kind).unwrap();
        let params = CertificateParams::new(vec![name.clone()]).unwrap();
        let chain = params.signed_by(&key, &world.authority).unwrap().pem();
        world.write(&format!("{name}.pem"), key.serialize_pem() + &chain);
    }
    let store = world.open();
    assert_eq!(said(&store), Vec::<String>::new());
    for number in 0..kinds.len() {
        assert_eq!(served(&store, &format!("{number}.test")).1, [format!("{number}.test")]);
    }
    let fits = |name: &str, scheme| pair(&store, name).fits(&[scheme]);
    assert!(fits("0.test", rustls::SignatureScheme::ECDSA_NISTP256_SHA256));
    assert!(!fits("0.test", rustls::SignatureScheme::RSA_PSS_SHA256));
    assert!(fits("3.test", rustls::SignatureScheme::RSA_PSS_SHA256));
}

#[test]
fn what_no_handshake_needs_takes_little_memory() {
    let world = World::new();
    world.caddy("le", "a.test", &want(&["a.test"], 1));
    world.caddy("le", "b.test", &want(&["b.test"], 2));
    let store = world.open();
    let (a, b) = (pair(&store, "a.test"), pair(&store, "b.test"));
    assert!(!a.is_live() && !b.is_live());
    let (of_a, of_b): (Vec<_>, Vec<_>) = (a.chain().collect(), b.chain().collect());
    assert!(std::ptr::eq(of_a[1], of_b[1]), "the intermediate is there once");
    assert_eq!(serial(&store, "a.test"), "1");
    assert!(a.is_live() && !b.is_live());
    // Given back after a time without handshakes; a handshake in between keeps it.
    a.rest();
    assert!(a.is_live());
    assert_eq!(serial(&store, "a.test"), "1");
    a.rest();
    assert!(a.is_live());
    a.rest();
    assert!(!a.is_live());
    assert_eq!(serial(&store, "a.test"), "1");
}

#[test]
fn self_signed_mode_puts_the_house_first() {
    let world = World::new();
    world.caddy("local", "a.test", &want(&["a.test"], 1));
    world.caddy("le", "a.test", &want(&["a.test"], 2));
    let store = world.open();
    assert_eq!(serial(&store, "a.test"), "2");
    let served_for = |store: &Store| -> Vec<(String, Vec<Arc<str>>)> {
        store.certificates(SystemTime::now()).into_iter().map(|c| (c.serial, c.served_for)).collect()
    };
    assert_eq!(served_for(&store), [("2".to_owned(), vec!["a.test".into()]), ("1".to_owned(), vec![])]);
    store.findings.prefer_local.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(serial(&store, "a.test"), "1");
    assert_eq!(served_for(&store), [("2".to_owned(), vec![]), ("1".to_owned(), vec!["a.test".into()])]);
}

#[test]
fn a_default_certificate_answers_every_host_that_none_names() {
    let world = World::new();
    world.caddy("le", "a.test", &want(&["a.test"], 1));
    let (file, text) = (world.make(&want(&["default.test"], 2)), world.make(&want(&["text.test"], 3)));
    for (name, content) in [("d.crt", &file.chain), ("d.key", &file.key)] {
        fs::create_dir_all(&world.state).unwrap();
        fs::write(world.state.join(name), content).unwrap();
    }
    let store = world.open();
    let of = |chain, key, default| Named { chain, key, default, place: "dynamic.yaml".into() };
    let default = of(Content::File(world.state.join("d.crt")), Content::File(world.state.join("d.key")), true);
    let secret = |text: &str| Content::Text(crate::model::Secret::new(text));
    store.name(vec![default, of(secret(&text.chain), secret(&text.key), false)]);
    look(&store);
    for (host, number) in [("a.test", "1"), ("elsewhere.test", "2"), ("127.0.0.1", "2"), ("text.test", "3")] {
        assert_eq!(serial(&store, host), number, "{host}");
    }
    let default = store.certificates(SystemTime::now()).into_iter().find(|c| c.serial == "2").unwrap();
    assert!(default.default);
    assert!(!format!("{store:?}").contains("PRIVATE"));
    // A strict handshake is for names alone.
    let strict = crate::certs::options::TlsOptions { sni_strict: true, ..Default::default() };
    let config = crate::certs::options::build(&store, &strict, &[]).unwrap().config;
    let name = ServerName::try_from("elsewhere.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(client_config()), name).unwrap();
    assert!(handshake(&mut client, &mut ServerConnection::new(config).unwrap()).is_err());
    store.name(Vec::new());
    look(&store);
    assert!(!["2", "3"].contains(&&*serial(&store, "text.test")));
}

#[test]
fn a_replacement_that_is_out_of_time_waits_for_its_time() {
    let (world, now) = (World::new(), SystemTime::now());
    world.caddy("le", "a.test", &Want::default());
    let store = world.open();
    for (from, until, text) in [(now + DAY, now + 9 * DAY, "not valid yet"), (now - 9 * DAY, now - DAY, "has expired")]
    {
        world.caddy("le", "a.test", &Want { serial: 2, from, until, ..Want::default() });
        look(&store);
        assert_eq!(serial(&store, "a.test"), "1", "{text}");
        assert!(said(&store)[0].contains(text), "{:?}", said(&store));
    }
    // The authority's clock is a little ahead of ours: it is taken, and told as it is.
    let ahead = now + Duration::from_secs(200);
    world.caddy("le", "a.test", &Want { serial: 3, from: ahead, ..Want::default() });
    look(&store);
    assert_eq!(serial(&store, "a.test"), "3");
    assert_eq!(said(&store), Vec::<String>::new());
    assert_eq!(store.certificates(now)[0].problem.as_deref(), Some("not valid yet"));
}

#[test]
fn a_session_goes_on_after_the_certificate_was_replaced() {
    let world = World::new();
    world.caddy("le", "a.test", &Want::default());
    let store = world.open();
    let server = server_config(&store).unwrap();
    let client = Arc::new(client_config());
    let mut kinds = Vec::new();
    for number in 2..5 {
        let name = ServerName::try_from("a.test").unwrap();
        let mut client = ClientConnection::new(client.clone(), name).unwrap();
        let mut server = ServerConnection::new(server.clone()).unwrap();
        handshake(&mut client, &mut server).unwrap();
        kinds.push(client.handshake_kind().unwrap());
        world.caddy("le", "a.test", &Want { serial: number, ..Want::default() });
        look(&store);
        assert_eq!(serial(&store, "a.test"), number.to_string());
    }
    use rustls::HandshakeKind::{Full, Resumed};
    assert_eq!(kinds, [Full, Resumed, Resumed]);
}

#[test]
fn a_staple_of_caddys_is_stapled_in_its_time() {
    let (world, now) = (World::new(), SystemTime::now());
    let made = world.caddy("le", "a.test", &Want::default());
    let other = world.caddy("le", "b.test", &want(&["b.test"], 2));
    let store = world.open();
    let leaf = |made: &Made| -> CertificateDer<'static> {
        rustls::pki_types::pem::PemObject::from_pem_slice(made.chain.as_bytes()).unwrap()
    };
    let name = format!("ocsp/a.test-{:x}", crate::certs::pair::fnv(made.chain.as_bytes()));
    let response =
        |made: &Made, status, until| crate::certs::staple::tests::response(&leaf(made), status, now - DAY, until);
    let stapled = || pair(&store, "a.test").certified(SystemTime::now()).unwrap().ocsp.clone();
    let good = response(&made, 0x80, now + DAY);
    let cases = [
        (good.clone(), true),
        (response(&made, 0x82, now + DAY), false),
        (response(&made, 0x80, now - DAY / 2), false),
        (response(&other, 0x80, now + DAY), false),
        (b"nonsense".to_vec(), false),
        (good.clone(), true),
    ];
    for (at, (bytes, fits)) in cases.into_iter().enumerate() {
        world.write(&name, &bytes);
        look(&store);
        assert_eq!(stapled(), fits.then_some(bytes), "case {at}");
    }
    assert_eq!(said(&store), Vec::<String>::new());
    fs::remove_file(world.dir.join(&name)).unwrap();
    look(&store);
    assert_eq!(stapled(), None);
    assert_eq!(serial(&store, "a.test"), "1");
}

fn copied(world: &World) -> usize {
    // What is being written has a name that begins with a dot.
    let is_whole =
        |entry: std::io::Result<fs::DirEntry>| entry.is_ok_and(|e| !e.file_name().as_encoded_bytes().starts_with(b"."));
    fs::read_dir(world.state.join("copy"))
        .map(|all| all.map(is_whole).filter(|whole| *whole).count())
        .unwrap_or_default()
}

/// Waits for the thread that copies.
fn wait_for_copies(world: &World, count: usize) {
    let until = Instant::now() + LIMIT;
    while copied(world) != count {
        assert!(Instant::now() < until, "{} copies instead of {count}", copied(world));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_local_copy_serves_when_the_directory_is_away_at_the_start() {
    let world = World::new();
    world.caddy("le", "a.test", &Want::default());
    world.caddy("le", "b.test", &want(&["b.test"], 2));
    drop({
        let store = world.open();
        wait_for_copies(&world, 2);
        store
    });
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let copy = world.state.join("copy");
    assert_eq!(mode(&copy), 0o700);
    assert!(fs::read_dir(&copy).unwrap().all(|entry| mode(&entry.unwrap().path()) == 0o600));

    // Gone, or an empty place where it should be mounted.
    let moved = world.state.join("moved");
    fs::rename(&world.dir, &moved).unwrap();
    for empty in [false, true] {
        if empty {
            fs::create_dir(&world.dir).unwrap();
        }
        let store = world.open();
        assert_eq!([serial(&store, "a.test"), serial(&store, "b.test")], ["1", "2"]);
        look(&store);
        assert_eq!(serial(&store, "a.test"), "1");
        assert!(said(&store).iter().any(|text| text.contains("2 of the local copy")), "{:?}", said(&store));
    }
    fs::remove_dir(&world.dir).unwrap();

    // Once the directory answers, it alone counts: `b.test` was removed meanwhile, `a.test` was renewed.
    let store = world.open();
    fs::rename(&moved, &world.dir).unwrap();
    fs::remove_dir_all(world.dir.join("certificates/le/b.test")).unwrap();
    world.caddy("le", "a.test", &Want { serial: 3, ..Want::default() });
    look(&store);
    assert_eq!(serial(&store, "a.test"), "3");
    assert!(!store.covers("b.test", SystemTime::now()));
    assert_eq!(said(&store), Vec::<String>::new());
    wait_for_copies(&world, 1);

    // A start in the middle of a broken renewal: the copy is the pair from before.
    drop(store);
    world.put("certificates/le/a.test/a.test.crt", "half");
    let store = world.open();
    assert_eq!(serial(&store, "a.test"), "3");
    look(&store);
    assert!(said(&store)[0].contains("not replaced"), "{:?}", said(&store));
    // A copy that was tampered with or cut off is none.
    drop(store);
    let file = fs::read_dir(&copy).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() - 30]).unwrap();
    let store = world.open();
    assert_ne!(serial(&store, "a.test"), "3");
}

#[test]
fn strange_files_are_told_and_change_nothing() {
    let world = World::new();
    world.caddy("le", "a.test", &Want::default());
    let exposed = world.caddy("le", "open.test", &want(&["open.test"], 2));
    let key = world.dir.join("certificates/le/open.test/open.test.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    world.write("big.pem", vec![b'A'; 10 << 20]);
    world.write("binary.crt", [0, 159, 146, 150].repeat(4096));
    world.write("binary.key", "-----BEGIN PRIVATE KEY-----\n");
    world.write("1234567890", &exposed.chain);
    world.write(".nfs000000000001", "gone");
    symlink("loop.pem", world.dir.join("loop.pem")).unwrap();
    symlink("nowhere", world.dir.join("dangling.pem")).unwrap();
    symlink("..", world.dir.join("certificates/le/up")).unwrap();
    symlink(".", world.dir.join("certificates/round")).unwrap();
    let store = world.open();
    look(&store);
    assert_eq!([serial(&store, "a.test"), serial(&store, "open.test")], ["1", "2"]);
    let said = said(&store);
    let about = |file: &str, what: &str| said.iter().any(|s| s.contains(file) && s.contains(what));
    assert!(about("open.test.key", "can be read or changed by everybody (mode 0644)"), "{said:#?}");
    assert!(about("big.pem", "larger than"), "{said:#?}");
    assert!(about("binary.crt", "no PEM certificate"), "{said:#?}");
    assert!(about("loop.pem", "cannot be read"), "{said:#?}");
    assert!(about("dangling.pem", "leads nowhere"), "{said:#?}");
    assert_eq!(said.len(), 5, "{said:#?}");
    let warning = store.certificates(SystemTime::now()).into_iter().find(|c| c.serial == "2").unwrap().warning;
    assert!(warning.unwrap().contains("mode 0644"));
}

#[test]
fn what_is_wrong_with_a_key_is_told_by_its_file() {
    let world = World::new();
    world.caddy("le", "a.test", &Want::default());
    let made = world.make(&want(&["b.test"], 2));
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n";
    let new = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let kind = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let cases = [
        ("old", old, "`{key}`: the private key is encrypted"),
        ("new", new, "`{key}`: the private key is encrypted"),
        ("kind", kind, "`{key}`: the private key does not parse, or is neither RSA"),
        ("none", "nothing", "`{key}`: no PEM private key in it"),
    ];
    for (name, key, _) in &cases {
        world.write(&format!("{name}.crt"), &made.chain);
        world.write(&format!("{name}.key"), key);
    }
    let leaf: CertificateDer<'static> =
        rustls::pki_types::pem::PemObject::from_pem_slice(made.chain.as_bytes()).unwrap();
    world.write("der.crt", &*leaf);
    world.write("der.key", &made.key);
    world.write("combined.pem", made.chain.clone() + new);
    world.write("link.crt", &made.chain);
    symlink("nowhere", world.dir.join("link.key")).unwrap();
    let store = world.open();
    look(&store);
    let said = said(&store);
    let about = |what: &str| said.iter().any(|s| s.contains(what));
    for (name, _, what) in cases {
        let key = world.dir.join(format!("{name}.key")).display().to_string();
        assert!(about(&what.replace("{key}", &key)), "{name}: {said:#?}");
    }
    assert!(about("but DER") && about("combined.pem") && about("link.key` is a link that leads nowhere"), "{said:#?}");
    assert_eq!(said.len(), 7, "{said:#?}");
}

#[test]
fn a_pair_that_is_replaced_by_removing_it_is_served_all_the_time() {
    let world = World::new();
    world.caddy("le", "a.test", &Want::default());
    let store = world.open();
    for number in 1..40 {
        let made = world.make(&want(&["b.test"], number));
        // As `install` does it.
        for (name, text) in [("b.crt", &made.chain), ("b.key", &made.key)] {
            let file = world.dir.join(name);
            drop(fs::remove_file(&file));
            assert!(number == 1 || store.covers("b.test", SystemTime::now()), "{number}: {name} is away");
            fs::write(&file, text).unwrap();
        }
        look(&store);
        assert_eq!(serial(&store, "b.test"), number.to_string());
    }
}

#[test]
fn ten_thousand_files_of_junk_are_told_briefly() {
    let world = World::new();
    world.caddy("le", "a.test", &Want::default());
    for number in 0..10_000 {
        fs::write(world.dir.join(format!("junk{number}.pem")), "junk").unwrap();
    }
    let store = world.open();
    look(&store);
    assert_eq!(serial(&store, "a.test"), "1");
    let said = said(&store);
    assert!(said.len() < 300, "{}", said.len());
    assert!(said.last().unwrap().contains("9800 further"), "{:?}", said.last());
    assert_eq!(store.certificates(SystemTime::now()).len(), 10_001);
}

#[test]
fn a_pair_is_seen_soon_after_it_is_there() {
    let world = World::new();
    world.caddy("le", "a.test", &Want::default());
    let store = world.open();
    let wait = |host: &str, number: &str| {
        let until = Instant::now() + LIMIT;
        while serial(&store, host) != number {
            assert!(Instant::now() < until, "{host} is not served");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    // By events; in a new directory, in place, and flat.
    world.caddy("le", "a.test", &Want { serial: 2, ..Want::default() });
    wait("a.test", "2");
    world.caddy("other", "b.test", &want(&["b.test"], 3));
    wait("b.test", "3");
    let made = world.make(&Want { serial: 4, ..Want::default() });
    world.write("certificates/le/a.test/a.test.key", &made.key);
    world.write("certificates/le/a.test/a.test.crt", &made.chain);
    wait("a.test", "4");
    let made = world.make(&want(&["flat.test"], 5));
    world.write("flat.crt", &made.chain);
    world.write("flat.key", &made.key);
    wait("flat.test", "5");
    fs::remove_file(world.dir.join("flat.key")).unwrap();
    fs::remove_file(world.dir.join("flat.crt")).unwrap();
    let until = Instant::now() + LIMIT;
    while store.covers("flat.test", SystemTime::now()) {
        assert!(Instant::now() < until, "what was removed is still served");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(said(&store), Vec::<String>::new());
}
