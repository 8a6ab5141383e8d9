//! The words of migration: the services of a set with their tags, each with its place, and what became of each tag.
//!
//! A set is everything that is looked at together, whatever it came from: names of routes and shares of pools depend on
//! all services that carry the same prefix. What always holds: [`Conversion`]s stand in the order of the services and
//! [`Outcome`]s in that of a service's tags, so that an editor finds its way back by position.

use crate::diagnostic::Diagnostic;
use std::sync::Arc;

/// Where a tag stands in a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// Tags in order, all of them, legacy or not.
    pub tags: Vec<Tag>,
    /// Where it stands.
    pub place: Place,
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
    /// It becomes these tags (texts with holes as in [`Tag::text`], and the numbers of the holes follow the old tag's).
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

impl Tag {
    /// Stands in a text for one expression of the document: U+FFFC, which no tag contains by itself.
    pub const HOLE: char = '\u{fffc}';
}
