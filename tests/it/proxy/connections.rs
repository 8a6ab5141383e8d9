//! Clients' connections: limits, draining, TLS and plain on one port.

use super::rig::*;
use rust_lb::http::Protocol;
use rust_lb::listen::{self, ListenError};
use rust_lb::proxy::EntryPoint;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::Duration;

/// A server that answers when the test says so, and tells when it was asked.
fn held() -> (Server, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let (asked, was_asked) = mpsc::channel();
    let server = Server::start(move |mut client, _| {
        while client.request().is_some() {
            asked.send(()).expect("the test waits");
            gone.lock().expect("one").recv_timeout(LIMIT).expect("the test says go");
            client.send(&ok("done"));
        }
    });
    (server, was_asked, go)
}

#[test]
fn a_drain_ends_requests_in_flight_and_then_the_worker() {
    let (server, asked, go) = held();
    let mut rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut idle = rig.connect();
    idle.send("GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n");
    assert_eq!(idle.response("GET").status, 404);
    let silent = rig.connect();
    let mut busy = rig.connect();
    busy.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    asked.recv_timeout(LIMIT).expect("the server was asked");
    rig.until("all are counted", |rig| rig.open() == 3);
    let worker = rig.workers.remove(0);
    worker.drain(LIMIT);
    // Connections without a request are closed at once.
    assert_eq!(idle.rest(), b"");
    assert_eq!(Client::new(silent.stream).rest(), b"");
    until("nobody is accepted any more", || TcpStream::connect(rig.address).is_err());
    go.send(()).expect("the server waits");
    let response = busy.response("GET");
    assert_eq!(response.text(), "done");
    assert_eq!(response.all("connection"), ["close"]);
    assert_eq!(busy.rest(), b"");
    worker.join();
}

#[test]
fn connections_that_the_kernel_took_are_served_when_a_worker_drains() {
    let server = Server::named("a");
    let entry = EntryPoint { max_connections: 1, ..EntryPoint::new("web") };
    let mut rig = Start { entry, ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut held = rig.connect();
    held.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(held.response("GET").text(), "a");
    // No place for these: they wait in the listener's queue.
    let mut queued: Vec<Client> = (0..5).map(|_| rig.connect()).collect();
    for client in &mut queued {
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    }
    let worker = rig.workers.remove(0);
    worker.drain(LIMIT);
    for client in &mut queued {
        let response = client.response("GET");
        assert_eq!((response.text(), response.header("connection").as_deref()), ("a", Some("close")));
    }
    assert_eq!(held.rest(), b"");
    worker.join();
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let (server, asked, _go) = held();
    let mut rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut busy = rig.connect();
    busy.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    asked.recv_timeout(LIMIT).expect("the server was asked");
    let worker = rig.workers.remove(0);
    worker.drain(Duration::from_millis(20));
    assert_eq!(busy.rest(), b"");
    worker.join();
}

#[test]
fn a_worker_that_stops_accepting_serves_on() {
    let server = Server::named("a");
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(client.response("GET").text(), "a");
    rig.workers[0].stop_accepting();
    until("nobody is accepted any more", || TcpStream::connect(rig.address).is_err());
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(client.response("GET").text(), "a");
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    let server = Server::named("a");
    let entry = EntryPoint { max_connections: 2, ..EntryPoint::new("web") };
    let rig = Start { entry, ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut held: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = rig.connect();
            client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
            assert_eq!(client.response("GET").text(), "a");
            client
        })
        .collect();
    let mut third = rig.connect();
    third.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    held[0].send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(held[0].response("GET").text(), "a");
    assert_eq!(rig.open(), 2);
    held.pop();
    assert_eq!(third.response("GET").text(), "a");
}

#[test]
fn all_workers_take_connections_of_one_port() {
    let rig = Start { workers: 4, ..Start::default() }.run(&[]);
    // The kernel spreads them by a hash of the peer's port; that none of 100 goes to one of four is not to be expected.
    let held: Vec<Client> = (0..100).map(|_| rig.connect()).collect();
    rig.until("each has some", |rig| rig.workers.iter().all(|worker| worker.gauges().connections.load(Relaxed) > 0));
    rig.until("all are taken", |rig| rig.open() == 100);
    drop(held);
    rig.until("all are gone", |rig| rig.open() == 0);
}

#[test]
fn connections_are_told_to_the_sink() {
    let rig = Rig::start(&[]);
    rig.get("h.test", "/");
    rig.until("the connection is closed", |rig| rig.open() == 0);
    assert_eq!(*rig.connections.lock().expect("not poisoned"), [("TCP", 1), ("TCP", -1)]);
}

#[test]
fn http_1_0_is_answered_as_it_asks() {
    let server = Server::named("a");
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.0\r\nHost: h.test\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.response("GET").text(), "a");
    client.send("GET / HTTP/1.0\r\nHost: h.test\r\n\r\n");
    assert_eq!(client.response("GET").text(), "a");
    assert_eq!(client.rest(), b"");
    assert_eq!(rig.record().protocol, Protocol::Http10);
}

#[test]
fn a_port_in_use_names_its_owner() {
    let rig = Rig::start(&[]);
    let endpoint = listen::Endpoint { name: "again".into(), host: "127.0.0.1".to_owned(), port: rig.address.port() };
    let error = listen::bind(&[endpoint], 1, false).expect_err("in use");
    assert!(matches!(&error, ListenError::InUse { .. }));
    let text = error.to_string();
    let expected = format!("entry point `again`: {} is in use by `", rig.address);
    assert!(text.starts_with(&expected) && text.ends_with(&format!("(pid {})", std::process::id())), "{text}");
}

/// What each worker holds.
fn loads(rig: &Rig) -> Vec<usize> {
    rig.workers.iter().map(|worker| worker.gauges().connections.load(Relaxed)).collect()
}

#[test]
fn no_worker_holds_more_than_one_and_a_half_times_the_mean() {
    let server = Server::named("a");
    let rig = Start { workers: 4, ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut clients: Vec<Client> = (0..200).map(|_| rig.connect()).collect();
    rig.until("all are taken", |rig| rig.open() == 200);
    assert!(loads(&rig).iter().all(|&held| held <= 75), "{:?}", loads(&rig));
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        assert_eq!(client.response("GET").text(), "a");
    }
    drop(clients);
    rig.until("all are gone", |rig| rig.open() == 0);
}

/// The connections of three workers end; what comes then goes to these, whatever the kernel does.
#[test]
fn a_worker_that_holds_too_many_passes_fresh_connections_on() {
    let server = Server::named("a");
    let rig = Start { workers: 4, ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut kept = Vec::new();
    let mut others = Vec::new();
    // Where each goes is seen one at a time.
    for at in 0..400 {
        let before = loads(&rig)[0];
        let client = rig.connect();
        rig.until("it is taken", |rig| rig.open() == at + 1);
        if loads(&rig)[0] > before { kept.push(client) } else { others.push(client) }
    }
    assert!((67..=133).contains(&kept.len()), "{}", kept.len());
    drop(others);
    rig.until("three are empty", |rig| rig.open() == kept.len() && loads(rig)[0] == kept.len());
    let mut fresh: Vec<Client> = (0..240).map(|_| rig.connect()).collect();
    rig.until("all are taken", |rig| rig.open() == kept.len() + fresh.len());
    let most = rig.open() / 4 * 3 / 2;
    assert!(loads(&rig).iter().all(|&held| held <= most), "{:?}", loads(&rig));
    // The first is over the mean by a quarter until the others have come up.
    assert!(loads(&rig)[0] < kept.len() + 60, "{:?}", loads(&rig));
    // Those that were passed on are served, and those that stayed.
    for client in fresh.iter_mut().chain(&mut kept) {
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        assert_eq!(client.response("GET").text(), "a");
    }
    assert_eq!(rig.connections.lock().expect("not poisoned").iter().filter(|(_, one)| *one == 1).count(), 640);
}
