//! How a proxy is spoken to over TLS: in HTTP/2 where it offers that, unless HTTP/1.1 is asked for, with the record's host as
//! server name, checked against the roots of the system or of a file, or, where that was said in words, not at all.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// HTTP/2 among protocols (ALPN).
pub(super) const HTTP2: &[u8] = b"h2";

/// How to speak TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Whom to believe.
    pub trust: Trust,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// Whom to believe.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The system's roots.
    System,
    /// The roots in this file alone.
    Roots(PathBuf),
    /// Anybody.
    Insecure,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of roots.
    #[error("`{}`: {message}", .file.display())]
    Roots {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The library's.
    #[error("{0}")]
    Library(#[from] rustls::Error),
}

impl Tls {
    /// Whether it can be used, wanted or not.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), TlsError> {
        self.config().map(drop)
    }

    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match &self.trust {
            Trust::Insecure => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
            Trust::System => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                builder.with_root_certificates(roots)
            }
            Trust::Roots(file) => builder.with_root_certificates(roots(file)?),
        };
        let mut config = builder.with_no_client_auth();
        let protocols: &[&[u8]] = if self.http2 { &[HTTP2, b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

fn roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let bad = |message: String| TlsError::Roots { file: file.to_owned(), message };
    let bytes = std::fs::read(file).map_err(|e| bad(e.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        roots.add(certificate.map_err(|e| bad(e.to_string()))?).map_err(|e| bad(e.to_string()))?;
    }
    if roots.is_empty() { Err(bad("no certificate in it".to_owned())) } else { Ok(roots) }
}

/// Takes any certificate; the handshake itself is checked.
struct Anybody(Arc<CryptoProvider>);

impl fmt::Debug for Anybody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Anybody")
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
