//! Which blocked query a write wakes, when the table is an immutable radix tree.
//!
//! Nomad and Consul keep their tables in go-memdb over go-immutable-radix: a query watches the one
//! tree node under which its rows hang (or, when it has none, the node where the search ended), and
//! a write closes the watch channel of every node it touches. So a query is woken by its own rows,
//! and besides by neighbours whose insertion splits its node or whose removal merges it. The shape
//! of such a tree follows from its keys alone, so this keeps a sorted set of keys and works out the
//! nodes: a node is named by its full prefix.
//!
//! Source: <https://github.com/hashicorp/go-immutable-radix> (`insert`, `delete`, `mergeChild`,
//! `SeekPrefixWatch`); the tests hold the wake-ups measured at Nomad 2.0.5.

use std::collections::BTreeSet;

/// The keys of one index.
#[derive(Debug, Default, Clone)]
pub struct Radix {
    keys: BTreeSet<Vec<u8>>,
}

/// The nodes that one write touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    key: Vec<u8>,
    also: Option<Vec<u8>>,
}

impl Touched {
    /// Whether the node with this full prefix was touched.
    pub fn hits(&self, node: &[u8]) -> bool {
        self.key.starts_with(node) || self.also.as_deref() == Some(node)
    }
}

impl Radix {
    /// The node that a query for all keys with this prefix watches.
    pub fn watched(&self, search: &[u8]) -> Vec<u8> {
        if search.is_empty() {
            return Vec::new();
        }
        if let Some(node) = self.node_over(search) {
            return node;
        }
        let before = self.keys.range(..search.to_vec()).next_back();
        let after = self.keys.range(search.to_vec()..).next();
        let shared = before.into_iter().chain(after).map(|key| common(key, search)).max().unwrap_or(0);
        match shared {
            0 => Vec::new(),
            n => self.node_over(&search[..n]).unwrap_or_default(),
        }
    }

    /// Puts a key in (or writes it anew); says which nodes of the former tree that touched.
    pub fn insert(&mut self, key: &[u8]) -> Touched {
        let also = (!self.keys.contains(key)).then(|| self.watched(key));
        self.keys.insert(key.to_vec());
        Touched { key: key.to_vec(), also }
    }

    /// Takes a key out; says which nodes of the former tree that touched.
    pub fn remove(&mut self, key: &[u8]) -> Touched {
        self.keys.remove(key);
        let before = self.keys.range(..key.to_vec()).next_back();
        let after = self.keys.range(key.to_vec()..).next();
        let parent = before.into_iter().chain(after).map(|other| common(other, key)).max().unwrap_or(0);
        // The root is never merged; a parent left with one edge is merged with the child below it.
        let also = match parent {
            0 => None,
            n => self.node_over(&key[..n]).filter(|child| child.len() > n),
        };
        Touched { key: key.to_vec(), also }
    }

    /// Full prefix of the smallest node that holds every key with this prefix.
    fn node_over(&self, prefix: &[u8]) -> Option<Vec<u8>> {
        let mut end = prefix.to_vec();
        end.push(0xff); // in no UTF-8 text
        let mut range = self.keys.range(prefix.to_vec()..end);
        let first = range.next()?;
        let last = range.next_back().unwrap_or(first);
        let shared = if first == last { first.len() } else { common(first, last) };
        Some(first[..shared].to_vec())
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(namespace: &str, name: &str) -> Vec<u8> {
        format!("{namespace}\0{name}\0{namespace}\0_nomad-task-{name}\0").into_bytes()
    }

    /// Jobs of one service each, started and purged in this order at Nomad 2.0.5 with all these
    /// queries blocked anew before each step; listed are the queries that returned.
    #[test]
    fn wakes_the_queries_that_nomad_woke() {
        let names = [
            ("alpha", "default\0alpha\0"),
            ("beta", "default\0beta\0"),
            ("alp", "default\0alp\0"),
            ("absent", "default\0absent\0"),
            ("zz", "default\0zz\0"),
            ("alpha@team", "team\0alpha\0"),
        ];
        let steps: [(&str, &str, &str, &[&str]); 14] = [
            ("+", "default", "alpha", &["alpha", "beta", "alp", "absent", "zz", "alpha@team"]),
            ("+", "default", "beta", &["alpha", "beta", "alp", "absent", "zz", "alpha@team"]),
            ("+", "default", "zzz", &["zz", "alpha@team"]),
            ("+", "default", "alpine", &["alpha", "alp", "absent", "alpha@team"]),
            ("+", "default", "alpen", &["alp", "absent", "alpha@team"]),
            ("+", "team", "zeta", &["alpha@team"]),
            ("+", "team", "alpha", &["alpha@team"]),
            ("-", "default", "alpine", &["alp", "absent"]),
            ("-", "default", "alpen", &["alpha", "alp", "absent"]),
            ("-", "default", "zzz", &["zz"]),
            ("-", "default", "beta", &["alpha", "beta", "alp", "absent", "zz"]),
            ("-", "team", "zeta", &["alpha@team"]),
            ("-", "team", "alpha", &["alpha@team"]),
            ("-", "default", "alpha", &["alpha", "beta", "alp", "absent", "zz", "alpha@team"]),
        ];
        let mut tree = Radix::default();
        for (what, namespace, name, woken) in steps {
            let watches: Vec<_> = names.iter().map(|(label, q)| (*label, tree.watched(q.as_bytes()))).collect();
            let key = key(namespace, name);
            let touched = if what == "+" { tree.insert(&key) } else { tree.remove(&key) };
            let hit: Vec<_> = watches.iter().filter(|(_, w)| touched.hits(w)).map(|(label, _)| *label).collect();
            assert_eq!(hit, woken, "{what}{namespace}/{name}");
        }
    }

    #[test]
    fn everything_watches_the_root_of_an_empty_tree() {
        let mut tree = Radix::default();
        let watched = tree.watched(b"default\0web\0");
        assert_eq!(watched, b"");
        assert!(tree.insert(&key("team", "other")).hits(&watched));
    }

    proptest! {
        /// What must never happen: a query that sleeps through a change of its own rows.
        #[test]
        fn never_misses_an_own_row(
            before in proptest::collection::btree_set("[ab]{1,3}", 0..8),
            name in "[ab]{1,3}",
        ) {
            let mut tree = Radix::default();
            for n in &before { tree.insert(&key("default", n)); }
            let watched = tree.watched(format!("default\0{name}\0").as_bytes());
            let touched = if before.contains(&name) { tree.remove(&key("default", &name)) } else { tree.insert(&key("default", &name)) };
            prop_assert!(touched.hits(&watched));
        }
    }
}
