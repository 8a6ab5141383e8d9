//! `replacePath`, `replacePathRegex` and `stripPrefixRegex`
//! (<https://doc.traefik.io/traefik/middlewares/http/replacepathregex/>).
//!
//! As in Traefik a path that becomes one that leads elsewhere (`..`, `//`) is refused: who routed it did not mean that.

use super::path::{decode, written};
use crate::http::target::clean;
use crate::http::{Exchange, HeaderValue, Made, Reason, StatusCode};
use regex::Regex;

const REPLACED: &str = "x-replaced-path";

/// Replaces the path.
pub(super) fn replace_path(path: &str, exchange: &mut Exchange) {
    note(exchange);
    set(path, exchange);
}

/// Rewrites a path that the expression matches.
pub(super) fn replace_path_regex(regex: &Regex, replacement: &str, exchange: &mut Exchange) -> Option<Made> {
    let path = exchange.request.path();
    if !regex.is_match(path) {
        return None;
    }
    let path = regex.replace_all(path, replacement).into_owned();
    if let Some(bad) = (path.match_indices('%').map(|(at, _)| &path[at..])).find(|text| !is_escape(text)) {
        let bad: String = bad.chars().take(3).collect();
        let text = format!("invalid URL escape \"{}\"\n", bad.escape_default());
        return Some(Made::error(StatusCode::INTERNAL_SERVER_ERROR, text, Reason::Internal));
    }
    note(exchange);
    set(&path, exchange);
    refused(exchange)
}

/// Cuts off what the first expression matches at the path's beginning.
pub(super) fn strip_prefix_regex(expressions: &[Regex], exchange: &mut Exchange) -> Option<Made> {
    let escaped = exchange.request.path();
    let decoded = decode(escaped);
    let decoded = std::str::from_utf8(&decoded).ok()?;
    let beginning = |regex: &Regex| regex.find(decoded).filter(|found| found.start() == 0 && found.end() > 0);
    let length = expressions.iter().find_map(beginning)?.end();
    let (prefix, rest) = decoded.split_at(length);
    let kept = escaped.get(escaped_length(escaped, length)..).unwrap_or_default();
    let lead = |path: &str| if path.is_empty() || path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let path = written(lead(rest).as_bytes(), lead(kept).as_bytes());
    exchange.prefixes.push(prefix.into());
    exchange.request.set_path(path);
    refused(exchange)
}

/// How many bytes of an escaped path say so many of the decoded one.
fn escaped_length(escaped: &str, decoded: usize) -> usize {
    let bytes = escaped.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let mut at = 0;
    for _ in 0..decoded {
        at += if bytes.get(at) == Some(&b'%') && is_hex(at + 1) && is_hex(at + 2) { 3 } else { 1 };
    }
    at
}

/// Tells servers the path as it was.
fn note(exchange: &mut Exchange) {
    if let Ok(path) = HeaderValue::from_str(exchange.request.path()) {
        exchange.request.headers.append_text(REPLACED, &path);
    }
}

fn set(path: &str, exchange: &mut Exchange) {
    let mut path = written(&decode(path), path.as_bytes());
    if !path.is_empty() && !path.starts_with('/') {
        // A request line begins its path with a slash, whatever was said.
        path.insert(0, '/');
    }
    exchange.request.set_path(path);
}

/// Whether a text begins with an encoded byte.
fn is_escape(text: &str) -> bool {
    text.as_bytes().get(1..3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// The refusal of a path that is not what it becomes once it is cleaned.
fn refused(exchange: &Exchange) -> Option<Made> {
    let path = exchange.request.path();
    let changes = !path.is_empty() && (clean(path) != path || path.starts_with("//"));
    changes.then(|| Made::error(StatusCode::BAD_REQUEST, "Bad Request\n", Reason::BadRequest))
}
