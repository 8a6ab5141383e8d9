//! One router of a table: what it comes to with the services and middlewares of now, or why it is refused.

use super::build::{Builder, EntryPoint, GoodService, Name, TransportFault};
use super::index::{Entry, Order, Slot};
use super::resolve::{origin, origin_of, qualified, reference};
use super::{Chain, DEFAULT_TLS_OPTIONS, Middleware, Router, Service};
use crate::declare::{self, Dialect, MiddlewareKind};
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use crate::rule::{self, Hint, Kind, Matcher, RuleError, Syntax};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::sync::Arc;

impl Builder<'_> {
    /// What a router comes to: its definition of now, else its last good one.
    pub fn router_now(&self, (provider, name): &Name) -> (Option<Arc<Entry>>, Vec<Diagnostic>) {
        let provider = *provider;
        let mut problems = Vec::new();
        let Some(http) = self.inputs.get(&provider).map(|dynamic| &dynamic.http) else { return (None, problems) };
        let old = self.accepted.providers.get(&provider).and_then(|good| good.routers.get(name));
        let Some(declared) = http.routers.get(name) else {
            if !http.broken.routers.contains(name) {
                return (None, problems);
            }
            // why it cannot be read has been said; what follows from it depends on what was accepted
            let kept = self.kept(name, provider, old);
            problems.push(match &kept {
                Some(kept) => {
                    let message = format!("router `{name}` cannot be read: its last good definition stays in force");
                    let origin = origin(&kept.router.declared.source, provider);
                    Diagnostic::warning("last_good_kept", message).with_origin(origin)
                }
                None => {
                    let message = format!("router `{name}` cannot be read: it is not routed");
                    let origin = origin(&declare::Source::default(), provider);
                    Diagnostic::warning("not_routed", message).with_origin(origin)
                }
            });
            return (kept, problems);
        };
        let lingering = http.lingering.contains(name);
        let mut result = self.router(name, provider, declared, lingering, old, None);
        if let Err(problem) = &result
            && declared.source.dialect == Dialect::Urlprefix
            && matches!(&*problem.code, "unknown_middleware" | "refused_middleware" | "not_served")
            && old.is_none_or(|old| old.router.all_middlewares().any(|m| &*m.id == CLOSED))
        {
            // without it a shorter prefix would take its requests, and ask for no password
            let help = "until then the route lets nobody in (401)";
            problems.push((**problem).clone().with_help(help));
            result = self.router(name, provider, declared, lingering, old, closed().as_ref());
        }
        let entry = match result {
            Ok(entry) => Some(entry),
            Err(mut problem) => {
                let kept = self.kept(name, provider, old);
                let also = match kept {
                    Some(_) => "its last good definition stays in force".to_owned(),
                    None => format!("router `{name}` is not routed"),
                };
                problem.help = Some(problem.help.map_or_else(|| also.clone(), |help| format!("{help}; {also}")));
                problems.push(*problem);
                kept
            }
        };
        // entry points that are not there beside others that are
        let unknown = |e: &&Arc<str>| !self.options.entry_points.iter().any(|known| known.name == **e);
        if let Some(unknown) = declared.entry_points.iter().find(unknown).filter(|_| entry.is_some()) {
            let message = format!(
                "router `{name}` names the entry point `{unknown}`, which does not exist; it answers on the others"
            );
            let origin = origin_of(&declared.source, provider, "entrypoints");
            problems.push(Diagnostic::error("unknown_entry_point", message).with_origin(origin));
        }
        (entry, problems)
    }

    /// The accepted form of a router, with its service as it is now; `None` if that is gone.
    fn kept(&self, name: &str, provider: Provider, old: Option<&Arc<Entry>>) -> Option<Arc<Entry>> {
        let old = old?;
        let service = self.service(&old.router.declared.service, provider)?;
        if Arc::ptr_eq(service, &old.router.service) && self.accepted.entry_points == self.options.entry_points {
            return Some(old.clone());
        }
        let (entry_points, slots) = self.slots(&old.router.declared, name, provider).ok()?;
        let router = Router { service: service.clone(), entry_points, ..(*old.router).clone() };
        let router = if router == *old.router { old.router.clone() } else { Arc::new(router) };
        Some(Arc::new(Entry {
            router,
            matcher: old.matcher.clone(),
            hints: old.hints.clone(),
            slots,
            order: old.order.clone(),
        }))
    }

    fn service(&self, name: &str, from: Provider) -> Option<&Arc<Service>> {
        self.good_service(name, from).map(|(_, s)| &s.service)
    }

    fn good_service(&self, name: &str, from: Provider) -> Option<(Provider, &Arc<GoodService>)> {
        let (provider, name) = reference(name, from)?;
        Some((provider, self.good.get(&provider)?.services.get(name)?))
    }

    /// A router, or why not. An unchanged one is the accepted one. `instead` stands for middlewares
    /// that are not there.
    fn router(
        &self,
        name: &Arc<str>,
        provider: Provider,
        declared: &Arc<declare::Router>,
        lingering: bool,
        old: Option<&Arc<Entry>>,
        instead: Option<&Arc<Middleware>>,
    ) -> Result<Arc<Entry>, Box<Diagnostic>> {
        let refuse = |code: &str, option: &str, message: String| {
            let origin = origin_of(&declared.source, provider, option);
            Box::new(Diagnostic::error(code, message).with_origin(origin))
        };
        let Some((services_provider, found)) = self.good_service(&declared.service, provider) else {
            return Err(refuse(
                "unknown_service",
                "service",
                format!("router `{name}` names the service `{}`, which does not exist", declared.service),
            ));
        };
        let service = &found.service;
        // how its servers are reached may be what keeps the connection safe: never served in another way
        if let Some(fault) = found.fault {
            let named = found.declared.load_balancer.as_ref().map(|lb| &*lb.servers_transport).unwrap_or_default();
            let (code, which) = match fault {
                TransportFault::Unknown => ("unknown_servers_transport", "which does not exist"),
                TransportFault::Refused => ("refused_servers_transport", "which is refused"),
            };
            let message = format!(
                "router `{name}` needs the serversTransport `{named}` of its service `{}`, {which}",
                declared.service
            );
            let origin = origin_of(&found.declared.source, services_provider, "serversTransport");
            return Err(Box::new(Diagnostic::error(code, message).with_origin(origin)));
        }
        // other TLS options may be what keeps strangers out: never served without them
        let mut tls_options = Vec::new();
        for (entry_point, wanted) in self.tls_options_wanted(declared) {
            let of = reference(wanted, provider);
            let there = of.is_some_and(|(provider, name)| {
                self.inputs.get(&provider).is_some_and(|dynamic| dynamic.tls.options.contains_key(name))
            });
            let Some((provider, options)) = of.filter(|_| there) else {
                let message = format!("router `{name}` needs the TLS options `{wanted}`, which do not exist");
                return Err(refuse("unknown_tls_options", "options", message));
            };
            tls_options.push((entry_point.name.clone(), qualified(options, provider)));
        }
        // those of the service follow on the router's
        let wanted = declared.middlewares.iter().map(|wanted| (provider, wanted));
        let of_service = found.declared.middlewares.iter().map(|wanted| (services_provider, wanted));
        let mut middlewares = Vec::with_capacity(declared.middlewares.len());
        let mut own = declared.middlewares.len();
        for (from, wanted) in wanted.chain(of_service) {
            let source =
                if own > 0 { (provider, &declared.source) } else { (services_provider, &found.declared.source) };
            own = own.saturating_sub(1);
            match (self.resolved(name, source, (from, wanted), &mut middlewares), instead) {
                (Err(_), Some(instead)) => middlewares.push(instead.clone()),
                (result, _) => result?,
            }
        }
        let chains = self.chains(name, provider, declared, &middlewares, instead)?;
        let same = |a: &[Arc<Middleware>], b: &[Arc<Middleware>]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        let same_parts = |o: &Router| {
            Arc::ptr_eq(&o.service, service)
                && same(&o.middlewares, &middlewares)
                && o.tls_options == tls_options
                && o.chains.len() == chains.len()
                && o.chains.iter().zip(&chains).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
        };
        if let Some(old) = old.filter(|o| {
            Arc::ptr_eq(&o.router.declared, declared)
                && o.order.lingering == lingering
                && o.order.provider == self.rank(provider)
                && self.accepted.entry_points == self.options.entry_points
                && same_parts(&o.router)
        }) {
            return Ok(old.clone());
        }
        let (entry_points, slots) = self.slots(declared, name, provider)?;
        let compiled = match old.filter(|o| {
            o.router.declared.rule == declared.rule && o.router.declared.rule_syntax == declared.rule_syntax
        }) {
            Some(old) => Compiled { matcher: old.matcher.clone(), hints: old.hints.clone(), default: None },
            None => compile(declared).map_err(|e| Box::new(bad_rule(name, provider, declared, &e)))?,
        };
        let priority = match (declared.priority, compiled.default, old) {
            (0, Some(default), _) => default,
            // a rule that did not change has the priority that was worked out for it
            (0, None, Some(old)) if old.router.declared.priority == 0 => old.router.priority,
            (0, ..) => compile(declared).ok().and_then(|c| c.default).unwrap_or_default(),
            (said, ..) => said,
        };
        let router = Router {
            id: old.map_or_else(|| qualified(name, provider), |o| o.router.id.clone()),
            provider,
            entry_points,
            rule: declared.rule.clone(),
            priority,
            tls: declared.tls.is_some(),
            retries: (chains.iter().flat_map(|(_, chain)| chain).chain(&middlewares))
                .any(|m| matches!(m.kind, MiddlewareKind::Retry(_))),
            answers: chains.iter().flat_map(|(_, chain)| chain).chain(&middlewares).any(|m| m.answers()),
            middlewares,
            chains,
            tls_options,
            service: service.clone(),
            declared: declared.clone(),
        };
        let order = Order {
            priority: Reverse(priority),
            lingering,
            foreign: provider != Provider::Internal,
            create_index: declared.source.create_index,
            provider: self.rank(provider),
            namespace: declared.source.namespace.clone(),
            id: router.id.clone(),
        };
        if let Some(old) = old.filter(|o| o.order == order && o.slots == slots && *o.router == router) {
            return Ok(old.clone());
        }
        // who stands where in the order may change without the router
        let same = old.filter(|o| *o.router == router && Arc::ptr_eq(&o.router.declared, declared));
        let router = same.map_or_else(|| Arc::new(router), |o| o.router.clone());
        Ok(Arc::new(Entry { router, matcher: compiled.matcher, hints: compiled.hints, slots, order }))
    }

    /// Adds a middleware to those of a router, or what stands in a chain of them.
    fn resolved(
        &self,
        router: &str,
        source: (Provider, &declare::Source),
        wanted: (Provider, &str),
        into: &mut Vec<Arc<Middleware>>,
    ) -> Result<(), Box<Diagnostic>> {
        let before = into.len();
        let result = self.expanded(router, source, wanted, into, &mut Vec::new());
        if result.is_err() {
            into.truncate(before);
        }
        result
    }

    fn expanded(
        &self,
        router: &str,
        source: (Provider, &declare::Source),
        wanted: (Provider, &str),
        into: &mut Vec<Arc<Middleware>>,
        above: &mut Vec<Arc<str>>,
    ) -> Result<(), Box<Diagnostic>> {
        let refuse = |message: String| {
            let origin = origin_of(source.1, source.0, "middlewares");
            Err(Box::new(Diagnostic::error("refused_middleware", message).with_origin(origin)))
        };
        let middleware = self.middleware(router, source, wanted)?;
        let MiddlewareKind::Chain { middlewares } = &middleware.kind else {
            if into.len() == MOST {
                return refuse(format!("router `{router}` passes more than {MOST} middlewares"));
            }
            into.push(middleware);
            return Ok(());
        };
        if above.contains(&middleware.id) || above.len() == DEEPEST {
            let why = if above.len() == DEEPEST { "chains that stand too deep within others" } else { "itself" };
            return refuse(format!("router `{router}` needs the chain `{}`, which holds {why}", middleware.id));
        }
        above.push(middleware.id.clone());
        let of = reference(&middleware.id, wanted.0).map_or(wanted.0, |(provider, _)| provider);
        for inner in middlewares {
            self.expanded(router, source, (of, inner), into, above)?;
        }
        above.pop();
        Ok(())
    }

    fn middleware(
        &self,
        router: &str,
        (provider, source): (Provider, &declare::Source),
        (from, wanted): (Provider, &str),
    ) -> Result<Arc<Middleware>, Box<Diagnostic>> {
        let refuse = |code: &str, message: String| {
            let origin = origin_of(source, provider, "middlewares");
            Box::new(Diagnostic::error(code, message).with_origin(origin))
        };
        let good = reference(wanted, from).and_then(|(provider, name)| Some((self.good.get(&provider)?, name)));
        if let Some((good, name)) = good {
            if let Some(middleware) = good.middlewares.get(name) {
                return Ok(middleware.clone());
            }
            if let Some(kind) = good.not_served.get(name) {
                let message =
                    format!("router `{router}` needs the middleware `{wanted}`, a `{kind}`, which is not served yet");
                return Err(refuse("not_served", message));
            }
        }
        let declared = reference(wanted, from).is_some_and(|(provider, name)| {
            let http = self.inputs.get(&provider).map(|dynamic| &dynamic.http);
            http.is_some_and(|http| http.middlewares.contains_key(name) || http.broken.middlewares.contains(name))
        });
        if declared {
            let message = format!("router `{router}` needs the middleware `{wanted}`, which is refused");
            return Err(refuse("refused_middleware", message));
        }
        Err(refuse(
            "unknown_middleware",
            format!("router `{router}` names the middleware `{wanted}`, which does not exist"),
        ))
    }

    /// What requests pass by those entry points of a router that have middlewares. As in Traefik they come first, and
    /// a router without one of them is not served.
    fn chains(
        &self,
        name: &str,
        provider: Provider,
        declared: &declare::Router,
        own: &[Arc<Middleware>],
        instead: Option<&Arc<Middleware>>,
    ) -> Result<Vec<Chain>, Box<Diagnostic>> {
        let mut chains = Vec::new();
        for (_, entry_point) in self.entry_points_of(declared).filter(|(_, e)| !e.middlewares.is_empty()) {
            let mut chain = Vec::with_capacity(entry_point.middlewares.len() + own.len());
            for wanted in &entry_point.middlewares {
                match (self.resolved(name, (provider, &declared.source), (provider, wanted), &mut chain), instead) {
                    (Ok(()), _) => {}
                    (Err(_), Some(instead)) => chain.push(instead.clone()),
                    (Err(mut problem), None) => {
                        let why = match &*problem.code {
                            "not_served" => "is not served yet",
                            "refused_middleware" => "is refused",
                            _ => "does not exist",
                        };
                        let ep = &entry_point.name;
                        problem.message = format!(
                            "router `{name}`: its entry point `{ep}` has the middleware `{wanted}` before it, which {why}"
                        );
                        problem.origin = origin(&declared.source, provider);
                        let help = format!("see `entryPoints.{ep}.http.middlewares`");
                        problem.help = Some(help);
                        return Err(problem);
                    }
                }
            }
            chain.extend(own.iter().cloned());
            chains.push((entry_point.name.clone(), chain));
        }
        Ok(chains)
    }

    /// The names of TLS options other than the default ones that a router wants, by entry point. A router without a `tls`
    /// section has those of the entry point.
    pub fn tls_options_wanted<'a>(
        &'a self,
        declared: &'a declare::Router,
    ) -> impl Iterator<Item = (&'a EntryPoint, &'a Arc<str>)> {
        let wanted = |(_, entry_point): (usize, &'a EntryPoint)| match &declared.tls {
            Some(tls) => Some((entry_point, &tls.options)),
            None if entry_point.tls => Some((entry_point, &entry_point.tls_options)),
            None => None,
        };
        let other = |(_, options): &(&EntryPoint, &Arc<str>)| !matches!(&***options, "" | DEFAULT_TLS_OPTIONS);
        self.entry_points_of(declared).filter_map(wanted).filter(other)
    }

    /// The entry points that a router is on, with their places.
    pub fn entry_points_of<'a>(
        &'a self,
        declared: &'a declare::Router,
    ) -> impl Iterator<Item = (usize, &'a EntryPoint)> {
        let all = &self.options.entry_points;
        let some_default = all.iter().any(|e| e.as_default);
        all.iter().enumerate().filter(move |(_, e)| match declared.entry_points.is_empty() {
            true => e.as_default || !some_default,
            false => declared.entry_points.contains(&e.name),
        })
    }

    /// The entry points of a router, and where it stands in the index. Unknown ones are passed
    /// over as long as one is known.
    #[allow(clippy::type_complexity)]
    fn slots(
        &self,
        declared: &declare::Router,
        name: &str,
        provider: Provider,
    ) -> Result<(Vec<Arc<str>>, SmallVec<[Slot; 2]>), Box<Diagnostic>> {
        let all = &self.options.entry_points;
        let mut names = Vec::new();
        let mut slots = SmallVec::new();
        for (at, entry_point) in self.entry_points_of(declared) {
            names.push(entry_point.name.clone());
            let tls = declared.tls.is_some() || entry_point.tls;
            slots.push(Slot { entry_point: u16::try_from(at).unwrap_or(u16::MAX), tls });
        }
        if slots.is_empty() {
            let known: Vec<&str> = all.iter().map(|e| &*e.name).collect();
            let message = format!(
                "router `{name}` names the entry point `{}`; there are `{}`",
                declared.entry_points.join("`, `"),
                known.join("`, `")
            );
            let origin = origin_of(&declared.source, provider, "entrypoints");
            return Err(Box::new(Diagnostic::error("unknown_entry_point", message).with_origin(origin)));
        }
        Ok((names, slots))
    }

    pub fn rank(&self, provider: Provider) -> u8 {
        match provider {
            Provider::Internal => 0,
            Provider::File => 1,
            Provider::Rest => 2,
            p if p == self.options.primary => 3,
            _ => 4,
        }
    }
}

/// Most middlewares that a router passes, and how deep chains stand within chains.
const MOST: usize = 256;
const DEEPEST: usize = 16;

/// Name of what [`closed`] gives.
const CLOSED: &str = "closed@internal";

/// What stands for an authentication that is not there: as Fabio, nobody is let in.
fn closed() -> Option<Arc<Middleware>> {
    Middleware::new(CLOSED.into(), MiddlewareKind::Refuse { status: 401 }).ok().map(Arc::new)
}

struct Compiled {
    matcher: Arc<Matcher>,
    hints: Arc<[Hint]>,
    default: Option<i64>,
}

fn compile(declared: &declare::Router) -> Result<Compiled, RuleError> {
    let syntax = if &*declared.rule_syntax == "v2" { Syntax::V2 } else { Syntax::V3 };
    let rule = rule::parse(&declared.rule, Kind::Http, syntax)?;
    let matcher = Arc::new(Matcher::compile(&rule)?);
    let hints = rule::hints(&rule).into();
    Ok(Compiled { matcher, hints, default: Some(rule::priority(&declared.rule, &rule)) })
}

fn bad_rule(name: &str, provider: Provider, declared: &declare::Router, error: &RuleError) -> Diagnostic {
    let mut origin = origin_of(&declared.source, provider, "rule");
    // the rule stands in its tag as it is; of a default rule there is no tag
    let at =
        origin.tag.as_ref().and_then(|tag| tag.find(&*declared.rule).map(|at| (tag.clone(), at + error.span.start)));
    if let Some((tag, at)) = at {
        let before = tag.get(..at).map_or(0, |t| t.chars().count());
        origin.column = u32::try_from(before + 1).ok();
    }
    Diagnostic::error("bad_rule", format!("router `{name}`: the rule `{}` is refused: {error}", declared.rule))
        .with_origin(origin)
        .with_span(error.span.start, error.span.end)
}
