//! From the start to the end: waits for signals, or for a part that ended by a defect; reads the configuration again; drains.
//!
//! What always holds: nothing here waits for a file system, so that the end can be asked for at any time.

use super::doors::Doors;
use super::holder::channel::{Why, Word};
use super::keep::Pen;
use super::rest::Rest;
use super::signals::{self, Asked};
use super::{Parts, Started, tell, translate};
use crate::api::{self, Readiness};
use crate::config::{self, Input};
use crate::diagnostic::Diagnostic;
use crate::proxy::worker::WorkerHandle;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::task::JoinHandle as Task;
use tokio::time::Instant;

/// How long a worker that takes over waits for every catalog to be read, where it has something to serve by.
const READ: Duration = Duration::from_secs(5);
/// And where nobody serves meanwhile, but what was served last is known.
const SOON: Duration = Duration::from_millis(500);
/// How long a new worker waits for something to serve by, while another one serves. The holder waits longer.
const READY: Duration = Duration::from_secs(60);
/// How often it looks, then.
const LOOK: Duration = Duration::from_millis(50);
/// How long the write that is under way may take at a hand-over; the holder waits longer.
const PEN_DOWN: Duration = Duration::from_secs(4);

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was asked to.
    Asked,
    /// Another one serves on the same sockets.
    Retired,
    /// The sockets are nobody's any more.
    HolderGone,
    /// It could not take over in time.
    NotReady,
    /// A part ended by a defect; its name.
    Defect(&'static str),
}

/// How long it is waited for workers to take no more connections before it is said that they do not.
const STOPPED: Duration = Duration::from_secs(1);

impl Parts {
    /// Waits until there is something to serve by, then takes the sockets over. Why it ends, where it does before.
    pub(super) async fn take_over(
        &self,
        why: Why,
        signals: &mut Option<signals::Stream>,
        started: &mut Started,
        doors: Doors,
    ) -> Option<Ending> {
        let mut all_read = self.state.all_read.subscribe();
        let begun = Instant::now();
        // Whoever serves in the meantime does it better than one that has not read everything.
        let mut alone = why == Why::Replace;
        let mut wait = begun + if alone && self.knows_routes() { SOON } else { READ };
        loop {
            tokio::select! {
                _ = all_read.wait_for(|all| *all) => break,
                () = tokio::time::sleep_until(wait) => {
                    if alone || self.knows_routes() {
                        tracing::warn!("not every catalog has answered; serving without");
                        break;
                    }
                    if begun.elapsed() >= READY {
                        let reasons = self.health().reasons.into_iter().map(|reason| reason.message);
                        tracing::error!("nothing to serve by after {READY:?}: {}", reasons.collect::<Vec<_>>().join("; "));
                        return Some(Ending::NotReady);
                    }
                    wait = Instant::now() + LOOK;
                }
                asked = next(signals) => match asked {
                    Asked::Terminate | Asked::Hurry | Asked::Retire => return Some(Ending::Asked),
                    Asked::HolderGone => return Some(Ending::HolderGone),
                    Asked::ReopenLogs => self.reopen_logs(),
                    Asked::Alone => {
                        alone = true;
                        if self.knows_routes() {
                            wait = wait.min(Instant::now() + SOON);
                        }
                    }
                    Asked::Reload | Asked::Upgrade => {}
                },
                _ = &mut started.control => return Some(Ending::Defect("the control loop")),
                () = any_ended(&started.workers) => return Some(Ending::Defect("a worker")),
            }
        }
        if let Err(error) = self.open(doors, started, alone) {
            tracing::error!("{error}");
            return Some(Ending::NotReady);
        }
        if alone {
            self.is_alone(started);
        }
        None
    }

    /// Waits until a request would be answered by what is known of routes.
    async fn routes_known(&self) {
        while !self.knows_routes() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether a request would be answered by what is known of routes.
    fn knows_routes(&self) -> bool {
        self.health().ready
    }

    /// As if it served.
    fn health(&self) -> api::Health {
        let readiness = Readiness {
            listeners_bound: true,
            last_good_loaded: self.state.restored.load(Relaxed),
            ..Readiness::default()
        };
        api::judge(readiness, &self.state.statuses(), std::time::SystemTime::now())
    }

    /// No other process writes to what both would write to, or answers questions.
    fn is_alone(&self, started: &mut Started) {
        started.pen.iter().for_each(Pen::take_up);
        self.order_certificates(true);
        if let Some(rest) = started.rest.clone() {
            tokio::task::spawn_blocking(move || Rest::look_again(&rest));
        }
        if let Some(admin) = started.closed_admin.take()
            && let Err(error) = self.open_admin(admin, started)
        {
            tracing::error!("{error}");
        }
    }

    /// Waits until the end is asked for, or until a part ended by a defect. `untold`: nobody was told yet that there is
    /// something to serve by; the holder is, or this file descriptor.
    pub(super) async fn serve(
        &self,
        signals: &mut Option<signals::Stream>,
        reload: Option<Input>,
        started: &mut Started,
        mut untold: Option<Option<u32>>,
    ) -> Ending {
        let mut reading = None::<Task<Result<config::Loaded, Vec<Diagnostic>>>>;
        loop {
            let asked = tokio::select! {
                () = self.stop.cancelled() => Asked::Terminate,
                asked = next(signals) => asked,
                read = finished(&mut reading) => {
                    self.reloaded(read);
                    continue;
                }
                () = self.routes_known(), if untold.is_some() => {
                    tell_ready(signals.as_ref(), untold.take().flatten());
                    continue;
                }
                Some(asker) = started.activations.recv() => {
                    let outcome = self.activate(started, signals.as_ref());
                    // Who asked may be gone.
                    drop(asker.send(outcome));
                    continue;
                }
                _ = &mut started.control => return Ending::Defect("the control loop"),
                () = any_ended(&started.workers) => return Ending::Defect("a worker"),
            };
            match asked {
                Asked::Terminate | Asked::Hurry => return Ending::Asked,
                Asked::Retire => return Ending::Retired,
                Asked::HolderGone => return Ending::HolderGone,
                Asked::Alone => self.is_alone(started),
                Asked::Reload if reading.is_some() => tracing::warn!("the configuration is being read already"),
                Asked::Reload => {
                    self.certificates.rescan(Duration::ZERO);
                    // A file system that hangs keeps nobody but this task.
                    let input = reload.clone();
                    reading = input.map(|input| tokio::task::spawn_blocking(move || config::load(&input)));
                }
                Asked::ReopenLogs => self.reopen_logs(),
                Asked::Upgrade => {
                    tracing::warn!("SIGUSR2: a single process hands its sockets to nobody; restart instead");
                }
            }
        }
    }

    /// SIGHUP, once the configuration was read: certificates are looked at again; what else differs needs a restart, and is
    /// named.
    fn reloaded(&self, read: Result<config::Loaded, Vec<Diagnostic>>) {
        match read {
            Ok(loaded) => {
                loaded.diagnostics.iter().for_each(tell);
                let differing = translate::differences(&self.settled, &loaded.settled);
                if differing.is_empty() {
                    tracing::info!("configuration read again: unchanged");
                } else {
                    tracing::warn!("configuration read again: a restart is needed for {}", differing.join(", "));
                }
            }
            Err(problems) => {
                problems.iter().for_each(tell);
                tracing::error!("configuration read again and refused; what runs stays as it is");
            }
        }
    }

    /// SIGUSR1.
    fn reopen_logs(&self) {
        if let Some(access) = &self.access {
            access.reopen();
        }
        let Some(log) = self.log.clone() else { return };
        tokio::task::spawn_blocking(move || {
            if let Err(e) = log.reopen() {
                tracing::error!("the log file cannot be opened again: {e}");
            }
        });
    }

    /// Answers no more questions, writes no more to what the next process writes to, and says so once nothing is accepted.
    async fn leave(&self, started: &Started, signals: Option<&signals::Stream>) {
        started.admin_stop.cancel();
        let pen = started.pen.clone();
        let put_down = tokio::task::spawn_blocking(move || pen.iter().for_each(|pen| pen.put_down(PEN_DOWN)));
        // A defect there would end in nothing being written either.
        drop(put_down.await);
        let stopped = async {
            for worker in &started.workers {
                worker.stopped_accepting().await;
            }
        };
        // One that is stuck keeps nobody.
        drop(tokio::time::timeout(STOPPED, stopped).await);
        signals.and_then(signals::Stream::holder).into_iter().for_each(|holder| holder.say(&Word::Retired));
    }

    /// Lets everything that is in flight end, within the limits; who asks again hurries.
    /// With `detach` the holder is let go as soon as the ports are closed, and what the next process needs is free.
    pub(super) async fn drain(
        &self,
        ending: Ending,
        detach: bool,
        started: &Started,
        signals: &mut Option<signals::Stream>,
    ) {
        // Whoever still asks one that has retired asks about the sockets, which are served.
        self.state.terminating.store(ending != Ending::Retired, Relaxed);
        let lifecycle = &self.settled.lifecycle;
        let workers = &started.workers;
        tracing::info!(grace = ?lifecycle.grace, "draining");
        self.order_certificates(false);
        if ending == Ending::Retired {
            workers.iter().for_each(|worker| worker.retire(lifecycle.grace));
            self.leave(started, signals.as_ref()).await;
        }
        if ending == Ending::Asked && detach {
            if !lifecycle.request_accept_grace.is_zero() {
                workers.iter().for_each(|worker| worker.announce(lifecycle.request_accept_grace));
                tokio::time::sleep(lifecycle.request_accept_grace).await;
            }
            workers.iter().for_each(|worker| worker.drain(lifecycle.grace));
            self.leave(started, signals.as_ref()).await;
        }
        let ended = async {
            match ending {
                Ending::Asked if detach => {}
                Ending::Asked if !lifecycle.request_accept_grace.is_zero() => {
                    workers.iter().for_each(|worker| worker.announce(lifecycle.request_accept_grace));
                    tokio::time::sleep(lifecycle.request_accept_grace).await;
                    workers.iter().for_each(|worker| worker.drain(lifecycle.grace));
                }
                Ending::Retired => {}
                _ => workers.iter().for_each(|worker| worker.drain(lifecycle.grace)),
            }
            for worker in workers {
                worker.ended().await;
            }
        };
        tokio::pin!(ended);
        loop {
            tokio::select! {
                () = &mut ended => return,
                asked = next(signals) => match asked {
                    Asked::Hurry => break,
                    Asked::ReopenLogs => self.reopen_logs(),
                    _ => {}
                },
            }
        }
        tracing::warn!("asked again: ending at once");
        workers.iter().for_each(|worker| worker.drain(Duration::ZERO));
    }
}

/// Tells the holder, or without one whoever waits at the descriptor, that there is something to serve by.
fn tell_ready(signals: Option<&signals::Stream>, fd: Option<u32>) {
    signals.and_then(signals::Stream::holder).into_iter().for_each(|holder| holder.say(&Word::Ready));
    if let Some(fd) = fd
        && let Err(error) = super::notify::ready(fd)
    {
        tracing::warn!(%error, "file descriptor {fd} takes no notification of readiness");
    }
}

/// The outcome of a task, if there is one; then there is none any more.
async fn finished(
    reading: &mut Option<Task<Result<config::Loaded, Vec<Diagnostic>>>>,
) -> Result<config::Loaded, Vec<Diagnostic>> {
    let Some(task) = reading else { return std::future::pending().await };
    let outcome = task.await;
    *reading = None;
    outcome.unwrap_or_else(|e| Err(vec![Diagnostic::error("defect", format!("reading the configuration: {e}"))]))
}

/// Resolves when one of the workers has ended, which before a drain only a defect does.
async fn any_ended(workers: &[WorkerHandle]) {
    if workers.is_empty() {
        return std::future::pending().await;
    }
    futures_util::future::select_all(workers.iter().map(|worker| Box::pin(worker.ended()))).await;
}

async fn next(signals: &mut Option<signals::Stream>) -> Asked {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}
