//! TCP transports, middlewares and services: what is declared, checked; where it cannot be used, its last good form.

use super::build::{MIDDLEWARE, Making, SERVICE, TRANSPORT, list, names};
use super::{Middleware, MiddlewareKind, Server, Servers, Service, ServiceKind, TcpTransport};
use crate::declare::{self, GoDuration};
use crate::diagnostic::Diagnostic;
use crate::model::{Provider, ServerId, split_port};
use crate::table::build::Name;
use crate::table::health::{Remarks, tcp_check};
use crate::table::resolve::{origin, origin_of, qualified, reference};
use crate::table::table::{provider_of, unqualified};
use crate::table::{DEFAULT_TRANSPORT, ProxyProtocol, Transport};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long one direction lives on after the other has ended, where nothing is said.
const TERMINATION_DELAY: Duration = Duration::from_millis(100);

/// Makes all of them.
pub(super) fn make(making: &mut Making<'_>) {
    for of in names(making.inputs, |tcp| &tcp.servers_transports, |tcp| list(&tcp.broken.servers_transports)) {
        transport(making, &of);
    }
    for of in names(making.inputs, |tcp| &tcp.middlewares, |tcp| list(&tcp.broken.middlewares)) {
        middleware(making, &of);
    }
    let broken = |tcp: &declare::Tcp| tcp.broken.services.iter().map(|(name, _)| name.clone()).collect();
    for of in names(making.inputs, |tcp| &tcp.services, broken) {
        service(making, &of, &mut Vec::new());
    }
}

fn kept(old: bool) -> &'static str {
    if old { "its last good definition stays in force" } else { "nothing that names it is routed" }
}

fn transport(making: &mut Making<'_>, of: &Name) {
    let id = qualified(&of.1, of.0);
    let old = making.old.transports.get(&id).cloned();
    let declared = making.declared(of.0).and_then(|tcp| tcp.servers_transports.get(&of.1)).cloned();
    let made = match declared {
        None => old,
        Some(declared) => match old.filter(|old| old.transport.declared == declared) {
            Some(same) => Some(same),
            None => match read_transport(&id, &declared) {
                Ok(transport) => Some(Arc::new(transport)),
                Err(why) => {
                    let old = making.old.transports.get(&id).cloned();
                    let problem = Diagnostic::error("bad_servers_transport", format!("{TRANSPORT} `{}`: {why}", of.1))
                        .with_origin(origin(&declared.source, of.0))
                        .with_help(kept(old.is_some()));
                    making.say(TRANSPORT, of, problem);
                    old
                }
            },
        },
    };
    making.tcp.transports.set(&id, made);
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SaidTransport {
    dial_timeout: Option<GoDuration>,
    termination_delay: Option<GoDuration>,
    proxy_protocol: Option<Value>,
    tls: Option<Map<String, Value>>,
}

/// What a TCP transport says, in the words of an HTTP one, which can do the same and more.
fn read_transport(id: &Arc<str>, declared: &Arc<declare::ServersTransport>) -> Result<TcpTransport, String> {
    // its text would show what stands there, which may be a key
    let said: SaidTransport = serde_json::from_value(Value::Object(declared.options.0.clone()))
        .map_err(|_| "an option is not of its kind".to_owned())?;
    let mut options = said.tls.unwrap_or_default();
    if let Some(proxy_protocol) = said.proxy_protocol {
        options.insert("rustLbProxyProtocol".to_owned(), proxy_protocol);
    }
    let words = declare::ServersTransport { options: declare::Options(options), source: declared.source.clone() };
    let mut transport = Transport::new(id.clone(), &Arc::new(words))?;
    if let Some(said) = said.dial_timeout {
        transport.dial_timeout = said.length().ok_or_else(|| "`dialTimeout` is below zero".to_owned())?;
    }
    transport.max_idle = 0;
    transport.declared = declared.clone();
    let termination_delay = said.termination_delay.map_or(Some(TERMINATION_DELAY), GoDuration::length);
    Ok(TcpTransport { transport: Arc::new(transport), termination_delay })
}

fn middleware(making: &mut Making<'_>, of: &Name) {
    let id = qualified(&of.1, of.0);
    let old = making.old.middlewares.get(&id).cloned();
    let declared = making.declared(of.0).and_then(|tcp| tcp.middlewares.get(&of.1)).cloned();
    let made = match declared {
        None => old,
        Some(declared) => match read_middleware(&declared) {
            Ok(kind) => {
                let new = Middleware { id: id.clone(), kind, declared };
                Some(old.filter(|old| **old == new).unwrap_or_else(|| Arc::new(new)))
            }
            Err(why) => {
                let problem = Diagnostic::error("bad_middleware", format!("{MIDDLEWARE} `{}` is refused: {why}", of.1))
                    .with_origin(origin(&declared.source, of.0))
                    .with_help(kept(old.is_some()));
                making.say(MIDDLEWARE, of, problem);
                old
            }
        },
    };
    making.tcp.middlewares.set(&id, made);
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SaidMiddleware {
    source_range: Vec<String>,
    amount: i64,
}

fn read_middleware(declared: &declare::TcpMiddleware) -> Result<MiddlewareKind, String> {
    let mut kinds = declared.kinds.iter();
    let (Some((kind, options)), None) = (kinds.next(), kinds.next()) else {
        let kinds: Vec<&str> = declared.kinds.keys().map(String::as_str).collect();
        return Err(format!("it must be of one kind, got `{}`", kinds.join("`, `")));
    };
    let said: SaidMiddleware = serde_json::from_value(options.clone()).map_err(|e| format!("`{kind}`: {e}"))?;
    match kind.as_str() {
        "ipAllowList" | "ipWhiteList" | "rustLbDenyList" if said.source_range.is_empty() => {
            Err("`sourceRange` is empty".to_owned())
        }
        "ipAllowList" | "ipWhiteList" | "rustLbDenyList" => {
            let network = |text: &String| match text.trim().parse::<IpNet>() {
                Ok(network) => Ok(network),
                Err(_) => match text.trim().parse::<std::net::IpAddr>() {
                    Ok(address) => Ok(address.to_canonical().into()),
                    Err(_) => Err(format!("`sourceRange`: `{text}` is not an address or a network")),
                },
            };
            let networks = said.source_range.iter().map(network).collect::<Result<_, _>>()?;
            Ok(match kind.as_str() {
                "rustLbDenyList" => MiddlewareKind::DenyList(networks),
                _ => MiddlewareKind::AllowList(networks),
            })
        }
        "inFlightConn" => match u64::try_from(said.amount) {
            Ok(amount) => Ok(MiddlewareKind::InFlight(amount)),
            Err(_) => Err(format!("`amount`: expected 0 or more, got `{}`", said.amount)),
        },
        other => Err(format!("there is no kind `{other}`")),
    }
}

/// A service; `None` where there is none that can be used. `path` are the services that ask for it.
fn service(making: &mut Making<'_>, of: &Name, path: &mut Vec<Name>) -> Option<Arc<Service>> {
    let id = qualified(&of.1, of.0);
    // one that another one names was looked at already
    if making.seen.contains(of) {
        return making.tcp.services.get(&id).cloned();
    }
    let old = making.old.services.get(&id).cloned();
    let tcp = making.declared(of.0)?;
    let declared = match (tcp.services.get(&of.1), tcp.broken.services.get(&of.1), &old) {
        (Some(declared), ..) => declared.clone(),
        // the accepted settings, with the servers of today
        (None, Some(today), Some(old)) => {
            let mut declared = (*old.declared).clone();
            if let (Some(kept), Some(today)) = (&mut declared.load_balancer, &today.load_balancer)
                && !today.servers.is_empty()
            {
                kept.servers.clone_from(&today.servers);
            }
            Arc::new(declared)
        }
        _ => return None,
    };
    path.push(of.clone());
    let result = match (&declared.load_balancer, &declared.weighted) {
        (Some(load_balancer), None) => servers(making, of, &id, &declared, load_balancer, old.as_deref()),
        (None, Some(weighted)) => weights(making, of, weighted, path),
        (Some(_), Some(_)) => Err("it is of several kinds; make a service of each".to_owned()),
        (None, None) => Err("it has neither a `loadBalancer` nor `weighted` services".to_owned()),
    };
    let old = match &result {
        Ok(_) => old,
        Err(_) => old.map(|old| renewed(making, old, path)),
    };
    path.pop();
    let made = match result {
        Ok(kind) => {
            let new = Service { id: id.clone(), kind, declared };
            Some(old.filter(|old| **old == new).unwrap_or_else(|| Arc::new(new)))
        }
        Err(why) => {
            let problem = Diagnostic::error("bad_service", format!("{SERVICE} `{}` is refused: {why}", of.1))
                .with_origin(origin(&declared.source, of.0))
                .with_help(kept(old.is_some()));
            making.say(SERVICE, of, problem);
            old
        }
    };
    making.tcp.services.set(&id, made.clone());
    making.seen.insert(of.clone());
    made
}

/// The last good form of a service that shares connections out, among the services of now.
fn renewed(making: &mut Making<'_>, old: Arc<Service>, path: &mut Vec<Name>) -> Arc<Service> {
    let ServiceKind::Weighted(parts) = &old.kind else { return old };
    let mut now = Vec::with_capacity(parts.len());
    for (part, weight) in parts {
        let name = provider_of(&part.id).map(|provider| (provider, unqualified(&part.id)));
        let found = name.filter(|name| !path.contains(name)).and_then(|name| service(making, &name, path));
        now.push((found.unwrap_or_else(|| part.clone()), *weight));
    }
    let new = Service { kind: ServiceKind::Weighted(now), ..(*old).clone() };
    if new == *old { old } else { Arc::new(new) }
}

fn servers(
    making: &mut Making<'_>,
    of: &Name,
    id: &Arc<str>,
    declared: &declare::TcpService,
    load_balancer: &declare::TcpLoadBalancer,
    old: Option<&Service>,
) -> Result<ServiceKind, String> {
    let (transport, termination_delay) = reached(making, of.0, load_balancer)?;
    let known = match old.map(|old| &old.kind) {
        Some(ServiceKind::Servers(servers)) => servers.servers.as_slice(),
        _ => &[],
    };
    let mut servers: BTreeMap<Arc<str>, Arc<Server>> = BTreeMap::new();
    for declared_server in &load_balancer.servers {
        let same = |s: &&Arc<Server>| s.address == declared_server.address && s.tls == declared_server.tls;
        match known.iter().find(same).cloned().map_or_else(|| server(declared_server, id).map(Arc::new), Ok) {
            Ok(server) => drop(servers.insert(server.address.clone(), server)),
            Err(why) => {
                let message =
                    format!("{SERVICE} `{}`: the server `{}` gets nothing: {why}", of.1, declared_server.address);
                let origin = origin_of(&declared.source, of.0, "port");
                making.say(SERVICE, of, Diagnostic::error("bad_server_address", message).with_origin(origin));
            }
        }
    }
    let mut problems = Vec::new();
    let mut remarks = Remarks { name: &of.1, source: &declared.source, provider: of.0, problems: &mut problems };
    let health = load_balancer.health_check.as_ref().and_then(|check| tcp_check(check, &mut remarks));
    problems.into_iter().for_each(|problem| making.say(SERVICE, of, problem));
    let servers = servers.into_values().collect();
    Ok(ServiceKind::Servers(Servers { servers, transport, termination_delay, health }))
}

/// How the servers of a load balancer are reached: as its transport says, else as it says itself.
fn reached(
    making: &Making<'_>,
    from: Provider,
    said: &declare::TcpLoadBalancer,
) -> Result<(Arc<Transport>, Option<Duration>), String> {
    if !matches!(&*said.servers_transport, "" | DEFAULT_TRANSPORT) {
        let of = reference(&said.servers_transport, from);
        let found = of.and_then(|(provider, name)| making.tcp.transports.get(&qualified(name, provider)));
        let found = found.ok_or_else(|| {
            format!("its serversTransport `{}` does not exist or cannot be used", said.servers_transport)
        })?;
        return Ok((found.transport.clone(), found.termination_delay));
    }
    let proxy_protocol = match said.proxy_protocol.as_ref().map(|said| said.version) {
        None => None,
        Some(1) => Some(ProxyProtocol::V1),
        Some(2) => Some(ProxyProtocol::V2),
        Some(other) => return Err(format!("`proxyProtocol.version`: expected 1 or 2, got `{other}`")),
    };
    let termination_delay = said.termination_delay.map_or(Some(TERMINATION_DELAY), |millis| {
        // below zero: for ever
        u64::try_from(millis).ok().map(Duration::from_millis)
    });
    let transport = Transport { proxy_protocol, max_idle: 0, ..Transport::plain(DEFAULT_TRANSPORT.into()) };
    Ok((Arc::new(transport), termination_delay))
}

fn server(declared: &declare::TcpServer, service: &Arc<str>) -> Result<Server, String> {
    let address = &declared.address;
    let (host, port) = split_port(address);
    let port = port.and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let (Some(port), false) = (port, bare.is_empty()) else {
        return Err("expected `host:port`".to_owned());
    };
    let scheme = if declared.tls { "tls" } else { "tcp" };
    Ok(Server {
        id: ServerId { service: service.clone(), url: format!("{scheme}://{address}").into() },
        address: address.clone(),
        tls: declared.tls,
        host: bare.into(),
        port,
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SaidWeighted {
    services: Vec<SaidPart>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidPart {
    name: String,
    weight: Option<i64>,
}

fn weights(
    making: &mut Making<'_>,
    of: &Name,
    weighted: &declare::Options,
    path: &mut Vec<Name>,
) -> Result<ServiceKind, String> {
    let said: SaidWeighted =
        serde_json::from_value(Value::Object(weighted.0.clone())).map_err(|e| format!("`weighted`: {e}"))?;
    let mut parts = Vec::with_capacity(said.services.len());
    for part in &said.services {
        let weight = part.weight.unwrap_or(1);
        let weight =
            u32::try_from(weight).map_err(|_| format!("the weight of `{}` cannot be `{weight}`", part.name))?;
        let missing = || format!("the service `{}` does not exist or cannot be used", part.name);
        let (provider, name) = reference(&part.name, of.0).ok_or_else(missing)?;
        let name: Name = (provider, name.into());
        if path.contains(&name) {
            return Err(format!("the service `{}` leads back to it", part.name));
        }
        parts.push((service(making, &name, path).ok_or_else(missing)?, weight));
    }
    if parts.is_empty() {
        return Err("`weighted` names no service".to_owned());
    }
    Ok(ServiceKind::Weighted(parts))
}
