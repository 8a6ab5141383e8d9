//! Nomad's native services: one table with one index for all of it, and the events of its writes.
//!
//! What holds, as measured at Nomad 2.0: the index of every answer is that of the whole table; a
//! registration equal to what is there moves nothing; one write is one raft index and one line on
//! the event streams, however many registrations it carries; removals are one write each.

use super::Read;
use super::radix::{Radix, Touched};
pub use super::registration::{DEFAULT_NAMESPACE, NODE_ID, Registration};
use super::wake::Wakes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Raft entries that the event buffer holds (`event_buffer_size`).
pub const EVENT_BUFFER: usize = 100;

/// How an event calls a change (`Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// Put.
    ServiceRegistration,
    /// Removed by the client or through the API.
    ServiceDeregistration,
    /// Removed because its node was lost.
    PlanResult,
}

impl EventType {
    /// As sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceRegistration => "ServiceRegistration",
            Self::ServiceDeregistration => "ServiceDeregistration",
            Self::PlanResult => "PlanResult",
        }
    }
}

/// One raft entry as the event streams see it; without events where it changed no service.
#[derive(Debug)]
pub struct Events {
    /// Raft index.
    pub index: u64,
    /// Its events on the topic Service.
    pub services: Vec<(EventType, Registration)>,
}

/// What an event stream is given to send.
#[derive(Debug, Clone)]
pub enum StreamItem {
    /// A raft entry.
    Entry(Arc<Events>),
    /// A line as it is, for tests of readers.
    Raw(String),
}

/// What a blocked query watches.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Watch {
    /// A node in the tree of namespace and id.
    Id(Vec<u8>),
    /// A node in the tree of namespace and name.
    Name(Vec<u8>),
    Namespaces,
}

/// Services of one namespace, as listed: name and the union of its instances' tags.
pub type Listing = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Nomad's state.
#[derive(Debug)]
pub struct NomadStore {
    raft: u64,
    table: u64,
    /// By namespace and id.
    rows: BTreeMap<(String, String), Registration>,
    /// Ids by namespace and name.
    names: BTreeMap<(String, String), BTreeSet<String>>,
    namespaces: BTreeMap<String, u64>,
    namespaces_index: u64,
    by_id: Radix,
    by_name: Radix,
    wakes: Wakes<Watch>,
    ring: VecDeque<Arc<Events>>,
    streams: Vec<UnboundedSender<StreamItem>>,
    gap: bool,
    /// Of clients, not of servers: no index moves with them. By allocation, then service and name.
    checks: BTreeMap<String, BTreeMap<(String, String), AllocationCheck>>,
}

/// How a check stands that a client runs for an allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocationCheck {
    /// `pending`, `failure` or `success`.
    pub status: &'static str,
    /// What an HTTP server answered.
    pub status_code: Option<u16>,
    /// What came of it.
    pub output: String,
}

impl AllocationCheck {
    /// It has not run yet.
    pub fn pending() -> Self {
        Self { status: "pending", status_code: None, output: "nomad: waiting to run".to_owned() }
    }

    /// A check over TCP that passed.
    pub fn success() -> Self {
        Self { status: "success", status_code: None, output: "nomad: tcp ok".to_owned() }
    }

    /// A check over HTTP that failed with this status.
    pub fn failure(status_code: u16) -> Self {
        Self { status: "failure", status_code: Some(status_code), output: "<h1>Error response</h1>".to_owned() }
    }
}

impl Default for NomadStore {
    fn default() -> Self {
        Self {
            raft: 1,
            table: 1,
            rows: BTreeMap::new(),
            names: BTreeMap::new(),
            namespaces: BTreeMap::from([(DEFAULT_NAMESPACE.to_owned(), 1)]),
            namespaces_index: 1,
            by_id: Radix::default(),
            by_name: Radix::default(),
            wakes: Wakes::default(),
            ring: VecDeque::new(),
            streams: Vec::new(),
            gap: false,
            checks: BTreeMap::new(),
        }
    }
}

impl NomadStore {
    /// Registers all of them in one raft write; namespaces that do not exist are made before, each
    /// in a write of its own. Gives the raft index.
    pub fn register(&mut self, registrations: impl IntoIterator<Item = Registration>) -> u64 {
        let registrations: Vec<_> = registrations.into_iter().map(Registration::completed).collect();
        for registration in &registrations {
            self.add_namespace(&registration.namespace);
        }
        let index = self.next_index();
        let mut events = Vec::new();
        for registration in registrations {
            if let Some(put) = self.put(index, registration) {
                events.push((EventType::ServiceRegistration, put));
            }
        }
        self.publish(index, events);
        index
    }

    /// Removes one registration; `None` when there is no such id.
    pub fn deregister(&mut self, namespace: &str, id: &str) -> Option<u64> {
        let key = (namespace.to_owned(), id.to_owned());
        self.rows.contains_key(&key).then(|| {
            let index = self.next_index();
            let gone = self.take(index, &key);
            self.publish(index, gone.into_iter().map(|row| (EventType::ServiceDeregistration, row)).collect());
            index
        })
    }

    /// Removes every registration of a node in one write, with events of type `PlanResult`, as the
    /// servers do for a node they hear nothing of.
    pub fn lose_node(&mut self, node_id: &str) -> u64 {
        let index = self.next_index();
        let keys: Vec<_> = self.rows.iter().filter(|(_, row)| row.node_id == node_id).map(|(k, _)| k.clone()).collect();
        let gone: Vec<_> = keys.iter().filter_map(|key| self.take(index, key)).collect();
        self.publish(index, gone.into_iter().map(|row| (EventType::PlanResult, row)).collect());
        index
    }

    /// Makes a namespace, unless it is there; gives the raft index.
    pub fn add_namespace(&mut self, name: &str) -> u64 {
        if !self.namespaces.contains_key(name) {
            let index = self.next_index();
            self.namespaces.insert(name.to_owned(), index);
            self.namespaces_index = index;
            self.wakes.wake(|watch| *watch == Watch::Namespaces);
            self.publish(index, Vec::new());
        }
        self.raft
    }

    /// Raft writes that concern no service: jobs, evaluations, allocations. They fill the event
    /// buffer and move no service index.
    pub fn other_writes(&mut self, n: usize) {
        for _ in 0..n {
            let index = self.next_index();
            self.publish(index, Vec::new());
        }
    }

    /// While on, changes reach no event stream and no buffer: a gap without a mark.
    pub fn lose_events(&mut self, on: bool) {
        self.gap = on;
    }

    /// Sets how a check of a service stands in an allocation; no event tells of it.
    pub fn set_check(&mut self, allocation: &str, service: &str, name: &str, check: AllocationCheck) {
        let checks = self.checks.entry(allocation.to_owned()).or_default();
        checks.insert((service.to_owned(), name.to_owned()), check);
    }

    /// The namespace and the job of an allocation that has a service; `None` for any other.
    pub fn allocation(&self, id: &str) -> Option<(&str, &str)> {
        let row = self.rows.values().find(|row| row.alloc_id == id)?;
        Some((&row.namespace, &row.job_id))
    }

    /// The checks of an allocation, by service and name.
    pub fn checks(&self, allocation: &str) -> impl Iterator<Item = (&(String, String), &AllocationCheck)> {
        self.checks.get(allocation).into_iter().flatten()
    }

    /// Starts over, as an agent whose data directory was removed.
    pub fn wipe(&mut self) {
        *self = Self::default();
    }

    /// The names of a namespace and their tags, or of all these namespaces.
    pub fn services(&mut self, namespaces: Namespaces<'_>) -> Read<Listing> {
        let mut value = Listing::new();
        for row in self.rows.values().filter(|row| namespaces.has(&row.namespace)) {
            let names = value.entry(row.namespace.clone()).or_default();
            names.entry(row.service_name.clone()).or_default().extend(row.tags.iter().cloned());
        }
        let node = match namespaces {
            Namespaces::One(name) => self.by_id.watched(format!("{name}\0").as_bytes()),
            Namespaces::Of(_) => Vec::new(),
        };
        Read { index: self.table, value, changed: self.wakes.watch(Watch::Id(node)) }
    }

    /// The instances of one name, by id.
    pub fn service(&mut self, namespace: &str, name: &str) -> Read<Vec<Registration>> {
        let ids = self.names.get(&(namespace.to_owned(), name.to_owned())).into_iter().flatten();
        let value = ids.filter_map(|id| self.rows.get(&(namespace.to_owned(), id.clone()))).cloned().collect();
        let node = self.by_name.watched(format!("{namespace}\0{name}\0").as_bytes());
        Read { index: self.table, value, changed: self.wakes.watch(Watch::Name(node)) }
    }

    /// All namespaces with the raft index at which each was made.
    pub fn namespaces(&mut self) -> Read<Vec<(String, u64)>> {
        let value = self.namespaces.iter().map(|(name, index)| (name.clone(), *index)).collect();
        Read { index: self.namespaces_index, value, changed: self.wakes.watch(Watch::Namespaces) }
    }

    /// Opens an event stream: first what the buffer holds from this index on (the index included;
    /// all of it without one), then what comes.
    pub fn subscribe(&mut self, from: u64) -> UnboundedReceiver<StreamItem> {
        let (sender, receiver) = unbounded_channel();
        for entry in self.ring.iter().filter(|entry| entry.index >= from) {
            let _ = sender.send(StreamItem::Entry(entry.clone())); // the receiver is right here
        }
        self.streams.push(sender);
        receiver
    }

    /// Ends every event stream.
    pub fn end_streams(&mut self) {
        self.streams.clear();
    }

    /// Sends a line to every event stream that no server would send.
    pub fn raw_line(&mut self, line: &str) {
        self.streams.retain(|stream| stream.send(StreamItem::Raw(line.to_owned())).is_ok());
    }

    fn next_index(&mut self) -> u64 {
        self.raft += 1;
        self.raft
    }

    fn put(&mut self, index: u64, mut row: Registration) -> Option<Registration> {
        let key = (row.namespace.clone(), row.id.clone());
        row.modify_index = index;
        row.create_index = index;
        if let Some(old) = self.rows.get(&key) {
            if old.same_as(&row) {
                return None;
            }
            row.create_index = old.create_index;
            if old.service_name != row.service_name {
                let old = old.clone();
                let touched = self.by_name.remove(&name_key(&old));
                self.forget_name(&old);
                self.wake(None, &touched);
            }
        }
        let name = (row.namespace.clone(), row.service_name.clone());
        self.names.entry(name).or_default().insert(row.id.clone());
        let (by_id, by_name) = (self.by_id.insert(&id_key(&row)), self.by_name.insert(&name_key(&row)));
        self.table = index;
        self.rows.insert(key, row.clone());
        self.wake(Some(&by_id), &by_name);
        Some(row)
    }

    fn take(&mut self, index: u64, key: &(String, String)) -> Option<Registration> {
        let row = self.rows.remove(key)?;
        self.forget_name(&row);
        let (by_id, by_name) = (self.by_id.remove(&id_key(&row)), self.by_name.remove(&name_key(&row)));
        self.table = index;
        self.wake(Some(&by_id), &by_name);
        Some(row)
    }

    fn forget_name(&mut self, row: &Registration) {
        let name = (row.namespace.clone(), row.service_name.clone());
        if let Some(ids) = self.names.get_mut(&name) {
            ids.remove(&row.id);
            if ids.is_empty() {
                self.names.remove(&name);
            }
        }
    }

    fn wake(&mut self, by_id: Option<&Touched>, by_name: &Touched) {
        self.wakes.wake(|watch| match watch {
            Watch::Id(node) => by_id.is_some_and(|touched| touched.hits(node)),
            Watch::Name(node) => by_name.hits(node),
            Watch::Namespaces => false,
        });
    }

    fn publish(&mut self, index: u64, services: Vec<(EventType, Registration)>) {
        if self.gap {
            return;
        }
        let entry = Arc::new(Events { index, services });
        self.ring.push_back(entry.clone());
        if self.ring.len() > EVENT_BUFFER {
            self.ring.pop_front();
        }
        self.streams.retain(|stream| stream.send(StreamItem::Entry(entry.clone())).is_ok());
    }
}

/// Which namespaces a listing is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Namespaces<'a> {
    /// One by name.
    One(&'a str),
    /// `*`: all of these.
    Of(&'a BTreeSet<String>),
}

impl Namespaces<'_> {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::One(one) => *one == name,
            Self::Of(many) => many.contains(name),
        }
    }
}

fn id_key(row: &Registration) -> Vec<u8> {
    format!("{}\0{}\0", row.namespace, row.id).into_bytes()
}

fn name_key(row: &Registration) -> Vec<u8> {
    format!("{ns}\0{}\0{ns}\0{}\0", row.service_name, row.id, ns = row.namespace).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn row(name: &str, id: &str) -> Registration {
        Registration { service_name: name.into(), id: id.into(), port: 1, ..Registration::default() }
    }

    /// Fifty names with two instances each, as in `wakeups-50-services`.
    fn fifty() -> NomadStore {
        let mut store = NomadStore::default();
        for group in ["a", "b"] {
            store.register((0..50).map(|n| row(&format!("s{n:02}"), &format!("{group}-s{n:02}"))));
        }
        store
    }

    fn all() -> BTreeSet<String> {
        BTreeSet::from(["default".to_owned()])
    }

    /// Which of: list, list of all, names (how many), absent name.
    fn woken(store: &mut NomadStore, change: impl FnOnce(&mut NomadStore)) -> (bool, bool, usize, bool) {
        let list = store.services(Namespaces::One("default")).changed;
        let every = store.services(Namespaces::Of(&all())).changed;
        let names: Vec<_> = (0..50).map(|n| store.service("default", &format!("s{n:02}")).changed).collect();
        let absent = store.service("default", "absent").changed;
        change(store);
        let names = names.into_iter().map(FutureExt::now_or_never).filter(Option::is_some).count();
        (list.now_or_never().is_some(), every.now_or_never().is_some(), names, absent.now_or_never().is_some())
    }

    #[test]
    fn wakes_as_measured_with_fifty_services() {
        let mut store = fifty();
        let put = |row: Registration| {
            move |s: &mut NomadStore| {
                s.register([row]);
            }
        };
        let tags = row("s07", "a-s07").tags(["new"]);
        assert_eq!(woken(&mut store, put(tags.clone())), (true, true, 1, true), "tags of one instance");
        assert_eq!(woken(&mut store, put(tags)), (false, false, 0, false), "no-op");
        let address = Registration { address: "127.0.0.2".into(), ..row("s08", "a-s08") };
        assert_eq!(woken(&mut store, put(address)), (true, true, 1, true), "address of one instance");
        let gone = |s: &mut NomadStore| assert!(s.deregister("default", "a-s20").is_some());
        assert_eq!(woken(&mut store, gone), (true, true, 1, true), "one instance gone");
        assert_eq!(woken(&mut store, put(row("s99", "a-s99"))), (true, true, 0, true), "a new name");
        assert_eq!(woken(&mut store, put(row("zzz", "zzz"))), (true, true, 0, true), "an unrelated name");
        assert_eq!(woken(&mut store, |s| s.other_writes(3)), (false, false, 0, false), "a job without services");
        let scaled = |s: &mut NomadStore| {
            s.register((0..50).map(|n| row(&format!("s{n:02}"), &format!("c-{n}"))));
        };
        assert_eq!(woken(&mut store, scaled), (true, true, 50, true), "50 registrations in one write");
    }

    #[test]
    fn index_is_that_of_the_table_and_create_index_stays() {
        let mut store = NomadStore::default();
        assert_eq!(store.services(Namespaces::One("default")).index, 1);
        let first = store.register([row("web", "1")]);
        store.other_writes(5);
        assert_eq!(store.service("default", "absent").index, first);
        let second = store.register([row("web", "1").tags(["t"])]);
        let read = store.service("default", "web");
        assert_eq!((read.index, read.value[0].create_index, read.value[0].modify_index), (second, first, second));
        assert_eq!(store.deregister("default", "nosuch"), None);
    }

    #[test]
    fn ring_holds_a_hundred_entries_and_replays_the_index_asked_for() {
        let mut store = NomadStore::default();
        let first = store.register([row("web", "1")]);
        let drain = |mut r: UnboundedReceiver<StreamItem>| {
            let items = std::iter::from_fn(move || r.try_recv().ok());
            items
                .filter_map(|item| if let StreamItem::Entry(e) = item { Some(e.index) } else { None })
                .collect::<Vec<_>>()
        };
        assert_eq!(drain(store.subscribe(first)), [first], "the index itself is replayed");
        assert_eq!(drain(store.subscribe(first + 1)), [0; 0]);
        store.other_writes(100);
        let held = drain(store.subscribe(first));
        assert_eq!((held.len(), held[0]), (100, first + 1), "the oldest went, and nothing says so");
        assert_eq!(drain(store.subscribe(0)).len(), 100);
    }

    #[test]
    fn a_lost_node_goes_in_one_entry_of_type_plan_result() {
        let mut store = NomadStore::default();
        let on = |name: &str, node: &str| Registration { node_id: node.into(), ..row(name, name) };
        store.register([on("a", "n1"), on("b", "n1"), on("c", "n2")]);
        let mut events = store.subscribe(u64::MAX);
        store.lose_node("n1");
        let Ok(StreamItem::Entry(entry)) = events.try_recv() else { panic!("no entry") };
        let names: Vec<_> = entry.services.iter().map(|(t, r)| (t.as_str(), r.service_name.as_str())).collect();
        assert_eq!(names, [("PlanResult", "a"), ("PlanResult", "b")]);
        assert_eq!(store.services(Namespaces::One("default")).value["default"].len(), 1);
    }

    #[test]
    fn fills_in_what_a_short_registration_leaves_out() {
        let mut store = NomadStore::default();
        let short: Registration = serde_json::from_str(r#"{"ServiceName":"web","Port":80}"#).unwrap();
        store.register([short.clone()]);
        store.register([short]);
        let rows = store.service("default", "web").value;
        assert_eq!(rows.len(), 1, "the same registration has the same id");
        assert_eq!(
            (rows[0].address.as_str(), rows[0].namespace.as_str(), rows[0].job_id.as_str()),
            ("127.0.0.1", "default", "web")
        );
        assert!(rows[0].id.starts_with("_nomad-task-"), "{}", rows[0].id);
    }
}
