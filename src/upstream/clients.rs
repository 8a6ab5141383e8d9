//! How many connections each client has, where that is limited.
//!
//! What always holds: a client's count is there only while it has a connection. A lock is held for the length of one
//! look-up, once when a connection comes and once when it goes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections by client; shared by all workers.
#[derive(Debug, Default)]
pub struct ClientCounts(Mutex<HashMap<IpAddr, u64>>);

impl ClientCounts {
    /// Counts a connection; `None` where the client has `most` of them already.
    pub fn enter(self: &Arc<Self>, client: IpAddr, most: u64) -> Option<ClientPlace> {
        let mut counts = self.lock();
        let count = counts.get(&client).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        counts.insert(client, count + 1);
        Some(ClientPlace { counts: self.clone(), client })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u64>> {
        // Whoever panicked did so outside of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counted connection; it counts until it is dropped.
#[derive(Debug)]
pub struct ClientPlace {
    counts: Arc<ClientCounts>,
    client: IpAddr,
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.counts.lock().entry(self.client) {
            match *count.get() {
                0 | 1 => drop(count.remove()),
                more => drop(count.insert(more - 1)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_counts_for_itself_and_leaves_nothing_behind() {
        let counts = Arc::new(ClientCounts::default());
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let places = (counts.enter(a, 2), counts.enter(a, 2));
        assert!(places.0.is_some() && places.1.is_some() && counts.enter(a, 2).is_none());
        assert!(counts.enter(b, 1).is_some());
        drop(places.0);
        assert!(counts.enter(a, 2).is_some());
        drop(places.1);
        assert!(counts.lock().is_empty());
        assert!(counts.enter(a, 0).is_none());
    }
}
