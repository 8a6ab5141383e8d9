//! `redirectScheme` and entry point redirections
//! (<https://doc.traefik.io/traefik/middlewares/http/redirectscheme/>).

use crate::http::{Exchange, HeaderName, HeaderValue, Made, Method, StatusCode};
use std::borrow::Cow;
use std::sync::Arc;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// `http.redirections.entryPoint`, its target resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// Scheme of the target.
    pub scheme: Arc<str>,
    /// Port of the target; empty means the scheme's default.
    pub port: Arc<str>,
    /// 301 and 308 instead of 302 and 307.
    pub permanent: bool,
    /// Requests whose router has a higher priority pass.
    pub priority: i64,
    /// Requests of ACME's HTTP challenge pass (`allowACMEByPass`; RFC 8555, 8.3).
    pub spares_acme: bool,
}

/// Priority of an entry point's redirection that says none: Traefik's, above that of any router.
pub const REDIRECTION_PRIORITY: i64 = i64::MAX - 1;

impl Redirection {
    /// The redirect, unless the request is at its target already, names no host or is spared.
    pub fn answer(&self, exchange: &Exchange) -> Option<Made> {
        let request = &exchange.request;
        let acme = || request.routing_path().starts_with("/.well-known/acme-challenge/");
        if request.host().is_empty() || (self.spares_acme && acme()) {
            return None;
        }
        redirect_scheme(&self.scheme, &self.port, self.permanent, exchange)
    }

    /// Whether it has to be known which router takes a request before it is redirected.
    pub fn yields(&self) -> bool {
        self.priority < REDIRECTION_PRIORITY
    }
}

/// Redirects to another scheme, and port where given; requests that are there already pass.
pub(super) fn redirect_scheme(scheme: &str, port: &str, permanent: bool, exchange: &Exchange) -> Option<Made> {
    let (host, client_port) = crate::http::split_port(exchange.request.host());
    let is_default = |scheme: &str, port: &str| matches!((scheme, port), ("http", "80") | ("https", "443"));
    let client_scheme = client_scheme(exchange);
    let client_port = client_port.filter(|port| !is_default(client_scheme, port)).unwrap_or("");
    let port = if is_default(scheme, port) { "" } else { port };
    if client_scheme == scheme && client_port == port {
        return None;
    }
    let colon = if port.is_empty() { "" } else { ":" };
    let location = format!("{scheme}://{host}{colon}{port}{}", exchange.request.request_uri());
    Some(moved(status(permanent, exchange), location))
}

/// Redirects what the expression matches (the whole URL) to what the replacement makes of it; a URL
/// that is its own target passes.
pub(super) fn redirect_regex(
    regex: &regex::Regex,
    replacement: &str,
    permanent: bool,
    exchange: &Exchange,
) -> Option<Made> {
    let uri = exchange.request.request_uri();
    let url = format!("{}://{}{uri}", client_scheme(exchange), exchange.request.host());
    let location = match regex.replace_all(&url, replacement) {
        Cow::Borrowed(_) => return None,
        Cow::Owned(same) if same == url => return None,
        Cow::Owned(location) => location,
    };
    // as Traefik, which reads the URL and writes it anew
    Some(moved(status(permanent, exchange), ascii(location, Hex::Large)))
}

/// Letters of escaped bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hex {
    /// `%c3`, as Go's `http.Redirect` has them.
    Small,
    /// `%C3`, as Go's `URL.String` has them.
    Large,
}

/// A location whose bytes that are not ASCII are escaped (RFC 3986, 2.1).
pub(super) fn ascii(location: String, hex: Hex) -> String {
    if location.is_ascii() {
        return location;
    }
    location.bytes().fold(String::new(), |mut text, byte| {
        match hex {
            _ if byte.is_ascii() => text.push(char::from(byte)),
            Hex::Small => text.push_str(&format!("%{byte:02x}")),
            Hex::Large => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

/// The status that keeps the method where it is not GET.
fn status(permanent: bool, exchange: &Exchange) -> StatusCode {
    match (exchange.request.method == Method::GET, permanent) {
        (true, true) => StatusCode::MOVED_PERMANENTLY,
        (true, false) => StatusCode::FOUND,
        (false, true) => StatusCode::PERMANENT_REDIRECT,
        (false, false) => StatusCode::TEMPORARY_REDIRECT,
    }
}

pub(super) fn moved(status: StatusCode, location: String) -> Made {
    // Host and target have been checked, so the value is one; if it were not, not redirecting would loop.
    let location = HeaderValue::try_from(location).ok();
    location.map_or_else(Made::bad_request, |location| Made::redirect(status, location))
}

/// The scheme that the client used, by the word of a trusted proxy before us where there is one.
pub(super) fn client_scheme(exchange: &Exchange) -> &'static str {
    let said = exchange.request.headers.text(&X_FORWARDED_PROTO).unwrap_or("");
    if said.eq_ignore_ascii_case("https") || said.eq_ignore_ascii_case("wss") {
        "https"
    } else if said.eq_ignore_ascii_case("http") || said.eq_ignore_ascii_case("ws") {
        "http"
    } else if exchange.tls {
        "https"
    } else {
        "http"
    }
}
