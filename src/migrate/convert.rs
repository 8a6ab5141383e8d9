//! What each legacy tag of a set becomes: tags are read one by one, put together by what they route (host and path of
//! `urlprefix-`, a site, a TCP port or name), and each of these becomes the same routers, service and middlewares on
//! every service that has a part in it.
//!
//! What always holds: of one route every tag of every service is converted, or none; no new tag has a double quote, which
//! Fabio would refuse its whole table for; a service never gets a tag twice, nor one that it has.

mod ports;

use super::apply::with_holes_of;
use super::holes::{Holes, Unfit, Worded, has, holed, is_steady, stem};
use super::options::{self, Scheme};
use super::remarks::{self, Told};
use super::set::{Conversion, Outcome, Service, Set, Settings, Tag};
use super::weights::{MAX_COUNT, weights};
use super::write;
use crate::diagnostic::Diagnostic;
use crate::tags::LegacyOptions;
use crate::tags::legacy::{self, PoolKey, Prefix, Site, TcpRoute};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// What is routed together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    /// Fabio's host and path.
    Prefix(Arc<str>, Arc<str>),
    /// A site's host.
    Site(Arc<str>),
    /// A TCP route, by the name of its router.
    Tcp(Arc<str>),
}

/// A legacy tag that was read.
struct Read {
    service: usize,
    tag: usize,
    worded: Worded,
    asks: Asks,
}

enum Asks {
    Prefix(Box<Prefix>),
    Tcp(TcpRoute),
    Sites(Vec<Site>),
}

impl Asks {
    fn keys(&self) -> Vec<Key> {
        match self {
            Self::Prefix(prefix) => match &prefix.key {
                PoolKey::Prefix { host, path } => vec![Key::Prefix(host.clone(), path.clone())],
                PoolKey::Site { host } => vec![Key::Site(host.clone())],
            },
            Self::Tcp(route) => vec![Key::Tcp(route.name.clone())],
            Self::Sites(sites) => {
                let keys: BTreeSet<Key> = sites.iter().map(|site| Key::Site(site.host.clone())).collect();
                keys.into_iter().collect()
            }
        }
    }
}

/// Whether a tag is one that is converted.
pub(super) fn is_legacy(tag: &str, options: &LegacyOptions) -> bool {
    tag.trim().starts_with(&*options.prefix) || legacy::is_site(tag)
}

/// What becomes of every tag of the set: one [`Conversion`] for each service, in order.
pub fn convert(set: &Set, settings: &Settings) -> Vec<Conversion> {
    let mut work = Work {
        set,
        options: options::legacy(settings),
        datacenter: options::datacenter(settings),
        entry_points_known: !settings.entry_points.is_empty(),
        schemes: options::schemes(settings),
        holes: Holes::default(),
        reads: Vec::new(),
        ports: Vec::new(),
        refused: HashMap::new(),
        poisoned: BTreeMap::new(),
        remarks: Vec::new(),
        own: set.services.iter().map(own).collect(),
    };
    work.read();
    let made = work.make();
    work.conversions(made)
}

struct Work<'a> {
    set: &'a Set,
    options: LegacyOptions,
    datacenter: Option<&'a str>,
    /// The static configuration was given.
    entry_points_known: bool,
    schemes: BTreeMap<String, Scheme>,
    holes: Holes,
    reads: Vec<Read>,
    ports: Vec<ports::ServicePort>,
    /// By service and tag.
    refused: HashMap<(usize, usize), Diagnostic>,
    /// Routes of which some tag cannot be converted, and why.
    poisoned: BTreeMap<Key, Told>,
    /// By service.
    remarks: Vec<(usize, Diagnostic)>,
    /// By service: its `traefik.*` tags by their options.
    own: Vec<HashMap<String, usize>>,
}

/// The tags that a legacy tag becomes, words in the place of holes.
type Made = HashMap<(usize, usize), Vec<String>>;

impl Work<'_> {
    fn read(&mut self) {
        for (at, service) in self.set.services.iter().enumerate() {
            let off = service.tags.iter().any(|tag| is_said(&tag.text, "traefik.enable", "false"));
            for (number, tag) in service.tags.iter().enumerate() {
                if is_legacy(&tag.text, &self.options) {
                    self.read_one(at, number, tag, off);
                }
            }
        }
    }

    fn refuse(&mut self, service: usize, tag: usize, told: &Told) {
        let problem = told.diagnostic(true, &self.set.services[service], Some(tag));
        self.refused.entry((service, tag)).or_insert(problem);
    }

    fn remark(&mut self, service: usize, tag: Option<usize>, told: &Told) {
        let problem = told.diagnostic(false, &self.set.services[service], tag);
        self.remarks.push((service, problem));
    }

    fn read_one(&mut self, at: usize, number: usize, tag: &Tag, off: bool) {
        let beyond = self.set.services[at].beyond(number).map(remarks::beyond);
        let why = |unfit| beyond.clone().unwrap_or_else(|| remarks::unfit(unfit, tag));
        let worded = match self.holes.word(tag) {
            Ok(worded) => worded,
            Err(unfit) => return self.refuse(at, number, &why(unfit)),
        };
        let text = worded.text.trim().to_owned();
        if let Some(unfit) = unfit(&text, tag, &worded, &self.options) {
            return self.refuse(at, number, &why(unfit));
        }
        let port = text.strip_prefix(&*self.options.prefix).and_then(legacy::service_port);
        if let Some(port) = port {
            return self.read_port(at, number, port, off);
        }
        let bound = remarks::bound(&text).filter(|_| !legacy::is_site(&text));
        let (asks, problems) = self.asked(&text);
        let holes = &self.holes;
        let told = |problem: &Diagnostic| remarks::of_tag(problem, |text| holes.told(text));
        let refusal = problems.iter().find(|p| p.is_error()).map(told);
        let others: Vec<Told> =
            problems.iter().filter(|p| !p.is_error()).filter_map(|p| remarks::beside(p, told(p))).collect();
        let refusal = match (&asks, beyond.or(bound).or(refusal)) {
            (_, Some(told)) => Some(told),
            (None, None) => Some(others.first().cloned().unwrap_or_else(remarks::routes_nothing)),
            (Some(_), None) if off => Some(remarks::switched_off()),
            (Some(_), None) if self.set.services[at].fixed => Some(remarks::fixed()),
            (Some(Asks::Prefix(prefix)), None) => remarks::unfaithful(prefix, &text, &self.schemes, self.datacenter),
            (Some(_), None) => None,
        };
        match (asks, refusal) {
            (Some(asks), None) => {
                others.iter().for_each(|told| self.remark(at, Some(number), told));
                if tag.text.starts_with(char::is_whitespace) {
                    self.remark(at, Some(number), &remarks::leading_blank());
                }
                self.reads.push(Read { service: at, tag: number, worded, asks });
            }
            (asks, Some(refusal)) => {
                // what else of its route there is would be converted by half
                let keys = asks.map(|asks| asks.keys()).unwrap_or_else(|| self.keys_of(&text));
                let by = remarks::because_of(&refusal, &self.set.services[at]);
                for key in keys {
                    self.poisoned.entry(key).or_insert_with(|| by.clone());
                }
                self.refuse(at, number, &refusal);
            }
            (None, None) => {}
        }
    }

    fn asked(&self, text: &str) -> (Option<Asks>, Vec<Diagnostic>) {
        let options = &self.options;
        if legacy::is_site(text) {
            let mut sites = Vec::new();
            let mut problems = Vec::new();
            for read in legacy::read_site(text, options) {
                match read {
                    Ok(site) => sites.push(site),
                    Err((code, message)) => problems.push(Diagnostic::error(code, message)),
                }
            }
            return (Some(Asks::Sites(sites)), problems);
        }
        let bare = text.strip_prefix(&*options.prefix).unwrap_or(text).trim();
        if legacy::is_tcp(bare) {
            // an entry point for the port can be made
            let any = LegacyOptions { any_port: true, ..options.clone() };
            return match legacy::read_tcp(bare, &any) {
                Ok(route) => (Some(Asks::Tcp(route)), Vec::new()),
                Err((code, message)) => (None, vec![Diagnostic::error(code, message)]),
            };
        }
        let (prefix, problems) = legacy::read_prefix(text, options, self.datacenter.unwrap_or_default());
        (prefix.map(|prefix| Asks::Prefix(Box::new(prefix))), problems)
    }

    /// The route of a tag whose options cannot be read.
    fn keys_of(&self, text: &str) -> Vec<Key> {
        let route = text.split(' ').next().unwrap_or_default();
        self.asked(route).0.map(|asks| asks.keys()).unwrap_or_default()
    }

    /// Puts routes together and writes their tags.
    fn make(&mut self) -> Made {
        let mut routes: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
        for (at, read) in self.reads.iter().enumerate() {
            for key in read.asks.keys() {
                routes.entry(key).or_default().push(at);
            }
        }
        for (key, reads) in &routes {
            if let Some(told) = self.disagreement(reads) {
                self.poisoned.entry(key.clone()).or_insert(told);
            }
        }
        let mut texts: HashMap<(usize, Key), Vec<String>> = HashMap::new();
        for (key, reads) in &routes {
            if self.poisoned.contains_key(key) {
                continue;
            }
            let written = self.write(key, reads);
            match self.unwritable(reads, &written) {
                Some(told) => drop(self.poisoned.insert(key.clone(), told)),
                None => {
                    for (read, lines) in reads.iter().zip(written.unwrap_or_default()) {
                        texts.insert((*read, key.clone()), lines);
                    }
                }
            }
        }
        self.spread(&routes);
        let mut made = Made::new();
        let mut refusals = Vec::new();
        for (at, read) in self.reads.iter().enumerate() {
            let place = (read.service, read.tag);
            if let Some(told) = read.asks.keys().iter().find_map(|key| self.poisoned.get(key)) {
                refusals.push((place, told.clone()));
                continue;
            }
            let lines = read.asks.keys().into_iter().filter_map(|key| texts.remove(&(at, key))).flatten();
            made.insert(place, lines.collect());
        }
        for ((service, tag), told) in refusals {
            self.refuse(service, tag, &told);
        }
        self.make_ports(&mut made);
        let left: Vec<(Key, Vec<usize>)> =
            routes.into_iter().filter(|(key, _)| !self.poisoned.contains_key(key)).collect();
        self.remark_routes(&left);
        made
    }

    /// A tag with several sites is refused as a whole, and so is what its other sites are routed with.
    fn spread(&mut self, routes: &BTreeMap<Key, Vec<usize>>) {
        let mut open: Vec<Key> = self.poisoned.keys().cloned().collect();
        while let Some(key) = open.pop() {
            let Some(told) = self.poisoned.get(&key).cloned() else { continue };
            for read in routes.get(&key).into_iter().flatten().filter_map(|at| self.reads.get(*at)) {
                for other in read.asks.keys() {
                    if !self.poisoned.contains_key(&other) {
                        self.poisoned.insert(other.clone(), told.clone());
                        open.push(other);
                    }
                }
            }
        }
    }

    /// What the tags of one route do not agree on.
    fn disagreement(&self, reads: &[usize]) -> Option<Told> {
        let all: Vec<&Read> = reads.iter().filter_map(|at| self.reads.get(*at)).collect();
        let (first, rest) = all.split_first()?;
        let name = |read: &Read| self.set.services[read.service].name.clone();
        for other in rest {
            let equal = match (&first.asks, &other.asks) {
                (Asks::Prefix(a), Asks::Prefix(b)) => {
                    let one_service = first.service == other.service;
                    a.options == b.options && a.manner == b.manner && (!one_service || a.scheme == b.scheme)
                }
                (Asks::Tcp(a), Asks::Tcp(b)) => a == b,
                _ => true,
            };
            if !equal {
                let texts = (&*self.holes.told(&first.worded.text), &*self.holes.told(&other.worded.text));
                return Some(remarks::disagree(texts, (&name(first), &name(other))));
            }
        }
        None
    }

    /// The tags of each read of a route, in order; `None` for what no tag can say.
    fn write(&self, key: &Key, reads: &[usize]) -> Option<Vec<Vec<String>>> {
        let all: Vec<&Read> = reads.iter().filter_map(|at| self.reads.get(*at)).collect();
        match key {
            Key::Prefix(host, path) => self.write_pool(host, path, &all),
            Key::Site(host) => Some(self.write_sites(host, &all)),
            Key::Tcp(name) => {
                let called = self.name_of_tcp(name);
                let lines = |read: &&Read| match &read.asks {
                    Asks::Tcp(route) => write::tcp(&called, route),
                    _ => Vec::new(),
                };
                Some(all.iter().map(lines).collect())
            }
        }
    }

    /// The name of a route: that of its pool; with holes a readable stem and a hash over the expressions.
    fn name(&self, kind: &str, host: &str, path: &str) -> Arc<str> {
        if !has(host) && !has(path) {
            return legacy::pool_name(kind, host, path);
        }
        let whole = [self.holes.written_out(host), self.holes.written_out(path)];
        let hash = legacy::fnv1(whole[0].bytes().chain([0]).chain(whole[1].bytes()));
        legacy::named(kind, &stem(host), &stem(path), hash)
    }

    fn name_of_tcp(&self, name: &str) -> String {
        if !has(name) {
            return name.to_owned();
        }
        let hash = legacy::fnv1(self.holes.written_out(name).bytes()) & 0xff_ffff;
        format!("{}-{hash:06x}", stem(name))
    }

    fn write_pool(&self, host: &str, path: &str, reads: &[&Read]) -> Option<Vec<Vec<String>>> {
        let name = self.name("fb", host, path);
        let Asks::Prefix(first) = &reads.first()?.asks else { return None };
        let Prefix { options, manner, .. } = &**first;
        let parts = self.parts(reads);
        let auth = self.schemes.get(&*options.auth).filter(|_| !options.auth.is_empty());
        let pool = write::Pool { name: &name, path, options, manner, auth };
        let weights = weights(&parts.iter().map(|(_, count, fixed)| (*count, fixed.clone())).collect::<Vec<_>>());
        let weight: HashMap<usize, u32> = parts
            .iter()
            .enumerate()
            .filter_map(|(at, (service, _, _))| Some((*service, *weights.of.as_ref()?.get(at)?)))
            .collect();
        let line = |read: &&Read| {
            let Asks::Prefix(prefix) = &read.asks else { return Some(Vec::new()) };
            let port = self.port_of(read.service);
            let part = write::Part { scheme: prefix.scheme, weight: weight.get(&read.service).copied(), port };
            write::pool(&pool, &part, &self.options)
        };
        reads.iter().map(line).collect()
    }

    /// The services of a pool with their counts and the fixed weights of their tags, equal tags apart.
    fn parts(&self, reads: &[&Read]) -> Vec<(usize, u32, Vec<Option<f64>>)> {
        let mut parts: Vec<(usize, u32, Vec<Option<f64>>)> = Vec::new();
        for read in reads {
            let Asks::Prefix(prefix) = &read.asks else { continue };
            let count = self.set.services[read.service].count.clamp(1, MAX_COUNT);
            // the reads of a service stand together
            match parts.last_mut().filter(|(service, ..)| *service == read.service) {
                Some((_, _, fixed)) if fixed.contains(&prefix.weight) => {}
                Some((_, _, fixed)) => fixed.push(prefix.weight),
                None => parts.push((read.service, count, vec![prefix.weight])),
            }
        }
        parts
    }

    fn write_sites(&self, host: &str, reads: &[&Read]) -> Vec<Vec<String>> {
        let sites = |read: &Read| match &read.asks {
            Asks::Sites(sites) => sites.iter().filter(|site| &*site.host == host).cloned().collect(),
            _ => Vec::new(),
        };
        let all: Vec<Vec<Site>> = reads.iter().map(|read| sites(read)).collect();
        let every = || all.iter().flatten();
        let plain = every().any(|s| !s.https && s.path.is_none() && s.entry_point.is_none());
        // the first part in the order of the table names the service of the redirect
        let redirecting = every().filter(|s| s.https && s.entry_point.is_none()).map(|s| s.path.clone()).min();
        let redirect = self.name("site-redirect", host, "");
        let one = |site: &Site| {
            let kind = if site.https { "site" } else { "site-http" };
            let name = self.name(kind, host, site.path.as_deref().unwrap_or_default());
            let name = site.entry_point.as_ref().map_or(name.clone(), |at| format!("{name}-{at}").into());
            let to_https = site.https
                && site.entry_point.is_none()
                && !plain
                && redirecting.as_ref().is_some_and(|path| *path == site.path);
            write::site(site, (&name, &redirect), to_https, &self.options)
        };
        all.iter().map(|sites| sites.iter().flat_map(one).collect()).collect()
    }

    /// Why the tags of a route cannot be written; `None` if they can.
    fn unwritable(&self, reads: &[usize], written: &Option<Vec<Vec<String>>>) -> Option<Told> {
        let Some(written) = written else { return Some(remarks::no_redirect()) };
        for (read, lines) in reads.iter().filter_map(|at| self.reads.get(*at)).zip(written) {
            if let Some(line) = lines.iter().find(|line| line.contains('"')) {
                return Some(remarks::double_quote(&self.holes.told(line)));
            }
            let service = &self.set.services[read.service];
            let legacy = &service.tags[read.tag];
            let other = lines.iter().find_map(|line| {
                let (key, _) = line.split_once('=')?;
                let old = service.tags.get(*self.own[read.service].get(&key.to_ascii_lowercase())?)?;
                let new = with_holes_of(legacy, &holed(line, &read.worded.holes));
                (!same_text(old, &new)).then(|| (key.to_owned(), old.text.clone()))
            });
            if let Some((key, old)) = other {
                return Some(remarks::says_otherwise(&key, &old, &service.name));
            }
        }
        None
    }

    /// What is to be said of routes that are converted.
    fn remark_routes(&mut self, routes: &[(Key, Vec<usize>)]) {
        let mut found: Vec<(usize, Option<usize>, Told)> = Vec::new();
        for (key, reads) in routes {
            let all: Vec<&Read> = reads.iter().filter_map(|at| self.reads.get(*at)).collect();
            for read in &all {
                let text = &read.worded.text;
                let told = match &read.asks {
                    Asks::Prefix(prefix) => remarks::of_prefix(prefix, text, &self.schemes),
                    Asks::Tcp(route) => remarks::of_tcp(route, self.options.ports.values()),
                    Asks::Sites(_) => Vec::new(),
                };
                found.extend(told.into_iter().map(|told| (read.service, Some(read.tag), told)));
                let beside = match &read.asks {
                    Asks::Prefix(prefix) => self.missing_entry_point(prefix),
                    _ => None,
                };
                found.extend(beside.map(|told| (read.service, Some(read.tag), told)));
                if !read.worded.holes.is_empty() {
                    found.push((read.service, Some(read.tag), remarks::with_holes()));
                }
            }
            if let Key::Prefix(..) = key {
                let parts = self.parts(&all);
                let shares: Vec<(u32, Vec<Option<f64>>)> =
                    parts.iter().map(|(_, count, fixed)| (*count, fixed.clone())).collect();
                let weights = weights(&shares);
                if weights.counted {
                    let told = remarks::mixed_weights(&shares, weights.of.as_deref().unwrap_or_default());
                    let mut seen = HashSet::new();
                    let first = all.iter().filter(|read| seen.insert(read.service));
                    found.extend(first.map(|read| (read.service, Some(read.tag), told.clone())));
                }
            }
        }
        let hosts: BTreeMap<Arc<str>, (usize, usize)> = routes
            .iter()
            .filter_map(|(key, reads)| match key {
                Key::Prefix(host, _) if legacy::is_glob(host) && !self.options.glob_disabled => {
                    let read = self.reads.get(*reads.first()?)?;
                    Some((host.clone(), (read.service, read.tag)))
                }
                _ => None,
            })
            .collect();
        let globs: Vec<Arc<str>> = hosts.keys().cloned().collect();
        for (one, other, witness) in super::overlap::overlaps(&globs) {
            if let Some((service, tag)) = hosts.get(&one) {
                found.push((*service, Some(*tag), remarks::overlap(&one, &other, &witness)));
            }
        }
        for (service, tag, told) in found {
            self.remark(service, tag, &told);
        }
    }

    fn conversions(mut self, mut made: Made) -> Vec<Conversion> {
        let holes_of: HashMap<(usize, usize), Vec<usize>> =
            self.reads.iter().map(|read| ((read.service, read.tag), read.worded.holes.clone())).collect();
        let routed: HashSet<usize> = self.reads.iter().map(|read| read.service).collect();
        let mut all = Vec::with_capacity(self.set.services.len());
        for (at, service) in self.set.services.iter().enumerate() {
            let mut conversion = Conversion::default();
            let mut written: HashSet<String> = HashSet::new();
            let mut remarked = self.refused.keys().any(|(of, _)| *of == at);
            for number in 0..service.tags.len() {
                let place = (at, number);
                let outcome = if let Some(problem) = self.refused.remove(&place) {
                    Outcome::Refused(Box::new(problem))
                } else if let Some(lines) = made.remove(&place) {
                    let holes = holes_of.get(&place).map(Vec::as_slice).unwrap_or_default();
                    let new =
                        lines.into_iter().filter(|line| written.insert(line.clone())).map(|line| holed(&line, holes));
                    let there = |text: &Arc<str>| {
                        let key = text.split_once('=').map_or(&**text, |(key, _)| key).to_ascii_lowercase();
                        let old = self.own[at].get(&key).and_then(|at| service.tags.get(*at));
                        old.is_some_and(|old| same_text(old, &with_holes_of(&service.tags[number], text)))
                    };
                    Outcome::Converted(new.filter(|text| !there(text)).collect())
                } else {
                    Outcome::Kept
                };
                conversion.outcomes.push(outcome);
            }
            let routed = routed.contains(&at);
            let converted = conversion.outcomes.iter().any(|o| matches!(o, Outcome::Converted(_)));
            let enabled = service.tags.iter().any(|tag| is_said(&tag.text, "traefik.enable", "true"));
            if converted && routed && !enabled {
                conversion.besides.push("traefik.enable=true".into());
            }
            remarked &= converted;
            if remarked {
                self.remark(at, None, &remarks::left_beside());
            }
            if converted && let Some(tag) = service.tags.iter().position(|tag| quotes(tag, &self.options)) {
                self.remark(at, Some(tag), &remarks::quote_beside());
            }
            all.push(conversion);
        }
        for (at, remark) in self.remarks {
            if let Some(conversion) = all.get_mut(at)
                && !conversion.remarks.contains(&remark)
            {
                conversion.remarks.push(remark);
            }
        }
        all
    }
}

/// What of a tag with holes keeps it from being read.
fn unfit(text: &str, tag: &Tag, worded: &Worded, options: &LegacyOptions) -> Option<Unfit> {
    if worded.holes.is_empty() {
        return None;
    }
    if let Some(at) = tag.holes.iter().position(|expression| !is_steady(expression)) {
        return Some(Unfit::Varies(at));
    }
    let bare = text.strip_prefix(&*options.prefix).unwrap_or(text);
    let (route, _) = bare.split_once(' ').unwrap_or((bare, ""));
    let route = route.split_once("://").map_or(route, |(_, route)| route);
    // a value may bring the slash, or a port
    let open = !legacy::is_site(text) && !route.contains('/') && !route.starts_with(':') && has(route);
    open.then_some(Unfit::Open(0))
}

/// The `traefik.*` tags of a service by their options.
fn own(service: &Service) -> HashMap<String, usize> {
    let option = |(at, tag): (usize, &Tag)| {
        let (key, _) = tag.text.split_once('=')?;
        let key = key.trim().to_ascii_lowercase();
        key.starts_with("traefik.").then_some((key, at))
    };
    service.tags.iter().enumerate().filter_map(option).collect()
}

/// Whether two tags say the same, but for case in the option's name.
fn same_text(old: &Tag, new: &Tag) -> bool {
    let value = |tag: &Tag| tag.text.split_once('=').map(|(_, value)| value.to_owned());
    value(old) == value(new) && old.holes == new.holes
}

/// Whether a tag sets an option to this value, in any case.
fn is_said(tag: &str, option: &str, value: &str) -> bool {
    let said = tag.split_once('=').filter(|(key, _)| key.trim().eq_ignore_ascii_case(option));
    said.is_some_and(|(_, said)| said.trim().eq_ignore_ascii_case(value))
}

/// Whether a tag that stays has a double quote.
fn quotes(tag: &Tag, options: &LegacyOptions) -> bool {
    tag.text.contains('"') && !is_legacy(&tag.text, options)
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
