//! `headers`: fields of requests and answers, CORS, security; which middlewares see which answers.

use super::rig::{Ask, BOTH, GET, Rig, Server, nobody};
use serde_json::json;

#[test]
fn answers_pass_the_middlewares_that_stand_before_who_made_them() {
    let server = Server::echo();
    let middlewares = json!({
        "outer": {"headers": {"customResponseHeaders": {"X-Outer": "1", "X-Both": "outer", "X-Server": ""}, "frameDeny": true}},
        "inner": {"headers": {"customResponseHeaders": {"X-Inner": "1", "X-Both": "inner"}}},
        "nobody": {"ipAllowList": {"sourceRange": ["192.0.2.1"]}},
        "chained": {"chain": {"middlewares": ["outer", "inner"]}},
        "round": {"chain": {"middlewares": ["outer", "round"]}},
    });
    let rig = Rig::start(
        &[
            ("fine.test", &["outer", "inner"], &[server.url()]),
            ("chain.test", &["chained"], &[server.url()]),
            ("refused.test", &["outer", "nobody", "inner"], &[server.url()]),
            ("dead.test", &["outer", "inner"], &[nobody()]),
            ("round.test", &["round"], &[server.url()]),
        ],
        middlewares,
    );
    for front in BOTH {
        for (host, status, inner) in [
            ("fine.test", 200, Some("1")),
            ("chain.test", 200, Some("1")),
            ("refused.test", 403, None),
            ("dead.test", 502, Some("1")),
        ] {
            let answer = rig.get(front, host);
            assert_eq!(answer.status, status, "{front:?} {host}");
            assert_eq!(answer.header("x-outer"), Some("1"), "{front:?} {host}");
            assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{front:?} {host}");
            assert_eq!(answer.header("x-both"), Some("outer"), "{front:?} {host}");
            assert_eq!(answer.header("x-inner"), inner, "{front:?} {host}");
            assert_eq!(answer.header("x-server"), None, "{front:?} {host}");
        }
        assert_eq!(rig.get(front, "round.test").status, 404, "a chain that holds itself is no route");
    }
}

#[test]
fn requests_are_changed_and_preflights_answered() {
    let server = Server::echo();
    let middlewares = json!({
        "h": {"headers": {
            "customRequestHeaders": {"X-In": "", "X-New": "a b", "Host": "own.test", "X-Forwarded-For": ""},
            "accessControlAllowOriginList": ["https://a.test"],
            "accessControlAllowMethods": ["GET", "PUT"],
            "accessControlMaxAge": 100,
            "addVaryHeader": true,
            "stsSeconds": 5,
        }},
        "host": {"headers": {"allowedHosts": ["good.test"], "customResponseHeaders": {"X-Out": "1"}}},
    });
    let routes: [(&str, &[&str], &[String]); 2] =
        [("a.test", &["h"], &[server.url()]), ("b.test", &["host"], &[server.url()])];
    let rig = Rig::start(&routes, middlewares);
    for front in BOTH {
        let answer =
            rig.ask(front, "a.test", &Ask { headers: vec![("x-in", "1"), ("origin", "https://a.test")], ..GET });
        assert_eq!(answer.status, 200);
        let got = answer.body.to_ascii_lowercase();
        assert!(got.contains("\r\nhost: own.test\r\n") && got.contains("\r\nx-new: a b\r\n"), "{got}");
        assert!(!got.contains("x-in:") && !got.contains("x-forwarded-for:"), "{got}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.test"));
        assert_eq!(answer.header("vary"), Some("Accept,Origin"));
        assert_eq!(answer.header("strict-transport-security"), None, "not without TLS");
        let before = server.got().len();
        let preflight = Ask {
            method: "OPTIONS",
            headers: vec![("origin", "https://b.test"), ("access-control-request-method", "PUT")],
            ..GET
        };
        let answer = rig.ask(front, "a.test", &preflight);
        assert_eq!((answer.status, &*answer.body), (200, ""));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET,PUT"));
        assert_eq!(answer.header("access-control-max-age"), Some("100"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(server.got().len(), before, "the proxy answers by itself");
        let answer = rig.get(front, "b.test");
        assert_eq!((answer.status, &*answer.body), (500, "Bad Host\n"));
        assert_eq!(answer.header("x-out"), Some("1"));
    }
}
