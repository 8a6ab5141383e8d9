//! Decoding step by step: a [`Decoder`] remembers what every service came to, so that a change of
//! one service among thousands costs about that service and the names that it touches.

use super::claims::Claims;
use super::exposure;
use super::fragment::{Def, Define, Fragment};
use super::pool::{self, Made, PoolKey, Share};
use super::traefik::{self, Compiled};
use super::{Decoded, LegacyMode, TagOptions, site, urlprefix};
use crate::catalog::{Inventory, Service, ServiceKey, World};
use crate::declare::{self, Declarations, Dialect, Dynamic};
use crate::diagnostic::{self, Diagnostic, Problems, Stage, Subject};
use crate::model::{Difference, Map, Provider};
use imbl::OrdSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Decodes worlds one after another. What it gives depends on the worlds that it has seen only
/// where a name is claimed twice: there the claim that stood stays.
pub struct Decoder {
    compiled: BTreeMap<Provider, Compiled>,
    states: BTreeMap<Provider, State>,
}

impl Decoder {
    /// A decoder that has seen nothing. A provider without options gets the default ones.
    pub fn new(options: BTreeMap<Provider, TagOptions>) -> Self {
        let compiled = options.into_iter().map(|(provider, o)| (provider, Compiled::new(o))).collect();
        Self { compiled, states: BTreeMap::new() }
    }

    /// Decodes the world; what was refused is copied into one list.
    pub fn decode(&mut self, world: &World) -> Decoded {
        let Step { declarations, problems } = self.step(world);
        Decoded { declarations, diagnostics: problems.values().flat_map(diagnostic::list).collect() }
    }

    /// Decodes the world. Sources that are missing in it declare nothing.
    pub fn step(&mut self, world: &World) -> Step {
        self.states.retain(|provider, _| world.sources.contains_key(provider));
        let mut step = Step::default();
        for (&provider, inventory) in &world.sources {
            let compiled = self.compiled.entry(provider).or_insert_with(|| Compiled::new(TagOptions::default()));
            let state = self.states.entry(provider).or_insert_with(|| State::new(provider, compiled));
            state.update(inventory, compiled);
            step.declarations.insert(provider, state.out.clone());
            step.problems.insert(provider, state.problems.all.clone());
        }
        step
    }
}

/// What decoding came to, cheap to copy and to compare with the step before.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// What every provider declares.
    pub declarations: Declarations,
    /// What was refused or deserves a remark, by provider.
    pub problems: BTreeMap<Provider, Problems>,
}

/// What is known of one provider.
struct State {
    inventory: Map<ServiceKey, Service>,
    fragments: BTreeMap<ServiceKey, Fragment>,
    pools: BTreeMap<PoolKey, Pool>,
    touched_pools: BTreeSet<PoolKey>,
    routers: Names<declare::Router>,
    backends: Names<declare::Service>,
    middlewares: Names<declare::Middleware>,
    tcp_routers: Names<declare::TcpRouter>,
    tcp_services: Names<declare::TcpService>,
    tcp_middlewares: Names<declare::TcpMiddleware>,
    udp_routers: Names<declare::UdpRouter>,
    udp_services: Names<declare::UdpService>,
    tls_stores: Names<declare::TlsStore>,
    out: Dynamic,
    problems: Told,
}

/// What is told of one provider's tags.
struct Told {
    provider: Provider,
    name: Arc<str>,
    all: Problems,
}

impl Told {
    fn new(provider: Provider) -> Self {
        Self { provider, name: provider.as_str().into(), all: Problems::new() }
    }

    fn set(&mut self, stage: Stage, kind: &'static str, key: ServiceKey, mut new: Vec<Diagnostic>) {
        for problem in &mut new {
            problem.origin.provider = Some(self.name.clone());
        }
        let ServiceKey { namespace, name } = key;
        diagnostic::set(&mut self.all, &Subject { stage, provider: self.provider, kind, namespace, name }, new);
    }
}

#[derive(Default)]
struct Pool {
    shares: BTreeMap<ServiceKey, Vec<Share>>,
    made: Made,
}

impl State {
    fn new(provider: Provider, compiled: &Compiled) -> Self {
        let mut problems = Told::new(provider);
        let nobody = ServiceKey { namespace: Arc::default(), name: Arc::default() };
        problems.set(Stage::Options, "", nobody, compiled.problems.clone());
        Self {
            inventory: Map::new(),
            fragments: BTreeMap::new(),
            pools: BTreeMap::new(),
            touched_pools: BTreeSet::new(),
            routers: Names::default(),
            backends: Names::default(),
            middlewares: Names::default(),
            tcp_routers: Names::default(),
            tcp_services: Names::default(),
            tcp_middlewares: Names::default(),
            udp_routers: Names::default(),
            udp_services: Names::default(),
            tls_stores: Names::default(),
            out: Dynamic::default(),
            problems,
        }
    }

    fn update(&mut self, inventory: &Inventory, compiled: &Compiled) {
        let before = std::mem::replace(&mut self.inventory, inventory.services.clone());
        // what went is taken back first, so that its names are free
        let (gone, here): (Vec<_>, Vec<_>) =
            before.differences(&inventory.services).partition(|difference| difference.after.is_none());
        for difference in gone {
            self.replace(difference.key, None);
        }
        for Difference { key, before, after } in here {
            if let Some(service) = after.filter(|service| before != Some(service)) {
                self.replace(key, Some(read(service, self.problems.provider, compiled)));
            }
        }
        for key in std::mem::take(&mut self.touched_pools) {
            self.remake(key, compiled);
        }
        let (out, problems) = (&mut self.out, &mut self.problems);
        let broken = &mut out.http.broken;
        self.routers.settle(&mut out.http.routers, problems, |name, _, is| mark(&mut broken.routers, name, is));
        self.backends.settle(&mut out.http.services, problems, |name, value, is| {
            match value.filter(|_| is) {
                Some(value) => broken.services.insert(name.clone(), value.clone()),
                None => broken.services.remove(name),
            };
        });
        let broken = &mut broken.middlewares;
        self.middlewares.settle(&mut out.http.middlewares, problems, |name, _, is| mark(broken, name, is));
        let broken = &mut out.tcp.broken;
        self.tcp_routers.settle(&mut out.tcp.routers, problems, |name, _, is| mark(&mut broken.routers, name, is));
        self.tcp_services.settle(&mut out.tcp.services, problems, |name, value, is| {
            broken.services.set(name, value.filter(|_| is).cloned());
        });
        let broken = &mut broken.middlewares;
        self.tcp_middlewares.settle(&mut out.tcp.middlewares, problems, |name, _, is| mark(broken, name, is));
        // nothing serves these yet, so no last good form of them is kept
        self.udp_routers.settle(&mut out.udp.routers, problems, |_, _, _| {});
        self.udp_services.settle(&mut out.udp.services, problems, |_, _, _| {});
        self.tls_stores.settle(&mut out.tls.stores, problems, |_, _, _| {});
    }

    /// Puts what a service declares now in the place of what it declared.
    fn replace(&mut self, key: &ServiceKey, fragment: Option<Fragment>) {
        let old = self.fragments.remove(key).unwrap_or_default();
        let nothing = Fragment::default();
        let new = fragment.as_ref().unwrap_or(&nothing);
        self.routers.replace(key, &old.routers, &new.routers);
        self.backends.replace(key, &old.services, &new.services);
        self.middlewares.replace(key, &old.middlewares, &new.middlewares);
        self.tcp_routers.replace(key, &old.tcp_routers, &new.tcp_routers);
        self.tcp_services.replace(key, &old.tcp_services, &new.tcp_services);
        self.tcp_middlewares.replace(key, &old.tcp_middlewares, &new.tcp_middlewares);
        self.udp_routers.replace(key, &old.udp_routers, &new.udp_routers);
        self.udp_services.replace(key, &old.udp_services, &new.udp_services);
        self.tls_stores.replace(key, &old.tls_stores, &new.tls_stores);
        for (pool, _) in old.shares.iter().filter(|(pool, _)| !new.shares.contains_key(pool)) {
            if let Some(known) = self.pools.get_mut(pool) {
                known.shares.remove(key);
                self.touched_pools.insert(pool.clone());
            }
        }
        for (pool, shares) in &new.shares {
            if old.shares.get(pool) != Some(shares) {
                self.pools.entry(pool.clone()).or_default().shares.insert(key.clone(), shares.clone());
                self.touched_pools.insert(pool.clone());
            }
        }
        self.problems.set(Stage::Tags, "service", key.clone(), new.problems.clone());
        if let Some(fragment) = fragment {
            self.fragments.insert(key.clone(), fragment);
        }
    }

    /// Makes the definitions of a pool anew.
    fn remake(&mut self, key: PoolKey, compiled: &Compiled) {
        let Some(pool) = self.pools.get_mut(&key) else { return };
        let made = pool::make(&key, &pool.shares, pool.made.owner.as_ref(), &compiled.options.legacy);
        let old = std::mem::replace(&mut pool.made, made);
        let before = claimant(&key, old.owner.clone().unwrap_or_default());
        let after = claimant(&key, pool.made.owner.clone().unwrap_or_default());
        let nothing = Made::default();
        // another owner is another claimant: what the old one claimed is taken back first
        let old = if before == after {
            &old
        } else {
            self.routers.replace(&before, &old.routers, &nothing.routers);
            self.backends.replace(&before, &old.services, &nothing.services);
            self.middlewares.replace(&before, &old.middlewares, &nothing.middlewares);
            &nothing
        };
        self.routers.replace(&after, &old.routers, &pool.made.routers);
        self.backends.replace(&after, &old.services, &pool.made.services);
        self.middlewares.replace(&after, &old.middlewares, &pool.made.middlewares);
        self.problems.set(Stage::Pool, "pool", claimant(&key, Arc::default()), pool.made.problems.clone());
        if pool.shares.is_empty() {
            self.pools.remove(&key);
        }
    }
}

/// The name under which a pool's definitions stand beside those of services; no service has it.
fn claimant(key: &PoolKey, owner: Arc<str>) -> ServiceKey {
    let name = match key {
        PoolKey::Prefix { host, path } => format!("\u{0}{host}{path}"),
        PoolKey::Site { host } => format!("\u{0}https://{host}"),
    };
    ServiceKey { namespace: owner, name: name.into() }
}

fn mark(names: &mut OrdSet<Arc<str>>, name: &Arc<str>, is: bool) {
    if is {
        names.insert(name.clone());
    } else {
        names.remove(name);
    }
}

/// The claims to the names of one kind, and which of them are to be settled anew.
struct Names<T> {
    claims: Claims<T>,
    touched: BTreeSet<Arc<str>>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { claims: Claims::default(), touched: BTreeSet::new() }
    }
}

impl<T: Define> Names<T> {
    fn replace(&mut self, by: &ServiceKey, old: &BTreeMap<Arc<str>, Def<T>>, new: &BTreeMap<Arc<str>, Def<T>>) {
        self.claims.replace(by, old, new, &mut self.touched);
    }

    /// Writes down what the touched names stand for now. `broken` learns of each whether it is.
    fn settle(
        &mut self,
        out: &mut Map<Arc<str>, T>,
        problems: &mut Told,
        mut broken: impl FnMut(&Arc<str>, Option<&Arc<T>>, bool),
    ) {
        for name in std::mem::take(&mut self.touched) {
            let (def, refused) = self.claims.resolve(&name);
            let key = ServiceKey { namespace: Arc::default(), name: name.clone() };
            problems.set(Stage::Name, T::WORD, key, refused);
            broken(&name, def.as_ref().map(Def::value), matches!(def, Some(Def::Broken(_))));
            match def {
                // an equal definition keeps its Arc, unless what messages say of it changed
                Some(Def::Good(new)) => {
                    if !out.get(&name).is_some_and(|old| **old == *new && old.source().same(new.source())) {
                        out.insert(name, new);
                    }
                }
                _ => drop(out.remove(&name)),
            }
        }
    }
}

/// Reads all dialects of one service.
fn read(service: &Service, provider: Provider, compiled: &Compiled) -> Fragment {
    let options = &compiled.options;
    let mut fragment = Fragment::default();
    let off = |tags: &[Arc<str>]| exposure::switched_off(tags, &options.prefix);
    let routed = options.dialects.contains(&Dialect::Traefik)
        && traefik::decode(service, provider, compiled, &mut fragment)
        && service.instances.iter().any(|i| {
            let mark = format!("{}.", options.prefix);
            i.tags.iter().any(|t| t.starts_with(&mark))
        });
    let legacy = match options.legacy.mode {
        LegacyMode::Off => false,
        LegacyMode::Merge => true,
        LegacyMode::Fallback => !routed,
    };
    if legacy {
        for instance in service.instances.iter().filter(|i| !off(&i.tags)) {
            if options.dialects.contains(&Dialect::Urlprefix) {
                urlprefix::decode(&service.key, instance, provider, &options.legacy, &mut fragment);
            }
            if options.dialects.contains(&Dialect::Site) {
                site::decode(&service.key, instance, provider, &options.legacy, &mut fragment);
            }
        }
    }
    fragment
}
