//! What has to hold and does not yet: `cargo test -- --ignored not_yet` shows how far it is.

use super::rig::*;
use std::net::Shutdown;
use std::sync::mpsc;

/// A client may end its side as soon as it has asked (RFC 9112, 9.6), as `nc -N` does. The codec of today takes that for the
/// client's end, in the same way as `hostile::a_client_that_leaves_is_noticed` wants it; which of the two an end of
/// data without a reset means has to be settled.
#[ignore = "hyper takes the end of what a client sends for the end of the client"]
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
