//! What a source said, before it is compared with the options: a path of names with their places,
//! and a value. Files, variables and flags all become this.

use super::value::Leaf;
use crate::diagnostic::Origin;
pub(super) use crate::document::Spot;
use std::sync::Arc;

/// A name of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub name: String,
    pub at: Option<Spot>,
}

/// One value as said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    pub path: Vec<Step>,
    pub leaf: Leaf,
    /// Where the value stands.
    pub at: Option<Spot>,
    /// The file, `$VARIABLE` or `--flag` that said it.
    pub source: Arc<str>,
}

impl Raw {
    /// What a variable or a flag said.
    pub fn plain(path: Vec<String>, text: &str, source: &str) -> Self {
        let path = path.into_iter().map(|name| Step { name, at: None }).collect();
        Self { path, leaf: Leaf::Text(text.to_owned()), at: None, source: source.into() }
    }
}

/// The origin of something at a place of a source.
pub(super) fn origin(source: &Arc<str>, at: Option<Spot>) -> Origin {
    Origin { file: Some(source.clone()), line: at.map(|s| s.line), column: at.map(|s| s.column), ..Origin::default() }
}

/// Splits a dotted path, `domains[0].main` into `domains`, `[0]`, `main`.
pub(super) fn split_path(text: &str) -> Vec<String> {
    let mut path = Vec::new();
    for name in text.split('.') {
        let open = name.find('[').unwrap_or(name.len());
        let (head, mut places) = name.split_at(open);
        if !head.is_empty() || places.is_empty() {
            path.push(head.to_owned());
        }
        while let Some(close) = places.find(']') {
            path.push(places[..=close].to_owned());
            places = &places[close + 1..];
        }
        if !places.is_empty() {
            path.push(places.to_owned());
        }
    }
    path
}

/// The number of a step `[n]`.
pub(super) fn place(name: &str) -> Option<usize> {
    name.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_dots_and_brackets() {
        for (text, path) in [
            ("a.b", vec!["a", "b"]),
            ("a.b[0].c", vec!["a", "b", "[0]", "c"]),
            ("a[0][1]", vec!["a", "[0]", "[1]"]),
            ("a..b", vec!["a", "", "b"]),
            ("a[", vec!["a", "["]),
            ("", vec![""]),
        ] {
            assert_eq!(split_path(text), path, "{text}");
        }
        assert_eq!((place("[7]"), place("7"), place("[x]")), (Some(7), None, None));
    }
}
