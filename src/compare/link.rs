//! One open connection to a proxy: dialled, encrypted where its address says so, and spoken to in HTTP/2 where TLS agreed
//! on that (ALPN, RFC 7301), else in HTTP/1.1. It belongs to one address and one server name, which are chosen apart from
//! the request, so that any host can be asked for at any address.

use super::client::{Address, NoAnswer, Trouble};
use super::request::{Request, Scheme};
use super::tls::HTTP2;
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Uri, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// Fields of an answer; one with more is refused.
const MAX_FIELDS: usize = 256;
/// Bytes of an answer's fields over HTTP/2; one with more is refused.
const MAX_HEAD: u32 = 256 * 1024;

/// A connection.
pub(super) struct Link {
    sender: Sender,
    address: Address,
    name: String,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Link {
    /// Connects; `name` is whom the proxy is asked to be over TLS.
    pub(super) async fn open(
        address: &Address,
        name: String,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Result<Self, NoAnswer> {
        let stream = dial(address).await?;
        let (stream, two): (Box<dyn Stream>, bool) = match (address, tls) {
            (Address::Tcp(Scheme::Https, ..), Some(config)) => {
                let host = name.trim_matches(['[', ']']).to_owned();
                let server = ServerName::try_from(host).map_err(|e| NoAnswer::new(Trouble::Tls, e))?;
                let connector = TlsConnector::from(config.clone());
                let stream = connector.connect(server, stream).await.map_err(|e| NoAnswer::new(Trouble::Tls, e))?;
                let two = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
                (Box::new(stream), two)
            }
            _ => (stream, false),
        };
        let closed = |e: hyper::Error| NoAnswer::new(Trouble::Closed, e);
        // both tasks end with the sender; their errors are those of the request
        let sender = if two {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.max_header_list_size(MAX_HEAD);
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(closed)?;
            tokio::spawn(async move { drop(connection.await) });
            Sender::Two(sender)
        } else {
            let mut builder = http1::Builder::new();
            builder.max_headers(MAX_FIELDS);
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(closed)?;
            tokio::spawn(async move { drop(connection.await) });
            Sender::One(sender)
        };
        Ok(Self { sender, address: address.clone(), name })
    }

    /// Whether it leads there.
    pub(super) fn is_for(&self, address: &Address, name: &str) -> bool {
        self.address == *address && self.name == name
    }

    /// Waits until it takes a request; false where it never will, so that nothing was sent.
    pub(super) async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::One(sender) => sender.ready().await.is_ok(),
            Sender::Two(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request; gives the head of the answer, and its body as it comes.
    pub(super) async fn send(&mut self, request: &Request) -> Result<http::Response<Incoming>, NoAnswer> {
        let message = message(request, &self.address, matches!(self.sender, Sender::Two(_)))?;
        let answer = match &mut self.sender {
            Sender::One(sender) => sender.send_request(message).await,
            Sender::Two(sender) => sender.send_request(message).await,
        };
        answer.map_err(|error| failed(&error))
    }

    /// Whether it can be used again after an answer that was not read to its end.
    pub(super) fn outlives_answers(&self) -> bool {
        // one stream of many is reset
        matches!(self.sender, Sender::Two(_))
    }
}

fn message(request: &Request, address: &Address, two: bool) -> Result<http::Request<Full<Bytes>>, NoAnswer> {
    let mut message = http::Request::new(Full::new(request.body.clone()));
    *message.method_mut() = request.method.clone();
    if two {
        // `:authority` stands for Host (RFC 9113, 8.3.1)
        let uri =
            Uri::builder().scheme("https").authority(request.host.as_bytes()).path_and_query(request.target.clone());
        let none = |e| NoAnswer::new(Trouble::Closed, format_args!("nothing that HTTP/2 can say: {e}"));
        *message.uri_mut() = uri.build().map_err(none)?;
        *message.version_mut() = Version::HTTP_2;
    } else {
        *message.uri_mut() = Uri::from(request.target.clone());
        message.headers_mut().insert(HOST, request.host.clone());
    }
    let headers = message.headers_mut();
    headers.extend(request.headers.clone());
    if matches!(address, Address::Unix(_))
        && let Some(scheme) = request.scheme
    {
        headers.insert("x-forwarded-proto", HeaderValue::from_static(scheme.as_str()));
    }
    Ok(message)
}

fn failed(error: &hyper::Error) -> NoAnswer {
    let why = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    NoAnswer::new(if error.is_parse() { Trouble::NotHttp } else { Trouble::Closed }, why)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Whether somebody takes connections there.
pub(super) async fn reach(address: &Address) -> Result<(), NoAnswer> {
    dial(address).await.map(drop)
}

async fn dial(address: &Address) -> Result<Box<dyn Stream>, NoAnswer> {
    let failed = |e: std::io::Error| NoAnswer::new(Trouble::Connect, e);
    Ok(match address {
        Address::Tcp(_, host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            // one request waits for one answer
            stream.set_nodelay(true).map_err(failed)?;
            Box::new(stream)
        }
        Address::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(failed)?),
    })
}
