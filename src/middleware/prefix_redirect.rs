//! Fabio's `redirect=<status>,<url>` (<https://fabiolb.net/feature/http-redirects/>; `route/target.go` as
//! measured in tests/oracle): `$path` in the target is the request's path without what `strip=` cuts off and
//! behind what `prepend=` adds, as text; `$host` is the request's Host. The request's query goes along with
//! its path unless the target has one.
//!
//! What always holds: the target is never read as another host than the tag names, whatever the path.

use super::path::{decode, encode, written};
use super::redirect::{Hex, ascii, client_scheme, moved};
use crate::http::target::clean;
use crate::http::{Exchange, Made, Reason, StatusCode, split_port};
use std::borrow::Cow;

const PATH: &str = "$path";

/// A redirect as its tag asks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Redirect<'a> {
    pub(super) url: &'a str,
    pub(super) strip: &'a str,
    pub(super) prepend: &'a str,
    /// The redirect leads to HTTPS on the request's own host, at this port; empty means 443.
    pub(super) port: Option<&'a str>,
}

impl Redirect<'_> {
    /// The redirect; a request that is at its target already is not found, for it would come back for ever.
    pub(super) fn answer(self, status: StatusCode, exchange: &Exchange) -> Made {
        let Target { scheme, host, path, query } = Target::of(self.url);
        let sent_host = exchange.request.host();
        let mut host = host.replacen("$host", sent_host, 1);
        if let Some(port) = self.port {
            host.truncate(split_port(&host).0.len());
            if !matches!(port, "" | "443") {
                host.extend([":", port]);
            }
        }
        let (path, own) = self.path(path, exchange.request.path());
        let query = match query {
            "" if own => exchange.request.query(),
            query => query,
        };
        if is_there(scheme, &host, &path, exchange) {
            return Made::not_found(Reason::NoRoute);
        }
        let mut location = match (scheme, &*host) {
            ("", "") => clean(&path).into_owned(),
            ("", host) => format!("//{host}{path}"),
            (scheme, host) => format!("{scheme}://{host}{path}"),
        };
        if !query.is_empty() {
            location.extend(["?", query]);
        }
        moved(status, ascii(location, Hex::Small))
    }

    /// The path of the target, and whether the request's is in it.
    fn path(self, target: &str, sent: &str) -> (String, bool) {
        let joined = target == PATH;
        // the slash before it is the path's own
        let target = target.replacen("/$path", PATH, 1);
        let decoded = decode(&target);
        let Some((before, behind)) = target.split_once(PATH) else { return (slashed(encode(&decoded, b"")), false) };
        let plain = decode(sent);
        let rest = plain.strip_prefix(self.strip.as_bytes()).unwrap_or(&plain);
        let decoded = [&*decode(before), self.prepend.as_bytes(), rest, &*decode(behind)].concat();
        // Go keeps how a path was escaped only where it would do it otherwise
        let plain = String::from_utf8_lossy(&plain);
        let sent = if encode(plain.as_bytes(), b"") == sent { plain } else { Cow::Borrowed(sent) };
        let rest = sent.strip_prefix(self.strip).unwrap_or(&sent);
        let escaped = [before, self.prepend, rest, behind].concat();
        let path = written(&decoded, escaped.as_bytes());
        // right behind the host Fabio writes the path anew, but no slash of its own out of an escaped one
        (slashed(if joined { encode(path.as_bytes(), b"%") } else { path }), true)
    }
}

/// With a slash before it.
fn slashed(path: String) -> String {
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// A target's parts, as far as Fabio keeps them.
struct Target<'a> {
    /// Empty where the target is a path alone.
    scheme: &'a str,
    host: &'a str,
    /// `$path` alone where it stands right behind the host.
    path: &'a str,
    query: &'a str,
}

impl<'a> Target<'a> {
    fn of(url: &'a str) -> Self {
        let url = url.split_once('#').map_or(url, |(url, _)| url);
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        let split = url.split_once("://").filter(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphanumeric()));
        let Some((scheme, rest)) = split.or_else(|| Some(("", url.strip_prefix("//")?))) else {
            return Self { scheme: "", host: "", path: url, query };
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        match host.strip_suffix(PATH) {
            Some(host) => Self { scheme, host, path: PATH, query },
            None => Self { scheme, host, path, query },
        }
    }
}

/// Whether the client is at the target, by the word of a trusted proxy before us where there is one.
fn is_there(scheme: &str, host: &str, path: &str, exchange: &Exchange) -> bool {
    let request = &exchange.request;
    let default = if scheme == "https" { "443" } else { "80" };
    let same = |a: &str, b: &str| {
        let (a, b) = (split_port(a), split_port(b));
        a.0.eq_ignore_ascii_case(b.0) && a.1.unwrap_or(default) == b.1.unwrap_or(default)
    };
    client_scheme(exchange) == scheme && same(host, request.host()) && path == request.path()
}
