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

/// How specific a host pattern is: the literal bytes behind its last wildcard, and one more where
/// there is also text before its wildcards. Fabio orders by the reversed text.
pub fn specificity(pattern: &str) -> usize {
    let tail = pattern.len() - pattern.rfind(['*', '?', ']', '}']).map_or(0, |at| at + 1);
    tail + usize::from(pattern[..pattern.len() - tail].trim_end_matches('*').contains(|c| c != '?'))
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
        assert_eq!(specificity("*.example.org"), 12);
        assert_eq!(specificity("?.example.org"), 12);
        assert_eq!(specificity("app-*.example.org"), 13);
        assert_eq!(specificity("**"), 0);
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
