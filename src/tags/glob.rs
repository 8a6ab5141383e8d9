//! Fabio's host patterns as regular expressions: `*` is any text (dots too), `?` any one character,
//! `[a-c]`, `[!a]`, `{www,api}` (<https://github.com/gobwas/glob>, as Fabio uses it: without separators).

/// Whether a host is a pattern at all.
pub fn is_glob(host: &str) -> bool {
    host.contains(['*', '?', '[', '{'])
}

/// Why a pattern does not compile, in words; and the byte where.
pub type GlobError = (usize, &'static str);

/// The anchored regular expression of a pattern.
///
/// # Errors
/// Brackets or braces without their end, empty classes.
pub fn to_regex(pattern: &str) -> Result<String, GlobError> {
    let mut out = String::from("^");
    let mut depth = 0usize;
    let mut chars = pattern.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '*' => {
                while chars.next_if(|(_, c)| *c == '*').is_some() {}
                out.push_str(".*");
            }
            '?' => out.push('.'),
            '{' => {
                depth += 1;
                out.push('(');
            }
            '}' if depth > 0 => {
                depth -= 1;
                out.push(')');
            }
            ',' if depth > 0 => out.push('|'),
            '[' => {
                out.push('[');
                if chars.next_if(|(_, c)| *c == '!').is_some() {
                    out.push('^');
                }
                let mut inside = 0;
                loop {
                    match chars.next() {
                        None => return Err((at, "`[` without `]`")),
                        Some((_, ']')) if inside > 0 => break,
                        Some((_, ']')) => return Err((at, "`[]` is empty")),
                        Some((_, '-')) if inside == 1 && chars.peek().is_some_and(|(_, c)| *c != ']') => out.push('-'),
                        Some((_, c)) => literal(c, &mut out),
                    }
                    inside += 1;
                }
                out.push(']');
            }
            '\\' => match chars.next() {
                Some((_, c)) => literal(c, &mut out),
                None => return Err((at, "`\\` at the end")),
            },
            c => literal(c, &mut out),
        }
    }
    if depth > 0 {
        return Err((pattern.find('{').unwrap_or_default(), "`{` without `}`"));
    }
    // between two literal texts Fabio's library compares begin and end alone, which may overlap there
    if let Some((begin, end)) = pattern.split_once('*')
        && !pattern.contains(['?', '[', '{', '\\'])
        && !end.contains('*')
    {
        for (at, _) in begin.char_indices().filter(|(at, _)| end.starts_with(&begin[*at..])) {
            out.push_str("$|^");
            out.push_str(&quote(&begin[..at]));
            out.push_str(&quote(end));
        }
    }
    out.push('$');
    Ok(out)
}

/// A regular expression that matches this text.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    text.chars().for_each(|c| literal(c, &mut out));
    out
}

fn literal(c: char, out: &mut String) {
    if c.is_ascii_punctuation() && c != '_' {
        out.push('\\');
    }
    out.push(c);
}

/// What Fabio's order of hosts sees of a pattern first: it goes by the reversed text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Specificity {
    /// Literal bytes behind the last wildcard.
    pub tail: usize,
    /// The byte that ends the last wildcard: `*`, `?`, `]` or `}`.
    pub last: char,
    /// There is more than stars before it.
    pub more: bool,
}

/// How specific a host pattern is.
pub fn specificity(pattern: &str) -> Specificity {
    let wildcard = |c: char| matches!(c, '*' | '?' | ']' | '}');
    let (before, last) = match pattern.char_indices().rfind(|(_, c)| wildcard(*c)) {
        Some((at, last)) => (&pattern[..at], last),
        None => ("", '*'),
    };
    let tail = pattern.rfind(wildcard).map_or(pattern.len(), |at| pattern.len() - at - 1);
    Specificity { tail, last, more: !before.trim_end_matches('*').is_empty() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_of_the_migration_table() {
        for (pattern, expected) in [
            ("*.example.org", r"^.*\.example\.org$"),
            ("app-*.h", r"^app\-.*\.h$"),
            ("{a,b}.h", r"^(a|b)\.h$"),
            ("?.h", r"^.\.h$"),
            ("[a-c]1.h", r"^[a-c]1\.h$"),
            ("[!a]2.h", r"^[^a]2\.h$"),
            ("**.h", r"^.*\.h$"),
            ("a.*.h", r"^a\..*\.h$|^a\.h$"),
        ] {
            let regex = to_regex(pattern).unwrap();
            assert_eq!(regex, expected);
            assert!(regex::Regex::new(&regex).is_ok(), "{regex}");
        }
        let of = |pattern| {
            let Specificity { tail, last, more } = specificity(pattern);
            (tail, last, more)
        };
        assert_eq!(of("*.example.org"), (12, '*', false));
        assert_eq!(of("?.example.org"), (12, '?', false));
        assert_eq!(of("app-*.example.org"), (12, '*', true));
        assert_eq!(of("{a,b}.h"), (2, '}', true));
        assert_eq!(of("**"), (0, '*', false));
        for bad in ["[ab.h", "{a,b.h", "[].h", "a\\"] {
            assert!(to_regex(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_compiles_here_compiles_as_an_expression(pattern in "[a-c*?!,.{}\\[\\]\\\\^&~|-]{0,16}") {
            if let Ok(regex) = to_regex(&pattern) {
                // ranges the wrong way round are left to the expression
                if let Err(e) = regex::Regex::new(&regex) {
                    prop_assert!(e.to_string().contains("range"), "{pattern} {regex} {e}");
                }
            }
        }
    }
}
