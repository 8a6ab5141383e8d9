//! The index: from entry point, encryption and host to the routers that may take a request, in the
//! order in which they are tried. A request looks up its host, tests the sets of expressions that hosts fit, and finds
//! in each of these places, and in that of no host, the routers of its path; a rule that asks for nothing else is not run.
//!
//! Everything is copied where it changes and shared elsewhere, so that a new index costs what came and went.

mod keyed;
mod node;
mod patterns;

use super::Router;
use crate::rule::{self, Hint, Kind, Matcher, RequestView, Syntax};
use keyed::Keyed;
use node::{Candidate, Edit, Node};
use patterns::Patterns;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A router ready to be indexed.
#[derive(Debug)]
pub(super) struct Entry {
    pub router: Arc<Router>,
    pub matcher: Arc<Matcher>,
    pub hints: Arc<[Hint]>,
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

/// Lists of candidates that are walked together, each from its first candidate on. There is room for what
/// requests mostly find; more prefixes of one path than that cost an allocation.
struct Cursors<'a>(SmallVec<[(&'a [Candidate], bool); 12]>);

impl<'a> Cursors<'a> {
    #[inline]
    fn push(&mut self, list: &'a [Candidate], host_fits: bool) {
        if !list.is_empty() {
            self.0.push((list, host_fits));
        }
    }

    /// The place of the list whose head is tried next.
    #[inline]
    fn first(&self) -> Option<usize> {
        let mut lists = self.0.iter().enumerate();
        let (mut first, (head, _)) = lists.next()?;
        let mut head = head.first()?;
        for (at, (list, _)) in lists {
            if let Some(candidate) = list.first().filter(|candidate| candidate.is_before(head)) {
                (first, head) = (at, candidate);
            }
        }
        Some(first)
    }

    /// Takes the next candidate off its list.
    #[inline]
    fn next(&mut self) -> Option<(&'a Candidate, bool)> {
        let at = self.first()?;
        let (list, host_fits) = self.0[at];
        let (candidate, rest) = list.split_first()?;
        if rest.is_empty() {
            self.0.swap_remove(at);
        } else {
            self.0[at].0 = rest;
        }
        Some((candidate, host_fits))
    }

    /// The next candidate, if it is the same router under another hint.
    fn next_of(&mut self, candidate: &Candidate) -> Option<(&'a Candidate, bool)> {
        let (list, _) = self.0.get(self.first()?)?;
        if list.first().is_some_and(|next| Arc::ptr_eq(&next.entry, &candidate.entry)) { self.next() } else { None }
    }
}

/// The candidates of one entry point and encryption.
#[derive(Debug, Clone)]
struct Candidates {
    hosts: Keyed<Node>,
    patterns: Patterns,
    any: Arc<Node>,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { hosts: Keyed::default(), patterns: Patterns::default(), any: Arc::new(Node::new(b"")) }
    }
}

/// What comes and goes of one slot, by place.
#[derive(Default)]
struct Edits<'a> {
    hosts: BTreeMap<&'a str, Vec<Edit<'a>>>,
    patterns: BTreeMap<&'a str, Vec<Edit<'a>>>,
    any: Vec<Edit<'a>>,
}

impl Candidates {
    fn edit(&mut self, edits: &Edits<'_>) {
        for (host, edits) in &edits.hosts {
            self.hosts.change(host.as_bytes(), |old| {
                let mut node = old.cloned().unwrap_or_else(|| Node::new(host.as_bytes()));
                node.edit(edits);
                (!node.is_empty()).then_some(node)
            });
        }
        self.patterns.edit(&edits.patterns);
        if !edits.any.is_empty() {
            Arc::make_mut(&mut self.any).edit(&edits.any);
        }
    }
}

/// What HTTP routers over TLS make of a host.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OverTls {
    /// The rule of one names it.
    pub names: bool,
    /// The rule of one names no host at all.
    pub takes_any: bool,
}

/// The index of a table.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    entry_points: Arc<[Arc<str>]>,
    slots: Vec<Arc<Candidates>>,
}

impl Index {
    /// An empty index.
    pub fn new(entry_points: Arc<[Arc<str>]>) -> Self {
        let slots = (0..entry_points.len() * 2).map(|_| Arc::default()).collect();
        Self { entry_points, slots }
    }

    pub fn entry_points(&self) -> &Arc<[Arc<str>]> {
        &self.entry_points
    }

    /// Lets go of `gone` (entries that are in it) and takes in `come`.
    pub fn edit(&mut self, gone: &[Arc<Entry>], come: &[Arc<Entry>]) {
        let mut slots: BTreeMap<usize, Edits<'_>> = BTreeMap::new();
        let gone = gone.iter().map(|entry| (entry, false));
        for (entry, comes) in gone.chain(come.iter().map(|entry| (entry, true))) {
            for slot in &entry.slots {
                let edits = slots.entry(slot.at()).or_default();
                for hint in entry.hints.iter() {
                    let list = match (&hint.host, &hint.host_regex) {
                        (Some(host), _) => edits.hosts.entry(host).or_default(),
                        (None, Some(pattern)) => edits.patterns.entry(pattern).or_default(),
                        (None, None) => &mut edits.any,
                    };
                    list.push(Edit { entry, path: &hint.path, exact: hint.exact, comes });
                }
            }
        }
        for (at, edits) in slots {
            if let Some(candidates) = self.slots.get_mut(at) {
                Arc::make_mut(candidates).edit(&edits);
            }
        }
    }

    /// What HTTP routers over TLS on an entry point make of a host. Whether they take any host is looked for where
    /// `any` asks for it.
    pub fn over_tls(&self, entry_point: &str, host: &str, any: bool) -> OverTls {
        let Some(candidates) = self.candidates(entry_point, true) else { return OverTls::default() };
        let key = host.trim_end_matches('.');
        let rules = || candidates.any.all().map(|candidate| &candidate.router);
        let domains = |router: &Router| {
            let syntax = Syntax::named(&router.declared.rule_syntax);
            rule::parse(&router.rule, Kind::Http, syntax).map(|rule| rule.domains()).unwrap_or_default()
        };
        // wildcards stand among the routers of any host
        let wild = |router: &&Arc<Router>| router.rule.contains("*.");
        let fits = |domain: &String| {
            domain.strip_prefix('*').is_some_and(|rest| key.find('.').is_some_and(|at| key[at..] == *rest))
        };
        OverTls {
            names: candidates.hosts.get(key.as_bytes()).is_some()
                || rules().filter(wild).any(|router| domains(router).iter().any(fits)),
            takes_any: any
                && (!candidates.patterns.is_empty()
                    || rules().any(|router| !router.rule.contains("Host") || domains(router).is_empty())),
        }
    }

    /// Whether an HTTP router over TLS is on an entry point.
    pub fn is_over_tls(&self, entry_point: &str) -> bool {
        self.candidates(entry_point, true)
            .is_some_and(|of| of.hosts.len() > 0 || !of.patterns.is_empty() || of.any.all().next().is_some())
    }

    fn candidates(&self, entry_point: &str, tls: bool) -> Option<&Arc<Candidates>> {
        let at = self.entry_points.iter().position(|name| **name == *entry_point)?;
        self.slots.get(at * 2 + usize::from(tls))
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
        let candidates = self.slots.get(at * 2 + usize::from(tls))?;
        let (host, path) = (request.host(), request.path());
        let key = host.trim_end_matches('.');
        let mut cursors = Cursors(SmallVec::new());
        if let Some(node) = candidates.hosts.get(key.as_bytes()) {
            node.open(path, key.len() == host.len(), &mut cursors);
        }
        candidates.any.open(path, true, &mut cursors);
        candidates.patterns.open(host, path, &mut cursors);
        while let Some((candidate, host_fits)) = cursors.next() {
            let mut takes = candidate.takes(path, host_fits, request);
            while !takes && let Some((same, host_fits)) = cursors.next_of(candidate) {
                takes = same.takes(path, host_fits, request);
            }
            recorder.asked(&candidate.router, takes);
            if takes {
                return Some(&candidate.router);
            }
        }
        None
    }
}
