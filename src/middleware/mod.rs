//! What is done to a request before a server is chosen, and to an answer before it leaves: one
//! file for each kind, and the chain here.
//!
//! What always holds: a middleware sees an [`Exchange`] and heads, never the codec or a socket;
//! the kinds are an enum that is matched in place; entering the chain again after
//! [`Exchange::reset`] gives the same result.

mod access;
mod path;
mod redirect;
mod security;

pub use access::peer_within;
pub use redirect::Redirection;
pub use security::secure;

use crate::http::{Exchange, Made, Reason, StatusCode};
use crate::table::{Middleware, MiddlewareKind, Ready};
use std::sync::Arc;

/// Runs a router's middlewares on a request, in order, until one answers.
pub fn enter(middlewares: &[Arc<Middleware>], exchange: &mut Exchange) -> Option<Made> {
    for middleware in middlewares {
        match &middleware.kind {
            MiddlewareKind::StripPrefix { prefixes } => path::strip_prefix(prefixes, exchange),
            MiddlewareKind::AddPrefix { prefix } => path::add_prefix(prefix, exchange),
            MiddlewareKind::RedirectScheme { scheme, port, permanent } => {
                let made = redirect::redirect_scheme(scheme, port, *permanent, exchange);
                if made.is_some() {
                    return made;
                }
            }
            MiddlewareKind::RedirectRegex { replacement, permanent, status, .. } => {
                let Ready::Pattern(regex) = &middleware.ready else { return Some(internal()) };
                let made = redirect::redirect_regex(regex, replacement, *permanent, *status, exchange);
                if made.is_some() {
                    return made;
                }
            }
            MiddlewareKind::Headers { .. } => {
                if let Ready::Host(host) = &middleware.ready {
                    exchange.host = Some(host.clone());
                }
            }
            MiddlewareKind::PrefixAllowList { .. } | MiddlewareKind::PrefixDenyList { .. } => {
                let Ready::Networks(networks) = &middleware.ready else { return Some(internal()) };
                let allow = matches!(middleware.kind, MiddlewareKind::PrefixAllowList { .. });
                let made = access::check(networks, allow, exchange);
                if made.is_some() {
                    return made;
                }
            }
            MiddlewareKind::IpAllowList { reject_status_code, .. } => {
                let Ready::Networks(networks) = &middleware.ready else { return Some(internal()) };
                let status = StatusCode::from_u16(*reject_status_code).unwrap_or(StatusCode::FORBIDDEN);
                let made = access::peer_within(networks, status, exchange);
                if made.is_some() {
                    return made;
                }
            }
            MiddlewareKind::Refuse { status } => {
                return Some(StatusCode::from_u16(*status).map_or_else(|_| internal(), access::refuse));
            }
            // A table has none of these; should one appear, the request is not served without it.
            MiddlewareKind::NotServed(_) => return Some(internal()),
        }
    }
    None
}

fn internal() -> Made {
    Made::status(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal)
}

#[cfg(test)]
mod tests;
