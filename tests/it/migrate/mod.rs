//! `rust-lb migrate`, as people run it, over the job files of `tests/migrate`.

mod documents;
mod outputs;
mod trouble;
mod write;

use super::support::binary::{Running, command, output};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Runs it; gives exit code, stdout and stderr.
fn migrate(args: &[&str]) -> (Option<i32>, String, String) {
    let args: Vec<&str> = ["migrate"].into_iter().chain(args.iter().copied()).collect();
    let output = output(&args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs it with something on standard input.
fn piped(args: &[&str], input: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let args: Vec<&str> = ["migrate"].into_iter().chain(args.iter().copied()).collect();
    let mut child = command(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the binary ends");
    feeder.join().expect("fed");
    (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn json(args: &[&str]) -> Value {
    let (_, out, err) = migrate(&[args, &["--json"]].concat());
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"))
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrate").join(name)
}

/// The files of a folder with their contents.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    entries.filter(|path| path.is_file()).map(|path| (name(&path), fs::read(&path).expect("a file"))).collect()
}

/// A copy of the job files that a test may change.
fn jobs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, content) in contents(&folder("jobs")) {
        fs::write(dir.path().join(name), content).expect("written");
    }
    dir
}

/// One job with these tags, written as they stand here.
fn job(tags: &str) -> String {
    format!(
        "job \"j\" {{\n  group \"g\" {{\n    service {{\n      name = \"j\"\n      tags = {tags}\n    }}\n  }}\n}}\n"
    )
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
