//! Limits of servers by tags, and what is seen of them from outside.

use super::*;
use crate::support::PATIENCE;
use crate::support::client::Connection;

fn register(proxy: &Proxy, addr: SocketAddr, wait: &str) {
    let wait = format!("traefik.http.services.a.loadbalancer.rustlbqueuetimeout={wait}");
    let tags = [
        "traefik.enable=true",
        "traefik.http.routers.a.rule=Host(`a.test`)",
        "traefik.http.services.a.loadbalancer.rustlbmaxrequests=1",
        "traefik.http.services.a.loadbalancer.rustlbmaxqueue=1",
        &wait,
    ];
    proxy.catalog.register("a", "a", addr, &tags);
    eventually("the limits are in the table", || {
        let service = proxy.admin("/api/http/services/a@consulcatalog");
        let said = &service.json()["loadBalancer"];
        (said["rustLbMaxRequests"] == 1
            && said["rustLbMaxQueue"] == 1
            && said["rustLbQueueTimeout"] == *wait.split('=').next_back()?)
        .then_some(())
    });
}

fn has(proxy: &Proxy, line: &str) {
    eventually(line, || proxy.admin("/metrics").text().lines().any(|found| found == line).then_some(()));
}

#[test]
fn who_waits_is_counted_and_told_when_the_time_is_over() {
    let (addr, requests) = held();
    let proxy = Proxy::start(&["--metrics.prometheus=true"]);
    register(&proxy, addr, "1h0m0s");
    let ask = || {
        let mut connection = Connection::open(proxy.web()).expect("a connection");
        connection.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("sent");
        connection
    };
    let mut first = ask();
    let (_, stream) = requests.recv_timeout(PATIENCE).expect("a request");
    let mut second = ask();
    has(&proxy, "rust_lb_service_queued_requests{service=\"a@consulcatalog\"} 1");
    has(&proxy, "rust_lb_waiting_requests 1");
    let refused = proxy.get("a.test", "/");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    has(&proxy, "rust_lb_proxy_answers_total{reason=\"queue_full\"} 1");
    has(&proxy, "rust_lb_failures_total{cause=\"queue full\",service=\"a@consulcatalog\"} 1");
    // Who waits goes by what is said now.
    register(&proxy, addr, "1ms");
    let late = second.read(false).expect("an answer");
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")));
    has(&proxy, "rust_lb_proxy_answers_total{reason=\"queue_timeout\"} 1");
    has(&proxy, "rust_lb_failures_total{cause=\"timed out: queue\",service=\"a@consulcatalog\"} 1");
    has(&proxy, "rust_lb_waiting_requests 0");
    answer(stream, "200 OK", "s");
    assert_eq!(first.read(false).expect("an answer").status, 200);
}

#[test]
fn limits_that_make_no_sense_are_told() {
    let server = Server::start("s");
    let rig = Rig::start(
        &[
            ("none", servers(&[server.addr], ", rustLbMaxRequests: 0")),
            ("alone", servers(&[server.addr], ", rustLbMaxQueue: 5")),
            ("below", servers(&[server.addr], ", rustLbMaxRequests: 5, rustLbMaxQueue: -1, rustLbQueueTimeout: -1s")),
        ],
        &[],
    );
    let problems = rig.problems();
    for said in [
        "service `none`: `rustLbMaxRequests` must be from 1",
        "service `alone`: `rustLbMaxQueue` has no effect without",
        "service `below`: `rustLbMaxQueue` must be from 0",
        "service `below`: `rustLbQueueTimeout` must not be below zero",
    ] {
        assert!(problems.contains(said), "{said}: {problems}");
    }
    for service in ["none", "alone", "below"] {
        assert_eq!(rig.get(service).status, 200);
    }
}
