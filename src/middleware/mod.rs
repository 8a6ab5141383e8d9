//! What is done to a request before a server is chosen, and to an answer before it leaves: one
//! file for each kind, and the chain here.
//!
//! What always holds: a middleware sees an [`Exchange`] and heads, never the codec or a socket;
//! the kinds are an enum that is matched in place; entering the chain again after
//! [`Exchange::reset`] gives the same result.

mod path;
mod redirect;
mod security;

pub use redirect::Redirection;
pub use security::secure;

use crate::http::{Exchange, Made, Reason, StatusCode};
use crate::table::{Middleware, MiddlewareKind};
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
            // A table has none of these; should one appear, the request is not served without it.
            MiddlewareKind::NotServed(_) => {
                return Some(Made::status(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
