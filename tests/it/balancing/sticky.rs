//! Sticky cookies.

use super::*;
use rust_lb::table::Sticky;

fn cookie(answer: &Answer) -> Option<String> {
    answer.header("set-cookie").map(|set| set.split(';').next().unwrap_or_default().to_owned())
}

#[test]
fn a_cookie_keeps_a_client_on_its_server() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let sticky =
        ", sticky: {cookie: {name: lb, httpOnly: true, secure: true, sameSite: strict, maxAge: 60, domain: x.test}}";
    let rig = Rig::start(
        &[("s", servers(&[a.addr, b.addr], sticky)), ("d", servers(&[a.addr], ", sticky: {cookie: {}}"))],
        &[],
    );
    let first = rig.get("s");
    let value = Sticky::value(&format!("http://{}", if who(&first) == "a" { a.addr } else { b.addr }));
    let set = format!("lb={value}; Path=/; Domain=x.test; Max-Age=60; HttpOnly; Secure; SameSite=Strict");
    assert_eq!(first.header("set-cookie"), Some(set.as_str()));
    for _ in 0..6 {
        let again = rig.ask("s", &format!("Cookie: other=1; lb={value}\r\n"));
        assert_eq!((who(&again), again.header("set-cookie")), (who(&first), None));
    }
    // without the cookie clients take turns
    assert_eq!(rig.shares("s", 10).len(), 2);
    // Traefik's name: a hash of the service's
    let name = rig.service("d")["loadBalancer"]["sticky"]["cookie"]["name"].as_str().unwrap_or_default().to_owned();
    assert_eq!(name.len(), 6, "{name}");
    assert!(rig.get("d").header("set-cookie").is_some_and(|set| set.starts_with(&format!("{name}="))));
}

#[test]
fn forged_stale_and_former_cookies_are_replaced() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let weights = format!(
        "{{loadBalancer: {{sticky: {{cookie: {{name: lb}}}}, servers: [{{url: 'http://{}'}}, {{url: 'http://{}', weight: 0}}]}}}}",
        a.addr, b.addr
    );
    let rig = Rig::start(&[("s", servers(&[a.addr, b.addr], ", sticky: {cookie: {name: lb}}")), ("z", weights)], &[]);
    let long = "x".repeat(3_000);
    for forged in ["bogus", "", "\"", "../../etc/passwd", "22458158eb3e7ff0", &long] {
        let answer = rig.ask("s", &format!("Cookie: lb={forged}\r\n"));
        assert_eq!((answer.status, cookie(&answer).is_some()), (200, true), "{forged}");
    }
    let url = format!("http://{}", b.addr);
    for former in Sticky::former_values(&url) {
        let answer = rig.ask("s", &format!("Cookie: lb={former}\r\n"));
        assert_eq!((who(&answer), cookie(&answer)), ("b".to_owned(), Some(format!("lb={}", Sticky::value(&url)))));
    }
    // a server whose weight became 0 is drained of those that stick to it, as in Traefik
    let answer = rig.ask("z", &format!("Cookie: lb={}\r\n", Sticky::value(&url)));
    assert_eq!((who(&answer), cookie(&answer).is_some()), ("a".to_owned(), true));
}

#[test]
fn a_server_that_refuses_loses_its_clients_and_they_are_told() {
    let (a, dead) = (Server::start("a"), nobody());
    let rig = Rig::start(&[("s", servers(&[a.addr, dead], ", sticky: {cookie: {name: lb}}"))], &[]);
    let stale = Sticky::value(&format!("http://{dead}"));
    let answer = rig.ask("s", &format!("Cookie: lb={stale}\r\n"));
    assert_eq!((answer.status, who(&answer)), (200, "a".to_owned()));
    assert_eq!(cookie(&answer), Some(format!("lb={}", Sticky::value(&format!("http://{}", a.addr)))));
}

#[test]
fn a_weighted_service_sticks_to_a_service_and_that_to_a_server() {
    let all: Vec<Server> = ["a1", "a2", "b1", "b2"].into_iter().map(Server::start).collect();
    let rig = Rig::start(
        &[
            ("a", servers(&[all[0].addr, all[1].addr], ", sticky: {cookie: {name: inner}}")),
            ("b", servers(&[all[2].addr, all[3].addr], ", sticky: {cookie: {name: inner}}")),
            (
                "w",
                "{weighted: {services: [{name: a, weight: 1}, {name: b, weight: 1}], sticky: {cookie: {name: outer}}}}"
                    .to_owned(),
            ),
        ],
        &[],
    );
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let first = rig.get("w");
        let set: Vec<&str> = first
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
            .map(|(_, v)| v.as_str())
            .collect();
        assert_eq!(set.len(), 2, "{set:?}");
        assert!(set[0].starts_with("outer=") && set[1].starts_with("inner="), "{set:?}");
        let pairs: Vec<&str> = set.iter().map(|set| set.split(';').next().unwrap_or_default()).collect();
        let again = rig.ask("w", &format!("Cookie: {}\r\n", pairs.join("; ")));
        assert_eq!((who(&again), cookie(&again)), (who(&first), None));
        // only the outer one: the same service, one of its servers, and the inner cookie anew
        let outer = rig.ask("w", &format!("Cookie: {}\r\n", pairs[0]));
        assert_eq!(who(&outer)[..1], who(&first)[..1]);
        assert!(cookie(&outer).is_some_and(|set| set.starts_with("inner=")));
        seen.insert(who(&first));
    }
    assert!(seen.len() >= 2, "{seen:?}");
    let item = rig.service("w");
    assert_eq!(item["weighted"]["sticky"]["cookie"]["name"], "outer", "{item}");
}

#[test]
fn tags_make_a_service_sticky() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let rig = Rig::start(&[], &[]);
    let tags = [
        "traefik.enable=true",
        "traefik.http.routers.t.rule=Host(`t.test`)",
        "traefik.http.services.t.loadbalancer.sticky.cookie.name=lb",
    ];
    rig.proxy.catalog.register_nomad("1", "t", a.addr, &tags);
    rig.proxy.catalog.register_nomad("2", "t", b.addr, &tags);
    eventually("both servers are there", || {
        (rig.proxy.wait_for("t.test", "/", 200), rig.shares("t", 10).len() == 2).1.then_some(())
    });
    let first = rig.get("t");
    let pair = cookie(&first).expect("a cookie");
    for _ in 0..6 {
        assert_eq!(who(&rig.ask("t", &format!("Cookie: {pair}\r\n"))), who(&first));
    }
    assert!(!rig.problems().contains("sticky"), "{}", rig.problems());
}
