//! Requests at a constant rate over kept connections, and what became of them.
//!
//! Each connection has its own beat. A request's time counts from its beat where the connection was busy with the one before (the
//! proxy's doing), and from when it was sent where the connection was free: what lies between is the generator's own lateness, which
//! is told apart.

use super::client::{Conn, reason};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(30);
/// One request in so many is a POST.
const POST_EVERY: u64 = 5;

/// The numbers of requests are unique in the process, so that an answer to another's is seen.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// The next request's number.
pub fn number() -> u64 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// What became of requests.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub gets: u64,
    pub posts: u64,
    pub failed_gets: u64,
    pub failed_posts: u64,
    /// Kept connections that the proxy ended.
    pub closed: u64,
    /// Answers from another service, or to another request.
    pub wrong: u64,
    /// How long requests took.
    pub times: Vec<Duration>,
    /// How late the generator was itself.
    pub late: Vec<Duration>,
    /// Why requests failed.
    pub reasons: BTreeMap<String, u64>,
}

impl Tally {
    /// Requests that failed, of any method.
    pub fn failed(&self) -> u64 {
        self.failed_gets + self.failed_posts
    }

    /// The numbers that each report has.
    pub fn json(&mut self) -> serde_json::Value {
        use super::{ms, quantile};
        serde_json::json!({
            "gets": self.gets, "posts": self.posts, "failed_gets": self.failed_gets, "failed_posts": self.failed_posts,
            "closed_connections": self.closed, "wrong_answers": self.wrong,
            "p50_ms": ms(quantile(&mut self.times, 0.5)), "p99_ms": ms(quantile(&mut self.times, 0.99)),
            "max_ms": ms(quantile(&mut self.times, 1.0)),
            "own_lateness_p99_ms": ms(quantile(&mut self.late, 0.99)), "reasons": self.reasons,
        })
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Plan {
    pub web: SocketAddr,
    /// Services to ask, with the prefix of their servers' names: `web` is served by `web`, `web-2`, …
    pub services: Arc<[Arc<str>]>,
    pub connections: usize,
    /// Requests a second over all connections.
    pub rate: f64,
    pub target: &'static str,
}

/// Running load.
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
    tasks: tokio_util::task::TaskTracker,
    on: Handle,
}

impl Load {
    pub fn start(on: &Handle, plan: &Plan) -> Self {
        let (tally, stop) = (Arc::<Mutex<Tally>>::default(), CancellationToken::new());
        let tasks = tokio_util::task::TaskTracker::new();
        for place in 0..plan.connections {
            tasks.spawn_on(connection(plan.clone(), place, tally.clone(), stop.clone()), on);
        }
        tasks.close();
        Self { tally, stop, tasks, on: on.clone() }
    }

    /// What happened since the last time.
    pub fn take(&self) -> Tally {
        std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets what is asked be answered; gives what happened since the last time.
    pub fn finish(self) -> Tally {
        self.stop.cancel();
        self.on.block_on(self.tasks.wait());
        self.take()
    }
}

async fn connection(plan: Plan, place: usize, tally: Arc<Mutex<Tally>>, stop: CancellationToken) {
    let beat = Duration::from_secs_f64(plan.connections as f64 / plan.rate);
    let mut due = Instant::now() + beat.mul_f64(place as f64 / plan.connections as f64);
    let mut kept: Option<Conn> = None;
    loop {
        let free = due > Instant::now();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep_until(due) => {}
        }
        let sent = Instant::now();
        let from = if free { sent } else { due };
        let late = if free { sent - due } else { Duration::ZERO };
        let id = number();
        let service = &plan.services[(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize % plan.services.len()];
        let post = id.is_multiple_of(POST_EVERY);
        let mut closed = kept.as_ref().is_some_and(Conn::is_over);
        if closed {
            kept = None;
        }
        let outcome = timeout(LIMIT, exchange(kept.take(), &plan, service, id, post)).await;
        let took = from.elapsed();
        let mut failure = None;
        match outcome {
            Ok(Ok((head, conn))) => {
                // An answer of the proxy's own carries no names.
                if head.status != 200 {
                    failure = Some(head.status.to_string());
                } else if !is_of(&head.server, service) || head.request != id.to_string() {
                    failure = Some(format!("from {} to {}, asked {service} for {id}", head.server, head.request));
                    lock(&tally).wrong += 1;
                }
                closed |= head.close;
                kept = (!head.close).then_some(conn);
            }
            Ok(Err(error)) => {
                closed = true;
                failure = Some(reason(&error));
            }
            Err(_) => failure = Some("no answer in time".to_owned()),
        }
        {
            let mut tally = lock(&tally);
            let failed = u64::from(failure.is_some());
            if post {
                (tally.posts, tally.failed_posts) = (tally.posts + 1, tally.failed_posts + failed);
            } else {
                (tally.gets, tally.failed_gets) = (tally.gets + 1, tally.failed_gets + failed);
            }
            tally.closed += u64::from(closed);
            tally.times.push(took);
            tally.late.push(late);
            if let Some(failure) = failure {
                *tally.reasons.entry(failure).or_default() += 1;
            }
        }
        due += beat;
        // What a long wait left behind is not made up for.
        let now = Instant::now();
        if now > due + beat {
            due = now;
        }
    }
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a server of this name belongs to the service.
pub fn is_of(server: &str, service: &str) -> bool {
    server.strip_prefix(service).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

async fn exchange(
    kept: Option<Conn>,
    plan: &Plan,
    service: &str,
    id: u64,
    post: bool,
) -> std::io::Result<(super::client::Head, Conn)> {
    let mut conn = match kept {
        Some(conn) => conn,
        None => Conn::open(plan.web).await?,
    };
    let (method, body): (_, &[u8]) = if post { ("POST", b"a body of some bytes") } else { ("GET", b"") };
    let head = conn.ask(method, &format!("{service}.test"), plan.target, id, body).await?;
    Ok((head, conn))
}
