//! Switched connections (`Upgrade`, WebSocket): bytes both ways until both sides have ended. A side
//! that ends passes its end on, and the other may go on talking.

use super::finish::{Borrowed, Finish};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// Buffer for each direction.
const BUFFER: usize = 16 * 1_024;

/// Carries bytes until both sides have ended or nothing has moved for `idle` (zero: for ever). The
/// request counts as in flight, and the connection as open, until then.
pub(super) async fn run(
    client: OnUpgrade,
    server: OnUpgrade,
    idle: Duration,
    mut finish: Box<Finish>,
    borrowed: Borrowed,
) {
    let (Ok(client), Ok(server)) = futures_util::join!(client, server) else { return };
    let (client, server) = (TokioIo::new(client), TokioIo::new(server));
    let (client_read, client_write) = tokio::io::split(client);
    let (server_read, server_write) = tokio::io::split(server);
    let (up, down) = (Cell::new(0), Cell::new(0));
    let moved = Cell::new(Instant::now());
    {
        let both = async {
            tokio::try_join!(
                copy(client_read, server_write, &up, &moved),
                copy(server_read, client_write, &down, &moved)
            )
        };
        tokio::select! {
            _ = both => {}
            () = silence(idle, &moved) => {}
        }
    }
    finish.tunnel_bytes = up.get();
    finish.response_bytes = down.get();
    finish.answered = Some(std::time::Instant::now());
    // Used up: it must not go back to the pool.
    drop(borrowed);
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &Cell<u64>,
    moved: &Cell<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        moved.set(Instant::now());
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
        bytes.set(bytes.get() + read as u64);
        moved.set(Instant::now());
    }
}

async fn silence(idle: Duration, moved: &Cell<Instant>) {
    if idle.is_zero() {
        return std::future::pending().await;
    }
    loop {
        let until = moved.get() + idle;
        if Instant::now() >= until {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}
