//! *Handshake*: TLS or not by the first byte, and by ALPN or the first line what is spoken. The whole of it has one
//! time-out, so that a client that sends nothing costs nothing for long.

use super::accept::Open;
use super::buffers::poll_fill;
use super::client::{Client, Listener};
use super::deadline::Deadline;
use super::proxy_protocol::{self, Parsed};
use super::settings::{TlsChoice, TlsSource};
use super::stream::{ClientStream, Prefixed};
use super::{certify, http1, http2, tcp};
use crate::http::{Protocol, TlsInfo};
use rustls::server::Acceptor;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// First byte of a TLS handshake record (RFC 8446, 5.1); no HTTP request begins with it.
pub(super) const TLS_HANDSHAKE: u8 = 0x16;
/// What an HTTP/2 client says first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a client that has asked nothing yet may still do so when the worker drains.
pub(super) const FIRST_REQUEST: Duration = Duration::from_millis(250);

type Shaken = Option<(TlsStream<Prefixed<TcpStream>>, Arc<str>)>;

/// Takes a connection through its handshake and serves it.
pub(super) async fn run(mut open: Open, mut stream: TcpStream, mut peer: SocketAddr) {
    let mut clock = Deadline::default();
    let mut begun = Begun { read: Vec::new(), announced: open.entry.proxy_protocol.is_some() };
    if tcp::has_routers(&open) {
        let Some(opening) = Box::pin(tcp::route((open, stream, peer, clock, begun))).await else { return };
        (open, stream, peer, clock, begun) = opening;
    }
    // The beginning of a preface may become one.
    let enough = |read: &[u8]| !read.is_empty() && (read.len() >= PREFACE.len() || !PREFACE.starts_with(read));
    if !first(&open, &mut stream, &mut peer, &mut clock, &mut begun, &enough).await {
        return;
    }
    let read = begun.read;
    if read.first() == Some(&TLS_HANDSHAKE) {
        return Box::pin(encrypted(open, stream, read, peer)).await;
    }
    if read.starts_with(PREFACE) {
        let client = Rc::new(Client::new(open, peer, None, Protocol::Http2));
        let stream = Prefixed::new(read, ClientStream::Plain(stream));
        return Box::pin(http2::serve(client, stream)).await;
    }
    let client = Rc::new(Client::new(open, peer, None, Protocol::Http11));
    http1::serve(client, ClientStream::Plain(stream), read, clock).await;
}

/// Serves plain requests that count as encrypted: whoever passed the connection on says so.
pub(super) async fn as_encrypted(open: Open, stream: TcpStream, peer: SocketAddr, options: Arc<str>) {
    let client = Rc::new(Client::new(open, peer, Some((TlsInfo::new(0, 0), options)), Protocol::Http11));
    http1::serve(client, ClientStream::Plain(stream), Vec::new(), Deadline::default()).await;
}

/// What was read of a connection so far.
pub(super) struct Begun {
    pub(super) read: Vec<u8>,
    /// A PROXY protocol header may come first, and did not yet.
    announced: bool,
}

/// The first bytes, until there are `enough`; false when they do not come, or too late, or not as they should be. Where a PROXY protocol header may come
/// first it is taken off, and the client that it names is the `peer` if the one before us is believed; the word of
/// others is thrown away, as Traefik does.
pub(super) async fn first(
    open: &Open,
    stream: &mut TcpStream,
    peer: &mut SocketAddr,
    clock: &mut Deadline,
    begun: &mut Begun,
    enough: &dyn Fn(&[u8]) -> bool,
) -> bool {
    let worker = &open.worker;
    let mut bell = Listener::new(&worker.bell);
    let Begun { read, announced } = begun;
    poll_fn(|cx| {
        loop {
            if *announced && !read.is_empty() {
                match proxy_protocol::parse(read) {
                    Parsed::Partial => {}
                    Parsed::NoHeader => *announced = false,
                    Parsed::Fault(fault) => {
                        tracing::debug!(entry_point = %open.entry.name, %peer, %fault, "connection refused");
                        return Poll::Ready(false);
                    }
                    Parsed::Found(found) => {
                        *announced = false;
                        let believed = open.entry.proxy_protocol.as_ref().is_some_and(|t| t.believes(peer.ip()));
                        if let Some(ends) = found.addresses.filter(|_| believed) {
                            *peer = ends.source;
                        }
                        read.drain(..found.length);
                    }
                }
            }
            if !*announced && enough(read) {
                return Poll::Ready(true);
            }
            let mut buffer = if read.is_empty() { worker.buffers.take() } else { std::mem::take(read) };
            let came = poll_fill(stream, cx, &mut buffer, u64::MAX);
            if buffer.is_empty() {
                worker.buffers.give(buffer);
            } else {
                *read = buffer;
            }
            match came {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => {
                    let limit = open.entry.read_timeout;
                    if !limit.is_zero() && !clock.is_set() {
                        clock.set(Some(Instant::now() + limit));
                    }
                    if bell.hears(cx) {
                        clock.at_most(worker.bell.first_by());
                    }
                    ready!(clock.poll(cx));
                    return Poll::Ready(false);
                }
            }
        }
    })
    .await
}

/// A connection that begins with a TLS handshake.
async fn encrypted(open: Open, stream: TcpStream, read: Vec<u8>, peer: SocketAddr) {
    let Some(source) = open.worker.tls.clone() else { return };
    // The buffer belongs to the worker; a handshake needs little of it.
    let stream = Prefixed::new(read.as_slice().to_vec(), stream);
    open.worker.buffers.give(read);
    let shaken = tokio::select! {
        shaken = within(open.entry.read_timeout, shake(&open, &source, stream)) => shaken,
        () = async {
            open.worker.draining().await;
            tokio::time::sleep_until(open.worker.bell.first_by()).await;
        } => return,
    };
    let (stream, options) = match shaken {
        Ok(Some(shaken)) => shaken,
        Ok(None) => return,
        Err(error) => {
            tracing::debug!(entry_point = %open.entry.name, %peer, %error, "handshake failed");
            return;
        }
    };
    let tls = Some((agreed(stream.get_ref().1), options));
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = ClientStream::Tls(Box::new(stream));
    if http2 {
        let client = Rc::new(Client::new(open, peer, tls, Protocol::Http2));
        http2::serve(client, Prefixed::new(Vec::new(), stream)).await;
    } else {
        let client = Rc::new(Client::new(open, peer, tls, Protocol::Http11));
        http1::serve(client, stream, Vec::new(), Deadline::default()).await;
    }
}

/// A handshake, and the name of the TLS options that it went by: what the client asks for decides. `None` after a
/// handshake that was all an authority came for.
async fn shake(open: &Open, source: &TlsSource, stream: Prefixed<TcpStream>) -> io::Result<Shaken> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let settings = &open.worker.settings;
    let client = hello.client_hello();
    if client.alpn().is_some_and(certify::is_tls_challenge)
        && let Some(config) = Box::pin(certify::tls_challenge(settings, client.server_name())).await
    {
        hello.into_stream(config).await?.shutdown().await?;
        return Ok(None);
    }
    certify::wait(settings, client.server_name()).await;
    let choice = source(&open.entry.name, client.server_name());
    let TlsChoice { config, options } = choice.ok_or_else(|| io::Error::other("the host's TLS options are broken"))?;
    Ok(Some((hello.into_stream(config).await?, options)))
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
