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
