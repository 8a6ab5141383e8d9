//! Header fields as the bytes that came plus what was changed of them.
//!
//! What always holds: every field is a whole line of `bytes`, with its line end, and `lines` names those that
//! count, in their order. What nobody touched goes on byte for byte; a field that is set stands behind the
//! others. Names are tokens and values hold no control characters but tabs: who makes [`Headers`] from bytes
//! has checked that.

use super::h1;
use super::name::{HeaderName, Known};
use ::http::HeaderValue;
use ::http::header::HeaderMap;
use std::borrow::Cow;

/// A line of a head, by its place in the bytes.
#[derive(Debug, Clone, Copy)]
struct Line {
    start: u32,
    value: u32,
    value_len: u32,
    end: u32,
    name_len: u16,
    known: Known,
}

/// Header fields, in the order of their lines.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    // Known names that may be there; those that are not in it are not.
    present: u64,
}

impl Headers {
    /// Fields that a codec found in `bytes`. `room` is an empty vector to be used again.
    pub(crate) fn parsed(bytes: Vec<u8>, found: &[h1::Line], room: Room) -> Self {
        let mut lines = room.0;
        lines.clear();
        let mut present = 0;
        lines.extend(found.iter().map(|line| {
            let start = line.start as usize;
            let name = bytes.get(start..start + line.name_len as usize).unwrap_or_default();
            let known = Known::of(name);
            present |= known.bit();
            Line {
                start: line.start,
                value: line.value,
                value_len: line.value_len,
                end: line.end,
                name_len: line.name_len as u16,
                known,
            }
        }));
        Self { bytes, lines, present }
    }

    /// The bytes and the vector behind, to be used again.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Room) {
        (self.bytes, Room(self.lines))
    }

    /// All bytes, what stands before and behind the fields included.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Fields of a map, as HTTP/2 gives them. Names get the capital letters that HTTP/1.1 usually gives them,
    /// for servers that know no better. `room` is an empty vector to be used again.
    pub(crate) fn from_map(map: &HeaderMap, room: Room) -> Self {
        let mut headers = Self { bytes: Vec::new(), lines: room.0, present: 0 };
        headers.lines.clear();
        // And what is added for the next server.
        headers.bytes.reserve(map.len() * 48 + 256);
        headers.lines.reserve(map.len() + 8);
        for (name, value) in map {
            headers.push(Known::of(name.as_str().as_bytes()), name.as_str(), value.as_bytes());
        }
        headers
    }

    /// As a map, for HTTP/2. Each value is a part of one piece of memory.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.lines.len());
        let bytes = bytes::Bytes::copy_from_slice(self.written());
        let base = self.lines.iter().map(|line| line.start).min().unwrap_or(0) as usize;
        for line in &self.lines {
            let Ok(name) = ::http::HeaderName::from_bytes(self.name(line)) else { continue };
            let at = line.value as usize - base;
            if let Ok(value) = HeaderValue::from_maybe_shared(bytes.slice(at..at + line.value_len as usize)) {
                map.append(name, value);
            }
        }
        map
    }

    /// The part of the bytes in which all lines stand.
    fn written(&self) -> &[u8] {
        let start = self.lines.iter().map(|line| line.start).min().unwrap_or(0) as usize;
        let end = self.lines.iter().map(|line| line.end).max().unwrap_or(0) as usize;
        &self.bytes[start..end]
    }

    fn name(&self, line: &Line) -> &[u8] {
        &self.bytes[line.start as usize..][..line.name_len as usize]
    }

    fn value(&self, line: &Line) -> &[u8] {
        &self.bytes[line.value as usize..][..line.value_len as usize]
    }

    #[inline]
    fn may_have(&self, known: Known) -> bool {
        known == Known::Other || self.present & known.bit() != 0
    }

    fn find<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a Line> {
        let lines = if self.may_have(name.known) { &self.lines[..] } else { &[] };
        lines.iter().filter(|line| name.is(line.known, self.name(line)))
    }

    fn push(&mut self, known: Known, name: &str, value: &[u8]) {
        let start = self.bytes.len();
        if known == Known::Other {
            let mut capital = true;
            for byte in name.bytes() {
                self.bytes.push(if capital { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() });
                capital = byte == b'-';
            }
        } else {
            self.bytes.extend_from_slice(known.shown().as_bytes());
        }
        self.bytes.extend_from_slice(b": ");
        let at = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
        self.present |= known.bit();
        self.lines.push(Line {
            start: start as u32,
            value: at as u32,
            value_len: value.len() as u32,
            end: self.bytes.len() as u32,
            name_len: name.len() as u16,
            known,
        });
    }

    /// Number of field lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// First value of a name.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.find(name).next().map(|line| self.value(line))
    }

    /// First value of a name where it is text.
    pub fn text(&self, name: &HeaderName) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// First value of a name, as a value of its own.
    pub fn value_of(&self, name: &HeaderName) -> Option<HeaderValue> {
        self.get(name).and_then(|value| HeaderValue::from_bytes(value).ok())
    }

    /// True when the name is there.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.find(name).next().is_some()
    }

    /// True when one of these names may be there; a quick look that errs on the side of yes.
    #[inline]
    pub(crate) fn may_have_any(&self, names: NameSet) -> bool {
        self.present & names.0 != 0
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.find(name).map(|line| self.value(line))
    }

    /// All field lines: the name as it was written, and the value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.iter().map(|line| (std::str::from_utf8(self.name(line)).unwrap_or(""), self.value(line)))
    }

    /// Replaces all values of a name by one.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.set_bytes(&name, value.as_bytes());
    }

    /// The same, with a value that is known to be fit for a field.
    pub(crate) fn set_bytes(&mut self, name: &HeaderName, value: &[u8]) {
        self.remove(name);
        self.push(name.known, name.as_str(), value);
    }

    /// Sets a name unless it is there with a value that is not empty.
    pub fn set_default(&mut self, name: HeaderName, value: impl FnOnce() -> HeaderValue) {
        if self.lacks(&name) {
            self.set_bytes(&name, value().as_bytes());
        }
    }

    /// Whether a name is not there, or there without a value.
    pub(crate) fn lacks(&self, name: &HeaderName) -> bool {
        self.get(name).is_none_or(<[u8]>::is_empty)
    }

    /// Adds a field line.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.push(name.known, name.as_str(), value.as_bytes());
    }

    /// The same, with a value that is known to be fit for a field.
    pub(crate) fn append_bytes(&mut self, name: &HeaderName, value: &[u8]) {
        self.push(name.known, name.as_str(), value);
    }

    /// Removes all values of a name.
    pub fn remove(&mut self, name: &HeaderName) {
        if !self.may_have(name.known) {
            return;
        }
        let Self { bytes, lines, present } = self;
        lines.retain(|line| !name.is(line.known, &bytes[line.start as usize..][..line.name_len as usize]));
        if name.known != Known::Other {
            *present &= !name.known.bit();
        }
    }

    /// Removes all lines whose name fits.
    pub(crate) fn remove_where(&mut self, fits: impl Fn(&[u8]) -> bool) {
        let Self { bytes, lines, .. } = self;
        lines.retain(|line| !fits(&bytes[line.start as usize..][..line.name_len as usize]));
    }

    /// First value of a name, given as text in any case.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        let known = Known::of(name.as_bytes());
        let is = |line: &&Line| line.known == known && self.name(line).eq_ignore_ascii_case(name.as_bytes());
        if self.may_have(known) { self.lines.iter().find(is).map(|line| self.value(line)) } else { None }
    }

    /// Replaces all values of a name, given as text that is one, by one.
    pub fn set_text(&mut self, name: &str, value: &HeaderValue) {
        self.remove_text(name);
        self.append_text(name, value);
    }

    /// Adds a field line, its name given as text that is one.
    pub fn append_text(&mut self, name: &str, value: &HeaderValue) {
        self.push(Known::of(name.as_bytes()), name, value.as_bytes());
    }

    /// Removes the name, given as text in any case; a text that is no name is not there anyway.
    pub fn remove_text(&mut self, name: &str) {
        if self.may_have(Known::of(name.as_bytes())) {
            self.remove_where(|line| line.eq_ignore_ascii_case(name.as_bytes()));
        }
    }

    /// True when one of the comma-separated elements of the name's values is `token` (case-insensitive).
    pub fn has_token(&self, name: &HeaderName, token: &str) -> bool {
        self.all(name)
            .any(|value| value.split(|b| *b == b',').any(|e| e.trim_ascii().eq_ignore_ascii_case(token.as_bytes())))
    }

    /// Calls `f` with each value of the name (in any case) that is text, until it returns true.
    pub fn any(&self, name: &str, f: &mut dyn FnMut(&str) -> bool) -> bool {
        let known = Known::of(name.as_bytes());
        self.may_have(known)
            && self.lines.iter().any(|line| {
                line.known == known
                    && self.name(line).eq_ignore_ascii_case(name.as_bytes())
                    && std::str::from_utf8(self.value(line)).is_ok_and(&mut *f)
            })
    }

    /// All values of a name in one line, separated by `, `; `None` when it is not there.
    pub fn joined(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
        let mut values = self.find(name).map(|line| self.value(line));
        let mut joined = Cow::Borrowed(values.next()?);
        let rest: smallvec::SmallVec<[&[u8]; 4]> = values.collect();
        for value in rest {
            let text = joined.to_mut();
            text.extend_from_slice(b", ");
            text.extend_from_slice(value);
        }
        Some(joined)
    }

    /// Writes all lines, each with its line end; what stands side by side goes in one piece.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut lines = self.lines.iter();
        let Some(first) = lines.next() else { return };
        let (mut start, mut end) = (first.start, first.end);
        for line in lines {
            if line.start != end {
                out.extend_from_slice(&self.bytes[start as usize..end as usize]);
                start = line.start;
            }
            end = line.end;
        }
        out.extend_from_slice(&self.bytes[start as usize..end as usize]);
    }
}

/// A set of names that the proxy itself has to do with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NameSet(u64);

impl NameSet {
    /// Of names that are known; others are not in it.
    pub(crate) const fn of(names: &[HeaderName]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < names.len() {
            set |= names[at].known.bit();
            at += 1;
        }
        Self(set & !Known::Other.bit())
    }
}

/// Memory of a [`Headers`] that went, to be used again.
#[derive(Debug, Default)]
pub(crate) struct Room(Vec<Line>);

#[cfg(test)]
mod tests {
    use super::super::name;
    use super::*;

    fn parsed(head: &str) -> Headers {
        let text = format!("GET / HTTP/1.1\r\n{head}\r\n");
        let mut found = Vec::new();
        let limits = h1::Limits { head_bytes: 10_000, lines: 100 };
        h1::parse_request(text.as_bytes(), &limits, &mut found).expect("a head");
        Headers::parsed(text.into_bytes(), &found, Room::default())
    }

    fn written(headers: &Headers) -> String {
        let mut out = Vec::new();
        headers.write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn what_nobody_touched_goes_on_as_it_came() {
        let head = "hOST:a\r\nX-Odd:   b  \r\nAccept: */*\r\n";
        let mut headers = parsed(head);
        assert_eq!(written(&headers), head);
        headers.set(name::HOST, HeaderValue::from_static("b"));
        assert_eq!(written(&headers), "X-Odd:   b  \r\nAccept: */*\r\nHost: b\r\n");
        headers.remove_text("x-odd");
        headers.append(HeaderName::from_static("x-new-one"), HeaderValue::from_static("1"));
        assert_eq!(written(&headers), "Accept: */*\r\nHost: b\r\nX-New-One: 1\r\n");
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn fields_are_found_in_any_case_and_line() {
        let mut headers = parsed("connection: keep-alive\r\nX-a: 1\r\nCONNECTION: x , UPGRADE\r\nx-A: 2\r\n");
        assert!(headers.has_token(&name::CONNECTION, "upgrade"));
        assert!(!headers.has_token(&name::CONNECTION, "up"));
        assert_eq!(headers.joined(&name::CONNECTION).as_deref(), Some(&b"keep-alive, x , UPGRADE"[..]));
        assert_eq!(headers.joined(&name::HOST), None);
        let x = HeaderName::from_static("x-a");
        assert_eq!(headers.all(&x).collect::<Vec<_>>(), [b"1", b"2"]);
        let mut seen = Vec::new();
        assert!(headers.any("X-A", &mut |value| {
            seen.push(value.to_owned());
            value == "2"
        }));
        assert_eq!(seen, ["1", "2"]);
        headers.set_default(x.clone(), || HeaderValue::from_static("3"));
        assert_eq!(headers.text(&x), Some("1"));
        headers.remove(&x);
        assert!(!headers.contains(&x));
        headers.remove(&name::CONNECTION);
        assert!(headers.is_empty() && headers.lacks(&name::CONNECTION));
    }

    #[test]
    fn maps_come_and_go() {
        let mut map = HeaderMap::new();
        map.append("x-a", HeaderValue::from_static("1"));
        map.append("x-a", HeaderValue::from_static("2"));
        map.append("te", HeaderValue::from_static("trailers"));
        let mut headers = Headers::from_map(&map, Room::default());
        assert_eq!(written(&headers), "X-A: 1\r\nX-A: 2\r\nTE: trailers\r\n");
        headers.set(name::SERVER, HeaderValue::from_static("s"));
        headers.remove(&name::TE);
        map.remove("te");
        map.append("server", HeaderValue::from_static("s"));
        assert_eq!(headers.to_map(), map);
    }
}
