//! What an authority reaches: port 80, port 443 and a zone of this test, answered from `Challenges` as the proxy
//! does, and a web hook that the DNS solver sets records through.

use super::ca::{Look, lock};
use rust_lb::acme::dns::settings::{HttpReq, Provider};
use rust_lb::acme::dns::{Propagation, Settings, Solver};
use rust_lb::acme::{Challenges, Method};
use rust_lb::certs::storage::Storage;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Zone = Arc<Mutex<Vec<(String, String)>>>;

pub struct Front {
    pub challenges: Challenges,
    http: SocketAddr,
    tls: SocketAddr,
    hook: SocketAddr,
    zone: Zone,
    /// What the hook was told, and whether it does what it is told.
    pub told: Arc<Mutex<Vec<String>>>,
    pub hook_fails: Arc<Mutex<bool>>,
    /// A challenge test server of pebble's that gets the records, too.
    pass_on: Arc<Mutex<Option<SocketAddr>>>,
}

#[derive(Debug)]
struct Resolver {
    challenges: Challenges,
    storage: Storage,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_owned();
        self.challenges.tls_alpn(&name).or_else(|| {
            self.challenges.look(&self.storage, &name);
            self.challenges.tls_alpn(&name)
        })
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    (listener, addr)
}

/// Reads a request with its body; its first line, its host and the body.
async fn read(stream: &mut TcpStream) -> Option<(String, String, String)> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let field = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
            };
            let length = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return Some((head.lines().next()?.to_owned(), field("host").unwrap_or_default(), body.to_owned()));
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
        }
    }
}

async fn say(stream: &mut TcpStream, status: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let _ = stream.write_all(text.as_bytes()).await;
}

impl Front {
    pub async fn start(storage: Storage) -> Self {
        Self::with(Challenges::default(), storage).await
    }

    /// Another instance over the same storage has challenges of its own.
    pub async fn with(challenges: Challenges, storage: Storage) -> Self {
        let (zone, told, hook_fails) =
            (Zone::default(), Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<bool>>::default());
        let (http_listener, http) = listen().await;
        let (known, store) = (challenges.clone(), storage.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = http_listener.accept().await {
                let Some((line, host, _)) = read(&mut stream).await else { continue };
                let path = line.split(' ').nth(1).unwrap_or_default();
                let token = path.strip_prefix("/.well-known/acme-challenge/").unwrap_or_default();
                let found = known.http(token).or_else(|| {
                    known.look(&store, &host);
                    known.http(token)
                });
                match found {
                    Some(answer) => say(&mut stream, "200 OK", &answer).await,
                    None => say(&mut stream, "404 Not Found", "").await,
                }
            }
        });
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver { challenges: challenges.clone(), storage }));
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (tls_listener, tls) = listen().await;
        tokio::spawn(async move {
            while let Ok((stream, _)) = tls_listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        let (hook_listener, hook) = listen().await;
        let pass_on = Arc::<Mutex<Option<SocketAddr>>>::default();
        let (records, log, fails, next) = (zone.clone(), told.clone(), hook_fails.clone(), pass_on.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = hook_listener.accept().await {
                let Some((line, _, body)) = read(&mut stream).await else { continue };
                let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
                let text = |name: &str| body[name].as_str().expect("a text").to_owned();
                let record = (text("fqdn").trim_end_matches('.').to_owned(), text("value"));
                let action = line.split(['/', ' ']).nth(2).unwrap_or_default().to_owned();
                lock(&log).push(format!("{action} {}", record.0));
                if *lock(&fails) {
                    say(&mut stream, "500 Internal Server Error", "").await;
                    continue;
                }
                let next = *lock(&next);
                if let (Some(next), "present") = (next, &*action) {
                    let body = serde_json::json!({"host": format!("{}.", record.0), "value": record.1}).to_string();
                    let mut server = TcpStream::connect(next).await.expect("connected");
                    let head = format!("POST /set-txt HTTP/1.1\r\nHost: x\r\nContent-Length: {}", body.len());
                    let text = format!("{head}\r\nConnection: close\r\n\r\n{body}");
                    server.write_all(text.as_bytes()).await.expect("written");
                    server.read_to_end(&mut Vec::new()).await.expect("read");
                }
                match &*action {
                    "present" => lock(&records).push(record),
                    _ => lock(&records).retain(|other| *other != record),
                }
                say(&mut stream, "200 OK", "").await;
            }
        });
        Self { challenges, http, tls, hook, zone, told, hook_fails, pass_on }
    }

    pub fn look(&self) -> Look {
        let zone = self.zone.clone();
        let txt = move |name: &str| {
            lock(&zone).iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect()
        };
        Look { http: Some(self.http), tls: Some(self.tls), txt: Arc::new(txt) }
    }

    pub fn zone(&self) -> Vec<(String, String)> {
        lock(&self.zone).clone()
    }

    /// DNS-01 through the hook.
    pub fn dns(&self) -> Method {
        let endpoint = format!("http://{}", self.hook);
        let hook = HttpReq { endpoint, raw: false, username: None, password: None };
        let mut settings = Settings::of(Provider::HttpReq(hook));
        settings.follow_cname = false;
        let propagation = Propagation { disable_checks: true, ..Propagation::default() };
        Method::Dns(Arc::new(Solver::new(&settings, propagation).expect("a solver")))
    }

    pub fn pass_on(&self, server: SocketAddr) {
        *lock(&self.pass_on) = Some(server);
    }

    pub fn ports(&self) -> (u16, u16) {
        (self.http.port(), self.tls.port())
    }
}
