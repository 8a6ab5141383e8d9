//! Nomad's service catalog: one event stream as the doorbell and the delta, one blocked list as
//! the safety net, point reads for the rest; three connections for a namespace (or for all of
//! them at once), however many services; and mostly one more for the checks of allocations.
//!
//! The order that loses nothing: open the stream from now on, wait for its first line, read the
//! list, read each routed name, and only then apply the events that are newer than what was read.
//! An ended or silent stream, an index that goes back, or a change in the list that no event told
//! of, starts this again.

mod checks;
pub mod decode;
mod reader;
mod state;
mod stream;
mod watch;

use super::http::{Agent, Error, Product};
use super::publish::Publisher;
use super::{Forget, Handle, Spawn, source};
use crate::config::NomadProvider;
use crate::model::Provider;

/// Starts watching; the current runtime runs it until [`Spawn::shutdown`].
///
/// # Errors
/// An endpoint that is no address; TLS files that cannot be used. An agent that does not answer
/// is no error: it is asked until it does.
pub fn spawn(config: &NomadProvider, spawn: Spawn) -> Result<Handle, Error> {
    let namespaces = match config.namespaces.as_slice() {
        [] => vec!["*".to_owned()],
        some if some.iter().any(|namespace| namespace == "*") => vec!["*".to_owned()],
        some => some.to_vec(),
    };
    let shutdown = spawn.shutdown.clone();
    let (mut parts, mut first) = (Vec::new(), None);
    for namespace in namespaces {
        let agent = Agent::new(Product::Nomad, &config.common, spawn.timing)?;
        let (publisher, snapshots) = Publisher::new(Provider::Nomad, agent.address(), "events");
        let (forget, forgotten) = Forget::new();
        let paths = reader::Paths::new(&namespace, &config.region);
        first.get_or_insert_with(|| (agent.clone(), paths.clone()));
        let watch = watch::Watch::new(agent, &namespace, paths, config.common.stale, spawn.clone(), publisher)?;
        tokio::spawn(watch.run(forgotten));
        parts.push(Handle { snapshots, forget, reports: None });
    }
    let joined = source::join(parts, shutdown.clone());
    let mut handle = joined
        .ok_or_else(|| Error::Endpoint { endpoint: config.common.endpoint.clone(), reason: "no namespace".into() })?;
    if let Some((agent, paths)) = first.filter(|_| config.allocation_checks) {
        handle.reports = Some(checks::spawn(&agent, paths, handle.snapshots.clone(), shutdown)?);
    }
    Ok(handle)
}
