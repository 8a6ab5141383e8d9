//! Fields that concern one hop (RFC 9110, 7.6.1): taken off on both ways, and what the next hop
//! needs put on.
//!
//! What always holds: `Content-Length` and `Transfer-Encoding` are taken off here, and written anew from what
//! was understood by who sends the message on. Two parties that count differently are how requests are
//! smuggled and answers are cut.

use super::forwarded;
use crate::http::{AnswerHead, Exchange, HeaderName, HeaderValue, Headers, Made, NameSet, Protocol, name};
use smallvec::SmallVec;

/// What never goes on.
const HOP_NAMES: [HeaderName; 9] = [
    name::CONNECTION,
    name::PROXY_CONNECTION,
    name::KEEP_ALIVE,
    name::PROXY_AUTHENTICATE,
    name::PROXY_AUTHORIZATION,
    name::TE,
    name::TRANSFER_ENCODING,
    name::UPGRADE,
    name::CONTENT_LENGTH,
];

static HOP: [HeaderName; 9] = HOP_NAMES;
const ANY_HOP: NameSet = NameSet::of(&HOP_NAMES);

/// Takes off what the client's `Connection` names, and that field itself; what it says of an
/// upgrade stays, in one form, for rules to see. Gives the protocol that is asked for. Fields that are to be `kept`
/// (in lower case) stay, and stay named, until [`for_server`].
pub(super) fn options(headers: &mut Headers, protocol: Protocol, kept: &[String]) -> Option<HeaderValue> {
    if !headers.contains(&name::CONNECTION) {
        return None;
    }
    // Upgrades are HTTP/1.1's alone (RFC 9110, 7.8). In HTTP/2 the codec refuses these fields: they are there
    // where an extended CONNECT stands for an upgrade.
    let wanted = protocol != Protocol::Http10 && headers.has_token(&name::CONNECTION, "upgrade");
    let upgrade = if wanted { headers.value_of(&name::UPGRADE).filter(|asked| !is_http(asked)) } else { None };
    let mut still: SmallVec<[String; 2]> = SmallVec::new();
    for option in named(headers) {
        if kept.contains(&option) {
            still.push(option);
        } else if !forwarded::is_managed(&option) {
            headers.remove_text(&option);
        }
    }
    headers.remove(&name::CONNECTION);
    if let Some(upgrade) = &upgrade {
        headers.set(name::UPGRADE, upgrade.clone());
        still.push("Upgrade".to_owned());
    }
    if !still.is_empty() {
        headers.set_bytes(&name::CONNECTION, still.join(", ").as_bytes());
    }
    upgrade
}

/// Refuses a `Connection` field that names what the next server must be told: the host, who asks, and what proxies
/// say of the client. Who takes such a field off makes another request of it. An entry point may let some be named
/// (`forwardedHeaders.connection`).
///
/// # Errors
/// The answer.
pub(super) fn protected(headers: &Headers, kept: &[String]) -> Result<(), Made> {
    if !headers.contains(&name::CONNECTION) {
        return Ok(());
    }
    let is_protected = |option: &String| {
        forwarded::is_managed(option) && (option.starts_with("x-forwarded-") || option == "x-real-ip")
    };
    match named(headers).iter().any(|option| is_protected(option) && !kept.contains(option)) {
        true => Err(Made::bad_request()),
        false => Ok(()),
    }
}

/// Whether an upgrade would lead to HTTP again (`h2c`, `HTTP/2.0`, TLS): a server that took it would be
/// asked things that nobody has routed. Nobody needs it (RFC 9113, 3.1).
fn is_http(asked: &HeaderValue) -> bool {
    asked.as_bytes().split(|byte| *byte == b',').any(|protocol| {
        let protocol = protocol.trim_ascii().to_ascii_lowercase();
        [&b"h2"[..], b"http/", b"tls/"].iter().any(|http| protocol.starts_with(http))
    })
}

/// What `Connection` names, in lower case; not what keeps or closes it, which names no field.
fn named(headers: &Headers) -> SmallVec<[String; 2]> {
    headers
        .all(&name::CONNECTION)
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .map(|option| option.trim().to_ascii_lowercase())
        .filter(|option| !matches!(&**option, "" | "close" | "keep-alive"))
        .collect()
}

/// Makes the request's fields what a server gets, but for `Host` and what frames the body. `body` tells
/// whether there is one.
/// `peer` is who it comes from, where it is to be told.
pub(super) fn for_server(exchange: &mut Exchange, peer: Option<&str>, upgrade: Option<&HeaderValue>, body: bool) {
    let headers = &mut exchange.request.headers;
    if headers.may_have_any(ANY_HOP) {
        let trailers = headers.has_token(&name::TE, "trailers");
        if headers.contains(&name::CONNECTION) {
            for option in named(headers) {
                headers.remove_text(&option);
            }
        }
        for name in &HOP {
            headers.remove(name);
        }
        if trailers {
            headers.set_bytes(&name::TE, b"trailers");
        }
    }
    if let Some(upgrade) = upgrade {
        headers.set_bytes(&name::CONNECTION, b"Upgrade");
        headers.set(name::UPGRADE, upgrade.clone());
    }
    if !body {
        headers.remove(&name::TRAILER);
    }
    if exchange.identity.hide_credentials {
        headers.remove(&name::AUTHORIZATION);
    }
    for (name, value) in &exchange.identity.fields {
        headers.set(name.clone(), value.clone());
    }
    forwarded::complete(exchange, peer);
}

/// Takes off what concerned the hop to the server; a switch of protocols keeps its two fields.
pub(super) fn for_client(head: &mut AnswerHead, switched: bool) {
    let headers = &mut head.headers;
    if !headers.may_have_any(ANY_HOP) {
        return;
    }
    let upgrade = if switched { headers.value_of(&name::UPGRADE) } else { None };
    if headers.contains(&name::CONNECTION) {
        for option in named(headers) {
            headers.remove_text(&option);
        }
    }
    for name in &HOP {
        headers.remove(name);
    }
    if let Some(upgrade) = upgrade {
        headers.set_bytes(&name::CONNECTION, b"Upgrade");
        headers.set(name::UPGRADE, upgrade);
    }
}
