//! Traefik's `retry` (<https://doc.traefik.io/traefik/middlewares/http/retry/>): a request is tried again after a status,
//! or after no server could be reached. What costs nothing and is always safe (the next server in place of one that cannot be
//! reached) is done without it, see [`super::choose`].
//!
//! What always holds: a request is said again only if nothing of it was sent, or by the middleware's word for its method and
//! only with a body that is in memory as a whole; none is buffered for it. Nobody has been answered anything of the try that
//! is given up. All tries of a service together stay within its budget, so that retries do not finish off what is overloaded.

use super::finish::Finish;
use crate::http::{Made, Retry as Repeat};
use crate::table::{Middleware, Ready, ReadyRetry};
use crate::upstream::ServiceState;
use rand::Rng as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The tries of one request.
pub(super) struct Retrying {
    middleware: Arc<Middleware>,
    service: Arc<ServiceState>,
    tries: u32,
    pause: Duration,
}

impl Retrying {
    /// Of a request that passes such a middleware.
    pub(super) fn of(finish: &Finish) -> Option<Self> {
        let bound = finish.router.borrow();
        let bound = bound.as_ref().filter(|bound| bound.router.retries)?;
        let chain = bound.router.chain(&finish.exchange.entry_point);
        let middleware = chain.iter().find(|middleware| matches!(middleware.ready, Ready::Retry(_)))?.clone();
        let service = bound.service.state().clone();
        let retrying = Self { middleware, service, tries: 0, pause: Duration::ZERO };
        let ready = retrying.ready()?;
        let pause = ready.pause;
        let now = finish.client.open.worker.registry.millis(finish.begun());
        retrying.service.budget().request(ready.share, ready.each_second, now);
        Some(Self { pause, ..retrying })
    }

    fn ready(&self) -> Option<&ReadyRetry> {
        match &self.middleware.ready {
            Ready::Retry(ready) => Some(ready),
            _ => None,
        }
    }

    /// Whether to try again after an answer with this status; `body`: bytes of the request's body, if it is in memory as a
    /// whole.
    pub(super) fn after(&mut self, finish: &Finish, status: u16, body: Option<u64>) -> bool {
        let Some(ready) = self.ready() else { return false };
        let method = finish.exchange.request.method.as_str();
        let may = ready.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status))
            && (ready.any_method || !matches!(method, "POST" | "PATCH" | "LOCK"))
            && body.is_some_and(|bytes| bytes <= ready.body);
        self.ended(may, finish)
    }

    /// Whether to try again where no server was left to be tried; `tried`: how many were.
    pub(super) fn after_all(&mut self, finish: &Finish, made: &Made, tried: usize, body: Option<u64>) -> bool {
        let unsent = made.failure.is_some_and(|failure| failure.retry == Repeat::Unsent);
        self.tries += u32::try_from(tried.saturating_sub(1)).unwrap_or(u32::MAX);
        if unsent && self.ready().is_some_and(|ready| ready.unreached) {
            return self.ended(true, finish);
        }
        self.after(finish, made.head.status.as_u16(), body)
    }

    fn ended(&mut self, may: bool, finish: &Finish) -> bool {
        self.tries = self.tries.saturating_add(1);
        let Some(ready) = self.ready() else { return false };
        let in_time = ready.timeout.is_none_or(|timeout| finish.begun().elapsed() < timeout);
        if !may || self.tries >= ready.attempts || !in_time {
            return false;
        }
        let now = finish.client.open.worker.registry.millis(Instant::now());
        let affordable = self.service.budget().take(ready.each_second, now);
        if !affordable {
            tracing::debug!(middleware = %self.middleware.id, "not tried again: the budget is spent");
        }
        affordable
    }

    /// The pause before the next try: longer each time, and never the same for requests that failed together.
    pub(super) async fn pause(&mut self, finish: &Finish) {
        finish.again();
        let Some(growth) = self.ready().map(|ready| ready.growth) else { return };
        if self.pause.is_zero() {
            return;
        }
        let pause = self.pause.mul_f64(rand::rng().random_range(0.5..1.5));
        self.pause = self.pause.mul_f64(growth).min(Duration::from_secs(60));
        tokio::time::sleep(pause).await;
    }
}
