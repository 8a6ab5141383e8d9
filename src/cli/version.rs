//! `rust-lb version`.

use super::{USAGE, fail, written};
use std::io::Write;

pub(super) const HELP: &str = "\
usage: rust-lb version [--json]

Prints version, commit, features and TLS provider.
";

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit of this build; set `RUST_LB_COMMIT` when building to have it.
const COMMIT: Option<&str> = option_env!("RUST_LB_COMMIT");

pub(super) fn run(args: &[String], stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let commit = COMMIT.unwrap_or("unknown");
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {
            written(writeln!(stdout, "rust-lb {VERSION}\ncommit: {commit}\nfeatures: none\ntls: rustls with aws-lc-rs"))
        }
        ["--json"] => written(writeln!(
            stdout,
            "{}",
            serde_json::json!({"version": VERSION, "commit": commit, "features": [], "tls": "aws-lc-rs"})
        )),
        _ => fail(stderr, USAGE, format_args!("`version` takes `--json` only")),
    }
}
