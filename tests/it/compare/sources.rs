//! Where requests come from.

use super::{Scripted, compare, compare_with};
use std::fs;

const CLF: &str = concat!(
    "192.0.2.9 - - [10/Oct/2026:13:55:36 +0000] \"GET /a HTTP/1.1\" 200 12 \"-\" \"Mozilla/5.0\"\n",
    "192.0.2.9 - - [10/Oct/2026:13:55:37 +0000] \"GET /a HTTP/1.1\" 200 12 \"-\" \"curl/8\"\n",
    "this is no line of a log\n",
    "192.0.2.9 - - [10/Oct/2026:13:55:38 +0000] \"GET /b c HTTP/1.1\" 200 12 \"-\" \"-\"\n",
    "192.0.2.9 - - [10/Oct/2026:13:55:39 +0000] \"GET /d HTTP/1.1\" 200 12 \"-\" \"-\"\n",
);

#[test]
fn a_log_with_bad_lines_is_read_all_the_same() {
    let (old, new) = (Scripted::saying("x"), Scripted::saying("x"));
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("access.log");
    fs::write(&log, CLF).expect("written");
    let log = log.display().to_string();
    let given = compare(&old, &new, "", &[&log, "--host", "shop.test"]);
    assert_eq!(given.code, Some(0), "{}", given.err);
    assert!(
        given.err.contains("5 records of Common Log Format (guessed; else `--format`; this is `clf`)"),
        "{}",
        given.err
    );
    assert!(given.err.contains(&format!("{log}:3: expected `client - user [time]")), "{}", given.err);
    assert!(given.err.contains(&format!("{log}:4: not a request target: `/b c`")), "{}", given.err);
    assert!(
        given.out.contains("compared 2 requests (of 3 recorded)") && given.out.contains("2 bad records"),
        "{}",
        given.out
    );
    assert!(old.heads().iter().all(|head| head.to_lowercase().contains("host: shop.test\r\n")));

    // without a host there is nothing to ask for
    let given = compare(&old, &new, "", &[&log]);
    assert_eq!(given.code, Some(2), "{}", given.out);
    assert!(given.err.contains("hint: `--host` names the host"), "{}", given.err);
    // and the format that was said counts
    let given = compare(&old, &new, "", &[&log, "--host", "shop.test", "--format", "caddy"]);
    assert_eq!(given.code, Some(2), "{}", given.out);
}

#[test]
fn a_log_of_caddy_gives_host_fields_and_scheme() {
    let (old, new) = (Scripted::saying("x"), Scripted::saying("x"));
    let line = concat!(
        r#"{"level":"info","ts":1646861401.5,"logger":"http.log.access","msg":"handled request","request":{"proto":"HTTP/2.0","#,
        r#""method":"GET","host":"c.test","uri":"/p","headers":{"User-Agent":["curl"],"X-Canary":["1"],"Cookie":["REDACTED"],"#,
        r#""Authorization":["Basic eDp5"]},"tls":{"version":772}},"status":200}"#,
        "\n"
    );
    let given = compare(&old, &new, line, &["-"]);
    assert_eq!(given.code, Some(0), "{}", given.err);
    assert!(given.err.contains("-: 1 records of Caddy's JSON"), "{}", given.err);
    let head = old.heads().remove(0).to_lowercase();
    assert!(head.contains("host: c.test") && head.contains("x-canary: 1"), "{head}");
    assert!(!head.contains("cookie") && !head.contains("authorization"), "{head}");
    assert!(given.out.contains("note: 1 requests sent without their cookies and Authorization"), "{}", given.out);
    assert!(given.out.contains("by another scheme than the recorded one"), "{}", given.out);
    // told to, it sends what was recorded
    let given = compare(&old, &Scripted::saying("y"), line, &["-", "--credentials"]);
    assert_eq!(given.code, Some(1));
    assert!(old.heads()[1].contains("Basic eDp5") && !given.out.contains("eDp5"), "{}", given.out);
}

#[test]
fn limits_and_samples_are_said() {
    let (old, new) = (Scripted::saying("x"), Scripted::saying("x"));
    let input: String = (0..200).map(|n| format!("http://a.test/{n}\n")).collect();
    let given = compare(&old, &new, &input, &["-", "--limit", "3"]);
    assert!(given.err.contains("not read beyond 3 (`--limit`)"), "{}", given.err);
    assert_eq!(old.heads().len(), 3);
    let given = compare(&old, &new, &input, &["-", "--sample", "0.1", "--json"]);
    let json = given.json();
    let (sent, left) =
        (json["requests"]["distinct"].as_u64().expect("a number"), &json["requests"]["leftOut"]["sample"]);
    assert!(sent > 0 && sent < 60 && left.as_u64() == Some(200 - sent), "{json}");
}

#[test]
fn a_file_that_is_no_record_is_refused() {
    let there = Scripted::saying("x");
    let dir = tempfile::tempdir().expect("a folder");
    for (name, bytes, says) in [
        ("empty", &b""[..], "empty"),
        ("log.gz", &[0x1f, 0x8b, 0xff, 0xfe, 0, 1, b'\n'][..], "zcat FILE"),
        ("prose", b"Once upon a time\nthere was a log\n", "hint: `--format`"),
        ("broken.har", b"{\n\"log\": {\"entries\": [\n", "not JSON"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("written");
        let given = compare(&there, &there, "", &[&path.display().to_string()]);
        assert_eq!(given.code, Some(2), "{name}");
        assert!(given.err.contains("cannot be read") && given.err.contains(says), "{name}: {}", given.err);
    }
    assert!(there.heads().is_empty());
    let given = compare_with("", &["--old", &there.url(), "--new", &there.url(), &dir.path().display().to_string()]);
    assert_eq!(given.code, Some(2), "{}", given.err);
}
