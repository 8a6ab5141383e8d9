//! The chaos itself, and what has to hold all along and afterwards:
//!
//! - no request to a stable service fails, none of its streams breaks;
//! - no answer comes from another service or belongs to another request, and no POST is served twice;
//! - nothing panics, memory and descriptors stay bounded;
//! - when the faults have ended, the routes come to what the catalogs say.

use super::clients;
use super::faults::{Faults, Slot};
use super::motion::load::{Load, Plan};
use super::motion::stage::{Catalog, Kind, Origins, Proxy, thread};
use super::motion::streams::{self, Streams};
use super::motion::{say, until};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What came of it.
pub struct Outcome {
    pub seed: u64,
    /// What did not hold.
    pub broken: Vec<String>,
    pub numbers: Value,
}

/// Services of each sort and catalog, and servers of each.
const SERVICES: usize = 6;
const SERVERS: usize = 2;
/// The routes have to come to the truth within this time: what a question that is never answered is waited for, and then some.
const CONVERGE: Duration = Duration::from_secs(100);

/// Does everything wrong for so long.
pub fn run(seed: u64, length: Duration) -> Outcome {
    say(&format!("chaos: seed {seed}, {length:?}"));
    let mut rng = SmallRng::seed_from_u64(seed);
    let (catalog, origins) = (Catalog::start(), Origins::new());
    let slots = |sort: &str| -> Vec<(Kind, Slot)> {
        let kinds = [Kind::Nomad, Kind::Consul].into_iter();
        let services = kinds.flat_map(|kind| (0..SERVICES).map(move |i| (kind, format!("{sort}{}{i}", kind.name()))));
        let servers = services.flat_map(|(kind, service)| (0..SERVERS).map(move |n| (kind, service.clone(), n)));
        servers.map(|(kind, service, n)| (kind, Slot::new(&service, n, &origins))).collect()
    };
    let (stable, wild) = (slots("stable"), slots("wild"));
    let names = |slots: &[(Kind, Slot)]| -> Arc<[Arc<str>]> {
        let names: BTreeSet<_> = slots.iter().map(|(_, slot)| slot.service.as_str()).collect();
        names.into_iter().map(Arc::from).collect()
    };
    let (stable_names, wild_names) = (names(&stable), names(&wild));
    let choices = SmallRng::seed_from_u64(rng.random());
    let mut faults = Faults::new(&catalog, &origins, choices, stable, wild, length / 2);
    faults.register_all(Kind::Nomad);
    faults.register_all(Kind::Consul);

    let log = tempfile::NamedTempFile::new().expect("a file");
    let flags = [
        format!("--providers.consulCatalog.endpoint.address=http://{}", catalog.addr(Kind::Consul)),
        "--providers.consulCatalog.exposedByDefault=false".to_owned(),
        "--rustLb.linger.for=2s".to_owned(),
        "--rustLb.linger.wait=1s".to_owned(),
        "--rustLb.resetHold=15s".to_owned(),
    ];
    let mut proxy = Proxy::start_logging(&catalog, Kind::Nomad, &flags, Some(log.path()));
    proxy.wait_for_routers(stable_names.len() + wild_names.len());
    faults.state_dir = proxy.state_dir();

    let client = thread("load");
    let plan = |services: &Arc<[Arc<str>]>, rate| Plan {
        web: proxy.web,
        services: services.clone(),
        connections: 20,
        rate,
        target: "/",
    };
    let counts = [(streams::Kind::WebSocket, 12), (streams::Kind::Events, 12), (streams::Kind::Download, 6)];
    let open = Streams::start(client.handle(), proxy.web, &stable_names, &counts);
    until(Duration::from_secs(30), || open.open() == 30).expect("every stream opens");
    let calm = Load::start(client.handle(), &plan(&stable_names, 150.0));
    let wild_load = Load::start(client.handle(), &plan(&wild_names, 100.0));
    std::thread::sleep(Duration::from_secs(2));
    let before = (proxy.rss(), proxy.descriptors());

    let bad_to: Vec<String> = wild_names.iter().chain(stable_names.iter()).map(ToString::to_string).collect();
    let bad: Vec<_> =
        (0..4).map(|_| client.spawn(clients::misbehave(proxy.web, bad_to.clone(), rng.random()))).collect();
    let begin = Instant::now();
    while begin.elapsed() < length {
        faults.step();
        std::thread::sleep(Duration::from_millis(rng.random_range(1..40)));
    }
    faults.heal();
    bad.iter().for_each(|client| client.abort());

    let converged = until(CONVERGE, || differing(&proxy, &faults, &wild_names).is_empty());
    let differing = differing(&proxy, &faults, &wild_names);
    let wild_tally = wild_load.take();
    // Calm again: whoever was ejected is back, and every request is answered.
    std::thread::sleep(Duration::from_secs(12));
    let mut after_wild = wild_load.finish();
    let after = (proxy.rss(), proxy.descriptors());
    let mut tally = calm.finish();
    let streams = open.take();
    drop(open);

    let said = std::fs::read_to_string(log.path()).unwrap_or_default();
    let defects: Vec<_> = said.lines().filter(|l| l.contains("panicked") || l.contains("defect")).take(5).collect();
    let (seen, mut wild_seen) = (tally.clone(), wild_tally);
    let mut broken = Vec::new();
    let mut hold = |holds: bool, what: String| {
        if !holds {
            broken.push(what);
        }
    };
    hold(seen.gets > 100, format!("only {} requests were made", seen.gets));
    hold(seen.failed() == 0, format!("{} requests to stable services failed: {:?}", seen.failed(), seen.reasons));
    hold(seen.closed == 0, format!("{} kept connections to stable services were closed", seen.closed));
    hold(streams.broken == 0, format!("{} streams of stable services broke: {:?}", streams.broken, streams.reasons));
    let wrong = seen.wrong + wild_seen.wrong + after_wild.wrong;
    hold(wrong == 0, format!("{wrong} answers from another service or to another request: {:?}", wild_seen.reasons));
    let unanswered = wild_seen.reasons.get("no answer in time").copied().unwrap_or_default();
    hold(unanswered == 0, format!("{unanswered} requests were never answered"));
    let twice = origins.ledger.twice();
    hold(twice == 0, format!("{twice} POSTs were served twice"));
    hold(proxy.is_alive(), "the proxy ended".to_owned());
    hold(defects.is_empty(), format!("it told of defects: {defects:?}"));
    hold(converged.is_some(), format!("the routes are not what the catalogs say after {CONVERGE:?}: {differing:?}"));
    hold(after.0 < before.0 * 1.5 + 40.0, format!("memory went from {:.1} to {:.1} MB", before.0, after.0));
    hold(after.1 < before.1 + 60, format!("descriptors went from {} to {}", before.1, after.1));
    let numbers = json!({
        "seed": seed, "secs": length.as_secs(), "stable": tally.json(), "wild": wild_seen.json(), "wild_afterwards": after_wild.json(),
        "streams": {"pieces": streams.pieces, "broken": streams.broken},
        "converged_s": converged.map(|time| time.as_secs_f64()), "rss_mb": [before.0, after.0],
        "descriptors": [before.1, after.1], "done": faults.done,
    });
    if !broken.is_empty()
        && let Some(kept) = std::env::var_os("RUST_LB_LOG_FILE")
    {
        drop(std::fs::copy(log.path(), kept));
    }
    Outcome { seed, broken, numbers }
}

/// The services whose servers are not those that are registered: which they have, and which they should.
fn differing(proxy: &Proxy, faults: &Faults<'_>, names: &[Arc<str>]) -> Vec<String> {
    let raw: Value = serde_json::from_str(&proxy.admin("/api/rawdata")).unwrap_or_default();
    let differs = |name: &Arc<str>| {
        let places = faults.registered.keys().map(|place| &faults.wild[*place]);
        let of = places.filter(|(_, slot)| slot.service == **name);
        let wanted: BTreeSet<String> = of.map(|(_, slot)| format!("http://{}", slot.addr)).collect();
        let kind = faults.wild.iter().find(|(_, slot)| slot.service == **name).map(|(kind, _)| kind.provider());
        let service = &raw["services"][format!("{name}@{}", kind.unwrap_or_default())];
        let servers = service["loadBalancer"]["servers"].as_array().into_iter().flatten();
        let has: BTreeSet<String> = servers.filter_map(|server| Some(server["url"].as_str()?.to_owned())).collect();
        (has != wanted).then(|| format!("{name}: {has:?} instead of {wanted:?}"))
    };
    names.iter().filter_map(differs).collect()
}
