//! What goes wrong with a request, over real sockets: each cause is seen in the access log, in a
//! metric and, by those who may ask, in the answer. And what else the access log tells.

use super::support::binary::Running;
use super::support::client::{self, Answer, Connection};
use super::support::eventually;
use super::support::proxy::{Catalog, Proxy};
use super::support::server::Server;
use super::support::tls;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

/// A server that does something to each connection, on a thread of its own.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    addr
}

/// Reads a head, says something, closes.
fn saying(answer: &'static str) -> SocketAddr {
    server(move |mut stream| {
        let mut head = [0; 4096];
        let mut got = 0;
        while !head[..got].ends_with(b"\r\n\r\n") {
            match stream.read(&mut head[got..]) {
                Ok(n) if n > 0 => got += n,
                _ => return,
            }
        }
        drop(stream.write_all(answer.as_bytes()));
    })
}

/// Takes connections and never says a word; they stay open until the other side ends.
fn silent() -> SocketAddr {
    server(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())))
}

/// Nobody listens there.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// Speaks TLS with a certificate for a name, of nobody's making.
fn self_signed(name: &str) -> SocketAddr {
    let pair = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(pair.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .expect("a pair");
    let config = Arc::new(config);
    server(move |mut stream| {
        let Ok(mut tls) = rustls::ServerConnection::new(config.clone()) else { return };
        // It fails, since the other side does not trust us.
        drop(tls.complete_io(&mut stream));
    })
}

/// A listener whose queue is full: the kernel answers no more to those who knock.
fn full() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    socket.listen(0).expect("listens");
    let listener = TcpListener::from(socket);
    let addr = listener.local_addr().expect("bound");
    let limit = std::time::Duration::from_millis(300);
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, limit) {
        held.push(stream);
    }
    (addr, listener, held)
}

/// A proxy whose access log can be read.
struct Rig {
    proxy: Proxy,
    dir: Arc<tempfile::TempDir>,
}

impl Rig {
    fn start(flags: &[&str]) -> Self {
        let dir = Arc::new(tempfile::tempdir().expect("a folder"));
        // nobody waits for a server that refuses: what it comes to is what is looked at
        let json = ["--accessLog.format=json", "--rustLb.linger.wait=0s"];
        let proxy = Proxy::over(Catalog::start(), dir.clone(), &[&json, flags].concat());
        Self { proxy, dir }
    }

    fn register(&self, name: &str, addr: SocketAddr, more: &[&str]) {
        let tags = ["traefik.enable=true".to_owned(), format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)")];
        let tags: Vec<&str> = tags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.proxy.catalog.register(name, name, addr, &tags);
    }

    /// The first line of a request that fits.
    fn line(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        line(&self.dir.path().join("access.log"), what, fits)
    }

    fn metric(&self, line: &str) -> bool {
        self.proxy.admin("/metrics").text().lines().any(|l| l.starts_with(line))
    }

    /// Asks why, once the route is there.
    fn ask(&self, host: &str) -> Answer {
        eventually(&format!("{host} is routed"), || {
            let answer = client::send(self.proxy.web(), "GET", host, "/", "X-Rust-Lb-Cause: ?\r\n", "");
            (answer.status != 404).then_some(answer)
        })
    }
}

fn line(file: &Path, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("a line in the access log: {what}"), || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        // The last line may be on its way.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| fits(line))
    })
}

const SHORT: [&str; 4] = [
    "--serversTransport.forwardingTimeouts.dialTimeout=400ms",
    "--serversTransport.forwardingTimeouts.responseHeaderTimeout=400ms",
    "--rustLb.errors.reveal=127.0.0.0/8",
    "--metrics.prometheus=true",
];

#[test]
fn each_cause_is_seen_in_log_metric_and_answer() {
    let rig = Rig::start(&SHORT);
    let (full, _listener, _held) = full();
    let plain = server(|mut stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    let cases: [(&str, SocketAddr, bool, u16, &str, &str); 9] = [
        ("refused", nobody(), false, 502, "refused", "connect_refused"),
        ("reset", saying(""), false, 502, "reset before answer", "reset_before_answer"),
        ("within", saying("HTTP/1.1 200 OK\r\nContent-Le"), false, 502, "reset within answer", "answer_cut"),
        ("garbage", saying("SSH-2.0-OpenSSH_9.6\r\n\r\n"), false, 502, "bad answer: not HTTP", "bad_answer"),
        ("late", silent(), false, 504, "timed out: head", "head_timeout"),
        ("full", full, false, 504, "timed out: connect", "connect_timeout"),
        ("untrusted", self_signed("127.0.0.1"), true, 502, "tls: untrusted", "connect_failed"),
        ("tlslate", silent(), true, 504, "timed out: tls", "connect_timeout"),
        ("plain", plain, true, 502, "tls: failed", "connect_failed"),
    ];
    for (name, addr, tls, ..) in &cases {
        let https = format!("traefik.http.services.{name}.loadbalancer.server.scheme=https");
        let https = [https.as_str()];
        rig.register(name, *addr, if *tls { &https } else { &[] });
    }
    for (name, _, _, status, cause, reason) in cases {
        let host = format!("{name}.test");
        let answer = rig.ask(&host);
        assert_eq!(answer.status, status, "{name}");
        assert_eq!(answer.header("x-rust-lb-cause"), Some(cause), "{name}");
        assert_eq!(answer.header("x-rust-lb-reason"), Some(reason), "{name}");
        let line = rig.line(name, |line| line["RequestHost"] == host.as_str() && line.get("ServiceName").is_some());
        assert_eq!((&line["ProxyCause"], &line["ProxyReason"]), (&cause.into(), &reason.into()), "{line}");
        assert_eq!(line["ProxySide"], "server", "{line}");
        let series = format!("rust_lb_failures_total{{cause=\"{cause}\",service=\"{name}@consulcatalog\"}} ");
        assert!(rig.metric(&series), "{series}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_told_though_its_status_was_sent() {
    let rig = Rig::start(&SHORT);
    rig.register("cut", saying("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), &[]);
    eventually("the answer is cut", || {
        let mut connection = Connection::open(rig.proxy.web()).ok()?;
        connection.send(b"GET / HTTP/1.1\r\nHost: cut.test\r\n\r\n").ok()?;
        connection.read(false).err()
    });
    let line = rig.line("cut", |line| line["RequestHost"] == "cut.test" && line.get("ServiceName").is_some());
    assert_eq!((&line["DownstreamStatus"], &line["OriginStatus"]), (&200.into(), &200.into()));
    assert_eq!((&line["ProxyCause"], &line["ProxyReason"]), (&"reset within answer".into(), &"answer_cut".into()));
}

#[test]
fn the_clients_failures_are_the_clients() {
    let rig = Rig::start(&["--entryPoints.web.transport.respondingTimeouts.readTimeout=300ms"]);
    let server = Server::start("fine");
    rig.register("fine", server.addr, &[]);
    rig.proxy.wait_for("fine.test", "/", 200);
    for (sent, cause, status) in [
        (&b"GET / HTTP/1.1\r\nHost: fine.test\r\nBad Name: x\r\n\r\n"[..], "bad request", 400),
        (b"POST /stalls HTTP/1.1\r\nHost: fine.test\r\nContent-Length: 10\r\n\r\nabc", "client stalled", 408),
    ] {
        let mut connection = Connection::open(rig.proxy.web()).expect("a connection");
        connection.send(sent).expect("sent");
        assert_eq!(connection.read(false).expect("an answer").status, status);
        let line = rig.line(cause, |line| line["ProxyCause"] == cause);
        assert_eq!((&line["ProxySide"], &line["DownstreamStatus"]), (&"client".into(), &status.into()), "{line}");
    }
}

#[test]
fn nobody_is_told_unless_configuration_allows_it() {
    for flags in [&[][..], &["--rustLb.errors.reveal=192.0.2.0/24"]] {
        let rig = Rig::start(flags);
        rig.register("refused", nobody(), &[]);
        let answer = rig.ask("refused.test");
        assert_eq!((answer.status, answer.header("x-rust-lb-cause")), (502, None));
        assert_eq!(answer.header("x-rust-lb-reason"), None);
    }
    let rig = Rig::start(&SHORT);
    rig.register("refused", nobody(), &[]);
    rig.ask("refused.test");
    assert_eq!(rig.proxy.get("refused.test", "/").header("x-rust-lb-cause"), None, "who does not ask is not told");
}

#[test]
fn fields_headers_queries_and_filters_are_as_configured() {
    let rig = Rig::start(&[
        "--accessLog.fields.names.RequestCount=drop",
        "--accessLog.fields.headers.defaultMode=drop",
        "--accessLog.fields.headers.names.X-Shown=keep",
        "--accessLog.fields.headers.names.X-Server=keep",
        "--accessLog.fields.headers.names.Authorization=redact",
        "--accessLog.fields.queryParameters.defaultMode=drop",
        "--accessLog.filters.statusCodes=200,500-599",
    ]);
    let server = Server::start("fine");
    rig.register("fine", server.addr, &[]);
    rig.proxy.wait_for("fine.test", "/", 200);
    let headers = "X-Shown: a\r\nX-Shown: b\r\nAuthorization: Basic c2VjcmV0\r\nX-Hidden: h\r\n";
    client::send(rig.proxy.web(), "GET", "nobody.test", "/unrouted", headers, "");
    client::send(rig.proxy.web(), "GET", "fine.test", "/p?token=secret", headers, "");
    let line = rig.line("/p", |line| line["RequestPath"] == "/p");
    assert_eq!(line["request_X-Shown"], "a,b");
    assert_eq!(line["request_Authorization"], "REDACTED");
    assert_eq!((&line["origin_X-Server"], &line["downstream_X-Server"]), (&"fine".into(), &"fine".into()));
    assert!(line.get("RequestCount").is_none() && line.get("request_X-Hidden").is_none(), "{line}");
    let text = std::fs::read_to_string(rig.dir.path().join("access.log")).expect("the log");
    assert!(!text.contains("secret") && !text.contains("c2VjcmV0") && !text.contains("/unrouted"), "{text}");
}

#[test]
fn statuses_that_are_none_are_refused() {
    let output = super::support::binary::output(&["check", "--accessLog.filters.statusCodes=5xx"]);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && text.contains("accessLog.filters.statusCodes"), "{text}");
}

#[test]
fn tls_is_told_with_version_and_cipher_and_the_log_goes_on_after_a_rotation() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("access.log");
    let running =
        Running::dev(dir.path(), &["--accessLog.format=json", &format!("--accessLog.filePath={}", file.display())]);
    let root = std::fs::read(running.said["ca"].as_str().expect("a path")).expect("the root");
    let get = |path: &str| {
        eventually("an answer over TLS", || tls::get(running.addr("websecure"), &root, "localhost", path));
    };
    get("/before");
    let said = line(&file, "/before", |line| line["RequestPath"] == "/before");
    assert_eq!((&said["TLSVersion"], &said["RequestScheme"]), (&"1.3".into(), &"https".into()));
    let cipher = said["TLSCipher"].as_str().expect("a cipher");
    assert!(cipher.starts_with("TLS_AES_") || cipher.starts_with("TLS_CHACHA20_"), "{said}");
    let series = format!(
        "traefik_entrypoint_requests_tls_total{{entrypoint=\"websecure\",tls_cipher=\"{cipher}\",tls_version=\"1.3\"}} "
    );
    let metrics = client::get(running.addr("admin"), "127.0.0.1", "/metrics").text();
    assert!(metrics.contains(&series), "{metrics}");

    std::fs::rename(&file, dir.path().join("access.log.1")).expect("moved");
    running.signal("-USR1");
    eventually("the file is there again", || {
        get("/after");
        file.exists().then_some(())
    });
    line(&file, "/after", |line| line["RequestPath"] == "/after");
    let old = std::fs::read_to_string(dir.path().join("access.log.1")).expect("the old log");
    assert!(old.contains("/before"), "{old}");
}

#[test]
fn what_the_configuration_no_longer_reads_is_not_served_from_the_last_good_state() {
    let home = tempfile::tempdir().expect("a folder");
    let state = home.path().join("state");
    let (keep, flag) = ("--rustLb.lastGood.maxAge=1h", format!("--rustLb.stateDir={}", state.display()));
    let server = saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
    let before = Running::dev(home.path(), &["--no-samples", keep, &flag]);
    let body =
        format!(r#"{{"Name":"old","Address":"127.0.0.1","Port":{},"Tags":["urlprefix-old.test/"]}}"#, server.port());
    assert_eq!(
        client::send(before.addr("consul"), "PUT", "consul", "/v1/agent/service/register", "", &body).status,
        200
    );
    eventually("it is served", || {
        client::try_get(before.addr("web"), "old.test", "/").ok().filter(|answer| answer.status == 200).map(drop)
    });
    eventually("it is kept", || {
        std::fs::read_to_string(state.join("last-good.json")).ok().filter(|text| text.contains("old.test")).map(drop)
    });
    before.signal("-TERM");
    before.wait();
    // without the tag's dialect the host is nobody's from the first request on
    let after = Running::dev(home.path(), &["--no-samples", keep, &flag, "--rustLb.legacyTags.dialects=site"]);
    assert_eq!(client::try_get(after.addr("web"), "old.test", "/").expect("an answer").status, 404);
}
