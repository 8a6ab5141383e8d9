//! What one catalog service declares by itself, before it meets the others: definitions by name
//! (merged over the service's instances), and its shares in pools that several services may form.

use super::names::namespace;
use super::pool::{PoolKey, Share};
use crate::catalog::{Instance, ServiceKey};
use crate::declare::{self, Dialect, LoadBalancer, Source};
use crate::diagnostic::{Diagnostic, Origin};
use crate::model::Provider;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A definition, or that there is one that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Def<T> {
    /// It can be used.
    Good(Arc<T>),
    /// It was refused; what could be read of it.
    Broken(Arc<T>),
}

impl<T> Def<T> {
    /// What was read.
    pub fn value(&self) -> &Arc<T> {
        match self {
            Self::Good(value) | Self::Broken(value) => value,
        }
    }
}

/// Something that several services or instances may define under one name.
pub trait Define: Clone + PartialEq {
    /// The word for it in messages; no two kinds have the same.
    const WORD: &'static str;
    /// The begin of the code of a conflict.
    const CODE: &'static str;
    /// Where it was declared.
    fn source(&self) -> &Source;
    /// Whether both say the same, servers apart.
    fn agrees(&self, other: &Self) -> bool {
        self == other
    }
    /// Takes over what may be joined: servers. True when something was added.
    fn join(&mut self, _: &Self) -> bool {
        false
    }
}

macro_rules! define {
    ($kind:ty, $word:literal, $code:literal) => {
        impl Define for $kind {
            const WORD: &'static str = $word;
            const CODE: &'static str = $code;
            fn source(&self) -> &Source {
                &self.source
            }
        }
    };
}

define!(declare::Router, "router", "router");
define!(declare::Middleware, "middleware", "middleware");
define!(declare::TcpRouter, "TCP router", "router");
define!(declare::TcpMiddleware, "TCP middleware", "middleware");
define!(declare::UdpRouter, "UDP router", "router");
define!(declare::TlsStore, "TLS store", "store");

/// A service; its servers are told apart by one of their members.
macro_rules! define_service {
    ($kind:ty, $word:literal, $key:ident, |$service:ident| $settings:expr) => {
        impl Define for $kind {
            const WORD: &'static str = $word;
            const CODE: &'static str = "service";
            fn source(&self) -> &Source {
                &self.source
            }
            fn agrees(&self, other: &Self) -> bool {
                let settings = |$service: &'_ Self| $settings;
                settings(self) == settings(other)
            }
            fn join(&mut self, other: &Self) -> bool {
                let (Some(mine), Some(theirs)) = (&mut self.load_balancer, &other.load_balancer) else { return false };
                let before = mine.servers.len();
                for server in &theirs.servers {
                    if !mine.servers.iter().any(|s| s.$key == server.$key) {
                        mine.servers.push(server.clone());
                    }
                }
                mine.servers.len() > before
            }
        }
    };
}

define_service!(declare::Service, "service", url, |service| (
    service.middlewares.clone(),
    service.load_balancer.as_ref().map(LoadBalancer::without_servers)
));
define_service!(declare::TcpService, "TCP service", address, |service| service
    .load_balancer
    .as_ref()
    .map(declare::TcpLoadBalancer::without_servers));
define_service!(declare::UdpService, "UDP service", address, |service| service.load_balancer.is_some());

/// A service with servers and Traefik's default settings.
pub fn service(servers: Vec<declare::Server>, source: Source) -> declare::Service {
    declare::Service {
        load_balancer: Some(LoadBalancer { servers, ..LoadBalancer::default() }),
        source,
        ..declare::Service::default()
    }
}

/// What one catalog service declares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fragment {
    /// By name.
    pub routers: BTreeMap<Arc<str>, Def<declare::Router>>,
    /// By name.
    pub services: BTreeMap<Arc<str>, Def<declare::Service>>,
    /// By name.
    pub middlewares: BTreeMap<Arc<str>, Def<declare::Middleware>>,
    /// By name.
    pub tcp_routers: BTreeMap<Arc<str>, Def<declare::TcpRouter>>,
    /// By name.
    pub tcp_services: BTreeMap<Arc<str>, Def<declare::TcpService>>,
    /// By name.
    pub tcp_middlewares: BTreeMap<Arc<str>, Def<declare::TcpMiddleware>>,
    /// By name.
    pub udp_routers: BTreeMap<Arc<str>, Def<declare::UdpRouter>>,
    /// By name.
    pub udp_services: BTreeMap<Arc<str>, Def<declare::UdpService>>,
    /// By name.
    pub tls_stores: BTreeMap<Arc<str>, Def<declare::TlsStore>>,
    /// Shares in pools.
    pub shares: BTreeMap<PoolKey, Vec<Share>>,
    /// What was refused or deserves a remark.
    pub problems: Vec<Diagnostic>,
}

/// Adds a definition beside those of older instances of the same service: equal ones join, the
/// first good one stays, and another that differs is a conflict (reported once a name).
pub fn add<T: Define>(
    defs: &mut BTreeMap<Arc<str>, Def<T>>,
    name: &Arc<str>,
    new: Def<T>,
    problems: &mut Vec<Diagnostic>,
) {
    let Some(present) = defs.get_mut(name) else {
        defs.insert(name.clone(), new);
        return;
    };
    match (present, new) {
        (Def::Good(old), Def::Good(new)) => {
            if !old.agrees(&new) {
                let code = format!("{}_conflict", T::CODE);
                let told = problems
                    .iter()
                    .any(|p| *p.code == *code && p.message.starts_with(&format!("{} `{name}`", T::WORD)));
                if !told {
                    problems.push(conflict::<T>(&code, name, old.source(), new.source()));
                }
            }
            // instances of one service belong together, whatever else they say
            Arc::make_mut(old).join(&new);
        }
        (Def::Good(old), Def::Broken(new)) => {
            Arc::make_mut(old).join(&new);
        }
        (present @ Def::Broken(_), Def::Good(mut new)) => {
            Arc::make_mut(&mut new).join(present.value());
            *present = Def::Good(new);
        }
        (Def::Broken(old), Def::Broken(new)) => {
            Arc::make_mut(old).join(&new);
        }
    }
}

/// The diagnostic for two definitions of one name: both sides are named.
pub fn conflict<T: Define>(code: &str, name: &str, kept: &Source, refused: &Source) -> Diagnostic {
    let place = |s: &Source| {
        format!("service `{}` (instance `{}`, namespace `{}`)", s.service, s.instance, namespace(&s.namespace))
    };
    Diagnostic::error(
        code,
        format!(
            "{} `{name}` is defined by {} and otherwise by {}; the first stays",
            T::WORD,
            place(kept),
            place(refused)
        ),
    )
    .with_origin(origin_of(refused))
    .with_help(format!("give the {} another name, or make both definitions equal", T::WORD))
}

/// The place of a declaration, for diagnostics; the provider is added by the decoder.
pub fn origin_of(source: &Source) -> Origin {
    let some = |t: &Arc<str>| Some(t.clone()).filter(|t| !t.is_empty());
    Origin {
        namespace: some(&source.namespace),
        service: some(&source.service),
        instance: some(&source.instance),
        tag: some(&source.tag),
        ..Origin::default()
    }
}

/// Where an instance declares something.
pub fn source(key: &ServiceKey, instance: &Instance, tag: &Arc<str>, dialect: Dialect) -> Source {
    Source {
        namespace: key.namespace.clone(),
        service: key.name.clone(),
        instance: instance.id.clone(),
        tag: tag.clone(),
        options: Vec::new(),
        create_index: instance.create_index,
        dialect,
        place: None,
    }
}

/// The address to dial by the provider's habits: only Consul falls back to the node's.
pub fn address(instance: &Instance, provider: Provider) -> Option<&str> {
    match provider {
        Provider::ConsulCatalog => instance.dial_address(),
        _ => Some(&*instance.address).filter(|a| !a.is_empty()),
    }
}
