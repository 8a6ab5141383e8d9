//! The rules of chunked bodies as tables.

use super::*;

/// A chunked body's data, trailers and how much stands behind it; the same at once and byte by byte.
fn unchunked(body: &str) -> Result<(String, String, usize), Fault> {
    let whole = unchunked_in_parts(body, body.len());
    assert_eq!(unchunked_in_parts(body, 1), whole, "{body:?}");
    whole
}

fn unchunked_in_parts(body: &str, size: usize) -> Result<(String, String, usize), Fault> {
    let (mut decoder, mut read, mut data) = (Chunked::new(64), 0, Vec::new());
    while read < body.len() {
        let part = &body.as_bytes()[read..body.len().min(read + size)];
        let piece = decoder.next(part)?;
        read += piece.consumed;
        match piece.what {
            What::Data(range) => data.extend_from_slice(&part[range]),
            What::More => assert_eq!(piece.consumed, part.len()),
            What::End => {}
        }
        if let Ok(Piece { what: What::End, .. }) = decoder.next(b"") {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            return Ok((text(&data), text(decoder.trailers()), body.len() - read));
        }
    }
    panic!("not complete: {body:?}")
}

#[test]
fn chunks_are_taken_to_the_letter() {
    let ok = |data: &str, trailers: &str, behind| Ok((data.to_owned(), trailers.to_owned(), behind));
    for (body, expected) in [
        ("0\r\n\r\n", ok("", "", 0)),
        ("5\r\nhello\r\n0\r\n\r\nGET", ok("hello", "", 3)),
        ("5\r\nhello\r\n00a\r\n, my world\r\n000\r\n\r\n", ok("hello, my world", "", 0)),
        ("0000000000000001\r\nx\r\n0000000000000000\r\n\r\n", ok("x", "", 0)),
        ("1;a\r\nx\r\nA; b=\"c;\td\" ;e\r\n0123456789\r\n0;\r\n\r\n", ok("x0123456789", "", 0)),
        ("2\r\n\r\n\r\n0\r\n\r\n", ok("\r\n", "", 0)),
        ("0\r\nX-Sum: 1\r\ngrpc-status:\t0\r\n\r\nGET", ok("", "X-Sum: 1\r\ngrpc-status:\t0\r\n", 3)),
    ] {
        assert_eq!(unchunked(body), expected, "{body:?}");
    }
    for (body, fault) in [
        ("\r\n", Fault::ChunkSize),
        ("zz\r\nhello\r\n", Fault::ChunkSize),
        ("+5\r\nhello\r\n", Fault::ChunkSize),
        ("-5\r\nhello\r\n", Fault::ChunkSize),
        ("0x5\r\nhello\r\n", Fault::ChunkSize),
        (" 5\r\nhello\r\n", Fault::ChunkSize),
        ("\t5\r\nhello\r\n", Fault::ChunkSize),
        ("5 \r\nhello\r\n", Fault::ChunkSize),
        ("5 ;a\r\nhello\r\n", Fault::ChunkSize),
        ("5\t\r\nhello\r\n", Fault::ChunkSize),
        ("5h\r\nhello\r\n", Fault::ChunkSize),
        ("5_0\r\nhello\r\n", Fault::ChunkSize),
        (";a\r\nhello\r\n", Fault::ChunkSize),
        ("00000000000000005\r\nhello\r\n", Fault::ChunkSize),
        ("10000000000000005\r\nhello\r\n", Fault::ChunkSize),
        ("\n", Fault::ChunkSize),
        ("5\nhello\r\n", Fault::BareLf),
        ("5;a\nhello\r\n", Fault::BareLf),
        ("5\rhello\r\n", Fault::BareCr),
        ("5\r\rhello\r\n", Fault::BareCr),
        ("5;a\rb\r\nhello\r\n", Fault::BareCr),
        ("5;a\0b\r\nhello\r\n", Fault::ChunkExtension),
        ("5;\u{7f}\r\nhello\r\n", Fault::ChunkExtension),
        ("5\r\nhello0\r\n\r\n", Fault::ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", Fault::ChunkEnd),
        ("5\r\nhello\r0\r\n\r\n", Fault::ChunkEnd),
        ("5\r\nhello\r\r\n0\r\n\r\n", Fault::ChunkEnd),
        ("5\r\nhello!\r\n0\r\n\r\n", Fault::ChunkEnd),
        ("0\n\r\n", Fault::BareLf),
        ("0\r\n\n", Fault::BareLf),
        ("0\r\n\rX-A: 1\r\n\r\n", Fault::BareCr),
        ("0\r\nX-A: 1\n\r\n", Fault::BareLf),
        ("0\r\nX-A: 1\r\n\n", Fault::BareLf),
        ("0\r\nX-A: \r1\r\n\r\n", Fault::BareCr),
        ("0\r\nX-A\r\n\r\n", Fault::NoColon),
        ("0\r\nX-A : 1\r\n\r\n", Fault::BlankBeforeColon),
        ("0\r\n: 1\r\n\r\n", Fault::EmptyName),
        ("0\r\n X-A: 1\r\n\r\n", Fault::Folded),
        ("0\r\nX-A: 1\r\n 2\r\n\r\n", Fault::Folded),
        ("0\r\nX-A: \u{1}\r\n\r\n", Fault::FieldValue),
        ("0\r\nX A: 1\r\n\r\n", Fault::BlankInName),
    ] {
        assert_eq!(unchunked(body), Err(fault), "{body:?}");
    }
}

#[test]
fn some_fields_are_no_trailers() {
    for name in [
        "Transfer-Encoding",
        "content-length",
        "HOST",
        "Trailer",
        "Authorization",
        "Connection",
        "Content-Encoding",
        "Content-Type",
        "Content-Range",
        "X-Forwarded-For",
        "X-Forwarded-Tls-Client-Cert",
        "x_forwarded_proto",
        "X-Real-Ip",
        "Forwarded",
        "Cookie",
        "Set-Cookie",
        "Expect",
        "TE",
        "Upgrade",
        "Keep-Alive",
        "If-Match",
        "Range",
        "Cache-Control",
        "Max-Forwards",
        "Proxy-Authorization",
        "Www-Authenticate",
    ] {
        assert_eq!(unchunked(&format!("0\r\nX-A: 1\r\n{name}: 1\r\n\r\n")), Err(Fault::ForbiddenTrailer), "{name}");
    }
    for name in ["ETag", "X-Checksum", "Server-Timing", "Digest", "grpc-message", "X-Forwarded", "Iff"] {
        assert!(unchunked(&format!("0\r\n{name}: 1\r\n\r\n")).is_ok(), "{name}");
    }
}

#[test]
fn what_a_chunked_body_brings_besides_data_is_bounded() {
    let trailer = |bytes: usize| format!("0\r\nX:{}\r\n\r\n", "a".repeat(bytes - 4));
    assert!(unchunked(&trailer(64)).is_ok());
    for bytes in [65, 66, 67, 1000] {
        assert_eq!(unchunked(&trailer(bytes)), Err(Fault::TrailersTooLarge), "{bytes}");
    }
    assert_eq!(unchunked(&format!("0\r\n{}\r\n", "X:\r\n".repeat(17))), Err(Fault::TrailersTooLarge));
    // a line without an end
    assert_eq!(Chunked::new(64).next(format!("0\r\n{}", "a".repeat(70)).as_bytes()), Err(Fault::TrailersTooLarge));

    let extended =
        |chunks: usize, bytes: usize| format!("1;{}\r\nx\r\n", "a".repeat(bytes)).repeat(chunks) + "0\r\n\r\n";
    assert!(unchunked(&extended(1, EXTENSION_BYTES)).is_ok());
    assert_eq!(unchunked(&extended(1, EXTENSION_BYTES + 1)), Err(Fault::ChunkExtensions));
    assert_eq!(unchunked(&extended(1024, 16)), Err(Fault::ChunkExtensions), "in all of a body");
}

#[test]
fn a_chunk_that_is_said_to_be_huge_is_data_to_its_last_byte() {
    let mut decoder = Chunked::new(64);
    let piece = decoder.next(b"ffffffffffffffff\r\nabc").unwrap();
    assert_eq!(piece, Piece { consumed: 21, what: What::Data(18..21) });
    assert_eq!(decoder.next(b"0\r\n\r\n").unwrap(), Piece { consumed: 5, what: What::Data(0..5) });
    assert_eq!(decoder.next(b"").unwrap(), Piece { consumed: 0, what: What::More });
}

#[test]
fn chunk_heads_are_written_as_they_are_read() {
    for (size, text) in [
        (0, "0\r\n"),
        (9, "9\r\n"),
        (10, "a\r\n"),
        (16, "10\r\n"),
        (31, "1f\r\n"),
        (65_536, "10000\r\n"),
        (usize::MAX, "ffffffffffffffff\r\n"),
    ] {
        assert_eq!(chunk_head(size, &mut [0; 18]), text.as_bytes());
    }
}
