//! The chaos test of `tests/it/chaos.rs` for as long as one likes: `cargo bench --bench chaos -- --secs 600`.

#![allow(clippy::print_stdout)]

#[path = "../tests/it/chaos/clients.rs"]
mod clients;
#[path = "../tests/it/chaos/faults.rs"]
mod faults;
mod motion;
#[path = "../tests/it/chaos/run.rs"]
mod run;

use motion::{Flags, Report};

fn main() {
    let Some(flags) = Flags::read("chaos", &[("secs", "how long (600)"), ("seed", "what is done wrong (random)")])
    else {
        return;
    };
    let mut report = Report::new("chaos");
    let outcome = run::run(flags.get("seed", rand::random()), flags.seconds("secs", 600));
    report.run(outcome.numbers);
    for broken in &outcome.broken {
        report.bar(&format!("seed {}: {broken}", outcome.seed), false);
    }
    let failed = !outcome.broken.is_empty();
    report.end();
    std::process::exit(i32::from(failed));
}
