//! The rows of Consul's tables, and how the endpoints show them.

use serde_json::{Map, Value, json};

/// State of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// In order.
    Passing,
    /// Suspicious.
    Warning,
    /// Failed, or not run yet.
    Critical,
}

impl Status {
    /// As sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// From its text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Passing, Self::Warning, Self::Critical].into_iter().find(|status| status.as_str() == text)
    }
}

/// A service instance as the agent registers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Unique on its node.
    pub id: String,
    /// Name.
    pub name: String,
    /// Tags in the order registered.
    pub tags: Vec<String>,
    /// Address; empty means the node's.
    pub address: String,
    /// Port; 0 for a service without one. Consul takes any number.
    pub port: i64,
    /// Metadata; `null` when none was given.
    pub meta: Value,
    /// `Weights.Passing` and `Weights.Warning`.
    pub weights: (i64, i64),
    /// `EnableTagOverride`.
    pub enable_tag_override: bool,
}

/// A check as the agent registers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckEntry {
    /// Unique on its node.
    pub id: String,
    /// Name to show.
    pub name: String,
    /// State.
    pub status: Status,
    /// Remarks of whoever registered it.
    pub notes: String,
    /// What the check said at the last change of its state.
    pub output: String,
    /// `ttl`, `http`, `tcp`, `maintenance`; empty for the node's own.
    pub kind: String,
}

#[derive(Debug, Clone)]
pub(super) struct Stamped<T> {
    pub(super) row: T,
    pub(super) create: u64,
    pub(super) modify: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckRow {
    pub(super) check: CheckEntry,
    /// Empty for a check of the node.
    pub(super) service_id: String,
    pub(super) service_name: String,
    pub(super) service_tags: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct NodeRow {
    pub(super) id: String,
    pub(super) address: String,
}

/// A node; `meta` is the name of its metadata, which differs by endpoint.
pub(super) fn node_json(name: &str, node: &Stamped<NodeRow>, meta: &str) -> Map<String, Value> {
    let address = &node.row.address;
    let tagged = json!({"lan": address, "lan_ipv4": address, "wan": address, "wan_ipv4": address});
    object(json!({
        "ID": node.row.id, "Node": name, "Address": address, "Datacenter": "dc1", "TaggedAddresses": tagged,
        meta: {"consul-network-segment": ""}, "CreateIndex": node.create, "ModifyIndex": node.modify,
    }))
}

/// A service as `catalog/service` shows it: one object with its node.
pub(super) fn flat_json(name: &str, node: &Stamped<NodeRow>, service: &Stamped<ServiceEntry>) -> Value {
    let mut flat = node_json(name, node, "NodeMeta");
    let mut service = service_json(service);
    flat.insert("ServiceKind".into(), "".into());
    for (from, to) in [
        ("ID", "ServiceID"),
        ("Service", "ServiceName"),
        ("Tags", "ServiceTags"),
        ("Address", "ServiceAddress"),
        ("TaggedAddresses", "ServiceTaggedAddresses"),
        ("Weights", "ServiceWeights"),
        ("Meta", "ServiceMeta"),
        ("Port", "ServicePort"),
        ("EnableTagOverride", "ServiceEnableTagOverride"),
        ("Proxy", "ServiceProxy"),
        ("Connect", "ServiceConnect"),
        ("CreateIndex", "CreateIndex"),
        ("ModifyIndex", "ModifyIndex"),
    ] {
        if let Some(value) = service.remove(from) {
            let empty_meta = to == "ServiceMeta" && value.is_null();
            flat.insert(to.into(), if empty_meta { json!({}) } else { value });
        }
    }
    Value::Object(flat)
}

pub(super) fn check_json(node: &str, check: &Stamped<CheckRow>) -> Value {
    let CheckRow { check: entry, service_id, service_name, service_tags } = &check.row;
    json!({
        "Node": node, "CheckID": entry.id, "Name": entry.name, "Status": entry.status.as_str(), "Notes": entry.notes,
        "Output": entry.output, "ServiceID": service_id, "ServiceName": service_name, "ServiceTags": service_tags,
        "Type": entry.kind, "Definition": {}, "CreateIndex": check.create, "ModifyIndex": check.modify,
    })
}

pub(super) fn service_json(service: &Stamped<ServiceEntry>) -> Map<String, Value> {
    let ServiceEntry { id, name, tags, address, port, meta, weights, enable_tag_override } = &service.row;
    let mut json = Map::new();
    let mut put = |key: &str, value: Value| drop(json.insert(key.to_owned(), value));
    put("ID", json!(id));
    put("Service", json!(name));
    put("Tags", json!(tags));
    put("Address", json!(address));
    if !address.is_empty() {
        let at = json!({"Address": address, "Port": port});
        put("TaggedAddresses", json!({"lan_ipv4": at, "wan_ipv4": at}));
    }
    put("Meta", meta.clone());
    put("Port", json!(port));
    put("Weights", json!({"Passing": weights.0, "Warning": weights.1}));
    put("EnableTagOverride", json!(enable_tag_override));
    put("Proxy", json!({"MeshGateway": {}, "Expose": {}}));
    put("Connect", json!({}));
    put("CreateIndex", json!(service.create));
    put("ModifyIndex", json!(service.modify));
    json
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
