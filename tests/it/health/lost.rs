//! Requests that a server took and lost: which are said again, where, and how often.

use super::{Rig, over};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A server that counts the requests that it read.
struct Counting {
    addr: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Counting {
    /// `serve` gets a connection and what to call for each request that was read; the connection ends with it.
    fn start(serve: fn(&mut TcpStream, &dyn Fn())) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let count = count.clone();
                std::thread::spawn(move || {
                    serve(&mut stream, &|| {
                        count.fetch_add(1, Ordering::SeqCst);
                    });
                    // Closed with a reset, as the kernel does it for a process that was killed.
                    drop(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
                });
            }
        });
        Self { addr, requests }
    }

    /// Reads a request, then dies.
    fn dying() -> Self {
        Self::start(|stream, count| {
            if head(stream).is_some() {
                count();
            }
        })
    }

    fn good() -> Self {
        Self::start(|stream, count| {
            while let Some(head) = head(stream) {
                count();
                let body = if head.starts_with(b"HEAD ") { "" } else { "good" };
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{body}");
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        })
    }

    /// Begins an answer, then dies.
    fn begins() -> Self {
        Self::start(|stream, count| {
            if head(stream).is_some() {
                count();
            }
            drop(stream.write_all(b"HTTP/1.1 2"));
            // A reset would take away what was said: the proxy ends the connection first.
            drop(stream.shutdown(std::net::Shutdown::Write));
            while matches!(stream.read(&mut [0; 64]), Ok(1..)) {}
        })
    }

    /// Reads a request of HTTP/2, then dies.
    fn dying_h2() -> Self {
        Self::start(|stream, count| {
            if begin_http2(stream).and_then(|()| asked_by_http2(stream)).is_some() {
                count();
            }
        })
    }

    /// Answers requests of HTTP/2 with a 200 without a body.
    fn good_h2() -> Self {
        Self::start(|stream, count| {
            let Some(()) = begin_http2(stream) else { return };
            while let Some(id) = asked_by_http2(stream) {
                count();
                // Headers of one field, `:status: 200` of the static table (RFC 7541, appendix A), which end the stream.
                drop(stream.write_all(&[&[0, 0, 1, 1, 5][..], &id, &[0x88]].concat()));
            }
        })
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Reads a head; none where the connection ended.
fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(head)
}

/// Says its settings and reads the client's preface (RFC 9113, 3.4).
fn begin_http2(stream: &mut TcpStream) -> Option<()> {
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).ok()?;
    stream.read_exact(&mut [0; 24]).ok()
}

/// Reads frames until a stream is opened (RFC 9113, 4.1); gives the stream's number.
fn asked_by_http2(stream: &mut TcpStream) -> Option<[u8; 4]> {
    loop {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).ok()?;
        let [a, b, c, kind, _, id @ ..] = frame;
        stream.read_exact(&mut vec![0; u32::from_be_bytes([0, a, b, c]) as usize]).ok()?;
        if kind == 1 {
            return Some(id);
        }
    }
}

/// Services over these servers, by the name `web`.
fn rig(servers: &[&Counting], scheme: &str) -> Rig {
    let rig = Rig::start(&[]);
    let mut balancer = over(&servers.iter().map(|server| server.addr).collect::<Vec<_>>(), json!({}));
    for server in balancer["servers"].as_array_mut().expect("a list") {
        server["url"] = Value::from(server["url"].as_str().expect("a text").replace("http", scheme));
    }
    rig.put_and_see(&[("web", balancer)]);
    rig
}

fn status(rig: &Rig, method: &str, body: &str) -> u16 {
    super::client::send(rig.proxy.web(), method, "web.test", "/", "", body).status
}

/// A request of HTTP/2.
fn status_by_http2(rig: &Rig, method: &str) -> u16 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(rig.proxy.web()).await.expect("a connection");
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = hyper::Request::builder().method(method).uri("http://web.test/");
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        let status = answer.status().as_u16();
        drop(answer.into_body().collect().await);
        status
    })
}

type Ask = fn(&Rig, &str) -> u16;

/// Each way of asking, of servers of each kind.
fn each(test: impl Fn(Ask, &str)) {
    let by_http1: Ask = |rig, method| status(rig, method, "");
    for ask in [by_http1, status_by_http2] {
        for scheme in ["http", "h2c"] {
            test(ask, scheme);
        }
    }
}

fn pair(scheme: &str) -> (Counting, Counting) {
    match scheme {
        "http" => (Counting::dying(), Counting::good()),
        _ => (Counting::dying_h2(), Counting::good_h2()),
    }
}

#[test]
fn what_is_idempotent_goes_to_another_server() {
    each(|ask, scheme| {
        let (dying, good) = pair(scheme);
        let rig = rig(&[&dying, &good], scheme);
        for (number, method) in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "GET"].into_iter().enumerate() {
            assert_eq!(ask(&rig, method), 200, "{scheme}: {method}");
            assert_eq!(good.requests(), number + 1, "{scheme}: {method}");
        }
        assert!((1..=6).contains(&dying.requests()), "{scheme}: {}", dying.requests());
    });
}

#[test]
fn what_is_not_idempotent_is_said_once() {
    each(|ask, scheme| {
        let (dying, good) = pair(scheme);
        let rig = rig(&[&dying, &good], scheme);
        let statuses: Vec<u16> = (0..6).map(|_| ask(&rig, "POST")).collect();
        let lost = statuses.iter().filter(|status| **status == 502).count();
        assert_eq!((dying.requests(), good.requests()), (lost, 6 - lost), "{scheme}: {statuses:?}");
        assert!(lost > 0 && lost < 6, "{scheme}: {statuses:?}");
    });
}

#[test]
fn a_request_with_a_body_is_said_once() {
    let (dying, good) = pair("http");
    let rig = rig(&[&dying, &good], "http");
    let statuses: Vec<u16> = (0..6).map(|_| status(&rig, "PUT", "body")).collect();
    let lost = statuses.iter().filter(|status| **status == 502).count();
    assert!(lost > 0 && lost < 6 && dying.requests() == lost, "{statuses:?}");
}

#[test]
fn a_request_that_kills_its_server_kills_two_at_most() {
    each(|ask, scheme| {
        let servers: [Counting; 4] = std::array::from_fn(|_| pair(scheme).0);
        let rig = rig(&servers.each_ref(), scheme);
        assert_eq!(ask(&rig, "GET"), 502, "{scheme}");
        let mut asked = servers.each_ref().map(Counting::requests);
        asked.sort_unstable();
        assert_eq!(asked, [0, 0, 1, 1], "{scheme}");
    });
}

#[test]
fn the_only_server_is_not_asked_again() {
    each(|ask, scheme| {
        let (dying, _) = pair(scheme);
        let rig = rig(&[&dying], scheme);
        assert_eq!((ask(&rig, "GET"), dying.requests()), (502, 1), "{scheme}");
    });
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let by_http1: Ask = |rig, method| status(rig, method, "");
    for ask in [by_http1, status_by_http2] {
        let (begins, good) = (Counting::begins(), Counting::good());
        let rig = rig(&[&begins, &good], "http");
        let statuses: Vec<u16> = (0..6).map(|_| ask(&rig, "GET")).collect();
        let cut = statuses.iter().filter(|status| **status == 502).count();
        assert!(cut > 0 && cut < 6, "{statuses:?}");
        assert_eq!(good.requests(), 6 - cut, "{statuses:?}");
    }
}

#[test]
fn a_lost_request_counts_against_the_server_that_lost_it() {
    let (dying, good) = pair("http");
    let rig = Rig::start(&[]);
    let rule = json!({"passiveHealthCheck": {"failureWindow": "1h", "maxFailedAttempts": 2}});
    rig.put_and_see(&[("web", over(&[dying.addr, good.addr], rule))]);
    while rig.status("web", dying.addr).as_deref() == Some("UP") {
        assert_eq!(rig.get("web").status, 200);
    }
    assert_eq!(dying.requests(), 2);
    assert_eq!(rig.who("web", 6), ["good"]);
    assert_eq!(dying.requests(), 2);
}
