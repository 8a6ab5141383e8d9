//! Heads of requests (RFC 9112, 2 and 3).

use super::Fault;
use super::line::{self, Limits, Line, Parsed, ROOM};
use httparse::{Request, Status};
use memchr::memchr;
use std::ops::Range;

/// A request line as places in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// The method, a token, as it was sent. The request begins at `method.start`: that is 2 where an empty line stood before it.
    pub method: Range<usize>,
    /// The target: one byte or more, UTF-8, without blanks and control bytes; its form is not looked at.
    pub target: Range<usize>,
    /// HTTP/1.`minor`: 0 or 1.
    pub minor: u8,
}

/// Reads a request's head. `lines` is emptied first and holds the field lines when the head is complete.
///
/// One empty line before the request is passed over, as RFC 9112, 2.2 asks for; two are refused, as Traefik does.
///
/// # Errors
/// Anything but a request of HTTP/1.0 or HTTP/1.1 as RFC 9112 writes it, with none of the leniences that it
/// allows besides that empty line.
pub fn parse_request(buffer: &[u8], limits: &Limits, lines: &mut Vec<Line>) -> Result<Parsed<RequestLine>, Fault> {
    lines.clear();
    let window = limits.cut(buffer);
    // httparse passes over any number of empty lines, also such that end in LF alone
    let begin = match window {
        [b'\r', b'\n', b'\r' | b'\n', ..] => return Err(Fault::EmptyLines),
        [b'\r', b'\n', ..] => 2,
        [b'\r'] | [] => return limits.unfinished(window),
        [b'\r', ..] => return Err(Fault::BareCr),
        [b'\n', ..] => return Err(Fault::BareLf),
        _ => 0,
    };
    let head = window.get(begin..).unwrap_or_default();
    let mut room = ROOM;
    let mut request = Request::new(&mut room);
    let length = match request.parse(head) {
        Ok(Status::Complete(length)) => Some(begin + length),
        Ok(Status::Partial) => return limits.unfinished(window),
        Err(httparse::Error::TooManyHeaders) => None,
        Err(_) => return Err(diagnose(window, begin)),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Fault::RequestLine);
    };
    let target_start = line::place(window, target.as_bytes());
    let found =
        RequestLine { method: begin..begin + method.len(), target: target_start..target_start + target.len(), minor };
    // SP and the version's 8 bytes stand between the target and the line's end
    let version_end = found.target.end + 9;
    if window.get(version_end) != Some(&b'\r') {
        return Err(Fault::BareLf);
    }
    let end = line::take(window, request.headers, version_end + 2, lines)?;
    let length = match length {
        Some(length) => line::finish(window, end, length, limits, lines)?,
        None => match line::rest(window, end, limits, lines)? {
            Some(length) => length,
            None => return limits.unfinished(window),
        },
    };
    Ok(Parsed::Complete { line: found, length })
}

/// Why httparse refused the head that begins at `begin`.
#[cold]
fn diagnose(buffer: &[u8], begin: usize) -> Fault {
    let head = buffer.get(begin..).unwrap_or_default();
    let end = memchr(b'\n', head);
    let line = head.get(..end.unwrap_or(head.len())).unwrap_or_default();
    let (line, bare) = match (line.strip_suffix(b"\r"), end) {
        (Some(line), _) => (line, false),
        (None, end) => (line, end.is_some()),
    };
    if let Some(fault) = fault_in(line, end.is_some()) {
        return fault;
    }
    match end {
        Some(_) if bare => Fault::BareLf,
        Some(end) => line::diagnose(buffer, begin + end + 1),
        None => Fault::RequestLine,
    }
}

/// What is wrong with a request line; `whole` unless its end is missing.
fn fault_in(line: &[u8], whole: bool) -> Option<Fault> {
    if line.contains(&b'\r') {
        return Some(Fault::BareCr);
    }
    let mut parts = line.split(|byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    if method.is_empty() {
        return Some(Fault::RequestLine);
    }
    if !method.iter().all(|byte| line::is_token(*byte)) {
        return Some(Fault::Method);
    }
    let (target, version) = match (parts.next(), parts.next()) {
        (Some(target), Some(version)) => (target, version),
        (Some(target), None) if is_target(target) => return Some(Fault::RequestLine),
        (Some(_), None) => return Some(Fault::Target),
        (None, _) => return Some(Fault::RequestLine),
    };
    // two blanks after one another, or one within the target
    if target.is_empty() || parts.next().is_some() {
        return Some(Fault::RequestLine);
    }
    if !is_target(target) {
        return Some(Fault::Target);
    }
    match version {
        b"HTTP/1.0" | b"HTTP/1.1" => None,
        _ if !whole => Some(Fault::Version),
        _ => Some(line_version(version)),
    }
}

fn is_target(target: &[u8]) -> bool {
    std::str::from_utf8(target).is_ok() && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

/// Which fault a version other than HTTP/1.0 and HTTP/1.1 is.
pub(super) fn line_version(version: &[u8]) -> Fault {
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Fault::UnsupportedVersion
        }
        _ => Fault::Version,
    }
}
