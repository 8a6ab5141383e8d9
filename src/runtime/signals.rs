//! Signals: SIGTERM and SIGINT drain (a second one hurries), SIGHUP re-reads the configuration, SIGUSR1 re-opens log files.

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_tokio::Signals;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// End: drain first, the second time at once.
    Terminate,
    /// Read the configuration again.
    Reload,
    /// Open log files anew.
    ReopenLogs,
    /// Start a new worker process from the binary on disk.
    Upgrade,
}

/// The signals of this process, one stream for all.
pub struct Stream(Signals);

impl Stream {
    /// Registers the handlers; needs a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn open() -> std::io::Result<Self> {
        Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2]).map(Self)
    }

    /// The next request; pending for ever once the stream has ended.
    pub async fn next(&mut self) -> Asked {
        match self.0.next().await {
            Some(SIGTERM | SIGINT) => Asked::Terminate,
            Some(SIGHUP) => Asked::Reload,
            Some(SIGUSR1) => Asked::ReopenLogs,
            Some(_) => Asked::Upgrade,
            None => std::future::pending().await,
        }
    }
}
