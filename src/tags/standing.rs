//! Why a service stands where it stands: what each of its tags is, and why its tags count or do not, for
//! `explain`. It says what decoding does not report because nothing is wrong with it: a service that is not
//! exposed, a constraint, checks that fail, legacy tags beside `traefik.*` ones.

use super::exposure;
use super::fragment::Fragment;
use super::labels::Label;
use super::traefik::{self, Compiled};
use super::{LegacyMode, TagOptions, site, urlprefix};
use crate::catalog::{Inventory, Service, World};
use crate::declare::{Declarations, Dialect};
use crate::diagnostic::{Diagnostic, Origin};
use crate::model::Provider;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is to be said of a service.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Why it is not routed, or not by all of its tags; empty where all is well.
    pub reasons: Vec<Diagnostic>,
    /// Its tags, each once, in the order registered.
    pub tags: Vec<Reading>,
    /// What it declares when it is alone.
    pub declared: Declarations,
}

/// What a tag is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The tag as it may be shown: without what may be secret.
    pub tag: Arc<str>,
    /// What it says, in words: ``router `shop`: rule``. Empty for a tag that routes nothing.
    pub says: String,
    /// Whether its dialect counts for this service.
    pub counts: bool,
}

/// Says why a service stands where it stands.
pub fn standing(service: &Arc<Service>, provider: Provider, options: &TagOptions) -> Standing {
    let compiled = Compiled::new(options.clone());
    let all: Vec<&Arc<str>> = {
        let mut seen: BTreeSet<&Arc<str>> = BTreeSet::new();
        service.instances.iter().flat_map(|i| &i.tags).filter(|tag| seen.insert(*tag)).collect()
    };
    let mark = format!("{}.", options.prefix);
    let is_traefik = |tag: &str| options.dialects.contains(&Dialect::Traefik) && tag.starts_with(&mark);
    let is_prefix = |tag: &str| tag.trim_start().starts_with(&*options.legacy.prefix);
    let is_site = |tag: &str| site::is_site(tag.trim_start());
    let has_traefik = all.iter().any(|tag| is_traefik(tag));
    let legacy: Vec<&Arc<str>> = all.iter().copied().filter(|tag| is_prefix(tag) || is_site(tag)).collect();

    let mut fragment = Fragment::default();
    let decoded =
        options.dialects.contains(&Dialect::Traefik) && traefik::decode(service, provider, &compiled, &mut fragment);
    let routed = decoded && has_traefik;
    let off = service.instances.iter().all(|i| exposure::switched_off(&i.tags, &options.prefix));
    let mode_counts = match options.legacy.mode {
        LegacyMode::Off => false,
        LegacyMode::Merge => true,
        LegacyMode::Fallback => !routed,
    };
    let mut reasons = compiled.problems.clone();
    if has_traefik || legacy.is_empty() {
        reasons.extend(exposure::standing(service, provider, &compiled));
    }
    if legacy.is_empty() && !has_traefik && !options.exposed_by_default {
        reasons.retain(|r| &*r.code != "not_exposed");
        let message = "none of its tags is one that routes".to_owned();
        reasons
            .push(Diagnostic::warning("no_routing_tag", message).with_help(format!(
                "add `{mark}enable=true` and a router's rule, `urlprefix-host/` or `https://host`"
            )));
    }
    if let Some(first) = legacy.first() {
        let origin = Origin { tag: Some((*first).clone()), column: Some(1), ..Origin::default() };
        let healthy = |i: &_| urlprefix::routed(i, provider, &options.legacy);
        let reason = match options.legacy.mode {
            _ if off => None, // told as the tag that switches it off
            LegacyMode::Off => Some(("legacy_off", "its legacy tags do not count: `legacyTags` is `off`".to_owned())),
            LegacyMode::Fallback if routed => Some((
                "legacy_ignored",
                format!("its legacy tags do not count: `{mark}*` tags route it, and `legacyTags` is `fallback`"),
            )),
            _ => None,
        };
        match reason {
            Some((code, message)) => {
                let help = "set `rustLb.legacyTags` to `merge` to have both, or remove one kind";
                reasons.push(Diagnostic::warning(code, message).with_origin(origin).with_help(help));
            }
            None if !off && !service.instances.iter().any(healthy) => {
                reasons.push(exposure::unhealthy(service, "legacyTags.serviceStatus", &options.legacy.service_status));
            }
            None => {}
        }
    }
    for reason in &mut reasons {
        reason.origin.provider = Some(provider.as_str().into());
        reason.origin.service = Some(service.key.name.clone());
        let namespace = Some(service.key.namespace.clone());
        reason.origin.namespace = namespace.filter(|n| !n.is_empty());
    }

    let reading = |tag: &&Arc<str>| {
        let (says, counts) = if is_traefik(tag) {
            (of_label(tag, options), decoded)
        } else if is_prefix(tag) && options.dialects.contains(&Dialect::Urlprefix) {
            ("a route".to_owned(), mode_counts && !off)
        } else if is_site(tag) && options.dialects.contains(&Dialect::Site) {
            ("a site".to_owned(), mode_counts && !off)
        } else {
            (String::new(), true)
        };
        Reading { tag: shown(tag), says, counts }
    };
    let tags = all.iter().map(reading).collect();
    let inventory = Inventory { services: [(service.key.clone(), service.clone())].into() };
    let alone = World { sources: BTreeMap::from([(provider, Arc::new(inventory))]) };
    let declared = super::decode(&alone, &BTreeMap::from([(provider, options.clone())])).declarations;
    Standing { reasons, tags, declared }
}

/// A tag without what may be secret in it, whatever its prefix.
fn shown(tag: &Arc<str>) -> Arc<str> {
    let prefix = tag.split('.').next().unwrap_or_default();
    match Label::cut(tag, prefix, true) {
        Some(Ok(label)) => label.shown(),
        _ => {
            let name = tag.split('=').next().unwrap_or_default().to_ascii_lowercase();
            let secret = ["password", "secret", "token", "apikey", "credential"].iter().any(|w| name.contains(w));
            if secret && tag.contains('=') { format!("{}=***", &tag[..name.len()]).into() } else { tag.clone() }
        }
    }
}

/// What a `traefik.*` tag says, in words.
fn of_label(tag: &Arc<str>, options: &TagOptions) -> String {
    let Some(Ok(label)) = Label::cut(tag, &options.prefix, true) else { return "nothing: it has no `=`".to_owned() };
    let path: Vec<&str> = label.key.split('.').collect();
    match &path[..] {
        [section, kind, name, option @ ..] => {
            let kind = kind.to_ascii_lowercase();
            let kind = kind.strip_suffix('s').unwrap_or(&kind);
            let section = section.to_ascii_lowercase();
            let section = if section == "http" { String::new() } else { format!("{} ", section.to_ascii_uppercase()) };
            format!("{section}{kind} `{name}`: {}", option.join("."))
        }
        [one] if one.eq_ignore_ascii_case("enable") => "whether the service is exposed".to_owned(),
        _ => label.key.to_owned(),
    }
}
