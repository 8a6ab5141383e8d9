//! `retry`: after a status, within a budget, with what can be said again.

use super::rig::{Ask, BOTH, Front, GET, Rig, Server, nobody, says};
use serde_json::json;

/// Answers 503 twice, then 200, and so on.
fn third_time() -> Server {
    Server::start(|number, _| if number % 3 == 2 { says(200, "yes") } else { says(503, "no") })
}

#[test]
fn a_status_is_tried_again_where_the_method_allows_it() {
    let middlewares = json!({
        "r": {"retry": {"attempts": 3, "initialInterval": "1ms", "status": ["500-502", "503"]}},
        "two": {"retry": {"attempts": 2, "status": ["503"]}},
        "any": {"retry": {"attempts": 3, "status": ["503"], "retryNonIdempotentMethod": true}},
        "default": {"retry": {"attempts": 3}},
        "poor": {"retry": {"attempts": 3, "status": ["503"], "rustLbBudgetPercent": 0, "rustLbBudgetPerSecond": 0}},
    });
    for front in BOTH {
        let servers: Vec<Server> = (0..5).map(|_| third_time()).collect();
        let urls: Vec<[String; 1]> = servers.iter().map(|server| [server.url()]).collect();
        let rig = Rig::start(
            &[
                ("r.test", &["r"], &urls[0]),
                ("two.test", &["two"], &urls[1]),
                ("any.test", &["any"], &urls[2]),
                ("default.test", &["default"], &urls[3]),
                ("poor.test", &["poor"], &urls[4]),
            ],
            middlewares.clone(),
        );
        let post = Ask { method: "POST", body: "a body", ..GET };
        let status = |host: &str, ask: &Ask| rig.ask(front, host, ask).status;
        assert_eq!(rig.get(front, "r.test").body, "yes", "{front:?}");
        assert_eq!(servers[0].got().len(), 3);
        assert_eq!(status("r.test", &post), 503, "POST is not idempotent");
        assert_eq!(servers[0].got().len(), 4);
        assert_eq!((status("two.test", &GET), servers[1].got().len()), (503, 2), "the last try counts, whatever it is");
        let (expected, tries) = match front {
            Front::Http1 => (200, 3),
            // A body that comes by HTTP/2 is passed on as it comes, and not kept.
            Front::Http2 => (503, 1),
        };
        assert_eq!((status("any.test", &post), servers[2].got().len()), (expected, tries), "{front:?}");
        assert!(servers[2].got().iter().all(|request| request.ends_with("a body")), "{:?}", servers[2].got());
        assert_eq!((status("default.test", &GET), servers[3].got().len()), (503, 1), "no status is named");
        assert_eq!((status("poor.test", &GET), servers[4].got().len()), (503, 1), "nothing is left of the budget");
    }
}

#[test]
fn another_server_is_asked_and_dead_ones_are_given_up_in_the_end() {
    let (fine, bad) = (Server::echo(), Server::start(|_, _| says(500, "no")));
    let middlewares = json!({
        "r": {"retry": {"attempts": 2, "status": ["500"]}},
        "n": {"retry": {"attempts": 4, "initialInterval": "1ms"}},
    });
    let (both, dead) = ([fine.url(), bad.url()], [nobody()]);
    let rig = Rig::start(&[("r.test", &["r"], &both), ("dead.test", &["n"], &dead)], middlewares);
    for front in BOTH {
        for _ in 0..4 {
            assert_eq!(rig.get(front, "r.test").status, 200);
        }
        assert_eq!(rig.get(front, "dead.test").status, 502);
    }
    assert!(!bad.got().is_empty(), "it had its turn");
}
