//! The *holder*: a small process that keeps its pid and the listening sockets, and lets a worker process do everything
//! else. SIGUSR2 starts a new worker from the binary on disk on the same sockets and lets the old one end what it has; a
//! worker that dies is replaced while connections wait in the sockets' queues.
//!
//! What always holds: the holder reads no configuration, no catalog and nothing that a stranger sends; it has one thread,
//! no runtime and no log of its own (what it has to say goes into the worker's log, or to standard error when there is no
//! worker). It never waits for a worker: a hung one is killed at its deadline, or by whoever sends a third SIGTERM. At most
//! one worker accepts connections for long; at no time is a queue without a process that has it open.

mod back_off;
pub(crate) mod channel;
mod child;
mod deaths;
pub(crate) mod link;

pub use deaths::Deaths;
pub use link::{Link, LinkError};

use crate::listen::Held;
use back_off::BackOff;
use channel::{Why, Word};
use child::{Stage, Worker};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant, SystemTime};

/// The command of the worker process.
pub const COMMAND: &str = "worker";
/// How long a new worker may take to be ready while another one serves: longer than it gives itself.
pub const READY_WITHIN: Duration = Duration::from_secs(70);
/// The wait before a second worker that died in a row is followed by another; doubles, up to 5 s.
pub const PAUSE: Duration = Duration::from_millis(100);
/// How long the worker before may take to put its pen down before the next one counts as alone.
const PEN_DOWN: Duration = Duration::from_secs(5);
/// Exit code of an end that nobody asked for, where the worker gives none.
const FAILED: u8 = 1;

/// What a worker is started as.
#[derive(Debug, Clone)]
pub struct Program {
    /// The binary, by the path that it was started by: what stands there when a worker is started is what runs.
    pub path: PathBuf,
    /// The command line behind the command.
    pub args: Vec<OsString>,
    /// How long a new worker may take to be ready while another one serves; then it is killed.
    pub ready_within: Duration,
    /// The wait before a second worker that died in a row is followed by another; see [`PAUSE`].
    pub pause: Duration,
    /// Where it is told, once, that a worker serves and knows routes.
    pub notify_fd: Option<u32>,
    /// Asked to end, this process does so when the ports are closed, and leaves its worker to its drain.
    pub detach_drain: bool,
}

/// Runs until it is told to end, or gives up. Gives the exit code.
///
/// # Errors
/// The system gives no signal handlers or no process.
pub fn run(program: Program) -> io::Result<u8> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    write.set_nonblocking(true)?;
    let wanted = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD];
    let mut signals = SignalDelivery::with_pipe(read, write, SignalOnly, wanted)?;
    let mut holder = Holder {
        serving: Some(Worker::start(&program, Why::First, &Held::new(), &Deaths::default())?),
        back_off: BackOff::new(program.pause),
        program,
        held: Held::new(),
        next: None,
        leaving: Vec::new(),
        restart: None,
        alone_due: false,
        deaths: Deaths::default(),
        asked_to_end: 0,
        left: false,
        code: 0,
    };
    loop {
        holder.wait(signals.get_read())?;
        for signal in signals.pending() {
            holder.signal(signal);
        }
        holder.hear();
        if let Some(code) = holder.look(Instant::now()) {
            return Ok(code);
        }
    }
}

struct Holder {
    program: Program,
    /// The sockets, by what they were bound for.
    held: Held,
    /// Who accepts connections.
    serving: Option<Worker>,
    /// Who will, once it is ready.
    next: Option<Worker>,
    /// Who did, and ends what it has.
    leaving: Vec<Worker>,
    /// When a worker that died is replaced.
    restart: Option<Instant>,
    back_off: BackOff,
    /// Who serves is still to be told that nobody else writes.
    alone_due: bool,
    /// Workers that died.
    deaths: Deaths,
    /// SIGTERM came so many times.
    asked_to_end: u32,
    /// The worker that served has closed the ports and needs nobody.
    left: bool,
    code: u8,
}

impl Holder {
    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.serving.iter().chain(&self.next).chain(&self.leaving)
    }

    fn workers_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.serving.iter_mut().chain(&mut self.next).chain(&mut self.leaving)
    }

    /// Waits until there is something to do.
    fn wait(&self, signals: &UnixStream) -> io::Result<()> {
        let deadlines = self.workers().filter_map(|worker| worker.deadline).chain(self.restart);
        let timeout = deadlines.min().map(|at| {
            let wait = at.saturating_duration_since(Instant::now());
            // Rounded up, so that it is over when this returns.
            let wait = wait + Duration::from_millis(1);
            Timespec { tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() }
        });
        let heard = self.workers().filter(|worker| !worker.deaf);
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        fds.extend(heard.map(|worker| PollFd::new(worker.channel(), PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn signal(&mut self, signal: i32) {
        match signal {
            SIGTERM | SIGINT => self.end(),
            SIGHUP => self.pass_on(&Word::Reload),
            SIGUSR1 => self.workers().for_each(|worker| worker.say(&Word::ReopenLogs)),
            SIGUSR2 => self.upgrade(),
            _ => {}
        }
    }

    fn pass_on(&self, word: &Word) {
        self.serving.iter().for_each(|worker| worker.say(word));
    }

    /// SIGTERM.
    fn end(&mut self) {
        self.asked_to_end += 1;
        match self.asked_to_end {
            1 => {
                // The worker's are the last ones now: when it closes them, after it has taken what waits, nobody waits in vain.
                self.held.clear();
                self.restart = None;
                self.workers().for_each(|worker| worker.say(&Word::Terminate));
            }
            2 => self.workers().for_each(|worker| worker.say(&Word::Hurry)),
            _ => self.workers_mut().for_each(Worker::kill),
        }
    }

    /// SIGUSR2.
    fn upgrade(&mut self) {
        if self.asked_to_end > 0 {
            return;
        }
        if let Some(next) = &self.next {
            let text = format!("SIGUSR2: a new worker (pid {}) is being started already", next.pid());
            return self.tell(false, &text);
        }
        let Some(serving) = &self.serving else {
            // Nobody serves: the next one is wanted now.
            self.restart = self.restart.map(|_| Instant::now());
            return;
        };
        if serving.stage < Stage::Started {
            return self.tell(false, "SIGUSR2: the worker has not started yet");
        }
        match Worker::start(&self.program, Why::Upgrade, &self.held, &self.deaths) {
            Ok(mut next) => {
                let path = self.program.path.display();
                self.tell(false, &format!("SIGUSR2: new worker (pid {}) from {path}", next.pid()));
                next.deadline = Some(next.born + self.program.ready_within);
                self.next = Some(next);
            }
            Err(error) => {
                let path = self.program.path.display();
                let text = format!("SIGUSR2: no new worker from {path}: {error}; the one that serves goes on");
                self.tell(true, &text);
            }
        }
    }

    /// Takes up what the workers have said.
    fn hear(&mut self) {
        while let Some(word) = self.serving.as_mut().and_then(Worker::hear) {
            self.serving_says(word);
        }
        while let Some(next) = &mut self.next {
            match next.hear() {
                None => break,
                Some(Word::Sockets(key, sockets)) => next.offered.entry(key).or_default().extend(sockets),
                Some(Word::Started) => next.stage = Stage::Started,
                Some(Word::Ready) => self.promote(),
                Some(_) => {}
            }
        }
        let mut retired = Vec::new();
        for worker in &mut self.leaving {
            while let Some(word) = worker.hear() {
                if let Word::Retired = word {
                    worker.stage = Stage::Retired;
                    worker.deadline = None;
                    retired.push(worker.pid());
                }
            }
        }
        for pid in retired {
            self.tell(false, &format!("worker {pid} takes no more connections"));
        }
    }

    fn serving_says(&mut self, word: Word) {
        let Some(worker) = &mut self.serving else { return };
        match word {
            Word::Sockets(key, sockets) if worker.stage < Stage::Started => {
                worker.offered.entry(key).or_default().extend(sockets);
            }
            Word::Sockets(key, sockets) if self.asked_to_end == 0 => {
                self.held.entry(key).or_default().extend(sockets);
            }
            Word::Started => {
                worker.stage = Stage::Started;
                let offered = std::mem::take(&mut worker.offered);
                self.hold(offered);
            }
            Word::Ready => {
                worker.stage = Stage::Ready;
                self.tell_ready();
            }
            Word::Retired => self.left = true,
            _ => {}
        }
    }

    /// Keeps the sockets that a worker uses, and no others.
    fn hold(&mut self, offered: Held) {
        if self.asked_to_end > 0 {
            return;
        }
        self.held.retain(|key, _| offered.contains_key(key));
        for (key, sockets) in offered {
            self.held.entry(key).or_default().extend(sockets);
        }
    }

    /// The new worker serves; the one before leaves.
    fn promote(&mut self) {
        let Some(mut next) = self.next.take() else { return };
        next.stage = Stage::Ready;
        next.deadline = None;
        let offered = std::mem::take(&mut next.offered);
        self.hold(offered);
        let pid = next.pid();
        if let Some(mut old) = self.serving.replace(next) {
            self.tell(false, &format!("worker {pid} serves; worker {} ends what it has", old.pid()));
            old.say(&Word::Retire);
            old.deadline = Some(Instant::now() + PEN_DOWN);
            self.leaving.push(old);
        }
        self.alone_due = true;
        self.tell_ready();
    }

    /// To whoever waits for the first worker that is ready.
    fn tell_ready(&mut self) {
        if let Some(fd) = self.program.notify_fd.take()
            && let Err(error) = super::notify::ready(fd)
        {
            self.tell(true, &format!("file descriptor {fd} takes no notification of readiness: {error}"));
        }
    }

    /// Looks who has ended and what is due. Gives the exit code at the end.
    fn look(&mut self, now: Instant) -> Option<u8> {
        self.leaving.retain_mut(|worker| worker.ended().is_none());
        for worker in &mut self.leaving {
            worker.deadline = worker.deadline.filter(|&at| now < at);
        }
        self.look_at_next(now);
        if let Some(code) = self.look_at_serving(now) {
            return Some(code);
        }
        if self.alone_due && self.leaving.iter().all(|worker| worker.deadline.is_none()) {
            self.alone_due = false;
            self.pass_on(&Word::Alone);
        }
        if self.restart.is_some_and(|at| at <= now) {
            self.restart = None;
            match Worker::start(&self.program, Why::Replace, &self.held, &self.deaths) {
                Ok(worker) => self.serving = Some(worker),
                Err(error) => {
                    self.tell(true, &format!("no worker from {}: {error}", self.program.path.display()));
                    return self.died(now, now, FAILED);
                }
            }
        }
        let left = self.left && self.program.detach_drain && self.next.is_none();
        let over = self.asked_to_end > 0 && (left || self.workers().next().is_none());
        over.then_some(self.code)
    }

    fn look_at_next(&mut self, now: Instant) {
        let Some(next) = &mut self.next else { return };
        let pid = next.pid();
        if let Some(status) = next.ended() {
            self.next = None;
            if self.asked_to_end == 0 {
                let text = format!(
                    "the new worker (pid {pid}) ended before it was ready ({status}); the one that serves goes on"
                );
                self.tell(true, &text);
            }
        } else if next.deadline.is_some_and(|at| at <= now) {
            next.deadline = None;
            next.kill();
            let limit = self.program.ready_within;
            let text = format!("the new worker (pid {pid}) was not ready within {limit:?} and is killed");
            self.tell(true, &text);
        }
    }

    fn look_at_serving(&mut self, now: Instant) -> Option<u8> {
        let status = self.serving.as_mut()?.ended()?;
        // Its last words may say how far it came.
        self.hear();
        let worker = self.serving.take()?;
        let code = code_of(status);
        if self.asked_to_end > 0 {
            self.code = code;
            return None;
        }
        if worker.why == Why::First && worker.stage < Stage::Started {
            return Some(code);
        }
        self.deaths.add(status, SystemTime::now());
        self.tell(
            true,
            &format!("the worker (pid {}) died: {status}; connections wait for the next one", worker.pid()),
        );
        if let Some(mut next) = self.next.take() {
            // Nobody serves better than it.
            next.deadline = None;
            next.say(&Word::Deaths(self.deaths.clone()));
            next.say(&Word::Alone);
            if next.stage >= Stage::Started {
                let offered = std::mem::take(&mut next.offered);
                self.hold(offered);
            }
            self.serving = Some(next);
            return None;
        }
        self.died(worker.born, now, if code == 0 { FAILED } else { code })
    }

    /// Sees to the next worker, or gives up.
    fn died(&mut self, born: Instant, now: Instant, code: u8) -> Option<u8> {
        self.restart = self.back_off.died(born, now);
        match self.restart {
            Some(_) => None,
            None => {
                let deaths = self.back_off.deaths();
                self.tell(true, &format!("{deaths} workers in a row died; ending"));
                self.leaving.iter().for_each(|worker| worker.say(&Word::Hurry));
                Some(code)
            }
        }
    }

    /// Tells people: in the log of the worker that serves, or on standard error.
    fn tell(&self, error: bool, text: &str) {
        let hears = self.serving.as_ref().filter(|worker| worker.stage >= Stage::Started);
        if hears.is_some_and(|worker| worker.is_told(&Word::Log(error, text.to_owned()))) {
            return;
        }
        let kind = if error { "error" } else { "info" };
        // Nobody is left to tell when stderr itself is gone.
        drop(writeln!(io::stderr(), "{kind}: {text}"));
    }
}

/// The exit code of a process, as a shell says it where a signal ended it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}
