//! The same journey over a real Consul and a real Nomad, where these are on PATH. A test that cannot run says
//! `skipped`; with `RUST_LB_TEST_REQUIRE=consul,nomad` a skip is a failure.

mod agent;

pub use agent::Agent;

use super::support::client;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::server::Server;
use super::support::traffic::Traffic;
use agent::have;
use serde_json::{Value, json};
use std::time::Duration;

/// What the two catalogs have in common for a test.
trait Catalog {
    /// Its name in `/api/rawdata`.
    const PROVIDER: &'static str;
    /// The flag that names its address.
    const ADDRESS: &'static str;

    fn agent(&mut self) -> &mut Agent;
    /// Registers a service at this server, routed as `NAME.test`.
    fn register(&self, name: &str, server: &Server);
    fn remove(&self, name: &str);
}

struct Consul(Agent);

impl Catalog for Consul {
    const PROVIDER: &'static str = "consulcatalog";
    const ADDRESS: &'static str = "--providers.consulCatalog.endpoint.address";

    fn agent(&mut self) -> &mut Agent {
        &mut self.0
    }

    fn register(&self, name: &str, server: &Server) {
        let rule = format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)");
        let body = json!({"ID": name, "Name": name, "Address": "127.0.0.1", "Port": server.addr.port(), "Tags": ["traefik.enable=true", rule]});
        self.0.send("PUT", "/v1/agent/service/register", &body);
    }

    fn remove(&self, name: &str) {
        self.0.send("PUT", &format!("/v1/agent/service/deregister/{name}"), &Value::Null);
    }
}

struct Nomad(Agent);

impl Catalog for Nomad {
    const PROVIDER: &'static str = "nomad";
    const ADDRESS: &'static str = "--providers.nomad.endpoint.address";

    fn agent(&mut self) -> &mut Agent {
        &mut self.0
    }

    /// The task only lives; the static port of its group is the one that the test's own server listens on.
    fn register(&self, name: &str, server: &Server) {
        eventually("a client node is ready", || {
            let nodes = client::try_get(self.0.http, "n", "/v1/nodes").ok()?.text();
            nodes.contains("\"Status\":\"ready\"").then_some(())
        });
        let rule = format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)");
        let service =
            json!({"Name": name, "Provider": "nomad", "PortLabel": "http", "Tags": ["traefik.enable=true", rule]});
        let task = json!({"Name": "t", "Driver": "raw_exec", "Config": {"command": "sleep", "args": ["600"]},
            "Services": [service], "Resources": {"CPU": 50, "MemoryMB": 32}, "KillTimeout": 100_000_000});
        let port = json!({"Label": "http", "Value": server.addr.port()});
        let group = json!({"Name": "g", "Count": 1, "Networks": [{"ReservedPorts": [port]}], "Tasks": [task]});
        let job = json!({"ID": name, "Name": name, "Type": "service", "Datacenters": ["*"], "TaskGroups": [group]});
        self.0.send("PUT", "/v1/jobs", &json!({"Job": job}));
    }

    fn remove(&self, name: &str) {
        self.0.send("DELETE", &format!("/v1/job/{name}?purge=true"), &Value::Null);
    }
}

fn provider<C: Catalog>(proxy: &Proxy) -> Value {
    proxy.admin("/api/rawdata").json()["providers"][C::PROVIDER].clone()
}

fn wait_for_state<C: Catalog>(proxy: &Proxy, state: &str) {
    eventually(&format!("{} is {state}", C::PROVIDER), || (provider::<C>(proxy)["state"] == state).then_some(()));
}

/// A new registration is served, and its removal is seen.
fn follows<C: Catalog>(catalog: &C, proxy: &Proxy, name: &str) {
    let server = Server::start(name);
    let host = format!("{name}.test");
    catalog.register(name, &server);
    let answer = proxy.wait_for(&host, "/", 200);
    assert_eq!(answer.header("x-server"), Some(name));
    catalog.remove(name);
    proxy.wait_for(&host, "/", 404);
}

/// From a registration to its removal, while the agent is paused, killed and started without any state. A living
/// server loses no request in all of it.
fn through_all_trouble<C: Catalog>(mut catalog: C) {
    let address = format!("{}=http://{}", C::ADDRESS, catalog.agent().http);
    let proxy = Proxy::start(&[&address, "--rustLb.linger.for=0s"]);
    let lives = Server::start("lives");
    catalog.register("lives", &lives);
    proxy.wait_for("lives.test", "/", 200);
    let traffic = Traffic::start(proxy.web(), "lives.test");
    follows(&catalog, &proxy, "fine");

    // Half-open: the kernel accepts, nobody answers. How long does not matter, only that something could hang on it.
    catalog.agent().signal("-STOP");
    std::thread::park_timeout(Duration::from_secs(2));
    traffic.pass(200);
    catalog.agent().signal("-CONT");
    follows(&catalog, &proxy, "paused");

    // A -dev agent keeps nothing: killed and started again is wiped.
    for name in ["killed", "again"] {
        catalog.agent().kill();
        wait_for_state::<C>(&proxy, "retrying");
        traffic.pass(200);
        catalog.agent().start();
        eventually("what vanished with the state is held", || {
            let held = provider::<C>(&proxy)["held"].to_string();
            held.contains("lives").then_some(())
        });
        wait_for_state::<C>(&proxy, "connected");
        let health = proxy.admin("/health").json();
        assert!(health["reasons"].to_string().contains("removals_held"), "{health}");
        assert_eq!((&health["status"], &health["ready"]), (&json!("degraded"), &json!(true)), "{health}");
        traffic.pass(200);
        follows(&catalog, &proxy, name);
        catalog.register("lives", &lives);
        eventually("what is registered again is held no longer", || {
            (provider::<C>(&proxy)["held"] == json!([])).then_some(())
        });
        traffic.pass(200);
    }
    traffic.finish();
    catalog.remove("lives");
    proxy.wait_for("lives.test", "/", 404);
}

#[test]
fn real_consul_killed_paused_and_wiped_under_traffic_loses_no_request() {
    if have("consul") {
        through_all_trouble(Consul(Agent::consul("")));
    }
}

#[test]
fn real_nomad_killed_paused_and_wiped_under_traffic_loses_no_request() {
    if have("nomad") {
        through_all_trouble(Nomad(Agent::nomad()));
    }
}

#[test]
fn real_consul_tags_and_health_are_followed() {
    if !have("consul") {
        return;
    }
    let agent = Agent::consul("");
    let address = format!("--providers.consulCatalog.endpoint.address=http://{}", agent.http);
    let proxy = Proxy::start(&[&address, "--rustLb.linger.for=0s"]);
    let server = Server::start("real");
    let register = |tags: &[&str]| {
        let body = json!({"ID": "r1", "Name": "real", "Address": "127.0.0.1", "Port": server.addr.port(), "Tags": tags,
            "Check": {"CheckID": "r1", "TTL": "1h", "Status": "passing"}});
        agent.send("PUT", "/v1/agent/service/register", &body);
    };
    register(&["urlprefix-real.test/"]);
    proxy.wait_for("real.test", "/", 200);
    register(&["traefik.enable=true", "traefik.http.routers.real.rule=Host(`other.test`)"]);
    proxy.wait_for("other.test", "/", 200);
    proxy.wait_for("real.test", "/", 404);
    agent.send("PUT", "/v1/agent/check/fail/r1", &Value::Null);
    proxy.wait_for("other.test", "/", 404);
    agent.send("PUT", "/v1/agent/check/pass/r1", &Value::Null);
    proxy.wait_for("other.test", "/", 200);
}

const SERVICES: &str = "service_prefix \"\" { policy = \"read\" }\n";
const NODES: &str = "node_prefix \"\" { policy = \"read\" }\n";

/// A Consul that denies by default, and a token whose rights come, go and end.
#[test]
fn real_consul_rights_that_come_and_go_are_named_and_take_no_route_away() {
    if !have("consul") {
        return;
    }
    let agent = Agent::consul(agent::DENY);
    let policy = |rules: &str, id: Option<&str>| {
        let (method, path) =
            id.map_or(("PUT", "/v1/acl/policy".to_owned()), |id| ("PUT", format!("/v1/acl/policy/{id}")));
        let answer = agent.send(method, &path, &json!({"ID": id, "Name": "lb", "Rules": rules}));
        answer["ID"].as_str().expect("the policy's id").to_owned()
    };
    let token = || {
        let token = agent.send("PUT", "/v1/acl/token", &json!({"Policies": [{"Name": "lb"}]}));
        let text = |name: &str| token[name].as_str().expect("a token").to_owned();
        (text("AccessorID"), text("SecretID"))
    };
    let id = policy(SERVICES, None);
    let (accessor, secret) = token();
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("token");
    std::fs::write(&file, &secret).expect("written");

    let server = Server::start("real");
    let register = |port_tag: &str| {
        let tags = ["traefik.enable=true", "traefik.http.routers.real.rule=Host(`real.test`)", port_tag];
        let body =
            json!({"ID": "r1", "Name": "real", "Address": "127.0.0.1", "Port": server.addr.port(), "Tags": tags});
        agent.send("PUT", "/v1/agent/service/register", &body);
    };
    register("one");
    let proxy = Proxy::start(&[
        &format!("--providers.consulCatalog.endpoint.address=http://{}", agent.http),
        &format!("--providers.consulCatalog.endpoint.tokenFile={}", file.display()),
        "--rustLb.linger.for=0s",
    ]);
    let reasons = || proxy.admin("/health").json()["reasons"].to_string();
    let named = |right: &str| {
        eventually(&format!("{right} is missed"), || {
            let reasons = reasons();
            (reasons.contains("missing_rights") && reasons.contains(right)).then_some(())
        });
    };
    // Names are listed and no instance is seen: what would be an empty service is a right that lacks.
    named("node_prefix");
    assert_eq!(proxy.get("real.test", "/").status, 404);

    policy(&[SERVICES, NODES].concat(), Some(&id));
    proxy.wait_for("real.test", "/", 200);
    eventually("nothing is missed", || (!reasons().contains("missing_rights")).then_some(()));
    let traffic = Traffic::start(proxy.web(), "real.test");

    // Lost again: a blocked query tells it with the next change.
    policy(SERVICES, Some(&id));
    register("two");
    named("node_prefix");
    traffic.pass(100);

    // The token ends: everything is refused. Another one in the file is taken up by itself.
    policy(&[SERVICES, NODES].concat(), Some(&id));
    agent.send("DELETE", &format!("/v1/acl/token/{accessor}"), &Value::Null);
    register("three");
    named("service_prefix");
    traffic.pass(100);
    let (_, fresh) = token();
    std::fs::write(&file, &fresh).expect("written");
    wait_for_state::<Consul>(&proxy, "connected");
    eventually("nothing is missed", || (!reasons().contains("missing_rights")).then_some(()));
    traffic.finish();

    let told = [proxy.admin("/api/rawdata").text(), proxy.admin("/health").text(), proxy.admin("/api/problems").text()];
    assert!([secret, fresh].iter().all(|secret| !told.concat().contains(secret.as_str())), "a token is shown");
    agent.send("PUT", "/v1/agent/service/deregister/r1", &Value::Null);
    proxy.wait_for("real.test", "/", 404);
}
