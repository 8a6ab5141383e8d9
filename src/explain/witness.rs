//! A request that a rule takes, to show people where a route is. It is tried against the rule before it is shown.

use crate::rule::{self, Expr, Kind, Name, Syntax};

/// What a request has to look like.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Witness {
    pub host: String,
    pub path: String,
    pub method: String,
    pub headers: Vec<(String, String)>,
    pub query: String,
    pub from: String,
}

/// A request for a rule; `None` where none is found in the plain parts of it.
pub(super) fn witness(text: &str, syntax: &str) -> Option<Witness> {
    let rule = rule::parse(text, Kind::Http, Syntax::named(syntax)).ok()?;
    let mut found = Witness::default();
    found.take(rule.root());
    if found.path.is_empty() {
        found.path.push('/');
    }
    Some(found)
}

impl Witness {
    /// Follows what is wanted; of alternatives the first.
    fn take(&mut self, expr: &Expr) {
        match expr {
            Expr::All(parts) => parts.iter().for_each(|part| self.take(part)),
            Expr::Any(parts) => parts.iter().take(1).for_each(|part| self.take(part)),
            Expr::Not(_) => {}
            Expr::Test(test) => {
                let first = test.args.first().cloned().unwrap_or_default();
                let second = test.args.get(1).cloned().unwrap_or_default();
                match test.name {
                    Name::Host | Name::HostHeader => self.host = first,
                    Name::Path | Name::PathPrefix => self.path = first,
                    Name::Method => self.method = first.to_ascii_uppercase(),
                    Name::Header | Name::Headers => self.headers.push((first, second)),
                    Name::Query => {
                        self.query = if test.args.len() > 1 { format!("{first}={second}") } else { first };
                    }
                    Name::ClientIp => self.from = first.split('/').next().unwrap_or_default().to_owned(),
                    // `^([a-z]+)\.example\.org$` is nobody's name
                    Name::HostRegexp if self.host.is_empty() => self.host = plain(&first),
                    Name::PathRegexp if self.path.is_empty() => self.path = plain(&first),
                    _ => {}
                }
            }
        }
    }
}

/// A text for the simplest expressions, such as those of `*.host`: `^[^.]+\.a\.example$`.
pub(crate) fn plain(pattern: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern.trim_start_matches("(?i)").trim_start_matches('^').trim_end_matches('$');
    while let Some(c) = rest.chars().next() {
        let (put, length) = match c {
            '\\' => (rest.get(1..2).unwrap_or_default(), 2),
            '[' => ("a", rest.find(']').map_or(rest.len(), |at| at + 1)),
            '(' => ("a", rest.find(')').map_or(rest.len(), |at| at + 1)),
            '.' => ("a", 1),
            '+' | '*' | '?' => ("", 1),
            '{' => ("", rest.find('}').map_or(rest.len(), |at| at + 1)),
            _ => (rest.get(..c.len_utf8()).unwrap_or_default(), c.len_utf8()),
        };
        out.push_str(put);
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_gives_a_request() {
        let found =
            witness("Host(`a.b`) && (PathPrefix(`/x`) || Path(`/y`)) && Method(`post`) && !Query(`q`)", "").unwrap();
        assert_eq!((&*found.host, &*found.path, &*found.method, &*found.query), ("a.b", "/x", "POST", ""));
        let found = witness(r"HostRegexp(`^[^.]+\.a\.b$`)", "").unwrap();
        assert_eq!((&*found.host, &*found.path), ("a.a.b", "/"));
        assert_eq!(witness("Host(", ""), None);
    }
}
