//! The end: what `/ready` says, who is still accepted, what clients are told; and servers that are deregistered.

use super::super::support::PATIENCE;
use super::super::support::eventually;
use super::super::support::proxy::Proxy;
use super::super::support::serve::{Serve, kill, lives};
use super::super::support::server::Server;
use super::{ask, echo, kept, switched, switching};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

/// The worker is signalled too, as a supervisor does that signals all that it runs.
#[test]
fn sigterm_turns_ready_first_and_closes_the_ports_later() {
    let server = Server::start("a");
    let serve = Serve::start(&server, &["--entryPoints.web.transport.lifeCycle.requestAcceptGraceTimeout=600s"]);
    serve.wait_until_served();
    let (web, worker) = (serve.web(), serve.worker());
    assert_eq!(serve.admin("/ready").expect("an answer").status, 200);
    let mut connection = kept(web);
    let other = kept(web);
    serve.signal("-TERM");
    kill(worker, "-TERM");
    eventually("not ready any more", || (serve.admin("/ready").ok()?.status == 503).then_some(()));
    assert_eq!(serve.admin("/ping").expect("an answer").status, 503);
    // New connections are accepted, old ones go on; both are told to come no more.
    let answer = eventually("clients are told", || {
        let answer = ask(web).expect("still accepted");
        assert_eq!(answer.status, 200);
        Some(answer)
    });
    assert_eq!(answer.header("connection"), Some("close"));
    let answer = connection.get("a.test", "/").expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    drop(other);
    assert!(lives(worker));
    // Asked again, it ends at once.
    serve.signal("-TERM");
    let (status, said) = serve.wait();
    assert_eq!(status.code(), Some(0), "{said:?}");
    assert!(TcpStream::connect(web).is_err());
}

#[test]
fn the_ports_are_closed_when_the_time_is_over_and_what_is_under_way_ends() {
    let serve = super::super::support::serve::Setup::new(
        switching(),
        &[
            "--entryPoints.web.transport.lifeCycle.requestAcceptGraceTimeout=50ms",
            "--entryPoints.web.transport.lifeCycle.graceTimeOut=600s",
        ],
    )
    .start();
    serve.wait_until_served();
    let web = serve.web();
    let mut open = switched(web);
    serve.signal("-TERM");
    eventually("nobody is accepted any more", || TcpStream::connect(web).is_err().then_some(()));
    echo(&mut open, "still there");
    assert_eq!(serve.admin("/ready").expect("an answer").status, 503);
    drop(open);
    let (status, said) = serve.wait();
    assert_eq!(status.code(), Some(0), "{said:?}");
}

#[test]
fn sigterm_during_a_hand_over_ends_both_workers() {
    let serve = super::super::support::serve::Setup::new(
        switching(),
        &["--entryPoints.web.transport.lifeCycle.graceTimeOut=600s"],
    )
    .start();
    serve.wait_until_served();
    let mut open = switched(serve.web());
    serve.hand_over(1);
    let mut next = switched(serve.web());
    serve.signal("-TERM");
    eventually("nobody is accepted any more", || TcpStream::connect(serve.web()).is_err().then_some(()));
    echo(&mut open, "in the old one");
    echo(&mut next, "in the new one");
    let workers = serve.workers();
    assert_eq!(workers.len(), 2);
    serve.signal("-TERM");
    let (status, _) = serve.wait();
    assert_eq!(status.code(), Some(0));
    assert!(!workers.into_iter().any(lives));
}

#[test]
fn a_deregistered_server_gets_nothing_new_and_keeps_what_it_has() {
    let server = switching();
    let proxy = Proxy::start(&["--rustLb.linger.for=0s"]);
    let tags = ["traefik.enable=true", "traefik.http.routers.a.rule=Host(`a.test`)"];
    proxy.catalog.register("one", "a", server, &tags);
    proxy.wait_for("a.test", "/", 200);
    let mut open = switched(proxy.web());
    echo(&mut open, "before");
    let other = Server::start("other");
    proxy.catalog.register("two", "a", other.addr, &tags);
    proxy.catalog.deregister("one");
    eventually("the server is out of rotation", || {
        let answers: Vec<_> = (0..4).map(|_| proxy.get("a.test", "/")).collect();
        answers.iter().all(|answer| answer.header("x-server") == Some("other")).then_some(())
    });
    echo(&mut open, "after");
    // Not even when the whole service goes.
    proxy.catalog.deregister("two");
    proxy.wait_for("a.test", "/", 404);
    echo(&mut open, "to the end");
}

/// A server that begins an answer and says nothing more; tells when its connection has ended.
fn unending() -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), tell) = (stream, tell.clone()) else { return };
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    head.push(byte[0]);
                }
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"));
                drop(std::io::copy(&mut stream, &mut std::io::sink()));
                let _ = tell.send(());
            });
        }
    });
    (address, told)
}

/// Reads to the end, which no reset may be.
fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an orderly end");
    String::from_utf8_lossy(&rest).into_owned()
}

#[test]
fn what_a_server_that_left_still_has_ends_with_its_limit_and_nothing_else_does() {
    let (unending, ended) = unending();
    let proxy = Proxy::start(&["--rustLb.drain.limit=100ms", "--rustLb.linger.for=0s", "--metrics.prometheus=true"]);
    let register = |name: &str, server: SocketAddr| {
        let rule = format!("traefik.http.routers.{name}.rule=Host(`{name}.test`)");
        proxy.catalog.register(name, name, server, &["traefik.enable=true", &rule]);
    };
    let stays = switching();
    register("a", stays);
    proxy.wait_for("a.test", "/", 200);
    let mut kept = switched(proxy.web());
    register("stream", unending);
    eventually("it is routed", || (proxy.admin("/api/http/services/stream@consulcatalog").status == 200).then_some(()));
    // Over HTTP/1.1 and HTTP/2.
    let mut download = TcpStream::connect(proxy.web()).expect("a connection");
    download.set_read_timeout(Some(PATIENCE)).expect("set");
    download.write_all(b"GET / HTTP/1.1\r\nHost: stream.test\r\n\r\n").expect("sent");
    let mut first = [0; 15];
    download.read_exact(&mut first).expect("an answer");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(proxy.web()).await.expect("a connection");
        let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = http::Request::get("http://stream.test/").body(()).expect("a request");
        let (answer, _) = client.send_request(request, true).expect("sent");
        let mut body = answer.await.expect("an answer").into_body();
        assert_eq!(body.data().await.expect("a frame").expect("data"), "hello");
        echo(&mut kept, "before");
        proxy.catalog.deregister("stream");
        assert!(body.data().await.expect("it ends").expect_err("by a reset").is_reset());
        client.ready().await.expect("the connection lives");
    });
    let said = rest(&mut download);
    assert!(said.ends_with("hello\r\n"), "no last chunk: {said}");
    for _ in 0..2 {
        ended.recv_timeout(PATIENCE).expect("the server is told");
    }
    eventually("they are counted", || {
        let metrics = proxy.admin("/metrics").text();
        let line = "rust_lb_failures_total{cause=\"drain limit\",service=\"stream@consulcatalog\"} 2";
        metrics.contains(line).then_some(())
    });
    echo(&mut kept, "after");
    // The same with what was switched; who comes back keeps what comes then.
    let other = Server::start("other");
    register("a", other.addr);
    assert_eq!(rest(&mut kept), "");
    register("a", stays);
    let is_back = || (proxy.get("a.test", "/").header("x-server") != Some("other")).then_some(());
    eventually("it is back", is_back);
    let mut again = switched(proxy.web());
    echo(&mut again, "and stays");
}

#[test]
fn without_a_limit_it_is_kept() {
    let server = switching();
    let proxy = Proxy::start(&["--rustLb.drain.limit=0s", "--rustLb.linger.for=0s"]);
    let tags = ["traefik.enable=true", "traefik.http.routers.a.rule=Host(`a.test`)"];
    proxy.catalog.register("a", "a", server, &tags);
    proxy.wait_for("a.test", "/", 200);
    let mut open = switched(proxy.web());
    proxy.catalog.deregister("a");
    proxy.wait_for("a.test", "/", 404);
    echo(&mut open, "to the end");
}
