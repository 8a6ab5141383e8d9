//! `rust-lb migrate`: legacy tags in job files, service definitions and catalogs to `traefik.*` tags, with the proof that
//! requests go where they went.
//!
//! What always holds: all that is given is looked at as one set before anything is named; nothing is written unless asked
//! for, and nothing at all if the proof shows a difference; each file is replaced whole or not at all.

mod files;
mod live;
mod output;
mod replace;
mod report;
mod sarif;
mod settings;
mod undo;
mod work;

use super::output::Style;
use super::{FAILED, USAGE, fail, parsed, written};
use clap::Parser;
use std::io::{self, BufRead, Write};
use work::Work;

/// Converts tags in job files, service definitions or a live catalog
#[derive(Debug, Parser)]
#[command(
    name = "rust-lb migrate",
    after_help = "\
Reads Nomad jobs and Consul service definitions (HCL, JSON), turns `urlprefix-` tags and `https://host` tags into
`traefik.*` tags, and proves on requests that both sets route alike. Without an option it changes nothing: it prints
what would change and a report. What has no faithful form is told with its place and stays as it is.

All that is given is one set: give all jobs that share a host at once, for a route that two of them serve is one pool.
In folders, files that end in .nomad, .hcl and .json are read; what is no job and defines no services is passed over.

The address of a catalog is as in `providers.nomad.endpoint.address`; tokens come from the environment (NOMAD_TOKEN,
CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE).

Examples:
  rust-lb migrate jobs/
  rust-lb migrate --write jobs/ && rust-lb migrate --check jobs/
  rust-lb migrate --undo jobs/
  rust-lb migrate --drop-legacy --stdout - < shop.nomad
  rust-lb migrate --report --from-consul localhost:8500

Exit code: 0 if all is well, 1 if a tag has no faithful form, if the new tags route otherwise, if a file cannot be
written, or with --check if anything is left to convert; 2 if the command is misused or an input cannot be read."
)]
struct Options {
    /// Files and folders; `-` is standard input
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// Read the services that run now from a Consul agent
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["write", "undo", "stdout"])]
    from_consul: Option<String>,
    /// Read the services that run now from a Nomad agent
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["write", "undo", "stdout"])]
    from_nomad: Option<String>,
    /// Print the converted document alone
    #[arg(long, conflicts_with_all = ["write", "check", "undo", "json", "sarif", "report"])]
    stdout: bool,
    /// Edit the files; each has its old content beside it in a file that ends in `.bak`
    #[arg(long, conflicts_with_all = ["check", "undo"])]
    write: bool,
    /// With --write: no `.bak`
    #[arg(long, requires = "write")]
    no_backup: bool,
    /// The old tags stay beside the new ones, so that the way back is open (default)
    #[arg(long, conflicts_with = "drop_legacy")]
    keep_legacy: bool,
    /// The old tags go
    #[arg(long)]
    drop_legacy: bool,
    /// Change nothing; exit 1 if anything is left to convert
    #[arg(long, conflicts_with = "undo")]
    check: bool,
    /// Put the files back from their `.bak`
    #[arg(long)]
    undo: bool,
    /// One JSON document on stdout
    #[arg(long, conflicts_with_all = ["sarif", "report"])]
    json: bool,
    /// Findings as SARIF 2.1.0 on stdout, for code hosts
    #[arg(long, conflicts_with_all = ["report", "undo"])]
    sarif: bool,
    /// A line a service and nothing else
    #[arg(
        long,
        value_name = "FORM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "terminal",
        value_parser = ["terminal", "markdown", "json"],
        conflicts_with = "undo"
    )]
    report: Option<String>,
    /// Fabio's properties file: auth schemes, matcher, listeners
    #[arg(long, value_name = "FILE")]
    fabio_config: Option<String>,
    /// Static configuration whose entry points the new tags name
    #[arg(long = "configFile", value_name = "FILE")]
    config_file: Option<String>,
}

/// How it is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Styles {
    pub(super) stdout: Style,
    pub(super) stderr: Style,
}

pub(super) fn run(
    args: &[String],
    styles: Styles,
    stdin: &mut dyn BufRead,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    let options: Options = match parsed("rust-lb migrate", args, stdout, stderr) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let from_catalog = options.from_consul.is_some() || options.from_nomad.is_some();
    if options.paths.is_empty() && !from_catalog {
        let hint = "hint: name files or folders, `-` for standard input, or a catalog; see `rust-lb migrate --help`";
        return fail(stderr, USAGE, format_args!("nothing is given to migrate\n{hint}"));
    }
    if options.paths.iter().any(|path| path == "-") && (options.write || options.undo) {
        return fail(
            stderr,
            USAGE,
            format_args!("standard input cannot be written\nhint: --stdout prints the document"),
        );
    }
    if options.undo {
        return undo::run(&options, styles, stdout, stderr);
    }
    let settings = match settings::read(&options) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in &problems {
                // Nobody is left to tell when stderr itself is gone.
                let _ = super::output::diagnostic(stderr, problem, styles.stderr);
            }
            return USAGE;
        }
    };
    let gathered = files::gather(&options.paths, stdin);
    let running = match live::read(&options) {
        Ok(running) => running,
        Err(message) => return fail(stderr, USAGE, format_args!("{message}")),
    };
    let mut work = Work::new(gathered, running, &settings, !options.drop_legacy);
    if options.stdout {
        return document(&work, styles, stdout, stderr);
    }
    if options.write {
        work.write(!options.no_backup);
    }
    let code = work.verdict(options.check);
    match written(tell(&work, &options, code, styles, stdout, stderr)) {
        0 => code,
        other => code.max(other),
    }
}

/// `--stdout`: the one document that was given.
fn document(work: &Work, styles: Styles, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let told = output::problems(work, styles.stderr, stderr);
    let (document, edited) = match (work.documents.as_slice(), work.edits.as_slice()) {
        ([document], [edited]) => (document, edited),
        ([], _) if work.unreadable.is_empty() => {
            return fail(stderr, USAGE, format_args!("what is given is no job and defines no services"));
        }
        ([], _) => return USAGE,
        (more, _) => {
            let hint = "hint: --stdout prints one document; --write edits them all";
            return fail(stderr, USAGE, format_args!("{} documents are given\n{hint}", more.len()));
        }
    };
    let bytes = if edited.changed { edited.bytes.clone() } else { document.bytes() };
    match written(told.and_then(|()| stdout.write_all(&bytes)).and_then(|()| stdout.flush())) {
        0 => work.verdict(false),
        code => code,
    }
}

fn tell(
    work: &Work,
    options: &Options,
    code: u8,
    styles: Styles,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> io::Result<()> {
    if options.json {
        return writeln!(stdout, "{:#}", output::json(work, code));
    }
    if options.sarif {
        return writeln!(stdout, "{:#}", sarif::log(work));
    }
    output::problems(work, styles.stderr, stderr)?;
    match options.report.as_deref() {
        Some("json") => return writeln!(stdout, "{:#}", report::json(work)),
        Some("markdown") => return report::markdown(work, stdout),
        Some(_) => {}
        None if options.check => {}
        None if options.write => output::what_was_written(work, stdout)?,
        None => output::changes(work, styles.stdout, stdout)?,
    }
    report::terminal(work, styles.stdout, stdout)?;
    if code == FAILED && work.left(options.check) > 0 && options.check {
        let left = work.left(true);
        writeln!(
            stdout,
            "{}",
            styles.stdout.red(&format!("{left} tag{} left to convert", if left == 1 { "" } else { "s" }))
        )?;
    }
    Ok(())
}
