//! Words of the domain, without IO: who provides a definition, names and ids, host names,
//! durations and sizes as peers write them, and secrets that do not print.

mod duration;
mod host;
mod map;
mod provider;
mod secret;
mod size;
mod text;

pub use duration::{DurationError, format_duration, parse_duration};
pub use host::{canonical_host, split_port, without_port};
pub use map::{Difference, Map};
pub use provider::Provider;
pub use secret::Secret;
pub use size::{SizeError, parse_size};
pub use text::lossy;

use std::sync::Arc;

/// Identity of a server within a service; what the registry's state is keyed by. It names what
/// a person would call the same server: the same service reaching the same address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    /// Qualified service name, `web@nomad`.
    pub service: Arc<str>,
    /// Server URL as declared, without path: `http://10.0.0.1:8080`.
    pub url: Arc<str>,
}
