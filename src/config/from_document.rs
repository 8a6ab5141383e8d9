//! The tree of a static file flattened into what it says: each value with its path and place.

use super::raw::{Raw, Step};
use super::value::Leaf;
use crate::document::{Member, Node, Value};
use std::sync::Arc;

/// Flattens the members of a file.
pub(super) fn flatten(members: Vec<Member>, source: &Arc<str>) -> Vec<Raw> {
    let mut flatten = Flatten { source, out: Vec::new(), path: Vec::new() };
    flatten.map(members);
    flatten.out
}

struct Flatten<'a> {
    source: &'a Arc<str>,
    out: Vec<Raw>,
    path: Vec<Step>,
}

impl Flatten<'_> {
    fn map(&mut self, members: Vec<Member>) {
        for member in members {
            self.path.push(Step { name: member.name, at: Some(member.at) });
            self.node(member.node);
            self.path.pop();
        }
    }

    fn node(&mut self, node: Node) {
        let leaf = match node.value {
            Value::Map(members) if members.is_empty() => Leaf::Group,
            Value::Map(members) => return self.map(members),
            Value::Null => Leaf::Null,
            Value::Text(text) | Value::Plain(text) => Leaf::Text(text),
            Value::List(items) if items.iter().any(|i| matches!(i.value, Value::Map(_) | Value::List(_))) => {
                for (i, item) in items.into_iter().enumerate() {
                    self.path.push(Step { name: format!("[{i}]"), at: Some(item.at) });
                    self.node(item);
                    self.path.pop();
                }
                return;
            }
            Value::List(items) => {
                let texts = items.into_iter().filter_map(|item| match item.value {
                    Value::Text(text) | Value::Plain(text) => Some(text),
                    _ => None,
                });
                Leaf::List(texts.collect())
            }
        };
        self.out.push(Raw { path: self.path.clone(), leaf, at: Some(node.at), source: self.source.clone() });
    }
}
