//! Workers and holders that die.

use super::super::support::client::Connection;
use super::super::support::eventually;
use super::super::support::serve::{Serve, Setup, kill, link, lives, replace};
use super::super::support::server::Server;
use super::{Knocking, ask, kept};
use std::net::TcpStream;
use std::process::Stdio;

#[test]
fn connections_that_a_killed_worker_had_not_accepted_are_served_by_the_next() {
    let server = Server::start("a");
    let serve = Serve::start(&server, &["--workers=2"]);
    serve.wait_until_served();
    let (web, worker) = (serve.web(), serve.worker());
    // A worker that is stopped accepts nothing: what comes is in the sockets' queues.
    kill(worker, "-STOP");
    eventually("all of its threads have stopped", || all_stopped(worker).then_some(()));
    let mut waiting: Vec<Connection> = (0..50).map(|_| Connection::open(web).expect("queued")).collect();
    for connection in &mut waiting {
        connection.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("sent");
    }
    kill(worker, "-KILL");
    for connection in &mut waiting {
        assert_eq!(connection.read(false).expect("an answer").status, 200);
    }
    assert_ne!(serve.worker(), worker);
    serve.says("died: signal: 9 (SIGKILL); connections wait for the next one", 1);
    serve.says("started in place of a worker that died", 1);
}

#[test]
fn a_worker_that_dies_again_and_again_is_replaced_again_and_again() {
    let server = Server::start("a");
    let serve = Setup::new(server.addr, &[]).env("RUST_LB_TEST_PAUSE_MS", "1").start();
    serve.wait_until_served();
    let web = serve.web();
    let mut last = serve.worker();
    for number in 1..=5 {
        kill(last, "-KILL");
        serve.says("started in place of a worker that died", number);
        let now = serve.worker();
        assert_ne!(now, last);
        last = now;
        assert_eq!(ask(web).expect("an answer").status, 200);
    }
}

#[test]
fn a_death_is_seen_by_those_who_come_after() {
    let server = Server::start("a");
    let serve = Setup::new(server.addr, &["--metrics.prometheus=true"]).start();
    serve.wait_until_served();
    let count = |serve: &Serve, number: usize| {
        let line = format!("rust_lb_worker_deaths_total {number}");
        eventually(&line, || serve.admin("/metrics").ok()?.text().lines().any(|found| found == line).then_some(()));
        let problems = serve.admin("/api/problems").expect("an answer").json();
        let of = |problem: &&serde_json::Value| problem["code"] == "worker_died";
        let told = problems.as_array().expect("a list").iter().find(of).map(|problem| problem["message"].to_string());
        assert_eq!(told.is_some(), number > 0, "{problems}");
        told.unwrap_or_default()
    };
    count(&serve, 0);
    kill(serve.worker(), "-KILL");
    serve.says("started in place of a worker that died", 1);
    assert!(count(&serve, 1).contains("signal: 9 (SIGKILL)"));
    kill(serve.worker(), "-ABRT");
    serve.says("started in place of a worker that died", 2);
    assert!(count(&serve, 2).contains("2 since the start"));
    // Whoever takes over from it, or comes while it lives, knows.
    serve.hand_over(1);
    assert!(count(&serve, 2).contains("SIGABRT"));
}

#[test]
fn a_worker_that_cannot_be_replaced_ends_it_after_some_tries() {
    let server = Server::start("a");
    let dir = tempfile::tempdir().expect("a folder");
    let binary = link(dir.path());
    let serve = Setup::of(&binary, server.addr, &[]).env("RUST_LB_TEST_PAUSE_MS", "1").start();
    serve.wait_until_served();
    replace(&binary, "#!/bin/sh\nexit 3\n");
    kill(serve.worker(), "-KILL");
    let (status, said) = serve.wait();
    assert_eq!(status.code(), Some(3), "{said:?}");
    assert!(said.iter().any(|line| line.contains("10 workers in a row died; ending")), "{said:?}");
}

#[test]
fn what_is_wrong_while_nobody_serves_is_tried_again() {
    let server = Server::start("a");
    let dir = tempfile::tempdir().expect("a folder");
    let binary = link(dir.path());
    let serve = Setup::of(&binary, server.addr, &[]).env("RUST_LB_TEST_PAUSE_MS", "20").start();
    serve.wait_until_served();
    let web = serve.web();
    replace(&binary, "#!/bin/sh\nexit 3\n");
    kill(serve.worker(), "-KILL");
    serve.says("died: exit status: 3", 2);
    let mut waiting = Connection::open(web).expect("queued");
    waiting.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("sent");
    std::fs::remove_file(&binary).expect("removed");
    link(dir.path());
    assert_eq!(waiting.read(false).expect("an answer").status, 200);
}

#[test]
fn a_worker_that_dies_while_the_next_one_starts_is_followed_by_it() {
    let server = Server::start("a");
    let serve = Serve::start(&server, &[]);
    serve.wait_until_served();
    let (web, worker) = (serve.web(), serve.worker());
    // Nobody serves while both are there: the old one is stopped, and the new one cannot have been heard yet.
    kill(worker, "-STOP");
    serve.signal("-USR2");
    eventually("the next one is there", || (serve.workers().len() == 2).then_some(()));
    kill(worker, "-KILL");
    assert_eq!(ask(web).expect("an answer").status, 200);
    assert_ne!(serve.worker(), worker);
}

#[test]
fn a_worker_whose_holder_is_killed_ends() {
    let server = Server::start("a");
    let serve = Serve::start(&server, &["--entryPoints.web.transport.lifeCycle.requestAcceptGraceTimeout=600s"]);
    serve.wait_until_served();
    let (web, worker) = (serve.web(), serve.worker());
    let mut idle = kept(web);
    serve.signal("-KILL");
    eventually("the port is free", || TcpStream::connect(web).is_err().then_some(()));
    eventually("the worker has ended", || (!lives(worker)).then_some(()));
    assert!(idle.read(false).is_err(), "closed");
}

#[test]
fn a_configuration_that_does_not_hold_is_told_as_by_a_single_process() {
    let run = |more: &[&str], args: &[&str]| {
        let mut command = super::super::support::binary::command(&["serve"]);
        let output = command.args(args).args(more).stdin(Stdio::null()).output().expect("runs");
        (output.status.code(), String::from_utf8(output.stdout), String::from_utf8(output.stderr))
    };
    for (args, code) in [(&["--entryPoint.web.address=:80"][..], 2), (&["--log.level=loud"], 1)] {
        let alone = run(&["--single-process"], args);
        assert_eq!(alone.0, Some(code));
        assert_eq!(run(&[], args), alone);
    }
}

#[test]
fn the_worker_is_nobodys_command() {
    let output = super::super::support::binary::output(&["worker"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("rust-lb serve"));
}

#[test]
fn a_single_process_serves_without_a_worker() {
    let server = Server::start("a");
    let serve = Serve::start(&server, &["--single-process"]);
    serve.wait_until_served();
    assert!(serve.workers().is_empty());
    let knocking = Knocking::start(serve.web());
    knocking.pass(20);
    serve.signal("-USR2");
    serve.says("a single process hands its sockets to nobody", 1);
    knocking.pass(20);
    knocking.finish();
    serve.signal("-TERM");
    let (status, _) = serve.wait();
    assert!(status.success());
}

/// Whether each thread of a process is stopped, as `/proc` tells.
fn all_stopped(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The name before it may hold anything but ends with the last bracket.
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    })
}
