//! Static configuration as people give it: files, variables and flags through [`config::load`], and
//! what `check` says of them.

mod access_log;
mod any;
mod certificates;
mod check;
mod entry_points;
mod files;
mod guards;
mod set_up;
mod sources;

use rust_lb::cli;
use rust_lb::config::{self, AccessFormat, EntryPoint, HeadRules, Input, LegacyMode, Primary, Settled, Token, Trusted};
use rust_lb::diagnostic::Diagnostic;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What a run would be given: files in a directory of their own, no real environment.
#[derive(Default)]
struct Given {
    input: Input,
    dir: Option<tempfile::TempDir>,
}

impl Given {
    fn env(mut self, name: &str, value: &str) -> Self {
        self.input.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flags(mut self, flags: &[&str]) -> Self {
        self.input.args.extend(flags.iter().map(|f| (*f).to_owned()));
        self
    }

    fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let dir = self.dir.take().unwrap_or_else(|| tempfile::tempdir().unwrap());
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        self.input.default_paths.push(path);
        self.dir = Some(dir);
        self
    }

    fn load(&self) -> Result<config::Loaded, Vec<Diagnostic>> {
        config::load(&self.input)
    }

    /// What is settled; nothing may be refused.
    #[track_caller]
    fn settled(&self) -> Settled {
        match self.load() {
            Ok(loaded) => loaded.settled,
            Err(problems) => panic!("{}", lines(&problems).join("\n")),
        }
    }

    /// Warnings of what holds.
    #[track_caller]
    fn warnings(&self) -> Vec<String> {
        self.cut(&self.load().unwrap_or_else(|p| panic!("{}", lines(&p).join("\n"))).diagnostics)
    }

    /// Problems of what does not hold.
    #[track_caller]
    fn refused(&self) -> Vec<String> {
        self.cut(&self.load().expect_err("should be refused"))
    }

    /// Without the directory, which differs with each run.
    fn cut(&self, problems: &[Diagnostic]) -> Vec<String> {
        let dir = self.dir.as_ref().map(|dir| format!("{}/", dir.path().display())).unwrap_or_default();
        let cut = |line: String| if dir.is_empty() { line } else { line.replace(&dir, "") };
        lines(problems).into_iter().map(cut).collect()
    }
}

fn given() -> Given {
    Given::default()
}

fn yaml(text: &str) -> Given {
    given().file("t.yaml", text)
}

fn toml(text: &str) -> Given {
    given().file("t.toml", text)
}

fn lines(problems: &[Diagnostic]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn addresses(settled: &Settled) -> Vec<(String, String)> {
    settled.entry_points.values().map(|ep| (ep.name.to_string(), ep.address.to_string())).collect()
}

fn ep<'a>(settled: &'a Settled, name: &str) -> &'a EntryPoint {
    &settled.entry_points[name]
}

fn pairs(want: &[(&str, &str)]) -> Vec<(String, String)> {
    want.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn check_of(given: &Given, strict: bool, json: bool) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code =
        cli::check::run(&given.input, cli::check::Options { strict, json, ..Default::default() }, &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}
