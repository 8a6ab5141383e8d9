//! Whether two answers are one, and what is known to differ.

use super::witness::{Kind, Witness};
use crate::explain::{Brief, End};
use crate::table::{MiddlewareKind, Router, Service, Strategy};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What two answers come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The same.
    Same,
    /// It is known to differ: a stable word, and why.
    Gap(&'static str, &'static str),
    /// Otherwise.
    Differs(&'static str),
}

/// Shares that are nearer than this are equal: weights are whole numbers.
const NEAR: f64 = 0.002;

/// Compares answers.
#[derive(Default)]
pub struct Judge {
    /// In what two services differ, by their names.
    pools: HashMap<(Arc<str>, Arc<str>), Option<&'static str>>,
}

impl Judge {
    /// Compares what both tables do to a request.
    pub fn judge(&mut self, witness: &Witness, old: &Brief, new: &Brief) -> Verdict {
        let is = |brief: &Brief, served: bool| {
            brief.router.is_some() && (matches!(brief.end, End::Served { .. }) || !served)
        };
        if old.router.is_none() && new.router.is_none() {
            return match old.end == new.end {
                true => Verdict::Same,
                false => Verdict::Differs("one of both refuses it"),
            };
        }
        let verdict = self.compare(old, new);
        match verdict {
            Verdict::Differs(_) if new.router.as_ref().is_some_and(|router| !is_own(router)) => own_router(),
            Verdict::Differs(_)
                if witness.kind == Kind::ForwardedFor
                    && matches!(old.end, End::Denied(_))
                    && !matches!(new.end, End::Denied(_)) =>
            {
                Verdict::Gap(
                    "forwarded_for",
                    "Fabio tests the addresses in X-Forwarded-For too, Traefik the client's own address alone",
                )
            }
            Verdict::Differs(_) if witness.kind == Kind::HostCase && new.router.is_some() && old.router.is_none() => {
                Verdict::Gap("host_case", "with globs off Fabio compares hosts byte by byte, Traefik in lower case")
            }
            Verdict::Differs(_)
                if witness.kind == Kind::TrailingDot && new.router.is_some() && old.router.is_none() =>
            {
                Verdict::Gap(
                    "trailing_dot",
                    "with globs off Fabio compares hosts byte by byte; Traefik takes a Host with a dot behind it for the same",
                )
            }
            Verdict::Same if witness.kind == Kind::OtherPort && is(new, false) => Verdict::Gap(
                "port_in_host",
                "plain Fabio answers 404 where the Host names a port that its tag does not; rust-lb and Traefik serve it",
            ),
            Verdict::Same if witness.kind == Kind::TrailingDot && is(new, false) => Verdict::Gap(
                "trailing_dot",
                "plain Fabio answers 404 to a Host with a dot behind it; rust-lb and Traefik serve it",
            ),
            verdict => verdict,
        }
    }

    fn compare(&mut self, old: &Brief, new: &Brief) -> Verdict {
        if old.auth != new.auth {
            return Verdict::Differs("other users are let in");
        }
        if let (Some(a), Some(b)) = (&old.router, &new.router)
            && !unseen(a).eq(unseen(b))
        {
            return Verdict::Differs("another middleware");
        }
        match (&old.end, &new.end) {
            (a, b) if a == b && !matches!(a, End::Served { .. }) => Verdict::Same,
            (End::Redirect { status: a, location }, End::Redirect { status: b, location: there }) => {
                redirects((*a, location), (*b, there))
            }
            (End::Served { uri, host }, End::Served { uri: path, host: name }) => {
                let (Some(a), Some(b)) = (&old.router, &new.router) else { return Verdict::Differs("another pool") };
                let key = (a.service.id.clone(), b.service.id.clone());
                if let Some(what) = self.pools.entry(key).or_insert_with(|| other_pool(&a.service, &b.service)) {
                    return Verdict::Differs(what);
                }
                if host != name {
                    return Verdict::Differs("another Host for the server");
                }
                if uri != path {
                    return match () {
                        () if joins(a)
                            && uri.replacen("/?", "?", 1).trim_end_matches('/') == path.trim_end_matches('/') =>
                        {
                            Verdict::Gap(
                                "strip_prepend",
                                "of a path of which nothing is left, Fabio sends the new prefix with a slash behind it, Traefik without",
                            )
                        }
                        () if decoded(uri) == decoded(path) => encoding(),
                        () => Verdict::Differs("another path for the server"),
                    };
                }
                if a.service.strategy != b.service.strategy {
                    return match (&a.service.strategy, &b.service.strategy) {
                        (Strategy::IpHash, Strategy::Hrw) => Verdict::Gap(
                            "client_hash",
                            "clients stay on one server in both, but not on the same one as before",
                        ),
                        _ => Verdict::Differs("another way to choose a server"),
                    };
                }
                Verdict::Same
            }
            (End::NoRoute, _) if old.router.as_ref().is_some_and(redirects_always) => Verdict::Gap(
                "redirect_to_itself",
                "a request that is at the redirect's target already: rust-lb answers 404 by the old tag, by the new one the service gets it",
            ),
            (End::NoRoute, _) => Verdict::Differs("a request that was not routed is"),
            (_, End::NoRoute) => Verdict::Differs("a request that was routed is not"),
            (End::Denied(_), _) => Verdict::Differs("a client that was not let in is"),
            (_, End::Denied(_)) => Verdict::Differs("a client that was let in is not"),
            _ => Verdict::Differs("another kind of answer"),
        }
    }
}

fn redirects(old: (u16, &str), new: (u16, &str)) -> Verdict {
    let without = |location: &str| location.replacen(":80/", "/", 1);
    if old.0 != new.0 && (is_permanent(old.0).is_none() || is_permanent(old.0) != is_permanent(new.0)) {
        return Verdict::Differs("another status of the redirect");
    }
    match (old.0 == new.0, old.1 == new.1) {
        (true, true) => Verdict::Same,
        (false, true) => Verdict::Gap(
            "redirect_status",
            "Traefik redirects with 301 or 302, and with 308 or 307 where the method is not GET",
        ),
        _ if without(old.1) == new.1 => {
            Verdict::Gap("redirect_port", "a port 80 in the request's Host is not taken along to the target")
        }
        _ if old.0 == new.0 && new.1.strip_suffix('?') == Some(old.1) => {
            Verdict::Gap("empty_query", "a `?` without a query behind it is taken along to the target")
        }
        _ if decoded(old.1) == decoded(new.1) => encoding(),
        _ => Verdict::Differs("another target of the redirect"),
    }
}

/// Whether a redirect is for ever; `None` for statuses that say something else.
fn is_permanent(status: u16) -> Option<bool> {
    match status {
        301 | 308 => Some(true),
        302 | 307 => Some(false),
        _ => None,
    }
}

/// What a router takes that was there before.
pub fn own_router() -> Verdict {
    Verdict::Gap("own_router", "a router of the service's own `traefik.*` tags takes it; Fabio does not know that one")
}

/// Whether a router is of those that a conversion makes.
pub fn is_own(router: &Arc<Router>) -> bool {
    ["fb-", "site-"].iter().any(|begin| router.id.starts_with(begin))
}

/// What a router's requests pass of which a [`Brief`] does not show all.
fn unseen(router: &Arc<Router>) -> impl Iterator<Item = &MiddlewareKind> {
    use MiddlewareKind as M;
    let seen = |kind: &MiddlewareKind| match kind {
        M::StripPrefix { .. } | M::StripPrefixRegex { .. } | M::AddPrefix { .. } | M::LeadingSlash {} => true,
        M::ReplacePath { .. } | M::ReplacePathRegex { .. } => true,
        M::RedirectScheme { .. } | M::RedirectRegex { .. } | M::PrefixRedirect { .. } => true,
        M::PrefixAllowList { .. } | M::PrefixDenyList { .. } | M::IpAllowList { .. } | M::IpWhiteList { .. } => true,
        M::Refuse { .. } => true,
        M::Headers(fields) => {
            let mut rest = fields.clone();
            rest.custom_request_headers.retain(|name, _| !name.eq_ignore_ascii_case("host"));
            *rest == crate::declare::Headers::default()
        }
        _ => false,
    };
    router.middlewares.iter().map(|middleware| &middleware.kind).filter(move |kind| !seen(kind))
}

/// In what two services differ, whichever server a request gets.
fn other_pool(old: &Service, new: &Service) -> Option<&'static str> {
    if !same_shares(old, new) {
        return Some("another pool, or other shares");
    }
    let skips =
        |service: &Service| service.transport.as_ref().is_some_and(|transport| transport.tls.insecure_skip_verify);
    // the one that is built in has another name
    if !(skips(old) && skips(new)) && old.transport != new.transport {
        return Some("the servers are reached otherwise");
    }
    let kept = old.sticky == new.sticky
        && old.composite == new.composite
        && old.health == new.health
        && old.passive == new.passive
        && old.limit == new.limit;
    (!kept).then_some("servers are chosen or asked otherwise")
}

fn encoding() -> Verdict {
    Verdict::Gap("encoding", "the path is written with other percent-encodings, which say the same")
}

/// A text without percent-encoding.
fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    out.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                out.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
            }
            None => {
                out.push(b'%');
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
    out
}

/// Whether a router cuts one prefix off and puts another before.
fn joins(router: &Arc<Router>) -> bool {
    router.middlewares.iter().any(|m| matches!(m.kind, MiddlewareKind::LeadingSlash {}))
}

fn redirects_always(router: &Arc<Router>) -> bool {
    router.middlewares.iter().any(|m| matches!(m.kind, MiddlewareKind::PrefixRedirect { .. }))
}

/// The servers of a service with their shares.
fn shares(service: &Service) -> BTreeMap<&str, f64> {
    let total: f64 = service.servers.iter().map(|server| f64::from(server.weight)).sum();
    let even = 1.0 / service.servers.len().max(1) as f64;
    let share = |weight: u32| if total > 0.0 { f64::from(weight) / total } else { even };
    service.servers.iter().map(|server| (&*server.id.url, share(server.weight))).collect()
}

fn same_shares(a: &Service, b: &Service) -> bool {
    let (a, b) = (shares(a), shares(b));
    a.len() == b.len()
        && a.iter().zip(&b).all(|((url, share), (other, part))| url == other && (share - part).abs() <= NEAR)
}

/// Servers and shares, for people.
pub fn shares_told(service: &Service) -> String {
    let all = shares(service);
    let told: Vec<String> = all.iter().take(5).map(|(url, share)| format!("{url} ({:.0} %)", share * 100.0)).collect();
    let more = if all.len() > 5 { format!(" and {} more", all.len() - 5) } else { String::new() };
    if told.is_empty() { "nobody".to_owned() } else { format!("{}{more}", told.join(", ")) }
}
