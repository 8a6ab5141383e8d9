//! `rateLimit`, `inFlightReq` and `circuitBreaker`.

use super::rig::{Ask, BOTH, Front, GET, Rig, Server, says};
use crate::support::eventually;
use serde_json::json;
use std::sync::{Arc, Mutex, mpsc};

#[test]
fn a_limit_holds_over_protocols_and_over_changes_of_the_table() {
    let server = Server::echo();
    let middlewares = json!({
        "r": {"rateLimit": {"average": 1, "period": "1h", "burst": 2}},
        "who": {"rateLimit": {"average": 1, "period": "1h", "sourceCriterion": {"requestHeaderName": "X-Who"}}},
    });
    let url = [server.url()];
    let routes: [(&str, &[&str], &[String]); 2] = [("r.test", &["r"], &url), ("who.test", &["who"], &url)];
    let rig = Rig::start(&routes, middlewares.clone());
    for front in BOTH {
        assert_eq!(rig.get(front, "r.test").status, 200);
    }
    for front in BOTH {
        let answer = rig.get(front, "r.test");
        assert_eq!((answer.status, &*answer.body), (429, "Too Many Requests"));
        let wait: u64 = answer.header("retry-after").and_then(|wait| wait.parse().ok()).expect("when to come again");
        assert!((3_000..=3_600).contains(&wait), "{wait}");
        assert!(answer.header("x-retry-in").is_some_and(|wait| wait.starts_with("59m") || wait.starts_with("1h0m0s")));
    }
    let by = |who| Ask { headers: vec![("x-who", who)], ..GET };
    let statuses = ["a", "b", "a"].map(|who| rig.ask(Front::Http1, "who.test", &by(who)).status);
    assert_eq!(statuses, [200, 200, 429]);
    let more = [routes[0], routes[1], ("new.test", &["r"], &url)];
    rig.change(&more, middlewares);
    eventually("the new route", || (rig.get(Front::Http1, "new.test").status == 200).then_some(()));
    assert_eq!(rig.get(Front::Http2, "r.test").status, 429, "what was counted stays");
}

#[test]
fn requests_in_flight_are_counted_until_they_end() {
    let (go, gate) = mpsc::channel::<()>();
    let (came, arrived) = mpsc::channel::<()>();
    let (gate, came) = (Mutex::new(gate), Mutex::new(came));
    let server = Server::start(move |_, _| {
        came.lock().expect("not poisoned").send(()).expect("somebody waits");
        gate.lock().expect("not poisoned").recv().expect("somebody opens");
        says(200, "ok")
    });
    let url = [server.url()];
    let rig = Arc::new(Rig::start(&[("i.test", &["i"], &url)], json!({"i": {"inFlightReq": {"amount": 1}}})));
    for front in BOTH {
        let held = std::thread::spawn({
            let rig = rig.clone();
            move || rig.get(front, "i.test").status
        });
        arrived.recv().expect("a request");
        for other in BOTH {
            let answer = rig.get(other, "i.test");
            assert_eq!((answer.status, &*answer.body), (429, "max connections reached: 1"));
        }
        go.send(()).expect("the server waits");
        assert_eq!(held.join().expect("no panic"), 200);
        // That one has ended is known to its client a moment before it is to the proxy.
        eventually("there is room again", || {
            let rig = rig.clone();
            let next = std::thread::spawn(move || rig.get(front, "i.test").status);
            let passed = arrived.recv_timeout(std::time::Duration::from_millis(200)).is_ok();
            if passed {
                go.send(()).expect("the server waits");
            }
            (next.join().expect("no panic") == 200).then_some(())
        });
    }
}

#[test]
fn a_breaker_opens_for_its_router_alone() {
    let failing = Server::start(|_, _| says(500, "no"));
    let fine = Server::echo();
    let middlewares = json!({"b": {"circuitBreaker": {
        "expression": "ResponseCodeRatio(500, 600, 0, 600) > 0.5", "fallbackDuration": "1h", "responseCode": 418,
    }}});
    let (failing_url, fine_url) = ([failing.url()], [fine.url()]);
    let rig = Rig::start(&[("bad.test", &["b"], &failing_url), ("good.test", &["b"], &fine_url)], middlewares);
    assert_eq!(rig.get(Front::Http1, "bad.test").status, 500);
    for front in BOTH {
        eventually("it is open", || (rig.get(front, "bad.test").status == 418).then_some(()));
        let asked = failing.got().len();
        let answer = rig.get(front, "bad.test");
        assert_eq!((answer.status, &*answer.body), (418, "I'm a teapot"));
        assert_eq!(failing.got().len(), asked, "the server is left alone");
        assert_eq!(rig.get(front, "good.test").status, 200);
    }
}
