//! Mirroring of bodies: they come whole and equal to the mirrors or are cut, and the request waits for nothing.

use super::*;
use crate::support::PATIENCE;
use crate::support::client::Connection;
use bytes::Bytes;
use std::io::Read;
use std::sync::mpsc::Sender;

/// What a server got of a request.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    /// Its head came.
    Head(String),
    /// Its body, and whether it was whole.
    Body(Vec<u8>, bool),
}

/// A server that tells what it gets, and answers when it has all of it.
struct Recorder {
    url: String,
    got: Receiver<Got>,
    _runtime: Option<tokio::runtime::Runtime>,
}

impl Recorder {
    fn http1() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (tell, got) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), tell) = (stream, tell.clone()) else { return };
                std::thread::spawn(move || by_http1(&stream, &tell));
            }
        });
        Self { url, got, _runtime: None }
    }

    /// By prior knowledge.
    fn http2() -> Self {
        let runtime = runtime();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a loopback port");
        let url = format!("h2c://{}", listener.local_addr().expect("bound"));
        let (tell, got) = channel();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(by_http2(stream, tell.clone()));
            }
        });
        Self { url, got, _runtime: Some(runtime) }
    }

    fn service(&self) -> String {
        format!("{{loadBalancer: {{servers: [{{url: '{}'}}]}}}}", self.url)
    }

    /// The head of the next request.
    fn head(&self) -> String {
        match self.got.recv_timeout(PATIENCE).expect("a request") {
            Got::Head(head) => head,
            body => panic!("{body:?}"),
        }
    }

    /// The body of the last one, and whether it is whole.
    fn body(&self) -> (Vec<u8>, bool) {
        match self.got.recv_timeout(PATIENCE).expect("a body") {
            Got::Body(body, whole) => (body, whole),
            head => panic!("{head:?}"),
        }
    }

    fn assert_got(&self, target: &str, body: &[u8]) {
        let head = self.head();
        assert!(head.contains(target), "{target}: {head}");
        let (got, whole) = self.body();
        // Not with assert_eq, which would print a megabyte.
        assert!(whole && got == body, "{target}: {} of {} bytes, whole: {whole}", got.len(), body.len());
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

fn by_http1(stream: &TcpStream, tell: &Sender<Got>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if !reader.read_line(&mut head).is_ok_and(|read| read > 0) {
                return;
            }
        }
        let fields = head.to_ascii_lowercase();
        if tell.send(Got::Head(head)).is_err() {
            return;
        }
        let (body, whole) = if fields.contains("transfer-encoding: chunked") {
            chunks(&mut reader)
        } else {
            let length = fields.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: u64 = length.map_or(0, |length| length.parse().expect("a length"));
            let mut body = Vec::new();
            let read = (&mut reader).take(length).read_to_end(&mut body);
            let whole = read.is_ok() && body.len() as u64 == length;
            (body, whole)
        };
        if tell.send(Got::Body(body, whole)).is_err() || !whole {
            return;
        }
        if (&*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

fn chunks(reader: &mut impl BufRead) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        let size = match reader.read_line(&mut line) {
            Ok(1..) => usize::from_str_radix(line.trim_end(), 16).expect("a chunk's size"),
            _ => return (body, false),
        };
        if size == 0 {
            // Trailers, if there are any, and the empty line.
            while line != "\r\n" {
                line.clear();
                if !reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    return (body, false);
                }
            }
            return (body, true);
        }
        let before = body.len();
        if reader.take(size as u64 + 2).read_to_end(&mut body).is_err() || body.len() != before + size + 2 {
            return (body, false);
        }
        assert!(body.ends_with(b"\r\n"));
        body.truncate(before + size);
    }
}

async fn by_http2(stream: tokio::net::TcpStream, tell: Sender<Got>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let tell = tell.clone();
        tokio::spawn(async move {
            let (parts, mut incoming) = request.into_parts();
            let _ = tell.send(Got::Head(format!("{} {} {:?}", parts.method, parts.uri.path(), parts.headers)));
            let (mut body, mut whole) = (Vec::new(), true);
            while let Some(data) = incoming.data().await {
                let Ok(data) = data else {
                    whole = false;
                    break;
                };
                let _ = incoming.flow_control().release_capacity(data.len());
                body.extend_from_slice(&data);
            }
            let _ = tell.send(Got::Body(body, whole));
            let _ = respond.send_response(http::Response::new(()), true);
        });
    }
}

/// How a client sends a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Length,
    Chunks,
    Http2,
    Http2Length,
}

const WAYS: [By; 4] = [By::Length, By::Chunks, By::Http2, By::Http2Length];

/// The beginning of a request: its head and the first part of a body of `length` bytes.
enum Begun {
    Http1(Connection, By),
    Http2(h2::client::ResponseFuture, h2::SendStream<Bytes>),
}

struct Clients {
    addr: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

impl Clients {
    fn begin(&self, by: By, host: &str, target: &str, first: &[u8], length: usize) -> Begun {
        if matches!(by, By::Length | By::Chunks) {
            let mut connection = Connection::open(self.addr).expect("a connection");
            let framing = match by {
                By::Length => format!("Content-Length: {length}"),
                _ => "Transfer-Encoding: chunked".to_owned(),
            };
            let head = format!("POST {target} HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n");
            connection.send(head.as_bytes()).expect("sent");
            let mut begun = Begun::Http1(connection, by);
            begun.send(first, false);
            return begun;
        }
        let mut request = http::Request::post(format!("http://{host}{target}"));
        if by == By::Http2Length {
            request = request.header("content-length", length);
        }
        let request = request.body(()).expect("a request");
        let (answer, stream) = self.runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(self.addr).await.expect("a connection");
            let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
            tokio::spawn(connection);
            let mut sender = sender.ready().await.expect("ready");
            sender.send_request(request, false).expect("sent")
        });
        let mut begun = Begun::Http2(answer, stream);
        begun.send(first, false);
        begun
    }

    /// One request, and its status.
    fn send(&self, by: By, host: &str, target: &str, body: &[u8]) -> u16 {
        let (first, last) = body.split_at(body.len() / 3);
        let mut begun = self.begin(by, host, target, first, body.len());
        begun.send(last, true);
        match begun {
            Begun::Http1(mut connection, _) => connection.read(false).expect("an answer").status,
            Begun::Http2(answer, _stream) => self.runtime.block_on(answer).expect("an answer").status().as_u16(),
        }
    }
}

impl Begun {
    fn send(&mut self, data: &[u8], ends: bool) {
        match self {
            Self::Http1(connection, By::Chunks) => {
                for piece in data.chunks(100_000) {
                    connection.send(format!("{:x}\r\n", piece.len()).as_bytes()).expect("sent");
                    connection.send(piece).expect("sent");
                    connection.send(b"\r\n").expect("sent");
                }
                if ends {
                    connection.send(b"0\r\nX-Trailer: 1\r\n\r\n").expect("sent");
                }
            }
            Self::Http1(connection, _) => connection.send(data).expect("sent"),
            Self::Http2(_, stream) => stream.send_data(Bytes::copy_from_slice(data), ends).expect("sent"),
        }
    }

    fn cut(self) {
        if let Self::Http2(_, mut stream) = self {
            stream.send_reset(h2::Reason::CANCEL);
        }
    }
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

fn mirroring(main: &str, mirror: &str, more: &str) -> String {
    format!("{{mirroring: {{service: {main}, mirrors: [{{name: {mirror}, percent: 100}}]{more}}}}}")
}

/// Servers and mirrors of both kinds, and services `m11` to `m22`: the server's version, and the mirror's.
struct Both {
    rig: Rig,
    mains: [Recorder; 2],
    mirrors: [Recorder; 2],
    clients: Clients,
}

impl Both {
    fn start() -> Self {
        let (mains, mirrors) = ([Recorder::http1(), Recorder::http2()], [Recorder::http1(), Recorder::http2()]);
        let rig = Rig::start(
            &[
                ("main1", mains[0].service()),
                ("main2", mains[1].service()),
                ("mirror1", mirrors[0].service()),
                ("mirror2", mirrors[1].service()),
                ("m11", mirroring("main1", "mirror1", "")),
                ("m12", mirroring("main1", "mirror2", "")),
                ("m21", mirroring("main2", "mirror1", "")),
                ("m22", mirroring("main2", "mirror2", "")),
            ],
            &["--metrics.prometheus=true"],
        );
        let clients = rig.clients();
        Self { rig, mains, mirrors, clients }
    }

    /// Each way that a body may take.
    fn each(&self, mut run: impl FnMut(By, &str, &Recorder, &Recorder)) {
        for by in WAYS {
            for (main, mirror) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let host = format!("m{}{}.test", main + 1, mirror + 1);
                run(by, &host, &self.mains[main], &self.mirrors[mirror]);
            }
        }
    }
}

impl Rig {
    fn clients(&self) -> Clients {
        Clients { addr: self.proxy.web(), runtime: runtime() }
    }

    /// Waits until so many copies met a fate.
    fn await_copies(&self, mirror: &str, result: &str, count: u32) {
        let series =
            format!("rust_lb_mirrored_requests_total{{service=\"{mirror}@file\",result=\"{result}\"}} {count}");
        eventually(&series, || {
            let metrics = self.proxy.admin("/metrics").text();
            metrics.lines().any(|line| line == series).then_some(())
        });
    }
}

#[test]
fn bodies_come_whole_and_equal_whatever_is_spoken() {
    let both = Both::start();
    assert!(!both.rig.problems().contains("mirror"), "{}", both.rig.problems());
    // As much as is kept for a mirror that takes nothing yet, so that nothing depends on how quick it is.
    for body in [body(5), body(70_000), body(1 << 20)] {
        both.each(|by, host, main, mirror| {
            let target = format!("/{by:?}/{host}/{}", body.len());
            assert_eq!(both.clients.send(by, host, &target, &body), 200, "{target}");
            main.assert_got(&target, &body);
            mirror.assert_got(&target, &body);
        });
    }
    both.rig.await_copies("mirror1", "sent", 24);
    both.rig.await_copies("mirror2", "sent", 24);
}

#[test]
fn a_body_that_is_cut_is_not_whole_at_the_mirror() {
    let both = Both::start();
    let first = body(5_000);
    both.each(|by, host, main, mirror| {
        let begun = both.clients.begin(by, host, "/cut", &first, 10_000);
        main.head();
        mirror.head();
        begun.cut();
        for got in [main.body(), mirror.body()] {
            assert!(!got.1 && first.starts_with(&got.0), "{by:?} {host}: {} bytes", got.0.len());
        }
    });
    both.rig.await_copies("mirror1", "cut", 8);
    both.rig.await_copies("mirror2", "cut", 8);
}

#[test]
fn a_mirror_that_never_reads_costs_its_copies_only() {
    let main = Recorder::http1();
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    // Its connections have the same: the kernel takes little for it.
    rustix::net::sockopt::set_socket_recv_buffer_size(&deaf, 16 * 1_024).expect("a small buffer");
    let rig = Rig::start(
        &[
            ("main", main.service()),
            ("deaf", servers(&[deaf.local_addr().expect("bound")], "")),
            ("m", mirroring("main", "deaf", "")),
        ],
        &["--metrics.prometheus=true"],
    );
    let clients = rig.clients();
    // More than what the kernel keeps of it on the proxy's side.
    let body = body(16 << 20);
    for (at, by) in [By::Length, By::Chunks, By::Http2].into_iter().enumerate() {
        assert_eq!(clients.send(by, "m.test", "/deaf", &body), 200);
        main.assert_got("/deaf", &body);
        rig.await_copies("deaf", "dropped", at as u32 + 1);
    }
    rig.await_copies("deaf", "sent", 0);
}

#[test]
fn a_mirror_that_refuses_costs_its_copies_only() {
    let main = Recorder::http1();
    let rig = Rig::start(
        &[("main", main.service()), ("dead", servers(&[nobody()], "")), ("m", mirroring("main", "dead", ""))],
        &["--metrics.prometheus=true"],
    );
    let clients = rig.clients();
    for (at, by) in WAYS.into_iter().enumerate() {
        assert_eq!(clients.send(by, "m.test", "/dead", b"body"), 200);
        main.assert_got("/dead", b"body");
        rig.await_copies("dead", "dropped", at as u32 + 1);
    }
}

#[test]
fn longer_bodies_than_wanted_are_not_copied() {
    let (main, mirror) = (Recorder::http1(), Recorder::http1());
    let rig = Rig::start(
        &[
            ("main", main.service()),
            ("mirror", mirror.service()),
            ("m", mirroring("main", "mirror", ", maxBodySize: 10")),
            ("none", mirroring("main", "mirror", ", maxBodySize: 0")),
        ],
        &["--metrics.prometheus=true"],
    );
    let clients = rig.clients();
    assert_eq!(rig.service("m")["mirroring"]["maxBodySize"], 10);
    for by in WAYS {
        assert_eq!(clients.send(by, "m.test", "/fits", b"0123456789"), 200);
        main.assert_got("/fits", b"0123456789");
        mirror.assert_got("/fits", b"0123456789");
    }
    for (at, by) in [By::Length, By::Http2Length].into_iter().enumerate() {
        // Told before a byte of it came.
        assert_eq!(clients.send(by, "m.test", "/long", b"0123456789a"), 200);
        main.assert_got("/long", b"0123456789a");
        rig.await_copies("mirror", "too_long", at as u32 + 1);
    }
    assert_eq!(clients.send(By::Length, "none.test", "/none", b"0"), 200);
    main.assert_got("/none", b"0");
    rig.await_copies("mirror", "too_long", 3);
    // A request without a body has none that is too long; nothing else came before it.
    assert_eq!(rig.get("none").status, 200);
    main.assert_got("GET / ", b"");
    mirror.assert_got("GET / ", b"");
    // What was sent when a body showed to be too long is cut.
    for (at, by) in [By::Chunks, By::Http2].into_iter().enumerate() {
        let mut begun = clients.begin(by, "m.test", "/grows", b"01234", 0);
        main.head();
        mirror.head();
        begun.send(b"56789a", true);
        assert_eq!(main.body(), (b"0123456789a".to_vec(), true));
        let (got, whole) = mirror.body();
        assert!(!whole && b"01234".starts_with(&got), "{by:?}: {got:?}");
        rig.await_copies("mirror", "too_long", at as u32 + 4);
    }
    rig.await_copies("mirror", "sent", 5);
}

#[test]
fn a_mirror_is_not_asked_whether_the_body_is_wanted() {
    let (main, mirrors) = (Recorder::http1(), [Recorder::http1(), Recorder::http2()]);
    let rig = Rig::start(
        &[
            ("main", main.service()),
            ("one", mirrors[0].service()),
            ("two", mirrors[1].service()),
            ("m1", mirroring("main", "one", "")),
            ("m2", mirroring("main", "two", "")),
        ],
        &[],
    );
    for (host, mirror) in ["m1.test", "m2.test"].into_iter().zip(&mirrors) {
        let answer = client::send(rig.proxy.web(), "POST", host, "/", "Expect: 100-continue\r\n", "body");
        // The server is asked; that it says nothing is for another test.
        assert!(main.head().contains("100-continue"), "{}", answer.status);
        let head = mirror.head();
        assert!(!head.contains("100-continue"), "{head}");
        assert_eq!(mirror.body(), (b"body".to_vec(), true));
        main.body();
    }
}

#[test]
fn a_copy_goes_on_when_the_request_is_answered_before_its_end() {
    let (main, requests) = held();
    let mirrors = [Recorder::http1(), Recorder::http2()];
    let rig = Rig::start(
        &[
            ("main", servers(&[main], "")),
            ("one", mirrors[0].service()),
            ("two", mirrors[1].service()),
            ("m1", mirroring("main", "one", "")),
            ("m2", mirroring("main", "two", "")),
        ],
        &[],
    );
    let clients = rig.clients();
    for (host, mirror) in ["m1.test", "m2.test"].into_iter().zip(&mirrors) {
        let mut begun = clients.begin(By::Length, host, "/early", b"first", 10);
        let (_, stream) = requests.recv_timeout(PATIENCE).expect("a request");
        answer(stream, "200 OK", "main");
        let Begun::Http1(connection, _) = &mut begun else { panic!("HTTP/1.1") };
        assert_eq!(connection.read(false).expect("an answer").status, 200);
        connection.send(b"other").expect("sent");
        mirror.assert_got("/early", b"firstother");
    }
}

#[test]
fn a_mirror_may_answer_before_the_end_or_go_away() {
    let (main, (mirror, copies)) = (Recorder::http1(), held());
    let rig = Rig::start(
        &[("main", main.service()), ("mirror", servers(&[mirror], "")), ("m", mirroring("main", "mirror", ""))],
        &["--metrics.prometheus=true"],
    );
    let clients = rig.clients();
    for goes_away in [false, true] {
        let mut begun = clients.begin(By::Length, "m.test", "/", b"first", 10);
        let (_, stream) = copies.recv_timeout(PATIENCE).expect("a copy");
        if goes_away {
            stream.shutdown(std::net::Shutdown::Both).expect("open");
        } else {
            answer(stream, "413 Content Too Large", "mirror");
        }
        begun.send(b"other", true);
        main.assert_got("/", b"firstother");
        let Begun::Http1(connection, _) = &mut begun else { panic!("HTTP/1.1") };
        assert_eq!(connection.read(false).expect("an answer").status, 200);
        if !goes_away {
            rig.await_copies("mirror", "sent", 1);
        }
    }
}
