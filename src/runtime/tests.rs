//! The control loop without a catalog: sources are channels that the test writes to.

use super::control::Control;
use super::keep::{Keeper, LastGood, Latest};
use super::source::{Source, Start};
use super::state::State;
use crate::catalog::{
    Forget, Handle, Health, Instance, Inventory, Service, ServiceKey, Snapshot, SourceState, SourceStatus, World,
};
use crate::model::Provider;
use crate::observe::metrics::{self, Metrics};
use crate::table::{BuildOptions, EntryPoint, Planner, Store};
use crate::tags::{Decoder, TagOptions};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

type Sender = watch::Sender<Snapshot>;

fn channel() -> (Sender, Handle) {
    let status = SourceStatus::starting(Provider::Nomad, "http://n");
    let (sender, snapshots) = watch::channel(Snapshot { inventory: None, status });
    (sender, Handle { snapshots, forget: Forget::default(), reports: None })
}

fn inventory(names: &[&str]) -> Arc<Inventory> {
    let service = |name: &&str| {
        let key = ServiceKey { namespace: "default".into(), name: (*name).into() };
        let tags =
            ["traefik.enable=true".into(), format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)").into()];
        let instance = Instance {
            id: "i".into(),
            node: "n".into(),
            address: "127.0.0.1".into(),
            node_address: "".into(),
            port: 80,
            tags: tags.to_vec(),
            health: Health::Unknown,
            datacenter: "dc1".into(),
            create_index: 1,
            job: "".into(),
            alloc: "".into(),
            checks: None,
        };
        (key.clone(), Arc::new(Service { key, instances: vec![instance] }))
    };
    Arc::new(Inventory { services: names.iter().map(service).collect() })
}

fn publish(sender: &Sender, names: &[&str], state: SourceState) {
    sender.send_modify(|snapshot| {
        snapshot.inventory = Some(inventory(names));
        snapshot.status.state = state;
        snapshot.status.last_change = Some(SystemTime::now());
    });
}

/// A loop over one source whose watcher is started with these handles, one after another.
fn control(handles: Vec<Handle>, keeper: Option<Keeper>) -> Control {
    let state = Arc::new(State::new(10, Vec::new()));
    let mut handles = VecDeque::from(handles);
    let start: Start = Box::new(move || Ok(handles.pop_front().expect("one more start")));
    let fresh = || {
        let options = [(Provider::Nomad, TagOptions::default())].into();
        let web = EntryPoint {
            name: "web".into(),
            tls: false,
            as_default: true,
            middlewares: Vec::new(),
            tls_options: Default::default(),
        };
        let build = BuildOptions {
            entry_points: vec![web],
            primary: Provider::Nomad,
            internal: crate::declare::Dynamic::default(),
        };
        (Decoder::new(options), Planner::new(build, Duration::ZERO))
    };
    let (decoder, planner) = fresh();
    Control {
        transports: crate::upstream::Settings::default().into(),
        prober: crate::upstream::Prober::new(Arc::default(), crate::upstream::Settings::default().into()),
        allocations: super::allocations::Allocations::new(Arc::default()),
        tls: Arc::new(tls()),
        sources: vec![Source::start(start, &state).unwrap()],
        direct: super::direct::Direct::default(),
        restored: World::default(),
        fresh: Box::new(fresh),
        decoder,
        planner,
        metrics: Arc::new(Metrics::new(metrics::Options::default())),
        keeper,
        confirm_every: Duration::from_secs(3600),
        kept: None,
        restored_indexes: std::collections::BTreeMap::new(),
        unread: None,
        applied: None,
        told: std::collections::BTreeMap::new(),
        state,
    }
}

fn routers(state: &State) -> Vec<String> {
    state.table.load().routers.keys().map(ToString::to_string).collect()
}

#[test]
fn a_defect_leaves_the_routes_is_told_and_ends_with_the_next_good_step() {
    let (sender, handle) = channel();
    let mut control = control(vec![handle], None);
    publish(&sender, &["a"], SourceState::Connected);
    control.guarded(Control::apply);
    assert_eq!(routers(&control.state), ["a@nomad"]);
    publish(&sender, &["a", "b"], SourceState::Connected);
    let again = control.guarded(|_| panic!("a defect on purpose"));
    assert!(again.is_some_and(|at| at > Instant::now()), "it is tried again by itself");
    assert!(control.state.control_failing.load(Relaxed));
    assert_eq!(routers(&control.state), ["a@nomad"]);
    control.guarded(Control::apply);
    assert!(!control.state.control_failing.load(Relaxed));
    assert_eq!(routers(&control.state), ["a@nomad", "b@nomad"]);
    assert_eq!(control.state.history().len(), 2, "starting from scratch is no change");
}

#[test]
fn what_was_restored_gets_its_services_and_their_age_without_a_change() {
    let (sender, handle) = channel();
    let mut first = control(vec![handle], None);
    publish(&sender, &["a"], SourceState::Connected);
    first.guarded(Control::apply);
    // on disk nothing is known of tags and services
    let kept = serde_json::to_string(&first.state.table.load().declarations()).unwrap();
    let (sender, handle) = channel();
    let mut control = control(vec![handle], None);
    let restored = control.planner.plan(serde_json::from_str(&kept).unwrap(), Instant::now());
    control.publish(restored.table, restored.diff);
    let source = |state: &State| state.table.load().routers["a@nomad"].declared.source.clone();
    assert_eq!(&*source(&control.state).service, "");
    let generation = *control.state.generation.borrow();
    publish(&sender, &["a"], SourceState::Connected);
    control.guarded(Control::apply);
    let now = source(&control.state);
    assert_eq!((&*now.service, now.create_index), ("a", 1));
    assert_eq!(control.state.history().len(), 1, "it routes alike");
    assert_eq!(*control.state.generation.borrow(), generation + 1, "workers take up the order");
}

#[tokio::test]
async fn a_watcher_that_ended_is_started_again_and_its_routes_stay() {
    let ((first, one), (second, two)) = (channel(), channel());
    let control = control(vec![one, two], None);
    let (state, stop) = (control.state.clone(), CancellationToken::new());
    let mut generation = state.generation.subscribe();
    tokio::task::LocalSet::new()
        .run_until(async {
            let running = tokio::task::spawn_local(control.run(None, stop.clone()));
            publish(&first, &["a"], SourceState::Connected);
            generation.changed().await.unwrap();
            drop(first);
            // The API reads it, too, once it was started.
            while second.receiver_count() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(routers(&state), ["a@nomad"], "what the first one knew stands in");
            publish(&second, &["b"], SourceState::Connected);
            generation.changed().await.unwrap();
            assert_eq!(routers(&state), ["b@nomad"]);
            stop.cancel();
            running.await.unwrap();
        })
        .await;
}

#[test]
fn an_answer_without_news_shows_in_the_status_all_the_same() {
    let (sender, handle) = channel();
    let mut control = control(vec![handle], None);
    publish(&sender, &["a"], SourceState::Connected);
    control.guarded(Control::apply);
    sender.send_if_modified(|snapshot| {
        snapshot.status.last_contact = Some(SystemTime::UNIX_EPOCH);
        snapshot.status.index = 7;
        false
    });
    let status = control.state.statuses().remove(0);
    assert_eq!((status.index, status.last_contact), (7, Some(SystemTime::UNIX_EPOCH)));
}

/// Runs a loop to its end and tells whether the end wrote the last good state anew.
fn written_at_the_end(state: SourceState) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::<LastGood>::new(dir.path(), "last-good.json");
    let keeper = Keeper::start(store.clone()).unwrap();
    let (sender, handle) = channel();
    let mut control = control(vec![handle], Some(keeper));
    publish(&sender, &["a"], SourceState::Connected);
    control.guarded(Control::apply);
    while std::fs::remove_file(store.path()).is_err() {
        std::thread::yield_now();
    }
    publish(&sender, &["a"], state);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    let keeper = runtime.block_on(control.run(None, stop)).expect("the keeper");
    keeper.finish(Duration::from_secs(30));
    match store.read(Duration::MAX, SystemTime::now()).unwrap() {
        Some(stored) => {
            assert_eq!(stored.value.world.sources[&Provider::Nomad], inventory(&["a"]));
            true
        }
        None => false,
    }
}

#[test]
fn the_end_confirms_what_is_kept_but_not_what_was_not_seen_lately() {
    assert!(written_at_the_end(SourceState::Connected));
    assert!(!written_at_the_end(SourceState::Retrying));
}

#[test]
fn what_came_from_disk_alone_is_not_made_younger() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::<LastGood>::new(dir.path(), "last-good.json");
    let (_sender, handle) = channel();
    let mut control = control(vec![handle], Some(Keeper::start(store.clone()).unwrap()));
    control.restored.sources.insert(Provider::Nomad, inventory(&["a"]));
    control.guarded(Control::apply);
    assert_eq!(routers(&control.state), ["a@nomad"]);
    assert!(control.kept.is_none());
    control.keeper.take().unwrap().finish(Duration::from_secs(30));
    assert!(!store.path().exists());
}

#[test]
fn what_could_not_be_written_is_tried_again_at_the_end_and_told_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::write(&state, "in the way").unwrap();
    let store = Store::<LastGood>::new(&state, "last-good.json");
    let keeper = Keeper::start(store.clone()).unwrap();
    let trouble = keeper.trouble();
    keeper.keep(Latest::default());
    while trouble.now().is_none() {
        std::thread::yield_now();
    }
    std::fs::remove_file(&state).unwrap();
    keeper.finish(Duration::from_secs(30));
    assert!(store.path().exists());
    assert!(trouble.now().is_none());
}

/// The built-in TLS options over an empty directory.
fn tls() -> super::tls::TlsConfigs {
    let dir = tempfile::tempdir().expect("a directory");
    let certificates = crate::certs::Store::open(&crate::certs::StoreOptions {
        directory: dir.path().join("CERTS"),
        local_root: dir.path().join("local"),
        ..Default::default()
    });
    let default = crate::certs::server_config(&certificates).expect("a configuration");
    super::tls::TlsConfigs::new(certificates, default)
}
