//! [`Pipe`]: a piece at a time, in order, and nobody sleeps who could go on.

use super::{Body, BodyError, Pipe};
use bytes::Bytes;
use http_body::{Body as _, Frame};
use proptest::prelude::*;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A task: whether it sleeps, and was woken since.
struct Task {
    woken: Arc<Woken>,
    waker: Waker,
    sleeps: bool,
}

impl Task {
    fn new() -> Self {
        let woken = Arc::new(Woken::default());
        Self { waker: woken.clone().into(), woken, sleeps: false }
    }

    /// Polls, if it is awake.
    fn run<T>(&mut self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        if self.sleeps && !self.woken.0.swap(false, Ordering::Relaxed) {
            return None;
        }
        match poll(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(done) => {
                self.sleeps = false;
                Some(done)
            }
            Poll::Pending => {
                self.sleeps = true;
                None
            }
        }
    }
}

type Taken = Option<Result<Frame<Bytes>, BodyError>>;

fn take(body: &mut Body, reader: &mut Task) -> Option<Taken> {
    reader.run(|cx| Pin::new(body).poll_frame(cx))
}

fn frame(text: &[u8]) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(text))
}

proptest! {
    #[test]
    fn what_is_put_in_comes_out_in_order(
        pieces in prop::collection::vec(any::<u8>(), 0..20),
        turns in prop::collection::vec(any::<bool>(), 0..60),
        whole: bool,
    ) {
        let pipe = Rc::new(Pipe::default());
        let mut body = Body::Pipe(pipe.clone());
        let (mut writer, mut reader) = (Task::new(), Task::new());
        let (mut put, mut got, mut ended) = (0, Vec::new(), None);
        // However the two take turns at first, afterwards both go on to the end: unless one sleeps for ever.
        let fair = [true, false].into_iter().cycle().take(4 * pieces.len() + 8);
        for writes in turns.into_iter().chain(fair) {
            if writes {
                match pieces.get(put) {
                    Some(piece) => {
                        if writer.run(|cx| pipe.poll_room(cx)).is_some() {
                            pipe.put(frame(&[*piece]));
                            put += 1;
                        }
                    }
                    None => pipe.end(whole),
                }
            } else if ended.is_none() {
                match take(&mut body, &mut reader) {
                    Some(Some(Ok(frame))) => got.extend_from_slice(frame.data_ref().expect("data")),
                    Some(Some(Err(error))) => {
                        prop_assert!(matches!(error, BodyError::Stopped));
                        ended = Some(false);
                    }
                    Some(None) => ended = Some(true),
                    None => {}
                }
            }
            prop_assert!(put - got.len() <= 1, "a piece at a time");
        }
        prop_assert_eq!(got, pieces);
        prop_assert_eq!(ended, Some(whole));
    }
}

#[test]
fn the_first_end_counts_and_comes_behind_the_last_piece() {
    for whole in [true, false] {
        let pipe = Rc::new(Pipe::default());
        let mut body = Body::Pipe(pipe.clone());
        pipe.put(frame(b"a"));
        pipe.end(whole);
        pipe.end(!whole);
        let mut reader = Task::new();
        assert!(matches!(take(&mut body, &mut reader), Some(Some(Ok(_)))));
        for _ in 0..2 {
            match take(&mut body, &mut reader) {
                Some(None) => assert!(whole),
                Some(Some(Err(BodyError::Stopped))) => assert!(!whole),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_pipe_never_says_how_much_comes() {
    let body = Body::Pipe(Rc::default());
    assert!(!body.is_end_stream() && !body.is_empty());
    assert_eq!(body.size_hint().exact(), None);
    assert!(Body::default().is_end_stream() && Body::default().is_empty());
}
