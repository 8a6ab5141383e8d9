//! *Choose* and *connect*: a connection to one of a service's servers.
//!
//! What always holds: a server that cannot be reached is tried once, then the next one is; all
//! tries together cost no more time than one server's dial time-out and one try. A request has a place at its server from
//! here on, and where none is free it waits for one. A request that a server lost goes to another one at most once.

use super::client::Client;
use super::failure;
use super::finish::Finish;
use super::mirror;
use super::service::{Asking, BoundService, Choosing};
use super::standing::Outlook;
use super::wait::{Queued, Waiting};
use crate::http::h1::Framing;
use crate::http::{Body, Cause, Failure, H2Body, Made, Reason, Retry, Tap, Tapped};
use crate::upstream::{ConnectError, Connection, InFlight, Pool};
use smallvec::SmallVec;
use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use tokio::time::Instant;

/// How often a request waits for servers that refuse: one that takes a connection and refuses the next is not
/// tried for ever.
const ROUNDS: u8 = 8;

/// The choices of one request.
pub(super) struct Choice {
    service: Rc<BoundService>,
    begun: Instant,
    tried: SmallVec<[usize; 4]>,
    /// Services whose answers are not wanted any more.
    left: SmallVec<[Range<usize>; 1]>,
    last: Failure,
    /// Whether copies of the request go to mirrors with the first choice; its body.
    mirrors: bool,
    body: Framing,
    /// What copies the body, while no try has it.
    tap: Cell<Option<Box<Tap>>>,
    /// Every server that was tried refused the connection.
    refused: bool,
    rounds: u8,
    /// A server lost the request, and another one was asked.
    moved: bool,
}

/// The way to a chosen server.
pub(super) enum Chosen {
    /// A connection of its own.
    Http1(Leased),
    /// A stream of a connection that requests share, to be asked for.
    Http2(Taken),
}

/// Why no server was chosen.
enum Unchosen {
    /// All that may be asked are busy.
    Full,
    /// There is none; the answer.
    Made(Made),
}

/// A chosen server, and the request counted there.
pub(super) struct Taken {
    pub(super) at: usize,
    pub(super) in_flight: InFlight,
}

/// A connection to a chosen server, and the request counted there.
pub(super) struct Leased {
    pub(super) at: usize,
    pub(super) connection: Connection,
    pub(super) in_flight: InFlight,
}

impl Choice {
    pub(super) fn new(service: Rc<BoundService>, finish: &Finish, body: Framing, switches: bool) -> Self {
        Self {
            service,
            begun: finish.begun().into(),
            tried: SmallVec::new(),
            left: SmallVec::new(),
            last: Cause::NotConnected.into(),
            mirrors: !switches,
            body,
            tap: Cell::new(None),
            refused: true,
            rounds: 0,
            moved: false,
        }
    }

    /// The service whose servers are chosen from; another value after a wait in which the table changed.
    pub(super) fn service(&self) -> &BoundService {
        &self.service
    }

    /// The next server and the way to it. A request that `switches` protocols goes over HTTP/1.1.
    ///
    /// # Errors
    /// The answer when none is left.
    pub(super) async fn next(&mut self, client: &Client, finish: &Finish, switches: bool) -> Result<Chosen, Made> {
        loop {
            let taken = match self.server(client, finish, false) {
                Ok(taken) => taken,
                Err(Unchosen::Full) => match Box::pin(self.queue(client, finish)).await? {
                    Some(taken) => taken,
                    None => continue,
                },
                Err(Unchosen::Made(made)) => {
                    Box::pin(self.wait(client, finish, made)).await?;
                    continue;
                }
            };
            finish.server.set(Some(taken.at));
            if taken.in_flight.pool().http2(switches).is_some() {
                return Ok(Chosen::Http2(taken));
            }
            if let Some(leased) = self.http1(client, finish, taken).await {
                return Ok(Chosen::Http1(leased));
            }
        }
    }

    /// A connection of HTTP/1.1 to a server that was chosen; `None` if it cannot be reached.
    pub(super) async fn http1(&mut self, client: &Client, finish: &Finish, taken: Taken) -> Option<Leased> {
        let Taken { at, in_flight } = taken;
        if let Some(connection) = in_flight.pool().take(self.begun) {
            return Some(Leased { at, connection, in_flight });
        }
        match Box::pin(connect(client, in_flight.pool())).await {
            Ok(connection) => Some(Leased { at, connection, in_flight }),
            Err(error) => {
                self.failed(at, failure::connect(&error));
                finish.again();
                None
            }
        }
    }

    /// A fresh connection to a server that was chosen before, or else the next one.
    ///
    /// # Errors
    /// The answer when none is left.
    pub(super) async fn fresh(
        &mut self,
        client: &Client,
        finish: &Finish,
        at: usize,
        switches: bool,
    ) -> Result<Chosen, Made> {
        finish.again();
        let server = self.service.servers.get(at);
        // Somebody else may have the place by now.
        if let Some((server, in_flight)) = server.and_then(|server| Some((server, server.enter()?))) {
            finish.asks(server);
            match connect(client, &server.pool).await {
                Ok(connection) => return Ok(Chosen::Http1(Leased { at, connection, in_flight })),
                Err(error) => self.failed(at, failure::connect(&error)),
            }
        }
        self.next(client, finish, switches).await
    }

    /// A server took the connection and gave it up before anything could be sent, or could not be reached.
    pub(super) fn failed(&mut self, at: usize, why: Failure) {
        self.tried.push(at);
        self.refused &= why.cause == Cause::Refused;
        self.last = why;
    }

    /// Whether another server is asked in place of the one that lost the request: it was sent, no byte of an answer came, and it may
    /// be said again (RFC 9110, 9.2.2), as nginx does by default (`proxy_next_upstream error`). Once only, so that a request that
    /// kills its server does not kill them all; and never the same server.
    pub(super) fn elsewhere(&mut self, finish: &Finish, made: &Made) -> bool {
        let lost = made.failure.filter(|failure| failure.retry == Retry::Idempotent && !self.moved);
        let Some((at, why)) = finish.server.get().zip(lost) else { return false };
        if !self.has_other(&(at..at + 1)) {
            return false;
        }
        finish.judge(false);
        finish.again();
        self.failed(at, why);
        self.moved = true;
        // What the lost one took is no time spent on knocking.
        self.begun = Instant::now();
        true
    }

    /// What stands beside the body's way, for a try; `None` where the body has no mirrors.
    pub(super) fn tap(&self) -> Option<Box<Tap>> {
        self.tap.take()
    }

    /// A try has ended that may not be the last one.
    pub(super) fn untap(&self, tap: Option<Box<Tap>>) {
        if let Some(mut tap) = tap {
            tap.again();
            self.tap.set(Some(tap));
        }
    }

    /// A body for a try, copied where it has mirrors.
    pub(super) fn tapped(&self, body: Body) -> Body {
        match self.tap() {
            Some(tap) => Body::Tapped(Box::new(Tapped::new(body, tap))),
            None => body,
        }
    }

    /// A body that comes by HTTP/2, back from a try.
    pub(super) fn untapped(&self, body: Body) -> Option<H2Body> {
        match body {
            Body::Http2(body) => Some(body),
            Body::Upload(upload) => self.untapped(upload.into_inner()),
            Body::Tapped(tapped) => {
                let (body, tap) = tapped.into_parts();
                self.untap(Some(tap));
                self.untapped(body)
            }
            Body::Empty | Body::Pipe(_) | Body::Copy(_) => None,
        }
    }

    /// A server's answer is not wanted: the services of `range` are not asked any more.
    pub(super) fn leave(&mut self, range: Range<usize>) {
        self.left.push(range);
    }

    /// Whether there is another server, were those of `range` left.
    pub(super) fn has_other(&self, range: &Range<usize>) -> bool {
        let other = |at: usize| !range.contains(&at) && !self.left.iter().any(|left| left.contains(&at));
        (0..self.service.servers.len()).any(|at| other(at) && !self.tried.contains(&at))
    }

    /// Waits for a server where all have refused the connection, and not for long: see [`super::standing`].
    ///
    /// # Errors
    /// The answer.
    async fn wait(&mut self, client: &Client, finish: &Finish, made: Made) -> Result<(), Made> {
        let worker = &client.open.worker;
        if !self.refused || self.tried.is_empty() || self.rounds == ROUNDS {
            return Err(made);
        }
        self.rounds += 1;
        let mut waiting: Option<Waiting> = None;
        loop {
            let outlook = self.service.outlook(&worker.registry, worker.settings.linger_wait);
            match outlook {
                Outlook::Good => break,
                Outlook::Bad => return Err(made),
                Outlook::Wait { .. } => {}
            }
            match &mut waiting {
                None => waiting = Some(Waiting::enter(worker, self.begun.into_std())?),
                Some(waiting) => waiting.changed(&self.service, outlook).await?,
            }
            self.look_again(client, finish)?;
        }
        self.tried.clear();
        self.refused = true;
        Ok(())
    }

    /// Waits for a place at a server; `None` where it is to be looked for one anew.
    ///
    /// # Errors
    /// The answer.
    async fn queue(&mut self, client: &Client, finish: &Finish) -> Result<Option<Taken>, Made> {
        let mut queued = Queued::enter(&client.open.worker, &self.service)?;
        let mut looks = queued.is_first();
        loop {
            if looks {
                match self.server(client, finish, true) {
                    Ok(taken) => return Ok(Some(taken)),
                    Err(Unchosen::Full) => {}
                    // The last one left; another may come.
                    Err(Unchosen::Made(_)) if self.service.servers.is_empty() => {}
                    Err(Unchosen::Made(made)) => {
                        drop(queued);
                        self.wait(client, finish, made).await?;
                        return Ok(None);
                    }
                }
            }
            queued.changed().await?;
            let before = self.service.clone();
            self.look_again(client, finish)?;
            if !Rc::ptr_eq(&before, &self.service) {
                self.tried.clear();
                queued.move_to(&self.service)?;
            }
            looks = true;
        }
    }

    /// Takes up the table of this moment.
    ///
    /// # Errors
    /// The answer where the router went or became another one: whoever comes again is routed anew.
    fn look_again(&mut self, client: &Client, finish: &Finish) -> Result<(), Made> {
        let worker = &client.open.worker;
        let mut router = finish.router.borrow_mut();
        let Some(old) = &*router else { return Ok(()) };
        let again = worker.routes.borrow_mut().again(&old.router, &worker.registry, &worker.pools);
        let now = again.ok_or_else(|| Made::unavailable(Reason::NoServer))?;
        if !Rc::ptr_eq(&now.service, &self.service) {
            self.service = now.service.clone();
            self.left.clear();
            finish.server.set(None);
            *router = Some(now);
        }
        Ok(())
    }

    /// All servers may be tried again. Gives how many were.
    pub(super) fn forget(&mut self) -> usize {
        let tried = self.tried.len();
        self.tried.clear();
        tried
    }

    /// Another server is to be tried in place of this one, if there is one.
    pub(super) fn another(&mut self, at: usize) {
        self.tried.push(at);
        if self.tried.len() >= self.service.servers.len() {
            self.tried.clear();
        }
    }

    /// A server and a place there; `queued`: the request has waited for it.
    fn server(&mut self, client: &Client, finish: &Finish, queued: bool) -> Result<Taken, Unchosen> {
        let registry = &client.open.worker.registry;
        let exchange = &finish.exchange;
        let asking = Asking {
            client: exchange.peer.ip(),
            headers: &exchange.request.headers,
            tried: &self.tried,
            left: &self.left,
            queued,
        };
        let mut choosing = Choosing::default();
        let (at, server, in_flight) = loop {
            let chosen = self.service.choose(&asking, registry, &mut choosing);
            let server = chosen.and_then(|at| self.service.servers.get(at).map(|server| (at, server)));
            let Some((at, server)) = server else {
                return Err(if choosing.full { Unchosen::Full } else { Unchosen::Made(Made::failed(self.last)) });
            };
            // A place that somebody else took in this moment is not there when it is chosen anew.
            if let Some(in_flight) = server.enter() {
                break (at, server, in_flight);
            }
            choosing = Choosing::default();
        };
        // Servers that do not answer the knock may not cost more than one's time-out together.
        let patience = server.pool.settings().dial_timeout;
        if !self.tried.is_empty() && !patience.is_zero() && self.begun.elapsed() >= patience {
            return Err(Unchosen::Made(Made::failed(self.last)));
        }
        if std::mem::take(&mut self.mirrors) && !choosing.mirrors.is_empty() {
            self.tap.set(mirror::start(finish, &choosing, &self.service.chooser.places, self.body));
        }
        finish.asks(server);
        finish.set_cookies(choosing.cookies);
        Ok(Taken { at, in_flight })
    }
}

async fn connect(client: &Client, pool: &Pool) -> Result<Connection, ConnectError> {
    let result = pool.connect(client.proxied()).await;
    match &result {
        Ok(_) => pool.state().reachable(),
        Err(error) => not_reached(client, pool, error),
    }
    result
}

/// Notes that a server could not be reached, for others who would choose it.
pub(super) fn not_reached(client: &Client, pool: &Pool, error: &ConnectError) {
    if !error.is_ours() {
        let now = client.open.worker.registry.millis(std::time::Instant::now());
        match error {
            ConnectError::Refused => pool.state().refused(now),
            _ => pool.state().unreachable(now),
        }
    }
    tracing::debug!(server = %pool.state().id().url, %error, "server not reached");
}

/// Whether an answer switches to the protocol that was asked for.
pub(super) fn switches(asked: Option<&[u8]>, answered: Option<&[u8]>) -> bool {
    asked.zip(answered).is_some_and(|(asked, answered)| asked.eq_ignore_ascii_case(answered))
}
