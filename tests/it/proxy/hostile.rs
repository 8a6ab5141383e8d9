//! What clients should not send: each ends in an answer or a closed connection, and the next
//! client is served as if nothing had been.

use super::rig::*;
use proptest::prelude::*;
use rust_lb::http::Reason;
use rust_lb::proxy::EntryPoint;
use std::net::Shutdown;
use std::time::Duration;

/// Sends bytes, and gives the status of the answer and whether the connection was closed after
/// it. Status 0: closed without one.
fn outcome(rig: &Rig, bytes: &[u8]) -> u16 {
    use std::io::Write;
    let mut client = rig.connect();
    // The other side may close before it has read all.
    let _ = client.stream.write_all(bytes);
    match client.try_through("\r\n\r\n") {
        None => 0,
        Some(head) => {
            client.rest();
            head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
        }
    }
}

#[test]
fn garbage_is_refused_and_the_proxy_serves_on() {
    let server = Server::named("fine");
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let long = format!("GET / HTTP/1.1\r\nHost: h.test\r\nX-Big: {}\r\n\r\n", "a".repeat(1_100_000));
    let many = format!("GET / HTTP/1.1\r\nHost: h.test\r\n{}\r\n", "X-A: 1\r\n".repeat(300));
    let cases: &[(&str, &[u8], u16)] = &[
        ("noise", b"\x00\x01\x02\xff\xfe\r\n\r\n", 400),
        ("words", b"hello there\r\n\r\n", 400),
        ("no version", b"GET /\r\n\r\n", 400),
        ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
        ("two hosts", b"GET / HTTP/1.1\r\nHost: h.test\r\nHost: b.test\r\n\r\n", 400),
        ("user in host", b"GET / HTTP/1.1\r\nHost: u@h.test\r\n\r\n", 400),
        ("no slash", b"GET foo HTTP/1.1\r\nHost: h.test\r\n\r\n", 400),
        ("broken encoding", b"GET /%zz HTTP/1.1\r\nHost: h.test\r\n\r\n", 400),
        ("space in a name", b"GET / HTTP/1.1\r\nHost: h.test\r\nX A: 1\r\n\r\n", 400),
        ("NUL in a value", b"GET / HTTP/1.1\r\nHost: h.test\r\nX-A: a\0b\r\n\r\n", 400),
        ("folded line", b"GET / HTTP/1.1\r\nHost: h.test\r\nX-A: a\r\n b\r\n\r\n", 400),
        ("negative length", b"POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: -1\r\n\r\n", 400),
        ("two lengths", b"POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        ("identity", b"POST / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: identity\r\n\r\n", 501),
        ("chunked twice over", b"POST / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 501),
        ("connect", b"CONNECT h.test:80 HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n", 405),
        ("bad chunk", b"POST / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        ("huge head", long.as_bytes(), 431),
        ("many fields", many.as_bytes(), 431),
    ];
    for (name, bytes, status) in cases {
        assert_eq!(outcome(&rig, bytes), *status, "{name}");
        // Also what never became a request is in the log, once, with what was answered and why.
        let record = rig.record();
        assert_eq!(record.status, *status, "{name}");
        let reason = if *status == 431 { Reason::TooLarge } else { Reason::BadRequest };
        assert_eq!(record.reason, Some(reason), "{name}");
        assert_eq!(rig.get("h.test", "/").text(), "fine", "after {name}");
        assert_eq!(rig.record().status, 200, "after {name}");
    }
    rig.until("all connections are gone", |rig| rig.open() == 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_mangled_request_ends_and_the_next_is_served(
        at in 0usize..90, cut in 0usize..20, noise in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        use std::io::Write;
        let rig = mangled();
        let mut bytes = b"POST /a/b?c=d HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec();
        let at = at.min(bytes.len());
        let cut = cut.min(bytes.len() - at);
        bytes.splice(at..at + cut, noise);
        let mut client = rig.connect();
        let _ = client.stream.write_all(&bytes);
        let _ = client.stream.shutdown(Shutdown::Write);
        client.rest();
        prop_assert_eq!(rig.get("h.test", "/").status, 200);
    }
}

/// One rig for all cases.
fn mangled() -> std::sync::MutexGuard<'static, Rig> {
    static RIG: std::sync::LazyLock<std::sync::Mutex<Rig>> = std::sync::LazyLock::new(|| {
        let server = Server::named("fine");
        std::sync::Mutex::new(Rig::start(&[Route::to("h.test", &[&server.url()])]))
    });
    RIG.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn half_requests_and_none_leave_nothing_behind() {
    let rig = Rig::start(&[]);
    for bytes in [&b""[..], b"G", b"GET / HTTP/1.1\r\nHo", b"\x16\x03\x01"] {
        use std::io::Write;
        let mut client = rig.connect();
        client.stream.write_all(bytes).expect("written");
        client.stream.shutdown(Shutdown::Write).expect("half closed");
        client.rest();
    }
    rig.until("all connections are gone", |rig| rig.open() == 0);
    assert_eq!(rig.get("h.test", "/").status, 404);
}

/// Short, but long enough for a busy machine to send a head in.
const PATIENCE: Duration = Duration::from_millis(500);

fn hasty() -> EntryPoint {
    EntryPoint { read_timeout: PATIENCE, ..EntryPoint::new("web") }
}

#[test]
fn slow_heads_are_cut() {
    let rig = Start { entry: hasty(), ..Start::default() }.run(&[]);
    // Nothing at all.
    assert_eq!(rig.connect().rest(), b"");
    // Half a head, and one more byte now and then: progress does not count, the whole does.
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\nX-Slow: ");
    let answer = String::from_utf8(client.rest()).expect("text");
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    // Half a handshake.
    let mut client = rig.connect();
    client.stream.set_nodelay(true).expect("no delay");
    std::io::Write::write_all(&mut client.stream, b"\x16\x03\x01\x02\x00").expect("written");
    client.rest();
    // Half of a second head.
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(client.response("GET").status, 404);
    client.send("GET / HT");
    let answer = String::from_utf8(client.rest()).expect("text");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let seen: Vec<_> = (0..3).map(|_| rig.record()).map(|record| (record.status, record.reason)).collect();
    let late = (408, Some(Reason::RequestTimeout));
    assert_eq!(seen, [late, (404, Some(Reason::NoRoute)), late]);
    rig.until("all connections are gone", |rig| rig.open() == 0);
}

#[test]
fn idle_connections_are_closed() {
    let entry = EntryPoint { idle_timeout: Duration::from_millis(30), ..EntryPoint::new("web") };
    let rig = Start { entry, ..Start::default() }.run(&[]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(client.response("GET").status, 404);
    assert_eq!(client.rest(), b"");
}

#[test]
fn stalled_bodies_are_cut() {
    let server = Server::start(|mut client, _| {
        client.rest();
    });
    let rig = Start { entry: hasty(), ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(client.response("POST").status, 408);
    let record = rig.record();
    assert_eq!((record.reason, record.request_bytes), (Some(Reason::RequestTimeout), 4));
}

#[test]
fn a_server_that_answers_and_reads_no_further_lets_the_client_go() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = Server::start(move |mut client, _| {
        client.through("\r\n\r\n");
        client.send(&ok("no need"));
        // Neither reads nor closes.
        let _ = wait.lock().expect("one").recv_timeout(LIMIT);
    });
    let rig = Start { entry: hasty(), ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 1073741824\r\n\r\n");
    let mut writer = client.stream.try_clone().expect("a clone");
    let sending = std::thread::spawn(move || {
        let chunk = vec![b'x'; 1 << 20];
        while std::io::Write::write_all(&mut writer, &chunk).is_ok() {}
    });
    assert_eq!(client.response("POST").text(), "no need");
    rig.until("the connection is gone", |rig| rig.open() == 0);
    rig.until("the server is let go", |rig| {
        rig.registry.servers(std::time::Instant::now()).iter().all(|s| s.in_flight == 0 && s.connections == 0)
    });
    sending.join().expect("it ended");
    drop(done);
}

#[test]
fn a_slow_server_is_not_the_clients_fault() {
    let server = Server::start(|mut client, _| {
        client.request();
        // Longer than all of the client's time-outs.
        std::thread::sleep(PATIENCE * 2);
        client.send(&ok("at last"));
    });
    let entry = EntryPoint { idle_timeout: PATIENCE / 2, ..hasty() };
    let rig = Start { entry, ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    assert_eq!(rig.get("h.test", "/").text(), "at last");
}

#[test]
fn a_client_that_reads_nothing_is_cut() {
    let server = Server::start(|mut client, _| {
        client.request();
        let chunk = vec![b'x'; 1 << 20];
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
        while std::io::Write::write_all(&mut client.stream, &chunk).is_ok() {}
    });
    let entry = EntryPoint { write_timeout: Duration::from_millis(100), ..EntryPoint::new("web") };
    let rig = Start { entry, ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    let record = rig.record();
    assert_eq!((record.status, record.reason), (200, Some(Reason::ClientGone)));
    rig.until("the connection is gone", |rig| rig.open() == 0);
}

#[test]
fn a_client_that_leaves_is_noticed() {
    let server = Server::start(|mut client, _| {
        client.request();
        // Ends when the proxy has let go of the connection.
        client.rest();
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    rig.until("the server works on it", |rig| {
        rig.registry.servers(std::time::Instant::now()).iter().any(|server| server.in_flight == 1)
    });
    drop(client);
    let record = rig.record();
    assert_eq!((record.status, record.reason), (499, Some(Reason::ClientGone)));
    rig.until("the server is let go", |rig| {
        rig.registry.servers(std::time::Instant::now()).iter().all(|s| s.in_flight == 0 && s.connections == 0)
    });
}

#[test]
fn a_panic_costs_one_connection_and_not_the_worker() {
    let server = Server::named("fine");
    let tls: rust_lb::proxy::TlsSource = std::sync::Arc::new(|_, _| panic!("a fault in the handshake, on purpose"));
    let rig = Start { tls: Some(tls), ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    let mut held = rig.connect();
    held.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(held.response("GET").text(), "fine");
    let config = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
    let name = rustls::pki_types::ServerName::try_from("h.test").expect("a name");
    let config = std::sync::Arc::new(config.with_no_client_auth());
    let mut hello = Vec::new();
    rustls::ClientConnection::new(config, name).expect("a session").write_tls(&mut hello).expect("a hello");
    for _ in 0..3 {
        let mut client = rig.connect();
        std::io::Write::write_all(&mut client.stream, &hello).expect("written");
        assert_eq!(client.rest(), b"");
        let mut client = rig.connect();
        client.send(&format!("GET {FAULT} HTTP/1.1\r\nHost: h.test\r\n\r\n"));
        client.rest();
    }
    rig.until("only one connection is open", |rig| rig.open() == 1);
    held.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    assert_eq!(held.response("GET").text(), "fine");
    rig.until("no request counts as in flight", |rig| {
        rig.registry.servers(std::time::Instant::now()).iter().all(|server| server.in_flight == 0)
    });
}

#[test]
fn a_client_that_leaves_in_its_body_is_gone_and_not_wrong() {
    let server = Server::start(|mut client, _| {
        client.rest();
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    for body in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n5\r\nha"] {
        let mut client = rig.connect();
        client.send(&format!("POST / HTTP/1.1\r\nHost: h.test\r\n{body}"));
        drop(client);
        let record = rig.record();
        assert_eq!((record.status, record.reason), (499, Some(Reason::ClientGone)), "{body}");
    }
}

#[test]
fn a_url_without_a_path_is_one_with_a_slash() {
    let server = Server::echo();
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    for (target, sent) in [("http://h.test", "/"), ("http://h.test?a=b", "/?a=b")] {
        let got = rig.get("h.test", target);
        assert_eq!(got.status, 200, "{target}");
        assert!(got.text().starts_with(&format!("GET {sent} HTTP/1.1\r\n")), "{}", got.text());
        assert_eq!(fields(got.text(), "Host"), ["h.test"]);
    }
}
