//! Hosts that built-in routers have: whoever else asks for one is told.

use super::Router;
use super::index::Entry;
use super::resolve::origin;
use crate::declare::Dynamic;
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use crate::rule::{self, Kind, Syntax};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A host of a built-in router, and which router.
pub(super) type Reserved = Vec<(String, Arc<str>)>;

/// The hosts of built-in routers, each with the first of them.
pub(super) fn hosts(internal: &Dynamic) -> Reserved {
    let mut reserved = Reserved::new();
    for (name, router) in &internal.http.routers {
        let Ok(rule) = rule::parse(&router.rule, Kind::Http, Syntax::V3) else { continue };
        let hosts: BTreeSet<String> = rule::hints(&rule).into_iter().filter_map(|hint| hint.host).collect();
        let new = hosts.into_iter().filter(|host| !reserved.iter().any(|(known, _)| known == host));
        let new: Vec<_> = new.map(|host| (host, name.clone())).collect();
        reserved.extend(new);
    }
    reserved
}

/// What is wrong with an entry that asks for a host of a built-in router: both are named.
pub(super) fn claims(entry: &Entry, reserved: &Reserved) -> Vec<Diagnostic> {
    if entry.router.provider == Provider::Internal {
        return Vec::new();
    }
    let asks = |host: &str| entry.hints.iter().any(|hint| hint.host.as_deref() == Some(host));
    reserved.iter().filter(|(host, _)| asks(host)).map(|(host, name)| claim(name, host, &entry.router)).collect()
}

fn claim(reserved: &str, host: &str, router: &Arc<Router>) -> Diagnostic {
    let source = &router.declared.source;
    let message = format!(
        "router `{}` (service `{}`) asks for the host `{host}`, which belongs to the built-in router `{reserved}@{}`: it gets none of its requests there",
        router.id,
        source.service,
        Provider::Internal
    );
    Diagnostic::error("reserved_host", message)
        .with_origin(origin(source, router.provider))
        .with_help("give the service another host, or take the host out of `FQDN` and `NOMAD_ADDR_EXTRA`")
}
