//! Which TLS options hold for a host: what a handshake goes by, before anybody knows the request
//! (<https://doc.traefik.io/traefik/reference/routing-configuration/http/tls/tls-options/>).
//!
//! What always holds: on one entry point a host has one set of options. Routers that want different ones for one host, or
//! some without naming a host, get the default ones there, and it is told; a request whose router wants other options
//! than its connection was made with is not served.

use super::build::{Builder, Name};
use super::resolve::origin;
use super::table::{provider_of, unqualified};
use super::{Router, Table};
use crate::diagnostic::{Diagnostic, Stage};
use crate::rule::{self, Kind, Syntax};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The name of the options that hold where nothing else is said.
pub const DEFAULT_TLS_OPTIONS: &str = "default";

/// The options of hosts, by entry point. Empty where nobody asks for any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsHosts(BTreeMap<Arc<str>, OfEntryPoint>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfEntryPoint {
    /// Those other than the default ones; `*.` stands for one label.
    hosts: BTreeMap<Arc<str>, Arc<str>>,
    /// Routers that do not get the options that they want, and why.
    fallen: BTreeMap<Arc<str>, String>,
}

impl Table {
    /// The TLS options of a handshake: by entry point and the name that the client asks for.
    pub fn tls_options(&self, entry_point: &str, server_name: Option<&str>) -> &str {
        let found = self.tls.0.get(entry_point).zip(server_name).and_then(|(of, name)| {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            of.hosts.get(&*name).or_else(|| of.hosts.get(&*format!("*.{}", name.split_once('.')?.1)))
        });
        found.map_or(DEFAULT_TLS_OPTIONS, |options| options)
    }

    /// The TLS options that a router's requests on an entry point need.
    pub fn tls_options_of<'a>(&'a self, entry_point: &str, router: &'a Router) -> &'a str {
        let wanted = router.tls_options.iter().find(|(name, _)| **name == *entry_point).map(|(_, options)| options);
        let fallen = || self.tls.0.get(entry_point).is_some_and(|of| of.fallen.contains_key(&router.id));
        wanted.filter(|_| !fallen()).map_or(DEFAULT_TLS_OPTIONS, |options| options)
    }

    /// The options that some host or TCP router has, without the default ones.
    pub fn tls_options_in_use(&self) -> BTreeSet<&Arc<str>> {
        self.tls.0.values().flat_map(|of| of.hosts.values()).chain(self.tcp_tls_options()).collect()
    }
}

impl Builder<'_> {
    /// Works out the options of all hosts, if somebody asks for some.
    pub fn tls(&mut self) {
        let now = if self.some_want_tls_options() { self.tls_hosts() } else { TlsHosts::default() };
        if *self.table.tls == now {
            return;
        }
        let reasons = |hosts: &TlsHosts| -> BTreeMap<Arc<str>, String> {
            hosts.0.values().flat_map(|of| of.fallen.clone()).collect()
        };
        let (before, after) = (reasons(&self.table.tls), reasons(&now));
        for id in before.keys().chain(after.keys()).cloned().collect::<BTreeSet<_>>() {
            let Some(provider) = provider_of(&id) else { continue };
            let of: Name = (provider, unqualified(&id));
            let declared = self.table.routers.get(&id).map(|router| router.declared.clone());
            let problem = after.get(&id).zip(declared).map(|(why, declared)| {
                let message = format!("router `{}` gets the default TLS options: {why}", of.1);
                Diagnostic::error("tls_options", message).with_origin(origin(&declared.source, provider))
            });
            self.set_problems(Stage::Router, "tls_options", &of, problem.into_iter().collect());
        }
        self.table.tls = Arc::new(now);
    }

    fn tls_hosts(&self) -> TlsHosts {
        let mut all = TlsHosts::default();
        let routers: Vec<(&Arc<Router>, Vec<Arc<str>>)> =
            self.table.routers.values().map(|r| (r, domains(r))).collect();
        for entry_point in &self.options.entry_points {
            let answers =
                |router: &Router| (router.tls || entry_point.tls) && router.entry_points.contains(&entry_point.name);
            let wants = |router: &Router| -> Arc<str> {
                let wanted = router.tls_options.iter().find(|(name, _)| *name == entry_point.name);
                wanted.map_or(DEFAULT_TLS_OPTIONS.into(), |(_, options)| options.clone())
            };
            let here: Vec<_> = routers.iter().filter(|(r, _)| answers(r)).map(|(r, d)| (r, d, wants(r))).collect();
            if here.iter().all(|(_, _, wanted)| **wanted == *DEFAULT_TLS_OPTIONS) {
                continue;
            }
            let mut of = OfEntryPoint::default();
            let mut by_host: BTreeMap<&Arc<str>, BTreeSet<&Arc<str>>> = BTreeMap::new();
            for (_, domains, wanted) in &here {
                for host in domains.iter() {
                    by_host.entry(host).or_default().insert(wanted);
                }
            }
            for (router, domains, wanted) in &here {
                let conflict = domains.iter().find(|host| by_host.get(host).is_some_and(|all| all.len() > 1));
                let why = match conflict {
                    Some(host) => {
                        format!("on `{}` routers want different ones for the host `{host}`", entry_point.name)
                    }
                    None if domains.is_empty() && **wanted != *DEFAULT_TLS_OPTIONS => {
                        "its rule names no host, and a handshake is before the request".to_owned()
                    }
                    None => continue,
                };
                of.fallen.insert(router.id.clone(), why);
            }
            for (router, domains, wanted) in here {
                if *wanted != *DEFAULT_TLS_OPTIONS && !of.fallen.contains_key(&router.id) {
                    of.hosts.extend(domains.iter().map(|host| (host.clone(), wanted.clone())));
                }
            }
            all.0.insert(entry_point.name.clone(), of);
        }
        all
    }
}

/// The hosts that a router's rule names, in lower case.
fn domains(router: &Router) -> Vec<Arc<str>> {
    let syntax = if &*router.declared.rule_syntax == "v2" { Syntax::V2 } else { Syntax::V3 };
    let rule = rule::parse(&router.rule, Kind::Http, syntax);
    rule.map(|rule| rule.domains().into_iter().map(Arc::from).collect()).unwrap_or_default()
}
