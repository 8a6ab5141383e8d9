//! A TLS client that trusts one root, for whole-binary tests.

use super::PATIENCE;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

/// One GET over TLS with the host as SNI; gives the status, or `None` where handshake or answer fail.
pub fn get(addr: SocketAddr, root_pem: &[u8], authority: &str, path: &str) -> Option<u16> {
    let host = authority.split(':').next()?;
    let mut tls = connect(addr, Ipv4Addr::UNSPECIFIED, root_pem, host)?;
    write!(tls, "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    // Servers may close without close_notify; what came before counts.
    drop(tls.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

/// A connection from an address of this machine (unspecified: any).
pub fn tcp(addr: SocketAddr, from: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&addr.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A TLS connection from an address, with the host as SNI.
pub fn connect(
    addr: SocketAddr,
    from: Ipv4Addr,
    root_pem: &[u8],
    host: &str,
) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    let connection = ClientConnection::new(config(root_pem, &[])?, ServerName::try_from(host.to_owned()).ok()?).ok()?;
    Some(StreamOwned::new(connection, tcp(addr, from).ok()?))
}

/// A client that trusts these roots and offers these protocols (ALPN).
pub fn config(root_pem: &[u8], protocols: &[&[u8]]) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(root_pem) {
        roots.add(cert.ok()?).ok()?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Some(Arc::new(config))
}

/// A client that believes everybody and offers these protocols (ALPN); that the server has its key is verified.
pub fn blind(protocols: &[&[u8]]) -> Arc<ClientConfig> {
    believing(Blind { keys: true }, protocols)
}

/// As [`blind`], and not even that is verified: for a certificate that webpki cannot read, as one with the critical
/// acmeIdentifier of a challenge (RFC 8737).
pub fn blind_to_keys(protocols: &[&[u8]]) -> Arc<ClientConfig> {
    believing(Blind { keys: false }, protocols)
}

fn believing(verifier: Blind, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// Believes every certificate.
#[derive(Debug)]
struct Blind {
    keys: bool,
}

type Checked = Result<HandshakeSignatureValid, rustls::Error>;

impl ServerCertVerifier for Blind {
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
    ) -> Checked {
        if !self.keys {
            return Ok(HandshakeSignatureValid::assertion());
        }
        rustls::crypto::verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Checked {
        if !self.keys {
            return Ok(HandshakeSignatureValid::assertion());
        }
        rustls::crypto::verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
