//! The proxy slot of a HinD box, whole: real supervisord, real Caddy and rust-lb over the embedded catalog, switched by
//! `supervisor/proxy-switch`; and the service directories under real s6. What is not installed prints `skipped`; with
//! `RUST_LB_TEST_REQUIRE=supervisord,caddy,curl,traefik,s6-svscan,execlineb,s6-rc-compile,shellcheck` a skip is a failure.

mod bed;
mod load;
mod refusing;
mod s6;
mod switching;
mod traefik;

use super::support::program::have;

/// Whether all of them are there.
fn all(programs: &[&str]) -> bool {
    programs.iter().all(|program| have(program))
}

#[test]
fn the_scripts_pass_shellcheck() {
    if !all(&["shellcheck"]) {
        return;
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut scripts = Vec::new();
    for dir in ["supervisor", "s6-overlay/s6-rc.d"] {
        let mut dirs = vec![root.join(dir)];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).expect("a folder") {
                let path = entry.expect("an entry").path();
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                if path.is_dir() {
                    dirs.push(path);
                } else if text.starts_with("#!/bin/sh") || text.starts_with("# shellcheck shell=sh") {
                    scripts.push(path);
                }
            }
        }
    }
    assert!(scripts.len() >= 6, "{scripts:?}");
    let output = std::process::Command::new("shellcheck").arg("-x").args(&scripts).output().expect("shellcheck runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
