//! What all verdicts come to.

use super::differ::Aspect;
use super::replay::Verdict;
use super::request::Request;
use http::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Times of answers, as far as they are kept.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// The value below which this share of the answers is (nearest rank).
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let rank = (share.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).copied()
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Different things that are counted apart.
const ASPECTS: usize = 1000;

/// A version as people write it; those before 1.1 are one with it, as a proxy may answer so to anybody.
fn named(version: Version) -> &'static str {
    if version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" }
}

/// Counts.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests with an answer of at least one proxy.
    pub compared: u64,
    /// Those with equal answers.
    pub same: u64,
    /// Those that differ.
    pub different: u64,
    /// Those that differ only in what the old proxy answers otherwise each time.
    pub unstable: u64,
    /// Those that neither proxy answered, alike.
    pub unanswered: u64,
    /// Why, for the first of these.
    pub why_unanswered: Option<String>,
    /// Differing requests by host.
    pub hosts: BTreeMap<String, u64>,
    /// Differing requests by what differs.
    pub aspects: BTreeMap<Aspect, u64>,
    /// What the old and the new proxy spoke.
    pub protocols: [BTreeSet<&'static str>; 2],
    /// Times of the old proxy.
    pub old: Times,
    /// Times of the new proxy.
    pub new: Times,
}

impl Tally {
    /// Counts one in.
    pub fn add(&mut self, request: &Request, verdict: &Verdict) {
        if let Ok(took) = verdict.old {
            self.old.0.push(took);
        }
        if let Ok(took) = verdict.new {
            self.new.0.push(took);
        }
        for (spoken, version) in self.protocols.iter_mut().zip(verdict.versions) {
            spoken.extend(version.map(named));
        }
        for difference in &verdict.differences {
            // proxies choose the names of fields: those that are kept are few
            if self.aspects.len() < ASPECTS || self.aspects.contains_key(&difference.aspect) {
                *self.aspects.entry(difference.aspect.clone()).or_default() += 1;
            }
        }
        if !verdict.differences.is_empty() {
            self.compared += 1;
            self.different += 1;
            *self.hosts.entry(request.host_text().to_ascii_lowercase()).or_default() += 1;
        } else if !verdict.unstable.is_empty() {
            self.compared += 1;
            self.unstable += 1;
        } else if let (Err(error), Err(_)) = (&verdict.old, &verdict.new) {
            self.unanswered += 1;
            self.why_unanswered.get_or_insert_with(|| error.text.clone());
        } else {
            self.compared += 1;
            self.same += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let times = Times((1..=100).rev().map(Duration::from_millis).collect());
        let at = |share| times.quantile(share).unwrap().as_millis();
        assert_eq!((at(0.5), at(0.95), at(1.0), at(0.0)), (50, 95, 100, 1));
        assert_eq!(Times::default().quantile(0.5), None);
    }
}
