//! The worker's end: what it was given by the holder at its start, and what the holder asks of it.

use super::channel::{Channel, Why, Word};
use super::deaths::Deaths;
use crate::listen::Held;
use std::io;
use std::os::fd::AsFd;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Why a worker has no holder.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Somebody else started it.
    #[error("standard input is no link to a holder: `rust-lb serve` starts this")]
    NoHolder(#[source] io::Error),
    /// The holder ended before it said anything.
    #[error("the holder is gone")]
    Gone,
}

/// What a worker process begins with.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    /// Why it was started.
    pub why: Why,
    /// The sockets that there are.
    pub held: Held,
    /// Workers that died before.
    pub deaths: Deaths,
}

impl Link {
    /// Takes the holder's words from standard input until it may start.
    ///
    /// # Errors
    /// There is no holder.
    pub fn of_process() -> Result<Self, LinkError> {
        let fd = io::stdin().as_fd().try_clone_to_owned().map_err(LinkError::NoHolder)?;
        let channel = Channel::of(fd).map_err(LinkError::NoHolder)?;
        let (mut held, mut deaths) = (Held::new(), Deaths::default());
        loop {
            match channel.wait() {
                Ok(Some(Word::Sockets(key, sockets))) => held.entry(key).or_default().extend(sockets),
                Ok(Some(Word::Go(why))) => return Ok(Self { channel, why, held, deaths }),
                Ok(Some(Word::Deaths(told))) => deaths = told,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Err(LinkError::Gone),
            }
        }
    }

    /// Says something to the holder. One that is gone is seen by [`Ear::hear`].
    pub fn say(&self, word: &Word) {
        say(&self.channel, word);
    }

    /// Tells which sockets are used, those that are new with copies of them.
    pub fn offer(&self, fresh: Held) {
        offer(&self.channel, fresh);
    }

    /// Goes over to waiting without a thread; needs a tokio runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen(self) -> io::Result<Ear> {
        // It stays a socket of packets; that it is waited for as another kind of Unix socket makes no difference to waiting.
        let waits = std::os::unix::net::UnixStream::from(self.channel.as_fd().try_clone_to_owned()?);
        waits.set_nonblocking(true)?;
        Ok(Ear { waits: UnixStream::from_std(waits)?, channel: self.channel })
    }
}

/// Hears the holder, and speaks to it.
#[derive(Debug)]
pub struct Ear {
    waits: UnixStream,
    channel: Channel,
}

impl Ear {
    /// The next word; `None` once the holder is gone.
    pub async fn hear(&self) -> Option<Word> {
        loop {
            self.waits.readable().await.ok()?;
            match self.waits.try_io(Interest::READABLE, || self.channel.hear()) {
                Ok(word) => return word,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::error!(%error, "the holder cannot be heard");
                    return None;
                }
            }
        }
    }

    /// Says something to the holder.
    pub fn say(&self, word: &Word) {
        say(&self.channel, word);
    }

    /// Tells which sockets are used besides those told before.
    pub fn offer(&self, fresh: Held) {
        offer(&self.channel, fresh);
    }
}

fn say(channel: &Channel, word: &Word) {
    if let Err(error) = channel.say(word) {
        tracing::warn!(%error, "the holder does not hear");
    }
}

fn offer(channel: &Channel, fresh: Held) {
    for (key, sockets) in fresh {
        say(channel, &Word::Sockets(key, sockets));
    }
}
