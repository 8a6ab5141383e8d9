//! Field lines as places in a buffer, read in batches of httparse's, which is lenient where this
//! codec is not: every line's end is looked at again, and what httparse refuses is looked at once more by
//! [`diagnose`], for the reason.
//!
//! What always holds: the cost is linear in the head's length, whatever the number of lines.

use super::Fault;
use httparse::{EMPTY_HEADER, Header, Status};
use memchr::memchr;

/// How much of a head is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head with its start line and its last CRLF; above them it is [`Fault::TooLarge`]. At most `u32::MAX`.
    pub head_bytes: usize,
    /// Field lines; above them it is [`Fault::TooManyLines`].
    pub lines: usize,
}

impl Limits {
    /// The part of a buffer that a head may take.
    pub(super) fn cut<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        // places are u32
        let most = self.head_bytes.min(u32::MAX as usize);
        buffer.get(..most).unwrap_or(buffer)
    }

    /// What a head that does not end in `window`, the cut of `buffer`, is: not yet complete, or too large.
    pub(super) fn unfinished<T>(&self, window: &[u8]) -> Result<Parsed<T>, Fault> {
        if window.len() >= self.head_bytes.min(u32::MAX as usize) { Err(Fault::TooLarge) } else { Ok(Parsed::Partial) }
    }
}

/// A field line as places in the buffer that was parsed. `start..end` is the whole line with its CRLF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Where the line, and its name, begins.
    pub start: u32,
    /// The name's length.
    pub name_len: u32,
    /// Where the value begins, blanks left out.
    pub value: u32,
    /// The value's length without the blanks around it.
    pub value_len: u32,
    /// Right behind the line's CRLF.
    pub end: u32,
}

impl Line {
    /// The name as it was sent. `buffer` must be the one that was parsed.
    #[inline]
    pub fn name<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        part(buffer, self.start, self.name_len)
    }

    /// The value without the blanks around it.
    #[inline]
    pub fn value<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        part(buffer, self.value, self.value_len)
    }

    /// The whole line with its CRLF.
    #[inline]
    pub fn whole<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Whether the name is this one, which must be in lower case.
    #[inline]
    pub fn is(&self, buffer: &[u8], name: &[u8]) -> bool {
        self.name_len as usize == name.len() && self.name(buffer).eq_ignore_ascii_case(name)
    }
}

#[inline]
fn part(buffer: &[u8], start: u32, length: u32) -> &[u8] {
    let start = start as usize;
    buffer.get(start..start + length as usize).unwrap_or_default()
}

/// What parsing gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<T> {
    /// The head does not end in the buffer.
    Partial,
    /// The head is there.
    Complete {
        /// Its start line.
        line: T,
        /// Its length with its last CRLF, and with an empty line that stood before it.
        length: usize,
    },
}

/// Whether a head that was [`Parsed::Partial`] when the buffer held `seen` bytes could be complete, or wrong, now.
/// Without this question a client that sends a head byte by byte has all of it parsed for each byte.
pub fn may_end(buffer: &[u8], seen: usize) -> bool {
    // An empty line, also one that ends in LF alone, which is then refused.
    let mut at = seen.saturating_sub(2);
    while let Some(found) = buffer.get(at..).and_then(|rest| memchr(b'\n', rest)) {
        match (buffer.get(at + found + 1), buffer.get(at + found + 2)) {
            (Some(b'\n'), _) | (Some(b'\r'), Some(b'\n')) => return true,
            _ => at += found + 1,
        }
    }
    false
}

/// Field lines that one pass of httparse reads; the usual request has fewer.
pub(super) const BATCH: usize = 32;

/// Room for one pass.
pub(super) const ROOM: [Header<'static>; BATCH] = [EMPTY_HEADER; BATCH];

/// Where a part that httparse cut out of the buffer begins.
#[inline]
pub(super) fn place(buffer: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).wrapping_sub(buffer.as_ptr() as usize)
}

/// Takes over what a pass read. Gives where the last line ends.
#[inline]
pub(super) fn take(buffer: &[u8], read: &[Header<'_>], begin: usize, lines: &mut Vec<Line>) -> Result<usize, Fault> {
    let mut begin = begin;
    for header in read {
        let start = place(buffer, header.name.as_bytes());
        let value = place(buffer, header.value);
        let end = line_end(buffer, value + header.value.len())?;
        debug_assert_eq!(start, begin);
        lines.push(Line {
            start: start as u32,
            name_len: header.name.len() as u32,
            value: value as u32,
            value_len: header.value.len() as u32,
            end: end as u32,
        });
        begin = end;
    }
    Ok(begin)
}

/// Right behind the CRLF that ends the line whose value ends at `at`.
#[inline]
fn line_end(buffer: &[u8], at: usize) -> Result<usize, Fault> {
    let mut at = at;
    loop {
        match buffer.get(at) {
            Some(b' ' | b'\t') => at += 1,
            Some(b'\r') if buffer.get(at + 1) == Some(&b'\n') => return Ok(at + 2),
            _ => return Err(Fault::BareLf),
        }
    }
}

/// The lines from `begin` on, once a first pass found more than it had room for. `None`: the head does not end here.
pub(super) fn rest(
    buffer: &[u8],
    begin: usize,
    limits: &Limits,
    lines: &mut Vec<Line>,
) -> Result<Option<usize>, Fault> {
    let mut begin = begin;
    let mut room = ROOM;
    loop {
        if lines.len() >= limits.lines {
            return Err(Fault::TooManyLines);
        }
        let left = buffer.get(begin..).unwrap_or_default();
        let read = match httparse::parse_headers(left, &mut room) {
            Ok(Status::Complete((length, read))) => {
                let end = take(buffer, read, begin, lines)?;
                return finish(buffer, end, begin + length, limits, lines).map(Some);
            }
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => &room,
            Err(_) => return Err(diagnose(buffer, begin)),
        };
        begin = take(buffer, read, begin, lines)?;
    }
}

/// The empty line behind the last field line, which ends at `end`. Gives the head's length.
#[inline]
pub(super) fn finish(
    buffer: &[u8],
    end: usize,
    length: usize,
    limits: &Limits,
    lines: &[Line],
) -> Result<usize, Fault> {
    if buffer.get(end..length) != Some(b"\r\n") {
        return Err(Fault::BareLf);
    }
    if lines.len() > limits.lines { Err(Fault::TooManyLines) } else { Ok(length) }
}

/// Why httparse refused the field lines from `begin` on.
pub(super) fn diagnose(buffer: &[u8], begin: usize) -> Fault {
    let mut rest = buffer.get(begin..).unwrap_or_default();
    while let Some(at) = memchr(b'\n', rest) {
        let (line, after) = rest.split_at(at + 1);
        match line.strip_suffix(b"\r\n") {
            None => return name_of(line.strip_suffix(b"\n").unwrap_or(line)).err().unwrap_or(Fault::BareLf),
            Some([]) => break,
            Some(line) => {
                if let Err(fault) = name_of(line) {
                    return fault;
                }
            }
        }
        rest = after;
    }
    // the line that does not end here
    name_of(rest.strip_suffix(b"\r").unwrap_or(rest)).err().unwrap_or(Fault::FieldName)
}

/// The name of a field line, which is given without its CRLF, or what is wrong with the line.
pub(super) fn name_of(line: &[u8]) -> Result<&[u8], Fault> {
    if let Some(b' ' | b'\t') = line.first() {
        return Err(Fault::Folded);
    }
    let Some(colon) = memchr(b':', line) else {
        return Err(if line.contains(&b'\r') { Fault::BareCr } else { Fault::NoColon });
    };
    let (name, value) = line.split_at(colon);
    if name.is_empty() {
        return Err(Fault::EmptyName);
    }
    if let Some(at) = name.iter().position(|byte| !is_token(*byte)) {
        let blanks = name.iter().skip(at).all(|byte| matches!(byte, b' ' | b'\t'));
        return Err(match name.get(at) {
            Some(b'\r') => Fault::BareCr,
            _ if blanks => Fault::BlankBeforeColon,
            _ if name.iter().all(|byte| *byte == b' ' || is_token(*byte)) => Fault::BlankInName,
            _ => Fault::FieldName,
        });
    }
    if let Some(byte) = value.iter().find(|byte| !is_value(**byte)) {
        return Err(if *byte == b'\r' { Fault::BareCr } else { Fault::FieldValue });
    }
    Ok(name)
}

/// A byte of a token (RFC 9110, 5.6.2).
#[inline]
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte of a field value: printable, blank, or above ASCII (RFC 9110, 5.5).
#[inline]
pub(super) fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
