//! A TLS client that trusts one root, for whole-binary tests.

use super::PATIENCE;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// One GET over TLS with the host as SNI; gives the status, or `None` where handshake or answer fail.
pub fn get(addr: SocketAddr, root_pem: &[u8], authority: &str, path: &str) -> Option<u16> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(root_pem) {
        roots.add(cert.ok()?).ok()?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let host = authority.split(':').next()?.to_owned();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(host).ok()?).ok()?;
    let stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut tls = StreamOwned::new(connection, stream);
    write!(tls, "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    // Servers may close without close_notify; what came before counts.
    drop(tls.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}
