//! One event stream from its opening to its end
//! (<https://developer.hashicorp.com/nomad/api-docs/events>).
//!
//! A stream that is allowed and placed says `{}` at once and every 30 s. A refusal decided after
//! the head (no rights, expired token, unknown region) is a 200 without a line, or a stream that
//! falls silent; nothing closes it. So the first line and every other one have a deadline.

use super::decode::{self, Event};
use crate::catalog::Timing;
use crate::catalog::http::{Error, Lane};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// What a stream tells.
#[derive(Debug)]
pub enum Signal {
    /// Allowed and placed: what changes from here on will be told.
    Hello,
    /// Changes of one line.
    Events(Vec<Event>),
    /// Not allowed, or this server has no stream. Another attempt soon is of no use.
    Refused {
        /// What came instead.
        reason: String,
        /// It looks like missing rights.
        rights: bool,
    },
    /// It ended, broke or fell silent.
    Ended(String),
    /// There is no connection to be had.
    Unreached(Error),
}

/// A running stream; ends when dropped.
#[derive(Debug)]
pub struct Stream {
    /// What it tells, in order.
    pub signals: mpsc::Receiver<Signal>,
    _task: AbortOnDropHandle<()>,
}

impl Stream {
    /// Opens a stream.
    pub fn open(lane: Lane, path: String, timing: Timing) -> Self {
        let (sender, signals) = mpsc::channel(64);
        let task = tokio::spawn(async move {
            let last = follow(lane, &path, timing, &sender).await;
            // The watcher may have turned away meanwhile.
            let _ = sender.send(last).await;
        });
        Self { signals, _task: AbortOnDropHandle::new(task) }
    }
}

async fn follow(lane: Lane, path: &str, timing: Timing, sender: &mpsc::Sender<Signal>) -> Signal {
    let mut lines = match lane.lines(path, timing.waits.read).await {
        Ok(lines) => lines,
        Err(error @ Error::Status { code: 400..=428 | 430..=499 | 501, .. }) => {
            return refused(&error);
        }
        Err(error @ Error::Connect(_)) => return Signal::Unreached(error),
        Err(error) => return Signal::Ended(error.to_string()),
    };
    let mut limit = timing.hello;
    let mut greeted = false;
    loop {
        let line = match timeout(limit, lines.next()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return Signal::Ended("event stream ended".into()),
            Ok(Err(error)) => return Signal::Ended(error.to_string()),
            Err(_) if greeted => return Signal::Ended(format!("event stream silent for {limit:?}")),
            Err(_) => {
                let reason = format!("event stream without a line within {limit:?}");
                return Signal::Refused { reason, rights: true };
            }
        };
        let events = match decode::line(&line) {
            Ok(events) => events,
            Err(error @ Error::Status { .. }) if !greeted => return refused(&error),
            Err(error) => return Signal::Ended(error.to_string()),
        };
        if !greeted {
            greeted = true;
            limit = timing.silence;
            if sender.send(Signal::Hello).await.is_err() {
                return Signal::Ended(String::new());
            }
        }
        if !events.is_empty() && sender.send(Signal::Events(events)).await.is_err() {
            return Signal::Ended(String::new());
        }
    }
}

fn refused(error: &Error) -> Signal {
    let rights = !matches!(error, Error::Status { code: 400 | 404 | 405 | 501, .. });
    Signal::Refused { reason: format!("event stream: {error}"), rights }
}
