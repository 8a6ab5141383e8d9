//! `render`: the recorded answers of Traefik's providers in full, the forms of the command, and that
//! what it prints reads as what was declared.

use proptest::prelude::*;
use rust_lb::cli::render;
use rust_lb::declare::Dynamic;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Runs the command: code, stdout, stderr.
fn run(args: &[&str], input: &str) -> (u8, String, String) {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = render::run(&args, &mut input.as_bytes(), &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// A registration in the form of its catalog's API.
fn registration(provider: &str, instance: &Value, number: usize) -> Value {
    if provider == "nomad" {
        return json!({"Address": instance["address"], "CreateIndex": 100 + number, "ID": instance["id"],
            "Namespace": "default", "NodeID": instance["node"], "Port": instance["port"],
            "ServiceName": instance["name"], "Tags": instance["tags"]});
    }
    let checks = match instance["status"].as_str().unwrap_or("passing") {
        "none" => json!([]),
        "maintenance" => json!([{"CheckID": "_service_maintenance:x", "Status": "critical"}]),
        status => json!([{"CheckID": "service:x", "Status": status}]),
    };
    json!({"Node": {"Node": instance["node"], "Address": instance["node_address"]},
        "Service": {"ID": instance["id"], "Service": instance["name"], "Tags": instance["tags"],
            "Address": instance["address"], "Port": instance["port"], "CreateIndex": 100 + number},
        "Checks": checks})
}

/// Answers to cases, by id.
fn answers(cases: &[Value]) -> BTreeMap<String, Value> {
    let input: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let (code, out, err) = run(&["--jsonl"], &input);
    assert_eq!((code, err.as_str()), (0, ""));
    let answers = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    answers.map(|answer| (answer["id"].as_str().unwrap().to_owned(), answer)).collect()
}

/// What differs, as paths; empty sections and the order of servers mean nothing.
fn differences(path: &str, expected: &Value, got: &Value, into: &mut Vec<String>) {
    let empty = Map::new();
    match (expected, got) {
        (Value::Object(e), Value::Object(g)) => {
            let keys: std::collections::BTreeSet<&String> = e.keys().chain(g.keys()).collect();
            for key in keys {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                // a section is `http.routers`: an absent one is an empty one
                let section = below.split('.').count() <= 2;
                match (e.get(key), g.get(key)) {
                    (Some(e), Some(g)) => differences(&below, e, g, into),
                    (Some(e), None) if section => differences(&below, e, &Value::Object(empty.clone()), into),
                    (None, Some(g)) if section => differences(&below, &Value::Object(empty.clone()), g, into),
                    _ => into.push(below),
                }
            }
        }
        (Value::Array(e), Value::Array(g)) if path.ends_with(".servers") => {
            let sorted = |list: &[Value]| {
                let mut texts: Vec<String> = list.iter().map(Value::to_string).collect();
                texts.sort();
                texts
            };
            if sorted(e) != sorted(g) {
                into.push(path.to_owned());
            }
        }
        _ if expected != got => into.push(path.to_owned()),
        _ => {}
    }
}

/// `*` stands for anything, `[12]` for one of these.
fn fits(glob: &str, text: &str) -> bool {
    let pattern: String = glob
        .chars()
        .map(|c| match c {
            '*' => ".*".to_owned(),
            '[' | ']' => c.to_string(),
            c => regex::escape(&c.to_string()),
        })
        .collect();
    regex::Regex::new(&format!("^{pattern}$")).unwrap().is_match(text)
}

#[test]
fn tags_make_the_configuration_that_traefik_recorded() {
    let corpus: Value = serde_json::from_str(include_str!("../oracle/traefik_tags.json")).unwrap();
    let deviations: Vec<Value> = serde_json::from_str(include_str!("../oracle/deviations.json")).unwrap();
    let cases = corpus["cases"].as_array().unwrap();
    let questions: Vec<Value> = cases
        .iter()
        .map(|case| {
            let provider = case["provider"].as_str().unwrap();
            let instances = case["instances"].as_array().unwrap().iter().enumerate();
            let services: Vec<Value> = instances.map(|(at, i)| registration(provider, i, at)).collect();
            let mut options = case["options"].clone();
            options["legacyTags"] = json!("off");
            json!({"id": case["id"], "provider": provider, "options": options, "services": services})
        })
        .collect();
    let answers = answers(&questions);
    let (mut agree, mut deviate) = (0, 0);
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let answer = &answers[id];
        let mut found = Vec::new();
        differences("", &case["config"], &answer["configuration"], &mut found);
        let kinds = |list: &Value, key: &str| {
            let all = list.as_array().into_iter().flatten();
            all.map(|p| p[key].as_str().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
        };
        if kinds(&case["problems"], "kind") != kinds(&answer["problems"], "code") {
            found.push("problems".to_owned());
        }
        let declared = |field: &String| {
            deviations
                .iter()
                .filter(|d| d["tool"] == "replay_tags")
                .any(|d| fits(d["id"].as_str().unwrap_or("*"), id) && fits(d["field"].as_str().unwrap(), field))
        };
        let open: Vec<&String> = found.iter().filter(|field| !declared(field)).collect();
        assert!(open.is_empty(), "{id} ({}): {open:?}\n{answer:#}", case["comment"]);
        if found.is_empty() {
            agree += 1;
        } else {
            deviate += 1;
        }
    }
    assert_eq!((agree, deviate), (110, 15));
}

const SHOP: &str = r#"[{"ID":"a","ServiceName":"shop","Namespace":"default","NodeID":"n1","Address":"10.0.0.1",
    "Port":80,"Tags":["traefik.http.routers.shop.middlewares=users","traefik.http.middlewares.users.digestauth.users=a:b"]}]"#;

#[test]
fn prints_one_document_for_people_and_the_remarks_beside_it() {
    let (code, out, err) = run(&["--provider", "nomad", "--set", "defaultRule=Host(`{{ .Name }}.test`)", "-"], SHOP);
    assert_eq!(code, 0, "{err}");
    let document: Value = serde_json::from_str(&out).unwrap();
    let http = &document["configuration"]["http"];
    assert_eq!(http["routers"]["shop"]["rule"], "Host(`shop.test`)");
    assert_eq!(http["middlewares"]["users"], json!({"digestAuth": {"users": ["a:b"]}}));
    assert_eq!(document["problems"], json!([]), "what is not served yet is no problem of the tags");
    assert!(err.contains("warning[not_served]") && !err.contains("a:b"), "{err}");
    let two = format!("{SHOP}\n{}", SHOP.replace("shop", "cart").replace("users", "others"));
    let (_, out, _) = run(&["--provider", "nomad", "-"], &two);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["configuration"]["http"]["services"].as_object().unwrap().len(), 2);
}

#[test]
fn names_the_place_of_a_problem_and_fails() {
    // a rule that nobody can serve is told too, and the catalog by its form
    let (code, out, err) = run(&["-"], &SHOP.replace("middlewares=users", "rule=Hst(`x`)"));
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("\"bad_rule\"") && err.contains("unknown matcher `Hst`"), "{out}{err}");
    let (code, _, err) = run(&["--provider", "consulcatalog", "-"], SHOP);
    assert!(code == 1 && err.contains("it looks like `--provider nomad`"), "{err}");
    let (code, out, err) = run(&["--provider", "nomad", "-"], &SHOP.replace("middlewares=", "middleware="));
    assert_eq!(code, 1);
    let document: Value = serde_json::from_str(&out).unwrap();
    let problem = &document["problems"][0];
    assert_eq!((&problem["code"], &problem["column"]), (&json!("unknown_option"), &json!(27)));
    assert_eq!((&problem["service"], &problem["instance"]), (&json!("shop"), &json!("a")));
    assert!(err.contains("did you mean `middlewares`?"), "{err}");
}

#[test]
fn misuse_and_what_cannot_be_read_are_told_apart() {
    for args in [
        &[][..],
        &["--provider", "docker", "-"],
        &["--provider", "nomad"],
        &["--provider", "nomad", "--set", "colour=red", "-"],
        &["--provider", "nomad", "--set", "exposedByDefault", "-"],
        &["--provider", "nomad", "--set", "exposedByDefault=maybe", "-"],
        &["--jsonl", "--provider", "nomad"],
    ] {
        assert_eq!(run(args, "[]").0, 2, "{args:?}");
    }
    for input in ["", "[]"] {
        let (code, out, _) = run(&["--provider", "consulcatalog", "-"], input);
        let document: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &document), (0, &json!({"configuration": {}, "problems": []})), "{input}");
    }
    for input in ["{}", "[1]", "[", "[{\"Service\":{}}]"] {
        assert_eq!(run(&["--provider", "consulcatalog", "-"], input).0, 1, "{input}");
    }
    assert_eq!(run(&["--provider", "nomad", "/nowhere/at/all.json"], "").0, 1);
    let (code, out, _) = run(&["--jsonl"], "{\"id\":\"x\"}\nnonsense\n{\"id\":\"y\",\"provider\":\"nomad\"}\n");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(code, 1);
    assert!(lines[0]["id"] == "x" && lines[0]["error"].is_string(), "{out}");
    assert!(lines[1]["error"].is_string() && lines[2]["id"] == "y", "{out}");
    let (code, out, _) = run(&["--help"], "");
    assert!(code == 0 && out.contains("Examples:"), "{out}");
}

/// Each option of Traefik's, with a value that fits it.
fn any_option() -> impl Strategy<Value = String> {
    let options = rust_lb::tags::options::all();
    let name = prop::sample::select(vec!["a", "B", "c-1"]);
    let truth = prop::sample::select(vec!["true", "false", "1", ""]);
    let number = prop::sample::select(vec!["1", "-1", "0", "65536"]);
    let text = prop::sample::select(vec!["x", "Host(`h`)", "web, other", "10s", "250ms", "-1", "p2c", "a=b", "ä"]);
    (0..options.len(), name, truth, number, text).prop_map(move |(at, name, truth, number, text)| {
        use rust_lb::tags::options::Kind;
        let option = &options[at];
        let path = option.path.replace("[]", "[0]").replace("**", "Own.list[0]").replace('*', name);
        let value = match option.kind {
            Kind::Bool | Kind::Section => truth,
            Kind::Int => number,
            Kind::Duration => {
                if text.ends_with('s') {
                    text
                } else {
                    number
                }
            }
            Kind::Text | Kind::List | Kind::Ignored => text,
        };
        format!("traefik.{path}={value}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Decode, render, decode the JSON: the same, and so again.
    #[test]
    fn what_is_printed_reads_as_what_was_declared(
        tags in prop::collection::vec(any_option(), 0..12),
        more in prop::collection::vec(any_option(), 0..12),
        consul in any::<bool>(),
    ) {
        let provider = if consul { "consulcatalog" } else { "nomad" };
        let instance = |id: &str, tags: &[String]| {
            json!({"id": id, "name": "web", "node": "n1", "node_address": "10.0.0.9", "address": "10.0.0.1", "port": 80, "tags": tags})
        };
        let services = [registration(provider, &instance("a", &tags), 0), registration(provider, &instance("b", &more), 1)];
        let answer = answers(&[json!({"id": "x", "provider": provider, "services": services})]).remove("x").unwrap();
        let printed = &answer["configuration"];
        let read: Dynamic = serde_json::from_value(printed.clone()).unwrap();
        // a value of zero where Traefik has a default is not in its JSON, and comes back as the default
        let again = serde_json::to_value(&read).unwrap();
        let twice: Dynamic = serde_json::from_value(again.clone()).unwrap();
        prop_assert_eq!(&twice, &read);
        let mut found = Vec::new();
        differences("", printed, &again, &mut found);
        found.retain(|path| !DEFAULTED.iter().any(|end| path.ends_with(end)));
        prop_assert!(found.is_empty(), "{:?}\n{}\n{}", found, printed, again);
    }
}

/// Options whose zero is not their default.
const DEFAULTED: [&str; 10] = [
    "healthCheck.interval",
    "healthCheck.timeout",
    "healthCheck.mode",
    "passiveHealthCheck.failureWindow",
    "passiveHealthCheck.maxFailedAttempts",
    "responseForwarding.flushInterval",
    "proxyProtocol.version",
    "traceVerbosity",
    "loadBalancer.strategy",
    "healthCheck.followRedirects",
];
