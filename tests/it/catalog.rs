//! The watchers of Nomad and Consul against a scripted server: what they make of good answers, of
//! bad ones and of none.

mod consul;
mod nomad;
mod server;

use rust_lb::catalog::{Snapshot, Spawn, Timing};
use rust_lb::config::{CatalogCommon, ClientTls, LegacyMode, LegacyTags, Token};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const TAG: &str = "traefik.enable=true";

/// Short pauses and deadlines, so that failures come soon; long ones where a wait must not end.
fn timing() -> Timing {
    let ms = Duration::from_millis;
    let mut timing = Timing { backoff: (ms(5), ms(50)), lag: ms(200), ..Timing::default() };
    timing.waits.read = ms(1000);
    timing
}

/// As [`timing`], but failures in a row are soon paid for with an hour, unless nobody listens; and the pulse is fast.
fn harsh() -> Timing {
    let ms = Duration::from_millis;
    let hour = Duration::from_secs(3600);
    let mut timing = Timing { backoff: (ms(20), hour), reconnect: ms(5), pulse: ms(40), ..timing() };
    timing.waits.read = hour;
    timing
}

/// How long an agent is away: many refused connections, and some beats of [`harsh`]'s pulse.
const AWAY: Duration = Duration::from_millis(400);

fn spawn(timing: Timing) -> (Spawn, tokio_util::sync::DropGuard) {
    // Another test may have installed it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let shutdown = CancellationToken::new();
    let spawn = Spawn {
        routing: Arc::new(|tag| tag.starts_with("traefik.")),
        all: false,
        reset_hold: Duration::from_secs(600),
        before: None,
        shutdown: shutdown.clone(),
        timing,
    };
    (spawn, shutdown.drop_guard())
}

fn common(endpoint: &str, token: Token) -> CatalogCommon {
    CatalogCommon {
        endpoint: endpoint.to_owned(),
        tls: ClientTls::default(),
        token,
        stale: false,
        exposed_by_default: false,
        default_rule: String::new(),
        prefix: "traefik".into(),
        constraints: String::new(),
        legacy_tags: LegacyTags {
            mode: LegacyMode::Off,
            prefix: String::new(),
            dialects: Vec::new(),
            matcher: String::new(),
            glob_disabled: false,
            service_status: Vec::new(),
            all_checks: false,
        },
    }
}

/// Waits until a snapshot is as wanted; panics with the last one when it never is.
async fn until(snapshots: &mut watch::Receiver<Snapshot>, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let seen = snapshots.clone();
    let found = tokio::time::timeout(Duration::from_secs(20), snapshots.wait_for(wanted)).await;
    match found {
        Ok(found) => found.expect("the watcher ended").clone(),
        Err(_) => panic!("never as wanted: {:#?}", seen.borrow()),
    }
}

/// Names in the inventory, `namespace/name` where there is a namespace; `-` before the first read.
fn names(snapshot: &Snapshot) -> String {
    let Some(inventory) = &snapshot.inventory else { return "-".into() };
    let shown = inventory.services.keys().map(|key| match &*key.namespace {
        "" | "default" => key.name.to_string(),
        namespace => format!("{namespace}/{}", key.name),
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Ports of a service's instances.
fn ports(snapshot: &Snapshot, name: &str) -> Vec<u16> {
    let inventory = snapshot.inventory.iter();
    let services = inventory.flat_map(|i| i.services.values()).filter(|service| &*service.key.name == name);
    services.flat_map(|service| service.instances.iter().map(|i| i.port)).collect()
}
