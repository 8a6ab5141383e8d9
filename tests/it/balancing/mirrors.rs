//! Mirroring: copies of requests that nobody waits for.

use super::*;
use crate::support::PATIENCE;
use crate::support::client::Connection;

fn mirroring(primary: &str, mirrors: &[(&str, u32)], more: &str) -> String {
    let mirrors: Vec<String> =
        mirrors.iter().map(|(name, percent)| format!("{{name: {name}, percent: {percent}}}")).collect();
    format!("{{mirroring: {{service: {primary}, mirrors: [{}]{more}}}}}", mirrors.join(", "))
}

#[test]
fn mirrors_get_their_part_of_the_requests_and_nobody_sees_their_answers() {
    let (main, all, some) = (Server::start("main"), Server::start("all"), Server::start("some"));
    let rig = Rig::start(
        &[
            ("main", servers(&[main.addr], "")),
            ("all", servers(&[all.addr], "")),
            ("some", servers(&[some.addr], "")),
            ("m", mirroring("main", &[("all", 100), ("some", 25), ("gone", 50)], "")),
        ],
        &["--metrics.prometheus=true"],
    );
    assert_eq!(counts(&rig.shares("m", 40), "main"), 40);
    eventually("the copies came", || (all.requests() == 40 && some.requests() == 10).then_some(()));
    assert_eq!(main.requests(), 40);
    assert!(rig.problems().contains("it gets no copies"));
    let item = rig.service("m");
    assert_eq!((&item["type"], &item["mirroring"]["maxBodySize"]), (&"mirroring".into(), &(-1).into()), "{item}");
    eventually("the copies are counted", || {
        let metrics = rig.proxy.admin("/metrics").text();
        metrics.contains("rust_lb_mirrored_requests_total{service=\"all@file\",result=\"sent\"} 40").then_some(())
    });
}

#[test]
fn without_mirror_body_a_copy_has_the_head_of_the_request_only() {
    let (main, (mirror, copies)) = (Server::start("main"), held());
    let rig = Rig::start(
        &[
            ("main", servers(&[main.addr], "")),
            ("mirror", servers(&[mirror], "")),
            ("m", mirroring("main", &[("mirror", 100)], "")),
            ("bare", mirroring("main", &[("mirror", 100)], ", mirrorBody: false")),
        ],
        &[],
    );
    assert!(!rig.problems().contains("mirror"), "{}", rig.problems());
    let post = |host: &str| client::send(rig.proxy.web(), "POST", host, "/x?y=1", "X-A: b\r\n", "body");
    assert_eq!(post("bare.test").status, 200);
    let (head, stream) = copies.recv_timeout(PATIENCE).expect("a copy");
    assert!(head.starts_with("POST /x?y=1 HTTP/1.1\r\nHost: bare.test\r\n"), "{head}");
    assert!(head.contains("X-A: b\r\n") && head.contains("Content-Length: 0\r\n"), "{head}");
    answer(stream, "200 OK", "mirror");
    let (head, _) = {
        assert_eq!(rig.get("m").status, 200);
        copies.recv_timeout(PATIENCE).expect("a copy")
    };
    assert!(head.starts_with("GET / HTTP/1.1\r\nHost: m.test\r\n") && !head.contains("Content-Length"), "{head}");
}

#[test]
fn a_mirror_that_hangs_does_no_harm() {
    let main = Server::start("main");
    let (hanging, copies) = held();
    let rig = Rig::start(
        &[
            ("main", servers(&[main.addr], "")),
            ("hanging", servers(&[hanging], "")),
            ("dead", servers(&[nobody()], "")),
            ("m", mirroring("main", &[("hanging", 100), ("dead", 100)], "")),
        ],
        &["--workers=1", "--metrics.prometheus=true"],
    );
    let mut connection = Connection::open(rig.proxy.web()).expect("a connection");
    for _ in 0..400 {
        assert_eq!(connection.get("m.test", "/").expect("an answer").status, 200);
    }
    assert_eq!(main.requests(), 400);
    // places are few: the rest was dropped, and told
    let dropped = eventually("copies were dropped", || {
        let metrics = rig.proxy.admin("/metrics").text();
        let line = metrics
            .lines()
            .find(|l| l.starts_with("rust_lb_mirrored_requests_total{service=\"hanging@file\",result=\"dropped\"}"))?;
        line.rsplit(' ').next()?.parse::<u32>().ok().filter(|dropped| *dropped > 0)
    });
    assert!((1..=400).contains(&dropped), "{dropped}");
    drop(copies);
}
