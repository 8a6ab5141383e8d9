//! HTTP/2 frame by frame: what a client that follows no rule sends, and what becomes of it. Each case
//! runs over the plain entry point with prior knowledge; the server behind counts whole requests.

use super::rig::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection on which any frame can be sent.
struct Raw(TcpStream);

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Status(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
}

impl Raw {
    fn connect(rig: &Rig) -> Self {
        let mut stream = TcpStream::connect(rig.address).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
        stream.set_write_timeout(Some(LIMIT)).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("sent");
        let mut raw = Self(stream);
        raw.send(SETTINGS, 0, 0, &[]);
        raw
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.write_all(&frame(kind, flags, stream, payload)).expect("sent");
    }

    /// The next frame; `None` at the end of the connection.
    fn read(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        if let Err(error) = self.0.read_exact(&mut head) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "nothing came for {LIMIT:?}");
            return None;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// Reads until stream 1 or the connection ends.
    fn end(&mut self) -> End {
        let mut status = None;
        while let Some((kind, flags, stream, payload)) = self.read() {
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
            match kind {
                RST_STREAM if stream == 1 => return status.map_or(End::Reset(code(0)), End::Status),
                GOAWAY if code(4) != 0 => return End::GoAway(code(4)),
                HEADERS if stream == 1 => {
                    status = status.or_else(|| Some(status_of(&payload)));
                    if flags & END_STREAM != 0 {
                        return End::Status(status.expect("a status"));
                    }
                }
                DATA if stream == 1 && flags & END_STREAM != 0 => {
                    return End::Status(status.expect("a head comes first"));
                }
                SETTINGS if flags == 0 => self.send(SETTINGS, 1, 0, &[]),
                _ => {}
            }
        }
        End::Closed
    }

    /// Waits until all that was sent has been read.
    fn sync(&mut self) {
        self.send(PING, 0, 0, b"12345678");
        loop {
            match self.read().expect("the connection stays") {
                (PING, 1, _, payload) if payload == b"12345678" => return,
                _ => {}
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A status of the static table (RFC 7541, A), as the proxy's encoder writes these.
fn status_of(block: &[u8]) -> u16 {
    // A change of the dynamic table's size may stand before it.
    match block.iter().find(|byte| **byte & 0xe0 != 0x20) {
        Some(0x88) => 200,
        Some(0x8c) => 400,
        Some(0x8d) => 404,
        Some(_) => {
            let text = String::from_utf8_lossy(block);
            panic!("another status: {text:?}")
        }
        None => panic!("no status"),
    }
}

/// Fields as literals that enter no table and are not compressed (RFC 7541, 6.2.2).
fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value] {
            integer(&mut block, text.len());
            block.extend(text);
        }
    }
    block
}

/// With a prefix of seven bits (RFC 7541, 5.1).
fn integer(block: &mut Vec<u8>, number: usize) {
    if number < 127 {
        return block.push(number as u8);
    }
    block.push(127);
    let mut rest = number - 127;
    while rest >= 128 {
        block.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    block.push(rest as u8);
}

type Fields<'a> = Vec<(&'a str, &'a [u8])>;

/// A request's pseudo-fields, with one of them changed or (without a value) left out.
fn get<'a>(change: &'a str, value: Option<&'a [u8]>, more: &[(&'a str, &'a [u8])]) -> Fields<'a> {
    let usual: [(&str, &[u8]); 4] =
        [(":method", b"POST"), (":scheme", b"http"), (":authority", b"h.test"), (":path", b"/")];
    let mut fields: Fields<'_> = Vec::new();
    for (name, usual) in usual {
        match value {
            _ if name != change => fields.push((name, usual)),
            Some(value) => fields.push((name, value)),
            None => {}
        }
    }
    fields.extend(more);
    fields
}

/// A proxy before a server that counts the requests that came as a whole.
fn counted() -> (Rig, Arc<AtomicUsize>) {
    let whole = Arc::new(AtomicUsize::new(0));
    let count = whole.clone();
    let server = Server::answering(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        ok("answer")
    });
    (Rig::start(&[Route::to("h.test", &[&server.url()])]), whole)
}

#[test]
fn malformed_heads_reach_no_server() {
    let (rig, whole) = counted();
    let plain = |more: &[(&'static str, &'static [u8])]| get("", None, more);
    let cases: Vec<(&str, Fields<'_>)> = vec![
        ("capitals in a name", plain(&[("X-A", b"1")])),
        ("a blank in a name", plain(&[("x a", b"1")])),
        ("a colon in a name", plain(&[("x:a", b"1")])),
        ("CR LF in a name", plain(&[("x\r\nevil", b"1")])),
        ("NUL in a name", plain(&[("x\0a", b"1")])),
        ("an empty name", plain(&[("", b"1")])),
        ("CR in a value", plain(&[("x-a", b"1\r2")])),
        ("LF in a value", plain(&[("x-a", b"1\n2")])),
        ("CR LF in a value", plain(&[("x-a", b"1\r\nTransfer-Encoding: chunked")])),
        ("NUL in a value", plain(&[("x-a", b"1\x002")])),
        ("a blank before a value", plain(&[("x-a", b" 1")])),
        ("a blank after a value", plain(&[("x-a", b"1 ")])),
        ("a tab after a value", plain(&[("x-a", b"1\t")])),
        ("a blank in :path", get(":path", Some(b"/a b"), &[])),
        ("CR LF in :path", get(":path", Some(b"/ HTTP/1.1\r\nX: y"), &[])),
        ("NUL in :path", get(":path", Some(b"/\0"), &[])),
        ("an empty :path", get(":path", Some(b""), &[])),
        ("no :path", get(":path", None, &[])),
        ("a :path without a slash", get(":path", Some(b"a"), &[])),
        ("a star for POST", get(":path", Some(b"*"), &[])),
        ("a URL as :path", get(":path", Some(b"http://other.test/"), &[])),
        ("a blank in :method", get(":method", Some(b"GE T"), &[])),
        ("CR LF in :method", get(":method", Some(b"GET / HTTP/1.1\r\nX: y\r\n"), &[])),
        ("an empty :method", get(":method", Some(b""), &[])),
        ("no :method", get(":method", None, &[])),
        ("no :scheme", get(":scheme", None, &[])),
        ("a :scheme that is none", get(":scheme", Some(b"ht tp"), &[])),
        ("another :scheme", get(":scheme", Some(b"ftp"), &[])),
        ("no host at all", get(":authority", None, &[])),
        ("an empty host", get(":authority", None, &[("host", b"")])),
        ("an empty :authority", get(":authority", Some(b""), &[("host", b"h.test")])),
        ("two hosts", get(":authority", None, &[("host", b"h.test"), ("host", b"h.test")])),
        ("another host", plain(&[("host", b"other.test")])),
        ("a user name", get(":authority", Some(b"u@h.test"), &[])),
        ("a blank in :authority", get(":authority", Some(b"h.test x"), &[])),
        ("CR LF in :authority", get(":authority", Some(b"h.test\r\nX: y"), &[])),
        ("a slash in :authority", get(":authority", Some(b"h.test/x"), &[])),
        ("connection", plain(&[("connection", b"close")])),
        ("transfer-encoding", plain(&[("transfer-encoding", b"chunked")])),
        ("upgrade", plain(&[("upgrade", b"websocket")])),
        ("keep-alive", plain(&[("keep-alive", b"1")])),
        ("proxy-connection", plain(&[("proxy-connection", b"close")])),
        ("te", plain(&[("te", b"gzip")])),
        ("te with more", plain(&[("te", b"trailers, gzip")])),
        ("a length with a sign", plain(&[("content-length", b"+0")])),
        ("a length twice", plain(&[("content-length", b"0"), ("content-length", b"1")])),
        ("a list of lengths", plain(&[("content-length", b"0, 0")])),
        ("an empty length", plain(&[("content-length", b"")])),
        ("a length without a body", plain(&[("content-length", b"5")])),
        ("a late pseudo-field", plain(&[("x-a", b"1"), (":path", b"/x")])),
        ("a repeated pseudo-field", plain(&[(":path", b"/x")])),
        ("an unknown pseudo-field", plain(&[(":evil", b"1")])),
        ("the answer's pseudo-field", plain(&[(":status", b"200")])),
        (":protocol without CONNECT", plain(&[(":protocol", b"websocket")])),
        ("CONNECT", get(":method", Some(b"CONNECT"), &[])),
    ];
    for (what, fields) in cases {
        let mut raw = Raw::connect(&rig);
        raw.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields));
        let end = raw.end();
        assert!(!matches!(end, End::Status(200 | 404)), "{what}: {end:?}");
    }
    assert_eq!(whole.load(Ordering::SeqCst), 0, "nothing of it went on");
    // That the test can tell the difference.
    let mut raw = Raw::connect(&rig);
    raw.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&plain(&[("host", b"H.test"), ("te", b"trailers")])));
    assert_eq!(raw.end(), End::Status(200));
    assert_eq!(whole.load(Ordering::SeqCst), 1);
}

#[test]
fn a_body_that_breaks_off_is_never_passed_on_as_a_whole_one() {
    let (rig, whole) = counted();
    let reset = |code: u8| vec![frame(RST_STREAM, 0, 1, &[0, 0, 0, code])];
    type Case = (&'static str, Vec<(&'static str, &'static [u8])>, Vec<Vec<u8>>);
    let part = || frame(DATA, 0, 1, b"hello");
    let cases: Vec<Case> = vec![
        ("a reset without an error", vec![], [vec![part()], reset(0)].concat()),
        ("a reset with CANCEL", vec![], [vec![part()], reset(8)].concat()),
        ("a reset before any byte", vec![], reset(0)),
        ("less than said", vec![("content-length", b"9")], vec![part(), frame(DATA, END_STREAM, 1, b"")]),
        ("more than said", vec![("content-length", b"3")], vec![frame(DATA, END_STREAM, 1, b"hello")]),
        ("trailers before its length", vec![("content-length", b"9")], vec![part(), trailers(&[("x-a", b"1")])]),
        ("CR LF in trailers", vec![], vec![part(), trailers(&[("x-a", b"1\r\nX: y")])]),
        ("a framing field in trailers", vec![], vec![part(), trailers(&[("transfer-encoding", b"chunked")])]),
        ("the connection's end", vec![], vec![part()]),
    ];
    for (what, more, frames) in cases {
        // The server has the head before the rest comes.
        let mut raw = Raw::connect(&rig);
        raw.send(HEADERS, END_HEADERS, 1, &block(&get("", None, &more)));
        raw.sync();
        // In one piece, so that whoever waits for DATA looks before it is known that no more will come.
        raw.0.write_all(&frames.concat()).expect("sent");
        if what != "the connection's end" {
            raw.sync_or_end();
        }
        drop(raw);
        let record = rig.record();
        assert_ne!(record.status, 200, "{what}: {record:?}");
    }
    assert_eq!(whole.load(Ordering::SeqCst), 0, "no server took a part for the whole");
}

fn trailers(fields: &[(&str, &[u8])]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields))
}

impl Raw {
    /// As [`Self::sync`], or the connection ended.
    fn sync_or_end(&mut self) {
        if self.0.write_all(&frame(PING, 0, 0, b"12345678")).is_err() {
            return;
        }
        while let Some((kind, flags, ..)) = self.read() {
            if (kind, flags) == (PING, 1) {
                return;
            }
        }
    }

    /// Sends what `more` gives until the proxy ends the connection, and takes nothing meanwhile but what tells so.
    fn flood(&mut self, what: &str, mut more: impl FnMut(u32) -> Vec<u8>) -> End {
        let mut reader = Raw(self.0.try_clone().expect("a second hand"));
        let heard = std::thread::spawn(move || {
            while let Some((kind, _, _, payload)) = reader.read() {
                if kind == GOAWAY && payload[4..8] != [0; 4] {
                    return End::GoAway(u32::from_be_bytes(payload[4..8].try_into().expect("four bytes")));
                }
            }
            End::Closed
        });
        for round in 0..200_000 {
            if heard.is_finished() || self.0.write_all(&more(round)).is_err() {
                return heard.join().expect("no panic");
            }
        }
        panic!("{what}: the proxy took it all");
    }
}

const ENHANCE_YOUR_CALM: u32 = 11;

#[test]
fn floods_end_the_connection() {
    let (rig, whole) = counted();
    let head = block(&get("", None, &[]));
    // Requests that are reset at once.
    let end = Raw::connect(&rig).flood("rapid reset", |round| {
        let stream = round * 2 + 1;
        [frame(HEADERS, END_HEADERS, stream, &head), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    });
    assert!(matches!(end, End::GoAway(ENHANCE_YOUR_CALM) | End::Closed), "{end:?}");
    // A head that never ends.
    let mut raw = Raw::connect(&rig);
    raw.send(HEADERS, 0, 1, &head);
    let end = raw.flood("CONTINUATION", |_| frame(CONTINUATION, 0, 1, &[]));
    assert!(matches!(end, End::GoAway(_) | End::Closed), "{end:?}");
    // One that grows.
    let mut raw = Raw::connect(&rig);
    raw.send(HEADERS, 0, 1, &head);
    let long = block(&[("x-long", &[b'a'; 8_000])]);
    let end = raw.flood("long CONTINUATION", |_| frame(CONTINUATION, 0, 1, &long));
    assert!(matches!(end, End::GoAway(_) | End::Closed), "{end:?}");
    // A small head that unfolds to a huge one: an entry of 4,000 bytes, named again and again.
    let mut raw = Raw::connect(&rig);
    let mut entry = vec![0x40, 1, b'x'];
    integer(&mut entry, 3_900);
    entry.extend([b'a'; 3_900]);
    raw.send(HEADERS, 0, 1, &[head.clone(), entry].concat());
    let end = raw.flood("HPACK bomb", |_| frame(CONTINUATION, 0, 1, &[0x80 | 62; 4_000]));
    assert!(matches!(end, End::GoAway(_) | End::Closed), "{end:?}");
    // DATA without bytes.
    let mut raw = Raw::connect(&rig);
    raw.send(HEADERS, END_HEADERS, 1, &head);
    let end = raw.flood("empty DATA", |_| frame(DATA, 0, 1, &[]));
    assert!(matches!(end, End::GoAway(ENHANCE_YOUR_CALM) | End::Closed), "{end:?}");
    assert_eq!(whole.load(Ordering::SeqCst), 0);
    assert_eq!(rig.get("h.test", "/").status, 200, "others are served as before");
}

#[test]
fn requests_given_up_one_by_one_end_the_connection_too() {
    let server = Server::start(|mut client, _| {
        client.request();
        client.rest();
    });
    let rig = Rig::start(&[Route::to("h.test", &[&server.url()])]);
    let head = block(&get("", None, &[("content-length", b"0")]));
    let mut raw = Raw::connect(&rig);
    let ended = (0..5_000_u32).any(|round| {
        let stream = round * 2 + 1;
        let opened = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
        let ping = frame(PING, 0, 0, b"12345678");
        if raw.0.write_all(&[opened, ping].concat()).is_err() {
            return true;
        }
        // The proxy has begun with it before it is given up.
        while let Some((kind, flags, ..)) = raw.read() {
            if (kind, flags) == (PING, 1) {
                return raw.0.write_all(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])).is_err();
            }
            if kind == GOAWAY {
                return true;
            }
        }
        true
    });
    assert!(ended, "5,000 requests were given up");
}

/// What a client asks for and does not take stays within what its connection may hold: the proxy reads no
/// further until its answers are taken.
#[test]
fn pings_and_settings_that_nobody_takes_the_answers_of_stop_the_reading() {
    let (rig, _) = counted();
    for (kind, payload) in [(PING, &b"12345678"[..]), (SETTINGS, &[0, 4, 0, 1, 0, 0][..])] {
        let raw = Raw::connect(&rig);
        raw.0.set_write_timeout(Some(std::time::Duration::from_secs(1))).expect("a time-out");
        let many = frame(kind, 0, 0, payload).repeat(1_000);
        let mut stream = &raw.0;
        let stuck = (0..20_000).any(|_| stream.write_all(&many).is_err());
        assert!(stuck, "20,000,000 frames were taken");
        assert_eq!(rig.get("h.test", "/").status, 200, "others are served as before");
    }
}
