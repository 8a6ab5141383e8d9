//! From what was said to options: each path is followed through the schema, each value read as its
//! kind. What leads nowhere is told with the nearest name, what is known but not served with a
//! warning; what is left acts.

use super::keys::{Effect, Kind};
use super::raw::{Raw, origin, place};
use super::schema::{Nearest, Node, root};
use super::value::{Leaf, Value, parse_bool, read, shown};
use crate::config::Note;
use crate::diagnostic::{Diagnostic, Origin, Severity};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Places in a list that can be named one by one.
const MAX_PLACE: usize = 1000;

/// A value of an option that acts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    /// Names from the root, in the option's spelling; names that people choose as they chose them.
    pub path: Vec<String>,
    pub value: Value,
    /// Place in the list, where only one was said.
    pub place: Option<usize>,
    pub origin: Origin,
}

/// Follows what the sources said, one after the other.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    /// `providers.consul` is Traefik's KV provider and not another name of `consulCatalog`.
    kv: bool,
    pub diagnostics: Vec<Diagnostic>,
    pub notes: Vec<Note>,
    /// Entry points and providers that were named: the first two names of their paths.
    pub named: BTreeSet<(&'static str, String)>,
    /// Providers named in a way that Traefik would not read.
    pub own_form: BTreeSet<&'static str>,
    told: BTreeSet<(Arc<str>, Vec<String>)>,
}

/// True when something makes `providers.consul` Traefik's KV provider.
pub(super) fn is_kv(raws: &[Raw]) -> bool {
    raws.iter().any(|raw| {
        let name = |i: usize| raw.path.get(i).map_or("", |s| s.name.as_str());
        name(0).eq_ignore_ascii_case("providers")
            && name(1).eq_ignore_ascii_case("consul")
            && (name(2).eq_ignore_ascii_case("endpoints") || name(2).eq_ignore_ascii_case("rootKey"))
    })
}

/// A key that does nothing itself still switches on the group that it stands in.
fn switched_on(path: &[String], origin: Origin) -> Option<Said> {
    let is_switch = |path: &[String]| root().find(path).is_some_and(|node| node.kind() == Kind::Switch);
    let path = (1..=path.len()).rev().map(|len| &path[..len]).find(|path| is_switch(path))?;
    Some(Said { path: path.to_vec(), value: Value::Bool(true), place: None, origin })
}

impl Resolver {
    /// A resolver for which `providers.consul` is the KV provider, or not.
    pub fn new(kv: bool) -> Self {
        Self { kv, ..Self::default() }
    }

    /// What a source's sayings come to. Unknown keys have the given severity.
    pub fn resolve(&mut self, raws: Vec<Raw>, unknown: Severity) -> Vec<Said> {
        raws.into_iter().filter_map(|raw| self.one(raw, unknown)).collect()
    }

    fn one(&mut self, raw: Raw, unknown: Severity) -> Option<Said> {
        let mut node = root();
        let mut path: Vec<String> = Vec::with_capacity(raw.path.len());
        let mut idle: Option<(usize, &'static Node)> = None;
        let mut index = None;
        let mut own_form = false;
        for (i, step) in raw.path.iter().enumerate() {
            if node.kind() == Kind::Any {
                break;
            }
            let listed = matches!(node.kind(), Kind::List | Kind::Nets | Kind::Paths | Kind::SomeOf(_) | Kind::Buckets);
            let number = place(&step.name)
                .or_else(|| step.name.parse().ok().filter(|_| listed || node.item().is_some()))
                .filter(|n| *n <= MAX_PLACE);
            if let (Some(n), true, true) = (number, listed, i + 1 == raw.path.len()) {
                index = Some(n);
                break;
            }
            let mut name = step.name.as_str();
            if path == ["providers"] && name.eq_ignore_ascii_case("consul") && !self.kv {
                (name, own_form) = ("consulCatalog", true);
            }
            let next = match (number, node.item()) {
                (Some(_), Some(item)) => Some(item),
                _ if name.is_empty() => None,
                _ => node.child(name),
            };
            let Some(next) = next else {
                self.unknown(&raw, i, node, &path, unknown);
                return None;
            };
            path.push(if matches!(next.name, "*" | "[]") { name.to_owned() } else { next.name.to_owned() });
            if !next.acts && next.key.is_some() && idle.is_none() {
                idle = Some((path.len(), next));
            }
            node = next;
        }
        if let (Kind::Short(child), Leaf::Text(_)) = (node.kind(), &raw.leaf)
            && let Some(next) = node.child(child)
        {
            own_form |= child == "address";
            path.push(next.name.to_owned());
            node = next;
        }
        self.name(&raw, &path, own_form);
        let key = node.key;
        let at = || origin(&raw.source, raw.at);
        if let Some((len, group)) = idle {
            self.not_yet(&raw, &path[..len], group, len == path.len());
            return switched_on(&path[..len - 1], at());
        }
        if raw.leaf == Leaf::Null {
            self.diagnostics.push(
                Diagnostic::warning("empty_value", format!("`{}` has no value and is left out", path.join(".")))
                    .with_origin(at())
                    .with_help("write `{}` for an empty group"),
            );
            return None;
        }
        let leaf = match (index, &raw.leaf) {
            (Some(_), Leaf::Text(text)) => &Leaf::List(vec![text.clone()]),
            (_, leaf) => leaf,
        };
        let value = match read(node.kind(), leaf) {
            Ok(value) => value,
            Err(message) => {
                let mut d =
                    Diagnostic::error("bad_value", format!("`{}`: {message}", path.join("."))).with_origin(at());
                if let Some(doc) = key.map(|k| k.doc).filter(|doc| !doc.is_empty()) {
                    d = d.with_help(format!("it is: {doc}"));
                }
                self.diagnostics.push(d);
                return None;
            }
        };
        match key.map(|k| k.effect) {
            Some(Effect::Ignored(why)) => {
                if !why.is_empty() {
                    let message = format!("`{}` is accepted: {why}", path.join("."));
                    self.notes.push(Note { origin: at(), message });
                }
                switched_on(&path[..path.len() - 1], at())
            }
            _ if node.kind() == Kind::Section => None,
            _ => Some(Said { path, value, place: index, origin: at() }),
        }
    }

    /// Remembers which entry points and providers were named; switching one off does not name it.
    fn name(&mut self, raw: &Raw, path: &[String], own_form: bool) {
        let Some(name) = path.get(1) else { return };
        let section = match path[0].as_str() {
            "entryPoints" if !name.eq_ignore_ascii_case(super::ADMIN_ENTRY_POINT) => "entryPoints",
            "providers" if !matches!(name.as_str(), "providersThrottleDuration" | "precedence") => "providers",
            _ => return,
        };
        let off = path.len() == 2 && matches!(&raw.leaf, Leaf::Text(text) if parse_bool(text) == Some(false));
        if !off && raw.leaf != Leaf::Null {
            self.named.insert((section, name.clone()));
            if own_form {
                self.own_form.insert(if name == "nomad" { "nomad" } else { "consulCatalog" });
            }
        }
    }

    /// One warning for a whole feature that does nothing, unless it says what holds anyway; an error
    /// where passing it over would open what the person meant to protect.
    fn not_yet(&mut self, raw: &Raw, path: &[String], group: &Node, itself: bool) {
        let default = group.key.map_or("", |k| k.default);
        let harmless = itself
            && match &raw.leaf {
                Leaf::Null => true,
                Leaf::Text(text) => {
                    text.is_empty()
                        || (!default.is_empty() && text.eq_ignore_ascii_case(default))
                        || (group.kind() == Kind::Switch && parse_bool(text) == Some(false))
                }
                Leaf::List(list) => list.is_empty(),
                _ => false,
            };
        if harmless || !self.told.insert((raw.source.clone(), path.to_vec())) {
            return;
        }
        let own = path[0] == "rustLb" || path.iter().any(|p| p == "legacyTags");
        let name = path.join(".");
        let message = if own {
            format!("`{name}` is not served yet and does nothing")
        } else {
            format!("`{name}` is known to Traefik, but not served yet: it does nothing")
        };
        let at = raw.path.get(path.len() - 1).and_then(|s| s.at);
        let at = origin(&raw.source, at);
        let d = match group.key.map(|k| k.effect) {
            Some(Effect::Guard(otherwise)) => {
                let message = format!("`{name}` is known to Traefik, but not served yet");
                Diagnostic::error("not_served", message).with_help(format!("it is not passed over: {otherwise}"))
            }
            Some(Effect::NotYet(instead)) if !instead.is_empty() => {
                Diagnostic::warning("not_served", message).with_help(instead)
            }
            _ => Diagnostic::warning("not_served", message),
        };
        self.diagnostics.push(d.with_origin(at));
    }

    fn unknown(&mut self, raw: &Raw, at: usize, parent: &Node, path: &[String], severity: Severity) {
        let step = &raw.path[at];
        let mut whole = path.to_vec();
        whole.push(step.name.clone());
        if !self.told.insert((raw.source.clone(), whole)) {
            return;
        }
        let name = shown(&step.name);
        let message = match path {
            [] => format!("unknown key `{name}`"),
            _ => format!("unknown key `{name}` in `{}`", path.join(".")),
        };
        let help = match parent.nearest(&step.name) {
            Nearest::Here(near) => format!("did you mean `{near}`?"),
            Nearest::Elsewhere(near) => format!("did you mean `{near}`?"),
            Nearest::Known(known) if known.is_empty() => "it takes a value, not keys".to_owned(),
            Nearest::Known(known) => {
                format!("known there: {}", known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", "))
            }
        };
        let d = match severity {
            Severity::Error => Diagnostic::error("unknown_key", message),
            Severity::Warning => Diagnostic::warning("unknown_key", message),
        };
        self.diagnostics.push(d.with_origin(origin(&raw.source, step.at)).with_help(help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::split_path;

    fn resolve(said: &[(&str, &str)]) -> (Vec<Said>, Vec<String>, Resolver) {
        let raws: Vec<Raw> = said.iter().map(|(p, v)| Raw::plain(split_path(p), v, &format!("--{p}"))).collect();
        let mut resolver = Resolver::new(is_kv(&raws));
        let out = resolver.resolve(raws, Severity::Error);
        let told = resolver.diagnostics.iter().map(ToString::to_string).collect();
        (out, told, resolver)
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let (said, told, _) =
            resolve(&[("entryPoints.web.adress", ":80"), ("entryPoint.web.address", ":80"), ("log.level.x", "1")]);
        assert!(said.is_empty());
        assert_eq!(
            told,
            [
                "--entryPoints.web.adress: error[unknown_key]: unknown key `adress` in `entryPoints.web`; did you mean `address`?",
                "--entryPoint.web.address: error[unknown_key]: unknown key `entryPoint`; did you mean `entryPoints`?",
                "--log.level.x: error[unknown_key]: unknown key `x` in `log.level`; it takes a value, not keys",
            ]
        );
    }

    #[test]
    fn what_is_not_served_is_told_once_a_group_and_not_when_it_changes_nothing() {
        let (said, told, _) = resolve(&[
            ("providers.docker.watch", "true"),
            ("tracing", "false"),
            ("core.defaultRuleSyntax", "v3"),
            ("entryPoints.web.observability.accessLogs", "true"),
            ("entryPoints.web.observability.accessLogs", "false"),
            ("certificatesResolvers.le.tailscale", "true"),
        ]);
        let groups = [["entryPoints", "web"], ["certificatesResolvers", "le"]];
        assert!(said.iter().all(|s| groups.iter().any(|group| s.path == *group)), "the group is named all the same");
        assert_eq!(
            told,
            [
                "--providers.docker.watch: warning[not_served]: `providers.docker` is known to Traefik, but not served yet: it does nothing",
                "--entryPoints.web.observability.accessLogs: warning[not_served]: `entryPoints.web.observability.accessLogs` is known to Traefik, but not served yet: it does nothing",
                "--certificatesResolvers.le.tailscale: warning[not_served]: `certificatesResolvers.le.tailscale` is known to Traefik, but not served yet: it does nothing; certificates are not had from Tailscale",
            ]
        );
    }

    #[test]
    fn consul_is_the_catalog_unless_it_is_the_kv_provider() {
        let (said, told, resolver) = resolve(&[("providers.consul.endpoint", "http://c:8500")]);
        assert_eq!((said[0].path.join("."), told.len()), ("providers.consulCatalog.endpoint.address".into(), 0));
        assert!(resolver.own_form.contains("consulCatalog"));
        for kv in ["endpoints", "rootKey"] {
            let (said, told, _) = resolve(&[(&format!("providers.consul.{kv}"), "x"), ("providers.consul.token", "x")]);
            assert!(said.is_empty());
            assert!(
                told[0].contains("`providers.consul` is known to Traefik") && told[0].contains("consulCatalog"),
                "{told:?}"
            );
        }
    }

    #[test]
    fn places_in_lists_and_bad_values() {
        let (said, told, _) = resolve(&[
            ("entrypoints.Web.forwardedheaders.trustedips[1]", "10.0.0.1"),
            ("entrypoints.Web.http.tls.domains[0].main", "x"),
            ("log.level", "loud"),
            ("providers.nomad.endpoint.token.x", "hunter2"),
        ]);
        assert_eq!(
            (said[0].path.join("."), said[0].place),
            ("entryPoints.Web.forwardedHeaders.trustedIPs".into(), Some(1))
        );
        assert_eq!(said[1].path.join("."), "entryPoints.Web.http.tls.domains.[0].main");
        assert!(told[0].contains("`log.level`: expected one of `TRACE`"), "{told:?}");
        assert!(!told.join(" ").contains("hunter2"));
    }
}
