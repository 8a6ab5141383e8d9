//! The tags that a route becomes: routers, services and middlewares of `traefik.*`, in the order in which people read
//! them. Words for holes ([`holes`](super::holes)) stand in these texts as they came.

use super::options::Scheme;
use super::redirect::redirect;
use crate::tags::legacy::{Manner, PrefixOptions, Site, TcpRoute, prefix_rule, priority, site_rule};
use crate::tags::{LegacyOptions, legacy};
use std::sync::Arc;

/// A network that nobody is in: a list of it alone lets nobody through.
const NOBODY: &str = "255.255.255.255/32";

/// A pool of `urlprefix-` tags, as far as all its services agree.
pub struct Pool<'a> {
    /// Of router and service, and stem of the names of its middlewares.
    pub name: &'a str,
    /// From `/`.
    pub path: &'a str,
    /// What the tags ask for.
    pub options: &'a PrefixOptions,
    /// How servers are chosen and reached.
    pub manner: &'a Manner,
    /// The scheme of `auth=`.
    pub auth: Option<&'a Scheme>,
}

/// A service's own part in a pool.
pub struct Part {
    /// How it is spoken to.
    pub scheme: &'static str,
    /// Its weight, where not all are equal.
    pub weight: Option<u32>,
    /// Its port, where it is not the registered one.
    pub port: Option<u16>,
}

struct Lines(Vec<String>);

impl Lines {
    fn router(&mut self, name: &str, option: &str, value: impl std::fmt::Display) {
        self.0.push(format!("traefik.http.routers.{name}.{option}={value}"));
    }

    fn service(&mut self, name: &str, option: &str, value: impl std::fmt::Display) {
        self.0.push(format!("traefik.http.services.{name}.loadbalancer.{option}={value}"));
    }

    fn middleware(&mut self, name: &str, option: &str, value: impl std::fmt::Display) {
        self.0.push(format!("traefik.http.middlewares.{name}.{option}={value}"));
    }
}

/// The tags of one service for its part in a pool; `None` for a redirect that has no form.
pub fn pool(pool: &Pool<'_>, part: &Part, settings: &LegacyOptions) -> Option<Vec<String>> {
    let Pool { name, path, options, .. } = pool;
    let mut lines = Lines(Vec::new());
    let mut middlewares: Vec<String> = Vec::new();
    let mut all = Lines(Vec::new());
    let mut middleware = |what: &str, parts: &[(&str, String)]| {
        let called = format!("{name}-{what}");
        for (option, value) in parts {
            all.middleware(&called, option, value);
        }
        middlewares.push(called);
    };
    if !options.allow.is_empty() {
        middleware("from", &[("ipallowlist.sourcerange", options.allow.join(","))]);
    }
    if let Some(scheme) = pool.auth {
        let parts = [("basicauth.usersfile", scheme.file.clone()), ("basicauth.realm", scheme.realm.clone())];
        middleware("auth", &parts);
    }
    if options.redirect.is_some() {
        let redirect = redirect(options, &settings.redirect_port)?;
        middleware("to", &redirect.options);
    } else {
        if !matches!(&*options.send_host, "" | "dst") {
            middleware("host", &[("headers.customrequestheaders.Host", options.send_host.to_string())]);
        }
        if !options.strip.is_empty() {
            middleware("strip", &[("stripprefix.prefixes", options.strip.to_string())]);
        }
        if !options.prepend.is_empty() {
            let slash = if options.prepend.starts_with('/') { "" } else { "/" };
            middleware("prepend", &[("addprefix.prefix", format!("{slash}{}", options.prepend))]);
        }
    }
    let mut rule = prefix_rule(&options.host, path, settings.matcher);
    if let Some(guard) = legacy::loop_guard(options, false) {
        rule.push_str(&guard);
    }
    let rank = priority(&options.host, path, !options.entry_points.is_empty(), settings.matcher);
    let (own, denied) = denial(&rule, &options.deny);
    let router = |lines: &mut Lines, called: &str, rule: &str, middlewares: &str| {
        lines.router(called, "rule", rule);
        if !options.entry_points.is_empty() {
            lines.router(called, "entrypoints", options.entry_points.join(","));
        }
        if options.tls {
            lines.router(called, "tls", true);
        }
        lines.router(called, "priority", rank);
        if !middlewares.is_empty() {
            lines.router(called, "middlewares", middlewares);
        }
        lines.router(called, "service", name);
    };
    router(&mut lines, name, &own, &middlewares.join(","));
    if let Some(denied) = denied {
        let called = format!("{name}-denied");
        router(&mut lines, &called, &denied, &called);
        lines.middleware(&called, "ipallowlist.sourcerange", NOBODY);
    }
    lines.0.extend(all.0);
    lines.service(name, "server.scheme", part.scheme);
    if let Some(port) = part.port {
        lines.service(name, "server.port", port);
    }
    if let Some(weight) = part.weight {
        lines.service(name, "server.weight", weight);
    }
    if options.redirect.is_none() && &*options.send_host == "dst" {
        lines.service(name, "passhostheader", false);
    }
    if let Some(strategy) = &pool.manner.strategy {
        lines.service(name, "strategy", strategy.as_str());
    }
    match pool.manner.sticky.as_deref() {
        None => {}
        Some("") => lines.service(name, "sticky.cookie", true),
        Some(cookie) => lines.service(name, "sticky.cookie.name", cookie),
    }
    if pool.manner.unverified {
        lines.service(name, "serverstransport", "skip@file");
    }
    Some(lines.0)
}

/// The rule of those who are let in, and that of those who are not: of one priority, and no request fits both.
fn denial(rule: &str, deny: &[Arc<str>]) -> (String, Option<String>) {
    let clients: Vec<String> = deny.iter().map(|network| format!("ClientIP(`{network}`)")).collect();
    match &*clients {
        [] => (rule.to_owned(), None),
        [one] => (format!("{rule} && !{one}"), Some(format!("{rule} && {one}"))),
        _ => {
            let any = clients.join(" || ");
            (format!("{rule} && !({any})"), Some(format!("{rule} && ({any})")))
        }
    }
}

/// The tags for one address of a site. `to_https` also sends plain requests for its host there.
pub fn site(site: &Site, names: (&str, &str), to_https: bool, settings: &LegacyOptions) -> Vec<String> {
    let mut lines = Lines(Vec::new());
    let (name, redirect) = names;
    let (host_rule, rank) = site_rule(&site.host);
    let rule = match site.path.as_deref().map(|path| (path, path.strip_suffix('*'))) {
        None => host_rule.clone(),
        Some((_, Some(prefix))) => format!("{host_rule} && PathPrefix(`{prefix}`)"),
        Some((path, None)) => format!("{host_rule} && Path(`{path}`)"),
    };
    let usual = if site.https { &settings.websecure } else { &settings.web };
    let router = |lines: &mut Lines, called: &str, rule: &str, entry_point: &str, tls: bool| {
        lines.router(called, "rule", rule);
        lines.router(called, "entrypoints", entry_point);
        if tls {
            lines.router(called, "tls", true);
        }
        if rank != 0 {
            lines.router(called, "priority", rank);
        }
    };
    router(&mut lines, name, &rule, site.entry_point.as_ref().unwrap_or(usual), site.https);
    lines.router(name, "service", name);
    lines.service(name, "server.scheme", "http");
    lines.service(name, "strategy", "hrw");
    if to_https {
        router(&mut lines, redirect, &host_rule, &settings.web, false);
        lines.router(redirect, "middlewares", "site-to-https");
        lines.router(redirect, "service", name);
        lines.middleware("site-to-https", "redirectscheme.scheme", "https");
        if !matches!(&*settings.redirect_port, "" | "443") {
            lines.middleware("site-to-https", "redirectscheme.port", &settings.redirect_port);
        }
        lines.middleware("site-to-https", "redirectscheme.permanent", true);
    }
    lines.0
}

/// The tags of a TCP route.
pub fn tcp(name: &str, route: &TcpRoute) -> Vec<String> {
    let mut lines = Vec::new();
    let (own, denied) = denial(&route.rule, &route.deny);
    let mut router = |called: &str, rule: &str, middleware: Option<(&str, String)>| {
        let mut line = |option: &str, value: &str| {
            lines.push(format!("traefik.tcp.routers.{called}.{option}={value}"));
        };
        line("rule", rule);
        if !route.entry_points.is_empty() {
            line("entrypoints", &route.entry_points.join(","));
        }
        if route.sni {
            line("tls.passthrough", "true");
        }
        line("service", name);
        if let Some((of, range)) = middleware {
            line("middlewares", of);
            lines.push(format!("traefik.tcp.middlewares.{of}.ipallowlist.sourcerange={range}"));
        }
    };
    let from = format!("{name}-from");
    router(name, &own, (!route.allow.is_empty()).then(|| (&*from, route.allow.join(","))));
    if let Some(denied) = denied {
        let called = format!("{name}-denied");
        router(&called, &denied, Some((&called, NOBODY.to_owned())));
    }
    lines.push(format!("traefik.tcp.services.{name}.loadbalancer.server.tls=false"));
    if route.proxy_protocol {
        lines.push(format!("traefik.tcp.services.{name}.loadbalancer.proxyprotocol.version=1"));
    }
    lines
}
