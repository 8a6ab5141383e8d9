//! TCP in the `urlprefix-` dialect: `urlprefix-:5432` (a port) and `urlprefix-host/ proto=tcp` (the name
//! that a TLS client asks for), as Fabio's TCP and SNI proxies read them (<https://fabiolb.net/feature/tcp-proxy/>).
//! They become TCP routers, and their access rules (<https://fabiolb.net/feature/access-control/>) TCP middlewares.

use super::fragment::{Def, Fragment, add};
use super::names::{join_host_port, quoted, slug};
use super::urlprefix::networks;
use super::{LegacyOptions, port_entry_point};
use crate::declare::{
    Options, ProxyProtocol, Source, TcpLoadBalancer, TcpMiddleware, TcpRouter, TcpRouterTls, TcpServer, TcpService,
};
use std::sync::Arc;

/// A TCP route of a tag.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// Of its router and service.
    pub name: Arc<str>,
    /// The router's rule.
    pub rule: String,
    /// Entry points; empty means the default ones.
    pub entry_points: Vec<Arc<str>>,
    /// By the name that a TLS client asks for; the connection is passed on as it is.
    pub sni: bool,
    /// `pxyproto=true`.
    pub proxy_protocol: bool,
    /// `allow=`.
    pub allow: Vec<Arc<str>>,
    /// `deny=`.
    pub deny: Vec<Arc<str>>,
}

/// Whether a tag asks for TCP at all.
pub fn is_tcp(text: &str) -> bool {
    let (route, options) = text.split_once(' ').unwrap_or((text, ""));
    // the last protocol counts
    let known = ["tcp", "https", "grpc", "grpcs"];
    let proto = options.split_whitespace().filter_map(|o| o.strip_prefix("proto=")).rfind(|p| known.contains(p));
    route.starts_with(':') && service_port(text).is_none() || proto == Some("tcp")
}

/// The port of a tag such as `:8080/`: that of the service, instead of the one that it is registered with. Fabio finds no
/// route by such a tag: its TCP listeners look for `:8080`, without the slash (measured).
pub fn service_port(text: &str) -> Option<u16> {
    let port = text.trim().strip_prefix(':')?.strip_suffix('/')?;
    port.parse().ok().filter(|number| *number > 0 && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Reads what stands behind the prefix.
///
/// # Errors
/// Code and words of what is wrong.
pub fn read(text: &str, legacy: &LegacyOptions) -> Result<Route, (&'static str, String)> {
    let (route, options) = text.split_once(' ').unwrap_or((text, ""));
    let (host, path) = route.split_once('/').map_or((route, ""), |(host, path)| (host, path));
    let (host, port) = host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port)));
    if !path.is_empty() {
        return Err(("bad_route", format!("a TCP route has no path, got `{route}`")));
    }
    let access = |name: &str| {
        let said = options.split_whitespace().filter_map(|o| o.strip_prefix(name)?.strip_prefix('=')).next_back();
        networks(said.unwrap_or_default()).map_err(|item| {
            // Fabio would let everybody in
            ("bad_value", format!("`{item}` is not `ip:<address>` or `ip:<network>` on the TCP route `{route}`"))
        })
    };
    let (allow, deny) = (access("allow")?, access("deny")?);
    let mut entry_points = Vec::new();
    if let Some(port) = port {
        let number = port.parse::<u16>().ok().filter(|port| *port > 0);
        let Some(number) = number else {
            return Err(("bad_port", format!("expected a port behind `:`, got `{route}`")));
        };
        match legacy.ports.get(&number).cloned().or_else(|| legacy.any_port.then(|| port_entry_point(number))) {
            Some(entry_point) => entry_points.push(entry_point),
            None => return Err(("no_entry_point", format!("no entry point listens on port {number}"))),
        }
    }
    let host = host.to_ascii_lowercase();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let wildcard = host.strip_prefix("*.").unwrap_or(&host);
    if !wildcard.chars().all(plain) || (host.is_empty() && port.is_none()) {
        return Err(("bad_host", format!("no TLS client asks for the name `{host}`")));
    }
    let rule = match (host.as_str(), host.strip_prefix("*.")) {
        ("", _) => "HostSNI(`*`)".to_owned(),
        (_, Some(rest)) => format!("HostSNIRegexp({})", quoted(&format!("^.+\\.{}$", regex::escape(rest)))),
        (exact, None) => format!("HostSNI({})", quoted(exact)),
    };
    let port = port.unwrap_or_default();
    Ok(Route {
        name: format!("fb-tcp-{}-{port}", slug(&host.replace('*', "any"))).into(),
        rule,
        entry_points,
        sni: !host.is_empty(),
        proxy_protocol: options.split_whitespace().any(|option| option == "pxyproto=true"),
        allow,
        deny,
    })
}

/// Declares a route with one instance behind it.
pub fn declare(route: Route, address: &str, port: u16, source: &Source, into: &mut Fragment) {
    let server = TcpServer { address: join_host_port(address, &port.to_string()).into(), tls: false };
    let service = TcpService {
        load_balancer: Some(TcpLoadBalancer {
            servers: vec![server],
            // Fabio speaks its first version
            proxy_protocol: route.proxy_protocol.then_some(ProxyProtocol { version: 1 }),
            ..TcpLoadBalancer::default()
        }),
        source: source.clone(),
        ..TcpService::default()
    };
    let tls = route.sni.then(|| TcpRouterTls { passthrough: true, ..TcpRouterTls::default() });
    let router = TcpRouter {
        entry_points: route.entry_points,
        service: route.name.clone(),
        rule: route.rule.into(),
        tls,
        middlewares: access(
            &route.name,
            [("ipAllowList", &route.allow), ("rustLbDenyList", &route.deny)],
            source,
            into,
        ),
        source: source.clone(),
        ..TcpRouter::default()
    };
    add(&mut into.tcp_services, &route.name, Def::Good(Arc::new(service)), &mut into.problems);
    add(&mut into.tcp_routers, &route.name, Def::Good(Arc::new(router)), &mut into.problems);
}

/// Declares the access rules of a route; gives their names.
fn access(route: &str, rules: [(&str, &Vec<Arc<str>>); 2], source: &Source, into: &mut Fragment) -> Vec<Arc<str>> {
    let mut names = Vec::new();
    for (kind, networks) in rules.into_iter().filter(|(_, networks)| !networks.is_empty()) {
        let word = if kind == "ipAllowList" { "allow" } else { "deny" };
        let name: Arc<str> = format!("{route}-{word}").into();
        let mut kinds = serde_json::Map::new();
        kinds.insert(kind.to_owned(), serde_json::json!({ "sourceRange": networks }));
        let middleware = TcpMiddleware { kinds: Options(kinds), source: source.clone() };
        add(&mut into.tcp_middlewares, &name, Def::Good(Arc::new(middleware)), &mut into.problems);
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_names() {
        let legacy = LegacyOptions { ports: [(5432, "db".into())].into(), ..LegacyOptions::default() };
        let of = |text: &str| read(text, &legacy).map(|r| (r.rule, r.entry_points.concat(), r.sni, r.proxy_protocol));
        assert_eq!(of(":5432"), Ok(("HostSNI(`*`)".into(), "db".into(), false, false)));
        assert_eq!(of(":5432 proto=tcp pxyproto=true"), Ok(("HostSNI(`*`)".into(), "db".into(), false, true)));
        assert_eq!(of("Db.example/ proto=tcp"), Ok(("HostSNI(`db.example`)".into(), String::new(), true, false)));
        for (bad, code) in [
            (":5433", "no_entry_point"),
            (":", "bad_port"),
            (":x", "bad_port"),
            ("h/x proto=tcp", "bad_route"),
            ("/ proto=tcp", "bad_host"),
            ("h{/ proto=tcp", "bad_host"),
            (":5432 allow=10.0.0.0/8", "bad_value"),
        ] {
            assert_eq!(read(bad, &legacy).unwrap_err().0, code, "{bad}");
        }
        assert!(is_tcp(":1/ proto=tcp") && is_tcp(":x/") && !is_tcp(":8080/"));
        assert_eq!(
            [":8080/", ":8080", ":0/", ":+1/", ":8080/ proto=tcp"].map(service_port),
            [Some(8080), None, None, None, None]
        );
        assert!(is_tcp("h/ proto=tcp") && is_tcp(":1") && !is_tcp("h/ proto=tcp proto=https") && !is_tcp("h/"));
    }
}
