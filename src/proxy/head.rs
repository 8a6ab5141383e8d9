//! *Head*: what the codec parsed, checked and made an [`Exchange`].

use super::connection::{Client, MAX_HEADERS};
use super::settings::{HeadRules, Underscores};
use super::{forwarded, hop};
use crate::http::target::TargetError;
use crate::http::{
    Exchange, HeaderName, HeaderValue, Headers, Made, Method, Protocol, Reason, RequestHead, StatusCode, name,
};
use ::http::Version;
use ::http::request::Parts;
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::sync::Arc;

/// A request that may be routed.
pub(super) struct Checked {
    pub(super) exchange: Exchange,
    /// The protocol that the client wants to switch to.
    pub(super) upgrade: Option<HeaderValue>,
}

/// The protocol of a request.
pub(super) fn protocol(version: Version) -> Protocol {
    match version {
        Version::HTTP_2 => Protocol::Http2,
        Version::HTTP_11 => Protocol::Http11,
        _ => Protocol::Http10,
    }
}

/// Where a request came in, and what is believed of what it says.
pub(super) struct Arrival<'a> {
    pub(super) entry_point: &'a Arc<str>,
    pub(super) peer: SocketAddr,
    pub(super) peer_text: Option<&'a HeaderValue>,
    pub(super) tls: bool,
    pub(super) trusted: bool,
    pub(super) hostname: Option<&'a HeaderValue>,
    pub(super) rules: &'a HeadRules,
}

/// Checks a head and writes into it what the entry chain writes.
///
/// # Errors
/// The answer to a head that is not acceptable, and to `OPTIONS *`, which nobody routes.
pub(super) fn check(client: &Client, parts: Parts) -> Result<Checked, Made> {
    let arrival = Arrival {
        entry_point: &client.open.entry.name,
        peer: client.peer,
        peer_text: client.peer_text.as_ref(),
        tls: client.tls,
        trusted: client.trusted,
        hostname: client.open.worker.settings.hostname.as_ref(),
        rules: &client.open.entry.head,
    };
    arrive(&arrival, parts)
}

/// What [`check`] does, without a connection.
///
/// # Errors
/// As [`check`].
pub(super) fn arrive(arrival: &Arrival<'_>, parts: Parts) -> Result<Checked, Made> {
    let protocol = protocol(parts.version);
    let mut headers = Headers::from_map(parts.headers);
    if headers.len() > MAX_HEADERS {
        return Err(Made::status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Reason::TooLarge).closing());
    }
    let host = host(&parts.uri, &headers, protocol)?;
    headers.remove(&name::HOST);
    if parts.method == Method::CONNECT {
        // A tunnel to anywhere is nothing that a catalog can ask for.
        return Err(Made::status(StatusCode::METHOD_NOT_ALLOWED, Reason::BadRequest));
    }
    if parts.method == Method::OPTIONS && parts.uri.path() == "*" {
        return Err(Made::new(StatusCode::OK, "", Reason::NoRoute));
    }
    if headers.get(&name::EXPECT).is_some_and(|expected| !expected.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Made::new(StatusCode::EXPECTATION_FAILED, "", Reason::BadRequest).closing());
    }
    underscores(&mut headers, arrival.rules.underscores)?;
    if protocol == Protocol::Http2 {
        join_cookies(&mut headers)?;
    }
    let mut target = parts.uri.path_and_query().cloned().ok_or_else(Made::bad_request)?;
    if target.as_str().starts_with('?') {
        // A URL without a path (`http://a.example?x`) asks for `/` (RFC 9110, 4.2.3).
        target = format!("/{target}").parse().map_err(|_| Made::bad_request())?;
    }
    let request = RequestHead::new(parts.method, host, target, headers, arrival.rules.target);
    let request = request.map_err(|error| match error {
        // Go's library takes a fragment; Traefik's chain refuses it, and the connection stays.
        TargetError::Fragment => Made::new(StatusCode::BAD_REQUEST, "", Reason::BadRequest),
        _ => Made::bad_request(),
    })?;
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
    };
    forwarded::rewrite(&mut exchange, arrival.trusted, arrival.peer_text, arrival.hostname, arrival.rules);
    let upgrade = hop::options(&mut exchange.request.headers, protocol, &arrival.rules.kept_connection);
    Ok(Checked { exchange, upgrade })
}

/// The one host of a request: of the target where it names one (RFC 9112, 3.2.2), else of the field.
fn host(uri: &::http::Uri, headers: &Headers, protocol: Protocol) -> Result<HeaderValue, Made> {
    let mut fields = headers.all(&name::HOST);
    let field = fields.next();
    if fields.next().is_some() || (field.is_none() && protocol == Protocol::Http11) {
        return Err(Made::bad_request());
    }
    let host = match (uri.authority(), field) {
        (Some(authority), _) => HeaderValue::from_str(authority.as_str()).map_err(|_| Made::bad_request())?,
        (None, Some(field)) => field.clone(),
        (None, None) => HeaderValue::from_static(""),
    };
    if host.as_bytes().iter().all(|byte| is_host_byte(*byte)) {
        Ok(host)
    } else {
        Err(Made { text: "400 Bad Request: malformed Host header", ..Made::bad_request() })
    }
}

/// What may stand in a Host field, after RFC 3986's `uri-host [":" port]`; no user information.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte)
}

/// Fields with `_` in their names, as the entry point wants them. The words of the answer are Traefik's.
fn underscores(headers: &mut Headers, strategy: Underscores) -> Result<(), Made> {
    if strategy == Underscores::Keep {
        return Ok(());
    }
    let has = |name: &HeaderName| name.as_str().contains('_');
    let named: SmallVec<[HeaderName; 2]> = headers.iter().map(|(name, _)| name).filter(|n| has(n)).cloned().collect();
    if strategy == Underscores::Reject && !named.is_empty() {
        let mut made = Made::new(StatusCode::BAD_REQUEST, "Bad Request\n", Reason::BadRequest);
        made.head.headers.set(name::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        made.head.headers.set(name::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        return Err(made);
    }
    for name in named {
        headers.remove(&name);
    }
    Ok(())
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
fn join_cookies(headers: &mut Headers) -> Result<(), Made> {
    if headers.all(&name::COOKIE).nth(1).is_some() {
        let crumbs: Vec<&[u8]> = headers.all(&name::COOKIE).map(HeaderValue::as_bytes).collect();
        let cookie = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).map_err(|_| Made::bad_request())?;
        headers.set(name::COOKIE, cookie);
    }
    Ok(())
}
