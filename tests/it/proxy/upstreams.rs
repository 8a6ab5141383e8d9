//! Connections to servers: kept, stale, refused; waiting for a server; a table that changes.

use super::rig::*;
use rust_lb::http::Reason;
use rust_lb::proxy::Settings;
use rust_lb::upstream;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

#[test]
fn connections_are_kept_on_both_sides() {
    let server = Server::named("a");
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        assert_eq!(client.response("GET").text(), "a");
    }
    assert_eq!(rig.get("h.test", "/").text(), "a");
    assert_eq!(server.accepted(), 1);
    rig.until("the second client is gone", |rig| rig.open() == 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::answering(|request| ok(request.head.split(' ').nth(1).unwrap_or("")));
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send(&["/1", "/2", "/3"].map(|target| format!("GET {target} HTTP/1.1\r\nHost: h.test\r\n\r\n")).concat());
    for target in ["/1", "/2", "/3"] {
        assert_eq!(client.response("GET").text(), target);
    }
}

#[test]
fn a_connection_that_the_server_closed_costs_no_request() {
    let server = Server::start(|mut client, number| {
        client.request();
        client.send(&ok(&number.to_string()));
        // Closed without a word after one request.
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    for number in ["0", "1", "2", "3", "4"] {
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        assert_eq!(client.response("GET").text(), number);
    }
}

/// Answers the first request on a connection, reads the second and closes without an answer.
fn forgetful() -> Server {
    Server::start(|mut client, number| {
        client.request();
        client.send(&ok(&number.to_string()));
        client.request();
    })
}

#[test]
fn silence_on_a_used_connection_is_tried_again_where_that_is_safe() {
    let server = forgetful();
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    assert_eq!(rig.get("h.test", "/").text(), "0");
    assert_eq!(rig.record().retries, 0);
    assert_eq!(rig.get("h.test", "/").text(), "1");
    assert_eq!(rig.record().retries, 1);
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 2\r\n\r\nhi");
    let response = client.response("POST");
    assert_eq!((response.status, response.text()), (502, "Bad Gateway"));
    let record = rig.record();
    assert_eq!((record.reason, record.retries), (Some(Reason::ResetBeforeAnswer), 0));
}

#[test]
fn silence_on_a_fresh_connection_is_an_error() {
    let server = Server::start(|mut client, _| {
        client.request();
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    assert_eq!(rig.get("h.test", "/").status, 502);
    assert_eq!(rig.record().reason, Some(Reason::ResetBeforeAnswer));
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_refused_connection_goes_to_the_next_server_with_its_body() {
    let server = Server::answering(|request| ok(&String::from_utf8_lossy(&request.body)));
    let rig = Rig::start(&[Route::to("h.test", &[&nobody(), &nobody(), &server.url()])]);
    for _ in 0..6 {
        let mut client = rig.connect();
        client.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response("POST").text(), "body");
        assert_eq!(rig.record().server, Some(server.url()));
    }
    let now = std::time::Instant::now();
    assert_eq!(rig.registry.servers(now).len(), 3);
    assert!(rig.registry.servers(now).iter().all(|server| server.in_flight == 0));
}

#[test]
fn a_server_that_ends_costs_no_request_while_another_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let ends = thread::spawn(move || {
        let mut client = Client::new(listener.accept().expect("a connection").0);
        client.request();
        client.send(&ok("one"));
        // Reads one more request before it ends for good, connection and port.
        client.request();
        drop(listener);
    });
    let rig = Rig::start(&[Route::to("h.test", &[&url])]);
    assert_eq!(rig.get("h.test", "/").text(), "one");
    let other = Server::named("other");
    rig.publish(&[Route::to("h.test", &[&url, &other.url()])]);
    let answers: Vec<String> = (0..4).map(|_| rig.get("h.test", "/").text().to_owned()).collect();
    assert_eq!(answers, ["other"; 4]);
    ends.join().expect("it ended");
}

#[test]
fn when_all_refuse_it_is_a_bad_gateway() {
    let (one, two) = (nobody(), nobody());
    let rig = Rig::start(&[Route::to("h.test", &[&one, &two])]);
    for _ in 0..3 {
        let response = rig.get("h.test", "/");
        assert_eq!((response.status, response.text()), (502, "Bad Gateway"));
        let record = rig.record();
        assert_eq!((record.reason, record.retries), (Some(Reason::ConnectRefused), 2));
        assert!(record.server.is_some_and(|server| server == one || server == two));
    }
    assert!(rig.registry.servers(std::time::Instant::now()).iter().all(|server| server.ejected));
}

#[test]
fn what_is_not_http_is_a_bad_gateway() {
    for garbage in ["SSH-2.0-x\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n", "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n"] {
        let server = Server::answering(move |_| garbage.to_owned());
        let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
        assert_eq!(rig.get("h.test", "/").status, 502, "{garbage}");
        assert_eq!(rig.record().reason, Some(Reason::BadAnswer), "{garbage}");
    }
}

#[test]
fn a_server_without_an_answer_is_a_gateway_timeout() {
    let server = Server::start(|mut client, _| {
        client.request();
        client.rest();
    });
    let upstream =
        upstream::Settings { response_header_timeout: Duration::from_millis(50), ..upstream::Settings::default() };
    let settings = Settings { upstream: upstream.into(), ..Settings::default() };
    let rig = Start { settings, ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let response = rig.get("h.test", "/");
    assert_eq!((response.status, response.text()), (504, "Gateway Timeout"));
    assert_eq!(rig.record().reason, Some(Reason::HeadTimeout));
}

#[test]
fn names_are_resolved() {
    let server = Server::named("named");
    let url = format!("http://localhost:{}", server.address.port());
    let rig = Rig::start(&[Route::to("h.test", &[&url]), Route::to("n.test", &["http://no-such-host.invalid:1"])]);
    assert_eq!(rig.get("h.test", "/").text(), "named");
    assert_eq!(rig.record().reason, None);
    assert_eq!(rig.get("n.test", "/").status, 502);
    assert_eq!(rig.record().reason, Some(Reason::ConnectFailed));
}

fn lingering(wait: Duration, max_waiting: usize) -> Start {
    Start { settings: Settings { linger_wait: wait, max_waiting, ..Settings::default() }, ..Start::default() }
}

#[test]
fn a_request_waits_for_a_server_to_appear() {
    let server = Server::named("here");
    let rig = lingering(LIMIT, 10).run(&[Route::to("h.test", &[])]);
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 2\r\n\r\nhi");
    rig.until("the request waits", |rig| rig.waiting() == 1);
    // A change that does not concern it lets it wait on.
    rig.publish(&[Route::to("h.test", &[]), Route::to("other.test", &[])]);
    rig.publish(&[Route::to("h.test", &[&server.url()])]);
    assert_eq!(client.response("POST").text(), "here");
    assert_eq!(rig.waiting(), 0);
}

#[test]
fn a_request_whose_route_goes_while_it_waits_is_not_found() {
    let rig = lingering(LIMIT, 10).run(&[Route::to("h.test", &[])]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    rig.until("the request waits", |rig| rig.waiting() == 1);
    rig.publish(&[]);
    assert_eq!(client.response("GET").status, 404);
}

#[test]
fn the_wait_ends_and_the_queue_is_bounded() {
    let rig = lingering(Duration::from_millis(50), 10).run(&[Route::to("h.test", &[])]);
    let response = rig.get("h.test", "/");
    assert_eq!((response.status, response.text()), (503, "Service Unavailable"));
    assert_eq!(response.header("retry-after").as_deref(), Some("1"));
    assert_eq!(rig.record().reason, Some(Reason::NoServer));

    let rig = lingering(LIMIT, 1).run(&[Route::to("h.test", &[])]);
    let mut first = rig.connect();
    first.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    rig.until("the request waits", |rig| rig.waiting() == 1);
    assert_eq!(rig.get("h.test", "/").status, 503);
    assert_eq!(rig.record().reason, Some(Reason::QueueFull));
    // A client that goes away leaves the queue.
    drop(first);
    rig.until("the place is free", |rig| rig.waiting() == 0);
    let record = rig.record();
    assert_eq!((record.status, record.reason), (499, Some(Reason::ClientGone)));

    let rig = lingering(Duration::ZERO, 1).run(&[Route::to("h.test", &[])]);
    assert_eq!(rig.get("h.test", "/").status, 503);
    assert_eq!(rig.record().reason, Some(Reason::NoServer));
}

#[test]
fn tables_change_under_traffic_without_a_lost_request() {
    let servers: Vec<Server> = (0..3).map(|_| Server::named("ok")).collect();
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let rig = Start { workers: 2, ..Start::default() }.run(&[Route::to("h.test", &[&urls[0]])]);
    let (stop, done, ready) = (AtomicBool::new(false), AtomicUsize::new(0), Barrier::new(4));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = rig_client(rig.address);
                ready.wait();
                while !stop.load(Ordering::Relaxed) {
                    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
                    assert_eq!(client.response("GET").text(), "ok");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        ready.wait();
        for change in 0..200 {
            let servers: Vec<&str> = urls.iter().map(String::as_str).skip(change % 3).collect();
            let before = done.load(Ordering::Relaxed);
            rig.publish(&[Route::to("h.test", &servers), Route::to("x.test", &[])]);
            until("traffic goes on", || done.load(Ordering::Relaxed) > before);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(servers.iter().all(|server| server.accepted() > 0));
}

fn rig_client(address: std::net::SocketAddr) -> Client {
    Client::new(std::net::TcpStream::connect(address).expect("a connection"))
}

#[test]
fn a_request_ends_on_the_table_that_it_began_with() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let (asked, was_asked) = mpsc::channel();
    let server = Server::start(move |mut client, _| {
        client.request();
        asked.send(()).expect("the test waits");
        gone.lock().expect("one").recv_timeout(LIMIT).expect("the table has changed");
        client.send(&ok("still here"));
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    was_asked.recv_timeout(LIMIT).expect("the server was asked");
    rig.publish(&[]);
    assert_eq!(rig.get("h.test", "/").status, 404);
    go.send(()).expect("the server waits");
    assert_eq!(client.response("GET").text(), "still here");
}

#[test]
fn state_outlives_the_table() {
    let (dead, server) = (nobody(), Arc::new(Server::named("ok")));
    let routes = [Route::to("h.test", &[&dead, &server.url()])];
    let rig = Rig::start(&routes);
    rig.get("h.test", "/");
    rig.get("h.test", "/");
    assert_eq!(server.accepted(), 1);
    let ejected = || rig.registry.servers(std::time::Instant::now()).into_iter().find(|view| *view.id.url == *dead);
    assert!(ejected().is_some_and(|view| view.ejected));
    // The same servers in a table that shares nothing with the last one.
    rig.publish(&routes);
    rig.get("h.test", "/");
    assert_eq!(server.accepted(), 1, "the connection was kept");
    assert_eq!(ejected().map(|view| view.in_flight), Some(0));
}
