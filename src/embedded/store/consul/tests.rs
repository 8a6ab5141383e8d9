//! The table of wake-ups measured at Consul 1.8.7 (`wakeups-50-services`), and what the state
//! store's own rules add to it.

use super::*;
use futures_util::FutureExt;

fn service(name: &str, id: &str) -> ServiceEntry {
    ServiceEntry {
        id: id.into(),
        name: name.into(),
        tags: Vec::new(),
        address: String::new(),
        port: 1,
        meta: Value::Null,
        weights: (1, 1),
        enable_tag_override: false,
    }
}

fn check(id: &str) -> CheckEntry {
    CheckEntry {
        id: format!("service:{id}"),
        name: "check".into(),
        status: Status::Passing,
        notes: String::new(),
        output: String::new(),
        kind: "ttl".into(),
    }
}

fn put(store: &mut ConsulStore, name: &str, id: &str, edit: impl FnOnce(&mut ServiceEntry)) {
    let mut entry = service(name, id);
    edit(&mut entry);
    store.register(LOCAL_NODE, entry, vec![check(id)]);
}

fn fifty() -> ConsulStore {
    let mut store = ConsulStore::default();
    // A check that fails, as there was one: without any, `state/critical` watches more than its own.
    store.register(
        LOCAL_NODE,
        service("failed", "failed"),
        vec![CheckEntry { status: Status::Critical, ..check("failed") }],
    );
    for n in 0..50 {
        for i in 1..=2 {
            put(&mut store, &format!("s{n:02}"), &format!("s{n:02}-{i}"), |_| {});
        }
    }
    store
}

/// Who returns: catalog/services, health/service (of 50), state/any, state/critical,
/// catalog/service (of 50), health/service of an absent name.
type Woken = (bool, usize, bool, bool, usize, bool);

fn woken(store: &mut ConsulStore, change: impl FnOnce(&mut ConsulStore)) -> Woken {
    type Again = Box<dyn Fn(&mut ConsulStore) -> u64>;
    let names = || (0..50).map(|n| format!("s{n:02}"));
    let mut queries: Vec<(usize, Again)> = vec![
        (0, Box::new(|s| s.services().index)),
        (2, Box::new(|s| s.health_state("any").index)),
        (3, Box::new(|s| s.health_state("critical").index)),
        (5, Box::new(|s| s.health_service("absent").index)),
    ];
    queries.extend(names().map(|n| (1, Box::new(move |s: &mut ConsulStore| s.health_service(&n).index) as Again)));
    queries.extend(names().map(|n| (4, Box::new(move |s: &mut ConsulStore| s.catalog_service(&n).index) as Again)));
    let changed = |store: &mut ConsulStore, kind: usize, n: usize| {
        let name = format!("s{n:02}");
        match kind {
            0 => store.services().changed,
            1 => store.health_service(&name).changed,
            2 => store.health_state("any").changed,
            3 => store.health_state("critical").changed,
            4 => store.catalog_service(&name).changed,
            _ => store.health_service("absent").changed,
        }
    };
    let mut counted = [0usize; 6];
    let mut nth = [0usize; 6];
    let blocked: Vec<_> = queries
        .iter()
        .map(|(kind, again)| {
            let n = nth[*kind];
            nth[*kind] += 1;
            (*kind, again(store), changed(store, *kind, n))
        })
        .collect();
    change(store);
    for ((kind, index, changed), (_, again)) in blocked.into_iter().zip(&queries) {
        // As the server does it: woken, run again, and returned only when the index is beyond.
        if changed.now_or_never().is_some() && again(store) > index {
            counted[kind] += 1;
        }
    }
    let [services, health, any, critical, catalog, absent] = counted;
    (services > 0, health, any > 0, critical > 0, catalog, absent > 0)
}

#[test]
fn wakes_as_measured_with_fifty_services() {
    let s = &mut fifty();
    let on = |id: &str| format!("service:{id}");
    let another = woken(s, |s| put(s, "s00", "s00-3", |_| {}));
    assert_eq!(another, (true, 1, true, false, 1, true), "another instance");
    let identical = woken(s, |s| put(s, "s00", "s00-3", |_| {}));
    assert_eq!(identical, (false, 0, true, false, 0, false), "identical re-registration");
    let tags = woken(s, |s| put(s, "s01", "s01-1", |e| e.tags.push("new".into())));
    assert_eq!(tags, (true, 1, true, false, 1, true), "tags of one instance");
    let port = woken(s, |s| put(s, "s02", "s02-1", |e| e.port = 2));
    assert_eq!(port, (true, 1, true, false, 1, true), "port");
    let meta = woken(s, |s| put(s, "s02", "s02-2", |e| e.meta = json!({"a": "b"})));
    assert_eq!(meta, (true, 1, true, false, 1, true), "meta");
    let fail = woken(s, |s| assert!(s.set_check(LOCAL_NODE, &on("s03-1"), Status::Critical, "down")));
    assert_eq!(fail, (false, 1, true, true, 0, false), "passing to critical");
    let output = woken(s, |s| assert!(s.set_check(LOCAL_NODE, &on("s03-1"), Status::Critical, "still down")));
    assert_eq!(output, (false, 0, false, false, 0, false), "output alone");
    let warn = woken(s, |s| assert!(s.set_check(LOCAL_NODE, &on("s03-1"), Status::Warning, "")));
    assert_eq!(warn, (false, 1, true, true, 0, false), "critical to warning");
    let pass = woken(s, |s| assert!(s.set_check(LOCAL_NODE, &on("s03-1"), Status::Passing, "")));
    assert_eq!(pass, (false, 1, true, false, 0, false), "warning to passing");
    let one = woken(s, |s| assert!(s.deregister(LOCAL_NODE, "s04-1").is_some()));
    assert_eq!(one, (true, 1, true, false, 1, true), "one of two instances");
    let last = woken(s, |s| assert!(s.deregister(LOCAL_NODE, "s04-2").is_some()));
    assert_eq!(last, (true, 1, true, false, 1, true), "last instance");
    let new = woken(s, |s| put(s, "newsvc", "newsvc-1", |_| {}));
    assert_eq!(new, (true, 0, true, false, 0, false), "a new name, after an extinction");
    let bare = woken(s, |s| drop(s.register(LOCAL_NODE, service("bare", "bare"), vec![]).to_string()));
    assert_eq!(bare, (true, 0, false, false, 0, false), "a new name without a check");
    let maintenance = CheckEntry { id: "_node_maintenance".into(), status: Status::Critical, ..check("") };
    let node = woken(s, |s| assert!(s.add_check(LOCAL_NODE, None, maintenance)));
    assert_eq!(node, (false, 49, true, true, 0, false), "node maintenance on");
    let off = woken(s, |s| s.remove_check(LOCAL_NODE, "_node_maintenance"));
    assert_eq!(off, (false, 49, true, true, 0, false), "node maintenance off");
    assert_eq!(woken(s, ConsulStore::other_write), (false, 0, false, false, 0, false), "key-value write");
}

#[test]
fn an_absent_name_answers_with_the_last_extinction() {
    let mut store = ConsulStore::default();
    put(&mut store, "web", "1", |_| {});
    let tables = store.services().index;
    assert_eq!(store.health_service("absent").index, tables);
    let gone = store.deregister(LOCAL_NODE, "1").unwrap();
    put(&mut store, "other", "2", |_| {});
    assert_eq!(store.health_service("absent").index, gone);
    assert_eq!(store.health_service("web").index, gone);
    assert!(store.health_service("web").value.is_empty());
}

#[test]
fn a_check_keeps_its_state_when_its_service_is_registered_again() {
    let mut store = ConsulStore::default();
    put(&mut store, "web", "1", |_| {});
    store.set_check(LOCAL_NODE, "service:1", Status::Critical, "down");
    put(&mut store, "web", "1", |_| {});
    let check = store.check(LOCAL_NODE, "service:1").unwrap();
    assert_eq!((check.status, check.output.as_str()), (Status::Critical, "down"));
    store.register(LOCAL_NODE, service("web", "1"), vec![]);
    assert_eq!(store.check_ids(LOCAL_NODE, "1"), ["service:1"], "a check that is no longer named stays");
    store.deregister(LOCAL_NODE, "1");
    assert!(store.check(LOCAL_NODE, "service:1").is_none());
}

#[test]
fn passing_means_every_check_the_nodes_included() {
    let mut store = ConsulStore::default();
    put(&mut store, "web", "1", |_| {});
    put(&mut store, "web", "2", |_| {});
    let passing = |store: &mut ConsulStore| store.health_service("web").value.iter().filter(|e| e.passing).count();
    assert_eq!(passing(&mut store), 2);
    store.set_check(LOCAL_NODE, "service:1", Status::Warning, "");
    assert_eq!(passing(&mut store), 1);
    store.set_check(LOCAL_NODE, "serfHealth", Status::Critical, "");
    assert_eq!(passing(&mut store), 0);
}

#[test]
fn names_are_found_in_any_case() {
    let mut store = ConsulStore::default();
    put(&mut store, "Web", "1", |_| {});
    assert_eq!(store.health_service("wEB").value.len(), 1);
    assert!(store.services().value.contains_key("Web"));
}

#[test]
fn services_live_on_several_nodes() {
    let mut store = ConsulStore::default();
    store.add_node("far", "10.0.0.9");
    put(&mut store, "web", "1", |_| {});
    store.register("far", service("web", "1"), vec![check("1")]);
    let hosts: Vec<_> = store.health_service("web").value.iter().map(|e| e.json["Node"]["Address"].clone()).collect();
    assert_eq!(hosts, ["127.0.0.1", "10.0.0.9"]);
    store.set_check("far", "serfHealth", Status::Critical, "");
    assert_eq!(store.health_service("web").value.iter().filter(|e| e.passing).count(), 1);
}

#[test]
fn a_state_that_no_check_has_watches_its_neighbours() {
    let mut store = ConsulStore::default();
    let critical = store.health_state("critical").changed;
    put(&mut store, "web", "1", |_| {});
    assert!(critical.now_or_never().is_some());
    assert!(store.health_state("critical").value.is_empty());
    assert!(store.health_state("bogus").value.is_empty());
    assert_eq!(store.health_state("passing").value.len(), 2);
}
