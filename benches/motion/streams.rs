//! Streams that stay open: WebSockets, server-sent events, downloads. Each tells when it broke, stalled, or brought something
//! else than its service sent; a broken one is opened again.

use super::client::{Conn, Head, reason};
use super::load::{is_of, number};
use super::origin::byte_at;
use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A stream without anything for so long is broken.
const STALL: Duration = Duration::from_secs(10);

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    WebSocket,
    Events,
    Download,
}

/// What became of streams.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Open now.
    pub open: usize,
    pub broken: u64,
    /// Pieces that came as they should.
    pub pieces: u64,
    pub reasons: BTreeMap<String, u64>,
}

/// Running streams.
pub struct Streams {
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Streams {
    /// Opens so many of each kind, on these services in turn.
    pub fn start(on: &Handle, web: SocketAddr, services: &[Arc<str>], counts: &[(Kind, usize)]) -> Self {
        let (tally, stop) = (Arc::<Mutex<Tally>>::default(), CancellationToken::new());
        let kinds = counts.iter().flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count));
        for (place, kind) in kinds.enumerate() {
            let (service, tally, stop) = (services[place % services.len()].clone(), tally.clone(), stop.clone());
            on.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = keep(web, &service, kind, &tally) => {}
                }
            });
        }
        Self { tally, stop }
    }

    /// What happened since the last time; how many are open stays.
    pub fn take(&self) -> Tally {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let open = tally.open;
        std::mem::replace(&mut *tally, Tally { open, ..Tally::default() })
    }

    /// Open now.
    pub fn open(&self) -> usize {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).open
    }
}

async fn keep(web: SocketAddr, service: &str, kind: Kind, tally: &Mutex<Tally>) {
    let lock = || tally.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let mut opened = false;
        let ended = run(web, service, kind, || {
            let mut tally = lock();
            tally.open += usize::from(!std::mem::replace(&mut opened, true));
            tally.pieces += 1;
        })
        .await;
        let why = ended.map_or_else(|error| reason(&error), |()| "ended".to_owned());
        {
            let mut tally = lock();
            tally.open -= usize::from(opened);
            tally.broken += 1;
            *tally.reasons.entry(format!("{kind:?}: {why}")).or_default() += 1;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn run(web: SocketAddr, service: &str, kind: Kind, mut piece: impl FnMut()) -> Result<()> {
    let mut conn = within(Conn::open(web)).await?;
    let id = number();
    let (target, more) = match kind {
        Kind::WebSocket => {
            let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
            ("/ws", format!("Upgrade: websocket\r\nConnection: Upgrade\r\n{key}"))
        }
        Kind::Events => ("/sse", String::new()),
        Kind::Download => ("/download", String::new()),
    };
    let request = format!("GET {target} HTTP/1.1\r\nHost: {service}.test\r\nX-Request: {id}\r\n{more}\r\n");
    conn.send(request.as_bytes()).await?;
    let head: Head = within(conn.head()).await?;
    let wanted = if kind == Kind::WebSocket { 101 } else { 200 };
    if head.status != wanted {
        return Err(Error::other(format!("status {}", head.status)));
    }
    if !is_of(&head.server, service) || head.request != id.to_string() {
        return Err(Error::other("another's stream"));
    }
    let mut place = 0u64;
    loop {
        match kind {
            Kind::WebSocket => {
                let payload = (id << 20 | place).to_be_bytes();
                let mut frame = vec![0x82, 0x88, 0, 0, 0, 0];
                frame.extend_from_slice(&payload);
                conn.send(&frame).await?;
                let answer = within(conn.exactly(10)).await?;
                if answer[..2] != [0x82, 8] || answer[2..] != payload {
                    return Err(Error::other("another frame than was sent"));
                }
                place += 1;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Kind::Events => {
                let event = within(conn.chunk()).await?;
                if event.as_deref() != Some(format!("data: {place}\n\n").as_bytes()) {
                    return Err(Error::other("another event than was due"));
                }
                place += 1;
            }
            Kind::Download => {
                let bytes = within(conn.exactly(4096)).await?;
                if bytes.iter().zip(place..).any(|(byte, place)| *byte != byte_at(place)) {
                    return Err(Error::other("other bytes than were due"));
                }
                place += 4096;
            }
        }
        piece();
    }
}

async fn within<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(STALL, what).await.unwrap_or_else(|_| Err(Error::other("stalled")))
}
