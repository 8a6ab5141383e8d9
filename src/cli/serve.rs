//! `rust-lb serve`: a holder of the sockets, and a worker that does everything else; with `--single-process` one that does
//! both. `worker` is the command of the second; the holder runs it.

use super::{FAILED, USAGE, fail, refused, run_check};
use crate::config;
use crate::runtime::{self, Options, Place, holder};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const HELP: &str = "\
usage: rust-lb serve [--configFile PATH] [static configuration flags]

Runs the proxy in the foreground until SIGTERM or SIGINT. Without a configuration file it takes the defaults of a HinD box:
entry points web (:80) and websecure (:443), the admin API on 127.0.0.1:8080, Nomad at $NOMAD_ADDR and Consul at $CONSUL_HTTP_ADDR,
certificates from /pv/CERTS.

options besides all static configuration keys (--entryPoints.web.address=:80):
  --configFile PATH    Traefik v3 static configuration, YAML or TOML
  --workers N          worker threads (default: the cores)
  --stateDir PATH      where the last good state is kept (default: /var/lib/rust-lb)
  --check              validate the configuration and exit
  --overlap            share the ports with a process that listens on them already
  --standby unix:PATH  serve on a Unix socket alone, until `POST /api/activate` there binds the public ports
  --notify-fd N        write a newline to this file descriptor, once, when it serves and knows routes (s6's notification-fd)
  --detach-drain       on SIGTERM this process ends when the ports are closed, the worker by itself when it has drained: for a
                       supervisor that starts the next one only then
  --single-process     no holder of the sockets: SIGUSR2 is not served, and a crash ends it

signals: SIGTERM and SIGINT drain and exit, SIGHUP re-reads the configuration, SIGUSR1 re-opens log files, SIGUSR2 starts a new
worker from the binary and the configuration on disk and lets the old one end what it has: no connection is lost

example:
  rust-lb serve --entryPoints.web.address=:8000 --providers.nomad.endpoint.address=http://127.0.0.1:4646
";

/// Switches of the tests', in milliseconds: how long a new worker may take, and the first pause before a worker that died.
const READY_WITHIN: &str = "RUST_LB_TEST_READY_WITHIN_MS";
const PAUSE: &str = "RUST_LB_TEST_PAUSE_MS";

pub(super) fn run(input: config::Input, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    if config::wants_check(&input.args) {
        return run_check(input.args, stdout, stderr);
    }
    if config::wants_single_process(&input.args) {
        let standby = config::standby(&input.args);
        return start(input, Place { holder: None, standby }, stderr);
    }
    let Some(path) = own_path(&input) else {
        return fail(stderr, FAILED, format_args!("the path of this binary cannot be told; use `--single-process`"));
    };
    let said = |name| input.env.get(name).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let program = holder::Program {
        path,
        args: input.args.iter().map(Into::into).collect(),
        ready_within: said(READY_WITHIN).unwrap_or(holder::READY_WITHIN),
        pause: said(PAUSE).unwrap_or(holder::PAUSE),
        notify_fd: config::notify_fd(&input.args),
        detach_drain: config::wants_detached_drain(&input.args),
    };
    match holder::run(program) {
        Ok(code) => code,
        Err(e) => fail(stderr, FAILED, format_args!("the worker process: {e}")),
    }
}

/// `rust-lb worker`.
pub(super) fn work(input: config::Input, stderr: &mut dyn Write) -> u8 {
    let link = match holder::Link::of_process() {
        Ok(link) => link,
        Err(holder::LinkError::Gone) => return FAILED,
        Err(e) => return fail(stderr, USAGE, format_args!("{e}")),
    };
    let standby = config::standby(&input.args);
    start(input, Place { holder: Some(link), standby }, stderr)
}

fn start(input: config::Input, place: Place, stderr: &mut dyn Write) -> u8 {
    let loaded = match config::load(&input) {
        Ok(loaded) => loaded,
        Err(problems) => return refused(&problems, &input, stderr),
    };
    let alone = place.holder.is_none();
    let options = Options {
        signals: true,
        log: true,
        notify_fd: config::notify_fd(&input.args).filter(|_| alone),
        detach_drain: config::wants_detached_drain(&input.args) && !alone,
        reload: Some(input),
    };
    match runtime::start_in(loaded, options, place) {
        Ok(running) => running.join(),
        Err(e) => fail(stderr, FAILED, format_args!("{e}")),
    }
}

/// The path of this binary as it was started, with the links in it: whoever replaces one of them means the binary that it
/// leads to then. Where the name says something else than what runs, what runs counts.
fn own_path(input: &config::Input) -> Option<PathBuf> {
    let running = std::env::current_exe().ok()?;
    let file = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    // As it is read at the start, the kernel knows a path of it that is true.
    let same = |path: &PathBuf| file(path).is_some() && file(path) == file(&running);
    let name = PathBuf::from(std::env::args_os().next()?);
    let named = if name.components().count() > 1 {
        std::path::absolute(&name).ok().filter(same)
    } else {
        let path = input.env.get("PATH").map(String::as_str).unwrap_or_default();
        std::env::split_paths(path)
            .map(|dir| dir.join(&name))
            .find(same)
            .and_then(|path| std::path::absolute(path).ok())
    };
    Some(named.unwrap_or(running))
}
