//! One registration of a Nomad service, as clients send it and as the store keeps it.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The namespace of those who name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// One registration, in the form of `GET /v1/service/:name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct Registration {
    /// Address as registered; empty for a literal port.
    pub address: String,
    /// Allocation.
    #[serde(rename = "AllocID")]
    pub alloc_id: String,
    /// Raft index of the first registration; set by the store.
    pub create_index: u64,
    /// Datacenter.
    pub datacenter: String,
    /// Unique within the namespace. Filled in when empty, the same for the same name, address and port.
    #[serde(rename = "ID")]
    pub id: String,
    /// Job; the service's name when empty.
    #[serde(rename = "JobID")]
    pub job_id: String,
    /// Raft index of the last change; set by the store.
    pub modify_index: u64,
    /// Namespace; `default` when empty.
    pub namespace: String,
    /// Client node.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Port; 0 for a service without one.
    pub port: u16,
    /// Name.
    pub service_name: String,
    /// Tags in the order of the job.
    pub tags: Vec<String>,
}

/// The node on which everything runs that does not say otherwise.
pub const NODE_ID: &str = "e4be3dde-0000-4000-8000-000000000001";

impl Default for Registration {
    fn default() -> Self {
        Self {
            address: "127.0.0.1".to_owned(),
            alloc_id: String::new(),
            create_index: 0,
            datacenter: "dc1".to_owned(),
            id: String::new(),
            job_id: String::new(),
            modify_index: 0,
            namespace: DEFAULT_NAMESPACE.to_owned(),
            node_id: NODE_ID.to_owned(),
            port: 0,
            service_name: String::new(),
            tags: Vec::new(),
        }
    }
}

impl Registration {
    /// A registration of a service at an address, in the default namespace.
    pub fn new(name: impl Into<String>, address: SocketAddr) -> Self {
        Self { address: address.ip().to_string(), port: address.port(), service_name: name.into(), ..Self::default() }
    }

    /// With these tags.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// With this id.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// In this namespace.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Fills what was left empty and is never empty in Nomad.
    pub(super) fn completed(mut self) -> Self {
        if self.namespace.is_empty() {
            self.namespace = DEFAULT_NAMESPACE.to_owned();
        }
        if self.job_id.is_empty() {
            self.job_id = self.service_name.clone();
        }
        if self.alloc_id.is_empty() {
            self.alloc_id = uuid_of(&[&self.namespace, &self.service_name, &self.address, &self.port.to_string()]);
        }
        if self.id.is_empty() {
            let (alloc, name, port) = (&self.alloc_id, &self.service_name, self.port);
            self.id = format!("_nomad-task-{alloc}-group-{}-{name}-{port}", self.job_id);
        }
        self
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        let mut other = other.clone();
        (other.create_index, other.modify_index) = (self.create_index, self.modify_index);
        *self == other
    }
}

/// A UUID that depends on the texts alone.
fn uuid_of(parts: &[&str]) -> String {
    // FNV-1a, twice with different starts: unique enough for ids, and the same in every run.
    let hash = |start: u64| {
        let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
        bytes.fold(start, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    };
    let (a, b) = (hash(0xcbf2_9ce4_8422_2325), hash(0x8422_2325_cbf2_9ce4));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    )
}
