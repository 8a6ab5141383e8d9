//! From the start to the end: waits for signals, or for a part that ended by a defect; reads the configuration again; drains.
//!
//! What always holds: nothing here waits for a file system, so that the end can be asked for at any time.

use super::signals::{self, Asked};
use super::{Parts, Started, tell, translate};
use crate::config::{self, Input};
use crate::diagnostic::Diagnostic;
use crate::proxy::worker::WorkerHandle;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::task::JoinHandle as Task;

impl Parts {
    /// Waits until the end is asked for, or until a part ended by a defect: then with its name. Gives the signals back: a
    /// second one hurries.
    pub(super) async fn serve(
        &self,
        mut signals: Option<signals::Stream>,
        reload: Option<Input>,
        started: &mut Started,
    ) -> (Option<signals::Stream>, Option<&'static str>) {
        let mut reading = None::<Task<Result<config::Loaded, Vec<Diagnostic>>>>;
        loop {
            let asked = tokio::select! {
                () = self.stop.cancelled() => Asked::Terminate,
                asked = next(&mut signals) => asked,
                read = finished(&mut reading) => {
                    self.reloaded(read);
                    continue;
                }
                _ = &mut started.control => return (signals, Some("the control loop")),
                () = any_ended(&started.workers) => return (signals, Some("a worker")),
            };
            match asked {
                Asked::Terminate => return (signals, None),
                Asked::Reload if reading.is_some() => tracing::warn!("the configuration is being read already"),
                Asked::Reload => {
                    self.certificates.rescan(Duration::ZERO);
                    // A file system that hangs keeps nobody but this task.
                    let input = reload.clone();
                    reading = input.map(|input| tokio::task::spawn_blocking(move || config::load(&input)));
                }
                Asked::ReopenLogs => self.reopen_logs(),
                Asked::Upgrade => {
                    tracing::warn!(
                        "SIGUSR2: handing the sockets to a new process is not in this version; restart instead"
                    );
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

    /// Lets everything that is in flight end, within the limits; a second signal ends it at once.
    pub(super) async fn drain(&self, workers: &[WorkerHandle], signals: &mut Option<signals::Stream>) {
        self.state.terminating.store(true, Relaxed);
        let lifecycle = &self.settled.lifecycle;
        tracing::info!(grace = ?lifecycle.grace, "draining");
        let hurried = async { while next(signals).await != Asked::Terminate {} };
        let ended = async {
            tokio::time::sleep(lifecycle.request_accept_grace).await;
            workers.iter().for_each(|worker| worker.drain(lifecycle.grace));
            for worker in workers {
                worker.ended().await;
            }
        };
        tokio::select! {
            () = hurried => {
                tracing::warn!("asked again: ending at once");
                workers.iter().for_each(|worker| worker.drain(Duration::ZERO));
            }
            () = ended => {}
        }
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
