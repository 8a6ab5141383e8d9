//! How many orders strangers can cause: what a handshake may start is counted by registered domain, in all, and by
//! the service whose host it is; what was refused stays refused for a while. Clocks are passed in.
//!
//! What always holds: memory is bounded by the limits themselves and by [`REMEMBERED`]; a limit of zero allows nothing.

use super::names::registered_domain;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Refusals remembered at most; the oldest go first.
const REMEMBERED: usize = 10_000;

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Orders an hour for a registered domain.
    pub per_domain: u64,
    /// Orders an hour in all.
    pub per_process: u64,
    /// Orders a day for the hosts of one service.
    pub per_service: u64,
    /// How long a refusal is remembered.
    pub remember: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_domain: 5, per_process: 20, per_service: 10, remember: Duration::from_secs(600) }
    }
}

/// Why nothing is ordered on demand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// Of the domain.
    #[error("{limit} orders an hour for `{domain}` are reached")]
    Domain {
        /// The registered domain.
        domain: Arc<str>,
        /// The limit.
        limit: u64,
    },
    /// Of the process.
    #[error("{0} orders an hour in all are reached")]
    Process(u64),
    /// Of the service.
    #[error("{limit} orders a day for the service `{service}` are reached")]
    Service {
        /// The service.
        service: Arc<str>,
        /// The limit.
        limit: u64,
    },
    /// It was refused before, for this reason.
    #[error("{0} (remembered)")]
    Remembered(Arc<str>),
}

/// An order on demand.
#[derive(Debug, Clone)]
pub struct Placed {
    /// When.
    pub at: Instant,
    /// For a host of this registered domain.
    pub domain: Arc<str>,
    /// Whose host it is.
    pub service: Arc<str>,
}

/// What was ordered on demand, and what was refused.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The oldest first. As long as the longest window.
    orders: VecDeque<Placed>,
    refused: HashMap<Arc<str>, (Instant, Arc<str>)>,
}

impl Ledger {
    /// Counts an order for a host of a service, if it may be made.
    ///
    /// # Errors
    /// Which limit it would go over; then nothing is counted.
    pub fn take(&mut self, host: &str, service: &Arc<str>, limits: &Limits, now: Instant) -> Result<(), Excess> {
        self.is_remembered(host, now)?;
        while self.orders.front().is_some_and(|order| now.duration_since(order.at) >= DAY) {
            self.orders.pop_front();
        }
        let domain = registered_domain(host);
        let since =
            |window: Duration| self.orders.iter().rev().take_while(move |order| now.duration_since(order.at) < window);
        let many = |count: usize, limit: u64| u64::try_from(count).unwrap_or(u64::MAX) >= limit;
        if many(since(HOUR).count(), limits.per_process) {
            return Err(Excess::Process(limits.per_process));
        }
        if many(since(HOUR).filter(|order| order.domain == domain).count(), limits.per_domain) {
            return Err(Excess::Domain { domain, limit: limits.per_domain });
        }
        if many(since(DAY).filter(|order| order.service == *service).count(), limits.per_service) {
            return Err(Excess::Service { service: service.clone(), limit: limits.per_service });
        }
        self.orders.push_back(Placed { at: now, domain, service: service.clone() });
        Ok(())
    }

    /// Orders that another process has made, before any of this one's; the oldest first.
    pub fn remember(&mut self, orders: impl Iterator<Item = Placed>) {
        self.orders = orders.collect();
    }

    /// The orders that count yet; the oldest first.
    pub fn placed(&self) -> impl Iterator<Item = &Placed> {
        self.orders.iter()
    }

    /// Whether a refusal of this host still holds.
    ///
    /// # Errors
    /// The refusal.
    pub fn is_remembered(&self, host: &str, now: Instant) -> Result<(), Excess> {
        match self.refused.get(host) {
            Some((until, why)) if now < *until => Err(Excess::Remembered(why.clone())),
            _ => Ok(()),
        }
    }

    /// Remembers that a host was refused.
    pub fn refuse(&mut self, host: &str, why: impl Into<Arc<str>>, limits: &Limits, now: Instant) {
        if self.refused.len() >= REMEMBERED {
            self.refused.retain(|_, (until, _)| now < *until);
            if self.refused.len() >= REMEMBERED {
                let mut ends: Vec<Instant> = self.refused.values().map(|(until, _)| *until).collect();
                let (_, middle, _) = ends.select_nth_unstable(REMEMBERED / 2);
                let middle = *middle;
                self.refused.retain(|_, (until, _)| *until > middle);
            }
        }
        self.refused.insert(host.into(), (now + limits.remember, why.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_holds_and_ends() {
        let mut ledger = Ledger::default();
        let limits = Limits { per_domain: 2, per_process: 5, per_service: 3, remember: Duration::from_secs(600) };
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let service = |name: &str| -> Arc<str> { name.into() };
        let mut take = |host: &str, of: &str, seconds| ledger.take(host, &service(of), &limits, at(seconds));
        assert_eq!(take("a.one.com", "web", 0), Ok(()));
        assert_eq!(take("b.one.com", "web", 1), Ok(()));
        let domain = Excess::Domain { domain: "one.com".into(), limit: 2 };
        assert_eq!(take("c.one.com", "api", 2), Err(domain));
        assert_eq!(take("a.two.com", "web", 3), Ok(()));
        let of_service = Excess::Service { service: "web".into(), limit: 3 };
        assert_eq!(take("a.three.com", "web", 4), Err(of_service.clone()));
        assert_eq!(take("a.three.com", "api", 5), Ok(()));
        assert_eq!(take("a.four.com", "api", 6), Ok(()));
        assert_eq!(take("a.five.com", "other", 7), Err(Excess::Process(5)));
        // an hour later domains and the process may again, the service only a day later
        assert_eq!(take("c.one.com", "other", 3_600 + 8), Ok(()));
        assert_eq!(take("a.six.com", "web", 3_600 + 9), Err(of_service));
        assert_eq!(take("a.six.com", "web", 86_400 + 10), Ok(()));
    }

    #[test]
    fn refusals_are_remembered_for_a_while_and_not_without_bound() {
        let mut ledger = Ledger::default();
        let limits = Limits::default();
        let start = Instant::now();
        ledger.refuse("a.one.com", "the authority said no", &limits, start);
        let remembered = Err(Excess::Remembered("the authority said no".into()));
        let service = Arc::from("web");
        assert_eq!(ledger.take("a.one.com", &service, &limits, start + Duration::from_secs(599)), remembered);
        assert_eq!(ledger.take("a.one.com", &service, &limits, start + Duration::from_secs(600)), Ok(()));
        for n in 0..3 * REMEMBERED {
            let after = Duration::from_millis(u64::try_from(n).unwrap());
            ledger.refuse(&format!("h{n}.two.com"), "no", &limits, start + after);
            assert!(ledger.refused.len() <= REMEMBERED);
        }
        assert!(ledger.refused.contains_key(&*format!("h{}.two.com", 3 * REMEMBERED - 1)));
    }
}
