//! The rules of the codec as tables.

use super::*;

const LIMITS: Limits = Limits { head_bytes: 16 * 1024, lines: 200 };

fn request(head: &[u8]) -> Result<Parsed<RequestLine>, Fault> {
    parse_request(head, &LIMITS, &mut Vec::new())
}

/// What a complete request head says, or its fault, from parsing or from framing.
fn framed(head: &str) -> Result<RequestFraming, Fault> {
    let mut lines = Vec::new();
    match parse_request(head.as_bytes(), &LIMITS, &mut lines)? {
        Parsed::Complete { line, length } => {
            assert_eq!(length, head.len(), "{head:?}");
            request_framing(head.as_bytes(), &lines, &line)
        }
        Parsed::Partial => panic!("not complete: {head:?}"),
    }
}

#[test]
fn a_request_is_read_in_place() {
    let head =
        b"POST /a?b HTTP/1.1\r\nHost: h.test\r\nX-Empty: \t \r\nX-Padded:  a b \t\r\nContent-Length: 3\r\n\r\nabcGET";
    let mut lines = Vec::new();
    let Ok(Parsed::Complete { line, length }) = parse_request(head, &LIMITS, &mut lines) else { panic!("refused") };
    assert_eq!((&head[line.method.clone()], &head[line.target.clone()], line.minor), (&b"POST"[..], &b"/a?b"[..], 1));
    assert_eq!(&head[length..], b"abcGET");
    let read: Vec<(&[u8], &[u8])> = lines.iter().map(|line| (line.name(head), line.value(head))).collect();
    let expected: Vec<(&[u8], &[u8])> =
        vec![(b"Host", b"h.test"), (b"X-Empty", b""), (b"X-Padded", b"a b"), (b"Content-Length", b"3")];
    assert_eq!(read, expected);
    assert_eq!(lines[2].whole(head), b"X-Padded:  a b \t\r\n");
    assert!(request(b"GET / HTTP/1.1\r\nHost: a\r\n").is_ok_and(|parsed| parsed == Parsed::Partial));
    assert_eq!(framed("GET / HTTP/1.1\r\n\r\n").map(|framing| framing.body), Ok(Framing::None));
}

/// The answer's framing after a plain GET, or its fault.
fn answered(head: &str) -> Result<AnswerFraming, Fault> {
    answered_to(head, false, false, false)
}

fn answered_to(head: &str, asked_head: bool, asked_upgrade: bool, asked_connect: bool) -> Result<AnswerFraming, Fault> {
    let mut lines = Vec::new();
    match parse_answer(head.as_bytes(), &LIMITS, &mut lines)? {
        Parsed::Complete { line, length } => {
            assert_eq!(length, head.len(), "{head:?}");
            answer_framing(head.as_bytes(), &lines, &line, asked_head, asked_upgrade, asked_connect)
        }
        Parsed::Partial => panic!("not complete: {head:?}"),
    }
}

#[test]
fn start_lines_are_taken_to_the_letter() {
    for (line, fault) in [
        ("GET / HTTP/1.2", Fault::UnsupportedVersion),
        ("GET / HTTP/2.0", Fault::UnsupportedVersion),
        ("GET / HTTP/0.9", Fault::UnsupportedVersion),
        ("GET / http/1.1", Fault::Version),
        ("GET / HTTP/1.10", Fault::Version),
        ("GET / HTTP/11", Fault::Version),
        ("GET / HTTP/1.\u{661}", Fault::Version),
        ("GET / HTTX/1.1", Fault::Version),
        ("GET /", Fault::RequestLine),
        ("GET", Fault::RequestLine),
        ("GET / ", Fault::Version),
        ("GET  / HTTP/1.1", Fault::RequestLine),
        ("GET /  HTTP/1.1", Fault::RequestLine),
        ("GET / HTTP/1.1 ", Fault::RequestLine),
        ("GET /a b HTTP/1.1", Fault::RequestLine),
        (" GET / HTTP/1.1", Fault::RequestLine),
        ("GET\t/ HTTP/1.1", Fault::Method),
        ("G(T / HTTP/1.1", Fault::Method),
        ("G\0T / HTTP/1.1", Fault::Method),
        ("G\u{e9}T / HTTP/1.1", Fault::Method),
        ("GET /\t HTTP/1.1", Fault::Target),
        ("GET /\0 HTTP/1.1", Fault::Target),
        ("GET /\u{7f} HTTP/1.1", Fault::Target),
        ("GET /\rb HTTP/1.1", Fault::BareCr),
        ("GET / HTTP/1.1\r", Fault::BareCr),
        (": h.test", Fault::Method),
    ] {
        assert_eq!(request(format!("{line}\r\nHost: h.test\r\n\r\n").as_bytes()), Err(fault), "{line:?}");
    }
    assert_eq!(request(b"GET /\xff\xfe HTTP/1.1\r\n\r\n"), Err(Fault::Target), "not UTF-8");
    for line in ["foo /caf\u{e9} HTTP/1.1", "M-SEARCH * HTTP/1.0", "GET http://a/ HTTP/1.1", "CONNECT a:443 HTTP/1.1"] {
        assert!(framed(&format!("{line}\r\n\r\n")).is_ok(), "{line:?}");
    }
}

#[test]
fn one_empty_line_may_stand_before_a_request() {
    let head = b"\r\nGET / HTTP/1.1\r\nHost: h.test\r\n\r\n";
    let mut lines = Vec::new();
    let Ok(Parsed::Complete { line, length }) = parse_request(head, &LIMITS, &mut lines) else { panic!("refused") };
    assert_eq!((line.method, length, lines.len()), (2..5, head.len(), 1));
    for (head, fault) in [
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Fault::EmptyLines),
        ("\nGET / HTTP/1.1\r\n\r\n", Fault::BareLf),
        ("\r\n\nGET / HTTP/1.1\r\n\r\n", Fault::EmptyLines),
        ("\rGET / HTTP/1.1\r\n\r\n", Fault::BareCr),
        ("\r\n GET / HTTP/1.1\r\n\r\n", Fault::RequestLine),
    ] {
        assert_eq!(request(head.as_bytes()), Err(fault), "{head:?}");
    }
    for part in ["", "\r", "\r\n", "\r\nG"] {
        assert_eq!(request(part.as_bytes()), Ok(Parsed::Partial), "{part:?}");
    }
    for head in ["\r\nHTTP/1.1 200 OK\r\n\r\n", "\nHTTP/1.1 200 OK\r\n\r\n"] {
        assert_eq!(answered(head), Err(Fault::EmptyLines));
    }
}

#[test]
fn field_lines_are_taken_to_the_letter() {
    let faults = [
        ("X-A: 1\n", Fault::BareLf),
        ("X-A: \n", Fault::BareLf),
        ("X-A:\n", Fault::BareLf),
        ("\n", Fault::BareLf),
        ("X-A: a\nX-B: b\r\n", Fault::BareLf),
        ("X-A: a\rb\r\n", Fault::BareCr),
        ("X-A: a\r\r\n", Fault::BareCr),
        ("X-A:\r\r\n", Fault::BareCr),
        ("X\r-A: a\r\n", Fault::BareCr),
        ("\rX-A: a\r\n", Fault::BareCr),
        (" X-A: a\r\n", Fault::Folded),
        ("\tX-A: a\r\n", Fault::Folded),
        ("X-A: a\r\n b\r\n", Fault::Folded),
        ("X-A: a\r\n\tb\r\n", Fault::Folded),
        ("X-A:\r\n b\r\n", Fault::Folded),
        ("X-A: a\r\n \r\n", Fault::Folded),
        ("X-A : a\r\n", Fault::BlankBeforeColon),
        ("X-A\t: a\r\n", Fault::BlankBeforeColon),
        ("X A: a\r\n", Fault::BlankInName),
        ("X\0A: a\r\n", Fault::FieldName),
        ("X\u{e9}A: a\r\n", Fault::FieldName),
        ("X(A): a\r\n", Fault::FieldName),
        (": a\r\n", Fault::EmptyName),
        (" : a\r\n", Fault::Folded),
        ("X-A\r\n", Fault::NoColon),
        ("X-A: a\0b\r\n", Fault::FieldValue),
        ("X-A: a\u{1}b\r\n", Fault::FieldValue),
        ("X-A: a\u{b}b\r\n", Fault::FieldValue),
        ("X-A: a\u{7f}b\r\n", Fault::FieldValue),
        ("X-A: \u{1b}[31m\r\n", Fault::FieldValue),
    ];
    // alone, behind others, and beyond what is read in one pass
    for before in [0, 1, line::BATCH - 1, line::BATCH, line::BATCH + 1, 2 * line::BATCH + 1] {
        let before = "X-B: b\r\n".repeat(before);
        for (text, fault) in faults {
            let head = format!("GET / HTTP/1.1\r\n{before}{text}X-C: c\r\n\r\n");
            assert_eq!(request(head.as_bytes()), Err(fault), "{head:?}");
            let head = format!("HTTP/1.1 200 OK\r\n{before}{text}X-C: c\r\n\r\n");
            assert_eq!(answered(&head), Err(fault), "{head:?}");
        }
        for text in
            ["X-A:\r\n", "X-A:a\r\n", "X-A:\t a \t\r\n", "X-A: a\tb\r\n", "X-A: caf\u{e9}\r\n", "X_A!#: ,;:\"\r\n"]
        {
            assert!(framed(&format!("GET / HTTP/1.1\r\n{before}{text}\r\n")).is_ok(), "{text:?}");
            assert!(answered(&format!("HTTP/1.1 200 OK\r\n{before}{text}\r\n")).is_ok(), "{text:?}");
        }
    }
    for head in [
        "GET / HTTP/1.1\n\n",
        "GET / HTTP/1.1\r\n\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
    ] {
        assert_eq!(request(head.as_bytes()), Err(Fault::BareLf), "{head:?}");
    }
    for head in
        ["HTTP/1.1 200 OK\n\n", "HTTP/1.1 200\nA: a\r\n\r\n", "HTTP/1.1 200 \n\r\n", "HTTP/1.1 200 OK\r\nA: a\r\n\n"]
    {
        assert_eq!(answered(head), Err(Fault::BareLf), "{head:?}");
    }
}

#[test]
fn a_head_over_the_limits_is_refused() {
    let head = |lines: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X-A: a\r\n".repeat(lines));
    let parse = |head: &str, head_bytes, most| {
        let mut lines = Vec::new();
        parse_request(head.as_bytes(), &Limits { head_bytes, lines: most }, &mut lines).map(|parsed| match parsed {
            Parsed::Complete { .. } => lines.len(),
            Parsed::Partial => usize::MAX,
        })
    };
    for most in [0, 1, 31, 32, 33, 63, 64, 65, 150, 1000] {
        assert_eq!(parse(&head(most), 1 << 20, most), Ok(most));
        assert_eq!(parse(&head(most + 1), 1 << 20, most), Err(Fault::TooManyLines), "{most}");
        // also before its end came
        let more = head(most + 40);
        assert_eq!(parse(&more[..more.len() - 2], 1 << 20, most), Err(Fault::TooManyLines), "{most}");
    }
    assert_eq!(parse(&head(10_000), 1 << 20, 1000), Err(Fault::TooManyLines));
    let long = head(100);
    assert_eq!(parse(&long, long.len(), 100), Ok(100));
    assert_eq!(parse(&format!("{long}body"), long.len(), 100), Ok(100));
    assert_eq!(parse(&long, long.len() - 1, 100), Err(Fault::TooLarge));
    assert_eq!(parse(&long[..long.len() - 1], long.len(), 100), Ok(usize::MAX));
    assert_eq!(parse(&"a".repeat(100), 100, 100), Err(Fault::TooLarge), "a request line without an end");
    assert_eq!(
        parse_answer(b"HTTP/1.1 200 OK\r\nA: a", &Limits { head_bytes: 21, lines: 9 }, &mut Vec::new()),
        Err(Fault::TooLarge)
    );
    assert_eq!((Fault::TooLarge.status(), Fault::TooManyLines.status()), (431, 431));
}

#[test]
fn a_head_in_parts_is_parsed_when_it_may_be_complete() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for end in 1..head.len() {
        assert!(!may_end(&head[..end], end - 1), "{end}");
    }
    for seen in 0..head.len() {
        assert!(may_end(head, seen), "{seen}");
    }
    assert!(may_end(b"GET / HTTP/1.1\n\n", 15) && !may_end(b"GET / HTTP/1.1\n\r", 15));
}

#[test]
fn requests_are_framed() {
    let framing = |fields: &str| framed(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    for (fields, body) in [
        ("", Framing::None),
        ("Content-Length: 5\r\n", Framing::Length(5)),
        ("CONTENT-LENGTH:  0 \r\n", Framing::Length(0)),
        ("content-length: 007\r\n", Framing::Length(7)),
        ("Content-Length: 9223372036854775807\r\n", Framing::Length(i64::MAX.unsigned_abs())),
        ("Content-Length: 2\r\nX: y\r\nContent-Length: 2\r\n", Framing::Length(2)),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ("tRANSFER-eNCODING: ChunKed\t\r\n", Framing::Chunked),
        ("Content_Length: 5\r\nTransfer_Encoding: chunked\r\n", Framing::None),
    ] {
        assert_eq!(framing(fields).map(|framing| framing.body), Ok(body), "{fields:?}");
    }
    for (fields, fault) in [
        ("Content-Length: 2\r\nContent-Length: 3\r\n", Fault::Lengths),
        ("Content-Length: 2\r\nContent-Length: 02\r\n", Fault::Lengths),
        ("Content-Length: 2, 2\r\n", Fault::Length),
        ("Content-Length:\r\n", Fault::Length),
        ("Content-Length: +2\r\n", Fault::Length),
        ("Content-Length: -1\r\n", Fault::Length),
        ("Content-Length: 1 2\r\n", Fault::Length),
        ("Content-Length: 0x2\r\n", Fault::Length),
        ("Content-Length: a\r\n", Fault::Length),
        ("Content-Length: 2.0\r\n", Fault::Length),
        ("Content-Length: 9223372036854775808\r\n", Fault::Length),
        ("Content-Length: 18446744073709551616\r\n", Fault::Length),
        ("Content-Length: 36893488147419103237\r\n", Fault::Length),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", Fault::LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", Fault::LengthAndCoding),
        ("Transfer-Encoding: identity\r\nContent-Length: 2\r\n", Fault::LengthAndCoding),
        ("Transfer-Encoding: identity\r\n", Fault::Coding),
        ("Transfer-Encoding: gzip, chunked\r\n", Fault::Coding),
        ("Transfer-Encoding: chunked, chunked\r\n", Fault::Coding),
        ("Transfer-Encoding: chunked,\r\n", Fault::Coding),
        ("Transfer-Encoding: ,chunked\r\n", Fault::Coding),
        ("Transfer-Encoding: chunked;q=1\r\n", Fault::Coding),
        ("Transfer-Encoding: \"chunked\"\r\n", Fault::Coding),
        ("Transfer-Encoding: xchunked\r\n", Fault::Coding),
        ("Transfer-Encoding:\r\n", Fault::Coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Fault::Coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Fault::Coding),
        ("Transfer-Encoding: \u{b}chunked\r\n", Fault::FieldValue),
        ("Transfer-Encoding : chunked\r\n", Fault::BlankBeforeColon),
        ("Expect: 200-ok\r\n", Fault::Expectation),
        ("Expect: 100-continue, x\r\n", Fault::Expectation),
        ("Connection: close, Host\r\n", Fault::ConnectionNames),
        ("Connection: close\r\nConnection: hOST\r\n", Fault::ConnectionNames),
        ("Connection: Authorization\r\n", Fault::ConnectionNames),
        ("Connection: content-length\r\n", Fault::ConnectionNames),
        ("Connection: ,\tTransfer-Encoding ,\r\n", Fault::ConnectionNames),
    ] {
        assert_eq!(framing(fields), Err(fault), "{fields:?}");
    }
    assert_eq!(framed("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Fault::CodingInOldVersion));
    assert_eq!(
        framed("POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\n").map(|framing| framing.body),
        Ok(Framing::Length(1))
    );
}

#[test]
fn a_request_says_what_becomes_of_its_connection() {
    let framing = |minor: u8, fields: &str| {
        let framing = framed(&format!("POST / HTTP/1.{minor}\r\nContent-Length: 1\r\n{fields}\r\n")).unwrap();
        (framing.keep_alive, framing.expects_continue, framing.upgrade)
    };
    for (minor, fields, expected) in [
        (1, "", (true, false, false)),
        (0, "", (false, false, false)),
        (0, "Connection: Keep-Alive\r\n", (true, false, false)),
        (0, "Connection: keep-alive, close\r\n", (false, false, false)),
        (1, "Connection: CLOSE\r\n", (false, false, false)),
        (1, "Connection: X-A\r\nConnection: x, close\r\n", (false, false, false)),
        (1, "Connection: closed\r\n", (true, false, false)),
        (1, "Expect: 100-Continue\r\n", (true, true, false)),
        (1, "Expect:\r\n", (true, false, false)),
        (0, "Expect: 100-continue\r\n", (false, false, false)),
        (1, "Connection: Upgrade\r\nUpgrade: websocket\r\n", (true, false, true)),
        (1, "Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n", (true, false, true)),
        (1, "Connection: Upgrade\r\n", (true, false, false)),
        (1, "Connection: Upgrade\r\nUpgrade:\r\n", (true, false, false)),
        (1, "Upgrade: websocket\r\n", (true, false, false)),
        (0, "Connection: Upgrade\r\nUpgrade: websocket\r\n", (false, false, false)),
    ] {
        assert_eq!(framing(minor, fields), expected, "{minor} {fields:?}");
    }
    let bodiless = framed("GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert!(!bodiless.expects_continue, "there is nothing to wait for");
}

#[test]
fn status_lines_are_taken_to_the_letter() {
    for (line, fault) in [
        ("HTTP/1.2 200 OK", Fault::UnsupportedVersion),
        ("HTTP/2.0 200 OK", Fault::UnsupportedVersion),
        ("http/1.1 200 OK", Fault::Version),
        ("HTTP/2 200", Fault::Version),
        ("ICY 200 OK", Fault::Version),
        ("HTTP/1.1", Fault::StatusLine),
        ("HTTP/1.1 20", Fault::StatusLine),
        ("HTTP/1.1 20 OK", Fault::StatusLine),
        ("HTTP/1.1 2000 OK", Fault::StatusLine),
        ("HTTP/1.1 099 OK", Fault::StatusLine),
        ("HTTP/1.1 2a0 OK", Fault::StatusLine),
        ("HTTP/1.1 +20 OK", Fault::StatusLine),
        ("HTTP/1.1  200 OK", Fault::StatusLine),
        ("HTTP/1.1\t200 OK", Fault::Version),
        ("HTTP/1.1 200\tOK", Fault::StatusLine),
        ("HTTP/1.1 200 O\0K", Fault::StatusLine),
        ("HTTP/1.1 200 O\u{7f}K", Fault::StatusLine),
        ("HTTP/1.1 200 O\rK", Fault::BareCr),
    ] {
        assert_eq!(answered(&format!("{line}\r\nX: y\r\n\r\n")), Err(fault), "{line:?}");
    }
    for (line, status, reason) in [
        ("HTTP/1.1 200 OK", 200, "OK"),
        ("HTTP/1.0 999 a b\tc", 999, "a b\tc"),
        ("HTTP/1.1 404", 404, ""),
        ("HTTP/1.1 404 ", 404, ""),
        ("HTTP/1.1 404  x ", 404, " x "),
        ("HTTP/1.1 200 caf\u{e9}", 200, "caf\u{e9}"),
    ] {
        let head = format!("{line}\r\nX: y\r\n\r\n");
        let parsed = parse_answer(head.as_bytes(), &LIMITS, &mut Vec::new());
        let Ok(Parsed::Complete { line: found, .. }) = parsed else { panic!("{line:?} gave {parsed:?}") };
        assert_eq!((found.status, &head[found.reason]), (status, reason));
    }
}

#[test]
fn answers_are_framed() {
    let length = |length| (Framing::Length(length), true);
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", length(5)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", length(5)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", (Framing::Chunked, true)),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n", (Framing::Chunked, false)),
        ("HTTP/1.1 200 OK\r\n\r\n", (Framing::UntilClose, false)),
        ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n", (Framing::UntilClose, false)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", (Framing::Length(5), false)),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n", length(5)),
        ("HTTP/1.1 204 No Content\r\n\r\n", (Framing::None, true)),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", (Framing::None, true)),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", (Framing::None, false)),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", (Framing::None, false)),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", (Framing::None, true)),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", (Framing::None, true)),
        ("HTTP/1.1 100 Continue\r\n\r\n", (Framing::None, true)),
        ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", (Framing::None, true)),
        ("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n", (Framing::None, false)),
    ] {
        assert_eq!(answered(head).map(|framing| (framing.body, framing.keep_alive)), Ok(expected), "{head:?}");
    }
    for (fields, fault) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Fault::LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Fault::LengthAndCoding),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Fault::Lengths),
        ("Content-Length: 5, 5\r\n", Fault::Length),
        ("Content-Length: -1\r\n", Fault::Length),
        ("Transfer-Encoding: gzip, chunked\r\n", Fault::Coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Fault::Coding),
    ] {
        // whether a body follows or not
        for (status, asked_head) in
            [("200 OK", false), ("200 OK", true), ("304 Not Modified", false), ("204 No Content", false)]
        {
            let head = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
            assert_eq!(answered_to(&head, asked_head, false, false), Err(fault), "{head:?}");
        }
    }
    assert_eq!(answered("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Fault::CodingInOldVersion));
}

#[test]
fn what_was_asked_decides_over_an_answers_body() {
    let none = |keep_alive| Ok(AnswerFraming { body: Framing::None, keep_alive });
    let plain = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(answered_to(plain, true, false, false), none(true), "HEAD");
    assert_eq!(answered_to("HTTP/1.1 200 OK\r\n\r\n", true, false, false), none(true), "HEAD without a length");
    assert_eq!(answered_to("HTTP/1.1 200 OK\r\n\r\n", false, false, true), none(false), "CONNECT");
    assert_eq!(answered_to(plain, false, false, true), none(false), "CONNECT with a length");
    let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(answered_to(refused, false, false, true).map(|framing| framing.body), Ok(Framing::Length(5)));
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(answered_to(switch, false, true, false), none(false));
    assert_eq!(answered(switch), Err(Fault::UnaskedUpgrade));
    assert_eq!(answered_to(plain, false, true, false).map(|framing| framing.body), Ok(Framing::Length(5)));
}

#[test]
fn a_refused_request_gets_the_status_that_traefik_gives() {
    for (fields, status) in [
        ("Content-Length: -1\r\n", 400),
        ("Transfer-Encoding: identity\r\n", 501),
        ("X A: 1\r\n", 400),
        ("X-A: a\0b\r\n", 400),
        ("Expect: 200-ok\r\n", 417),
    ] {
        let fault = framed(&format!("POST / HTTP/1.1\r\n{fields}\r\n")).unwrap_err();
        assert_eq!(fault.status(), status, "{fault}");
    }
    assert_eq!(framed("GET / HTTP/2.0\r\n\r\n").unwrap_err().status(), 505);
    assert_eq!(framed("GET / HTTX/1.1\r\n\r\n").unwrap_err().status(), 400);
}
