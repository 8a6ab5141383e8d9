//! The DNS challenge's providers and the wait for their records, against servers over real sockets.

mod apis;
mod named;
mod programs;
mod propagation;
mod server;
mod updates;

use rust_lb::acme::dns::{Propagation, Settings, Solver};
use std::net::SocketAddr;
use std::time::Duration;

/// Looks at this resolver, quickly.
fn looking_at(resolver: SocketAddr) -> Propagation {
    Propagation { resolvers: vec![resolver.into()], authority_port: resolver.port(), ..Propagation::default() }
}

/// A solver from lego's variables; time limits that a test can wait for.
fn solver(provider: &str, variables: &[(&str, &str)], propagation: Propagation) -> Solver {
    rust_lb::certs::install_provider();
    let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    let mut settings = Settings::from_variables(provider, get).expect("settings");
    settings.timing.query = Duration::from_secs(4);
    settings.timing.interval = Duration::from_millis(5);
    settings.timing.propagation = Duration::from_secs(30);
    Solver::new(&settings, propagation).expect("a solver")
}
