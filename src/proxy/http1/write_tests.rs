//! What is written is read again by the codec, with the framing that was meant and no other, whatever the fields
//! said before the rules of the hop were applied.

use super::write::{self, Body, Connection};
use crate::http::h1::{self, Framing, Limits, Line, Parsed};
use crate::http::target::TargetOptions;
use crate::http::{AnswerHead, Exchange, HeaderName, HeaderValue, Headers, Method, Protocol, RequestHead, StatusCode};
use crate::proxy::buffers::Buffers;
use crate::proxy::hop;
use proptest::prelude::*;

const LIMITS: Limits = Limits { head_bytes: 100_000, lines: 200 };

/// Fields that could change where a body ends, and some that could not.
const FIELDS: [(&str, &str); 10] = [
    ("content-length", "5"),
    ("content-length", "6"),
    ("transfer-encoding", "chunked"),
    ("transfer-encoding", "gzip, chunked"),
    ("connection", "keep-alive, x-a"),
    ("connection", "close"),
    ("upgrade", "websocket"),
    ("te", "trailers"),
    ("x-a", "1"),
    ("x-b", "2"),
];

fn fields() -> impl Strategy<Value = Headers> {
    prop::collection::vec(prop::sample::select(&FIELDS[..]), 0..8).prop_map(|fields| {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    })
}

fn values<'a>(head: &'a [u8], lines: &'a [Line], name: &'a [u8]) -> Vec<&'a [u8]> {
    lines.iter().filter(|line| line.is(head, name)).map(|line| line.value(head)).collect()
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![
        Just(Framing::None),
        Just(Framing::Chunked),
        prop_oneof![Just(0), any::<u64>().prop_map(|length| length >> 1)].prop_map(Framing::Length),
    ]
}

proptest! {
    #[test]
    fn requests_are_read_as_they_were_meant(
        headers in fields(),
        body in framing(),
        method in prop::sample::select(&[Method::GET, Method::POST, Method::DELETE][..]),
        target in prop::sample::select(&["/", "/a/b?c=d", "/a?", "/%2f/\u{e9}?x"][..]),
        base in prop::option::of(prop::sample::select(&["/base", "/b/c"][..])),
        host in prop::sample::select(&["a.test", "a.test:81", ""][..]),
    ) {
        let odd: Vec<Vec<u8>> = headers.all(&HeaderName::from_static("x-b")).map(<[u8]>::to_vec).collect();
        let mut exchange = Exchange {
            request: RequestHead::new(method.clone(), host, target, headers, TargetOptions::default()).expect("a target"),
            entry_point: "web".into(),
            peer: ([127, 0, 0, 1], 1).into(),
            tls: false,
            protocol: Protocol::Http11,
            prefixes: Default::default(),
            host: None,
            identity: Default::default(),
            claimed_for: None,
 original: None,
        };
        hop::options(&mut exchange.request.headers, Protocol::Http11, &[]);
        hop::for_server(&mut exchange, None, None, body != Framing::None);
        let mut out = Vec::new();
        write::request(&mut out, &exchange, base, host.as_bytes(), body);
        out.extend_from_slice(b"behind");

        let mut lines = Vec::new();
        let Ok(Parsed::Complete { line, length }) = h1::parse_request(&out, &LIMITS, &mut lines) else {
            panic!("{}", String::from_utf8_lossy(&out));
        };
        prop_assert_eq!(&out[length..], b"behind");
        prop_assert_eq!(&out[line.method.clone()], method.as_str().as_bytes());
        let uri = exchange.request.request_uri();
        prop_assert_eq!(&out[line.target.clone()], [base.unwrap_or("").as_bytes(), uri.as_bytes()].concat());
        prop_assert_eq!(line.minor, 1);
        prop_assert_eq!(values(&out, &lines, b"host"), [host.as_bytes()]);
        prop_assert_eq!(values(&out, &lines, b"x-b"), odd);
        let said = h1::request_framing(&out, &lines, &line).expect("one framing");
        prop_assert_eq!((said.body, said.keep_alive, said.upgrade), (body, true, false));
        let framed = values(&out, &lines, b"content-length").len() + values(&out, &lines, b"transfer-encoding").len();
        prop_assert_eq!(framed, usize::from(body != Framing::None));
    }

    #[test]
    fn answers_are_read_as_they_were_meant(
        headers in fields(),
        body in prop_oneof![
            Just(Body::None),
            Just(Body::Chunked),
            Just(Body::UntilClose),
            any::<u64>().prop_map(|length| Body::Length(length >> 1)),
        ],
        connection in prop::sample::select(&[Connection::Unsaid, Connection::Close, Connection::KeepAlive][..]),
        status in prop::sample::select(&[200_u16, 404, 599, 299][..]),
        reason in prop::sample::select(&["", "OK", "an odd one", "\u{e9}"][..]),
        date in prop::option::of(Just("yesterday")),
        old: bool,
        asked_head: bool,
    ) {
        // HTTP/1.0 knows no chunks.
        prop_assume!(!(old && body == Body::Chunked));
        // One that has no body at all says so by its status.
        let status = if body == Body::None { 204 } else { status };
        let mut head = AnswerHead { status: StatusCode::from_u16(status).expect("a status"), headers };
        hop::for_client(&mut head, false);
        if let Some(date) = date {
            head.headers.set(HeaderName::from_static("date"), HeaderValue::from_static(date));
        }
        let mut out = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
        let before = out.len();
        write::answer(&mut out, old, &head, reason.as_bytes(), body, connection, &Buffers::default());
        let out = &out[before..];

        let mut lines = Vec::new();
        let Ok(Parsed::Complete { line, length }) = h1::parse_answer(out, &LIMITS, &mut lines) else {
            panic!("{}", String::from_utf8_lossy(out));
        };
        prop_assert_eq!((length, line.status, line.minor), (out.len(), status, u8::from(!old)));
        let usual = head.status.canonical_reason().unwrap_or("");
        let phrase = if reason.is_empty() { usual } else { reason };
        prop_assert_eq!(&out[line.reason.clone()], phrase.as_bytes());
        let dates = values(out, &lines, b"date");
        prop_assert_eq!(dates.len(), 1);
        prop_assert!(date.is_none_or(|date| dates == [date.as_bytes()]));
        let said = h1::answer_framing(out, &lines, &line, asked_head, false, false).expect("one framing");
        let (wanted, ends) = match body {
            Body::None => (Framing::None, false),
            _ if asked_head => (Framing::None, false),
            Body::Length(length) => (Framing::Length(length), false),
            Body::Chunked => (Framing::Chunked, false),
            Body::UntilClose => (Framing::UntilClose, true),
        };
        prop_assert_eq!(said.body, wanted);
        let kept = match connection {
            Connection::Unsaid => !old,
            Connection::Close => false,
            Connection::KeepAlive => true,
        };
        prop_assert_eq!(said.keep_alive, kept && !ends);
        let framed = values(out, &lines, b"content-length").len() + values(out, &lines, b"transfer-encoding").len();
        prop_assert_eq!(framed, usize::from(matches!(body, Body::Length(_) | Body::Chunked)));
    }

    #[test]
    fn interim_answers_say_nothing_of_a_body(headers in fields(), status in 102..200_u16) {
        let mut head = AnswerHead { status: StatusCode::from_u16(status).expect("a status"), headers };
        hop::for_client(&mut head, false);
        let mut out = Vec::new();
        write::bare(&mut out, &head, b"");
        let mut lines = Vec::new();
        let Ok(Parsed::Complete { line, length }) = h1::parse_answer(&out, &LIMITS, &mut lines) else {
            panic!("{}", String::from_utf8_lossy(&out));
        };
        prop_assert_eq!((length, line.status), (out.len(), status));
        for name in [&b"content-length"[..], b"transfer-encoding", b"connection", b"date"] {
            prop_assert!(values(&out, &lines, name).is_empty());
        }
    }
}

#[test]
fn a_length_is_announced_by_digits_alone() {
    for (value, wanted) in [("5", Some(5)), ("0", Some(0)), ("x", None), ("", None), ("5, 5", None), ("-1", None)] {
        let mut headers = Headers::default();
        headers.append(HeaderName::from_static("content-length"), HeaderValue::from_static(value));
        assert_eq!(write::announced(&headers), wanted, "{value:?}");
    }
    assert_eq!(write::announced(&Headers::default()), None);
}
