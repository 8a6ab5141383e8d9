//! From a text to what is known of it: a hash table that is copied where it is changed and shared elsewhere. A look-up
//! touches two places of memory, the slot and the value (which holds its own key).
//!
//! What always holds: entries are spread over shards by their hash, no more than 256, so that a change copies the list
//! of shards and one shard; the table never grows as a whole beyond some hundred entries.

use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The hasher is fixed, since a version of a table shares shards with the one before. Keys come from catalogs;
/// requests only look up.
const HASHER: FixedState = FixedState::with_seed(0x5eed_0f40_57ed_ab1e);
/// Shards become sixteen times as many when they hold more than this on average, up to [`MOST`].
const FULL: usize = 32;
const MOST: usize = 256;

/// A value that knows its key.
pub(super) trait HasKey {
    fn key(&self) -> &[u8];
}

/// Slots with linear probing, at most half of them taken. A hash beside the value spares a look at most others.
type Shard<T> = Arc<[Option<(u64, Arc<T>)>]>;

/// The table.
#[derive(Debug)]
pub(super) struct Keyed<T> {
    shards: Box<[Shard<T>]>,
    len: usize,
}

impl<T> Clone for Keyed<T> {
    fn clone(&self) -> Self {
        Self { shards: self.shards.clone(), len: self.len }
    }
}

impl<T> Default for Keyed<T> {
    fn default() -> Self {
        Self { shards: Box::new([Arc::new([])]), len: 0 }
    }
}

impl<T: HasKey> Keyed<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&T> {
        if self.len == 0 {
            return None;
        }
        let hash = HASHER.hash_one(key);
        let slots = &self.shards[shard_of(hash, self.shards.len())];
        let at = find(slots, hash, key)?;
        slots[at].as_ref().map(|(_, value)| &**value)
    }

    /// All values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        self.shards.iter().flat_map(|slots| slots.iter().flatten()).map(|(_, value)| value)
    }

    /// Puts what `change` makes of the present value in its place.
    pub fn change(&mut self, key: &[u8], change: impl FnOnce(Option<&T>) -> Option<T>) {
        let hash = HASHER.hash_one(key);
        let shard = &mut self.shards[shard_of(hash, self.shards.len())];
        let at = find(shard, hash, key);
        let old = at.and_then(|at| shard[at].as_ref()).map(|(_, value)| &**value);
        let new = change(old).map(Arc::new);
        match (at, new) {
            (None, None) => {}
            (Some(at), Some(new)) => Arc::make_mut(shard)[at] = Some((hash, new)),
            (Some(at), None) => {
                let others = shard.iter().enumerate().filter(|(n, _)| *n != at);
                *shard = table_of(others.filter_map(|(_, slot)| slot.clone()).collect());
                self.len -= 1;
            }
            (None, Some(new)) => {
                // a slot more than half must stay free, or a search would not end
                let taken = shard.iter().flatten().count();
                if (taken + 1) * 2 > shard.len() {
                    *shard = table_of(shard.iter().flatten().cloned().chain([(hash, new)]).collect());
                } else {
                    place(Arc::make_mut(shard), (hash, new));
                }
                self.len += 1;
                self.grow();
            }
        }
    }

    fn grow(&mut self) {
        if self.shards.len() == MOST || self.len <= FULL * self.shards.len() {
            return;
        }
        let count = self.shards.len() * 16;
        let mut shards: Vec<Vec<(u64, Arc<T>)>> = (0..count).map(|_| Vec::new()).collect();
        for entry in self.shards.iter().flat_map(|slots| slots.iter().flatten()) {
            shards[shard_of(entry.0, count)].push(entry.clone());
        }
        self.shards = shards.into_iter().map(table_of).collect();
    }
}

/// The upper bits of a hash choose the shard, the lower ones the slot.
#[inline]
fn shard_of(hash: u64, count: usize) -> usize {
    (hash >> 56) as usize * count / MOST
}

#[inline]
fn find<T: HasKey>(slots: &[Option<(u64, Arc<T>)>], hash: u64, key: &[u8]) -> Option<usize> {
    let mask = slots.len().checked_sub(1)?;
    let mut at = hash as usize & mask;
    while let Some((of, value)) = &slots[at] {
        if *of == hash && value.key() == key {
            return Some(at);
        }
        at = (at + 1) & mask;
    }
    None
}

fn place<T>(slots: &mut [Option<(u64, Arc<T>)>], entry: (u64, Arc<T>)) {
    let mask = slots.len() - 1;
    let mut at = entry.0 as usize & mask;
    while slots[at].is_some() {
        at = (at + 1) & mask;
    }
    slots[at] = Some(entry);
}

fn table_of<T>(entries: Vec<(u64, Arc<T>)>) -> Shard<T> {
    if entries.is_empty() {
        return Arc::new([]);
    }
    let mut slots: Vec<_> = (0..(entries.len() * 2).next_power_of_two()).map(|_| None).collect();
    entries.into_iter().for_each(|entry| place(&mut slots, entry));
    slots.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone, PartialEq)]
    struct Pair(String, u8);

    impl HasKey for Pair {
        fn key(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn it_is_a_map_whose_versions_do_not_disturb_each_other(
            steps in proptest::collection::vec(("[a-d]{0,5}", proptest::option::weighted(0.7, any::<u8>())), 0..1500),
        ) {
            let (mut table, mut plain) = (Keyed::default(), BTreeMap::new());
            let mut versions = Vec::new();
            for (n, (key, value)) in steps.into_iter().enumerate() {
                table.change(key.as_bytes(), |old| {
                    assert_eq!(old.map(|pair: &Pair| pair.1), plain.get(&key).copied());
                    value.map(|value| Pair(key.clone(), value))
                });
                match value {
                    Some(value) => plain.insert(key, value),
                    None => plain.remove(&key),
                };
                if n % 100 == 0 {
                    versions.push((table.clone(), plain.clone()));
                }
            }
            versions.push((table, plain));
            for (table, plain) in versions {
                let mut all: Vec<_> = table.values().map(|pair| (pair.0.clone(), pair.1)).collect();
                all.sort();
                prop_assert_eq!(table.len(), plain.len());
                prop_assert_eq!(all, plain.clone().into_iter().collect::<Vec<_>>());
                for (key, value) in &plain {
                    prop_assert_eq!(table.get(key.as_bytes()).map(|pair| pair.1), Some(*value));
                }
                prop_assert!(table.get(b"x").is_none());
            }
        }
    }
}
