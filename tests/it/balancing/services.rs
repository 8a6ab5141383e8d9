//! Services that are made of other services.

use super::*;
use crate::support::PATIENCE;

fn weighted(parts: &[(&str, u32)], more: &str) -> String {
    let parts: Vec<String> = parts.iter().map(|(name, weight)| format!("{{name: {name}, weight: {weight}}}")).collect();
    format!("{{weighted: {{services: [{}]{more}}}}}", parts.join(", "))
}

#[test]
fn a_canary_gets_its_share_exactly_also_of_services_of_tags() {
    let (stable, canary) = (Server::start("stable"), Server::start("canary"));
    let rig = Rig::start(&[("w", weighted(&[("stable@nomad", 90), ("canary@consulcatalog", 10)], ""))], &[]);
    let tags = ["traefik.enable=true"];
    rig.proxy.catalog.register_nomad("s1", "stable", stable.addr, &tags);
    rig.proxy.catalog.register("c1", "canary", canary.addr, &tags);
    rig.proxy.wait_for("w.test", "/", 200);
    eventually("both services are there", || {
        let problems = rig.problems();
        (!problems.contains("unknown_service")).then_some(())
    });
    // a whole round, wherever it begins: 9 to 1
    let shares = rig.shares("w", 100);
    assert_eq!((counts(&shares, "stable"), counts(&shares, "canary")), (90, 10), "{shares:?}");
    // what goes costs its own share only
    rig.proxy.catalog.deregister("c1");
    eventually("the canary is gone", || {
        let shares = rig.shares("w", 20);
        (counts(&shares, "canary") == 0).then_some(())
    });
    // and one that comes has it at once
    rig.proxy.catalog.register("c2", "canary", canary.addr, &tags);
    eventually("the canary is back", || (counts(&rig.shares("w", 20), "canary") == 2).then_some(()));
}

#[test]
fn services_are_passed_over_while_their_servers_refuse() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let rig = Rig::start(
        &[
            ("dead", servers(&[nobody(), nobody()], "")),
            ("empty", servers(&[], "")),
            ("a", servers(&[a.addr], "")),
            ("b", servers(&[b.addr], "")),
            ("inner", weighted(&[("dead", 5), ("empty", 5), ("b", 1)], "")),
            ("w", weighted(&[("a", 1), ("dead", 3), ("inner", 1)], "")),
        ],
        &[],
    );
    let shares = rig.shares("w", 20);
    assert!(counts(&shares, "a") > 0 && counts(&shares, "b") > 0, "{shares:?}");
    assert_eq!(rig.get("empty").status, 503);
    assert_eq!(rig.get("dead").status, 502);
}

#[test]
fn weights_of_nothing_and_of_much_are_borne() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let huge = u32::MAX;
    let rig = Rig::start(
        &[
            ("a", servers(&[a.addr], "")),
            ("b", servers(&[b.addr], "")),
            ("zero", weighted(&[("a", 0), ("b", 1)], "")),
            ("huge", weighted(&[("a", huge), ("b", huge)], "")),
            ("none", weighted(&[("a", 0), ("b", 0)], "")),
            ("negative", "{weighted: {services: [{name: a, weight: -1}]}}".to_owned()),
            ("toomuch", "{weighted: {services: [{name: a, weight: 99999999999}]}}".to_owned()),
        ],
        &[],
    );
    assert_eq!(counts(&rig.shares("zero", 6), "b"), 6);
    assert_eq!(counts(&rig.shares("huge", 6), "a"), 3);
    for refused in ["none", "negative", "toomuch"] {
        assert_eq!(rig.get(refused).status, 404, "{refused}");
    }
    let problems = rig.problems();
    for text in ["expected a weight from 0", "`none` is refused", "-1"] {
        assert!(problems.contains(text), "{text}: {problems}");
    }
}

#[test]
fn cycles_and_several_kinds_are_refused_and_the_last_good_form_stays() {
    let a = Server::start("a");
    let good = [
        ("a", servers(&[a.addr], "")),
        ("one", weighted(&[("a", 1)], "")),
        ("two", weighted(&[("one", 1)], "")),
        ("three", "{failover: {service: three, fallback: three}}".to_owned()),
    ];
    let rig = Rig::start(&good, &[]);
    assert_eq!((rig.get("two").status, rig.get("three").status), (200, 404));
    let mut bad = good.clone();
    bad[1].1 = weighted(&[("two", 1)], "");
    bad[3].1 = format!("{{failover: {{service: a}}, {}", servers(&[a.addr], "").trim_start_matches('{'));
    rig.replace(&bad);
    eventually("the cycle is told", || rig.problems().contains("`one@file` -> `two@file`").then_some(()));
    let problems = rig.problems();
    assert!(problems.contains("`one@file` -> `two@file` -> `one@file`"), "{problems}");
    assert!(problems.contains("of several kinds"), "{problems}");
    assert_eq!((rig.get("one").status, rig.get("two").status, rig.get("three").status), (200, 200, 404));
    rig.replace(&good);
    eventually("the problem ends", || (!rig.problems().contains("`one@file` -> `two@file`")).then_some(()));
}

#[test]
fn clients_keep_their_service_of_the_highest_random_weight() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let rig = Rig::start(
        &[
            ("a", servers(&[a.addr], "")),
            ("b", servers(&[b.addr], "")),
            ("h", "{highestRandomWeight: {services: [{name: a, weight: 1}, {name: b, weight: 1}]}}".to_owned()),
        ],
        &[],
    );
    let shares = rig.shares("h", 10);
    assert_eq!(shares.len(), 1, "{shares:?}");
    let item = rig.service("h");
    assert_eq!(item["type"], "highestrandomweight", "{item}");
}

#[test]
fn a_failover_asks_the_fallback_while_the_first_has_no_server() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let addr = listener.local_addr().expect("bound");
    let fallback = Server::start("fallback");
    let first = Server::on(listener, "first");
    let rig = Rig::start(
        &[
            ("first", servers(&[addr], "")),
            ("fallback", servers(&[fallback.addr], "")),
            ("f", "{failover: {service: first, fallback: fallback}}".to_owned()),
            ("g", "{failover: {service: gone, fallback: fallback}}".to_owned()),
        ],
        &[],
    );
    assert_eq!(who(&rig.get("f")), "first");
    assert_eq!(who(&rig.get("g")), "fallback");
    assert!(rig.problems().contains("its fallback answers"));
    drop(first);
    eventually("nobody listens any more", || TcpStream::connect_timeout(&addr, PATIENCE).is_err().then_some(()));
    for _ in 0..5 {
        assert_eq!(who(&rig.get("f")), "fallback");
    }
    let item = rig.service("f");
    assert_eq!((&item["type"], &item["failover"]["service"]), (&"failover".into(), &"first".into()), "{item}");
    let listener = TcpListener::bind(addr).expect("the port is free");
    let _first = Server::on(listener, "first");
    eventually("the first is asked again", || (who(&rig.get("f")) == "first").then_some(()));
}

#[test]
fn a_failover_may_ask_the_fallback_for_what_failed() {
    let (broken, fallback) = (answering("503 Service Unavailable", "broken"), Server::start("fallback"));
    let rig = Rig::start(
        &[
            ("broken", servers(&[broken], "")),
            ("fallback", servers(&[fallback.addr], "")),
            ("empty", servers(&[], "")),
            ("f", "{failover: {service: broken, fallback: fallback, errors: {status: ['500-503']}}}".to_owned()),
            ("e", "{failover: {service: broken, fallback: empty, errors: {status: ['503']}}}".to_owned()),
            ("n", "{failover: {service: broken, fallback: fallback, errors: {status: ['500-502']}}}".to_owned()),
            ("x", "{failover: {service: broken, fallback: fallback, errors: {status: ['5xx']}}}".to_owned()),
        ],
        &[],
    );
    for _ in 0..3 {
        assert_eq!(who(&rig.get("f")), "fallback");
        assert_eq!((who(&rig.get("n")), who(&rig.get("e"))), ("broken".to_owned(), "broken".to_owned()));
    }
    assert_eq!(rig.get("x").status, 404);
    // a body is not kept: its sender gets the first one's word
    let answer = client::send(rig.proxy.web(), "POST", "f.test", "/", "", "body");
    assert_eq!((answer.status, who(&answer)), (503, "broken".to_owned()));
    assert!(rig.problems().contains("is for requests without a body"));
}

#[test]
fn api_and_explain_tell_of_services_that_are_made_of_others() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let rig = Rig::start(
        &[("a", servers(&[a.addr], "")), ("b", servers(&[b.addr], "")), ("w", weighted(&[("a", 1), ("b", 1)], ""))],
        &[],
    );
    let item = rig.service("w");
    let services = serde_json::json!([{"name": "a", "weight": 1}, {"name": "b", "weight": 1}]);
    assert_eq!(
        (&item["type"], &item["status"], &item["usedBy"][0]),
        (&"weighted".into(), &"enabled".into(), &"w@file".into())
    );
    assert_eq!(item["weighted"]["services"], services, "{item}");
    assert!(item.get("serverStatus").is_none(), "{item}");
    for _ in 0..4 {
        let told = rig.proxy.admin("/api/explain?url=http://w.test/").json();
        let chosen =
            told["backend"]["servers"].as_array().and_then(|all| all.iter().find(|s| s["chosen"] == true).cloned());
        let chosen = chosen.unwrap_or_else(|| panic!("nobody is chosen: {told}"));
        let url = chosen["url"].as_str().unwrap_or_default().to_owned();
        let expected = if who(&rig.get("w")) == "a" { a.addr } else { b.addr };
        assert_eq!(url, format!("http://{expected}"), "{told}");
    }
}
