//! `rust-lb serve`: settles the configuration, starts the runtime, waits for signals.

use super::{FAILED, fail, refused, run_check};
use crate::config;
use crate::runtime::{self, Options};
use std::io::Write;

pub(super) const HELP: &str = "\
usage: rust-lb serve [--configFile PATH] [static configuration flags]

Runs the proxy in the foreground until SIGTERM or SIGINT. Without a configuration file it takes the defaults of a HinD box:
entry points web (:80) and websecure (:443), the admin API on 127.0.0.1:8080, Nomad at $NOMAD_ADDR and Consul at $CONSUL_HTTP_ADDR,
certificates from /pv/CERTS.

options besides all static configuration keys (--entryPoints.web.address=:80):
  --configFile PATH   Traefik v3 static configuration, YAML or TOML
  --workers N         worker threads (default: the cores)
  --stateDir PATH     where the last good state is kept (default: /var/lib/rust-lb)
  --check             validate the configuration and exit
  --overlap           share the ports with a process that listens on them already

signals: SIGTERM and SIGINT drain and exit, SIGHUP re-reads the configuration, SIGUSR1 re-opens log files

example:
  rust-lb serve --entryPoints.web.address=:8000 --providers.nomad.endpoint.address=http://127.0.0.1:4646
";

pub(super) fn run(input: config::Input, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    if config::wants_check(&input.args) {
        return run_check(input.args, stdout, stderr);
    }
    let loaded = match config::load(&input) {
        Ok(loaded) => loaded,
        Err(problems) => return refused(&problems, &input, stderr),
    };
    let options = Options { reload: Some(input), signals: true, log: true };
    match runtime::start(loaded, options) {
        Ok(running) => running.join(),
        Err(e) => fail(stderr, FAILED, format_args!("{e}")),
    }
}
