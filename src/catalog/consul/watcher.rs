//! One blocked `/v1/health/service/:name`, repeated until it fails.

use super::decode;
use super::reader::Paths;
use crate::catalog::Instance;
use crate::catalog::http::{Error, Meta, Parked};
use crate::catalog::poll::{Bucket, Early, Poll, Step, Waits};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// What a watcher tells.
#[derive(Debug)]
pub struct Told {
    /// Of which name.
    pub name: Arc<str>,
    /// Its instances, or why the watcher ended.
    pub what: Result<(Vec<Instance>, Meta), Error>,
    /// How long the last query waited.
    pub lasted: Duration,
}

/// Starts a watcher that goes on from the index of a read of the same name, and from whether that was empty.
pub fn start(
    parked: Parked,
    name: Arc<str>,
    (index, empty): (u64, bool),
    paths: Paths,
    stale: bool,
    waits: Waits,
    sender: mpsc::Sender<Told>,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut watcher = Watcher {
            parked,
            poll: Poll::from_index(index),
            rng: SmallRng::from_rng(&mut rand::rng()),
            // A flapping check must not turn into a busy loop.
            rate: Bucket::new(4, Duration::from_millis(50)),
            early: Early::default(),
            pause: Duration::ZERO,
            empty,
            asked: Instant::now(),
        };
        loop {
            let what = watcher.next(&paths, &name, stale, &waits).await;
            let ended = what.is_err();
            // The watch may have turned away meanwhile.
            let told = Told { name: name.clone(), what, lasted: watcher.asked.elapsed() };
            if sender.send(told).await.is_err() || ended {
                return;
            }
        }
    }))
}

struct Watcher {
    parked: Parked,
    poll: Poll,
    rng: SmallRng,
    rate: Bucket,
    early: Early,
    pause: Duration,
    empty: bool,
    asked: Instant,
}

impl Watcher {
    /// Waits for the next change.
    async fn next(
        &mut self,
        paths: &Paths,
        name: &str,
        stale: bool,
        waits: &Waits,
    ) -> Result<(Vec<Instance>, Meta), Error> {
        loop {
            let now = Instant::now();
            sleep_until(self.rate.take(now).max(now + self.pause)).await;
            self.asked = Instant::now();
            let query = self.poll.query(waits, &mut self.rng);
            let mut parameters = query.parameters();
            if stale {
                parameters.push_str(if parameters.is_empty() { "stale" } else { "&stale" });
            }
            let answer = self.parked.get(&paths.service(name, &parameters), query.deadline).await?;
            let instances = decode::service(&answer.body)?;
            let step = self.poll.answered(answer.meta.index);
            self.pause = self.early.pause(step, self.asked.elapsed(), query.wait);
            // Rights that come or go move no index, but turn the answer empty or full.
            if step != Step::Same || instances.is_empty() != self.empty {
                self.empty = instances.is_empty();
                return Ok((instances, answer.meta));
            }
        }
    }
}
