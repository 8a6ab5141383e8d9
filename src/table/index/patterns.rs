//! Routers whose hosts are told by regular expressions, tested as sets: a request's host runs once through each set and
//! comes out with the expressions that it fits.
//!
//! What always holds: a set has at most [`SET`] expressions, so that another expression compiles one set anew and leaves
//! the others, with what their automata have learnt, as they are. Routers with the same expression share it.
//!
//! The automata are built while they run, in scratch space that belongs to one thread for the time of a search. It comes
//! from a pool: one thread has its own, the others take theirs from a short stack, by thread, that is tried and never
//! waited for.

use super::Cursors;
use super::keyed::HasKey;
use super::node::{Edit, Node};
use regex_automata::meta::{self, Regex};
use regex_automata::util::pool::Pool;
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind, PatternSet};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// Expressions of one set.
const SET: usize = 128;
/// Memory that one thread's automaton of one set may take, in bytes; it starts anew when it is full.
const SCRATCH: usize = 1 << 20;
/// Memory that one compiled set may take, in bytes.
const COMPILED: usize = 64 << 20;

type Scratches = Pool<Scratch, Box<dyn Fn() -> Scratch + Send + Sync>>;

struct Scratch {
    cache: meta::Cache,
    fits: PatternSet,
}

/// Expressions compiled together.
struct Set {
    regex: Regex,
    scratches: Scratches,
    /// Those that fit the empty text stand for every host, as in Traefik.
    always: Vec<usize>,
}

impl Set {
    /// `None` if together they are too large.
    fn new(patterns: impl Iterator<Item = String>) -> Option<Self> {
        let patterns: Vec<String> = patterns.collect();
        let config = Regex::config()
            .match_kind(MatchKind::All)
            .utf8_empty(false)
            .nfa_size_limit(Some(COMPILED))
            .hybrid_cache_capacity(SCRATCH);
        let syntax = syntax::Config::new().utf8(false).nest_limit(1000);
        let regex = Regex::builder().configure(config).syntax(syntax).build_many(&patterns).ok()?;
        let count = patterns.len();
        let mut fits = PatternSet::new(count);
        regex.which_overlapping_matches(&Input::new(""), &mut fits);
        let always = fits.iter().map(|pattern| pattern.as_usize()).collect();
        let of = regex.clone();
        let make = move || Scratch { cache: of.create_cache(), fits: PatternSet::new(count) };
        Some(Self { regex, scratches: Pool::new(Box::new(make)), always })
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Set").field("patterns", &self.regex.pattern_len()).finish_non_exhaustive()
    }
}

/// A set and the routers of each of its expressions.
#[derive(Debug, Clone, Default)]
struct Shard {
    set: Option<Arc<Set>>,
    nodes: Vec<Arc<Node>>,
}

/// See the top.
#[derive(Debug, Clone, Default)]
pub(super) struct Patterns {
    shards: Vec<Shard>,
}

impl Patterns {
    /// Takes in what comes and lets go what goes, by expression.
    pub fn edit(&mut self, edits: &BTreeMap<&str, Vec<Edit<'_>>>) {
        if edits.is_empty() {
            return;
        }
        let mut places: HashMap<Vec<u8>, (usize, usize)> = HashMap::new();
        for (shard, of) in self.shards.iter().enumerate() {
            places.extend(of.nodes.iter().enumerate().map(|(at, node)| (node.key().to_vec(), (shard, at))));
        }
        let mut new = Vec::new();
        let mut stale = vec![false; self.shards.len()];
        for (pattern, edits) in edits {
            match places.get(pattern.as_bytes()) {
                Some((shard, at)) => {
                    let mut node = (*self.shards[*shard].nodes[*at]).clone();
                    node.edit(edits);
                    stale[*shard] |= node.is_empty();
                    self.shards[*shard].nodes[*at] = Arc::new(node);
                }
                None => {
                    let mut node = Node::new(pattern.as_bytes());
                    node.edit(edits);
                    if !node.is_empty() {
                        new.push(Arc::new(node));
                    }
                }
            }
        }
        for (shard, _) in self.shards.iter_mut().zip(&stale).filter(|(_, stale)| **stale) {
            shard.nodes.retain(|node| !node.is_empty());
        }
        for node in new {
            // where something is compiled anyway, if there is room
            let room = |at: &usize| self.shards[*at].nodes.len() < SET;
            let stale_one = (0..stale.len()).filter(|at| stale[*at]).find(room);
            let at = stale_one.or_else(|| (0..stale.len()).find(room)).unwrap_or_else(|| {
                self.shards.push(Shard::default());
                stale.push(true);
                stale.len() - 1
            });
            stale[at] = true;
            self.shards[at].nodes.push(node);
        }
        for (shard, _) in self.shards.iter_mut().zip(&stale).filter(|(_, stale)| **stale) {
            let patterns = shard.nodes.iter().map(|node| String::from_utf8_lossy(node.key()).into_owned());
            shard.set = Set::new(patterns).map(Arc::new);
        }
        self.shards.retain(|shard| !shard.nodes.is_empty());
    }

    /// Whether there is no expression.
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Adds the lists of all expressions that the host fits.
    #[inline]
    pub fn open<'a>(&'a self, host: &str, path: &str, cursors: &mut Cursors<'a>) {
        for Shard { set, nodes } in &self.shards {
            let Some(set) = set else {
                nodes.iter().for_each(|node| node.open(path, false, cursors));
                continue;
            };
            let mut scratch = set.scratches.get();
            let Scratch { cache, fits } = &mut *scratch;
            fits.clear();
            set.regex.which_overlapping_matches_with(cache, &Input::new(host), fits);
            for pattern in &set.always {
                nodes[*pattern].open(path, true, cursors);
            }
            for pattern in fits.iter().map(|pattern| pattern.as_usize()) {
                if !set.always.contains(&pattern) {
                    nodes[pattern].open(path, true, cursors);
                }
            }
        }
    }
}
