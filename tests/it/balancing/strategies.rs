//! The strategies of a load balancer.

use super::*;
use std::time::Duration;

/// Sends a request whose answer is not read yet.
fn send(rig: &Rig, service: &str) -> client::Connection {
    let mut connection = client::Connection::open(rig.proxy.web()).expect("a connection");
    connection.send(format!("GET / HTTP/1.1\r\nHost: {service}.test\r\n\r\n").as_bytes()).expect("sent");
    connection
}

#[test]
fn the_less_busy_is_preferred() {
    for strategy in ["least_conn", "p2c"] {
        let all = [held(), held()];
        let rig = Rig::start(&[("s", servers(&[all[0].0, all[1].0], &format!(", strategy: {strategy}")))], &[]);
        let (mut open, mut held) = (Vec::new(), [Vec::new(), Vec::new()]);
        for _ in 0..6 {
            open.push(send(&rig, "s"));
            // it is counted by the time that it has come
            let (at, request) = eventually("somebody has the request", || {
                all.iter().enumerate().find_map(|(at, (_, requests))| Some((at, requests.try_recv().ok()?)))
            });
            held[at].push(request.1);
        }
        assert_eq!((held[0].len(), held[1].len()), (3, 3), "{strategy}");
        held.into_iter().flatten().for_each(|stream| answer(stream, "200 OK", "held"));
        for mut connection in open {
            assert_eq!(connection.read(false).expect("an answer").status, 200);
        }
    }
}

#[test]
fn the_quicker_is_preferred() {
    let (slow, requests) = held();
    std::thread::spawn(move || {
        for (_, stream) in requests {
            std::thread::sleep(Duration::from_millis(400));
            answer(stream, "200 OK", "slow");
        }
    });
    let fast = Server::start("fast");
    let rig = Rig::start(&[("s", servers(&[slow, fast.addr], ", strategy: leasttime"))], &[]);
    // both answer once before anything is known
    let shares = rig.shares("s", 40);
    assert!(counts(&shares, "fast") >= 36, "{shares:?}");
}

#[test]
fn hashes_keep_who_they_are_made_of() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let both = [a.addr, b.addr];
    let rig = Rig::start(
        &[
            ("hrw", servers(&both, ", strategy: hrw")),
            ("ip", servers(&both, ", strategy: ip_hash")),
            ("header", servers(&both, ", strategy: 'hash_header:X-User'")),
            ("cookie", servers(&both, ", strategy: 'hash_cookie:user'")),
            ("random", servers(&both, ", strategy: random")),
        ],
        &[],
    );
    for service in ["hrw", "ip"] {
        assert_eq!(rig.shares(service, 10).len(), 1, "{service}");
    }
    for (service, field) in [("header", "X-User: "), ("cookie", "Cookie: a=b; user=")] {
        let of = |user: usize| who(&rig.ask(service, &format!("{field}{user}\r\n")));
        let first: Vec<String> = (0..40).map(of).collect();
        assert_eq!(first, (0..40).map(of).collect::<Vec<_>>(), "{service}");
        assert!(first.iter().any(|name| name == "a") && first.iter().any(|name| name == "b"), "{first:?}");
        // those without one take turns
        assert_eq!(counts(&rig.shares(service, 10), "a"), 5, "{service}");
    }
    assert_eq!(rig.shares("random", 100).len(), 2);
    assert_eq!(rig.service("header")["loadBalancer"]["strategy"], "hash_header:X-User");
}

#[test]
fn a_strategy_that_nobody_knows_is_refused_with_its_service() {
    let a = Server::start("a");
    let rig = Rig::start(
        &[("s", servers(&[a.addr], ", strategy: wrr")), ("t", servers(&[a.addr], ", strategy: fastest"))],
        &[],
    );
    assert_eq!((rig.get("s").status, rig.get("t").status), (200, 404));
    assert!(rig.problems().contains("expected the strategy `wrr`, `p2c`"), "{}", rig.problems());
    // one that was good stays in force
    rig.replace(&[("s", servers(&[a.addr], ", strategy: 'hash_header:'"))]);
    eventually("the problem is told", || rig.problems().contains("got `hash_header:`").then_some(()));
    assert_eq!(rig.get("s").status, 200);
}

#[test]
fn ten_thousand_servers_are_one_list() {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port on all of 127.0.0.0/8");
    let port = listener.local_addr().expect("bound").port();
    let _server = Server::on(listener, "many");
    let all: Vec<SocketAddr> =
        (0..10_000u32).map(|at| SocketAddr::from(([127, 1, (at / 250) as u8, (1 + at % 250) as u8], port))).collect();
    let strategies = ["wrr", "leasttime", "hrw"];
    let more = |strategy: &str| format!(", strategy: '{strategy}', sticky: {{cookie: {{name: lb}}}}");
    let listed: Vec<(&str, String)> = ["a", "b", "c"]
        .into_iter()
        .zip(strategies)
        .map(|(name, strategy)| (name, servers(&all, &more(strategy))))
        .collect();
    let rig = Rig::start(&listed, &["--workers=1"]);
    for (name, _) in &listed {
        // so long a file may take longer than the start waits for it
        rig.proxy.wait_for(&format!("{name}.test"), "/", 200);
        assert_eq!(rig.shares(name, 5).len(), 1, "{name}");
    }
    assert_eq!(rig.service("a")["loadBalancer"]["servers"].as_array().map(Vec::len), Some(10_000));
}

#[test]
fn slow_start_starves_nobody() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let start = |slow: &str| {
        let flag = format!("--rustLb.slowStart={slow}");
        let rig = Rig::start(&[("s", servers(&[a.addr], ""))], &[&flag, "--workers=1"]);
        assert_eq!(rig.get("s").status, 200);
        rig
    };
    // both are young by that measure, so that they take turns all the same
    let rig = start("1h");
    rig.replace(&[("s", servers(&[a.addr, b.addr], ""))]);
    eventually("the second one is used", || (rig.shares("s", 10).len() == 2).then_some(()));
    let rig = start("0s");
    rig.replace(&[("s", servers(&[a.addr, b.addr], ""))]);
    eventually("turns are taken", || (counts(&rig.shares("s", 10), "b") == 5).then_some(()));
}
