//! The `traefik.*` dialect: from a service's instances to routers, services and middlewares, as
//! Traefik 3.7's `nomad` and `consulCatalog` providers do it
//! (<https://doc.traefik.io/traefik/routing/providers/nomad/>,
//! <https://doc.traefik.io/traefik/routing/providers/consul-catalog/>; tests/oracle/traefik_tags.json).
//! Where Traefik drops a whole registration for one bad label, only what the label belongs to is
//! dropped here.

use super::TagOptions;
use super::constraints::Constraint;
use super::drafts::{ByName, Draft, ServerDraft, ServiceDraft};
use super::exposure::{Exposure, exposed};
use super::fragment::{Def, Fragment, add, address, source};
use super::labels::{self, Label};
use super::names::{canary, join_host_port, normalize};
use super::template::{Model, Template};
use crate::catalog::{Health, Instance, Service};
use crate::declare::{self, Dialect};
use crate::diagnostic::{Diagnostic, Origin};
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

/// Decodes the `traefik.*` tags of a service into the fragment. True when they route it.
pub fn decode(service: &Service, provider: Provider, compiled: &Compiled, into: &mut Fragment) -> bool {
    let options = &compiled.options;
    let all_tags: BTreeSet<&Arc<str>> = service.instances.iter().flat_map(|i| &i.tags).collect();
    // the service as a whole has to pass the constraint, by the tags of all its instances
    let all_tags: Vec<Arc<str>> = all_tags.into_iter().cloned().collect();
    if !compiled.constraint.as_ref().is_some_and(|c| c.allows(&all_tags)) {
        return false;
    }
    if !exposed(&all_tags, provider, options, service, into) {
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
pub(super) struct Group<'a> {
    pub service: &'a Service,
    pub provider: Provider,
    pub compiled: &'a Compiled,
    pub tags: &'a [Arc<str>],
    pub oldest: &'a Instance,
    pub into: &'a mut Fragment,
}

impl Group<'_> {
    pub(super) fn problem(&mut self, problem: Diagnostic) {
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

    /// Where a definition is named first.
    fn named(&self, section: &str, kind: &str, name: &str) -> Origin {
        let labels = self.tags.iter().filter_map(|t| Label::cut(t, &self.compiled.options.prefix, true)?.ok());
        for label in labels {
            let path: Vec<&str> = label.key.split('.').collect();
            if let [s, k, n, ..] = path[..]
                && s.eq_ignore_ascii_case(section)
                && k.eq_ignore_ascii_case(kind)
                && n.eq_ignore_ascii_case(name)
            {
                return label.origin(n);
            }
        }
        Origin::default()
    }

    /// The tags that say something of an HTTP definition, as they may be shown.
    fn says(&self, kind: &str, name: &str) -> Vec<Arc<str>> {
        let of_it = format!("{}.http.{kind}.{name}.", self.compiled.options.prefix);
        let says = |tag: &&Arc<str>| tag.get(..of_it.len()).is_some_and(|head| head.eq_ignore_ascii_case(&of_it));
        let shown = |tag| match Label::cut(tag, &self.compiled.options.prefix, false) {
            Some(Ok(label)) => label.shown(),
            _ => tag.clone(),
        };
        self.tags.iter().filter(says).map(shown).collect()
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
        let name =
            if exposure.canary { canary(&self.service.key.name, self.tags) } else { normalize(&self.service.key.name) };
        let http = !(drafts.routers.is_empty() && drafts.middlewares.is_empty() && drafts.services.is_empty());
        let tcp = !(drafts.tcp_routers.is_empty() && drafts.tcp_services.is_empty());
        let udp = !(drafts.udp_routers.is_empty() && drafts.udp_services.is_empty());
        if tcp {
            self.tcp(&name, drafts.tcp_routers, drafts.tcp_services, members);
        }
        if udp {
            self.udp(&name, drafts.udp_routers, drafts.udp_services, members);
        }
        for draft in drafts.tcp_middlewares.into_values() {
            let middleware = declare::TcpMiddleware { source: self.source(&draft.tag), ..draft.value };
            add(&mut self.into.tcp_middlewares, &draft.name, def(middleware, draft.broken), &mut self.into.problems);
        }
        for draft in drafts.tls_stores.into_values() {
            let store = declare::TlsStore { source: self.source(&draft.tag), ..draft.value };
            add(&mut self.into.tls_stores, &draft.name, def(store, draft.broken), &mut self.into.problems);
        }
        if (tcp || udp) && !http {
            return true;
        }

        let services = given(drafts.services, &name);
        let mut without_servers = BTreeSet::new();
        for draft in &services {
            if !self.service(draft, members) {
                without_servers.insert(draft.name.clone());
            }
        }
        let mut routers: Vec<Draft<declare::Router>> = drafts.routers.into_values().collect();
        if routers.is_empty() {
            if services.len() > 1 {
                let message = "no router is made by itself: the tags define several services and no router";
                self.problem(Diagnostic::warning("no_router_made_several_services", message));
            } else {
                routers.push(made(&name));
            }
        }
        let routed = !routers.is_empty();
        let labels: BTreeMap<String, String> =
            labels.iter().map(|l| (format!("traefik.{}", l.key), l.value.to_owned())).collect();
        for Draft { name, value: mut router, broken, tag } in routers {
            router.source = self.source(&tag);
            router.source.options = self.says("routers", &name);
            let complete =
                self.rule(&name, &mut router.rule, &labels) && self.link("http", &name, &mut router.service, &services);
            if without_servers.contains(&router.service) {
                continue;
            }
            add(&mut self.into.routers, &name, def(router, broken || !complete), &mut self.into.problems);
        }
        for draft in drafts.middlewares.into_values() {
            let middleware = declare::Middleware { kind: draft.value, source: self.source(&draft.tag) };
            add(&mut self.into.middlewares, &draft.name, def(middleware, draft.broken), &mut self.into.problems);
        }
        routed
    }

    /// TCP routers and services.
    fn tcp(
        &mut self,
        name: &Arc<str>,
        routers: ByName<declare::TcpRouter>,
        services: ByName<ServiceDraft<declare::TcpService>>,
        members: &[&Instance],
    ) {
        let services = given(services, name);
        let mut without_servers = BTreeSet::new();
        for draft in &services {
            let addresses = self.servers(&draft.name, members, |instance, provider| {
                address_of(&draft.value.server, instance, provider)
            });
            let tls = draft.value.server.tls;
            let servers = addresses.into_iter().map(|a| declare::TcpServer { address: a.into(), tls });
            let servers: Vec<_> = servers.collect();
            if servers.is_empty() {
                without_servers.insert(draft.name.clone());
                continue;
            }
            let load_balancer = draft.value.service.load_balancer.clone().unwrap_or_default();
            let load_balancer = Some(declare::TcpLoadBalancer { servers, ..load_balancer });
            let service = declare::TcpService { load_balancer, source: self.source(&draft.tag), ..Default::default() };
            add(&mut self.into.tcp_services, &draft.name, def(service, draft.broken), &mut self.into.problems);
        }
        for Draft { name, value: mut router, broken, tag } in routers.into_values() {
            router.source = self.source(&tag);
            let mut complete = !router.rule.is_empty();
            if !complete {
                let origin = self.named("tcp", "routers", &name);
                let message = format!("TCP router `{name}` has no rule, and there is no default rule for TCP");
                self.problem(Diagnostic::error("tcp_router_without_rule", message).with_origin(origin));
            }
            complete = complete && self.link("tcp", &name, &mut router.service, &services);
            if !without_servers.contains(&router.service) {
                add(&mut self.into.tcp_routers, &name, def(router, broken || !complete), &mut self.into.problems);
            }
        }
    }

    /// UDP routers and services.
    fn udp(
        &mut self,
        name: &Arc<str>,
        routers: ByName<declare::UdpRouter>,
        services: ByName<ServiceDraft<declare::UdpService>>,
        members: &[&Instance],
    ) {
        let services = given(services, name);
        let mut without_servers = BTreeSet::new();
        for draft in &services {
            let addresses = self.servers(&draft.name, members, |instance, provider| {
                address_of(&draft.value.server, instance, provider)
            });
            let servers: Vec<_> = addresses.into_iter().map(|a| declare::UdpServer { address: a.into() }).collect();
            if servers.is_empty() {
                without_servers.insert(draft.name.clone());
                continue;
            }
            let load_balancer = Some(declare::UdpLoadBalancer { servers });
            let service = declare::UdpService { load_balancer, source: self.source(&draft.tag), ..Default::default() };
            add(&mut self.into.udp_services, &draft.name, def(service, draft.broken), &mut self.into.problems);
        }
        for Draft { name, value: mut router, broken, tag } in routers.into_values() {
            router.source = self.source(&tag);
            let complete = self.link("udp", &name, &mut router.service, &services);
            if !without_servers.contains(&router.service) {
                add(&mut self.into.udp_routers, &name, def(router, broken || !complete), &mut self.into.problems);
            }
        }
    }

    /// Gives a router its rule where its tags do not. False when that fails.
    fn rule(&mut self, name: &str, rule: &mut Arc<str>, labels: &BTreeMap<String, String>) -> bool {
        if !rule.is_empty() {
            return true;
        }
        let Some(template) = &self.compiled.default_rule else { return false };
        match template.apply(Model { name: &self.service.key.name, labels }) {
            Ok(made) if made.is_empty() => {
                let message = format!("router `{name}` has no rule, and the default rule gave none");
                self.problem(Diagnostic::error("default_rule_empty", message));
                false
            }
            Ok(made) => {
                *rule = made.into();
                true
            }
            Err(e) => {
                let message = format!("router `{name}` has no rule, and the default rule failed: {e}");
                self.problem(Diagnostic::error("default_rule_failed", message));
                false
            }
        }
    }

    /// Gives a router its service where its tags do not. False when that fails.
    fn link<T>(&mut self, section: &str, name: &str, service: &mut Arc<str>, services: &[Draft<T>]) -> bool {
        if !service.is_empty() {
            return true;
        }
        let [only] = services else {
            let names: Vec<&str> = services.iter().map(|s| &*s.name).collect();
            let message = format!(
                "router `{name}` is refused: it names no service, and there are several: `{}`",
                names.join("`, `")
            );
            let problem = Diagnostic::error("router_without_service_several_services", message)
                .with_origin(self.named(section, "routers", name))
                .with_help(format!("add `{}.{section}.routers.{name}.service=…`", self.compiled.options.prefix));
            self.problem(problem);
            return false;
        };
        *service = only.name.clone();
        true
    }

    /// What the instances give a service, each what `of` makes of it; the last failure is told.
    /// Two instances at one address are one server, as in Traefik.
    fn servers<T: Ord + Clone>(
        &mut self,
        name: &str,
        members: &[&Instance],
        of: impl Fn(&Instance, Provider) -> Result<T, NoServer>,
    ) -> Vec<T> {
        let mut servers = Vec::new();
        let mut known = BTreeSet::new();
        let mut failed = None;
        for instance in members {
            match of(instance, self.provider) {
                Ok(server) => {
                    if known.insert(server.clone()) {
                        servers.push(server);
                    }
                }
                Err((code, why)) => failed = Some((code, why, instance.id.clone())),
            }
        }
        if let Some((code, why, instance)) = failed {
            let message = format!("service `{name}` gets no server from instance `{instance}`: {why}");
            let mut said = self.tags.iter().filter_map(|t| Label::cut(t, &self.compiled.options.prefix, true)?.ok());
            let path = format!(".services.{name}.loadbalancer.server.url");
            let url = |l: &Label<'_>| code == "url_with_scheme_or_port" && l.key.to_lowercase().ends_with(&path);
            let origin = said.rfind(url).map(|label| label.origin(label.value)).unwrap_or_default();
            self.problem(Diagnostic::error(code, message).with_origin(origin));
        }
        servers
    }

    /// Adds a service with a server for each instance. False when no instance gives one.
    fn service(&mut self, draft: &Draft<ServiceDraft<declare::Service>>, members: &[&Instance]) -> bool {
        let said = &draft.value.server;
        let urls = self.servers(&draft.name, members, |instance, provider| server_url(said, instance, provider));
        let servers: Vec<_> = urls
            .into_iter()
            .map(|url| declare::Server { url: url.into(), weight: said.weight, preserve_path: said.preserve_path })
            .collect();
        if servers.is_empty() {
            return false;
        }
        let declared = &draft.value.service;
        let load_balancer = declared.load_balancer.clone().unwrap_or_default();
        let mut source = self.source(&draft.tag);
        source.options = self.says("services", &draft.name);
        let service = declare::Service {
            middlewares: declared.middlewares.clone(),
            load_balancer: Some(declare::LoadBalancer { servers, ..load_balancer }),
            source,
            ..declare::Service::default()
        };
        add(&mut self.into.services, &draft.name, def(service, draft.broken), &mut self.into.problems);
        true
    }
}

fn def<T>(value: T, broken: bool) -> Def<T> {
    let value = Arc::new(value);
    if broken { Def::Broken(value) } else { Def::Good(value) }
}

/// What is made where the tags define nothing.
fn made<T: Default>(name: &Arc<str>) -> Draft<T> {
    Draft { name: name.clone(), value: T::default(), broken: false, tag: Arc::default() }
}

/// The services that the tags define, or else one of the catalog's name.
fn given<T: Default>(services: ByName<T>, name: &Arc<str>) -> Vec<Draft<T>> {
    if services.is_empty() { vec![made(name)] } else { services.into_values().collect() }
}

/// Code and reason why an instance gives a service no server.
type NoServer = (&'static str, &'static str);

/// The URL of an instance's server.
fn server_url(said: &ServerDraft, instance: &Instance, provider: Provider) -> Result<String, NoServer> {
    if address(instance, provider).is_some() && !said.url.is_empty() {
        return if said.scheme.is_empty() && said.port.is_empty() {
            Ok(said.url.to_string())
        } else {
            Err(("url_with_scheme_or_port", "`server.url` cannot stand beside `server.scheme` or `server.port`"))
        };
    }
    let address = address_of(said, instance, provider)?;
    let scheme = if said.scheme.is_empty() { "http" } else { &said.scheme };
    Ok(format!("{scheme}://{address}"))
}

/// `host:port` of an instance's server.
fn address_of(said: &ServerDraft, instance: &Instance, provider: Provider) -> Result<String, NoServer> {
    let Some(address) = address(instance, provider) else { return Err(("no_address", "it has no address")) };
    if !said.port.is_empty() {
        return Ok(join_host_port(address, &said.port));
    }
    // Consul's provider takes port 0 for a port; what cannot be dialled is refused by the table
    if instance.port == 0 && provider != Provider::ConsulCatalog {
        return Err(("no_port", "it has no port"));
    }
    Ok(join_host_port(address, &instance.port.to_string()))
}
