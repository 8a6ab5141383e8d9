//! From one state of the declarations to the next table: a [`Planner`] remembers what was accepted
//! and lets routes linger, so that a service between two deployments is "wait a moment" and not
//! "there is no such page". Pure: the clock is handed in.
//!
//! A service that vanishes with its servers stays with none for `linger.for`, and so do the routers
//! that vanished together with it. They yield to every other router. A router that vanishes while
//! its service has servers was taken out on purpose and goes at once, and so does what files and the API declared.

use super::build::{Accepted, BuildOptions, step};
use super::diff::{Cause, Diff, diff};
use super::resolve::reference;
use super::table::Table;
use crate::declare::{self, Declarations, Dynamic};
use crate::diagnostic::Problems;
use crate::model::{Difference, Provider};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a step came to.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The table to serve.
    pub table: Arc<Table>,
    /// What was refused or deserves a remark; what did not change is shared with the step before.
    pub problems: Problems,
    /// How it differs from the table before.
    pub diff: Diff,
    /// When to call [`Planner::tick`] at the latest: something that lingers goes then.
    pub next_deadline: Option<Instant>,
}

type Key = (Provider, Arc<str>);

struct LingeringService {
    empty: Arc<declare::Service>,
    until: Instant,
}

struct LingeringRouter {
    router: Arc<declare::Router>,
    service: Key,
    middlewares: Vec<(Key, Arc<declare::Middleware>)>,
}

/// Makes tables of declarations, one after another.
pub struct Planner {
    options: BuildOptions,
    linger_for: Duration,
    accepted: Accepted,
    last: Declarations,
    services: BTreeMap<Key, LingeringService>,
    routers: BTreeMap<Key, LingeringRouter>,
}

impl Planner {
    /// A planner that has seen nothing. `linger_for` of zero removes at once.
    pub fn new(options: BuildOptions, linger_for: Duration) -> Self {
        Self {
            options,
            linger_for,
            accepted: Accepted::default(),
            last: Declarations::new(),
            services: BTreeMap::new(),
            routers: BTreeMap::new(),
        }
    }

    /// Replaces the options (entry points, internal routers); they count from the next step on.
    pub fn set_options(&mut self, options: BuildOptions) {
        self.options = options;
    }

    /// The table of the last step.
    pub fn table(&self) -> &Arc<Table> {
        self.accepted.table()
    }

    /// The next table.
    pub fn plan(&mut self, declarations: Declarations, now: Instant) -> Planned {
        self.remember(&declarations, now);
        let lingering = self.with_lingering(&declarations);
        let before = self.accepted.table().clone();
        let (accepted, problems) = step(lingering.as_ref().unwrap_or(&declarations), &self.accepted, &self.options);
        self.accepted = accepted;
        let table = self.accepted.table().clone();
        let mut diff = diff(&before, &table);
        // a service that no router leads to, for its router was refused: whoever declares it, or did
        for id in diff.services.keys() {
            let Some((name, of)) = id.rsplit_once('@') else { continue };
            let said = [&declarations, &self.last].into_iter().find_map(|all| {
                let (provider, dynamic) = all.iter().find(|(provider, _)| provider.as_str() == of)?;
                let http = &dynamic.http;
                let service = http.services.get(name).or_else(|| http.broken.services.get(name))?;
                Some((*provider, service.source.clone()))
            });
            if let Some((provider, source)) = said {
                diff.causes.insert(Cause { provider, namespace: source.namespace, service: source.service });
            }
        }
        self.last = declarations;
        Planned { diff, table, problems, next_deadline: self.services.values().map(|s| s.until).min() }
    }

    /// What the last process served, as what was accepted. Nothing of it lingers: it was read by the options of then, and what
    /// those of today leave out is not to be served any longer.
    pub fn restore(&mut self, declarations: Declarations, now: Instant) -> Planned {
        let planned = self.plan(declarations, now);
        self.last = Declarations::new();
        planned
    }

    /// The same declarations at a later time.
    pub fn tick(&mut self, now: Instant) -> Planned {
        let last = std::mem::take(&mut self.last);
        self.plan(last, now)
    }

    /// Finds what went since the last step, and forgets what came back or whose time is up.
    fn remember(&mut self, new: &Declarations, now: Instant) {
        if self.linger_for.is_zero() {
            return;
        }
        let nothing = Dynamic::default();
        let now_of = |provider: &Provider| &new.get(provider).unwrap_or(&nothing).http;
        // what people write into files and the API is taken out on purpose
        let lingers = |provider: &Provider| !matches!(provider, Provider::File | Provider::Rest);
        for (provider, dynamic) in self.last.iter().filter(|(provider, _)| lingers(provider)) {
            for Difference { key: name, before, .. } in dynamic.http.services.differences(&now_of(provider).services) {
                let Some(service) = before else { continue };
                let had = service.load_balancer.as_ref().is_some_and(|lb| !lb.servers.is_empty());
                if had && !has_servers(new, *provider, name) {
                    let mut empty = (**service).clone();
                    if let Some(lb) = &mut empty.load_balancer {
                        lb.servers.clear();
                    }
                    let until = now.checked_add(self.linger_for).unwrap_or(now);
                    let lingering = LingeringService { empty: Arc::new(empty), until };
                    self.services.entry((*provider, name.clone())).or_insert(lingering);
                }
            }
        }
        self.services.retain(|(provider, name), s| s.until > now && !has_servers(new, *provider, name));
        for (provider, dynamic) in &self.last {
            for Difference { key: name, before, .. } in dynamic.http.routers.differences(&now_of(provider).routers) {
                let Some(router) = before.filter(|_| !declared(new, *provider, name)) else { continue };
                let Some((of, service)) = reference(&router.service, *provider) else { continue };
                let service = (of, Arc::from(service));
                if !self.services.contains_key(&service) {
                    continue;
                }
                let middlewares = router.middlewares.iter().filter_map(|m| {
                    let (of, name) = reference(m, *provider)?;
                    let (name, middleware) = self.last.get(&of)?.http.middlewares.get_key_value(name)?;
                    Some(((of, name.clone()), middleware.clone()))
                });
                let lingering = LingeringRouter { router: router.clone(), service, middlewares: middlewares.collect() };
                self.routers.insert((*provider, name.clone()), lingering);
            }
        }
        let services = &self.services;
        self.routers.retain(|(provider, name), r| services.contains_key(&r.service) && !declared(new, *provider, name));
    }

    /// The declarations with what lingers; `None` when nothing does.
    fn with_lingering(&self, new: &Declarations) -> Option<Declarations> {
        if self.services.is_empty() {
            return None;
        }
        let mut all = new.clone();
        for ((provider, name), service) in &self.services {
            let http = &mut all.entry(*provider).or_default().http;
            if !http.broken.services.contains_key(name) && !http.services.contains_key(name) {
                http.services.insert(name.clone(), service.empty.clone());
            }
        }
        for ((provider, name), lingering) in &self.routers {
            for ((of, name), middleware) in &lingering.middlewares {
                let http = &mut all.entry(*of).or_default().http;
                if !http.middlewares.contains_key(name) {
                    http.middlewares.insert(name.clone(), middleware.clone());
                }
            }
            let http = &mut all.entry(*provider).or_default().http;
            http.routers.insert(name.clone(), lingering.router.clone());
            http.lingering.insert(name.clone());
        }
        Some(all)
    }
}

fn has_servers(declarations: &Declarations, provider: Provider, name: &str) -> bool {
    let Some(http) = declarations.get(&provider).map(|d| &d.http) else { return false };
    let service = http.services.get(name).or_else(|| http.broken.services.get(name));
    service.and_then(|s| s.load_balancer.as_ref()).is_some_and(|lb| !lb.servers.is_empty())
}

fn declared(declarations: &Declarations, provider: Provider, name: &str) -> bool {
    let http = declarations.get(&provider).map(|d| &d.http);
    http.is_some_and(|h| h.routers.contains_key(name) || h.broken.routers.contains(name))
}
