//! Who is let in by address: Traefik's `ipAllowList` and HinD's allowed remote addresses, which ask for
//! the TCP peer alone; Fabio's `allow=` and `deny=` (<https://fabiolb.net/feature/access-control/>);
//! and the refusal of everybody.
//!
//! As in Fabio every address that `X-Forwarded-For` names is tested besides the peer's, whoever says
//! so: in its rules that can only shut out, never let in. What is no address there does not count.

use crate::http::{Exchange, HeaderValue, Made, Reason, StatusCode, name};
use ipnet::IpNet;
use std::net::IpAddr;

/// 403 unless all addresses are within (`allow`), or if one is (not `allow`).
pub(super) fn check(networks: &[IpNet], allow: bool, exchange: &Exchange) -> Option<Made> {
    let fits = |ip: IpAddr| {
        let ip = ip.to_canonical();
        networks.iter().any(|network| network.contains(&ip)) == allow
    };
    let unbelieved = exchange.claimed_for.iter().map(HeaderValue::as_bytes);
    let fits_claimed = |value: &[u8]| {
        let text = String::from_utf8_lossy(value);
        text.split(',').filter_map(|address| address.trim().parse().ok()).all(fits)
    };
    let believed = &name::X_FORWARDED_FOR;
    let mut claimed = unbelieved.chain(exchange.request.headers.all(believed));
    let passes = fits(exchange.peer.ip()) && claimed.all(fits_claimed);
    (!passes).then(|| refuse(StatusCode::FORBIDDEN))
}

/// Refused unless the TCP peer is in one of the networks, whatever it says of others.
pub fn peer_within(networks: &[IpNet], status: StatusCode, exchange: &Exchange) -> Option<Made> {
    let peer = exchange.peer.ip().to_canonical();
    (!networks.iter().any(|network| network.contains(&peer))).then(|| refuse(status))
}

/// Nobody gets through.
pub(super) fn refuse(status: StatusCode) -> Made {
    Made::status(status, Reason::Denied)
}
