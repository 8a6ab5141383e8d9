//! A catalog that speaks Nomad's and Consul's HTTP API, for `rust-lb dev` and for tests.
//!
//! It is no kinder than the real ones: indexes, wake-ups, waits, refusals, limits and ends are
//! those measured at Nomad 2.0 and Consul 1.8.7, and what it does not serve it refuses. Everything
//! is in memory and in this process; [`Nomad`] and [`Consul`] change the state from Rust, their
//! [`Control`] asks for the ways in which a catalog fails, and counts.

pub mod acl;
mod blocking;
mod checks;
mod consul;
pub mod control;
pub mod definition;
mod exchange;
mod nomad;
pub mod samples;
mod server;
pub mod store;
mod stream;

pub use acl::{Acl, ConsulToken, NomadToken, Scope};
pub use consul::Consul;
pub use control::{Control, Fault, Stats};
pub use definition::Definition;
pub use nomad::Nomad;
pub use store::consul::Status;
pub use store::nomad::{AllocationCheck, Registration};

use std::net::SocketAddr;
use std::time::Duration;

/// Where the catalogs listen and what bounds them.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of the Nomad API, port 0 for any; `None` for no listener.
    pub nomad: Option<SocketAddr>,
    /// Address of the Consul API, port 0 for any; `None` for no listener.
    pub consul: Option<SocketAddr>,
    /// Time between two heartbeats of an event stream (30 s).
    pub heartbeat: Duration,
    /// Connections to Nomad that one client address may hold (`http_max_conns_per_client`, 100).
    pub nomad_connections: usize,
    /// Connections to Consul that one client address may hold (200).
    pub consul_connections: usize,
}

impl Default for Options {
    /// Both on ports that the kernel chooses, with the limits of the real agents.
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            nomad: Some(any),
            consul: Some(any),
            heartbeat: stream::HEARTBEAT,
            nomad_connections: 100,
            consul_connections: 200,
        }
    }
}

/// Why the embedded catalog did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Somebody listens there already.
    #[error(
        "the embedded {what} cannot listen on {addr}: the port is in use; choose another with `--{flag}`, port 0 for any"
    )]
    PortInUse {
        /// `Nomad` or `Consul`.
        what: &'static str,
        /// The flag of `rust-lb dev`.
        flag: &'static str,
        /// Address asked for.
        addr: SocketAddr,
    },
    /// Any other trouble with the socket.
    #[error("the embedded {what} cannot listen on {addr}: {source}")]
    Listen {
        /// `Nomad`, `Consul`, or the sample service.
        what: String,
        /// Address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The embedded catalogs; dropping it ends them.
#[derive(Debug)]
pub struct Embedded {
    nomad: Nomad,
    consul: Consul,
}

/// Starts the embedded catalogs, empty. Must be called within a tokio runtime, which serves them.
///
/// # Errors
/// When an address cannot be listened on.
pub fn start(options: &Options) -> Result<Embedded, EmbeddedError> {
    let failed = |what: &'static str, flag: &'static str, addr: Option<SocketAddr>| {
        let addr = addr.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        move |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => EmbeddedError::PortInUse { what, flag, addr },
            _ => EmbeddedError::Listen { what: what.to_owned(), addr, source },
        }
    };
    let nomad = Nomad::start(options.nomad, options.nomad_connections, options.heartbeat).map_err(failed(
        "Nomad",
        "nomad",
        options.nomad,
    ))?;
    let consul = Consul::start(options.consul, options.consul_connections).map_err(failed(
        "Consul",
        "consul",
        options.consul,
    ))?;
    Ok(Embedded { nomad, consul })
}

impl Embedded {
    /// The Nomad side.
    pub fn nomad(&self) -> &Nomad {
        &self.nomad
    }

    /// The Consul side.
    pub fn consul(&self) -> &Consul {
        &self.consul
    }

    /// Where Nomad's API listens.
    pub fn nomad_addr(&self) -> Option<SocketAddr> {
        self.nomad.addr()
    }

    /// Where Consul's API listens.
    pub fn consul_addr(&self) -> Option<SocketAddr> {
        self.consul.addr()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.nomad.abort();
        self.consul.abort();
    }
}
