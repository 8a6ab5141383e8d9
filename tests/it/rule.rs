//! What Traefik answered to a sample of rules and requests (`tests/oracle/traefik_rules.json`),
//! against what `rust-lb rule` and the entry chain answer.

use rust_lb::http::target;
use rust_lb::model::canonical_host;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

fn corpus() -> Value {
    serde_json::from_str(include_str!("../oracle/traefik_rules.json")).expect("the corpus is JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Answers of `rust-lb rule --jsonl` by id.
fn ask(lines: &[Value]) -> HashMap<String, Value> {
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = rust_lb::cli::rule::run(&["--jsonl".to_owned()], &mut input.as_bytes(), &mut out, &mut err);
    assert_eq!((code, &*err), (0, &b""[..]));
    let answers = String::from_utf8(out).expect("JSON lines");
    answers
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("an answer is JSON"))
        .map(|answer| (text(&answer, "id").to_owned(), answer))
        .collect()
}

fn ids(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn rules_answer_as_traefik() {
    let corpus = corpus();
    let rules = list(&corpus, "rules");
    let mut lines = vec![json!({"requests": corpus["requests"], "connections": corpus["connections"]})];
    lines.extend(
        rules.iter().map(
            |rule| json!({"id": rule["id"], "kind": rule["kind"], "syntax": rule["syntax"], "rule": rule["rule"]}),
        ),
    );
    let answers = ask(&lines);
    assert!(rules.len() > 200, "the corpus is there");
    for rule in rules {
        let answer = &answers[text(rule, "id")];
        let what = format!("{rule}");
        assert_eq!(answer["ok"], json!(text(rule, "parse") == "ok"), "{what}: {answer}");
        if answer["ok"] == json!(true) {
            assert_eq!(answer["priority"], rule["priority"], "{what}");
            assert_eq!(answer["domains"], rule["domains"], "{what}");
            assert_eq!(ids(&answer["match"]), ids(&rule["match"]), "{what}");
        } else {
            assert!(!text(answer, "error").is_empty() && answer["span"].is_array(), "{what}: {answer}");
        }
    }
}

#[test]
fn winners_are_traefiks() {
    let corpus = corpus();
    let mut lines = vec![json!({"requests": corpus["requests"]})];
    lines.extend(list(&corpus, "sets").iter().map(|set| json!({"id": set["id"], "routers": set["routers"]})));
    let answers = ask(&lines);
    for set in list(&corpus, "sets") {
        let answer = &answers[text(set, "id")];
        for request in list(&corpus, "requests") {
            let id = text(request, "id");
            let allowed = ids(&set["winner"][id]);
            match answer["winner"][id].as_str() {
                Some(winner) => assert!(allowed.contains(winner), "{id} in {set}: {winner}"),
                None => assert!(allowed.is_empty(), "{id} in {set}: no winner"),
            }
        }
        for router in list(set, "routers") {
            let refused = answer["errors"].get(text(router, "name")).is_some();
            assert_eq!(refused, router.get("error").is_some(), "{router}");
        }
    }
}

#[test]
fn targets_become_what_traefik_saw() {
    for request in list(&corpus(), "requests") {
        let (method, given) = (text(request, "method"), text(request, "target"));
        let target = if method == "CONNECT" { target::normalise_connect(given) } else { target::normalise(given) };
        let host = list(request, "headers").iter().find(|header| header[0] == json!("Host"));
        let host = host.and_then(|header| header[1].as_str()).unwrap_or_default();
        if let Some(seen) = request.get("seen") {
            let target = target.unwrap_or_else(|error| panic!("{request}: {error}"));
            assert_eq!(&*target.escaped_path, text(seen, "escaped_path"), "{request}");
            assert_eq!(&*target.routing_path, text(seen, "routing_path"), "{request}");
            assert_eq!(&*target.query, text(seen, "raw_query"), "{request}");
            assert_eq!(canonical_host(target.authority.unwrap_or(host)), text(seen, "canonical_host"), "{request}");
        } else {
            // Two faults lie in the Host header, and `OPTIONS *` is no fault of the target.
            let host_is_bad = host.is_empty() || !target::is_host_header(host);
            assert!(target.is_err() || host_is_bad || (method, given) == ("OPTIONS", "*"), "{request}");
        }
    }
}
