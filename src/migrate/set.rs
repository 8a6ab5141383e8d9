//! The words of migration: the services of a set with their tags, each with its place, and what became of each tag.
//!
//! A set is everything that is looked at together, whatever it came from: names of routes and shares of pools depend on
//! all services that carry the same prefix. What always holds: [`Conversion`]s stand in the order of the services and
//! [`Outcome`]s in that of a service's tags, so that an editor finds its way back by position.

use crate::diagnostic::Diagnostic;
use std::sync::Arc;

/// Where a tag stands in a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Place {
    /// File, `-` for standard input, or the address of a catalog.
    pub file: Arc<str>,
    /// Line, from 1; 0 where there are none.
    pub line: u32,
    /// Column in characters, from 1; 0 where there are none.
    pub column: u32,
}

/// One tag as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its text, after the document's escapes. Where a part is an expression of the document (`${var.host}`), that part stands
    /// here as [`Tag::HOLE`] and its number among `holes`.
    pub text: Arc<str>,
    /// The expressions of the document inside the text, as written, in order (`${var.host}`, with their braces).
    pub holes: Vec<Arc<str>>,
    /// Where it stands.
    pub place: Place,
}

/// One service of the set: a block in a job, a service definition, an instance in a catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Name in the catalog (may contain holes as a tag's text may).
    pub name: Arc<str>,
    /// Namespace, empty where there is none.
    pub namespace: Arc<str>,
    /// How many instances of it there are (`count` of its group; 1 where nobody says).
    pub count: u32,
    /// Address and port, where the document or the catalog says them.
    pub address: Option<(Arc<str>, u16)>,
    /// Tags in order, all of them, legacy or not; last those that stand in no list that can be edited.
    pub tags: Vec<Tag>,
    /// Why these last ones cannot be edited, one for each.
    pub beyond: Vec<Arc<str>>,
    /// Where it stands.
    pub place: Place,
    /// Its tags cannot be edited: it counts where routes are shared, and stays as it is.
    pub fixed: bool,
}

impl Service {
    /// Why a tag cannot be edited although its document can, if that is so.
    pub fn beyond(&self, number: usize) -> Option<&str> {
        let at = (number + self.beyond.len()).checked_sub(self.tags.len())?;
        self.beyond.get(at).map(|why| &**why)
    }
}

/// Everything that is converted together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    /// The services.
    pub services: Vec<Service>,
}

/// What the tags do not say and the conversion has to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Fabio's settings (`proxy.auth`, `proxy.matcher`, `proxy.addr`), by their names in its properties file.
    pub fabio: std::collections::BTreeMap<String, String>,
    /// Entry points of the static configuration: name, port, whether TLS is on by default, whether it is for TCP alone.
    pub entry_points: Vec<EntryPoint>,
}

/// An entry point as far as a conversion looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPoint {
    /// Its name.
    pub name: Arc<str>,
    /// Its port.
    pub port: u16,
    /// TLS is on for its routers unless they say otherwise.
    pub tls: bool,
}

/// What became of one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Not a legacy tag, or one that stays beside (nothing to say about it).
    Kept,
    /// It becomes these tags, those apart that the service has already. An expression of the document stands in their texts as
    /// [`Tag::HOLE`] with the number of the old tag's hole behind it: [`pieces`] takes such a text apart.
    Converted(Vec<Arc<str>>),
    /// It has no faithful form, stays, and the diagnostic (severity error) says why and what to do by hand.
    Refused(Box<Diagnostic>),
}

/// What became of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversion {
    /// One for each tag, in order.
    pub outcomes: Vec<Outcome>,
    /// Tags that the service needs once besides (`traefik.enable=true`), before those of the outcomes.
    pub besides: Vec<Arc<str>>,
    /// Remarks (severity warning): what differs, and why it may matter.
    pub remarks: Vec<Diagnostic>,
}

/// A part of the text of a new tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it is, before the document's escapes.
    Text(&'a str),
    /// The expression of this number among the old tag's holes.
    Hole(usize),
}

/// Takes the text of a new tag ([`Outcome::Converted`], [`Conversion::besides`]) apart.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(Tag::HOLE) {
        if !before.is_empty() {
            found.push(Piece::Text(before));
        }
        let number = after.chars().next().and_then(|c| u32::from(c).checked_sub(FIRST_HOLE));
        let Some(number) = number.and_then(|number| usize::try_from(number).ok()) else {
            rest = after;
            continue;
        };
        found.push(Piece::Hole(number));
        rest = after.get(after.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
    }
    if !rest.is_empty() {
        found.push(Piece::Text(rest));
    }
    found
}

/// Stands behind [`Tag::HOLE`] for the number 0; the others follow. Of Unicode's private use, so that no tag contains it.
const FIRST_HOLE: u32 = 0xE000;

/// How many holes a tag that is converted may have.
pub const MAX_HOLES: usize = 64;

/// The hole of this number as new tags have it.
pub fn hole(number: usize) -> String {
    let number = u32::try_from(number.min(MAX_HOLES)).unwrap_or_default();
    [Some(Tag::HOLE), char::from_u32(FIRST_HOLE + number)].into_iter().flatten().collect()
}

impl Tag {
    /// Stands in a text for one expression of the document: U+FFFC, which no tag contains by itself.
    pub const HOLE: char = '\u{fffc}';
}
