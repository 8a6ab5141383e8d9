//! `rust-lb certs` and `certs new`, as people run them.

use super::support::binary::output;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn certs(dir: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let directory = format!("--rustLb.certificates.directory={}", dir.join("CERTS").display());
    let state = format!("--rustLb.stateDir={}", dir.join("state").display());
    let args: Vec<&str> = ["certs"].into_iter().chain(more.iter().copied()).chain([&*directory, &state]).collect();
    let output = output(&args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn certificates_for_development_are_made_and_listed() {
    let dir = tempfile::tempdir().expect("a folder");
    let here = dir.path();
    fs::create_dir(here.join("CERTS")).expect("a folder");
    let (crt, key) = (here.join("CERTS/dev.crt"), here.join("CERTS/dev.key"));
    let (to_crt, to_key) = (format!("--cert={}", crt.display()), format!("--key={}", key.display()));
    let make = ["new", "shop.test", "*.shop.test", "127.0.0.1", &to_crt, &to_key];
    let (code, out, err) = certs(here, &make);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let root = here.join("state/local/root.crt");
    assert!(out.contains(&root.display().to_string()), "{out}");
    assert_eq!(fs::metadata(&key).expect("the key").permissions().mode() & 0o777, 0o600);

    let (code, out, err) = certs(here, &["--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(listed["well"], true);
    assert_eq!(listed["certificates"][0]["names"], serde_json::json!(["shop.test", "*.shop.test", "127.0.0.1"]));
    assert_eq!(listed["certificates"][0]["file"], crt.display().to_string());
    assert!(!out.contains("PRIVATE"));
    let (code, out, _) = certs(here, &[]);
    assert_eq!(code, Some(0));
    assert!(out.contains("shop.test, *.shop.test") && out.contains("1 certificate in"), "{out}");

    // What is there is not replaced without a word.
    let before = fs::read(&key).expect("the key");
    let (code, _, err) = certs(here, &make);
    assert_eq!((code, fs::read(&key).expect("the key") == before), (Some(1), true));
    assert!(err.contains("--force"), "{err}");
    let forced: Vec<&str> = make.into_iter().chain(["--force"]).collect();
    assert_eq!(certs(here, &forced).0, Some(0));
    assert_ne!(fs::read(&key).expect("the key"), before);

    // And what is broken is said, with exit code 1.
    fs::write(here.join("CERTS/bad.crt"), "garbage").expect("written");
    fs::write(here.join("CERTS/bad.key"), "garbage").expect("written");
    let (code, out, err) = certs(here, &[]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("no PEM certificate in it") && err.contains("bad.crt"), "{out}{err}");
}

#[test]
fn what_cannot_be_read_or_made_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let (code, _, err) = certs(dir.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("No such file"), "{err}");
    assert!(!dir.path().join("CERTS").exists() && !dir.path().join("state").exists(), "looking makes nothing");
    for (words, code, part) in [
        (&["new"][..], 2, "at least one host"),
        (&["new", "a b"], 1, "is no host"),
        (&["new", "a.*.test"], 1, "is no host"),
        (&["new", "../x"], 1, "is no host"),
        (&["new", "a.test", "--cert"], 2, "needs a value"),
        (&["--nonsense"], 2, "nonsense"),
    ] {
        let (got, _, err) = certs(dir.path(), words);
        assert_eq!(got, Some(code), "{words:?}: {err}");
        assert!(err.contains(part), "{words:?}: {err}");
    }
}

#[test]
fn in_self_signed_mode_caddys_authority_signs() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let out = super::support::binary::command(&["certs", "new", "a.test", "--json"])
        .arg(format!("--rustLb.certificates.directory={}", at("CERTS")))
        .arg(format!("--rustLb.stateDir={}", at("state")))
        .env("CERTS_SELF_SIGNED", "1")
        .current_dir(dir.path())
        .output()
        .expect("the binary runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let said: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(said["root"], at("CERTS/pki/authorities/local/root.crt"));
    let chain = fs::read_to_string(dir.path().join("a.test.crt")).expect("beside");
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2, "with the intermediate");
    assert_eq!(fs::metadata(at("a.test.key")).expect("beside").permissions().mode() & 0o777, 0o600);
}
