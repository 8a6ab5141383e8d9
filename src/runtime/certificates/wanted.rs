//! For which names a table wants certificates, and who is to order them: exact hosts of routers with a certificate resolver, of
//! `https://` tags and of `FQDN`, and the wildcards of `ACME_DNS`. A pure value of table and configuration.
//!
//! What always holds: a name is wanted once; nothing is wanted that nobody issues for; expressions, wildcards in rules and
//! what stands in a negation want nothing.

use crate::acme::names::orderable;
use crate::config::{EntryPoint, Settled};
use crate::declare::{self, Dialect};
use crate::diagnostic::{Diagnostic, Origin};
use crate::model::Provider;
use crate::rule::{self, Kind, Syntax};
use crate::table::{Router, Table, tcp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is wanted for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Name of the resolver.
    pub resolver: Arc<str>,
    /// The service that it is for, by which orders on demand are counted.
    pub service: Arc<str>,
    /// Not before somebody asks.
    pub on_demand: bool,
    /// Where it was said.
    pub origin: Origin,
}

/// All that is wanted, by name (a host, or `*.` and a domain), and what is wrong with it.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Wants {
    /// By name.
    pub names: BTreeMap<Arc<str>, Want>,
    /// Routers whose certificates nobody can order.
    pub problems: Vec<Diagnostic>,
}

impl Wants {
    /// What is wanted for a host: for itself, or for a wildcard that covers it.
    pub fn find(&self, host: &str) -> Option<(&Arc<str>, &Want)> {
        let wildcard = || self.names.get_key_value(&*format!("*.{}", host.split_once('.')?.1));
        self.names.get_key_value(host).or_else(wildcard)
    }
}

/// What one router wants: names as they stand there, in order.
#[derive(Debug, Default, Clone, PartialEq)]
struct Part {
    names: Vec<(Arc<str>, Want)>,
    problems: Vec<Diagnostic>,
}

/// What the tables that follow each other want. A change costs what changed: of routers that stay nothing is read again, and
/// as long as none of those that changed wants anything else, nothing is put together anew.
#[derive(Debug)]
pub struct Tracker {
    rules: Rules,
    table: Arc<Table>,
    /// By kind (`http`, `tcp`) and name.
    parts: BTreeMap<(&'static str, Arc<str>), Part>,
    wants: Arc<Wants>,
}

impl Tracker {
    /// Nothing was seen yet but the configuration.
    pub fn new(rules: Rules) -> Self {
        let mut new = Self { rules, table: Arc::default(), parts: BTreeMap::new(), wants: Arc::default() };
        new.wants = Arc::new(new.all());
        new
    }

    /// What is wanted now.
    pub fn wants(&self) -> &Arc<Wants> {
        &self.wants
    }

    /// Takes a table up; true where something else is wanted since.
    pub fn take(&mut self, table: Arc<Table>) -> bool {
        let before = std::mem::replace(&mut self.table, table.clone());
        let mut changed = false;
        for difference in before.routers.differences(&table.routers) {
            let part = difference.after.map(|router| self.rules.http(router)).unwrap_or_default();
            changed |= put(&mut self.parts, ("http", difference.key.clone()), part);
        }
        for difference in before.tcp.routers.differences(&table.tcp.routers) {
            let part = difference.after.map(|router| self.rules.tcp(router)).unwrap_or_default();
            changed |= put(&mut self.parts, ("tcp", difference.key.clone()), part);
        }
        if changed {
            self.wants = Arc::new(self.all());
        }
        changed
    }

    fn all(&self) -> Wants {
        let mut wants = Wants::default();
        let own = self.rules.own();
        for (name, want) in own.names.iter().chain(self.parts.values().flat_map(|part| &part.names)) {
            self.rules.add(&mut wants, name, want);
        }
        wants.problems = self.parts.values().flat_map(|part| part.problems.iter().cloned()).collect();
        wants
    }
}

/// Puts a part in the place of the one before; false where both are the same.
fn put(parts: &mut BTreeMap<(&'static str, Arc<str>), Part>, key: (&'static str, Arc<str>), part: Part) -> bool {
    if parts.get(&key).map_or(part == Part::default(), |before| *before == part) {
        return false;
    }
    match part == Part::default() {
        true => drop(parts.remove(&key)),
        false => drop(parts.insert(key, part)),
    }
    true
}

/// What the configuration says of it.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Resolvers by name, and whether they can have wildcards.
    resolvers: BTreeMap<Arc<str>, bool>,
    automatic: Option<Arc<str>>,
    on_demand: bool,
    /// `FQDN` and `NOMAD_ADDR_EXTRA`.
    control_plane: Vec<String>,
    wildcards: Vec<String>,
    entry_points: Vec<EntryPoint>,
}

impl Rules {
    /// From the configuration; `None` where nobody orders.
    pub fn of(settled: &Settled) -> Option<Self> {
        let said = &settled.certificates;
        if said.resolvers.is_empty() {
            return None;
        }
        let hind = &settled.hind;
        Some(Self {
            resolvers: said.resolvers.iter().map(|(name, r)| (name.as_str().into(), r.dns.is_some())).collect(),
            automatic: said.automatic.as_deref().map(Arc::from),
            on_demand: said.on_demand.is_some(),
            control_plane: hind.fqdn.iter().chain(&hind.nomad_addr_extra).cloned().collect(),
            wildcards: said.wildcards.iter().map(|domain| format!("*.{domain}")).collect(),
            entry_points: settled.entry_points.values().cloned().collect(),
        })
    }

    /// What is wanted whatever the routes are.
    fn own(&self) -> Part {
        let mut part = Part::default();
        let Some(automatic) = &self.automatic else { return part };
        for (names, said) in [(&self.wildcards, "$ACME_DNS"), (&self.control_plane, "$FQDN")] {
            let want = Want {
                resolver: automatic.clone(),
                service: "control-plane@internal".into(),
                on_demand: false,
                origin: Origin { file: Some(said.into()), ..Origin::default() },
            };
            part.names.extend(names.iter().map(|name| (name.as_str().into(), want.clone())));
        }
        part
    }

    fn tcp(&self, router: &tcp::Router) -> Part {
        let mut part = Part::default();
        let declared = &router.declared;
        if let Some(tls) = declared.tls.as_ref().filter(|tls| !tls.passthrough) {
            let names = || names(&tls.domains, &declared.rule, Kind::Tcp, &declared.rule_syntax);
            let of = Asker {
                id: &router.id,
                provider: router.provider,
                source: &declared.source,
                service: &router.service.id,
            };
            self.explicit(&tls.cert_resolver, names, &of, &mut part);
        }
        part
    }

    fn http(&self, router: &Router) -> Part {
        let mut part = Part::default();
        if router.provider == Provider::Internal {
            return part;
        }
        let declared = &router.declared;
        let of =
            Asker { id: &router.id, provider: router.provider, source: &declared.source, service: &router.service.id };
        let of_rule = |domains: &[declare::Domain]| names(domains, &declared.rule, Kind::Http, &declared.rule_syntax);
        if let Some(tls) = declared.tls.as_ref().filter(|tls| !tls.cert_resolver.is_empty()) {
            self.explicit(&tls.cert_resolver, || of_rule(&tls.domains), &of, &mut part);
            return part;
        }
        let on = |ep: &&EntryPoint| router.entry_points.contains(&ep.name);
        // as in Traefik: what an entry point says of TLS counts for routers that say nothing
        if declared.tls.is_none() {
            for ep in self.entry_points.iter().filter(on).filter(|ep| !ep.cert_resolver.is_empty()) {
                let names = || match ep.cert_domains.is_empty() {
                    true => of_rule(&[]),
                    false => ep.cert_domains.clone(),
                };
                self.explicit(&ep.cert_resolver, names, &of, &mut part);
            }
        }
        let Some(automatic) = &self.automatic else { return part };
        let is_site = declared.source.dialect == Dialect::Site;
        let encrypted = router.tls || self.entry_points.iter().filter(on).any(|ep| ep.tls);
        if is_site || (self.on_demand && encrypted) {
            let names = of_rule(&[]).into_iter().filter(|name| orderable(name).is_ok());
            part.names.extend(names.map(|name| (name.into(), of.want(automatic, self.on_demand))));
        }
        part
    }

    /// What a router asks for by name: there somebody is told what cannot be.
    fn explicit(&self, resolver: &Arc<str>, names: impl FnOnce() -> Vec<String>, of: &Asker<'_>, part: &mut Part) {
        if resolver.is_empty() {
            return;
        }
        let mut refuse = |code: &str, message: String| {
            let message = format!("router `{}`: {message}", of.id);
            part.problems.push(Diagnostic::warning(code, message).with_origin(of.origin()));
        };
        let Some(by_dns) = self.resolvers.get(resolver) else {
            let known: Vec<&str> = self.resolvers.keys().map(|name| &**name).collect();
            let known = known.join("`, `");
            let message = format!("there is no certificate resolver `{resolver}`; there is `{known}`");
            return refuse("unknown_resolver", message);
        };
        let names = names();
        if names.is_empty() {
            let message = format!("its rule names no host that `{resolver}` could order a certificate for");
            return refuse("no_certificate_name", message);
        }
        for name in names {
            let message = format!("no certificate is ordered for `{name}`");
            match orderable(&name) {
                Err(why) => refuse("not_orderable", format!("{message}: {why}")),
                Ok(()) if name.starts_with("*.") && !by_dns => {
                    refuse("not_orderable", format!("{message}: it takes a `dnsChallenge`, which `{resolver}` has not"))
                }
                Ok(()) => part.names.push((name.into(), of.want(resolver, false))),
            }
        }
    }

    /// Takes note of a name; the first who wants it counts, and one who wants it at once goes before one who waits.
    fn add(&self, wants: &mut Wants, name: &Arc<str>, want: &Want) {
        if orderable(name).is_err() {
            return;
        }
        // a wildcard that is ordered by the same resolver will do
        let wildcard = name.split_once('.').map(|(_, domain)| format!("*.{domain}")).unwrap_or_default();
        if wants.names.get(&*wildcard).is_some_and(|other| other.resolver == want.resolver && *wildcard != **name) {
            return;
        }
        match wants.names.get_mut(name) {
            Some(known) => known.on_demand &= want.on_demand,
            None => drop(wants.names.insert(name.clone(), want.clone())),
        }
    }
}

/// Who wants certificates.
struct Asker<'a> {
    id: &'a Arc<str>,
    provider: Provider,
    source: &'a declare::Source,
    service: &'a Arc<str>,
}

impl Asker<'_> {
    fn want(&self, resolver: &Arc<str>, on_demand: bool) -> Want {
        Want { resolver: resolver.clone(), service: self.service.clone(), on_demand, origin: self.origin() }
    }

    fn origin(&self) -> Origin {
        let place = self.source.place.as_ref();
        Origin {
            provider: Some(self.provider.as_str().into()),
            service: Some(self.source.service.clone()).filter(|service| !service.is_empty()),
            tag: Some(self.source.tag.clone()).filter(|tag| !tag.is_empty()),
            file: place.map(|place| place.file.clone()),
            line: place.map(|place| place.at.0),
            column: place.map(|place| place.at.1),
            ..Origin::default()
        }
    }
}

/// The names of a router: as stated, else those of its rule.
fn names(domains: &[declare::Domain], rule: &str, kind: Kind, syntax: &str) -> Vec<String> {
    if !domains.is_empty() {
        let all = domains.iter().flat_map(|domain| std::iter::once(&domain.main).chain(&domain.sans));
        return all.filter(|name| !name.is_empty()).map(|name| name.to_ascii_lowercase()).collect();
    }
    let syntax = if syntax == "v2" { Syntax::V2 } else { Syntax::V3 };
    let names = rule::parse(rule, kind, syntax).map(|rule| rule.certificate_names()).unwrap_or_default();
    // `HostSNI(*)` and wildcards of TCP rules are nobody's name
    names.into_iter().filter(|name| !name.contains('*')).collect()
}
