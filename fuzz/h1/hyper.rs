//! The codec against hyper's server and client, which get the same bytes over a connection in memory.

use super::{decode, evil};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use rust_lb::http::h1::{self, Framing, Limits, Line, Parsed};
use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What hyper, as it is set up below, takes at least.
const LIMITS: Limits = Limits { head_bytes: 16 * 1024, lines: 200 };
const TRAILER_BYTES: usize = 2 * 1024;

/// The first byte says whether the rest is a request or an answer, whether it is taken as it stands or turned into an evil
/// one, and what was asked.
pub fn differential(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 4 {
        0 => _ = same_requests(rest),
        1 => _ = same_requests(&evil::requests(rest)),
        2 => _ = same_answer(rest, kind / 4),
        _ => _ = same_answer(&evil::answers(rest), kind / 4),
    }
}

/// Names in lower case, sorted, and values; those of one name in their order, equal lengths once.
type Fields = Vec<(String, Vec<u8>)>;

/// A message, by either side.
#[derive(Debug, PartialEq)]
struct Message {
    /// Method and target, or the status.
    start: String,
    fields: Fields,
    body: Vec<u8>,
    trailers: Fields,
}

/// What the codec makes of a client's bytes, hyper's server must make of them too. Gives how many requests it found.
pub fn same_requests(sent: &[u8]) -> usize {
    let ours = our_requests(sent);
    if ours.is_empty() {
        return 0;
    }
    let theirs = hyper_requests(sent);
    for (index, message) in ours.iter().enumerate() {
        assert_eq!(theirs.get(index), Some(message), "request {index} of {:?}", String::from_utf8_lossy(sent));
    }
    ours.len()
}

/// What the codec makes of a server's bytes, hyper's client must make of them too. Gives whether it took them.
pub fn same_answer(sent: &[u8], asked: u8) -> bool {
    let method = match asked % 4 {
        0 => Method::HEAD,
        1 => Method::CONNECT,
        _ => Method::GET,
    };
    let Some(ours) = our_answer(sent, &method) else { return false };
    assert_eq!(hyper_answer(sent, method), Some(ours), "the answer {:?}", String::from_utf8_lossy(sent));
    true
}

fn fields(buffer: &[u8], lines: &[Line]) -> Fields {
    let mut fields: Fields = Vec::new();
    for line in lines {
        let name = String::from_utf8_lossy(line.name(buffer)).to_lowercase();
        // hyper's server keeps one of them
        if name == "content-length" && fields.iter().any(|(before, _)| *before == name) {
            continue;
        }
        fields.push((name, line.value(buffer).to_vec()));
    }
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}

fn hyper_fields(headers: &HeaderMap) -> Fields {
    let mut fields: Fields = Vec::new();
    for (name, value) in headers {
        if name == "content-length" && fields.iter().any(|(before, _)| before == name.as_str()) {
            continue;
        }
        fields.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
    }
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}

/// The body that begins `rest`, its trailers, and its length in `rest`.
fn our_body(rest: &[u8], framing: Framing) -> Option<(Vec<u8>, Fields, usize)> {
    match framing {
        Framing::None => Some((Vec::new(), Vec::new(), 0)),
        Framing::Length(length) => {
            let length = usize::try_from(length).ok()?;
            Some((rest.get(..length)?.to_vec(), Vec::new(), length))
        }
        Framing::UntilClose => Some((rest.to_vec(), Vec::new(), rest.len())),
        Framing::Chunked => {
            let decoded = decode(rest, usize::MAX, TRAILER_BYTES);
            let end = decoded.end?;
            let mut lines = Vec::new();
            let section = [b"GET / HTTP/1.1\r\n", &decoded.trailers[..], b"\r\n"].concat();
            h1::parse_request(&section, &LIMITS, &mut lines).ok()?;
            Some((decoded.data, fields(&section, &lines), end))
        }
    }
}

/// All requests that the codec finds, one behind the other.
fn our_requests(sent: &[u8]) -> Vec<Message> {
    let (mut rest, mut lines, mut found) = (sent, Vec::new(), Vec::new());
    while let Ok(Parsed::Complete { line, length }) = h1::parse_request(rest, &LIMITS, &mut lines) {
        let Ok(framing) = h1::request_framing(rest, &lines, &line) else { break };
        let Some((body, trailers, end)) = our_body(&rest[length..], framing.body) else { break };
        let method = String::from_utf8_lossy(&rest[line.method.clone()]);
        // hyper can hand out no other targets
        let Ok(target) = Uri::try_from(&rest[line.target.clone()]) else { break };
        let fields = fields(rest, &lines);
        // hyper does not read what a `Connection` line says that has other bytes than ASCII's
        let is_readable = fields.iter().all(|(name, value)| name != "connection" || value.is_ascii());
        let ends = !framing.keep_alive || method == "CONNECT" || !is_readable;
        found.push(Message { start: format!("{method} {target}"), fields, body, trailers });
        if ends {
            break;
        }
        rest = &rest[length + end..];
    }
    found
}

/// The answer that the codec finds behind interim ones.
fn our_answer(sent: &[u8], method: &Method) -> Option<Message> {
    let (mut rest, mut lines) = (sent, Vec::new());
    loop {
        let Ok(Parsed::Complete { line, length }) = h1::parse_answer(rest, &LIMITS, &mut lines) else { return None };
        let (head, connect) = (method == Method::HEAD, method == Method::CONNECT);
        let framing = h1::answer_framing(rest, &lines, &line, head, false, connect).ok()?;
        if line.status < 200 {
            assert_eq!(framing.body, Framing::None);
            rest = &rest[length..];
            continue;
        }
        let (body, trailers, _) = our_body(&rest[length..], framing.body)?;
        return Some(Message { start: line.status.to_string(), fields: fields(rest, &lines), body, trailers });
    }
}

/// A connection whose other side has sent everything already and closed; nothing is read before something was
/// written if it is an answer.
struct Memory {
    input: Vec<u8>,
    at: usize,
    open: bool,
}

impl Read for Memory {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut out: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.open {
            return Poll::Pending;
        }
        let end = self.input.len().min(self.at + out.remaining());
        out.put_slice(&self.input[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

impl Write for Memory {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.open = true;
        Poll::Ready(Ok(data.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Polls of a future that waits for nothing outside.
const POLLS: usize = 20_000;

/// The requests, with complete bodies, that hyper's server hands out.
fn hyper_requests(sent: &[u8]) -> Vec<Message> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                seen.borrow_mut().push(Message {
                    start: format!("{} {}", head.method, head.uri),
                    fields: hyper_fields(&head.headers),
                    trailers: body.trailers().map(hyper_fields).unwrap_or_default(),
                    body: body.to_bytes().to_vec(),
                });
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let io = Memory { input: sent.to_vec(), at: 0, open: true };
    let mut server = hyper::server::conn::http1::Builder::new();
    server.max_headers(LIMITS.lines + 1).header_read_timeout(None).half_close(true);
    {
        let mut connection = pin!(server.serve_connection(io, service));
        let mut context = Context::from_waker(Waker::noop());
        let ended = (0..POLLS).any(|_| connection.as_mut().poll(&mut context).is_ready());
        assert!(ended, "hyper comes to an end");
    }
    seen.take()
}

/// The answer, with its complete body, that hyper's client hands out.
fn hyper_answer(sent: &[u8], method: Method) -> Option<Message> {
    let io = Memory { input: sent.to_vec(), at: 0, open: false };
    let mut client = hyper::client::conn::http1::Builder::new();
    client.max_headers(LIMITS.lines + 1);
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok((mut sender, connection))) = pin!(client.handshake(io)).poll(&mut context) else {
        panic!("hyper is ready at once");
    };
    let target = if method == Method::CONNECT { "h.test:443" } else { "/" };
    let request = Request::builder().method(method).uri(target).header("host", "h.test").body(Empty::<Bytes>::new());
    let mut connection = pin!(connection);
    let mut answer = pin!(async {
        let (head, body) = sender.send_request(request.expect("a request")).await.ok()?.into_parts();
        let fields = hyper_fields(&head.headers);
        let body = body.collect().await.ok()?;
        Some(Message {
            start: head.status.as_str().to_owned(),
            fields,
            trailers: body.trailers().map(hyper_fields).unwrap_or_default(),
            body: body.to_bytes().to_vec(),
        })
    });
    let mut open = true;
    for _ in 0..POLLS {
        if let Poll::Ready(message) = answer.as_mut().poll(&mut context) {
            return message;
        }
        open = open && connection.as_mut().poll(&mut context).is_pending();
    }
    panic!("hyper comes to an end");
}
