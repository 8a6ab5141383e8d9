//! What servers are told of the client: `X-Forwarded-*` and `X-Real-Ip`, as Traefik v3.7 does
//! (<https://doc.traefik.io/traefik/routing/entrypoints/#forwarded-headers>): what an untrusted
//! peer says is thrown away, what a trusted one says is kept and completed.

use super::settings::HeadRules;
use crate::http::{Exchange, HeaderName, HeaderValue, Headers, name, split_port};
use smallvec::SmallVec;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const SERVER: HeaderName = HeaderName::from_static("x-forwarded-server");
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-scheme");
const SCHEME: HeaderName = HeaderName::from_static("x-scheme");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The names that an untrusted peer cannot set, and that a `Connection` field cannot remove.
const MANAGED: [&str; 13] = [
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-prefix",
    "x-forwarded-tls-client-cert",
    "x-forwarded-tls-client-cert-info",
    "x-scheme",
    "x-real-ip",
];

/// Whether a name (in any case) is one of them; `_` is read as `-`, as many servers do.
pub(super) fn is_managed(name: &str) -> bool {
    let same = |(a, b): (u8, u8)| a.to_ascii_lowercase() == b || (a == b'_' && b == b'-');
    name.starts_with(['x', 'X'])
        && MANAGED.iter().any(|managed| managed.len() == name.len() && name.bytes().zip(managed.bytes()).all(same))
}

/// The entry chain's part: before routing, so that rules see what servers will.
pub(super) fn rewrite(
    exchange: &mut Exchange,
    trusted: bool,
    peer: Option<&HeaderValue>,
    hostname: Option<&HeaderValue>,
    rules: &HeadRules,
) {
    let headers = &mut exchange.request.headers;
    if !trusted {
        exchange.claimed_for = headers.joined(&FOR).and_then(|all| HeaderValue::from_bytes(&all).ok());
        let said: SmallVec<[HeaderName; 4]> =
            headers.iter().map(|(name, _)| name).filter(|name| is_managed(name.as_str())).cloned().collect();
        for name in said {
            headers.remove(&name);
        }
    }
    if let Some(peer) = peer {
        headers.set_default(REAL_IP, || peer.clone());
    }
    let websocket = headers.has_token(&name::CONNECTION, "upgrade") && headers.has_token(&name::UPGRADE, "websocket");
    headers.set_default(PROTO, || {
        HeaderValue::from_static(match (websocket, exchange.tls) {
            (true, true) => "wss",
            (true, false) => "ws",
            (false, true) => "https",
            (false, false) => "http",
        })
    });
    if rules.scheme_headers
        && let Some(scheme) = headers.get(&PROTO).cloned()
    {
        headers.set(FORWARDED_SCHEME, scheme.clone());
        headers.set(SCHEME, scheme);
    }
    let secure = exchange.tls || matches!(headers.text(&PROTO), Some("https" | "wss"));
    headers.set_default(PORT, || {
        let port = exchange.request.host.to_str().ok().and_then(|host| split_port(host).1);
        let port = port.and_then(|port| HeaderValue::from_str(port).ok()).filter(|port| !port.is_empty());
        port.unwrap_or(HeaderValue::from_static(if secure { "443" } else { "80" }))
    });
    if !exchange.request.host.is_empty() {
        headers.set_default(HOST, || exchange.request.host.clone());
    }
    if headers.all(&FOR).nth(1).is_some() {
        let all = headers.joined(&FOR).and_then(|all| HeaderValue::from_bytes(&all).ok());
        headers.set(FOR, all.unwrap_or(HeaderValue::from_static("")));
    }
    if let Some(hostname) = hostname {
        headers.set(SERVER, hostname.clone());
    }
}

/// Takes back what was believed of a peer: the head becomes what an untrusted one's would be.
pub(super) fn distrust(
    exchange: &mut Exchange,
    peer: Option<&HeaderValue>,
    hostname: Option<&HeaderValue>,
    rules: &HeadRules,
) {
    if exchange.claimed_for.is_none() {
        rewrite(exchange, false, peer, hostname, rules);
    }
}

/// The last part, for the server: this hop's client (`None` where it is not to be told), and the prefixes that
/// middlewares cut off.
pub(super) fn complete(exchange: &Exchange, peer: Option<&HeaderValue>, headers: &mut Headers) {
    if let Some(peer) = peer {
        let all = match headers.joined(&FOR) {
            None => peer.clone(),
            Some(before) => {
                HeaderValue::from_bytes(&[&before, &b", "[..], peer.as_bytes()].concat()).unwrap_or(peer.clone())
            }
        };
        headers.set(FOR, all);
    }
    for prefix in &exchange.prefixes {
        if let Ok(prefix) = HeaderValue::from_str(prefix.trim()) {
            headers.append(PREFIX, prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_names_are_known_in_every_spelling() {
        for name in ["x-real-ip", "X_Forwarded_For", "x-forwarded_host"] {
            assert!(is_managed(name), "{name}");
        }
        for name in ["x-forwarded-ssl", "via", "x-", "y-real-ip"] {
            assert!(!is_managed(name), "{name}");
        }
    }
}
