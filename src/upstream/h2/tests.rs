//! Against the `h2` crate's server and against peers that speak frame by frame.

use super::*;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use std::collections::VecDeque;
use std::convert::Infallible;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

type TestBody = UnsyncBoxBody<Bytes, Infallible>;
type Peer = h2::server::Connection<DuplexStream, Bytes>;
type Asked = (http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>);

const LIMIT: Duration = Duration::from_secs(600);

/// The client side and the connections that it makes.
fn client(settings: H2Settings) -> (Rc<H2<TestBody>>, mpsc::UnboundedReceiver<DuplexStream>) {
    let (made, connections) = mpsc::unbounded_channel();
    let connect = move || {
        let made = made.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(256 * 1_024);
            made.send(theirs).map_err(|_| ConnectError::Refused)?;
            Ok(ours)
        }
    };
    (Rc::new(H2::new(settings, connect)), connections)
}

/// Runs a test on one thread, in time that stands still while something can be done.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async { tokio::time::timeout(LIMIT, test).await.expect("in time") });
}

fn head(method: &str) -> http::request::Parts {
    http::Request::builder().method(method).uri("http://h.test/x").body(()).unwrap().into_parts().0
}

fn full(bytes: impl Into<Bytes>) -> Repeatable<TestBody> {
    Repeatable::new(Full::new(bytes.into()).boxed_unsync())
}

/// A body that goes on for as long as the sender is there.
fn open_body() -> (mpsc::UnboundedSender<Bytes>, Repeatable<TestBody>) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Bytes>();
    let frames = futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|data| data.map(|data| Ok(http_body::Frame::data(data))))
    });
    (sender, Repeatable::new(StreamBody::new(frames).boxed_unsync()))
}

type Sent = tokio::task::JoinHandle<Result<(http::Response<Incoming>, H2Stream<TestBody>), H2Error>>;

fn send(h2: &Rc<H2<TestBody>>, method: &str, body: &Repeatable<TestBody>) -> Sent {
    let (h2, head, body) = (h2.clone(), head(method), body.clone());
    tokio::task::spawn_local(async move { h2.send(head, &body).await })
}

async fn peer(connections: &mut mpsc::UnboundedReceiver<DuplexStream>, streams: u32) -> Peer {
    let stream = connections.recv().await.expect("a connection");
    h2::server::Builder::new().max_concurrent_streams(streams).handshake(stream).await.expect("HTTP/2")
}

async fn asked(peer: &mut Peer) -> Asked {
    peer.accept().await.expect("a request").expect("no error")
}

fn drive(mut peer: Peer) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_local(async move { while let Some(Ok(_)) = peer.accept().await {} })
}

fn answer(mut respond: h2::server::SendResponse<Bytes>, body: &'static str) {
    let mut stream = respond.send_response(http::Response::new(()), false).expect("sent");
    stream.send_data(Bytes::from_static(body.as_bytes()), true).expect("sent");
}

async fn text(sent: Sent) -> String {
    let (response, stream) = sent.await.unwrap().expect("an answer");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    stream.finish();
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn requests_share_a_connection_and_wait_for_it_together() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        let sent: Vec<Sent> = (0..50).map(|_| send(&h2, "GET", &full(""))).collect();
        let mut server = peer(&mut connections, 100).await;
        for _ in 0..50 {
            let (_, respond) = asked(&mut server).await;
            answer(respond, "ok");
        }
        let driven = drive(server);
        for sent in sent {
            assert_eq!(text(sent).await, "ok");
        }
        assert_eq!((h2.connections(), h2.streams()), (1, 0));
        assert!(connections.try_recv().is_err(), "only one connection was made");
        h2.sweep(Instant::now() + Duration::from_secs(90));
        assert_eq!(h2.connections(), 0);
        driven.await.expect("the unused connection was closed");
    });
}

#[test]
fn more_streams_than_the_server_takes_make_more_connections() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        let sent: Vec<Sent> = (0..5).map(|_| send(&h2, "GET", &full(""))).collect();
        let mut kept = Vec::new();
        for count in [2, 2, 1] {
            let mut server = peer(&mut connections, 2).await;
            let mut requests = Vec::new();
            for _ in 0..count {
                requests.push(asked(&mut server).await);
            }
            kept.push((drive(server), requests));
        }
        assert_eq!((h2.connections(), h2.streams()), (3, 5));
        for (_, requests) in &mut kept {
            for (_, respond) in requests.drain(..) {
                answer(respond, "ok");
            }
        }
        for sent in sent {
            assert_eq!(text(sent).await, "ok");
        }
    });
}

#[test]
fn a_server_that_takes_no_streams_at_all_is_not_asked_for_ever() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        let sent = send(&h2, "GET", &full(""));
        let _server = drive(peer(&mut connections, 0).await);
        let error = sent.await.unwrap().expect_err("no room");
        assert!(matches!(&error, H2Error::Connect(error) if matches!(**error, ConnectError::NoStreams)), "{error:?}");
    });
}

#[test]
fn after_goaway_requests_go_elsewhere_and_those_begun_end() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        let first = send(&h2, "GET", &full(""));
        let mut server = peer(&mut connections, 100).await;
        let (_, respond) = asked(&mut server).await;
        server.graceful_shutdown();
        let _driven = drive(server);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = send(&h2, "POST", &full("hello"));
        let mut other = peer(&mut connections, 100).await;
        let (request, other_respond) = asked(&mut other).await;
        let _driven = drive(other);
        let mut body = request.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "hello");
        answer(other_respond, "other");
        answer(respond, "first");
        assert_eq!(text(second).await, "other");
        assert_eq!(text(first).await, "first");
    });
}

#[test]
fn a_refused_stream_may_be_said_again_if_its_body_is_short() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        for (size, again) in [(0, true), (60_000, true), (70_000, false)] {
            let body = full(vec![7; size]);
            let sent = send(&h2, "POST", &body);
            let mut server = peer(&mut connections, 100).await;
            let (request, mut respond) = asked(&mut server).await;
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            let _driven = drive(server);
            drop(request);
            let error = sent.await.unwrap().expect_err("refused");
            assert!(matches!(error, H2Error::NotProcessed(_)), "{error:?}");
            assert_eq!(body.rewind(), again, "{size}");
            h2.sweep(Instant::now() + LIMIT);
            if again {
                let sent = send(&h2, "POST", &body);
                let mut server = peer(&mut connections, 100).await;
                let (request, respond) = asked(&mut server).await;
                let driven = drive(server);
                let mut came = request.into_body();
                let mut count = 0;
                while let Some(data) = came.data().await {
                    let data = data.unwrap();
                    count += data.len();
                    came.flow_control().release_capacity(data.len()).unwrap();
                }
                assert_eq!(count, size);
                answer(respond, "ok");
                assert_eq!(text(sent).await, "ok");
                h2.sweep(Instant::now() + LIMIT);
                driven.await.unwrap();
            }
        }
    });
}

#[test]
fn resets_are_told_with_their_code() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        let sent = send(&h2, "GET", &full(""));
        let mut server = peer(&mut connections, 100).await;
        let (_request, mut respond) = asked(&mut server).await;
        respond.send_reset(h2::Reason::INADEQUATE_SECURITY);
        let _driven = drive(server);
        let error = sent.await.unwrap().expect_err("reset");
        assert!(matches!(error, H2Error::Reset(h2::Reason::INADEQUATE_SECURITY)), "{error:?}");
        assert_eq!((h2.connections(), h2.streams()), (1, 0));
    });
}

#[test]
fn what_the_client_gives_up_is_cancelled() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        // While it waits for the head.
        let sent = send(&h2, "GET", &full(""));
        let mut server = peer(&mut connections, 100).await;
        let (_request, mut respond) = asked(&mut server).await;
        sent.abort();
        let gone = tokio::select! {
            reason = futures_util::future::poll_fn(|cx| respond.poll_reset(cx)) => reason.unwrap(),
            _ = server.accept() => panic!("nothing else comes"),
        };
        assert_eq!(gone, h2::Reason::CANCEL);
        // While its body is still being sent, and the head is there.
        let (_more, body) = open_body();
        let sent = send(&h2, "POST", &body);
        let (request, mut respond) = asked(&mut server).await;
        let _answer = respond.send_response(http::Response::new(()), false).expect("sent");
        let driven = drive(server);
        let (response, stream) = sent.await.unwrap().expect("an answer");
        drop(response);
        drop(stream);
        let mut upload = request.into_body();
        let error = upload.data().await.expect("an end").expect_err("a reset");
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
        drop(_answer);
        // The connection is as good as before.
        assert_eq!((h2.connections(), h2.streams()), (1, 0));
        driven.abort();
    });
}

#[test]
fn an_answer_that_is_dropped_half_way_is_cancelled() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        let sent = send(&h2, "GET", &full(""));
        let mut server = peer(&mut connections, 100).await;
        let (_request, mut respond) = asked(&mut server).await;
        let mut out = respond.send_response(http::Response::new(()), false).expect("sent");
        let _driven = drive(server);
        let (response, stream) = sent.await.unwrap().expect("an answer");
        drop((response, stream));
        let reason = futures_util::future::poll_fn(|cx| out.poll_reset(cx)).await.unwrap();
        assert_eq!(reason, h2::Reason::CANCEL);
    });
}

#[test]
fn trailers_go_both_ways() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        let sums = |sum: &'static str| http::HeaderMap::from_iter([("x-sum".parse().unwrap(), sum.parse().unwrap())]);
        let frames = VecDeque::from([
            Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(b"hello"))),
            Ok(http_body::Frame::trailers(sums("1"))),
        ]);
        let body = Repeatable::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
        let sent = send(&h2, "POST", &body);
        let mut server = peer(&mut connections, 100).await;
        let (request, mut respond) = asked(&mut server).await;
        let _driven = drive(server);
        let mut came = request.into_body();
        assert_eq!(came.data().await.unwrap().unwrap(), "hello");
        assert!(came.data().await.is_none());
        assert_eq!(came.trailers().await.unwrap(), Some(sums("1")));
        let mut out = respond.send_response(http::Response::new(()), false).expect("sent");
        out.send_trailers(sums("2")).expect("sent");
        let (response, stream) = sent.await.unwrap().expect("an answer");
        assert_eq!(response.into_body().collect().await.unwrap().trailers(), Some(&sums("2")));
        stream.finish();
    });
}

/// One frame (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// Reads up to and with the first frame of a kind; gives its stream.
async fn until(stream: &mut DuplexStream, kind: u8) -> u32 {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame");
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.expect("its payload");
        if head[3] == kind {
            return u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        }
    }
}

/// A server by hand that has said its SETTINGS and got the client's first request.
async fn by_hand(connections: &mut mpsc::UnboundedReceiver<DuplexStream>) -> (DuplexStream, u32) {
    let mut stream = connections.recv().await.expect("a connection");
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.expect("a preface");
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let id = until(&mut stream, HEADERS).await;
    (stream, id)
}

#[test]
fn a_stream_above_goaways_last_was_not_processed() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        let body = full("hello");
        let sent = send(&h2, "POST", &body);
        let (mut stream, id) = by_hand(&mut connections).await;
        assert_eq!(id, 1);
        stream.write_all(&frame(GOAWAY, 0, 0, &[0; 8])).await.unwrap();
        let error = sent.await.unwrap().expect_err("not processed");
        assert!(matches!(error, H2Error::NotProcessed(_)), "{error:?}");
        assert!(body.rewind());
    });
}

#[test]
fn a_connection_that_ends_loses_its_requests() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        // A stream that GOAWAY's last one covers may have been processed.
        for last in [None, Some(1_u8)] {
            let sent = send(&h2, "POST", &full("hello"));
            let (mut stream, _) = by_hand(&mut connections).await;
            if let Some(last) = last {
                stream.write_all(&frame(GOAWAY, 0, 0, &[0, 0, 0, last, 0, 0, 0, 0])).await.unwrap();
            }
            drop(stream);
            let error = sent.await.unwrap().expect_err("lost");
            assert!(matches!(error, H2Error::Lost(_)), "{error:?}");
            assert_eq!((h2.connections(), h2.streams()), (0, 0));
        }
    });
}

#[test]
fn what_is_not_http_2_is_a_failed_connect() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        for words in ["HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", ""] {
            let body = full("hello");
            let sent = send(&h2, "POST", &body);
            let mut stream = connections.recv().await.expect("a connection");
            stream.write_all(words.as_bytes()).await.unwrap();
            drop(stream);
            let error = sent.await.unwrap().expect_err("no HTTP/2");
            assert!(
                matches!(&error, H2Error::Connect(error) if matches!(**error, ConnectError::NotHttp2(_))),
                "{error:?}"
            );
            assert!(body.rewind());
        }
    });
}

#[test]
fn a_server_that_never_says_its_settings_is_given_up() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        let sent = [send(&h2, "GET", &full("")), send(&h2, "GET", &full(""))];
        let _silent = connections.recv().await;
        for sent in sent {
            let error = sent.await.unwrap().expect_err("too late");
            assert!(
                matches!(&error, H2Error::Connect(error) if matches!(**error, ConnectError::TimedOut(_))),
                "{error:?}"
            );
        }
        assert!(connections.try_recv().is_err(), "they waited for one connection");
    });
}

#[test]
fn a_server_that_does_not_answer_pings_is_lost() {
    run(async {
        let settings = H2Settings { read_idle_timeout: Duration::from_secs(5), ..H2Settings::default() };
        let (h2, mut connections) = client(settings);
        let sent = send(&h2, "GET", &full(""));
        let (mut stream, _) = by_hand(&mut connections).await;
        // Takes what comes and says nothing.
        let silent = tokio::task::spawn_local(async move {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            all
        });
        let error = sent.await.unwrap().expect_err("lost");
        assert!(matches!(error, H2Error::Lost(_)), "{error:?}");
        let heard = silent.await.unwrap();
        assert!(heard.windows(5).any(|window| window == [0, 0, 8, 6, 0]), "a PING was sent");
        assert_eq!(h2.connections(), 0);
    });
}

#[test]
fn huge_heads_are_refused_and_nothing_else_suffers() {
    run(async {
        let (h2, mut connections) = client(H2Settings { max_header_bytes: 8 * 1_024, ..H2Settings::default() });
        let sent = send(&h2, "GET", &full(""));
        let mut server = peer(&mut connections, 100).await;
        let (_request, mut respond) = asked(&mut server).await;
        let huge = http::Response::builder().header("x-huge", "a".repeat(12_000)).body(()).unwrap();
        respond.send_response(huge, true).expect("sent");
        let other = send(&h2, "GET", &full(""));
        let (_, respond) = asked(&mut server).await;
        answer(respond, "ok");
        let _driven = drive(server);
        let error = sent.await.unwrap().expect_err("refused");
        assert!(matches!(error, H2Error::Malformed(_)), "{error:?}");
        assert_eq!(text(other).await, "ok");
    });
}

#[test]
fn who_asked_first_may_go_away_while_the_connection_is_made() {
    run(async {
        let (h2, mut connections) = client(H2Settings::default());
        let (first, second) = (send(&h2, "GET", &full("")), send(&h2, "GET", &full("")));
        let stream = connections.recv().await.expect("a connection");
        first.abort();
        let mut server: Peer = h2::server::handshake(stream).await.expect("HTTP/2");
        let (_, respond) = asked(&mut server).await;
        answer(respond, "ok");
        let _driven = drive(server);
        assert_eq!(text(second).await, "ok");
    });
}
