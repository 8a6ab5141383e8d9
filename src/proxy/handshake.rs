//! *Handshake*: TLS or not by the first byte, and by ALPN what is spoken. The whole of it has one
//! time-out, so that a client that sends nothing costs nothing for long.

use super::accept::Open;
use super::connection::{self, Client};
use super::proxy_protocol::{self, MAX_HEADER, Parsed};
use super::settings::{TlsChoice, Trust};
use crate::http::Protocol;
use rustls::server::Acceptor;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// First byte of a TLS handshake record (RFC 8446, 5.1); no HTTP request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
/// Silence after which the kernel asks whether the client is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How often it is looked for the rest of a PROXY protocol header of which less than its signature has come: the
/// kernel does not tell that more has come as long as nothing is taken.
const SIGNATURE_LOOK: Duration = Duration::from_millis(10);

/// How long a client that has asked nothing yet may still do so when the worker drains.
pub(super) const FIRST_REQUEST: Duration = Duration::from_millis(250);

enum Shaken {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>, Arc<str>),
}

/// Takes a connection through its handshake and serves it.
pub(super) async fn run(open: Open, stream: TcpStream, mut peer: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let shaken = tokio::select! {
        shaken = within(open.entry.read_timeout, shake(&open, stream, &mut peer)) => shaken,
        () = async {
            open.worker.draining().await;
            tokio::time::sleep(FIRST_REQUEST).await;
        } => return,
    };
    match shaken {
        Ok(Some(Shaken::Plain(stream))) => {
            let client = Rc::new(Client::new(open, peer, None, Protocol::Http11));
            connection::serve_http1(client, stream).await;
        }
        Ok(Some(Shaken::Tls(stream, options))) => {
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let client = Rc::new(Client::new(open, peer, Some(options), Protocol::Http2));
                connection::serve_http2(client, *stream).await;
            } else {
                let client = Rc::new(Client::new(open, peer, Some(options), Protocol::Http11));
                connection::serve_http1(client, *stream).await;
            }
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(entry_point = %open.entry.name, %peer, %error, "handshake failed"),
    }
}

/// Takes a PROXY protocol header off the beginning of a connection. Gives the client that it names, if the peer is
/// one whose word counts; of others it is thrown away, as Traefik does.
async fn announced(trust: &Trust, stream: &mut TcpStream, peer: SocketAddr) -> io::Result<SocketAddr> {
    // Only what can be nothing but a header is taken from the socket before it is complete.
    let mut header = Vec::new();
    let mut next = [0; MAX_HEADER];
    loop {
        let there = stream.peek(&mut next).await?;
        let before = header.len();
        header.extend_from_slice(&next[..there]);
        match proxy_protocol::parse(&header) {
            Parsed::Found(found) => {
                stream.read_exact(&mut next[..found.length - before]).await?;
                let client = found.addresses.filter(|_| trust.believes(peer.ip())).map(|ends| ends.source);
                return Ok(client.unwrap_or(peer));
            }
            Parsed::NoHeader => return Ok(peer),
            Parsed::Fault(fault) => return Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
            Parsed::Partial if there == 0 => return Ok(peer),
            Parsed::Partial if proxy_protocol::is_certain(&header) => {
                stream.read_exact(&mut next[..there]).await?;
            }
            Parsed::Partial => {
                header.clear();
                tokio::time::sleep(SIGNATURE_LOOK).await;
            }
        }
    }
}

/// `None` when the client went away without a word.
async fn shake(open: &Open, mut stream: TcpStream, peer: &mut SocketAddr) -> io::Result<Option<Shaken>> {
    if let Some(trust) = &open.entry.proxy_protocol {
        // Boxed, so that connections without it are not larger for its buffer.
        *peer = Box::pin(announced(trust, &mut stream, *peer)).await?;
    }
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    if first[0] != TLS_HANDSHAKE {
        return Ok(Some(Shaken::Plain(stream)));
    }
    let source = open.worker.tls.as_ref().ok_or_else(|| io::Error::other("no TLS configuration"))?;
    // What the client asks for decides by which configuration the handshake goes.
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let choice = source(&open.entry.name, hello.client_hello().server_name());
    let TlsChoice { config, options } = choice.ok_or_else(|| io::Error::other("the host's TLS options are broken"))?;
    Ok(Some(Shaken::Tls(Box::new(hello.into_stream(config).await?), options)))
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    if limit.is_zero() {
        return work.await;
    }
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
