//! What `check` tells.

use super::*;

#[test]
fn check_tells_problems_and_what_is_settled() {
    let (code, out, err) = check_of(&given(), true, false);
    assert_eq!((code, err.as_str()), (0, ""));
    for part in [
        "the configuration holds",
        "websecure",
        ":443",
        "127.0.0.1:8080",
        "http://127.0.0.1:4646",
        "up to 128 routed services",
        "http_max_conns_per_client",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let bad = yaml("entryPoints:\n  web:\n    adress: ':80'\n");
    let (code, out, err) = check_of(&bad, false, false);
    assert_eq!(code, 1);
    assert!(out.contains("does not hold (1 error, 0 warnings)"), "{out}");
    assert!(
        err.contains("t.yaml:3:5\n") && err.contains("    ^^^^^^\n") && err.contains("did you mean `address`?"),
        "{err}"
    );
    let warned = yaml("tracing: {}\n");
    assert_eq!((check_of(&warned, false, false).0, check_of(&warned, true, false).0), (0, 1));
    assert_eq!(check_of(&yaml("entryPoints: {a: {address: ':1'}}"), true, false).0, 0, "notes are no warnings");
}

#[test]
fn check_exits_with_two_when_the_command_line_is_wrong() {
    for flags in [&["--bogus"][..], &["stray"], &["--log.level"], &["--standby"]] {
        assert_eq!(check_of(&given().flags(flags), false, false).0, 2, "{flags:?}");
    }
    assert_eq!(check_of(&given().flags(&["--log.level=loud"]), false, false).0, 1);
}

#[test]
fn check_in_json_is_one_document_without_secrets() {
    let given = yaml("providers:\n  nomad:\n    endpoint: {token: hunter2}\ntracing: {}\n");
    let (code, out, err) = check_of(&given, false, true);
    assert_eq!((code, err.as_str()), (0, ""));
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&value["ok"], &value["problems"][0]["code"]), (&true.into(), &"not_served".into()));
    assert_eq!(value["settled"]["providers"]["nomad"]["token"], "given");
    assert_eq!(value["settled"]["entryPoints"]["web"]["address"], ":80");
    assert!(!out.contains("hunter2"));
    let (code, out, _) = check_of(&yaml("tracin: {}\n"), false, true);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &value["ok"], &value["settled"], &value["problems"][0]["line"]),
        (1, &false.into(), &().into(), &1.into())
    );
}
