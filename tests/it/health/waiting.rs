//! Requests that wait for a server that refuses connections: an instance that is listed before it listens, or that
//! is started anew, with `count = 1`.

use super::backend::{Backend, Says};
use super::{Rig, often, over};
use crate::support::client;
use serde_json::json;
use std::net::{SocketAddr, TcpListener};

/// A port that is taken and refuses connections until it listens.
struct Port(socket2::Socket, SocketAddr);

impl Port {
    fn closed() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        let addr = socket.local_addr().ok().and_then(|addr| addr.as_socket()).expect("an address");
        Self(socket, addr)
    }

    fn open(self, name: &str) -> Backend {
        self.0.listen(128).expect("it listens");
        Backend::on(TcpListener::from(self.0), name, Says::Status(200))
    }
}

#[test]
fn requests_wait_for_a_port_that_opens_late() {
    let port = Port::closed();
    let addr = port.1;
    let rig = Rig::start(&["--rustLb.linger.wait=1h"]);
    let web = rig.proxy.web();
    rig.put_and_see(&[("web", over(&[addr], json!({})))]);
    std::thread::scope(|scope| {
        let requests: Vec<_> = (0..20)
            .map(|n| {
                scope.spawn(move || match n % 2 {
                    0 => client::get(web, "web.test", "/"),
                    _ => client::send(web, "POST", "web.test", "/", "", "a body"),
                })
            })
            .collect();
        // Somebody was refused.
        rig.wait("web", addr, "DOWN");
        assert_eq!(rig.why("web", addr), "it refuses connections");
        assert!(requests.iter().all(|request| !request.is_finished()));
        let server = port.open("late");
        for request in requests {
            let answer = request.join().expect("an answer");
            assert_eq!((answer.status, &*answer.text()), (200, "late"));
        }
        assert_eq!(server.requests(), 20);
    });
    rig.wait("web", addr, "UP");
}

#[test]
fn a_checked_server_that_opens_late_is_waited_for_too() {
    let port = Port::closed();
    let addr = port.1;
    let rig = Rig::start(&["--rustLb.linger.wait=1h"]);
    let web = rig.proxy.web();
    rig.put_and_see(&[("web", over(&[addr], often(json!({"interval": "1h"}))))]);
    std::thread::scope(|scope| {
        let request = scope.spawn(|| client::get(web, "web.test", "/"));
        rig.wait("web", addr, "DOWN");
        let server = port.open("late");
        assert_eq!(request.join().expect("an answer").text(), "late");
        // It never passed, so it is asked again soon and not in an hour.
        rig.wait("web", addr, "UP");
        assert_eq!(server.requests(), 1);
    });
}

#[test]
fn a_request_goes_to_the_server_that_comes_instead() {
    let port = Port::closed();
    let other = Backend::start("other", Says::Status(200));
    let rig = Rig::start(&["--rustLb.linger.wait=1h"]);
    let web = rig.proxy.web();
    rig.put_and_see(&[("web", over(&[port.1], json!({})))]);
    std::thread::scope(|scope| {
        let request = scope.spawn(|| client::get(web, "web.test", "/"));
        rig.wait("web", port.1, "DOWN");
        let second = scope.spawn(|| client::get(web, "web.test", "/"));
        rig.put(&[("web", over(&[other.addr], json!({})))]);
        assert_eq!(request.join().expect("an answer").text(), "other");
        assert_eq!(second.join().expect("an answer").text(), "other");
    });
}

#[test]
fn a_server_that_refuses_for_too_long_is_not_waited_for_again() {
    let port = Port::closed();
    let addr = port.1;
    let rig = Rig::start(&["--rustLb.linger.wait=300ms"]);
    rig.put_and_see(&[("web", over(&[addr], json!({})))]);
    let answer = rig.get("web");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "it has waited");
    for _ in 0..5 {
        let answer = rig.get("web");
        assert_eq!((answer.status, answer.header("retry-after")), (502, None), "it has not");
    }
    let problem = rig.problem("no_healthy_server").expect("a problem");
    assert!(problem.ends_with("it refuses connections"), "{problem}");
    let server = port.open("late");
    assert_eq!(rig.get("web").text(), "late");
    assert_eq!(server.requests(), 1);
    assert_eq!(rig.problem("no_healthy_server"), None);
}

#[test]
fn a_server_that_was_reached_is_waited_for_anew() {
    let rig = Rig::start(&["--rustLb.linger.wait=1h"]);
    let web = rig.proxy.web();
    let mut listener = Some(TcpListener::bind("127.0.0.1:0").expect("a port"));
    let addr = listener.as_ref().expect("it is there").local_addr().expect("bound");
    rig.put_and_see(&[("web", over(&[addr], json!({})))]);
    for round in 0..3 {
        std::thread::scope(|scope| {
            let request = scope.spawn(|| client::get(web, "web.test", "/"));
            let (mut stream, _) = listener.as_ref().expect("it is there").accept().expect("a connection");
            client_of(&mut stream);
            assert_eq!(request.join().expect("an answer").text(), "ok", "{round}");
            // It ends, connection and port, and is started again while a request waits.
            drop(stream);
            drop(listener.take());
            let request = scope.spawn(|| client::get(web, "web.test", "/"));
            rig.wait("web", addr, "DOWN");
            let listening = listener.insert(again(addr));
            loop {
                let (mut stream, _) = listening.accept().expect("a connection");
                // The first one may be a knock that carries no request.
                if client_of(&mut stream) {
                    break;
                }
            }
            assert_eq!(request.join().expect("an answer").text(), "ok", "{round}");
        });
    }
}

/// The same port once more.
fn again(addr: SocketAddr) -> TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("set");
    socket.bind(&addr.into()).expect("the port");
    socket.listen(128).expect("it listens");
    socket.into()
}

/// Answers one request; false if none came.
fn client_of(stream: &mut std::net::TcpStream) -> bool {
    use std::io::{Read, Write};
    let mut head = Vec::new();
    let mut piece = [0; 1_024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return false,
            Ok(read) => head.extend_from_slice(&piece[..read]),
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
}
