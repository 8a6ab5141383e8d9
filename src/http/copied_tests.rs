//! [`Copied`]: every byte in order or a cut, in bounded memory.

use super::copied::MOST_OF_ONE;
use super::{Body, BodyError, Copied, CopyFate, CopyMemory, Tap};
use bytes::Bytes;
use http_body::{Body as _, Frame};
use proptest::prelude::*;
use smallvec::smallvec;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn one(most: Option<u64>) -> (Rc<CopyMemory>, Copied, Box<Tap>, Body) {
    let memory = Rc::new(CopyMemory::default());
    let copied = Copied::new(&memory, most);
    let body = Body::Copy(copied.body());
    (memory, copied.clone(), Tap::new(smallvec![copied]).expect("one copy"), body)
}

fn take(body: &mut Body) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    Pin::new(body).poll_frame(&mut cx())
}

/// What can be taken now, and the end, if it is there.
fn rest(body: &mut Body) -> (Vec<u8>, Option<bool>) {
    let mut all = Vec::new();
    loop {
        match take(body) {
            Poll::Ready(Some(Ok(frame))) => all.extend_from_slice(frame.data_ref().expect("data")),
            Poll::Ready(Some(Err(error))) => {
                assert!(matches!(error, BodyError::Stopped));
                return (all, Some(false));
            }
            Poll::Ready(None) => return (all, Some(true)),
            Poll::Pending => return (all, None),
        }
    }
}

fn is_given_up(copied: &Copied) -> bool {
    copied.poll_given_up(&cx()).is_ready()
}

proptest! {
    #[test]
    fn a_copy_is_equal_and_whole_only_if_the_body_is(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9_000), 0..20),
        turns in prop::collection::vec(any::<bool>(), 0..40),
        whole: bool,
        again in prop::option::of(0..20_usize),
    ) {
        let (memory, copied, mut tap, mut body) = one(None);
        let mut got = Vec::new();
        let mut turns = turns.into_iter();
        for (at, piece) in pieces.iter().enumerate() {
            tap.push(piece);
            if again == Some(at) {
                // Another server is told all of it anew.
                tap.again();
                pieces.iter().take(at + 1).for_each(|piece| tap.push(piece));
            }
            if turns.next() == Some(true) && let Poll::Ready(Some(Ok(frame))) = take(&mut body) {
                got.extend_from_slice(frame.data_ref().expect("data"));
            }
        }
        if whole {
            tap.end();
        }
        drop(tap);
        let (last, ended) = rest(&mut body);
        got.extend_from_slice(&last);
        let all = pieces.concat();
        prop_assert_eq!(ended, Some(whole));
        if whole {
            prop_assert_eq!(&got, &all);
        } else {
            prop_assert!(all.starts_with(&got));
        }
        drop(body);
        prop_assert_eq!(copied.fate(), if whole { CopyFate::Sent } else { CopyFate::Cut });
        prop_assert_eq!(is_given_up(&copied), !whole);
        drop(copied);
        prop_assert_eq!(memory.held(), 0);
    }
}

#[test]
fn a_copy_that_is_not_taken_is_given_up_and_holds_nothing() {
    let (memory, copied, mut tap, mut body) = one(None);
    for _ in 0..MOST_OF_ONE / 1_024 {
        tap.push(&[7; 1_024]);
    }
    assert!(!is_given_up(&copied));
    assert_eq!(memory.held(), MOST_OF_ONE);
    tap.push(&[7]);
    assert!(is_given_up(&copied));
    assert_eq!((memory.held(), copied.fate()), (0, CopyFate::Dropped));
    // An end that comes later makes nothing whole.
    tap.end();
    assert_eq!(rest(&mut body), (Vec::new(), Some(false)));
    assert_eq!(copied.fate(), CopyFate::Dropped);
}

#[test]
fn what_was_taken_makes_room_when_more_is_asked_for() {
    let (memory, copied, mut tap, mut body) = one(None);
    let piece = vec![7; MOST_OF_ONE / 2];
    for _ in 0..20 {
        tap.push(&piece);
        assert_eq!(rest(&mut body), (piece.clone(), None));
    }
    assert_eq!(memory.held(), 0);
    tap.end();
    assert_eq!(rest(&mut body), (Vec::new(), Some(true)));
    assert_eq!(copied.fate(), CopyFate::Sent);
}

#[test]
fn a_copy_is_no_longer_than_its_mirrors_want() {
    for (length, fate) in [(10, CopyFate::Sent), (11, CopyFate::TooLong)] {
        let (_, copied, mut tap, mut body) = one(Some(10));
        tap.push(b"12345");
        tap.push(&b"678901"[..length - 5]);
        tap.end();
        assert_eq!(rest(&mut body).1, Some(fate == CopyFate::Sent));
        assert_eq!(copied.fate(), fate);
    }
}

#[test]
fn all_copies_together_hold_no_more_than_a_worker_has_for_them() {
    let memory = Rc::new(CopyMemory::default());
    let copies: Vec<Copied> = (0..40).map(|_| Copied::new(&memory, None)).collect();
    let mut tap = Tap::new(copies.iter().cloned().collect()).expect("copies");
    tap.push(&vec![7; MOST_OF_ONE]);
    assert_eq!(memory.held(), 32 * MOST_OF_ONE);
    assert_eq!(copies.iter().filter(|copied| is_given_up(copied)).count(), 8);
    drop((tap, copies));
    assert_eq!(memory.held(), 0);
}

#[test]
fn single_bytes_are_put_together() {
    let (_, _, mut tap, mut body) = one(None);
    (0..100_000).for_each(|_| tap.push(b"a"));
    let pieces = std::iter::from_fn(|| matches!(take(&mut body), Poll::Ready(Some(Ok(_)))).then_some(())).count();
    assert!(pieces <= 100_000 / 4_096 + 1, "{pieces}");
}

#[test]
fn others_have_their_turn_and_the_body_goes_on_whatever_they_do() {
    let (_, _, mut tap, mut body) = one(None);
    let piece = vec![7; 256 * 1_024];
    assert!(tap.poll_turn(&mut cx()).is_ready());
    for _ in 0..3 {
        tap.push(&piece);
        assert!(tap.poll_turn(&mut cx()).is_pending());
        assert!(tap.poll_turn(&mut cx()).is_ready());
    }
    tap.push(&piece);
    // Nobody needs a turn where all is taken.
    rest(&mut body);
    assert!(tap.poll_turn(&mut cx()).is_ready());
}

#[test]
fn a_mirror_that_goes_away_costs_nothing_any_more() {
    let (memory, copied, mut tap, body) = one(None);
    tap.push(b"a");
    assert!(copied.poll_left(&cx()).is_pending());
    drop(body);
    assert!(copied.poll_left(&cx()).is_ready());
    tap.push(b"b");
    tap.end();
    assert_eq!((memory.held(), copied.fate()), (0, CopyFate::Dropped));
}
