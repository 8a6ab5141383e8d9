//! An ordered map whose copies share what they have in common, so that a new version of a map of thousands costs what
//! differs from the last one, and so does finding that out.
//!
//! What always holds: a value is known by its `Arc`. [`Map::differences`] tells of another `Arc` even where the values
//! are equal; `==` compares the values, but only where the `Arc`s differ.

use imbl::ordmap::{self, DiffItem};
use imbl::shared_ptr::DefaultSharedPtr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// An ordered map of shared values; cloning it is cheap.
pub struct Map<K, V: ?Sized>(imbl::OrdMap<K, Held<V>>);

/// A value that equals only itself.
struct Held<V: ?Sized>(Arc<V>);

impl<V: ?Sized> Clone for Held<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V: ?Sized> PartialEq for Held<V> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What stands otherwise under one key in two maps.
#[derive(Debug)]
pub struct Difference<'a, K, V: ?Sized> {
    /// The key.
    pub key: &'a K,
    /// What stood there.
    pub before: Option<&'a Arc<V>>,
    /// What stands there now.
    pub after: Option<&'a Arc<V>>,
}

impl<K: Ord + Clone, V: ?Sized> Map<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self(imbl::OrdMap::new())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).map(|held| &held.0)
    }

    /// The key as it is kept, and its value.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &Arc<V>)>
    where
        K: Borrow<Q>,
    {
        self.0.get_key_value(key).map(|(key, held)| (key, &held.0))
    }

    /// The value of a key, to be replaced; what it shares with other maps is copied.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut(key).map(|held| &mut held.0)
    }

    /// Whether there is a value of this key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// Sets a value; gives the one that was there.
    pub fn insert(&mut self, key: K, value: Arc<V>) -> Option<Arc<V>> {
        self.0.insert(key, Held(value)).map(|held| held.0)
    }

    /// Takes a value out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        // a removal would copy the way to a key that is not there
        if !self.0.contains_key(key) {
            return None;
        }
        self.0.remove(key).map(|held| held.0)
    }

    /// Sets a value, or takes it out.
    pub fn set(&mut self, key: &K, value: Option<Arc<V>>) {
        match value {
            Some(value) => drop(self.insert(key.clone(), value)),
            None => drop(self.remove(key)),
        }
    }

    /// Entries in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.0.iter())
    }

    /// Keys in order.
    pub fn keys(&self) -> Keys<'_, K, V> {
        Keys(self.iter())
    }

    /// Values in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Arc<V>> {
        self.0.values().map(|held| &held.0)
    }

    /// Where `after` is another map than this one, in the order of the keys. Parts that both share are passed over
    /// unseen.
    pub fn differences<'a>(&'a self, after: &'a Self) -> impl Iterator<Item = Difference<'a, K, V>> {
        self.0.diff(&after.0).map(|item| match item {
            DiffItem::Add(key, new) => Difference { key, before: None, after: Some(&new.0) },
            DiffItem::Update { old: (_, old), new: (key, new) } => {
                Difference { key, before: Some(&old.0), after: Some(&new.0) }
            }
            DiffItem::Remove(key, old) => Difference { key, before: Some(&old.0), after: None },
        })
    }
}

/// Entries of a [`Map`] in order.
pub struct Iter<'a, K, V: ?Sized>(ordmap::Iter<'a, K, Held<V>, DefaultSharedPtr>);

impl<K, V: ?Sized> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<'a, K, V: ?Sized> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a Arc<V>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, held)| (key, &held.0))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// Keys of a [`Map`] in order.
pub struct Keys<'a, K, V: ?Sized>(Iter<'a, K, V>);

impl<'a, K, V: ?Sized> Iterator for Keys<'a, K, V> {
    type Item = &'a K;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, _)| key)
    }
}

impl<K: fmt::Debug, V: ?Sized> fmt::Debug for Keys<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.clone().map(|(key, _)| key)).finish()
    }
}

impl<'a, K: Ord + Clone, V: ?Sized> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a Arc<V>);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord + Clone, V: ?Sized> IntoIterator for Map<K, V> {
    type Item = (K, Arc<V>);
    type IntoIter = IntoIter<K, V>;

    fn into_iter(self) -> Self::IntoIter {
        IntoIter(self.0.into_iter())
    }
}

/// Entries of a [`Map`] in order, taken out of it.
pub struct IntoIter<K, V: ?Sized>(ordmap::ConsumingIter<K, Held<V>, DefaultSharedPtr>);

impl<K: Clone, V: ?Sized> Iterator for IntoIter<K, V> {
    type Item = (K, Arc<V>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, held)| (key, held.0))
    }
}

impl<K, V: ?Sized> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Ord + Clone, V: ?Sized> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone, V: ?Sized> Extend<(K, Arc<V>)> for Map<K, V> {
    fn extend<I: IntoIterator<Item = (K, Arc<V>)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord + Clone, V: ?Sized> FromIterator<(K, Arc<V>)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, Arc<V>)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord + Clone, V: ?Sized, const N: usize> From<[(K, Arc<V>); N]> for Map<K, V> {
    fn from(entries: [(K, Arc<V>); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Ord + Clone + Borrow<Q>, Q: Ord + ?Sized, V: ?Sized> std::ops::Index<&Q> for Map<K, V> {
    type Output = Arc<V>;

    /// # Panics
    /// Without such a key.
    fn index(&self, key: &Q) -> &Arc<V> {
        &self.0[key].0
    }
}

impl<K: Ord + Clone, V: PartialEq + ?Sized> PartialEq for Map<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.differences(other).all(|d| match (d.before, d.after) {
                (Some(before), Some(after)) => before == after,
                _ => false,
            })
    }
}

impl<K: Ord + Clone, V: Eq + ?Sized> Eq for Map<K, V> {}

impl<K: Ord + Clone + Hash, V: Hash + ?Sized> Hash for Map<K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.len());
        self.iter().for_each(|entry| entry.hash(state));
    }
}

impl<K: Ord + Clone + fmt::Debug, V: fmt::Debug + ?Sized> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: Ord + Clone + Serialize, V: Serialize + ?Sized> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, K: Ord + Clone + Deserialize<'de>, V: ?Sized> Deserialize<'de> for Map<K, V>
where
    Arc<V>: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = std::collections::BTreeMap::<K, Arc<V>>::deserialize(deserializer)?;
        Ok(map.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn it_is_the_map_that_it_seems_and_tells_each_difference(
            start in proptest::collection::btree_map(0u16..400, 0u8..3, 0..300),
            steps in proptest::collection::vec((0u16..400, proptest::option::of(0u8..3)), 0..40),
        ) {
            let start: BTreeMap<u16, Arc<u8>> = start.into_iter().map(|(k, v)| (k, Arc::new(v))).collect();
            let before: Map<u16, u8> = start.clone().into_iter().collect();
            let (mut plain, mut after) = (start.clone(), before.clone());
            for (key, value) in steps {
                let value = value.map(Arc::new);
                after.set(&key, value.clone());
                match value {
                    Some(value) => plain.insert(key, value),
                    None => plain.remove(&key),
                };
            }
            prop_assert_eq!(after.iter().collect::<Vec<_>>(), plain.iter().collect::<Vec<_>>());
            prop_assert_eq!(after == before, plain == start);
            let told: Vec<_> = before.differences(&after).map(|d| (*d.key, d.before.cloned(), d.after.cloned())).collect();
            let same = |a: Option<&Arc<u8>>, b: Option<&Arc<u8>>| match (a, b) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (a, b) => a.is_none() && b.is_none(),
            };
            let differ = (0..400).filter(|k| !same(start.get(k), plain.get(k)));
            let expected: Vec<_> = differ.map(|k| (k, start.get(&k).cloned(), plain.get(&k).cloned())).collect();
            prop_assert_eq!(told, expected);
        }
    }

    #[test]
    fn it_reads_as_it_is_written() {
        let map: Map<Arc<str>, str> = [("b".into(), "2".into()), ("a".into(), "1".into())].into();
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(text, r#"{"a":"1","b":"2"}"#);
        assert_eq!(serde_json::from_str::<Map<Arc<str>, str>>(&text).unwrap(), map);
    }
}
