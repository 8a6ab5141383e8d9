//! One worker process, as the holder sees it.

use super::Program;
use super::channel::{Channel, Why, Word};
use super::deaths::Deaths;
use crate::listen::Held;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Reads its configuration, binds sockets.
    Starting,
    /// Both went well.
    Started,
    /// Serves.
    Ready,
    /// Has left the sockets to another one.
    Retired,
}

/// A worker process. It is not ended by dropping this.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    channel: Channel,
    /// Its end of the channel is closed: it ends.
    pub(super) deaf: bool,
    pub(super) why: Why,
    pub(super) stage: Stage,
    pub(super) born: Instant,
    /// When what it is waited for has to have happened.
    pub(super) deadline: Option<Instant>,
    /// The sockets that it uses, as far as they are not held yet.
    pub(super) offered: Held,
}

impl Worker {
    /// Starts one with these sockets, and tells it of those that died.
    pub(super) fn start(program: &Program, why: Why, held: &Held, deaths: &Deaths) -> io::Result<Self> {
        let (channel, theirs) = Channel::pair()?;
        let mut command = Command::new(&program.path);
        command.arg(super::COMMAND).args(&program.args).stdin(Stdio::from(theirs));
        // What a terminal sends to its processes is for the holder; it passes it on.
        let child = command.process_group(0).spawn()?;
        // The command holds the other end until here; from now on its end is the worker's.
        drop(command);
        let mut worker = Self {
            child,
            channel,
            deaf: false,
            why,
            stage: Stage::Starting,
            born: Instant::now(),
            deadline: None,
            offered: Held::new(),
        };
        match worker.equip(held, deaths) {
            Ok(()) => Ok(worker),
            // It ended before it heard all of it: that is told by its end.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                Ok(worker)
            }
            Err(error) => {
                worker.kill();
                // Killed: this does not wait for long.
                drop(worker.child.wait());
                Err(error)
            }
        }
    }

    fn equip(&self, held: &Held, deaths: &Deaths) -> io::Result<()> {
        if deaths.count > 0 {
            self.channel.say(&Word::Deaths(deaths.clone()))?;
        }
        for (key, sockets) in held {
            let copies = sockets.iter().map(|socket| socket.try_clone()).collect::<io::Result<_>>()?;
            self.channel.say(&Word::Sockets(key.clone(), copies))?;
        }
        self.channel.say(&Word::Go(self.why))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Says something; one that does not hear is about to end, which is seen elsewhere.
    pub(super) fn say(&self, word: &Word) {
        self.is_told(word);
    }

    /// Says something. Whether it will be heard.
    pub(super) fn is_told(&self, word: &Word) -> bool {
        !self.deaf && self.channel.say(word).is_ok()
    }

    /// What it says next, if anything.
    pub(super) fn hear(&mut self) -> Option<Word> {
        if self.deaf {
            return None;
        }
        match self.channel.hear() {
            Ok(Some(word)) => Some(word),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Ok(None) | Err(_) => {
                self.deaf = true;
                None
            }
        }
    }

    /// Its exit status, once it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        // An error would mean that it is not our child.
        self.child.try_wait().ok().flatten()
    }

    pub(super) fn kill(&mut self) {
        // One that has ended meanwhile is what was wanted.
        drop(self.child.kill());
    }
}
