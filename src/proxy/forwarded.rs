//! What servers are told of the client: `X-Forwarded-*` and `X-Real-Ip`, as Traefik v3.7 does
//! (<https://doc.traefik.io/traefik/routing/entrypoints/#forwarded-headers>): what an untrusted
//! peer says is thrown away, what a trusted one says is kept and completed.

use super::settings::HeadRules;
use crate::http::{Exchange, HeaderName, HeaderValue, RequestHead, name, split_port};
use std::borrow::Cow;

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
    is_managed_bytes(name.as_bytes())
}

fn is_managed_bytes(name: &[u8]) -> bool {
    let same = |(a, b): (&u8, u8)| a.to_ascii_lowercase() == b || (*a == b'_' && b == b'-');
    matches!(name, [b'x' | b'X', b'-' | b'_', ..])
        && MANAGED.iter().any(|managed| managed.len() == name.len() && name.iter().zip(managed.bytes()).all(same))
}

/// The entry chain's part: before routing, so that rules see what servers will.
pub(super) fn rewrite(
    exchange: &mut Exchange,
    trusted: bool,
    peer: &str,
    hostname: Option<&HeaderValue>,
    rules: &HeadRules,
) {
    let Exchange { request, claimed_for, tls, .. } = exchange;
    if !trusted {
        let headers = &mut request.headers;
        *claimed_for = headers.joined(&name::X_FORWARDED_FOR).and_then(|all| HeaderValue::from_bytes(&all).ok());
        headers.remove_where(is_managed_bytes);
    }
    // What is already there after this was said by a trusted peer.
    let fill = |request: &mut RequestHead, name: &HeaderName, value: &str| {
        if request.headers.lacks(name) {
            request.headers.set_bytes(name, value.as_bytes());
        }
    };
    fill(request, &name::X_REAL_IP, peer);
    let headers = &request.headers;
    let websocket = headers.has_token(&name::CONNECTION, "upgrade") && headers.has_token(&name::UPGRADE, "websocket");
    let scheme = match (websocket, *tls) {
        (true, true) => "wss",
        (true, false) => "ws",
        (false, true) => "https",
        (false, false) => "http",
    };
    fill(request, &name::X_FORWARDED_PROTO, scheme);
    if rules.scheme_headers
        && let Some(scheme) = request.headers.value_of(&name::X_FORWARDED_PROTO)
    {
        request.headers.set(name::X_FORWARDED_SCHEME, scheme.clone());
        request.headers.set(name::X_SCHEME, scheme);
    }
    if request.headers.lacks(&name::X_FORWARDED_PORT) {
        let secure = *tls || matches!(request.headers.text(&name::X_FORWARDED_PROTO), Some("https" | "wss"));
        let (head, fields) = request.host_and_fields();
        let port = split_port(head).1.filter(|port| !port.is_empty());
        fields.set_bytes(&name::X_FORWARDED_PORT, port.unwrap_or(if secure { "443" } else { "80" }).as_bytes());
    }
    let (host, fields) = request.host_and_fields();
    if !host.is_empty() && fields.lacks(&name::X_FORWARDED_HOST) {
        fields.set_bytes(&name::X_FORWARDED_HOST, host.as_bytes());
    }
    if fields.all(&name::X_FORWARDED_FOR).nth(1).is_some()
        && let Some(all) = fields.joined(&name::X_FORWARDED_FOR).map(Cow::into_owned)
    {
        fields.set_bytes(&name::X_FORWARDED_FOR, &all);
    }
    if let Some(hostname) = hostname {
        fields.set_bytes(&name::X_FORWARDED_SERVER, hostname.as_bytes());
    }
}

/// Takes back what was believed of a peer: the head becomes what an untrusted one's would be.
pub(super) fn distrust(exchange: &mut Exchange, peer: &str, hostname: Option<&HeaderValue>, rules: &HeadRules) {
    if exchange.claimed_for.is_none() {
        rewrite(exchange, false, peer, hostname, rules);
    }
}

/// The last part, for the server: this hop's client (`None` where it is not to be told), and the prefixes that
/// middlewares cut off.
pub(super) fn complete(exchange: &mut Exchange, peer: Option<&str>) {
    let peer = peer.filter(|_| !exchange.identity.hide_peer);
    let headers = &mut exchange.request.headers;
    match (peer, headers.joined(&name::X_FORWARDED_FOR)) {
        (None, _) => {}
        (Some(peer), None) => headers.append_bytes(&name::X_FORWARDED_FOR, peer.as_bytes()),
        (Some(peer), Some(before)) => {
            let all = [&before, &b", "[..], peer.as_bytes()].concat();
            headers.set_bytes(&name::X_FORWARDED_FOR, &all);
        }
    }
    for prefix in &exchange.prefixes {
        if let Ok(prefix) = HeaderValue::from_str(prefix.trim()) {
            headers.append(name::X_FORWARDED_PREFIX, prefix);
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
