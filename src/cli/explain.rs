//! `rust-lb explain`: where a request goes and why, for people (offline, from services in a catalog's
//! JSON form) and, with `--jsonl`, for programs. The way is the proxy's own, without a socket.

mod ask;
mod lines;
mod tell;

use super::output::{self, Style};
use super::{FAILED, USAGE, fail, parsed, services};
use crate::config::{self, Input};
use crate::proxy;
use crate::runtime;
use crate::tags::TagOptions;
use ask::{Door, Proxy, Question};
use clap::Parser;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};

/// A file with services is not read beyond this many bytes.
const MAX_SERVICES: u64 = 256 * 1024 * 1024;

/// Tells where a request goes and why
#[derive(Debug, Parser)]
#[command(
    name = "rust-lb explain",
    after_help = "\
Examples:
  curl -s localhost:8500/v1/health/service/shop > shop.json
  rust-lb explain GET https://shop.example.org/cart --services shop.json
  rust-lb explain GET /cart -H 'Host: shop.example.org' --from 192.0.2.1 --services shop.json --configFile rust-lb.yaml
  rust-lb explain --service shop --services shop.json
  rust-lb explain --jsonl < cases.jsonl

Exit code: 0 if the request is proxied or redirected (the service is routed, with --service), 1 if not, 2 if the command is misused."
)]
struct Options {
    /// The method
    #[arg(required_unless_present_any = ["jsonl", "service"], requires = "url")]
    method: Option<String>,
    /// The URL, or a path beside a Host header
    url: Option<String>,
    /// A header of the request
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The client's address
    #[arg(long, value_name = "IP[:PORT]")]
    from: Option<String>,
    /// Why a service is or is not routed, tag by tag
    #[arg(long, value_name = "NAME", conflicts_with = "method")]
    service: Option<String>,
    /// What a catalog's API said of services: `/v1/service/NAME` of Nomad, `/v1/health/service/NAME` of
    /// Consul, several one after another (`-`: standard input)
    #[arg(long, value_name = "FILE")]
    services: Option<String>,
    /// The catalog that it is of; else it is told by its form
    #[arg(long, value_name = "nomad|consulcatalog", requires = "services")]
    provider: Option<String>,
    /// Static configuration: entry points and how tags are read
    #[arg(long = "configFile", visible_alias = "configfile", short = 'c', value_name = "FILE", requires = "services")]
    config_file: Option<String>,
    /// A running instance
    #[arg(long, value_name = "URL", conflicts_with = "services")]
    admin: Option<String>,
    /// Read one case a line as JSON, write one answer a line
    #[arg(long, conflicts_with_all = ["method", "url", "headers", "from", "service", "services", "admin"])]
    jsonl: bool,
}

/// Runs the command; `args` are those behind `explain`. Gives the exit code.
pub fn run(args: &[String], stdin: &mut dyn BufRead, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    run_styled(args, Style::plain(), stdin, stdout, stderr)
}

/// As [`run`], with colours.
pub fn run_styled(
    args: &[String],
    style: Style,
    stdin: &mut dyn BufRead,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    let options: Options = match parsed("rust-lb explain", args, stdout, stderr) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let outcome =
        if options.jsonl { lines::answer(stdin, stdout) } else { one(&options, style, stdin, stdout, stderr) };
    outcome.unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => 0,
        _ => fail(stderr, FAILED, format_args!("{error}")),
    })
}

fn one(
    options: &Options,
    style: Style,
    stdin: &mut dyn BufRead,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> io::Result<u8> {
    let Some(file) = &options.services else {
        let what = "asking a running instance is not in this version: name the services with `--services FILE`";
        return Ok(fail(stderr, USAGE, format_args!("{what}")));
    };
    let mut text = String::new();
    let read = match file.as_str() {
        "-" => stdin.take(MAX_SERVICES).read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|file| file.take(MAX_SERVICES).read_to_string(&mut text)),
    };
    if let Err(error) = read {
        return Ok(fail(stderr, FAILED, format_args!("cannot read `{file}`: {error}")));
    }
    let mut proxy = match offline(options, &text) {
        Ok(proxy) => proxy,
        Err(Refused::Text(message)) => return Ok(fail(stderr, FAILED, format_args!("{message}"))),
        Err(Refused::Config(problems)) => {
            for problem in &problems {
                output::diagnostic(stderr, problem, style)?;
            }
            return Ok(FAILED);
        }
    };
    if let Some(service) = &options.service {
        return tell::service(service, &proxy, style, stdout);
    }
    let question = match question(options) {
        Ok(question) => question,
        Err(message) => return Ok(fail(stderr, USAGE, format_args!("{message}"))),
    };
    let told = proxy.ask(&question);
    tell::request(&question, &told, &proxy, style, stdout)
}

enum Refused {
    Text(String),
    Config(Vec<crate::diagnostic::Diagnostic>),
}

/// A proxy over the services of a text.
fn offline(options: &Options, text: &str) -> Result<Proxy, Refused> {
    let entries = services::entries(text).map_err(Refused::Text)?;
    let provider = match &options.provider {
        Some(word) => services::provider(word).map_err(Refused::Text)?,
        None => entries.first().map_or(crate::model::Provider::Nomad, |entry| services::guess(entry)),
    };
    let world = services::world(provider, &entries).map_err(Refused::Text)?;
    let Some(file) = &options.config_file else {
        let read = services::tag_options(TagOptions::default(), &serde_json::Map::new()).map_err(Refused::Text)?;
        return Ok(Proxy::of_world(&world, BTreeMap::from([(provider, read)])));
    };
    let loaded = config::load(&Input::of_process(vec![format!("--configFile={file}")])).map_err(Refused::Config)?;
    let doors = loaded.settled.entry_points.values().filter(|ep| &*ep.name != config::ADMIN_ENTRY_POINT).map(|ep| {
        let proxy::EntryPoint { name, redirect, trust, .. } = runtime::entry_point(ep, &config::Bound::default(), None);
        Door { name, port: ep.address.port, redirect, trust }
    });
    let mut read = runtime::tag_options(&loaded.settled);
    read.retain(|known, _| *known == provider);
    Ok(Proxy::new(&world, read, doors.collect(), &runtime::build_options(&loaded.settled)))
}

/// The request of the command line.
fn question(options: &Options) -> Result<Question, String> {
    let url = options.url.as_deref().unwrap_or_default();
    let mut headers = Vec::new();
    for header in &options.headers {
        let (name, value) = header.split_once(':').ok_or_else(|| format!("expected `NAME: VALUE`, got `{header}`"))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let has_host = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    // a client sends a URL as its path, and its host in a field
    let (scheme, target) = match url.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, path) = rest.split_at(end);
            if !has_host {
                headers.insert(0, ("Host".to_owned(), host.to_owned()));
            }
            let path = path.split('#').next().unwrap_or_default();
            (scheme, if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
        }
        Some((other, _)) => return Err(format!("expected a URL of `http` or `https`, got `{other}`")),
        None if url.starts_with('/') && has_host => ("http", url.to_owned()),
        None => {
            return Err(format!(
                "expected a URL such as `https://a.example/x`, or a path and `-H 'Host: …'`, got `{url}`"
            ));
        }
    };
    Ok(Question {
        method: options.method.clone().unwrap_or_default(),
        target,
        headers,
        remote: options.from.clone().unwrap_or_default(),
        scheme: scheme.to_owned(),
        ..Question::default()
    })
}
