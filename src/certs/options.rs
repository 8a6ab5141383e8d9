//! TLS options (`tls.options`) as configurations of handshakes: versions, cipher suites, key exchange, client
//! certificates, ALPN (<https://doc.traefik.io/traefik/reference/routing-configuration/http/tls/tls-options/>).
//!
//! What always holds: a configuration is built once, on the control side, and never for a handshake; each has ticket
//! keys of its own, so that no session begun under one goes on under another; what cannot be done as asked
//! is an error, unless it leaves the options stricter than asked, which is a remark.

use super::resolver::Strict;
use super::{Store, VERSIONS, provider};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, NamedGroup, ProtocolVersion, RootCertStore, ServerConfig,
    SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use std::sync::Arc;
use thiserror::Error;

/// TLS options as they are declared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TlsOptions {
    /// `VersionTLS12` or `VersionTLS13`; older ones come to 1.2. Empty: 1.2.
    pub min_version: String,
    /// The same; empty: 1.3.
    pub max_version: String,
    /// Suites of TLS 1.2, by Go's names; those of TLS 1.3 cannot be chosen, as in Go. Empty: all.
    pub cipher_suites: Vec<String>,
    /// Groups for the key exchange, by Go's or their own names. Empty: the usual ones.
    pub curve_preferences: Vec<String>,
    /// Certificates of clients.
    pub client_auth: ClientAuth,
    /// Without a certificate for the name that the client asks for there is no handshake.
    pub sni_strict: bool,
    /// Protocols, the preferred one first; empty: HTTP/2, HTTP/1.1.
    pub alpn_protocols: Vec<String>,
    /// Sessions do not go on without a full handshake.
    pub disable_session_tickets: bool,
    /// Deprecated, and without effect in Traefik: the server's order always counts.
    pub prefer_server_cipher_suites: Option<bool>,
}

/// `clientAuth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ClientAuth {
    /// Files of the authorities (PEM), or their content.
    pub ca_files: Vec<String>,
    /// `NoClientCert`, `RequestClientCert`, `RequireAnyClientCert`, `VerifyClientCertIfGiven`,
    /// `RequireAndVerifyClientCert`; empty: the last where there are authorities, else the first.
    pub client_auth_type: String,
}

/// Why options cannot be served; whoever names them is not served either.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// A version that does not exist.
    #[error("expected `VersionTLS10`, `VersionTLS11`, `VersionTLS12` or `VersionTLS13`, got `{0}`")]
    Version(String),
    /// No version is left.
    #[error("no version from `{0}` to `{1}` is served; there are 1.2 and 1.3")]
    NoVersion(String, String),
    /// A cipher suite that Go does not know either.
    #[error("unknown cipher suite `{0}`")]
    Suite(String),
    /// None of the suites is served, and TLS 1.3 is not allowed.
    #[error("none of the cipher suites is served, and TLS 1.3 is not allowed")]
    NoSuite,
    /// A group that Go does not know either.
    #[error("unknown curve `{0}`")]
    Curve(String),
    /// None of the groups is served.
    #[error("none of the curves is served")]
    NoCurve,
    /// A `clientAuthType` that does not exist.
    #[error("unknown `clientAuthType` `{0}`")]
    ClientAuthType(String),
    /// Certificates are to be verified and nobody is trusted.
    #[error("`clientAuthType` `{0}` needs `caFiles`")]
    NoAuthority(String),
    /// A file of authorities without a certificate.
    #[error("no certificate that can be used in the authorities of `caFiles`")]
    BadAuthority,
    /// The library refuses its own parts.
    #[error("{0}")]
    Library(String),
}

/// A configuration, and what it does otherwise than asked (always stricter).
#[derive(Debug, Clone)]
pub struct Built {
    /// For handshakes.
    pub config: Arc<ServerConfig>,
    /// Sentences without a full stop.
    pub remarks: Vec<String>,
}

/// Builds a configuration. `authorities` is what the files of `caFiles` hold.
///
/// # Errors
/// [`OptionsError`].
pub fn build(store: &Store, options: &TlsOptions, authorities: &[Vec<u8>]) -> Result<Built, OptionsError> {
    let mut remarks = Vec::new();
    let versions = versions(options)?;
    let has_13 = versions.iter().any(|version| version.version == ProtocolVersion::TLSv1_3);
    let mut provider = provider();
    suites(&mut provider, &options.cipher_suites, has_13, &mut remarks)?;
    if !options.curve_preferences.is_empty() {
        provider.kx_groups = curves(&options.curve_preferences, &mut remarks)?;
    }
    let provider = Arc::new(provider);
    let verifier = verifier(&options.client_auth, authorities, &provider)?;
    let library = |error: rustls::Error| OptionsError::Library(error.to_string());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(library)?
        .with_client_cert_verifier(verifier);
    let mut config = match options.sni_strict {
        true => builder.with_cert_resolver(Arc::new(Strict(store.resolver.clone()))),
        false => builder.with_cert_resolver(store.resolver()),
    };
    config.alpn_protocols = match &*options.alpn_protocols {
        [] => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        said => said.iter().map(|name| name.as_bytes().to_vec()).collect(),
    };
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    if !options.disable_session_tickets {
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(library)?;
        config.send_tls13_tickets = 1;
    }
    Ok(Built { config: Arc::new(config), remarks })
}

fn versions(options: &TlsOptions) -> Result<Vec<&'static SupportedProtocolVersion>, OptionsError> {
    let number = |said: &str, default: u8| match said {
        "" => Ok(default),
        "VersionTLS10" => Ok(0),
        "VersionTLS11" => Ok(1),
        "VersionTLS12" => Ok(2),
        "VersionTLS13" => Ok(3),
        other => Err(OptionsError::Version(other.to_owned())),
    };
    let (least, most) = (number(&options.min_version, 2)?, number(&options.max_version, 3)?);
    let minor = |version: ProtocolVersion| if version == ProtocolVersion::TLSv1_3 { 3 } else { 2 };
    let within = |version: &&&'static SupportedProtocolVersion| (least..=most).contains(&minor(version.version));
    let versions: Vec<_> = VERSIONS.iter().filter(within).copied().collect();
    match versions.is_empty() {
        true => Err(OptionsError::NoVersion(options.min_version.clone(), options.max_version.clone())),
        false => Ok(versions),
    }
}

/// Go's names of suites that are not served: without forward secrecy, or with CBC, RC4 or 3DES.
fn is_weak(name: &str) -> bool {
    let weak = ["_CBC_SHA", "_CBC_SHA256", "_RC4_128_SHA"].iter().any(|end| name.ends_with(end));
    let begin = ["TLS_RSA_WITH_", "TLS_ECDHE_RSA_WITH_", "TLS_ECDHE_ECDSA_WITH_"];
    (weak && begin.iter().any(|begin| name.starts_with(begin)))
        || matches!(name, "TLS_RSA_WITH_AES_128_GCM_SHA256" | "TLS_RSA_WITH_AES_256_GCM_SHA384" | "TLS_FALLBACK_SCSV")
}

fn suites(
    provider: &mut CryptoProvider,
    names: &[String],
    has_13: bool,
    remarks: &mut Vec<String>,
) -> Result<(), OptionsError> {
    if names.is_empty() {
        return Ok(());
    }
    let is_13 = |suite: &SupportedCipherSuite| matches!(suite, SupportedCipherSuite::Tls13(_));
    // Go's names of TLS 1.3's suites have no `13` in the version's place.
    let named = |suite: &SupportedCipherSuite, name: &str| {
        let own = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
        own == name || (name.ends_with("_POLY1305") && own.strip_suffix("_SHA256") == Some(name))
    };
    for name in names {
        match provider.cipher_suites.iter().any(|suite| named(suite, name)) {
            true => {}
            false if is_weak(name) => remarks.push(format!("the cipher suite `{name}` is not served: it is too weak")),
            false => return Err(OptionsError::Suite(name.clone())),
        }
    }
    provider.cipher_suites.retain(|suite| match is_13(suite) {
        true => has_13,
        false => names.iter().any(|name| named(suite, name)),
    });
    if provider.cipher_suites.is_empty() { Err(OptionsError::NoSuite) } else { Ok(()) }
}

fn curves(names: &[String], remarks: &mut Vec<String>) -> Result<Vec<&'static dyn SupportedKxGroup>, OptionsError> {
    let mut groups: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    for name in names {
        let wanted = match &*name.to_ascii_lowercase() {
            "curvep256" | "secp256r1" => NamedGroup::secp256r1,
            "curvep384" | "secp384r1" => NamedGroup::secp384r1,
            "curvep521" | "secp521r1" => NamedGroup::secp521r1,
            "x25519" => NamedGroup::X25519,
            "x25519mlkem768" => NamedGroup::X25519MLKEM768,
            "secp256r1mlkem768" => NamedGroup::secp256r1MLKEM768,
            // 0x11ED, draft-ietf-tls-ecdhe-mlkem
            "secp384r1mlkem1024" => NamedGroup::Unknown(0x11ed),
            _ => return Err(OptionsError::Curve(name.clone())),
        };
        match aws_lc_rs::ALL_KX_GROUPS.iter().find(|group| group.name() == wanted) {
            Some(group) => groups.push(*group),
            None => remarks.push(format!("the curve `{name}` is not served")),
        }
    }
    if groups.is_empty() { Err(OptionsError::NoCurve) } else { Ok(groups) }
}

fn verifier(
    auth: &ClientAuth,
    authorities: &[Vec<u8>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, OptionsError> {
    let kind = match (&*auth.client_auth_type, auth.ca_files.is_empty()) {
        ("", true) => "NoClientCert",
        ("", false) => "RequireAndVerifyClientCert",
        (said, _) => said,
    };
    let any = |mandatory| Ok(Arc::new(AnyCertificate { mandatory, provider: provider.clone() }) as _);
    match kind {
        "NoClientCert" => return Ok(Arc::new(NoClientAuth)),
        "RequestClientCert" => return any(false),
        "RequireAnyClientCert" => return any(true),
        "VerifyClientCertIfGiven" | "RequireAndVerifyClientCert" => {}
        other => return Err(OptionsError::ClientAuthType(other.to_owned())),
    }
    if auth.ca_files.is_empty() {
        return Err(OptionsError::NoAuthority(kind.to_owned()));
    }
    let mut roots = RootCertStore::empty();
    for pem in authorities {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| OptionsError::BadAuthority)?;
            roots.add(certificate).map_err(|_| OptionsError::BadAuthority)?;
        }
        if roots.len() == before {
            return Err(OptionsError::BadAuthority);
        }
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = if kind == "VerifyClientCertIfGiven" { builder.allow_unauthenticated() } else { builder };
    let verifier = builder.build().map_err(|_| OptionsError::BadAuthority)?;
    Ok(verifier)
}

/// Asks for a certificate and takes any, of whomever: `RequestClientCert`, `RequireAnyClientCert`. That the client has
/// its key is verified all the same.
#[derive(Debug)]
struct AnyCertificate {
    mandatory: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
