//! `rust-lb explain`: where a request goes and why, and what became of a service. It asks a running instance, or
//! works offline on services in a catalog's JSON form; with `--jsonl` it answers programs. The way is the proxy's
//! own, without a socket ([`crate::explain`]).

mod lines;
mod live;
mod offline;
mod service;
mod tell;

use super::output::{self, Style};
use super::{FAILED, USAGE, fail, parsed, services};
use crate::explain::{Question, Report, ServiceReport};
use clap::Parser;
use offline::Untried;
use std::io::{self, BufRead, Write};

/// Tells where a request goes and why, or what became of a service
#[derive(Debug, Parser)]
#[command(
    name = "rust-lb explain",
    override_usage = "rust-lb explain [METHOD] URL [OPTIONS]\n       rust-lb explain --service NAME [OPTIONS]",
    after_help = "\
Examples:
  rust-lb explain https://shop.example.org/cart
  rust-lb explain POST /cart -H 'Host: shop.example.org' --from 192.0.2.1
  rust-lb explain --service shop
  rust-lb explain --service shop --admin http://10.0.0.7:8080 --json
  # offline, from what a catalog said
  curl -s localhost:8500/v1/health/service/shop > shop.json
  rust-lb explain https://shop.example.org/cart --services shop.json --configFile rust-lb.yaml
  rust-lb explain --jsonl < cases.jsonl

Without --services the running instance is asked: at --admin, else where the static configuration (--configFile, \
environment, default files) has its admin entry point: 127.0.0.1:8080 if nothing says otherwise.

Exit code: 0 if the request is proxied or redirected (with --service: if it is routed and has a server), 1 if not, or if \
nobody could be asked, 2 if the command is misused."
)]
struct Options {
    /// The method (GET), and the URL, or a path beside a Host header
    #[arg(value_name = "METHOD|URL", required_unless_present_any = ["jsonl", "service"], num_args = 1..=2)]
    words: Vec<String>,
    /// The method, where it does not stand before the URL
    #[arg(long, short = 'X', value_name = "METHOD", conflicts_with = "service")]
    method: Option<String>,
    /// A header of the request
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", conflicts_with = "service")]
    headers: Vec<String>,
    /// The client's address
    #[arg(long, value_name = "IP[:PORT]", conflicts_with = "service")]
    from: Option<String>,
    /// What became of a service of the catalog, tag by tag
    #[arg(long, value_name = "NAME", conflicts_with = "words")]
    service: Option<String>,
    /// What a catalog's API said of services: `/v1/service/NAME` of Nomad, `/v1/health/service/NAME` of
    /// Consul, several one after another (`-`: standard input)
    #[arg(long, value_name = "FILE")]
    services: Option<String>,
    /// The catalog that it is of; else it is told by its form
    #[arg(long, value_name = "nomad|consulcatalog", requires = "services")]
    provider: Option<String>,
    /// Static configuration: with --services entry points, how tags are read, and files of dynamic
    /// configuration; else where the instance is
    #[arg(long = "configFile", visible_alias = "configfile", short = 'c', value_name = "FILE")]
    config_file: Option<String>,
    /// The running instance
    #[arg(long, value_name = "URL", conflicts_with = "services")]
    admin: Option<String>,
    /// One JSON document, as `/api/explain` gives it
    #[arg(long, conflicts_with = "jsonl")]
    json: bool,
    /// Read one case a line as JSON, write one answer a line
    #[arg(long, conflicts_with_all = ["words", "method", "headers", "from", "service", "services", "config_file", "admin"])]
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

/// What is asked.
enum Asked {
    Request(Box<Question>),
    Service(String),
}

/// What is answered.
enum Told {
    Request(Box<Report>),
    Service(ServiceReport),
}

/// Why nothing is answered.
enum Failed {
    /// In words.
    Text(String),
    /// Wrong words on the command line.
    Usage(String),
    /// The static configuration is refused.
    Config(Vec<crate::diagnostic::Diagnostic>),
}

fn one(
    options: &Options,
    style: Style,
    stdin: &mut dyn BufRead,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> io::Result<u8> {
    let told = asked(options).map_err(Failed::Usage).and_then(|asked| match &options.services {
        Some(file) => offline(options, file, stdin, &asked),
        None => live::ask(options.admin.as_deref(), options.config_file.as_deref(), &asked),
    });
    let told = match told {
        Ok(told) => told,
        Err(Failed::Text(message)) => return Ok(fail(stderr, FAILED, format_args!("{message}"))),
        Err(Failed::Usage(message)) => return Ok(fail(stderr, USAGE, format_args!("{message}"))),
        Err(Failed::Config(problems)) => {
            for problem in &problems {
                output::diagnostic(stderr, problem, style)?;
            }
            return Ok(FAILED);
        }
    };
    let code = match &told {
        Told::Request(report) if matches!(&*report.answer.outcome, "proxied" | "redirect") => 0,
        Told::Service(report) if report.served => 0,
        _ => FAILED,
    };
    match &told {
        Told::Request(report) if options.json => json(stdout, report)?,
        Told::Service(report) if options.json => json(stdout, report)?,
        Told::Request(report) => tell::request(report, style, stdout)?,
        Told::Service(report) => service::tell(report, style, stdout)?,
    }
    stdout.flush()?;
    Ok(code)
}

fn json(out: &mut dyn Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

fn offline(options: &Options, file: &str, stdin: &mut dyn BufRead, asked: &Asked) -> Result<Told, Failed> {
    let given = services::read(file, options.provider.as_deref(), stdin).map_err(Failed::Text)?;
    let scene = offline::scene(given, options.config_file.as_deref())?;
    let servers = Untried::default();
    Ok(match asked {
        Asked::Request(question) => Told::Request(Box::new(scene.ask(question, &servers))),
        Asked::Service(name) => Told::Service(scene.service(name, &servers)),
    })
}

/// What the command line asks.
fn asked(options: &Options) -> Result<Asked, String> {
    if let Some(name) = &options.service {
        return Ok(Asked::Service(name.clone()));
    }
    let (method, url) = match &options.words[..] {
        [method, url] if options.method.is_none() => (method.as_str(), url.as_str()),
        [method, _] => return Err(format!("the method is said twice: `{method}` and by `--method`")),
        [url] => (options.method.as_deref().unwrap_or_default(), url.as_str()),
        _ => return Err("expected a URL".to_owned()),
    };
    let mut headers = Vec::new();
    for header in &options.headers {
        let (name, value) = header.split_once(':').ok_or_else(|| format!("expected `NAME: VALUE`, got `{header}`"))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let from = options.from.as_deref().unwrap_or_default();
    Question::of_url(method, url, headers, from).map(|question| Asked::Request(Box::new(question)))
}
