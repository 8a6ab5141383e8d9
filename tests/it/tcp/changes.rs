//! The table changes while connections are open.

use super::peers::{self, Tcp, dial, hears, says};
use super::{ANY, Rig, routed};
use std::io::Read;

#[test]
fn open_connections_do_not_care_for_a_change() {
    let (old, new) = (Tcp::greets("old"), Tcp::greets("new"));
    let rig = Rig::start(&routed(ANY, "", "", &[old.addr]), &[]);
    let mut first = dial(rig.db());
    assert_eq!(hears(&mut first, 3), "old");
    rig.replace(&routed(ANY, "", "", &[new.addr]));
    assert_eq!(hears(&mut dial(rig.db()), 3), "new");
    says(&mut first, "still here");
    assert_eq!(hears(&mut first, 10), "still here");
    rig.replace("http: {}\n");
    says(&mut first, "and here");
    assert_eq!(hears(&mut first, 8), "and here");
    let mut fresh = dial(rig.db());
    says(&mut fresh, "GET / HTTP/1.0\r\n\r\n");
    assert!(peers::rest(&mut fresh).starts_with("HTTP/1.0 404"), "no TCP router is left");
}

#[test]
fn a_server_that_left_keeps_its_connections_up_to_the_limit() {
    let (old, new) = (Tcp::greets("old"), Tcp::greets("new"));
    let rig = Rig::start(&routed(ANY, "", "", &[old.addr]), &["--rustLb.drain.limit=100ms"]);
    let mut first = dial(rig.db());
    assert_eq!(hears(&mut first, 3), "old");
    rig.replace(&routed(ANY, "", "", &[new.addr]));
    let mut second = dial(rig.db());
    assert_eq!(hears(&mut second, 3), "new");
    assert_eq!(first.read(&mut [0]).expect("an orderly end"), 0);
    says(&mut second, "still here");
    assert_eq!(hears(&mut second, 10), "still here");
}

#[test]
fn a_bad_definition_costs_only_itself_and_keeps_its_last_good_form() {
    let (a, b) = (Tcp::greets("a"), Tcp::greets("b"));
    let rig = Rig::start(&routed(ANY, "", "", &[a.addr]), &[]);
    assert_eq!(hears(&mut dial(rig.db()), 1), "a");
    // the servers of today count, whatever the rule is
    rig.replace_and_wait_for(&routed("HostSNI(`*`", "", "", &[b.addr]), "bad_rule");
    assert_eq!(hears(&mut dial(rig.db()), 1), "b");
    rig.replace_and_wait_for(&routed("HostSNI(`a.test`)", "", "", &[b.addr]), "bad_rule");
    assert_eq!(hears(&mut dial(rig.db()), 1), "b", "a name without TLS is none");
    let problems = rig.problems();
    let problem = problems.iter().find(|problem| problem["code"] == "bad_rule").expect("it is told");
    assert!(problem["file"].as_str().is_some_and(|file| file.ends_with("routes.yaml")), "{problem}");
    assert!(problem["line"].as_u64().is_some_and(|line| line == 5), "{problem}");
}

#[test]
fn what_changes_is_in_the_history_by_name() {
    let server = Tcp::greets("a");
    let rig = Rig::start("http: {}\n", &[]);
    rig.replace(&routed(ANY, "", "", &[server.addr]));
    let history = rig.proxy.admin("/api/history").json();
    assert_eq!(history[0]["added"], serde_json::json!(["r@file", "s@file"]), "{history}");
}
