//! Requests at a rate, each on a connection of its own, and what became of them.

use super::super::support::client;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const THREADS: u32 = 10;

/// What became of them.
#[derive(Debug, Default)]
pub struct Outcome {
    pub requests: usize,
    pub refused: usize,
    /// Accepted by the kernel, and closed without an answer.
    pub reset: usize,
    pub other: Vec<String>,
    /// First and last refusal.
    refusals: Option<(Instant, Instant)>,
}

impl Outcome {
    /// How long connections were refused, from the first refusal to the last.
    pub fn refused_for(&self) -> Duration {
        self.refusals.map_or(Duration::ZERO, |(first, last)| last - first)
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.reset += other.reset;
        self.other.extend(other.other);
        self.refusals = match (self.refusals, other.refusals) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }
}

/// The load, until it is ended.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Outcome>>,
}

impl Load {
    /// So many requests a second, which the redirect to HTTPS answers.
    pub fn start(http: SocketAddr, per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let every = Duration::from_secs(1) * THREADS / per_second;
        let thread = |number| {
            let stop = stop.clone();
            std::thread::spawn(move || run(http, every, every * number / THREADS, &stop))
        };
        Self { threads: (0..THREADS).map(thread).collect(), stop }
    }

    pub fn finish(self) -> Outcome {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Outcome::default();
        self.threads.into_iter().for_each(|thread| all.add(thread.join().expect("a thread")));
        all
    }
}

fn run(http: SocketAddr, every: Duration, first: Duration, stop: &AtomicBool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut next = Instant::now() + first;
    while !stop.load(Ordering::SeqCst) {
        // The pace of the load, whatever became of the last request.
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next += every;
        outcome.requests += 1;
        match client::try_get(http, "a.test", "/") {
            Ok(answer) if answer.status == 301 => {}
            Ok(answer) => outcome.other.push(answer.status.to_string()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                let now = Instant::now();
                outcome.refused += 1;
                outcome.refusals = Some((outcome.refusals.map_or(now, |(first, _)| first), now));
            }
            Err(error) if is_reset(error.kind()) => outcome.reset += 1,
            Err(error) => outcome.other.push(error.to_string()),
        }
    }
    outcome
}

fn is_reset(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}
