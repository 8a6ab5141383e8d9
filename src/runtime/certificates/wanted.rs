//! For which names a table wants certificates, and who is to order them: exact hosts of routers with a certificate resolver, of
//! `https://` tags and of `FQDN`, and the wildcards of `ACME_DNS`. A pure value of table and configuration.
//!
//! What always holds: a name is wanted once; nothing is wanted that nobody issues for; expressions, wildcards in rules and
//! what stands in a negation want nothing.

use crate::acme::names::{covers, orderable};
use crate::config::{EntryPoint, Settled};
use crate::declare::{self, Dialect};
use crate::diagnostic::{Diagnostic, Origin};
use crate::model::Provider;
use crate::rule::{self, Kind, Syntax};
use crate::table::{Router, Table};
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

    /// What a table wants.
    pub fn wants(&self, table: &Table) -> Wants {
        let mut wants = Wants::default();
        if let Some(automatic) = &self.automatic {
            let want = |name: &str| Want {
                resolver: automatic.clone(),
                service: "control-plane@internal".into(),
                on_demand: false,
                origin: Origin { file: Some(name.into()), ..Origin::default() },
            };
            self.wildcards.iter().for_each(|name| self.add(&mut wants, name, want("$ACME_DNS"), true));
            self.control_plane.iter().for_each(|name| self.add(&mut wants, name, want("$FQDN"), false));
        }
        for router in table.routers.values() {
            self.http(router, &mut wants);
        }
        for router in table.tcp.routers.values() {
            let Some(tls) = router.declared.tls.as_ref().filter(|tls| !tls.passthrough) else { continue };
            let names = || names(&tls.domains, &router.declared.rule, Kind::Tcp, &router.declared.rule_syntax);
            let of = Asker {
                id: &router.id,
                provider: router.provider,
                source: &router.declared.source,
                service: &router.service.id,
            };
            self.explicit(&tls.cert_resolver, names, &of, &mut wants);
        }
        wants
    }

    fn http(&self, router: &Arc<Router>, wants: &mut Wants) {
        if router.provider == Provider::Internal {
            return;
        }
        let declared = &router.declared;
        let of = Asker {
            id: &router.id,
            provider: router.provider,
            source: &declared.source,
            service: &router.service.id,
        };
        let of_rule = |domains: &[declare::Domain]| names(domains, &declared.rule, Kind::Http, &declared.rule_syntax);
        if let Some(tls) = declared.tls.as_ref().filter(|tls| !tls.cert_resolver.is_empty()) {
            return self.explicit(&tls.cert_resolver, || of_rule(&tls.domains), &of, wants);
        }
        let on = |ep: &&EntryPoint| router.entry_points.contains(&ep.name);
        // as in Traefik: what an entry point says of TLS counts for routers that say nothing
        if declared.tls.is_none() {
            for ep in self.entry_points.iter().filter(on).filter(|ep| !ep.cert_resolver.is_empty()) {
                let names = || match ep.cert_domains.is_empty() {
                    true => of_rule(&[]),
                    false => ep.cert_domains.clone(),
                };
                self.explicit(&ep.cert_resolver, names, &of, wants);
            }
        }
        let Some(automatic) = &self.automatic else { return };
        let is_site = declared.source.dialect == Dialect::Site;
        let encrypted = router.tls || self.entry_points.iter().filter(on).any(|ep| ep.tls);
        if is_site || (self.on_demand && encrypted) {
            for name in of_rule(&[]) {
                self.add(wants, &name, of.want(automatic, self.on_demand), false);
            }
        }
    }

    /// What a router asks for by name: there somebody is told what cannot be.
    fn explicit(&self, resolver: &Arc<str>, names: impl FnOnce() -> Vec<String>, of: &Asker<'_>, wants: &mut Wants) {
        if resolver.is_empty() {
            return;
        }
        let mut refuse = |code: &str, message: String| {
            let message = format!("router `{}`: {message}", of.id);
            wants.problems.push(Diagnostic::warning(code, message).with_origin(of.origin()));
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
        let mut fitting = Vec::new();
        for name in names {
            match orderable(&name) {
                Err(why) => refuse("not_orderable", format!("no certificate is ordered for `{name}`: {why}")),
                Ok(()) if name.starts_with("*.") && !by_dns => refuse(
                    "not_orderable",
                    format!("no certificate is ordered for `{name}`: it takes a `dnsChallenge`, which `{resolver}` has not"),
                ),
                Ok(()) => fitting.push(name),
            }
        }
        for name in fitting {
            self.add(wants, &name, of.want(resolver, false), true);
        }
    }

    /// Takes note of a name; the first who wants it counts, and one who wants it at once goes before one who waits.
    fn add(&self, wants: &mut Wants, name: &str, want: Want, wildcards: bool) {
        let by_dns = self.resolvers.get(&want.resolver).is_some_and(|by_dns| *by_dns);
        if orderable(name).is_err() || (name.starts_with("*.") && !(wildcards && by_dns)) {
            return;
        }
        // a wildcard that is ordered by the same resolver will do
        let covered = |(pattern, other): (&Arc<str>, &Want)| {
            pattern.starts_with("*.") && **pattern != *name && other.resolver == want.resolver && covers(pattern, name)
        };
        if wants.names.iter().any(covered) {
            return;
        }
        match wants.names.get_mut(name) {
            Some(known) => known.on_demand &= want.on_demand,
            None => drop(wants.names.insert(name.into(), want)),
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
