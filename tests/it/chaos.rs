//! Random faults in catalogs, servers, clients and the disk, all at once and from one seed, while requests come that none of
//! it concerns.
//!
//! `RUST_LB_CHAOS_SEED` repeats a run's choices (not its timing), `RUST_LB_CHAOS_SECS` makes it longer than its minute; shorter is said aloud.
//! `cargo bench --bench chaos -- --secs 600` runs the same.

mod clients;
mod faults;
#[path = "../../benches/motion/mod.rs"]
mod motion;
mod run;

/// How long it takes unless somebody asks for more.
const MINUTE: u64 = 60;

#[test]
fn chaos_harms_nobody_who_has_no_part_in_it() {
    let asked =
        |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().unwrap_or_else(|e| panic!("{name}: {e}")));
    let secs = asked("RUST_LB_CHAOS_SECS").unwrap_or(MINUTE);
    if secs < MINUTE {
        use std::io::Write;
        // The harness swallows a passing test's output; the terminal is told all the same.
        drop(writeln!(std::io::stderr(), "chaos: SHORTENED to {secs} s by RUST_LB_CHAOS_SECS; it takes {MINUTE} s"));
    }
    let outcome =
        run::run(asked("RUST_LB_CHAOS_SEED").unwrap_or_else(rand::random), std::time::Duration::from_secs(secs));
    assert!(outcome.broken.is_empty(), "seed {}: {:#?}\n{}", outcome.seed, outcome.broken, outcome.numbers);
}
