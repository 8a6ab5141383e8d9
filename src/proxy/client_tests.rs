//! [`Bell`]: who listens is woken by it, and nobody else.

use super::client::{Bell, Listener};
use super::scripted::Woken;
use std::task::Context;

#[test]
fn a_bell_wakes_all_that_listen() {
    let bell = Bell::default();
    let (first, first_waker) = Woken::new();
    let (second, second_waker) = Woken::new();
    let (third, third_waker) = Woken::new();
    let mut listeners = [Listener::new(&bell), Listener::new(&bell)];
    // One that has never asked is not waited for; nor is one that went.
    let silent = Listener::new(&bell);
    let mut gone = Listener::new(&bell);
    assert!(!gone.hears(&Context::from_waker(&third_waker)));
    for (listener, waker) in listeners.iter_mut().zip([&first_waker, &second_waker]) {
        for _ in 0..3 {
            assert!(!listener.hears(&Context::from_waker(waker)));
        }
    }
    drop((gone, silent));
    assert!(!bell.has_rung());
    assert!(![&first, &second, &third].iter().any(|woken| woken.take()));

    bell.ring(None);
    assert!(bell.has_rung());
    assert!(first.take() && second.take());
    assert!(!third.take(), "it has left");
    for (listener, waker) in listeners.iter_mut().zip([&first_waker, &second_waker]) {
        assert!(listener.hears(&Context::from_waker(waker)));
    }
    // Who comes later is told at once.
    assert!(Listener::new(&bell).hears(&Context::from_waker(&third_waker)));
}

#[test]
fn a_place_that_was_left_is_somebody_elses() {
    let bell = Bell::default();
    let (old, old_waker) = Woken::new();
    let (new, new_waker) = Woken::new();
    for _ in 0..1_000 {
        assert!(!Listener::new(&bell).hears(&Context::from_waker(&old_waker)));
    }
    let mut listener = Listener::new(&bell);
    assert!(!listener.hears(&Context::from_waker(&new_waker)));
    bell.ring(None);
    assert!(new.take() && !old.take());
}
