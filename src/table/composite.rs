//! Services that are made of other services: resolved, so that the data side follows no name.
//!
//! What always holds: the services inside are those of the same table; no service is inside of itself, and none is
//! nested deeper than [`MAX_DEPTH`]. A service that is not there costs its own share only: the others go on, unlike in
//! Traefik, where the whole is refused then.

use super::resolve::{origin_of, qualified};
use super::{Service, Sticky};
use crate::declare;
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// How deep services may be nested.
pub(super) const MAX_DEPTH: usize = 8;
/// How many services one may be made of, those inside of others counted, and each as often as it is named.
const MAX_SIZE: usize = 512;

/// A service that is made of others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Composite {
    /// What it does with them.
    pub kind: CompositeKind,
    /// What it was declared as, for the API and the store.
    pub declared: declare::Service,
    depth: usize,
    size: usize,
}

/// What a service does with those that it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CompositeKind {
    /// Each gets its share of the requests.
    Weighted(Vec<Child>),
    /// Each gets its share of the clients, told by the address of the TCP peer.
    HighestRandomWeight(Vec<Child>),
    /// One answers, others get copies.
    Mirroring {
        /// Who answers.
        service: Arc<Service>,
        /// Who gets copies.
        mirrors: Vec<Mirror>,
        /// Whether copies have the request's body.
        with_body: bool,
        /// Requests with a longer body, in bytes, are not copied.
        max_body: Option<u64>,
    },
    /// One answers while it has a usable server, else the other one. One of both may not be there.
    Failover {
        /// The first one.
        service: Option<Arc<Service>>,
        /// The other one.
        fallback: Option<Arc<Service>>,
        /// Statuses of the first one after which the other one is asked.
        statuses: Vec<RangeInclusive<u16>>,
    },
}

/// One of several services.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Child {
    /// Its name as declared: sticky cookies are made of it.
    pub name: Arc<str>,
    /// Its share, at least 1.
    pub weight: u32,
    /// The service.
    pub service: Arc<Service>,
}

/// A service that gets copies of requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mirror {
    /// How many of 100 requests.
    pub percent: u8,
    /// The service.
    pub service: Arc<Service>,
}

impl Composite {
    /// The services that it may take an answer from.
    pub fn answering(&self) -> impl Iterator<Item = &Arc<Service>> {
        let (children, pair): (&[Child], [Option<&Arc<Service>>; 2]) = match &self.kind {
            CompositeKind::Weighted(children) | CompositeKind::HighestRandomWeight(children) => {
                (children, [None, None])
            }
            CompositeKind::Mirroring { service, .. } => (&[], [Some(service), None]),
            CompositeKind::Failover { service, fallback, .. } => (&[], [service.as_ref(), fallback.as_ref()]),
        };
        children.iter().map(|child| &child.service).chain(pair.into_iter().flatten())
    }

    /// All services inside.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        let mirrors: &[Mirror] = match &self.kind {
            CompositeKind::Mirroring { mirrors, .. } => mirrors,
            _ => &[],
        };
        self.answering().chain(mirrors.iter().map(|mirror| &mirror.service))
    }
}

impl Service {
    /// Whether it, or a service inside that may answer, has a server.
    pub fn has_servers(&self) -> bool {
        match &self.composite {
            None => !self.servers.is_empty(),
            Some(composite) => composite.answering().any(|service| service.has_servers()),
        }
    }

    /// Whether a service of this name is inside, or it is this one.
    pub(super) fn holds(&self, id: &str) -> bool {
        *self.id == *id || self.composite.iter().any(|composite| composite.services().any(|inner| inner.holds(id)))
    }

    /// How deep services are nested in it, and how many it is, itself counted.
    fn extent(&self) -> (usize, usize) {
        self.composite.as_ref().map_or((0, 1), |composite| (composite.depth, composite.size))
    }
}

/// How many kinds a service is declared to be of.
pub(super) fn kinds(declared: &declare::Service) -> usize {
    let declare::Service { load_balancer, weighted, highest_random_weight, mirroring, failover, .. } = declared;
    [
        load_balancer.is_some(),
        weighted.is_some(),
        highest_random_weight.is_some(),
        mirroring.is_some(),
        failover.is_some(),
    ]
    .into_iter()
    .filter(|is| *is)
    .count()
}

/// The names of the services that a service is declared to be made of.
pub(super) fn names(declared: &declare::Service) -> impl Iterator<Item = &Arc<str>> {
    let weighted = declared.weighted.iter().flat_map(|weighted| &weighted.services);
    let by_address = declared.highest_random_weight.iter().flat_map(|weighted| &weighted.services);
    let weighted = weighted.chain(by_address).map(|child| &child.name);
    let mirroring = declared.mirroring.iter();
    let mirrored =
        mirroring.flat_map(|m| std::iter::once(&m.service).chain(m.mirrors.iter().map(|mirror| &mirror.name)));
    let failover = declared.failover.iter().flat_map(|failover| [&failover.service, &failover.fallback]);
    weighted.chain(mirrored).chain(failover).filter(|name| !name.is_empty())
}

/// Resolves a service that is made of others. `find` gives one of them, or why it cannot be used. What did not change is
/// the `old` one. Without a service that could answer it is refused.
pub(super) fn resolve(
    name: &str,
    provider: Provider,
    declared: &declare::Service,
    find: impl Fn(&str) -> Result<Arc<Service>, String>,
    old: Option<&Arc<Service>>,
) -> (Option<Arc<Service>>, Vec<Diagnostic>) {
    let id = old.map_or_else(|| qualified(name, provider), |old| old.id.clone());
    let mut resolving = Resolving { name, provider, declared, find, depth: 0, size: 1, problems: Vec::new() };
    let mut sticky = None;
    let kind = if let Some(weighted) = &declared.weighted {
        sticky = weighted.sticky.as_ref().and_then(|sticky| sticky.cookie.as_ref());
        resolving.children("weighted", &weighted.services).map(CompositeKind::Weighted)
    } else if let Some(weighted) = &declared.highest_random_weight {
        resolving.children("highestRandomWeight", &weighted.services).map(CompositeKind::HighestRandomWeight)
    } else if let Some(mirroring) = &declared.mirroring {
        resolving.mirroring(mirroring)
    } else if let Some(failover) = &declared.failover {
        resolving.failover(failover)
    } else {
        None
    };
    let Resolving { depth, size, problems, .. } = resolving;
    let Some(kind) = kind else { return (None, problems) };
    let declared = declare::Service { middlewares: Vec::new(), source: declare::Source::default(), ..declared.clone() };
    let service = Service {
        sticky: sticky.map(|cookie| Arc::new(Sticky::new(&id, cookie))),
        id,
        servers: Vec::new(),
        strategy: declare::Strategy::default(),
        pass_host_header: true,
        transport: None,
        health: None,
        passive: None,
        limit: None,
        composite: Some(Arc::new(Composite { kind, declared, depth, size })),
    };
    match old {
        Some(old) if **old == service => (Some(old.clone()), problems),
        _ => (Some(Arc::new(service)), problems),
    }
}

struct Resolving<'a, F> {
    name: &'a str,
    provider: Provider,
    declared: &'a declare::Service,
    find: F,
    depth: usize,
    size: usize,
    problems: Vec<Diagnostic>,
}

impl<F: Fn(&str) -> Result<Arc<Service>, String>> Resolving<'_, F> {
    fn problem(&mut self, error: bool, code: &'static str, option: &str, message: String) {
        let origin = origin_of(&self.declared.source, self.provider, option);
        let problem = if error { Diagnostic::error(code, message) } else { Diagnostic::warning(code, message) };
        self.problems.push(problem.with_origin(origin));
    }

    /// A service inside; one that cannot be used is told, and `gets` what comes of it.
    fn service(&mut self, option: &str, wanted: &str, then: &str) -> Option<Arc<Service>> {
        let name = self.name;
        if wanted.is_empty() {
            self.problem(true, "unknown_service", option, format!("service `{name}`: its `{option}` names no service"));
            return None;
        }
        match (self.find)(wanted) {
            Ok(service) => {
                let (depth, size) = service.extent();
                if depth + 1 < MAX_DEPTH && self.size + size <= MAX_SIZE {
                    self.depth = self.depth.max(depth + 1);
                    self.size += size;
                    return Some(service);
                }
                let message = format!(
                    "service `{name}` names the service `{wanted}`, with which it is nested deeper than {MAX_DEPTH} or made of \
                     more than {MAX_SIZE}: {then}"
                );
                self.problem(true, "nested_too_deep", option, message);
                None
            }
            Err(why) => {
                let message = format!("service `{name}` names the service `{wanted}`, which {why}: {then}");
                self.problem(true, "unknown_service", option, message);
                None
            }
        }
    }

    fn refused(&mut self, option: &str, why: &str) {
        let message = format!("service `{}` is refused: {why}", self.name);
        self.problem(true, "bad_service", option, message);
    }

    fn children(&mut self, option: &str, declared: &[declare::WeightedService]) -> Option<Vec<Child>> {
        let mut children: Vec<Child> = Vec::with_capacity(declared.len());
        for wanted in declared {
            let weight = wanted.weight.unwrap_or(1);
            let service = self.service(option, &wanted.name, "the others get its requests");
            // as in Traefik, one without a weight is passed over
            if let Some(service) = service.filter(|_| weight > 0) {
                children.push(Child { name: wanted.name.clone(), weight, service });
            }
        }
        if children.is_empty() {
            self.refused(option, "it is made of no service that could answer");
            return None;
        }
        Some(children)
    }

    fn mirroring(&mut self, declared: &declare::Mirroring) -> Option<CompositeKind> {
        let service = self.service("mirroring", &declared.service, "nobody answers");
        let mut mirrors = Vec::with_capacity(declared.mirrors.len());
        for mirror in &declared.mirrors {
            let Some(percent) = u8::try_from(mirror.percent).ok().filter(|percent| *percent <= 100) else {
                self.refused("mirroring", &format!("expected a `percent` from 0 to 100, got `{}`", mirror.percent));
                return None;
            };
            if let Some(service) = self.service("mirroring", &mirror.name, "it gets no copies") {
                mirrors.push(Mirror { percent, service });
            }
        }
        let Some(service) = service else {
            self.refused("mirroring", "it has no service that could answer");
            return None;
        };
        let max_body = u64::try_from(declared.max_body_size).ok();
        Some(CompositeKind::Mirroring { service, mirrors, with_body: declared.mirror_body, max_body })
    }

    fn failover(&mut self, declared: &declare::Failover) -> Option<CompositeKind> {
        let service = self.service("failover", &declared.service, "its fallback answers");
        let fallback = self.service("failover", &declared.fallback, "there is nothing to fall back on");
        let mut statuses = Vec::new();
        for text in declared.errors.iter().flat_map(|errors| &errors.status) {
            match declare::status_range(text) {
                Ok(range) => statuses.push(range),
                Err(why) => {
                    self.refused("failover", &why);
                    return None;
                }
            }
        }
        if !statuses.is_empty() {
            let message = format!(
                "service `{}`: its `errors.status` is for requests without a body; one with a body keeps the first \
                 service's answer",
                self.name
            );
            self.problem(false, "not_served", "failover", message);
        }
        if service.is_none() && fallback.is_none() {
            self.refused("failover", "it is made of no service that could answer");
            return None;
        }
        Some(CompositeKind::Failover { service, fallback, statuses })
    }
}
