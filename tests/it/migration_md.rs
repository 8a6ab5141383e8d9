//! MIGRATION.md does what it says: its commands are run in order in one shell, in a folder of their own beside `rust-lb dev`,
//! and what they print is held against the text that follows them.
//!
//! A block of commands says in its first line how it is meant: `sh dev` is what this test starts itself; `sh run` is run,
//! with `exit=N` where another code than 0 is meant, and `needs=…` where a program (or `migrate`, a command of ours) must be
//! there; `sh manual=…` names who has to be there for it (root, supervisord), and is not run: the
//! commands of the proxy slot are run by `slot`. Ports are exchanged for free ones on the way in and out.

use crate::support::binary::{Running, output};
use crate::support::{ports, program};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whole time for the document, in seconds; only a command that hangs needs it.
const LIMIT: &str = "240";
/// Reasons for a command not to be run here.
const MANUAL: [&str; 2] = ["root", "supervisord"];

/// Commands, and what they print where the document says so.
#[derive(Debug)]
struct Block {
    line: usize,
    exit: i32,
    needs: Vec<String>,
    commands: String,
    prints: Option<String>,
}

/// The blocks that are run. Panics where a block is not marked.
fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut after = false;
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            after &= line.is_empty();
            continue;
        };
        let inside: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let inside = inside.join("\n");
        let words: Vec<&str> = info.split(' ').collect();
        match words[..] {
            ["text"] => {
                let block = found.last_mut().filter(|_| after).expect("a text follows what prints it");
                block.prints = Some(inside);
            }
            ["sh", "dev"] => assert_eq!(inside, "rust-lb dev", "line {}", at + 1),
            ["sh", "run", ref options @ ..] => {
                let option = |name: &str| options.iter().find_map(|option| option.strip_prefix(name));
                found.push(Block {
                    line: at + 1,
                    exit: option("exit=").map_or(0, |code| code.parse().expect("a code")),
                    needs: option("needs=").into_iter().flat_map(|names| names.split(',')).map(str::to_owned).collect(),
                    commands: inside,
                    prints: None,
                });
            }
            ["sh", manual] if MANUAL.iter().any(|reason| manual == format!("manual={reason}")) => {
                drop(writeln!(io::stderr(), "MIGRATION.md:{}: not run: {manual}", at + 1));
            }
            _ => panic!("MIGRATION.md:{}: nobody knows whether this is run: {info:?}", at + 1),
        }
        after = words[..2.min(words.len())] == ["sh", "run"];
    }
    found
}

/// Whether what a block needs is here.
fn is_here(name: &str) -> bool {
    match name {
        "migrate" => {
            let here = output(&["migrate", "--help"]).status.success();
            if !here {
                drop(writeln!(io::stderr(), "skipped: this build has no `rust-lb migrate`"));
            }
            here
        }
        name => program::have(name),
    }
}

/// Exchanges numbers that stand alone.
fn exchanged(text: &str, ports: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut number = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        out.push_str(ports.get(&number).unwrap_or(&number));
        number.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

/// Whether a text is as described: `…` in a line stands for anything in it, alone in a line for any lines.
fn fits(want: &[&str], got: &[&str]) -> bool {
    match (want.split_first(), got.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), _) => fits(rest, got) || got.split_first().is_some_and(|(_, less)| fits(want, less)),
        (Some((first, rest)), Some((line, less))) => line_fits(first, line) && fits(rest, less),
        _ => false,
    }
}

fn line_fits(want: &str, got: &str) -> bool {
    let mut parts = want.split('…');
    let Some(rest) = parts.next().and_then(|first| got.strip_prefix(first)) else { return false };
    let mut rest = rest;
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    match last {
        None => rest.is_empty(),
        Some(part) => part.is_empty() || got.ends_with(part),
    }
}

#[test]
fn texts_are_held_against_what_is_printed() {
    let fit = |want: &str, got: &str| fits(&want.lines().collect::<Vec<_>>(), &got.lines().collect::<Vec<_>>());
    assert!(fit("a\n…\nb", "a\nb") && fit("a\n…\nb", "a\nx\ny\nb") && fit("…", "") && fit("x … z…", "x y z w"));
    assert!(
        !fit("a\n…\nb", "a\nx") && !fit("a", "a\nb") && !fit("x … z", "x y") && !fit("", "x") && !fit("a b", "a c")
    );
    let ports = BTreeMap::from([("80".to_owned(), "81".to_owned())]);
    assert_eq!(exchanged("80 180 a80: 800 80", &ports), "81 180 a81: 800 81");
}

#[test]
fn every_command_prints_what_the_document_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("MIGRATION.md");
    let blocks = blocks(&std::fs::read_to_string(file).expect("the document"));
    assert!(blocks.len() > 10, "{}", blocks.len());
    let dir = tempfile::tempdir().expect("a folder");
    let (home, here) = (dir.path().join("home"), dir.path().join("here"));
    std::fs::create_dir_all(&home).expect("a folder");
    std::fs::create_dir_all(&here).expect("a folder");
    let dev = Running::dev(&home, &[]);
    let mut there = BTreeMap::new();
    for (port, name) in
        [("8000", "web"), ("8443", "websecure"), ("8080", "admin"), ("4646", "nomad"), ("8500", "consul")]
    {
        there.insert(port.to_owned(), dev.addr(name).port().to_string());
    }
    for port in ["8001", "8002", "8003", "8004", "9000", "9998", "9999"] {
        there.insert(port.to_owned(), ports::free().to_string());
    }
    let back: BTreeMap<String, String> = there.iter().map(|(doc, real)| (real.clone(), doc.clone())).collect();
    let mut here_are: BTreeMap<&str, bool> = BTreeMap::new();
    let mut script = String::from("exec 2>&1\n");
    let mut run = Vec::new();
    for block in &blocks {
        if !block.needs.iter().all(|name| *here_are.entry(name).or_insert_with(|| is_here(name))) {
            continue;
        }
        let commands = exchanged(&block.commands, &there);
        script += &format!("echo '@@ {0}'\n{commands}\necho \"@@ {0} $?\"\n", block.line);
        run.push(block);
    }
    let said = shell(&script, &here, &home);
    for block in run {
        let begin = format!("@@ {}\n", block.line);
        let (_, rest) =
            said.split_once(&begin).unwrap_or_else(|| panic!("line {} was not reached:\n{said}", block.line));
        let end = format!("@@ {} ", block.line);
        let Some((printed, rest)) = rest.split_once(&end) else { panic!("line {} did not end:\n{said}", block.line) };
        let printed = exchanged(printed, &back);
        let code = rest.lines().next().unwrap_or_default();
        assert_eq!(code, block.exit.to_string(), "MIGRATION.md:{}: exit code; it printed:\n{printed}", block.line);
        if let Some(want) = &block.prints {
            let (wanted, got): (Vec<&str>, Vec<&str>) = (want.lines().collect(), printed.lines().collect());
            assert!(fits(&wanted, &got), "MIGRATION.md:{}: it prints\n{printed}\nand not\n{want}", block.line);
        }
    }
}

/// Runs a script to its end, and ends what it left running.
fn shell(script: &str, here: &Path, home: &Path) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_rust-lb"));
    let beside = binary.parent().expect("a folder").display().to_string();
    let path = format!("{beside}:{}", std::env::var("PATH").unwrap_or_default());
    let file = here.parent().expect("a folder").join("script.sh");
    std::fs::write(&file, script).expect("written");
    let printed = here.parent().expect("a folder").join("printed");
    // a file: what runs on in the background keeps a pipe open
    let out = std::fs::File::create(&printed).expect("a file");
    let mut child = Command::new("timeout")
        .args(["--kill-after=5", LIMIT, "sh"])
        .arg(&file)
        .current_dir(here)
        .env_clear()
        .env("PATH", path)
        .env("HOME", home)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()
        .expect("a shell");
    let group = child.id();
    drop(child.wait());
    drop(Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null()).status());
    String::from_utf8_lossy(&std::fs::read(&printed).unwrap_or_default()).into_owned()
}
