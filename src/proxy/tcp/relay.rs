//! Bytes both ways until both sides have ended.
//!
//! What always holds: nothing more is read before everything read has been written, so that the slower side sets the
//! pace; a side that ends passes its end on, and the other one may go on for the termination delay; a connection on
//! which nothing moves holds no buffer.

use crate::proxy::accept::Open;
use crate::proxy::buffers::{Buffers, poll_fill};
use crate::proxy::deadline::Deadline;
use crate::proxy::lasting::{self, Lasting};
use crate::proxy::stream::ClientStream;
use crate::upstream::{Connection, Pool};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// Carries bytes; `early` are the client's first ones. `delay` is how long one direction outlives the other, `None`
/// means until it ends by itself.
/// Where the server, whose `pool` it is, left and its time is over, both sides are ended.
pub(super) async fn run(
    open: &Open,
    mut client: ClientStream,
    mut connection: Connection,
    early: Vec<u8>,
    delay: Option<Duration>,
    pool: &Rc<Pool>,
) {
    let worker = &open.worker;
    let (idle, write) = (worker.settings.tunnel_idle, open.entry.write_timeout);
    let mut up = Way::new(early);
    let mut down = Way::new(Vec::new());
    let (mut silence, mut stall, mut last) = (Deadline::default(), Deadline::default(), Deadline::default());
    let mut lasting = Lasting::default();
    let is_over = poll_fn(|cx| {
        let server = &mut connection.stream;
        let over = (
            up.poll(cx, &mut client, server, &worker.buffers).is_ready(),
            down.poll(cx, server, &mut client, &worker.buffers).is_ready(),
        );
        if over == (true, true) {
            return Poll::Ready(false);
        }
        if lasting.is_over(cx, worker, pool) {
            return Poll::Ready(true);
        }
        let now = || Instant::now();
        if (over.0 || over.1)
            && !last.is_set()
            && let Some(delay) = delay
        {
            last.set(Some(now() + delay));
        }
        let moved = (std::mem::take(&mut up.moved), std::mem::take(&mut down.moved));
        if !idle.is_zero() && (moved.0 || moved.1 || !silence.is_set()) {
            silence.set(Some(now() + idle));
        }
        if !write.is_zero() {
            match down.is_stalled() {
                false => stall.set(None),
                true if moved.1 || !stall.is_set() => stall.set(Some(now() + write)),
                true => {}
            }
        }
        for clock in [&mut last, &mut silence, &mut stall] {
            if clock.poll(cx).is_ready() {
                return Poll::Ready(false);
            }
        }
        Poll::Pending
    })
    .await;
    drop(lasting);
    if is_over {
        Box::pin(lasting::part(&mut client, &mut connection.stream)).await;
    }
    up.put_back(&worker.buffers);
    down.put_back(&worker.buffers);
}

/// One direction.
struct Way {
    buffer: Vec<u8>,
    at: usize,
    /// What is kept back must be pushed out.
    unflushed: bool,
    /// The sender has ended, or is gone.
    read: bool,
    /// There is nothing more to do.
    over: bool,
    /// Something has moved since this was last set to false.
    moved: bool,
}

impl Way {
    fn new(early: Vec<u8>) -> Self {
        Self { buffer: early, at: 0, unflushed: false, read: false, over: false, moved: true }
    }

    /// Whether the receiver keeps it waiting.
    fn is_stalled(&self) -> bool {
        self.at < self.buffer.len()
    }

    fn put_back(&mut self, buffers: &Buffers) {
        buffers.give(std::mem::take(&mut self.buffer));
        self.at = 0;
    }

    /// Moves what can be moved. Ready when it is over.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W, buffers: &Buffers) -> Poll<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.over {
            return Poll::Ready(());
        }
        let outcome = ready!(self.carry(cx, from, to, buffers));
        // A receiver that is gone ends this direction; what it said before may still be on its way.
        let _ = outcome;
        self.over = true;
        self.put_back(buffers);
        Poll::Ready(())
    }

    fn carry<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        buffers: &Buffers,
    ) -> Poll<std::io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while let Some(rest @ [_, ..]) = self.buffer.get(self.at..) {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
                if written == 0 {
                    return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
                }
                self.at += written;
                (self.moved, self.unflushed) = (true, true);
            }
            if self.unflushed {
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                self.unflushed = false;
            }
            if self.read {
                return Pin::new(to).poll_shutdown(cx);
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            if buffer.capacity() == 0 {
                buffer = buffers.take();
            }
            buffer.clear();
            self.at = 0;
            match poll_fill(from, cx, &mut buffer, u64::MAX) {
                Poll::Pending => {
                    buffers.give(buffer);
                    return Poll::Pending;
                }
                // One that broke off is passed on as an end: that is all that can be said of it here.
                Poll::Ready(Ok(0) | Err(_)) => {
                    buffers.give(buffer);
                    self.read = true;
                }
                Poll::Ready(Ok(_)) => {
                    self.moved = true;
                    self.buffer = buffer;
                }
            }
        }
    }
}
