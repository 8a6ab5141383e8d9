//! The text of a document and its places: what an editor needs to find a line and to put things in without touching
//! what stands around them.
//!
//! What always holds: text, byte order mark and line ends come out as they came in, but for the changes themselves.

use std::ops::Range;

/// A document's text with its lines.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// Without the byte order mark.
    pub(super) body: String,
    mark: bool,
    /// Where lines begin.
    lines: Vec<usize>,
}

/// UTF-8's byte order mark, which some editors write.
const MARK: &[u8] = b"\xef\xbb\xbf";

impl Text {
    /// Takes a file's bytes.
    ///
    /// # Errors
    /// Line and column of the first byte that is not UTF-8.
    pub(super) fn new(bytes: &[u8]) -> Result<Self, (u32, u32)> {
        let (mark, rest) = match bytes.strip_prefix(MARK) {
            Some(rest) => (true, rest),
            None => (false, bytes),
        };
        match std::str::from_utf8(rest) {
            Ok(body) => Ok(Self::of(body.to_owned(), mark)),
            Err(error) => {
                let good = String::from_utf8_lossy(&rest[..error.valid_up_to()]).into_owned();
                let end = good.len();
                Err(Self::of(good, false).place(end))
            }
        }
    }

    fn of(body: String, mark: bool) -> Self {
        let lines = std::iter::once(0).chain(memchr::memchr_iter(b'\n', body.as_bytes()).map(|at| at + 1)).collect();
        Self { body, mark, lines }
    }

    /// Line and column, in characters from 1.
    pub(super) fn place(&self, at: usize) -> (u32, u32) {
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.body.get(start..at).map_or(0, |before| before.chars().count());
        (number(line), number(column + 1))
    }

    /// Where the line of a place begins.
    pub(super) fn line_start(&self, at: usize) -> usize {
        let line = self.lines.partition_point(|start| *start <= at);
        self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// Where the line of a place ends, its line end not included.
    pub(super) fn line_end(&self, at: usize) -> usize {
        let line = self.lines.partition_point(|start| *start <= at);
        let end = self.lines.get(line).map_or(self.body.len(), |next| next - 1);
        if end > at && self.body.as_bytes().get(end - 1) == Some(&b'\r') { end - 1 } else { end }
    }

    /// The line end that is in use at a place.
    pub(super) fn line_break(&self, at: usize) -> &'static str {
        let end = self.line_end(at);
        // The last line may have none; the one before it shows what is usual.
        let end = if end == self.body.len() { self.line_end(self.line_start(at).saturating_sub(1)) } else { end };
        if self.body[end..].starts_with("\r\n") { "\r\n" } else { "\n" }
    }

    /// What stands before a place on its line, if that is only white space.
    pub(super) fn indent(&self, at: usize) -> Option<&str> {
        let before = &self.body[self.line_start(at)..at];
        before.chars().all(|c| c == ' ' || c == '\t').then_some(before)
    }

    /// Whether two places are on one line.
    pub(super) fn same_line(&self, a: usize, b: usize) -> bool {
        self.line_start(a) == self.line_start(b)
    }

    /// The text with changes made, as bytes of a file. Changes do not overlap; those at one place are made in order.
    pub(super) fn with(&self, mut changes: Vec<Change>) -> Vec<u8> {
        changes.sort_by_key(|change| change.at.start);
        let grown: usize = changes.iter().map(|change| change.text.len()).sum();
        let mut out = Vec::with_capacity(self.body.len() + grown + MARK.len());
        if self.mark {
            out.extend_from_slice(MARK);
        }
        let mut done = 0;
        for change in changes {
            let from = change.at.start.max(done);
            out.extend_from_slice(&self.body.as_bytes()[done..from]);
            out.extend_from_slice(change.text.as_bytes());
            done = change.at.end.max(from);
        }
        out.extend_from_slice(&self.body.as_bytes()[done..]);
        out
    }
}

/// A part of the text and what stands there instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: Range<usize>,
    pub(super) text: String,
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters() {
        let text = Text::new("\u{feff}aé\r\nb\n".as_bytes()).expect("UTF-8");
        assert_eq!((text.place(0), text.place(3), text.place(5)), ((1, 1), (1, 3), (2, 1)));
        assert_eq!((text.line_end(0), text.line_break(0), text.line_break(5)), (3, "\r\n", "\n"));
        assert_eq!(Text::new(b"ab\nc\xff").map(|_| ()), Err((2, 2)));
    }

    #[test]
    fn only_what_is_changed_changes() {
        let text = Text::new("\u{feff}one two".as_bytes()).expect("UTF-8");
        let change = |at: Range<usize>, text: &str| Change { at, text: text.into() };
        assert_eq!(text.with(Vec::new()), "\u{feff}one two".as_bytes());
        assert_eq!(text.with(vec![change(4..7, "2"), change(3..3, "!")]), "\u{feff}one! 2".as_bytes());
    }
}
