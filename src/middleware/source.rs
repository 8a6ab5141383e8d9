//! Who a request comes from (<https://doc.traefik.io/traefik/middlewares/http/ipallowlist/#ipstrategy>).
//!
//! `X-Forwarded-For` is read as Traefik reads it: what an untrusted peer said of others is not there any more, and the
//! peer itself is not yet in it.

use crate::http::{Exchange, name};
use crate::table::{Address, Criterion};
use ipnet::{IpNet, Ipv6Net};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

/// What a request has in common with others of its source.
pub(super) fn of<'a>(criterion: &Criterion, exchange: &'a Exchange) -> Cow<'a, [u8]> {
    match criterion {
        Criterion::Host => Cow::Borrowed(exchange.request.host().as_bytes()),
        Criterion::Field(name) => Cow::Borrowed(exchange.request.headers.first(name).unwrap_or_default()),
        Criterion::Address(address) => match client(address, exchange) {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        },
    }
}

/// The client's address as text; empty where there is none.
fn client<'a>(address: &Address, exchange: &'a Exchange) -> Cow<'a, str> {
    let said = || exchange.request.headers.text(&name::X_FORWARDED_FOR).unwrap_or("");
    match address {
        Address::Peer(bits) => Cow::Owned(subnet(exchange.peer.ip().to_canonical(), *bits).to_string()),
        Address::Depth(depth, bits) => {
            let text = said().rsplit(',').nth(depth - 1).unwrap_or("").trim();
            match (bits, text.parse()) {
                (Some(_), Ok(ip)) => Cow::Owned(subnet(ip, *bits).to_string()),
                _ => Cow::Borrowed(text),
            }
        }
        Address::Outside(known) => {
            let outside = |text: &&str| !text.is_empty() && !text.parse().is_ok_and(|ip| within(known, ip));
            Cow::Borrowed(said().rsplit(',').map(str::trim).find(outside).unwrap_or(""))
        }
    }
}

/// Whether the client's address is in one of the networks; who has none is not.
pub(super) fn is_within(networks: &[IpNet], address: &Address, exchange: &Exchange) -> bool {
    if let Address::Peer(None) = address {
        return within(networks, exchange.peer.ip());
    }
    let text = client(address, exchange);
    let ip = text.parse::<IpAddr>().ok();
    let ip = ip.or_else(|| text.parse().map(|address: std::net::SocketAddr| address.ip()).ok());
    ip.is_some_and(|ip| within(networks, ip))
}

fn within(networks: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    networks.iter().any(|network| network.contains(&ip))
}

/// The first address of the network that an address of IPv6 is in.
fn subnet(ip: IpAddr, bits: Option<u8>) -> IpAddr {
    match (ip, bits.map(|bits| Ipv6Net::new(Ipv6Addr::UNSPECIFIED, bits))) {
        (IpAddr::V6(ip), Some(Ok(of))) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & of.netmask().to_bits())),
        _ => ip,
    }
}
