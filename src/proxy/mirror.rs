//! Copies of requests to the mirrors of a service, whose answers nobody sees.
//!
//! What always holds: the request itself waits for nothing here. A copy is a task of its own; it takes a place of which
//! a worker has few, and without a free one it is dropped and counted; it ends within its time, whatever the mirror
//! does. It has no body: a request with one is copied only where its mirror wants none.

use super::choose;
use super::client::Client;
use super::finish::Finish;
use super::frames::Frames;
use super::http1::relay::{Answer, Asked, Failed, Incoming};
use super::http1::write;
use super::over_h2;
use super::service::{Asking, BoundServer, Choosing, Mirror};
use crate::http::h1::Framing;
use crate::http::{Body, H2Body, Method};
use crate::upstream::{Connection, H2Error, InFlight, Repeatable};
use http_body::Body as _;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

/// Copies on their way at once, of one worker.
const MAX_COPIES: usize = 128;
/// How long a copy may take, its answer included.
const TIME: Duration = Duration::from_secs(30);

/// Places for copies.
#[derive(Debug, Default)]
pub(super) struct Places(Cell<usize>);

/// A place that is taken.
struct Place(Rc<Places>);

impl Places {
    fn take(self: &Rc<Self>) -> Option<Place> {
        let taken = self.0.get();
        (taken < MAX_COPIES).then(|| {
            self.0.set(taken + 1);
            Place(self.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
    }
}

/// Sends copies of a request to those of the mirrors whose turn it is. The request's fields are those that a server gets.
pub(super) fn start(finish: &Finish, choosing: &Choosing<'_>, places: &Rc<Places>, has_body: bool) {
    for (state, mirrors) in &choosing.mirrors {
        let number = state.mirrors();
        for mirror in mirrors.iter().filter(|mirror| mirror.wants(number) && (!has_body || !mirror.with_body)) {
            let place = places.take();
            mirror.state.copied(place.is_some_and(|place| copy(finish, mirror, place)));
        }
    }
}

/// One copy: its server is chosen and its head written now, the rest is a task's affair. Tells whether there is a server
/// that takes it; where all are busy it waits for none.
fn copy(finish: &Finish, mirror: &Mirror, place: Place) -> bool {
    let exchange = &finish.exchange;
    let client = finish.client.clone();
    let registry = &client.open.worker.registry;
    let (client_ip, headers) = (exchange.peer.ip(), &exchange.request.headers);
    let asking = Asking { client: client_ip, headers, tried: &[], left: &[], queued: false };
    let chosen = mirror.service.choose(&asking, registry, &mut Choosing::default());
    let chosen = chosen.and_then(|at| mirror.service.servers.get(at));
    let Some((chosen, in_flight)) = chosen.and_then(|server| Some((server, server.enter()?))) else { return false };
    let BoundServer { server, pool, pass_host_header, .. } = chosen;
    let host = exchange.host_for(*pass_host_header, &server.authority);
    let method = exchange.request.method.clone();
    let http2 =
        pool.http2(false).and_then(|_| over_h2::head(finish, pool.scheme(), host, server.base.as_deref(), None));
    let framing = match method {
        Method::POST | Method::PUT | Method::PATCH => Framing::Length(0),
        _ => Framing::None,
    };
    let mut lead = Vec::with_capacity(1_024);
    write::request(&mut lead, exchange, server.base.as_deref(), host, framing);
    tokio::task::spawn_local(async move {
        let _place = place;
        let sending = async {
            if let Some(head) = http2
                && over_http2(&in_flight, head).await
            {
                return;
            }
            over_http1(&client, &in_flight, &lead, method == Method::HEAD).await;
        };
        if tokio::time::timeout(TIME, sending).await.is_err() {
            tracing::debug!(server = %in_flight.pool().state().id().url, "a mirror did not answer in time");
        }
    });
    true
}

/// Tells whether the server speaks HTTP/2.
async fn over_http2(in_flight: &InFlight, head: ::http::request::Parts) -> bool {
    let Some(http2) = in_flight.pool().http2(false) else { return false };
    if let Err(error) = http2.ready().await {
        tracing::debug!(server = %in_flight.pool().state().id().url, %error, "mirror not reached");
        return !matches!(&error, H2Error::Connect(error) if matches!(**error, crate::upstream::ConnectError::ChoseHttp1));
    }
    if let Ok((answer, stream)) = http2.send(head, &Repeatable::new(Body::Empty)).await {
        let mut body = H2Body::new(answer.into_body());
        while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
        stream.finish();
    }
    true
}

async fn over_http1(client: &Client, in_flight: &InFlight, lead: &[u8], asked_head: bool) {
    let pool = in_flight.pool();
    let mut kept = pool.take(Instant::now());
    loop {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => match pool.connect(client.proxied()).await {
                Ok(connection) => {
                    pool.state().reachable();
                    connection
                }
                Err(error) => return choose::not_reached(client, pool, &error),
            },
        };
        match exchange(client, &mut connection, lead, asked_head).await {
            // The server had closed it already.
            None if connection.reused() => {}
            Some(true) => return pool.put(connection, Instant::now()),
            _ => return,
        }
    }
}

/// Sends a copy and reads its answer to the end; tells whether the connection can be used again, `None` if nothing came.
async fn exchange(client: &Client, connection: &mut Connection, lead: &[u8], asked_head: bool) -> Option<bool> {
    let buffers = &client.open.worker.buffers;
    let server = &mut connection.stream;
    if server.write_all(lead).await.is_err() || server.flush().await.is_err() {
        return None;
    }
    let asked = Asked { head: asked_head, upgrade: false, expects: false, old: true };
    let (mut arriving, mut nowhere) = (Incoming::default(), Vec::new());
    let answer = poll_fn(|cx| match arriving.poll(cx, server, asked, buffers, &mut nowhere) {
        Ok(Some(answer)) => Poll::Ready(Ok(answer)),
        Ok(None) => Poll::Pending,
        Err(failed) => Poll::Ready(Err(failed)),
    })
    .await;
    let Answer { framing, headers, length, filled, .. } = match answer {
        Ok(answer) => answer,
        Err(Failed::Silent) => return None,
        Err(_) => return Some(false),
    };
    let bytes = buffers.bytes_of(headers);
    let down = Frames::new(framing.body, bytes.get(length..filled).unwrap_or_default());
    buffers.give(bytes);
    let Ok(mut down) = down else { return Some(false) };
    let whole = poll_fn(|cx| {
        loop {
            while down.next().is_some() {}
            if down.is_read() {
                return Poll::Ready(true);
            }
            if ready!(down.poll_read(cx, server, buffers)).is_err() {
                return Poll::Ready(false);
            }
        }
    })
    .await;
    Some(whole && framing.keep_alive && down.surplus.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_end_and_come_back() {
        let places = Rc::new(Places::default());
        let taken: Vec<Place> = std::iter::from_fn(|| places.take()).collect();
        assert_eq!(taken.len(), MAX_COPIES);
        drop(taken);
        assert!(places.take().is_some());
    }
}
