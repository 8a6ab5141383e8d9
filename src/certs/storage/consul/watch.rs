//! What lies below a prefix, whenever it changes: one query after another that Consul answers when something has
//! (<https://developer.hashicorp.com/consul/api-docs/features/blocking>).
//!
//! What always holds: an index is taken from whole answers alone; after a failure, and where an index went back, the next
//! question is without one, since a server that was wiped would sleep through every change below the old index; failures are
//! repeated later and later. Each answer is all that there is: Consul has no way to ask what changed.

use super::call::{Ask, Caller, ConsulError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long a question may be left unanswered; each is asked for between a half of it and all. Short, since one that is put between the
/// end of a server and its start without any state is asleep for so long.
const WAIT: Duration = Duration::from_secs(20);
/// Beyond the wait, which the server lengthens by up to 1/16.
const MARGIN: Duration = Duration::from_secs(8);
/// Limit of a question that does not wait.
const READ: Duration = Duration::from_secs(30);
/// Between an answer and the next question, so that changes that follow each other come together.
const GAP: Duration = Duration::from_millis(50);
/// Pauses after failures: doubled from the first to the last.
const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(10);
/// An answer is not read beyond this: some 40,000 certificates.
const LIMIT: usize = 256 << 20;

/// A key and its value.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::certs) struct Row {
    /// As Consul has it.
    pub(in crate::certs) key: String,
    /// Changes with each write.
    #[serde(rename = "ModifyIndex")]
    pub(in crate::certs) modified: u64,
    value: Option<String>,
}

impl Row {
    /// The value; `None` where it cannot be decoded.
    pub(in crate::certs) fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(self.value.as_deref().unwrap_or_default()).ok()
    }
}

/// What a watcher is told.
pub(in crate::certs) enum News {
    /// All that is there, at this index.
    All { index: u64, rows: Vec<Row> },
    /// Consul does not answer, or not as it should.
    Failed(ConsulError),
}

/// Who is told; on a thread that may block.
pub(in crate::certs) type Tell = Box<dyn FnMut(News) + Send>;

/// Asks for all below `prefix` until `stop`.
pub(super) async fn watch(caller: Arc<Caller>, prefix: String, mut tell: Tell, stop: CancellationToken) {
    let (mut next, mut failures): (Option<u64>, u32) = (None, 0);
    loop {
        let asked = Instant::now();
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = ask(&caller, &prefix, next) => answer,
        };
        let news = match answer {
            Ok((index, rows)) => {
                let back = next.is_some_and(|last| index < last);
                next = (!back).then_some(index.max(1));
                failures = 0;
                News::All { index, rows }
            }
            Err(error) => {
                next = None;
                failures = failures.saturating_add(1);
                News::Failed(error)
            }
        };
        let told = Instant::now();
        // Whoever is told writes to the disk.
        let done = tokio::task::spawn_blocking(move || {
            tell(news);
            tell
        });
        tell = match done.await {
            Ok(tell) => tell,
            Err(error) => return tracing::error!("the mirror of Consul's certificates ended by a defect: {error}"),
        };
        let pause = match failures {
            0 if asked.elapsed() >= Duration::from_secs(1) => continue,
            // What is large is asked for less often.
            0 => GAP.max(told.elapsed() * 2),
            n => {
                let step = FIRST.saturating_mul(1 << (n - 1).min(10)).min(LAST);
                step.mul_f64(rand::random_range(0.5..=1.0))
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn ask(caller: &Caller, prefix: &str, index: Option<u64>) -> Result<(u64, Vec<Row>), ConsulError> {
    let (parameters, deadline) = match index {
        None => (String::new(), READ),
        Some(index) => {
            let wait = WAIT.mul_f64(rand::random_range(0.5..=1.0));
            (format!("&index={index}&wait={}ms", wait.as_millis()), wait * 17 / 16 + MARGIN)
        }
    };
    let path = format!("kv/{prefix}?recurse{parameters}");
    let answer = caller.call(Ask { method: Method::GET, path, body: Vec::new(), deadline, limit: LIMIT }).await?;
    match (answer.status, answer.index) {
        // Nothing there is a whole answer, and one of Consul's has an index.
        (StatusCode::NOT_FOUND, Some(index)) => Ok((index, Vec::new())),
        (StatusCode::OK, index) => {
            let rows = serde_json::from_slice(&answer.good()?).map_err(|_| ConsulError::Decode)?;
            Ok((index.ok_or(ConsulError::Decode)?, rows))
        }
        _ => answer.good().and(Err(ConsulError::Decode)),
    }
}
