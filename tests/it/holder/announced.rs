//! SIGTERM during `requestAcceptGraceTimeout`: clients of HTTP/2 are told by GOAWAY, those of HTTP/1.1 by `Connection: close`;
//! what is under way is answered, and who comes anew is served.

use super::super::support::PATIENCE;
use super::super::support::client::Connection;
use super::super::support::eventually;
use super::super::support::serve::{Serve, Setup};
use super::{ask, kept};
use crate::balancing::{answer, held};
use bytes::Bytes;
use h2::client::SendRequest;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};

const FLAGS: [&str; 2] = [
    "--entryPoints.web.transport.lifeCycle.requestAcceptGraceTimeout=600s",
    "--entryPoints.web.transport.lifeCycle.graceTimeOut=600s",
];

/// A server that answers at once but for `/held`, which the test answers.
fn server() -> (SocketAddr, Receiver<TcpStream>) {
    let (addr, requests) = held();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for (head, stream) in requests {
            if !head.starts_with("GET /held ") {
                answer(stream, "200 OK", "s");
            } else if tell.send(stream).is_err() {
                return;
            }
        }
    });
    (addr, told)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// A connection, and how it ended once it has.
struct Http2 {
    client: SendRequest<Bytes>,
    driven: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    async fn open(web: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(web).await.expect("a connection");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        Self { client, driven: tokio::spawn(connection) }
    }

    /// Sends a request; its status comes later.
    fn send(&mut self, path: &str) -> impl Future<Output = u16> + use<> {
        let request = http::Request::get(format!("http://a.test{path}")).body(()).expect("a request");
        let (answer, _) = self.client.send_request(request, true).expect("sent");
        async move {
            let answer = answer.await.expect("an answer");
            let status = answer.status().as_u16();
            let mut body = answer.into_body();
            while let Some(data) = body.data().await {
                data.expect("the body comes to its end");
            }
            status
        }
    }

    /// Waits for the orderly end: GOAWAY without an error, and all streams ended.
    async fn ends(self) {
        let ended = tokio::time::timeout(PATIENCE, self.driven).await.expect("it ends");
        ended.expect("a task").expect("an orderly end");
    }
}

fn terminate(serve: &Serve) {
    serve.signal("-TERM");
    eventually("not ready any more", || (serve.admin("/ready").ok()?.status == 503).then_some(()));
}

#[test]
fn http2_clients_get_goaway_and_every_answer() {
    let (server, requests) = server();
    let serve = Setup::new(server, &FLAGS).start();
    serve.wait_until_served();
    let web = serve.web();
    let runtime = runtime();
    runtime.block_on(async {
        let mut quiet = Http2::open(web).await;
        assert_eq!(quiet.send("/").await, 200);
        let mut busy = Http2::open(web).await;
        let waits = busy.send("/held");
        let stream = requests.recv_timeout(PATIENCE).expect("a request");
        let mut unused = Http2::open(web).await;
        unused.client.clone().ready().await.expect("SETTINGS came");
        terminate(&serve);
        // Nothing is under way here: it ends at once.
        quiet.ends().await;
        // Here something is: nothing more may come, and that is still answered.
        eventually("GOAWAY has come", || {
            let request = http::Request::get("http://a.test/").body(()).expect("a request");
            let client = busy.client.clone();
            let sent = tokio::task::block_in_place(|| {
                let mut client = tokio::runtime::Handle::current().block_on(client.ready()).ok()?;
                client.send_request(request, true).ok()
            });
            sent.is_none().then_some(())
        });
        answer(stream, "200 OK", "s");
        assert_eq!(waits.await, 200);
        busy.ends().await;
        // Who has asked nothing yet may do so, and who comes now may.
        assert_eq!(unused.send("/").await, 200);
        unused.ends().await;
        let mut fresh = Http2::open(web).await;
        assert_eq!(fresh.send("/").await, 200);
        fresh.ends().await;
    });
    assert_eq!(ask(web).expect("still accepted").status, 200);
    serve.signal("-TERM");
    assert_eq!(serve.wait().0.code(), Some(0));
}

#[test]
fn http1_clients_are_told_by_the_answer_that_is_under_way_and_by_the_next() {
    let (server, requests) = server();
    let serve = Setup::new(server, &FLAGS).start();
    serve.wait_until_served();
    let web = serve.web();
    let mut quiet = kept(web);
    let mut busy = Connection::open(web).expect("a connection");
    busy.send(b"GET /held HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("sent");
    let stream = requests.recv_timeout(PATIENCE).expect("a request");
    terminate(&serve);
    answer(stream, "200 OK", "s");
    for answer in [busy.read(false).expect("an answer"), quiet.get("a.test", "/").expect("an answer")] {
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    // And so it is.
    for mut connection in [busy, quiet] {
        assert!(connection.get("a.test", "/").is_err());
    }
    serve.signal("-TERM");
    assert_eq!(serve.wait().0.code(), Some(0));
}
