//! The end: what `/ready` says, who is still accepted, what clients are told; and servers that are deregistered.

use super::super::support::eventually;
use super::super::support::proxy::Proxy;
use super::super::support::serve::{Serve, kill, lives};
use super::super::support::server::Server;
use super::{ask, echo, kept, switched, switching};
use std::net::TcpStream;

/// The worker is signalled too, as a supervisor does that signals all that it runs.
#[test]
fn sigterm_turns_ready_first_and_closes_the_ports_later() {
    let server = Server::start("a");
    let serve = Serve::start(&server, &["--entryPoints.web.transport.lifeCycle.requestAcceptGraceTimeout=600s"]);
    serve.wait_until_served();
    let (web, worker) = (serve.web(), serve.worker());
    assert_eq!(serve.admin("/ready").expect("an answer").status, 200);
    let mut connection = kept(web);
    let other = kept(web);
    serve.signal("-TERM");
    kill(worker, "-TERM");
    eventually("not ready any more", || (serve.admin("/ready").ok()?.status == 503).then_some(()));
    assert_eq!(serve.admin("/ping").expect("an answer").status, 503);
    // New connections are accepted, old ones go on; both are told to come no more.
    let answer = eventually("clients are told", || {
        let answer = ask(web).expect("still accepted");
        assert_eq!(answer.status, 200);
        Some(answer)
    });
    assert_eq!(answer.header("connection"), Some("close"));
    let answer = connection.get("a.test", "/").expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    drop(other);
    assert!(lives(worker));
    // Asked again, it ends at once.
    serve.signal("-TERM");
    let (status, said) = serve.wait();
    assert_eq!(status.code(), Some(0), "{said:?}");
    assert!(TcpStream::connect(web).is_err());
}

#[test]
fn the_ports_are_closed_when_the_time_is_over_and_what_is_under_way_ends() {
    let serve = super::super::support::serve::Setup::new(
        switching(),
        &[
            "--entryPoints.web.transport.lifeCycle.requestAcceptGraceTimeout=50ms",
            "--entryPoints.web.transport.lifeCycle.graceTimeOut=600s",
        ],
    )
    .start();
    serve.wait_until_served();
    let web = serve.web();
    let mut open = switched(web);
    serve.signal("-TERM");
    eventually("nobody is accepted any more", || TcpStream::connect(web).is_err().then_some(()));
    echo(&mut open, "still there");
    assert_eq!(serve.admin("/ready").expect("an answer").status, 503);
    drop(open);
    let (status, said) = serve.wait();
    assert_eq!(status.code(), Some(0), "{said:?}");
}

#[test]
fn sigterm_during_a_hand_over_ends_both_workers() {
    let serve = super::super::support::serve::Setup::new(
        switching(),
        &["--entryPoints.web.transport.lifeCycle.graceTimeOut=600s"],
    )
    .start();
    serve.wait_until_served();
    let mut open = switched(serve.web());
    serve.hand_over(1);
    let mut next = switched(serve.web());
    serve.signal("-TERM");
    eventually("nobody is accepted any more", || TcpStream::connect(serve.web()).is_err().then_some(()));
    echo(&mut open, "in the old one");
    echo(&mut next, "in the new one");
    let workers = serve.workers();
    assert_eq!(workers.len(), 2);
    serve.signal("-TERM");
    let (status, _) = serve.wait();
    assert_eq!(status.code(), Some(0));
    assert!(!workers.into_iter().any(lives));
}

#[test]
fn a_deregistered_server_gets_nothing_new_and_keeps_what_it_has() {
    let server = switching();
    let proxy = Proxy::start(&["--rustLb.linger.for=0s"]);
    let tags = ["traefik.enable=true", "traefik.http.routers.a.rule=Host(`a.test`)"];
    proxy.catalog.register("one", "a", server, &tags);
    proxy.wait_for("a.test", "/", 200);
    let mut open = switched(proxy.web());
    echo(&mut open, "before");
    let other = Server::start("other");
    proxy.catalog.register("two", "a", other.addr, &tags);
    proxy.catalog.deregister("one");
    eventually("the server is out of rotation", || {
        let answers: Vec<_> = (0..4).map(|_| proxy.get("a.test", "/")).collect();
        answers.iter().all(|answer| answer.header("x-server") == Some("other")).then_some(())
    });
    echo(&mut open, "after");
    // Not even when the whole service goes.
    proxy.catalog.deregister("two");
    proxy.wait_for("a.test", "/", 404);
    echo(&mut open, "to the end");
}
