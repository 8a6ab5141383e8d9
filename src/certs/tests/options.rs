//! TLS options, seen through handshakes in memory.

use super::*;
use crate::certs::options::{self, ClientAuth, OptionsError, TlsOptions};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};

fn try_with(
    store: &Store,
    options: &TlsOptions,
    authorities: &[Vec<u8>],
    client: ClientConfig,
) -> Result<ClientConnection, rustls::Error> {
    let server = options::build(store, options, authorities).unwrap().config;
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("a.test").unwrap()).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    handshake(&mut client, &mut server)?;
    Ok(client)
}

fn client_of(versions: &[&'static SupportedProtocolVersion], pair: Option<&Made>) -> ClientConfig {
    let provider = Arc::new(provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)));
    let Some(pair) = pair else { return builder.with_no_client_auth() };
    let chain = CertificateDer::pem_slice_iter(pair.chain.as_bytes()).map(Result::unwrap).collect();
    builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap()).unwrap()
}

fn options(change: impl FnOnce(&mut TlsOptions)) -> TlsOptions {
    let mut options = TlsOptions::default();
    change(&mut options);
    options
}

#[test]
fn versions_suites_curves_and_protocols_are_those_that_are_said() {
    let world = World::new();
    world.caddy("x", "a.test", &want(&["a.test"], 1));
    let store = world.open();
    let ask = |options: &TlsOptions, versions: &[&'static SupportedProtocolVersion]| {
        try_with(&store, options, &[], client_of(versions, None))
    };
    let only_13 = options(|o| o.min_version = "VersionTLS13".into());
    assert!(ask(&only_13, &[&TLS12]).is_err());
    assert!(ask(&only_13, &[&TLS13]).is_ok());
    let only_12 = options(|o| {
        o.min_version = "VersionTLS10".into();
        o.max_version = "VersionTLS12".into();
        o.cipher_suites = vec!["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305".into(), "TLS_RSA_WITH_AES_128_CBC_SHA".into()];
        o.curve_preferences = vec!["CurveP384".into()];
    });
    assert!(ask(&only_12, &[&TLS13]).is_err());
    let client = ask(&only_12, &[&TLS12]).unwrap();
    let suite = client.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    assert_eq!(client.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::secp384r1);
    let remarks = options::build(&store, &only_12, &[]).unwrap().remarks;
    assert!(remarks.len() == 1 && remarks[0].contains("TLS_RSA_WITH_AES_128_CBC_SHA"), "{remarks:?}");

    let http1 = options(|o| o.alpn_protocols = vec!["http/1.1".into()]);
    let mut client = client_of(&[&TLS13], None);
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let client = try_with(&store, &http1, &[], client).unwrap();
    assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn client_certificates_are_asked_for_and_verified_as_said() {
    let world = World::new();
    world.caddy("x", "a.test", &want(&["a.test"], 1));
    let store = world.open();
    let authorities = [world.authority.pem().into_bytes()];
    let known = world.make(&want(&["client.test"], 2));
    let stranger = World::new().make(&want(&["client.test"], 3));
    for (kind, files, none, good, bad) in [
        ("", false, true, true, true),
        ("", true, false, true, false),
        ("NoClientCert", true, true, true, true),
        ("RequestClientCert", true, true, true, true),
        ("RequireAnyClientCert", false, false, true, true),
        ("VerifyClientCertIfGiven", true, true, true, false),
        ("RequireAndVerifyClientCert", true, false, true, false),
    ] {
        let ca_files = if files { vec!["ca.pem".to_owned()] } else { Vec::new() };
        let said = options(|o| o.client_auth = ClientAuth { ca_files, client_auth_type: kind.into() });
        let authorities = if files { &authorities[..] } else { &[] };
        for version in [&TLS12, &TLS13] {
            let passes = |pair| try_with(&store, &said, authorities, client_of(&[version], pair)).is_ok();
            let all = (passes(None), passes(Some(&known)), passes(Some(&stranger)));
            assert_eq!(all, (none, good, bad), "{kind:?} {files} {:?}", version.version);
        }
    }
}

#[test]
fn strict_names_need_a_certificate_that_was_put_there() {
    let world = World::new();
    let store = world.open();
    let strict = options(|o| o.sni_strict = true);
    let ask = || try_with(&store, &strict, &[], client_of(&[&TLS13], None));
    assert!(ask().is_err(), "the local authority signs for no host here");
    world.caddy("x", "a.test", &want(&["a.test"], 1));
    look(&store);
    assert!(ask().is_ok());
}

#[test]
fn what_cannot_be_served_as_said_is_an_error() {
    let world = World::new();
    let store = world.open();
    let refused = |change: fn(&mut TlsOptions)| options::build(&store, &options(change), &[]).unwrap_err();
    assert_eq!(refused(|o| o.min_version = "1.2".into()), OptionsError::Version("1.2".into()));
    assert!(matches!(refused(|o| o.max_version = "VersionTLS11".into()), OptionsError::NoVersion(..)));
    assert_eq!(refused(|o| o.cipher_suites = vec!["TLS_X".into()]), OptionsError::Suite("TLS_X".into()));
    assert_eq!(refused(|o| o.curve_preferences = vec!["P256".into()]), OptionsError::Curve("P256".into()));
    let auth = |kind: &str, files: &[&str]| ClientAuth {
        ca_files: files.iter().map(|f| (*f).to_owned()).collect(),
        client_auth_type: kind.into(),
    };
    let with = |auth: ClientAuth, pem: &[Vec<u8>]| {
        options::build(&store, &options(|o| o.client_auth = auth), pem).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(auth("Some", &[]), &[]), OptionsError::ClientAuthType("Some".into()));
    let required = "RequireAndVerifyClientCert";
    assert_eq!(with(auth(required, &[]), &[]), OptionsError::NoAuthority(required.into()));
    for pem in [&b"nothing"[..], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert_eq!(with(auth("", &["ca.pem"]), &[pem.to_vec()]), OptionsError::BadAuthority);
    }
    let only_12 = |o: &mut TlsOptions| {
        o.max_version = "VersionTLS12".into();
        o.cipher_suites = vec!["TLS_RSA_WITH_AES_128_CBC_SHA".into()];
    };
    assert_eq!(refused(only_12), OptionsError::NoSuite);
}
