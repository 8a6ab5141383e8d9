//! Holds the import directions of ARCHITECTURE.md: each stage knows only the stages before it.
//! Reads the `use crate::` lines and `crate::…` paths of every source file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which modules each module may import, besides itself.
fn allowed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let table: &[(&str, &[&str])] = &[
        ("model", &[]),
        ("diagnostic", &["model"]),
        ("document", &[]),
        ("http", &["model"]),
        ("observe", &["model", "http", "diagnostic"]),
        ("config", &["model", "http", "diagnostic", "document"]),
        ("rule", &["model", "diagnostic"]),
        ("catalog", &["model", "config", "diagnostic"]),
        ("declare", &["model", "diagnostic", "document"]),
        ("tags", &["model", "rule", "declare", "catalog", "diagnostic"]),
        ("table", &["model", "rule", "declare", "diagnostic"]),
        ("balance", &["model"]),
        ("upstream", &["model", "http", "balance", "observe", "table", "config"]),
        ("certs", &["model", "observe", "diagnostic"]),
        ("acme", &["model", "observe", "diagnostic", "certs"]),
        ("middleware", &["model", "http", "table", "declare", "balance", "observe", "rule"]),
        (
            "proxy",
            &["model", "http", "table", "declare", "rule", "middleware", "balance", "upstream", "observe", "config"],
        ),
        ("embedded", &["model", "catalog"]),
        ("listen", &["model", "http", "proxy", "certs", "observe", "config"]),
        (
            "explain",
            &[
                "model",
                "http",
                "table",
                "declare",
                "rule",
                "catalog",
                "tags",
                "proxy",
                "middleware",
                "balance",
                "diagnostic",
            ],
        ),
        (
            "migrate",
            &["model", "http", "table", "declare", "rule", "catalog", "tags", "diagnostic", "document", "explain"],
        ),
        ("compare", &["model", "http", "diagnostic"]),
        (
            "api",
            &["model", "http", "table", "declare", "catalog", "config", "observe", "certs", "diagnostic", "explain"],
        ),
    ];
    table.iter().map(|(module, may)| (*module, may.iter().copied().collect())).collect()
}

/// Modules that may import anything below `cli`.
const RIM: [&str; 3] = ["runtime", "cli", "lib"];

#[test]
fn each_stage_knows_only_the_stages_before_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed = allowed();
    let mut faults = Vec::new();
    let mut seen = 0;
    for file in rust_files(&src) {
        let relative = file.strip_prefix(&src).expect("below src");
        let module = relative.components().next().expect("a component").as_os_str().to_string_lossy();
        let module = module.trim_end_matches(".rs");
        if module == "main" || RIM.contains(&module) {
            continue;
        }
        let Some(may) = allowed.get(module) else {
            faults.push(format!("{module}: not in the list of modules of this test"));
            continue;
        };
        let text = std::fs::read_to_string(&file).expect("a source file");
        for (number, import) in imports(&text) {
            seen += 1;
            if import != module && !may.contains(import.as_str()) {
                faults.push(format!("{}:{number}: `{module}` may not import `{import}`", relative.display()));
            }
        }
    }
    assert!(seen > 20, "the test found only {seen} imports: it no longer reads what it should");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_pure_stages_have_no_async_and_no_io() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    for module in ["rule", "tags", "table", "balance", "declare", "model", "document"] {
        for file in rust_files(&src.join(module)) {
            if file.ends_with("table/store.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&file).expect("a source file");
            for (number, line) in code_lines(&text) {
                for word in [
                    "async fn",
                    ".await",
                    "tokio::",
                    "std::fs",
                    "std::env",
                    "TcpStream",
                    "SystemTime::now",
                    "Instant::now",
                ] {
                    if line.contains(word) {
                        faults.push(format!("{}:{number}: `{word}` in a pure stage", file.display()));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// `compare --insecure` believes any certificate: nothing that serves may come by that.
#[test]
fn only_the_command_reaches_the_comparison() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let of = |word: &str| {
        let holds = |file: &std::path::PathBuf| {
            let text = std::fs::read_to_string(file).expect("a source file");
            code_lines(&text).any(|(_, line)| line.contains(word))
        };
        let found: Vec<_> = rust_files(&src).into_iter().filter(holds).collect();
        found.iter().map(|file| file.strip_prefix(&src).expect("below src").display().to_string()).collect::<Vec<_>>()
    };
    let users = of("crate::compare");
    assert!(users.iter().any(|file| file == "cli/compare.rs"), "{users:?}");
    let strangers: Vec<_> =
        users.iter().filter(|file| !["cli/compare", "compare/"].iter().any(|own| file.starts_with(own))).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn only_config_and_cli_read_the_environment() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let faults: Vec<String> = rust_files(&src)
        .into_iter()
        .filter(|f| !f.starts_with(src.join("config")) && !f.starts_with(src.join("cli")))
        .flat_map(|file| {
            let text = std::fs::read_to_string(&file).expect("a source file");
            code_lines(&text)
                .filter(|(_, line)| line.contains("env::var") || line.contains("env::vars"))
                .map(|(number, _)| format!("{}:{number}", file.display()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return files };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

/// Lines of code with their numbers: up to the file's own unit tests, comments left out.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(i, line)| (i + 1, line))
}

/// Every `crate::module` in the code, and the modules of `use crate::{a, b}` lists.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in code_lines(text) {
        let mut rest = line;
        while let Some(at) = rest.find("crate::") {
            rest = &rest[at + "crate::".len()..];
            if let Some(list) = rest.strip_prefix('{') {
                // `use crate::{a::B, c}`: the list's first words.
                for item in split_top_level(list) {
                    found.push((number, first_word(item)));
                }
            } else {
                found.push((number, first_word(rest)));
            }
        }
    }
    found.retain(|(_, name)| !name.is_empty() && name.starts_with(|c: char| c.is_ascii_lowercase()));
    found
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

fn split_top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0usize, 0, Vec::new());
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&list[start..i]);
                return items;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    items.push(&list[start..]);
    items
}
