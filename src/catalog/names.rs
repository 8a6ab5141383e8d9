//! The names of a list, as they stand in its body: lists of ten thousand names come again and again with nothing new in
//! them, so nothing of them is copied that is not news.
//!
//! What always holds: any bytes give a value or an error, never a panic; names are in the order of [`ServiceKey`], each
//! once.

use super::ServiceKey;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, de};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Names of a list that are routed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names<'a>(Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)>);

impl<'a> Names<'a> {
    /// None.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Out of namespaces and their names, in any order.
    pub fn new(mut namespaces: Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)>) -> Self {
        namespaces.sort_by(|(a, _), (b, _)| a.cmp(b));
        namespaces.dedup_by(|(second, more), (first, names)| {
            let same = first == second;
            if same {
                names.append(more);
            }
            same
        });
        for (_, names) in &mut namespaces {
            names.sort_unstable();
            names.dedup();
        }
        namespaces.retain(|(_, names)| !names.is_empty());
        Self(namespaces)
    }

    /// Namespaces and names in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(namespace, names)| names.iter().map(|name| (&**namespace, &**name)))
    }

    /// The same as keys.
    pub fn keys(&self) -> impl Iterator<Item = ServiceKey> {
        self.0.iter().flat_map(|(namespace, names)| {
            let namespace: Arc<str> = (&**namespace).into();
            names.iter().map(move |name| ServiceKey { namespace: namespace.clone(), name: (&**name).into() })
        })
    }

    /// Whether a service is among them.
    pub fn contains(&self, key: &ServiceKey) -> bool {
        let found = self.0.binary_search_by(|(namespace, _)| (**namespace).cmp(&key.namespace));
        let names = found.ok().and_then(|at| self.0.get(at)).map(|(_, names)| names);
        names.is_some_and(|names| names.binary_search_by(|name| (**name).cmp(&key.name)).is_ok())
    }
}

/// Which services are routed.
#[derive(Clone, Copy)]
pub struct Routes<'r> {
    /// True for a routing tag.
    pub tag: &'r dyn Fn(&str) -> bool,
    /// All are, whatever their tags.
    pub all: bool,
}

/// A text that is borrowed where it has no escapes.
#[derive(Deserialize, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Text<'_> {
    pub(super) fn shared(&self) -> Arc<str> {
        Arc::from(&*self.0)
    }
}

/// Reads tags, or null, to whether they make their service a routed one; those after the first that does are passed over.
impl<'de> DeserializeSeed<'de> for Routes<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Routes<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags")
    }

    fn visit_unit<E: de::Error>(self) -> Result<bool, E> {
        Ok(self.all)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tags: A) -> Result<bool, A::Error> {
        let mut routed = self.all;
        while !routed {
            match tags.next_element::<Text<'_>>()? {
                Some(tag) => routed = (self.tag)(&tag.0),
                None => return Ok(false),
            }
        }
        while tags.next_element::<IgnoredAny>()?.is_some() {}
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_each_once() {
        let group = |namespace: &'static str, names: &[&'static str]| {
            (Cow::from(namespace), names.iter().map(|name| Cow::from(*name)).collect::<Vec<_>>())
        };
        let names = Names::new(vec![group("b", &["z", "a", "z"]), group("a", &["m"]), group("b", &["k", "a"])]);
        assert_eq!(names.iter().collect::<Vec<_>>(), [("a", "m"), ("b", "a"), ("b", "k"), ("b", "z")]);
        assert!(names.keys().is_sorted() && names.keys().all(|key| names.contains(&key)));
        let key = |namespace: &str, name: &str| ServiceKey { namespace: namespace.into(), name: name.into() };
        assert!(!names.contains(&key("a", "k")) && !names.contains(&key("c", "z")));
    }

    #[test]
    fn one_routing_tag_is_enough_and_none_is_needed_where_all_are_routed() {
        let read = |json: &str, all| {
            let routes = Routes { tag: &|tag| tag == "on", all };
            routes.deserialize(&mut serde_json::Deserializer::from_str(json)).ok()
        };
        for (json, some, all) in [
            ("[]", Some(false), Some(true)),
            ("null", Some(false), Some(true)),
            (r#"["a","b"]"#, Some(false), Some(true)),
            (r#"["a","on","b"]"#, Some(true), Some(true)),
            (r#"["\u006fn"]"#, Some(true), Some(true)),
            (r#"["on",]"#, None, None),
            (r#"["on""#, None, None),
            (r#"[1]"#, None, Some(true)),
            ("7", None, None),
        ] {
            assert_eq!((read(json, false), read(json, true)), (some, all), "{json}");
        }
    }
}
