//! Traefik's `headers` (<https://doc.traefik.io/traefik/middlewares/http/headers/>): fields of requests and answers, CORS,
//! and the security headers.
//!
//! As in Traefik the security part stands within: its refusal gets the fields of answers, a preflight's answer gets
//! none, and what is set by name wins.

use crate::http::{AnswerHead, Exchange, HeaderValue, Made, Method, Reason, StatusCode, name};
use crate::table::{Allowed, Cors, NONCE, ReadyHeaders, Security};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::borrow::Cow;
use std::sync::Arc;

const REQUEST_METHOD: &str = "access-control-request-method";
const REQUEST_HEADERS: &str = "access-control-request-headers";
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// What is done to a request.
pub(super) fn enter(ready: &ReadyHeaders, exchange: &mut Exchange) -> Option<Made> {
    if let Some(made) = ready.cors.as_ref().and_then(|cors| preflight(cors, exchange)) {
        return Some(made);
    }
    for (name, value) in &ready.request {
        match value {
            Some(value) => exchange.request.headers.set_text(name, value),
            None => exchange.request.headers.remove_text(name),
        }
    }
    exchange.identity.hide_peer |= ready.hide_peer;
    if let Some(host) = &ready.host {
        exchange.host = Some(host.clone());
    }
    if ready.security.as_ref().is_none_or(|security| is_good_host(security, exchange)) {
        return None;
    }
    let mut made = Made::error(StatusCode::INTERNAL_SERVER_ERROR, "Bad Host\n", Reason::Denied);
    answer(ready, exchange, &mut made.head);
    Some(made)
}

/// What is done to an answer.
pub(super) fn leave(ready: &ReadyHeaders, exchange: &Exchange, head: &mut AnswerHead) {
    if let Some(security) = &ready.security {
        secure(security, exchange, head);
    }
    answer(ready, exchange, head);
}

/// The part that stands before security.
fn answer(ready: &ReadyHeaders, exchange: &Exchange, head: &mut AnswerHead) {
    for (name, value) in &ready.response {
        match value {
            Some(value) => head.headers.set_text(name, value),
            None => head.headers.remove_text(name),
        }
    }
    let Some(cors) = &ready.cors else { return };
    let headers = &mut head.headers;
    if let Some(origin) = allowed_origin(cors, exchange) {
        headers.set_text("access-control-allow-origin", &origin);
    }
    if cors.credentials {
        headers.set_text("access-control-allow-credentials", &TRUE);
    }
    if let Some(exposed) = &cors.exposed {
        headers.set_text("access-control-expose-headers", exposed);
    }
    if cors.vary {
        let vary = match headers.joined(&name::VARY) {
            None => Cow::Borrowed(&b"Origin"[..]),
            Some(vary) if vary.is_empty() => Cow::Borrowed(&b"Origin"[..]),
            Some(vary) if *vary == *b"Origin" => return,
            Some(vary) => Cow::Owned([&vary, &b",Origin"[..]].concat()),
        };
        let vary = vary.into_owned();
        headers.set_bytes(&name::VARY, &vary);
    }
}

/// The answer to a preflight (<https://fetch.spec.whatwg.org/#cors-preflight-fetch>).
fn preflight(cors: &Cors, exchange: &Exchange) -> Option<Made> {
    let asked = &exchange.request.headers;
    if exchange.request.method != Method::OPTIONS || asked.lacks(&name::ORIGIN) {
        return None;
    }
    let method = asked.first(REQUEST_METHOD).filter(|method| !method.is_empty())?;
    let mut made = Made::new(StatusCode::OK, "", Reason::Preflight);
    let headers = &mut made.head.headers;
    if cors.credentials {
        headers.append_text("access-control-allow-credentials", &TRUE);
    }
    let asked_headers = asked.first(REQUEST_HEADERS).filter(|value| !value.is_empty());
    for (name, allowed, asked) in [
        ("access-control-allow-headers", &cors.headers, asked_headers),
        ("access-control-allow-methods", &cors.methods, Some(method)),
    ] {
        match allowed {
            Allowed::Unsaid => {}
            Allowed::Value(value) => headers.append_text(name, value),
            Allowed::Asked => {
                if let Some(value) = asked.and_then(|asked| HeaderValue::from_bytes(asked).ok()) {
                    headers.append_text(name, &value);
                }
            }
        }
    }
    if let Some(origin) = allowed_origin(cors, exchange) {
        headers.append_text("access-control-allow-origin", &origin);
    }
    if let Some(age) = &cors.max_age {
        headers.append_text("access-control-max-age", age);
    }
    if let Some(exposed) = &cors.exposed {
        headers.append_text("access-control-expose-headers", exposed);
    }
    Some(made)
}

/// What `Access-Control-Allow-Origin` says; `None` where the origin is not allowed.
fn allowed_origin(cors: &Cors, exchange: &Exchange) -> Option<HeaderValue> {
    let origin = exchange.request.headers.get(&name::ORIGIN).unwrap_or_default();
    let itself = || HeaderValue::from_bytes(origin).ok();
    for (text, value) in &cors.origins {
        if text.as_bytes() == origin {
            return Some(value.clone());
        }
        if &**text == "*" {
            // `*` has no meaning beside credentials
            return if cors.credentials { itself() } else { Some(value.clone()) };
        }
    }
    let text = std::str::from_utf8(origin).ok()?;
    if cors.expressions.iter().any(|expression| expression.is_match(text)) { itself() } else { None }
}

fn is_good_host(security: &Security, exchange: &Exchange) -> bool {
    if security.hosts.is_empty() {
        return true;
    }
    let headers = &exchange.request.headers;
    let said = security.host_fields.iter().find_map(|name| headers.first(name).filter(|value| !value.is_empty()));
    let own = exchange.host.as_ref().map_or(exchange.request.host().as_bytes(), |host| host.as_bytes());
    let host = said.unwrap_or(own);
    security.hosts.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(host))
}

fn secure(security: &Security, exchange: &Exchange, head: &mut AnswerHead) {
    for (name, value) in &security.always {
        head.headers.set_text(name, value);
    }
    let headers = &exchange.request.headers;
    let says_tls =
        |(name, value): &(Arc<str>, HeaderValue)| headers.first(name).unwrap_or_default() == value.as_bytes();
    if !security.encrypted.is_empty() && (exchange.tls || security.tls_fields.iter().any(says_tls)) {
        for (name, value) in &security.encrypted {
            head.headers.set_text(name, value);
        }
    }
    if !security.with_nonce.is_empty() {
        let mut bytes = [0; 16];
        rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
        let nonce = format!("'nonce-{}'", STANDARD_NO_PAD.encode(bytes));
        for (name, text) in &security.with_nonce {
            if let Ok(value) = HeaderValue::try_from(text.replace(NONCE, &nonce)) {
                head.headers.set_text(name, &value);
            }
        }
    }
}
