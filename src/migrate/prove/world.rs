//! The two tables of a proof.

use super::super::convert::{convert, is_legacy};
use super::super::holes::Holes;
use super::super::options;
use super::super::set::{Outcome, Place, Set, Settings};
use super::super::weights::MAX_COUNT;
use super::witness::Witness;
use crate::catalog::{Health, Instance, Inventory, Service, ServiceKey, World};
use crate::declare::file::decode;
use crate::declare::{Dialect, Dynamic};
use crate::explain::Door;
use crate::model::Provider;
use crate::table::{self, Accepted, BuildOptions, EntryPoint, Router, Table};
use crate::tags::legacy::{self, PoolKey, PrefixOptions};
use crate::tags::{self, LegacyOptions, TagOptions, UNVERIFIED};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Where instances are said to be; a service's port is the same everywhere.
const PORT: u16 = 8000;

/// A route of the old tags: what of it has boundaries.
pub struct Route {
    /// The old tag, as written.
    pub tag: Arc<str>,
    /// Its service.
    pub service: Arc<str>,
    /// Where it stands.
    pub place: Place,
    /// What it asks for.
    pub bounds: Bounds,
}

/// What of a route has boundaries.
pub enum Bounds {
    /// Host without its port, path, options.
    Prefix(Arc<str>, Arc<str>, Box<PrefixOptions>),
    /// Of one address of a site: HTTPS, host, exact path, entry point.
    Site(legacy::Site),
    /// A TCP route, and the name that clients ask for (empty for a port).
    Tcp(Box<legacy::TcpRoute>, String),
}

/// One side.
pub struct Side {
    pub table: Arc<Table>,
}

/// Both sides.
pub struct Scenes {
    pub old: Side,
    pub new: Side,
    /// One for each route, in the order of the tags.
    pub routes: Vec<Route>,
    /// Those that were refused.
    pub refused: Vec<Route>,
    pub options: LegacyOptions,
    doors: Vec<Door>,
}

impl Scenes {
    /// Where a request comes in.
    pub fn door(&self, route: &Route, witness: &Witness) -> Option<&Door> {
        let own = match &route.bounds {
            Bounds::Prefix(_, _, options) => options.entry_points.first(),
            Bounds::Site(site) => site.entry_point.as_ref(),
            Bounds::Tcp(..) => None,
        };
        match own.filter(|_| witness.own_door) {
            Some(name) => self.doors.iter().find(|door| door.name == *name),
            None => self.usual_door(witness.question.scheme == "https"),
        }
    }

    /// Where requests of a scheme come in.
    pub fn usual_door(&self, tls: bool) -> Option<&Door> {
        let usual = if tls { &self.options.websecure } else { &self.options.web };
        self.doors.iter().find(|door| door.name == *usual)
    }
}

impl Scenes {
    /// What a request for a rule of the new table is told with, which stands at no boundary of an old tag.
    pub fn of_rule(&self, router: &Router, after: &Set) -> Route {
        let service = router.declared.source.service.clone();
        let place = after.services.iter().find(|one| one.name == service).map(|one| one.place.clone());
        let tag =
            format!("traefik.http.routers.{}.rule={}", router.id.split('@').next().unwrap_or_default(), router.rule);
        let bounds = Bounds::Prefix(Arc::default(), "/".into(), Box::default());
        Route { tag: tag.into(), service, place: place.unwrap_or_default(), bounds }
    }
}

/// Builds both.
pub fn scenes(before: &Set, after: &Set, settings: &Settings) -> Scenes {
    let options = LegacyOptions { any_port: true, ..options::legacy(settings) };
    let datacenter = options::datacenter(settings).unwrap_or_default();
    let conversions = convert(before, settings);
    let converted = |service: usize, tag: usize| {
        conversions.get(service).and_then(|c| c.outcomes.get(tag)).is_some_and(|o| matches!(o, Outcome::Converted(_)))
    };
    let mut holes = Holes::default();
    let old_world = world(before, &mut holes, datacenter, converted);
    let new_world = world(after, &mut holes, datacenter, |service, tag| {
        let tag = after.services.get(service).and_then(|s| s.tags.get(tag));
        tag.is_some_and(|tag| !is_legacy(&tag.text, &options))
    });
    let files = files(settings);
    let points = options::entry_points(settings);
    let doors: Vec<Door> = points.iter().map(|e| Door::new(e.name.clone(), e.port, e.tls)).collect();
    let side = |world: &World, dialects: BTreeSet<Dialect>| {
        let read = TagOptions { dialects, legacy: options.clone(), ..TagOptions::default() };
        let mut decoded = tags::decode(world, &BTreeMap::from([(Provider::ConsulCatalog, read)]));
        decoded.declarations.insert(Provider::File, files.clone());
        let named = decoded.declarations.values().flat_map(|dynamic| dynamic.tcp.routers.values());
        let more: BTreeSet<Arc<str>> = named.flat_map(|router| router.entry_points.iter().cloned()).collect();
        let all = points.iter().map(|e| (e.name.clone(), e.tls, true));
        let known: HashSet<Arc<str>> = points.iter().map(|e| e.name.clone()).collect();
        let more = more.into_iter().filter(|name| !known.contains(name)).map(|name| (name, false, false));
        let entry_points = all.chain(more).map(|(name, tls, as_default)| EntryPoint {
            name,
            tls,
            as_default,
            middlewares: Vec::new(),
            tls_options: Arc::default(),
        });
        let build = BuildOptions {
            entry_points: entry_points.collect(),
            primary: Provider::ConsulCatalog,
            internal: internal(),
        };
        Side { table: table::build(&decoded.declarations, &Accepted::default(), &build).table }
    };
    let old = side(&old_world, BTreeSet::from([Dialect::Urlprefix, Dialect::Site]));
    let new = side(&new_world, BTreeSet::from([Dialect::Traefik]));
    let (routes, refused) = routes(before, &mut holes, &options, datacenter, converted);
    Scenes { old, new, routes, refused, options, doors }
}

/// What is built in, as far as legacy tags come to it.
fn internal() -> Dynamic {
    let mut dynamic = Dynamic::default();
    dynamic.http.servers_transports.insert(UNVERIFIED.into(), Arc::new(tags::unverified()));
    dynamic
}

/// What tags refer to and files declare: schemes of `auth=`, the transport without verification.
fn files(settings: &Settings) -> Dynamic {
    let mut middlewares = serde_json::Map::new();
    for (name, scheme) in options::schemes(settings) {
        let auth = serde_json::json!({ "basicAuth": { "usersFile": scheme.file, "realm": scheme.realm } });
        middlewares.insert(name, auth);
    }
    let mut http = serde_json::json!({ "serversTransports": { "skip": { "insecureSkipVerify": true } } });
    if !middlewares.is_empty() {
        http["middlewares"] = middlewares.into();
    }
    let text = serde_json::json!({ "http": http }).to_string();
    decode(text.as_bytes(), &"proof.yaml".into()).map(|decoded| decoded.dynamic).unwrap_or_default()
}

/// A catalog with the services of a set, as many instances of each as it has, each at an address of its own.
fn world(set: &Set, holes: &mut Holes, datacenter: &str, counts: impl Fn(usize, usize) -> bool) -> World {
    let mut services: BTreeMap<ServiceKey, Vec<Instance>> = BTreeMap::new();
    let mut number = 0u32;
    for (at, service) in set.services.iter().enumerate() {
        let texts = service.tags.iter().enumerate().filter(|(tag, _)| counts(at, *tag));
        let tags: Vec<Arc<str>> = texts.filter_map(|(_, tag)| Some(Arc::from(holes.word(tag).ok()?.text))).collect();
        let count = service.count.clamp(1, MAX_COUNT);
        let first = number;
        number += count;
        if tags.is_empty() {
            continue;
        }
        let key = ServiceKey { namespace: service.namespace.clone(), name: service.name.clone() };
        let instances = services.entry(key).or_default();
        for number in first..first + count {
            let [_, b, c, d] = number.to_be_bytes();
            instances.push(Instance {
                id: format!("i{number:08}").into(),
                node: "node".into(),
                address: format!("10.{b}.{c}.{d}").into(),
                node_address: Arc::default(),
                port: PORT,
                tags: tags.clone(),
                health: Health::Passing,
                datacenter: datacenter.into(),
                create_index: u64::from(number) + 1,
                job: Arc::default(),
                alloc: Arc::default(),
                checks: None,
            });
        }
    }
    let services = services.into_iter().map(|(key, instances)| (key.clone(), Arc::new(Service { key, instances })));
    let inventory = Inventory { services: services.collect() };
    World { sources: BTreeMap::from([(Provider::ConsulCatalog, Arc::new(inventory))]) }
}

/// The routes of the old tags: those that are converted, and those that are not.
fn routes(
    set: &Set,
    holes: &mut Holes,
    options: &LegacyOptions,
    datacenter: &str,
    converted: impl Fn(usize, usize) -> bool,
) -> (Vec<Route>, Vec<Route>) {
    let mut seen: HashSet<(bool, String)> = HashSet::new();
    let (mut routes, mut refused) = (Vec::new(), Vec::new());
    for (at, service) in set.services.iter().enumerate() {
        for (number, tag) in service.tags.iter().enumerate().filter(|(_, tag)| is_legacy(&tag.text, options)) {
            let Ok(worded) = holes.word(tag) else { continue };
            let good = converted(at, number);
            for (key, bounds) in bounds(worded.text.trim(), options, datacenter, good) {
                if seen.insert((good, key)) {
                    let (service, place) = (service.name.clone(), tag.place.clone());
                    let tag = super::super::remarks::written(tag).into();
                    let route = Route { tag, service, place, bounds };
                    if good {
                        routes.push(route)
                    } else {
                        refused.push(route)
                    };
                }
            }
        }
    }
    (routes, refused)
}

/// The boundaries of a tag, with what they are known by. Of a refused tag only where it routes.
fn bounds(text: &str, options: &LegacyOptions, datacenter: &str, good: bool) -> Vec<(String, Bounds)> {
    if legacy::is_site(text) {
        let sites = legacy::read_site(text, options).into_iter().filter_map(Result::ok);
        return sites.map(|site| (format!("{site:?}"), Bounds::Site(site))).collect();
    }
    let bare = text.strip_prefix(&*options.prefix).unwrap_or(text).trim();
    if legacy::is_tcp(bare) {
        let host = bare.split([':', '/', ' ']).next().unwrap_or_default().to_ascii_lowercase();
        let route = legacy::read_tcp(bare, options).ok();
        return route.into_iter().map(|of| (of.name.to_string(), Bounds::Tcp(Box::new(of), host.clone()))).collect();
    }
    let text = if good { text } else { text.split(' ').next().unwrap_or_default() };
    let Some(read) = legacy::read_prefix(text, options, datacenter).0 else { return Vec::new() };
    let PoolKey::Prefix { host, path } = read.key else { return Vec::new() };
    let name = read.options.host.clone();
    vec![(format!("{host}{path}"), Bounds::Prefix(name, path, Box::new(read.options)))]
}
