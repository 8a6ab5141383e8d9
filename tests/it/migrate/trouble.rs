//! Bad input: told with its place, left as it is, never a panic.

use super::{contents, folder, job, json, migrate, piped, text};
use std::fs;

#[test]
fn broken_files_are_told_with_their_place_and_others_go_on() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, content) in contents(&folder("broken")) {
        fs::write(dir.path().join(name), content).expect("written");
    }
    fs::write(dir.path().join("good.nomad"), job("[\"urlprefix-good.example.com/\"]")).expect("written");
    fs::write(dir.path().join("latin.nomad"), b"job \"caf\xe9\" {}\n").expect("written");
    let before = contents(dir.path());
    let (code, out, err) = migrate(&["--write", text(dir.path())]);
    assert_eq!(code, Some(2), "{out}{err}");
    assert!(err.contains("syntax.nomad:4:14") && err.contains("syntax.json:3:9"), "{err}");
    assert!(err.contains("latin.nomad:1:9") && err.contains("not UTF-8"), "{err}");
    assert!(err.contains("loop.nomad:7:") && err.contains("`for` expression"), "{err}");
    assert!(out.contains("wrote ") && out.contains("good.nomad"), "{out}");
    let after = contents(dir.path());
    for (name, content) in &before {
        assert!(name == "good.nomad" || after[name] == *content, "{name}");
    }
}

#[test]
fn a_document_that_cannot_be_edited_takes_the_rest_of_its_routes_along() {
    let dir = tempfile::tempdir().expect("a folder");
    let service =
        |name: &str, tags: &str| format!("    service {{\n      name = \"{name}\"\n      tags = {tags}\n    }}\n");
    let job = |services: &str| format!("job \"j\" {{\n  group \"g\" {{\n{services}  }}\n}}\n");
    // One of the two has what the other one would have to be given, and both have the list.
    let x = service("x", "concat(local.shared, [\"traefik.enable=true\"])");
    let shared =
        format!("locals {{\n  shared = [\"urlprefix-a.test/\"]\n}}\n{}", job(&(x + &service("y", "local.shared"))));
    let beside = job(&service("z", "[\"urlprefix-a.test/\", \"urlprefix-z.test/\"]"));
    fs::write(dir.path().join("shared.nomad.hcl"), &shared).expect("a file");
    fs::write(dir.path().join("beside.nomad.hcl"), &beside).expect("a file");
    let (code, out, err) = migrate(&["--write", text(dir.path())]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("shared_tags") || err.contains("shared_tags"), "{out}{err}");
    assert_eq!(fs::read_to_string(dir.path().join("shared.nomad.hcl")).expect("a file"), shared);
    let beside = fs::read_to_string(dir.path().join("beside.nomad.hcl")).expect("a file");
    assert!(beside.contains("Host(`z.test`)") && !beside.contains("Host(`a.test`)"), "{beside}\n{out}{err}");
}

#[test]
fn a_tag_in_an_expression_takes_the_rest_of_its_route_along() {
    let dir = tempfile::tempdir().expect("a folder");
    let by_hand = job("[for h in [\"a\", \"b\"] : \"urlprefix-pool.test/${h}\"]");
    let split = job("split(\",\", \"urlprefix-a.test/,urlprefix-b.test/\")");
    fs::write(dir.path().join("hand.nomad"), &by_hand).expect("a file");
    fs::write(dir.path().join("split.nomad"), &split).expect("a file");
    let beside = job("[\"urlprefix-b.test/\", \"urlprefix-c.test/\"]");
    fs::write(dir.path().join("beside.nomad"), &beside).expect("a file");
    let (code, out, err) = migrate(&["--write", text(dir.path())]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("the function `split`") && err.contains("half_route"), "{err}");
    let new = fs::read_to_string(dir.path().join("beside.nomad")).expect("a file");
    assert!(new.contains("Host(`c.test`)") && !new.contains("Host(`b.test`)"), "{new}");
    assert_eq!(fs::read_to_string(dir.path().join("split.nomad")).expect("a file"), split);
    // Four legacy tags are left, two of them of one text.
    let told = json(&["--check", text(dir.path())]);
    assert_eq!((&told["left"], &told["exitCode"]), (&4.into(), &1.into()), "{told:#}");
}

#[test]
fn what_is_no_job_is_passed_over() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, content) in [
        ("package.json", "{\"name\": \"x\", \"version\": \"1\"}"),
        ("consul.hcl", "datacenter = \"dc1\"\nserver = true\n"),
        ("vars.hcl", "region = \"eu\"\n"),
        ("list.json", "[1, 2]"),
        ("empty.nomad", ""),
        ("readme.md", "job \"x\" {"),
        (".hidden.nomad", "job \"x\" {"),
    ] {
        fs::write(dir.path().join(name), content).expect("written");
    }
    let told = json(&[text(dir.path())]);
    assert_eq!(told["passedOver"].as_array().map(Vec::len), Some(5), "{told:#}");
    assert_eq!((&told["exitCode"], &told["documents"]), (&0.into(), &serde_json::json!([])));
    let (code, _, err) = migrate(&[text(&dir.path().join("package.json"))]);
    assert_eq!((code, err.contains("passed over")), (Some(0), true), "{err}");
}

#[test]
fn deep_and_wide_documents_end_in_good_time() {
    for bad in [
        format!("x = {}", "[".repeat(500_000)),
        "a {\n".repeat(300_000),
        format!("job \"x\" {{\n  y = \"{}", "${\"".repeat(200_000)),
        "{\"job\":".repeat(300_000),
    ] {
        let (code, _, err) = piped(&["-"], bad.as_bytes());
        assert_eq!(code, Some(2), "{}", &err[..err.len().min(500)]);
    }
    let group = |n: usize| {
        format!(
            "  group \"g{n}\" {{\n    service {{\n      name = \"s{n}\"\n      tags = [\"urlprefix-s{n}.example.com/\"]\n    }}\n  }}\n"
        )
    };
    let wide = format!("job \"wide\" {{\n{}}}\n", (0..400).map(group).collect::<String>());
    let (code, out, err) = piped(&["--stdout", "--drop-legacy", "-"], wide.as_bytes());
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(String::from_utf8_lossy(&out).matches("traefik.enable=true").count(), 400);
    let template = "y".repeat(1 << 20);
    let tasks: Vec<_> = (0..50).map(|n| serde_json::json!({"Name": n.to_string(), "Data": template})).collect();
    let services = serde_json::json!([{"Name": "large", "Tags": ["urlprefix-large.example.com/"]}]);
    let large =
        serde_json::json!({"Job": {"ID": "l", "TaskGroups": [{"Name": "g", "Services": services, "Tasks": tasks}]}});
    let (code, out, err) = piped(&["--stdout", "-"], large.to_string().as_bytes());
    assert_eq!((code, out.len() > 50 << 20), (Some(0), true), "{err}");
    let (code, _, err) = piped(&["-"], &vec![b'#'; (64 << 20) + 1]);
    assert_eq!((code, err.contains("more than a document may have")), (Some(2), true), "{err}");
}

#[test]
fn folders_that_lead_in_circles_are_no_trouble() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("a")).expect("a folder");
    std::os::unix::fs::symlink("..", dir.path().join("a/up")).expect("a link");
    fs::write(dir.path().join("a/x.nomad"), job("[\"urlprefix-x.example.com/\"]")).expect("written");
    let told = json(&[text(dir.path()), text(dir.path())]);
    assert_eq!(told["documents"].as_array().map(Vec::len), Some(1), "{told:#}");
}
