//! What is done to a request before a server is chosen, and to an answer before it leaves: one
//! file for each kind, and the chain here.
//!
//! What always holds: a middleware sees an [`Exchange`] and heads, never the codec or a socket;
//! the kinds are an enum that is matched in place; entering the chain again after
//! [`Exchange::reset`] gives the same result.

mod access;
mod auth;
mod breaker;
mod headers;
mod htpasswd;
mod in_flight;
mod memory;
mod path;
mod prefix_redirect;
mod rate;
mod redirect;
mod replace;
mod security;
mod source;

pub use access::peer_within;
use auth::{Basic, Verdict};
pub use auth::{Guard, Question, UserFiles};
use memory::Hold;
pub use memory::{Held, Memories, Memory};
pub use redirect::{REDIRECTION_PRIORITY, Redirection};
pub use security::secure;

use crate::http::{AnswerHead, Exchange, Made, Reason, StatusCode};
use crate::table::{Middleware, MiddlewareKind, Ready};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What came of a router's middlewares.
#[derive(Debug)]
pub enum Step {
    /// The request goes on.
    On,
    /// The one at this place answered.
    Made(usize, Made),
    /// The one at this place has a question; once it is answered, the chain goes on from there.
    Ask(usize, Question),
    /// The one before this place lets it pass after this time.
    Wait(usize, Duration),
}

/// What the walk of one request needs besides the request.
#[derive(Debug)]
pub struct Walk<'a> {
    /// What is known of users.
    pub guard: &'a Guard,
    /// What the router's middlewares remember; those of which nothing is there let every request pass.
    pub memories: &'a Memories,
    /// Where the request is counted.
    pub held: &'a mut Held,
}

/// Runs a router's middlewares on a request, in order, until one answers. For who has the time for
/// slow hashes.
pub fn enter(middlewares: &[Arc<Middleware>], exchange: &mut Exchange, files: &UserFiles) -> Option<Made> {
    let guard = &Guard::new(files.clone());
    let mut walk = Walk { guard, memories: &Memories::default(), held: &mut Held::default() };
    let mut from = 0;
    loop {
        match step(middlewares, from, exchange, &mut walk) {
            Step::Wait(next, _) => from = next,
            Step::On => return None,
            Step::Made(_, made) => return Some(made),
            Step::Ask(at, question) => {
                question.answer(guard);
                from = at;
            }
        }
    }
}

/// Runs them from a place in the chain on.
pub fn step(middlewares: &[Arc<Middleware>], from: usize, exchange: &mut Exchange, walk: &mut Walk<'_>) -> Step {
    for (at, middleware) in middlewares.iter().enumerate().skip(from) {
        if let MiddlewareKind::BasicAuth { users_file, realm, remove_header, header_field, plain, .. } =
            &middleware.kind
        {
            let Ready::Users(users) = &middleware.ready else { return Step::Made(at, internal()) };
            let (file, remove_header, plain) = (users_file, *remove_header, *plain);
            match auth::check(&Basic { users, file, realm, remove_header, header_field, plain }, exchange, walk.guard) {
                Verdict::In => {}
                Verdict::Out(made) => return Step::Made(at, made),
                Verdict::Ask(question) => return Step::Ask(at, question),
            }
        } else if matches!(middleware.ready, Ready::Rate(_) | Ready::InFlight(_) | Ready::Breaker(_)) {
            match limit(middleware, exchange, walk) {
                Ok(Duration::ZERO) => {}
                Ok(wait) => return Step::Wait(at + 1, wait),
                Err(made) => return Step::Made(at, made),
            }
        } else if let Some(made) = one(middleware, exchange) {
            return Step::Made(at, made);
        }
    }
    Step::On
}

/// Runs one that remembers; gives the time that the request has to wait.
fn limit(middleware: &Arc<Middleware>, exchange: &Exchange, walk: &mut Walk<'_>) -> Result<Duration, Made> {
    let Some(memory) = walk.memories.get(&middleware.id).filter(|memory| !walk.held.has(memory)) else {
        return Ok(Duration::ZERO);
    };
    let (wait, source) = match (&**memory, &middleware.ready) {
        (Memory::Rate(buckets), Ready::Rate(ready)) => (rate::check(buckets, ready, exchange)?, None),
        (Memory::InFlight(counts), Ready::InFlight(ready)) => {
            (Duration::ZERO, Some(in_flight::check(counts, ready, exchange)?))
        }
        (Memory::Breaker(breaker), Ready::Breaker(ready)) => {
            if !breaker.passes(ready, Instant::now()) {
                return Err(Made::status(ready.status, Reason::CircuitOpen));
            }
            (Duration::ZERO, None)
        }
        _ => return Err(internal()),
    };
    walk.held.0.push(Hold { memory: memory.clone(), middleware: middleware.clone(), source });
    Ok(wait)
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
        MiddlewareKind::IpAllowList { .. } | MiddlewareKind::IpWhiteList { .. } => {
            let Ready::Allowed(networks, address) = &middleware.ready else { return Some(internal()) };
            let status = match middleware.kind {
                MiddlewareKind::IpAllowList { reject_status_code, .. } => reject_status_code,
                _ => 0,
            };
            if !source::is_within(networks, address, exchange) {
                return Some(access::refuse(StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN)));
            }
        }
        MiddlewareKind::ReplacePath { path } => replace::replace_path(path, exchange),
        MiddlewareKind::ReplacePathRegex { replacement, .. } => {
            let Ready::Pattern(regex) = &middleware.ready else { return Some(internal()) };
            return replace::replace_path_regex(regex, replacement.trim(), exchange);
        }
        MiddlewareKind::StripPrefixRegex { .. } => {
            let Ready::Patterns(expressions) = &middleware.ready else { return Some(internal()) };
            return replace::strip_prefix_regex(expressions, exchange);
        }
        // It is asked when a try has failed.
        MiddlewareKind::Retry(_) => {}
        MiddlewareKind::Refuse { status } => {
            return Some(StatusCode::from_u16(*status).map_or_else(|_| internal(), access::refuse));
        }
        // A table has none of these; should one appear, the request is not served without it.
        MiddlewareKind::NotServed(_)
        | MiddlewareKind::Chain { .. }
        | MiddlewareKind::BasicAuth { .. }
        | MiddlewareKind::RateLimit(_)
        | MiddlewareKind::InFlightReq(_)
        | MiddlewareKind::CircuitBreaker(_) => return Some(internal()),
    }
    None
}

fn internal() -> Made {
    Made::status(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal)
}

#[cfg(test)]
mod tests;
