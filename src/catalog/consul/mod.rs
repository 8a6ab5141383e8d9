//! Consul's service catalog: one blocked `/v1/catalog/services` for names and tags, and one
//! blocked `/v1/health/service/:name` for each name with a routing tag, up to `watchConnections`.
//! Above it the doorbell: `/v1/catalog/services` and `/v1/health/state/any` are waited on, and
//! at each ring the routed names are read again over a few kept connections, since neither body
//! tells of a changed port or address.
//!
//! Health is read without `passing`, so that "none healthy" and "none registered" are told apart;
//! what is healthy enough is decided by those who route.

pub mod decode;
mod reader;
mod state;
mod watch;
mod watcher;

use super::http::{Agent, Error, Product};
use super::publish::Publisher;
use super::{Forget, Handle, Spawn, source};
use crate::config::ConsulProvider;
use crate::model::Provider;

/// Starts watching; the current runtime runs it until [`Spawn::shutdown`].
///
/// # Errors
/// An endpoint that is no address; TLS files that cannot be used. An agent that does not answer
/// is no error: it is asked until it does.
pub fn spawn(config: &ConsulProvider, spawn: Spawn) -> Result<Handle, Error> {
    let namespaces = if config.namespaces.is_empty() { vec![String::new()] } else { config.namespaces.clone() };
    let shutdown = spawn.shutdown.clone();
    let mut parts = Vec::new();
    for namespace in namespaces {
        let agent = Agent::new(Product::Consul, &config.common, spawn.timing)?;
        let (publisher, snapshots) = Publisher::new(Provider::ConsulCatalog, agent.address(), "watch");
        let (forget, forgotten) = Forget::new();
        let paths = reader::Paths::new(config, &namespace);
        let watch = watch::Watch::new(agent, paths, config, &namespace, spawn.clone(), publisher)?;
        tokio::spawn(watch.run(forgotten));
        parts.push(Handle { snapshots, forget, reports: None });
    }
    source::join(parts, shutdown)
        .ok_or_else(|| Error::Endpoint { endpoint: config.common.endpoint.clone(), reason: "no namespace".into() })
}
