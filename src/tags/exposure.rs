//! Whether `traefik.*` tags expose a service at all, and the word about one that they leave out.

use super::TagOptions;
use super::fragment::Fragment;
use super::labels::Label;
use super::traefik::{Compiled, Group};
use crate::catalog::{Health, Instance, Service};
use crate::declare::options::go_bool;
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What an instance's tags say about whether it is routed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exposure {
    pub enabled: bool,
    pub canary: bool,
}

/// Whether the tags switch the service off for every dialect: `enable` is there and false.
pub fn switched_off(tags: &[Arc<str>], prefix: &str) -> bool {
    let labels = tags.iter().filter_map(|t| Label::cut(t, prefix, true)?.ok());
    labels.filter(|l| l.key.eq_ignore_ascii_case("enable")).any(|l| go_bool(l.value) == Some(false))
}

/// Traefik asks the tags of all instances together first: one that says `enable=false` switches the service off,
/// unless another says `enable=true`.
pub(super) fn exposed(
    tags: &[Arc<str>],
    provider: Provider,
    options: &TagOptions,
    service: &Service,
    into: &mut Fragment,
) -> bool {
    let nomad = provider != Provider::ConsulCatalog;
    let said = |tag: &Arc<str>| {
        let label = Label::cut(tag, &options.prefix, nomad)?.ok()?;
        let enable = if nomad { label.key == "enable" } else { label.key.eq_ignore_ascii_case("enable") };
        let value = if nomad { Some(label.value.eq_ignore_ascii_case("true")) } else { go_bool(label.value) };
        value.filter(|_| enable)
    };
    let mut off = None;
    for tag in tags {
        match said(tag) {
            Some(true) => return true,
            Some(false) => off = Some(tag),
            None => {}
        }
    }
    let all = |off: &Arc<str>| service.instances.iter().all(|i| i.tags.contains(off));
    if let Some(tag) = off.filter(|tag| options.exposed_by_default && !all(tag)) {
        let message = "the service is not exposed: one of its instances says so, which holds for all, as in Traefik";
        let problem = Diagnostic::warning("not_exposed", message);
        into.problems.push(problem.with_origin(crate::diagnostic::Origin {
            provider: Some(provider.as_str().into()),
            namespace: Some(service.key.namespace.clone()),
            service: Some(service.key.name.clone()),
            tag: Some(tag.clone()),
            ..Default::default()
        }));
    }
    off.is_none()
}

/// Why the `traefik.*` tags of a service route nothing, where they are not refused: what a table cannot tell.
pub fn standing(service: &Service, provider: Provider, compiled: &Compiled) -> Vec<Diagnostic> {
    let options = &compiled.options;
    let constraint = |code: &str| {
        let message = format!("it does not pass the provider's constraint `{}`", options.constraints);
        Diagnostic::warning(code, message).with_help("give it the tag that the constraint asks for")
    };
    let allows = |tags: &[Arc<str>]| compiled.constraint.as_ref().is_some_and(|c| c.allows(tags));
    let all: BTreeSet<&Arc<str>> = service.instances.iter().flat_map(|i| &i.tags).collect();
    if !allows(&all.into_iter().cloned().collect::<Vec<_>>()) {
        return vec![constraint("constraint")];
    }
    let mut reasons: Vec<Diagnostic> = Vec::new();
    let mut say = |instance: &Instance, reason: Diagnostic| {
        if !reasons.iter().any(|r| r.message == reason.message) {
            let mut reason = reason;
            reason.origin.instance = Some(instance.id.clone());
            reasons.push(reason);
        }
    };
    let healthy = |i: &Instance| i.health == Health::Unknown || options.strict_checks.contains(&i.health);
    for instance in &service.instances {
        let mut into = Fragment::default();
        let tags = &instance.tags[..];
        let exposure = Group { service, provider, compiled, tags, oldest: instance, into: &mut into }.exposure();
        let trim = provider != Provider::ConsulCatalog;
        let mut labels = instance.tags.iter().filter_map(|t| Label::cut(t, &options.prefix, trim)?.ok());
        if !exposure.enabled {
            let said = labels.rfind(|l| l.key.eq_ignore_ascii_case("enable"));
            // what is refused is told as a problem
            match said {
                _ if !into.problems.is_empty() => {}
                Some(label) => {
                    let message = format!("`{}` switches the service off", label.tag);
                    say(instance, Diagnostic::warning("switched_off", message).with_origin(label.origin(label.value)));
                }
                None => {
                    let wanted = format!("{}.enable=true", options.prefix);
                    let message = format!("it is not exposed: it has no tag `{wanted}`, and `exposedByDefault` is off");
                    let help = format!("register it with the tag `{wanted}`");
                    say(instance, Diagnostic::warning("not_exposed", message).with_help(help));
                }
            }
        } else if !allows(tags) {
            say(instance, constraint("constraint"));
        }
    }
    if reasons.is_empty() && !service.instances.iter().any(healthy) {
        reasons.push(unhealthy(service, "strictChecks", &options.strict_checks));
    }
    reasons
}

/// The word about a service none of whose instances is in a state that is routed.
pub(super) fn unhealthy(service: &Service, option: &str, wanted: &BTreeSet<Health>) -> Diagnostic {
    let word = |health: Health| format!("{health:?}").to_lowercase();
    let mut states: Vec<String> = service.instances.iter().map(|i| word(i.health)).collect();
    states.sort();
    states.dedup();
    let wanted: Vec<String> = wanted.iter().map(|health| word(*health)).collect();
    let message = format!(
        "no instance of it (of {}) is healthy: the catalog says `{}`, and `{option}` asks for `{}`",
        service.instances.len(),
        states.join("`, `"),
        wanted.join("`, `")
    );
    Diagnostic::warning("no_healthy_instance", message).with_help("look at the service's checks in the catalog")
}

impl Group<'_> {
    /// The providers differ: Nomad compares texts and asks for the exact tag, Consul parses a bool
    /// and compares the tag without case.
    pub(super) fn exposure(&mut self) -> Exposure {
        let options = &self.compiled.options;
        let nomad = self.provider != Provider::ConsulCatalog;
        let mut exposure = Exposure { enabled: options.exposed_by_default, canary: false };
        let mut refused = Vec::new();
        for label in self.tags.iter().filter_map(|t| Label::cut(t, &options.prefix, nomad)?.ok()) {
            let truth = |refused: &mut Vec<Diagnostic>| match go_bool(label.value) {
                Some(value) => value,
                None => {
                    let message = format!(
                        "`{}`: expected `true` or `false`, got `{}`, so the service is not exposed",
                        label.key, label.value
                    );
                    refused.push(Diagnostic::error("bad_value", message).with_origin(label.origin(label.value)));
                    false
                }
            };
            if nomad {
                match label.key {
                    "enable" => exposure.enabled = label.value.eq_ignore_ascii_case("true"),
                    "nomad.canary" => exposure.canary = label.value.eq_ignore_ascii_case("true"),
                    _ => {}
                }
            } else if label.key.eq_ignore_ascii_case("enable") {
                exposure.enabled = truth(&mut refused);
            } else if label.key.eq_ignore_ascii_case("consulcatalog.canary") {
                exposure.canary = truth(&mut refused);
            } else if label.key.eq_ignore_ascii_case("consulcatalog.connect") && truth(&mut refused) {
                let message = "services of Consul's service mesh (`consulcatalog.connect=true`) are not routed";
                refused.push(Diagnostic::warning("not_served", message).with_origin(label.origin(label.value)));
            } else if beside_enable(label.key) {
                // whoever mistypes `enable` may have wanted to switch the service off
                let message = format!("unknown option `{}`, so the service is not exposed", label.key);
                refused.push(Diagnostic::error("unknown_option", message).with_origin(label.origin(label.key)));
            }
        }
        if exposure.enabled && !options.exposed_by_default {
            let wanted = format!("{}.enable=true", options.prefix);
            let exact = |t: &Arc<str>| if nomad { **t == *wanted } else { t.eq_ignore_ascii_case(&wanted) };
            if !self.tags.iter().any(exact) {
                exposure.enabled = false;
                let message = format!("the service is not exposed: it needs the tag `{wanted}`, written exactly so");
                let mut problem = Diagnostic::warning("not_exposed", message);
                let mut labels = self.tags.iter().filter_map(|t| Label::cut(t, &options.prefix, nomad)?.ok());
                if let Some(label) = labels.rfind(|l| l.key.eq_ignore_ascii_case("enable")) {
                    problem = problem.with_origin(label.origin(label.key));
                }
                refused.push(problem);
            }
        }
        exposure.enabled &= refused.is_empty();
        for problem in refused {
            self.problem(problem);
        }
        exposure
    }
}

/// Keys that Consul's provider reads together with `enable`, and knows no more of.
fn beside_enable(key: &str) -> bool {
    let starts = |with: &str| key.get(..with.len()).is_some_and(|k| k.eq_ignore_ascii_case(with));
    let known = ["enable", "consulcatalog.canary", "consulcatalog.connect"];
    (starts("enable") || starts("consulcatalog.")) && !known.iter().any(|k| key.eq_ignore_ascii_case(k))
}
