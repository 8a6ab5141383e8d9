//! HinD's control-plane site: the hosts of `FQDN` and `NOMAD_ADDR_EXTRA` go to the Nomad that the
//! provider reads, or to the local one, as built-in routers that nobody else can take.
//!
//! What always holds: nothing is added to a request, no token either: whoever comes shows rights of
//! their own. `ALLOWED_REMOTE_IPS_CONTROL_PLANE` is asked of the TCP peer.

use crate::config::{ADMIN_ENTRY_POINT, ClientTls, EntryPoint, Settled};
use crate::declare::{
    self, Dynamic, LoadBalancer, Middleware, MiddlewareKind, Router, RouterTls, Server, Service, Source,
};
use std::sync::Arc;

/// Name of the router and of its service; both are `@internal`.
const NAME: &str = "control-plane";
/// Where a Nomad is that nobody names.
const LOCAL: &str = "http://127.0.0.1:4646";
/// Before all others: with equal priority, too, what is built in goes first.
const FIRST: i64 = i64::MAX;

/// Qualified name of the service, by which its transport is known.
pub(super) fn service_id() -> Arc<str> {
    format!("{NAME}@{}", crate::model::Provider::Internal).into()
}

/// Nomad's address, and how TLS to it is verified. `None` when there is no such site, or Nomad is
/// reached through a Unix socket (of which the configuration warns).
pub(super) fn nomad(settled: &Settled) -> Option<(&str, Option<&ClientTls>)> {
    let hind = &settled.hind;
    if hind.fqdn.is_empty() && hind.nomad_addr_extra.is_empty() {
        return None;
    }
    let common = settled.nomad.as_ref().map(|nomad| &nomad.common);
    let endpoint = common.map_or(LOCAL, |common| common.endpoint.as_str());
    let tls = common.map(|common| &common.tls).filter(|_| endpoint.starts_with("https://"));
    (!endpoint.starts_with("unix://")).then_some((endpoint, tls))
}

/// The routers, the service and the middlewares of the site.
pub(super) fn control_plane(settled: &Settled, redirect_port: &Arc<str>) -> Dynamic {
    let mut dynamic = Dynamic::default();
    let Some((endpoint, _)) = nomad(settled) else { return dynamic };
    let source = Source { service: NAME.into(), tag: "$FQDN".into(), ..Source::default() };
    let http = &mut dynamic.http;
    let mut middlewares = Vec::new();
    let mut add = |name: &str, kind| {
        let name: Arc<str> = format!("{NAME}-{name}").into();
        http.middlewares.insert(name.clone(), Arc::new(Middleware { kind, source: source.clone() }));
        name
    };
    let allowed = &settled.hind.allowed_remote_ips_control_plane;
    if !allowed.is_empty() {
        let source_range = allowed.iter().map(|network| network.to_string().into()).collect();
        middlewares
            .push(add("allow", MiddlewareKind::IpAllowList { source_range, ip_strategy: None, reject_status_code: 0 }));
    }
    let behind_scheme = endpoint.find("://").map_or(0, |at| at + 3);
    if let Some(prefix) = endpoint[behind_scheme..].find('/').map(|at| &endpoint[behind_scheme + at..]) {
        middlewares.push(add("prefix", MiddlewareKind::AddPrefix { prefix: prefix.into() }));
    }
    let permanent = true;
    let kind = MiddlewareKind::RedirectScheme { scheme: "https".into(), port: redirect_port.clone(), permanent };
    let to_https = add("to-https", kind);
    let server = Server { url: endpoint.into(), ..Server::default() };
    let load_balancer = LoadBalancer { servers: vec![server], ..LoadBalancer::default() };
    let service = Service { load_balancer: Some(load_balancer), source: source.clone(), ..Service::default() };
    http.services.insert(NAME.into(), Arc::new(service));

    let mut hosts: Vec<&str> = Vec::new();
    for host in settled.hind.fqdn.iter().chain(&settled.hind.nomad_addr_extra) {
        if !hosts.contains(&host.as_str()) {
            hosts.push(host);
        }
    }
    let rule: Vec<String> = hosts.iter().map(|host| format!("Host(`{host}`)")).collect();
    let rule: Arc<str> = rule.join(" || ").into();
    let router = |entry_points, middlewares, tls: Option<RouterTls>| {
        Arc::new(Router {
            entry_points,
            middlewares,
            service: NAME.into(),
            rule: rule.clone(),
            priority: FIRST,
            tls,
            source: source.clone(),
            ..declare::Router::default()
        })
    };
    let (encrypted, plain) = entry_points(settled);
    if !plain.is_empty() {
        http.routers.insert(format!("{NAME}-to-https").into(), router(plain, vec![to_https], None));
    }
    http.routers.insert(NAME.into(), router(encrypted, middlewares, Some(RouterTls::default())));
    dynamic
}

/// Where the site answers over TLS (`websecure`, else all with TLS, else all), and where it redirects.
fn entry_points(settled: &Settled) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
    let public = || settled.entry_points.values().filter(|ep| &*ep.name != ADMIN_ENTRY_POINT);
    let named = |fits: &dyn Fn(&EntryPoint) -> bool| -> Vec<Arc<str>> {
        public().filter(|ep| fits(ep)).map(|ep| ep.name.clone()).collect()
    };
    let found = [named(&|ep| &*ep.name == "websecure"), named(&|ep| ep.tls)];
    let encrypted = found.into_iter().find(|names| !names.is_empty()).unwrap_or_else(|| named(&|_| true));
    let plain = named(&|ep| !ep.tls && !encrypted.contains(&ep.name));
    (encrypted, plain)
}
