//! Making a connection to a server: address, TCP, PROXY protocol, TLS.

use super::proxy_protocol::{self, Proxied};
use super::resolve::Addresses;
use super::stream::Stream;
use super::tls::{TlsError, TlsFailure};
use super::{Endpoint, Settings};
use futures_util::stream::{FuturesUnordered, StreamExt};
use rustix::io::Errno;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long an address is tried alone before the next one is tried beside it.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Why no connection was made. Nothing of a request was sent, so another server may be tried.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server refused.
    #[error("connection refused")]
    Refused,
    /// It took too long.
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    /// The connection stood, but TLS did not in time.
    #[error("no TLS handshake within {0:?}")]
    TlsTimedOut(Duration),
    /// Its name has no address.
    #[error("name not resolved: {0}")]
    Unresolved(io::Error),
    /// The network's word for it.
    #[error("{0}")]
    Failed(io::Error),
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {0}")]
    Tls(TlsError),
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
        match self {
            Self::Failed(error) => is_exhaustion(error),
            Self::NoTls(_) => true,
            Self::Tls(error) => error.kind == TlsFailure::NotSetUp,
            _ => false,
        }
    }

    /// The cause in one word or two, for logs and metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TimedOut(_) => "timed out: connect",
            Self::TlsTimedOut(_) => "timed out: tls",
            Self::Unresolved(_) => "name not resolved",
            Self::Failed(_) => "connect failed",
            Self::Tls(error) => error.kind.as_str(),
            Self::NoTls(_) => TlsFailure::NotSetUp.as_str(),
            Self::NotHttp2(_) | Self::ChoseHttp1 | Self::NoStreams => "http2: not spoken by the server",
        }
    }
}

/// What is to be spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/1.1, also where the server chose nothing or TLS is not spoken.
    Http11,
    /// HTTP/2, chosen by the server (RFC 7301).
    Http2,
}

/// A connection that was made.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) stream: Stream,
    /// What the server chose.
    pub(super) alpn: Alpn,
}

/// Whether an error says that this machine ran out of descriptors, memory or ports.
pub fn is_exhaustion(error: &io::Error) -> bool {
    const SHORT: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    SHORT.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Connects within the dial time-out, on behalf of a client where there is one, and offers protocols over TLS.
pub(super) async fn connect(
    endpoint: &Endpoint,
    addresses: &Rc<Addresses>,
    settings: &Settings,
    client: Option<Proxied>,
    offered: &[&[u8]],
) -> Result<Dialed, ConnectError> {
    let connected = Cell::new(false);
    let work = async {
        // Before the knock: nobody is to wait for a handshake that cannot begin.
        let tls = match endpoint.tls {
            true => Some(tls_of(endpoint, settings).await?),
            false => None,
        };
        let mut stream = tcp(addresses).await?;
        connected.set(true);
        if let Some(version) = settings.proxy_protocol {
            stream.write_all(&proxy_protocol::header(version, client)).await.map_err(ConnectError::Failed)?;
        }
        let Some((mut config, name)) = tls else { return Ok((Stream::Plain(stream), Alpn::Http11)) };
        if !offered.is_empty() {
            let mut offering = (*config).clone();
            offering.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
            config = Arc::new(offering);
        }
        let connecting = tokio_rustls::TlsConnector::from(config).connect(name, stream);
        let stream = connecting.await.map_err(|error| ConnectError::Tls(error.into()))?;
        let alpn = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Alpn::Http2,
            _ => Alpn::Http11,
        };
        Ok((Stream::Tls(Box::new(stream)), alpn))
    };
    let (stream, alpn) = if settings.dial_timeout.is_zero() {
        work.await?
    } else {
        let limit = settings.dial_timeout;
        tokio::time::timeout(limit, work).await.map_err(|_| match connected.get() {
            true => ConnectError::TlsTimedOut(limit),
            false => ConnectError::TimedOut(limit),
        })??
    };
    Ok(Dialed { stream, alpn })
}

async fn tls_of(
    endpoint: &Endpoint,
    settings: &Settings,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), ConnectError> {
    let no_tls = || ConnectError::NoTls(endpoint.host.clone());
    let tls = settings.tls.as_ref().ok_or_else(no_tls)?;
    let name = settings.server_name.as_ref().unwrap_or(&endpoint.host);
    let name = ServerName::try_from(name.to_string()).map_err(|_| no_tls())?;
    Ok((tls.get().await.map_err(ConnectError::Tls)?, name))
}

/// A connection to the address that answers first. One that does not answer is not waited for alone for long
/// (RFC 8305, section 5), one that refuses not at all.
async fn tcp(addresses: &Rc<Addresses>) -> Result<TcpStream, ConnectError> {
    let addresses = addresses.get().await.map_err(ConnectError::Unresolved)?;
    let stream = match *addresses {
        [address] => TcpStream::connect(address).await.map_err(failed)?,
        _ => first(&addresses).await?,
    };
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    Ok(stream)
}

async fn first(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let mut left = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = ConnectError::Refused;
    loop {
        let more = left.next().map(|address| attempts.push(TcpStream::connect(*address))).is_some();
        tokio::select! {
            biased;
            result = attempts.next() => match result {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last = failed(error),
                None => return Err(last),
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if more => {}
        }
    }
}

fn failed(error: io::Error) -> ConnectError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused,
        io::ErrorKind::TimedOut => ConnectError::TimedOut(Duration::ZERO),
        _ => ConnectError::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn running_out_of_descriptors_is_not_the_servers_fault() {
        let failed = |errno: Errno| ConnectError::Failed(io::Error::from_raw_os_error(errno.raw_os_error()));
        assert!(failed(Errno::MFILE).is_ours());
        assert!(!failed(Errno::NETUNREACH).is_ours());
        assert!(!ConnectError::Refused.is_ours());
    }

    /// A port that is taken, and where nobody listens.
    fn closed() -> (socket2::Socket, SocketAddr) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_first_address_that_answers_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let live = listener.local_addr().unwrap();
        let (_held, closed) = closed();
        assert_eq!(first(&[closed, live]).await.unwrap().peer_addr().unwrap(), live);
        assert_eq!(first(&[live, closed]).await.unwrap().peer_addr().unwrap(), live);
        assert!(matches!(first(&[closed, closed]).await, Err(ConnectError::Refused)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_address_that_does_not_answer_holds_up_no_other() {
        // with its queue full it takes nobody in: the kernel does not answer
        let (silent, address) = closed();
        silent.listen(0).unwrap();
        let mut queue = Vec::new();
        while let Ok(Ok(taken)) = tokio::time::timeout(NEXT_ADDRESS, TcpStream::connect(address)).await {
            queue.push(taken);
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let live = listener.local_addr().unwrap();
        assert_eq!(first(&[address, live]).await.unwrap().peer_addr().unwrap(), live);
    }
}
