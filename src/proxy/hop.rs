//! Fields that concern one hop (RFC 9110, 7.6.1): taken off on both ways, and what the next hop
//! needs put on.

use super::forwarded;
use crate::http::{AnswerHead, Body, Exchange, HeaderName, HeaderValue, Headers, Method, Protocol, StatusCode, name};
use http_body::Body as _;
use smallvec::SmallVec;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Takes off what the client's `Connection` names, and that field itself; what it says of an
/// upgrade stays, in one form, for rules to see. Gives the protocol that is asked for.
pub(super) fn options(headers: &mut Headers, protocol: Protocol) -> Option<HeaderValue> {
    if !headers.contains(&name::CONNECTION) {
        return None;
    }
    // Upgrades are HTTP/1.1's alone (RFC 9110, 7.8). In HTTP/2 the codec refuses these fields: they are there
    // where an extended CONNECT stands for an upgrade.
    let wanted = protocol != Protocol::Http10 && headers.has_token(&name::CONNECTION, "upgrade");
    let upgrade = headers.get(&name::UPGRADE).filter(|asked| wanted && !is_http(asked)).cloned();
    for option in named(headers) {
        if !forwarded::is_managed(&option) {
            headers.remove_text(&option);
        }
    }
    headers.remove(&name::CONNECTION);
    if let Some(upgrade) = &upgrade {
        headers.set(name::UPGRADE, upgrade.clone());
        headers.set(name::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    upgrade
}

/// Whether an upgrade would lead to HTTP again (`h2c`, `HTTP/2.0`, TLS): a server that took it would be
/// asked things that nobody has routed. Nobody needs it (RFC 9113, 3.1).
fn is_http(asked: &HeaderValue) -> bool {
    asked.as_bytes().split(|byte| *byte == b',').any(|protocol| {
        let protocol = protocol.trim_ascii().to_ascii_lowercase();
        [&b"h2"[..], b"http/", b"tls/"].iter().any(|http| protocol.starts_with(http))
    })
}

/// What `Connection` names, in lower case.
fn named(headers: &Headers) -> SmallVec<[String; 2]> {
    headers
        .all(&name::CONNECTION)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|option| option.trim().to_ascii_lowercase())
        .filter(|option| !option.is_empty())
        .collect()
}

/// The fields that a server gets.
pub(super) fn for_server(
    exchange: &Exchange,
    peer: Option<&HeaderValue>,
    host: HeaderValue,
    upgrade: Option<&HeaderValue>,
    body: &Body,
) -> Headers {
    let mut headers = exchange.request.headers.clone();
    let trailers = headers.has_token(&name::TE, "trailers");
    for name in [
        name::CONNECTION,
        PROXY_CONNECTION,
        KEEP_ALIVE,
        name::PROXY_AUTHENTICATE,
        name::PROXY_AUTHORIZATION,
        name::TE,
        name::TRANSFER_ENCODING,
        name::UPGRADE,
    ] {
        headers.remove(&name);
    }
    if trailers {
        headers.set(name::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(upgrade) = upgrade {
        headers.set(name::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.set(name::UPGRADE, upgrade.clone());
    }
    if body.is_empty() {
        headers.remove(&name::TRAILER);
        let expected = matches!(exchange.request.method, Method::POST | Method::PUT | Method::PATCH);
        if expected || headers.contains(&name::CONTENT_LENGTH) {
            headers.set(name::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else if !say_length(&mut headers, body) {
        headers.set(name::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if exchange.identity.hide_credentials {
        headers.remove(&name::AUTHORIZATION);
    }
    for (name, value) in &exchange.identity.fields {
        headers.set(name.clone(), value.clone());
    }
    headers.set(name::HOST, host);
    forwarded::complete(exchange, peer, &mut headers);
    headers
}

/// Makes the length that a head says the one that its body has: said once, and not at all where
/// the framing does not tell (then false). Two parties that count differently are how requests are
/// smuggled and answers are cut.
fn say_length(headers: &mut Headers, body: &Body) -> bool {
    let Some(length) = body.size_hint().exact() else {
        headers.remove(&name::CONTENT_LENGTH);
        return false;
    };
    let said_so = {
        let mut said = headers.all(&name::CONTENT_LENGTH);
        let first = said.next().and_then(|said| said.to_str().ok()?.parse().ok());
        first == Some(length) && said.next().is_none()
    };
    if !said_so {
        headers.set(name::CONTENT_LENGTH, HeaderValue::from(length));
    }
    true
}

/// Takes off what concerned the hop to the server; a switch of protocols keeps its two fields.
pub(super) fn for_client(head: &mut AnswerHead, body: &Body, switched: bool) {
    let upgrade = head.headers.get(&name::UPGRADE).filter(|_| switched).cloned();
    if head.headers.contains(&name::CONNECTION) {
        for option in named(&head.headers) {
            head.headers.remove_text(&option);
        }
    }
    // `Trailer` stays: it tells the codec which trailers may be sent on.
    for name in [
        name::CONNECTION,
        PROXY_CONNECTION,
        KEEP_ALIVE,
        name::PROXY_AUTHENTICATE,
        name::PROXY_AUTHORIZATION,
        name::TE,
        name::TRANSFER_ENCODING,
        name::UPGRADE,
    ] {
        head.headers.remove(&name);
    }
    if let Some(upgrade) = upgrade {
        head.headers.set(name::CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers.set(name::UPGRADE, upgrade);
    }
    if head.status.is_informational() || head.status == StatusCode::NO_CONTENT {
        // Not allowed there (RFC 9110, 8.6), and an error in HTTP/2.
        head.headers.remove(&name::CONTENT_LENGTH);
    } else if !body.is_empty() && head.headers.contains(&name::CONTENT_LENGTH) {
        // Without a body it is what a HEAD or a 304 tells of one.
        say_length(&mut head.headers, body);
    }
}
