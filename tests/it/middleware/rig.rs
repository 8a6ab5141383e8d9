//! The binary over a file of routes, clients of both protocols before it and scripted servers behind it.

use crate::support::PATIENCE;
use crate::support::binary::Running;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What a client speaks.
#[derive(Debug, Clone, Copy)]
pub enum Front {
    Http1,
    Http2,
}

pub const BOTH: [Front; 2] = [Front::Http1, Front::Http2];

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A request that can be sent by either protocol.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    pub method: &'static str,
    pub path: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: &'static str,
}

pub const GET: Ask = Ask { method: "GET", path: "/", headers: Vec::new(), body: "" };

/// A running proxy.
pub struct Rig {
    running: Running,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Rig {
    /// Starts with routes: host, middlewares in order, and the servers' URLs.
    pub fn start(routes: &[(&str, &[&str], &[String])], middlewares: Value) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("routes.yaml");
        std::fs::write(&file, declared(routes, &middlewares)).expect("written");
        let provider = format!("--providers.file.filename={}", file.display());
        let running = Running::dev(dir.path(), &["--no-samples", "--rustLb.linger.wait=0s", &provider]);
        Self { running, file, _dir: dir }
    }

    /// Declares other routes.
    pub fn change(&self, routes: &[(&str, &[&str], &[String])], middlewares: Value) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, declared(routes, &middlewares)).expect("written");
        std::fs::rename(&new, &self.file).expect("in its place");
    }

    pub fn ask(&self, front: Front, host: &str, ask: &Ask) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, asked(front, self.running.addr("web"), host, ask)).await.expect("in time")
        })
    }

    pub fn get(&self, front: Front, host: &str) -> Answer {
        self.ask(front, host, &GET)
    }
}

fn declared(routes: &[(&str, &[&str], &[String])], middlewares: &Value) -> String {
    let (mut routers, mut services) = (serde_json::Map::new(), serde_json::Map::new());
    for (host, names, servers) in routes {
        let name = host.replace('.', "-");
        let router = json!({
            "rule": format!("Host(`{host}`)"), "service": name, "middlewares": names, "entryPoints": ["web"],
        });
        let servers: Vec<Value> = servers.iter().map(|url| json!({"url": url})).collect();
        routers.insert(name.clone(), router);
        services.insert(name, json!({"loadBalancer": {"servers": servers}}));
    }
    json!({"http": {"routers": routers, "services": services, "middlewares": middlewares}}).to_string()
}

async fn asked(front: Front, addr: SocketAddr, host: &str, ask: &Ask) -> Answer {
    let stream = TokioIo::new(tokio::net::TcpStream::connect(addr).await.expect("a connection"));
    let mut request = http::Request::builder().method(ask.method);
    for (name, value) in &ask.headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(Bytes::from_static(ask.body.as_bytes()));
    let answer = match front {
        Front::Http1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.expect("HTTP/1.1");
            tokio::spawn(connection);
            let request = request.uri(ask.path).header("host", host).body(body).expect("a request");
            sender.send_request(request).await
        }
        Front::Http2 => {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
            tokio::spawn(connection);
            let request = request.uri(format!("http://{host}{}", ask.path)).body(body).expect("a request");
            sender.send_request(request).await
        }
    };
    let (head, body) = answer.expect("an answer").into_parts();
    let body = body.collect().await.expect("its body").to_bytes();
    Answer { status: head.status.as_u16(), headers: head.headers, body: String::from_utf8_lossy(&body).into_owned() }
}

/// A server that answers by a script and keeps what it got.
pub struct Server {
    addr: SocketAddr,
    got: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` gets the number of the request, from 0, and the request.
    pub fn start(answer: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        let got = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (got.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, answer) = (kept.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &kept, &*answer));
            }
        });
        Self { addr, got }
    }

    /// 200 with the request as the body.
    pub fn echo() -> Self {
        Self::start(|_, request| says(200, request))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests so far.
    pub fn got(&self) -> Vec<String> {
        self.got.lock().expect("not poisoned").clone()
    }
}

fn serve(stream: TcpStream, kept: &Mutex<Vec<String>>, answer: &dyn Fn(usize, &str) -> String) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            match reader.read_line(&mut request) {
                Ok(1..) => {}
                _ => return,
            }
        }
        let length =
            request.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        request.push_str(&String::from_utf8_lossy(&body));
        let number = {
            let mut kept = kept.lock().expect("not poisoned");
            kept.push(request.clone());
            kept.len() - 1
        };
        if writer.write_all(answer(number, &request).as_bytes()).is_err() {
            return;
        }
    }
}

/// An answer with a body.
pub fn says(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nX-Server: 1\r\nVary: Accept\r\n\r\n{body}", body.len())
}

/// A URL where nobody listens.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}
