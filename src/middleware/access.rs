//! Who is let in by address: Traefik's `ipAllowList` and HinD's allowed remote addresses, which ask for
//! the TCP peer alone; Fabio's `allow=` and `deny=` (<https://fabiolb.net/feature/access-control/>);
//! and the refusal of everybody.
//!
//! As in Fabio every address that `X-Forwarded-For` names is tested besides the peer's, whoever says
//! so: in its rules that can only shut out, never let in. What is no address there does not count.

use crate::http::{Exchange, HeaderName, HeaderValue, Made, Reason, StatusCode};
use ipnet::IpNet;
use std::net::IpAddr;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// 403 unless all addresses are within (`allow`), or if one is (not `allow`).
pub(super) fn check(networks: &[IpNet], allow: bool, exchange: &Exchange) -> Option<Made> {
    let fits = |ip: IpAddr| {
        let ip = ip.to_canonical();
        networks.iter().any(|network| network.contains(&ip)) == allow
    };
    let claimed = exchange.claimed_for.iter().chain(exchange.request.headers.all(&X_FORWARDED_FOR));
    let fits_claimed = |value: &HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.split(',').filter_map(|address| address.trim().parse().ok()).all(fits)
    };
    let passes = fits(exchange.peer.ip()) && { claimed }.all(fits_claimed);
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
