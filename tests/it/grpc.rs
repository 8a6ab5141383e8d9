//! gRPC through the proxy: HTTP/2 in front (over TLS, and with prior knowledge on the plain entry
//! point), HTTP/2 without TLS behind (`scheme=h2c` in a tag). Client and server speak by the `h2` crate,
//! so that each frame is in the test's hand.

mod peers;

use super::support::proxy::Proxy;
use super::support::{PATIENCE, eventually};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const HOST: &str = "grpc.test";

/// A message as gRPC frames it: not compressed, its length, itself.
fn message(payload: &[u8]) -> Bytes {
    let mut framed = vec![0];
    framed.extend((payload.len() as u32).to_be_bytes());
    framed.extend(payload);
    framed.into()
}

/// Takes messages off a stream.
struct Messages {
    stream: RecvStream,
    buffer: BytesMut,
}

impl Messages {
    fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next one; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<Bytes>, h2::Error> {
        loop {
            if self.buffer.len() >= 5 {
                let length = u32::from_be_bytes(self.buffer[1..5].try_into().expect("four")) as usize;
                if self.buffer.len() >= 5 + length {
                    return Ok(Some(self.buffer.split_to(5 + length).split_off(5).freeze()));
                }
            }
            let Some(data) = self.stream.data().await.transpose()? else {
                assert!(self.buffer.is_empty(), "the stream ended within a message");
                return Ok(None);
            };
            self.stream.flow_control().release_capacity(data.len())?;
            self.buffer.extend_from_slice(&data);
        }
    }

    async fn status(&mut self) -> String {
        let trailers = self.stream.trailers().await.expect("no error").expect("trailers");
        String::from_utf8(trailers["grpc-status"].as_bytes().to_vec()).expect("text")
    }
}

/// What the server saw that no answer can tell.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Reset(Option<Reason>),
}

/// A gRPC server without TLS.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    seen: tokio::sync::Mutex<mpsc::UnboundedReceiver<Seen>>,
}

impl Server {
    fn start(runtime: &tokio::runtime::Runtime) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (tell, seen) = mpsc::unbounded_channel();
        let count = connections.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let tell = tell.clone();
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(serve(request, respond, tell.clone()));
                    }
                });
            }
        });
        Self { address, connections, seen: tokio::sync::Mutex::new(seen) }
    }
}

fn trailers(status: &'static str) -> http::HeaderMap {
    http::HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static(status))])
}

async fn say(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let room = room.ok_or_else(|| h2::Error::from(Reason::CANCEL))??;
        stream.send_data(data.split_to(room.min(data.len())), false)?;
    }
    Ok(())
}

async fn serve(
    request: http::Request<RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    tell: mpsc::UnboundedSender<Seen>,
) {
    let (head, body) = request.into_parts();
    assert_eq!(head.headers.get("te").map(|te| te.as_bytes()), Some(&b"trailers"[..]));
    assert_eq!(head.uri.authority().map(|authority| authority.as_str()), Some(HOST));
    let mut answer = http::Response::builder().header("content-type", "application/grpc");
    if let Some(timeout) = head.headers.get("grpc-timeout") {
        answer = answer.header("x-timeout", timeout);
    }
    let mut messages = Messages::new(body);
    if head.uri.path() == "/echo.Echo/Fails" {
        let answer = answer.header("grpc-status", "5").header("grpc-message", "not found").body(()).expect("a head");
        respond.send_response(answer, true).expect("sent");
        return;
    }
    let mut out = respond.send_response(answer.body(()).expect("a head"), false).expect("sent");
    let worked = async {
        match head.uri.path() {
            "/echo.Echo/Count" => {
                let mut count = 0_u32;
                while messages.next().await?.is_some() {
                    count += 1;
                }
                say(&mut out, message(count.to_string().as_bytes())).await?;
            }
            "/echo.Echo/Thrice" => {
                let asked = messages.next().await?.expect("a message");
                for _ in 0..3 {
                    say(&mut out, message(&asked)).await?;
                }
            }
            // Unary, and streaming both ways: each message comes back when it is there.
            _ => {
                while let Some(asked) = messages.next().await? {
                    say(&mut out, message(&asked)).await?;
                }
            }
        }
        Ok::<_, h2::Error>(())
    };
    match worked.await {
        Ok(()) => out.send_trailers(trailers("0")).expect("sent"),
        Err(error) => drop(tell.send(Seen::Reset(error.reason()))),
    }
}

/// A proxy in front of such a server, and clients by both doors.
struct Rig {
    runtime: tokio::runtime::Runtime,
    proxy: Proxy,
    server: Server,
}

impl Rig {
    fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let server = Server::start(&runtime);
        let proxy = Proxy::start(&[]);
        register(&proxy, server.address);
        Self { runtime, proxy, server }
    }

    /// Runs a test with a client of each kind.
    fn by_each_door(&self, test: impl AsyncFn(SendRequest<Bytes>)) {
        for secure in [false, true] {
            self.runtime.block_on(async {
                let run = async {
                    let client = if secure { self.over_tls().await } else { self.plain().await };
                    test(client).await;
                };
                tokio::time::timeout(PATIENCE, run).await.expect("in time");
            });
        }
    }

    async fn plain(&self) -> SendRequest<Bytes> {
        let stream = TcpStream::connect(self.proxy.web()).await.expect("a connection");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        client
    }

    async fn over_tls(&self) -> SendRequest<Bytes> {
        let root = std::fs::read(self.proxy.running.root_certificate().expect("a local root")).expect("the root");
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&root) {
            roots.add(certificate.expect("a certificate")).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.proxy.entry_point("websecure")).await.expect("a connection");
        let name = ServerName::try_from(HOST).expect("a name");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.expect("a handshake");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        client
    }
}

/// Puts a service into the catalog and waits until the proxy has it.
fn register(proxy: &Proxy, address: SocketAddr) {
    let tags = [
        "traefik.enable=true",
        "traefik.http.routers.grpc.rule=Host(`grpc.test`)",
        "traefik.http.routers.grpc.entrypoints=web",
        "traefik.http.routers.grpcs.rule=Host(`grpc.test`)",
        "traefik.http.routers.grpcs.entrypoints=websecure",
        "traefik.http.services.grpc.loadbalancer.server.scheme=h2c",
    ];
    proxy.catalog.register("grpc-1", "grpc", address, &tags);
    eventually("both routers are there", || {
        let routers = proxy.admin("/api/http/routers").text();
        (routers.contains("\"grpc@") && routers.contains("\"grpcs@")).then_some(())
    });
}

async fn call(client: &mut SendRequest<Bytes>, method: &str) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("https://{HOST}/echo.Echo/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "30S")
        .body(())
        .expect("a request");
    let mut ready = client.clone().ready().await.expect("room");
    ready.send_request(request, false).expect("sent")
}

#[test]
fn unary_calls_pass_with_their_deadline() {
    let rig = Rig::start();
    rig.by_each_door(async |mut client| {
        for _ in 0..20 {
            let (answer, mut out) = call(&mut client, "Unary").await;
            out.send_data(message(b"hello"), true).expect("sent");
            let answer = answer.await.expect("an answer");
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["content-type"], "application/grpc");
            assert_eq!(answer.headers()["x-timeout"], "30S");
            let mut messages = Messages::new(answer.into_body());
            assert_eq!(messages.next().await.expect("no error").as_deref(), Some(&b"hello"[..]));
            assert_eq!(messages.next().await.expect("no error"), None);
            assert_eq!(messages.status().await, "0");
        }
    });
    // Each worker has one connection, and each door may have led to another worker.
    assert!(rig.server.connections.load(Ordering::SeqCst) <= 2);
}

#[test]
fn a_tag_of_fabios_asks_for_grpc_too() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = Server::start(&runtime);
    let rig = Rig { runtime, proxy: Proxy::start(&[]), server };
    rig.proxy.catalog.register("grpc-1", "grpc", rig.server.address, &["urlprefix-grpc.test/ proto=grpc"]);
    eventually("the router is there", || {
        rig.proxy.admin("/api/http/routers").text().contains("grpc.test").then_some(())
    });
    assert!(!rig.proxy.admin("/api/problems").text().contains("not_served"));
    let told = rig.runtime.block_on(async {
        let mut client = rig.plain().await;
        let (answer, mut out) = call(&mut client, "Unary").await;
        out.send_data(message(b"hello"), true).expect("sent");
        let mut messages = Messages::new(answer.await.expect("an answer").into_body());
        messages.next().await.expect("no error")
    });
    assert_eq!(told.as_deref(), Some(&b"hello"[..]));
}

#[test]
fn streams_pass_in_each_direction() {
    let rig = Rig::start();
    rig.by_each_door(async |mut client| {
        // The client's.
        let (answer, mut out) = call(&mut client, "Count").await;
        for _ in 0..5 {
            out.send_data(message(b"one"), false).expect("sent");
        }
        out.send_data(Bytes::new(), true).expect("sent");
        let mut messages = Messages::new(answer.await.expect("an answer").into_body());
        assert_eq!(messages.next().await.expect("no error").as_deref(), Some(&b"5"[..]));
        assert_eq!(messages.next().await.expect("no error"), None);
        assert_eq!(messages.status().await, "0");
        // The server's.
        let (answer, mut out) = call(&mut client, "Thrice").await;
        out.send_data(message(b"more"), true).expect("sent");
        let mut messages = Messages::new(answer.await.expect("an answer").into_body());
        for _ in 0..3 {
            assert_eq!(messages.next().await.expect("no error").as_deref(), Some(&b"more"[..]));
        }
        assert_eq!(messages.next().await.expect("no error"), None);
        assert_eq!(messages.status().await, "0");
        // Both, each waiting for the other.
        let (answer, mut out) = call(&mut client, "Both").await;
        let mut messages = Messages::new(answer.await.expect("an answer before any message").into_body());
        for at in 0..10_u8 {
            out.send_data(message(&[at]), false).expect("sent");
            assert_eq!(messages.next().await.expect("no error").as_deref(), Some(&[at][..]));
        }
        out.send_data(Bytes::new(), true).expect("sent");
        assert_eq!(messages.next().await.expect("no error"), None);
        assert_eq!(messages.status().await, "0");
    });
}

#[test]
fn an_answer_of_trailers_alone_stays_one_head() {
    let rig = Rig::start();
    rig.by_each_door(async |mut client| {
        let (answer, mut out) = call(&mut client, "Fails").await;
        // The server answers without having read: the call may be over before this is sent, and a call
        // that is over takes nothing (RFC 9113, section 8.1).
        let _ = out.send_data(message(b"x"), true);
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(
            (&answer.headers()["grpc-status"], &answer.headers()["grpc-message"]),
            (&http::HeaderValue::from_static("5"), &http::HeaderValue::from_static("not found"))
        );
        assert!(answer.body().is_end_stream(), "no DATA frame follows");
    });
}

#[test]
fn big_messages_pass_both_ways_at_once() {
    let rig = Rig::start();
    rig.by_each_door(async |mut client| {
        let big: Bytes = (0..8 * 1_024 * 1_024_u32).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
        let (answer, mut out) = call(&mut client, "Both").await;
        let sending = tokio::spawn({
            let big = big.clone();
            async move {
                for _ in 0..2 {
                    say(&mut out, message(&big)).await.expect("sent");
                }
                out.send_data(Bytes::new(), true).expect("sent");
            }
        });
        let mut messages = Messages::new(answer.await.expect("an answer").into_body());
        for _ in 0..2 {
            assert!(messages.next().await.expect("no error").expect("a message") == big);
        }
        assert_eq!(messages.next().await.expect("no error"), None);
        assert_eq!(messages.status().await, "0");
        sending.await.expect("all sent");
    });
}

#[test]
fn a_call_that_is_cancelled_is_cancelled_at_the_server() {
    let rig = Rig::start();
    for secure in [false, true] {
        rig.runtime.block_on(async {
            let mut client = if secure { rig.over_tls().await } else { rig.plain().await };
            let (answer, mut out) = call(&mut client, "Both").await;
            out.send_data(message(b"one"), false).expect("sent");
            let mut messages = Messages::new(answer.await.expect("an answer").into_body());
            assert_eq!(messages.next().await.expect("no error").as_deref(), Some(&b"one"[..]));
            out.send_reset(Reason::CANCEL);
            drop(messages);
            let seen = tokio::time::timeout(PATIENCE, async { rig.server.seen.lock().await.recv().await })
                .await
                .expect("in time");
            assert_eq!(seen, Some(Seen::Reset(Some(Reason::CANCEL))));
            // Others on the same connections know nothing of it.
            let (answer, mut out) = call(&mut client, "Count").await;
            out.send_data(message(b"x"), true).expect("sent");
            let mut messages = Messages::new(answer.await.expect("an answer").into_body());
            assert_eq!(messages.next().await.expect("no error").as_deref(), Some(&b"1"[..]));
        });
    }
}
