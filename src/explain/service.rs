//! What became of a catalog's service: its instances, each of its tags, the routers that they make, and why
//! it is not served where it is not.

use super::ask::backend;
use super::choose;
use super::report::{Backend, Catalog, Named};
use super::scene::{Door, Scene, Servers};
use super::witness::{Witness, witness};
use crate::catalog::{Instance, Service};
use crate::declare::{self, Dialect};
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use crate::rule::{self, Kind, Syntax};
use crate::table::Router;
use crate::tags::{self, TagOptions};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Names that are near are told up to this number.
const MAX_NEAR: usize = 5;

/// What is known under a name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// The name that was asked for.
    pub service: String,
    /// Whether a router of it gets requests, and has a server for them.
    pub served: bool,
    /// By catalog and namespace; empty where nobody knows it.
    pub found: Vec<Standing>,
    /// Names that are like it, where nobody knows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<Named>,
    /// Where nobody knows it: what that may mean.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remark: String,
    /// Catalogs that are not as they should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catalogs: Vec<Catalog>,
}

/// A service of one catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Which.
    #[serde(flatten)]
    pub named: Named,
    /// Its instances.
    pub instances: Vec<InstanceNow>,
    /// Its tags.
    pub tags: Vec<TagNow>,
    /// Why it is not routed, or not by all of its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Diagnostic>,
    /// What its tags declare, and what became of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<RouterNow>,
    /// What was refused of it and is no single tag's fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Diagnostic>,
}

/// An instance now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceNow {
    /// Id in the catalog.
    pub id: Arc<str>,
    /// `host:port`; the host is empty where the catalog has none.
    pub address: String,
    /// By the catalog: `passing`, `warning`, `critical`, `maintenance` or `unknown`.
    pub health: String,
}

/// A tag, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagNow {
    /// Without what may be secret.
    pub tag: Arc<str>,
    /// What it says; empty for a tag that routes nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub says: String,
    /// `read`, `remark`, `refused`, `not_counted` or `not_routing`.
    pub state: String,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Diagnostic>,
}

/// What became of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It gets requests.
    Served,
    /// It is kept though its servers are gone, for a while or because their tags turned bad.
    Kept,
    /// Another one of the same rule, priority and entry points gets its requests.
    Shadowed,
    /// It was refused.
    Refused,
    /// Its name belongs to another service.
    Conflict,
}

/// A router of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouterNow {
    /// Qualified name.
    pub router: Arc<str>,
    /// Its rule.
    pub rule: Arc<str>,
    /// Its priority.
    pub priority: i64,
    /// Where it answers.
    pub entry_points: Vec<Arc<str>>,
    /// With TLS only.
    pub tls: bool,
    /// What became of it.
    pub fate: Fate,
    /// Why, where it gets no requests or not all of those that its rule names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// Its middlewares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<Arc<str>>,
    /// Where its requests go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// A request that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
}

impl Scene {
    /// What became of the services of a name.
    pub fn service(&self, name: &str, servers: &dyn Servers) -> ServiceReport {
        let catalogs: Vec<Catalog> = self.catalogs.iter().filter(|c| !c.is_well()).cloned().collect();
        let mut report = ServiceReport { service: name.to_owned(), catalogs, ..ServiceReport::default() };
        let defaults = TagOptions::default();
        let all = || self.world.sources.iter().flat_map(|(p, inventory)| inventory.services.values().map(|s| (*p, s)));
        for (provider, service) in all().filter(|(_, service)| *service.key.name == *name) {
            let options = self.options.get(&provider).unwrap_or(&defaults);
            report.found.push(self.stand(provider, service, options, servers));
        }
        let gets = |router: &RouterNow| {
            let servers = router.backend.as_ref().is_some_and(|backend| !backend.servers.is_empty());
            matches!(router.fate, Fate::Served | Fate::Kept) && servers
        };
        report.served = report.found.iter().flat_map(|found| &found.routers).any(gets);
        if report.found.is_empty() {
            let far = |service: &Service| strsim::damerau_levenshtein(&service.key.name, name);
            let mut near: Vec<_> = all().filter(|(_, s)| far(s) <= 1 + name.len() / 4).collect();
            near.sort_by_key(|(provider, service)| (far(service), *provider, service.key.clone()));
            report.near = near.into_iter().take(MAX_NEAR).map(|(provider, s)| named(provider, s)).collect();
            report.remark = match self.catalogs.is_empty() {
                true => format!("the file holds no service `{name}`"),
                false => format!(
                    "no catalog has a service `{name}` with a tag that routes; is it registered (all names are case-sensitive), \
                     and does it carry `traefik.*`, `urlprefix-` or `https://` tags?"
                ),
            };
        }
        report
    }

    /// Why a service is not routed: what its tags are not refused for.
    pub(super) fn reasons(&self, named: &Named) -> Vec<Diagnostic> {
        let of = self.world.sources.iter().find(|(provider, _)| provider.as_str() == &*named.provider);
        let Some((provider, inventory)) = of else { return Vec::new() };
        let is = |s: &&Arc<Service>| s.key.name == named.name && s.key.namespace == named.namespace;
        let defaults = TagOptions::default();
        let options = self.options.get(provider).unwrap_or(&defaults);
        let service = inventory.services.values().find(is);
        service.map(|service| tags::standing(service, *provider, options).reasons).unwrap_or_default()
    }

    fn stand(
        &self,
        provider: Provider,
        service: &Arc<Service>,
        options: &TagOptions,
        servers: &dyn Servers,
    ) -> Standing {
        let named = named(provider, service);
        let standing = tags::standing(service, provider, options);
        let problems: Vec<&Diagnostic> = self.problems.iter().filter(|problem| concerns(problem, &named)).collect();
        let tags: Vec<TagNow> = standing
            .tags
            .into_iter()
            .map(|reading| {
                let of_tag = |p: &&&Diagnostic| p.origin.tag.as_ref() == Some(&reading.tag);
                let problems: Vec<Diagnostic> = problems.iter().filter(of_tag).map(|p| (*p).clone()).collect();
                let state = match &problems[..] {
                    _ if reading.says.is_empty() && problems.is_empty() => "not_routing",
                    all if all.iter().any(Diagnostic::is_error) => "refused",
                    [] if !reading.counts => "not_counted",
                    [] => "read",
                    _ => "remark",
                };
                TagNow { tag: reading.tag, says: reading.says, state: state.to_owned(), problems }
            })
            .collect();
        let told = |problem: &Diagnostic| tags.iter().any(|tag| tag.problems.contains(problem));
        let mut routers = Vec::new();
        if let Some(dynamic) = standing.declared.get(&provider) {
            for (name, declared) in &dynamic.http.routers {
                routers.push(self.router_now(provider, name, Some(declared), &named, servers));
            }
            for name in &dynamic.http.broken.routers {
                routers.push(self.router_now(provider, name, None, &named, servers));
            }
        }
        // what is in force of it though its tags say something else, or nothing, by now
        for (id, router) in &self.table.routers {
            if of_service(router, &named) && !routers.iter().any(|known| known.router == *id) {
                let name = id.rsplit_once('@').map_or(&**id, |(name, _)| name);
                let mut now = self.router_now(provider, &name.into(), Some(&router.declared), &named, servers);
                if now.fate == Fate::Served {
                    now.fate = Fate::Kept;
                }
                routers.push(now);
            }
        }
        let instance = |instance: &Instance| InstanceNow {
            id: instance.id.clone(),
            address: format!("{}:{}", instance.dial_address().unwrap_or_default(), instance.port),
            health: format!("{:?}", instance.health).to_lowercase(),
        };
        let problems = problems.into_iter().filter(|problem| !told(problem)).cloned().collect();
        let instances = service.instances.iter().map(instance).collect();
        Standing { named, instances, reasons: standing.reasons, routers, problems, tags }
    }

    /// What became of a router that a service declares; `declared` is missing where its tags were refused.
    fn router_now(
        &self,
        provider: Provider,
        name: &Arc<str>,
        declared: Option<&Arc<declare::Router>>,
        named: &Named,
        servers: &dyn Servers,
    ) -> RouterNow {
        let id: Arc<str> = format!("{name}@{provider}").into();
        let live = self.table.routers.get(&id);
        let empty = declare::Router::default();
        let said = declared.map_or(&empty, |declared| declared);
        let mut now = RouterNow {
            router: id.clone(),
            rule: live.map_or_else(|| said.rule.clone(), |live| live.rule.clone()),
            priority: live.map_or(said.priority, |live| live.priority),
            entry_points: live.map_or_else(|| said.entry_points.clone(), |live| live.entry_points.clone()),
            tls: live.map_or(said.tls.is_some(), |live| live.tls),
            fate: Fate::Refused,
            why: Vec::new(),
            middlewares: live.map(|live| live.middlewares.iter().map(|m| m.id.clone()).collect()).unwrap_or_default(),
            backend: None,
            example: None,
        };
        let refused = self.refused.iter().find(|refused| refused.id == id);
        let Some(live) = live else {
            now.why = refused.map(|refused| refused.errors.clone()).unwrap_or_default();
            if now.why.is_empty() {
                now.why.push("a tag of it is refused, so it is not routed".to_owned());
            }
            return now;
        };
        let source = &live.declared.source;
        let lost = || {
            let of_it = |p: &Diagnostic| concerns(p, named) && &*p.code == "host_conflict";
            self.problems.iter().any(|p| of_it(p) && p.origin.tag.as_ref() == declared.map(|d| &d.source.tag))
        };
        if !of_service(live, named) && !source.service.is_empty() && (lost() || !self.shares(live, named)) {
            now.fate = Fate::Conflict;
            let where_ =
                if source.namespace.is_empty() { String::new() } else { format!(", namespace `{}`", source.namespace) };
            now.why.push(format!("the name belongs to service `{}`{where_}, which had it first", source.service));
            return now;
        }
        now.backend = Some(backend(&live.service, servers));
        if let Ok(rule) = rule::parse(&live.rule, Kind::Http, Syntax::named(&live.declared.rule_syntax)) {
            now.why.extend(super::notes(&rule).into_iter().map(|(_, note)| note));
        }
        let (request, example) = self.example(live);
        now.example = Some(example).filter(|example| !example.is_empty());
        if let Some(winner) = self.table.shadowed.get(&id) {
            now.fate = Fate::Shadowed;
            let why = self.table.routers.get(winner).map(|winner| self.rivalry(winner, live));
            now.why.push(format!("its requests go to {}", why.unwrap_or_else(|| winner.to_string())));
            return now;
        }
        now.fate = Fate::Served;
        let by_tag = |tag: &Arc<str>| tag.to_ascii_lowercase().contains(".routers.");
        let source = declared.map(|declared| &declared.source);
        if source
            .is_some_and(|s| s.dialect == Dialect::Traefik && !s.service.is_empty() && !s.options.iter().any(by_tag))
        {
            now.why.push(
                "no tag declares it: a service that is exposed without a router gets one by `defaultRule`".into(),
            );
        }
        if declared.is_none() {
            now.fate = Fate::Kept;
            now.why.push("its tags were refused; its last good definition stays in force".to_owned());
        }
        if let Some(request) = request {
            let report = self.ask(&request, servers);
            match &report.answer.router {
                Some(taken) if *taken != id => {
                    let winner = self.table.routers.get(taken);
                    if winner.is_some_and(|winner| winner.provider == Provider::Internal) {
                        now.fate = Fate::Shadowed;
                    }
                    let why = winner.map(|winner| self.rivalry(winner, live));
                    let why = why.unwrap_or_else(|| taken.to_string());
                    now.why.push(format!("a request such as this example goes to {why}"));
                }
                Some(_) if &*report.answer.outcome == "no_server" => {
                    now.why.push("it has no server: requests wait for one for a while, and then get a 503".to_owned());
                }
                Some(_) if !matches!(&*report.answer.outcome, "proxied" | "redirect") => {
                    now.why.push(format!("a request such as this example gets {}", report.says));
                }
                _ => {}
            }
        }
        now
    }

    /// Whether a service is one of several behind a router.
    fn shares(&self, router: &Router, named: &Named) -> bool {
        let of = self.world.sources.iter().find(|(provider, _)| provider.as_str() == &*named.provider);
        let services = of.map(|(_, inventory)| &inventory.services);
        let is = |s: &&Arc<Service>| s.key.name == named.name && s.key.namespace == named.namespace;
        let Some(service) = services.and_then(|services| services.values().find(is)) else { return false };
        let ends = |instance: &Instance| format!(":{}", instance.port);
        service.instances.iter().any(|instance| {
            let host = instance.dial_address().unwrap_or_default();
            choose::all(&router.service).iter().any(|(_, s)| *s.host == *host && s.authority.ends_with(&ends(instance)))
        })
    }

    /// A request for a router, and its URL for people; nothing where its rule gives none.
    fn example(&self, router: &Router) -> (Option<super::Question>, String) {
        let found = witness(&router.rule, &router.declared.rule_syntax);
        let door = |name: &Arc<str>| self.doors.iter().find(|door| door.name == *name);
        let doors: Vec<&Door> = router.entry_points.iter().filter_map(door).collect();
        // a plain one, if the router has any, which needs no certificate
        // and one that does not redirect whatever comes
        let serves = |door: &&&Door| door.redirect.is_none();
        let plain = doors.iter().filter(serves).find(|door| !door.tls && !router.tls);
        let door = plain.or_else(|| doors.iter().find(serves)).or(doors.first());
        let (Some(found), Some(door)) = (found, door) else { return (None, String::new()) };
        let tls = door.tls || router.tls;
        let Witness { host, path, method, headers, query, from } = found;
        let shown = if host.is_empty() { "any.host" } else { &host };
        let scheme = if tls { "https" } else { "http" };
        let port = match (door.port, tls) {
            (80, false) | (443, true) | (0, _) => String::new(),
            (port, _) => format!(":{port}"),
        };
        let query = if query.is_empty() { query } else { format!("?{query}") };
        let url = format!("{scheme}://{shown}{port}{path}{query}");
        let mut text = if method.is_empty() || method == "GET" { String::new() } else { format!("{method} ") };
        text.push_str(&url);
        headers.iter().for_each(|(name, value)| text.push_str(&format!(" -H '{name}: {value}'")));
        if !from.is_empty() {
            text.push_str(&format!(" --from {from}"));
        }
        (super::Question::of_url(&method, &url, headers, &from).ok(), text)
    }
}

fn named(provider: Provider, service: &Service) -> Named {
    Named {
        provider: provider.as_str().into(),
        namespace: service.key.namespace.clone(),
        name: service.key.name.clone(),
    }
}

fn of_service(router: &Router, named: &Named) -> bool {
    let source = &router.declared.source;
    router.provider.as_str() == &*named.provider && source.service == named.name && source.namespace == named.namespace
}

fn concerns(problem: &Diagnostic, named: &Named) -> bool {
    let origin = &problem.origin;
    origin.service.as_ref() == Some(&named.name)
        && origin.provider.as_ref().is_none_or(|provider| *provider == named.provider)
        && origin.namespace.as_ref().is_none_or(|namespace| *namespace == named.namespace)
}
