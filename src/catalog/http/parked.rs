//! Queries that mostly wait, in numbers: one for each Consul service that is watched.
//!
//! A waiting request costs 26 kB of resident memory with reqwest and 16 kB with hyper's own
//! connection (measured with 1,500 of them), nearly all of it in buffers that are empty while it
//! waits; 2,000 of them would break the promise of 40 MB. So the request is written to the socket
//! by hand and nothing but the socket is kept until the first byte of the answer is there (2 kB).
//! Then hyper is put on the connection to read the answer: it sends the request into the void
//! ([`Replay`]), reads, and gives the socket back. Over TLS, where HTTP/2 carries many queries on
//! one connection, and over a unix socket, it is reqwest after all, [`PER_SHARD`] to a client,
//! since Go's servers answer 250 streams on a connection at a time.

use super::answer::{Error, MAX_BODY, Meta, causes, check_json};
use super::{Agent, Answer, Counted, Lane, lane};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Queries that share a reqwest client over TLS.
const PER_SHARD: usize = 200;

/// A connection that is kept, while nothing is read from it.
#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    counted: Counted,
}

/// One query at a time, mostly waiting.
#[derive(Debug)]
pub struct Parked {
    agent: Agent,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Plain(Option<Idle>),
    Shared(Lane),
}

/// The clients that parked queries share over TLS.
#[derive(Debug, Default)]
pub(super) struct Shards(Mutex<(usize, Option<Lane>)>);

impl Parked {
    pub(super) fn new(agent: &Agent) -> Result<Self, Error> {
        let endpoint = &agent.inner.endpoint;
        let kind = if endpoint.tls || endpoint.socket.is_some() {
            let mut shards = agent.inner.shards.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (used, current) = &mut *shards;
            let lane = match current {
                Some(lane) if *used < PER_SHARD => lane.clone(),
                _ => {
                    *used = 0;
                    current.insert(agent.lane()?).clone()
                }
            };
            *used += 1;
            Kind::Shared(lane)
        } else {
            Kind::Plain(None)
        };
        Ok(Self { agent: agent.clone(), kind })
    }

    /// Asks for `path` and waits for the answer until `deadline`. Not safe to call again after a
    /// call that was dropped half way, other than as a new query: the connection is closed then.
    ///
    /// # Errors
    /// As [`Lane::get`].
    pub async fn get(&mut self, path: &str, deadline: Duration) -> Result<Answer, Error> {
        let idle = match &mut self.kind {
            Kind::Shared(lane) => return Box::pin(lane.get(path, deadline)).await,
            Kind::Plain(idle) => idle.take(),
        };
        let mut again = true;
        let mut reused = idle;
        loop {
            let token = self.agent.inner.token.current().await?;
            let used = token.as_ref().map(|(_, value)| value.clone());
            let was_reused = reused.is_some();
            match self.once(path, deadline, reused.take(), token).await {
                // The server closed a connection that was idle: ask on a new one.
                Err(Error::Cut(_)) if was_reused => {}
                Err(error) if again && error.is_refusal() && self.agent.inner.token.reread(used.as_ref()).await => {
                    again = false
                }
                other => return other,
            }
        }
    }

    async fn once(
        &mut self,
        path: &str,
        deadline: Duration,
        idle: Option<Idle>,
        token: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Answer, Error> {
        let mut idle = match idle {
            Some(idle) => idle,
            None => self.connect().await?,
        };
        let head = self.head(path, token);
        let sent = timeout(self.agent.inner.timing.connect, idle.stream.write_all(&head)).await;
        sent.map_err(|_| Error::Cut("the request could not be sent".into()))?.map_err(|e| cut(&e))?;
        drop(head);
        // Here it waits; nothing but the socket and this future is held.
        let first = timeout(deadline, idle.stream.peek(&mut [0])).await.map_err(|_| Error::Deadline(deadline))?;
        if first.map_err(|e| cut(&e))? == 0 {
            return Err(Error::Cut("it was closed without an answer".into()));
        }
        let _busy = self.agent.inner.busy.acquire().await;
        let read = self.agent.inner.timing.waits.read;
        let exchange = Box::pin(receive(idle.stream));
        let (code, headers, body, stream) = timeout(read, exchange).await.map_err(|_| Error::Deadline(read))??;
        if let (Some(stream), Kind::Plain(kept)) = (stream, &mut self.kind) {
            *kept = Some(Idle { stream, counted: idle.counted });
        }
        if code != 200 {
            return Err(Error::status(code, &body));
        }
        check_json(&headers, &body)?;
        Ok(Answer { meta: Meta::read(self.agent.inner.product, &headers), body })
    }

    async fn connect(&self) -> Result<Idle, Error> {
        let inner = &self.agent.inner;
        let _busy = inner.busy.acquire().await;
        let Some((host, port)) = &inner.endpoint.host else { return Err(Error::Connect("no host".into())) };
        let connecting = Box::pin(TcpStream::connect((host.as_str(), *port)));
        let stream = timeout(inner.timing.connect, connecting)
            .await
            .map_err(|_| Error::Connect("it took too long".into()))?
            .map_err(|e| Error::Connect(e.to_string()))?;
        let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(30));
        // Best effort: without it a dead host is only seen at the deadline.
        let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        Ok(Idle { stream, counted: self.agent.count() })
    }

    fn head(&self, path: &str, token: Option<(HeaderName, HeaderValue)>) -> Vec<u8> {
        let endpoint = &self.agent.inner.endpoint;
        let mut head =
            format!("GET {}{path} HTTP/1.1\r\nHost: {}\r\n", endpoint.prefix, endpoint.authority).into_bytes();
        for (name, value) in &lane::headers(&self.agent, token) {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

fn cut(error: &io::Error) -> Error {
    Error::Cut(error.to_string())
}

type Received = (u16, HeaderMap, Vec<u8>, Option<TcpStream>);

/// Reads the answer to a request that was sent already; gives the socket back when it can be
/// used again.
async fn receive(stream: TcpStream) -> Result<Received, Error> {
    let failed = |error: hyper::Error| Error::Cut(causes(&error));
    let io = TokioIo::new(Replay { stream, sent: false, reader: None });
    let (mut sender, mut connection) =
        http1::Builder::new().max_buf_size(64 << 10).handshake::<_, Empty<Bytes>>(io).await.map_err(failed)?;
    let exchange = async move {
        // It goes nowhere; only the method matters for how the answer is read.
        let response = sender.send_request(Request::new(Empty::new())).await.map_err(failed)?;
        let (parts, body) = response.into_parts();
        let framed = parts.headers.contains_key(http::header::CONTENT_LENGTH)
            || parts.headers.contains_key(http::header::TRANSFER_ENCODING);
        let closes =
            parts.headers.get(http::header::CONNECTION).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"close"));
        let length = parts.headers.get(http::header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > MAX_BODY as u64) {
            return Err(Error::TooLarge { limit: MAX_BODY });
        }
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                Error::TooLarge { limit: MAX_BODY }
            } else {
                Error::Cut(causes(error.as_ref()))
            }
        })?;
        let reusable = framed && !closes && parts.version == Version::HTTP_11;
        Ok((parts.status.as_u16(), parts.headers, Vec::from(body.to_bytes()), reusable))
    };
    let mut exchange = std::pin::pin!(exchange);
    let mut ended = false;
    let (code, headers, body, reusable) = std::future::poll_fn(|cx| {
        if !ended && connection.poll_without_shutdown(cx).is_ready() {
            ended = true;
        }
        exchange.as_mut().poll(cx)
    })
    .await?;
    if !reusable {
        return Ok((code, headers, body, None));
    }
    // The sender is gone with the exchange, so the connection ends without closing the socket.
    let clean = ended || std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await.is_ok();
    let parts = connection.into_parts();
    let stream = (clean && parts.read_buf.is_empty()).then(|| parts.io.into_inner().stream);
    Ok((code, headers, body, stream))
}

/// A connection on which the request was sent already: what is written goes nowhere, and nothing
/// is read before it was written, since an answer before the request is an error to hyper.
#[derive(Debug)]
struct Replay {
    stream: TcpStream,
    sent: bool,
    reader: Option<Waker>,
}

impl AsyncRead for Replay {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.sent {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Replay {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.sent = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Product, testing};
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    /// Answers each connection's requests with these, then closes; gives the requests of each.
    async fn server(connections: Vec<Vec<&'static str>>) -> (String, tokio::task::JoinHandle<Vec<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let mut served = Vec::new();
            for answers in connections {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut requests = 0;
                for answer in answers {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        if stream.read(&mut byte).await.unwrap() == 0 {
                            break;
                        }
                        head.push(byte[0]);
                    }
                    assert!(head.starts_with(b"GET /v1/x?index=1 HTTP/1.1\r\nHost: 127.0.0.1:"));
                    requests += 1;
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                served.push(requests);
            }
            served
        });
        (address, served)
    }

    const LENGTH: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Consul-Index: 5\r\nContent-Length: 2\r\n\r\n[]";
    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\nX-Consul-Index: 6\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n2\r\n1]\r\n0\r\n\r\n";

    #[tokio::test]
    async fn one_connection_serves_query_after_query_and_a_closed_one_is_replaced() {
        let until_close = "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\n\r\n[2]";
        let (address, served) = server(vec![vec![LENGTH, CHUNKED, LENGTH], vec![until_close]]).await;
        let agent = testing::agent(Product::Consul, &address);
        let mut parked = agent.parked().unwrap();
        assert_eq!(agent.connections(), 0);
        let mut got = Vec::new();
        for _ in 0..4 {
            let answer = parked.get("/v1/x?index=1", Duration::from_secs(60)).await.unwrap();
            got.push((answer.meta.index.unwrap(), String::from_utf8(answer.body).unwrap()));
        }
        let expected = [(5, "[]"), (6, "[1]"), (5, "[]"), (7, "[2]")];
        assert_eq!(got, expected.map(|(index, body)| (index, body.to_owned())));
        assert_eq!(served.await.unwrap(), [3, 1]);
        assert_eq!(agent.connections(), 0, "the last one was closed by the server");
    }

    #[tokio::test]
    async fn a_connection_is_counted_while_it_is_kept() {
        let (address, _served) = server(vec![vec![LENGTH, LENGTH]]).await;
        let agent = testing::agent(Product::Consul, &address);
        let mut parked = agent.parked().unwrap();
        parked.get("/v1/x?index=1", Duration::from_secs(60)).await.unwrap();
        assert_eq!(agent.connections(), 1);
        drop(parked);
        assert_eq!(agent.connections(), 0);
    }

    #[tokio::test]
    async fn truncated_and_too_large_answers_are_errors() {
        let truncated = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{";
        let large = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n[";
        let (address, _served) = server(vec![vec![truncated], vec![large], vec![""]]).await;
        let mut parked = testing::agent(Product::Consul, &address).parked().unwrap();
        for expected in ["connection ended", "answer is larger than 67108864", "connection ended"] {
            let error = parked.get("/v1/x?index=1", Duration::from_secs(60)).await.unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
