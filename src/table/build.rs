//! Declarations to a table. Pure: what was accepted before goes in, what is accepted now comes out.
//!
//! What always holds: a definition that cannot be used is refused with a diagnostic, and its last
//! accepted form stays in force; a router is never served without one of its middlewares; what did
//! not change keeps its `Arc`.
//!
//! A build costs what changed: the declarations are compared with those of the last build, and only what differs, and
//! who names it, is worked out anew. [`rebuild`] works everything out and comes to the same.

use super::index::{Entry, Index};
use super::reserved;
use super::resolve::{self, Unfit, origin, reference};
use super::rivals::Rival;
use super::{Middleware, Service, Table, Transport};
use crate::declare::{self, Declarations, Dynamic, MiddlewareKind};
use crate::diagnostic::{self, Diagnostic, Problems, Stage, Subject};
use crate::model::{Map, Provider};
use foldhash::HashMap;
use imbl::OrdSet;
use imbl::ordset::DiffItem;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Middlewares that requests pass before those of each router on it. A name without a provider is one of the
    /// router's provider, as in Traefik.
    pub middlewares: Vec<Arc<str>>,
    /// Name of the TLS options of routers on it that have no `tls` section; empty for the default ones.
    pub tls_options: Arc<str>,
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
    pub(super) table: Arc<Table>,
    pub(super) providers: BTreeMap<Provider, Good>,
    pub(super) entry_points: Vec<EntryPoint>,
    known: Known,
}

impl Accepted {
    /// The table that these definitions make.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

/// A definition by provider and name.
pub(super) type Name = (Provider, Arc<str>);

/// What the last build was made of and what it found out, so that the next one need not.
#[derive(Debug, Clone, Default)]
struct Known {
    /// None has been built.
    primary: Option<Provider>,
    inputs: BTreeMap<Provider, Dynamic>,
    uses: OrdSet<Use>,
    rivals: OrdSet<Rival>,
    problems: Problems,
}

/// Who names a service, middleware or transport.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use {
    pub part: Part,
    pub of: Name,
    pub by: User,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Service,
    Middleware,
    TlsOptions,
    Transport,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum User {
    Service(Name),
    Router(Name),
    /// A chain of middlewares.
    Middleware(Name),
}

/// What one definition names, mostly little.
pub(super) type Uses = SmallVec<[Use; 4]>;

/// The accepted definitions of one provider, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Good {
    pub routers: Map<Arc<str>, Entry>,
    pub services: Map<Arc<str>, GoodService>,
    pub middlewares: Map<Arc<str>, Middleware>,
    pub transports: Map<Arc<str>, Transport>,
    /// Kinds of middlewares that are not served, by name.
    pub not_served: Map<Arc<str>, str>,
}

#[derive(Debug)]
pub(super) struct GoodService {
    pub declared: Arc<declare::Service>,
    pub service: Arc<Service>,
    /// Why the transport that it names is not the one it is reached by.
    pub fault: Option<TransportFault>,
    pub problems: Vec<Diagnostic>,
}

/// Why a service has not the transport that it names. No router leads to it then, but for its last good form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransportFault {
    /// There is none of this name.
    Unknown,
    /// It cannot be used.
    Refused,
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
    let (accepted, problems) = step(declarations, accepted, options);
    Built { table: accepted.table.clone(), accepted, diagnostics: diagnostic::list(&problems) }
}

/// Builds a table as [`build`] does, without use of what the last build found out.
pub fn rebuild(declarations: &Declarations, accepted: &Accepted, options: &BuildOptions) -> Built {
    build(declarations, &Accepted { known: Known::default(), ..accepted.clone() }, options)
}

/// Builds a table; its problems are shared with those of the last one.
pub(super) fn step(declarations: &Declarations, accepted: &Accepted, options: &BuildOptions) -> (Accepted, Problems) {
    let catalogs = declarations.iter().filter(|(provider, _)| **provider != Provider::Internal);
    let inputs: BTreeMap<Provider, Dynamic> = std::iter::once((Provider::Internal, options.internal.clone()))
        .chain(catalogs.map(|(provider, dynamic)| (*provider, dynamic.clone())))
        .collect();
    let known = &accepted.known;
    let same_options = known.primary == Some(options.primary)
        && accepted.entry_points == options.entry_points
        && known.inputs.get(&Provider::Internal) == Some(&options.internal);
    let mut builder = Builder {
        accepted,
        options,
        before: BTreeMap::new(),
        inputs,
        good: BTreeMap::new(),
        table: Table::default(),
        uses: OrdSet::new(),
        rivals: OrdSet::new(),
        problems: Problems::new(),
        touched: Touched::default(),
        reserved: reserved::hosts(&options.internal),
        likenesses: BTreeSet::new(),
        indexed: HashMap::default(),
    };
    if same_options {
        let known = &accepted.known;
        builder.before = known.inputs.clone();
        builder.good = accepted.providers.clone();
        builder.table = (*accepted.table).clone();
        builder.uses = known.uses.clone();
        builder.rivals = known.rivals.clone();
        builder.problems = known.problems.clone();
    } else {
        builder.table.index = Index::new(options.entry_points.iter().map(|e| e.name.clone()).collect());
    }
    builder.touch();
    builder.parts();
    builder.routers();
    builder.shadow();
    builder.finish()
}

/// What is to be worked out anew.
#[derive(Default)]
pub(super) struct Touched {
    transports: Vec<Name>,
    pub services: Vec<Name>,
    middlewares: Vec<Name>,
    tls_options: Vec<Name>,
    routers: Vec<Name>,
}

/// Each name once.
pub(super) fn once(names: &mut Vec<Name>) -> Vec<Name> {
    let mut names = std::mem::take(names);
    // they come in order, mostly
    names.sort();
    names.dedup();
    names
}

pub(super) struct Builder<'a> {
    /// What was last good.
    pub accepted: &'a Accepted,
    pub options: &'a BuildOptions,
    /// What the last build was made of, and this one; all below is as the last one left it, and becomes as this one does.
    pub before: BTreeMap<Provider, Dynamic>,
    pub inputs: BTreeMap<Provider, Dynamic>,
    pub good: BTreeMap<Provider, Good>,
    pub table: Table,
    pub uses: OrdSet<Use>,
    pub rivals: OrdSet<Rival>,
    problems: Problems,
    pub touched: Touched,
    /// Hosts of the built-in routers.
    reserved: reserved::Reserved,
    /// Likenesses of routers that came, went or changed, told by one of the routers.
    pub likenesses: BTreeSet<Rival>,
    /// What the index has had of those that it may have to change.
    pub indexed: HashMap<Name, Option<Arc<Entry>>>,
}

impl Builder<'_> {
    pub fn set_problems(&mut self, stage: Stage, kind: &'static str, of: &Name, new: Vec<Diagnostic>) {
        let subject = Subject { stage, provider: of.0, kind, namespace: Arc::default(), name: of.1.clone() };
        diagnostic::set(&mut self.problems, &subject, new);
    }

    /// Finds where the declarations differ from those of the last build.
    fn touch(&mut self) {
        let nothing = Dynamic::default();
        let providers: BTreeSet<Provider> = self.before.keys().chain(self.inputs.keys()).copied().collect();
        for provider in providers {
            let before = &self.before.get(&provider).unwrap_or(&nothing);
            let after = &self.inputs.get(&provider).unwrap_or(&nothing);
            let touched = &mut self.touched;
            maps(provider, &before.tls.options, &after.tls.options, &mut touched.tls_options);
            let (before, after) = (&before.http, &after.http);
            maps(provider, &before.servers_transports, &after.servers_transports, &mut touched.transports);
            let broken = (&before.broken.servers_transports, &after.broken.servers_transports);
            sets(provider, broken.0, broken.1, &mut touched.transports);
            maps(provider, &before.services, &after.services, &mut touched.services);
            maps(provider, &before.broken.services, &after.broken.services, &mut touched.services);
            maps(provider, &before.middlewares, &after.middlewares, &mut touched.middlewares);
            sets(provider, &before.broken.middlewares, &after.broken.middlewares, &mut touched.middlewares);
            maps(provider, &before.routers, &after.routers, &mut touched.routers);
            sets(provider, &before.broken.routers, &after.broken.routers, &mut touched.routers);
            sets(provider, &before.lingering, &after.lingering, &mut touched.routers);
        }
    }

    /// Transports, services and middlewares; touches who names those that changed.
    fn parts(&mut self) {
        for of in once(&mut self.touched.transports) {
            let (transport, problems) = self.transport_now(&of);
            self.set_problems(Stage::Part, "serversTransport", &of, problems);
            let good = self.good.entry(of.0).or_default();
            let same = good.transports.get(&of.1).map(Arc::as_ptr) == transport.as_ref().map(Arc::as_ptr);
            // where there is none, what is said of its users depends on whether it is declared
            if same && transport.is_some() {
                continue;
            }
            good.transports.set(&of.1, transport.clone());
            self.table.transports.set(&resolve::qualified(&of.1, of.0), transport);
            self.touch_users(Part::Transport, &of);
        }
        self.services();
        for of in once(&mut self.touched.middlewares) {
            let (middleware, not_served, problems) = self.middleware_now(&of);
            self.set_problems(Stage::Part, "middleware", &of, problems);
            let good = self.good.entry(of.0).or_default();
            let same = good.middlewares.get(&of.1).map(Arc::as_ptr) == middleware.as_ref().map(Arc::as_ptr)
                && good.not_served.get(&of.1) == not_served.as_ref();
            // where there is none, what is said of its users depends on whether it is declared
            if same && middleware.is_some() {
                continue;
            }
            let old = good.middlewares.get(&of.1).cloned();
            let (was, is) = (chained(&of, old.as_ref()), chained(&of, middleware.as_ref()));
            good.middlewares.set(&of.1, middleware.clone());
            good.not_served.set(&of.1, not_served);
            self.table.middlewares.set(&resolve::qualified(&of.1, of.0), middleware);
            self.set_uses(was, is);
            self.touch_users(Part::Middleware, &of);
        }
        for of in once(&mut self.touched.tls_options) {
            self.touch_users(Part::TlsOptions, &of);
        }
    }

    /// Whether a router asks for TLS options other than the default ones.
    pub fn some_want_tls_options(&self) -> bool {
        let nobody = User::Service((Provider::Internal, Arc::default()));
        let first = Use { part: Part::TlsOptions, of: (Provider::Internal, Arc::default()), by: nobody };
        self.uses.range(first..).next().is_some_and(|some| some.part == Part::TlsOptions)
    }

    fn set_uses(&mut self, was: Uses, is: Uses) {
        for old in was.iter().filter(|old| !is.contains(old)) {
            self.uses.remove(old);
        }
        for new in is.into_iter().filter(|new| !was.contains(new)) {
            self.uses.insert(new);
        }
    }

    /// Touches the routers that name a part, themselves or by their service, and the services of which it is a part.
    pub fn touch_users(&mut self, part: Part, of: &Name) {
        self.touch_users_of(part, of, &mut Vec::new());
    }

    fn touch_users_of(&mut self, part: Part, of: &Name, seen: &mut Vec<Name>) {
        for user in self.users(part, of) {
            match user {
                User::Router(router) => self.touched.routers.push(router),
                User::Middleware(chain) => {
                    // one that holds itself is gone through once
                    if !seen.contains(&chain) {
                        seen.push(chain.clone());
                        self.touch_users_of(part, &chain, seen);
                    }
                }
                // what comes of that is seen then
                User::Service(service) if part != Part::Middleware => self.touched.services.push(service),
                User::Service(service) => {
                    let routers = self.users(Part::Service, &service).into_iter().filter_map(|user| match user {
                        User::Router(router) => Some(router),
                        User::Service(_) | User::Middleware(_) => None,
                    });
                    self.touched.routers.extend(routers);
                }
            }
        }
    }

    fn users(&self, part: Part, of: &Name) -> Vec<User> {
        let first = Use { part, of: of.clone(), by: User::Service((Provider::Internal, Arc::default())) };
        let users = self.uses.range(first..).take_while(|other| other.part == part && other.of == *of);
        users.map(|user| user.by.clone()).collect()
    }

    /// What a transport comes to: its definition of now, else its last good one.
    fn transport_now(&self, (provider, name): &Name) -> (Option<Arc<Transport>>, Vec<Diagnostic>) {
        let Some(http) = self.inputs.get(provider).map(|dynamic| &dynamic.http) else { return (None, Vec::new()) };
        let old = self.accepted.providers.get(provider).and_then(|good| good.transports.get(name));
        let Some(declared) = http.servers_transports.get(name) else {
            return (old.filter(|_| http.broken.servers_transports.contains(name)).cloned(), Vec::new());
        };
        if let Some(same) = old.filter(|old| old.declared == *declared) {
            return (Some(same.clone()), Vec::new());
        }
        match Transport::new(resolve::qualified(name, *provider), declared) {
            Ok(transport) => (Some(Arc::new(transport)), Vec::new()),
            Err(why) => {
                let also = if old.is_some() { "; its last good form stays in force" } else { "" };
                let message = format!("serversTransport `{name}` is refused: {why}{also}");
                let origin = origin(&declared.source, *provider);
                (old.cloned(), vec![Diagnostic::error("bad_servers_transport", message).with_origin(origin)])
            }
        }
    }

    /// What a middleware comes to, or its kind that is not served.
    #[allow(clippy::type_complexity)]
    fn middleware_now(&self, (provider, name): &Name) -> (Option<Arc<Middleware>>, Option<Arc<str>>, Vec<Diagnostic>) {
        let nothing = (None, None, Vec::new());
        let Some(http) = self.inputs.get(provider).map(|dynamic| &dynamic.http) else { return nothing };
        let old = self.accepted.providers.get(provider).and_then(|good| good.middlewares.get(name));
        let Some(declared) = http.middlewares.get(name) else {
            return (old.filter(|_| http.broken.middlewares.contains(name)).cloned(), None, Vec::new());
        };
        match resolve::middleware(name, *provider, declared, old) {
            Ok(middleware) => (Some(middleware), None, Vec::new()),
            Err(Unfit::NotServed(kind)) => (None, Some(kind), Vec::new()),
            Err(Unfit::Bad(why)) => {
                let message = format!("middleware `{name}` is refused: {why}");
                let origin = origin(&declared.source, *provider);
                let problem = Diagnostic::error("bad_middleware", message).with_origin(origin);
                (old.cloned(), None, vec![problem])
            }
        }
    }

    fn routers(&mut self) {
        for of in once(&mut self.touched.routers) {
            let was = self.router_uses(&of, &self.before);
            let old = self.good.get(&of.0).and_then(|good| good.routers.get(&of.1)).cloned();
            let (entry, mut problems) = self.router_now(&of);
            problems.extend(entry.iter().flat_map(|entry| reserved::claims(entry, &self.reserved)));
            self.set_problems(Stage::Router, "router", &of, problems);
            self.good.entry(of.0).or_default().routers.set(&of.1, entry.clone());
            let is = self.router_uses(&of, &self.inputs);
            let was = was.into_iter().chain(old.iter().filter_map(|old| service_use(&of, &old.router.declared)));
            let is = is.into_iter().chain(entry.iter().filter_map(|entry| service_use(&of, &entry.router.declared)));
            self.set_uses(was.collect(), is.collect());
            if old.as_ref().map(Arc::as_ptr) != entry.as_ref().map(Arc::as_ptr) {
                self.replace(&of, old, entry);
            }
        }
    }

    /// What the declaration of a router names.
    fn router_uses(&self, of: &Name, inputs: &BTreeMap<Provider, Dynamic>) -> Uses {
        let Some(declared) = inputs.get(&of.0).and_then(|dynamic| dynamic.http.routers.get(&of.1)) else {
            return Uses::new();
        };
        let before = self.entry_points_of(declared).flat_map(|(_, entry_point)| &entry_point.middlewares);
        let named = declared.middlewares.iter().chain(before).filter_map(|name| reference(name, of.0));
        let by = || User::Router(of.clone());
        let options = self.tls_options_wanted(declared).filter_map(|(_, options)| reference(options, of.0));
        let options: Uses = options
            .map(|(provider, name)| Use { part: Part::TlsOptions, of: (provider, name.into()), by: by() })
            .collect();
        named
            .map(|(provider, name)| Use { part: Part::Middleware, of: (provider, name.into()), by: by() })
            .chain(options)
            .chain(service_use(of, declared))
            .collect()
    }

    fn finish(mut self) -> (Accepted, Problems) {
        self.tls();
        self.tcp();
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for (of, was) in std::mem::take(&mut self.indexed) {
            let is = self.good.get(&of.0).and_then(|good| good.routers.get(&of.1));
            let is = is.filter(|entry| self.table.is_active(&entry.router.id));
            if was.as_ref().map(Arc::as_ptr) != is.map(Arc::as_ptr) {
                gone.extend(was);
                come.extend(is.cloned());
            }
        }
        self.table.index.edit(&gone, &come);
        let known = Known {
            primary: Some(self.options.primary),
            inputs: self.inputs,
            uses: self.uses,
            rivals: self.rivals,
            problems: self.problems.clone(),
        };
        let accepted = Accepted {
            table: Arc::new(self.table),
            providers: self.good,
            entry_points: self.options.entry_points.clone(),
            known,
        };
        (accepted, self.problems)
    }
}

/// That a router names its service. Also one whose last good form stays in force does, with the service of that form.
fn service_use(of: &Name, declared: &declare::Router) -> Option<Use> {
    let (provider, name) = reference(&declared.service, of.0)?;
    Some(Use { part: Part::Service, of: (provider, name.into()), by: User::Router(of.clone()) })
}

/// What a chain of middlewares names.
fn chained(of: &Name, middleware: Option<&Arc<Middleware>>) -> Uses {
    let names = match middleware.map(|middleware| &middleware.kind) {
        Some(MiddlewareKind::Chain { middlewares }) => &middlewares[..],
        _ => &[],
    };
    // one may stand there twice
    let named: BTreeSet<_> = names.iter().filter_map(|name| reference(name, of.0)).collect();
    let uses = named.into_iter().map(|(provider, name)| Use {
        part: Part::Middleware,
        of: (provider, name.into()),
        by: User::Middleware(of.clone()),
    });
    uses.collect()
}

fn maps<V>(provider: Provider, before: &Map<Arc<str>, V>, after: &Map<Arc<str>, V>, touched: &mut Vec<Name>) {
    touched.extend(before.differences(after).map(|difference| (provider, difference.key.clone())));
}

fn sets(provider: Provider, before: &OrdSet<Arc<str>>, after: &OrdSet<Arc<str>>, touched: &mut Vec<Name>) {
    touched.extend(before.diff(after).map(|item| match item {
        DiffItem::Add(name) | DiffItem::Remove(name) => (provider, name.clone()),
    }));
}
