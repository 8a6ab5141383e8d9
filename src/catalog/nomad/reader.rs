//! Reads one after another over one kept connection, in the order asked for.

use crate::catalog::http::{Answer, Error, Lane, escape};
use crate::catalog::{ServiceKey, Timing};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// What is asked where.
#[derive(Debug, Clone)]
pub struct Paths {
    namespace: String,
    region: String,
}

/// "From now on": an index that no server reaches. Without one, or with 0 or 1, a stream replays
/// registrations of services that are long gone.
const FROM_NOW: u64 = 9_000_000_000_000_000;

impl Paths {
    /// For one namespace, or `*`.
    pub fn new(namespace: &str, region: &str) -> Self {
        let region = if region.is_empty() { String::new() } else { format!("&region={}", escape(region)) };
        Self { namespace: namespace.to_owned(), region }
    }

    /// The namespace as configured.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Names and tags.
    pub fn list(&self) -> String {
        format!("/v1/services?namespace={}{}", escape(&self.namespace), self.region)
    }

    /// Instances of a name, in the namespace of the listing (`*` would give none).
    pub fn service(&self, key: &ServiceKey) -> String {
        format!("/v1/service/{}?namespace={}{}", escape(&key.name), escape(&key.namespace), self.region)
    }

    /// The checks of an allocation, of whichever namespace.
    pub fn checks(&self, allocation: &str) -> String {
        let region = self.region.replacen('&', "?", 1);
        format!("/v1/client/allocation/{}/checks{region}", escape(allocation))
    }

    /// Changes from now on.
    pub fn stream(&self) -> String {
        format!("/v1/event/stream?topic=Service&namespace={}&index={FROM_NOW}{}", escape(&self.namespace), self.region)
    }
}

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Names and tags.
    List,
    /// Instances of a name.
    Service(ServiceKey),
    /// Whose token it is.
    Token,
}

/// A running reader; what it has not read yet is dropped with it.
#[derive(Debug)]
pub struct Reader {
    jobs: mpsc::UnboundedSender<Job>,
    /// Answers, in order.
    pub answers: mpsc::Receiver<(Job, Result<Answer, Error>)>,
    _task: AbortOnDropHandle<()>,
}

impl Reader {
    /// Starts one on a lane that nothing else uses meanwhile.
    pub fn new(lane: Lane, paths: Paths, stale: bool, timing: Timing) -> Self {
        let (jobs, mut queue) = mpsc::unbounded_channel();
        let (sender, answers) = mpsc::channel(16);
        let task = tokio::spawn(async move {
            while let Some(job) = queue.recv().await {
                let path = match &job {
                    Job::List => paths.list(),
                    Job::Service(key) => paths.service(key),
                    Job::Token => "/v1/acl/token/self".to_owned(),
                };
                let turn = lane.turn().await;
                let answer = lane.read(&path, stale, timing.waits.read, timing.stale_bound).await;
                drop(turn);
                if sender.send((job, answer)).await.is_err() {
                    return;
                }
            }
        });
        Self { jobs, answers, _task: AbortOnDropHandle::new(task) }
    }

    /// Asks for something.
    pub fn ask(&self, job: Job) {
        // It only fails when the task is gone, which ends with this value.
        let _ = self.jobs.send(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_recorded() {
        let all = Paths::new("*", "");
        assert_eq!(all.list(), "/v1/services?namespace=*");
        let key = ServiceKey { namespace: "team".into(), name: "web-1".into() };
        assert_eq!(all.service(&key), "/v1/service/web-1?namespace=team");
        assert_eq!(all.stream(), "/v1/event/stream?topic=Service&namespace=*&index=9000000000000000");
        assert_eq!(all.checks("ba8a/1"), "/v1/client/allocation/ba8a%2F1/checks");
        assert_eq!(Paths::new("*", "eu/1").checks("a"), "/v1/client/allocation/a/checks?region=eu%2F1");
        assert_eq!(Paths::new("a b", "eu/1").list(), "/v1/services?namespace=a%20b&region=eu%2F1");
    }
}
