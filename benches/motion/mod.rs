//! What the programs that measure "change without harm" share: an embedded catalog, the real binary beside it, servers
//! that say who they are, and clients that keep count of everything that does not come back as it should.
//!
//! Load, servers and catalog run in the measuring process, each on a thread of its own; the proxy is another process. The load is
//! open-loop and tells how late it was itself, so that its own delays do not pass for the proxy's.

// Each program uses a part of it.
#![allow(dead_code)]

pub mod client;
pub mod load;
pub mod origin;
pub mod stage;
pub mod streams;

use serde_json::{Map, Value, json};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// What was said behind the program's name: `--name value` or `--name=value`.
pub struct Flags {
    said: Vec<(String, String)>,
    program: &'static str,
}

impl Flags {
    /// Reads the arguments; `None` when the program was started by `cargo test` and has nothing to do. Ends the process with
    /// 2 on a flag that is not known.
    pub fn read(program: &'static str, known: &[(&str, &str)]) -> Option<Self> {
        let mut args = std::env::args().skip(1);
        let (mut said, mut asked) = (Vec::new(), false);
        let usage = || {
            let flags: Vec<_> = known.iter().map(|(name, what)| format!("  --{name}  {what}")).collect();
            eprintln_all(&format!("usage: cargo bench --bench {program} -- [flags]\n{}", flags.join("\n")));
            std::process::exit(2)
        };
        while let Some(arg) = args.next() {
            if arg == "--bench" {
                asked = true;
                continue;
            }
            let Some(flag) = arg.strip_prefix("--") else { usage() };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (flag.to_owned(), args.next().unwrap_or_else(|| usage())),
            };
            if !known.iter().any(|(known, _)| *known == name) {
                usage();
            }
            said.push((name, value));
        }
        asked.then_some(Self { said, program })
    }

    /// A value, or what it is without one.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> T {
        let Some((_, text)) = self.said.iter().rev().find(|(said, _)| said == name) else { return default };
        text.parse().unwrap_or_else(|_| {
            eprintln_all(&format!("{}: --{name}: `{text}` makes no sense", self.program));
            std::process::exit(2)
        })
    }

    /// As [`Flags::get`], in seconds.
    pub fn seconds(&self, name: &str, default: u64) -> Duration {
        Duration::from_secs_f64(self.get(name, default as f64).max(0.1))
    }

    /// The catalogs that `--catalog` names: `nomad`, `consul` or `both`.
    pub fn catalogs(&self) -> Vec<stage::Kind> {
        match self.get("catalog", "both".to_owned()).as_str() {
            "nomad" => vec![stage::Kind::Nomad],
            "consul" => vec![stage::Kind::Consul],
            _ => vec![stage::Kind::Nomad, stage::Kind::Consul],
        }
    }
}

fn eprintln_all(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// A line for the person who waits.
pub fn say(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// What a program found: each part as it comes, and at the end all of it in one line of JSON.
pub struct Report {
    program: &'static str,
    runs: Vec<Value>,
    missed: Vec<String>,
}

impl Report {
    pub fn new(program: &'static str) -> Self {
        Self { program, runs: Vec::new(), missed: Vec::new() }
    }

    /// One run's numbers.
    pub fn run(&mut self, numbers: Value) {
        say(&text(&numbers));
        self.runs.push(numbers);
    }

    /// A number and its bar.
    pub fn bar(&mut self, what: &str, holds: bool) {
        say(&format!("  {}: {what}", if holds { "holds" } else { "MISSED" }));
        if !holds {
            self.missed.push(what.to_owned());
        }
    }

    /// The last line.
    pub fn end(self) {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let missed = self.missed;
        say(&json!({"bench": self.program, "profile": profile, "met": missed.is_empty(), "missed": missed, "runs": self.runs})
            .to_string());
    }
}

fn text(numbers: &Value) -> String {
    let empty = Map::new();
    let pairs = numbers.as_object().unwrap_or(&empty).iter();
    pairs.map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
}

/// Milliseconds with three digits.
pub fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The value below which this share of the times lies.
pub fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}

/// The middle of some numbers.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Median, p95 and maximum in milliseconds.
pub fn spread(mut times: Vec<Duration>) -> Value {
    let of = |times: &mut Vec<Duration>, share| ms(quantile(times, share));
    json!({
        "n": times.len(),
        "median_ms": of(&mut times, 0.5),
        "p95_ms": of(&mut times, 0.95),
        "max_ms": of(&mut times, 1.0),
    })
}

/// Asks again until it is so, or until the time is over; how long it took.
pub fn until(limit: Duration, mut so: impl FnMut() -> bool) -> Option<Duration> {
    let begin = Instant::now();
    while !so() {
        if begin.elapsed() > limit {
            return None;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Some(begin.elapsed())
}
