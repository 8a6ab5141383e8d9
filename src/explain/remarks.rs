//! Rules that are valid and cannot mean what they say.

use crate::rule::{Expr, Name, Rule, Syntax, Test};
use std::ops::Range;

/// Places in a valid rule that no request can satisfy, or that mean something else than they look like.
pub fn notes(rule: &Rule) -> Vec<(Range<usize>, String)> {
    let mut notes = Vec::new();
    walk(rule.root(), rule.syntax(), &mut notes);
    notes
}

fn walk(expr: &Expr, syntax: Syntax, notes: &mut Vec<(Range<usize>, String)>) {
    match expr {
        Expr::Not(inner) => walk(inner, syntax, notes),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| walk(part, syntax, notes)),
        Expr::Test(test) => notes.extend(note(test, syntax).map(|note| (test.span.start..test.span.end, note))),
    }
}

fn note(test: &Test, syntax: Syntax) -> Option<String> {
    let v3 = syntax == Syntax::V3;
    let template = |arg: &&String| v3 && arg.contains('{') && arg.contains('}') && !arg.contains(r"\{");
    let first = test.args.first()?;
    match test.name {
        Name::Host | Name::HostHeader => {
            let arg = test.args.iter().find(|arg| arg.contains(['/', '*']) || port(arg))?;
            Some(match arg.strip_prefix("*.") {
                Some(parent) => {
                    let parent = parent.replace('.', r"\.");
                    format!("`Host` knows no wildcards; write HostRegexp(`^[^.]+\\.{parent}$`)")
                }
                None if arg.contains('*') => "`Host` knows no wildcards; use HostRegexp".to_owned(),
                None => format!("a host is a name without scheme, port and path: no request has the host `{arg}`"),
            })
        }
        Name::HostRegexp | Name::PathRegexp if first.contains('{') && first.contains(':') && v3 => Some(
            "`{name:expression}` is a template of v2's syntax (`ruleSyntax: v2`); v3 takes it for a regular expression"
                .to_owned(),
        ),
        Name::Path | Name::PathPrefix => {
            if test.args.iter().find(template).is_some() {
                return Some("v3 takes `{…}` in a path for plain text; use PathRegexp, or `ruleSyntax: v2`".to_owned());
            }
            let star = test.args.iter().any(|arg| arg.ends_with('*'));
            star.then(|| "`*` in a path is plain text; PathPrefix takes all that begins so".to_owned())
        }
        Name::Query if v3 && test.args.len() == 1 && first.contains('=') => {
            let (key, value) = first.split_once('=')?;
            Some(format!("v3 writes it as Query(`{key}`, `{value}`)"))
        }
        _ => None,
    }
}

/// `a.example:80`; an IPv6 address has more colons.
fn port(host: &str) -> bool {
    host.bytes().filter(|b| *b == b':').count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{self, Kind};

    #[test]
    fn rules_that_no_request_satisfies_are_remarked() {
        let notes_of = |text: &str| notes(&rule::parse(text, Kind::Http, Syntax::V3).unwrap());
        for (text, says) in [
            ("Host(`*.a.b`)", r"HostRegexp(`^[^.]+\.a\.b$`)"),
            ("!Host(`http://a`)", "without scheme"),
            ("Host(`a:80`)", "no request has the host `a:80`"),
            ("Path(`/`) && HostRegexp(`{sub:[a-z]+}.a`)", "template of v2"),
            ("Path(`/{id}`)", "plain text"),
            ("PathPrefix(`/a/*`)", "`*` in a path is plain text"),
            ("Query(`a=b`)", "Query(`a`, `b`)"),
        ] {
            let notes = notes_of(text);
            assert!(notes.len() == 1 && notes[0].1.contains(says), "{text}: {notes:?}");
        }
        for fine in ["Host(`a.b`) && Path(`/a*b`)", "Host(`::1`)", r"HostRegexp(`^[a-z]{2}\.a$`)", "Query(`a`, `b=c`)"]
        {
            assert_eq!(notes_of(fine), [], "{fine}");
        }
    }
}
