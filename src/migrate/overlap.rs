//! Host patterns that fit one name and do not contain each other: which of them goes first is a guess there, for Fabio
//! goes by the reversed text of the pattern and Traefik by numbers.

use crate::tags::legacy::to_regex;
use std::sync::Arc;

/// Beyond this many patterns they are not compared with each other.
const MAX_GLOBS: usize = 400;

/// Pairs of patterns that fit one name, with the name.
pub fn overlaps(globs: &[Arc<str>]) -> Vec<(Arc<str>, Arc<str>, String)> {
    let mut found = Vec::new();
    if globs.len() > MAX_GLOBS {
        return found;
    }
    let compiled: Vec<Option<regex::Regex>> =
        globs.iter().map(|glob| regex::Regex::new(&to_regex(glob).ok()?).ok()).collect();
    let ends: Vec<Option<(&str, &str)>> = globs.iter().map(|glob| ends(glob)).collect();
    for (at, one) in globs.iter().enumerate() {
        for (then, other) in globs.iter().enumerate().skip(at + 1) {
            let (Some(a), Some(b), Some((one_begin, one_end)), Some((begin, end))) =
                (&compiled[at], &compiled[then], ends[at], ends[then])
            else {
                continue;
            };
            let tail = |glob: &Arc<str>| glob.trim_start_matches('*').to_owned();
            // one is a part of the other: the longer end goes first in both
            if tail(one).ends_with(&tail(other)) || tail(other).ends_with(&tail(one)) {
                continue;
            }
            let names = [format!("{one_begin}{end}"), format!("{begin}{one_end}"), format!("{one_begin}x{end}")];
            if let Some(name) = names.into_iter().find(|name| a.is_match(name) && b.is_match(name)) {
                found.push((one.clone(), other.clone(), name));
            }
        }
    }
    found
}

/// The text before the first wildcard and that behind the last.
fn ends(glob: &str) -> Option<(&str, &str)> {
    let first = glob.find(['*', '?', '[', '{'])?;
    let last = glob.rfind(['*', '?', ']', '}'])?;
    Some((glob.get(..first)?, glob.get(last + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_fit_one_name_are_found() {
        let of = |globs: &[&str]| {
            let globs: Vec<Arc<str>> = globs.iter().map(|g| Arc::from(*g)).collect();
            overlaps(&globs).into_iter().map(|(_, _, name)| name).collect::<Vec<_>>()
        };
        assert_eq!(of(&["www.*", "*.org"]), ["www..org"]);
        assert_eq!(of(&["*.b.org", "*.org"]), Vec::<String>::new(), "one contains the other");
        assert_eq!(of(&["*.a", "*.b"]), Vec::<String>::new());
        assert_eq!(of(&["app-*.h", "*-1.h"]).len(), 1);
    }
}
