//! Evil requests through the binary to three servers of others' making, evil answers to it, and one verdict: nobody
//! ever sees a request, or an answer, that the proxy did not mean to send there.
//!
//! `stage` runs the cases of `framing`, `chunks`, `heads`, `sequences` and `http2`; `answers` has the servers' side, by the `scripts`. Cases that
//! have to be refused and are not yet stand in `smuggling/not_yet.txt`, by name: of these only that they do no
//! harm is held.

mod answers;
mod backends;
mod case;
mod chunks;
mod frames;
mod framing;
mod heads;
mod http2;
mod scripts;
mod sequences;
mod stage;
mod verdict;

use backends::{Backend, Hyper, Nginx, Python};
use case::Case;

/// Cases that have to be refused and are not yet, by name, one a line.
const NOT_YET: &str = include_str!("smuggling/not_yet.txt");

fn not_yet(name: &str) -> bool {
    NOT_YET.lines().any(|line| line == name)
}

fn cases() -> Vec<Case> {
    [framing::cases(), chunks::cases(), heads::cases(), sequences::cases(), http2::cases()].concat()
}

fn holds(backend: impl Backend + 'static) {
    let cases = cases();
    let faults = stage::run(Box::new(backend), &cases);
    assert!(faults.is_empty(), "{} faults in {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

#[test]
fn nothing_is_smuggled_to_hyper() {
    holds(Hyper::start(stage::LANES));
}

#[test]
fn nothing_is_smuggled_to_python() {
    if let Some(python) = Python::start(stage::LANES) {
        holds(python);
    }
}

#[test]
fn nothing_is_smuggled_to_nginx() {
    if let Some(nginx) = Nginx::start(stage::LANES) {
        holds(nginx);
    }
}

#[test]
fn there_are_enough_cases_and_each_has_a_name_of_its_own() {
    let mut names: Vec<_> = cases().into_iter().map(|case| case.name).collect();
    assert!(names.len() >= 150, "{}", names.len());
    names.extend(scripts::scripts().into_iter().map(|script| script.name));
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
    for known in NOT_YET.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        assert!(names.iter().any(|name| name == known), "`{known}` in not_yet.txt is no case");
    }
}
