//! Decoding step by step: a [`Decoder`] remembers what every service came to, so that a change of
//! one service among thousands costs about that service and the names that it touches.

use super::claims::Claims;
use super::fragment::{Def, Define, Fragment};
use super::pool::{self, Made, PoolKey, Share};
use super::traefik::{self, Compiled};
use super::{Decoded, LegacyMode, TagOptions, site, urlprefix};
use crate::catalog::{Inventory, Service, ServiceKey, World};
use crate::declare::{self, Dialect, Dynamic};
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
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

    /// Decodes the world. Sources that are missing in it declare nothing.
    pub fn decode(&mut self, world: &World) -> Decoded {
        self.states.retain(|provider, _| world.sources.contains_key(provider));
        let mut decoded = Decoded::default();
        for (&provider, inventory) in &world.sources {
            let compiled = self.compiled.entry(provider).or_insert_with(|| Compiled::new(TagOptions::default()));
            let state = self.states.entry(provider).or_default();
            state.update(inventory, provider, compiled);
            decoded.declarations.insert(provider, state.out.clone());
            let name: Arc<str> = provider.as_str().into();
            let problems = compiled.problems.iter().chain(state.problems.values().flatten());
            decoded.diagnostics.extend(problems.cloned().map(|mut problem| {
                problem.origin.provider = Some(name.clone());
                problem
            }));
        }
        decoded
    }
}

/// What is known of one provider.
#[derive(Default)]
struct State {
    services: BTreeMap<ServiceKey, (Arc<Service>, Fragment)>,
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
    problems: Problems,
}

type Problems = BTreeMap<About, Vec<Diagnostic>>;

/// Whose problems they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Service(ServiceKey),
    Pool(PoolKey),
    Name(&'static str, Arc<str>),
}

#[derive(Default)]
struct Pool {
    shares: BTreeMap<ServiceKey, Vec<Share>>,
    made: Made,
}

impl State {
    fn update(&mut self, inventory: &Inventory, provider: Provider, compiled: &Compiled) {
        let gone: Vec<ServiceKey> =
            self.services.keys().filter(|key| !inventory.services.contains_key(*key)).cloned().collect();
        for key in gone {
            self.replace(&key, None, Fragment::default());
        }
        for (key, service) in &inventory.services {
            let known = self.services.get(key).is_some_and(|(old, _)| Arc::ptr_eq(old, service) || old == service);
            if !known {
                let fragment = read(service, provider, compiled);
                self.replace(key, Some(service.clone()), fragment);
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
        // nothing serves these yet, so no last good form of them is kept
        self.tcp_routers.settle(&mut out.tcp.routers, problems, |_, _, _| {});
        self.tcp_services.settle(&mut out.tcp.services, problems, |_, _, _| {});
        self.tcp_middlewares.settle(&mut out.tcp.middlewares, problems, |_, _, _| {});
        self.udp_routers.settle(&mut out.udp.routers, problems, |_, _, _| {});
        self.udp_services.settle(&mut out.udp.services, problems, |_, _, _| {});
        self.tls_stores.settle(&mut out.tls.stores, problems, |_, _, _| {});
    }

    /// Puts what a service declares now in the place of what it declared.
    fn replace(&mut self, key: &ServiceKey, service: Option<Arc<Service>>, new: Fragment) {
        let old = self.services.remove(key).map(|(_, fragment)| fragment).unwrap_or_default();
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
        set(&mut self.problems, About::Service(key.clone()), new.problems.clone());
        if let Some(service) = service {
            self.services.insert(key.clone(), (service, new));
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
        set(&mut self.problems, About::Pool(key.clone()), pool.made.problems.clone());
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

fn mark(names: &mut BTreeSet<Arc<str>>, name: &Arc<str>, is: bool) {
    if is {
        names.insert(name.clone());
    } else {
        names.remove(name);
    }
}

fn set(problems: &mut BTreeMap<About, Vec<Diagnostic>>, about: About, new: Vec<Diagnostic>) {
    if new.is_empty() {
        problems.remove(&about);
    } else {
        problems.insert(about, new);
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
        out: &mut BTreeMap<Arc<str>, Arc<T>>,
        problems: &mut Problems,
        mut broken: impl FnMut(&Arc<str>, Option<&Arc<T>>, bool),
    ) {
        for name in std::mem::take(&mut self.touched) {
            let (def, refused) = self.claims.resolve(&name);
            set(problems, About::Name(T::WORD, name.clone()), refused);
            broken(&name, def.as_ref().map(Def::value), matches!(def, Some(Def::Broken(_))));
            match def {
                // an equal definition keeps its Arc, unless what messages say of it changed
                Some(Def::Good(new)) => match out.get_mut(&name) {
                    Some(old) if **old == *new && old.source().same(new.source()) => {}
                    Some(old) => *old = new,
                    None => drop(out.insert(name, new)),
                },
                _ => drop(out.remove(&name)),
            }
        }
    }
}

/// Reads all dialects of one service.
fn read(service: &Service, provider: Provider, compiled: &Compiled) -> Fragment {
    let options = &compiled.options;
    let mut fragment = Fragment::default();
    let off = |tags: &[Arc<str>]| traefik::switched_off(tags, &options.prefix);
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
