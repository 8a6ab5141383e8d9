//! Documents: job files and service definitions are taken apart into services with tags, and come back with new tags in
//! their lists. Text in, text out.
//!
//! What always holds: a document comes out byte for byte but for lists of tags that have new ones; what comes out is read
//! again and must say what was meant, else it is refused as a whole; nothing in a document makes this panic or take
//! longer than its length warrants.

mod expression;
mod hcl;
mod json;
mod list;
mod names;
mod reading;
mod text;

use super::{Conversion, Outcome, Piece, Service, Tag, pieces};
use crate::diagnostic::{Diagnostic, Origin};
use expression::Templates;
use list::{Fate, List};
use reading::Found;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use text::{Change, Text};

/// The largest document that is read, in bytes.
pub const MAX_BYTES: usize = 64 << 20;

/// A form of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Nomad job in HCL.
    NomadHcl,
    /// A Nomad job as its API takes it (`nomad job run -output`).
    NomadJson,
    /// A Nomad job in HCL's JSON form.
    NomadHclJson,
    /// Service definitions of Consul in HCL.
    ConsulHcl,
    /// Service definitions of Consul in JSON.
    ConsulJson,
}

impl Kind {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NomadHcl => "Nomad job (HCL)",
            Self::NomadJson => "Nomad job (JSON)",
            Self::NomadHclJson => "Nomad job (HCL in JSON)",
            Self::ConsulHcl => "Consul services (HCL)",
            Self::ConsulJson => "Consul services (JSON)",
        }
    }
}

/// A text that cannot be taken apart, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unreadable {
    line: u32,
    column: u32,
    message: String,
}

/// A document that has been read.
#[derive(Debug)]
pub struct Document {
    /// Its name.
    pub file: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Tags that stand elsewhere (warnings).
    pub problems: Vec<Diagnostic>,
    text: Text,
    found: Vec<Found>,
    lists: Vec<List>,
}

/// Reads a document; `None`: it is no job and defines no services.
///
/// # Errors
/// What is wrong with it and where.
pub fn read(file: &Arc<str>, bytes: &[u8]) -> Result<Option<Document>, Box<Diagnostic>> {
    let at = |line: u32, column: u32| Origin {
        file: Some(file.clone()),
        line: Some(line),
        column: Some(column),
        ..Origin::default()
    };
    if bytes.len() > MAX_BYTES {
        let message = format!("{} bytes are more than a document may have ({MAX_BYTES})", bytes.len());
        let origin = Origin { file: Some(file.clone()), ..Origin::default() };
        let help = "no job or service definition is that large; leave this file out";
        return Err(Box::new(Diagnostic::error("too_large", message).with_origin(origin).with_help(help)));
    }
    let text = Text::new(bytes).map_err(|(line, column)| {
        let message = "this byte is not UTF-8, which jobs and service definitions are written in";
        Box::new(Diagnostic::error("not_utf8", message).with_origin(at(line, column)))
    })?;
    let is_json = text.body.trim_start().starts_with(['{', '[']);
    let read = if is_json { json::read(file.clone(), &text) } else { hcl::read(file.clone(), &text) };
    let (kind, reading) = read.map_err(|error| {
        let language = if is_json { "JSON" } else { "HCL" };
        let message = format!("this is not {language}: {}", error.message);
        Box::new(Diagnostic::error("syntax", message).with_origin(at(error.line, error.column)))
    })?;
    let reading::Reading { services: found, lists, problems, .. } = reading;
    Ok(kind.map(|kind| Document { file: file.clone(), kind, problems, text, found, lists }))
}

/// A document with its changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edited {
    /// The whole document.
    pub bytes: Vec<u8>,
    /// Whether it differs from what was read.
    pub changed: bool,
    /// Why it was left as it is, if it was.
    pub problems: Vec<Diagnostic>,
}

impl Document {
    /// Its services, in the order of the document.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.found.iter().map(|found| &found.service)
    }

    /// Its bytes as they were read.
    pub fn bytes(&self) -> Vec<u8> {
        self.text.with(Vec::new())
    }

    /// What stands outside of its lists of tags; two documents that differ in tags alone have the same.
    pub fn without_tags(&self) -> Vec<u8> {
        let blank = |list: &List| Change { at: list.inside.clone(), text: String::new() };
        self.text.with(self.lists.iter().map(blank).collect())
    }

    /// The document with what became of its tags: one conversion for each of [`Document::services`], in their order.
    /// `keep`: the old tags stay beside the new ones.
    pub fn edited(&self, conversions: &[Conversion], keep: bool) -> Edited {
        let (fates, problems) = self.fates(conversions, keep);
        let changes: Vec<Change> =
            fates.iter().flat_map(|(list, fates)| self.lists[*list].changes(&self.text, fates)).collect();
        let as_it_is = |problems| Edited { bytes: self.bytes(), changed: false, problems };
        if changes.is_empty() {
            return as_it_is(problems);
        }
        let bytes = self.text.with(changes);
        match self.verify(&bytes, conversions, keep, !problems.is_empty()) {
            Ok(()) => Edited { bytes, changed: true, problems },
            Err(problem) => as_it_is(vec![*problem]),
        }
    }

    /// What becomes of each element of each list.
    fn fates(&self, conversions: &[Conversion], keep: bool) -> (BTreeMap<usize, Vec<Fate>>, Vec<Diagnostic>) {
        let mut wanted: HashMap<(usize, usize), (Vec<String>, bool)> = HashMap::new();
        let mut problems = Vec::new();
        for (found, conversion) in self.found.iter().zip(conversions) {
            let new_of = |number: usize| match conversion.outcomes.get(number) {
                Some(Outcome::Converted(new)) => Some(new.as_slice()),
                _ => None,
            };
            let converted: Vec<(usize, usize, usize)> = (found.slots.iter().enumerate())
                .filter(|(number, _)| new_of(*number).is_some())
                .map(|(number, (list, element))| (number, *list, *element))
                .collect();
            let homes = self.homes(&converted);
            for (number, list, element) in converted {
                let Some(tag) = found.service.tags.get(number) else { continue };
                let besides = if homes.contains(&(list, element)) { conversion.besides.as_slice() } else { &[] };
                let texts = besides.iter().chain(new_of(number).unwrap_or_default());
                let new: Vec<String> = texts.map(|text| self.literal(text, tag)).collect();
                let drops = !keep;
                match wanted.get(&(list, element)) {
                    Some(other) if *other != (new.clone(), drops) => {
                        let origin = Origin {
                            file: Some(self.file.clone()),
                            line: Some(tag.place.line),
                            column: Some(tag.place.column),
                            service: Some(found.service.name.clone()),
                            tag: Some(tag.text.clone()),
                            ..Origin::default()
                        };
                        let message = "services that share this list of tags need different new ones";
                        let help = "give each of them its own list";
                        let problem = Diagnostic::error("shared_tags", message).with_origin(origin).with_help(help);
                        problems.push(problem);
                    }
                    _ => drop(wanted.insert((list, element), (new, drops))),
                }
            }
        }
        if !problems.is_empty() {
            // A document is edited as a whole or not at all: half of a pool would be another pool.
            return (BTreeMap::new(), problems);
        }
        let mut fates: BTreeMap<usize, Vec<Fate>> = BTreeMap::new();
        for ((list, element), (new, drops)) in wanted {
            fates.entry(list).or_default().push(Fate { element, stays: !drops, new });
        }
        for of_list in fates.values_mut() {
            of_list.sort_by_key(|fate| fate.element);
        }
        (fates, problems)
    }

    /// Where the tags go that a service needs once: before its first new tag; where all of these count under
    /// conditions only, before the first in each list.
    fn homes(&self, converted: &[(usize, usize, usize)]) -> Vec<(usize, usize)> {
        let slot = |(_, list, element): &(usize, usize, usize)| (*list, *element);
        if let Some(home) = converted.iter().find(|(_, list, _)| !self.lists[*list].conditional) {
            return vec![slot(home)];
        }
        let mut homes: Vec<(usize, usize)> = Vec::new();
        for each in converted {
            if !homes.iter().any(|(list, _)| *list == each.1) {
                homes.push(slot(each));
            }
        }
        homes
    }

    /// A new tag in the document's writing.
    fn literal(&self, text: &str, old: &Tag) -> String {
        let pieces = pieces(text);
        match self.kind {
            Kind::NomadHcl => expression::quoted(&pieces, &old.holes, Templates::Live),
            Kind::ConsulHcl => expression::quoted(&pieces, &old.holes, Templates::Plain),
            Kind::NomadHclJson => json::quoted(&pieces, &old.holes, true),
            Kind::NomadJson | Kind::ConsulJson => json::quoted(&pieces, &old.holes, false),
        }
    }

    /// Reads what comes out and compares it with what was meant.
    fn verify(
        &self,
        bytes: &[u8],
        conversions: &[Conversion],
        keep: bool,
        partly: bool,
    ) -> Result<(), Box<Diagnostic>> {
        let origin = Origin { file: Some(self.file.clone()), ..Origin::default() };
        let failed = |why: &str| {
            let message = format!("the file is left as it is: with its new tags it would {why}");
            Box::new(Diagnostic::error("not_editable", message).with_origin(origin.clone()))
        };
        let new = read(&self.file, bytes).ok().flatten().ok_or_else(|| failed("not be readable"))?;
        if new.without_tags() != self.without_tags() {
            return Err(failed("differ in more than tags"));
        }
        if new.found.len() != self.found.len() || new.found.len() != conversions.len() {
            return Err(failed("have other services"));
        }
        for ((old, new), conversion) in self.found.iter().zip(&new.found).zip(conversions) {
            if !partly && !says(&old.service, &new.service, conversion, keep) {
                return Err(failed("say something else"));
            }
        }
        Ok(())
    }
}

/// Whether a service has the tags that are meant, in whatever order.
fn says(old: &Service, new: &Service, conversion: &Conversion, keep: bool) -> bool {
    let mut wanted: Vec<String> = Vec::new();
    let mut any = false;
    for (tag, outcome) in old.tags.iter().zip(&conversion.outcomes) {
        let converted = match outcome {
            Outcome::Converted(new) => {
                wanted.extend(new.iter().map(|text| meant(&pieces(text), &tag.holes)));
                any = true;
                true
            }
            _ => false,
        };
        if keep || !converted {
            wanted.push(of_tag(tag));
        }
    }
    if any {
        wanted.extend(conversion.besides.iter().map(|text| meant(&pieces(text), &[])));
    }
    let mut has: Vec<String> = new.tags.iter().map(of_tag).collect();
    for all in [&mut wanted, &mut has] {
        all.sort();
        all.dedup();
    }
    wanted == has
}

/// A tag for people: its expressions as they are written.
pub fn shown(tag: &Tag) -> String {
    of_tag(tag).replace(Tag::HOLE, "")
}

/// A new tag for people, made of an old one.
pub fn shown_new(text: &str, old: &Tag) -> String {
    meant(&pieces(text), &old.holes).replace(Tag::HOLE, "")
}

/// A tag's text with its expressions as they are written, marked off from text that only looks like one.
fn of_tag(tag: &Tag) -> String {
    let mut holes = tag.holes.iter();
    let mut out = String::with_capacity(tag.text.len());
    for letter in tag.text.chars() {
        out.push(letter);
        if letter == Tag::HOLE {
            out.push_str(holes.next().map_or("", |hole| hole));
        }
    }
    out
}

fn meant(pieces: &[Piece<'_>], holes: &[Arc<str>]) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Hole(number) => {
                out.push(Tag::HOLE);
                out.push_str(holes.get(*number).map_or("", |hole| hole));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
