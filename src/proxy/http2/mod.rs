//! A client's HTTP/2 connection: frames are hyper's, requests go the same way as those of HTTP/1.1.
//!
//! What always holds: the requests of a connection run on its worker's thread; what a client may leave
//! unread, unanswered or unfinished is bounded.

mod answer;
mod exchange;

use super::client::{Client, Listener};
use super::deadline::Deadline;
use super::stream::{ClientStream, Prefixed};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Resets that a client may have pending (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// How often a client is asked whether it is there, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(20);
/// Flow-control windows: what a client may send that nobody has taken yet.
const STREAM_WINDOW: u32 = 256 * 1_024;
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;

/// The requests of a connection that go on.
#[derive(Debug)]
struct Activity {
    running: Cell<u32>,
    /// When the last one ended.
    since: Cell<Instant>,
    /// The connection has had its last one.
    enough: Cell<bool>,
}

/// A request that goes on, counted until it is dropped.
struct Running(Rc<Activity>);

impl Running {
    fn new(activity: &Rc<Activity>) -> Self {
        activity.running.set(activity.running.get() + 1);
        Self(activity.clone())
    }

    /// Two of it, for a request that goes on in two places.
    fn pair(self) -> (Self, Self) {
        (Self::new(&self.0), self)
    }

    /// No further one is to come on this connection.
    fn is_last(&self) {
        self.0.enough.set(true);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        self.0.since.set(Instant::now());
    }
}

/// Serves HTTP/2 until the connection ends.
pub(super) async fn serve(client: Rc<Client>, stream: Prefixed<ClientStream>) {
    let entry = client.open.entry.clone();
    let worker = client.open.worker.clone();
    let activity =
        Rc::new(Activity { running: Cell::new(0), since: Cell::new(Instant::now()), enough: Cell::new(false) });
    let service = {
        let (client, activity) = (client.clone(), activity.clone());
        service_fn(move |request| {
            let answer = exchange::run(client.clone(), Running::new(&activity), request);
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
            .serve_connection(TokioIo::new(Timed::new(stream, entry.write_timeout)), service)
    );
    let mut bell = Listener::new(&worker.bell);
    let mut clock = Deadline::default();
    let mut closing = false;
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            if closing {
                return Poll::Pending;
            }
            if client.is_abusive() {
                tracing::info!(entry_point = %entry.name, peer = %client.peer, "too many requests given up, connection closed");
                return Poll::Ready(Ok(()));
            }
            let idle = entry.idle_timeout;
            if activity.running.get() == 0 && !idle.is_zero() {
                clock.set(Some(activity.since.get() + idle));
            } else if !idle.is_zero() && !clock.is_set() {
                clock.set(Some(Instant::now() + idle));
            }
            let rung = bell.hears(cx);
            if rung && client.requests.get() == 0 {
                clock.at_most(worker.bell.first_by());
            }
            let over = clock.poll(cx).is_ready();
            if over && activity.running.get() > 0 && !rung && !activity.enough.get() {
                clock.set(None);
                continue;
            }
            let ends = over || activity.enough.get() || (rung && client.requests.get() > 0);
            if !ends {
                return Poll::Pending;
            }
            connection.as_mut().graceful_shutdown();
            closing = true;
        }
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(entry_point = %entry.name, peer = %client.peer, %error, "connection ended");
    }
}

/// Runs the tasks of streams on the worker's thread.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// A stream with a time-out for a client that takes nothing.
struct Timed<T> {
    stream: T,
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl<T> Timed<T> {
    fn new(stream: T, limit: Duration) -> Self {
        Self { stream, limit, sleep: None, waits: false }
    }

    fn poll_stuck<V>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<V>>) -> Poll<io::Result<V>> {
        if written.is_ready() || self.limit.is_zero() {
            self.waits = false;
            return written;
        }
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !std::mem::replace(&mut self.waits, true) {
            sleep.as_mut().reset(Instant::now() + limit);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Timed<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.poll_stuck(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.poll_stuck(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.poll_stuck(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
