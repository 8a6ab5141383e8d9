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
