//! The command line: one file a command. It reads arguments and environment, calls the stages,
//! and turns the outcome into an exit code: 0 success, 1 what was checked does not hold, 2 usage.
//! Results go to stdout, everything else to stderr.

mod admin;
mod certs;
pub mod check;
mod compare;
mod dev;
pub mod explain;
mod healthcheck;
mod migrate;
pub mod output;
pub mod render;
pub mod rule;
mod serve;
mod services;
mod version;

use crate::config::{self, Input};
use crate::diagnostic::Diagnostic;
use crate::runtime;
use output::Style;
use std::io::{IsTerminal, Write};

/// What the thing checked does not hold, or a start that failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong words on the command line.
pub(crate) const USAGE: u8 = 2;

const HELP: &str = "\
rust-lb: a proxy for Nomad and Consul, from a tag in the catalog to a served request

usage: rust-lb <command> [options]
       rust-lb [static configuration flags]        the same as `rust-lb serve`

commands:
  serve         run the proxy
  dev           run it together with an embedded catalog and sample services
  check         validate the configuration, static, in files and in tags
  explain       tell where a request goes and why
  render        print the configuration that tags make
  rule          parse, print and evaluate rules
  compare       replay requests against two proxies and tell what differs
  migrate       convert urlprefix- and https:// tags in job files, with proof that nothing routes otherwise
  certs         list the certificates and what is wrong with them; make some for development
  healthcheck   exit 0 when the running instance is ready
  version       print version, commit, features, TLS provider
  help          this text; `rust-lb <command> --help` for one command

static configuration, later wins: defaults, file (--configFile), environment (TRAEFIK_…, RUST_LB_…), flags
(--entryPoints.web.address=:80)

examples:
  rust-lb dev
  rust-lb serve --configFile=/etc/rust-lb.yaml
  rust-lb check --configFile=/etc/traefik.yaml --strict
";

/// Commands of the surface that later versions bring; named so that the answer is clear.
const NOT_YET: [&str; 1] = ["top"];

/// Runs the program with its arguments (without the program's name); the environment is this process's.
pub fn run(mut args: Vec<String>) -> u8 {
    let (stdout, stderr) = (&mut std::io::stdout(), &mut std::io::stderr());
    let command = match args.first().map(String::as_str) {
        None => "serve".to_owned(),
        Some("-h" | "--help") => "help".to_owned(),
        Some("-V" | "--version") => {
            args.remove(0);
            "version".to_owned()
        }
        Some(first) if first.starts_with('-') => "serve".to_owned(),
        Some(_) => args.remove(0),
    };
    if args.iter().any(|a| a == "--help" || a == "-h")
        && let Some(text) = help_of(&command)
    {
        return written(write!(stdout, "{text}"));
    }
    match command.as_str() {
        "help" => match args.into_iter().next().filter(|arg| !arg.starts_with('-')) {
            Some(of) => run(vec![of, "--help".to_owned()]),
            None => written(write!(stdout, "{HELP}")),
        },
        "version" => version::run(&args, stdout, stderr),
        "serve" => serve::run(Input::of_process(args), stdout, stderr),
        runtime::holder::COMMAND => serve::work(Input::of_process(args), stderr),
        "dev" => dev::run(Input::of_process(args), stdout, stderr),
        "check" => run_check(args, stdout, stderr),
        "explain" => {
            let style = style(std::io::stdout().is_terminal(), &Input::of_process(Vec::new()));
            explain::run_styled(&args, style, &mut std::io::stdin().lock(), stdout, stderr)
        }
        "render" => {
            let style = style(std::io::stderr().is_terminal(), &Input::of_process(Vec::new()));
            render::run_styled(&args, style, &mut std::io::stdin().lock(), stdout, stderr)
        }
        "rule" => rule::run(&args, &mut std::io::stdin().lock(), stdout, stderr),
        "compare" => {
            let input = Input::of_process(Vec::new());
            let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
            let terminal = compare::Terminal { stdout: style(out, &input), stderr: style(err, &input), progress: err };
            compare::run(&args, terminal, &mut std::io::stdin().lock(), stdout, stderr)
        }
        "migrate" => {
            let input = Input::of_process(Vec::new());
            let styles = migrate::Styles {
                stdout: style(std::io::stdout().is_terminal(), &input),
                stderr: style(std::io::stderr().is_terminal(), &input),
            };
            migrate::run(&args, styles, &mut std::io::stdin().lock(), stdout, stderr)
        }
        "certs" => {
            let style = style(std::io::stdout().is_terminal(), &Input::of_process(Vec::new()));
            certs::run(args, style, stdout, stderr)
        }
        "healthcheck" => healthcheck::run(&Input::of_process(args), stdout, stderr),
        later if NOT_YET.contains(&later) => {
            fail(stderr, USAGE, format_args!("the command `{later}` is not in this version"))
        }
        other => {
            fail(stderr, USAGE, format_args!("unknown command `{other}`\nhint: `rust-lb help` lists the commands"))
        }
    }
}

/// `check`: a few options are its own, the rest is configuration.
fn run_check(mut args: Vec<String>, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let mut take = |flag: &str| {
        let before = args.len();
        args.retain(|a| a != flag);
        args.len() != before
    };
    if take("--example") {
        return match args.first() {
            None => written(write!(stdout, "{}", config::example())),
            Some(other) => fail(stderr, USAGE, format_args!("`--example` stands alone: what is `{other}`?")),
        };
    }
    let (strict, json) = (take("--strict"), take("--json"));
    let services = match check::Services::take(&mut args) {
        Ok(services) => services,
        Err(message) => return fail(stderr, USAGE, format_args!("{message}")),
    };
    let input = Input::of_process(args);
    let options = check::Options {
        strict,
        json,
        stdout: style(std::io::stdout().is_terminal(), &input),
        stderr: style(std::io::stderr().is_terminal(), &input),
    };
    check::run_with_services(&input, &services, options, &mut std::io::stdin().lock(), (stdout, stderr))
}

fn style(is_terminal: bool, input: &Input) -> Style {
    let variable = |name: &str| input.env.get(name).map(String::as_str);
    Style::for_stream(is_terminal, variable("NO_COLOR"), variable("TERM"))
}

/// Tells why the configuration was refused. Gives the exit code: a configuration that does not hold.
fn refused(problems: &[Diagnostic], input: &Input, stderr: &mut dyn Write) -> u8 {
    let style = style(std::io::stderr().is_terminal(), input);
    for problem in problems {
        // Nobody is left to tell when stderr itself is gone.
        let _ = output::diagnostic(stderr, problem, style);
    }
    check::verdict(false, problems, false)
}

fn help_of(command: &str) -> Option<&'static str> {
    match command {
        "help" => Some(HELP),
        "serve" => Some(serve::HELP),
        "dev" => Some(dev::HELP),
        "certs" => Some(certs::HELP),
        "healthcheck" => Some(healthcheck::HELP),
        "version" => Some(version::HELP),
        "check" => Some(check::HELP),
        // `compare`, `explain`, `migrate`, `render` and `rule` print their own.
        _ => None,
    }
}

/// A command's own options; what clap says instead (help, or what is wrong) is printed, and its exit code is the error.
fn parsed<T: clap::Parser>(
    command: &str,
    args: &[String],
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<T, u8> {
    let words = std::iter::once(command).chain(args.iter().map(String::as_str));
    T::try_parse_from(words).map_err(|error| {
        let text = error.render();
        // Nobody is left to tell when these fail.
        if error.use_stderr() {
            let _ = write!(stderr, "{text}");
            USAGE
        } else {
            let _ = write!(stdout, "{text}");
            0
        }
    })
}

/// Prints `error: …` and gives the exit code.
pub(crate) fn fail(stderr: &mut dyn Write, code: u8, message: std::fmt::Arguments<'_>) -> u8 {
    // Nobody is left to tell when stderr itself is gone.
    let _ = writeln!(stderr, "error: {message}");
    code
}

/// Exit code of a command whose only work was writing: a closed pipe is not a fault.
pub(crate) fn written(result: std::io::Result<()>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(_) => FAILED,
    }
}
