//! Copies of requests to the mirrors of a service, whose answers nobody sees.
//!
//! What always holds: the request itself waits for nothing here. A copy is a task of its own; it takes a place of which
//! a worker has few, and without a free one it is dropped and counted; it ends within its time, whatever the mirror
//! does. Its body is copied piece by piece as it passes ([`crate::http::Tap`]), what cannot be kept up with is given up, and
//! a copy that was given up, or whose request broke off, never ends as if it were whole: its connection is closed.

use super::choose;
use super::client::Client;
use super::finish::Finish;
use super::frames::Frames;
use super::http1::relay::{Answer, Asked, Failed, Incoming};
use super::http1::write;
use super::over_h2;
use super::sender::{Broken, Sender};
use super::service::{Asking, BoundServer, Choosing, Mirror};
use crate::http::h1::Framing;
use crate::http::{Body, Copied, CopyFate, CopyMemory, H2Body, Method, Tap, name};
use crate::upstream::{Connection, H2Error, InFlight, Repeatable, Stream};
use http_body::Body as _;
use smallvec::SmallVec;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Copies on their way at once, of one worker.
const MAX_COPIES: usize = 128;
/// How long a copy may take, its answer included, from the last byte of the request that came.
const TIME: Duration = Duration::from_secs(30);

/// Places for copies.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Cell<usize>,
    memory: Rc<CopyMemory>,
}

/// A place that is taken.
struct Place(Rc<Places>);

impl Places {
    fn take(self: &Rc<Self>) -> Option<Place> {
        let taken = self.taken.get();
        (taken < MAX_COPIES).then(|| {
            self.taken.set(taken + 1);
            Place(self.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
    }
}

/// Sends copies of a request to those of the mirrors whose turn it is. The request's fields are those that a server gets.
/// Gives what is to stand beside the way of the request's body, where that is copied.
pub(super) fn start(
    finish: &Finish,
    choosing: &Choosing<'_>,
    places: &Rc<Places>,
    framing: Framing,
) -> Option<Box<Tap>> {
    let mut bodies = SmallVec::new();
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    for (state, mirrors) in &choosing.mirrors {
        let number = state.mirrors();
        for mirror in mirrors.iter().filter(|mirror| mirror.wants(number)) {
            let with_body = has_body && mirror.with_body;
            let (framing, most) = match (framing, finish.exchange.request.method.clone()) {
                (framing, _) if with_body => (framing, mirror.max_body),
                (_, Method::POST | Method::PUT | Method::PATCH) => (Framing::Length(0), None),
                _ => (Framing::None, None),
            };
            if let (Framing::Length(length), Some(most)) = (framing, most)
                && length > most
            {
                mirror.state.copied(CopyFate::TooLong);
                continue;
            }
            let Some(place) = places.take() else {
                mirror.state.copied(CopyFate::Dropped);
                continue;
            };
            let body = with_body.then(|| Copied::new(&places.memory, most));
            match copy(finish, mirror, place, framing, body.clone()) {
                // What becomes of a body is known later.
                true => bodies.extend(body),
                false => mirror.state.copied(CopyFate::Dropped),
            }
        }
    }
    Tap::new(bodies)
}

/// One copy: its server is chosen and its head written now, the rest is a task's affair. Tells whether there is a server
/// that takes it; where all are busy it waits for none.
fn copy(finish: &Finish, mirror: &Mirror, place: Place, framing: Framing, copied: Option<Copied>) -> bool {
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
    let (base, length) = (server.base.as_deref(), known(framing).filter(|_| copied.is_some()));
    let mut http2 = pool.http2(false).and_then(|_| over_h2::head(finish, pool.scheme(), host, base, length));
    let mut lead = Vec::with_capacity(1_024);
    if headers.contains(&name::EXPECT) {
        // Nobody waits for the mirror's word.
        let mut headers = headers.clone();
        headers.remove(&name::EXPECT);
        write::request_with(&mut lead, exchange, &headers, base, host, framing);
        if let Some(head) = &mut http2 {
            head.headers.remove(::http::header::EXPECT);
        }
    } else {
        write::request(&mut lead, exchange, base, host, framing);
    }
    let asked_head = exchange.request.method == Method::HEAD;
    let body = copied.as_ref().map_or(Body::Empty, |copied| Body::Copy(copied.body()));
    let state = mirror.state.clone();
    if copied.is_none() {
        state.copied(CopyFate::Sent);
    }
    tokio::task::spawn_local(async move {
        let _place = place;
        let sending = async {
            let mut body = Some(body);
            if let Some(head) = http2 {
                body = over_http2(&in_flight, head, body.take().unwrap_or_default(), copied.as_ref()).await;
            }
            if let Some(body) = body {
                over_http1(&client, &in_flight, &lead, body, framing, asked_head).await;
            }
        };
        if !in_time(sending, copied.as_ref()).await {
            tracing::debug!(server = %in_flight.pool().state().id().url, "a mirror did not answer in time");
        }
        if let Some(copied) = copied {
            state.copied(copied.fate());
        }
    });
    true
}

/// Tells whether it came to its end, be it because the body was given up.
async fn in_time(sending: impl Future<Output = ()>, copied: Option<&Copied>) -> bool {
    let mut sending = pin!(sending);
    let mut until = Instant::now() + TIME;
    loop {
        let ended = poll_fn(|cx| match copied.map(|copied| copied.poll_given_up(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(()),
            _ => sending.as_mut().poll(cx),
        });
        if timeout_at(until, ended).await.is_ok() {
            return true;
        }
        match copied.map(|copied| copied.moved() + TIME) {
            Some(later) if later > until => until = later,
            _ => return false,
        }
    }
}

/// A body's length.
fn known(framing: Framing) -> Option<u64> {
    match framing {
        Framing::Length(length) => Some(length),
        _ => None,
    }
}

/// Gives the body back where the server speaks HTTP/1.1 only.
async fn over_http2(
    in_flight: &InFlight,
    head: ::http::request::Parts,
    body: Body,
    copied: Option<&Copied>,
) -> Option<Body> {
    let Some(http2) = in_flight.pool().http2(false) else { return Some(body) };
    if let Err(error) = http2.ready().await {
        tracing::debug!(server = %in_flight.pool().state().id().url, %error, "mirror not reached");
        let chose = |error: &H2Error| matches!(error, H2Error::Connect(error) if matches!(**error, crate::upstream::ConnectError::ChoseHttp1));
        return chose(&error).then_some(body);
    }
    let said = Repeatable::new(body);
    if let Ok((answer, stream)) = http2.send(head, &said).await {
        drop(said);
        let mut body = H2Body::new(answer.into_body());
        while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
        stream.finish();
        if let Some(copied) = copied {
            // An answer may come before the body's end.
            poll_fn(|cx| copied.poll_left(cx)).await;
        }
    }
    None
}

async fn over_http1(
    client: &Client,
    in_flight: &InFlight,
    lead: &[u8],
    body: Body,
    framing: Framing,
    asked_head: bool,
) {
    let pool = in_flight.pool();
    let mut kept = pool.take(Instant::now());
    let mut body = Some(body);
    while let Some(copied) = body.take() {
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
        let mut up = Uploading { sender: Sender::new(lead.to_vec(), copied, framing), sent: false, refused: false };
        match exchange(client, &mut connection, &mut up, asked_head).await {
            // The server had closed it already.
            None if connection.reused() => body = up.sender.into_body(),
            Some(true) => return pool.put(connection, Instant::now()),
            _ => return,
        }
    }
}

/// A copy on its way to a server.
struct Uploading {
    sender: Sender<Body>,
    sent: bool,
    /// The server takes no more of it.
    refused: bool,
}

impl Uploading {
    /// Moves it on; false if the request's body broke off.
    fn poll(&mut self, cx: &mut Context<'_>, server: &mut Stream) -> bool {
        if !self.sent && !self.refused {
            match self.sender.poll(cx, server) {
                Poll::Ready(Ok(())) => self.sent = true,
                Poll::Ready(Err(Broken::Source)) => return false,
                Poll::Ready(Err(Broken::Sink)) => self.refused = true,
                Poll::Pending => {}
            }
        }
        true
    }
}

/// Sends a copy and reads its answer to the end; tells whether the connection can be used again, `None` if nothing came.
async fn exchange(client: &Client, connection: &mut Connection, up: &mut Uploading, asked_head: bool) -> Option<bool> {
    let buffers = &client.open.worker.buffers;
    let server = &mut connection.stream;
    let asked = Asked { head: asked_head, upgrade: false, expects: false, old: true };
    let (mut arriving, mut nowhere) = (Incoming::default(), Vec::new());
    let answer = poll_fn(|cx| {
        if !up.poll(cx, server) {
            return Poll::Ready(Err(Failed::Gone));
        }
        match arriving.poll(cx, server, asked, buffers, &mut nowhere) {
            Ok(Some(answer)) => Poll::Ready(Ok(answer)),
            Ok(None) => Poll::Pending,
            Err(failed) => Poll::Ready(Err(failed)),
        }
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
        if !up.poll(cx, server) {
            return Poll::Ready(false);
        }
        loop {
            while down.next().is_some() {}
            if down.is_read() {
                break;
            }
            if ready!(down.poll_read(cx, server, buffers)).is_err() {
                return Poll::Ready(false);
            }
        }
        // An answer may come before the body's end.
        let over = up.sent || up.refused || !framing.keep_alive;
        if over { Poll::Ready(up.sent) } else { Poll::Pending }
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
