//! The `traefik.*` dialect: from a service's instances to routers, services and middlewares, as
//! Traefik 3.7's `nomad` and `consulCatalog` providers do it
//! (<https://doc.traefik.io/traefik/routing/providers/nomad/>,
//! <https://doc.traefik.io/traefik/routing/providers/consul-catalog/>; tests/oracle/traefik_tags.json).
//! Where Traefik drops a whole registration for one bad label, only what the label belongs to is
//! dropped here.

use super::constraints::Constraint;
use super::fragment::{Def, Fragment, add, address, source};
use super::labels::{self, Draft, Label};
use super::names::{canary, join_host_port, normalize};
use super::options::go_bool;
use super::template::{Model, Template};
use super::{TagOptions, apply::ServiceDraft};
use crate::catalog::{Health, Instance, Service};
use crate::declare::{self, Dialect, LoadBalancer};
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A provider's options, compiled once.
pub struct Compiled {
    /// As given.
    pub options: TagOptions,
    /// The default rule; `None` when it does not parse (reported once a provider).
    pub default_rule: Option<Template>,
    /// The constraint; `None` when it does not parse: then nothing passes.
    pub constraint: Option<Constraint>,
    /// What is wrong with the options.
    pub problems: Vec<Diagnostic>,
}

impl Compiled {
    /// Compiles a provider's options.
    pub fn new(options: TagOptions) -> Self {
        let mut problems = Vec::new();
        let default_rule = Template::parse(&options.default_rule)
            .map_err(|e| {
                let message = format!("the default rule `{}` is not a template: {e}", options.default_rule);
                problems.push(Diagnostic::error("default_rule_failed", message));
            })
            .ok();
        let constraint = Constraint::parse(&options.constraints)
            .map_err(|e| {
                let message =
                    format!("the constraint `{}` is refused, so no service passes it: {e}", options.constraints);
                problems.push(Diagnostic::error("bad_constraint", message));
            })
            .ok();
        Self { options, default_rule, constraint, problems }
    }
}

/// What an instance's tags say about whether it is routed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exposure {
    enabled: bool,
    canary: bool,
}

/// Whether the tags switch the service off for every dialect: `enable` is there and false.
pub fn switched_off(tags: &[Arc<str>], prefix: &str) -> bool {
    let labels = tags.iter().filter_map(|t| Label::cut(t, prefix, true)?.ok());
    labels.filter(|l| l.key.eq_ignore_ascii_case("enable")).any(|l| go_bool(l.value) == Some(false))
}

/// Decodes the `traefik.*` tags of a service into the fragment. True when they route it.
pub fn decode(service: &Service, provider: Provider, compiled: &Compiled, into: &mut Fragment) -> bool {
    let options = &compiled.options;
    let all_tags: BTreeSet<&Arc<str>> = service.instances.iter().flat_map(|i| &i.tags).collect();
    // the service as a whole has to pass the constraint, by the tags of all its instances
    let all_tags: Vec<Arc<str>> = all_tags.into_iter().cloned().collect();
    if !compiled.constraint.as_ref().is_some_and(|c| c.allows(&all_tags)) {
        return false;
    }
    // of registrations with one id on one node the last counts, as in Traefik
    let mut last: BTreeMap<(&str, &str), &Instance> = BTreeMap::new();
    for instance in &service.instances {
        last.insert((&instance.node, &instance.id), instance);
    }
    let mut instances: Vec<&Instance> = last.into_values().collect();
    instances.sort_by(|a, b| (a.create_index, &a.id).cmp(&(b.create_index, &b.id)));

    let mut groups: Vec<(&[Arc<str>], Vec<&Instance>)> = Vec::new();
    for instance in instances {
        match groups.iter_mut().find(|(tags, _)| **tags == *instance.tags) {
            Some((_, members)) => members.push(instance),
            None => groups.push((&instance.tags, vec![instance])),
        }
    }
    let mut routed = false;
    for (tags, members) in groups {
        let mut group = Group { service, provider, compiled, tags, oldest: members[0], into };
        let exposure = group.exposure();
        if !exposure.enabled || !compiled.constraint.as_ref().is_some_and(|c| c.allows(tags)) {
            continue;
        }
        let healthy = |i: &&Instance| i.health == Health::Unknown || options.strict_checks.contains(&i.health);
        let members: Vec<&Instance> = members.into_iter().filter(healthy).collect();
        routed |= group.decode(exposure, &members);
    }
    routed
}

/// Instances with equal tags: they are read once.
struct Group<'a> {
    service: &'a Service,
    provider: Provider,
    compiled: &'a Compiled,
    tags: &'a [Arc<str>],
    oldest: &'a Instance,
    into: &'a mut Fragment,
}

impl Group<'_> {
    fn problem(&mut self, problem: Diagnostic) {
        let tag = problem.origin.tag.clone().unwrap_or_default();
        let mut origin = super::fragment::origin_of(&self.source(&tag));
        origin.column = problem.origin.column;
        let problem = problem.with_origin(origin);
        if !self.into.problems.contains(&problem) {
            self.into.problems.push(problem);
        }
    }

    fn source(&self, tag: &Arc<str>) -> declare::Source {
        source(&self.service.key, self.oldest, tag, Dialect::Traefik)
    }

    /// The providers differ: Nomad compares texts and asks for the exact tag, Consul parses a bool
    /// and compares the tag without case.
    fn exposure(&mut self) -> Exposure {
        let options = &self.compiled.options;
        let nomad = self.provider != Provider::ConsulCatalog;
        let mut exposure = Exposure { enabled: options.exposed_by_default, canary: false };
        let mut refused = Vec::new();
        for label in self.tags.iter().filter_map(|t| Label::cut(t, &options.prefix, nomad)?.ok()) {
            let truth = |refused: &mut Vec<Diagnostic>| match go_bool(label.value) {
                Some(value) => value,
                None => {
                    let message = format!("`{}`: expected `true` or `false`, got `{}`", label.key, label.value);
                    let origin = crate::diagnostic::Origin { tag: Some(label.tag.clone()), ..Default::default() };
                    refused.push(Diagnostic::error("bad_value", message).with_origin(origin));
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
                let origin = crate::diagnostic::Origin { tag: Some(label.tag.clone()), ..Default::default() };
                refused.push(Diagnostic::warning("not_served", message).with_origin(origin));
            }
        }
        if exposure.enabled && !options.exposed_by_default {
            let wanted = format!("{}.enable=true", options.prefix);
            let exact = |t: &Arc<str>| if nomad { **t == *wanted } else { t.eq_ignore_ascii_case(&wanted) };
            if !self.tags.iter().any(exact) {
                exposure.enabled = false;
                let message = format!("the service is not exposed: it needs the tag `{wanted}`, written exactly so");
                refused.push(Diagnostic::warning("not_exposed", message));
            }
        }
        exposure.enabled &= refused.is_empty();
        for problem in refused {
            self.problem(problem);
        }
        exposure
    }

    fn decode(&mut self, exposure: Exposure, members: &[&Instance]) -> bool {
        let nomad = self.provider != Provider::ConsulCatalog;
        let prefix = self.compiled.options.prefix.clone();
        let mut labels = Vec::new();
        for cut in self.tags.iter().filter_map(|t| Label::cut(t, &prefix, nomad)) {
            match cut {
                Ok(label) => labels.push(label),
                Err(problem) => self.problem(problem),
            }
        }
        let drafts = labels::read(&labels);
        for problem in drafts.problems {
            self.problem(problem);
        }
        if members.is_empty() {
            return true;
        }
        let no_http = drafts.routers.is_empty() && drafts.middlewares.is_empty() && drafts.services.is_empty();
        if drafts.tcp_or_udp && no_http {
            return true;
        }
        let name =
            if exposure.canary { canary(&self.service.key.name, self.tags) } else { normalize(&self.service.key.name) };

        let nothing = Arc::<str>::default();
        let mut services: Vec<Draft<ServiceDraft>> = drafts.services.into_values().collect();
        if services.is_empty() {
            services.push(Draft {
                name: name.clone(),
                value: ServiceDraft::default(),
                broken: false,
                tag: nothing.clone(),
            });
        }
        let mut without_servers = BTreeSet::new();
        for draft in &services {
            if !self.service(draft, members) {
                without_servers.insert(draft.name.clone());
            }
        }
        let mut routers: Vec<(Arc<str>, declare::Router, bool, Arc<str>)> =
            drafts.routers.into_values().map(|d| (d.name, d.value.finish(), d.broken, d.tag)).collect();
        if routers.is_empty() {
            if services.len() > 1 {
                let message = "no router is made by itself: the tags define several services and no router";
                self.problem(Diagnostic::warning("no_router_made_several_services", message));
            } else {
                routers.push((name, declare::Router::default(), false, nothing));
            }
        }
        let routed = !routers.is_empty();
        let labels: BTreeMap<String, String> =
            labels.iter().map(|l| (format!("traefik.{}", l.key), l.value.to_owned())).collect();
        for (name, mut router, broken, tag) in routers {
            router.source = self.source(&tag);
            let complete = self.complete(&name, &mut router, &services, &labels);
            if without_servers.contains(&router.service) {
                continue;
            }
            let router = Arc::new(router);
            let def = if broken || !complete { Def::Broken(router) } else { Def::Good(router) };
            add(&mut self.into.routers, &name, def, &mut self.into.problems);
        }
        for draft in drafts.middlewares.into_values() {
            let source = self.source(&draft.tag);
            let kind = draft.value.unwrap_or(declare::MiddlewareKind::AddPrefix { prefix: Arc::default() });
            let middleware = Arc::new(declare::Middleware { kind, source });
            let def = if draft.broken { Def::Broken(middleware) } else { Def::Good(middleware) };
            add(&mut self.into.middlewares, &draft.name, def, &mut self.into.problems);
        }
        routed
    }

    /// Gives a router its rule and its service where its tags do not. False when that fails.
    fn complete(
        &mut self,
        name: &str,
        router: &mut declare::Router,
        services: &[Draft<ServiceDraft>],
        labels: &BTreeMap<String, String>,
    ) -> bool {
        if router.rule.is_empty() {
            let Some(template) = &self.compiled.default_rule else { return false };
            match template.apply(Model { name: &self.service.key.name, labels }) {
                Ok(rule) if rule.is_empty() => {
                    let message = format!("router `{name}` has no rule, and the default rule gave none");
                    self.problem(Diagnostic::error("default_rule_empty", message));
                    return false;
                }
                Ok(rule) => router.rule = rule.into(),
                Err(e) => {
                    let message = format!("router `{name}` has no rule, and the default rule failed: {e}");
                    self.problem(Diagnostic::error("default_rule_failed", message));
                    return false;
                }
            }
        }
        if router.service.is_empty() {
            let [only] = services else {
                let names: Vec<&str> = services.iter().map(|s| &*s.name).collect();
                let message =
                    format!("router `{name}` names no service, and there are several: `{}`", names.join("`, `"));
                let problem = Diagnostic::error("router_without_service_several_services", message)
                    .with_help(format!("add `{}.http.routers.{name}.service=…`", self.compiled.options.prefix));
                self.problem(problem);
                return false;
            };
            router.service = only.name.clone();
        }
        true
    }

    /// Adds a service with a server for each instance. False when no instance gives one.
    fn service(&mut self, draft: &Draft<ServiceDraft>, members: &[&Instance]) -> bool {
        let mut servers = Vec::new();
        let mut failed = None;
        for instance in members {
            match server_url(&draft.value, instance, self.provider) {
                Ok(url) => servers.push(declare::Server { url: url.into(), weight: draft.value.weight }),
                Err((code, why)) => failed = Some((code, why, instance.id.clone())),
            }
        }
        if let Some((code, why, instance)) = failed {
            let message = format!("service `{}` gets no server from instance `{instance}`: {why}", draft.name);
            self.problem(Diagnostic::error(code, message));
        }
        if servers.is_empty() {
            return false;
        }
        let load_balancer = LoadBalancer {
            servers,
            pass_host_header: draft.value.pass_host_header.unwrap_or(true),
            ..LoadBalancer::default()
        };
        let service =
            Arc::new(declare::Service { load_balancer: Some(load_balancer), source: self.source(&draft.tag) });
        let def = if draft.broken { Def::Broken(service) } else { Def::Good(service) };
        add(&mut self.into.services, &draft.name, def, &mut self.into.problems);
        true
    }
}

/// The URL of an instance's server; the error has a code and the reason.
fn server_url(
    draft: &ServiceDraft,
    instance: &Instance,
    provider: Provider,
) -> Result<String, (&'static str, &'static str)> {
    let Some(address) = address(instance, provider) else { return Err(("no_address", "it has no address")) };
    if let Some(url) = draft.url.as_ref().filter(|u| !u.is_empty()) {
        return match (&draft.scheme, &draft.port) {
            (None, None) => Ok(url.to_string()),
            _ => Err(("url_with_scheme_or_port", "`server.url` cannot stand beside `server.scheme` or `server.port`")),
        };
    }
    let port = match &draft.port {
        Some(port) => port.to_string(),
        // Consul's providers take port 0 for a port; what cannot be dialled is refused by the table
        None if instance.port == 0 && provider != Provider::ConsulCatalog => return Err(("no_port", "it has no port")),
        None => instance.port.to_string(),
    };
    let scheme = draft.scheme.as_deref().unwrap_or("http");
    Ok(format!("{scheme}://{}", join_host_port(address, &port)))
}
