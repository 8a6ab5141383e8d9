//! The gRPC health checking protocol, against a server made of hyper.

use super::{Rig, over};
use crate::support::eventually;
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// What the server says: the message's status, or a status of gRPC's alone.
#[derive(Clone, Copy)]
enum Says {
    Serving(u8),
    Fails(u8),
}

struct Server {
    addr: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(says: Says) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let addr = listener.local_addr().expect("bound");
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::new(Mutex::new(Vec::new())));
        let (told, heard) = (says.clone(), asked.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (told, heard) = (told.clone(), heard.clone());
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (says, heard) = (*told.lock().expect("no panic"), heard.clone());
                    async move {
                        let field = |name: &str| {
                            request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
                        };
                        let head = format!(
                            "{} {} {} {} {}",
                            request.method(),
                            request.uri(),
                            field("content-type"),
                            field("te"),
                            field("x-probe")
                        );
                        let body = request.into_body().collect().await.map(|body| body.to_bytes());
                        heard.lock().expect("no panic").push(format!("{head} {:?}", body.ok().as_deref()));
                        Ok::<_, Infallible>(answer(says))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { addr, says, asked, _runtime: runtime }
    }

    fn say(&self, says: Says) {
        *self.says.lock().expect("no panic") = says;
    }
}

type Body = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn answer(says: Says) -> Response<Body> {
    let mut response = Response::builder().header("content-type", "application/grpc");
    let mut frames = Vec::new();
    match says {
        Says::Fails(code) => response = response.header("grpc-status", code.to_string()),
        Says::Serving(status) => {
            frames.push(Ok(Frame::data(Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]))));
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().expect("a value"));
            frames.push(Ok(Frame::trailers(trailers)));
        }
    }
    response.body(StreamBody::new(futures_util::stream::iter(frames))).expect("a response")
}

#[test]
fn grpc_servers_say_whether_they_serve() {
    let server = Server::start(Says::Serving(1));
    let rig = Rig::start(&[]);
    let check = json!({"healthCheck": {"mode": "grpc", "interval": "20ms", "headers": {"X-Probe": "yes"}}});
    rig.put_and_see(&[("web", over(&[server.addr], check))]);
    rig.wait("web", server.addr, "UP");
    let asked = server.asked.lock().expect("no panic")[0].clone();
    let uri = format!("http://{}/grpc.health.v1.Health/Check", server.addr);
    assert_eq!(asked, format!("POST {uri} application/grpc trailers yes Some([0, 0, 0, 0, 0])"));
    for (says, why) in [
        (Says::Serving(2), "the gRPC server says NOT_SERVING"),
        (Says::Serving(3), "the gRPC server says SERVICE_UNKNOWN"),
        (Says::Fails(12), "the gRPC server does not implement the health protocol"),
        (Says::Fails(14), "gRPC status 14"),
    ] {
        server.say(says);
        rig.wait("web", server.addr, "DOWN");
        eventually(why, || (rig.why("web", server.addr) == format!("its health check fails: {why}")).then_some(()));
    }
    server.say(Says::Serving(1));
    rig.wait("web", server.addr, "UP");
}
