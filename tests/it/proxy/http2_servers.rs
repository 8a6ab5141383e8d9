//! HTTP/2 towards servers: by prior knowledge (`h2c://`) and by ALPN; what happens to requests that
//! such a server refuses, resets, or leaves half answered.

use super::rig::*;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use rust_lb::http::Reason as Why;
use rust_lb::proxy::Settings;
use rust_lb::upstream;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

type Asked = http::Request<RecvStream>;
type Answering = BoxFuture<'static, ()>;

/// A server that speaks HTTP/2 by the `h2` crate; over TLS also HTTP/1.1 by hand, where it is chosen.
struct Http2Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    scheme: &'static str,
    _runtime: tokio::runtime::Runtime,
}

impl Http2Server {
    /// Without TLS. `answer` gets the number of each request.
    fn plain(answer: impl Fn(Asked, SendResponse<Bytes>, usize) -> Answering + Send + Sync + 'static) -> Self {
        Self::start(None, answer)
    }

    fn start(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(Asked, SendResponse<Bytes>, usize) -> Answering + Send + Sync + 'static,
    ) -> Self {
        let scheme = if tls.is_some() { "https" } else { "h2c" };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (connections.clone(), Arc::new(answer));
        let requests = Arc::new(AtomicUsize::new(0));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (answer, requests, tls) = (answer.clone(), requests.clone(), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else { return by_http2(stream, answer, requests).await };
                    let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await else { return };
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        by_http2(stream, answer, requests).await;
                    } else {
                        by_http1(stream).await;
                    }
                });
            }
        });
        Self { address, connections, scheme, _runtime: runtime }
    }

    fn url(&self) -> String {
        let host = if self.scheme == "https" { "localhost" } else { "127.0.0.1" };
        format!("{}://{host}:{}", self.scheme, self.address.port())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn by_http2<A>(stream: impl AsyncRead + AsyncWrite + Unpin, answer: Arc<A>, requests: Arc<AtomicUsize>)
where
    A: Fn(Asked, SendResponse<Bytes>, usize) -> Answering + Send + Sync + 'static,
{
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, requests.fetch_add(1, Ordering::SeqCst)));
    }
}

/// Switches to an echo where asked to, else says what it speaks.
async fn by_http1(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut head = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&std::mem::take(&mut head)).into_owned();
        if fields(&text, "Upgrade").is_empty() {
            if stream.write_all(ok("HTTP/1.1").as_bytes()).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            continue;
        }
        let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        let mut buffer = [0; 100];
        stream.write_all(switch.as_bytes()).await.expect("sent");
        stream.flush().await.expect("sent");
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..read]).await.expect("sent");
            stream.flush().await.expect("sent");
        }
        return;
    }
}

fn say(respond: &mut SendResponse<Bytes>, body: impl Into<Bytes>) {
    let mut stream = respond.send_response(http::Response::new(()), false).expect("sent");
    stream.send_data(body.into(), true).expect("sent");
}

async fn whole(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await.transpose()? {
        body.flow_control().release_capacity(data.len())?;
        all.extend(data);
    }
    Ok(all)
}

/// Says what it was asked.
fn tell(request: Asked, mut respond: SendResponse<Bytes>, _: usize) -> Answering {
    async move {
        let (head, body) = request.into_parts();
        let mut text = format!("{} {} {:?}\n", head.method, head.uri, head.version);
        for (name, value) in &head.headers {
            text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
        }
        text += &String::from_utf8(whole(body).await.expect("a body")).expect("text");
        say(&mut respond, text);
    }
    .boxed()
}

#[test]
fn requests_of_http_1_become_http_2s() {
    let server = Http2Server::plain(tell);
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    for (framing, body) in [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")] {
        client.send(&format!(
            "POST /a?b HTTP/1.1\r\nHost: h.test\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTE: trailers, deflate\r\n\
             Keep-Alive: 5\r\nCookie: a=1\r\n{framing}\r\n\r\n{body}"
        ));
        let got = client.response("POST");
        let text = got.text();
        assert!(text.starts_with("POST http://h.test/a?b HTTP/2.0\n"), "{text}");
        assert!(text.ends_with("\nhello"), "{text}");
        for gone in ["x-hop", "connection", "keep-alive", "transfer-encoding", "host", "upgrade"] {
            assert!(fields(text, gone).is_empty(), "{gone}: {text}");
        }
        assert_eq!(fields(text, "te"), ["trailers"]);
        assert_eq!(fields(text, "cookie"), ["a=1"]);
        assert_eq!(fields(text, "x-forwarded-proto"), ["http"]);
        assert_eq!(fields(text, "x-forwarded-host"), ["h.test"]);
    }
    assert_eq!(server.connections(), 1);
    let record = rig.record();
    assert_eq!((record.status, record.request_bytes, record.retries), (200, 5, 0));
    let head = {
        client.send("HEAD / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        client.response("HEAD")
    };
    assert_eq!(head.status, 200);
}

#[test]
fn over_tls_the_server_chooses_and_upgrades_stay_with_http_1() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let certificate = made.cert.der().clone();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).expect("a root");
    let trusting = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate], key.into()).expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let modern = Http2Server::start(Some(Arc::new(config.clone())), tell);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let old = Http2Server::start(Some(Arc::new(config.clone())), tell);
    config.alpn_protocols.clear();
    let older = Http2Server::start(Some(Arc::new(config)), tell);
    let settings = |disable_http2: bool| Settings {
        upstream: upstream::Settings {
            tls: Some(Arc::new(trusting.clone()).into()),
            http2: !disable_http2,
            ..upstream::Settings::default()
        }
        .into(),
        ..Start::default().settings
    };
    let routes = [
        Route::to("modern.test", &[&modern.url()]),
        Route::to("old.test", &[&old.url()]),
        Route::to("older.test", &[&older.url()]),
    ];
    let rig = Start { settings: settings(false), ..Start::default() }.run(&routes);
    for _ in 0..3 {
        let text = rig.get("modern.test", "/").text().to_owned();
        assert!(text.starts_with("GET https://modern.test/ HTTP/2.0\n"), "{text}");
        assert_eq!(rig.get("old.test", "/").text(), "HTTP/1.1");
        assert_eq!(rig.get("older.test", "/").text(), "HTTP/1.1");
    }
    assert_eq!((modern.connections(), old.connections(), older.connections()), (1, 1, 1));
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: modern.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    assert_eq!(client.head().status, 101);
    client.stream.write_all(b"through").expect("sent");
    assert_eq!(client.exactly(7), b"through");
    let plain = Start { settings: settings(true), ..Start::default() }.run(&routes);
    assert_eq!(plain.get("modern.test", "/").text(), "HTTP/1.1");
}

#[test]
fn a_stream_that_was_refused_is_repeated_whatever_its_method() {
    let server = Http2Server::plain(|request, mut respond, number| {
        async move {
            if number == 0 {
                return respond.send_reset(Reason::REFUSED_STREAM);
            }
            let body = whole(request.into_body()).await.expect("a body");
            say(&mut respond, body);
        }
        .boxed()
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response("POST").text(), "hello");
    let record = rig.record();
    assert_eq!((record.status, record.retries, record.request_bytes), (200, 1, 5));
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_server_that_refuses_again_and_again_is_given_up_and_a_reset_is_not_repeated() {
    for (code, asked) in [(Reason::REFUSED_STREAM, 3), (Reason::INTERNAL_ERROR, 1)] {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let server = Http2Server::plain(move |_, mut respond, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { respond.send_reset(code) }.boxed()
        });
        let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
        assert_eq!(rig.get("h.test", "/").status, 502);
        assert_eq!(rig.record().reason, Some(Why::ResetBeforeAnswer));
        assert_eq!(count.load(Ordering::SeqCst), asked, "{code:?}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_never_passed_on_as_a_whole_one() {
    for code in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
        let came = Arc::new(tokio::sync::Notify::new());
        let half_came = came.clone();
        let server = Http2Server::plain(move |_, mut respond, _| {
            let half_came = half_came.clone();
            async move {
                let mut stream = respond.send_response(http::Response::new(()), false).expect("sent");
                stream.send_data("half".into(), false).expect("sent");
                // The head and these bytes are on their way, as the proxy's client can tell.
                half_came.notified().await;
                stream.send_reset(code);
            }
            .boxed()
        });
        let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
        let mut client = rig.connect();
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        client.through("half");
        came.notify_one();
        let rest = client.rest();
        let text = String::from_utf8_lossy(&rest);
        assert!(!text.ends_with("0\r\n\r\n"), "{code:?}: {text}");
        let record = rig.record();
        assert!(record.reason.is_some(), "{code:?}: {record:?}");
    }
}

#[test]
fn a_server_that_does_not_speak_http_2_is_passed_over() {
    let old = Server::named("HTTP/1.1");
    let fine = Http2Server::plain(tell);
    let url = format!("h2c://{}", old.address);
    let rig = Rig::start(&[Route::to("h.test", &[&url, &fine.url()]), Route::to("old.test", &[&url])]);
    for _ in 0..2 {
        let mut client = rig.connect();
        client.send("POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 5\r\n\r\nhello");
        assert!(client.response("POST").text().ends_with("hello"));
    }
    assert_eq!(rig.get("old.test", "/").status, 502);
    let reasons: Vec<_> = (0..3).map(|_| rig.record().reason).collect();
    assert_eq!(reasons, [None, None, Some(Why::ConnectFailed)]);
}

#[test]
fn a_client_that_goes_away_takes_its_stream_along_and_no_other() {
    let (tell_gone, gone) = mpsc::channel();
    let tell_gone = std::sync::Mutex::new(tell_gone);
    let server = Http2Server::plain(move |request, mut respond, _| {
        let tell_gone = tell_gone.lock().expect("not poisoned").clone();
        async move {
            if request.uri().path() != "/forever" {
                return say(&mut respond, "ok");
            }
            let _stream = respond.send_response(http::Response::new(()), false).expect("sent");
            let ended = whole(request.into_body()).await;
            tell_gone.send(ended.is_err()).expect("the test waits");
        }
        .boxed()
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let mut client = rig.connect();
    client.send("POST /forever HTTP/1.1\r\nHost: h.test\r\nContent-Length: 5\r\n\r\nhel");
    assert_eq!(client.head().status, 200);
    drop(client);
    assert!(gone.recv_timeout(LIMIT).expect("the server heard of it"), "and of no end");
    assert_eq!(rig.get("h.test", "/").text(), "ok");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_server_that_gives_no_answer_in_time_is_given_up() {
    let server = Http2Server::plain(|request, respond, _| {
        async move {
            let _kept = (request, respond);
            std::future::pending::<()>().await;
        }
        .boxed()
    });
    let upstream =
        upstream::Settings { response_header_timeout: Duration::from_millis(50), ..upstream::Settings::default() };
    let settings = Settings { upstream: upstream.into(), ..Start::default().settings };
    let rig = Start { settings, ..Start::default() }.run(&[Route::to("h.test", &[&server.url()])]);
    assert_eq!(rig.get("h.test", "/").status, 504);
    assert_eq!(rig.record().reason, Some(Why::HeadTimeout));
}

#[test]
fn much_passes_both_ways_for_a_slow_client_and_a_fast_one() {
    let server = Http2Server::plain(|_, mut respond, _| {
        async move {
            let mut stream = respond.send_response(http::Response::new(()), false).expect("sent");
            let mut left = Bytes::from(vec![7; 4 << 20]);
            while !left.is_empty() {
                stream.reserve_capacity(left.len());
                let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                stream.send_data(left.split_to(room.min(left.len())), false).expect("sent");
            }
            stream.send_data(Bytes::new(), true).expect("sent");
        }
        .boxed()
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    // Eight that read nothing, each with all of its window on the way.
    let mut slow: Vec<_> = (0..8).map(|_| rig.connect()).collect();
    for client in &mut slow {
        client.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        let mut first = [0; 1];
        client.stream.read_exact(&mut first).expect("its answer began");
    }
    assert_eq!(rig.get("h.test", "/").body.len(), 4 << 20);
    assert_eq!(server.connections(), 1);
}
