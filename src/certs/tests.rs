//! The store over generated files, seen through handshakes in memory.

mod options;
mod reading;
mod self_signed;

use super::*;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, ServerConnection};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::UNIX_EPOCH;

/// A stuck thread fails a test after so long; nothing waits for it otherwise.
const LIMIT: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);

struct Made {
    chain: String,
    key: String,
}

/// What a test wants of a certificate.
struct Want<'a> {
    names: &'a [&'a str],
    from: SystemTime,
    until: SystemTime,
    serial: u8,
}

impl Default for Want<'_> {
    fn default() -> Self {
        let now = SystemTime::now();
        Self { names: &["a.test"], from: now - DAY, until: now + 30 * DAY, serial: 1 }
    }
}

fn want<'a>(names: &'a [&'a str], serial: u8) -> Want<'a> {
    Want { names, serial, ..Want::default() }
}

struct World {
    _dir: tempfile::TempDir,
    dir: PathBuf,
    state: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl World {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let (dir, state) = (temporary.path().join("CERTS"), temporary.path().join("state"));
        fs::create_dir(&dir).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { _dir: temporary, dir, state, authority }
    }

    fn make(&self, want: &Want<'_>) -> Made {
        let names: Vec<String> = want.names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = want.from.into();
        params.not_after = want.until.into();
        params.serial_number = Some(u64::from(want.serial).into());
        let key = KeyPair::generate().unwrap();
        let chain = format!("{}{}", params.signed_by(&key, &self.authority).unwrap().pem(), self.authority.pem());
        Made { chain, key: key.serialize_pem() }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let file = self.dir.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// As Caddy does it: a temporary file, renamed.
    fn put(&self, name: &str, text: &str) {
        self.write("1234567", text);
        let file = self.dir.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::rename(self.dir.join("1234567"), file).unwrap();
    }

    fn caddy(&self, issuer: &str, host: &str, want: &Want<'_>) -> Made {
        let made = self.make(want);
        let base = format!("certificates/{issuer}/{host}/{host}");
        self.put(&format!("{base}.key"), &made.key);
        self.put(&format!("{base}.crt"), &made.chain);
        self.put(&format!("{base}.json"), "{}");
        made
    }

    fn open(&self) -> Store {
        self.open_self_signed(false)
    }

    fn open_self_signed(&self, self_signed: bool) -> Store {
        let (directory, local_root) = (self.dir.clone(), self.state.clone());
        Store::open(&StoreOptions {
            directory,
            local_root,
            copy: Some(self.state.join("copy")),
            mirror: None,
            self_signed,
        })
    }
}

fn look(store: &Store) {
    assert!(store.rescan(LIMIT), "the thread does not answer");
}

/// Takes any certificate and keeps it: what is looked at is which one came.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn client_config() -> ClientConfig {
    let provider = Arc::new(provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(VERSIONS)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Lets both ends talk until neither has anything to say.
fn handshake(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
    let mut wire = Vec::new();
    while client.wants_write() || server.wants_write() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut read = &wire[..];
        while !read.is_empty() {
            server.read_tls(&mut read).unwrap();
            server.process_new_packets()?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut read = &wire[..];
        while !read.is_empty() {
            client.read_tls(&mut read).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

fn connect(store: &Store, host: &str, client: ClientConfig) -> ClientConnection {
    let server = server_config(store).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    handshake(&mut client, &mut server).unwrap();
    assert!(!client.is_handshaking());
    client
}

/// The certificate that a client of that host gets, as serial number and names.
fn served(store: &Store, host: &str) -> (String, Vec<String>) {
    let client = connect(store, host, client_config());
    let chain = client.peer_certificates().unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.iter();
    let names = names.map(|n| n.to_string().trim_start_matches("DNSName(").trim_end_matches(')').to_owned());
    (leaf.tbs_certificate.serial.to_string(), names.collect())
}

fn serial(store: &Store, host: &str) -> String {
    served(store, host).0
}

#[test]
fn every_layout_is_found() {
    let world = World::new();
    world.caddy("acme-v02.api.letsencrypt.org-directory", "caddy.test", &want(&["caddy.test"], 1));
    world.caddy("acme-v02.api.letsencrypt.org-directory", "wildcard_.wild.test", &want(&["*.wild.test"], 2));
    for (serial, cert, key, name) in [
        (3, "flat.test.crt", "flat.test.key", "flat.test"),
        (4, "fabio-cert.pem", "fabio-key.pem", "fabio.test"),
        (5, "cert.pem", "key.pem", "hind.test"),
        (6, "live/bot.test/fullchain.pem", "live/bot.test/privkey.pem", "bot.test"),
    ] {
        let made = world.make(&want(&[name], serial));
        world.write(cert, &made.chain);
        world.write(key, &made.key);
    }
    let made = world.make(&want(&["comb.test", "Other.TEST"], 7));
    world.write("comb.pem", format!("{}{}", made.key, made.chain));
    // What must not disturb: client-side roots, left-overs, generations of certbot, notes.
    world.write("ca.pem", world.authority.pem());
    world.write("root-ca.pem", world.authority.pem());
    world.write("ca.crt", world.authority.pem());
    world.write("3862962393", "half a file");
    world.write("certificates/x/caddy.test/.nfs0001", "gone");
    world.write("certificates/README", "not a directory");
    world.write("archive/bot.test/cert1.pem", "old");
    world.write("live/README", "certbot's");
    world.write("dhparam.pem", "-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n");

    let store = world.open();
    assert_eq!(store.diagnostics(SystemTime::now()), []);
    for (host, serial_number) in [
        ("caddy.test", "1"),
        ("a.wild.test", "2"),
        ("flat.test", "3"),
        ("fabio.test", "4"),
        ("hind.test", "5"),
        ("bot.test", "6"),
        ("comb.test", "7"),
        ("other.test", "7"),
    ] {
        assert_eq!(serial(&store, host), serial_number, "{host}");
        assert!(store.covers(host, SystemTime::now()), "{host}");
        assert!(store.covers(&format!("{host}."), SystemTime::now()), "{host} with the root's dot");
    }
    assert_eq!(store.certificates(SystemTime::now()).len(), 7);
    // Clients that name no host get the pair that was put there for them.
    assert_eq!(serial(&store, "127.0.0.1"), "5");
    for host in ["a.b.wild.test", "wild.test", "elsewhere.test"] {
        assert!(!store.covers(host, SystemTime::now()), "{host}");
    }
}

#[test]
fn a_renewal_is_taken_up_and_a_broken_one_is_not() {
    let world = World::new();
    let old = world.caddy("le", "a.test", &Want::default());
    let store = world.open();
    assert_eq!(serial(&store, "a.test"), "1");

    world.caddy("le", "a.test", &Want { serial: 2, ..Want::default() });
    look(&store);
    assert_eq!(serial(&store, "a.test"), "2");
    assert_eq!(store.diagnostics(SystemTime::now()), []);

    // Half a renewal: the new key stands beside the old certificate.
    let next = world.make(&Want { serial: 3, ..Want::default() });
    let base = "certificates/le/a.test/a.test";
    world.put(&format!("{base}.key"), &next.key);
    look(&store);
    assert_eq!(serial(&store, "a.test"), "2");
    let problems = store.diagnostics(SystemTime::now());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().contains("do not belong together"), "{}", problems[0]);
    assert!(store.certificates(SystemTime::now())[0].problem.is_some());

    world.put(&format!("{base}.crt"), &next.chain);
    look(&store);
    assert_eq!(serial(&store, "a.test"), "3");
    assert_eq!(store.diagnostics(SystemTime::now()), []);

    // Every kind of broken file leaves the pair as it was.
    for (file, text) in [
        ("crt", ""),
        ("crt", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
        ("crt", &old.key),
        ("crt", "-----BEGIN CERTIFICATE-----\nhalf a fi"),
        ("key", ""),
        ("key", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"),
        ("key", &"x".repeat(300 * 1024)),
    ] {
        world.put(&format!("{base}.{file}"), text);
        look(&store);
        assert_eq!(serial(&store, "a.test"), "3", "{file} {text:.40}");
        assert_eq!(store.diagnostics(SystemTime::now()).len(), 1, "{file} {text:.40}");
        world.put(&format!("{base}.key"), &next.key);
        world.put(&format!("{base}.crt"), &next.chain);
        look(&store);
        assert_eq!(store.diagnostics(SystemTime::now()), [], "{file} {text:.40}");
    }
    fs::remove_file(world.dir.join(format!("{base}.key"))).unwrap();
    look(&store);
    assert_eq!(serial(&store, "a.test"), "3", "the key has gone, the pair has not");
}

#[test]
fn certbots_links_are_followed() {
    let world = World::new();
    let link = |generation: u8| {
        let made = world.make(&Want { serial: generation, ..Want::default() });
        for (name, text) in [("fullchain", &made.chain), ("privkey", &made.key)] {
            world.write(&format!("archive/a.test/{name}{generation}.pem"), text);
            let live = world.dir.join(format!("live/a.test/{name}.pem"));
            fs::create_dir_all(live.parent().unwrap()).unwrap();
            let _ = fs::remove_file(&live);
            std::os::unix::fs::symlink(format!("../../archive/a.test/{name}{generation}.pem"), live).unwrap();
        }
    };
    link(1);
    let store = world.open();
    assert_eq!(serial(&store, "a.test"), "1");
    link(2);
    look(&store);
    assert_eq!(serial(&store, "a.test"), "2");
    assert_eq!(store.certificates(SystemTime::now()).len(), 1);
}

#[test]
fn the_best_of_several_is_served() {
    let now = SystemTime::now();
    let (expired, later) = (now - DAY, now - DAY / 2);
    // Each beats the one before it.
    let ranks: [(&str, Want<'_>); 6] = [
        ("local", Want { serial: 1, from: now - 2 * DAY, until: expired, ..Want::default() }),
        ("le", Want { serial: 2, from: now - 2 * DAY, until: expired, ..Want::default() }),
        ("local", Want { serial: 3, ..Want::default() }),
        ("le", Want { names: &["*.test"], serial: 4, from: later, ..Want::default() }),
        ("le", Want { serial: 5, ..Want::default() }),
        ("le", Want { serial: 6, from: later, ..Want::default() }),
    ];
    for better in 1..ranks.len() {
        for order in [[better - 1, better], [better, better - 1]] {
            let world = World::new();
            for (at, rank) in order.into_iter().enumerate() {
                let (issuer, want) = &ranks[rank];
                world.caddy(issuer, &format!("{at}.test"), want);
            }
            let store = world.open();
            assert_eq!(serial(&store, "a.test"), ranks[better].1.serial.to_string(), "{order:?}");
        }
    }
}

#[test]
fn what_has_expired_is_said_and_is_no_cover() {
    let world = World::new();
    let now = SystemTime::now();
    world.caddy("le", "a.test", &Want { until: now - DAY / 2, ..Want::default() });
    let store = world.open();
    assert_eq!(serial(&store, "a.test"), "1");
    assert!(!store.covers("a.test", now));
    let problems = store.diagnostics(now);
    assert_eq!(&*problems[0].code, "certificate_expired");
    assert_eq!(store.certificates(now)[0].problem.as_deref(), Some("expired"));
    // What Caddy's own authority left behind gives way to a certificate of ours.
    world.caddy("local", "old.test", &Want { names: &["old.test"], until: now - DAY / 2, ..Want::default() });
    look(&store);
    assert_ne!(serial(&store, "old.test"), "1");
}

#[test]
fn garbage_is_reported_by_file_and_nothing_else_suffers() {
    let world = World::new();
    world.caddy("le", "a.test", &Want::default());
    world.caddy("le", "alone.test", &Want::default());
    fs::remove_file(world.dir.join("certificates/le/alone.test/alone.test.key")).unwrap();
    world.write("junk.pem", b"\x00\xff not pem at all");
    world.write("large.crt", vec![b'x'; 1 << 20]);
    world.write("large.key", "");
    fs::create_dir(world.dir.join("folder.crt")).unwrap();
    world.write("folder.key", "");
    let nameless = world.make(&Want { names: &[], ..Want::default() });
    world.write("nameless.pem", nameless.chain + &nameless.key);
    let pipe = world.dir.join("pipe.pem");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let store = world.open();
    look(&store);
    assert_eq!(serial(&store, "a.test"), "1");
    let said: Vec<String> = store.diagnostics(SystemTime::now()).iter().map(ToString::to_string).collect();
    let about = |file: &str, what: &str| said.iter().any(|s| s.contains(file) && s.contains(what));
    assert!(about("alone.test.crt", "is missing"), "{said:#?}");
    assert!(about("junk.pem", "no PEM certificate"), "{said:#?}");
    assert!(about("large.crt", "larger than"), "{said:#?}");
    assert!(about("folder.crt", "not a regular file"), "{said:#?}");
    assert!(about("nameless.pem", "names no host"), "{said:#?}");
    assert!(about("pipe.pem", "not a regular file"), "{said:#?}");
    assert_eq!(said.len(), 6, "{said:#?}");
    assert_eq!(store.certificates(SystemTime::now()).len(), 7);
}

#[test]
fn a_removal_counts_unless_everything_goes_at_once() {
    let world = World::new();
    world.caddy("le", "a.test", &Want::default());
    world.caddy("le", "b.test", &Want { names: &["b.test"], ..Want::default() });
    let store = world.open();
    fs::remove_dir_all(world.dir.join("certificates/le/b.test")).unwrap();
    look(&store);
    assert!(!store.covers("b.test", SystemTime::now()));
    assert_eq!(store.diagnostics(SystemTime::now()), []);

    // The mount has gone, or its server.
    for gone in ["certificates", ""] {
        let moved = world.state.join("moved");
        fs::rename(world.dir.join(gone), &moved).unwrap();
        look(&store);
        assert_eq!(serial(&store, "a.test"), "1");
        let problems = store.diagnostics(SystemTime::now());
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(&*problems[0].code, "certificate_directory");
        fs::rename(&moved, world.dir.join(gone)).unwrap();
        look(&store);
        assert_eq!(store.diagnostics(SystemTime::now()), []);
    }
}

#[test]
fn a_directory_that_is_missing_is_a_diagnostic_until_it_comes() {
    let world = World::new();
    fs::remove_dir(&world.dir).unwrap();
    let store = world.open();
    let problems = store.diagnostics(SystemTime::now());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().contains("No such file"), "{}", problems[0]);
    world.caddy("le", "a.test", &Want::default());
    look(&store);
    assert_eq!(serial(&store, "a.test"), "1");
    assert_eq!(store.diagnostics(SystemTime::now()), []);
}

#[test]
fn hosts_without_a_certificate_get_one_that_the_local_root_verifies() {
    let world = World::new();
    let store = world.open();
    let pem = fs::read(store.root_pem_path().unwrap()).unwrap();
    assert_eq!(pem, store.root_pem().unwrap().as_bytes());
    let mut roots = rustls::RootCertStore::empty();
    let root = <CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(&pem).unwrap();
    roots.add(root).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // By name, by a name in capitals, and by address, where no name is sent.
    for host in ["unknown.example", "UPPER.example", "127.0.0.1", "localhost"] {
        connect(&store, host, config.clone());
    }
}

#[test]
fn tls_is_as_fast_and_as_new_as_it_can_be() {
    let world = World::new();
    let store = world.open();
    let client = connect(&store, "a.test", client_config());
    assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let suite = client.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);

    // The server's order counts, whatever the client prefers.
    let mut other = provider();
    other.cipher_suites.reverse();
    let other = Arc::new(other);
    let config = |versions: &[&'static SupportedProtocolVersion]| {
        let mut config = ClientConfig::builder_with_provider(other.clone())
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Any(other.clone())))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        config
    };
    let client = connect(&store, "a.test", config(VERSIONS));
    assert_eq!(client.negotiated_cipher_suite().unwrap().suite(), rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
    let client = connect(&store, "a.test", config(&[&rustls::version::TLS12]));
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
}

#[test]
fn a_returning_client_resumes() {
    let world = World::new();
    let store = world.open();
    let server = server_config(&store).unwrap();
    let client = Arc::new(client_config());
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let name = ServerName::try_from("a.test").unwrap();
        let mut client = ClientConnection::new(client.clone(), name).unwrap();
        let mut server = ServerConnection::new(server.clone()).unwrap();
        handshake(&mut client, &mut server).unwrap();
        kinds.push(client.handshake_kind().unwrap());
    }
    assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
}

#[test]
fn inventories_show_no_key() {
    let world = World::new();
    world.caddy("le", "a.test", &Want::default());
    let store = world.open();
    let json = serde_json::to_value(store.certificates(UNIX_EPOCH + DAY)).unwrap();
    assert_eq!(json[0]["names"], serde_json::json!(["a.test"]));
    assert_eq!(json[0]["serial"], "1");
    assert_eq!(json[0]["problem"], "not valid yet");
    assert!(json[0]["issuer"].as_str().unwrap().contains("Test Authority"));
    let text = format!("{json} {store:?}");
    assert!(!text.contains("PRIVATE"), "{text}");
}
