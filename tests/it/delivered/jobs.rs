//! The job files: what Nomad says of them, and what their tags come to.

use super::{path, read, said, succeeds};
use crate::support::binary::command;
use crate::support::program::have;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// A `service` block, as far as routing goes.
#[derive(Debug, Default)]
struct Service {
    name: String,
    provider: String,
    tags: Vec<String>,
    canary_tags: Vec<String>,
}

/// Reads the `service` blocks of files that are written as these are: a key a line, a tag a line.
fn services(text: &str) -> Vec<Service> {
    let mut found: Vec<Service> = Vec::new();
    let (mut inside, mut list) = (0_usize, "");
    for line in text.lines().map(str::trim) {
        if line == "service {" {
            found.push(Service { provider: "consul".to_owned(), ..Service::default() });
            inside = 1;
            continue;
        }
        let (Some(service), true) = (found.last_mut(), inside > 0) else { continue };
        match line {
            "tags = [" | "canary_tags = [" => list = line.split(' ').next().unwrap_or_default(),
            "]" => list = "",
            "}" => inside -= 1,
            _ if line.ends_with('{') => inside += 1,
            _ if !list.is_empty() => {
                let tag: String = serde_json::from_str(line.trim_end_matches(',')).expect("a quoted tag a line");
                if list == "tags" { service.tags.push(tag) } else { service.canary_tags.push(tag) }
            }
            _ => {
                let Some((key, value)) = line.split_once('=') else { continue };
                let value = value.trim().trim_matches('"').to_owned();
                match (inside, key.trim()) {
                    (1, "name") => service.name = value,
                    (1, "provider") => service.provider = value,
                    _ => {}
                }
            }
        }
    }
    found
}

/// An instance as its catalog answers it.
fn instance(service: &Service, tags: &[String], number: usize) -> Value {
    let id = format!("{}-{number}", service.name);
    match service.provider.as_str() {
        "nomad" => json!({"ID": id, "ServiceName": service.name, "Namespace": "default", "NodeID": "n",
            "Address": "10.0.0.1", "Port": 20000 + number, "Tags": tags, "CreateIndex": 100 + number}),
        _ => json!({"Node": {"Node": "n", "Address": "10.0.0.1"}, "Checks": [{"CheckID": "c", "Status": "passing"}],
            "Service": {"ID": id, "Service": service.name, "Tags": tags, "Address": "10.0.0.1", "Port": 20000 + number,
                "CreateIndex": 100 + number}}),
    }
}

/// What `rust-lb render` makes of these instances.
fn render(provider: &str, instances: &[Value]) -> Value {
    let mut render = command(&["render", "--provider", provider, "--set", "exposedByDefault=false", "-"]);
    let mut render =
        render.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let text = json!(instances).to_string();
    render.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let output = render.wait_with_output().expect("it ends");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
}

/// The rules of all HTTP and TCP routers, sorted.
fn rules(rendered: &Value) -> Vec<String> {
    let all = ["http", "tcp"].into_iter().filter_map(|kind| rendered["configuration"][kind]["routers"].as_object());
    let mut rules: Vec<String> = all
        .flat_map(|routers| routers.values())
        .filter_map(|router| router["rule"].as_str().map(str::to_owned))
        .collect();
    rules.sort();
    rules.dedup();
    rules
}

#[test]
fn every_example_routes_as_it_says() {
    let expected: &[(&str, &[&str])] = &[
        ("canary", &["Host(`canary.pay.example.com`)", "Host(`pay.example.com`)"]),
        ("checked", &["Host(`checked.example.com`)"]),
        ("groups", &["Host(`app.example.com`)", "Host(`app.example.com`) && PathPrefix(`/api`)"]),
        ("middlewares", &["Host(`tools.example.com`)"]),
        ("site", &["Host(`site.example.com`)"]),
        ("sticky", &["Host(`cart.example.com`)"]),
        ("tcp", &["HostSNI(`redis.example.com`)"]),
        ("traefik", &["Host(`shop.example.com`)"]),
        ("urlprefix", &["Host(`api.example.com`) && PathPrefix(`/v1`)", "Host(`old.example.com`)"]),
    ];
    let mut files: Vec<String> = std::fs::read_dir(path("jobs/examples"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let names: Vec<String> = expected.iter().map(|(name, _)| format!("{name}.nomad.hcl")).collect();
    assert_eq!(files, names, "each example is known here");
    for (name, wanted) in expected {
        let mut of = std::collections::BTreeMap::<String, Vec<Value>>::new();
        for service in services(&read(&format!("jobs/examples/{name}.nomad.hcl"))) {
            assert!(!service.name.is_empty() && !service.tags.is_empty(), "{name}: {service:?}");
            let provider = if service.provider == "nomad" { "nomad" } else { "consulcatalog" };
            let into = of.entry(provider.to_owned()).or_default();
            for tags in [&service.tags, &service.canary_tags] {
                if !tags.is_empty() {
                    into.push(instance(&service, tags, into.len()));
                }
            }
        }
        assert!(!of.is_empty(), "{name} has services");
        let mut found = Vec::new();
        for (provider, instances) in of {
            let rendered = render(&provider, &instances);
            assert_eq!(rendered["problems"], json!([]), "{name}");
            found.extend(rules(&rendered));
        }
        assert_eq!(&found, wanted, "{name}");
    }
}

/// The variables that the job gives to rust-lb are known, and hold.
#[test]
fn the_jobs_own_configuration_holds() {
    let text = read("jobs/rust-lb.nomad.hcl");
    let mut check = command(&["check", "--strict"]);
    let env = text.split("env {").nth(1).and_then(|rest| rest.split("\n      }").next()).expect("an env block");
    let mut given = 0;
    for (name, value) in env.lines().filter_map(|line| line.split_once('=')) {
        let value = value.trim().trim_matches('"').replace("${NOMAD_SECRETS_DIR}", "/secrets");
        let value = match value.strip_prefix("var.") {
            Some(variable) => {
                let block = text.split(&format!("variable \"{variable}\" {{")).nth(1).expect("a variable");
                let default = block.lines().find_map(|line| line.trim().strip_prefix("default")).expect("a default");
                default.trim_matches([' ', '=', '"']).to_owned()
            }
            None => value,
        };
        check.env(name.trim(), value);
        given += 1;
    }
    assert_eq!(given, 3);
    let said = succeeds(&mut check);
    assert!(said.contains("unix:///secrets/api.sock"), "{said}");
    assert!(text.contains("env = true") && read("jobs/rust-lb.policy.hcl").contains("capabilities = [\"read-job\"]"));
}

#[test]
fn nomad_takes_the_job_files() {
    if !have("nomad") {
        return;
    }
    let mut files = vec![path("jobs/rust-lb.nomad.hcl")];
    let examples = std::fs::read_dir(path("jobs/examples")).expect("a folder");
    files.extend(examples.map(|entry| entry.expect("an entry").path()));
    for file in files {
        // Without an agent Nomad checks all that needs none.
        let mut validate = Command::new("nomad");
        validate.args(["job", "validate", "-address=http://127.0.0.1:1"]).arg(&file).env_remove("NOMAD_ADDR");
        let said = said(&validate.output().expect("nomad runs"));
        assert!(said.contains("Job validation successful"), "{}: {said}", file.display());
    }
}
