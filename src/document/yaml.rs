//! YAML and JSON: the one place that knows the YAML crate.

use super::{Limits, Malformed, Member, Node, Spot, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use std::fmt;

/// A node of the document with the places of keys and values.
enum Tree {
    Null,
    /// A quoted or plain text.
    Text(String),
    /// A boolean or a number, to be taken as it is written.
    Plain(String),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<Name>, Spanned<Tree>)>),
}

/// A key: any scalar.
struct Name(String);

pub(super) fn read(text: &str, limits: Limits) -> Result<Vec<Member>, Malformed> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            max_depth: limits.depth,
            max_nodes: limits.values,
            max_events: limits.values.saturating_mul(3),
            max_documents: 4,
        },
    };
    let tree: Option<Spanned<Tree>> = serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let at = e.location().map_or(Spot { line: 1, column: 1 }, spot);
        let text = e.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter);
        Malformed::new(at, message(&text))
    })?;
    match tree {
        None | Some(Spanned { value: Tree::Null, .. }) => Ok(Vec::new()),
        Some(Spanned { value: Tree::Map(members), .. }) => Ok(Written(text).members(members)),
        Some(other) => Err(Malformed::new(spot(other.referenced), "expected keys with values at the top")),
    }
}

/// The crate's message on one line, without the place, which is told apart from it.
fn message(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.find(" at line ").map_or(line, |at| &line[..at]);
    let line = line.trim_end_matches('.').trim();
    let mut chars = line.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}", first.to_ascii_lowercase(), chars.as_str()))
}

fn spot(location: Location) -> Spot {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    Spot { line: number(location.line()), column: number(location.column()) }
}

/// The text, where scalars are looked up as they are written.
struct Written<'a>(&'a str);

impl Written<'_> {
    fn members(&self, members: Vec<(Spanned<Name>, Spanned<Tree>)>) -> Vec<Member> {
        let member = |(name, node): (Spanned<Name>, Spanned<Tree>)| Member {
            at: spot(name.referenced),
            name: name.value.0,
            node: self.node(node),
        };
        members.into_iter().map(member).collect()
    }

    fn node(&self, node: Spanned<Tree>) -> Node {
        let value = match node.value {
            Tree::Null => Value::Null,
            Tree::Text(text) => Value::Text(text),
            Tree::Plain(text) => Value::Plain(self.scalar(node.defined, text)),
            Tree::List(items) => Value::List(items.into_iter().map(|item| self.node(item)).collect()),
            Tree::Map(members) => Value::Map(self.members(members)),
        };
        Node { at: spot(node.referenced), value }
    }

    /// A number as it stands in the file, so that texts that look like numbers stay what they are.
    fn scalar(&self, location: Location, parsed: String) -> String {
        let span = location.span();
        let written = span.byte_offset().zip(span.byte_len()).and_then(|(offset, len)| {
            let start = usize::try_from(offset).ok()?;
            self.0.get(start..start.checked_add(usize::try_from(len).ok()?)?)
        });
        match written.map(str::trim) {
            Some(written) if !written.is_empty() && !written.contains(char::is_whitespace) => written.to_owned(),
            _ => parsed,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Tree, D::Error> {
                Tree::deserialize(d)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Tree, E> {
                Ok(Tree::Plain(v.to_string()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Tree, E> {
                Ok(Tree::Plain(v.to_string()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Tree, E> {
                Ok(Tree::Plain(v.to_string()))
            }
            fn visit_i128<E>(self, v: i128) -> Result<Tree, E> {
                Ok(Tree::Plain(v.to_string()))
            }
            fn visit_u128<E>(self, v: u128) -> Result<Tree, E> {
                Ok(Tree::Plain(v.to_string()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Tree, E> {
                Ok(Tree::Plain(v.to_string()))
            }
            fn visit_str<E>(self, v: &str) -> Result<Tree, E> {
                Ok(Tree::Text(v.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Map(members))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Name)
    }
}
