//! Heads of answers (RFC 9112, 4).

use super::Fault;
use super::line::{self, Limits, Line, Parsed, ROOM};
use super::request::line_version;
use httparse::{Response, Status};
use memchr::memchr;
use std::ops::Range;

/// A status line as places in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusLine {
    /// 100 to 999.
    pub status: u16,
    /// The reason phrase, which may be empty; also the blank before it may be missing.
    pub reason: Range<usize>,
    /// HTTP/1.`minor`: 0 or 1.
    pub minor: u8,
}

/// Where the status ends: behind `HTTP/1.1 200`.
const STATUS_END: usize = 12;

/// Reads an answer's head. `lines` is emptied first and holds the field lines when the head is complete.
///
/// # Errors
/// Anything but an answer of HTTP/1.0 or HTTP/1.1 as RFC 9112 writes it. A missing blank behind the status is
/// allowed, as many servers send no reason phrase at all.
pub fn parse_answer(buffer: &[u8], limits: &Limits, lines: &mut Vec<Line>) -> Result<Parsed<StatusLine>, Fault> {
    lines.clear();
    let window = limits.cut(buffer);
    // httparse passes over empty lines
    if let Some(b'\r' | b'\n') = window.first() {
        return Err(Fault::EmptyLines);
    }
    let mut room = ROOM;
    let mut answer = Response::new(&mut room);
    let length = match answer.parse(window) {
        Ok(Status::Complete(length)) => Some(length),
        Ok(Status::Partial) => return limits.unfinished(window),
        Err(httparse::Error::TooManyHeaders) => None,
        Err(_) => return Err(diagnose(window)),
    };
    let (Some(minor), Some(status @ 100..)) = (answer.version, answer.code) else { return Err(Fault::StatusLine) };
    // httparse gives no reason phrase that is not ASCII, hence its place is found here
    let rest = window.get(STATUS_END..).unwrap_or_default();
    let Some(reason) = memchr(b'\n', rest).and_then(|at| rest.get(..at)).and_then(|line| line.strip_suffix(b"\r"))
    else {
        return Err(Fault::BareLf);
    };
    let line_end = STATUS_END + reason.len();
    let found = StatusLine { status, reason: line_end.min(STATUS_END + 1)..line_end, minor };
    let end = line::take(window, answer.headers, line_end + 2, lines)?;
    let length = match length {
        Some(length) => line::finish(window, end, length, limits, lines)?,
        None => match line::rest(window, end, limits, lines)? {
            Some(length) => length,
            None => return limits.unfinished(window),
        },
    };
    Ok(Parsed::Complete { line: found, length })
}

/// Why httparse refused the head.
#[cold]
fn diagnose(head: &[u8]) -> Fault {
    let end = memchr(b'\n', head);
    let line = head.get(..end.unwrap_or(head.len())).unwrap_or_default();
    let (line, bare) = match (line.strip_suffix(b"\r"), end) {
        (Some(line), _) => (line, false),
        (None, end) => (line, end.is_some()),
    };
    if line.contains(&b'\r') {
        return Fault::BareCr;
    }
    let version = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    if !matches!(version, b"HTTP/1.0" | b"HTTP/1.1") {
        return line_version(version);
    }
    let status = line.get(9..STATUS_END).unwrap_or_default();
    let reason = line.get(STATUS_END..).unwrap_or_default();
    if status.len() != 3
        || !status.iter().all(u8::is_ascii_digit)
        || !matches!(reason.first(), None | Some(b' '))
        || !reason.iter().all(|byte| line::is_value(*byte))
    {
        return Fault::StatusLine;
    }
    match end {
        Some(_) if bare => Fault::BareLf,
        Some(end) => line::diagnose(head, end + 1),
        None => Fault::StatusLine,
    }
}
