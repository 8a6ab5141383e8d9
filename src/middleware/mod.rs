//! What is done to a request before a server is chosen, and to an answer before it leaves: one
//! file for each kind, and the chain here.
//!
//! What always holds: a middleware sees an [`Exchange`] and heads, never the codec or a socket;
//! the kinds are an enum that is matched in place; entering the chain again after
//! [`Exchange::reset`] gives the same result.

mod access;
mod auth;
mod headers;
mod htpasswd;
mod path;
mod prefix_redirect;
mod redirect;
mod security;

pub use access::peer_within;
use auth::{Basic, Verdict};
pub use auth::{Guard, Question, UserFiles};
pub use redirect::{REDIRECTION_PRIORITY, Redirection};
pub use security::secure;

use crate::http::{AnswerHead, Exchange, Made, Reason, StatusCode};
use crate::table::{Middleware, MiddlewareKind, Ready};
use std::sync::Arc;

/// What came of a router's middlewares.
#[derive(Debug)]
pub enum Step {
    /// The request goes on.
    On,
    /// The one at this place answered.
    Made(usize, Made),
    /// The one at this place has a question; once it is answered, the chain goes on from there.
    Ask(usize, Question),
}

/// Runs a router's middlewares on a request, in order, until one answers. For who has the time for
/// slow hashes.
pub fn enter(middlewares: &[Arc<Middleware>], exchange: &mut Exchange, files: &UserFiles) -> Option<Made> {
    let guard = Guard::new(files.clone());
    let mut from = 0;
    loop {
        match step(middlewares, from, exchange, &guard) {
            Step::On => return None,
            Step::Made(_, made) => return Some(made),
            Step::Ask(at, question) => {
                question.answer(&guard);
                from = at;
            }
        }
    }
}

/// Runs them from a place in the chain on.
pub fn step(middlewares: &[Arc<Middleware>], from: usize, exchange: &mut Exchange, guard: &Guard) -> Step {
    for (at, middleware) in middlewares.iter().enumerate().skip(from) {
        if let MiddlewareKind::BasicAuth { users_file, realm, remove_header, header_field, plain, .. } =
            &middleware.kind
        {
            let Ready::Users(users) = &middleware.ready else { return Step::Made(at, internal()) };
            let (file, remove_header, plain) = (users_file, *remove_header, *plain);
            match auth::check(&Basic { users, file, realm, remove_header, header_field, plain }, exchange, guard) {
                Verdict::In => {}
                Verdict::Out(made) => return Step::Made(at, made),
                Verdict::Ask(question) => return Step::Ask(at, question),
            }
        } else if let Some(made) = one(middleware, exchange) {
            return Step::Made(at, made);
        }
    }
    Step::On
}

/// What is done to an answer on its way to the client, by those middlewares that the request passed, the last one first.
/// Answers that one of them made pass those that stand before it.
pub fn leave(passed: &[Arc<Middleware>], exchange: &Exchange, head: &mut AnswerHead) {
    for middleware in passed.iter().rev() {
        if let Ready::Headers(ready) = &middleware.ready {
            headers::leave(ready, exchange, head);
        }
    }
}

/// Runs one that has no questions.
fn one(middleware: &Middleware, exchange: &mut Exchange) -> Option<Made> {
    match &middleware.kind {
        MiddlewareKind::StripPrefix { prefixes } => path::strip_prefix(prefixes, exchange),
        MiddlewareKind::LeadingSlash {} => path::leading_slash(exchange),
        MiddlewareKind::AddPrefix { prefix } => path::add_prefix(prefix, exchange),
        MiddlewareKind::RedirectScheme { scheme, port, permanent } => {
            let made = redirect::redirect_scheme(scheme, port, *permanent, exchange);
            if made.is_some() {
                return made;
            }
        }
        MiddlewareKind::RedirectRegex { replacement, permanent, .. } => {
            let Ready::Pattern(regex) = &middleware.ready else { return Some(internal()) };
            let made = redirect::redirect_regex(regex, replacement, *permanent, exchange);
            if made.is_some() {
                return made;
            }
        }
        MiddlewareKind::PrefixRedirect { url, status, strip, prepend, port } => {
            let Ok(status) = StatusCode::from_u16(*status) else { return Some(internal()) };
            let to = prefix_redirect::Redirect { url, strip, prepend, port: port.as_deref() };
            return Some(to.answer(status, exchange));
        }
        MiddlewareKind::Headers(_) => {
            let Ready::Headers(ready) = &middleware.ready else { return Some(internal()) };
            return headers::enter(ready, exchange);
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
        MiddlewareKind::NotServed(_) | MiddlewareKind::BasicAuth { .. } => return Some(internal()),
    }
    None
}

fn internal() -> Made {
    Made::status(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal)
}

#[cfg(test)]
mod tests;
