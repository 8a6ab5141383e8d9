//! Pools: what the `urlprefix-` and site dialects route by. All instances with one prefix (host
//! and path), or one site, of whichever service, are one pool; a pool becomes a router, a service
//! and its middlewares, named after the prefix so that equal `traefik.*` definitions (as a
//! migration writes them) join it.
//!
//! Within a pool the options of the oldest share count: shares that ask for something else are
//! refused. A pool belongs to one namespace; what another namespace adds is refused.
//! Order and shares are Fabio's (`route/route.go`; measured in tests/oracle).

use super::fragment::{Def, origin_of, service};
use super::glob::{is_glob, quote, to_regex};
use super::names::{fnv1, namespace, quoted, slug};
use super::rank::priority;
use super::{LegacyOptions, PathMatcher, UNVERIFIED, auth_middleware};
use crate::catalog::ServiceKey;
use crate::declare::{self, MiddlewareKind, RouterTls, Server, Source, Strategy};
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a pool is known by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PoolKey {
    /// Fabio's host (with its port, where it has one) and path.
    Prefix {
        /// Lower case; empty means any.
        host: Arc<str>,
        /// From `/`.
        path: Arc<str>,
    },
    /// A site's host: all its paths belong to one namespace.
    Site {
        /// Lower case, perhaps `*.` before it.
        host: Arc<str>,
    },
}

/// An instance's part in a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Where it was declared.
    pub source: Source,
    /// Its server.
    pub url: Arc<str>,
    /// By dialect.
    pub kind: ShareKind,
}

/// A share's dialect.
#[derive(Debug, Clone, PartialEq)]
pub enum ShareKind {
    /// `urlprefix-`.
    Prefix {
        /// Fixed weight, above 0.
        weight: Option<f64>,
        /// The instance's other tags: they tell two shares of one address apart, as in Fabio.
        tags: Arc<str>,
        /// What must be equal within the pool.
        options: Arc<PrefixOptions>,
        /// What need not.
        manner: Manner,
    },
    /// `https://` or `http://`.
    Site {
        /// HTTPS.
        https: bool,
        /// Exact path.
        path: Option<Arc<str>>,
        /// The entry point of a port of its own.
        entry_point: Option<Arc<str>>,
    },
}

impl Share {
    /// Whether Fabio would take both for one target.
    pub fn is_twin(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (ShareKind::Prefix { weight: w, tags: t, .. }, ShareKind::Prefix { weight, tags, .. }) => {
                self.url == other.url && w == weight && t == tags && self.source.service == other.source.service
            }
            _ => self == other && self.source.service == other.source.service,
        }
    }
}

/// How servers are chosen and reached. A pool is balanced as the oldest share says that says anything, and its certificates
/// go unverified where all shares say so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manner {
    /// `tlsskipverify=true`.
    pub unverified: bool,
    /// `lb=`; not Fabio's.
    pub strategy: Option<Strategy>,
    /// `sticky`, perhaps with the cookie's name; not Fabio's.
    pub sticky: Option<Arc<str>>,
}

/// What the tags of one pool have to agree on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrefixOptions {
    /// The host without its port.
    pub host: Arc<str>,
    /// Entry points; empty means the default ones.
    pub entry_points: Vec<Arc<str>>,
    /// TLS only (`host:443/`).
    pub tls: bool,
    /// Cut off the path.
    pub strip: Arc<str>,
    /// Put before the path.
    pub prepend: Arc<str>,
    /// `host=`: `dst` sends the server's address, another text itself.
    pub send_host: Arc<str>,
    /// `auth=`.
    pub auth: Arc<str>,
    /// `allow=`.
    pub allow: Vec<Arc<str>>,
    /// `deny=`.
    pub deny: Vec<Arc<str>>,
    /// An access rule cannot be read: nobody is let in.
    pub closed: bool,
    /// `redirect=`: status and URL.
    pub redirect: Option<(u16, Arc<str>)>,
    /// The redirect only changes the scheme.
    pub to_https: bool,
}

/// What a pool comes to.
#[derive(Debug, Default, PartialEq)]
pub struct Made {
    /// By name.
    pub routers: BTreeMap<Arc<str>, Def<declare::Router>>,
    /// By name.
    pub services: BTreeMap<Arc<str>, Def<declare::Service>>,
    /// By name.
    pub middlewares: BTreeMap<Arc<str>, Def<declare::Middleware>>,
    /// The namespace that has the pool.
    pub owner: Option<Arc<str>>,
    /// What was refused.
    pub problems: Vec<Diagnostic>,
}

impl Made {
    fn router(&mut self, name: &Arc<str>, router: declare::Router) {
        self.routers.insert(name.clone(), Def::Good(Arc::new(router)));
    }

    fn middleware(&mut self, name: Arc<str>, kind: MiddlewareKind, source: &Source) -> Arc<str> {
        let middleware = declare::Middleware { kind, source: source.clone() };
        self.middlewares.insert(name.clone(), Def::Good(Arc::new(middleware)));
        name
    }
}

/// Makes the definitions of a pool from all its shares. `owner` is the namespace that had it so far.
pub fn make(
    key: &PoolKey,
    shares: &BTreeMap<ServiceKey, Vec<Share>>,
    owner: Option<&Arc<str>>,
    legacy: &LegacyOptions,
) -> Made {
    let mut made = Made::default();
    let mut all: Vec<&Share> = shares.values().flatten().collect();
    all.sort_by(|a, b| seniority(a).cmp(&seniority(b)));
    let Some(oldest) = all.first() else { return made };
    let owner = owner.filter(|o| shares.keys().any(|k| k.namespace == **o)).unwrap_or(&oldest.source.namespace).clone();
    let mut mine = Vec::new();
    for share in all {
        if share.source.namespace == owner {
            mine.push(share);
        } else {
            made.refuse_namespace(key, share, &owner, shares);
        }
    }
    made.owner = Some(owner);
    match key {
        PoolKey::Prefix { host, path } => made.prefix(host, path, &mine, legacy),
        PoolKey::Site { host } => made.site(host, &mine, legacy),
    }
    made
}

fn seniority(share: &Share) -> (u64, &Arc<str>, &Arc<str>, &Arc<str>) {
    let s = &share.source;
    (s.create_index, &s.namespace, &s.service, &s.instance)
}

impl Made {
    fn refuse_namespace(
        &mut self,
        key: &PoolKey,
        share: &Share,
        owner: &Arc<str>,
        shares: &BTreeMap<ServiceKey, Vec<Share>>,
    ) {
        let what = match key {
            PoolKey::Prefix { host, path } => format!("the prefix `{host}{path}`"),
            PoolKey::Site { host } => format!("the host `{host}`"),
        };
        let holder = shares.keys().find(|k| k.namespace == *owner).map_or("", |k| &k.name);
        let message = format!(
            "{what} belongs to service `{holder}` of namespace `{}`; service `{}` of namespace `{}` does not get it",
            namespace(owner),
            share.source.service,
            namespace(&share.source.namespace)
        );
        let told = self.problems.iter().any(|p| p.message == message);
        if !told {
            self.problems.push(Diagnostic::error("host_conflict", message).with_origin(origin_of(&share.source)));
        }
    }

    /// A pool of `urlprefix-` tags.
    fn prefix(&mut self, host: &str, path: &str, shares: &[&Share], legacy: &LegacyOptions) {
        let mut agreed: Option<(&Share, &PrefixOptions)> = None;
        let mut targets: Vec<(&Share, Option<f64>)> = Vec::new();
        let mut manners: Vec<&Manner> = Vec::new();
        for share in shares {
            let ShareKind::Prefix { weight, options, manner, .. } = &share.kind else { continue };
            match agreed {
                None => agreed = Some((share, options)),
                Some((first, agreed)) if *agreed != **options => {
                    let message = format!(
                        "`{host}{path}` has other options in service `{}` (instance `{}`) than in service `{}` (instance `{}`); the first registered stay",
                        share.source.service, share.source.instance, first.source.service, first.source.instance
                    );
                    let problem = Diagnostic::error("pool_conflict", message).with_origin(origin_of(&share.source));
                    self.problems.push(problem.with_help("all tags of one prefix need the same options, weight apart"));
                    continue;
                }
                Some(_) => {}
            }
            manners.push(manner);
            if !targets.iter().any(|(t, _)| t.is_twin(share)) {
                targets.push((share, *weight));
            }
        }
        let Some((first, options)) = agreed else { return };
        let source = &first.source;
        let name = pool_name("fb", host, path);
        let fixed: Vec<Option<f64>> = targets.iter().map(|(_, w)| *w).collect();
        let servers = servers(targets.iter().map(|(s, _)| &s.url), &fixed);
        let mut made_service = service(servers, source.clone());
        if let Some(lb) = &mut made_service.load_balancer {
            lb.pass_host_header = &*options.send_host != "dst";
            if let Some(strategy) = manners.iter().find_map(|manner| manner.strategy.clone()) {
                lb.strategy = strategy;
            }
            let sticky = manners.iter().find_map(|manner| manner.sticky.clone());
            lb.sticky = sticky
                .map(|name| declare::Sticky { cookie: Some(declare::Cookie { name, ..declare::Cookie::default() }) });
            if manners.iter().all(|manner| manner.unverified) {
                lb.servers_transport = format!("{UNVERIFIED}@{}", Provider::Internal).into();
            }
        }
        self.services.insert(name.clone(), Def::Good(Arc::new(made_service)));
        let middlewares = self.prefix_middlewares(&name, options, source, legacy);
        let v2 = legacy.glob_disabled && !options.host.is_empty();
        let mut rule = match v2 {
            true => sent_host_rule(&options.host, path, legacy.matcher),
            false => prefix_rule(&options.host, path, legacy.matcher),
        };
        if let Some(guard) = loop_guard(options, v2) {
            rule.push_str(&guard);
        }
        let priority = priority(&options.host, path, !options.entry_points.is_empty(), legacy.matcher);
        self.router(
            &name,
            declare::Router {
                entry_points: options.entry_points.clone(),
                middlewares,
                service: name.clone(),
                rule: rule.into(),
                rule_syntax: if v2 { "v2".into() } else { Arc::default() },
                priority,
                tls: options.tls.then(RouterTls::default),
                source: source.clone(),
                ..declare::Router::default()
            },
        );
    }

    /// The middlewares of a pool in Fabio's order: access, authentication, redirect, strip, prepend.
    fn prefix_middlewares(
        &mut self,
        name: &str,
        options: &PrefixOptions,
        source: &Source,
        legacy: &LegacyOptions,
    ) -> Vec<Arc<str>> {
        let called = |what: &str| Arc::from(format!("{name}-{what}"));
        let mut names = Vec::new();
        if options.closed {
            let kind = MiddlewareKind::Refuse { status: 403 };
            names.push(self.middleware(called("closed"), kind, source));
        }
        if !options.allow.is_empty() {
            let kind = MiddlewareKind::PrefixAllowList { source_range: options.allow.clone() };
            names.push(self.middleware(called("allow"), kind, source));
        }
        if !options.deny.is_empty() {
            let kind = MiddlewareKind::PrefixDenyList { source_range: options.deny.clone() };
            names.push(self.middleware(called("deny"), kind, source));
        }
        if !options.auth.is_empty() {
            // without the middleware the router lets nobody in
            names.push(match legacy.auth_schemes.contains(&options.auth) {
                true => format!("{}@{}", auth_middleware(&options.auth), Provider::Internal).into(),
                false => format!("{}@file", options.auth).into(),
            });
        }
        if let Some((code, url)) = &options.redirect {
            let kind = MiddlewareKind::PrefixRedirect {
                url: url.clone(),
                status: *code,
                strip: options.strip.clone(),
                prepend: options.prepend.clone(),
                port: options.to_https.then(|| legacy.redirect_port.clone()),
            };
            names.push(self.middleware(called("redirect"), kind, source));
            return names;
        }
        if !options.send_host.is_empty() && &*options.send_host != "dst" {
            let set = BTreeMap::from([(Arc::from("Host"), options.send_host.clone())]);
            let kind = MiddlewareKind::Headers(Box::new(declare::Headers {
                custom_request_headers: set,
                ..Default::default()
            }));
            names.push(self.middleware(called("host"), kind, source));
        }
        if !options.strip.is_empty() {
            let kind = MiddlewareKind::StripPrefix { prefixes: vec![options.strip.clone()] };
            names.push(self.middleware(called("strip"), kind, source));
        }
        if !options.strip.is_empty() && !options.prepend.is_empty() {
            names.push(self.middleware(called("root"), MiddlewareKind::LeadingSlash {}, source));
        }
        if !options.prepend.is_empty() {
            let slash = if options.prepend.starts_with('/') { "" } else { "/" };
            let kind = MiddlewareKind::AddPrefix { prefix: format!("{slash}{}", options.prepend).into() };
            names.push(self.middleware(called("prepend"), kind, source));
        }
        names
    }

    /// A site: a router for each of its paths, and for HTTPS a redirect from plain HTTP.
    fn site(&mut self, host: &str, shares: &[&Share], legacy: &LegacyOptions) {
        let mut parts: BTreeMap<Part<'_>, Vec<&Share>> = BTreeMap::new();
        for share in shares {
            if let ShareKind::Site { https, path, entry_point } = &share.kind {
                parts.entry((*https, path, entry_point)).or_default().push(share);
            }
        }
        let (host_rule, priority) = site_rule(host);
        let plain_taken = parts.contains_key(&(false, &None, &None));
        let mut redirect_to: Option<(Arc<str>, Source)> = None;
        for ((https, path, entry_point), shares) in parts {
            let Some(first) = shares.first() else { continue };
            let kind = if https { "site" } else { "site-http" };
            let name = pool_name(kind, host, path.as_deref().unwrap_or_default());
            let name = entry_point.as_ref().map_or(name.clone(), |at| format!("{name}-{at}").into());
            let usual = if https { &legacy.websecure } else { &legacy.web };
            let mut made_service = service(servers(shares.iter().map(|s| &s.url), &[]), first.source.clone());
            if let Some(lb) = &mut made_service.load_balancer {
                lb.strategy = Strategy::IpHash;
            }
            self.services.insert(name.clone(), Def::Good(Arc::new(made_service)));
            let rule = match path {
                None => host_rule.clone(),
                Some(path) => match path.strip_suffix('*') {
                    Some(prefix) => format!("{host_rule} && PathPrefix({})", quoted(prefix)),
                    None => format!("{host_rule} && Path({})", quoted(path)),
                },
            };
            self.router(
                &name,
                declare::Router {
                    entry_points: vec![entry_point.as_ref().unwrap_or(usual).clone()],
                    service: name.clone(),
                    rule: rule.into(),
                    priority,
                    tls: https.then(RouterTls::default),
                    source: first.source.clone(),
                    ..declare::Router::default()
                },
            );
            if https && entry_point.is_none() && redirect_to.is_none() {
                redirect_to = Some((name, first.source.clone()));
            }
        }
        if let Some((service, source)) = redirect_to.filter(|_| !plain_taken) {
            let kind = MiddlewareKind::RedirectScheme {
                scheme: "https".into(),
                port: legacy.redirect_port.clone(),
                permanent: true,
            };
            let to_https = self.middleware("site-to-https".into(), kind, &source);
            let name: Arc<str> = pool_name("site-redirect", host, "");
            self.router(
                &name,
                declare::Router {
                    entry_points: vec![legacy.web.clone()],
                    middlewares: vec![to_https],
                    service,
                    rule: host_rule.into(),
                    priority,
                    source,
                    ..declare::Router::default()
                },
            );
        }
    }
}

/// What of a site is a router of its own: HTTPS, path, the entry point of a port.
type Part<'a> = (bool, &'a Option<Arc<str>>, &'a Option<Arc<str>>);

/// `fb-shop-example-org--cart-1a2b3c`: readable, and apart for `/a-b` and `/a/b`.
pub fn pool_name(kind: &str, host: &str, path: &str) -> Arc<str> {
    named(kind, host, path, fnv1(host.bytes().chain([0]).chain(path.bytes())))
}

/// The same with a hash of something else.
pub fn named(kind: &str, host: &str, path: &str, hash: u64) -> Arc<str> {
    format!("{kind}-{}-{}-{:06x}", slug(&host.replace('*', "any")), slug(path), hash & 0xff_ffff).into()
}

/// The rule of a prefix.
pub fn prefix_rule(host: &str, path: &str, matcher: PathMatcher) -> String {
    let rule = match host {
        "" if matcher == PathMatcher::Prefix => return format!("PathPrefix({})", quoted(path)),
        "" => String::new(),
        "*" => "HostRegexp(`.*`)".to_owned(),
        // a pattern that does not compile was refused with its tag
        glob if is_glob(glob) => {
            format!("HostRegexp({})", quoted(&to_regex(glob).unwrap_or_else(|_| "^$".to_owned())))
        }
        exact => format!("Host({})", quoted(exact)),
    };
    match path_rule(path, matcher) {
        None => rule,
        Some(path) if rule.is_empty() => path,
        Some(path) => format!("{rule} && {path}"),
    }
}

/// The rule of a prefix where Fabio's host globs are off, in the syntax of Traefik v2: its `HostRegexp` sees
/// the host as sent. Fabio compares byte by byte then, so `Host: WWW.example` does not fit `www.example`.
fn sent_host_rule(host: &str, path: &str, matcher: PathMatcher) -> String {
    // braces would begin a variable
    let braced = |regex: String| regex.replace("\\{", "\\x7B").replace("\\}", "\\x7D");
    let rest = path.strip_prefix('/').unwrap_or(path);
    let path = match matcher {
        PathMatcher::Prefix if path == "/" => String::new(),
        PathMatcher::Prefix if !path.contains(['{', '}']) => format!(" && PathPrefix({})", quoted(path)),
        PathMatcher::Prefix => format!(" && PathPrefix({})", quoted(&format!("/{{path:{}}}", braced(quote(rest))))),
        PathMatcher::IPrefix if path == "/" => String::new(),
        PathMatcher::IPrefix => {
            format!(" && PathPrefix({})", quoted(&format!("/{{path:(?i:{})}}", braced(quote(rest)))))
        }
        PathMatcher::Glob if rest.is_empty() => " && Path(`/`)".to_owned(),
        PathMatcher::Glob => {
            // a pattern that does not compile was refused with its tag
            let regex = to_regex(rest).unwrap_or_else(|_| "^$".to_owned());
            let regex = braced(regex[1..regex.len() - 1].replace("$|^", "|"));
            format!(" && Path({})", quoted(&format!("/{{path:(?:{regex})}}")))
        }
    };
    let sent = quoted(&format!("{{host:(?-i:{})}}", quote(host)));
    format!("Host({}) && HostRegexp({sent}){path}", quoted(host))
}

/// What keeps a redirect to the request's own host and path off those that came by its scheme already: as in
/// Fabio they go on to the next route, for the redirect would never end. Fabio goes by
/// `X-Forwarded-Proto` alone; here that is what a trusted proxy said, else how the client came.
pub fn loop_guard(options: &PrefixOptions, v2: bool) -> Option<String> {
    let (scheme, rest) = options.redirect.as_ref()?.1.split_once("://")?;
    let to = rest.strip_suffix("$path")?;
    let to = to.strip_suffix('/').unwrap_or(to);
    if !options.strip.is_empty() || !options.prepend.is_empty() || !matches!(scheme, "http" | "https") {
        return None;
    }
    let came = format!("{}(`X-Forwarded-Proto`, `{scheme}`)", if v2 { "Headers" } else { "Header" });
    let plain = to.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if to == "$host" || to.eq_ignore_ascii_case(&options.host) {
        Some(format!(" && !{came}"))
    } else if plain && (options.host.is_empty() || is_glob(&options.host)) {
        Some(format!(" && !({came} && Host({}))", quoted(to)))
    } else {
        None
    }
}

/// What a path asks for; `None` where every path fits.
fn path_rule(path: &str, matcher: PathMatcher) -> Option<String> {
    match matcher {
        PathMatcher::Prefix if path == "/" => None,
        PathMatcher::Prefix => Some(format!("PathPrefix({})", quoted(path))),
        PathMatcher::IPrefix => Some(format!("PathRegexp({})", quoted(&format!("(?i)^{}", quote(path))))),
        PathMatcher::Glob if path.contains(['*', '?', '[', '{', '\\']) => {
            // a pattern that does not compile was refused with its tag
            let regex = to_regex(path).unwrap_or_else(|_| "^$".to_owned());
            Some(format!("PathRegexp({})", quoted(&regex)))
        }
        PathMatcher::Glob => Some(format!("Path({})", quoted(path))),
    }
}

/// A site's host rule; one label for `*`, and behind every exact host.
pub fn site_rule(host: &str) -> (String, i64) {
    match host.strip_prefix("*.") {
        None => (format!("Host({})", quoted(host)), 0),
        Some(rest) => {
            let labels = i64::try_from(rest.split('.').count()).unwrap_or(1);
            (format!("HostRegexp(`^[^.]+\\.{}$`)", regex::escape(rest)), labels.min(8))
        }
    }
}

/// Servers with the shares that Fabio's arithmetic gives: fixed weights first (scaled down above
/// 1, and up where all are fixed), what is left split among the others; 10,000 slots (a million where a
/// share is smaller than one of these), at least one for whoever has a share at all. Without any fixed weight all are equal.
fn servers<'a>(urls: impl Iterator<Item = &'a Arc<str>>, fixed: &[Option<f64>]) -> Vec<Server> {
    let slots = slots(fixed);
    let mut total: BTreeMap<&Arc<str>, u32> = BTreeMap::new();
    for (at, url) in urls.enumerate() {
        let slots = slots.as_ref().map_or(1, |s| s.get(at).copied().unwrap_or(1));
        *total.entry(url).or_default() += slots;
    }
    let divisor = total.values().copied().fold(0, gcd).max(1);
    let equal = slots.is_none() && total.values().all(|n| *n == 1);
    let server = |(url, slots): (&Arc<str>, u32)| Server {
        url: url.clone(),
        weight: (!equal).then_some(slots / divisor),
        ..Server::default()
    };
    total.into_iter().map(server).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The slots of each target; `None` when no weight is fixed.
pub fn slots(fixed: &[Option<f64>]) -> Option<Vec<u32>> {
    let count = fixed.iter().flatten().count();
    if count == 0 {
        return None;
    }
    let sum: f64 = fixed.iter().flatten().sum();
    let scale = if sum > 1.0 || (count == fixed.len() && sum < 1.0) { 1.0 / sum } else { 1.0 };
    let free = ((1.0 - sum) / (fixed.len() - count).max(1) as f64).max(0.0);
    let shares: Vec<f64> = fixed.iter().map(|w| w.map_or(free, |w| w * scale)).collect();
    // Fabio's ring would round a smaller share up to a slot; what was asked for is finer
    let ring = if shares.iter().any(|share| *share > 0.0 && 10_000.0 * share < 1.0) { 1_000_000.0 } else { 10_000.0 };
    let slots = |share: f64| match if ring > 10_000.0 { (ring * share).round() } else { ring * share } as u32 {
        0 if share > 0.0 => 1,
        n => n,
    };
    Some(shares.into_iter().map(slots).collect())
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
