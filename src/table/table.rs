//! The routing table (stand-in: routers in order of priority, tried one after another).

use super::Router;
use crate::rule::RequestView;
use std::sync::Arc;

/// Routers that are live together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    routers: Vec<Arc<Router>>,
}

impl Table {
    /// A table of these routers.
    pub fn from_routers(mut routers: Vec<Arc<Router>>) -> Self {
        routers.sort_by_key(|router| std::cmp::Reverse(router.priority));
        Self { routers }
    }

    /// The router that takes the request: the one of highest priority whose rule matches.
    pub fn find(&self, entry_point: &str, tls: bool, request: &impl RequestView) -> Option<&Arc<Router>> {
        self.routers.iter().find(|router| {
            router.tls == tls
                && router.entry_points.iter().any(|name| **name == *entry_point)
                && matches(&router.rule, request)
        })
    }
}

/// Understands ``Host(`…`)`` and ``PathPrefix(`…`)`` joined by `&&`.
fn matches(rule: &str, request: &impl RequestView) -> bool {
    rule.split("&&").all(|part| {
        let argument = part.split('`').nth(1).unwrap_or("");
        match part.trim().split('(').next() {
            Some("Host") => request.host() == argument,
            Some("PathPrefix") => request.path().starts_with(argument),
            _ => false,
        }
    })
}
