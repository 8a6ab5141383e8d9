//! The hook program.

use super::server::Server;
use super::{looking_at, solver};
use rust_lb::acme::dns::settings::{Exec, Provider};
use rust_lb::acme::dns::{DnsError, HookFault, Propagation, Settings, Solver};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("hook");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

fn limited(path: &Path, limit: Duration) -> Solver {
    let settings = Settings::of(Provider::Exec(Exec { path: path.to_owned(), raw: false, limit }));
    Solver::new(&settings, Propagation::default()).expect("a solver")
}

#[tokio::test]
async fn it_is_told_name_and_value_behind_cnames() {
    let dir = tempfile::tempdir().expect("a directory");
    let hook = script(dir.path(), r#"printf '[%s]' "$@" >> "$0.log"; echo >> "$0.log""#);
    let server = Server::one();
    server.zone("zone.test.", &[("ns1.zone.test.", server.address.ip())]);
    server.cname("_acme-challenge.zone.test.", "here.zone.test.");
    let solver = solver("exec", &[("EXEC_PATH", hook.to_str().expect("UTF-8"))], looking_at(server.address));
    assert!(solver.sequential());
    solver.present("*.zone.test", "-value_1").await.expect("run");
    solver.clean_up("zone.test", "-value_1").await.expect("run");
    let log = std::fs::read_to_string(dir.path().join("hook.log")).expect("a log");
    assert_eq!(log, "[present][here.zone.test.][-value_1]\n[cleanup][here.zone.test.][-value_1]\n");
}

#[tokio::test]
async fn in_mode_raw_it_is_told_the_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let hook = script(dir.path(), r#"printf '[%s]' "$@" >> "$0.log"; echo >> "$0.log""#);
    let variables = [("EXEC_PATH", hook.to_str().expect("UTF-8")), ("EXEC_MODE", "RAW")];
    let solver = solver("exec", &variables, Propagation::default());
    solver.present_key("zone.test", "-tok", "-tok.thumb").await.expect("run");
    solver.clean_up_key("zone.test", "-tok", "-tok.thumb").await.expect("run");
    let log = std::fs::read_to_string(dir.path().join("hook.log")).expect("a log");
    assert_eq!(log, "[present][--][zone.test][-tok][-tok.thumb]\n[cleanup][--][zone.test][-tok][-tok.thumb]\n");
    let error = solver.present("zone.test", "value").await.expect_err("no key");
    assert!(matches!(error, DnsError::RawNeedsKey), "{error}");
    let error = solver.present_key("zone.test", "tok\n", "tok.thumb").await.expect_err("a line end");
    assert!(matches!(error, DnsError::Value(_)), "{error}");
}

#[tokio::test]
async fn a_failure_tells_the_end_of_what_it_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let hook = script(dir.path(), "yes noise | head -c 300000; printf 'no\\tzone\\033[1m' >&2; exit 3");
    let error = limited(&hook, Duration::from_secs(60)).present("zone.test", "value").await.expect_err("failed");
    let DnsError::Hook { action: "present", fault: HookFault::Failed(status), output, .. } = &error else {
        panic!("{error}")
    };
    assert!(status.contains('3'), "{status}");
    assert!(output.contains("noise") && output.contains("no zone") && output.chars().count() <= 1010, "{output}");
    assert!(!output.contains('\u{1b}'), "{output:?}");
}

#[tokio::test]
async fn one_that_does_not_end_is_killed_with_its_children() {
    let dir = tempfile::tempdir().expect("a directory");
    // The child holds the fifo's reading end for as long as it lives.
    let fifo = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    let hook = script(dir.path(), &format!("sleep 1000 < {f} & echo started; exec sleep 1000", f = fifo.display()));
    let writer = std::thread::spawn(move || std::fs::OpenOptions::new().write(true).open(fifo));
    let error = limited(&hook, Duration::from_secs(3)).present("zone.test", "value").await.expect_err("too slow");
    let DnsError::Hook { fault: HookFault::TooSlow(_), output, .. } = &error else { panic!("{error}") };
    assert_eq!(output, "started");
    // Nobody reads any more: writing fails once the child is gone.
    let mut writer = writer.join().expect("joined").expect("opened");
    while std::io::Write::write(&mut writer, b"x").is_ok() {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_program_that_is_not_there() {
    let error = limited(Path::new("/does/not/exist"), Duration::from_secs(1)).present("zone.test", "v").await;
    assert!(matches!(&error, Err(DnsError::Hook { fault: HookFault::Start(_), .. })), "{error:?}");
}

#[tokio::test]
async fn what_it_leaves_running_does_not_hold_it_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let hook = script(dir.path(), "sleep 20 & exit 0");
    limited(&hook, Duration::from_secs(15)).present("zone.test", "value").await.expect("ended");
}
