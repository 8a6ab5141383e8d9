//! Programs that a test needs beside rust-lb.

use std::io::Write;

/// True when the program is there; else says so, or fails where it is required.
pub fn have(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        let required = std::env::var("RUST_LB_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|r| r.trim() == program), "`{program}` is required and not on PATH");
        // The harness swallows a passing test's output; the terminal is told all the same.
        drop(writeln!(std::io::stderr(), "skipped: `{program}` is not on PATH"));
    }
    found
}
