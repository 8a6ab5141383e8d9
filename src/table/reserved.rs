//! Hosts that built-in routers have: whoever else asks for one is told.

use super::Router;
use super::index::Index;
use super::resolve::origin;
use crate::declare::Dynamic;
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use crate::rule::{self, Kind, Syntax};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One error for each service that asks for a host of a built-in router, with both named. It costs
/// what those hosts have of routers, whatever the size of the table.
pub(super) fn claims(index: &Index, internal: &Dynamic) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut told = BTreeSet::new();
    for (name, reserved) in &internal.http.routers {
        let Ok(rule) = rule::parse(&reserved.rule, Kind::Http, Syntax::V3) else { continue };
        let hosts: BTreeSet<String> = rule::hints(&rule).into_iter().filter_map(|hint| hint.host).collect();
        for host in &hosts {
            for router in index.of_host(host).filter(|router| router.provider != Provider::Internal) {
                let source = &router.declared.source;
                if told.insert((host.clone(), router.provider, source.namespace.clone(), source.service.clone())) {
                    problems.push(claim(name, host, router));
                }
            }
        }
    }
    problems
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
