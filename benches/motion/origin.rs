//! Servers behind the proxy: each says who it is, echoes to which request it answers, and can be ended in the ways in
//! which a service ends. A POST that comes twice is noted.
//!
//! `/ws` upgrades and echoes frames, `/sse` sends an event every 200 ms, `/download` bytes whose place can be told from
//! their value, `/slow` answers after 50 ms; everything else answers at once.

use std::collections::HashSet;
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Bytes of a download; at [`PACE`] it lasts for two hours.
pub const DOWNLOAD: u64 = 1 << 30;
/// What a download sends at a time, and how often.
const PACE: (usize, Duration) = (16 << 10, Duration::from_millis(100));

/// What all servers write down together.
#[derive(Debug, Default)]
pub struct Ledger {
    posts: Mutex<HashSet<u64>>,
    twice: AtomicU64,
}

impl Ledger {
    fn post(&self, id: u64) {
        if !self.posts.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            self.twice.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// POSTs that were served more than once so far.
    pub fn twice(&self) -> u64 {
        self.twice.load(Ordering::Relaxed)
    }
}

/// A port that is taken while nobody listens on it: connections are refused.
#[derive(Debug)]
pub struct Reserved {
    pub addr: SocketAddr,
    socket: socket2::Socket,
}

impl Reserved {
    /// One of the kernel's.
    pub fn new() -> Result<Self> {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// A certain one, also while it is reserved already.
    pub fn at(addr: SocketAddr) -> Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        let addr = socket.local_addr()?.as_socket().ok_or_else(|| Error::other("no address"))?;
        Ok(Self { addr, socket })
    }
}

/// What a server does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Good,
    /// Takes the request and says nothing.
    Silent,
    /// Bytes that are not HTTP.
    Garbage,
    /// A body shorter than it was announced.
    Short,
    /// The end of the connection.
    Closes,
}

/// A server.
#[derive(Debug)]
pub struct Origin {
    pub addr: SocketAddr,
    pub name: Arc<str>,
    manner: Arc<Mutex<Manner>>,
    kill: CancellationToken,
    drain: CancellationToken,
}

/// What its connections share.
#[derive(Clone)]
struct Life {
    name: Arc<str>,
    ledger: Arc<Ledger>,
    manner: Arc<Mutex<Manner>>,
    kill: CancellationToken,
    drain: CancellationToken,
}

impl Origin {
    /// Starts on a port of the kernel's.
    pub fn start(on: &Handle, name: &str, ledger: &Arc<Ledger>) -> Result<Self> {
        Self::open(on, name, ledger, Reserved::new()?)
    }

    /// Opens a port that was reserved.
    pub fn open(on: &Handle, name: &str, ledger: &Arc<Ledger>, port: Reserved) -> Result<Self> {
        let _guard = on.enter();
        port.socket.set_nonblocking(true)?;
        port.socket.listen(1024)?;
        let listener = TcpListener::from_std(port.socket.into())?;
        let name: Arc<str> = name.into();
        let (kill, drain) = (CancellationToken::new(), CancellationToken::new());
        let manner = Arc::new(Mutex::new(Manner::Good));
        let (ledger, kills, drains) = (ledger.clone(), kill.clone(), drain.clone());
        let life = Life { name: name.clone(), ledger, manner: manner.clone(), kill: kills, drain: drains };
        on.spawn(listen(listener, life));
        Ok(Self { addr: port.addr, name, manner, kill, drain })
    }

    /// From now on it behaves so.
    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// As SIGKILL, only harsher: every connection is reset, new ones are refused.
    pub fn kill(&self) {
        self.kill.cancel();
    }

    /// As a server that was asked to end: new connections are refused, idle ones closed, what is asked is answered.
    pub fn drain(&self) {
        self.drain.cancel();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

async fn listen(listener: TcpListener, life: Life) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = life.kill.cancelled() => return,
            () = life.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let life = life.clone();
        tokio::spawn(async move {
            let mut stream = stream;
            let _ = stream.set_nodelay(true);
            let killed = tokio::select! {
                biased;
                () = life.kill.cancelled() => true,
                _ = serve(&mut stream, &life) => false,
            };
            if killed {
                let _ = stream.set_zero_linger();
            }
        });
    }
}

async fn serve(stream: &mut TcpStream, life: &Life) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = memchr::memmem::find(&buffer, b"\r\n\r\n") {
                break at + 4;
            }
            let idle = buffer.is_empty();
            let read = tokio::select! {
                biased;
                () = life.drain.cancelled(), if idle => return Ok(()),
                read = stream.read_buf(&mut buffer) => read?,
            };
            if read == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let field = |name: &str| {
            let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
            lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
        };
        let length = field("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        while buffer.len() < length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        buffer.drain(..length);
        let request = field("x-request").unwrap_or_default();
        let manner = *life.manner.lock().unwrap_or_else(PoisonError::into_inner);
        let bad: &[u8] = match manner {
            Manner::Good => b"",
            Manner::Silent => std::future::pending().await,
            Manner::Garbage => b"\x15\x03\x01\x00\x02\x02\x46",
            Manner::Short => b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort",
            Manner::Closes => return Ok(()),
        };
        if !bad.is_empty() {
            return stream.write_all(bad).await;
        }
        if head.starts_with("POST ") {
            life.ledger.post(request.parse().unwrap_or_default());
        }
        let who = format!("X-Server: {}\r\nX-Request: {request}\r\n", life.name);
        match head.split(' ').nth(1).unwrap_or_default() {
            "/ws" => return echo(stream, &who).await,
            "/sse" => return events(stream, &who).await,
            "/download" => return download(stream, &who).await,
            path => {
                if path == "/slow" {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let last = life.drain.is_cancelled();
                let close = if last { "Connection: close\r\n" } else { "" };
                let body = format!("{}\n", life.name);
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{who}{close}\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await?;
                if last {
                    return Ok(());
                }
            }
        }
    }
}

/// WebSocket frames of 8 bytes back as they came; a client masks with zeros.
async fn echo(stream: &mut TcpStream, who: &str) -> Result<()> {
    let head = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{who}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut frame = [0; 14];
    loop {
        stream.read_exact(&mut frame).await?;
        let mut answer = [0; 10];
        answer[..2].copy_from_slice(&[0x82, 8]);
        answer[2..].copy_from_slice(&frame[6..]);
        stream.write_all(&answer).await?;
    }
}

async fn events(stream: &mut TcpStream, who: &str) -> Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{who}\r\n");
    stream.write_all(head.as_bytes()).await?;
    for number in 0u64.. {
        let event = format!("data: {number}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// The byte at a place of a download.
pub fn byte_at(place: u64) -> u8 {
    (place % 251) as u8
}

async fn download(stream: &mut TcpStream, who: &str) -> Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {DOWNLOAD}\r\n{who}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut place = 0;
    while place < DOWNLOAD {
        let piece: Vec<u8> = (place..place + PACE.0 as u64).map(byte_at).collect();
        stream.write_all(&piece).await?;
        place += PACE.0 as u64;
        tokio::time::sleep(PACE.1).await;
    }
    Ok(())
}
