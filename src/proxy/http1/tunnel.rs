//! Switched connections (`Upgrade`, WebSocket): bytes both ways until both sides have ended. A side
//! that ends passes its end on, and the other may go on talking.

use super::pump::{Pump, Sent};
use super::{Session, poll_shutdown};
use crate::http::h1::Framing;
use crate::proxy::choose::Leased;
use crate::proxy::finish::Finish;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};

/// Carries bytes until both sides have ended or nothing has moved for the time that is allowed. `lead` is
/// the answer's head, `read` what stood behind it. The request counts as in flight until then.
pub(super) async fn run(session: &mut Session, mut leased: Leased, finish: Finish, lead: Vec<u8>, read: &[u8]) {
    let client = session.client.clone();
    let worker = &client.open.worker;
    let early = std::mem::take(&mut session.pending);
    let pumps = (
        Pump::new(Vec::new(), Framing::UntilClose, Sent::Plain, &early),
        Pump::new(lead, Framing::UntilClose, Sent::Plain, read),
    );
    let (Ok(up), Ok(down)) = pumps else { return };
    let mut up = Way { pump: up, carried: false, ended: false };
    let mut down = Way { pump: down, carried: false, ended: false };
    let idle = worker.settings.tunnel_idle;
    let buffers = &worker.buffers;
    poll_fn(|cx| {
        let server = &mut leased.connection.stream;
        let both =
            [up.poll(cx, &mut session.stream, server, buffers), down.poll(cx, server, &mut session.stream, buffers)];
        finish.request_bytes.set(up.pump.bytes);
        finish.response_bytes.set(down.pump.bytes);
        if both.contains(&Err(())) || (up.ended && down.ended) {
            return Poll::Ready(());
        }
        if idle.is_zero() {
            session.clock.set(None);
        } else if up.pump.moved || down.pump.moved {
            (up.pump.moved, down.pump.moved) = (false, false);
            session.wait_for(idle);
        }
        ready!(session.clock.poll(cx));
        Poll::Ready(())
    })
    .await;
    finish.is_answered();
    up.pump.put_back(buffers);
    down.pump.put_back(buffers);
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
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        buffers: &crate::proxy::buffers::Buffers,
    ) -> Result<(), ()>
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
            match poll_shutdown(to, cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.ended = true,
                Poll::Ready(Err(_)) => return Err(()),
            }
        }
        Ok(())
    }
}
