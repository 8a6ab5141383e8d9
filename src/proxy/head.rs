//! *Head*: what a codec parsed, checked and made an [`Exchange`].

use super::client::Client;
use super::settings::{HeadRules, Underscores};
use super::{forwarded, hop};
use crate::http::target::TargetError;
use crate::http::{
    Exchange, HeaderName, HeaderValue, Headers, Made, Method, Protocol, Reason, RequestHead, StatusCode, name, target,
};
use std::net::SocketAddr;
use std::sync::Arc;

/// Lines of a request's head.
pub(super) const MAX_LINES: usize = 256;

/// A request that may be routed.
pub(super) struct Checked {
    pub(super) exchange: Exchange,
    /// The protocol that the client wants to switch to.
    pub(super) upgrade: Option<HeaderValue>,
}

/// A request's head as a codec hands it on.
pub(super) struct Parsed {
    pub(super) protocol: Protocol,
    pub(super) method: Method,
    /// The target as it was sent; memory that is used again.
    pub(super) target: String,
    /// The fields, with `Host`.
    pub(super) headers: Headers,
}

/// Where a request came in, and what is believed of what it says.
pub(super) struct Arrival<'a> {
    pub(super) entry_point: &'a Arc<str>,
    pub(super) peer: SocketAddr,
    pub(super) peer_text: &'a str,
    pub(super) tls: bool,
    pub(super) trusted: bool,
    pub(super) hostname: Option<&'a HeaderValue>,
    pub(super) rules: &'a HeadRules,
}

/// What is known of a head that is not acceptable.
pub(super) struct Refused {
    pub(super) made: Made,
    pub(super) method: Method,
    pub(super) target: String,
}

/// Checks a head and writes into it what the entry chain writes.
///
/// # Errors
/// The answer to a head that is not acceptable, and to `OPTIONS *`, which nobody routes.
pub(super) fn check(client: &Client, parsed: Parsed) -> Result<Checked, Box<Refused>> {
    let arrival = Arrival {
        entry_point: &client.open.entry.name,
        peer: client.peer,
        peer_text: &client.peer_text,
        tls: client.tls,
        trusted: client.trusted,
        hostname: client.open.worker.settings.hostname.as_ref(),
        rules: &client.open.entry.head,
    };
    arrive(&arrival, parsed)
}

/// What [`check`] does, without a connection.
///
/// # Errors
/// As [`check`].
pub(super) fn arrive(arrival: &Arrival<'_>, parsed: Parsed) -> Result<Checked, Box<Refused>> {
    let Parsed { protocol, method, target: mut text, mut headers } = parsed;
    let refused = |made, method, target| Err(Box::new(Refused { made, method, target }));
    if method == Method::CONNECT {
        // A tunnel to anywhere is nothing that a catalog can ask for.
        return refused(Made::status(StatusCode::METHOD_NOT_ALLOWED, Reason::BadRequest), method, text);
    }
    if headers.len() > MAX_LINES {
        let made = Made {
            reason: Reason::TooLarge,
            ..Made::refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "431 Request Header Fields Too Large")
        };
        return refused(made, method, text);
    }
    let target_end = match write_host(&mut text, &headers, protocol) {
        Ok(end) => end,
        Err(made) => return refused(made, method, text),
    };
    headers.remove(&name::HOST);
    if method == Method::OPTIONS && text.get(..target_end) == Some("*") {
        return refused(Made::new(StatusCode::OK, "", Reason::NoRoute), method, "*".to_owned());
    }
    if protocol == Protocol::Http2 {
        join_cookies(&mut headers);
    }
    let fine = underscores(&mut headers, arrival.rules.underscores)
        .and_then(|()| hop::protected(&headers, &arrival.rules.kept_connection));
    if let Err(made) = fine {
        text.truncate(target_end);
        return refused(made, method, text);
    }
    let request = match RequestHead::of_text(text, target_end, method.clone(), headers, arrival.rules.target) {
        Ok(request) => request,
        Err((error, mut text)) => {
            text.truncate(target_end);
            let made = match error {
                // Go's library takes a fragment; Traefik's chain refuses it, and the connection stays.
                TargetError::Fragment => Made::new(StatusCode::BAD_REQUEST, "", Reason::BadRequest),
                _ => Made::bad_request(),
            };
            return refused(made, method, text);
        }
    };
    let mut exchange = Exchange {
        request,
        entry_point: arrival.entry_point.clone(),
        peer: arrival.peer,
        tls: arrival.tls,
        protocol,
        prefixes: Default::default(),
        host: None,
        identity: Default::default(),
        claimed_for: None,
        original: None,
    };
    forwarded::rewrite(&mut exchange, arrival.trusted, arrival.peer_text, arrival.hostname, arrival.rules);
    let upgrade = hop::options(&mut exchange.request.headers, protocol, &arrival.rules.kept_connection);
    Ok(Checked { exchange, upgrade })
}

/// Puts the one host of a request behind the target's text: the one that the target names (RFC 9112, 3.2.2), else
/// the field's. A target in absolute form loses its host. Gives where the target ends.
fn write_host(text: &mut String, headers: &Headers, protocol: Protocol) -> Result<usize, Made> {
    let mut fields = headers.all(&name::HOST);
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Made::bad_request());
    }
    if field.is_none() && protocol == Protocol::Http11 {
        return Err(Made::refused(StatusCode::BAD_REQUEST, "400 Bad Request: missing required Host header"));
    }
    let named = field.is_some();
    let field = std::str::from_utf8(field.unwrap_or_default()).map_err(|_| Made::bad_request())?;
    if !field.bytes().all(is_host_byte) {
        return Err(Made::refused(StatusCode::BAD_REQUEST, "400 Bad Request: malformed Host header"));
    }
    if text.starts_with('/') || text == "*" {
        let end = text.len();
        text.push_str(field);
        return Ok(end);
    }
    let absolute = target::normalise(text).map_err(|_| Made::bad_request())?;
    let host = absolute.authority.unwrap_or_default().to_owned();
    // Who reads the one and who reads the other would disagree on where this goes.
    let agrees = !named || host.eq_ignore_ascii_case(field);
    if !agrees || !host.bytes().all(is_host_byte) {
        return Err(Made::bad_request());
    }
    let behind = text.find("//").map_or(0, |at| at + 2);
    let path = text.get(behind..).and_then(|rest| rest.find(['/', '?'])).map_or(text.len(), |at| behind + at);
    text.drain(..path);
    if !text.starts_with('/') {
        // A URL without a path asks for `/` (RFC 9110, 4.2.3).
        text.insert(0, '/');
    }
    let end = text.len();
    text.push_str(&host);
    Ok(end)
}

/// What may stand in a Host field, after RFC 3986's `uri-host [":" port]`; no user information.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte)
}

/// Fields with `_` in their names, as the entry point wants them. The words of the answer are Traefik's.
fn underscores(headers: &mut Headers, strategy: Underscores) -> Result<(), Made> {
    match strategy {
        Underscores::Keep => Ok(()),
        Underscores::Delete => {
            headers.remove_where(|name| name.contains(&b'_'));
            Ok(())
        }
        Underscores::Reject if headers.iter().any(|(name, _)| name.contains('_')) => {
            let mut made = Made::new(StatusCode::BAD_REQUEST, "Bad Request\n", Reason::BadRequest);
            made.head.headers.set(name::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            made.head.headers.set(name::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            Err(made)
        }
        Underscores::Reject => Ok(()),
    }
}

/// Encoded characters of the path that the entry point refuses; of requests that a router takes.
///
/// # Errors
/// The answer to a path that has some.
pub(super) fn encoded(exchange: &Exchange, rules: &HeadRules) -> Result<(), Made> {
    match rules.encoded_characters.allow(exchange.request.path()) {
        true => Ok(()),
        false => Err(Made::new(StatusCode::BAD_REQUEST, "", Reason::BadRequest)),
    }
}

/// Cookie crumbs become one field again (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut Headers) {
    if headers.all(&name::COOKIE).nth(1).is_some() {
        let crumbs: Vec<&[u8]> = headers.all(&name::COOKIE).collect();
        let cookie = crumbs.join(&b"; "[..]);
        headers.set_bytes(&name::COOKIE, &cookie);
    }
}

/// `Host` as it is written for HTTP/1.1, of a head that names it otherwise.
pub(super) fn with_authority(headers: &mut Headers, authority: Option<&str>) {
    const HOST: HeaderName = name::HOST;
    if let Some(authority) = authority
        && !headers.contains(&HOST)
    {
        headers.append_bytes(&HOST, authority.as_bytes());
    }
}
