//! `CERTS_SELF_SIGNED`: what is served of which authority.

use super::*;
use rustls::pki_types::pem::PemObject;

/// Whether a client that trusts nothing but Caddy's root gets through.
fn verifies(store: &Store, pem: &[u8], host: &str) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut server = ServerConnection::new(server_config(store).unwrap()).unwrap();
    handshake(&mut client, &mut server).is_ok()
}

#[test]
fn every_host_gets_a_certificate_of_caddys_authority_but_those_with_one_put_there_by_hand() {
    let world = World::new();
    world.caddy("acme-v02.api.letsencrypt.org-directory", "old.test", &want(&["old.test"], 7));
    world.caddy("local", "int.test", &want(&["int.test"], 8));
    let by_hand = world.make(&want(&["hand.test"], 9));
    world.put("hand.test.crt", &by_hand.chain);
    world.put("hand.test.key", &by_hand.key);
    let store = world.open_self_signed(true);
    assert_eq!(store.diagnostics(SystemTime::now()), []);
    let root = world.dir.join("pki/authorities/local/root.crt");
    assert_eq!(store.root_pem_path(), Some(root.clone()));
    let pem = fs::read(&root).unwrap();
    assert_eq!(pem, store.root_pem().unwrap().as_bytes());
    for host in ["new.test", "old.test", "int.test", "localhost"] {
        assert!(verifies(&store, &pem, host), "{host}");
    }
    assert_eq!(serial(&store, "hand.test"), "9");
    let written = fs::read_dir(world.dir.join("certificates/local")).unwrap().count();
    assert_eq!(written, 1, "leaves are not written");

    // Another start, and the same root.
    drop(store);
    assert!(verifies(&world.open_self_signed(true), &pem, "new.test"));
}

#[test]
fn without_caddys_authority_what_was_issued_serves_and_the_rest_gets_ours() {
    let world = World::new();
    world.caddy("acme-v02.api.letsencrypt.org-directory", "old.test", &want(&["old.test"], 7));
    world.put("pki/authorities/local/root.crt", "garbage");
    let store = world.open_self_signed(true);
    let told = store.diagnostics(SystemTime::now());
    assert_eq!((told.len(), &*told[0].code), (1, "local_authority"), "{told:?}");
    assert!(told[0].to_string().contains("root.crt"), "{}", told[0]);
    assert_eq!(serial(&store, "old.test"), "7");
    let own = fs::read(store.root_pem_path().unwrap()).unwrap();
    assert!(verifies(&store, &own, "new.test"));
    assert_eq!(fs::read(world.dir.join("pki/authorities/local/root.crt")).unwrap(), b"garbage");
}
