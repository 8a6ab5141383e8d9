//! `rust-lb render`: the tags of catalog services to dynamic configuration in Traefik's JSON form, for
//! people and, with `--jsonl`, for programs.
//!
//! What it prints is what is declared, whether or not this version serves it. That an option is not
//! served yet is for `check` and the API to tell; here it is a remark on stderr and no problem of the
//! tags.

use super::output::{self, Style};
use super::{FAILED, USAGE, fail, parsed, services};
use crate::declare::Dynamic;
use crate::diagnostic::Diagnostic;
use crate::model::Provider;
use crate::table::{self, Accepted, BuildOptions, EntryPoint};
use crate::tags::{self, TagOptions};
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

/// A file is not read beyond this many bytes.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Prints the dynamic configuration that the tags of services make
#[derive(Debug, Parser)]
#[command(
    name = "rust-lb render",
    after_help = "\
Input is what Nomad's `/v1/service/NAME` or Consul's `/v1/health/service/NAME` answers: arrays, of
one service or of several, one after another. Output is one JSON document: the configuration in
Traefik's form, and the problems of the tags.

What can be `--set`, with Traefik's defaults: exposedByDefault (true), defaultRule, constraints,
prefix, strictChecks, legacyTags (fallback, merge, off), legacyTags.prefix,
legacyTags.serviceStatus, legacyTags.dialects.

Examples:
  curl -s localhost:8500/v1/health/service/shop | rust-lb render --provider consulcatalog -
  rust-lb render --provider nomad --set 'defaultRule=Host(`{{ .Name }}.test`)' shop.json cart.json
  rust-lb render --jsonl < cases.jsonl

Exit code: 0 if all is well or only warned about, 1 if a tag was refused or the input cannot be
read, 2 if the command is misused."
)]
struct Options {
    /// The catalog: `nomad` or `consulcatalog`; else it is told by the form of the services
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// An option of the provider
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Files with services; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present = "jsonl")]
    files: Vec<String>,
    /// Read one case a line as JSON, write one answer a line
    #[arg(long, conflicts_with_all = ["provider", "set", "files"])]
    jsonl: bool,
}

/// Runs the command; `args` are those behind `render`. Gives the exit code.
pub fn run(args: &[String], stdin: &mut dyn BufRead, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    run_styled(args, Style::plain(), stdin, stdout, stderr)
}

/// As [`run`], with colours on `stderr`.
pub fn run_styled(
    args: &[String],
    style: Style,
    stdin: &mut dyn BufRead,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    let options: Options = match parsed("rust-lb render", args, stdout, stderr) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let outcome = if options.jsonl { lines(stdin, stdout) } else { document(&options, style, stdin, stdout, stderr) };
    outcome.unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => 0,
        _ => fail(stderr, FAILED, format_args!("{error}")),
    })
}

/// What tags come to.
struct Rendered {
    configuration: Dynamic,
    /// Of the tags themselves.
    problems: Vec<Diagnostic>,
    /// What this version does not serve yet.
    not_served: Vec<Diagnostic>,
}

fn render(provider: Provider, options: TagOptions, services: &[Box<RawValue>]) -> Result<Rendered, String> {
    let world = services::world(provider, services)?;
    let mut decoded = tags::decode(&world, &BTreeMap::from([(provider, options)]));
    let configuration = decoded.declarations.remove(&provider).unwrap_or_default();
    let (not_served, problems) = decoded.diagnostics.into_iter().partition(|p| &*p.code == "not_served");
    Ok(Rendered { configuration, problems, not_served })
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    configuration: &'a Dynamic,
    problems: &'a [Diagnostic],
}

fn document(
    options: &Options,
    style: Style,
    stdin: &mut dyn BufRead,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> io::Result<u8> {
    let mut set = Map::new();
    for said in &options.set {
        let Some((key, value)) = said.split_once('=') else {
            return Ok(fail(stderr, USAGE, format_args!("expected `--set KEY=VALUE`, got `{said}`")));
        };
        set.insert(key.trim().to_owned(), Value::from(value));
    }
    let said = options.provider.as_deref().map(services::provider).transpose();
    let said = said.and_then(|provider| Ok((provider, services::tag_options(exposed(), &set)?)));
    let (said, tag_options) = match said {
        Ok(said) => said,
        Err(message) => return Ok(fail(stderr, USAGE, format_args!("{message}"))),
    };
    let mut services = Vec::new();
    for file in &options.files {
        let mut text = String::new();
        let read = match file.as_str() {
            "-" => stdin.take(MAX_BYTES).read_to_string(&mut text),
            path => std::fs::File::open(path).and_then(|f| f.take(MAX_BYTES).read_to_string(&mut text)),
        };
        if let Err(error) = read {
            return Ok(fail(stderr, FAILED, format_args!("cannot read `{file}`: {error}")));
        }
        match services::entries(&text) {
            Ok(found) => services.extend(found),
            Err(message) => return Ok(fail(stderr, FAILED, format_args!("`{file}`: {message}"))),
        }
    }
    let looks = services.first().map(|entry| services::guess(entry));
    let provider = said.or(looks).unwrap_or(Provider::Nomad);
    let mut rendered = match render(provider, tag_options, &services) {
        Ok(rendered) => rendered,
        Err(message) => {
            let other = looks.filter(|looks| *looks != provider);
            let hint = other.map_or_else(String::new, |looks| format!("; it looks like `--provider {looks}`"));
            return Ok(fail(stderr, FAILED, format_args!("{message}{hint}")));
        }
    };
    let refused = refused(provider, &rendered.configuration);
    rendered.problems.extend(refused);
    for problem in rendered.problems.iter().chain(&rendered.not_served) {
        output::diagnostic(stderr, problem, style)?;
    }
    let answer = Answer { id: None, configuration: &rendered.configuration, problems: &rendered.problems };
    serde_json::to_writer_pretty(&mut *stdout, &answer)?;
    writeln!(stdout)?;
    stdout.flush()?;
    Ok(if rendered.problems.iter().any(Diagnostic::is_error) { FAILED } else { 0 })
}

/// What of a configuration could not be served, wherever its entry points are: rules, servers, names. What other
/// providers may have (`auth@file`) is not asked for.
fn refused(provider: Provider, configuration: &Dynamic) -> Vec<Diagnostic> {
    let named = configuration.http.routers.values().flat_map(|router| router.entry_points.iter());
    let names: BTreeSet<Arc<str>> = named.cloned().chain(["web".into(), "websecure".into()]).collect();
    let entry_point = |name| EntryPoint {
        name,
        tls: false,
        as_default: false,
        middlewares: Vec::new(),
        tls_options: Default::default(),
    };
    let options = BuildOptions {
        entry_points: names.into_iter().map(entry_point).collect(),
        primary: provider,
        internal: Dynamic::default(),
    };
    let declarations = BTreeMap::from([(provider, configuration.clone())]);
    let built = table::build(&declarations, &Accepted::default(), &options);
    let counts = |problem: &Diagnostic| match &*problem.code {
        "bad_rule" | "bad_server_url" | "bad_middleware" | "refused_middleware" => true,
        "unknown_service" | "unknown_middleware" => !problem.message.contains('@'),
        _ => false,
    };
    built.diagnostics.into_iter().filter(counts).collect()
}

#[derive(Deserialize)]
struct Case {
    id: String,
    provider: String,
    #[serde(default)]
    options: Map<String, Value>,
    #[serde(default)]
    services: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct Unreadable<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    error: String,
}

/// Answers every line. Problems of tags are an answer; only a line that is no case makes the exit code 1.
fn lines(stdin: &mut dyn BufRead, stdout: &mut dyn Write) -> io::Result<u8> {
    let mut code = 0;
    for line in stdin.lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let answered = serde_json::from_str::<Case>(&line).map_err(|e| e.to_string()).and_then(|case| {
            let provider = services::provider(&case.provider)?;
            let rendered = render(provider, services::tag_options(exposed(), &case.options)?, &case.services)?;
            Ok((case.id, rendered))
        });
        let mut text = match &answered {
            Ok((id, rendered)) => serde_json::to_vec(&Answer {
                id: Some(id),
                configuration: &rendered.configuration,
                problems: &rendered.problems,
            })?,
            Err(error) => {
                code = FAILED;
                let value: Value = serde_json::from_str(&line).unwrap_or_default();
                let id = value.get("id").and_then(Value::as_str);
                serde_json::to_vec(&Unreadable { id, error: error.clone() })?
            }
        };
        text.push(b'\n');
        stdout.write_all(&text)?;
        stdout.flush()?;
    }
    Ok(code)
}

/// What holds without options: as Traefik does it, where every service is exposed.
fn exposed() -> TagOptions {
    TagOptions { exposed_by_default: true, ..TagOptions::default() }
}
