//! Properties of the HTTP/1.1 codec. A head is taken or refused as a naive reading of RFC 9112's grammar says; how the
//! input is cut changes nothing; and what the codec takes, hyper's parsers take with the same meaning.
//!
//! [`evil_requests`] and [`evil_answers`] turn arbitrary bytes into messages that are nearly right: framing said twice or
//! oddly, bare LF, folding, strange chunk sizes, a second request where a body may be.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use rust_lb::http::h1::{self, Chunked, Fault, Framing, Limits, Line, Parsed, What};
use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What hyper, as it is set up below, takes at least.
const LIMITS: Limits = Limits { head_bytes: 16 * 1024, lines: 200 };
const TRAILER_BYTES: usize = 2 * 1024;

// --- heads and chunks by themselves

/// A request: the first byte says how the body is cut, the rest is what a client sent.
pub fn requests(input: &[u8]) {
    let Some((cut, sent)) = input.split_first() else { return };
    let limits = Limits { head_bytes: 4096, lines: 70 };
    let mut lines = Vec::new();
    let parsed = h1::parse_request(sent, &limits, &mut lines);
    let begin = if sent.starts_with(b"\r\n") { 2 } else { 0 };
    check_head(sent, begin, &parsed, &limits, &lines, is_request_line);
    let Ok(Parsed::Complete { line, length }) = parsed else { return };
    let text = |range: &std::ops::Range<usize>| &sent[range.clone()];
    let start = [text(&line.method), b" ", text(&line.target), b" HTTP/1.", &[b'0' + line.minor], b"\r\n"].concat();
    assert_eq!(&sent[begin..begin + start.len()], start, "the start line is what was sent");
    partial_until(sent, length, |part| h1::parse_request(part, &limits, &mut Vec::new()).map(|p| p == Parsed::Partial));
    for name in h1::connection_names(sent, &lines) {
        assert!(!name.is_empty() && name.trim_ascii() == name);
    }
    if let Ok(framing) = h1::request_framing(sent, &lines, &line) {
        assert_ne!(framing.body, Framing::UntilClose);
        if framing.body == Framing::Chunked {
            chunks(&sent[length..], *cut);
        }
    }
}

/// An answer, as [`requests`] has it; the bits of the first byte also say what was asked.
pub fn answers(input: &[u8]) {
    let Some((cut, sent)) = input.split_first() else { return };
    let limits = Limits { head_bytes: 4096, lines: 70 };
    let mut lines = Vec::new();
    let parsed = h1::parse_answer(sent, &limits, &mut lines);
    check_head(sent, 0, &parsed, &limits, &lines, is_status_line);
    let Ok(Parsed::Complete { line, length }) = parsed else { return };
    assert_eq!(&sent[line.reason.end..line.reason.end + 2], b"\r\n");
    assert_eq!(line.status.to_string().as_bytes(), &sent[9..12]);
    assert!((100..=999).contains(&line.status) && line.reason.start >= 12);
    partial_until(sent, length, |part| h1::parse_answer(part, &limits, &mut Vec::new()).map(|p| p == Parsed::Partial));
    let (head, upgrade, connect) = (cut & 1 != 0, cut & 2 != 0, cut & 4 != 0);
    if let Ok(framing) = h1::answer_framing(sent, &lines, &line, head, upgrade, connect) {
        if matches!(line.status, 100..=199 | 204 | 304) || head {
            assert_eq!(framing.body, Framing::None);
        }
        assert!(!(framing.body == Framing::UntilClose && framing.keep_alive));
        if framing.body == Framing::Chunked {
            chunks(&sent[length..], *cut);
        }
    }
}

/// Compares with the grammar, read naively, and looks at the lines' places.
fn check_head<T>(
    sent: &[u8],
    begin: usize,
    parsed: &Result<Parsed<T>, Fault>,
    limits: &Limits,
    lines: &[Line],
    is_start: fn(&[u8]) -> bool,
) {
    let expected =
        naive(sent.get(begin..).unwrap_or_default(), is_start).map(|(length, lines)| (length + begin, lines));
    match (parsed, expected) {
        (Ok(Parsed::Complete { length, .. }), Some((expected, count))) => {
            assert_eq!((*length, lines.len()), (expected, count));
            assert!(*length <= limits.head_bytes && count <= limits.lines);
        }
        (Ok(Parsed::Complete { .. }), None) => panic!("what the grammar does not allow was taken"),
        (Ok(Parsed::Partial) | Err(_), None) => return,
        (Err(Fault::TooLarge), Some((length, _))) if length > limits.head_bytes => return,
        (Err(Fault::TooManyLines), Some((_, count))) if count > limits.lines => return,
        (Ok(Parsed::Partial), Some(_)) => panic!("a head that is there was not seen"),
        (Err(fault), Some(_)) => panic!("what the grammar allows was refused: {fault}"),
    }
    let Ok(Parsed::Complete { length, .. }) = parsed else { return };
    let mut end = lines.first().map_or(*length - 2, |line| line.start as usize);
    assert!(sent[begin..end].ends_with(b"\r\n"));
    for line in lines {
        assert_eq!(line.start as usize, end, "lines follow one another");
        end = line.end as usize;
        let whole = line.whole(sent);
        let (name, value) = (line.name(sent), line.value(sent));
        assert!(whole.starts_with(name) && whole[name.len()] == b':' && whole.ends_with(b"\r\n"));
        assert_eq!(trim(&whole[name.len() + 1..whole.len() - 2]), value);
        assert!(line.value as usize >= line.start as usize && (line.value + line.value_len + 2) as usize <= end);
    }
    assert_eq!(end + 2, *length);
}

/// The length of a head and the number of its lines, if the grammar allows it.
fn naive(sent: &[u8], is_start: fn(&[u8]) -> bool) -> Option<(usize, usize)> {
    let end = sent.windows(4).position(|window| window == b"\r\n\r\n")?;
    let mut rest = &sent[..end + 2];
    let mut count = 0;
    while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
        let line = &rest[..at];
        let is_right = if count == 0 { is_start(line) } else { is_field(line) };
        if !is_right {
            return None;
        }
        count += 1;
        rest = &rest[at + 2..];
    }
    Some((end + 4, count - 1))
}

fn is_request_line(line: &[u8]) -> bool {
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else { return false };
    is_token(method)
        && !target.is_empty()
        && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
        && std::str::from_utf8(target).is_ok()
        && (version == b"HTTP/1.0" || version == b"HTTP/1.1")
}

fn is_status_line(line: &[u8]) -> bool {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (version, status, reason) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    matches!(version, Some(b"HTTP/1.0" | b"HTTP/1.1"))
        && status.len() == 3
        && status.iter().all(u8::is_ascii_digit)
        && status[0] != b'0'
        && reason.iter().all(|byte| is_text(*byte))
}

fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    is_token(&line[..colon]) && line[colon + 1..].iter().all(|byte| is_text(*byte))
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte))
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

fn trim(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |at| at + 1);
    &value[start..end]
}

/// A head that is taken is partial up to its last byte, and `may_end` never says no to its end.
fn partial_until(sent: &[u8], length: usize, is_partial: impl Fn(&[u8]) -> Result<bool, Fault>) {
    let step = 1 + length / 256;
    for end in (0..length).step_by(step).chain([length - 1]) {
        assert_eq!(is_partial(&sent[..end]), Ok(true), "cut at {end}");
        assert!(h1::may_end(&sent[..length], end), "from {end} on");
        assert!(h1::may_end(sent, end), "from {end} on");
    }
}

/// What a chunked body came to.
#[derive(Debug, Default, PartialEq)]
struct Decoded {
    data: Vec<u8>,
    trailers: Vec<u8>,
    /// Where it ended, if it did.
    end: Option<usize>,
    fault: Option<Fault>,
}

/// Decodes input that comes in parts of `size` bytes.
fn decode(input: &[u8], size: usize, limit: usize) -> Decoded {
    let mut decoder = Chunked::new(limit);
    let mut decoded = Decoded::default();
    let mut read = 0;
    for part in input.chunks(size.max(1)) {
        let mut rest = part;
        loop {
            let piece = match decoder.next(rest) {
                Ok(piece) => piece,
                Err(fault) => {
                    decoded.fault = Some(fault);
                    return decoded;
                }
            };
            assert!(piece.consumed <= rest.len());
            read += piece.consumed;
            match piece.what {
                What::Data(range) => {
                    assert!(!range.is_empty() && range.end == piece.consumed);
                    decoded.data.extend_from_slice(&rest[range]);
                    rest = &rest[piece.consumed..];
                }
                What::More => {
                    assert_eq!(piece.consumed, rest.len());
                    break;
                }
                What::End => {
                    let again = decoder.next(&rest[piece.consumed..]);
                    assert_eq!(again.map(|piece| (piece.consumed, piece.what)), Ok((0, What::End)));
                    decoded.trailers = decoder.trailers().to_vec();
                    decoded.end = Some(read);
                    return decoded;
                }
            }
        }
    }
    decoded
}

/// However a chunked body is cut, it is the same; its trailers are field lines; written anew it is read the same.
fn chunks(input: &[u8], cut: u8) {
    let whole = decode(input, usize::MAX, 64);
    assert_eq!(decode(input, usize::from(cut % 13) + 1, 64), whole);
    assert!(whole.trailers.len() <= 64 && whole.data.len() <= input.len());
    let Some(end) = whole.end else { return };
    assert_eq!(decode(&input[..end], 1, 64), whole, "what stands behind the end does not matter");
    let section = [b"GET / HTTP/1.1\r\n", &whole.trailers[..], b"\r\n"].concat();
    assert!(naive(&section, is_request_line).is_some_and(|(length, _)| length == section.len()));
    let mut again = Vec::new();
    for data in whole.data.chunks(usize::from(cut) + 1) {
        again.extend_from_slice(h1::chunk_head(data.len(), &mut [0; 18]));
        again.extend_from_slice(data);
        again.extend_from_slice(b"\r\n");
    }
    again.extend_from_slice(h1::chunk_head(0, &mut [0; 18]));
    again.extend_from_slice(&whole.trailers);
    again.extend_from_slice(b"\r\n");
    let read = decode(&again, usize::MAX, 64);
    assert_eq!((read.data, read.trailers, read.end), (whole.data, whole.trailers, Some(again.len())));
}

// --- against hyper

/// The first byte says whether the rest is a request or an answer, whether it is taken as it stands or turned into an evil
/// one, and what was asked.
pub fn differential(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 4 {
        0 => same_requests(rest),
        1 => same_requests(&evil_requests(rest)),
        2 => same_answer(rest, kind / 4),
        _ => same_answer(&evil_answers(rest), kind / 4),
    }
}

/// A message, by either side.
#[derive(Debug, PartialEq)]
struct Message {
    /// Method and target, or the status.
    start: String,
    /// Names in lower case, sorted; the values of one name in their order; equal lengths once.
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

/// What the codec makes of a client's bytes, hyper's server must make of them too.
pub fn same_requests(sent: &[u8]) {
    let ours = our_requests(sent);
    if ours.is_empty() {
        return;
    }
    let theirs = hyper_requests(sent);
    for (index, message) in ours.iter().enumerate() {
        assert_eq!(theirs.get(index), Some(message), "request {index} of {:?}", String::from_utf8_lossy(sent));
    }
}

/// What the codec makes of a server's bytes, hyper's client must make of them too.
pub fn same_answer(sent: &[u8], asked: u8) {
    let method = match asked % 4 {
        0 => Method::HEAD,
        1 => Method::CONNECT,
        _ => Method::GET,
    };
    let Some(ours) = our_answer(sent, &method) else { return };
    assert_eq!(hyper_answer(sent, method), Some(ours), "the answer {:?}", String::from_utf8_lossy(sent));
}

fn fields(buffer: &[u8], lines: &[Line]) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
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

fn hyper_fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
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
fn our_body(rest: &[u8], framing: Framing) -> Option<(Vec<u8>, Vec<(String, Vec<u8>)>, usize)> {
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

// --- evil messages

/// Decisions out of bytes; all of them fall on the usual once there are no more.
struct Dice<'a>(&'a [u8]);

impl Dice<'_> {
    fn roll(&mut self, sides: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }

    /// The first of them mostly.
    fn mostly<T: Copy>(&mut self, from: &[T]) -> T {
        if self.roll(6) == 5 { self.pick(from) } else { from[0] }
    }
}

const ENDS: [&str; 7] = ["\r\n", "\n", "\r", "\r\r\n", "\n\r\n", " \r\n", "\0\r\n"];
const COLONS: [&str; 7] = [": ", ":", ":\t", " : ", "\t:", ":\r\n ", ": \u{b}"];
const LENGTHS: [&str; 18] = [
    "5",
    "0",
    "05",
    "+5",
    "-5",
    "5, 5",
    "5,6",
    "0x5",
    "5 ",
    " 5",
    "",
    "5;",
    "5.0",
    "5\t",
    "18446744073709551621",
    "9223372036854775808",
    "5 5",
    "a",
];
const CODINGS: [&str; 15] = [
    "chunked",
    "Chunked",
    "chunked, chunked",
    "identity",
    "gzip, chunked",
    "chunked, gzip",
    "xchunked",
    "chunked;q=1",
    "\"chunked\"",
    ",chunked",
    "chunked,",
    "chunked\u{b}",
    "chun ked",
    "",
    "identity, chunked",
];
const NAMES: [&str; 21] = [
    "Content-Length",
    "Transfer-Encoding",
    "content-length",
    "TRANSFER-ENCODING",
    "Host",
    "X-A",
    "Connection",
    "Expect",
    "Upgrade",
    "Trailer",
    "TE",
    "Transfer_Encoding",
    " Transfer-Encoding",
    "X-A\r\n Transfer-Encoding",
    "Content Length",
    "",
    "Transfer-Encoding\0",
    "\u{ff}-A",
    "Content-Length\r",
    "Keep-Alive",
    "Authorization",
];
const VALUES: [&str; 14] = [
    "h.test",
    "close",
    "keep-alive",
    "close, keep-alive",
    "Upgrade",
    "100-continue",
    "websocket",
    "caf\u{e9}",
    "a\0b",
    "a\rb",
    "a\u{7f}",
    "Content-Length",
    "Transfer-Encoding, close",
    "X-A",
];
const SIZES: [&str; 19] = [
    "5",
    "05",
    "0000000000000005",
    "00000000000000005",
    "5;a=b",
    "5;a=\"b\"",
    "5;a\nb",
    "5 ",
    " 5",
    "+5",
    "0x5",
    "5 ;a",
    "-5",
    "5h",
    "",
    "ffffffffffffffff",
    "10000000000000005",
    "5;\r",
    "5\t",
];
const TRAILERS: [&str; 9] = [
    "X-Sum: 1\r\n",
    "",
    "Content-Length: 5\r\n",
    "X-Sum : 1\r\n",
    "X-Sum: 1\n",
    "x",
    "Transfer-Encoding: chunked\r\n",
    "X-Sum: 1\r\n 2\r\n",
    "X-Sum: \0\r\n",
];
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h.test\r\n\r\n";

fn field(dice: &mut Dice<'_>, out: &mut String) {
    let name = match dice.roll(4) {
        0 => "Content-Length",
        1 => "Transfer-Encoding",
        _ => dice.pick(&NAMES),
    };
    let value = match name.to_ascii_lowercase().as_str() {
        "content-length" => dice.mostly(&LENGTHS),
        "transfer-encoding" => dice.mostly(&CODINGS),
        _ => dice.pick(&VALUES),
    };
    for part in [name, dice.mostly(&COLONS), value, dice.mostly(&ENDS)] {
        out.push_str(part);
    }
}

fn body(dice: &mut Dice<'_>, out: &mut String) {
    match dice.roll(5) {
        0 => {}
        1 => out.push_str("hello"),
        2 => out.push_str(SMUGGLED),
        3 => {
            out.push_str("0");
            out.push_str(dice.mostly(&ENDS));
            out.push_str(dice.mostly(&["\r\n", "", "\n"]));
            out.push_str(SMUGGLED);
        }
        _ => {
            for _ in 0..=dice.roll(3) {
                for part in [
                    dice.mostly(&SIZES),
                    dice.mostly(&ENDS),
                    dice.mostly(&["hello", "hell", "hello!"]),
                    dice.mostly(&ENDS),
                ] {
                    out.push_str(part);
                }
            }
            out.push_str(dice.mostly(&["0", "00", "0;a", "-0", "0 "]));
            for part in [dice.mostly(&ENDS), dice.pick(&TRAILERS), dice.mostly(&ENDS)] {
                out.push_str(part);
            }
        }
    }
}

/// One to three requests on one connection, each nearly right.
pub fn evil_requests(bytes: &[u8]) -> Vec<u8> {
    let (dice, mut out) = (&mut Dice(bytes), String::new());
    for _ in 0..=dice.roll(3) {
        out.push_str(dice.mostly(&["", "\r\n", "\n", "\r\n\r\n", " "]));
        out.push_str(dice.mostly(&["POST", "GET", "HEAD", "CONNECT", "PO ST", "G\0T", "get"]));
        out.push_str(dice.mostly(&[" ", "  ", "\t", " \r\n "]));
        out.push_str(dice.mostly(&[
            "/",
            "/a?b#c",
            "*",
            "http://h.test/",
            "h.test:443",
            "/a b",
            "/caf\u{e9}",
            "/\u{7f}",
            "foo",
        ]));
        out.push_str(dice.mostly(&[" ", "  ", "\t", ""]));
        out.push_str(dice.mostly(&["HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "http/1.1", "HTTP/2.0", "HTTP/1.1 ", ""]));
        out.push_str(dice.mostly(&ENDS));
        out.push_str(dice.mostly(&["Host: h.test\r\n", "", "Host: h.test\r\nHost: b.test\r\n", " Host: h.test\r\n"]));
        for _ in 0..dice.roll(5) {
            field(dice, &mut out);
        }
        out.push_str(dice.mostly(&ENDS));
        body(dice, &mut out);
    }
    latin(&out)
}

/// An answer that is nearly right, perhaps behind an interim one.
pub fn evil_answers(bytes: &[u8]) -> Vec<u8> {
    let (dice, mut out) = (&mut Dice(bytes), String::new());
    for _ in 0..=dice.roll(2) {
        out.push_str(dice.mostly(&["HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "\r\nHTTP/1.1", "ICY"]));
        out.push_str(dice.mostly(&[" ", "  ", "\t"]));
        out.push_str(
            dice.mostly(&["200", "100", "101", "103", "204", "304", "199", "404", "099", "20", "2000", "999"]),
        );
        out.push_str(dice.mostly(&[" OK", "", " ", " caf\u{e9}", " \0", " a\rb"]));
        out.push_str(dice.mostly(&ENDS));
        for _ in 0..dice.roll(5) {
            field(dice, &mut out);
        }
        out.push_str(dice.mostly(&ENDS));
        body(dice, &mut out);
    }
    latin(&out)
}

/// One byte for each character.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?')).collect()
}
