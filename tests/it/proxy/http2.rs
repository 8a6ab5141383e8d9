//! TLS and plain on one port; HTTP/1.1 and HTTP/2 by ALPN; servers over TLS.

use super::rig::*;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rust_lb::http::{Protocol, Reason};
use rust_lb::proxy::{Settings, TlsChoice, TlsSource};
use rust_lb::upstream;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

/// A self-signed certificate for `h.test` and `localhost`: what a server presents and what trusts it.
fn pair() -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let made =
        rcgen::generate_simple_self_signed(["h.test".to_owned(), "localhost".to_owned()]).expect("a certificate");
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a configuration");
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

fn source(server: Arc<rustls::ServerConfig>) -> Option<TlsSource> {
    Some(Arc::new(move |_, _| Some(TlsChoice { config: server.clone(), options: "default".into() })))
}

fn over_tls(
    address: SocketAddr,
    config: &Arc<rustls::ClientConfig>,
) -> Client<rustls::StreamOwned<rustls::ClientConnection, TcpStream>> {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
    let name = ServerName::try_from("h.test").expect("a name");
    let session = rustls::ClientConnection::new(config.clone(), name).expect("a session");
    Client::over(rustls::StreamOwned::new(session, stream))
}

fn tls_route(host: &'static str, servers: &[&str]) -> Route {
    Route { tls: true, ..Route::to(host, servers) }
}

#[test]
fn tls_and_plain_share_a_port() {
    let (plain, secret) = (Server::echo(), Server::echo());
    let (server, client) = pair();
    let rig = Start { tls: source(server), ..Start::default() }
        .run(&[Route::to("h.test", &[&plain.url()]), tls_route("h.test", &[&secret.url()])]);
    assert_eq!(fields(rig.get("h.test", "/").text(), "X-Forwarded-Proto"), ["http"]);
    let mut over = over_tls(rig.address, &client);
    for _ in 0..2 {
        over.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
        let got = over.response("GET");
        assert_eq!(fields(got.text(), "X-Forwarded-Proto"), ["https"]);
        assert_eq!(fields(got.text(), "X-Forwarded-Port"), ["443"]);
    }
    assert_eq!((plain.accepted(), secret.accepted()), (1, 1));
}

#[test]
fn requests_that_need_other_tls_options_than_their_connection_has_are_misdirected() {
    let backend = Server::echo();
    let (server, client) = pair();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let tls: TlsSource = {
        let asked = asked.clone();
        Arc::new(move |entry_point, name| {
            asked.lock().unwrap().push((entry_point.to_owned(), name.map(str::to_owned)));
            Some(TlsChoice { config: server.clone(), options: "other@file".into() })
        })
    };
    let rig = Start { tls: Some(tls), ..Start::default() }.run(&[tls_route("h.test", &[&backend.url()])]);
    let mut over = over_tls(rig.address, &client);
    over.send("GET / HTTP/1.1\r\nHost: h.test\r\n\r\n");
    let answer = over.response("GET");
    assert_eq!((answer.status, answer.text()), (421, "Misdirected Request\n"));
    assert_eq!(*asked.lock().unwrap(), [("web".to_owned(), Some("h.test".to_owned()))]);
    assert_eq!(backend.accepted(), 0);

    // Where there is no configuration, the handshake is refused.
    let rig = Start { tls: Some(Arc::new(|_, _| None)), ..Start::default() }.run(&[]);
    let mut over = over_tls(rig.address, &client);
    assert!(std::io::Write::write_all(&mut over.stream, b"GET / HTTP/1.1\r\n\r\n").is_err());
}

#[test]
fn without_certificates_a_handshake_is_closed() {
    let (_, client) = pair();
    let rig = Rig::start(&[]);
    let mut over = over_tls(rig.address, &client);
    assert!(std::io::Write::write_all(&mut over.stream, b"GET / HTTP/1.1\r\n\r\n").is_err());
    assert_eq!(rig.get("h.test", "/").status, 404);
}

/// Runs what an HTTP/2 client does on a runtime of its own.
fn http2<T>(
    address: SocketAddr,
    config: &Arc<rustls::ClientConfig>,
    work: impl AsyncFnOnce(hyper::client::conn::http2::SendRequest<Full<Bytes>>, tokio::task::JoinHandle<()>) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(LIMIT, async {
            let mut config = (**config).clone();
            config.alpn_protocols = vec![b"h2".to_vec()];
            let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
            let name = ServerName::try_from("h.test").expect("a name");
            let stream =
                tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .expect("HTTP/2");
            let connection = tokio::spawn(async move {
                let _ = connection.await;
            });
            work(sender, connection).await
        })
        .await
        .expect("in time")
    })
}

fn request(method: &str, host: &str, target: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(format!("https://{host}{target}"))
}

#[test]
fn http_2_requests_go_to_http_1_servers() {
    let server = Server::answering(|request| {
        let body = format!("{}{}", request.head, String::from_utf8_lossy(&request.body));
        format!(
            "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             {:x}\r\n{body}\r\n0\r\nX-Sum: 9\r\n\r\n",
            body.len()
        )
    });
    let (tls, client) = pair();
    let rig = Start { tls: source(tls), ..Start::default() }.run(&[tls_route("h.test", &[&server.url()])]);
    http2(rig.address, &client, async |mut sender, _| {
        let sent = request("POST", "h.test", "/x?y=1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(Full::from("hello"))
            .expect("a request");
        let response = sender.send_request(sent).await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("x-hop"));
        let collected = response.into_body().collect().await.expect("a body");
        assert_eq!(
            collected.trailers().and_then(|trailers| trailers.get("x-sum")).map(|sum| sum.as_bytes()),
            Some(&b"9"[..])
        );
        let text = String::from_utf8(collected.to_bytes().to_vec()).expect("text");
        assert!(text.starts_with("POST /x?y=1 HTTP/1.1\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nhello"), "{text}");
        assert_eq!(fields(&text, "Host"), ["h.test"]);
        assert_eq!(fields(&text, "Cookie"), ["a=1; b=2"]);
        assert_eq!(fields(&text, "X-Forwarded-Proto"), ["https"]);

        let sent = request("GET", "nobody.test", "/").body(Full::default()).expect("a request");
        assert_eq!(sender.send_request(sent).await.expect("an answer").status(), 404);
        let mut many = request("GET", "h.test", "/");
        for at in 0..300 {
            many = many.header(format!("x-{at}"), "1");
        }
        let sent = many.body(Full::default()).expect("a request");
        assert_eq!(sender.send_request(sent).await.expect("an answer").status(), 431);
    });
    let record = rig.record();
    assert_eq!((record.protocol, &*record.host, &*record.target), (Protocol::Http2, "h.test", "/x?y=1"));
    assert_eq!((record.request_bytes, record.reason), (5, None));
    assert_eq!(rig.record().reason, Some(Reason::NoRoute));
    rig.until("the connection is closed", |rig| rig.open() == 0);
    assert_eq!(*rig.connections.lock().expect("not poisoned"), [("TCP", 1), ("TCP", -1)]);
}

#[test]
fn http_2_streams_run_side_by_side_and_a_drain_lets_them_end() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let (asked, was_asked) = mpsc::channel();
    let server = Server::start(move |mut client, _| {
        client.request();
        asked.send(()).expect("the test waits");
        gone.lock().expect("one").recv_timeout(LIMIT).expect("the test says go");
        client.send(&ok("done"));
    });
    let (tls, client) = pair();
    let mut rig = Start { tls: source(tls), ..Start::default() }.run(&[tls_route("h.test", &[&server.url()])]);
    let worker = rig.workers.remove(0);
    http2(rig.address, &client, async |mut sender, connection| {
        let send = |sender: &mut hyper::client::conn::http2::SendRequest<Full<Bytes>>| {
            sender.send_request(request("GET", "h.test", "/").body(Full::default()).expect("a request"))
        };
        let (one, two) = (tokio::spawn(send(&mut sender)), tokio::spawn(send(&mut sender)));
        tokio::task::spawn_blocking(move || {
            for _ in 0..2 {
                was_asked.recv_timeout(LIMIT).expect("both are on their way");
            }
        })
        .await
        .expect("asked");
        worker.drain(LIMIT);
        for _ in 0..2 {
            go.send(()).expect("the server waits");
        }
        for answer in [one, two] {
            let answer = answer.await.expect("a task").expect("an answer");
            assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), "done");
        }
        connection.await.expect("the proxy closed the connection");
    });
    worker.join();
}

#[test]
fn lengths_are_said_as_http_2_wants_them() {
    let server = Server::answering(|request| {
        let lengths = fields(&request.head, "Content-Length").join("|");
        match request.head.split(' ').nth(1) {
            // Not allowed with this status; HTTP/2 clients take it for an error.
            Some("/204") => "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n".to_owned(),
            _ => ok(&lengths),
        }
    });
    let (tls, client) = pair();
    let rig = Start { tls: source(tls), ..Start::default() }.run(&[tls_route("h.test", &[&server.url()])]);
    http2(rig.address, &client, async |mut sender, _| {
        for (target, status, lengths, body) in [("/204", 204, vec![], ""), ("/", 200, vec!["1"], "5")] {
            let sent = request("POST", "h.test", target)
                .header("content-length", "5")
                .header("content-length", "5")
                .body(Full::from("hello"))
                .expect("a request");
            let answer = sender.send_request(sent).await.expect("an answer");
            let said: Vec<_> = answer.headers().get_all("content-length").iter().cloned().collect();
            assert_eq!(
                (answer.status().as_u16(), said),
                (status, lengths.into_iter().map(http::HeaderValue::from_static).collect::<Vec<_>>()),
                "{target}"
            );
            assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), body, "{target}");
        }
    });
}

#[test]
fn a_client_that_leaves_with_streams_open_harms_nobody() {
    let server = Server::start(|mut client, _| {
        client.request();
        client.rest();
    });
    let fine = Server::named("fine");
    let (tls, client) = pair();
    let rig = Start { tls: source(tls), ..Start::default() }
        .run(&[tls_route("h.test", &[&server.url()]), Route::to("fine.test", &[&fine.url()])]);
    http2(rig.address, &client, async |mut sender, connection| {
        let sent = sender.send_request(request("GET", "h.test", "/").body(Full::default()).expect("a request"));
        let _sent = tokio::spawn(sent);
        tokio::task::spawn_blocking({
            let registry = rig.registry.clone();
            move || {
                until("the server works on it", || {
                    registry.servers(std::time::Instant::now()).iter().any(|server| server.in_flight == 1)
                })
            }
        })
        .await
        .expect("in flight");
        connection.abort();
    });
    assert_eq!(rig.record().reason, Some(Reason::ClientGone));
    assert_eq!(rig.get("fine.test", "/").text(), "fine");
}

/// A TLS server that answers one request on each connection.
fn tls_server(config: Arc<rustls::ServerConfig>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = config.clone();
            thread::spawn(move || {
                let session = rustls::ServerConnection::new(config).expect("a session");
                let mut client = Client::over(rustls::StreamOwned::new(session, stream));
                while client.request().is_some() {
                    client.send(&ok("secret"));
                }
            });
        }
    });
    address
}

#[test]
fn servers_are_reached_over_tls_and_verified() {
    let (server, trusting) = pair();
    let mut plain = (*server).clone();
    plain.alpn_protocols.clear();
    let address = tls_server(Arc::new(plain));
    let url = format!("https://localhost:{}", address.port());
    let (_, doubting) = pair();
    for (config, status, reason) in [(trusting, 200, None), (doubting, 502, Some(Reason::ConnectFailed))] {
        let upstream = upstream::Settings { tls: Some(config.into()), ..upstream::Settings::default() };
        let settings = Settings { upstream: upstream.into(), ..Settings::default() };
        let rig = Start { settings, ..Start::default() }.run(&[Route::to("h.test", &[&url])]);
        assert_eq!(rig.get("h.test", "/").status, status);
        assert_eq!(rig.record().reason, reason);
    }
}
