//! What the tests share: a raw HTTP client, servers that say who they are, and waiting for a thing
//! itself instead of for time to pass.

pub mod binary;
pub mod client;
pub mod ports;
pub mod program;
pub mod proxy;
pub mod serve;
pub mod server;
pub mod stand;
pub mod tls;
pub mod traffic;

use std::time::{Duration, Instant};

/// How long a test waits for something that has to happen; never the thing under test.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again until `probe` gives a value; panics with `what` after [`PATIENCE`].
/// The thing waited for is another process' or thread's state that offers no notification.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "did not happen within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
