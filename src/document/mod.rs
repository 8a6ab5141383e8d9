//! A configuration text (YAML, JSON, TOML) taken apart into a tree with the line and column of every
//! key and value. Static and dynamic configuration both read this tree.
//!
//! What always holds: a text is taken apart whole or not at all, within [`Limits`] that hold for what
//! aliases unfold to, too; nothing in it makes this panic.

mod toml;
mod yaml;

use std::path::Path;

/// A place in a text, in characters from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub at: Spot,
    /// What it is.
    pub value: Value,
}

/// What stands in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing behind a key.
    Null,
    /// A text.
    Text(String),
    /// A number, a boolean or a date, as it is written (`0123`, `1.50`), so that texts that look like
    /// one stay what they are.
    Plain(String),
    /// A list.
    List(Vec<Node>),
    /// Keys with values, in their order.
    Map(Vec<Member>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The key.
    pub name: String,
    /// Where it stands.
    pub at: Spot,
    /// Its value.
    pub node: Node,
}

/// Why a text cannot be taken apart, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    /// The place.
    pub at: Spot,
    /// What is wrong there.
    pub message: String,
}

impl Malformed {
    fn new(at: Spot, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// The language of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML, and so JSON.
    Yaml,
    /// TOML.
    Toml,
}

impl Format {
    /// TOML by the ending `.toml`, else YAML.
    pub fn of(path: &Path) -> Self {
        match path.extension() {
            Some(ending) if ending.eq_ignore_ascii_case("toml") => Self::Toml,
            _ => Self::Yaml,
        }
    }
}

/// What a text may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Groups within groups.
    pub depth: usize,
    /// Values, those that aliases unfold to included.
    pub values: usize,
}

/// Takes a text apart. An empty one has no members.
///
/// # Errors
/// The first thing that is wrong with it: bytes that are no text, broken syntax, no keys at the top,
/// more than the limits allow.
pub fn read(bytes: &[u8], format: Format, limits: Limits) -> Result<Vec<Member>, Malformed> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => match memchr::memchr(0, bytes) {
            None => text,
            Some(at) => return Err(Malformed::new(spot(text, at), "a zero byte; is it binary?")),
        },
        Err(e) => {
            let good = std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default();
            return Err(Malformed::new(spot(good, good.len()), "a byte that is not UTF-8; is it binary?"));
        }
    };
    if text.trim_start().starts_with('<') {
        let at = spot(text, text.len() - text.trim_start().len());
        return Err(Malformed::new(at, "expected YAML or TOML, got what looks like HTML or XML"));
    }
    match format {
        Format::Toml => toml::read(text, limits),
        Format::Yaml => yaml::read(text, limits),
    }
}

/// Line and column of a byte offset.
pub fn spot(text: &str, offset: usize) -> Spot {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
    Spot {
        line: count(memchr::memchr_iter(b'\n', before.as_bytes()).count()),
        column: count(before[start..].chars().count()),
    }
}
