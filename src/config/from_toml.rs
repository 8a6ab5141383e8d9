//! TOML into what it says.

use super::file::{MAX_DEPTH, malformed, spot};
use super::raw::{Raw, Step};
use super::value::Leaf;
use crate::diagnostic::Diagnostic;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Dots in one line; a deeper key would nest as many tables before anybody looks at it.
const MAX_DOTS: usize = 512;

/// Takes a document apart.
pub(super) fn parse(text: &str, source: &Arc<str>) -> Result<Vec<Raw>, Box<Diagnostic>> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.bytes().filter(|b| *b == b'.').count() > MAX_DOTS {
            return Err(malformed(source, spot(text, start), "a line with too many dots"));
        }
        start += line.len();
    }
    let table = DeTable::parse(text).map_err(|e| {
        let at = spot(text, e.span().map_or(0, |span| span.start));
        malformed(source, at, &e.message().lines().collect::<Vec<_>>().join(", "))
    })?;
    let mut flatten = Flatten { text, source, out: Vec::new(), path: Vec::new() };
    flatten.table(table.get_ref())?;
    Ok(flatten.out)
}

struct Flatten<'a> {
    text: &'a str,
    source: &'a Arc<str>,
    out: Vec<Raw>,
    path: Vec<Step>,
}

impl Flatten<'_> {
    fn table(&mut self, table: &DeTable<'_>) -> Result<(), Box<Diagnostic>> {
        for (name, value) in table {
            let at = spot(self.text, name.span().start);
            self.path.push(Step { name: name.get_ref().to_string(), at: Some(at) });
            if self.path.len() > MAX_DEPTH {
                return Err(malformed(self.source, at, "too many groups within groups"));
            }
            self.value(value)?;
            self.path.pop();
        }
        Ok(())
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) -> Result<(), Box<Diagnostic>> {
        let at = spot(self.text, value.span().start);
        let leaf = match value.get_ref() {
            DeValue::Table(table) if table.is_empty() => Leaf::Group,
            DeValue::Table(table) => return self.table(table),
            DeValue::Array(items) if items.iter().any(|i| i.get_ref().is_table() || i.get_ref().is_array()) => {
                for (i, item) in items.iter().enumerate() {
                    let at = spot(self.text, item.span().start);
                    self.path.push(Step { name: format!("[{i}]"), at: Some(at) });
                    self.value(item)?;
                    self.path.pop();
                }
                return Ok(());
            }
            DeValue::Array(items) => Leaf::List(items.iter().map(|i| self.scalar(i)).collect()),
            _ => Leaf::Text(self.scalar(value)),
        };
        self.out.push(Raw { path: self.path.clone(), leaf, at: Some(at), source: self.source.clone() });
        Ok(())
    }

    /// A text, or what else is no group, as it is written.
    fn scalar(&self, value: &Spanned<DeValue<'_>>) -> String {
        match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            _ => self.text.get(value.span()).unwrap_or_default().to_owned(),
        }
    }
}
