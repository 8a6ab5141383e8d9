//! Switched connections (`Upgrade`, WebSocket): bytes both ways until both sides have ended. A side
//! that ends passes its end on, and the other may go on talking.

use super::pump::{Pump, Sent};
use crate::http::Cause;
use crate::http::h1::Framing;
use crate::proxy::buffers::Buffers;
use crate::proxy::choose::Leased;
use crate::proxy::deadline::Deadline;
use crate::proxy::finish::Finish;
use crate::proxy::lasting::{self, Lasting};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// What comes first on both ways.
pub(in crate::proxy) struct First<'a> {
    /// What the client said already.
    pub(in crate::proxy) early: &'a [u8],
    /// The answer's head, where the client is still to get it.
    pub(in crate::proxy) lead: Vec<u8>,
    /// What the server said behind it.
    pub(in crate::proxy) read: &'a [u8],
}

/// Carries bytes until both sides have ended, nothing has moved for the time that is allowed, or the server left and its
/// time is over. The request counts
/// as in flight until then.
pub(in crate::proxy) async fn run<C>(client: &mut C, mut leased: Leased, finish: &Finish, first: First<'_>)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let worker = finish.client.open.worker.clone();
    let First { early, lead, read } = first;
    let pumps = (
        Pump::new(Vec::new(), Framing::UntilClose, Sent::Plain, early),
        Pump::new(lead, Framing::UntilClose, Sent::Plain, read),
    );
    let (Ok(up), Ok(down)) = pumps else { return };
    let mut up = Way { pump: up, carried: false, ended: false };
    let mut down = Way { pump: down, carried: false, ended: false };
    let idle = worker.settings.tunnel_idle;
    let mut clock = Deadline::default();
    let mut lasting = Lasting::default();
    let is_over = poll_fn(|cx| {
        let server = &mut leased.connection.stream;
        let both = [up.poll(cx, client, server, &worker.buffers), down.poll(cx, server, client, &worker.buffers)];
        finish.request_bytes.set(up.pump.bytes);
        finish.response_bytes.set(down.pump.bytes);
        if both.contains(&Err(())) || (up.ended && down.ended) {
            return Poll::Ready(false);
        }
        if lasting.is_over(cx, &worker, leased.in_flight.pool()) {
            return Poll::Ready(true);
        }
        if !idle.is_zero() && (up.pump.moved || down.pump.moved) {
            (up.pump.moved, down.pump.moved) = (false, false);
            clock.set(Some(Instant::now() + idle));
        }
        ready!(clock.poll(cx));
        Poll::Ready(false)
    })
    .await;
    drop(lasting);
    if is_over {
        finish.because(Cause::DrainLimit);
        Box::pin(lasting::part(client, &mut leased.connection.stream)).await;
    }
    finish.is_answered();
    up.pump.put_back(&worker.buffers);
    down.pump.put_back(&worker.buffers);
}

/// One direction.
struct Way<'a> {
    pump: Pump<'a>,
    /// All that one side said was written to the other.
    carried: bool,
    /// And so was its end.
    ended: bool,
}

impl Way<'_> {
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W, buffers: &Buffers) -> Result<(), ()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if !self.carried {
            match self.pump.poll(cx, from, to, buffers) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => self.carried = true,
                Poll::Ready(Err(_)) => return Err(()),
            }
        }
        if !self.ended {
            match Pin::new(to).poll_shutdown(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.ended = true,
                Poll::Ready(Err(_)) => return Err(()),
            }
        }
        Ok(())
    }
}
