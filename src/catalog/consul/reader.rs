//! Reads over a few kept connections, and what is asked where.

use crate::catalog::Timing;
use crate::catalog::http::{Agent, Answer, Error, Lane, escape};
use crate::config::ConsulProvider;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::AbortOnDropHandle;

/// Connections that read names.
const LANES: usize = 4;

/// What is asked where.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Parameters that all share, each with `&` in front.
    common: Arc<str>,
}

impl Paths {
    /// For one namespace (empty outside of Consul Enterprise).
    pub fn new(config: &ConsulProvider, namespace: &str) -> Self {
        let mut common = String::new();
        for (name, value) in
            [("dc", config.datacenter.as_str()), ("ns", namespace), ("partition", config.partition.as_str())]
        {
            if !value.is_empty() {
                common.push_str(&format!("&{name}={}", escape(value)));
            }
        }
        Self { common: common.into() }
    }

    /// Names and tags.
    pub fn list(&self, parameters: &str) -> String {
        self.with("/v1/catalog/services", parameters)
    }

    /// Instances of a name with their checks.
    pub fn service(&self, name: &str, parameters: &str) -> String {
        self.with(&format!("/v1/health/service/{}", escape(name)), parameters)
    }

    /// All checks: moves with every instance and every check's state.
    pub fn checks(&self, parameters: &str) -> String {
        self.with("/v1/health/state/any", parameters)
    }

    /// Nodes: there is always one, so an empty list means that none may be seen.
    pub fn nodes(&self) -> String {
        self.with("/v1/catalog/nodes", "")
    }

    fn with(&self, path: &str, parameters: &str) -> String {
        let mut query = self.common.to_string();
        if !parameters.is_empty() {
            query.push('&');
            query.push_str(parameters);
        }
        if query.is_empty() { path.to_owned() } else { format!("{path}?{}", &query[1..]) }
    }
}

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Instances of a name.
    Service(Arc<str>),
    /// Whether any node may be seen.
    Nodes,
}

/// Running readers; what they have not read yet is dropped with them.
#[derive(Debug)]
pub struct Readers {
    urgent: mpsc::UnboundedSender<Job>,
    others: mpsc::UnboundedSender<Job>,
    /// Answers, in no order.
    pub answers: mpsc::Receiver<(Job, Result<Answer, Error>)>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Readers {
    /// The lanes of [`Readers::new`], to be kept from one to the next.
    ///
    /// # Errors
    /// TLS files that cannot be used.
    pub fn lanes(agent: &Agent) -> Result<Vec<Lane>, Error> {
        (0..LANES).map(|_| agent.lane()).collect()
    }

    /// Starts them on lanes that nothing else uses meanwhile.
    pub fn new(lanes: &[Lane], paths: &Paths, stale: bool, timing: Timing) -> Self {
        let (urgent, first) = mpsc::unbounded_channel();
        let (others, second) = mpsc::unbounded_channel();
        let queue = Arc::new(Mutex::new((first, second)));
        let (sender, answers) = mpsc::channel(16);
        let start = |lane: &Lane| {
            let (lane, paths, queue, sender) = (lane.clone(), paths.clone(), queue.clone(), sender.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    let Some(job) = next(&mut *queue.lock().await).await else { return };
                    let path = match &job {
                        Job::Service(name) => paths.service(name, ""),
                        Job::Nodes => paths.nodes(),
                    };
                    let turn = lane.turn().await;
                    let answer = lane.read(&path, stale, timing.waits.read, timing.stale_bound).await;
                    drop(turn);
                    if sender.send((job, answer)).await.is_err() {
                        return;
                    }
                }
            }))
        };
        Self { urgent, others, answers, _tasks: lanes.iter().map(start).collect() }
    }

    /// Asks for something; what is urgent goes before what is not, however much that is.
    pub fn ask(&self, job: Job, urgent: bool) {
        // It only fails when the tasks are gone, which end with this value.
        let _ = if urgent { self.urgent.send(job) } else { self.others.send(job) };
    }
}

type Queues = (mpsc::UnboundedReceiver<Job>, mpsc::UnboundedReceiver<Job>);

async fn next((urgent, others): &mut Queues) -> Option<Job> {
    tokio::select! {
        biased;
        job = urgent.recv() => job,
        job = others.recv() => job,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::http::testing::consul;

    #[test]
    fn paths_with_what_is_configured() {
        let mut config = consul("http://h:1", 1);
        let paths = Paths::new(&config, "");
        assert_eq!(paths.list(""), "/v1/catalog/services");
        assert_eq!(paths.list("index=1&wait=5s"), "/v1/catalog/services?index=1&wait=5s");
        assert_eq!(paths.service("a/b", ""), "/v1/health/service/a%2Fb");
        config.datacenter = "dc 2".into();
        let paths = Paths::new(&config, "team");
        assert_eq!(paths.checks("index=1"), "/v1/health/state/any?dc=dc%202&ns=team&index=1");
    }
}
