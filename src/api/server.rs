//! The sockets of the admin entry point. One request a connection: its clients are few and slow
//! ones must not pile up, so a connection's whole life has one limit.

use super::Admin;
use super::guard::Ends;
use super::rest;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Limit of a request's head in bytes.
const HEAD_LIMIT: usize = 32 * 1024;
/// Limit of a request's header fields.
const HEADERS: usize = 100;
/// Pause after an accept that failed, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes a connection out of the count when it ends, however it does.
struct Open(Arc<Admin>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a listener until `stop`; requests that are being answered then are answered. The runtime
/// stops it last, so that ping says for the whole drain that the process is terminating.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "admin entry point: a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(local) = stream.local_addr() else { continue };
        let open = Open(admin.clone());
        if admin.open.fetch_add(1, Ordering::Relaxed) >= admin.options.limits.connections {
            continue;
        }
        let ends = Ends { local, peer, same_user: false };
        tokio::spawn(async move {
            // The head's timer does not cover the wait for the first byte.
            if matches!(timeout(open.0.options.limits.head, stream.readable()).await, Ok(Ok(()))) {
                connection(stream, ends, open).await;
            }
        });
    }
}

/// Serves a connection of a process of the same user, which somebody else accepted and on which a request has come.
pub async fn serve_peer(stream: UnixStream, admin: Arc<Admin>) {
    let open = Open(admin.clone());
    if admin.open.fetch_add(1, Ordering::Relaxed) < admin.options.limits.connections {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        connection(stream, Ends { local: here, peer: here, same_user: true }, open).await;
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S, ends: Ends, open: Open) {
    let admin = &open.0;
    let limits = &admin.options.limits;
    let service = service_fn(|request| async move {
        Ok::<_, Infallible>(match rest::is_for(&request) {
            true => admin.put_rest(request, ends).await,
            false => admin.answer(request, ends).await,
        })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(limits.exchange, connection).await {
        Ok(Ok(())) => {}
        // Clients' faults; hyper has answered where an answer is possible.
        Ok(Err(error)) => tracing::debug!(%error, peer = %ends.peer, "admin entry point: connection ended"),
        Err(_) => tracing::debug!(peer = %ends.peer, "admin entry point: client too slow"),
    }
}
