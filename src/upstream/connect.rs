//! Making a connection to a server: address, TCP, TLS.

use super::resolve::Addresses;
use super::{Endpoint, Settings};
use rustix::io::Errno;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why no connection was made. Nothing of a request was sent, so another server may be tried.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server refused.
    #[error("connection refused")]
    Refused,
    /// It took too long.
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    /// Its name has no address.
    #[error("name not resolved: {0}")]
    Unresolved(io::Error),
    /// The network's word for it.
    #[error("{0}")]
    Failed(io::Error),
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {0}")]
    Tls(io::Error),
    /// A host that is neither name nor address, or no TLS configuration.
    #[error("`{0}` cannot be reached over TLS")]
    NoTls(Arc<str>),
    /// It does not speak HTTP/2, and why that shows.
    #[error("the server does not speak HTTP/2: {0}")]
    NotHttp2(String),
    /// It speaks TLS and chose HTTP/1.1, over which it can be reached.
    #[error("the server chose HTTP/1.1")]
    ChoseHttp1,
    /// It speaks HTTP/2 and allows no stream at all.
    #[error("the server takes no HTTP/2 streams")]
    NoStreams,
}

impl ConnectError {
    /// Whether this machine ran out of something, of which the server knows nothing.
    pub fn is_ours(&self) -> bool {
        const SHORT: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
        match self {
            Self::Failed(error) => SHORT.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())),
            Self::NoTls(_) => true,
            _ => false,
        }
    }
}

/// Connects within the dial time-out.
pub(super) async fn connect(
    endpoint: &Endpoint,
    addresses: &Rc<Addresses>,
    settings: &Settings,
    alpn: &[&[u8]],
) -> Result<Metered, ConnectError> {
    let work = async {
        let stream = tcp(addresses).await?;
        if !endpoint.tls {
            return Ok(Stream::Plain(stream));
        }
        let no_tls = || ConnectError::NoTls(endpoint.host.clone());
        let mut config = settings.tls.clone().ok_or_else(no_tls)?;
        if !alpn.is_empty() {
            let mut offering = (*config).clone();
            offering.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
            config = Arc::new(offering);
        }
        let name = settings.server_name.as_ref().unwrap_or(&endpoint.host);
        let name = ServerName::try_from(name.to_string()).map_err(|_| no_tls())?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.map_err(ConnectError::Tls)?;
        Ok(Stream::Tls(Box::new(stream)))
    };
    let stream = if settings.dial_timeout.is_zero() {
        work.await?
    } else {
        tokio::time::timeout(settings.dial_timeout, work)
            .await
            .map_err(|_| ConnectError::TimedOut(settings.dial_timeout))??
    };
    Ok(Metered { stream, meter: Arc::default() })
}

async fn tcp(addresses: &Rc<Addresses>) -> Result<TcpStream, ConnectError> {
    let mut last = ConnectError::Refused;
    for address in addresses.get().await.map_err(ConnectError::Unresolved)? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
                let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                return Ok(stream);
            }
            Err(error) => {
                last = match error.kind() {
                    io::ErrorKind::ConnectionRefused => ConnectError::Refused,
                    io::ErrorKind::TimedOut => ConnectError::TimedOut(Duration::ZERO),
                    _ => ConnectError::Failed(error),
                }
            }
        }
    }
    Err(last)
}

/// Bytes that came from a server. Atomic because the codec wants what it owns to be `Send`.
#[derive(Debug, Default)]
pub(super) struct Meter(AtomicU64);

impl Meter {
    pub(super) fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A connection that counts what comes.
#[derive(Debug)]
pub(super) struct Metered {
    stream: Stream,
    pub(super) meter: Arc<Meter>,
}

impl Metered {
    /// Whether both ends agreed on HTTP/2.
    pub(super) fn chose_http2(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        self.meter.0.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_descriptors_is_not_the_servers_fault() {
        let failed = |errno: Errno| ConnectError::Failed(io::Error::from_raw_os_error(errno.raw_os_error()));
        assert!(failed(Errno::MFILE).is_ours());
        assert!(!failed(Errno::NETUNREACH).is_ours());
        assert!(!ConnectError::Refused.is_ours());
    }
}
