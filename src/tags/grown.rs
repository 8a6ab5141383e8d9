//! A definition as it grows label by label: a tree in the spelling of the reference, that becomes
//! Traefik's JSON at the end. It holds what Traefik's label parser holds
//! (<https://github.com/traefik/paerser>): names that differ only in case are one, in the spelling
//! of the first; list indexes are names in the order in which they come; a section that was
//! switched off does not count, whatever stands below it.

use crate::declare::options::{Kind, OptionDef};
use crate::declare::reference::defaults;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A section, or an option with its value.
#[derive(Debug, Clone, Default)]
pub struct Grown {
    name: String,
    /// Path in the reference, by which defaults are found.
    path: &'static str,
    /// Which child of its parent it was.
    turn: usize,
    is_list: bool,
    /// Something was said of what stands below it, be it nothing.
    entered: bool,
    off: bool,
    leaf: Option<Leaf>,
    children: BTreeMap<String, Grown>,
}

#[derive(Debug, Clone)]
struct Leaf {
    value: Value,
    /// Traefik's JSON leaves it out.
    hidden: bool,
}

/// Which of the options that say nothing are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All: the typed declaration that reads them knows defaults and what to leave out.
    Typed,
    /// Those that Traefik's JSON shows; defaults are filled in.
    Printed,
}

impl Grown {
    /// Sets an option; `path` are the label's elements behind the definition's name.
    pub fn set(&mut self, option: &'static OptionDef, path: &[&str], value: Value) {
        let mut node = self;
        let mut rest = path.iter();
        let mut end = option.path.split('.').take(3).map(|part| part.len() + 1).sum::<usize>() - 1;
        let mut known = option.path.split('.').skip(3).peekable();
        while let Some(part) = known.next() {
            end += 1 + part.len();
            let here = option.path.get(..end).unwrap_or_default();
            // what sets nothing leaves no more than the sections above it
            let Some(said) = rest.next() else { return };
            if value.is_null() && known.peek().is_none() {
                // nor anything of the same option in another case
                node.children.remove(&said.to_lowercase());
                node.entered = true;
                return;
            }
            node = match (part, part.strip_suffix("[]")) {
                ("**", _) => {
                    let below = node.child(said, said, here);
                    rest.by_ref().fold(below, |node, said| node.child(said, said, here))
                }
                ("*", _) if known.peek().is_none() => {
                    let key = rest.by_ref().fold((*said).to_owned(), |key, part| key + "." + part);
                    node.child(&key, &key, here)
                }
                ("*", _) => node.child(said, said, here),
                (_, None) => node.child(said, part, here),
                (_, Some(list)) => {
                    let Some(index) = rest.next() else { return };
                    let list = node.child(said, list, here);
                    list.is_list = true;
                    list.child(index, index, here)
                }
            };
        }
        if option.kind == Kind::Section {
            node.off = value == Value::Bool(false);
        } else {
            let hidden = !option.shown && option.kind.is_zero(&value);
            node.leaf = Some(Leaf { value, hidden });
        }
    }

    fn child(&mut self, said: &str, name: &str, path: &'static str) -> &mut Self {
        let turn = self.children.len();
        self.children.entry(said.to_lowercase()).or_insert_with(|| Self {
            name: name.to_owned(),
            path,
            turn,
            ..Self::default()
        })
    }

    /// Whether something was said below the section of this path.
    pub fn has_below(&self, path: &[&str]) -> bool {
        let found = path.iter().try_fold(self, |node, part| node.children.get(&part.to_lowercase()));
        found.is_some_and(|node| node.entered || !node.children.is_empty())
    }

    /// Whether it has this section or option, switched on.
    pub fn has(&self, name: &str) -> bool {
        self.children.get(&name.to_lowercase()).is_some_and(|child| !child.off)
    }

    /// The names of its sections and options, as Traefik spells them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.children.values().map(|child| child.name.as_str())
    }

    /// Its sections and options as JSON.
    pub fn finish(self, form: Form) -> Map<String, Value> {
        let mut map = match form {
            Form::Typed => Map::new(),
            Form::Printed => match defaults(self.path) {
                Value::Object(defaults) => defaults,
                _ => Map::new(),
            },
        };
        for mut child in self.children.into_values().filter(|child| !child.off) {
            let name = std::mem::take(&mut child.name);
            match child.value(form) {
                Some(value) => drop(map.insert(name, value)),
                None => drop(map.remove(&name)),
            }
        }
        map
    }

    fn value(mut self, form: Form) -> Option<Value> {
        if self.children.is_empty() {
            return match self.leaf {
                Some(leaf) if form == Form::Printed && leaf.hidden => None,
                Some(leaf) => Some(leaf.value),
                None => Some(Value::Object(self.finish(form))),
            };
        }
        // indexes of a plug-in's own lists are known by their form alone
        let indexed = |name: &String| name.starts_with('[') && name.ends_with(']');
        if self.is_list || self.path.ends_with("**") && self.children.keys().all(indexed) {
            let mut elements: Vec<Self> = std::mem::take(&mut self.children).into_values().collect();
            elements.sort_by_key(|element| element.turn);
            return Some(elements.into_iter().filter_map(|element| element.value(form)).collect());
        }
        Some(Value::Object(self.finish(form)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declare::options::{Found, find};
    use serde_json::json;

    fn grown(form: Form, labels: &[(&str, &str)]) -> Value {
        let mut grown = Grown::default();
        for (path, value) in labels {
            let path: Vec<&str> = path.split('.').collect();
            let Found::Option(def) = find(&path) else { panic!("{path:?}") };
            grown.set(def, &path[3..], def.kind.parse(value).unwrap());
        }
        Value::Object(grown.finish(form))
    }

    #[test]
    fn grows_in_the_spelling_of_the_reference() {
        let labels = [
            ("http.middlewares.m.HEADERS.customrequestheaders.X-a", ""),
            ("http.middlewares.m.headers.CustomRequestHeaders.x-A", "1"),
            ("http.middlewares.m.headers.stsseconds", "0"),
            ("http.middlewares.m.headers.framedeny", "false"),
        ];
        let expected = json!({"headers": {"customRequestHeaders": {"X-a": "1"}, "stsSeconds": 0}});
        assert_eq!(grown(Form::Printed, &labels), expected);
    }

    #[test]
    fn a_section_brings_its_defaults_and_nothing_said_leaves_them() {
        let of = |labels: &[(&str, &str)]| grown(Form::Printed, labels);
        assert_eq!(
            of(&[("http.middlewares.m.compress", "")]),
            json!({"compress": {"encodings": ["gzip", "br", "zstd"]}})
        );
        assert_eq!(
            of(&[("http.middlewares.m.compress.encodings", "")]),
            json!({"compress": {"encodings": ["gzip", "br", "zstd"]}})
        );
        assert_eq!(of(&[("http.middlewares.m.ratelimit.burst", "0")]), json!({"rateLimit": {"period": "1s"}}));
        assert_eq!(
            of(&[("http.middlewares.m.ratelimit.redis.db", "1")])["rateLimit"]["redis"]["endpoints"],
            json!(["localhost:6379"])
        );
        assert_eq!(of(&[("http.middlewares.m.basicauth.users", "")]), json!({"basicAuth": {}}));
        assert_eq!(of(&[("http.middlewares.m.snippet.x.y", "1")]), json!({}));
    }

    #[test]
    fn sections_switched_off_do_not_count_and_lists_keep_the_order_in_which_they_come() {
        let labels = [
            ("http.middlewares.m.ipallowlist.ipstrategy", "false"),
            ("http.middlewares.m.ipallowlist.ipstrategy.depth", "1"),
            ("http.middlewares.m.ipallowlist.sourcerange", "::1"),
        ];
        assert_eq!(grown(Form::Printed, &labels), json!({"ipAllowList": {"sourceRange": ["::1"]}}));
        let labels = [
            ("http.routers.r.tls.domains.[5].main", "b"),
            ("http.routers.r.tls.domains.[1].main", "a"),
            ("http.routers.r.priority", "0"),
        ];
        let expected = json!({"tls": {"domains": [{"main": "b"}, {"main": "a"}]}, "priority": 0});
        assert_eq!(grown(Form::Typed, &labels), expected);
    }

    #[test]
    fn plug_ins_are_kept_as_they_are() {
        let labels = [
            ("http.middlewares.m.plugin.Own.list.[0].Key", "1"),
            ("http.middlewares.m.plugin.Own.list.[1].Key", "2"),
            ("http.middlewares.m.plugin.Own.text", ""),
        ];
        let expected = json!({"plugin": {"Own": {"list": [{"Key": "1"}, {"Key": "2"}], "text": ""}}});
        assert_eq!(grown(Form::Printed, &labels), expected);
    }
}
