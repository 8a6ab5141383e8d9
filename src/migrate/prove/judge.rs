//! Whether two answers are one, and what is known to differ.

use super::witness::{Kind, Witness};
use super::world::{Bounds, Route, Scenes};
use crate::explain::{Brief, End};
use crate::table::{MiddlewareKind, Router, Service, Strategy, tcp};
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
    /// Whether two services are one, by their names.
    pools: HashMap<(Arc<str>, Arc<str>), bool>,
}

impl Judge {
    /// Compares what both tables do to a request.
    pub fn judge(&mut self, witness: &Witness, old: &Brief, new: &Brief) -> Verdict {
        let is = |brief: &Brief, served: bool| {
            brief.router.is_some() && (matches!(brief.end, End::Served { .. }) || !served)
        };
        let own = |router: &Arc<Router>| {
            let name = &*router.id;
            ["fb-", "site-"].iter().any(|begin| name.starts_with(begin))
        };
        if old.router.is_none() && new.router.is_none() {
            return match old.end == new.end {
                true => Verdict::Same,
                false => Verdict::Differs("one of both refuses it"),
            };
        }
        let verdict = self.compare(old, new);
        match verdict {
            Verdict::Differs(_) if new.router.as_ref().is_some_and(|router| !own(router)) => Verdict::Gap(
                "own_router",
                "a router of the service's own `traefik.*` tags takes it; Fabio does not know that one",
            ),
            Verdict::Differs(_) if witness.kind == Kind::ForwardedFor => Verdict::Gap(
                "forwarded_for",
                "Fabio tests the addresses in X-Forwarded-For too, Traefik the client's own address alone",
            ),
            Verdict::Differs(_) if witness.kind == Kind::HostCase && new.router.is_some() && old.router.is_none() => {
                Verdict::Gap("host_case", "with globs off Fabio compares hosts byte by byte, Traefik in lower case")
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
        match (&old.end, &new.end) {
            (a, b) if a == b && !matches!(a, End::Served { .. }) => Verdict::Same,
            (End::Redirect { status: a, location }, End::Redirect { status: b, location: there }) => {
                redirects((*a, location), (*b, there))
            }
            (End::Served { uri, host }, End::Served { uri: path, host: name }) => {
                let (Some(a), Some(b)) = (&old.router, &new.router) else { return Verdict::Differs("another pool") };
                let key = (a.service.id.clone(), b.service.id.clone());
                let same = *self.pools.entry(key).or_insert_with(|| same_shares(&a.service, &b.service));
                if !same {
                    return Verdict::Differs("another pool, or other shares");
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
    match (old.0 == new.0, old.1 == new.1) {
        (true, true) => Verdict::Same,
        (false, true) if is_moved(old.0) && is_moved(new.0) => Verdict::Gap(
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

fn is_moved(status: u16) -> bool {
    matches!(status, 301 | 302 | 307 | 308)
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

/// TCP routes that differ, and in what.
pub fn tcp(scenes: &Scenes) -> Vec<(&Route, String)> {
    let (old, new) = (&scenes.old.table.tcp, &scenes.new.table.tcp);
    let mut found = Vec::new();
    for route in &scenes.routes {
        let Bounds::Tcp(name) = &route.bounds else { continue };
        let id: Arc<str> = format!("{name}@consulcatalog").into();
        let Some(before) = old.routers.get(&id) else { continue };
        let rule = &*before.declared.rule;
        let denies = before.middlewares.iter().any(|m| m.id.ends_with("-deny@consulcatalog"));
        let fits = |router: &Arc<tcp::Router>| match denies {
            true => router.declared.rule.starts_with(&format!("{rule} && !")),
            false => *router.declared.rule == *rule,
        };
        // of one name, or of one rule where the name has an expression in it
        let after = new
            .routers
            .get(&id)
            .or_else(|| new.routers.values().find(|router| fits(router) && router.entry_points == before.entry_points));
        let what = match after {
            None => "no router takes its connections",
            Some(after) if !fits(after) => "another rule",
            Some(after) if after.entry_points != before.entry_points => "other entry points",
            Some(after) if after.tls != before.tls => "TLS is treated otherwise",
            Some(after) if addresses(&after.service) != addresses(&before.service) => "other servers",
            Some(_) => continue,
        };
        found.push((route, what.to_owned()));
    }
    found
}

fn addresses(service: &tcp::Service) -> (Vec<&str>, bool) {
    match &service.kind {
        tcp::ServiceKind::Servers(of) => {
            let proxied = service.declared.load_balancer.as_ref().is_some_and(|lb| lb.proxy_protocol.is_some());
            (of.servers.iter().map(|server| &*server.address).collect(), proxied)
        }
        tcp::ServiceKind::Weighted(_) => (Vec::new(), false),
    }
}
