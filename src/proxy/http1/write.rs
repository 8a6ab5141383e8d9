//! Heads as HTTP/1.1 writes them.
//!
//! What always holds: what frames the body is written from what was understood of it, never copied, and
//! stands there once.

use crate::http::h1::Framing;
use crate::http::{AnswerHead, Exchange, HeaderName, Headers, name};
use crate::proxy::buffers::Buffers;

/// How an answer's body is framed for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// There is none and its length is said by nobody (204, 304, 1xx, 101).
    None,
    /// So many bytes follow, or would follow if this were not the answer to HEAD.
    Length(u64),
    Chunked,
    /// The end of the connection is its end.
    UntilClose,
}

/// What is said of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// Nothing: it stays open.
    Unsaid,
    Close,
    /// It stays open, which HTTP/1.0 has to be told.
    KeepAlive,
}

/// Adds a request's head to `out`. `base` is the path of the server's own URL, where it stands before the request's.
pub(in crate::proxy) fn request(
    out: &mut Vec<u8>,
    exchange: &Exchange,
    base: Option<&str>,
    host: &[u8],
    body: Framing,
) {
    request_with(out, exchange, &exchange.request.headers, base, host, body);
}

/// The same with other fields.
pub(in crate::proxy) fn request_with(
    out: &mut Vec<u8>,
    exchange: &Exchange,
    headers: &Headers,
    base: Option<&str>,
    host: &[u8],
    body: Framing,
) {
    let head = &exchange.request;
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(base.unwrap_or("").as_bytes());
    out.extend_from_slice(head.request_uri().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
    headers.write(out);
    match body {
        Framing::Length(length) => push_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None | Framing::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Adds an answer's head to `out`. `reason` is the server's phrase; the usual one stands for an empty one.
pub(super) fn answer(
    out: &mut Vec<u8>,
    old: bool,
    head: &AnswerHead,
    reason: &[u8],
    body: Body,
    connection: Connection,
    buffers: &Buffers,
) {
    push_status_line(out, old, head, reason);
    head.headers.write(out);
    if !head.headers.contains(&name::DATE) && !head.status.is_informational() {
        out.extend_from_slice(b"Date: ");
        buffers.push_date(out);
        out.extend_from_slice(b"\r\n");
    }
    match body {
        Body::Length(length) => push_length(out, length),
        Body::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Body::None | Body::UntilClose => {}
    }
    out.extend_from_slice(match connection {
        Connection::Unsaid => b"\r\n",
        Connection::Close => b"Connection: close\r\n\r\n",
        Connection::KeepAlive => b"Connection: keep-alive\r\n\r\n",
    });
}

/// Adds an answer's head to `out` that says nothing but its fields: an interim answer (1xx), of which those that concern only
/// the hop to the server are gone, or one whose end is the connection's.
pub(super) fn bare(out: &mut Vec<u8>, head: &AnswerHead, reason: &[u8]) {
    push_status_line(out, false, head, reason);
    head.headers.write(out);
    out.extend_from_slice(b"\r\n");
}

fn push_status_line(out: &mut Vec<u8>, old: bool, head: &AnswerHead, reason: &[u8]) {
    out.extend_from_slice(if old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    match reason {
        [] => out.extend_from_slice(head.status.canonical_reason().unwrap_or("").as_bytes()),
        reason => out.extend_from_slice(reason),
    }
    out.extend_from_slice(b"\r\n");
}

fn push_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The length that a head announces, where it says one.
pub(in crate::proxy) fn announced(headers: &Headers) -> Option<u64> {
    const LENGTH: HeaderName = name::CONTENT_LENGTH;
    headers.text(&LENGTH)?.parse().ok()
}
