//! Streams that last: answers that are not here whole, switched connections, connections of TCP routers. They are woken
//! when their server, which left the catalog, is to give up what it still has.
//!
//! What always holds: a stream has its place from the first time that it waits, and an answer that is here whole never
//! has one.

use super::worker::Worker;
use crate::upstream::{Pool, Registry};
use slab::Slab;
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long peers may take to end their side when ours has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The streams of a worker that wait.
#[derive(Default)]
pub(super) struct Streams(RefCell<Slab<(Rc<Pool>, Waker)>>);

impl Streams {
    /// Wakes those whose server's time is over.
    fn wake(&self) {
        for (_, (pool, waker)) in self.0.borrow().iter() {
            if pool.state().is_over() {
                waker.wake_by_ref();
            }
        }
    }
}

/// One stream's place.
#[derive(Default)]
pub(super) struct Lasting(Option<(Rc<Worker>, usize)>);

impl Lasting {
    /// Whether the stream is to end; the task is woken when that comes to be so. For a stream that waits.
    pub(super) fn is_over(&mut self, cx: &Context<'_>, worker: &Rc<Worker>, pool: &Rc<Pool>) -> bool {
        // A task has one waker all its life.
        if self.0.is_none() {
            let place = worker.streams.0.borrow_mut().insert((pool.clone(), cx.waker().clone()));
            self.0 = Some((worker.clone(), place));
        }
        pool.state().is_over()
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        if let Some((worker, place)) = &self.0 {
            let left = worker.streams.0.borrow_mut().try_remove(*place);
            // What goes with it may look at the list.
            drop(left);
        }
    }
}

/// Wakes a worker's streams when it is time, for as long as the worker is there.
pub(super) async fn watch(registry: Arc<Registry>, worker: Weak<Worker>) {
    let mut departures = registry.departures();
    drop(registry);
    while departures.changed().await.is_ok() {
        let Some(worker) = worker.upgrade() else { return };
        worker.streams.wake();
    }
}

/// Ends both sides in an orderly way: ours first, then what they still say is heard for a moment, since a kernel that has
/// unread bytes at the end resets the connection.
pub(super) async fn part<A, B>(one: &mut A, other: &mut B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let both = async { tokio::join!(end(one), end(other)) };
    // Who does not end is left.
    let _ = tokio::time::timeout(LAST_WORDS, both).await;
}

async fn end(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let mut heard = [0; 1_024];
    if stream.shutdown().await.is_ok() {
        while matches!(stream.read(&mut heard).await, Ok(1..)) {}
    }
}
