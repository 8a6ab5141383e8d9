//! How many requests of a service may be tried again: a share of its requests, and some each second besides.
//!
//! What always holds: atomics only; what is not used in ten seconds is lost. Time is passed in.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// How long what is not used is kept, in seconds.
const KEPT: u64 = 10;
/// Requests whose share is kept at most.
const REQUESTS: u64 = 1_000;

/// A budget, in thousandths of a try.
#[derive(Debug, Default)]
pub struct Budget {
    left: AtomicU64,
    /// Milliseconds until which the time was paid for; 0 at its beginning.
    paid: AtomicU64,
}

impl Budget {
    /// A request adds its share; the time does, too. `millis` by the registry's clock.
    pub fn request(&self, share: u32, each_second: u32, millis: u64) {
        self.pay(each_second, millis);
        let most = u64::from(each_second) * KEPT + u64::from(share) * REQUESTS;
        self.add(u64::from(share), most);
    }

    /// Takes one try, if there is one.
    pub fn take(&self, each_second: u32, millis: u64) -> bool {
        self.pay(each_second, millis);
        self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1_000)).is_ok()
    }

    fn pay(&self, each_second: u32, millis: u64) {
        // From the beginning there is what ten seconds make.
        let millis = millis + KEPT * 1_000;
        let paid = self.paid.load(Relaxed);
        let time = millis.saturating_sub(paid).min(KEPT * 1_000);
        if time > 0 && self.paid.compare_exchange(paid, millis, Relaxed, Relaxed).is_ok() {
            self.add(u64::from(each_second) * time / 1_000, u64::from(each_second) * KEPT);
        }
    }

    /// Adds up to a limit; what is above it stays.
    fn add(&self, amount: u64, most: u64) {
        let more = |left: u64| (left < most).then(|| (left + amount).min(most));
        let _ = self.left.fetch_update(Relaxed, Relaxed, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_requests_make_tries() {
        let budget = Budget::default();
        let take = |millis| (0..1_000).take_while(|_| budget.take(3_000, millis)).count();
        assert_eq!(take(5), 30, "what ten seconds make, to begin with");
        assert_eq!(take(5), 0);
        assert_eq!(take(1_005), 3);
        for _ in 0..100 {
            budget.request(200, 3_000, 1_005);
        }
        assert_eq!(take(1_005), 20);
        assert_eq!(take(3_600_000), 30, "what is not used is lost");
    }

    #[test]
    fn no_budget_is_none() {
        let budget = Budget::default();
        budget.request(0, 0, 1);
        assert!(!budget.take(0, 100_000));
        budget.request(1_000, 0, 100_000);
        assert!(budget.take(0, 100_000) && !budget.take(0, 100_000));
    }
}
