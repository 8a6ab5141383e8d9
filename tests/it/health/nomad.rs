//! The checks of Nomad's allocations: who gets requests by them, and who does not depend on them.

use super::backend::{Backend, Says};
use super::{Rig, find};
use crate::support::eventually;
use crate::support::proxy::{Catalog, Proxy};
use rust_lb::embedded::{Acl, AllocationCheck, NomadToken, Registration};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;

const UP: &str = "UP";
const DOWN: &str = "DOWN";

impl Rig {
    /// Registers an instance of a service in an allocation.
    fn instance(&self, name: &str, allocation: &str, server: SocketAddr) {
        let tags = ["traefik.enable=true".to_owned(), format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)")];
        let registration = Registration::new(name, server).tags(tags).id(format!("{name}-{allocation}"));
        let registration = Registration { alloc_id: allocation.into(), ..registration };
        self.proxy.catalog.embedded.nomad().register(registration);
    }

    fn check(&self, name: &str, allocation: &str, check: AllocationCheck) {
        self.proxy.catalog.embedded.nomad().set_check(allocation, name, "up", check);
    }

    fn nomad_status(&self, name: &str, server: SocketAddr) -> Option<String> {
        let answer = self.proxy.admin(&format!("/api/http/services/{name}@nomad"));
        let status = &answer.json()["serverStatus"][format!("http://{server}")];
        status.as_str().map(str::to_owned)
    }

    /// Waits until API and metric say so of a server.
    fn is(&self, name: &str, server: SocketAddr, status: &str) {
        eventually(&format!("{server} of {name} is {status}"), || {
            (self.nomad_status(name, server)? == status).then_some(())
        });
        let up = u8::from(status == UP);
        let line = format!("traefik_service_server_up{{service=\"{name}@nomad\",url=\"http://{server}\"}} {up}");
        let text = self.proxy.admin("/metrics").text();
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }

    fn provider(&self) -> Value {
        self.proxy.admin("/api/rawdata").json()["providers"]["nomad"].clone()
    }

    /// Whether the catalog's watcher tells of this below a member of its status.
    fn told(&self, member: &str, text: &str) -> Option<()> {
        find(&self.provider()[member], &|value| value.as_str().is_some_and(|told| told.contains(text))).map(drop)
    }
}

fn two() -> (Backend, Backend) {
    (Backend::start("a", Says::Status(200)), Backend::start("b", Says::Status(200)))
}

/// Two servers in allocations `a` and `b` whose checks pass.
fn both_pass(rig: &Rig, (a, b): (&Backend, &Backend)) {
    for (allocation, server) in [("a", a), ("b", b)] {
        rig.check("web", allocation, AllocationCheck::success());
        rig.instance("web", allocation, server.addr);
        rig.is("web", server.addr, UP);
    }
    assert_eq!(rig.who("web", 8), ["a", "b"]);
}

#[test]
fn a_failing_check_takes_requests_away_until_it_passes() {
    let (a, b) = two();
    let rig = Rig::start(&[]);
    both_pass(&rig, (&a, &b));
    rig.check("web", "a", AllocationCheck::failure(503));
    rig.is("web", a.addr, DOWN);
    assert_eq!(rig.why("web", a.addr), "its check in the catalog fails: `up`: status 503");
    let before = a.requests();
    assert_eq!(rig.who("web", 8), ["b"]);
    assert_eq!(a.requests(), before);
    rig.check("web", "b", AllocationCheck::failure(500));
    rig.is("web", b.addr, DOWN);
    assert_eq!(rig.who("web", 8), ["a", "b"], "where none is well all are used");
    rig.check("web", "a", AllocationCheck::success());
    rig.is("web", a.addr, UP);
    assert_eq!(rig.who("web", 8), ["a"]);
    // what is known of an instance goes with it
    rig.proxy.catalog.deregister_nomad("web", "web-b");
    eventually("it is gone", || rig.nomad_status("web", b.addr).is_none().then_some(()));
    assert_eq!(rig.who("web", 4), ["a"]);
}

#[test]
fn a_new_instance_is_used_when_its_check_has_passed() {
    let (a, b) = two();
    let rig = Rig::start(&[]);
    both_pass(&rig, (&a, &b));
    let new = Backend::start("new", Says::Status(200));
    rig.check("web", "new", AllocationCheck::pending());
    rig.instance("web", "new", new.addr);
    rig.is("web", new.addr, DOWN);
    assert_eq!(rig.why("web", new.addr), "its checks in the catalog have not ended yet");
    let before = new.requests();
    assert_eq!(rig.who("web", 9), ["a", "b"]);
    assert_eq!(new.requests(), before);
    rig.check("web", "new", AllocationCheck::success());
    rig.is("web", new.addr, UP);
    assert_eq!(rig.who("web", 9), ["a", "b", "new"]);
    // One that passed is not taken away because a check begins anew; of the other one, asked as often, more is known.
    rig.check("web", "new", AllocationCheck::pending());
    rig.check("web", "a", AllocationCheck::failure(500));
    rig.is("web", a.addr, DOWN);
    assert_eq!(rig.who("web", 8), ["b", "new"]);
}

#[test]
fn what_has_no_check_does_not_depend_on_others() {
    let (a, b) = two();
    let (plain, other) = (Backend::start("plain", Says::Status(200)), Backend::start("other", Says::Status(200)));
    let rig = Rig::start(&[]);
    both_pass(&rig, (&a, &b));
    // in one allocation with a service that fails, and alone
    rig.check("other", "shared", AllocationCheck::failure(500));
    rig.instance("plain", "shared", plain.addr);
    rig.instance("other", "shared", other.addr);
    rig.is("other", other.addr, DOWN);
    rig.is("plain", plain.addr, UP);
    assert_eq!((rig.who("plain", 2), rig.who("other", 2)), (vec!["plain".to_owned()], vec!["other".to_owned()]));
}

#[test]
fn it_can_be_switched_off() {
    let server = Backend::start("web", Says::Status(200));
    let rig = Rig::start(&["--providers.nomad.allocationChecks=false"]);
    rig.check("web", "a", AllocationCheck::failure(500));
    rig.instance("web", "a", server.addr);
    rig.is("web", server.addr, UP);
    assert_eq!(rig.who("web", 2), ["web"]);
    let asked = rig.proxy.catalog.embedded.nomad().control().stats();
    assert_eq!(asked.requests_to("/v1/client/allocation/a/checks"), 0);
}

#[test]
fn missing_rights_are_told_and_do_no_harm() {
    let (a, b) = two();
    let catalog = Catalog::start();
    let identity = NomadToken { workload_identity: true, ..NomadToken::default() };
    catalog.embedded.nomad().set_acl(Some(Acl::deny().token("proxy", identity)));
    let flags =
        ["--metrics.prometheus=true", "--providers.nomad.namespaces=default", "--providers.nomad.endpoint.token=proxy"];
    let rig = Rig { proxy: Proxy::over(catalog, Arc::new(tempfile::tempdir().expect("a folder")), &flags) };
    rig.check("web", "a", AllocationCheck::failure(500));
    rig.check("web", "b", AllocationCheck::success());
    rig.instance("web", "a", a.addr);
    rig.instance("web", "b", b.addr);
    let lacks = "namespace \"default\" needs `read-job` for the checks of allocations";
    eventually("it is told", || rig.told("missingRights", lacks));
    rig.is("web", a.addr, UP);
    rig.is("web", b.addr, UP);
    assert_eq!(rig.who("web", 8), ["a", "b"]);
    rig.proxy.catalog.embedded.nomad().set_acl(None);
    rig.is("web", a.addr, DOWN);
    eventually("it is told no more", || rig.told("missingRights", lacks).is_none().then_some(()));
    assert_eq!(rig.who("web", 8), ["b"]);
}

#[test]
fn a_wiped_catalog_changes_no_verdict() {
    let (a, b) = two();
    let rig = Rig::start(&[]);
    // The index has to be beyond what a fresh catalog begins with.
    rig.proxy.catalog.embedded.nomad().store(|store| store.other_writes(50));
    both_pass(&rig, (&a, &b));
    rig.check("web", "a", AllocationCheck::failure(500));
    rig.is("web", a.addr, DOWN);
    rig.proxy.catalog.wipe();
    eventually("the removal is held", || rig.told("held", "web"));
    eventually("it is told", || rig.told("notes", "allocations cannot be read; of `"));
    rig.is("web", a.addr, DOWN);
    rig.is("web", b.addr, UP);
    assert_eq!(rig.who("web", 8), ["b"]);
}
