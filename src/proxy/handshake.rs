//! *Handshake*: TLS or not by the first byte, and by ALPN or the first line what is spoken. The whole of it has one
//! time-out, so that a client that sends nothing costs nothing for long.

use super::accept::Open;
use super::buffers::poll_fill;
use super::client::{Client, Listener};
use super::deadline::Deadline;
use super::stream::{ClientStream, Prefixed};
use super::{http1, http2};
use crate::http::{Protocol, TlsInfo};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// First byte of a TLS handshake record (RFC 8446, 5.1); no HTTP request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
/// What an HTTP/2 client says first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a client that has asked nothing yet may still do so when the worker drains.
pub(super) const FIRST_REQUEST: Duration = Duration::from_millis(250);

/// Takes a connection through its handshake and serves it.
pub(super) async fn run(open: Open, mut stream: TcpStream, peer: SocketAddr) {
    let Some(read) = first(&open, &mut stream).await else { return };
    if read.first() == Some(&TLS_HANDSHAKE) {
        return Box::pin(encrypted(open, stream, read, peer)).await;
    }
    if read.starts_with(PREFACE) {
        let client = Rc::new(Client::new(open, peer, None, Protocol::Http2));
        let stream = Prefixed::new(read, ClientStream::Plain(stream));
        return Box::pin(http2::serve(client, stream)).await;
    }
    let client = Rc::new(Client::new(open, peer, None, Protocol::Http11));
    http1::serve(client, ClientStream::Plain(stream), read).await;
}

/// The first bytes; `None` when none came, or too late.
async fn first(open: &Open, stream: &mut TcpStream) -> Option<Vec<u8>> {
    let worker = &open.worker;
    let mut bell = Listener::new(&worker.bell);
    let mut clock = Deadline::default();
    let mut read = Vec::new();
    poll_fn(|cx| {
        loop {
            let mut buffer = if read.is_empty() { worker.buffers.take() } else { std::mem::take(&mut read) };
            let came = poll_fill(stream, cx, &mut buffer, u64::MAX);
            if buffer.is_empty() {
                worker.buffers.give(buffer);
            } else {
                read = buffer;
            }
            match came {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => {
                    let limit = open.entry.read_timeout;
                    if read.is_empty() && !limit.is_zero() && !clock.is_set() {
                        clock.set(Some(Instant::now() + limit));
                    }
                    if bell.hears(cx) {
                        clock.at_most(Instant::now() + FIRST_REQUEST);
                    }
                    ready!(clock.poll(cx));
                    return Poll::Ready(None);
                }
            }
            // The beginning of a preface may become one.
            if read.len() >= PREFACE.len() || !PREFACE.starts_with(&read) {
                return Poll::Ready(Some(std::mem::take(&mut read)));
            }
        }
    })
    .await
}

/// A connection that begins with a TLS handshake.
async fn encrypted(open: Open, stream: TcpStream, read: Vec<u8>, peer: SocketAddr) {
    let Some(tls) = open.worker.tls.clone() else { return };
    // The buffer belongs to the worker; a handshake needs little of it.
    let stream = Prefixed::new(read.as_slice().to_vec(), stream);
    open.worker.buffers.give(read);
    let shaken = tokio::select! {
        shaken = within(open.entry.read_timeout, TlsAcceptor::from(tls()).accept(stream)) => shaken,
        () = async {
            open.worker.draining().await;
            tokio::time::sleep(FIRST_REQUEST).await;
        } => return,
    };
    let stream = match shaken {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(entry_point = %open.entry.name, %peer, %error, "handshake failed");
            return;
        }
    };
    let tls = Some(agreed(stream.get_ref().1));
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = ClientStream::Tls(Box::new(stream));
    if http2 {
        let client = Rc::new(Client::new(open, peer, tls, Protocol::Http2));
        http2::serve(client, Prefixed::new(Vec::new(), stream)).await;
    } else {
        let client = Rc::new(Client::new(open, peer, tls, Protocol::Http11));
        http1::serve(client, stream, Vec::new()).await;
    }
}

/// Version and cipher of a handshake that has ended.
fn agreed(connection: &rustls::ServerConnection) -> TlsInfo {
    let version = connection.protocol_version().map_or(0, u16::from);
    TlsInfo::new(version, connection.negotiated_cipher_suite().map_or(0, |suite| u16::from(suite.suite())))
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    if limit.is_zero() {
        return work.await;
    }
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
