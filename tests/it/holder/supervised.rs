//! What a supervisor sees: readiness on a descriptor, and an end that does not wait for the drain.

use super::super::support::eventually;
use super::super::support::serve::{Setup, lives, replace};
use super::super::support::server::Server;
use super::{ask, echo, switched, switching};
use std::io::Read;
use std::net::TcpStream;
use std::process::Command;

#[test]
fn readiness_is_told_once_on_the_descriptor() {
    let server = Server::start("a");
    let dir = tempfile::tempdir().expect("a folder");
    let (fifo, binary) = (dir.path().join("fifo"), dir.path().join("rust-lb"));
    assert!(Command::new("mkfifo").arg(&fifo).status().is_ok_and(|status| status.success()));
    let real = env!("CARGO_BIN_EXE_rust-lb");
    replace(&binary, &format!("#!/bin/sh\nexec {real} \"$@\" 3<>'{}'\n", fifo.display()));
    let serve = Setup::of(&binary, server.addr, &["--notify-fd=3"]).start();
    let mut notified = std::fs::File::open(&fifo).expect("a reader");
    let mut byte = [0];
    notified.read_exact(&mut byte).expect("told");
    assert_eq!(&byte, b"\n");
    // It holds at once.
    assert_eq!(ask(serve.web()).expect("an answer").status, 200);
    // Nor is it told of the next worker, up to the end of all.
    serve.hand_over(1);
    serve.signal("-TERM");
    let (status, said) = serve.wait();
    assert_eq!(status.code(), Some(0), "{said:?}");
    let mut rest = Vec::new();
    notified.read_to_end(&mut rest).expect("read");
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn a_descriptor_that_nobody_reads_is_told_of() {
    let server = Server::start("a");
    let serve = Setup::new(server.addr, &["--notify-fd=1000"]).start();
    serve.says("file descriptor 1000 takes no notification of readiness", 1);
    serve.wait_until_served();
}

#[test]
fn with_a_detached_drain_the_next_one_starts_while_streams_go_on() {
    let flags = ["--detach-drain", "--entryPoints.web.transport.lifeCycle.graceTimeOut=600s"];
    let serve = Setup::new(switching(), &flags).start();
    serve.wait_until_served();
    let (web, admin, worker) = (serve.web(), serve.address("traefik"), serve.worker());
    let mut open = switched(web);
    serve.signal("-TERM");
    eventually("the process ends", || (!lives(serve.pid())).then_some(()));
    assert!(lives(worker));
    assert!(TcpStream::connect(web).is_err() && TcpStream::connect(admin).is_err(), "its ports are free");
    echo(&mut open, "still there");
    let (web, admin) = (format!("--entryPoints.web.address={web}"), format!("--entryPoints.traefik.address={admin}"));
    let next = Setup::new(switching(), &[&web, &admin]).start();
    next.wait_until_served();
    echo(&mut open, "beside the next one");
    drop(open);
    eventually("the worker ends", || (!lives(worker)).then_some(()));
    let (status, said) = serve.wait();
    assert_eq!(status.code(), Some(0), "{said:?}");
}
