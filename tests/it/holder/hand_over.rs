//! SIGUSR2: a new worker on the same sockets.

use super::super::support::client::try_get;
use super::super::support::serve::{Serve, Setup, link, lives, replace};
use super::super::support::server::Server;
use super::super::support::traffic::Traffic;
use super::super::support::{eventually, serve};
use super::{Knocking, ask, echo, kept, switched, switching};
use std::io::Read;
use std::net::TcpStream;

#[test]
fn new_and_kept_connections_notice_nothing_of_a_new_worker() {
    let server = Server::start("a");
    let serve = Serve::start(&server, &["--workers=2"]);
    serve.wait_until_served();
    let (pid, web) = (serve.pid(), serve.web());
    let knocking = Knocking::start(web);
    let traffic = Traffic::start(web, "a.test");
    let mut seen = vec![serve.worker()];
    for number in 1..=3 {
        knocking.pass(200);
        traffic.pass(100);
        serve.hand_over(number);
        let now = *serve.workers().last().expect("a worker");
        assert!(!seen.contains(&now), "{now} is new");
        seen.push(now);
    }
    knocking.pass(200);
    traffic.pass(100);
    knocking.finish();
    traffic.finish();
    assert_eq!((serve.pid(), serve.web()), (pid, web));
    eventually("the old ones have ended", || seen[..3].iter().all(|&old| !lives(old)).then_some(()));
}

#[test]
fn an_open_websocket_lives_on_in_the_old_worker_until_the_grace_time_out() {
    let serve = Setup::new(switching(), &["--entryPoints.web.transport.lifeCycle.graceTimeOut=600s"]).start();
    serve.wait_until_served();
    let old = serve.worker();
    let mut open = switched(serve.web());
    echo(&mut open, "before");
    serve.hand_over(1);
    echo(&mut open, "after");
    assert!(lives(old));
    // The next one belongs to the new worker.
    let mut next = switched(serve.web());
    serve::kill(old, "-KILL");
    assert!(!matches!(open.read(&mut [0]), Ok(1..)), "it ended with the old one");
    echo(&mut next, "in the new one");
}

#[test]
fn the_grace_time_out_ends_what_is_left_in_the_old_worker() {
    let serve = Setup::new(switching(), &["--entryPoints.web.transport.lifeCycle.graceTimeOut=50ms"]).start();
    serve.wait_until_served();
    let old = serve.worker();
    let mut open = switched(serve.web());
    serve.hand_over(1);
    let mut rest = Vec::new();
    // Closed or reset, it ends.
    drop(open.read_to_end(&mut rest));
    assert!(rest.is_empty());
    eventually("the old worker has ended", || (!lives(old)).then_some(()));
    assert_eq!(ask(serve.web()).expect("an answer").status, 200);
}

#[test]
fn kept_connections_are_told_by_their_next_answer() {
    let server = Server::start("a");
    let serve = Serve::start(&server, &[]);
    serve.wait_until_served();
    let old = serve.worker();
    let mut connection = kept(serve.web());
    serve.hand_over(1);
    let answer = connection.get("a.test", "/").expect("an answer of the old worker");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    eventually("the old worker has ended", || (!lives(old)).then_some(()));
}

#[test]
fn a_broken_configuration_leaves_the_old_worker() {
    let server = Server::start("a");
    let setup = Setup::new(server.addr, &[]);
    let file = setup.dir().join("static.yaml");
    std::fs::write(&file, "log: {level: INFO}\n").expect("written");
    let serve = setup.arg(format!("--configFile={}", file.display())).start();
    serve.wait_until_served();
    let worker = serve.worker();
    std::fs::write(&file, "entryPointz: {}\n").expect("written");
    serve.signal("-USR2");
    let line = serve.says("ended before it was ready (exit status: 1); the one that serves goes on", 1);
    assert!(line.contains("\"ERROR\""), "{line}");
    serve.says("entryPointz", 1);
    assert_eq!((serve.worker(), ask(serve.web()).expect("an answer").status), (worker, 200));
    // Once it is right again, so is the next one.
    std::fs::write(&file, "log: {level: INFO}\n").expect("written");
    serve.hand_over(1);
    assert_ne!(*serve.workers().last().expect("a worker"), worker);
    assert_eq!(ask(serve.web()).expect("an answer").status, 200);
}

#[test]
fn a_broken_binary_leaves_the_old_worker() {
    let server = Server::start("a");
    let dir = tempfile::tempdir().expect("a folder");
    let binary = link(dir.path());
    let serve = Setup::of(&binary, server.addr, &[]).env("RUST_LB_TEST_READY_WITHIN_MS", "200").start();
    serve.wait_until_served();
    let worker = serve.worker();
    let goes_on = || assert_eq!((serve.worker(), ask(serve.web()).expect("an answer").status), (worker, 200));
    replace(&binary, "#!/bin/sh\nexit 3\n");
    serve.signal("-USR2");
    serve.says("ended before it was ready (exit status: 3); the one that serves goes on", 1);
    goes_on();
    replace(&binary, "#!/bin/sh\nexec /bin/sleep 600\n");
    serve.signal("-USR2");
    serve.says("was not ready within 200ms and is killed", 1);
    serve.says("ended before it was ready (signal: 9 (SIGKILL))", 1);
    goes_on();
    std::fs::remove_file(&binary).expect("removed");
    serve.signal("-USR2");
    serve.says("no new worker from", 1);
    goes_on();
}

#[test]
fn entry_points_that_stay_keep_their_sockets_and_the_others_come_and_go() {
    let server = Server::start("a");
    let setup = Setup::new(server.addr, &["--entryPoints.web.asDefault=true"]);
    let file = setup.dir().join("static.yaml");
    let with = |name: &str| format!("entryPoints:\n  {name}: {{address: '127.0.0.1:0', asDefault: true}}\n");
    std::fs::write(&file, with("one")).expect("written");
    let serve = setup.arg(format!("--configFile={}", file.display())).start();
    serve.wait_until_served();
    let (web, one) = (serve.web(), serve.address("one"));
    assert_eq!(ask(one).expect("an answer").status, 200);
    std::fs::write(&file, with("two")).expect("written");
    serve.hand_over(1);
    assert_eq!(serve.web(), web);
    let two = serve.address("two");
    assert_eq!(ask(two).expect("an answer").status, 200);
    eventually("the old one is closed", || TcpStream::connect(one).is_err().then_some(()));
    // More and fewer workers leave the sockets where they are.
    for (number, workers) in [(2, 3), (3, 1)] {
        std::fs::write(&file, format!("{}rustLb: {{workers: {workers}}}\n", with("two"))).expect("written");
        serve.hand_over(number);
        assert_eq!((serve.web(), serve.address("two")), (web, two));
        assert_eq!(ask(web).expect("an answer").status, 200);
    }
}

#[test]
fn one_worker_at_a_time_answers_the_admin_api() {
    let server = Server::start("a");
    let serve = Setup::new(server.addr, &["--entryPoints.web.transport.lifeCycle.graceTimeOut=600s"]).start();
    serve.wait_until_served();
    let mut open = TcpStream::connect(serve.web()).expect("a connection");
    let old = serve.worker();
    // Under way in the old worker, which cannot end.
    std::io::Write::write_all(&mut open, b"GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\n").expect("sent");
    serve.hand_over(1);
    for _ in 0..20 {
        let ready = serve.admin("/ready").expect("an answer");
        assert_eq!(ready.status, 200, "never the one that leaves: {}", ready.text());
        assert_eq!(serve.admin("/ping").expect("an answer").status, 200);
    }
    assert!(lives(old));
    assert_eq!(try_get(serve.web(), "a.test", "/").expect("an answer").status, 200);
}
