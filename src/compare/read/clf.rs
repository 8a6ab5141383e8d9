//! Common Log Format and its descendants: `combined`, Apache's `vhost_combined`, and Traefik's, which writes its count,
//! router, server and duration behind (<https://doc.traefik.io/traefik/observability/access-logs/#format>).
//!
//! None of them but `vhost_combined` has the host.

use super::Line;
use crate::compare::request::{Bad, Recorded, Scheme};
use crate::http::split_port;
use std::net::IpAddr;

const FORM: &str = "`client - user [time] \"METHOD /target HTTP/1.1\" status size …`";

/// One line.
pub(super) fn read(line: &str) -> Result<Line, Bad> {
    let form = || Bad::Form(FORM);
    let (before, rest) = line.split_once(" [").ok_or_else(form)?;
    let (_, rest) = rest.split_once(']').ok_or_else(form)?;
    let (request, rest) = quoted(rest.trim_start()).ok_or_else(form)?;
    let status = rest.split_ascii_whitespace().next().unwrap_or_default();
    if !(status == "-" || status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit())) {
        return Err(form());
    }
    let fields: Vec<&str> = before.split_ascii_whitespace().collect();
    if fields.len() < 3 {
        return Err(form());
    }
    // `vhost_combined` has the virtual host and its port before the client's address
    let vhost = fields.get(1).filter(|second| second.parse::<IpAddr>().is_ok()).and(fields.first());
    if request == "-" || request.is_empty() {
        return Ok(Line::Other);
    }
    let (method, rest) = request.split_once(' ').ok_or_else(form)?;
    let (target, protocol) = match rest.rsplit_once(' ') {
        Some((target, protocol)) if protocol.starts_with("HTTP/") => (target, protocol),
        _ => (rest, ""),
    };
    let (host, port) = vhost.map_or((None, None), |vhost| {
        let (host, port) = split_port(vhost);
        (Some(host.to_owned()), port)
    });
    let scheme = match (port, protocol) {
        (Some("443"), _) => Some(Scheme::Https),
        (Some("80"), _) => Some(Scheme::Http),
        // browsers speak these over TLS only
        (_, "HTTP/2.0" | "HTTP/2" | "HTTP/3.0" | "HTTP/3") => Some(Scheme::Https),
        _ => None,
    };
    Ok(Line::Request(Recorded {
        method: method.to_owned(),
        scheme,
        host,
        target: target.to_owned(),
        ..Recorded::default()
    }))
}

/// A text in double quotes, as nginx (`\x22`) and Apache (`\"`) write it, and what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.char_indices();
    let mut bytes = Vec::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((String::from_utf8_lossy(&bytes).into_owned(), text.get(at + 2..)?)),
            '\\' => match chars.next()?.1 {
                'x' => {
                    let (high, low) = (chars.next()?.1.to_digit(16)?, chars.next()?.1.to_digit(16)?);
                    bytes.push(u8::try_from(high * 16 + low).ok()?);
                }
                't' => bytes.push(b'\t'),
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                c => push(&mut bytes, c),
            },
            c => push(&mut bytes, c),
        }
    }
    None
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
