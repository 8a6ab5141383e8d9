//! How many requests a server works on at once, and how many wait for a place there.
//!
//! What always holds: a limit is at least 1. One that cannot be meant is told of and counts as none.

use super::health::Remarks;
use crate::declare::{GoDuration, LoadBalancer};
use std::num::NonZeroU32;
use std::time::Duration;

/// Requests that may wait where nothing is said.
const QUEUE: u32 = 100;

/// Limits of each of a service's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Requests that a server works on at once.
    pub requests: NonZeroU32,
    /// Requests that may wait for a place at one of the service's servers.
    pub queue: u32,
    /// How long they wait; `None` means as for a server to appear.
    pub wait: Option<Duration>,
    declared: (Option<i64>, Option<GoDuration>),
}

impl Limit {
    /// The limits that a service declares, if it does.
    pub(super) fn of(declared: &LoadBalancer, remarks: &mut Remarks<'_>) -> Option<Self> {
        let (queue, wait) = (declared.rust_lb_max_queue, declared.rust_lb_queue_timeout);
        let Some(requests) = declared.rust_lb_max_requests else {
            for (option, said) in [("rustLbMaxQueue", queue.is_some()), ("rustLbQueueTimeout", wait.is_some())] {
                if said {
                    remarks.limit(option, format!("`{option}` has no effect without `rustLbMaxRequests`"));
                }
            }
            return None;
        };
        let Some(limit) = u32::try_from(requests).ok().and_then(NonZeroU32::new) else {
            let told =
                format!("`rustLbMaxRequests` must be from 1 to {}, got {requests}; nothing is limited", u32::MAX);
            remarks.limit("rustLbMaxRequests", told);
            return None;
        };
        let places = queue.map_or(Some(QUEUE), |queue| u32::try_from(queue).ok());
        if places.is_none() {
            let got = queue.unwrap_or_default();
            let told = format!("`rustLbMaxQueue` must be from 0 to {}, got {got}; it is taken as {QUEUE}", u32::MAX);
            remarks.limit("rustLbMaxQueue", told);
        }
        let time = wait.and_then(GoDuration::length);
        if let (Some(wait), None) = (wait, time) {
            let told = format!("`rustLbQueueTimeout` must not be below zero, got {wait}; it is `rustLb.linger.wait`");
            remarks.limit("rustLbQueueTimeout", told);
        }
        Some(Self { requests: limit, queue: places.unwrap_or(QUEUE), wait: time, declared: (queue, wait) })
    }

    /// Writes it down as it was declared.
    pub fn declare(&self, into: &mut LoadBalancer) {
        into.rust_lb_max_requests = Some(self.requests.get().into());
        (into.rust_lb_max_queue, into.rust_lb_queue_timeout) = self.declared;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declare::Source;
    use crate::model::Provider;

    fn read(requests: Option<i64>, queue: Option<i64>, wait: Option<i64>) -> (Option<Limit>, usize) {
        let mut problems = Vec::new();
        let source = Source::default();
        let mut remarks = Remarks { name: "s", source: &source, provider: Provider::File, problems: &mut problems };
        let declared = LoadBalancer {
            rust_lb_max_requests: requests,
            rust_lb_max_queue: queue,
            rust_lb_queue_timeout: wait.map(GoDuration::from_seconds),
            ..LoadBalancer::default()
        };
        let limit = Limit::of(&declared, &mut remarks);
        if let Some(limit) = limit {
            let mut again = LoadBalancer::default();
            limit.declare(&mut again);
            assert_eq!(again, declared);
        }
        (limit, problems.len())
    }

    #[test]
    fn limits_are_read_and_what_cannot_be_meant_is_told() {
        let said = |limit: Option<Limit>| limit.map(|limit| (limit.requests.get(), limit.queue, limit.wait));
        let secs = |secs| Some(Duration::from_secs(secs));
        for (requests, queue, wait, limit, problems) in [
            (None, None, None, None, 0),
            (Some(3), None, None, Some((3, 100, None)), 0),
            (Some(1), Some(0), Some(0), Some((1, 0, secs(0))), 0),
            (Some(1), Some(7), Some(2), Some((1, 7, secs(2))), 0),
            (Some(1), Some(-1), Some(-1), Some((1, 100, None)), 2),
            (Some(0), Some(7), None, None, 1),
            (Some(-5), None, None, None, 1),
            (Some(1 << 32), None, None, None, 1),
            (None, Some(7), Some(2), None, 2),
        ] {
            let (got, told) = read(requests, queue, wait);
            assert_eq!((said(got), told), (limit, problems), "{requests:?} {queue:?} {wait:?}");
        }
    }
}
