//! Services of a table: what each comes to with the transports of now and, where it is made of others, with these.
//!
//! What always holds: a service that changes touches all that are made of it; none is worked out for ever.

use super::build::Use;
use super::build::{Builder, GoodService, Name, Part, TransportFault, User, Uses, once};
use super::composite;
use super::resolve::{self, origin, origin_of, reference};
use super::{DEFAULT_TRANSPORT, Service, Transport};
use crate::declare::{self, Dynamic, Strategy};
use crate::diagnostic::{Diagnostic, Stage};
use crate::model::Provider;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How often services are worked out anew in one build because others that they are made of changed: more than they can
/// be nested, so that it ends only what would not end.
const MAX_ROUNDS: usize = 2 * composite::MAX_DEPTH;

impl Builder<'_> {
    /// Services, those that are made of others behind these.
    pub fn services(&mut self) {
        for round in 0..MAX_ROUNDS {
            let mut touched = once(&mut self.touched.services);
            if touched.is_empty() {
                break;
            }
            touched.sort_by_key(|of| self.is_composite(of));
            for of in touched {
                self.service_touched(&of, round == 0);
            }
        }
    }

    fn is_composite(&self, (provider, name): &Name) -> bool {
        let declared = self.inputs.get(provider).and_then(|dynamic| dynamic.http.services.get(name));
        declared.is_some_and(|declared| composite::names(declared).next().is_some())
    }

    fn service_touched(&mut self, of: &Name, first: bool) {
        let old = self.good.get(&of.0).and_then(|good| good.services.get(&of.1)).cloned();
        let was = self.service_uses(of, &self.before, old.as_deref());
        let (service, problems) = self.service_now(of);
        self.set_problems(Stage::Part, "service", of, problems);
        let is = self.service_uses(of, &self.inputs, service.as_deref());
        for gone in was.iter().filter(|use_| !is.contains(use_)) {
            self.uses.remove(gone);
        }
        self.uses.extend(is);
        self.good.entry(of.0).or_default().services.set(&of.1, service.clone());
        let id = resolve::qualified(&of.1, of.0);
        self.table.services.set(&id, service.as_ref().map(|service| service.service.clone()));
        let what = |service: &Option<Arc<GoodService>>| {
            let wanted = |good: &Arc<GoodService>| {
                let transport = good.declared.load_balancer.as_ref().map(|lb| lb.servers_transport.clone());
                (good.declared.middlewares.clone(), transport)
            };
            service.as_ref().map(|good| (wanted(good), good.fault, Arc::as_ptr(&good.service)))
        };
        // where there is none, what is said of its users depends on whether it is declared
        if what(&old) != what(&service) || (first && service.is_none()) {
            self.touch_users(Part::Service, of);
        }
    }

    /// What a service names: as it is declared, and as it is in force.
    fn service_uses(&self, of: &Name, inputs: &BTreeMap<Provider, Dynamic>, good: Option<&GoodService>) -> Uses {
        let declared = inputs.get(&of.0).and_then(|dynamic| dynamic.http.services.get(&of.1));
        let mut uses = Uses::new();
        for declared in declared.into_iter().chain(good.map(|good| &good.declared)) {
            let transport = declared.load_balancer.iter().map(|lb| &lb.servers_transport);
            let middlewares = declared.middlewares.iter().map(|name| (Part::Middleware, name));
            let transports = transport.filter(|name| !name.is_empty()).map(|name| (Part::Transport, name));
            let services = composite::names(declared).map(|name| (Part::Service, name));
            for (part, name) in middlewares.chain(transports).chain(services) {
                if let Some((provider, name)) = reference(name, of.0) {
                    uses.push(Use { part, of: (provider, name.into()), by: User::Service(of.clone()) });
                }
            }
        }
        uses
    }

    /// What a service comes to: its definition of now, else its last good one.
    fn service_now(&self, (provider, name): &Name) -> (Option<Arc<GoodService>>, Vec<Diagnostic>) {
        let Some(http) = self.inputs.get(provider).map(|dynamic| &dynamic.http) else { return (None, Vec::new()) };
        let known = self.accepted.providers.get(provider).and_then(|good| good.services.get(name));
        let mut found = (None, Vec::new());
        if let Some(declared) = http.services.get(name) {
            found = self.service_of(name, *provider, declared, known, true);
            if let (None, Some(known)) = (&found.0, known) {
                let (kept, _) = self.service_of(name, *provider, &with_servers_of(known, declared), Some(known), false);
                if kept.is_some() {
                    let message = format!("service `{name}`: its last good definition stays in force");
                    let origin = origin(&declared.source, *provider);
                    found.1.push(Diagnostic::warning("last_good_kept", message).with_origin(origin));
                }
                found.0 = kept;
            }
        }
        // of a service that cannot be read the accepted settings stay, with the servers of today
        if let (Some(today), Some(known)) = (http.broken.services.get(name), known) {
            let declared = with_servers_of(known, today);
            let (service, problems) = self.service_of(name, *provider, &declared, Some(known), false);
            found.1.extend(problems);
            found.0 = service;
        }
        found
    }

    /// What a definition of a service comes to; `None` if it cannot be used. `new` tells whether it is the one of now: an
    /// accepted one is not refused because others have come to name it.
    fn service_of(
        &self,
        name: &Arc<str>,
        provider: Provider,
        declared: &Arc<declare::Service>,
        known: Option<&Arc<GoodService>>,
        new: bool,
    ) -> (Option<Arc<GoodService>>, Vec<Diagnostic>) {
        let old = known.map(|known| &known.service);
        let refuse = |code: &'static str, option: &str, message: String| {
            let origin = origin_of(&declared.source, provider, option);
            (None, vec![Diagnostic::error(code, message).with_origin(origin)])
        };
        match (composite::kinds(declared), &declared.load_balancer) {
            // what is built in may be a service without servers, such as `api@internal`
            (0, _) if provider != Provider::Internal => {
                let message = format!(
                    "service `{name}` is of no kind: it has no `loadBalancer`, `weighted`, `highestRandomWeight`, \
                     `mirroring` or `failover`"
                );
                refuse("not_a_load_balancer", "", message)
            }
            (2.., _) => {
                let message = format!("service `{name}` is of several kinds; it can be of one");
                refuse("bad_service", "", message)
            }
            (1, None) => {
                if let Some(cycle) = self.cycle(&(provider, name.clone())).filter(|_| new) {
                    let message = format!("service `{name}` is a part of itself: {cycle}");
                    return refuse("service_cycle", "", message);
                }
                let id = resolve::qualified(name, provider);
                let find = |wanted: &str| self.part_of(&id, provider, wanted);
                let (service, problems) = composite::resolve(name, provider, declared, find, old);
                let good = service.map(|service| {
                    let same = |known: &&Arc<GoodService>| {
                        Arc::ptr_eq(&known.declared, declared)
                            && Arc::ptr_eq(&known.service, &service)
                            && known.problems == problems
                    };
                    known.filter(same).cloned().unwrap_or_else(|| {
                        let declared = declared.clone();
                        Arc::new(GoodService { declared, service, fault: None, problems: problems.clone() })
                    })
                });
                (good, problems)
            }
            (_, Some(lb)) if matches!(&lb.strategy, Strategy::Other(strategy) if !strategy.is_empty()) => {
                let (said, known) = (lb.strategy.as_str(), Strategy::KNOWN);
                let message = format!("service `{name}`: expected the strategy {known}, got `{said}`");
                refuse("bad_strategy", "strategy", message)
            }
            _ => {
                let (transport, fault) = self.transport_of(declared, provider, old);
                let reached = |service: &Service| service.transport.as_ref().map(Arc::as_ptr);
                if let Some(same) = known.filter(|known| {
                    Arc::ptr_eq(&known.declared, declared)
                        && known.fault == fault
                        && known.service.composite.is_none()
                        && reached(&known.service) == transport.as_ref().map(Arc::as_ptr)
                }) {
                    return (Some(same.clone()), same.problems.clone());
                }
                let (service, problems) = resolve::service(name, provider, declared, transport, old);
                let good = GoodService { declared: declared.clone(), service, fault, problems: problems.clone() };
                (Some(Arc::new(good)), problems)
            }
        }
    }

    /// A service as a part of another one, or why it cannot be.
    fn part_of(&self, whole: &str, from: Provider, wanted: &str) -> Result<Arc<Service>, String> {
        let of = reference(wanted, from);
        let good = of.and_then(|(provider, name)| self.good.get(&provider)?.services.get(name));
        let Some(good) = good else {
            let declared = of.is_some_and(|(provider, name)| {
                let http = self.inputs.get(&provider).map(|dynamic| &dynamic.http);
                http.is_some_and(|http| http.services.contains_key(name) || http.broken.services.contains_key(name))
            });
            return Err(if declared { "is refused" } else { "does not exist" }.to_owned());
        };
        if of.is_some_and(|(provider, _)| provider == Provider::Internal) {
            return Err("is built in and cannot be a part of another one".to_owned());
        }
        if good.fault.is_some() {
            return Err("has not the serversTransport that it names".to_owned());
        }
        if !good.declared.middlewares.is_empty() {
            return Err("has middlewares of its own, which is not served yet inside of another service".to_owned());
        }
        if good.service.holds(whole) {
            return Err("is made of this one".to_owned());
        }
        Ok(good.service.clone())
    }

    /// The way from a service to itself by what the declarations say, if there is one.
    fn cycle(&self, of: &Name) -> Option<String> {
        let mut seen: BTreeSet<Name> = BTreeSet::new();
        // each with who named it
        let mut ways: Vec<(Name, usize)> = vec![(of.clone(), 0)];
        let mut at = 0;
        while let Some((name, _)) = ways.get(at).cloned() {
            let declared = self.inputs.get(&name.0).and_then(|dynamic| dynamic.http.services.get(&name.1));
            for wanted in declared.into_iter().flat_map(|declared| composite::names(declared)) {
                let Some((provider, wanted)) = reference(wanted, name.0) else { continue };
                let next: Name = (provider, wanted.into());
                if next == *of {
                    let mut names = vec![resolve::qualified(&of.1, of.0)];
                    let mut back = at;
                    while back != 0 {
                        names.push(resolve::qualified(&ways[back].0.1, ways[back].0.0));
                        back = ways[back].1;
                    }
                    names.push(resolve::qualified(&of.1, of.0));
                    names.reverse();
                    return Some(format!("`{}`", names.join("` -> `")));
                }
                if seen.insert(next.clone()) {
                    ways.push((next, at));
                }
            }
            at += 1;
        }
        None
    }

    /// How a service is reached; what was accepted of it last, where that is not there.
    fn transport_of(
        &self,
        declared: &declare::Service,
        from: Provider,
        old: Option<&Arc<Service>>,
    ) -> (Option<Arc<Transport>>, Option<TransportFault>) {
        let name = declared.load_balancer.as_ref().map(|lb| &*lb.servers_transport).unwrap_or_default();
        if matches!(name, "" | DEFAULT_TRANSPORT) {
            return (None, None);
        }
        let reference = reference(name, from);
        let good = reference.and_then(|(provider, name)| self.good.get(&provider)?.transports.get(name));
        if let Some(transport) = good {
            return (Some(transport.clone()), None);
        }
        let declared = reference.is_some_and(|(provider, name)| {
            self.inputs.get(&provider).is_some_and(|dynamic| {
                let http = &dynamic.http;
                http.servers_transports.contains_key(name) || http.broken.servers_transports.contains(name)
            })
        });
        let fault = if declared { TransportFault::Refused } else { TransportFault::Unknown };
        (old.and_then(|old| old.transport.clone()), Some(fault))
    }
}

/// The accepted definition of a service with the servers that another one declares.
fn with_servers_of(known: &GoodService, today: &declare::Service) -> Arc<declare::Service> {
    let servers = today.load_balancer.as_ref().map(|lb| &lb.servers);
    let kept = known.declared.load_balancer.as_ref().map(|lb| &lb.servers);
    match (kept, servers) {
        (Some(kept), Some(servers)) if kept != servers => {
            let mut declared = (*known.declared).clone();
            if let Some(lb) = &mut declared.load_balancer {
                lb.servers.clone_from(servers);
            }
            Arc::new(declared)
        }
        _ => known.declared.clone(),
    }
}
