//! Prometheus' rules and Grafana's dashboard name metrics that a running proxy shows, with the labels that they go by.

use super::{path, read, succeeds};
use crate::support::PATIENCE;
use crate::support::client;
use crate::support::program::have;
use crate::support::proxy::Catalog;
use crate::support::serve::{Serve, Setup};
use crate::support::server::Server;
use crate::support::tls;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

/// Names of metrics in an expression; `le` and the rest of a histogram belong to its family.
fn metrics(expression: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let ours = |name: &&str| ["traefik_", "rust_lb_", "process_"].iter().any(|prefix| name.starts_with(prefix));
    expression.split(word).filter(ours).map(str::to_owned).collect()
}

/// Labels that an expression groups by.
fn grouped(expression: &str) -> BTreeSet<String> {
    let groups = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    let labels: BTreeSet<String> = groups.flat_map(|group| group.split(',')).map(|l| l.trim().to_owned()).collect();
    // Prometheus' own, and that of buckets.
    labels.into_iter().filter(|label| !matches!(label.as_str(), "instance" | "job" | "le")).collect()
}

/// All expressions of the dashboard, and those that fill its variables.
fn dashboard() -> Vec<String> {
    let board: serde_json::Value = serde_json::from_str(&read("etc/grafana/rust-lb.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels").iter();
    let of_panels = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let of_panels = of_panels.map(|target| target["expr"].as_str().expect("an expression").to_owned());
    let variables = board["templating"]["list"].as_array().expect("variables").iter();
    let of_variables = variables.filter_map(|variable| variable["query"].as_str().map(str::to_owned));
    let all: Vec<String> = of_panels.chain(of_variables).collect();
    assert!(all.len() > 30, "{}", all.len());
    all
}

fn expressions() -> Vec<String> {
    let rules = read("etc/prometheus/rust-lb.rules.yml");
    // An alert's expression goes as far as its next key.
    let ends = |line: &&str| ["for:", "labels:"].iter().any(|key| line.trim_start().starts_with(key));
    let of_rules = rules.split("expr:").skip(1);
    let of_rules = of_rules.map(|rest| rest.lines().take_while(|line| !ends(line)).collect::<Vec<_>>().join(" "));
    let mut all = dashboard();
    let before = all.len();
    all.extend(of_rules);
    assert!(all.len() >= before + 10, "rules");
    all
}

struct Busy {
    serve: Serve,
    /// The file that its own certificates are verified by.
    root: PathBuf,
    _rest: (Server, Arc<Catalog>),
}

/// A proxy that has met with everything that is measured: services of both kinds of health, failures, retries, a queue,
/// an order for a certificate that fails, TLS.
fn busy() -> Busy {
    let server = Server::start("app");
    let catalog = Catalog::start();
    let flags = [
        format!("--providers.consulCatalog.endpoint.address={}", catalog.consul()),
        "--entryPoints.websecure.address=127.0.0.1:0".to_owned(),
        "--entryPoints.websecure.http.tls=true".to_owned(),
        "--metrics.prometheus.addRoutersLabels=true".to_owned(),
        "--certificatesResolvers.gone.acme.caServer=https://127.0.0.1:1/directory".to_owned(),
        "--certificatesResolvers.gone.acme.tlsChallenge=true".to_owned(),
    ];
    let setup = Setup::new(server.addr, &flags.each_ref().map(String::as_str));
    let app = format!("{{servers: [{{url: 'http://{}'}}]", server.addr);
    let routes = format!(
        "http:\n  routers:\n    a: {{rule: 'Host(`a.test`)', service: s}}\n    \
         down: {{rule: 'Host(`down.test`)', service: down, middlewares: [again]}}\n    \
         few: {{rule: 'Host(`few.test`)', service: few}}\n    \
         named: {{rule: 'Host(`shop.rust-lb-has-no-such-name.net`)', service: s, entryPoints: [websecure], tls: {{certResolver: gone}}}}\n  \
         middlewares:\n    again: {{retry: {{attempts: 2, initialInterval: 1ms}}}}\n  \
         services:\n    s: {{loadBalancer: {app}, healthCheck: {{path: /, interval: 1s}}}}}}\n    \
         few: {{loadBalancer: {app}, rustLbMaxRequests: 1}}}}\n    \
         down: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:1'}}]}}}}\n"
    );
    std::fs::write(setup.dir().join("routes.yaml"), routes).expect("written");
    let pair = rcgen::generate_simple_self_signed(vec!["kept.test".to_owned()]).expect("a certificate");
    std::fs::create_dir(setup.dir().join("certs")).expect("a folder");
    std::fs::write(setup.dir().join("certs/kept.test.crt"), pair.cert.pem()).expect("written");
    std::fs::write(setup.dir().join("certs/kept.test.key"), pair.signing_key.serialize_pem()).expect("written");
    let root = setup.dir().join("state/local/root.crt");
    let serve = setup.arg("--rustLb.linger.wait=0s").start();
    serve.wait_until_served();
    catalog.register("c", "c", server.addr, &["urlprefix-c.test/"]);
    Busy { serve, root, _rest: (server, catalog) }
}

#[test]
fn rules_and_dashboard_name_metrics_that_are_there() {
    let Busy { serve, root, _rest } = busy();
    let root = std::fs::read(root).expect("a root");
    let all = expressions();
    let wanted: BTreeSet<String> = all.iter().flat_map(|expression| metrics(expression)).collect();
    assert!(wanted.len() > 25, "{wanted:?}");
    let secure = serve.address("websecure");
    let mut lacking = wanted.clone();
    let end = Instant::now() + PATIENCE;
    let text = loop {
        for host in ["a.test", "down.test", "few.test", "nobody.test"] {
            drop(client::try_get(serve.web(), host, "/"));
        }
        tls::get(secure, &root, "a.test", "/");
        let text = serve.admin("/metrics").expect("metrics").text();
        lacking.retain(|name| {
            !text.lines().any(|line| line.strip_prefix(name).is_some_and(|l| l.starts_with(['{', ' '])))
        });
        if lacking.is_empty() {
            break text;
        }
        assert!(Instant::now() < end, "not shown by a running proxy: {lacking:?}");
    };
    for expression in &all {
        for label in grouped(expression) {
            let has = |name: &String| {
                text.lines().any(|line| line.starts_with(name) && line.contains(&format!("{label}=\"")))
            };
            assert!(metrics(expression).iter().any(has), "no label `{label}`: {expression}");
        }
    }
}

#[test]
fn prometheus_takes_rules_and_scrape_configuration() {
    if !have("promtool") {
        return;
    }
    succeeds(Command::new("promtool").args(["check", "rules"]).arg(path("etc/prometheus/rust-lb.rules.yml")));
    succeeds(Command::new("promtool").args(["check", "config"]).arg(path("etc/prometheus/rust-lb.scrape.yml")));
}

#[test]
fn alerts_fire_for_what_is_wrong_and_for_nothing_else() {
    if !have("promtool") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let rules = path("etc/prometheus/rust-lb.rules.yml").display().to_string();
    let file = dir.path().join("alerts.yml");
    std::fs::write(&file, include_str!("alerts.yml").replace("[RULES]", &format!("[{rules}]"))).expect("written");
    succeeds(Command::new("promtool").args(["test", "rules"]).arg(&file));
}
