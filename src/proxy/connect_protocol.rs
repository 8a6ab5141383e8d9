//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT with `:protocol` `websocket` becomes an
//! upgrade of HTTP/1.1 for the server, and its 101 a 200 for the client. What comes after is the same
//! bytes on both sides, so that the tunnel is the one of any other upgrade.
//!
//! What always holds: the client is told of a tunnel only if the server proved with `Sec-WebSocket-Accept`
//! that it understood (RFC 6455, 4.1). In HTTP/2 nobody but this module knows the key.

use crate::http::{AnswerHead, HeaderValue, Headers, Made, Method, Reason, StatusCode, name};
use ::http::header;
use ::http::request::Parts;
use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::ext::Protocol;

const WEBSOCKET: &str = "websocket";
/// RFC 6455, 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A tunnel that a client asked for by extended CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// What the server must say in `Sec-WebSocket-Accept`.
    accept: String,
}

/// Turns an extended CONNECT into the upgrade that it stands for. `None`: the request is none.
///
/// # Errors
/// The answer to protocols other than WebSocket (RFC 9220, 3 has 501 for them).
pub(super) fn translate(parts: &mut Parts) -> Result<Option<Asked>, Made> {
    let Some(protocol) = parts.extensions.remove::<Protocol>() else { return Ok(None) };
    if parts.method != Method::CONNECT || !protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) {
        return Err(Made::status(StatusCode::NOT_IMPLEMENTED, Reason::BadRequest));
    }
    let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
    to_upgrade(parts, &key)?;
    Ok(Some(Asked { accept: accept_of(&key) }))
}

fn to_upgrade(parts: &mut Parts, key: &str) -> Result<(), Made> {
    parts.method = Method::GET;
    let fields = &mut parts.headers;
    // RFC 8441, 5: neither is used here; a length would make it a request with a body.
    fields.remove(header::CONTENT_LENGTH);
    fields.remove(header::SEC_WEBSOCKET_ACCEPT);
    fields.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_str(key).map_err(|_| Made::bad_request())?);
    fields.entry(header::SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    fields.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    Ok(())
}

/// What proves that a server understood a key (RFC 6455, 4.2.2).
fn accept_of(key: &str) -> String {
    let mut sum = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    sum.update(key.as_bytes());
    sum.update(GUID);
    BASE64_STANDARD.encode(sum.finish())
}

impl Asked {
    /// Whether a 101 with these fields was meant for the key.
    pub(super) fn is_accepted(&self, fields: &Headers) -> bool {
        let mut said = fields.all(&name::SEC_WEBSOCKET_ACCEPT);
        said.next().is_some_and(|said| said == self.accept.as_bytes()) && said.next().is_none()
    }
}

/// Turns a server's accepted 101 into the answer to the CONNECT (RFC 8441, 5).
pub(super) fn opened(head: &mut AnswerHead) {
    head.status = StatusCode::OK;
    for name in
        [name::UPGRADE, name::CONNECTION, name::SEC_WEBSOCKET_ACCEPT, name::CONTENT_LENGTH, name::TRANSFER_ENCODING]
    {
        head.headers.remove(&name);
    }
}

/// Whether an answer without a switch may go to a client that asked for a tunnel: with any 2xx it
/// would take itself for connected.
pub(super) fn may_pass(status: StatusCode) -> bool {
    !status.is_success()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, protocol: Option<&'static str>) -> Parts {
        let mut request = ::http::Request::builder()
            .method(method)
            .uri("https://h.test/chat")
            .header("sec-websocket-protocol", "chat")
            .header("sec-websocket-key", "theirs")
            .header("content-length", "0");
        if let Some(protocol) = protocol {
            request = request.extension(Protocol::from_static(protocol));
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_proof_is_rfc_6455s() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_extended_connect_becomes_an_upgrade() {
        let mut asking = parts("CONNECT", Some("websocket"));
        let asked = translate(&mut asking).unwrap().expect("a tunnel");
        assert_eq!((asking.method.as_str(), asking.uri.path()), ("GET", "/chat"));
        let says = |name: &str| asking.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(says("upgrade").as_deref(), Some("websocket"));
        assert_eq!(says("connection").as_deref(), Some("Upgrade"));
        assert_eq!(says("sec-websocket-version").as_deref(), Some("13"));
        assert_eq!(says("sec-websocket-protocol").as_deref(), Some("chat"));
        assert_eq!(says("content-length"), None);
        let key = says("sec-websocket-key").expect("a key");
        assert_eq!(BASE64_STANDARD.decode(&key).unwrap().len(), 16);
        for (said, accepted) in [(vec![accept_of(&key)], true), (vec!["x".to_owned()], false), (vec![], false)] {
            let mut fields = Headers::default();
            for said in &said {
                fields.append(name::SEC_WEBSOCKET_ACCEPT, said.parse().unwrap());
            }
            assert_eq!(asked.is_accepted(&fields), accepted, "{said:?}");
        }
        let mut other = parts("CONNECT", Some("websocket"));
        translate(&mut other).unwrap();
        assert_ne!(other.headers["sec-websocket-key"], key.as_str(), "each has a key of its own");
    }

    #[test]
    fn what_is_none_stays() {
        assert_eq!(translate(&mut parts("GET", None)).unwrap(), None);
        assert_eq!(translate(&mut parts("CONNECT", None)).unwrap(), None);
        let refused = translate(&mut parts("CONNECT", Some("connect-udp"))).expect_err("not served");
        assert_eq!(refused.head.status, StatusCode::NOT_IMPLEMENTED);
    }

    #[test]
    fn a_switch_becomes_a_200_and_nothing_else_opens_a_tunnel() {
        let mut head = AnswerHead::new(StatusCode::SWITCHING_PROTOCOLS);
        for (name, value) in [
            (name::UPGRADE, "websocket"),
            (name::CONNECTION, "Upgrade"),
            (name::SEC_WEBSOCKET_ACCEPT, "x"),
            (name::SEC_WEBSOCKET_PROTOCOL, "chat"),
        ] {
            head.headers.set(name, HeaderValue::from_static(value));
        }
        opened(&mut head);
        assert_eq!((head.status, head.headers.len()), (StatusCode::OK, 1));
        assert_eq!(head.headers.text(&name::SEC_WEBSOCKET_PROTOCOL), Some("chat"));
        for (status, passes) in [(200, false), (204, false), (302, true), (403, true), (502, true)] {
            assert_eq!(may_pass(StatusCode::from_u16(status).unwrap()), passes, "{status}");
        }
    }
}
