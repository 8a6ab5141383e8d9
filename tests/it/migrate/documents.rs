//! What happens to documents: only lists of tags change, whatever the form.

use super::{contents, folder, jobs, json, migrate, piped, text};
use serde_json::Value;
use std::path::Path;

/// A document with what stands in its lists of tags left out, seen with the eyes of this test: brackets are matched,
/// texts and comments are skipped.
fn without_lists(text: &str, all: bool) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (String::new(), 0);
    while at < bytes.len() {
        let rest = &text[at..];
        let key = ["tags", "canary_tags", "hosts", "\"tags\"", "\"Tags\""].iter().find(|key| {
            let before = text[..at].chars().next_back();
            rest.starts_with(**key)
                && before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '.' && c != '-')
                && rest[key.len()..].trim_start().starts_with(['=', ':'])
        });
        match key {
            Some(key) if all => {
                // To the end of the value: the line where all brackets are closed again.
                out.push_str(key);
                at += key.len();
                let mut depth = 0;
                loop {
                    match bytes.get(at) {
                        None => break,
                        Some(b'"') => at += quoted(&bytes[at..]),
                        Some(b'#') => at += bytes[at..].iter().position(|b| *b == b'\n').unwrap_or(0),
                        Some(b'[' | b'(' | b'{') => (depth, at) = (depth + 1, at + 1),
                        Some(b']' | b')' | b'}') if depth > 0 => (depth, at) = (depth - 1, at + 1),
                        Some(b'\n' | b'}' | b',') if depth == 0 => break,
                        Some(_) => at += 1,
                    }
                }
            }
            _ => {
                let letter = rest.chars().next().expect("a letter");
                out.push(letter);
                at += letter.len_utf8();
            }
        }
    }
    out
}

/// The length of a quoted text, expressions with quotes of their own not among them.
fn quoted(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

#[test]
fn every_form_converts_and_nothing_but_lists_changes() {
    let files = contents(&folder("jobs"));
    assert!(files.len() >= 30, "{}", files.len());
    let mut converted = 0;
    for (name, old) in &files {
        for mode in [&["--stdout", "-"][..], &["--stdout", "--drop-legacy", "-"]] {
            let (code, new, err) = piped(mode, old);
            let (old, new) = (std::str::from_utf8(old).expect("UTF-8"), std::str::from_utf8(&new).expect("UTF-8"));
            assert_eq!(without_lists(old, true), without_lists(new, true), "{name}");
            assert_eq!(old.starts_with('\u{feff}'), new.starts_with('\u{feff}'), "{name}");
            assert_eq!(old.ends_with('\n'), new.ends_with('\n'), "{name}");
            let lone = |text: &str| text.matches('\n').count() - text.matches("\r\n").count();
            assert_eq!(old.contains("\r\n"), new.contains("\r\n"), "{name}");
            assert!(!old.contains("\r\n") || lone(new) == 0, "{name}: {new}");
            if new != old {
                converted += 1;
                assert!(new.contains("traefik."), "{name}: {new}");
            }
            if name == "03-no-legacy.nomad" {
                assert_eq!((code, new), (Some(0), old), "{err}");
            }
            // And what comes out is read again, with nothing more to do.
            let (_, again, err) = piped(mode, new.as_bytes());
            assert_eq!(String::from_utf8(again).expect("UTF-8"), new, "{name}: {err}");
        }
    }
    assert!(converted >= 50, "{converted} of {} documents were converted", 2 * files.len());
}

#[test]
fn the_way_lists_are_written_stays() {
    let jobs = folder("jobs");
    let of = |name: &str, more: &[&str]| {
        let file = jobs.join(name);
        let args = [&["--stdout", text(&file)], more].concat();
        let (code, out, err) = migrate(&args);
        assert_eq!(code, Some(0), "{name}: {err}");
        out
    };
    let plain = of("01-plain.nomad", &[]);
    assert!(
        plain.contains("        \"urlprefix-shop.example.com/\", # the site\n        \"traefik.enable=true\",\n"),
        "{plain}"
    );
    assert!(plain.contains("\n\n        \"release-42\",\n      ]"), "{plain}");
    let one = of("02-one-line.nomad", &["--drop-legacy"]);
    assert!(
        one.contains("      tags = [\"traefik.enable=true\", ") && one.contains(", \"internal\"] // one line\n"),
        "{one}"
    );
    let variables = of("08-variables.nomad", &["--drop-legacy"]);
    assert!(
        variables.contains("Host(`${var.host}`)") && variables.contains("\"version-${var.version}\""),
        "{variables}"
    );
    // Each turn would define the same router otherwise.
    for name in ["12-dynamic.nomad", "33-loop.nomad"] {
        let file = jobs.join(name);
        let (code, out, err) = migrate(&["--stdout", text(&file)]);
        let old = std::fs::read_to_string(&file).expect("the file");
        assert_eq!((code, out), (Some(1), old), "{name}: {err}");
    }
    let format = of("11-format.nomad", &["--drop-legacy"]);
    assert!(format.contains("Host(`${var.zone}.format.example.com`)"), "{format}");
    let local = of("09-locals.nomad", &[]);
    assert!(local.contains("hosts = [\"urlprefix-local.example.com/\", \"traefik.enable=true\""), "{local}");
    let canary = of("13-canary.nomad", &["--drop-legacy"]);
    assert!(
        canary.contains("canary_tags = [\"traefik.enable=true\"") && canary.contains("`next.canary.example.com`"),
        "{canary}"
    );
    let redirect = of("17-redirect.nomad", &["--drop-legacy"]);
    assert!(redirect.contains("(\\\\?.+)?\\\\??$\"") && !redirect.contains("urlprefix"), "{redirect}");
    let api = of("26-api.json", &["--drop-legacy"]);
    let api: Value = serde_json::from_str(&api).expect("JSON");
    let tags = &api["Job"]["TaskGroups"][0]["Services"][0]["Tags"];
    assert_eq!(
        (&tags[0], tags.as_array().and_then(|tags| tags.last())),
        (&"traefik.enable=true".into(), Some(&"x".into()))
    );
}

#[test]
fn all_files_are_one_set() {
    // Each of the two jobs alone would have the whole of the pool; together their routers are one.
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["one", "two"] {
        let job = super::job("[\"urlprefix-pool.example.com/ weight=0.5\"]")
            .replace("name = \"j\"", &format!("name = \"{name}\""));
        std::fs::write(dir.path().join(format!("{name}.nomad")), job).expect("written");
    }
    let told = json(&[text(dir.path()), "--drop-legacy"]);
    assert_eq!(told["documents"].as_array().map(Vec::len), Some(2), "{told}");
    let rules = |at: usize| -> Vec<String> {
        let tags = &told["documents"][at]["services"][0]["tags"][0]["new"];
        let all = tags.as_array().into_iter().flatten().filter_map(Value::as_str);
        all.filter(|tag| tag.contains(".routers.")).map(str::to_owned).collect()
    };
    assert!(!rules(0).is_empty() && rules(0) == rules(1), "{told:#}");
    assert_eq!(told["holds"], true, "{told:#}");
}

#[test]
fn the_whole_set_proves_itself() {
    let dir = jobs();
    let told = json(&[text(dir.path())]);
    assert_eq!(told["holds"], true, "{:#}", told["proof"]);
    assert!(told["proof"]["requests"].as_u64().is_some_and(|n| n > 100), "{:#}", told["proof"]);
    let states = |document: &Value| {
        let of = |service: &Value| service["state"].as_str().map(str::to_owned);
        document["services"].as_array().into_iter().flatten().filter_map(of).collect::<Vec<_>>()
    };
    for document in told["documents"].as_array().expect("documents") {
        let file = Path::new(document["file"].as_str().expect("a name")).file_name().expect("a name");
        let plain = ["01-", "02-", "04-", "05-", "06-", "07-", "26-", "28-", "29-", "30-"];
        if plain.iter().any(|start| file.to_string_lossy().starts_with(start)) {
            assert!(states(document).iter().all(|state| state.starts_with("ready")), "{document:#}");
        }
    }
}

#[test]
fn a_thousand_files_take_a_few_seconds() {
    let dir = tempfile::tempdir().expect("a folder");
    let jobs = contents(&folder("jobs"));
    let plain = String::from_utf8_lossy(&jobs["01-plain.nomad"]).into_owned();
    for n in 0..1000 {
        let file = dir.path().join(format!("{n}.nomad"));
        std::fs::write(file, plain.replace("shop.example.com", &format!("shop-{n}.example.com"))).expect("written");
    }
    let told = json(&[text(dir.path())]);
    assert_eq!(told["documents"].as_array().map(Vec::len), Some(1000));
    assert_eq!(told["holds"], true);
}
