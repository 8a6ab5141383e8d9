//! Declarations to a table. Pure: what was accepted before goes in, what is accepted now comes out.
//!
//! What always holds: a definition that cannot be used is refused with a diagnostic, and its last
//! accepted form stays in force; a router is never served without one of its middlewares; what did
//! not change keeps its `Arc`.

use super::index::{Entry, Index, KeyHint, Order, Slot};
use super::resolve::{self, Unfit, origin, origin_of, qualified, reference};
use super::{Middleware, Router, Service, Table};
use crate::declare::{self, Declarations, Dialect, Dynamic, MiddlewareKind};
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use crate::rule::{self, Kind, Matcher, RuleError, Syntax};
use foldhash::HashMap;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a table needs to know of an entry point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPoint {
    /// Name.
    pub name: Arc<str>,
    /// Routers on it answer TLS even if they do not say so.
    pub tls: bool,
    /// Routers that name no entry point are on it. If none is a default one, they are on all.
    pub as_default: bool,
}

/// What besides the declarations decides how a table is built.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildOptions {
    /// The entry points that take requests, without the admin one.
    pub entry_points: Vec<EntryPoint>,
    /// The catalog that wins between routers of equal rule, priority and entry points.
    pub primary: Provider,
    /// Built-in routers, services and middlewares ([`Provider::Internal`]). They win ties against
    /// all others, so with the highest priority they cannot be taken.
    pub internal: Dynamic,
}

/// What was last good, by definition. Made by [`build`], given to the next one.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    table: Arc<Table>,
    providers: BTreeMap<Provider, Good>,
    entry_points: Vec<EntryPoint>,
}

impl Accepted {
    /// The table that these definitions make.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

/// The accepted definitions of one provider, by name.
#[derive(Debug, Clone, Default)]
struct Good {
    routers: BTreeMap<Arc<str>, Arc<Entry>>,
    services: BTreeMap<Arc<str>, GoodService>,
    middlewares: BTreeMap<Arc<str>, Arc<Middleware>>,
    /// Kinds of middlewares that are not served, by name.
    not_served: BTreeMap<Arc<str>, Arc<str>>,
}

#[derive(Debug, Clone)]
struct GoodService {
    declared: Arc<declare::Service>,
    service: Arc<Service>,
    problems: Arc<[Diagnostic]>,
}

/// What building came to.
#[derive(Debug, Clone)]
pub struct Built {
    /// The table.
    pub table: Arc<Table>,
    /// For the next build.
    pub accepted: Accepted,
    /// What was refused or deserves a remark.
    pub diagnostics: Vec<Diagnostic>,
}

/// Builds a table.
pub fn build(declarations: &Declarations, accepted: &Accepted, options: &BuildOptions) -> Built {
    let mut builder = Builder { accepted, options, good: BTreeMap::new(), problems: Vec::new() };
    let catalogs = declarations.iter().filter(|(provider, _)| **provider != Provider::Internal);
    let all: Vec<(Provider, &Dynamic)> =
        std::iter::once((Provider::Internal, &options.internal)).chain(catalogs.map(|(p, d)| (*p, d))).collect();
    for (provider, dynamic) in &all {
        builder.parts(*provider, dynamic);
    }
    for (provider, dynamic) in &all {
        builder.routers(*provider, dynamic);
    }
    builder.finish(&all)
}

struct Builder<'a> {
    accepted: &'a Accepted,
    options: &'a BuildOptions,
    good: BTreeMap<Provider, Good>,
    problems: Vec<Diagnostic>,
}

impl Builder<'_> {
    /// Services and middlewares.
    fn parts(&mut self, provider: Provider, dynamic: &Dynamic) {
        let nothing = Good::default();
        let old = self.accepted.providers.get(&provider).unwrap_or(&nothing);
        let mut good = Good::default();
        for (name, declared) in &dynamic.http.services {
            // what is built in may be a service without servers, such as `api@internal`
            if declared.load_balancer.is_none() && provider != Provider::Internal {
                let message =
                    format!("service `{name}` has no `loadBalancer`; other kinds are known and not served yet");
                let origin = origin(&declared.source, provider);
                self.problems.push(Diagnostic::error("not_a_load_balancer", message).with_origin(origin));
                continue;
            }
            let known = old.services.get(name);
            let entry = match known.filter(|k| Arc::ptr_eq(&k.declared, declared)) {
                Some(same) => same.clone(),
                None => {
                    let (service, problems) = resolve::service(name, provider, declared, known.map(|k| &k.service));
                    GoodService { declared: declared.clone(), service, problems: problems.into() }
                }
            };
            self.problems.extend(entry.problems.iter().cloned());
            good.services.insert(name.clone(), entry);
        }
        // of a service that cannot be read the accepted settings stay, with the servers of today
        for (name, today) in &dynamic.http.broken.services {
            let Some(known) = old.services.get(name) else { continue };
            let mut declared = (*known.declared).clone();
            if let (Some(kept), Some(today)) = (&mut declared.load_balancer, &today.load_balancer) {
                kept.servers.clone_from(&today.servers);
            }
            let (service, problems) = resolve::service(name, provider, &declared, Some(&known.service));
            let declared = if declared == *known.declared { known.declared.clone() } else { Arc::new(declared) };
            self.problems.extend(problems.iter().cloned());
            good.services.insert(name.clone(), GoodService { declared, service, problems: problems.into() });
        }
        for (name, declared) in &dynamic.http.middlewares {
            match resolve::middleware(name, provider, declared, old.middlewares.get(name)) {
                Ok(middleware) => drop(good.middlewares.insert(name.clone(), middleware)),
                Err(Unfit::NotServed(kind)) => drop(good.not_served.insert(name.clone(), kind)),
                Err(Unfit::Bad(why)) => {
                    let message = format!("middleware `{name}` is refused: {why}");
                    let origin = origin(&declared.source, provider);
                    self.problems.push(Diagnostic::error("bad_middleware", message).with_origin(origin));
                    if let Some(known) = old.middlewares.get(name) {
                        good.middlewares.insert(name.clone(), known.clone());
                    }
                }
            }
        }
        for name in &dynamic.http.broken.middlewares {
            if let Some(known) = old.middlewares.get(name) {
                good.middlewares.insert(name.clone(), known.clone());
            }
        }
        self.good.insert(provider, good);
    }

    fn routers(&mut self, provider: Provider, dynamic: &Dynamic) {
        let mut routers = BTreeMap::new();
        for (name, declared) in &dynamic.http.routers {
            let old = self.accepted.providers.get(&provider).and_then(|g| g.routers.get(name));
            let lingering = dynamic.http.lingering.contains(name);
            let mut result = self.router(name, provider, declared, lingering, old, None);
            if let Err(problem) = &result
                && declared.source.dialect == Dialect::Urlprefix
                && matches!(&*problem.code, "unknown_middleware" | "not_served")
                && old.is_none_or(|old| old.router.middlewares.iter().any(|m| &*m.id == CLOSED))
            {
                // without it a shorter prefix would take its requests, and ask for no password
                let help = "until then the route lets nobody in (401)";
                self.problems.push((**problem).clone().with_help(help));
                result = self.router(name, provider, declared, lingering, old, closed().as_ref());
            }
            match result {
                Ok(entry) => drop(routers.insert(name.clone(), entry)),
                Err(mut problem) => {
                    if let Some(kept) = self.kept(name, provider, old) {
                        let also = "its last good definition stays in force";
                        problem.help = Some(problem.help.map_or_else(|| also.to_owned(), |h| format!("{h}; {also}")));
                        routers.insert(name.clone(), kept);
                    }
                    self.problems.push(*problem);
                }
            }
        }
        for name in &dynamic.http.broken.routers {
            let old = self.accepted.providers.get(&provider).and_then(|g| g.routers.get(name));
            if let Some(kept) = self.kept(name, provider, old) {
                routers.insert(name.clone(), kept);
            }
        }
        if let Some(good) = self.good.get_mut(&provider) {
            good.routers = routers;
        }
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
        Some(Arc::new(Entry {
            router: Arc::new(router),
            matcher: old.matcher.clone(),
            hints: old.hints.clone(),
            slots,
            order: old.order.clone(),
        }))
    }

    fn service(&self, name: &str, from: Provider) -> Option<&Arc<Service>> {
        self.good_service(name, from).map(|(_, s)| &s.service)
    }

    fn good_service(&self, name: &str, from: Provider) -> Option<(Provider, &GoodService)> {
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
        // other TLS options may be what keeps strangers out: never served without them
        if let Some(options) = declared.tls.as_ref().map(|tls| &tls.options)
            && !matches!(&**options, "" | "default")
        {
            let message = format!("router `{name}` needs the TLS options `{options}`, which are not served yet");
            return Err(refuse("not_served", "options", message));
        }
        // those of the service follow on the router's
        let wanted = declared.middlewares.iter().map(|wanted| (provider, wanted));
        let of_service = found.declared.middlewares.iter().map(|wanted| (services_provider, wanted));
        let mut middlewares = Vec::with_capacity(declared.middlewares.len());
        for (from, wanted) in wanted.chain(of_service) {
            match (self.middleware(name, provider, declared, (from, wanted)), instead) {
                (Err(_), Some(instead)) => middlewares.push(instead.clone()),
                (result, _) => middlewares.push(result?),
            }
        }
        let same_parts = |o: &Router| {
            Arc::ptr_eq(&o.service, service)
                && o.middlewares.len() == middlewares.len()
                && o.middlewares.iter().zip(&middlewares).all(|(a, b)| Arc::ptr_eq(a, b))
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
            middlewares,
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
        Ok(Arc::new(Entry { router: Arc::new(router), matcher: compiled.matcher, hints: compiled.hints, slots, order }))
    }

    fn middleware(
        &self,
        router: &str,
        provider: Provider,
        declared: &declare::Router,
        (from, wanted): (Provider, &str),
    ) -> Result<Arc<Middleware>, Box<Diagnostic>> {
        let refuse = |code: &str, message: String| {
            let origin = origin_of(&declared.source, provider, "middlewares");
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
        Err(refuse(
            "unknown_middleware",
            format!("router `{router}` names the middleware `{wanted}`, which does not exist"),
        ))
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
        let some_default = all.iter().any(|e| e.as_default);
        let wanted = |e: &EntryPoint| {
            if declared.entry_points.is_empty() {
                e.as_default || !some_default
            } else {
                declared.entry_points.contains(&e.name)
            }
        };
        let mut names = Vec::new();
        let mut slots = SmallVec::new();
        for (at, entry_point) in all.iter().enumerate().filter(|(_, e)| wanted(e)) {
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

    fn rank(&self, provider: Provider) -> u8 {
        match provider {
            Provider::Internal => 0,
            Provider::File => 1,
            Provider::Rest => 2,
            p if p == self.options.primary => 3,
            _ => 4,
        }
    }

    /// Of routers that are alike the one that gets the requests: what does not linger, by
    /// provider, what had them so far, the older registration.
    fn shadow(&mut self) -> BTreeMap<Arc<str>, Arc<str>> {
        let mut alike: HashMap<Likeness<'_>, SmallVec<[&Arc<Entry>; 1]>> = HashMap::default();
        for entry in self.good.values().flat_map(|g| g.routers.values()) {
            alike.entry((&entry.router.rule, entry.router.priority, &entry.slots)).or_default().push(entry);
        }
        let before = &self.accepted.table;
        let mut shadowed = BTreeMap::new();
        let mut problems = Vec::new();
        for mut rivals in alike.into_values().filter(|r| r.len() > 1) {
            rivals.sort_by_cached_key(|e| {
                let had = before.routers.contains_key(&e.router.id) && !before.shadowed.contains_key(&e.router.id);
                (e.order.lingering, e.order.provider, !had, e.order.clone())
            });
            let winner = rivals[0];
            for loser in &rivals[1..] {
                shadowed.insert(loser.router.id.clone(), winner.router.id.clone());
                if !loser.order.lingering {
                    problems.extend(rivalry(winner, loser));
                }
            }
        }
        problems.sort();
        self.problems.extend(problems);
        shadowed
    }

    fn finish(mut self, all: &[(Provider, &Dynamic)]) -> Built {
        // entry points that are not there beside others that are
        for (provider, dynamic) in all {
            for (name, router) in &dynamic.http.routers {
                let unknown = |e: &&Arc<str>| !self.options.entry_points.iter().any(|known| known.name == **e);
                let accepted = self.good.get(provider).is_some_and(|g| g.routers.contains_key(name));
                if let Some(unknown) = router.entry_points.iter().find(unknown).filter(|_| accepted) {
                    let message = format!(
                        "router `{name}` names the entry point `{unknown}`, which does not exist; it answers on the others"
                    );
                    self.problems.push(
                        Diagnostic::error("unknown_entry_point", message)
                            .with_origin(origin(&router.source, *provider)),
                    );
                }
            }
        }
        let shadowed = self.shadow();
        let old = &self.accepted.table;
        let active = |shadowed: &BTreeMap<Arc<str>, Arc<str>>, e: &Arc<Entry>| !shadowed.contains_key(&e.router.id);
        let entries: Vec<&Arc<Entry>> =
            self.good.values().flat_map(|g| g.routers.values()).filter(|e| active(&shadowed, e)).collect();
        let mut changed: Vec<&Arc<Entry>> = Vec::new();
        for (provider, good) in &self.good {
            let before = self.accepted.providers.get(provider).map(|g| &g.routers);
            for (name, entry) in &good.routers {
                let was = before.and_then(|b| b.get(name));
                let now_active = active(&shadowed, entry);
                let was_active = was.is_some_and(|w| active(&old.shadowed, w));
                if was.is_some_and(|w| Arc::ptr_eq(w, entry)) && now_active == was_active {
                    continue;
                }
                changed.extend([Some(entry), was].into_iter().flatten());
            }
        }
        for (provider, good) in &self.accepted.providers {
            let now = self.good.get(provider).map(|g| &g.routers);
            changed.extend(
                good.routers.iter().filter(|(name, _)| now.is_none_or(|n| !n.contains_key(*name))).map(|(_, e)| e),
            );
        }
        let names: Arc<[Arc<str>]> = self.options.entry_points.iter().map(|e| e.name.clone()).collect();
        let index: Index = old.index.update(&names, entries.iter().copied(), changed.into_iter());
        self.problems.extend(super::reserved::claims(&index, &self.options.internal));
        let routers =
            self.good.values().flat_map(|g| g.routers.values()).map(|e| (e.router.id.clone(), e.router.clone()));
        let services =
            self.good.values().flat_map(|g| g.services.values()).map(|s| (s.service.id.clone(), s.service.clone()));
        let middlewares = self.good.values().flat_map(|g| g.middlewares.values()).map(|m| (m.id.clone(), m.clone()));
        let table = Arc::new(Table {
            routers: routers.collect(),
            services: services.collect(),
            middlewares: middlewares.collect(),
            shadowed,
            index,
        });
        let accepted =
            Accepted { table: table.clone(), providers: self.good, entry_points: self.options.entry_points.clone() };
        Built { table, accepted, diagnostics: self.problems }
    }
}

/// Name of what [`closed`] gives.
const CLOSED: &str = "closed@internal";

/// What stands for an authentication that is not there: as Fabio, nobody is let in.
fn closed() -> Option<Arc<Middleware>> {
    Middleware::new(CLOSED.into(), MiddlewareKind::Refuse { status: 401 }).ok().map(Arc::new)
}

/// Rule, priority and places: of routers that have them in common one gets all requests.
type Likeness<'a> = (&'a str, i64, &'a [Slot]);

struct Compiled {
    matcher: Arc<Matcher>,
    hints: Arc<[KeyHint]>,
    default: Option<i64>,
}

fn compile(declared: &declare::Router) -> Result<Compiled, RuleError> {
    let syntax = if &*declared.rule_syntax == "v2" { Syntax::V2 } else { Syntax::V3 };
    let rule = rule::parse(&declared.rule, Kind::Http, syntax)?;
    let matcher = Arc::new(Matcher::compile(&rule)?);
    let hints = rule::hints(&rule).into_iter().map(|h| KeyHint::new(h.host, h.path)).collect();
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

/// The word about a router that gets no requests. Two catalogs that know the same service are no
/// trouble: that is what the primary is for.
fn rivalry(winner: &Entry, loser: &Entry) -> Option<Diagnostic> {
    let catalog = |p: Provider| matches!(p, Provider::Nomad | Provider::ConsulCatalog);
    let (w, l) = (&winner.router, &loser.router);
    if w.provider != l.provider && catalog(w.provider) && catalog(l.provider) {
        return None;
    }
    let (ws, ls) = (&w.declared.source, &l.declared.source);
    let message = format!(
        "router `{}` (service `{}`) gets no requests: router `{}` (service `{}`) has the same rule, priority and entry points",
        l.id, ls.service, w.id, ws.service
    );
    let apart = w.provider == l.provider && ws.namespace != ls.namespace;
    let problem = match w.provider {
        Provider::Internal if l.provider != Provider::Internal => Diagnostic::error("reserved_rule", message),
        _ if apart => {
            let message = format!("{message}, in namespace `{}`", ws.namespace);
            Diagnostic::error("host_conflict", message)
        }
        _ => Diagnostic::warning("shadowed_router", message),
    };
    Some(problem.with_origin(origin(ls, l.provider)).with_help("give one of them another rule or priority"))
}
