//! One HTTP/2 connection to a server.

use super::body::Attempt;
use super::{ConnectError, H2Settings, Transport};
use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What a server may send of one answer that nobody has taken yet.
const STREAM_WINDOW: u32 = 512 * 1_024;
/// The same for all answers of a connection: as Go's, so large that slow clients, each with a
/// full window of its own, do not stop the answers of others.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// What is buffered of one request's body towards a server.
const SEND_BUFFER: usize = 256 * 1_024;
/// Streams that may end because of what a server does wrong before its connection does.
const MAX_LOCAL_RESETS: usize = 128;
/// What hyper says of the server's limit of streams before its SETTINGS came.
const UNKNOWN: usize = usize::MAX - 1;

/// A connection that requests share.
pub(super) struct Link<B: Body + 'static> {
    sender: SendRequest<Attempt<B>>,
    limit: Box<dyn Fn() -> usize>,
    count: Rc<Count>,
    retired: Cell<bool>,
}

/// Streams of a connection.
struct Count {
    open: Cell<usize>,
    used: Cell<Instant>,
}

/// A stream's place; given back when it is dropped.
pub(super) struct Slot(Rc<Count>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.used.set(Instant::now());
    }
}

impl<B> Link<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    /// Something to send a request with.
    pub(super) fn sender(&self) -> SendRequest<Attempt<B>> {
        self.sender.clone()
    }

    /// A place for one more stream.
    pub(super) fn enter(&self) -> Rc<Slot> {
        self.count.open.set(self.count.open.get() + 1);
        Rc::new(Slot(self.count.clone()))
    }

    /// Whether the server takes one more stream.
    pub(super) fn has_room(&self) -> bool {
        self.count.open.get() < (self.limit)()
    }

    /// Streams that are open.
    pub(super) fn streams(&self) -> usize {
        self.count.open.get()
    }

    /// No more requests on it; those that are on it may end.
    pub(super) fn retire(&self) {
        self.retired.set(true);
    }

    /// Whether it takes no more requests.
    pub(super) fn has_ended(&self) -> bool {
        self.retired.get() || self.sender.is_closed()
    }

    /// Whether it was unused for so long.
    pub(super) fn is_idle(&self, now: Instant, limit: Duration) -> bool {
        !limit.is_zero() && self.streams() == 0 && now.duration_since(self.count.used.get()) >= limit
    }
}

/// Speaks HTTP/2 on a fresh stream until the server's SETTINGS are there.
pub(super) async fn open<B, S>(stream: S, settings: &H2Settings) -> Result<Rc<Link<B>>, ConnectError>
where
    S: Transport,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let came = Rc::new(Notify::new());
    let stream = TokioIo::new(Watched { stream, came: came.clone() });
    let ping = (!settings.read_idle_timeout.is_zero()).then_some(settings.read_idle_timeout);
    let (sender, connection) = Builder::new(OnThisThread)
        .timer(TokioTimer::new())
        .initial_max_send_streams(UNKNOWN)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(settings.max_header_bytes)
        .max_send_buf_size(SEND_BUFFER)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .keep_alive_interval(ping)
        .keep_alive_timeout(settings.ping_timeout)
        .keep_alive_while_idle(true)
        .handshake::<_, Attempt<B>>(stream)
        .await
        .map_err(not_http2)?;
    let connection = Rc::new(RefCell::new(Some(connection)));
    let (driven, ended) = (connection.clone(), came.clone());
    let failure = Rc::new(RefCell::new(None));
    let failed = failure.clone();
    tokio::task::spawn_local(async move {
        let result = poll_fn(|cx| match &mut *driven.borrow_mut() {
            Some(connection) => Pin::new(connection).poll(cx),
            None => Poll::Ready(Ok(())),
        });
        let result = result.await;
        // What it was given and had not begun comes back to who gave it.
        drop(driven.take());
        *failed.borrow_mut() = Some(result.err());
        ended.notify_one();
    });
    // The poll of a request's body borrows the connection, too: the last answer counts then.
    let last = Cell::new(UNKNOWN);
    let limit = move || {
        if let Ok(connection) = connection.try_borrow()
            && let Some(connection) = &*connection
        {
            last.set(connection.current_max_send_streams());
        }
        last.get()
    };
    let settled = async {
        loop {
            if limit() != UNKNOWN {
                return Ok(());
            }
            if let Some(error) = failure.borrow_mut().take() {
                return Err(error.map_or_else(|| ConnectError::NotHttp2("it closed the connection".into()), not_http2));
            }
            came.notified().await;
        }
    };
    if settings.settings_timeout.is_zero() {
        settled.await?;
    } else {
        let limit = settings.settings_timeout;
        tokio::time::timeout(limit, settled).await.map_err(|_| ConnectError::TimedOut(limit))??;
    }
    let count = Rc::new(Count { open: Cell::new(0), used: Cell::new(Instant::now()) });
    Ok(Rc::new(Link { sender, limit: Box::new(limit), count, retired: Cell::new(false) }))
}

fn not_http2(error: hyper::Error) -> ConnectError {
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    ConnectError::NotHttp2(cause.unwrap_or_else(|| error.to_string()))
}

/// Runs hyper's tasks on the worker's thread.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Tells when something came, since hyper does not tell when SETTINGS did.
struct Watched<S> {
    stream: S,
    came: Rc<Notify>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.came.notify_one();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
