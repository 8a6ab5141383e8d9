//! Where services come from. Each source (Nomad, Consul) yields whole [`Inventory`] values on a
//! watch channel, and says how fresh they are; [`merge`] makes the [`World`] of them.
//!
//! What always holds: an error never removes anything (a source keeps its last good inventory),
//! an unchanged service keeps its `Arc`, and a removal is believed only by the rules of
//! ARCHITECTURE.md, invariant 5.

pub mod believe;
pub mod consul;
pub mod http;
mod looks;
mod merge;
pub mod names;
pub mod nomad;
pub mod poll;
mod publish;
mod pulse;
mod reach;
mod source;

pub use merge::merge;
pub use source::{Before, Forget, Handle, Spawn, Timing};

use crate::model::{Map, Provider};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A service within a catalog: Consul's community edition has the empty namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceKey {
    /// Nomad namespace, or Consul's; empty where there is none.
    pub namespace: Arc<str>,
    /// Service name as registered.
    pub name: Arc<str>,
}

/// What the catalog says of an instance's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Every check passes, or there is none.
    Passing,
    /// The worst check warns.
    Warning,
    /// A check is critical.
    Critical,
    /// Service or node is in maintenance.
    Maintenance,
    /// The catalog does not say (Nomad lists instances whatever their state).
    Unknown,
}

impl Health {
    /// The state of this name in Consul's API and in options such as `strictChecks`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "passing" => Some(Self::Passing),
            "warning" => Some(Self::Warning),
            "critical" => Some(Self::Critical),
            "maintenance" => Some(Self::Maintenance),
            _ => None,
        }
    }
}

/// One registration, normalised over both catalogs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instance {
    /// Unique id of the registration in its catalog.
    pub id: Arc<str>,
    /// Node name (Consul) or node id (Nomad).
    pub node: Arc<str>,
    /// Service address as registered; may be empty (Consul: use `node_address`).
    pub address: Arc<str>,
    /// Address of the node; empty where the catalog does not give it (Nomad).
    pub node_address: Arc<str>,
    /// Port; 0 when the service has none.
    pub port: u16,
    /// Tags in the order registered.
    pub tags: Vec<Arc<str>>,
    /// Health by the catalog.
    pub health: Health,
    /// Datacenter.
    pub datacenter: Arc<str>,
    /// Raft index at which it was created: the older registration has the lower one.
    pub create_index: u64,
    /// Nomad: job id; empty in Consul.
    pub job: Arc<str>,
    /// Nomad: allocation id; empty in Consul.
    pub alloc: Arc<str>,
    /// The checks one by one, where the catalog tells of any that are the instance's own (Consul).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Checks>,
}

/// The checks of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Checks {
    /// States of its own checks, those of its node apart.
    pub own: Vec<Health>,
    /// Its node is down, or it or its node is in maintenance.
    pub out: bool,
}

impl Instance {
    /// The address to dial: the service's, else the node's; `None` when both are empty.
    pub fn dial_address(&self) -> Option<&str> {
        [&self.address, &self.node_address].into_iter().map(|a| &**a).find(|a| !a.is_empty())
    }
}

/// All instances of one service, sorted by id. Never empty within an [`Inventory`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Service {
    /// Which service.
    pub key: ServiceKey,
    /// Its instances, sorted by `id`.
    pub instances: Vec<Instance>,
}

/// Everything that one source knows of services that carry a routing tag. Cloning is cheap in
/// what it shares; an unchanged service keeps its `Arc` from one inventory to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// By namespace and name.
    #[serde(serialize_with = "services_as_list", deserialize_with = "services_from_list")]
    pub services: Map<ServiceKey, Service>,
}

fn services_as_list<S: serde::Serializer>(
    services: &Map<ServiceKey, Service>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(services.values())
}

fn services_from_list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Map<ServiceKey, Service>, D::Error> {
    let list = Vec::<Arc<Service>>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|service| (service.key.clone(), service)).collect())
}

/// How a source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// Not read yet.
    Starting,
    /// Reads succeed.
    Connected,
    /// The last read failed; the last good inventory is served.
    Retrying,
    /// Reads succeed from a server without a known leader, beyond the accepted age.
    Stale,
}

/// What `/api/rawdata` shows of a provider, `/health` judges by and the log reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Which provider.
    pub provider: Provider,
    /// How it stands.
    pub state: SourceState,
    /// Address asked, without credentials.
    pub address: String,
    /// How it is watched: `events`, `list`, `watch`, `doorbell`.
    pub strategy: &'static str,
    /// Highest index seen.
    pub index: u64,
    /// When the inventory last changed.
    #[serde(serialize_with = "as_rfc3339")]
    pub last_change: Option<SystemTime>,
    /// When an answer last came.
    #[serde(serialize_with = "as_rfc3339")]
    pub last_contact: Option<SystemTime>,
    /// Whether the catalog's answer came with a known leader.
    pub known_leader: bool,
    /// Services that carry a routing tag.
    pub services_seen: usize,
    /// Connections that are open to the catalog now.
    pub connections: usize,
    /// Last error, empty when the last read succeeded.
    pub last_error: String,
    /// Capabilities that the token lacks, in words: ``namespace "*" needs `read-job` ``.
    pub missing_rights: Vec<String>,
    /// Removals held back after a reset (names), until they reappear or the hold ends.
    pub held: Vec<String>,
    /// Remarks such as "over watchConnections (128): reading by doorbell; raise it to …".
    pub notes: Vec<String>,
}

fn as_rfc3339<S: serde::Serializer>(t: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match t.and_then(|t| jiff::Timestamp::try_from(t).ok()) {
        Some(t) => serializer.collect_str(&t),
        None => serializer.serialize_none(),
    }
}

impl SourceStatus {
    /// How old what is believed is: how long ago the catalog last answered; `None` when it never has. While it is watched the agent is
    /// asked every 2 s whether it is there, so that it does not age because nothing changes.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        Some(now.duration_since(self.last_contact?).unwrap_or_default())
    }

    /// The status of a source that has not been asked yet.
    pub fn starting(provider: Provider, address: impl Into<String>) -> Self {
        Self {
            provider,
            state: SourceState::Starting,
            address: address.into(),
            strategy: "list",
            index: 0,
            last_change: None,
            last_contact: None,
            known_leader: false,
            services_seen: 0,
            connections: 0,
            last_error: String::new(),
            missing_rights: Vec::new(),
            held: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// What a source publishes on its watch channel.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The services; `None` until the first complete read.
    pub inventory: Option<Arc<Inventory>>,
    /// How it stands.
    pub status: SourceStatus,
}

/// What the checks of an instance say, as Nomad runs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckState {
    /// One has not ended yet, and the instance has never passed.
    Pending,
    /// All passed.
    Passing,
    /// One failed: which, and why.
    Failing(Arc<str>),
}

/// What is said of an instance that has checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The address that it is dialled at.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// What its checks say.
    pub state: CheckState,
}

impl Report {
    fn of(instance: &Instance, state: CheckState) -> Self {
        Self { host: instance.dial_address().unwrap_or_default().into(), port: instance.port, state }
    }
}

/// What a catalog says of health beside its inventory: the checks of Nomad's allocations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reports {
    /// By service and id of the instance; of those without a check nothing.
    pub instances: Map<(ServiceKey, Arc<str>), Report>,
    /// Capabilities that the token lacks for it, in words.
    pub missing_rights: Vec<String>,
    /// What else keeps it from being known.
    pub notes: Vec<String>,
}

/// The inventories of all sources, as `tags` reads them. A source that has not answered yet is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// By provider.
    pub sources: BTreeMap<Provider, Arc<Inventory>>,
}
