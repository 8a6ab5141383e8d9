//! What is told: diff, report, JSON, SARIF, exit codes; and what a running catalog gives.

use super::{Running, command, folder, job, json, migrate, piped, text};
use serde_json::Value;
use std::fs;

#[test]
fn a_run_without_options_shows_a_diff_and_a_report_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("a.nomad");
    let old = job("[\"urlprefix-a.example.com/\", \"x\"]");
    fs::write(&file, &old).expect("written");
    let (code, out, err) = migrate(&[text(&file)]);
    assert_eq!((code, err.contains("error")), (Some(0), false), "{out}{err}");
    assert!(out.starts_with("--- a/") && out.contains("\n+++ b/") && out.contains("\n@@ "), "{out}");
    assert!(out.contains("\n-      tags = [\"urlprefix-a.example.com/\", \"x\"]\n+      tags = ["), "{out}");
    assert!(out.contains("ready") && out.contains("the new tags route as the old ones"), "{out}");
    assert_eq!(fs::read_to_string(&file).expect("the file"), old);
}

#[test]
fn check_fails_until_all_is_converted() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("a.nomad");
    fs::write(&file, job("[\"urlprefix-a.example.com/\"]")).expect("written");
    let (code, out, _) = migrate(&["--check", text(&file)]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("1 tag left to convert"), "{out}");
    assert_eq!(migrate(&["--write", text(&file)]).0, Some(0));
    let (code, out, err) = migrate(&["--check", text(&file)]);
    assert_eq!(code, Some(0), "{out}{err}");
    // The old tags are still there, which is something left for those who want them gone.
    assert_eq!(migrate(&["--check", "--drop-legacy", text(&file)]).0, Some(1));
    assert_eq!(migrate(&["--write", "--drop-legacy", text(&file)]).0, Some(0));
    assert_eq!(migrate(&["--check", "--drop-legacy", text(&file)]).0, Some(0));
    assert!(!fs::read_to_string(&file).expect("the file").contains("urlprefix"));
}

#[test]
fn what_has_no_faithful_form_is_told_with_its_place_and_stays() {
    let text = job(
        "[\n        \"urlprefix-a.example.com/\",\n        \"urlprefix-b.example.com/ redirect=303,https://c.example.com/\",\n      ]",
    );
    let (code, out, err) = piped(&["--stdout", "-"], text.as_bytes());
    assert_eq!(code, Some(1), "{err}");
    let out = String::from_utf8(out).expect("UTF-8");
    assert!(
        out.contains("redirect=303") && !out.contains("`b.example.com`") && out.contains("`a.example.com`"),
        "{out}"
    );
    assert!(err.contains("-:7:9") && err.contains("= help: "), "{err}");
}

#[test]
fn sarif_names_places() {
    let (jobs, broken) = (folder("jobs"), folder("broken"));
    let (code, out, _) = migrate(&["--sarif", text(&jobs), text(&broken)]);
    assert_eq!(code, Some(2));
    let log: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "rust-lb migrate");
    let rules: Vec<&str> = run["tool"]["driver"]["rules"]
        .as_array()
        .expect("rules")
        .iter()
        .filter_map(|rule| rule["id"].as_str())
        .collect();
    let results = run["results"].as_array().expect("results");
    assert!(results.len() > 30, "{}", results.len());
    for result in results {
        assert!(rules.contains(&result["ruleId"].as_str().expect("a rule")), "{result}");
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().expect("a level")), "{result}");
        assert!(result["message"]["text"].as_str().is_some_and(|text| !text.is_empty()), "{result}");
        for location in result["locations"].as_array().expect("locations") {
            let physical = &location["physicalLocation"];
            assert!(
                physical["artifactLocation"]["uri"].as_str().is_some_and(|uri| uri.contains("tests/migrate/")),
                "{result}"
            );
            if let Some(region) = physical.get("region") {
                assert!(region["startLine"].as_u64() > Some(0) && region["startColumn"].as_u64() > Some(0), "{result}");
            }
        }
    }
    let syntax: Vec<_> = results.iter().filter(|result| result["ruleId"] == "syntax").collect();
    assert_eq!(syntax.len(), 2);
    assert_eq!(syntax[0]["locations"][0]["physicalLocation"]["region"]["startLine"], 3);
}

#[test]
fn the_report_has_a_line_a_service() {
    let (jobs, broken) = (folder("jobs"), folder("broken").join("loop.nomad"));
    let paths = [text(&jobs), text(&broken)];
    let (code, out, _) = migrate(&[&["--report"], &paths[..]].concat());
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("ready") && out.contains("needs a hand") && !out.contains("@@"), "{out}");
    let (_, out, _) = migrate(&[&["--report=markdown"], &paths[..]].concat());
    let table: Vec<&str> = out.lines().take_while(|line| line.starts_with('|')).collect();
    assert!(table.len() > 30 && table[1].starts_with("|---|"), "{out}");
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    assert!(table.iter().all(|line| bars(line) == 7), "{out}");
    let (_, out, _) = migrate(&[&["--report=json"], &paths[..]].concat());
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let states = |state: &str| {
        let services = report["services"].as_array().expect("services");
        services.iter().filter(|service| service["state"] == state).count() as u64
    };
    assert_eq!(report["needAHand"].as_u64(), Some(states("needs a hand")));
    assert_eq!(report["ready"].as_u64(), Some(states("ready")));
    assert!(states("needs a hand") >= 1 && states("ready") >= 20, "{report:#}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for args in [
        &[][..],
        &["--write", "-"],
        &["--undo", "-"],
        &["--stdout", "--write", "x"],
        &["--keep-legacy", "--drop-legacy", "x"],
        &["--no-backup", "x"],
        &["--report=xml", "x"],
        &["--from-consul", "localhost:1", "--write"],
        &["--frobnicate", "x"],
        &["/nonexistent/x.nomad"],
        &["--configFile=/nonexistent", "/nonexistent/x.nomad"],
        &["--fabio-config=/nonexistent", "/nonexistent/x.nomad"],
    ] {
        let (code, out, err) = migrate(args);
        assert_eq!((code, err.contains("error")), (Some(2), true), "{args:?}: {out}{err}");
    }
    let (code, out, _) = migrate(&["--help"]);
    assert_eq!(code, Some(0));
    for word in ["--drop-legacy", "--undo", "--sarif", "--from-nomad", "--fabio-config", "--configFile", "Exit code"] {
        assert!(out.contains(word), "{word}: {out}");
    }
}

#[test]
fn entry_points_and_fabios_settings_are_heeded() {
    let dir = tempfile::tempdir().expect("a folder");
    let (config, fabio) = (dir.path().join("rust-lb.yaml"), dir.path().join("fabio.properties"));
    fs::write(&config, "entryPoints:\n  plain:\n    address: ':80'\n  secure:\n    address: ':443'\n    http:\n      tls: {}\n  pg:\n    address: ':5432'\n").expect("written");
    fs::write(&fabio, "# ours\nproxy.matcher = iprefix\n").expect("written");
    let file = dir.path().join("a.nomad");
    fs::write(&file, job("[\"urlprefix-a.example.com/Foo\", \"urlprefix-:5432 proto=tcp\"]")).expect("written");
    let (to_config, to_fabio) = (format!("--configFile={}", text(&config)), format!("--fabio-config={}", text(&fabio)));
    let (code, out, err) = migrate(&["--stdout", "--drop-legacy", &to_config, &to_fabio, text(&file)]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("entrypoints=pg") && out.contains("(?i)"), "{out}");
    assert!(!out.contains("websecure"), "{out}");
}

#[test]
fn running_services_are_read_from_catalogs() {
    let dir = tempfile::tempdir().expect("a folder");
    let dev = Running::dev(dir.path(), &[]);
    for flag in ["--from-nomad", "--from-consul"] {
        let name = flag.trim_start_matches("--from-");
        let address = dev.addr(name).to_string();
        let told = json(&[flag, &address]);
        let running = told["running"].as_array().expect("services");
        assert!(!running.is_empty(), "{told:#}");
        assert!(running.iter().all(|service| service["address"]["port"].as_u64() > Some(0)), "{told:#}");
        let (_, out, err) = migrate(&[flag, &address]);
        assert!(out.contains("service"), "{out}{err}");
    }
    // A token is in no output.
    let output = command(&["migrate", "--from-consul", "127.0.0.1:1", "--json"])
        .env("CONSUL_HTTP_TOKEN", "very-secret")
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    let all = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8_lossy(&all).contains("very-secret"));
}
