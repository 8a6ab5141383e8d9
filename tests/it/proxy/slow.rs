//! Clients that take their time, and clients that go: what makes progress is served, what does not is cut, and what
//! ended leaves nothing behind. Waits are for what the other side did; where a client has to be slow, it is slow by
//! rests between its bytes, however long these turn out to be.

use super::rig::*;
use rust_lb::http::Reason;
use rust_lb::proxy::EntryPoint;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Long enough for a busy machine to get from one byte to the next.
const PATIENCE: Duration = Duration::from_millis(500);
/// A rest between bytes.
const REST: Duration = Duration::from_millis(10);

fn hasty() -> EntryPoint {
    EntryPoint { read_timeout: PATIENCE, ..EntryPoint::new("web") }
}

/// Every byte in a segment of its own.
fn drip(client: &mut Client, text: &str) {
    for byte in text.as_bytes() {
        client.stream.write_all(&[*byte]).expect("written");
    }
}

/// Nothing is left of any connection.
fn at_rest(rig: &Rig) {
    rig.until("all connections are gone", |rig| rig.open() == 0);
    rig.until("the servers are let go", |rig| {
        rig.registry.servers(Instant::now()).iter().all(|server| server.in_flight == 0)
    });
}

/// The body comes back.
fn mirror() -> Server {
    Server::answering(|request| ok(request.text()))
}

#[test]
fn requests_that_come_byte_by_byte_are_served() {
    let server = mirror();
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    let head = "POST /a?b=c HTTP/1.1\r\nHost: h.test\r\nX-A: b\r\n";
    drip(&mut client, &format!("{head}Content-Length: 5\r\n\r\nhello"));
    assert_eq!(client.response("POST").text(), "hello");
    drip(
        &mut client,
        &format!("{head}Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n"),
    );
    assert_eq!(client.response("POST").text(), "hello");
    drip(&mut client, "GET / HTTP/1.1\r\nHost: h.test\r\n\r\nGET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!((client.response("GET").status, client.response("GET").status), (200, 200));
}

#[test]
fn answers_that_come_byte_by_byte_are_passed_on() {
    let server = Server::start(|mut client, _| {
        while client.request().is_some() {
            drip(&mut client, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            drip(&mut client, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n");
        }
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        let mut answer = client.response("GET");
        if answer.status == 103 {
            answer = client.response("GET");
        }
        assert_eq!(answer.text(), "hello");
        assert_eq!(client.through("\r\n"), "\r\n");
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_head_that_trickles_without_end_is_cut() {
    let rig = Start { entry: hasty(), ..Start::default() }.run(&[]);
    for beginning in ["", "GET / HTTP/1.1\r\nHost: h.test\r\nX-Slow: "] {
        let mut client = rig.connect();
        drop(client.stream.write_all(beginning.as_bytes()));
        let mut writer = client.stream.try_clone().expect("a clone");
        let trickle = std::thread::spawn(move || {
            while writer.write_all(b"a").is_ok() {
                std::thread::park_timeout(REST);
            }
        });
        let answer = String::from_utf8(client.rest()).expect("text");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
        drop(client);
        trickle.join().expect("the proxy ended it");
    }
    at_rest(&rig);
}

#[test]
fn a_body_that_trickles_is_taken_as_long_as_it_moves() {
    let (got, moved) = mpsc::channel();
    let server = Server::start(move |mut client, _| {
        client.through("\r\n\r\n");
        // One byte with the wrapping of a chunk.
        while client.exactly(6) != *b"1\r\n.\r\n" {
            got.send(()).expect("the test listens");
        }
        client.send(&ok("all of it"));
    });
    let rig = Start { entry: hasty(), ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let begun = Instant::now();
    // Three times what one wait may take, and each byte is seen at the other end before the next is sent.
    while begun.elapsed() < PATIENCE * 3 {
        client.send("1\r\na\r\n");
        moved.recv_timeout(LIMIT).expect("the server got it");
        std::thread::park_timeout(REST);
    }
    client.send("1\r\n.\r\n0\r\n\r\n");
    assert_eq!(client.response("POST").text(), "all of it");
}

#[test]
fn a_client_that_reads_slowly_gets_it_all() {
    const SIZE: usize = 16 << 20;
    let server = Server::start(|mut client, _| {
        client.request();
        client.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
        drop(client.stream.write_all(&vec![b'x'; SIZE]));
    });
    let entry = EntryPoint { write_timeout: PATIENCE, ..EntryPoint::new("web") };
    let rig = Start { entry, ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    client.head();
    let begun = Instant::now();
    let mut taken = 0;
    // It takes longer than one write may wait, and something is taken all the time.
    while begun.elapsed() < PATIENCE * 2 && taken < SIZE / 2 {
        taken += client.exactly(64 << 10).len();
        std::thread::park_timeout(REST);
    }
    for _ in 0..100 {
        taken += client.exactly(1).len();
    }
    client.exactly(SIZE - taken);
    assert_eq!(rig.record().response_bytes, SIZE as u64);
}

/// Ends as a crashed client does: with a reset.
fn reset(client: &Client) {
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).expect("no lingering");
}

#[test]
fn a_reset_in_any_phase_leaves_nothing_behind() {
    let (arrived, seen) = mpsc::channel();
    let server = Server::start(move |mut client, _| {
        while let Some(head) = client.try_through("\r\n\r\n") {
            arrived.send(()).expect("the test listens");
            if head.contains("/well") {
                client.send(&ok("fine"));
            } else if head.contains("/answer") {
                client.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
                while client.stream.write_all(&[b'x'; 65_536]).is_ok() {}
            } else {
                // Until the proxy lets go.
                client.rest();
            }
        }
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let phases: [(&str, &str, bool); 8] = [
        ("connected", "", false),
        ("in the request line", "GET /", false),
        ("in the head", "GET / HTTP/1.1\r\nHost: h.te", false),
        ("in a handshake", "\u{16}\u{3}\u{1}", false),
        ("before the answer", "GET /wait HTTP/1.1\r\nHost: h.test\r\n\r\n", true),
        ("in the body", "POST /wait HTTP/1.1\r\nHost: h.test\r\nContent-Length: 10\r\n\r\nhalf", true),
        ("in a chunk", "POST /wait HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf", true),
        ("in the answer", "GET /answer HTTP/1.1\r\nHost: h.test\r\n\r\n", true),
    ];
    for (phase, bytes, reaches) in phases {
        let mut client = rig.connect();
        client.send(bytes);
        if reaches {
            seen.recv_timeout(LIMIT).expect("the server is asked");
        }
        if phase == "in the answer" {
            client.head();
            client.exactly(100_000);
        }
        reset(&client);
        drop(client);
        if reaches {
            let record = rig.record();
            assert_eq!(record.reason, Some(Reason::ClientGone), "{phase}");
        }
        at_rest(&rig);
        assert_eq!(rig.get("h.test", "/well").text(), "fine", "after a reset {phase}");
        seen.recv_timeout(LIMIT).expect("the server is asked");
        while rig.record().target != "/well" {}
        at_rest(&rig);
    }
}

#[test]
fn heads_of_a_million_bytes_are_served_or_refused() {
    let server = Server::named("fine");
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let long = format!("GET / HTTP/1.1\r\nHost: h.test\r\nX-Big: {}\r\n\r\n", "a".repeat(1_000_000));
    let many = format!("GET / HTTP/1.1\r\nHost: h.test\r\n{}\r\n", "X-A: b\r\n".repeat(10_000));
    std::thread::scope(|scope| {
        for bytes in [&long, &many, &long, &many] {
            let rig = &rig;
            let address = rig.address;
            scope.spawn(move || {
                let mut client = Client::new(TcpStream::connect(address).expect("a connection"));
                drop(client.stream.write_all(bytes.as_bytes()));
                let status = client.try_through("\r\n\r\n").map_or(431, |head| {
                    head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).expect("a status")
                });
                assert!(matches!(status, 200 | 431), "{status}");
            });
        }
    });
    assert_eq!(rig.get("h.test", "/").text(), "fine");
    at_rest(&rig);
}

#[test]
fn a_body_shorter_than_said_is_never_taken_for_whole() {
    let (told, bodies) = mpsc::channel();
    let server = Server::start(move |mut client, _| {
        client.through("\r\n\r\n");
        told.send(client.rest()).expect("the test listens");
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    for body in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut client = rig.connect();
        client.send(&format!("POST / HTTP/1.1\r\nHost: h.test\r\n{body}"));
        client.stream.shutdown(Shutdown::Write).expect("half closed");
        let answer = String::from_utf8(client.rest()).expect("text");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        let seen = String::from_utf8(bodies.recv_timeout(LIMIT).expect("the server's end")).expect("text");
        assert!(!seen.ends_with("0\r\n\r\n"), "{seen:?}");
        assert!(rig.record().status >= 400);
        at_rest(&rig);
    }
}

/// A client that ends its side within an answer may be gone. A server that says nothing more is let go; nobody would
/// ever learn it otherwise.
#[test]
fn a_silent_server_is_let_go_when_the_client_ends_within_the_answer() {
    let (told, ended) = mpsc::channel();
    let server = Server::start(move |mut client, _| {
        client.request();
        client.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n",
        );
        told.send(client.rest()).expect("the test listens");
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(client.head().status, 200);
    client.through("a\n");
    client.stream.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(ended.recv_timeout(LIMIT).expect("the server's end"), b"");
    assert_eq!(rig.record().reason, Some(Reason::ClientGone));
    at_rest(&rig);
}

/// Whether a connection is still open: nothing comes, and it does not end.
fn is_open(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("not blocking");
    let open = matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).expect("blocking");
    open
}

#[test]
fn slow_clients_are_cut_while_quick_ones_are_served() {
    let server = Server::named("fine");
    let rig = Start { entry: hasty(), ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut slow: Vec<_> = (0..50).map(|_| rig.connect()).collect();
    for client in &mut slow {
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\nX-Sl");
    }
    assert_eq!(rig.get("h.test", "/").text(), "fine");
    rig.until("the slow ones are cut", |rig| {
        assert_eq!(rig.get("h.test", "/").text(), "fine");
        rig.open() == 0
    });
    assert!(!slow.iter_mut().any(|client| is_open(&mut client.stream)));
}

/// A client may end its side as soon as it has asked (RFC 9112, 9.6), as `nc -N` does. One that is gone looks the same at
/// first: `hostile::a_client_that_leaves_is_noticed` waits until it has had its time.
#[test]
fn a_half_closed_client_is_answered() {
    let (arrived, seen) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let server = Server::start(move |mut client, _| {
        while let Some(request) = client.request() {
            arrived.send(()).expect("the test listens");
            wait.lock().expect("one").recv_timeout(LIMIT).expect("the word");
            client.send(&ok(request.text()));
        }
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    for (method, rest, body) in [
        ("GET", "\r\n", ""),
        ("POST", "Content-Length: 5\r\n\r\nhello", "hello"),
        ("POST", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"),
    ] {
        let mut client = rig.connect();
        client.send(&format!("{method} / HTTP/1.1\r\nHost: h.test\r\n{rest}"));
        client.stream.shutdown(Shutdown::Write).expect("half closed");
        seen.recv_timeout(LIMIT).expect("the server is asked");
        go.send(()).expect("the server waits");
        assert_eq!(client.response(method).text(), body, "{method} {rest:?}");
        assert_eq!(client.rest(), b"");
        assert_eq!(rig.record().status, 200);
    }
    // Two at once.
    let mut client = rig.connect();
    client.send(&"GET / HTTP/1.1\r\nHost: h.test\r\n\r\n".repeat(2));
    client.stream.shutdown(Shutdown::Write).expect("half closed");
    for _ in 0..2 {
        seen.recv_timeout(LIMIT).expect("the server is asked");
        go.send(()).expect("the server waits");
        assert_eq!(client.response("GET").status, 200);
    }
    rig.until("all connections are gone", |rig| rig.open() == 0);
}
