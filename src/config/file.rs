//! The static file: found, read within limits, and taken apart into what it says, each with its
//! line and column. A file that cannot be read as a whole is one error with a place.

use super::from_document::flatten;
use super::raw::{Raw, origin};
use crate::diagnostic::Diagnostic;
use crate::document::{self, Format, Limits};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// Largest static file in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// More is not a configuration.
const LIMITS: Limits = Limits { depth: 32, values: 50_000 };

/// Reads and takes apart a static file: TOML by its ending `.toml`, else YAML (JSON is YAML).
pub(super) fn read(path: &Path) -> Result<Vec<Raw>, Box<Diagnostic>> {
    let source: Arc<str> = path.to_string_lossy().into();
    let bytes = read_bytes(path).map_err(|d| Box::new(d.with_origin(origin(&source, None))))?;
    parse(&bytes, path, &source)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Box<Diagnostic>> {
    let unreadable = |e: std::io::Error| Box::new(Diagnostic::error("unreadable_file", format!("cannot be read: {e}")));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(Box::new(Diagnostic::error("unreadable_file", "is a directory, expected a file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("is larger than {MAX_FILE_BYTES} bytes");
        return Err(Box::new(Diagnostic::error("file_too_large", message)));
    }
    Ok(bytes)
}

fn parse(bytes: &[u8], path: &Path, source: &Arc<str>) -> Result<Vec<Raw>, Box<Diagnostic>> {
    let members = document::read(bytes, Format::of(path), LIMITS).map_err(|e| {
        Box::new(Diagnostic::error("malformed_file", e.message).with_origin(origin(source, Some(e.at))))
    })?;
    Ok(flatten(members, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::Spot;
    use crate::config::value::Leaf;
    use std::path::PathBuf;

    fn said(name: &str, text: &[u8]) -> Result<Vec<(String, Leaf)>, String> {
        let parsed = parse(text, &PathBuf::from(name), &name.into()).map_err(|d| d.to_string())?;
        let path = |r: &Raw| r.path.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join("/");
        Ok(parsed.iter().map(|r| (path(r), r.leaf.clone())).collect())
    }

    fn text(t: &str) -> Leaf {
        Leaf::Text(t.to_owned())
    }

    #[test]
    fn twins_say_the_same() {
        let yaml = "a:\n  b: x\n  c: {}\n  d: [1, two]\ne: true\nf: 1.50\ng:\n  - h: 0x10\n  - h: y\n";
        let toml = "e = true\nf = 1.50\n[a]\nb = \"x\"\nd = [1, \"two\"]\n[a.c]\n[[g]]\nh = 0x10\n[[g]]\nh = \"y\"\n";
        let json = r#"{"a":{"b":"x","c":{},"d":[1,"two"]},"e":true,"f":1.50,"g":[{"h":"0x10"},{"h":"y"}]}"#;
        let mut want = vec![
            ("a/b".to_owned(), text("x")),
            ("a/c".into(), Leaf::Group),
            ("a/d".into(), Leaf::List(vec!["1".into(), "two".into()])),
            ("e".into(), text("true")),
            ("f".into(), text("1.50")),
            ("g/[0]/h".into(), text("0x10")),
            ("g/[1]/h".into(), text("y")),
        ];
        want.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, source) in [("t.yaml", yaml), ("t.toml", toml), ("t.json", json)] {
            let mut got = said(name, source.as_bytes()).unwrap();
            got.sort_by(|a, b| a.0.cmp(&b.0));
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn places_are_those_of_key_and_value() {
        for (name, source, key, value) in
            [("t.yaml", "# é\na:\n  bé: 'x'\n", (3, 3), (3, 7)), ("t.toml", "# é\n[a]\n\"bé\" = 'x'\n", (3, 1), (3, 8))]
        {
            let parsed = parse(source.as_bytes(), &PathBuf::from(name), &name.into()).unwrap();
            let spot = |(line, column)| Some(Spot { line, column });
            assert_eq!((parsed[0].path[1].at, parsed[0].at), (spot(key), spot(value)), "{name}");
        }
    }

    #[test]
    fn what_does_not_parse_has_a_place() {
        for (name, source, place) in [
            ("t.yaml", "a: [1\nb: 2\n".as_bytes(), "t.yaml:"),
            ("t.yaml", b"a: 1\na: 2\n", "t.yaml:2:1: "),
            ("t.yaml", b"<!doctype html><html><body>502: bad</body></html>", "t.yaml:1:"),
            ("t.yaml", b"just text", "t.yaml:1:1: "),
            ("t.yaml", b"- a\n- b\n", "t.yaml:1:1: "),
            ("t.yaml", b"\x7fELF\x02\x00", "t.yaml:1:6: "),
            ("t.yaml", b"ok: 1\n\xff\xfe", "t.yaml:2:1: "),
            ("t.yaml", b"a: 1\n---\nb: 2\n", "t.yaml:"),
            ("t.toml", b"a = \n", "t.toml:1:"),
            ("t.toml", b"<html>", "t.toml:1:"),
            ("t.toml", b"a = 1\na = 2\n", "t.toml:2:1: "),
        ] {
            let message = said(name, source).unwrap_err();
            assert!(message.starts_with(place) && message.contains("malformed_file"), "{message}");
        }
    }

    #[test]
    fn depth_and_alias_bombs_are_refused() {
        let deep_yaml = format!("{}1{}", "{a: ".repeat(5000), "}".repeat(5000));
        let deep_toml = format!("{}a = 1\n", "a.".repeat(100_000));
        let deep_toml_array = format!("a = {}", "[".repeat(100_000));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..30 {
            let one = format!("*a{}", i - 1);
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![one; 10].join(", ")));
        }
        for (name, source) in
            [("t.yaml", deep_yaml), ("t.toml", deep_toml), ("t.toml", deep_toml_array), ("t.yaml", bomb)]
        {
            assert!(said(name, source.as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn an_empty_file_says_nothing() {
        for source in ["", "# only a remark\n", "---\n", "{}", "\u{feff}"] {
            assert_eq!(said("t.yaml", source.as_bytes()), Ok(vec![]), "{source:?}");
        }
        assert_eq!(said("t.toml", b""), Ok(vec![]));
    }
}
