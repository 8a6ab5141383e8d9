//! The loop of a blocking query, as both products run it: answer when the index is beyond the one
//! asked from, else sleep until the watch fires or the wait (lengthened by up to a sixteenth) ends.
//!
//! A wake-up that leaves the index where it was goes back to sleep; a wait that ends answers with
//! what was read last. So an index ahead of the server's sleeps through every change.

use super::control::State;
use super::exchange::Wait;
use super::store::Read;
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Why there is nothing to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// There is no leader, and the read needs one.
    NoLeader,
    /// The leader went while the query was asleep.
    Meanwhile,
}

pub(crate) async fn blocking<T>(
    state: &Arc<State>,
    wait: Wait,
    stale: bool,
    draining: &CancellationToken,
    mut read: impl FnMut() -> Read<T>,
) -> Result<(u64, T), Lost> {
    if !state.leader(stale).await {
        return Err(Lost::NoLeader);
    }
    let Read { mut index, mut value, mut changed } = read();
    if wait.index == 0 || index > wait.index {
        return Ok((index, value));
    }
    let _asleep = state.counted(|stats| &mut stats.blocked);
    let end = Instant::now() + lengthened(wait.wait);
    loop {
        tokio::select! {
            () = changed => {}
            () = sleep_until(end) => return Ok((index, value)),
            () = draining.cancelled() => return Ok((index, value)),
            () = state.leader_lost(), if !stale => return Err(Lost::Meanwhile),
        }
        Read { index, value, changed } = read();
        if index > wait.index {
            return Ok((index, value));
        }
    }
}

/// With the random part that keeps many watchers from returning at once.
fn lengthened(wait: Duration) -> Duration {
    wait + (wait / 16).mul_f64(rand::rng().random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengthens_by_up_to_a_sixteenth() {
        let wait = Duration::from_secs(16);
        let lengths: Vec<_> = (0..200).map(|_| lengthened(wait)).collect();
        assert!(lengths.iter().all(|l| (wait..wait + Duration::from_secs(1)).contains(l)));
        let (min, max) = (lengths.iter().min().unwrap(), lengths.iter().max().unwrap());
        assert!(*max - *min > Duration::from_millis(500), "spread over the whole range: {min:?} to {max:?}");
    }
}
