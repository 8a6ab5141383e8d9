//! What is asked of the process from outside: by signals, or by the holder that started it.
//!
//! SIGTERM and SIGINT drain (a second one hurries), SIGHUP re-reads the configuration, SIGUSR1 re-opens log files. A worker
//! of a holder takes its words for these and passes signals over: a supervisor may signal a whole group, and to hear
//! everything twice would be to hurry.

use super::holder::Deaths;
use super::holder::channel::Word;
use super::holder::link::{Ear, Link};
use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_tokio::Signals;
use tokio::sync::watch;

/// Who the holder's words are from, in the log.
const HOLDER: &str = "rust_lb::runtime::holder";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// End: drain first.
    Terminate,
    /// End at once.
    Hurry,
    /// Read the configuration again.
    Reload,
    /// Open log files anew.
    ReopenLogs,
    /// Start a new worker process from the binary on disk.
    Upgrade,
    /// Another process accepts from the same sockets: end what is under way.
    Retire,
    /// No other process is left that writes to the state directory.
    Alone,
    /// The holder ended, and with it whoever keeps the sockets.
    HolderGone,
}

/// What is asked, one after the other.
pub struct Stream {
    signals: Signals,
    holder: Option<Ear>,
    /// The holder is gone, which was said.
    alone: bool,
    /// Where it is noted which workers died.
    deaths: watch::Sender<Deaths>,
    /// SIGTERM has come.
    asked_to_end: bool,
}

impl Stream {
    /// Registers the handlers; needs a tokio runtime. What the holder tells of workers that died goes to `deaths`.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn open(link: Option<Link>, deaths: watch::Sender<Deaths>) -> std::io::Result<Self> {
        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
        let holder = link.map(Link::listen).transpose()?;
        Ok(Self { signals, holder, alone: false, deaths, asked_to_end: false })
    }

    /// The holder, where there is one.
    pub fn holder(&self) -> Option<&Ear> {
        self.holder.as_ref()
    }

    /// The next request; pending for ever once the stream has ended.
    pub async fn next(&mut self) -> Asked {
        loop {
            let asked = tokio::select! {
                word = hear(self.holder.as_ref().filter(|_| !self.alone)) => self.of_holder(word),
                signal = self.signals.next() => match signal {
                    Some(signal) => self.of_signal(signal),
                    None => return std::future::pending().await,
                },
            };
            if let Some(asked) = asked {
                return asked;
            }
        }
    }

    fn of_signal(&mut self, signal: i32) -> Option<Asked> {
        if self.holder.is_some() && !self.alone {
            tracing::debug!(signal, "signals are for the holder");
            return None;
        }
        Some(match signal {
            SIGTERM | SIGINT if std::mem::replace(&mut self.asked_to_end, true) => Asked::Hurry,
            SIGTERM | SIGINT => Asked::Terminate,
            SIGHUP => Asked::Reload,
            SIGUSR1 => Asked::ReopenLogs,
            _ => Asked::Upgrade,
        })
    }

    fn of_holder(&mut self, word: Option<Word>) -> Option<Asked> {
        Some(match word {
            None => {
                self.alone = true;
                Asked::HolderGone
            }
            Some(Word::Terminate) => Asked::Terminate,
            Some(Word::Hurry) => Asked::Hurry,
            Some(Word::Reload) => Asked::Reload,
            Some(Word::ReopenLogs) => Asked::ReopenLogs,
            Some(Word::Retire) => Asked::Retire,
            Some(Word::Alone) => Asked::Alone,
            Some(Word::Deaths(deaths)) => {
                self.deaths.send_replace(deaths);
                return None;
            }
            Some(Word::Log(true, text)) => {
                tracing::error!(target: HOLDER, "{text}");
                return None;
            }
            Some(Word::Log(false, text)) => {
                tracing::info!(target: HOLDER, "{text}");
                return None;
            }
            Some(_) => return None,
        })
    }
}

async fn hear(holder: Option<&Ear>) -> Option<Word> {
    match holder {
        Some(holder) => holder.hear().await,
        None => std::future::pending().await,
    }
}
