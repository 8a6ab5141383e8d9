//! What a catalog may do wrong while requests come: a living server loses none of them, and afterwards changes are followed again.

use super::super::support::eventually;
use super::super::support::proxy::Proxy;
use super::super::support::server::Server;
use super::super::support::traffic::Traffic;
use rust_lb::embedded::{Control, Fault};

const BIG: usize = 100 << 20;

/// One of the embedded catalogs.
struct Side {
    /// As in `/api/rawdata`.
    name: &'static str,
    control: fn(&Proxy) -> &Control,
    register: fn(&Proxy, &str, &Server),
    remove: fn(&Proxy, &str),
    /// What its watcher reads of a service that lives, and of all.
    reads: [&'static str; 3],
}

fn tags(name: &str) -> [String; 2] {
    ["traefik.enable=true".to_owned(), format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)")]
}

const SIDES: [Side; 2] = [
    Side {
        name: "consulcatalog",
        control: |proxy| proxy.catalog.embedded.consul().control(),
        register: |proxy, name, server| {
            let tags = tags(name);
            proxy.catalog.register(name, name, server.addr, &tags.each_ref().map(String::as_str));
        },
        remove: |proxy, name| proxy.catalog.deregister(name),
        reads: ["/v1/catalog/services", "/v1/health/service/lives", "/v1/catalog/nodes"],
    },
    Side {
        name: "nomad",
        control: |proxy| proxy.catalog.embedded.nomad().control(),
        register: |proxy, name, server| {
            let tags = tags(name);
            proxy.catalog.register_nomad(name, name, server.addr, &tags.each_ref().map(String::as_str));
        },
        remove: |proxy, name| proxy.catalog.deregister_nomad(name, name),
        reads: ["/v1/services", "/v1/service/lives", "/v1/event/stream"],
    },
];

impl Side {
    /// Does something bad under traffic, then sees that a registration and its removal are followed.
    fn suffers(&self, proxy: &Proxy, traffic: &Traffic, what: &str, bad: impl FnOnce(&Control)) {
        bad((self.control)(proxy));
        traffic.pass(50);
        let server = Server::start(what);
        (self.register)(proxy, what, &server);
        let host = format!("{what}.test");
        proxy.wait_for(&host, "/", 200);
        (self.remove)(proxy, what);
        // What vanishes together with an index that went back is held, as if the state had been wiped.
        eventually(&format!("the removal of {what} is seen"), || {
            let held = || proxy.admin("/api/rawdata").json()["providers"][self.name]["held"].to_string().contains(what);
            (proxy.get(&host, "/").status == 404 || what.starts_with("backwards") && held()).then_some(())
        });
        traffic.pass(50);
    }
}

#[test]
fn whatever_a_catalog_answers_loses_no_request() {
    for side in &SIDES {
        let proxy = Proxy::start(&["--rustLb.linger.for=0s"]);
        let lives = Server::start("lives");
        (side.register)(&proxy, "lives", &lives);
        proxy.wait_for("lives.test", "/", 200);
        let traffic = Traffic::start(proxy.web(), "lives.test");
        let faults = [
            ("truncated", Fault::Truncated),
            ("html", Fault::Html),
            ("backwards", Fault::Index(1)),
            ("garbage", Fault::Garbage),
            ("closed", Fault::Close),
            ("empty", Fault::Body("[]".to_owned())),
            ("other", Fault::Body("{\"a\":[{".to_owned())),
            ("failing", Fault::Status(500, "No cluster leader".to_owned())),
            ("forbidden", Fault::Status(403, "Permission denied".to_owned())),
            ("busy", Fault::Status(429, "Too Many Requests".to_owned())),
            ("huge", Fault::Huge(BIG)),
        ];
        for (what, fault) in faults {
            // What is waited on already is answered well; then twice the fault.
            side.suffers(&proxy, &traffic, &format!("{what}-{}", side.name), |control| {
                for path in side.reads {
                    control.spoil(path, fault.clone());
                    control.spoil(path, fault.clone());
                }
            });
        }
        traffic.finish();
    }
}

#[test]
fn a_catalog_that_hangs_half_open_loses_no_request() {
    for side in &SIDES {
        let proxy = Proxy::start(&["--rustLb.linger.for=0s"]);
        let lives = Server::start("lives");
        (side.register)(&proxy, "lives", &lives);
        proxy.wait_for("lives.test", "/", 200);
        let traffic = Traffic::start(proxy.web(), "lives.test");
        (side.control)(&proxy).freeze(true);
        traffic.pass(300);
        (side.control)(&proxy).freeze(false);
        side.suffers(&proxy, &traffic, "thawed", |_| {});
        traffic.finish();
    }
}

/// What `/api/rawdata` says of a provider.
fn provider(proxy: &Proxy, side: &Side) -> serde_json::Value {
    proxy.admin("/api/rawdata").json()["providers"][side.name].clone()
}

#[test]
fn connections_lost_without_a_word_are_noticed_long_before_their_wait_is_over() {
    for side in &SIDES {
        let proxy = Proxy::start(&["--rustLb.linger.for=0s"]);
        let lives = Server::start("lives");
        (side.register)(&proxy, "lives", &lives);
        proxy.wait_for("lives.test", "/", 200);
        let traffic = Traffic::start(proxy.web(), "lives.test");
        eventually("it waits for changes", || ((side.control)(&proxy).stats().blocked > 0).then_some(()));
        side.suffers(&proxy, &traffic, "stranded", |control| control.strand());
        traffic.finish();
    }
}

#[test]
fn a_catalog_that_is_cut_off_ages_and_is_followed_again_when_it_is_back() {
    for side in &SIDES {
        let proxy = Proxy::start(&["--rustLb.linger.for=0s"]);
        let lives = Server::start("lives");
        (side.register)(&proxy, "lives", &lives);
        proxy.wait_for("lives.test", "/", 200);
        let traffic = Traffic::start(proxy.web(), "lives.test");
        (side.control)(&proxy).partition(true);
        eventually("its silence is shown", || (provider(&proxy, side)["state"] == "retrying").then_some(()));
        let age = |told: &serde_json::Value| told["age"].as_f64().expect("an age");
        let before = age(&provider(&proxy, side));
        eventually("what is known ages", || (age(&provider(&proxy, side)) > before).then_some(()));
        let health = proxy.admin("/health").json();
        let told = health["providers"].as_array().and_then(|all| all.iter().find(|p| p["provider"] == side.name));
        assert!(age(told.expect("the provider")) >= before, "{health}");
        let metric = format!("rust_lb_provider_last_contact_seconds{{provider=\"{}\"}}", side.name);
        assert!(proxy.admin("/metrics").text().contains(&metric));
        traffic.pass(50);
        side.suffers(&proxy, &traffic, "joined", |control| control.partition(false));
        eventually("it is young again", || (provider(&proxy, side)["state"] == "connected").then_some(()));
        traffic.finish();
    }
}

#[test]
fn a_slow_catalog_is_not_taken_for_a_lost_one() {
    for side in &SIDES {
        let proxy = Proxy::start(&["--rustLb.linger.for=0s"]);
        let lives = Server::start("lives");
        (side.register)(&proxy, "lives", &lives);
        proxy.wait_for("lives.test", "/", 200);
        let traffic = Traffic::start(proxy.web(), "lives.test");
        let control = (side.control)(&proxy);
        control.slow(std::time::Duration::from_millis(1800));
        let asked = |control: &Control| control.stats().requests_to("/v1/status/leader");
        let before = asked(control);
        eventually("the slow answers came", || (asked(control) >= before + 4).then_some(()));
        assert_eq!(provider(&proxy, side)["state"], "connected");
        side.suffers(&proxy, &traffic, "slow", |_| {});
        traffic.finish();
    }
}

#[test]
fn a_catalog_that_returns_is_asked_for_each_name_once() {
    const SERVICES: usize = 150;
    let proxy = Proxy::start(&["--rustLb.linger.for=0s", "--providers.consulCatalog.watchConnections=160"]);
    let server = Server::start("all");
    for i in 0..SERVICES {
        let name = format!("s{i}");
        proxy
            .catalog
            .embedded
            .consul()
            .register(rust_lb::embedded::Definition::new(&name, server.addr).tags(tags(&name)));
    }
    let control = proxy.catalog.embedded.consul().control();
    let watched =
        || eventually("every name is watched", || (control.stats().blocked > SERVICES).then(|| control.stats()));
    watched();
    proxy.catalog.stop();
    eventually("the outage is shown", || (provider(&proxy, &SIDES[0])["state"] == "retrying").then_some(()));
    let before = control.stats();
    proxy.catalog.resume();
    let after = watched();
    let requests = |stats: &rust_lb::embedded::Stats| stats.requests.values().sum::<u64>();
    let asked = requests(&after) - requests(&before);
    // Each is read once, and then waited on; beside that the list, and whether it is there.
    assert!(asked <= 2 * SERVICES as u64 + 20, "{asked} requests");
    let opened = after.accepted - before.accepted;
    assert!(opened <= SERVICES as u64 + 20, "{opened} connections");
}
