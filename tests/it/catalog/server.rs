//! A scripted HTTP/1.1 server: what it answers is a function of its state, and blocked queries
//! are asked again whenever the state changes.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// A request as far as the scripts look at it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub token: String,
}

impl Asked {
    /// Index to wait beyond.
    pub fn index(&self) -> Option<u64> {
        self.query.get("index").and_then(|index| index.parse().ok())
    }
}

/// What to answer.
pub enum Reply {
    /// 200 with this index.
    Json(u64, Value),
    /// A status with a text.
    Status(u16, &'static str),
    /// These bytes and the end of the connection.
    Raw(Vec<u8>),
    /// Nothing until the state changes; then ask again.
    Wait,
    /// A stream's head and these lines.
    Stream(broadcast::Receiver<String>, &'static str),
}

/// An answer instead of what the script would say.
pub type Answer = fn(&Asked) -> Reply;

/// What a server says.
pub trait Script: Send + 'static {
    /// `Nomad` or `Consul`, as in the headers' names.
    const PRODUCT: &'static str;

    fn answer(&mut self, asked: &Asked) -> Reply;
}

/// A running server; `stop` closes it with all of its connections.
pub struct Server<S> {
    pub address: String,
    state: Arc<Shared<S>>,
    stop: CancellationToken,
}

struct Shared<S> {
    script: Mutex<S>,
    version: watch::Sender<u64>,
    open: AtomicUsize,
    peak: AtomicUsize,
    log: Mutex<Vec<String>>,
    limit: AtomicUsize,
}

impl<S: Script> Server<S> {
    /// A server on a port of the kernel's.
    pub async fn start(script: S) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self::new(address, script);
        server.listen(listener);
        server
    }

    /// A server on a unix socket.
    pub fn start_unix(path: &std::path::Path, script: S) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let server = Self::new(format!("unix://{}", path.display()), script);
        let (state, stop) = (server.state.clone(), server.stop.clone());
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
                tokio::spawn(stop.clone().run_until_cancelled_owned(serve(stream, state.clone())));
            }
        });
        server
    }

    fn new(address: String, script: S) -> Self {
        let state = Arc::new(Shared {
            script: Mutex::new(script),
            version: watch::channel(0).0,
            open: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            log: Mutex::default(),
            limit: AtomicUsize::new(usize::MAX),
        });
        Self { address, state, stop: CancellationToken::new() }
    }

    fn listen(&self, listener: TcpListener) {
        let (state, stop) = (self.state.clone(), self.stop.clone());
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
                tokio::spawn(stop.clone().run_until_cancelled_owned(serve(stream, state.clone())));
            }
        });
    }

    /// Closes the port and every connection without an answer.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Listens at the same port again, with the state as it is.
    pub async fn restart(&mut self) {
        self.stop.cancel();
        self.stop = CancellationToken::new();
        let address = self.address.trim_start_matches("http://").to_owned();
        let listener = loop {
            match TcpListener::bind(&address).await {
                Ok(listener) => break listener,
                // The old listener's task has not been dropped yet.
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.listen(listener);
    }

    /// Changes the state and wakes what waits.
    pub fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        let changed = change(&mut self.state.script.lock().unwrap());
        self.state.version.send_modify(|version| *version += 1);
        changed
    }

    /// Connections beyond so many are closed before their request is read.
    pub fn limit(&self, connections: usize) {
        self.state.limit.store(connections, Ordering::SeqCst);
    }

    /// Most connections that were open at a time.
    pub fn peak(&self) -> usize {
        self.state.peak.load(Ordering::SeqCst)
    }

    /// Paths that were asked for, with their parameters.
    pub fn log(&self) -> Vec<String> {
        self.state.log.lock().unwrap().clone()
    }

    /// Waits until a request was asked for.
    pub async fn asked(&self, wanted: impl Fn(&str) -> bool) {
        self.asked_since(0, wanted).await;
    }

    /// Waits until a request was asked for behind the first `from` ones.
    pub async fn asked_since(&self, from: usize, wanted: impl Fn(&str) -> bool) {
        let found = async {
            while !self.log()[from..].iter().any(|line| wanted(line)) {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(std::time::Duration::from_secs(20), found).await;
        in_time.unwrap_or_else(|_| panic!("never asked for: {:#?}", self.log()));
    }
}

impl<S> Drop for Server<S> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve<S: Script, IO: AsyncRead + AsyncWrite + Unpin>(stream: IO, state: Arc<Shared<S>>) {
    let open = state.open.fetch_add(1, Ordering::SeqCst) + 1;
    let _open = Open(&state.open);
    if open > state.limit.load(Ordering::SeqCst) {
        return;
    }
    state.peak.fetch_max(open, Ordering::SeqCst);
    let mut stream = BufReader::new(stream);
    let mut version = state.version.subscribe();
    while let Some(asked) = head(&mut stream, &state).await {
        let reply = loop {
            version.borrow_and_update();
            let reply = state.script.lock().unwrap().answer(&asked);
            if !matches!(reply, Reply::Wait) {
                break reply;
            }
            // A client that turns away while it waits is seen, as by a real server.
            tokio::select! {
                changed = version.changed() => if changed.is_err() { return },
                _ = stream.fill_buf() => return,
            }
        };
        let bytes = match reply {
            Reply::Json(index, body) => {
                let (product, body) = (S::PRODUCT, body.to_string());
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-{product}-Index: {index}\r\n\
                     X-{product}-Knownleader: true\r\nX-{product}-Lastcontact: 0\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            Reply::Status(code, text) => {
                format!(
                    "HTTP/1.1 {code} No\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
                    text.len()
                )
            }
            Reply::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Stream(lines, first) => return self::stream(stream, lines, first).await,
            Reply::Wait => unreachable!("asked again above"),
        };
        if stream.write_all(bytes.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn stream<IO: AsyncRead + AsyncWrite + Unpin>(
    mut stream: BufReader<IO>,
    mut lines: broadcast::Receiver<String>,
    first: &str,
) {
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n{first}");
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            line = lines.recv() => {
                let Ok(line) = line else { return };
                if stream.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                    return;
                }
            }
            _ = stream.fill_buf() => return,
        }
    }
}

async fn head<S, IO: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<IO>, state: &Shared<S>) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let target = lines[0].split(' ').nth(1)?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let token =
        lines.iter().filter_map(|l| l.split_once(": ")).find(|(n, _)| n.to_ascii_lowercase().ends_with("-token"));
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    state.log.lock().unwrap().push(target.clone());
    Some(Asked {
        path: path.to_owned(),
        query: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        token: token.map(|(_, value)| value.to_owned()).unwrap_or_default(),
    })
}
