//! TLS towards servers: whom to trust.

use crate::config::{ClientTls, ServersTransport};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why connections to servers cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A file of certificates or a key.
    #[error("{key}: `{}`: {message}", path.display())]
    File {
        /// The option that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// rustls refuses the parts.
    #[error("TLS towards servers: {0}")]
    Tls(#[from] rustls::Error),
}

/// The configuration of connections to `https://` servers: the system's roots and `rootCAs`, or no verification.
///
/// # Errors
/// Files that cannot be read or hold no certificate.
pub(super) fn client_config(transport: &ServersTransport) -> Result<Arc<ClientConfig>, TransportError> {
    let builder = builder(transport.insecure_skip_verify, true, &transport.root_cas, "serversTransport.rootCAs")?;
    Ok(Arc::new(builder.with_no_client_auth()))
}

/// The configuration of connections to Nomad's agent for the control-plane site, as its provider's.
///
/// # Errors
/// As [`client_config`], and a client certificate that cannot be used.
pub(super) fn agent_config(tls: &ClientTls) -> Result<Arc<ClientConfig>, TransportError> {
    const KEY: &str = "providers.nomad.endpoint.tls";
    let builder = builder(tls.insecure_skip_verify, tls.ca.is_none(), tls.ca.as_slice(), KEY)?;
    let config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
            let chain = chain.map_err(|e| bad(KEY, cert)(e.to_string()))?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(KEY, key)(e.to_string()))?;
            builder.with_client_auth_cert(chain, private)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn bad(key: &'static str, path: &Path) -> impl FnOnce(String) -> TransportError {
    let path = path.to_owned();
    move |message| TransportError::File { key, path, message }
}

fn builder(
    unverified: bool,
    system: bool,
    files: &[PathBuf],
    key: &'static str,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TransportError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    if unverified {
        return Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))));
    }
    let mut roots = RootCertStore::empty();
    if system {
        // A machine without a root store verifies by the files alone.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    for path in files {
        let certificates = CertificateDer::pem_file_iter(path).map_err(|e| bad(key, path)(e.to_string()))?;
        let mut added = 0;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| bad(key, path)(e.to_string()))?;
            roots.add(certificate).map_err(|e| bad(key, path)(e.to_string()))?;
            added += 1;
        }
        if added == 0 {
            return Err(bad(key, path)("no certificate in it".to_owned()));
        }
    }
    Ok(builder.with_root_certificates(roots))
}

/// `insecureSkipVerify`: any certificate is taken; signatures are still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
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
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
