//! What the served options of the reference set: drafts of routers, services and middlewares, and
//! the small functions by which the reference fills them.

use super::options::Value;
use crate::declare;
use std::sync::Arc;

/// A router as far as its tags say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouterDraft {
    /// The router.
    pub router: declare::Router,
    /// Index texts of `tls.domains[…]` in the order of the domains.
    domain_indexes: Vec<Arc<str>>,
    /// `tls` was given a value that is not true: what stands below it does not count.
    tls_off: bool,
}

impl RouterDraft {
    /// The router, with the sections that were switched off taken out.
    pub fn finish(mut self) -> declare::Router {
        if self.tls_off {
            self.router.tls = None;
        }
        self.router
    }
}

/// What a service's tags say before its instances give it servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceDraft {
    /// `passHostHeader`; Traefik's default is true.
    pub pass_host_header: Option<bool>,
    /// `server.scheme`.
    pub scheme: Option<Arc<str>>,
    /// `server.port`, as written.
    pub port: Option<Arc<str>>,
    /// `server.url`.
    pub url: Option<Arc<str>>,
    /// `server.weight`.
    pub weight: Option<u32>,
}

/// The served kinds of middleware, as far as its tags say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MiddlewareDraft {
    /// `stripPrefix.prefixes`.
    pub strip_prefixes: Vec<Arc<str>>,
    /// `addPrefix.prefix`.
    pub add_prefix: Arc<str>,
    /// `redirectScheme.scheme`.
    pub redirect_scheme: Arc<str>,
    /// `redirectScheme.port`.
    pub redirect_port: Arc<str>,
    /// `redirectScheme.permanent`.
    pub redirect_permanent: bool,
}

/// What applying an option came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It acts.
    Served,
    /// It is a form of Traefik's that is not served yet.
    NotServed,
}

/// Sets a value in a draft; the text is the list index in the path, or empty. The error says what
/// was expected and what was found.
pub type Apply<T> = fn(&mut T, &str, Value) -> Result<Applied, String>;

/// Sets a value.
pub(super) fn put<T>(place: &mut T, value: T) -> Result<Applied, String> {
    *place = value;
    Ok(Applied::Served)
}

pub(super) fn text(value: Value) -> Arc<str> {
    if let Value::Text(text) = value { text } else { Arc::default() }
}

/// An empty port or scheme is none.
pub(super) fn some(value: Value) -> Option<Arc<str>> {
    Some(text(value)).filter(|t| !t.is_empty())
}

pub(super) fn list(value: Value) -> Vec<Arc<str>> {
    if let Value::List(list) = value { list } else { Vec::new() }
}

pub(super) fn int(value: &Value) -> i64 {
    if let Value::Int(number) = *value { number } else { 0 }
}

pub(super) fn truth(value: &Value) -> bool {
    *value == Value::Bool(true)
}

pub(super) fn weight(value: &Value) -> Result<u32, String> {
    let number = int(value);
    u32::try_from(number).map_err(|_| format!("expected a weight from 0 to {}, got `{number}`", u32::MAX))
}

pub(super) fn strategy(value: Value) -> Result<Applied, String> {
    Ok(if matches!(&*text(value), "wrr" | "") { Applied::Served } else { Applied::NotServed })
}

pub(super) fn tls(draft: &mut RouterDraft) -> &mut declare::RouterTls {
    draft.router.tls.get_or_insert_default()
}

pub(super) fn set_tls(draft: &mut RouterDraft, value: &Value) -> Result<Applied, String> {
    draft.tls_off = !truth(value);
    if !draft.tls_off {
        tls(draft);
    }
    Ok(Applied::Served)
}

/// The domain of a list index. Traefik takes the indexes for names: their order counts, not their number.
pub(super) fn domain<'a>(draft: &'a mut RouterDraft, index: &str) -> &'a mut declare::Domain {
    let at = draft.domain_indexes.iter().position(|known| **known == *index).unwrap_or_else(|| {
        draft.domain_indexes.push(index.into());
        tls(draft).domains.push(declare::Domain::default());
        draft.domain_indexes.len() - 1
    });
    &mut tls(draft).domains[at]
}
