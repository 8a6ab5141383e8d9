//! The program: everything it does is in [`rust_lb::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
