//! TCP routers, and their order at each entry point.

use super::build::{Making, RIVAL, ROUTER, list, names};
use super::{Door, Entry, Matching, Router, Service, Tls};
use crate::declare;
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use crate::rule::{self, Kind, Matcher, Syntax};
use crate::table::build::Name;
use crate::table::index::Order;
use crate::table::resolve::{origin, origin_of, qualified, reference};
use crate::table::table::unqualified;
use crate::table::{DEFAULT_TLS_OPTIONS, EntryPoint};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Highest priority that people may give; what is above it belongs to Traefik.
const HIGHEST: i64 = i64::MAX - 1_000;

/// Makes the routers and puts them in order.
pub(super) struct Doors<'a, 'b> {
    making: &'a mut Making<'b>,
    rank: &'a dyn Fn(Provider) -> u8,
    entries: Vec<Entry>,
}

impl<'a, 'b> Doors<'a, 'b> {
    pub fn new(making: &'a mut Making<'b>, rank: &'a dyn Fn(Provider) -> u8) -> Self {
        Self { making, rank, entries: Vec::new() }
    }

    pub fn make(mut self) {
        for of in names(self.making.inputs, |tcp| &tcp.routers, |tcp| list(&tcp.broken.routers)) {
            if let Some(router) = self.router(&of) {
                self.making.tcp.routers.insert(router.id.clone(), router.clone());
                let source = &router.declared.source;
                let order = Order {
                    priority: Reverse(router.priority),
                    lingering: false,
                    foreign: true,
                    create_index: source.create_index,
                    provider: (self.rank)(router.provider),
                    namespace: source.namespace.clone(),
                    id: router.id.clone(),
                };
                self.entries.push(Entry { router, order });
            }
        }
        self.shadow();
        self.doors();
    }

    /// A router's definition of now, else its last good one with the service of now.
    fn router(&mut self, of: &Name) -> Option<Arc<Router>> {
        let id = qualified(&of.1, of.0);
        let old = self.making.old.routers.get(&id).cloned();
        let declared = self.making.declared(of.0).and_then(|tcp| tcp.routers.get(&of.1)).cloned();
        let kept = |kept: bool| match kept {
            true => "its last good definition stays in force".to_owned(),
            false => format!("TCP router `{}` is not routed", of.1),
        };
        let Some(declared) = declared else {
            let router = self.kept(of, old);
            let source = router.as_ref().map(|router| router.declared.source.clone()).unwrap_or_default();
            let code = if router.is_some() { "last_good_kept" } else { "not_routed" };
            let problem = Diagnostic::warning(code, format!("{ROUTER} `{}` cannot be read", of.1))
                .with_origin(origin(&source, of.0))
                .with_help(kept(router.is_some()));
            self.making.say(ROUTER, of, problem);
            return router;
        };
        let (router, problem) = match self.read(of, &id, &declared, old.as_deref()) {
            Ok(new) => (Some(old.filter(|old| **old == new).unwrap_or_else(|| Arc::new(new))), None),
            Err(problem) => {
                let router = self.kept(of, old);
                let help = kept(router.is_some());
                (router, Some((*problem).with_help(help)))
            }
        };
        if let Some(problem) = problem {
            self.making.say(ROUTER, of, problem);
        } else if let Some(unknown) = declared.entry_points.iter().find(|name| !self.is_entry_point(name)) {
            let message = format!(
                "{ROUTER} `{}` names the entry point `{unknown}`, which does not exist; it is on the others",
                of.1
            );
            let origin = origin_of(&declared.source, of.0, "entrypoints");
            self.making.say(ROUTER, of, Diagnostic::error("unknown_entry_point", message).with_origin(origin));
        }
        router
    }

    fn is_entry_point(&self, name: &str) -> bool {
        self.making.options.entry_points.iter().any(|known| *known.name == *name)
    }

    fn kept(&self, of: &Name, old: Option<Arc<Router>>) -> Option<Arc<Router>> {
        let old = old?;
        let service = self.service(&old.declared.service, of.0)?;
        let entry_points = self.entry_points(&old.declared);
        if entry_points.is_empty() {
            return None;
        }
        let new = Router { service, entry_points, ..(*old).clone() };
        Some(if new == *old { old } else { Arc::new(new) })
    }

    fn service(&self, name: &str, from: Provider) -> Option<Arc<Service>> {
        let (provider, name) = reference(name, from)?;
        self.making.tcp.services.get(&qualified(name, provider)).cloned()
    }

    /// The entry points of a router. Without names those that are default ones, or all.
    fn entry_points(&self, declared: &declare::TcpRouter) -> Vec<Arc<str>> {
        let all = &self.making.options.entry_points;
        let some_default = all.iter().any(|e| e.as_default);
        let is_on = |e: &&EntryPoint| match declared.entry_points.is_empty() {
            true => e.as_default || !some_default,
            false => declared.entry_points.contains(&e.name),
        };
        all.iter().filter(is_on).map(|e| e.name.clone()).collect()
    }

    fn read(
        &self,
        (provider, name): &Name,
        id: &Arc<str>,
        declared: &Arc<declare::TcpRouter>,
        old: Option<&Router>,
    ) -> Result<Router, Box<Diagnostic>> {
        let provider = *provider;
        let refuse = |code: &str, option: &str, message: String| {
            let origin = origin_of(&declared.source, provider, option);
            Box::new(Diagnostic::error(code, format!("{ROUTER} `{name}`{message}")).with_origin(origin))
        };
        if declared.rule.is_empty() {
            return Err(refuse("bad_rule", "rule", " has no rule".to_owned()));
        }
        let rule = &declared.rule;
        let parsed = rule::parse(rule, Kind::Tcp, Syntax::named(&declared.rule_syntax));
        let bad = |error: rule::RuleError| {
            let mut problem = refuse("bad_rule", "rule", format!(": the rule `{rule}` is refused: {error}"));
            problem.span = Some((error.span.start, error.span.end));
            problem
        };
        let parsed = parsed.map_err(bad)?;
        let domains = parsed.domains();
        if declared.tls.is_none() && domains.first().is_some_and(|name| name != "*") {
            let message = format!(": the rule `{rule}` asks for a name, which only TLS tells; it needs `tls`");
            return Err(refuse("bad_rule", "rule", message));
        }
        if declared.priority > HIGHEST {
            let message = format!(": its priority is above {HIGHEST}, the highest that there is");
            return Err(refuse("bad_priority", "priority", message));
        }
        let same_rule =
            old.filter(|old| old.declared.rule == declared.rule && old.declared.rule_syntax == declared.rule_syntax);
        let matching = match same_rule {
            Some(old) => old.matching.clone(),
            None => Matching(Arc::new(Matcher::compile(&parsed).map_err(bad)?)),
        };
        let default = rule::priority(rule, &parsed);
        let service = self.service(&declared.service, provider).ok_or_else(|| {
            let message = format!(" needs the service `{}`, which does not exist or is refused", declared.service);
            refuse("unknown_service", "service", message)
        })?;
        let mut middlewares = Vec::with_capacity(declared.middlewares.len());
        for wanted in &declared.middlewares {
            let found = reference(wanted, provider)
                .and_then(|(provider, name)| self.making.tcp.middlewares.get(&qualified(name, provider)));
            // it may be what keeps strangers out: never served without it
            middlewares.push(found.cloned().ok_or_else(|| {
                let message = format!(" needs the TCP middleware `{wanted}`, which does not exist or is refused");
                refuse("unknown_middleware", "middlewares", message)
            })?);
        }
        let entry_points = self.entry_points(declared);
        if entry_points.is_empty() {
            let message =
                format!(" names the entry point `{}`, which does not exist", declared.entry_points.join("`, `"));
            return Err(refuse("unknown_entry_point", "entrypoints", message));
        }
        Ok(Router {
            id: id.clone(),
            provider,
            entry_points,
            priority: if declared.priority == 0 { default } else { declared.priority },
            tls: match &declared.tls {
                None => None,
                Some(tls) if tls.passthrough => Some(Tls::Passthrough),
                Some(tls) => Some(Tls::Terminate { options: self.tls_options(&tls.options, provider, &refuse)? }),
            },
            catch_all: default == -1,
            middlewares,
            service,
            declared: declared.clone(),
            matching,
        })
    }

    fn tls_options(
        &self,
        wanted: &Arc<str>,
        from: Provider,
        refuse: &dyn Fn(&str, &str, String) -> Box<Diagnostic>,
    ) -> Result<Arc<str>, Box<Diagnostic>> {
        if matches!(&**wanted, "" | DEFAULT_TLS_OPTIONS) {
            return Ok(DEFAULT_TLS_OPTIONS.into());
        }
        let of = reference(wanted, from).filter(|(provider, name)| {
            self.making.inputs.get(provider).is_some_and(|dynamic| dynamic.tls.options.contains_key(*name))
        });
        let (provider, name) = of.ok_or_else(|| {
            refuse("unknown_tls_options", "options", format!(" needs the TLS options `{wanted}`, which do not exist"))
        })?;
        Ok(qualified(name, provider))
    }

    /// Of routers that are alike one gets the connections: by provider, then who had them so far, then the older one.
    fn shadow(&mut self) {
        let old = self.making.old;
        let mut alike: BTreeMap<_, Vec<Entry>> = BTreeMap::new();
        for entry in std::mem::take(&mut self.entries) {
            let router = &entry.router;
            let declared = &router.declared;
            let key = (
                declared.rule.clone(),
                declared.rule_syntax.clone(),
                router.priority,
                router.entry_points.clone(),
                router.tls.is_some(),
            );
            alike.entry(key).or_default().push(entry);
        }
        for mut group in alike.into_values() {
            let had = |entry: &Entry| {
                let id = &entry.router.id;
                old.routers.contains_key(id) && !old.shadowed.contains_key(id)
            };
            group.sort_by_cached_key(|entry| (entry.order.provider, !had(entry), entry.order.clone()));
            let mut group = group.into_iter();
            let Some(winner) = group.next() else { continue };
            for loser in group {
                let (w, l) = (&winner.router, &loser.router);
                let message = format!(
                    "{ROUTER} `{}` gets no connections: `{}` has the same rule, priority and entry points",
                    l.id, w.id
                );
                let apart = w.provider == l.provider && w.declared.source.namespace != l.declared.source.namespace;
                let problem = match apart {
                    true => {
                        let message = format!("{message}, in namespace `{}`", w.declared.source.namespace);
                        Diagnostic::error("host_conflict", message)
                    }
                    false => Diagnostic::warning("shadowed_router", message),
                };
                let problem = problem
                    .with_origin(origin(&l.declared.source, l.provider))
                    .with_help("give one of them another rule or priority");
                let of = (l.provider, unqualified(&l.id));
                self.making.tcp.shadowed.insert(l.id.clone(), w.id.clone());
                self.making.say(RIVAL, &of, problem);
            }
            self.entries.push(winner);
        }
    }

    fn doors(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_by(|a, b| a.order.cmp(&b.order));
        let doors = &mut self.making.tcp.doors;
        for entry in entries {
            for entry_point in &entry.router.entry_points {
                let door: &mut Door = doors.entry(entry_point.clone()).or_default();
                let list = if entry.router.tls.is_some() { &mut door.tls } else { &mut door.plain };
                list.push(entry.clone());
            }
        }
    }
}
