//! Lists of tags in a text, and how tags come in beside others or in their place: on lines of their own where the old
//! tag has one, on the same line otherwise, with the indentation, the line ends and the comma habits that are there.
//!
//! What always holds: nothing outside of a list's brackets changes, and comments stay on the line of the tag that they
//! are about.

use super::text::{Change, Text};
use crate::migrate::Tag;
use std::ops::Range;

/// A list in a document.
#[derive(Debug, Clone)]
pub(super) struct List {
    /// What stands between its brackets.
    pub(super) inside: Range<usize>,
    /// Its elements in order.
    pub(super) elements: Vec<Element>,
    /// It counts only under a condition.
    pub(super) conditional: bool,
    /// A comma may stand behind the last element, and comments between them (HCL; not JSON).
    pub(super) lenient: bool,
}

/// An element of a list.
#[derive(Debug, Clone)]
pub(super) struct Element {
    pub(super) at: Range<usize>,
    /// Where the comma behind it stands.
    pub(super) comma: Option<usize>,
    /// The tag that it is, if it is a text.
    pub(super) tag: Option<Tag>,
}

/// What becomes of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fate {
    /// Its number in the list.
    pub(super) element: usize,
    /// It stays as it is.
    pub(super) stays: bool,
    /// What comes after it, or in its place, in the document's own writing.
    pub(super) new: Vec<String>,
}

impl List {
    /// The changes that make the list so. Fates are in order, at most one for an element.
    pub(super) fn changes(&self, text: &Text, fates: &[Fate]) -> Vec<Change> {
        let gone = |element: usize| fates.iter().any(|f| f.element == element && !f.stays && f.new.is_empty());
        let last_kept = (0..self.elements.len()).rev().find(|element| !gone(*element));
        // On one line nothing can stand between elements that would have to stay.
        let lenient = self.lenient && !text.same_line(self.inside.start, self.inside.end);
        let mut changes = Vec::new();
        for fate in fates {
            let Some(element) = self.elements.get(fate.element) else { continue };
            match (fate.stays, fate.new.is_empty()) {
                (true, true) => {}
                (true, false) => self.insert(text, fate, element, &mut changes),
                (false, false) => {
                    let between = self.separator(text, element);
                    changes.push(Change { at: element.at.clone(), text: fate.new.join(&between) });
                }
                (false, true) if last_kept.is_some_and(|last| fate.element < last) || lenient => {
                    changes.push(Change { at: self.room(text, fate.element, element), text: String::new() });
                }
                // The rest is removed in one piece below.
                (false, true) => {}
            }
        }
        let rest = last_kept.map_or(0, |last| last + 1);
        if !lenient && let (Some(first), Some(last)) = (self.elements.get(rest), self.elements.last()) {
            let from = match last_kept.and_then(|kept| self.elements.get(kept)) {
                Some(kept) => kept.comma.unwrap_or(kept.at.end),
                None => self.inside.start.min(first.at.start),
            };
            let to = if last_kept.is_none() { self.inside.end } else { last.at.end };
            changes.push(Change { at: from..to, text: String::new() });
        }
        changes
    }

    /// Between two elements.
    fn separator(&self, text: &Text, element: &Element) -> String {
        match text.indent(element.at.start) {
            Some(indent) => format!(",{}{indent}", text.line_break(element.at.start)),
            None => ", ".to_owned(),
        }
    }

    /// Puts what is new behind an element that stays.
    fn insert(&self, text: &Text, fate: &Fate, element: &Element, changes: &mut Vec<Change>) {
        let mut put = |at: usize, text: String| changes.push(Change { at: at..at, text });
        let between = self.separator(text, element);
        let new = fate.new.join(&between);
        let Some(indent) = text.indent(element.at.start) else {
            put(element.at.end, format!("{between}{new}"));
            return;
        };
        let next = self.elements.get(fate.element + 1).map_or(self.inside.end, |next| next.at.start);
        let line_break = text.line_break(element.at.start);
        // Behind the line's comment, if it ends there.
        let behind = element.comma.map_or(element.at.end, |comma| comma + 1);
        let end = text.line_end(behind);
        let ends_here = end < next && !text.body[behind..end].contains("/*");
        match element.comma {
            Some(_) if ends_here => put(end, format!("{line_break}{indent}{new},")),
            None if ends_here => {
                put(element.at.end, ",".to_owned());
                put(end, format!("{line_break}{indent}{new}"));
            }
            _ => put(element.at.end, format!("{between}{new}")),
        }
    }

    /// What goes with an element that goes: its line, if nothing else stands there, or its comma.
    fn room(&self, text: &Text, number: usize, element: &Element) -> Range<usize> {
        let end = element.comma.map_or(element.at.end, |comma| comma + 1);
        let next = self.elements.get(number + 1).map_or(self.inside.end, |next| next.at.start);
        let line_end = text.line_end(end);
        let alone = text.body[end..line_end].trim().is_empty() && text.same_line(element.at.start, end);
        if text.indent(element.at.start).is_some() && alone && line_end < next {
            let start = text.line_start(element.at.start);
            let line_break = if text.body[line_end..].starts_with("\r\n") { 2 } else { 1 };
            // The bracket's own line stays where the list begins on it.
            return start.max(self.inside.start)..(line_end + line_break).min(self.inside.end);
        }
        let blank = text.body[end..next].bytes().take_while(|b| matches!(b, b' ' | b'\t')).count();
        element.at.start..end + blank
    }
}
