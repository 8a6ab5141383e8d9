//! Health of servers in a whole proxy: who gets requests, who does not, who is waited for, and what is told of it.
//! The servers are in the test's hand; a verdict is waited for through the API, never by time.

mod active;
mod backend;
mod grpc;
mod lost;
mod nomad;
mod passive;
mod waiting;

use super::support::proxy::Proxy;
use super::support::{client, eventually};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A proxy whose table the test says as a whole.
struct Rig {
    proxy: Proxy,
}

impl Rig {
    fn start(flags: &[&str]) -> Self {
        let flags: Vec<&str> = ["--providers.rest.insecure=true", "--metrics.prometheus=true"]
            .into_iter()
            .chain(flags.iter().copied())
            .collect();
        Self { proxy: Proxy::start(&flags) }
    }

    /// Puts services in force, each behind `Host(NAME.test)`.
    fn put(&self, services: &[(&str, Value)]) {
        let routers = services.iter().map(|(name, _)| {
            let router = json!({"rule": format!("Host(`{name}.test`)"), "service": name});
            ((*name).to_owned(), router)
        });
        let services = services.iter().map(|(name, balancer)| ((*name).to_owned(), json!({"loadBalancer": balancer})));
        let (routers, services): (Value, Value) = (routers.collect(), services.collect());
        let body = json!({"http": {"routers": routers, "services": services}}).to_string();
        let admin = self.proxy.entry_point("traefik");
        let answer = client::send(admin, "PUT", "127.0.0.1", "/api/providers/rest", "", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Puts them in force and waits until the first one has so many servers in the table.
    fn put_and_see(&self, services: &[(&str, Value)]) {
        self.put(services);
        let (name, balancer) = &services[0];
        eventually("the table holds it", || {
            (self.service(name)?["loadBalancer"]["servers"] == balancer["servers"]).then_some(())
        });
    }

    fn service(&self, name: &str) -> Option<Value> {
        let answer = self.proxy.admin(&format!("/api/http/services/{name}@rest"));
        (answer.status == 200).then(|| answer.json())
    }

    fn status(&self, name: &str, server: SocketAddr) -> Option<String> {
        Some(self.service(name)?["serverStatus"][format!("http://{server}")].as_str()?.to_owned())
    }

    /// Waits until the API says so of a server; then the metric does, too.
    fn wait(&self, name: &str, server: SocketAddr, status: &str) {
        eventually(&format!("{server} of {name} is {status}, now {:?}", self.status(name, server)), || {
            (self.status(name, server)? == status).then_some(())
        });
        let up = u8::from(status == "UP");
        let line = format!("traefik_service_server_up{{service=\"{name}@rest\",url=\"http://{server}\"}} {up}");
        let text = self.proxy.admin("/metrics").text();
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }

    /// What `explain` has against a server; waits until there is something.
    fn why(&self, name: &str, server: SocketAddr) -> String {
        eventually("a reason", || {
            let said = self.proxy.admin(&format!("/api/explain?url=http://{name}.test/")).json();
            let url = format!("http://{server}");
            find(&said, &|value| value["url"] == url && value["why"].is_string())?["why"].as_str().map(str::to_owned)
        })
    }

    fn problem(&self, code: &str) -> Option<String> {
        let problems = self.proxy.admin("/api/problems").json();
        let found = problems.as_array()?.iter().find(|p| p["code"] == code)?.clone();
        found["message"].as_str().map(str::to_owned)
    }

    fn get(&self, name: &str) -> client::Answer {
        self.proxy.get(&format!("{name}.test"), "/")
    }

    /// Who answers so many requests.
    fn who(&self, name: &str, count: usize) -> Vec<String> {
        let mut who: Vec<String> = (0..count)
            .map(|_| {
                let answer = self.get(name);
                assert_eq!(answer.status, 200, "{}", answer.text());
                answer.text()
            })
            .collect();
        who.sort();
        who.dedup();
        who
    }
}

/// The first value anywhere in another one that fits.
fn find<'a>(value: &'a Value, fits: &dyn Fn(&Value) -> bool) -> Option<&'a Value> {
    if fits(value) {
        return Some(value);
    }
    match value {
        Value::Array(all) => all.iter().find_map(|value| find(value, fits)),
        Value::Object(all) => all.values().find_map(|value| find(value, fits)),
        _ => None,
    }
}

/// A balancer over servers.
fn over(servers: &[SocketAddr], more: Value) -> Value {
    let mut urls: Vec<String> = servers.iter().map(|server| format!("http://{server}")).collect();
    // as the table has them
    urls.sort();
    let servers: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
    let mut balancer = json!({ "servers": servers });
    if let (Some(balancer), Value::Object(more)) = (balancer.as_object_mut(), more) {
        balancer.extend(more);
    }
    balancer
}

/// A check that is run often.
fn often(more: Value) -> Value {
    let mut check = json!({"path": "/health", "interval": "20ms", "timeout": "10s"});
    if let (Some(check), Value::Object(more)) = (check.as_object_mut(), more) {
        check.extend(more);
    }
    json!({ "healthCheck": check })
}
