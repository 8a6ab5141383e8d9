//! The program: everything it does is in [`rust_lb::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    ExitCode::from(rust_lb::cli::run(args))
}
