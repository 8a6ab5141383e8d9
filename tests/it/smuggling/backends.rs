//! Three servers of others' making, each on a port for every lane, that answer `METHOD TARGET` and keep what
//! they saw.

use super::super::support::program::have;
use super::super::support::{client, eventually};
use super::case::Seen;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What a lane's server saw; the method `!` is a request that it could not read.
pub type Sight = (usize, Seen);

/// A server under test.
pub trait Backend {
    /// One address a lane.
    fn addresses(&self) -> Vec<SocketAddr>;
    /// Waits until nobody is connected any more, and tells everything that was seen, in order.
    fn stop(self: Box<Self>) -> Vec<Sight>;
}

fn sight(lane: usize, method: &str, target: &str, body: Vec<u8>, whole: bool) -> Sight {
    (lane, Seen { trap: false, method: method.to_owned(), target: target.to_owned(), body, whole })
}

/// hyper, in this process.
pub struct Hyper {
    addresses: Vec<SocketAddr>,
    seen: Arc<Mutex<Vec<Sight>>>,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Hyper {
    pub fn start(lanes: usize) -> Self {
        let listeners: Vec<_> = (0..lanes).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let keep = seen.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let tasks = tokio_util::task::TaskTracker::new();
                let accepting: Vec<_> = listeners
                    .into_iter()
                    .enumerate()
                    .map(|(lane, listener)| tokio::spawn(accept(lane, listener, keep.clone(), tasks.clone())))
                    .collect();
                drop(stopped.await);
                accepting.iter().for_each(tokio::task::JoinHandle::abort);
                tasks.close();
                tasks.wait().await;
            });
        });
        Self { addresses, seen, stop, thread }
    }
}

async fn accept(
    lane: usize,
    listener: TcpListener,
    seen: Arc<Mutex<Vec<Sight>>>,
    tasks: tokio_util::task::TaskTracker,
) {
    listener.set_nonblocking(true).expect("not blocking");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    while let Ok((stream, _)) = listener.accept().await {
        let keep = seen.clone();
        tasks.spawn(async move {
            let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| {
                let keep = keep.clone();
                async move {
                    let (head, mut body) = request.into_parts();
                    let (mut bytes, mut whole) = (Vec::new(), true);
                    while let Some(frame) = body.frame().await {
                        match frame.map(hyper::body::Frame::into_data) {
                            Ok(Ok(data)) => bytes.extend_from_slice(&data),
                            Ok(Err(_trailers)) => {}
                            Err(_) => whole = false,
                        }
                    }
                    let (method, target) = (head.method.as_str(), head.uri.to_string());
                    let answer = format!("{method} {target}");
                    keep.lock().expect("not poisoned").push(sight(lane, method, &target, bytes, whole));
                    Ok::<_, Infallible>(hyper::Response::new(Full::<Bytes>::from(answer)))
                }
            });
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await
                && error.is_parse()
            {
                keep.lock().expect("not poisoned").push(sight(lane, "!", &error.to_string(), Vec::new(), false));
            }
        });
    }
}

impl Backend for Hyper {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    fn stop(self: Box<Self>) -> Vec<Sight> {
        drop(self.stop);
        self.thread.join().expect("hyper's thread");
        std::mem::take(&mut self.seen.lock().expect("not poisoned"))
    }
}

/// `http.server` of Python's standard library.
pub struct Python {
    addresses: Vec<SocketAddr>,
    child: Child,
    stdin: Option<ChildStdin>,
    reader: Option<JoinHandle<Vec<Sight>>>,
}

impl Python {
    pub fn start(lanes: usize) -> Option<Self> {
        if !have("python3") {
            return None;
        }
        let mut command = Command::new("python3");
        command.args(["-c", include_str!("server.py"), &lanes.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first: Value = serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON");
        let ports = first["ports"].as_array().expect("ports").iter();
        let addresses = ports.map(|port| ([127, 0, 0, 1], port.as_u64().expect("a port") as u16).into()).collect();
        let reader = std::thread::spawn(move || {
            let lines = lines.map(|line| serde_json::from_str::<Value>(&line.expect("text")).expect("JSON"));
            lines.map(|line| read_sight(&line, line["lane"].as_u64().expect("a lane") as usize)).collect()
        });
        let stdin = child.stdin.take();
        Some(Self { addresses, child, stdin, reader: Some(reader) })
    }
}

/// Bytes are characters below 256 in it.
fn read_sight(line: &Value, lane: usize) -> Sight {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    let body = text("body").chars().map(|c| c as u32 as u8).collect();
    sight(lane, text("method"), text("target"), body, line["whole"] == true)
}

impl Backend for Python {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    fn stop(mut self: Box<Self>) -> Vec<Sight> {
        drop(self.stdin.take());
        let seen = self.reader.take().map(|reader| reader.join().expect("the reader")).unwrap_or_default();
        assert!(self.child.wait().expect("a child of ours").success());
        seen
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// nginx, passing everything on to a hyper that only answers, so that bodies are read.
pub struct Nginx {
    addresses: Vec<SocketAddr>,
    child: Child,
    sink: Option<Hyper>,
    dir: tempfile::TempDir,
}

const NGINX: &str = r#"daemon off; worker_processes 1; pid pid; error_log error.log;
events { worker_connections 4096; }
http {
  log_format seen escape=json '{"port":"$server_port","method":"$request_method","target":"$request_uri","request":"$request","body":"$request_body","status":"$status"}';
  access_log seen.log seen;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  client_body_buffer_size 2m; client_max_body_size 0; keepalive_requests 1000000; keepalive_timeout 600s;
  server { LISTEN location / { proxy_http_version 1.1; proxy_pass http://SINK; } }
}
"#;

impl Nginx {
    pub fn start(lanes: usize) -> Option<Self> {
        if !have("nginx") {
            return None;
        }
        let sink = Hyper::start(1);
        let dir = tempfile::tempdir().expect("a folder");
        let held: Vec<_> = (0..lanes).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let addresses: Vec<_> = held.iter().map(|listener| listener.local_addr().expect("bound")).collect();
        drop(held);
        let listen: String = addresses.iter().map(|address| format!("listen {address} backlog=512; ")).collect();
        let mut config = NGINX.replace("LISTEN", &listen).replace("SINK", &sink.addresses[0].to_string());
        if rustix::process::geteuid().is_root() {
            // The folder is its owner's alone.
            config.insert_str(0, "user root root; ");
        }
        std::fs::write(dir.path().join("nginx.conf"), config).expect("written");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx starts");
        eventually("nginx answers", || client::try_get(addresses[0], "start", "/start").ok());
        Some(Self { addresses, child, sink: Some(sink), dir })
    }
}

impl Backend for Nginx {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    fn stop(mut self: Box<Self>) -> Vec<Sight> {
        // In peace: all that is under way is ended and written down.
        let status = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()));
        self.child.wait().expect("a child of ours");
        drop(self.sink.take().map(|sink| Box::new(sink).stop()));
        let log = std::fs::read(self.dir.path().join("seen.log")).expect("a log");
        let log = String::from_utf8_lossy(&log);
        let lines =
            log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")));
        let sights = lines.map(|line| {
            let port: u16 = line["port"].as_str().and_then(|port| port.parse().ok()).expect("a port");
            let lane = self.addresses.iter().position(|address| address.port() == port).expect("a lane's port");
            let (_, mut seen) = read_sight(&line, lane);
            seen.whole = line["status"] == "200";
            if seen.method.is_empty() {
                seen.method = "!".to_owned();
                seen.target = line["request"].to_string();
            }
            (lane, seen)
        });
        sights.filter(|(_, seen)| seen.target != "/start").collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
