//! Bodies: streamed both ways, framed anew, with trailers; switched protocols.

use super::rig::*;
use rust_lb::http::Reason;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Mutex;
use std::sync::mpsc;

#[test]
fn an_answer_streams() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let server = Server::start(move |mut client, _| {
        client.request().expect("a request");
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        gone.lock().expect("one").recv_timeout(LIMIT).expect("the client saw the first half");
        client.send("other");
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(client.head().status, 200);
    assert_eq!(client.exactly(5), b"first");
    go.send(()).expect("the server waits");
    assert_eq!(client.exactly(5), b"other");
}

#[test]
fn a_request_streams_and_may_be_answered_before_its_end() {
    let (go, gone) = mpsc::channel::<()>();
    let server = Server::start(move |mut client, _| {
        client.through("\r\n\r\n");
        assert_eq!(client.exactly(5), b"first");
        go.send(()).expect("the client waits");
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let rest = client.exactly(5);
        client.send(std::str::from_utf8(&rest).expect("text"));
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 10\r\n\r\nfirst");
    gone.recv_timeout(LIMIT).expect("the server saw the first half");
    assert_eq!(client.head().status, 200);
    client.send("other");
    assert_eq!(client.exactly(5), b"other");
    assert_eq!(rig.record().request_bytes, 10);
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    let (saw, seen) = mpsc::channel();
    let server = Server::start(move |mut client, _| {
        let head = client.through("\r\n\r\n");
        let body = client.through("0\r\n");
        let trailers = client.through("\r\n\r\n");
        saw.send((head, body, trailers)).expect("the test waits");
        client.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n",
        );
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send(
        "POST / HTTP/1.1\r\nHost: h.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n\
         5\r\nhello\r\n0\r\nX-T: v\r\n\r\n",
    );
    let response = client.response("POST");
    assert_eq!(response.text(), "abc");
    assert_eq!(client.through("\r\n\r\n").to_ascii_lowercase(), "x-sum: 6\r\n\r\n");
    let (head, body, trailers) = seen.recv_timeout(LIMIT).expect("a request");
    assert_eq!(fields(&head, "Transfer-Encoding"), ["chunked"]);
    assert_eq!(fields(&head, "Trailer"), ["X-T"]);
    assert_eq!(body, "5\r\nhello\r\n0\r\n");
    assert_eq!(trailers.to_ascii_lowercase(), "x-t: v\r\n\r\n");
}

#[test]
fn bodies_are_framed_as_methods_want_it() {
    let server =
        Server::answering(|request| ok(&format!("{}{}", request.head, String::from_utf8_lossy(&request.body))));
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let got = client.response("GET");
    assert!(got.text().ends_with("\r\n\r\nhello"), "{}", got.text());
    client.send("POST / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(fields(client.response("POST").text(), "Content-Length"), ["0"]);
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    let got = client.response("GET");
    assert_eq!(fields(got.text(), "Content-Length"), [""; 0]);
    assert_eq!(fields(got.text(), "Transfer-Encoding"), [""; 0]);
    client.send("foo / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert!(client.response("foo").text().starts_with("foo / HTTP/1.1\r\n"));
}

#[test]
fn answers_without_a_body_have_none_and_the_connections_go_on() {
    let server = Server::answering(|request| match request.head.split(' ').next() {
        Some("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".to_owned(),
        Some("DELETE") => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        _ => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_owned(),
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    for (method, status) in [("HEAD", 200), ("DELETE", 204), ("GET", 304), ("HEAD", 200)] {
        client.send(&format!("{method} / HTTP/1.1\r\nHost: h.test\r\n\r\n"));
        let response = client.response(method);
        assert_eq!(response.status, status, "{method}");
        if method == "HEAD" {
            assert_eq!(response.all("content-length"), ["12345"]);
        }
        let record = rig.record();
        assert_eq!((record.status, record.reason, record.response_bytes), (status, None, 0), "{method}");
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_body_that_ends_with_the_connection_is_chunked() {
    let server = Server::start(|mut client, _| {
        client.request();
        client.send("HTTP/1.0 200 OK\r\n\r\nhello");
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let response = rig.get("h.test", "/");
    assert_eq!((response.status, response.text()), (200, "hello"));
}

#[test]
fn a_cut_answer_is_cut_for_the_client_too() {
    let server = Server::start(|mut client, _| {
        client.request();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(client.head().status, 200);
    let body = client.rest();
    assert!(!body.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&body));
    assert_eq!(rig.record().reason, Some(Reason::AnswerCut));
}

#[test]
fn a_client_that_waits_for_100_gets_it() {
    let server = Server::answering(|request| ok(&String::from_utf8_lossy(&request.body)));
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: h.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.head().status, 100);
    client.send("body");
    assert_eq!(client.response("POST").text(), "body");
    client.send("POST / HTTP/1.1\r\nHost: h.test\r\nExpect: 200-ok\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.response("POST").status, 417);
}

#[test]
fn large_bodies_pass_both_ways() {
    const SIZE: usize = 3 << 20;
    let server = Server::start(|mut client, _| {
        client.through("\r\n\r\n");
        let body = client.exactly(SIZE);
        client.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
        client.stream.write_all(&body).expect("written");
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    let body: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    client.send(&format!("PUT / HTTP/1.1\r\nHost: h.test\r\nContent-Length: {SIZE}\r\n\r\n"));
    client.stream.write_all(&body).expect("written");
    assert!(client.response("PUT").body == body);
    let record = rig.record();
    assert_eq!((record.request_bytes, record.response_bytes), (SIZE as u64, SIZE as u64));
}

/// Switches to what was asked, then echoes; ends its side when the client has ended its own.
fn switching() -> Server {
    Server::start(|mut client, _| {
        let head = client.through("\r\n\r\n");
        assert_eq!(fields(&head, "Connection"), ["Upgrade"]);
        let protocol = fields(&head, "Upgrade").remove(0);
        let proto = fields(&head, "X-Forwarded-Proto").remove(0);
        client.send(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nConnection: Upgrade\r\nX-Proto: {proto}\r\n\r\n"
        ));
        let mut chunk = [0; 100];
        loop {
            match client.stream.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(read) => client.stream.write_all(&chunk[..read]).expect("written"),
            }
        }
        client.send("goodbye");
    })
}

#[test]
fn a_switched_connection_carries_bytes_and_half_closes() {
    let server = switching();
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    for (protocol, proto) in [("websocket", "ws"), ("foo/2", "http")] {
        let mut client = rig.connect();
        client.send(&format!(
            "GET /chat HTTP/1.1\r\nHost: h.test\r\nUpgrade: {protocol}\r\nConnection: keep-alive, Upgrade\r\n\r\n"
        ));
        let switched = client.head();
        assert_eq!(switched.status, 101, "{}", switched.head);
        assert_eq!(switched.all("upgrade"), [protocol]);
        assert_eq!(switched.all("connection"), ["Upgrade"]);
        assert_eq!(switched.all("x-proto"), [proto]);
        client.send("ping");
        assert_eq!(client.exactly(4), b"ping");
        rig.until("the connection counts while it is switched", |rig| rig.open() == 1);
        client.stream.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(client.rest(), b"goodbye");
        let record = rig.record();
        assert_eq!((record.status, record.reason), (101, None));
        assert_eq!((record.request_bytes, record.response_bytes), (4, 11));
        rig.until("the connection is closed", |rig| rig.open() == 0);
    }
}

#[test]
fn a_switch_that_nobody_asked_for_is_an_error() {
    let server = Server::answering(|_| {
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n".to_owned()
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    assert_eq!(client.response("GET").status, 502);
    assert_eq!(rig.record().reason, Some(Reason::BadAnswer));
}

#[test]
fn an_answer_that_two_readers_may_cut_in_two_ways_is_none() {
    // RFC 9112, 6.3: what stands behind the one end would be the next client's answer by the other.
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 500\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 11",
        "Content-Length: 11, 11",
        "Transfer-Encoding: gzip, chunked",
    ] {
        let server =
            Server::answering(move |_| format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\nb\r\nhello world\r\n0\r\n\r\n"));
        let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
        assert_eq!(rig.get("h.test", "/").status, 502, "{framing}");
        assert_eq!(rig.record().reason, Some(Reason::BadAnswer), "{framing}");
    }
}

#[test]
fn a_length_said_twice_is_said_once() {
    let server =
        Server::answering(|_| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok".to_owned());
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let response = rig.get("h.test", "/");
    assert_eq!((response.text(), response.all("content-length")), ("ok", vec!["2".to_owned()]));
}

#[test]
fn http_2_is_not_asked_for_behind_our_back() {
    // A server that switches to another form of HTTP would take requests that nobody has routed.
    let server = Server::echo();
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    for protocol in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.3"] {
        let mut client = rig.connect();
        client.send(&format!(
            "GET / HTTP/1.1\r\nHost: h.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n\
             HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
        ));
        let got = client.response("GET");
        for name in ["Upgrade", "Connection", "HTTP2-Settings"] {
            assert_eq!(fields(got.text(), name), [""; 0], "{name} with {protocol}");
        }
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let (saw, seen) = mpsc::channel();
    let server = Server::start(move |mut client, _| {
        client.through("\r\n\r\n");
        client.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        client.rest();
        saw.send(()).expect("the test waits");
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    // More than the buffers on the way hold: a connection that is closed over it is reset.
    const SIZE: usize = 6 << 20;
    for (host, status) in [("nobody.test", 404), ("h.test", 413)] {
        for _ in 0..5 {
            let mut client = rig.connect();
            client.send(&format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {SIZE}\r\n\r\n"));
            client.stream.write_all(&vec![b'x'; SIZE]).expect("nobody resets the connection");
            assert_eq!(client.response("POST").status, status);
            client.stream.shutdown(Shutdown::Write).expect("half closed");
            assert_eq!(client.stream.read(&mut [0]).expect("an orderly end"), 0);
        }
    }
    drop(rig);
    seen.recv_timeout(LIMIT).expect("the server is let go");
}
