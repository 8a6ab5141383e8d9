//! What a failed handshake is told as: both sides in memory.

use super::rig::{ALL, Authority, Pair, server_config};
use rcgen::{CertificateParams, date_time_ymd};
use rust_lb::table::{PeerName, Pem, TlsVersion, TransportTls};
use rust_lb::upstream::tls::{TlsConfigError, TlsFailure, client_config};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use std::io;
use std::sync::Arc;

fn read(path: &str) -> io::Result<Vec<u8>> {
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no `{path}`")))
}

fn trusting(authority: &Authority) -> TransportTls {
    TransportTls { root_cas: vec![Pem::new(&authority.pem)], ..TransportTls::default() }
}

/// Shakes hands as far as it goes; what the client is told goes on once its side is over, too.
fn shake(tls: &TransportTls, server: &Arc<ServerConfig>, host: &'static str) -> Result<(), TlsFailure> {
    let config = Arc::new(client_config(tls, &mut read).expect("a configuration"));
    let mut client = ClientConnection::new(config, ServerName::try_from(host).expect("a name")).expect("a session");
    let mut server = ServerConnection::new(server.clone()).expect("a session");
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        while client.wants_write() {
            client.write_tls(&mut up).expect("memory");
        }
        let mut rest = &up[..];
        while !rest.is_empty() && server.read_tls(&mut rest).expect("memory") > 0 {
            // its alert goes to the client
            drop(server.process_new_packets());
        }
        up.clear();
        while server.wants_write() {
            server.write_tls(&mut down).expect("memory");
        }
        let mut rest = &down[..];
        while !rest.is_empty() && client.read_tls(&mut rest).expect("memory") > 0 {
            if let Err(error) = client.process_new_packets() {
                let error = io::Error::new(io::ErrorKind::InvalidData, error);
                return Err(TlsFailure::of(&error).expect("an error of TLS"));
            }
        }
        down.clear();
    }
    assert!(!client.is_handshaking());
    Ok(())
}

fn server(pair: &Pair) -> Arc<ServerConfig> {
    server_config(pair, None, ALL)
}

#[test]
fn certificates_fail_by_their_cause() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = server(&ours.sign(&["a.test"]));
    assert_eq!(shake(&trusting(&ours), &good, "a.test"), Ok(()));
    assert_eq!(shake(&trusting(&theirs), &good, "a.test"), Err(TlsFailure::NotTrusted));
    assert_eq!(shake(&trusting(&ours), &good, "b.test"), Err(TlsFailure::WrongName));
    let dated = |from: i32, until: i32| {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).expect("parameters");
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        server(&ours.sign_as(params))
    };
    assert_eq!(shake(&trusting(&ours), &dated(2001, 2002), "a.test"), Err(TlsFailure::Expired));
    assert_eq!(shake(&trusting(&ours), &dated(4001, 4002), "a.test"), Err(TlsFailure::NotYetValid));
    let skipping = TransportTls { insecure_skip_verify: true, ..TransportTls::default() };
    assert_eq!(shake(&skipping, &dated(2001, 2002), "b.test"), Ok(()));
    let by_name = |name: PeerName| TransportTls { peer_names: vec![name], ..trusting(&ours) };
    assert_eq!(shake(&by_name(PeerName::Host("a.test".into())), &good, "a.test"), Ok(()));
    assert_eq!(shake(&by_name(PeerName::Host("b.test".into())), &good, "a.test"), Err(TlsFailure::WrongPeer));
    let id = server(&ours.sign_uri("spiffe://d/x"));
    let by_uri = TransportTls { insecure_skip_verify: true, ..by_name(PeerName::Uri("SPIFFE://d/x".into())) };
    assert_eq!(shake(&by_uri, &id, "a.test"), Ok(()));
    assert_eq!(TlsFailure::WrongName.as_str(), "tls: wrong host name");
}

#[test]
fn a_certificate_that_is_named_itself_is_trusted() {
    // as `openssl req -x509` makes it: an authority that is its own server
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    let pair = Pair { chain: params.self_signed(&key).expect("a certificate").pem(), key: key.serialize_pem() };
    let tls = TransportTls { root_cas: vec![Pem::new(&pair.chain)], ..TransportTls::default() };
    assert_eq!(shake(&tls, &server(&pair), "a.test"), Ok(()));
    assert_eq!(shake(&tls, &server(&pair), "b.test"), Err(TlsFailure::WrongName));
}

#[test]
fn refusals_of_the_server_are_told_apart() {
    let ours = Authority::new("ours");
    let pair = ours.sign(&["a.test"]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let asking = server_config(&pair, Some(&ours), &[version]);
        assert_eq!(shake(&trusting(&ours), &asking, "a.test"), Err(TlsFailure::Refused), "{version:?}");
        let shown =
            TransportTls { certificates: vec![(Pem::new(&pair.chain), Pem::new(&pair.key))], ..trusting(&ours) };
        assert_eq!(shake(&shown, &asking, "a.test"), Ok(()), "{version:?}");
    }
    let old = server_config(&pair, None, &[&rustls::version::TLS12]);
    let new = TransportTls { min_version: TlsVersion::Tls13, ..trusting(&ours) };
    assert_eq!(shake(&new, &old, "a.test"), Err(TlsFailure::NothingInCommon));
}

#[test]
fn what_is_not_tls_is_told_as_such() {
    let config = client_config(&TransportTls::default(), &mut read).expect("a configuration");
    let name = ServerName::try_from("a.test").expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a session");
    client.read_tls(&mut &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]).expect("memory");
    let error = client.process_new_packets().expect_err("no handshake");
    let error = io::Error::new(io::ErrorKind::InvalidData, error);
    assert_eq!(TlsFailure::of(&error), Some(TlsFailure::NotTls));
    assert_eq!(TlsFailure::of(&io::Error::from(io::ErrorKind::UnexpectedEof)), None);
}

#[test]
fn what_cannot_be_read_names_the_option_and_never_a_key() {
    let ours = Authority::new("ours");
    let fails = |tls: TransportTls| client_config(&tls, &mut read).expect_err("refused");
    let missing = fails(TransportTls { root_cas: vec![Pem::new("/none.pem")], ..TransportTls::default() });
    assert!(matches!(&missing, TlsConfigError::File { option: "rootCAs", path, .. } if &**path == "/none.pem"));
    let empty = fails(TransportTls { root_cas: vec![Pem::new("-----BEGIN ")], ..TransportTls::default() });
    assert!(empty.to_string().contains("`rootCAs`"), "{empty}");
    let (a, b) = (ours.sign(&["a"]), ours.sign(&["b"]));
    let mixed = vec![(Pem::new(&a.chain), Pem::new(&b.key))];
    let mixed = fails(TransportTls { certificates: mixed, ..TransportTls::default() });
    assert!(mixed.to_string().contains("does not go with its key"), "{mixed}");
    assert!(!format!("{mixed} {mixed:?}").contains("BEGIN"), "{mixed:?}");
}
