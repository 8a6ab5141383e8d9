//! TCP routes of both tables on witness connections: names that a TLS client asks for, and addresses of clients, at every
//! boundary of a route. What always holds: a connection is looked up as it is when served, entry point by entry point.

use super::witness::{CLIENT, NOBODY, addresses};
use super::world::{Bounds, Route, Scenes};
use crate::rule::ConnectionView;
use crate::table::{Table, tcp};
use crate::tags::legacy::TcpRoute;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// A connection.
struct Connection {
    name: String,
    client: Option<IpAddr>,
}

impl ConnectionView for Connection {
    fn server_name(&self) -> &str {
        &self.name
    }

    fn any_alpn(&self, _: &mut dyn FnMut(&str) -> bool) -> bool {
        false
    }

    fn client_ip(&self) -> Option<IpAddr> {
        self.client
    }
}

/// What becomes of a connection.
#[derive(Debug, PartialEq)]
enum End<'a> {
    /// Nobody takes it.
    Nobody,
    /// Its client is not let in.
    Denied,
    /// It is passed on: what becomes of TLS, how the servers are reached, and them with their shares.
    Passed(Option<&'a tcp::Tls>, BTreeMap<(&'a str, bool), usize>, Option<u8>),
    /// By services of services, which no old tag asks for.
    Composed,
}

/// TCP routes that differ, and in what; with the number of connections that were tried.
pub fn tcp(scenes: &Scenes) -> (Vec<(&Route, String)>, usize) {
    let mut found = Vec::new();
    let mut tried = 0;
    for route in &scenes.routes {
        let Bounds::Tcp(of, host) = &route.bounds else { continue };
        let mut differing = None;
        for (connection, tls) in connections(of, host) {
            for door in doors(scenes, of) {
                tried += 1;
                let old = end(&scenes.old.table, &door, &connection, tls);
                let new = end(&scenes.new.table, &door, &connection, tls);
                if differing.is_none() && old != new {
                    differing = Some(told(&connection, &door, tls, &old, &new));
                }
            }
        }
        found.extend(differing.map(|what| (route, what)));
    }
    (found, tried)
}

/// The entry points of a route; those of HTTP where it names none.
fn doors(scenes: &Scenes, route: &TcpRoute) -> Vec<Arc<str>> {
    let mut all: Vec<Arc<str>> = route.entry_points.clone();
    for usual in [&scenes.options.web, &scenes.options.websecure] {
        if !all.contains(usual) {
            all.push(usual.clone());
        }
    }
    all
}

/// Connections at the boundaries of a route, each plain or with TLS.
fn connections(route: &TcpRoute, host: &str) -> Vec<(Connection, bool)> {
    let names: Vec<String> = match (host, host.strip_prefix("*.")) {
        ("", _) => vec![String::new(), "any.example".to_owned()],
        (_, Some(rest)) => vec![format!("a.{rest}"), format!("a.b.{rest}"), rest.to_owned(), NOBODY.to_owned()],
        (name, None) => vec![name.to_owned(), format!("sub.{name}"), format!("x{name}"), NOBODY.to_owned()],
    };
    let mut clients: BTreeSet<IpAddr> = route.allow.iter().chain(&route.deny).flat_map(|of| addresses(of)).collect();
    clients.extend([CLIENT, "2001:db8::7"].iter().filter_map(|text| text.parse::<IpAddr>().ok()));
    let mut all = Vec::new();
    for name in &names {
        for client in &clients {
            let connection = |name: &str| Connection { name: name.to_owned(), client: Some(*client) };
            all.push((connection(name), true));
            if name.is_empty() {
                all.push((connection(""), false));
            }
        }
    }
    if !host.is_empty() {
        all.push((Connection { name: String::new(), client: CLIENT.parse().ok() }, false));
    }
    all
}

fn end<'a>(table: &'a Table, door: &str, connection: &Connection, tls: bool) -> End<'a> {
    let router = match tls {
        true => table.tcp_over_tls(door, connection),
        false => table.tcp_door(door).and_then(|door| door.plain(connection)),
    };
    let Some(router) = router else { return End::Nobody };
    let inside = |networks: &[ipnet::IpNet]| {
        connection.client.is_some_and(|client| networks.iter().any(|network| network.contains(&client)))
    };
    let denies = |middleware: &Arc<tcp::Middleware>| match &middleware.kind {
        tcp::MiddlewareKind::AllowList(networks) => !inside(networks),
        tcp::MiddlewareKind::DenyList(networks) => inside(networks),
        tcp::MiddlewareKind::InFlight(_) => false,
    };
    if router.middlewares.iter().any(denies) {
        return End::Denied;
    }
    if router.middlewares.iter().any(|middleware| matches!(middleware.kind, tcp::MiddlewareKind::InFlight(_))) {
        return End::Composed;
    }
    match &router.service.kind {
        tcp::ServiceKind::Servers(of) => {
            let mut servers = BTreeMap::new();
            for server in &of.servers {
                *servers.entry((&*server.address, server.tls)).or_insert(0) += 1;
            }
            let proxied = router.service.declared.load_balancer.as_ref().and_then(|lb| lb.proxy_protocol.as_ref());
            End::Passed(router.tls.as_ref(), servers, proxied.map(|of| u8::try_from(of.version).unwrap_or(u8::MAX)))
        }
        tcp::ServiceKind::Weighted(_) => End::Composed,
    }
}

fn told(connection: &Connection, door: &str, tls: bool, old: &End<'_>, new: &End<'_>) -> String {
    let kind = match (tls, &*connection.name) {
        (false, _) => "plain".to_owned(),
        (true, "") => "TLS without a name".to_owned(),
        (true, name) => format!("TLS for `{name}`"),
    };
    let client = connection.client.map(|ip| ip.to_string()).unwrap_or_default();
    let what = match (old, new) {
        (_, End::Nobody) => "no router takes it any more",
        (End::Nobody, _) => "a router takes it that none took",
        (End::Denied, _) => "a client that was not let in is",
        (_, End::Denied) => "a client that was let in is not",
        (End::Passed(a, ..), End::Passed(b, ..)) if a != b => "TLS is treated otherwise",
        (End::Passed(_, a, _), End::Passed(_, b, _)) if a != b => "other servers get it",
        _ => "the server is reached otherwise",
    };
    format!("{kind} from {client} at `{door}`: {what}")
}
