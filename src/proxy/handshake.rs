//! *Handshake*: TLS or not by the first byte, and by ALPN what is spoken. The whole of it has one
//! time-out, so that a client that sends nothing costs nothing for long.

use super::accept::Open;
use super::connection::{self, Client};
use super::preface::{self, PREFACE, Prefixed, Speaks};
use crate::http::Protocol;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// First byte of a TLS handshake record (RFC 8446, 5.1); no HTTP request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
/// Silence after which the kernel asks whether the client is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long a client that has asked nothing yet may still do so when the worker drains.
pub(super) const FIRST_REQUEST: Duration = Duration::from_millis(250);

enum Shaken {
    Plain(TcpStream),
    /// What begins like HTTP/2's preface, and turned out to be it or not.
    Prefixed(Speaks, Prefixed<TcpStream>),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Takes a connection through its handshake and serves it.
pub(super) async fn run(open: Open, stream: TcpStream, peer: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let shaken = tokio::select! {
        shaken = within(open.entry.read_timeout, shake(&open, stream)) => shaken,
        () = async {
            open.worker.draining().await;
            tokio::time::sleep(FIRST_REQUEST).await;
        } => return,
    };
    match shaken {
        Ok(Some(Shaken::Plain(stream))) => {
            let client = Rc::new(Client::new(open, peer, false, Protocol::Http11));
            connection::serve_http1(client, stream).await;
        }
        Ok(Some(Shaken::Prefixed(Speaks::Http2, stream))) => {
            let client = Rc::new(Client::new(open, peer, false, Protocol::Http2));
            connection::serve_http2(client, stream).await;
        }
        Ok(Some(Shaken::Prefixed(_, stream))) => {
            let client = Rc::new(Client::new(open, peer, false, Protocol::Http11));
            connection::serve_http1(client, stream).await;
        }
        Ok(Some(Shaken::Tls(stream))) => {
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let client = Rc::new(Client::new(open, peer, true, Protocol::Http2));
                connection::serve_http2(client, *stream).await;
            } else {
                let client = Rc::new(Client::new(open, peer, true, Protocol::Http11));
                connection::serve_http1(client, *stream).await;
            }
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(entry_point = %open.entry.name, %peer, %error, "handshake failed"),
    }
}

/// `None` when the client went away without a word.
async fn shake(open: &Open, stream: TcpStream) -> io::Result<Option<Shaken>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    if first[0] == PREFACE[0] {
        let (speaks, stream) = preface::find_out(stream).await?;
        return Ok(Some(Shaken::Prefixed(speaks, stream)));
    }
    if first[0] != TLS_HANDSHAKE {
        return Ok(Some(Shaken::Plain(stream)));
    }
    let config = open.worker.tls.as_ref().ok_or_else(|| io::Error::other("no TLS configuration"))?();
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    Ok(Some(Shaken::Tls(Box::new(stream))))
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    if limit.is_zero() {
        return work.await;
    }
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
