//! Consul's catalog: nodes, services and checks, each table with an index, each service name with
//! one of its own, and the index of the last name that went extinct.
//!
//! What holds, as measured at Consul 1.8.7 and read in its state store (`agent/consul/state/catalog.go`):
//! `catalog/services` follows the services table and knows nothing of health; `health/service`
//! follows the index of its name, which moves with the service and its checks (a node's checks move
//! all names on the node); an absent name sleeps in the services tree and answers with the index of
//! the last extinction, or of the tables while there was none; check output alone is not written.

mod kv;
mod rows;

use super::Read;
use super::radix::{Radix, Touched};
use super::wake::Wakes;
pub use kv::{Behavior, Condition, NoSession, SessionEntry};
pub use rows::{CheckEntry, ServiceEntry, Status};
use rows::{CheckRow, NodeRow, Stamped, check_json, flat_json, node_json, service_json};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What a blocked query watches.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Watch {
    Services,
    Checks,
    /// A node in the tree of states.
    State(Vec<u8>),
    /// The index entry of a name that exists.
    Name(String),
    /// A node in the tree of names.
    Tree(Vec<u8>),
    /// A node in the tree of keys.
    Keys(Vec<u8>),
}

/// Node and id of a service or check.
type Key = (String, String);

/// The node whose agent this is.
pub const LOCAL_NODE: &str = "dev";

/// Consul's state.
#[derive(Debug)]
pub struct ConsulStore {
    raft: u64,
    nodes: BTreeMap<String, Stamped<NodeRow>>,
    services: BTreeMap<Key, Stamped<ServiceEntry>>,
    checks: BTreeMap<Key, Stamped<CheckRow>>,
    /// Ids of checks by node and service id, which is empty for the node's own.
    checks_by_service: BTreeMap<Key, BTreeSet<String>>,
    /// Keys of services by lower-case name.
    names: BTreeMap<String, BTreeSet<Key>>,
    by_name: Radix,
    by_state: Radix,
    nodes_index: u64,
    services_index: u64,
    checks_index: u64,
    name_index: BTreeMap<String, u64>,
    last_extinction: Option<u64>,
    wakes: Wakes<Watch>,
    keys: kv::Keys,
}

impl Default for ConsulStore {
    fn default() -> Self {
        let mut store = Self {
            raft: 10,
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
            checks: BTreeMap::new(),
            checks_by_service: BTreeMap::new(),
            names: BTreeMap::new(),
            by_name: Radix::default(),
            by_state: Radix::default(),
            nodes_index: 0,
            services_index: 0,
            checks_index: 0,
            name_index: BTreeMap::new(),
            last_extinction: None,
            wakes: Wakes::default(),
            keys: kv::Keys::default(),
        };
        store.add_node(LOCAL_NODE, "127.0.0.1");
        let consul = ServiceEntry {
            id: "consul".into(),
            name: "consul".into(),
            tags: Vec::new(),
            address: String::new(),
            port: 8300,
            meta: Value::Null,
            weights: (1, 1),
            enable_tag_override: false,
        };
        store.register(LOCAL_NODE, consul, Vec::new());
        store
    }
}

impl ConsulStore {
    /// Makes a node with its `serfHealth` check, unless it is there.
    pub fn add_node(&mut self, name: &str, address: &str) {
        if self.nodes.contains_key(name) {
            return;
        }
        let index = self.next_index();
        let id = format!("e4be3dde-0000-4000-9000-{:012x}", self.nodes.len() + 1);
        let row = NodeRow { id, address: address.to_owned() };
        self.nodes.insert(name.to_owned(), Stamped { row, create: index, modify: index });
        self.nodes_index = index;
        let serf = CheckEntry {
            id: "serfHealth".into(),
            name: "Serf Health Status".into(),
            status: Status::Passing,
            notes: String::new(),
            output: "Agent alive and reachable".into(),
            kind: String::new(),
        };
        let row =
            CheckRow { check: serf, service_id: String::new(), service_name: String::new(), service_tags: vec![] };
        self.put_check(index, name, row);
    }

    /// Registers a service with its checks in one raft write. A check that was there keeps its
    /// status and output, whatever the registration says, as the agent does it; a check that the
    /// registration no longer names stays. Gives the raft index.
    pub fn register(&mut self, node: &str, service: ServiceEntry, checks: Vec<CheckEntry>) -> u64 {
        let index = self.next_index();
        let (id, name, tags) = (service.id.clone(), service.name.clone(), service.tags.clone());
        self.put_service(index, node, service);
        for mut check in checks {
            if let Some(old) = self.checks.get(&(node.to_owned(), check.id.clone())) {
                check.status = old.row.check.status;
                check.output.clone_from(&old.row.check.output);
            }
            let (service_id, service_name) = (id.clone(), name.clone());
            self.put_check(index, node, CheckRow { check, service_id, service_name, service_tags: tags.clone() });
        }
        index
    }

    /// Removes a service with its checks in one raft write; `None` when there is no such id.
    pub fn deregister(&mut self, node: &str, id: &str) -> Option<u64> {
        let key = (node.to_owned(), id.to_owned());
        let name = self.services.get(&key)?.row.name.clone();
        let index = self.next_index();
        for check in self.checks_of(node, id) {
            self.take_check(index, &check);
        }
        self.services.remove(&key);
        self.services_index = index;
        let touched = self.forget_name(&name, &key);
        if self.names.contains_key(&name.to_lowercase()) {
            self.move_name(index, &name);
        } else {
            self.name_index.remove(&name);
            self.last_extinction = Some(index);
            self.wakes.wake(|watch| *watch == Watch::Name(name.clone()));
        }
        self.wake_services(&touched);
        Some(index)
    }

    /// Sets the state of a check. The output is written with a change of state only. False when
    /// there is no such check.
    pub fn set_check(&mut self, node: &str, check_id: &str, status: Status, output: &str) -> bool {
        let Some(old) = self.checks.get(&(node.to_owned(), check_id.to_owned())) else { return false };
        let mut row = old.row.clone();
        if row.check.status != status {
            row.check.status = status;
            output.clone_into(&mut row.check.output);
            let index = self.next_index();
            self.put_check(index, node, row);
        }
        true
    }

    /// Adds a check to a node, or to a service on it. False when there is no such service.
    pub fn add_check(&mut self, node: &str, service_id: Option<&str>, check: CheckEntry) -> bool {
        let (service_id, service_name, service_tags) = match service_id {
            None => (String::new(), String::new(), Vec::new()),
            Some(id) => match self.services.get(&(node.to_owned(), id.to_owned())) {
                Some(service) => (id.to_owned(), service.row.name.clone(), service.row.tags.clone()),
                None => return false,
            },
        };
        let index = self.next_index();
        self.put_check(index, node, CheckRow { check, service_id, service_name, service_tags });
        true
    }

    /// Removes a check, if it is there.
    pub fn remove_check(&mut self, node: &str, check_id: &str) {
        let key = (node.to_owned(), check_id.to_owned());
        if self.checks.contains_key(&key) {
            let index = self.next_index();
            self.take_check(index, &key);
        }
    }

    /// A write that concerns no service, such as to the key-value store.
    pub fn other_write(&mut self) {
        self.next_index();
    }

    /// The name under which an id is registered.
    pub fn service_name(&self, node: &str, id: &str) -> Option<String> {
        Some(self.services.get(&(node.to_owned(), id.to_owned()))?.row.name.clone())
    }

    /// The ids of the checks of a service.
    pub fn check_ids(&self, node: &str, service_id: &str) -> Vec<String> {
        self.checks_of(node, service_id).into_iter().map(|(_, id)| id).collect()
    }

    /// Type (`ttl`, `http`, …), status and output of a check.
    pub fn check(&self, node: &str, check_id: &str) -> Option<&CheckEntry> {
        Some(&self.checks.get(&(node.to_owned(), check_id.to_owned()))?.row.check)
    }

    /// Starts over, as an agent whose data directory was removed.
    pub fn wipe(&mut self) {
        *self = Self::default();
    }

    /// `catalog/services`: every name with the union of its tags.
    pub fn services(&mut self) -> Read<BTreeMap<String, BTreeSet<String>>> {
        let mut value = BTreeMap::<_, BTreeSet<_>>::new();
        for service in self.services.values() {
            value.entry(service.row.name.clone()).or_default().extend(service.row.tags.iter().cloned());
        }
        Read { index: self.services_index.max(1), value, changed: self.wakes.watch(Watch::Services) }
    }

    /// `catalog/nodes`: every node.
    pub fn nodes(&mut self) -> Read<Vec<Value>> {
        let nodes = self.nodes.iter().map(|(name, node)| Value::Object(node_json(name, node, "Meta")));
        Read { index: self.nodes_index, value: nodes.collect(), changed: self.wakes.watch(Watch::Services) }
    }

    /// `health/service`: the instances of a name with node and checks.
    pub fn health_service(&mut self, name: &str) -> Read<Vec<Entry>> {
        let value: Vec<_> = self.keys_of(name).iter().filter_map(|key| self.health_entry(key)).collect();
        let tables = self.nodes_index.max(self.services_index).max(self.checks_index);
        let (index, watch) = match value.first() {
            Some(entry) => (self.index_of(&entry.name), Watch::Name(entry.name.clone())),
            None => (self.last_extinction.unwrap_or(tables), self.tree_watch(name)),
        };
        Read { index: index.max(1), value, changed: self.wakes.watch(watch) }
    }

    /// `catalog/service`: the instances of a name without their health.
    pub fn catalog_service(&mut self, name: &str) -> Read<Vec<Entry>> {
        let value: Vec<_> = self.keys_of(name).iter().filter_map(|key| self.catalog_entry(key)).collect();
        let tables = self.nodes_index.max(self.services_index);
        let index = match value.first() {
            Some(entry) => self.index_of(&entry.name),
            None => self.last_extinction.unwrap_or(tables),
        };
        let watch = self.tree_watch(name);
        Read { index: index.max(1), value, changed: self.wakes.watch(watch) }
    }

    /// `health/state`: all checks, or those of one state. A state that does not exist has none.
    pub fn health_state(&mut self, state: &str) -> Read<Vec<CheckView>> {
        let status = Status::parse(state);
        let wanted = |row: &CheckRow| state == "any" || Some(row.check.status) == status;
        let rows = self.checks.iter().filter(|(_, check)| wanted(&check.row));
        let view = |((node, _), check): (&Key, &Stamped<CheckRow>)| CheckView {
            service: check.row.service_name.clone(),
            json: check_json(node, check),
        };
        let value = rows.map(view).collect();
        let watch = match state {
            "any" => Watch::Checks,
            state => Watch::State(self.by_state.watched(format!("{state}\0").as_bytes())),
        };
        Read { index: self.checks_index.max(1), value, changed: self.wakes.watch(watch) }
    }

    fn next_index(&mut self) -> u64 {
        self.raft += 1;
        self.raft
    }

    fn index_of(&self, name: &str) -> u64 {
        self.name_index.get(name).copied().unwrap_or(self.services_index)
    }

    fn keys_of(&self, name: &str) -> Vec<Key> {
        self.names.get(&name.to_lowercase()).into_iter().flatten().cloned().collect()
    }

    fn tree_watch(&self, name: &str) -> Watch {
        Watch::Tree(self.by_name.watched(format!("{}\0", name.to_lowercase()).as_bytes()))
    }

    fn checks_of(&self, node: &str, service_id: &str) -> Vec<Key> {
        let ids = self.checks_by_service.get(&(node.to_owned(), service_id.to_owned())).into_iter().flatten();
        ids.map(|id| (node.to_owned(), id.clone())).collect()
    }

    fn put_service(&mut self, index: u64, node: &str, service: ServiceEntry) {
        let key = (node.to_owned(), service.id.clone());
        let mut create = index;
        if let Some(old) = self.services.get(&key) {
            if old.row == service {
                return;
            }
            create = old.create;
            if old.row.name != service.name {
                // A renamed id leaves the index of its old name as it is, even when that name is gone.
                let old = old.row.name.clone();
                let touched = self.forget_name(&old, &key);
                self.wake_services(&touched);
            }
        }
        let name = service.name.clone();
        self.services.insert(key.clone(), Stamped { row: service, create, modify: index });
        self.names.entry(name.to_lowercase()).or_default().insert(key.clone());
        let touched = self.by_name.insert(&tree_key(&name, &key));
        self.services_index = index;
        self.move_name(index, &name);
        self.wake_services(&touched);
    }

    /// Writes a check: one that is the same moves the table's index, but no name's.
    fn put_check(&mut self, index: u64, node: &str, row: CheckRow) {
        let key = (node.to_owned(), row.check.id.clone());
        let old = self.checks.get(&key);
        let same = old.is_some_and(|old| old.row == row);
        let (create, modify) = match old {
            Some(old) if same => (old.create, old.modify),
            Some(old) => (old.create, index),
            None => (index, index),
        };
        let was = old.map(|old| old.row.check.status).filter(|status| *status != row.check.status);
        if !same {
            self.move_names_of(index, node, &row);
        }
        let left = was.map(|status| self.by_state.remove(&state_key(status, &key)));
        let entered = self.by_state.insert(&state_key(row.check.status, &key));
        let of = (node.to_owned(), row.service_id.clone());
        self.checks_by_service.entry(of).or_default().insert(key.1.clone());
        self.checks.insert(key, Stamped { row, create, modify });
        self.checks_index = index;
        self.wake_checks(left.iter().chain([&entered]));
    }

    fn take_check(&mut self, index: u64, key: &Key) {
        let Some(old) = self.checks.remove(key) else { return };
        if let Some(ids) = self.checks_by_service.get_mut(&(key.0.clone(), old.row.service_id.clone())) {
            ids.remove(&key.1);
        }
        self.move_names_of(index, &key.0, &old.row);
        self.checks_index = index;
        let left = self.by_state.remove(&state_key(old.row.check.status, key));
        self.wake_checks([&left]);
    }

    /// Moves the index of the check's service; for a check of the node, of all services on it.
    fn move_names_of(&mut self, index: u64, node: &str, check: &CheckRow) {
        if !check.service_id.is_empty() {
            self.move_name(index, &check.service_name);
            return;
        }
        let on_node = self.services.iter().filter(|(key, _)| key.0 == node);
        let names: BTreeSet<_> = on_node.map(|(_, service)| service.row.name.clone()).collect();
        for name in names {
            self.move_name(index, &name);
        }
    }

    fn move_name(&mut self, index: u64, name: &str) {
        self.name_index.insert(name.to_owned(), index);
        self.wakes.wake(|watch| matches!(watch, Watch::Name(n) if n == name));
    }

    fn forget_name(&mut self, name: &str, key: &Key) -> Touched {
        if let Some(keys) = self.names.get_mut(&name.to_lowercase()) {
            keys.remove(key);
            if keys.is_empty() {
                self.names.remove(&name.to_lowercase());
            }
        }
        self.by_name.remove(&tree_key(name, key))
    }

    fn wake_services(&mut self, touched: &Touched) {
        self.wakes.wake(|watch| match watch {
            Watch::Services => true,
            Watch::Tree(node) => touched.hits(node),
            _ => false,
        });
    }

    fn wake_checks<'a>(&mut self, touched: impl IntoIterator<Item = &'a Touched>) {
        let touched: Vec<_> = touched.into_iter().collect();
        self.wakes.wake(|watch| match watch {
            Watch::Checks => true,
            Watch::State(node) => touched.iter().any(|touched| touched.hits(node)),
            _ => false,
        });
    }

    fn checks_json(&self, key: &Key) -> Vec<Value> {
        let mut ids = self.checks_of(&key.0, "");
        ids.extend(self.checks_of(&key.0, &key.1));
        ids.iter().filter_map(|id| Some(check_json(&id.0, self.checks.get(id)?))).collect()
    }

    fn health_entry(&self, key: &Key) -> Option<Entry> {
        let service = self.services.get(key)?;
        let (node, checks) = (node_json(&key.0, self.nodes.get(&key.0)?, "Meta"), self.checks_json(key));
        let passing = checks.iter().all(|check| check["Status"] == Status::Passing.as_str());
        let json = json!({"Node": node, "Service": service_json(service), "Checks": checks});
        Some(Entry { name: service.row.name.clone(), tags: service.row.tags.clone(), passing, json })
    }

    fn catalog_entry(&self, key: &Key) -> Option<Entry> {
        let service = self.services.get(key)?;
        let json = flat_json(&key.0, self.nodes.get(&key.0)?, service);
        Some(Entry { name: service.row.name.clone(), tags: service.row.tags.clone(), passing: true, json })
    }
}

/// One instance.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Name of the service as registered.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether every check passes, those of the node included (not worked out for the catalog).
    pub passing: bool,
    /// As sent.
    pub json: Value,
}

/// One check.
#[derive(Debug, Clone)]
pub struct CheckView {
    /// Name of its service; empty for a check of the node.
    pub service: String,
    /// As sent.
    pub json: Value,
}

fn tree_key(name: &str, key: &Key) -> Vec<u8> {
    format!("{}\0{}\0{}\0", name.to_lowercase(), key.0, key.1).into_bytes()
}

fn state_key(status: Status, key: &Key) -> Vec<u8> {
    format!("{}\0{}\0{}\0", status.as_str(), key.0, key.1).into_bytes()
}

#[cfg(test)]
mod tests;
