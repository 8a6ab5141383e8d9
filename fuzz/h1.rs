//! Properties of the HTTP/1.1 codec. A head is taken or refused as a naive reading of RFC 9112's grammar says; how the
//! input is cut changes nothing; and what the codec takes, hyper's parsers take with the same meaning ([`hyper`]), also
//! where it is only nearly right ([`evil`]).

#[path = "h1/evil.rs"]
pub mod evil;
#[path = "h1/hyper.rs"]
pub mod hyper;

use rust_lb::http::h1::{self, Chunked, Fault, Framing, Limits, Line, Parsed, What};

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
pub struct Decoded {
    /// The data, without framing.
    pub data: Vec<u8>,
    /// The trailer lines.
    pub trailers: Vec<u8>,
    /// Where it ended, if it did.
    pub end: Option<usize>,
    fault: Option<Fault>,
}

/// Decodes input that comes in parts of `size` bytes.
pub fn decode(input: &[u8], size: usize, limit: usize) -> Decoded {
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
