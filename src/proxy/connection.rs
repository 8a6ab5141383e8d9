//! A client's connection: its clock, the time-outs that the clock drives, and the codec that turns
//! bytes into requests.

use super::accept::Open;
use super::flood::Resets;
use super::handshake::FIRST_REQUEST;
use super::{finish, request};
use crate::http::{HeaderValue, Protocol, Reason, StatusCode};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

/// Room above `max_header_bytes`, as Go's HTTP library leaves it.
const HEAD_SLACK: usize = 4_096;
/// Least buffer of a connection; bounds what a client can make us hold beyond a head.
const LEAST_BUFFER: usize = 64 * 1_024;
/// Header lines of a request, the codec's own limit in HTTP/1.1.
pub(super) const MAX_HEADERS: usize = 100;
/// Resets that a client may have pending (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// How often an HTTP/2 client is asked whether it is there, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(20);
/// Flow-control windows of HTTP/2: what a client may send that nobody has taken yet.
const STREAM_WINDOW: u32 = 256 * 1_024;
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;
/// How long a client has to take the last words.
const LAST_WORDS: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 15\r\nConnection: close\r\n\r\nRequest Timeout";

/// What all requests of one connection share.
pub(super) struct Client {
    pub(super) open: Open,
    pub(super) peer: SocketAddr,
    /// The peer's address as headers write it.
    pub(super) peer_text: Option<HeaderValue>,
    pub(super) tls: bool,
    pub(super) protocol: Protocol,
    pub(super) trusted: bool,
    pub(super) clock: Arc<Clock>,
    /// Requests that the client gave up.
    resets: Resets,
    /// They are too many.
    abused: Notify,
}

impl Client {
    pub(super) fn new(open: Open, peer: SocketAddr, tls: bool, protocol: Protocol) -> Self {
        let clock = Arc::new(Clock::new(open.entry.read_timeout, open.entry.idle_timeout, protocol, tls));
        Self {
            peer,
            peer_text: HeaderValue::try_from(peer.ip().to_string()).ok(),
            tls,
            protocol,
            trusted: open.entry.trust.believes(peer.ip()),
            clock,
            resets: Resets::new(std::time::Instant::now()),
            abused: Notify::new(),
            open,
        }
    }

    /// Counts a request that the client gave up before its answer.
    pub(super) fn given_up(&self) {
        if self.protocol == Protocol::Http2 && self.resets.count(std::time::Instant::now()) {
            self.abused.notify_one();
        }
    }

    /// Resolves when the client should be told to come no more on this connection.
    async fn closing(&self) {
        self.open.worker.draining().await;
        if !self.clock.used.load(Relaxed) {
            tokio::time::sleep(FIRST_REQUEST).await;
        }
    }
}

/// Serves HTTP/1.1 until the connection ends.
pub(super) async fn serve_http1<T>(client: Rc<Client>, stream: T)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let entry = client.open.entry.clone();
    let clock = client.clock.clone();
    let stream = TokioIo::new(Timed::new(stream, clock.clone(), entry.write_timeout));
    let service = {
        let client = client.clone();
        service_fn(move |request| {
            let answer = request::run(client.clone(), request);
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    let limit = entry.max_header_bytes.saturating_add(HEAD_SLACK);
    let mut connection = http1::Builder::new()
        .max_header_size(limit)
        .max_buf_size(limit.max(LEAST_BUFFER))
        .title_case_headers(true)
        .writev(false)
        .serve_connection(stream, service)
        .with_upgrades();
    let ended = tokio::select! {
        biased;
        ended = &mut connection => ended,
        () = client.closing() => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(entry_point = %entry.name, peer = %client.peer, %error, "connection ended");
        if error.is_parse() && !error.is_parse_version_h2() {
            finish::refused(
                &client,
                refusal(&error),
                if error.is_parse_too_large() { Reason::TooLarge } else { Reason::BadRequest },
            );
        }
        if clock.head_was_late()
            && let Some(parts) = connection.into_parts()
        {
            finish::refused(&client, StatusCode::REQUEST_TIMEOUT, Reason::RequestTimeout);
            let mut stream = parts.io.into_inner().stream;
            let _ = tokio::time::timeout(LAST_WORDS, async {
                stream.write_all(REQUEST_TIMEOUT).await?;
                stream.shutdown().await
            })
            .await;
        }
    }
}

/// What the codec answers by itself to a head that it refuses.
fn refusal(error: &hyper::Error) -> StatusCode {
    match error.is_parse_too_large() {
        // It tells the two apart in words alone.
        true if error.to_string().contains("URI") => StatusCode::URI_TOO_LONG,
        true => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        false => StatusCode::BAD_REQUEST,
    }
}

/// Serves HTTP/2 until the connection ends.
pub(super) async fn serve_http2<T>(client: Rc<Client>, stream: T)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let entry = client.open.entry.clone();
    let stream = TokioIo::new(Timed::new(stream, client.clock.clone(), entry.write_timeout));
    let service = {
        let client = client.clone();
        service_fn(move |request| {
            let answer = request::run(client.clone(), request);
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    let mut connection = pin!(
        http2::Builder::new(OnThisThread)
            .timer(TokioTimer::new())
            .max_concurrent_streams(entry.max_concurrent_streams)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_PENDING_RESETS * 8)
            .max_header_list_size(u32::try_from(entry.max_header_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .enable_connect_protocol()
            .serve_connection(stream, service)
    );
    let ended = tokio::select! {
        biased;
        ended = &mut connection => ended,
        () = client.closing() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = client.abused.notified() => {
            tracing::info!(entry_point = %entry.name, peer = %client.peer, "too many requests given up, connection closed");
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(LAST_WORDS, connection).await;
            Ok(())
        }
    };
    if let Err(error) = ended {
        tracing::debug!(entry_point = %entry.name, peer = %client.peer, %error, "connection ended");
    }
}

/// Runs the tasks of HTTP/2 streams on the worker's thread.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Where a connection is between requests, and until when the client must act. Atomic because the
/// codec wants what it owns to be `Send`; only one thread uses it.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    head: Duration,
    idle: Duration,
    // HTTP/2 has frames between requests that are no head's beginning.
    heads_are_bytes: bool,
    active: AtomicU32,
    in_head: AtomicBool,
    // Milliseconds since `started`; 0 means none.
    deadline: AtomicU64,
    late: AtomicBool,
    used: AtomicBool,
    // A request ended before its body did.
    unread: AtomicBool,
}

impl Clock {
    /// A connection whose first byte is there: that of a head, or of a TLS handshake that has ended.
    fn new(head: Duration, idle: Duration, protocol: Protocol, tls: bool) -> Self {
        let clock = Self {
            started: Instant::now(),
            head,
            idle,
            heads_are_bytes: protocol != Protocol::Http2,
            active: AtomicU32::new(0),
            in_head: AtomicBool::new(protocol != Protocol::Http2 && !tls),
            deadline: AtomicU64::new(0),
            late: AtomicBool::new(false),
            used: AtomicBool::new(false),
            unread: AtomicBool::new(false),
        };
        clock.set(if clock.heads_are_bytes { head } else { idle });
        clock
    }

    fn set(&self, from_now: Duration) {
        let deadline = if from_now.is_zero() { 0 } else { (self.started.elapsed() + from_now).as_millis() as u64 };
        self.deadline.store(deadline, Relaxed);
    }

    /// A head is complete.
    pub(super) fn begin(&self) {
        self.active.fetch_add(1, Relaxed);
        self.used.store(true, Relaxed);
        self.in_head.store(false, Relaxed);
        self.unread.store(false, Relaxed);
        self.deadline.store(0, Relaxed);
    }

    /// A request has ended; `unread` if its body has not.
    pub(super) fn end(&self, unread: bool) {
        self.unread.store(unread, Relaxed);
        if self.active.fetch_sub(1, Relaxed) == 1 {
            self.set(self.idle);
        }
    }

    fn bytes_came(&self) {
        if self.heads_are_bytes && self.active.load(Relaxed) == 0 && !self.in_head.swap(true, Relaxed) {
            self.set(self.head);
        }
    }

    fn until(&self) -> Option<Instant> {
        let deadline = self.deadline.load(Relaxed);
        (deadline != 0).then(|| self.started + Duration::from_millis(deadline))
    }

    /// The client is in the middle of something that nobody reads any more.
    fn is_talking(&self) -> bool {
        self.heads_are_bytes && (self.in_head.load(Relaxed) || self.unread.load(Relaxed))
    }

    /// The client began a head and did not end it in time.
    fn head_was_late(&self) -> bool {
        self.late.load(Relaxed) && self.in_head.load(Relaxed)
    }
}

/// A stream that keeps the clock's time-outs when reading and a time-out of its own when writing.
/// When it ends while the client is still talking, what it says is read and thrown away for a
/// moment: a kernel that has unread bytes at the end resets the connection, and the client may lose
/// the answer that it is being given (RFC 9112, 9.6).
struct Timed<T> {
    stream: T,
    clock: Arc<Clock>,
    read: Option<Pin<Box<Sleep>>>,
    write: Option<Pin<Box<Sleep>>>,
    write_timeout: Duration,
    write_waits: bool,
    // Our side is shut; the time until which the client's is listened to.
    lingers: Option<Pin<Box<Sleep>>>,
}

impl<T> Timed<T> {
    fn new(stream: T, clock: Arc<Clock>, write_timeout: Duration) -> Self {
        Self { stream, clock, read: None, write: None, write_timeout, write_waits: false, lingers: None }
    }

    /// Whoever waits for bytes has a timer armed, also while the client need not act: the codec
    /// does not look again by itself when an answer ends and the idle time begins.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let until = self.clock.until();
            if until.is_none() && self.clock.idle.is_zero() {
                return Poll::Pending;
            }
            let look = until.unwrap_or_else(|| Instant::now() + self.clock.idle);
            // A timer that fires too early is moved then, and not with each request.
            let sleep = self.read.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(look)));
            if sleep.deadline() > look {
                sleep.as_mut().reset(look);
            }
            ready!(sleep.as_mut().poll(cx));
            if until.is_some_and(|until| Instant::now() >= until) {
                self.clock.late.store(true, Relaxed);
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            sleep.as_mut().reset(look);
        }
    }

    fn poll_stuck<V>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<V>>) -> Poll<io::Result<V>> {
        if written.is_ready() || self.write_timeout.is_zero() {
            self.write_waits = false;
            return written;
        }
        let timeout = self.write_timeout;
        let sleep = self.write.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        if !std::mem::replace(&mut self.write_waits, true) {
            sleep.as_mut().reset(Instant::now() + timeout);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Timed<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(read) => {
                if buf.filled().len() > before {
                    self.clock.bytes_came();
                }
                Poll::Ready(read)
            }
            Poll::Pending => self.poll_late(cx),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.poll_stuck(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.poll_stuck(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingers.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.clock.is_talking() {
                return Poll::Ready(Ok(()));
            }
        }
        let until = this.lingers.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_WORDS)));
        let mut nowhere = [0; 4_096];
        while until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut nowhere);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
