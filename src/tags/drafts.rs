//! Drafts: what the labels of one registration declare, as far as it could be read.

use crate::declare::{self, MiddlewareKind};
use crate::diagnostic::{Diagnostic, Origin};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A definition as far as it could be read.
#[derive(Debug, Clone)]
pub struct Draft<T> {
    /// Its name in the spelling of its first label.
    pub name: Arc<str>,
    /// What was read.
    pub value: T,
    /// Something of it could not be read.
    pub broken: bool,
    /// The tag to show for it: a router's rule, else its first.
    pub tag: Arc<str>,
}

/// A service, and what its servers are besides the registered address.
#[derive(Debug, Clone, Default)]
pub struct ServiceDraft<T> {
    /// The service without servers.
    pub service: T,
    /// `loadBalancer.server`.
    pub server: ServerDraft,
}

/// What a service's tags say of its server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerDraft {
    /// `scheme`; empty means `http`.
    pub scheme: Arc<str>,
    /// `port` as written; empty means the registered one.
    pub port: Arc<str>,
    /// `url`; empty means one made of the registered address.
    pub url: Arc<str>,
    /// `weight`.
    pub weight: Option<u32>,
    /// `preservePath`.
    pub preserve_path: bool,
    /// `tls` of a TCP server.
    pub tls: bool,
}

/// Definitions by folded name.
pub type ByName<T> = BTreeMap<String, Draft<T>>;

/// Everything that the labels of one registration declare.
#[derive(Debug, Clone, Default)]
pub struct Drafts {
    /// `http.routers`.
    pub routers: ByName<declare::Router>,
    /// `http.services`.
    pub services: ByName<ServiceDraft<declare::Service>>,
    /// `http.middlewares`.
    pub middlewares: ByName<MiddlewareKind>,
    /// `tcp.routers`.
    pub tcp_routers: ByName<declare::TcpRouter>,
    /// `tcp.services`.
    pub tcp_services: ByName<ServiceDraft<declare::TcpService>>,
    /// `tcp.middlewares`.
    pub tcp_middlewares: ByName<declare::TcpMiddleware>,
    /// `udp.routers`.
    pub udp_routers: ByName<declare::UdpRouter>,
    /// `udp.services`.
    pub udp_services: ByName<ServiceDraft<declare::UdpService>>,
    /// `tls.stores`.
    pub tls_stores: ByName<declare::TlsStore>,
    /// What could not be read, or is not served.
    pub problems: Vec<Diagnostic>,
}

impl<T> Draft<T> {
    /// Where it is named.
    pub(super) fn origin(&self) -> Origin {
        let key = self.tag.split('=').next().unwrap_or_default();
        let folded = key.to_lowercase();
        let at = folded.find(&format!(".{}", self.name.to_lowercase())).and_then(|at| folded.get(..=at));
        let column = at.and_then(|before| u32::try_from(before.chars().count() + 1).ok());
        Origin { tag: Some(self.tag.clone()).filter(|tag| !tag.is_empty()), column, ..Origin::default() }
    }

    /// The same definition, made into something else.
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Draft<U> {
        Draft { name: self.name, value: make(self.value), broken: self.broken, tag: self.tag }
    }
}
