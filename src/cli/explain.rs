//! `rust-lb explain`
mod ask;
mod lines;
mod services;

use crate::cli::{FAILED, USAGE};
use std::io::{self, BufRead, Write};

/// Runs the command; `args` are those behind `explain`. Gives the exit code.
pub fn run(args: &[String], stdin: &mut dyn BufRead, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let _ = (USAGE, FAILED, args, &stderr);
    lines::answer(stdin, stdout).unwrap_or(FAILED)
}
