//! A process that has no file descriptors left: it stops accepting, says so, and goes on when there are some again.

use super::super::support::binary::Running;
use super::super::support::client;
use super::super::support::program::have;
use super::super::support::{PATIENCE, eventually};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

/// Sets how many file descriptors a running process may have.
fn limit(pid: u32, most: usize) {
    let limit = format!("--nofile={most}:{most}");
    let status = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit {limit}");
}

fn open_descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("our child's descriptors").count()
}

#[test]
fn without_descriptors_it_waits_says_so_and_recovers() {
    if !have("prlimit") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let dev = Running::dev(dir.path(), &["--no-samples"]);
    let web = dev.addr("web");
    assert_eq!(client::get(web, "h.test", "/").status, 404);
    // A few more than there are.
    limit(dev.pid(), open_descriptors(dev.pid()) + 8);
    // Each of these holds one, until there are none; the kernel takes the rest into its queue.
    let mut held: Vec<_> = (0..40).map(|_| TcpStream::connect(web).expect("the kernel accepts")).collect();
    let full = |dev: &Running| {
        let mut client = TcpStream::connect(web).expect("the kernel accepts");
        client.set_read_timeout(Some(std::time::Duration::from_millis(100))).expect("a time-out");
        client.write_all(b"GET / HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n").expect("written");
        let waits = client.read(&mut [0]).is_err();
        (waits && open_descriptors(dev.pid()) >= 8).then_some(client)
    };
    let mut waiting = eventually("nobody is accepted any more", || full(&dev));
    // Who is in is served.
    let first = &mut held[0];
    first.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    first.write_all(b"GET / HTTP/1.1\r\nHost: h.test\r\n\r\n").expect("written");
    let mut answer = [0; 12];
    first.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 404");
    // Some leave, and who waits comes in.
    drop(held);
    waiting.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    waiting.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 404");
    assert_eq!(client::get(web, "h.test", "/").status, 404);
    dev.signal("-TERM");
    let (status, log) = dev.wait();
    assert!(status.success(), "{status}: {log}");
    let told = log.matches("cannot accept connections, waiting").count();
    assert!(told >= 1, "{log}");
    assert!(log.contains("Too many open files"), "{log}");
    assert!(log.contains("accepting connections again"), "{log}");
    // Once a time of trouble, not once a failure.
    assert!(told < 20, "{told} times: {log}");
}
