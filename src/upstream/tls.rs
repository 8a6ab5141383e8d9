//! TLS towards servers: a transport's words to a configuration of rustls, and what a failed handshake means.
//!
//! What always holds: certificates and keys come from the caller, who reads files where that may take its time; nothing
//! here does so on its own. What `insecureSkipVerify` leaves out is the trust in a certificate, never the
//! proof that the server has its key.

use crate::table::{PeerName, Pem, TlsVersion, TransportTls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme, SupportedCipherSuite,
};
use std::io;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why there is no configuration of TLS.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TlsConfigError {
    /// A file of certificates or a key.
    #[error("`{option}`: `{path}`: {message}")]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: Arc<str>,
        /// What is wrong with it.
        message: String,
    },
    /// A text that stands in an option itself.
    #[error("`{option}`: {message}")]
    Text {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// rustls refuses the parts.
    #[error("{0}")]
    Parts(rustls::Error),
}

/// Gives what is in a file.
pub type ReadFile<'a> = &'a mut dyn FnMut(&str) -> io::Result<Vec<u8>>;

/// The configuration of connections to `https://` servers. Sessions are resumed, among all that use it.
/// `http2` offers HTTP/2 (RFC 7301).
///
/// # Errors
/// Files that cannot be read, or hold not what they should.
pub fn client_config(tls: &TransportTls, read: ReadFile<'_>) -> Result<ClientConfig, TlsConfigError> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if !tls.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| match suite {
            SupportedCipherSuite::Tls13(_) => true,
            other => {
                let named = |name: &Arc<str>| other.suite().as_str().is_some_and(|known| **name == *known);
                tls.cipher_suites.iter().any(named)
            }
        });
    }
    let provider = Arc::new(provider);
    let versions: &[&rustls::SupportedProtocolVersion] = match (tls.min_version, tls.max_version) {
        (TlsVersion::Tls12, TlsVersion::Tls12) => &[&rustls::version::TLS12],
        (TlsVersion::Tls12, TlsVersion::Tls13) => &[&rustls::version::TLS13, &rustls::version::TLS12],
        (TlsVersion::Tls13, _) => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
    let verifier = Arc::new(Verifier::new(tls, provider.clone(), read)?);
    let builder = builder.map_err(TlsConfigError::Parts)?.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match tls.certificates.is_empty() {
        true => builder.with_no_client_auth(),
        false => builder.with_client_cert_resolver(Arc::new(ClientCertificates::new(tls, &provider, read)?)),
    };
    // HTTP/2 is offered by connections that are for it.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What is in a PEM, and how to tell of a fault in it.
fn content(option: &'static str, pem: &Pem, read: ReadFile<'_>) -> Result<Vec<u8>, TlsConfigError> {
    match pem {
        Pem::Text(text) => Ok(text.reveal().as_bytes().to_vec()),
        Pem::File(path) => read(path).map_err(|error| fault(option, pem, error.to_string())),
    }
}

fn fault(option: &'static str, pem: &Pem, message: String) -> TlsConfigError {
    match pem {
        Pem::Text(_) => TlsConfigError::Text { option, message },
        Pem::File(path) => TlsConfigError::File { option, path: path.clone(), message },
    }
}

fn certificates(
    option: &'static str,
    pem: &Pem,
    read: ReadFile<'_>,
) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let bytes = content(option, pem, read)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(fault(option, pem, "no certificate in it".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(fault(option, pem, error.to_string())),
    }
}

/// Which certificates of servers are good.
#[derive(Debug)]
struct Verifier {
    /// `None`: any chain is.
    roots: Option<RootCertStore>,
    /// What was named to be trusted as it is, so that a server may show it itself.
    pinned: Vec<CertificateDer<'static>>,
    /// Whether it must be for the host.
    host: bool,
    peer_names: Vec<PeerName>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(tls: &TransportTls, provider: Arc<CryptoProvider>, read: ReadFile<'_>) -> Result<Self, TlsConfigError> {
        const OPTION: &str = "rootCAs";
        let mut roots = RootCertStore::empty();
        let mut pinned = Vec::new();
        for pem in &tls.root_cas {
            for certificate in certificates(OPTION, pem, read)? {
                pinned.push(certificate.clone());
                roots.add(certificate).map_err(|error| fault(OPTION, pem, error.to_string()))?;
            }
        }
        let chain = !tls.insecure_skip_verify || !tls.peer_names.is_empty();
        if chain && tls.root_cas.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Ok(Self {
            roots: chain.then_some(roots),
            pinned,
            host: !tls.insecure_skip_verify,
            peer_names: tls.peer_names.clone(),
            provider,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        if self.pinned.contains(end_entity) {
            // An authority's own certificate: webpki takes none from a server, but its date counts nevertheless.
            in_time(end_entity, now)?;
        } else {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        }
        if self.host {
            verify_server_name(&parsed, server_name)?;
        }
        if !self.peer_names.is_empty() && !names_one_of(&parsed, end_entity, &self.peer_names) {
            return Err(CertificateError::Other(OtherError(Arc::new(NoPeerName))).into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate has none of the names of `peerCertSANs`.
#[derive(Debug, thiserror::Error)]
#[error("the certificate names none of `peerCertSANs`")]
struct NoPeerName;

fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

fn names_one_of(parsed: &ParsedCertificate<'_>, der: &CertificateDer<'_>, names: &[PeerName]) -> bool {
    let uris: Vec<String> = match X509Certificate::from_der(der) {
        Ok((_, certificate)) => {
            let names = certificate.subject_alternative_name().ok().flatten();
            let names = names.iter().flat_map(|extension| &extension.value.general_names);
            let uri = |name: &GeneralName<'_>| match name {
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                _ => None,
            };
            names.filter_map(uri).collect()
        }
        Err(_) => Vec::new(),
    };
    names.iter().any(|name| match name {
        PeerName::Uri(wanted) => uris.iter().any(|uri| uri.eq_ignore_ascii_case(wanted)),
        PeerName::Host(wanted) => {
            ServerName::try_from(&**wanted).is_ok_and(|wanted| verify_server_name(parsed, &wanted).is_ok())
        }
    })
}

/// Certificates for servers that ask for one.
#[derive(Debug)]
struct ClientCertificates(Vec<(Arc<CertifiedKey>, Vec<Vec<u8>>)>);

impl ClientCertificates {
    fn new(tls: &TransportTls, provider: &CryptoProvider, read: ReadFile<'_>) -> Result<Self, TlsConfigError> {
        const CHAIN: &str = "certificates.certFile";
        const KEY: &str = "certificates.keyFile";
        let mut all = Vec::new();
        for (chain_pem, key_pem) in &tls.certificates {
            let chain = certificates(CHAIN, chain_pem, read)?;
            let key = content(KEY, key_pem, read)?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| fault(KEY, key_pem, error.to_string()))?;
            let issuer = |certificate: &CertificateDer<'_>| {
                let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
                Some(parsed.issuer().as_raw().to_vec())
            };
            let issuers = chain.iter().filter_map(issuer).collect();
            let pair = CertifiedKey::from_der(chain, key, provider);
            let pair =
                pair.map_err(|error| fault(CHAIN, chain_pem, format!("it does not go with its key: {error}")))?;
            all.push((Arc::new(pair), issuers));
        }
        Ok(Self(all))
    }
}

impl ResolvesClientCert for ClientCertificates {
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let usable = |(pair, _): &&(Arc<CertifiedKey>, _)| pair.key.choose_scheme(schemes).is_some();
        let wanted =
            |(_, issuers): &&(_, Vec<Vec<u8>>)| issuers.iter().any(|issuer| authorities.contains(&issuer.as_slice()));
        // one that the server did not ask for may still be good: not every server names all that it takes
        let best = self.0.iter().filter(usable).find(wanted).or_else(|| self.0.iter().find(usable));
        best.map(|(pair, _)| pair.clone())
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Why there is no connection over TLS.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct TlsError {
    /// In one word.
    pub kind: TlsFailure,
    /// In the words of who found it.
    pub text: String,
}

/// What a failed handshake means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFailure {
    /// Nobody who is trusted has signed the server's certificate.
    NotTrusted,
    /// The certificate is for another host.
    WrongName,
    /// The certificate has none of the names of `peerCertSANs`.
    WrongPeer,
    /// The certificate is not valid any more.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate cannot be used for another reason.
    BadCertificate,
    /// The server said no, for instance since it wants a client certificate.
    Refused,
    /// No version or cipher suite that both speak.
    NothingInCommon,
    /// What came is not TLS.
    NotTls,
    /// The connection ended within the handshake.
    CutOff,
    /// The transport's certificates cannot be used, so that nothing was tried.
    NotSetUp,
}

impl TlsFailure {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotTrusted => "tls: certificate not trusted",
            Self::WrongName => "tls: wrong host name",
            Self::WrongPeer => "tls: wrong peer",
            Self::Expired => "tls: expired",
            Self::NotYetValid => "tls: not valid yet",
            Self::BadCertificate => "tls: bad certificate",
            Self::Refused => "tls: handshake refused",
            Self::NothingInCommon => "tls: no common version or cipher",
            Self::NotTls => "tls: not spoken by the server",
            Self::CutOff => "tls: handshake cut off",
            Self::NotSetUp => "tls: not set up",
        }
    }

    /// What an error of a connection means, if TLS has to do with it. In TLS 1.3 a server refuses a client certificate
    /// only when the handshake is over for the client, so that this may come with the first byte of an answer.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<rustls::Error>().map(Self::of_rustls)
    }

    fn of_rustls(error: &rustls::Error) -> Self {
        use rustls::Error;
        match error {
            Error::InvalidCertificate(error) => match error {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::NotTrusted,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                CertificateError::Other(OtherError(error)) if error.is::<NoPeerName>() => Self::WrongPeer,
                _ => Self::BadCertificate,
            },
            Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity)
            | Error::PeerIncompatible(_) => Self::NothingInCommon,
            Error::AlertReceived(_) => Self::Refused,
            Error::NoCertificatesPresented => Self::BadCertificate,
            _ => Self::NotTls,
        }
    }
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        let kind = TlsFailure::of(&error).unwrap_or(TlsFailure::CutOff);
        Self { kind, text: error.to_string() }
    }
}
