//! `stripPrefix` and `addPrefix` (<https://doc.traefik.io/traefik/middlewares/http/stripprefix/>).
//!
//! As in Traefik, prefixes are compared with the decoded path. The escaped path is kept where it
//! still says the same as the decoded one, and written anew where it does not.

use crate::http::Exchange;
use crate::http::target::clean;
use std::borrow::Cow;
use std::sync::Arc;

/// Cuts the first of `prefixes` that fits off the path and notes it for `X-Forwarded-Prefix`.
pub(super) fn strip_prefix(prefixes: &[Arc<str>], exchange: &mut Exchange) {
    let escaped = exchange.request.path();
    let decoded = decode(escaped);
    for prefix in prefixes {
        let Some(rest) = decoded.strip_prefix(prefix.as_bytes()) else { continue };
        let kept = escaped.strip_prefix(&**prefix).unwrap_or(escaped);
        let path = agree(lead(rest), lead(kept.as_bytes()));
        exchange.request.set_path(path);
        exchange.prefixes.push(prefix.clone());
        return;
    }
}

/// Makes `/` of a path of which nothing is left.
pub(super) fn leading_slash(exchange: &mut Exchange) {
    if exchange.request.path().is_empty() {
        exchange.request.set_path("/".to_owned());
    }
}

/// Puts `prefix` before the path.
pub(super) fn add_prefix(prefix: &str, exchange: &mut Exchange) {
    let escaped = exchange.request.path();
    let decoded = [prefix.as_bytes(), &decode(escaped)].concat();
    let written = format!("{prefix}{escaped}");
    let path = agree(lead(&decoded), lead(written.as_bytes()));
    exchange.request.set_path(path);
}

/// With a slash before it, unless it is empty.
fn lead(path: &[u8]) -> Cow<'_, [u8]> {
    if path.is_empty() || path[0] == b'/' { Cow::Borrowed(path) } else { Cow::Owned([b"/", path].concat()) }
}

/// The escaped form where it is a fine way to write the decoded one, else the decoded one escaped.
///
/// Cleaned again, which Traefik does not: what is left of `/api../x` or of `/api%2F..%2Fx` after `/api` is cut
/// off would lead out of where the request was routed to, and out of a prefix that is put before it; and what is left of
/// `/api%2F%2Fhost` would be read as a host. Slashes that a prefix itself brings (`/v1/` before `/x`) stay, as Traefik and
/// Fabio send them.
fn agree(decoded: Cow<'_, [u8]>, escaped: Cow<'_, [u8]>) -> String {
    let path = written(&decoded, &escaped);
    let climbs = path.starts_with("//") || path.split('/').any(|segment| matches!(segment, "." | ".."));
    if climbs { clean(&path).into_owned() } else { path }
}

/// The escaped form where it says the same as the decoded one, else the decoded one escaped.
pub(super) fn written(decoded: &[u8], escaped: &[u8]) -> String {
    match std::str::from_utf8(escaped) {
        Ok(text) if text.bytes().all(is_path_byte) && *decode(text) == *decoded => text.to_owned(),
        _ => encode(decoded, b""),
    }
}

/// Undoes percent-encoding; what is no encoding stays.
pub(super) fn decode(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if memchr::memchr(b'%', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let hex = |at: usize| bytes.get(at).and_then(|byte| (*byte as char).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(decoded)
}

/// Bytes that stand for themselves in a path (RFC 3986, 3.3), and `%`.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/[]%".contains(&byte)
}

/// Escapes what Go's `url.URL.EscapedPath` escapes, besides what is to be kept.
pub(super) fn encode(path: &[u8], keep: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(byte) || keep.contains(byte) {
            text.push(*byte as char);
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            text.push('%');
            text.push(DIGITS[usize::from(byte >> 4)] as char);
            text.push(DIGITS[usize::from(byte & 15)] as char);
        }
    }
    text
}
