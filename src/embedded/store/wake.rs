//! Who is to be woken by which change: one-shot watches by key, as go-memdb's watch channels are.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Queries that sleep, by what they watch. A watch taken while the state is locked misses no
/// later change, even when it is awaited much later.
#[derive(Debug)]
pub struct Wakes<K> {
    waiting: HashMap<K, Arc<Notify>>,
}

impl<K> Default for Wakes<K> {
    fn default() -> Self {
        Self { waiting: HashMap::new() }
    }
}

impl<K: Eq + Hash> Wakes<K> {
    /// Completes at the next [`Wakes::wake`] whose test holds for the key.
    pub fn watch(&mut self, key: K) -> OwnedNotified {
        self.waiting.entry(key).or_default().clone().notified_owned()
    }

    /// Wakes all watches whose key passes the test, and forgets those nobody holds any more.
    pub fn wake(&mut self, hit: impl Fn(&K) -> bool) {
        self.waiting.retain(|key, notify| {
            let woken = hit(key);
            if woken {
                notify.notify_waiters();
            }
            !woken && Arc::strong_count(notify) > 1
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn wakes_by_key_and_only_once() {
        let mut wakes = Wakes::default();
        let (one, two) = (wakes.watch("one"), wakes.watch("two"));
        wakes.wake(|k| *k == "one");
        assert!(one.now_or_never().is_some());
        assert!(wakes.watch("one").now_or_never().is_none());
        assert!(two.now_or_never().is_none());
    }

    #[test]
    fn forgets_watches_that_were_dropped() {
        let mut wakes = Wakes::default();
        drop(wakes.watch("gone"));
        wakes.wake(|_| false);
        assert!(wakes.waiting.is_empty());
    }
}
