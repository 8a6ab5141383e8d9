//! Authorities, servers over TLS that say how they were reached, and a proxy that reads files.

use crate::support::PATIENCE;
use crate::support::eventually;
use crate::support::proxy::Proxy;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Pair {
    pub chain: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For host names.
    pub fn sign(&self, hosts: &[&str]) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        self.sign_as(CertificateParams::new(hosts).expect("parameters"))
    }

    /// For a URI alone.
    pub fn sign_uri(&self, uri: &str) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ASCII")));
        self.sign_as(params)
    }

    pub fn sign_as(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let chain = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Pair { chain, key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("a certificate")).expect("a root");
        roots
    }
}

pub const ALL: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// What a server is like; clients of `clients` alone are let in.
pub fn server_config(
    pair: &Pair,
    clients: Option<&Authority>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
    let builder = builder.expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(pair.chain.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    Arc::new(builder.with_single_cert(chain, key).expect("a configuration"))
}

/// An HTTP server over TLS that answers each request with how it was reached.
pub struct TlsServer {
    pub addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl TlsServer {
    pub fn start(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = count.fetch_add(1, SeqCst);
                let config = config.clone();
                std::thread::spawn(move || {
                    drop(stream.set_read_timeout(Some(PATIENCE)));
                    let session = ServerConnection::new(config).expect("a session");
                    let mut stream = BufReader::new(StreamOwned::new(session, stream));
                    while request(&mut stream).is_some() {
                        let session = &stream.get_ref().conn;
                        let sni = session.server_name().unwrap_or("-").to_owned();
                        let version = session.protocol_version().expect("shaken");
                        let client = session.peer_certificates().is_some();
                        let kind = session.handshake_kind().expect("shaken");
                        let body = format!("sni={sni} {version:?} client={client} {kind:?} number={number}");
                        if write!(stream.get_mut(), "{}", ok(&body)).and_then(|()| stream.get_mut().flush()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { addr, accepted }
    }

    /// Signed for a host, without further wishes.
    pub fn of(authority: &Authority, host: &str) -> Self {
        Self::start(server_config(&authority.sign(&[host]), None, ALL))
    }

    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.addr.port())
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

/// The head of a request; `None` when no whole one comes any more.
pub fn request(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// 200 with a body.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A proxy over a directory of dynamic configuration, and files that this names.
pub struct Rig {
    pub proxy: Proxy,
    pub dir: PathBuf,
    kept: tempfile::TempDir,
}

impl Rig {
    pub fn start(dynamic: impl FnOnce(&Files) -> serde_json::Value) -> Self {
        Self::with(&["--providers.nomad=false", "--providers.consulCatalog=false"], dynamic)
    }

    pub fn with(flags: &[&str], dynamic: impl FnOnce(&Files) -> serde_json::Value) -> Self {
        let kept = tempfile::tempdir().expect("a folder");
        let files = Files(kept.path().join("pem"));
        fs::create_dir(&files.0).expect("a folder");
        let dir = kept.path().join("dynamic");
        fs::create_dir(&dir).expect("a folder");
        fs::write(dir.join("a.yaml"), dynamic(&files).to_string()).expect("a file");
        let directory = format!("--providers.file.directory={}", dir.display());
        let flags: Vec<&str> = [directory.as_str()].into_iter().chain(flags.iter().copied()).collect();
        Self { proxy: Proxy::start(&flags), dir, kept }
    }

    pub fn files(&self) -> Files {
        Files(self.kept.path().join("pem"))
    }

    /// Beside itself and renamed, so that nobody reads half of it.
    pub fn replace(&self, dynamic: &serde_json::Value) {
        let beside = self.dir.join("a.new");
        fs::write(&beside, dynamic.to_string()).expect("a file");
        fs::rename(&beside, self.dir.join("a.yaml")).expect("a rename");
    }

    pub fn get(&self, host: &str) -> (u16, String) {
        let answer = self.proxy.get(host, "/");
        (answer.status, answer.text())
    }

    pub fn wait_for(&self, host: &str, status: u16) -> String {
        self.proxy.wait_for(host, "/", status).text()
    }

    pub fn wait_for_problem(&self, code: &str) -> serde_json::Value {
        eventually(&format!("the problem `{code}`"), || {
            let problems = self.proxy.admin("/api/problems").json();
            problems.as_array()?.iter().find(|p| p["code"] == code).cloned()
        })
    }
}

/// A folder of PEM files.
pub struct Files(PathBuf);

impl Files {
    /// Writes one; gives its name.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        let beside = self.0.join(format!("{name}.new"));
        fs::write(&beside, text).expect("a file");
        fs::rename(&beside, &path).expect("a rename");
        path.display().to_string()
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).expect("removed");
    }
}

/// `http` with a router `NAME.test` and a service for each `(name, url, transport)`, and these transports.
pub fn dynamic(routes: &[(&str, &str, &str)], transports: serde_json::Value) -> serde_json::Value {
    let mut http = serde_json::json!({"routers": {}, "services": {}, "serversTransports": transports});
    for (name, url, transport) in routes {
        http["routers"][name] = serde_json::json!({"rule": format!("Host(`{name}.test`)"), "service": name});
        let mut balancer = serde_json::json!({"servers": [{"url": url}]});
        if !transport.is_empty() {
            balancer["serversTransport"] = (*transport).into();
        }
        http["services"][name] = serde_json::json!({"loadBalancer": balancer});
    }
    serde_json::json!({"http": http})
}
