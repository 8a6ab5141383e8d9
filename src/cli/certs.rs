//! `rust-lb certs`: what lies in the certificate directory and what is wrong with it, read as `serve`
//! reads it; and `certs new`: certificates for development, signed by the local authority that `serve`
//! signs with. No running instance is asked.

use super::output::Style;
use super::{FAILED, USAGE, fail, refused, written};
use crate::certs::{self, Certificate, Development, Inventory};
use crate::config::{self, Input};
use crate::runtime;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub(super) const HELP: &str = "\
usage: rust-lb certs [--json] [static configuration flags]
       rust-lb certs new HOST… [--cert FILE] [--key FILE] [--force] [--json] [static configuration flags]

Lists what is in the certificate directory: the names that each certificate answers, its issuer, its end, its file, and
what is wrong with it. Exit 0 when all is well, 1 when something is broken, expired or cannot be read, 2 when the command
line is wrong.

`certs new` makes a certificate for development, signed by the local authority of this machine's rust-lb (with
CERTS_SELF_SIGNED: by the one that Caddy keeps in the certificate directory), and prints the root to trust.

options:
  --json        one JSON document on stdout
  --cert FILE   where the chain goes; default: ./HOST.crt
  --key FILE    where the key goes, readable to you alone; default: ./HOST.key
  --force       replace files that are there

examples:
  rust-lb certs
  rust-lb certs --rustLb.certificates.directory=/pv/CERTS --json
  rust-lb certs new shop.localhost '*.shop.localhost'
";

/// Longer than a directory needs that is there; one on a dead server is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// One that ends within this is marked.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// Takes a flag with a value out of a command line.
fn take_value(args: &mut Vec<String>, flag: &str) -> Result<Option<String>, String> {
    let is = |a: &String| a.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    let Some(at) = args.iter().position(is) else { return Ok(None) };
    let word = args.remove(at);
    match word.split_once('=') {
        Some((_, value)) => Ok(Some(value.to_owned())),
        None if args.get(at).is_some_and(|value| !value.starts_with("--")) => Ok(Some(args.remove(at))),
        None => Err(format!("`{flag}` needs a value")),
    }
}

fn take(args: &mut Vec<String>, flag: &str) -> bool {
    let before = args.len();
    args.retain(|a| a != flag);
    args.len() != before
}

pub(super) fn run(mut args: Vec<String>, style: Style, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let json = take(&mut args, "--json");
    let new = args.first().is_some_and(|first| first == "new");
    let (mut hosts, mut files, mut force) = (Vec::new(), (None, None), false);
    if new {
        args.remove(0);
        force = take(&mut args, "--force");
        files = match (take_value(&mut args, "--cert"), take_value(&mut args, "--key")) {
            (Ok(cert), Ok(key)) => (cert, key),
            (Err(message), _) | (_, Err(message)) => return fail(stderr, USAGE, format_args!("{message}")),
        };
        while args.first().is_some_and(|arg| !arg.starts_with('-')) {
            hosts.push(args.remove(0));
        }
        if hosts.is_empty() {
            return fail(
                stderr,
                USAGE,
                format_args!("`certs new` needs at least one host\nhint: rust-lb certs --help"),
            );
        }
    }
    let input = Input::of_process(args);
    let loaded = match config::load(&input) {
        Ok(loaded) => loaded,
        Err(problems) => return refused(&problems, &input, stderr),
    };
    certs::install_provider();
    let options = runtime::store_options(&loaded.settled);
    if new {
        let made = certs::development(&options, &hosts, SystemTime::now());
        let Development { chain, key, root, root_file } = match made {
            Ok(made) => made,
            Err(message) => return fail(stderr, FAILED, format_args!("{message}")),
        };
        let name = certs::storage::layout::safe(&hosts[0]);
        let place = |given: Option<String>, ending: &str| {
            given.map_or_else(|| Path::new(".").join(format!("{name}.{ending}")), PathBuf::from)
        };
        let (cert_file, key_file) = (place(files.0, "crt"), place(files.1, "key"));
        // The certificate first: a key without one is of no use, and was not there before.
        let certificate = put(&cert_file, &chain, 0o644, force);
        let fresh = certificate.is_ok();
        if let Err(message) = certificate.and_then(|()| put(&key_file, &key, 0o600, force)) {
            if fresh {
                // Half a pair is worse than none; what cannot be removed is told by the next attempt.
                let _ = std::fs::remove_file(&cert_file);
            }
            return fail(stderr, FAILED, format_args!("{message}"));
        }
        return written(if json {
            let value = json!({"hosts": hosts, "cert": cert_file, "key": key_file, "root": root_file, "rootPem": root});
            writeln!(stdout, "{value}")
        } else {
            tell_new(stdout, style, (&cert_file, &key_file), root_file.as_deref())
        });
    }
    let inventory = match certs::inventory(&options, SystemTime::now(), PATIENCE) {
        Some(inventory) => inventory,
        None => {
            let dir = options.directory.display();
            return fail(stderr, FAILED, format_args!("`{dir}` does not answer within {} s", PATIENCE.as_secs()));
        }
    };
    let told = if json { tell_json(stdout, &inventory) } else { tell(stdout, stderr, style, &inventory) };
    match written(told) {
        0 if inventory.is_well() => 0,
        0 => FAILED,
        code => code,
    }
}

/// Writes a file that is not there, or any where that is wanted; never through a link.
fn put(file: &Path, text: &str, mode: u32, force: bool) -> Result<(), String> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("`{}` exists already\nhint: --force replaces it", file.display()),
        _ => format!("`{}` cannot be written: {error}", file.display()),
    };
    if force {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    let mut open = OpenOptions::new().write(true).create_new(true).mode(mode).open(file).map_err(failed)?;
    open.write_all(text.as_bytes()).and_then(|()| open.sync_all()).map_err(failed)
}

fn tell_new(out: &mut dyn Write, style: Style, files: (&Path, &Path), root: Option<&Path>) -> io::Result<()> {
    writeln!(out, "certificate  {}", files.0.display())?;
    writeln!(out, "key          {}", files.1.display())?;
    match root {
        Some(root) => writeln!(out, "trust        {}", style.bold(&root.display().to_string())),
        None => writeln!(out, "trust        nothing: the authority could not be kept, and ends with this command"),
    }
}

fn tell_json(out: &mut dyn Write, inventory: &Inventory) -> io::Result<()> {
    let problems: Vec<String> = inventory.diagnostics.iter().map(ToString::to_string).collect();
    let value = json!({
        "directory": inventory.directory, "certificates": inventory.certificates, "problems": problems,
        "well": inventory.is_well(),
    });
    serde_json::to_writer_pretty(&mut *out, &value)?;
    writeln!(out)
}

/// What a person wants to know first: does it answer, for whom, until when.
fn state(certificate: &Certificate, now: SystemTime, style: Style) -> String {
    match (&certificate.problem, certificate.not_after) {
        (Some(problem), _) => style.red(problem),
        (None, Some(end)) if end < now + SOON => style.yellow("ends soon"),
        _ => style.green("ok"),
    }
}

fn tell(out: &mut dyn Write, err: &mut dyn Write, style: Style, inventory: &Inventory) -> io::Result<()> {
    let now = SystemTime::now();
    for certificate in &inventory.certificates {
        let names = certificate.names.join(", ");
        let end = certificate.not_after.and_then(|t| jiff::Timestamp::try_from(t).ok());
        let end = end.map_or_else(|| "-".to_owned(), |end| end.strftime("%Y-%m-%d %H:%MZ").to_string());
        let names = if names.is_empty() { "(unreadable)".to_owned() } else { names };
        writeln!(out, "{}", style.bold(&printable(&names)))?;
        writeln!(out, "  until {end}  {}", state(certificate, now, style))?;
        if !certificate.issuer.is_empty() {
            writeln!(out, "  by    {}", printable(&certificate.issuer))?;
        }
        writeln!(out, "  file  {}", printable(&certificate.file.display().to_string()))?;
    }
    let number = inventory.certificates.len();
    let dir = inventory.directory.display();
    writeln!(out, "{number} certificate{} in {dir}", if number == 1 { "" } else { "s" })?;
    for problem in &inventory.diagnostics {
        super::output::diagnostic(err, problem, style)?;
    }
    Ok(())
}

/// Names and files are of strangers: nothing in them moves a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
