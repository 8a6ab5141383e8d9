//! The layers on top of each other: what counts in the end, for each option, and who said it.

use super::keys::Kind;
use super::resolve::Said;
use super::schema::root;
use super::value::{Leaf, Value, read};
use crate::diagnostic::{Diagnostic, Origin};
use crate::model::Secret;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// Where something was said; a later layer wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    /// The set-up when nothing is said.
    BuiltIn,
    /// `NOMAD_*` and `CONSUL_*`: what an agent's own tools would use.
    Agents,
    /// The static file.
    File,
    /// HinD's variables.
    Hind,
    /// `TRAEFIK_*`.
    Traefik,
    /// `RUST_LB_*`.
    RustLb,
    /// The command line.
    Flags,
}

/// A value and who said it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub value: Value,
    pub origin: Origin,
    pub layer: Layer,
    places: BTreeMap<usize, Value>,
}

/// Paths in lower case, so that sources may differ in case.
type Path = Vec<String>;

/// All layers.
#[derive(Debug, Default)]
pub(super) struct Merged {
    entries: BTreeMap<Path, Entry>,
    /// Switches and named groups: on or off, and who said so.
    on: BTreeMap<Path, (bool, Origin)>,
    /// Names as they were first spelt.
    spelt: BTreeMap<Path, String>,
}

fn lower(path: &[impl AsRef<str>]) -> Path {
    path.iter().map(|name| name.as_ref().to_ascii_lowercase()).collect()
}

impl Merged {
    /// Puts a layer on top. Saying a key switches on the groups that it stands in.
    pub fn apply(&mut self, layer: Layer, said: Vec<Said>, diagnostics: &mut Vec<Diagnostic>) {
        let mut switched: Vec<(Path, (bool, Origin))> = Vec::new();
        for said in said {
            let path = lower(&said.path);
            for len in 1..=path.len() {
                self.spelt.entry(path[..len].to_vec()).or_insert_with(|| said.path[len - 1].clone());
            }
            if layer >= Layer::File {
                for len in 1..path.len() {
                    if root().find(&path[..len]).is_some_and(|node| node.kind() == Kind::Switch) {
                        self.on.insert(path[..len].to_vec(), (true, said.origin.clone()));
                    }
                }
            }
            match (&said.value, root().find(&path).map(|node| node.kind())) {
                (Value::Bool(on), Some(Kind::Switch)) => {
                    switched.push((path, (*on, said.origin.clone())));
                }
                _ => self.set(layer, path, said, diagnostics),
            }
        }
        self.on.extend(switched);
    }

    fn set(&mut self, layer: Layer, path: Path, said: Said, diagnostics: &mut Vec<Diagnostic>) {
        let Said { value, origin, place, path: spelt } = said;
        let entry = self.entries.get_mut(&path).filter(|entry| entry.layer == layer);
        match (entry, place) {
            (Some(entry), Some(place)) => {
                entry.places.insert(place, value);
                entry.value = entry.places.values().cloned().reduce(joined).unwrap_or(Value::Off);
            }
            (Some(entry), None) if layer == Layer::Flags => {
                *entry = Entry { value: joined(entry.value.clone(), value), origin, layer, places: BTreeMap::new() };
            }
            (entry, place) => {
                if let (Some(entry), Layer::File) = (entry, layer) {
                    let line = entry.origin.line.unwrap_or_default();
                    let message = format!("`{}` was said before, in line {line}; this one counts", spelt.join("."));
                    diagnostics.push(Diagnostic::warning("duplicate_key", message).with_origin(origin.clone()));
                }
                let places = place.map(|p| (p, value.clone())).into_iter().collect();
                self.entries.insert(path, Entry { value, origin, layer, places });
            }
        }
    }

    /// Names directly below a path under which something is said, as they were first spelt.
    pub fn said_below(&self, path: &[&str]) -> Vec<String> {
        let below = lower(path);
        let at = below.len() + 1;
        let said: BTreeSet<&[String]> =
            self.entries.keys().filter(|p| p.len() >= at && p.starts_with(&below)).map(|p| &p[..at]).collect();
        said.into_iter().filter_map(|p| self.spelt.get(p).cloned()).collect()
    }

    /// Names of the groups directly below a path that are on, as they were first spelt.
    pub fn names(&self, path: &[&str]) -> Vec<String> {
        let below = lower(path);
        let on: BTreeSet<&Path> = self
            .on
            .iter()
            .filter(|(p, (on, _))| *on && p.len() == below.len() + 1 && p.starts_with(&below))
            .map(|(p, _)| p)
            .collect();
        on.into_iter().filter_map(|p| self.spelt.get(p).cloned()).collect()
    }

    /// True where a switch is on.
    pub fn is_on(&self, path: &[&str]) -> bool {
        self.on.get(&lower(path)).is_some_and(|(on, _)| *on)
    }

    /// Who switched something on or off last, or said something in it.
    pub fn origin(&self, path: &[&str]) -> Origin {
        self.on.get(&lower(path)).map(|(_, origin)| origin.clone()).unwrap_or_default()
    }

    /// The options below a path.
    pub fn at<'a>(&'a self, path: &[&str]) -> View<'a> {
        View { merged: self, below: lower(path) }
    }
}

/// Flags that are said several times add to a list; else the last one counts.
fn joined(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::List(mut a), Value::List(b)) => {
            a.extend(b);
            Value::List(a)
        }
        (Value::Nets(mut a), Value::Nets(b)) => {
            a.extend(b);
            Value::Nets(a)
        }
        (_, b) => b,
    }
}

/// The options below a path, with their defaults. Keys are those of `keys.rs`.
pub(super) struct View<'a> {
    merged: &'a Merged,
    below: Path,
}

impl View<'_> {
    fn path(&self, key: &str) -> Path {
        self.below.iter().cloned().chain(key.split('.').map(str::to_ascii_lowercase)).collect()
    }

    /// What was said for a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.merged.entries.get(&self.path(key))
    }

    /// Who said it.
    pub fn origin(&self, key: &str) -> Origin {
        self.entry(key).map(|entry| entry.origin.clone()).unwrap_or_default()
    }

    /// What holds: said, else the default.
    fn value(&self, key: &str) -> Option<Value> {
        if let Some(entry) = self.entry(key) {
            return Some(entry.value.clone());
        }
        let path = self.path(key);
        let option = root().find(&path).and_then(|node| node.key);
        debug_assert!(option.is_some(), "no option {path:?}");
        let option = option.filter(|option| !option.default.is_empty())?;
        read(option.kind, &Leaf::Text(option.default.to_owned())).ok()
    }

    pub fn is_on(&self, key: &str) -> bool {
        self.merged.on.get(&self.path(key)).is_some_and(|(on, _)| *on)
    }

    pub fn bool(&self, key: &str) -> bool {
        matches!(self.value(key), Some(Value::Bool(true)))
    }

    /// Text, empty where nothing is said and there is no default.
    pub fn text(&self, key: &str) -> String {
        match self.value(key) {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        }
    }

    pub fn secret(&self, key: &str) -> Option<Secret> {
        Some(self.text(key)).filter(|text| !text.is_empty()).map(Secret::new)
    }

    pub fn path_of(&self, key: &str) -> Option<PathBuf> {
        Some(self.text(key)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    pub fn list(&self, key: &str) -> Vec<String> {
        match self.value(key) {
            Some(Value::List(list)) => list,
            _ => Vec::new(),
        }
    }

    pub fn nets(&self, key: &str) -> Vec<IpNet> {
        match self.value(key) {
            Some(Value::Nets(nets)) => nets,
            _ => Vec::new(),
        }
    }

    pub fn numbers(&self, key: &str) -> Vec<f64> {
        match self.value(key) {
            Some(Value::Numbers(numbers)) => numbers,
            _ => Vec::new(),
        }
    }

    pub fn number(&self, key: &str) -> Option<u64> {
        match self.value(key) {
            Some(Value::Number(n)) => Some(n),
            _ => None,
        }
    }

    pub fn size(&self, key: &str) -> usize {
        self.number(key).map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    pub fn duration(&self, key: &str) -> Option<Duration> {
        match self.value(key) {
            Some(Value::Duration(d)) => Some(d),
            _ => None,
        }
    }

    /// A duration that has a default.
    pub fn time(&self, key: &str) -> Duration {
        self.duration(key).unwrap_or(Duration::ZERO)
    }
}
