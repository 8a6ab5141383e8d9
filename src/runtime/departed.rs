//! Looks which servers are in no table any more, so that they do not keep what they have for ever (`rustLb.drain.limit`).

use super::state::State;
use crate::upstream::Registry;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often it looks: a tenth of the limit, within these bounds.
const EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Looks now and then until `end`; never, where there is no limit.
pub(super) fn start(state: &Arc<State>, registry: &Arc<Registry>, limit: Duration, end: CancellationToken) {
    if limit.is_zero() {
        return;
    }
    let (state, registry) = (state.clone(), registry.clone());
    let every = (limit / 10).clamp(EVERY.0, EVERY.1);
    tokio::task::spawn_local(end.run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(every).await;
            let table = state.table.load_full();
            let there: HashSet<_> = table.server_ids().collect();
            registry.look_who_left(Instant::now(), limit, |id| there.contains(id));
        }
    }));
}
