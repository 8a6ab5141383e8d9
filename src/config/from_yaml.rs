//! YAML (and JSON) into what it says: the one place that knows the YAML crate.

use super::file::{MAX_DEPTH, malformed};
use super::raw::{Raw, Spot, Step};
use super::value::Leaf;
use crate::diagnostic::Diagnostic;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use std::fmt;
use std::sync::Arc;

/// Values that aliases may unfold to.
const MAX_NODES: usize = 50_000;

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

/// Takes a document apart.
pub(super) fn parse(text: &str, source: &Arc<str>) -> Result<Vec<Raw>, Box<Diagnostic>> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, max_nodes: MAX_NODES, max_documents: 4 },
    };
    let tree: Option<Spanned<Tree>> = serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let at = e.location().map_or(Spot { line: 1, column: 1 }, spot);
        malformed(source, at, &message(&e.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter)))
    })?;
    let mut out = Vec::new();
    match tree {
        None => {}
        Some(Spanned { value: Tree::Null, .. }) => {}
        Some(Spanned { value: Tree::Map(members), .. }) => {
            Flatten { text, source, out: &mut out, path: Vec::new() }.map(members);
        }
        Some(other) => return Err(malformed(source, spot(other.referenced), "expected keys with values at the top")),
    }
    Ok(out)
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

struct Flatten<'a> {
    text: &'a str,
    source: &'a Arc<str>,
    out: &'a mut Vec<Raw>,
    path: Vec<Step>,
}

impl Flatten<'_> {
    fn map(&mut self, members: Vec<(Spanned<Name>, Spanned<Tree>)>) {
        for (name, value) in members {
            self.path.push(Step { name: name.value.0, at: Some(spot(name.referenced)) });
            self.value(value);
            self.path.pop();
        }
    }

    fn value(&mut self, node: Spanned<Tree>) {
        let at = spot(node.referenced);
        let leaf = match node.value {
            Tree::Map(members) if members.is_empty() => Leaf::Group,
            Tree::Map(members) => return self.map(members),
            Tree::Null => Leaf::Null,
            Tree::Text(text) => Leaf::Text(text),
            Tree::Plain(text) => Leaf::Text(self.as_written(node.defined, text)),
            Tree::List(items) if items.iter().any(|i| matches!(i.value, Tree::Map(_) | Tree::List(_))) => {
                for (i, item) in items.into_iter().enumerate() {
                    self.path.push(Step { name: format!("[{i}]"), at: Some(spot(item.referenced)) });
                    self.value(item);
                    self.path.pop();
                }
                return;
            }
            Tree::List(items) => Leaf::List(
                items
                    .into_iter()
                    .filter_map(|item| match item.value {
                        Tree::Text(text) => Some(text),
                        Tree::Plain(text) => Some(self.as_written(item.defined, text)),
                        _ => None,
                    })
                    .collect(),
            ),
        };
        self.out.push(Raw { path: self.path.clone(), leaf, at: Some(at), source: self.source.clone() });
    }

    /// A number as it stands in the file (`0123`, `1.50`), so that texts that look like numbers
    /// stay what they are.
    fn as_written(&self, location: Location, parsed: String) -> String {
        let span = location.span();
        let written = span.byte_offset().zip(span.byte_len()).and_then(|(offset, len)| {
            let start = usize::try_from(offset).ok()?;
            self.text.get(start..start.checked_add(usize::try_from(len).ok()?)?)
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
