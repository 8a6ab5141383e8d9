//! The options as a tree of names: what a path leads to, whatever its case, and what is nearest to
//! a name that leads nowhere. Built once from `keys.rs` and `traefik_keys.txt`.

use super::keys::{Effect, Key, Kind, MOUNTS};
use std::sync::LazyLock;

/// Names longer than this are not compared with others.
const LONGEST_COMPARED: usize = 64;

/// A name in the tree and what stands below it.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Name in Traefik's spelling; `*` and `[]` for names and places that people choose.
    pub name: &'static str,
    /// The option, where one is defined here.
    pub key: Option<Key>,
    /// True where this or something below is served.
    pub acts: bool,
    children: Vec<Node>,
    star: Option<Box<Node>>,
    item: Option<Box<Node>>,
}

/// What may have been meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Nearest {
    /// A sibling.
    Here(&'static str),
    /// The same name elsewhere, with its path.
    Elsewhere(String),
    /// Nothing near; these are known there.
    Known(Vec<&'static str>),
}

static SCHEMA: LazyLock<Node> = LazyLock::new(build);

/// The root of the tree.
pub(super) fn root() -> &'static Node {
    &SCHEMA
}

fn build() -> Node {
    let mut root = Node { key: None, ..Node::default() };
    for (below, keys) in MOUNTS {
        for key in *keys {
            root.insert(below.split('.').filter(|s| !s.is_empty()).chain(key.path.split('.')), *key);
        }
    }
    for line in include_str!("traefik_keys.txt").lines().filter(|l| !l.starts_with('#')) {
        let (path, default) = line.split_once(' ').unwrap_or((line, ""));
        let key = Key { path, kind: Kind::Loose, default, effect: Effect::NotYet(""), doc: "" };
        root.insert(path.split('.'), key);
    }
    root.finish();
    root
}

impl Node {
    fn insert(&mut self, path: impl Iterator<Item = &'static str>, key: Key) {
        let mut node = self;
        for name in path {
            node = match name {
                "*" => node.star.get_or_insert_with(|| Box::new(Node { name: "*", ..Node::default() })),
                "[]" => node.item.get_or_insert_with(|| Box::new(Node { name: "[]", ..Node::default() })),
                _ => {
                    let at = node.children.iter().position(|c| c.name == name).unwrap_or_else(|| {
                        node.children.push(Node { name, ..Node::default() });
                        node.children.len() - 1
                    });
                    &mut node.children[at]
                }
            };
        }
        if node.key.is_none() {
            node.key = Some(key);
        }
    }

    /// Settles the kinds of what is only known, and which subtrees act.
    fn finish(&mut self) -> bool {
        let mut below = false;
        for child in self.children.iter_mut().chain(self.star.as_deref_mut()).chain(self.item.as_deref_mut()) {
            below |= child.finish();
        }
        let group = self.has_children();
        if let Some(key) = self.key.as_mut().filter(|key| key.kind == Kind::Loose) {
            key.kind = match (group, matches!(key.default, "true" | "false")) {
                (true, true) => Kind::Switch,
                (true, false) => Kind::Section,
                (false, true) => Kind::Bool,
                (false, false) => Kind::Loose,
            };
        }
        self.acts = below || self.key.is_some_and(|key| !matches!(key.effect, Effect::NotYet(_) | Effect::Guard(_)));
        self.acts
    }

    fn has_children(&self) -> bool {
        !self.children.is_empty() || self.star.is_some() || self.item.is_some()
    }

    /// What its value looks like.
    pub fn kind(&self) -> Kind {
        self.key.map_or(Kind::Section, |key| key.kind)
    }

    /// The node below with that name, whatever its case; then the one for any name.
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|c| c.name.eq_ignore_ascii_case(name)).or(self.star.as_deref())
    }

    /// The nodes with names of their own below.
    pub fn children(&self) -> &[Node] {
        &self.children
    }

    /// The node of names that people choose.
    pub fn star(&self) -> Option<&Node> {
        self.star.as_deref()
    }

    /// The node of a place in a list of groups.
    pub fn item(&self) -> Option<&Node> {
        self.item.as_deref()
    }

    /// The option at a dotted path of the tables.
    pub fn find(&self, path: impl IntoIterator<Item = impl AsRef<str>>) -> Option<&Node> {
        path.into_iter().try_fold(self, |node, name| node.child(name.as_ref()))
    }

    /// What may have been meant by a name that is not known here.
    pub fn nearest(&self, name: &str) -> Nearest {
        let lower = name.to_ascii_lowercase();
        if lower.len() <= LONGEST_COMPARED {
            let allowed = (lower.len() / 3).max(2);
            let near = self
                .children
                .iter()
                .map(|c| (strsim::osa_distance(&lower, &c.name.to_ascii_lowercase()), c))
                .filter(|(distance, _)| *distance <= allowed && *distance < lower.len())
                .min_by_key(|(distance, c)| (*distance, !c.acts));
            if let Some((_, child)) = near {
                return Nearest::Here(child.name);
            }
            let mut elsewhere = Vec::new();
            root().same_name(&lower, &mut Vec::new(), &mut elsewhere);
            if let Some((_, path)) = elsewhere.into_iter().min() {
                return Nearest::Elsewhere(path);
            }
        }
        let mut known: Vec<_> = self.children.iter().collect();
        known.sort_by_key(|c| (!c.acts, c.name));
        Nearest::Known(known.into_iter().map(|c| c.name).take(8).collect())
    }

    fn same_name(&self, lower: &str, path: &mut Vec<&'static str>, found: &mut Vec<(bool, String)>) {
        for child in self.children.iter().chain(self.star.as_deref()).chain(self.item.as_deref()) {
            path.push(if child.name == "*" { "<name>" } else { child.name });
            if child.name.eq_ignore_ascii_case(lower) && child.key.is_some() {
                found.push((!child.acts, path.join(".")));
            }
            child.same_name(lower, path, found);
            path.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value;

    /// Every node with its dotted path.
    fn all(node: &'static Node, path: &str, each: &mut dyn FnMut(&str, &'static Node)) {
        for child in node.children.iter().chain(node.star.as_deref()).chain(node.item.as_deref()) {
            let path = if path.is_empty() { child.name.to_owned() } else { format!("{path}.{}", child.name) };
            each(&path, child);
            all(child, &path, each);
        }
    }

    #[test]
    fn every_served_option_has_a_doc_and_a_default_that_its_kind_takes() {
        let mut seen = 0;
        all(root(), "", &mut |path, node| {
            let Some(key) = node.key else { return };
            seen += 1;
            if key.effect == Effect::Acts {
                assert!(!key.doc.is_empty(), "{path}");
            }
            if !key.default.is_empty() {
                assert!(value::read(key.kind, &value::Leaf::Text(key.default.to_owned())).is_ok(), "{path}");
            }
        });
        assert!(seen > 500, "{seen}");
    }

    #[test]
    fn finds_whatever_the_case_and_names_that_people_choose() {
        let node = root().find(["ENTRYPOINTS", "any", "forwardedheaders", "trustedips"]).unwrap();
        assert_eq!((node.name, node.kind()), ("trustedIPs", Kind::Nets));
        assert!(root().find(["entryPoints", "any", "adress"]).is_none());
    }

    #[test]
    fn only_subtrees_with_something_served_act() {
        for (path, acts) in
            [("providers", true), ("providers.docker", false), ("metrics.datadog", false), ("tracing", false)]
        {
            assert_eq!(root().find(path.split('.')).unwrap().acts, acts, "{path}");
        }
    }

    #[test]
    fn names_the_nearest() {
        let entry_point = root().find(["entryPoints", "web"]).unwrap();
        assert_eq!(entry_point.nearest("adress"), Nearest::Here("address"));
        assert_eq!(root().nearest("entrypoint"), Nearest::Here("entryPoints"));
        assert_eq!(
            entry_point.nearest("trustedIPs"),
            Nearest::Elsewhere("entryPoints.<name>.forwardedHeaders.trustedIPs".into())
        );
        let Nearest::Known(known) = entry_point.nearest("zzzzzzzz") else { panic!() };
        assert!(known.contains(&"address"));
    }
}
