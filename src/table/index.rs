//! The index: from entry point, encryption and host to the routers that may take a request, in the
//! order in which they are tried. What a request costs is one hash of its host and a walk over the
//! candidates of that host and those of no host; a path hint skips most without running a rule.
//!
//! Hosts are spread over shards, so that a change copies the shards of the hosts that it names and
//! shares all others with the index before it.

use super::Router;
use crate::rule::{Matcher, PathHint, RequestView};
use foldhash::fast::FixedState;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

const SHARDS: usize = 256;

/// The hasher of hosts: fixed, since shards must be the same from one index to the next. Its keys
/// come from catalogs; requests only look up.
const HASHER: FixedState = FixedState::with_seed(0x5eed_0f40_57ed_ab1e);

/// A router ready to be indexed.
#[derive(Debug)]
pub(super) struct Entry {
    pub router: Arc<Router>,
    pub matcher: Arc<Matcher>,
    pub hints: Arc<[KeyHint]>,
    pub slots: SmallVec<[Slot; 2]>,
    pub order: Order,
}

/// A number of an entry point, and whether the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot {
    pub entry_point: u16,
    pub tls: bool,
}

impl Slot {
    fn at(self) -> usize {
        usize::from(self.entry_point) * 2 + usize::from(self.tls)
    }
}

/// What a matching request must look like; one of a router's hints fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyHint {
    /// Host without trailing dots, and its shard; `None` means any host.
    host: Option<(Arc<str>, u8)>,
    path: PathHint,
}

impl KeyHint {
    pub fn new(host: Option<String>, path: PathHint) -> Self {
        let host = host.map(|h| {
            let h: Arc<str> = h.trim_end_matches('.').to_ascii_lowercase().into();
            let shard = shard_of(&h);
            (h, shard)
        });
        Self { host, path }
    }
}

fn shard_of(host: &str) -> u8 {
    (HASHER.hash_one(host) >> 56) as u8
}

/// The order in which routers are tried: the least first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub priority: Reverse<i64>,
    pub lingering: bool,
    /// False for what is built in: it wins ties against everything.
    pub foreign: bool,
    pub create_index: u64,
    pub provider: u8,
    pub namespace: Arc<str>,
    pub id: Arc<str>,
}

#[derive(Debug)]
struct Candidate {
    entry: Arc<Entry>,
    paths: SmallVec<[PathHint; 1]>,
}

/// Learns of each router that is asked, in order, and whether it takes the request. `()` learns
/// nothing and costs nothing: the walk is compiled for it alone.
pub(super) trait Recorder {
    /// A router was asked.
    fn asked(&mut self, router: &Arc<Router>, takes: bool);
}

impl Recorder for () {
    #[inline(always)]
    fn asked(&mut self, _: &Arc<Router>, _: bool) {}
}

impl Candidate {
    fn takes(&self, path: &str, request: &impl RequestView) -> bool {
        let fits = |hint: &PathHint| match hint {
            PathHint::Any => true,
            PathHint::Prefix(prefix) => path.starts_with(prefix.as_str()),
            PathHint::Exact(exact) => path == exact,
        };
        self.paths.iter().any(fits) && self.entry.matcher.matches(request)
    }
}

/// Slot, shard and host of a list of candidates.
type ListKey<'a> = (usize, Option<u8>, Option<&'a str>);

type Shard = HashMap<Arc<str>, Box<[Candidate]>, FixedState>;

/// The candidates of one entry point and encryption.
#[derive(Debug, Clone)]
struct Candidates {
    shards: Box<[Option<Arc<Shard>>]>,
    any: Arc<[Candidate]>,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { shards: vec![None; SHARDS].into(), any: Arc::new([]) }
    }
}

/// The index of a table.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    entry_points: Arc<[Arc<str>]>,
    candidates: Vec<Candidates>,
}

impl Index {
    pub fn entry_points(&self) -> &Arc<[Arc<str>]> {
        &self.entry_points
    }

    /// The index of `entries`, sharing what `changed` (entries that came or went) does not touch.
    pub fn update<'a>(
        &self,
        entry_points: &Arc<[Arc<str>]>,
        entries: impl Iterator<Item = &'a Arc<Entry>> + Clone,
        changed: impl Iterator<Item = &'a Arc<Entry>>,
    ) -> Self {
        if self.entry_points != *entry_points {
            let empty = Self {
                entry_points: entry_points.clone(),
                candidates: vec![Candidates::default(); entry_points.len() * 2],
            };
            return empty.rebuilt(entries.clone(), entries);
        }
        self.rebuilt(entries, changed)
    }

    fn rebuilt<'a>(
        &self,
        entries: impl Iterator<Item = &'a Arc<Entry>>,
        changed: impl Iterator<Item = &'a Arc<Entry>>,
    ) -> Self {
        let mut touched: HashSet<(usize, Option<u8>)> = HashSet::new();
        for entry in changed {
            for slot in &entry.slots {
                touched.extend(entry.hints.iter().map(|h| (slot.at(), h.host.as_ref().map(|(_, shard)| *shard))));
            }
        }
        let mut index = self.clone();
        if touched.is_empty() {
            return index;
        }
        let mut lists: HashMap<ListKey<'_>, Vec<Candidate>> = HashMap::new();
        for entry in entries {
            for slot in &entry.slots {
                for hint in entry.hints.iter() {
                    let key = (slot.at(), hint.host.as_ref().map(|(_, shard)| *shard));
                    if !touched.contains(&key) {
                        continue;
                    }
                    let host = hint.host.as_ref().map(|(host, _)| &**host);
                    let list = lists.entry((key.0, key.1, host)).or_default();
                    match list.last_mut().filter(|c| Arc::ptr_eq(&c.entry, entry)) {
                        Some(same) => same.paths.push(hint.path.clone()),
                        None => list.push(Candidate { entry: entry.clone(), paths: [hint.path.clone()].into() }),
                    }
                }
            }
        }
        let mut shards: HashMap<(usize, u8), Shard> = HashMap::new();
        for (at, shard) in touched {
            match shard {
                None => index.candidates[at].any = Arc::new([]),
                Some(shard) => drop(shards.insert((at, shard), Shard::with_hasher(HASHER))),
            }
        }
        for ((at, shard, host), mut list) in lists {
            list.sort_by(|a, b| a.entry.order.cmp(&b.entry.order));
            match (shard.and_then(|s| shards.get_mut(&(at, s))), host) {
                (Some(shard), Some(host)) => drop(shard.insert(host.into(), list.into())),
                _ => index.candidates[at].any = list.into(),
            }
        }
        for ((at, number), shard) in shards {
            index.candidates[at].shards[usize::from(number)] = (!shard.is_empty()).then(|| Arc::new(shard));
        }
        index
    }

    /// The routers that are found by a host, whatever the entry point.
    pub fn of_host<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Arc<Router>> {
        let shard = usize::from(shard_of(host));
        let shards = self.candidates.iter().filter_map(move |c| c.shards.get(shard)?.as_ref());
        shards.filter_map(move |s| s.get(host)).flat_map(|list| list.iter().map(|c| &c.entry.router))
    }

    /// The one walk of a request over its candidates: what [`Table::find`](super::Table::find)
    /// answers by and [`Table::explain`](super::Table::explain) reports.
    pub fn walk(
        &self,
        entry_point: &str,
        tls: bool,
        request: &impl RequestView,
        recorder: &mut impl Recorder,
    ) -> Option<&Arc<Router>> {
        let at = self.entry_points.iter().position(|name| **name == *entry_point)?;
        let candidates = self.candidates.get(at * 2 + usize::from(tls))?;
        let host = request.host().trim_end_matches('.');
        let shard = candidates.shards.get(usize::from(shard_of(host)))?.as_ref();
        let mut by_host = shard.and_then(|s| s.get(host)).map_or(&[][..], |list| list);
        let mut any = &candidates.any[..];
        let path = request.path();
        loop {
            let next = match (by_host, any) {
                ([], []) => return None,
                ([a, rest @ ..], []) => {
                    by_host = rest;
                    a
                }
                ([], [b, rest @ ..]) => {
                    any = rest;
                    b
                }
                ([a, by_host_rest @ ..], [b, any_rest @ ..]) => {
                    if a.entry.order <= b.entry.order {
                        by_host = by_host_rest;
                        a
                    } else {
                        any = any_rest;
                        b
                    }
                }
            };
            let takes = next.takes(path, request);
            recorder.asked(&next.entry.router, takes);
            if takes {
                return Some(&next.entry.router);
            }
        }
    }
}
