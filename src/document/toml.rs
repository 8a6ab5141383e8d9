//! TOML: the one place that knows the TOML crate.

use super::{Limits, Malformed, Member, Node, Value, spot};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Dots in one line: a deeper key would nest as many tables before anybody looks at it. A rule of many
/// hosts has some, too.
const MAX_DOTS: usize = 2048;

pub(super) fn read(text: &str, limits: Limits) -> Result<Vec<Member>, Malformed> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.bytes().filter(|b| *b == b'.').count() > MAX_DOTS {
            return Err(Malformed::new(spot(text, start), "a line with too many dots"));
        }
        start += line.len();
    }
    let table = DeTable::parse(text).map_err(|e| {
        let at = spot(text, e.span().map_or(0, |span| span.start));
        Malformed::new(at, e.message().lines().collect::<Vec<_>>().join(", "))
    })?;
    let mut reader = Reader { lines: Lines::new(text), left: limits.values, limits };
    reader.members(table.get_ref(), 0)
}

struct Reader<'a> {
    lines: Lines<'a>,
    /// How many values may still come.
    left: usize,
    limits: Limits,
}

impl Reader<'_> {
    fn members(&mut self, table: &DeTable<'_>, depth: usize) -> Result<Vec<Member>, Malformed> {
        let mut members = Vec::with_capacity(table.len());
        for (name, value) in table {
            let at = self.lines.spot(name.span().start);
            members.push(Member { name: name.get_ref().to_string(), at, node: self.node(value, depth + 1)? });
        }
        members.sort_by_key(|member| member.at);
        Ok(members)
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Malformed> {
        let at = self.lines.spot(value.span().start);
        if depth > self.limits.depth {
            return Err(Malformed::new(at, "too many groups within groups"));
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| Malformed::new(at, "too many values"))?;
        let value = match value.get_ref() {
            DeValue::Table(table) => Value::Map(self.members(table, depth)?),
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(item, depth + 1)).collect::<Result<_, _>>()?)
            }
            DeValue::String(text) => Value::Text(text.to_string()),
            _ => Value::Plain(self.lines.text.get(value.span()).unwrap_or_default().to_owned()),
        };
        Ok(Node { at, value })
    }
}

/// Where lines begin, so that a large file is not counted through for every value.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1));
        Self { text, starts: starts.collect() }
    }

    fn spot(&self, offset: usize) -> super::Spot {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        super::Spot { line: number(line), column: number(column) }
    }
}
