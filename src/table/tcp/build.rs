//! From declarations to the TCP part of a table. There are few TCP routers, so all of it is worked out, but only when
//! something of it was declared otherwise than before.

use super::routers::Doors;
use super::{Tcp, parts};
use crate::declare::{Dynamic, Tcp as Declared};
use crate::diagnostic::{Diagnostic, Stage};
use crate::model::{Map, Provider};
use crate::table::BuildOptions;
use crate::table::build::{Builder, Name};
use imbl::OrdSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The words for the definitions, in messages and as keys of what is said of them.
pub(super) const ROUTER: &str = "TCP router";
pub(super) const SERVICE: &str = "TCP service";
pub(super) const MIDDLEWARE: &str = "TCP middleware";
pub(super) const TRANSPORT: &str = "TCP serversTransport";
pub(super) const RIVAL: &str = "TCP rival";

/// What a build knows and has found out so far.
pub(super) struct Making<'a> {
    pub inputs: &'a BTreeMap<Provider, Dynamic>,
    pub options: &'a BuildOptions,
    /// What was last good.
    pub old: &'a Tcp,
    pub tcp: Tcp,
    pub problems: BTreeMap<(&'static str, Name), Vec<Diagnostic>>,
    /// Services that were looked at, whatever came of it.
    pub seen: BTreeSet<Name>,
}

impl Making<'_> {
    pub fn declared(&self, provider: Provider) -> Option<&Declared> {
        self.inputs.get(&provider).map(|dynamic| &dynamic.tcp)
    }

    pub fn say(&mut self, kind: &'static str, of: &Name, problem: Diagnostic) {
        self.problems.entry((kind, of.clone())).or_default().push(problem);
    }
}

/// All names of a part, those of broken definitions included.
pub(super) fn names<V>(
    inputs: &BTreeMap<Provider, Dynamic>,
    part: impl Fn(&Declared) -> &Map<Arc<str>, V>,
    broken: impl Fn(&Declared) -> Vec<Arc<str>>,
) -> BTreeSet<Name> {
    let of = |(provider, dynamic): (&Provider, &Dynamic)| {
        let all = part(&dynamic.tcp).iter().map(|(name, _)| name.clone()).chain(broken(&dynamic.tcp));
        all.map(|name| (*provider, name)).collect::<Vec<_>>()
    };
    inputs.iter().flat_map(of).collect()
}

pub(super) fn list(set: &OrdSet<Arc<str>>) -> Vec<Arc<str>> {
    set.iter().cloned().collect()
}

impl Builder<'_> {
    /// Works the TCP part out if what is declared of it changed.
    pub fn tcp(&mut self) {
        let nothing = Dynamic::default();
        let providers: BTreeSet<Provider> = self.before.keys().chain(self.inputs.keys()).copied().collect();
        let of = |all: &BTreeMap<Provider, Dynamic>, provider| all.get(provider).cloned().unwrap_or_default();
        let differs = |provider: &Provider| {
            let (before, after) =
                (self.before.get(provider).unwrap_or(&nothing), self.inputs.get(provider).unwrap_or(&nothing));
            before.tcp != after.tcp
                || !after.tcp.routers.is_empty() && before.tls.options.differences(&after.tls.options).next().is_some()
        };
        if !providers.iter().any(differs) {
            return;
        }
        let old = self.accepted.table().tcp.clone();
        let mut making = Making {
            inputs: &self.inputs,
            options: self.options,
            old: &old,
            tcp: Tcp::default(),
            problems: BTreeMap::new(),
            seen: BTreeSet::new(),
        };
        parts::make(&mut making);
        let rank = |provider| self.rank(provider);
        Doors::new(&mut making, &rank).make();
        let Making { tcp, mut problems, .. } = making;
        let mut subjects: BTreeSet<(&'static str, Name)> = problems.keys().cloned().collect();
        for provider in &providers {
            for tcp in [of(&self.before, provider).tcp, of(&self.inputs, provider).tcp] {
                let mut add = |kind, names: Vec<Arc<str>>| {
                    subjects.extend(names.into_iter().map(|name| (kind, (*provider, name))));
                };
                let routers = || tcp.routers.iter().map(|(name, _)| name.clone()).chain(list(&tcp.broken.routers));
                add(ROUTER, routers().collect());
                add(RIVAL, routers().collect());
                let services = tcp.services.iter().map(|(name, _)| name.clone());
                let broken = tcp.broken.services.iter().map(|(name, _)| name.clone());
                add(SERVICE, services.chain(broken).collect());
                let middlewares = tcp.middlewares.iter().map(|(name, _)| name.clone());
                add(MIDDLEWARE, middlewares.chain(list(&tcp.broken.middlewares)).collect());
                let transports = tcp.servers_transports.iter().map(|(name, _)| name.clone());
                add(TRANSPORT, transports.chain(list(&tcp.broken.servers_transports)).collect());
            }
        }
        for (kind, name) in subjects {
            let found = problems.remove(&(kind, name.clone())).unwrap_or_default();
            let stage = match kind {
                ROUTER => Stage::Router,
                RIVAL => Stage::Rivalry,
                _ => Stage::Part,
            };
            self.set_problems(stage, kind, &name, found);
        }
        self.table.tcp = if tcp == *old { old } else { Arc::new(tcp) };
    }
}
