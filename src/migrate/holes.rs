//! Expressions of documents inside of tags: while a tag is worked on, each stands in its text as a word of letters and
//! digits, which passes for a label of a host name and for a part of a path.
//!
//! What always holds: one expression of one file is one word, wherever it stands; two files never share a word, for a
//! variable has a value in each.

use super::set::{MAX_HOLES, Place, Tag, hole};
use std::collections::HashMap;
use std::sync::Arc;

/// The words of a set.
#[derive(Debug, Default)]
pub struct Holes {
    known: HashMap<(Arc<str>, Arc<str>), usize>,
    /// By number: the file's own name and the expression.
    all: Vec<(Arc<str>, Arc<str>)>,
}

/// The text of a tag with words in the place of its holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worded {
    /// The text.
    pub text: String,
    /// The numbers of its holes' words, in order.
    pub holes: Vec<usize>,
}

/// Why a tag with holes cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Its text and its list of expressions do not belong together.
    Broken,
    /// There are too many.
    Many,
    /// The expression of this number may have another value for each instance of the service.
    Varies(usize),
    /// Where the host ends is in the value of this one.
    Open(usize),
}

impl Holes {
    /// The text of a tag with words instead of holes.
    ///
    /// # Errors
    /// Why it cannot be converted.
    pub fn word(&mut self, tag: &Tag) -> Result<Worded, Unfit> {
        let mut parts = tag.text.split(Tag::HOLE);
        let mut text = parts.next().unwrap_or_default().to_owned();
        let rest: Vec<&str> = parts.collect();
        if rest.len() != tag.holes.len() {
            return Err(Unfit::Broken);
        }
        if rest.len() > MAX_HOLES {
            return Err(Unfit::Many);
        }
        let mut holes = Vec::new();
        for (expression, behind) in tag.holes.iter().zip(rest) {
            let number = self.number(&tag.place, expression);
            text.push_str(&word(number));
            text.push_str(behind);
            holes.push(number);
        }
        Ok(Worded { text, holes })
    }

    fn number(&mut self, place: &Place, expression: &Arc<str>) -> usize {
        let file = place.file.rsplit(['/', '\\']).next().unwrap_or_default();
        let next = self.all.len();
        let key = (place.file.clone(), expression.clone());
        let number = *self.known.entry(key).or_insert(next);
        if number == next {
            self.all.push((file.into(), expression.clone()));
        }
        number
    }

    /// A text for a hash over it: with the expressions, and the files that they stand in.
    pub fn written_out(&self, text: &str) -> String {
        replaced(text, |number| self.all.get(number).map(|(file, expression)| format!("{expression}@{file}")))
    }

    /// A text for people, with the expressions as written.
    pub fn told(&self, text: &str) -> String {
        replaced(text, |number| self.all.get(number).map(|(_, expression)| expression.to_string()))
    }
}

/// Begin and end of a word. No text of a person's has it by chance.
const BEGIN: &str = "qz0hole";
const END: &str = "0zq";

fn word(number: usize) -> String {
    format!("{BEGIN}{number}{END}")
}

/// Whether there is a word in a text.
pub fn has(text: &str) -> bool {
    text.contains(BEGIN)
}

/// The same text without words, as a stem of a name.
pub fn stem(text: &str) -> String {
    replaced(text, |_| Some("x".to_owned()))
}

/// A text for a new tag: each word is the hole of its number in the old tag.
pub fn holed(text: &str, old: &[usize]) -> Arc<str> {
    if !has(text) {
        return text.into();
    }
    replaced(text, |number| old.iter().position(|n| *n == number).map(hole)).into()
}

fn replaced(text: &str, with: impl Fn(usize) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(BEGIN) {
        out.push_str(before);
        let found = behind.split_once(END).and_then(|(number, behind)| Some((with(number.parse().ok()?)?, behind)));
        match found {
            Some((text, behind)) => {
                out.push_str(&text);
                rest = behind;
            }
            None => {
                out.push_str(BEGIN);
                rest = behind;
            }
        }
    }
    out + rest
}

/// Whether an expression has one value for all instances of a service, as far as its text tells.
pub fn is_steady(expression: &str) -> bool {
    let inside = expression.trim().trim_start_matches("${").trim_end_matches('}').trim();
    let mut names = inside.split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
    names.all(|name| {
        let runtime = ["attr.", "node.", "meta.", "env.", "each.", "count.", "device.", "unique."];
        let of_job =
            ["NOMAD_META_", "NOMAD_JOB_", "NOMAD_GROUP_NAME", "NOMAD_TASK_NAME", "NOMAD_NAMESPACE", "NOMAD_REGION"];
        let iterated = name.ends_with(".value") || name.ends_with(".key") || name.contains(".value.");
        let own = name.starts_with("var.") || name.starts_with("local.");
        own || !(iterated
            || runtime.iter().any(|begin| name.starts_with(begin))
            || name.starts_with("NOMAD_") && !of_job.iter().any(|begin| name.starts_with(begin)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_become_words_and_come_back() {
        let place = |file: &str| Place { file: file.into(), ..Place::default() };
        let tag = |file: &str, text: &str, holes: &[&str]| Tag {
            text: text.into(),
            holes: holes.iter().map(|h| Arc::from(*h)).collect(),
            place: place(file),
        };
        let mut all = Holes::default();
        let one = all.word(&tag("a", "urlprefix-\u{fffc}/\u{fffc}", &["${var.h}", "${var.p}"])).unwrap();
        let two = all.word(&tag("b", "urlprefix-\u{fffc}/", &["${var.h}"])).unwrap();
        assert_eq!((&*one.holes, &*two.holes), (&[0, 1][..], &[2][..]), "a variable of each file");
        assert_eq!(all.told(&one.text), "urlprefix-${var.h}/${var.p}");
        let path = one.text.split_once('/').unwrap().1;
        assert_eq!(super::super::set::pieces(&holed(path, &one.holes)), [super::super::set::Piece::Hole(1)]);
        assert_eq!(all.word(&tag("a", "urlprefix-\u{fffc}/", &[])), Err(Unfit::Broken));
        assert_eq!(stem(&one.text), "urlprefix-x/x");
    }

    #[test]
    fn what_differs_between_instances_is_known() {
        for steady in
            ["${var.host}", "${NOMAD_META_host}", "${lower(var.name)}", "${NOMAD_JOB_NAME}", "${local.a.value}"]
        {
            assert!(is_steady(steady), "{steady}");
        }
        for other in
            ["${NOMAD_ALLOC_INDEX}", "${node.unique.name}", "${attr.os.name}", "${service.value}", "${each.key}"]
        {
            assert!(!is_steady(other), "{other}");
        }
    }
}
