//! WebSocket over HTTP/2 (RFC 8441) to servers that speak HTTP/1.1.

use super::rig::*;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use h2::client::SendRequest;
use std::io::{Read, Write};

/// A server that upgrades as `answer` says (it gets the request's head) and then echoes.
fn server(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Server {
    Server::start(move |mut client, _| {
        while let Some(request) = client.request() {
            let said = answer(&request.head);
            client.send(&said);
            if said.starts_with("HTTP/1.1 101") {
                let mut buffer = [0; 4_096];
                while let Ok(read @ 1..) = client.stream.read(&mut buffer) {
                    client.stream.write_all(&buffer[..read]).expect("sent");
                }
                return;
            }
        }
    })
}

fn proof(head: &str) -> String {
    let key = fields(head, "Sec-WebSocket-Key").pop().expect("a key");
    let sum = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    );
    BASE64_STANDARD.encode(sum)
}

fn switch(head: &str) -> String {
    assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
    assert_eq!(fields(head, "Upgrade"), ["websocket"]);
    assert_eq!(fields(head, "Connection"), ["Upgrade"]);
    assert_eq!(fields(head, "Sec-WebSocket-Version"), ["13"]);
    assert_eq!(fields(head, "X-Forwarded-Proto"), ["ws"]);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        proof(head)
    )
}

/// Runs a test with a client that knows that the proxy takes extended CONNECT.
fn run(rig: &Rig, test: impl AsyncFnOnce(SendRequest<Bytes>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let run = async {
            let stream = tokio::net::TcpStream::connect(rig.address).await.expect("a connection");
            let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
            let driven = tokio::spawn(connection);
            while !client.is_extended_connect_protocol_enabled() {
                assert!(!driven.is_finished(), "SETTINGS come first");
                tokio::task::yield_now().await;
            }
            test(client).await;
        };
        tokio::time::timeout(LIMIT, run).await.expect("in time");
    });
}

async fn connect(
    client: &mut SendRequest<Bytes>,
    protocol: &'static str,
) -> (http::Response<h2::RecvStream>, h2::SendStream<Bytes>) {
    let request = http::Request::builder()
        .method("CONNECT")
        .uri("http://h.test/chat")
        .extension(h2::ext::Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .body(())
        .expect("a request");
    let (answer, stream) = client.send_request(request, false).expect("sent");
    (answer.await.expect("an answer"), stream)
}

#[test]
fn a_tunnel_carries_bytes_both_ways_until_both_sides_end() {
    let server = server(switch);
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    run(&rig, async |mut client| {
        let (answer, mut out) = connect(&mut client, "websocket").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
        for gone in ["upgrade", "connection", "sec-websocket-accept", "content-length"] {
            assert!(!answer.headers().contains_key(gone), "{gone}");
        }
        let mut body = answer.into_body();
        for word in ["one", "two", "three"] {
            out.send_data(word.into(), false).expect("sent");
            assert_eq!(body.data().await.expect("more").expect("no error"), word);
        }
        // Much at once.
        let big = Bytes::from(vec![7; 1 << 20]);
        let sending = tokio::spawn({
            let mut big = big.clone();
            async move {
                while !big.is_empty() {
                    out.reserve_capacity(big.len());
                    let room = std::future::poll_fn(|cx| out.poll_capacity(cx)).await.expect("open").expect("room");
                    out.send_data(big.split_to(room.min(big.len())), false).expect("sent");
                }
                out.send_data(Bytes::new(), true).expect("sent");
            }
        });
        let mut count = 0;
        while let Some(data) = body.data().await {
            let data = data.expect("no error");
            count += data.len();
            body.flow_control().release_capacity(data.len()).expect("released");
        }
        assert_eq!(count, big.len(), "all came back, and then the end");
        sending.await.expect("sent");
    });
    let record = rig.record();
    assert_eq!((record.status, record.origin_status, record.reason), (200, 101, None));
    assert_eq!((record.request_bytes, record.response_bytes), ((1 << 20) + 11, (1 << 20) + 11));
}

#[test]
fn what_is_no_switch_opens_no_tunnel() {
    let unproved = |_: &str| {
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"
            .to_owned()
    };
    let silent =
        |_: &str| "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_owned();
    let page = |_: &str| ok("a page");
    let refusal = |_: &str| "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_owned();
    let cases: [(&str, Server, u16); 4] = [
        ("unproved", server(unproved), 502),
        ("silent", server(silent), 502),
        ("page", server(page), 502),
        ("refusal", server(refusal), 403),
    ];
    for (what, server, status) in cases {
        let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
        run(&rig, async |mut client| {
            let (answer, _out) = connect(&mut client, "websocket").await;
            assert_eq!(answer.status(), status, "{what}");
        });
    }
}

#[test]
fn other_protocols_are_not_served() {
    let server = Server::named("never asked");
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    run(&rig, async |mut client| {
        let (answer, _out) = connect(&mut client, "connect-udp").await;
        assert_eq!(answer.status(), 501);
    });
    assert_eq!(server.accepted(), 0);
}

#[test]
fn a_client_that_resets_its_tunnel_ends_it_at_the_server() {
    let (tell, told) = std::sync::mpsc::channel();
    let server = Server::start(move |mut client, _| {
        let request = client.request().expect("a request");
        client.send(&switch(&request.head));
        tell.send(client.rest()).expect("the test waits");
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    run(&rig, async |mut client| {
        let (answer, mut out) = connect(&mut client, "websocket").await;
        assert_eq!(answer.status(), 200);
        out.send_data("last".into(), false).expect("sent");
        let mut body = answer.into_body();
        tokio::task::yield_now().await;
        out.send_reset(h2::Reason::CANCEL);
        assert!(body.data().await.expect("an end").is_err());
        let heard = tokio::task::spawn_blocking(move || told.recv_timeout(LIMIT)).await.expect("joined");
        assert!(b"last".starts_with(&heard.expect("the server's side ended")));
    });
}
