//! Certificates in the running proxy: found in its directory or named by files, replaced while it serves, shown by its API.

mod clients;
mod serving;

use super::support::eventually;
use super::support::proxy::{Catalog, Proxy};
use super::support::server::Server;
use super::support::{client, tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, PEM.
struct Pair {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn sign(&self, host: &str, serial: u64) -> Pair {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        params.serial_number = Some(serial.into());
        let key = KeyPair::generate().expect("a key");
        let chain = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Pair { chain, key: key.serialize_pem() }
    }
}

/// A proxy with a route for `a.test` and a directory of certificates.
struct Rig {
    authority: Authority,
    server: Server,
    dir: Arc<tempfile::TempDir>,
    catalog: Arc<Catalog>,
}

impl Rig {
    fn new() -> Self {
        let dir = Arc::new(tempfile::tempdir().expect("a folder"));
        fs::create_dir_all(dir.path().join("certs")).expect("a folder");
        fs::create_dir_all(dir.path().join("dynamic")).expect("a folder");
        Self { authority: Authority::new(), server: Server::start("a"), dir, catalog: Catalog::start() }
    }

    /// Starts with this file of dynamic configuration besides the route.
    fn start(&self, dynamic: &str) -> Proxy {
        let route = format!(
            "http:\n  routers:\n    a:\n      rule: Host(`a.test`)\n      service: a\n      tls:\n        options: o\n  services:\n    a:\n      \
             loadBalancer:\n        servers:\n          - url: http://{}\n",
            self.server.addr
        );
        let route = if dynamic.contains("options:") { route } else { route.replace("\n        options: o", " {}") };
        fs::write(self.dynamic().join("route.yaml"), route).expect("a file");
        fs::write(self.dynamic().join("tls.yaml"), dynamic).expect("a file");
        let provider = format!("--providers.file.directory={}", self.dynamic().display());
        let off = ["--providers.nomad=false", "--providers.consulCatalog=false"];
        Proxy::over(self.catalog.clone(), self.dir.clone(), &[&provider, off[0], off[1]])
    }

    fn certs(&self) -> PathBuf {
        self.dir.path().join("certs")
    }

    fn dynamic(&self) -> PathBuf {
        self.dir.path().join("dynamic")
    }

    /// As Caddy does it: key, crt, json, each beside itself and renamed.
    fn caddy(&self, host: &str, serial: u64) {
        let (pair, dir) =
            (self.authority.sign(host, serial), self.certs().join(format!("certificates/ca.test-dir/{host}")));
        fs::create_dir_all(&dir).expect("a folder");
        for (end, text) in [("key", pair.key.as_str()), ("crt", &pair.chain), ("json", "{}")] {
            place(&dir, &format!("{host}.{end}"), text);
        }
    }

    fn client(&self) -> Arc<ClientConfig> {
        tls::config(self.authority.pem.as_bytes(), &[]).expect("a configuration")
    }

    /// What a client gets of `a.test` by a connection of its own.
    fn ask(&self, proxy: &Proxy, client: &Arc<ClientConfig>) -> Option<Got> {
        ask(proxy.entry_point("websecure"), client, "a.test")
    }

    fn wait_for(&self, proxy: &Proxy, host: &str, serial: u64) {
        eventually(&format!("{host} with the certificate {serial}"), || {
            // A session that goes on would show the certificate that it began with.
            ask(proxy.entry_point("websecure"), &self.client(), host).filter(|got| got.serial == serial)
        });
    }
}

fn place(dir: &Path, name: &str, text: &str) {
    let beside = dir.join("1234567890");
    fs::write(&beside, text).expect("a file");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).expect("its mode");
    fs::rename(beside, dir.join(name)).expect("a rename");
}

/// What a request over TLS came to.
#[derive(Debug)]
struct Got {
    status: u16,
    serial: u64,
    kind: HandshakeKind,
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn dial(addr: SocketAddr, client: &Arc<ClientConfig>, host: &str) -> Option<Stream> {
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let connection = ClientConnection::new(client.clone(), name).ok()?;
    Some(StreamOwned::new(connection, tls::tcp(addr, Ipv4Addr::UNSPECIFIED).ok()?))
}

/// One request; the connection stays open.
fn request(stream: &mut Stream, host: &str) -> Option<Got> {
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    stream.read_exact(&mut vec![0; length.unwrap_or(0)]).ok()?;
    let chain = stream.conn.peer_certificates()?;
    let (_, leaf) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    let serial = leaf.raw_serial().iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
    Some(Got { status: head.split(' ').nth(1)?.parse().ok()?, serial, kind: stream.conn.handshake_kind()? })
}

fn ask(addr: SocketAddr, client: &Arc<ClientConfig>, host: &str) -> Option<Got> {
    let mut stream = dial(addr, client, host)?;
    let got = request(&mut stream, host)?;
    stream.conn.send_close_notify();
    drop(stream.flush());
    Some(got)
}

/// A client that shows this pair.
fn client_with(root: &str, pair: &Pair) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).expect("a certificate")).expect("a root");
    let chain = vec![CertificateDer::from_pem_slice(pair.chain.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    Arc::new(builder.with_root_certificates(roots).with_client_auth_cert(chain, key).expect("a pair"))
}
