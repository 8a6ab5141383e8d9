//! Static files and the rotation of logs.

use super::{path, read, succeeds};
use crate::support::binary::command;
use crate::support::client;
use crate::support::eventually;
use crate::support::program::have;
use crate::support::serve::Setup;
use crate::support::server::Server;
use rust_lb::config::{self, Input};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn the_file_with_every_option_is_that_of_the_settings() {
    let now = succeeds(&mut command(&["check", "--example"]));
    assert!(now == read("etc/rust-lb.yaml"), "run `rust-lb check --example >etc/rust-lb.yaml`");
}

#[test]
fn the_static_files_hold_without_a_remark() {
    for name in ["rust-lb.yaml", "rust-lb.hind.yaml", "example.yaml", "example.toml"] {
        let file = format!("--configFile={}", path("etc").join(name).display());
        let said = succeeds(&mut command(&["check", &file, "--strict"]));
        assert!(said.starts_with("the configuration holds (0 errors, 0 warnings)"), "{name}: {said}");
    }
}

/// Reads a static file; gives the problems.
fn problems(text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("t.yaml");
    std::fs::write(&file, text).expect("written");
    let input = Input { default_paths: vec![file], ..Input::default() };
    let problems = match config::load(&input) {
        Ok(loaded) => loaded.diagnostics,
        Err(problems) => problems,
    };
    problems.iter().map(ToString::to_string).collect()
}

/// Each option by itself, below its sections, holds, but for what it needs beside it; and so do all together.
#[test]
fn each_option_of_the_example_can_be_taken_in() {
    let text = read("etc/rust-lb.yaml");
    let mut above: Vec<&str> = Vec::new();
    let (mut options, mut refused) = (0, Vec::new());
    for line in text.lines() {
        let Some(line) = line.strip_prefix('#') else {
            assert!(line.is_empty(), "{line}");
            continue;
        };
        let option = line.trim_start();
        if option.starts_with('#') {
            continue;
        }
        let indent = |line: &str| line.len() - line.trim_start().len();
        above.retain(|section| indent(section) < indent(line));
        let value = option.split("  #").next().unwrap_or_default().trim_end();
        if value.ends_with(':') {
            above.push(line);
            continue;
        }
        options += 1;
        let all: Vec<&str> = above.iter().copied().chain([line]).collect();
        // A list's further keys stand below its first one.
        if option.starts_with("- ") {
            above.push(line);
        }
        refused.extend(problems(&all.join("\n")).into_iter().map(|problem| format!("{value}: {problem}")));
    }
    assert!(options > 150, "{options}");
    refused.retain(|problem| !NEED_ANOTHER.iter().any(|code| problem.contains(code)));
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    // Files are named one by one or by their folder.
    let all =
        text.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with("    directory: "));
    let all = problems(&all.collect::<Vec<_>>().join("\n"));
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// What is said where another option has to stand beside it.
const NEED_ANOTHER: &[&str] = &[
    "error[no_address]",
    "error[no_file]: `providers.file` names no",
    "warning[rest_without_token]",
    "no challenge is named",
    "`dnsChallenge` names no `provider`",
    "error[unknown_resolver]",
    "expected an htpasswd file, got nothing",
];

/// Rotated while it serves: lines go on in the new file, and none is lost.
#[test]
fn logs_are_rotated() {
    if !have("logrotate") {
        return;
    }
    let server = Server::start("app");
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("access.log");
    let flags = [format!("--accessLog.filePath={}", log.display()), "--accessLog.format=json".to_owned()];
    let flags: Vec<&str> = ["--accessLog=true"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    let serve = Setup::new(server.addr, &flags).start();
    serve.wait_until_served();
    let lines = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default().lines().count();
    client::get(serve.web(), "a.test", "/before");
    eventually("lines are written", || (lines("access.log") > 0).then_some(()));

    // The folder of the test for that of the log, and for whoever supervises.
    let folder = dir.path().display().to_string();
    let text =
        read("etc/logrotate/rust-lb").replace("/var/log/rust-lb", &folder).replace("/run/", &format!("{folder}/"));
    let file = dir.path().join("rotate");
    std::fs::write(&file, text).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("permissions");
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    let supervisor = format!("#!/bin/sh\n[ \"$*\" = 'signal USR1 rust-lb' ] && kill -USR1 {}\n", serve.pid());
    std::fs::write(bin.join("supervisorctl"), supervisor).expect("written");
    std::fs::set_permissions(bin.join("supervisorctl"), std::fs::Permissions::from_mode(0o755)).expect("executable");
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut rotate = Command::new("logrotate");
    rotate.arg("-f").arg("-s").arg(dir.path().join("state")).arg(&file).env("PATH", search);
    succeeds(&mut rotate);
    assert!(dir.path().join("access.log.1").exists());

    let mut sent = 1;
    eventually("lines go into the new file", || {
        client::get(serve.web(), "a.test", "/after");
        sent += 1;
        (lines("access.log") > 0).then_some(())
    });
    // One more, so that all before are written.
    eventually("no line is lost", || {
        let waited = lines("access.log.1") + lines("access.log");
        (waited >= sent).then_some(())
    });
}
