//! *Head*: what the codec parsed, checked and made an [`Exchange`].

use super::connection::{Client, MAX_HEADERS};
use super::{forwarded, hop};
use crate::http::{Exchange, HeaderValue, Headers, Made, Method, Protocol, Reason, RequestHead, StatusCode, h2, name};
use ::http::Version;
use ::http::request::Parts;
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
    };
    arrive(&arrival, parts)
}

/// What [`check`] does, without a connection.
///
/// # Errors
/// As [`check`].
pub(super) fn arrive(arrival: &Arrival<'_>, parts: Parts) -> Result<Checked, Made> {
    let protocol = protocol(parts.version);
    let mut fields = parts.headers;
    if protocol == Protocol::Http2 {
        h2::check_request(&parts.method, &parts.uri, &fields).map_err(|_| Made::bad_request())?;
        h2::join_cookies(&mut fields);
    }
    let mut headers = Headers::from_map(fields);
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
    let mut target = parts.uri.path_and_query().cloned().ok_or_else(Made::bad_request)?;
    if target.as_str().starts_with('?') {
        // A URL without a path (`http://a.example?x`) asks for `/` (RFC 9110, 4.2.3).
        target = format!("/{target}").parse().map_err(|_| Made::bad_request())?;
    }
    let request = RequestHead::new(parts.method, host, target, headers).map_err(|_| Made::bad_request())?;
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
    forwarded::rewrite(&mut exchange, arrival.trusted, arrival.peer_text, arrival.hostname);
    let upgrade = hop::options(&mut exchange.request.headers, protocol);
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
