//! Chunks and the trailers behind them (RFC 9112, 7.1).

use super::case::{Case, INNER, POST, cut, either, refuse, seen, serve, trapped};

/// All of them.
pub fn cases() -> Vec<Case> {
    [chunks(), trailers()].concat()
}

/// Chunks (RFC 9112, 7.1).
fn chunks() -> Vec<Case> {
    let chunked = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    let length = INNER.len();
    let mut cases = Vec::new();
    let broken = vec![cut("POST", "abc")];
    for (name, chunk) in [
        ("0x before the size", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("plus before the size", "+3\r\nabc\r\n0\r\n\r\n"),
        ("minus before the size", "-3\r\nabc\r\n0\r\n\r\n"),
        ("minus zero", "-0\r\n\r\n"),
        ("blank before the size", " 3\r\nabc\r\n0\r\n\r\n"),
        ("tab before the size", "\t3\r\nabc\r\n0\r\n\r\n"),
        ("no size", "\r\nabc\r\n0\r\n\r\n"),
        ("only an extension", ";a=b\r\nabc\r\n0\r\n\r\n"),
        ("a letter in the size", "3g\r\nabc\r\n0\r\n\r\n"),
        ("h behind the size", "3h\r\nabc\r\n0\r\n\r\n"),
        ("underscore in the size", "0_3\r\nabc\r\n0\r\n\r\n"),
        ("comma behind the size", "3,\r\nabc\r\n0\r\n\r\n"),
        ("quoted size", "\"3\"\r\nabc\r\n0\r\n\r\n"),
        ("NUL behind the size", "3\0\r\nabc\r\n0\r\n\r\n"),
        ("vertical tab behind the size", "3\u{b}\r\nabc\r\n0\r\n\r\n"),
        ("two sizes", "3 3\r\nabc\r\n0\r\n\r\n"),
        ("size beyond 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("size far beyond 64 bits", "ffffffffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("size of all ones and more", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("size with a dot", "3.0\r\nabc\r\n0\r\n\r\n"),
        ("LF behind the size", "3\nabc\r\n0\r\n\r\n"),
        ("CR behind the size", "3\rabc\r\n0\r\n\r\n"),
        ("CR CR LF behind the size", "3\r\r\nabc\r\n0\r\n\r\n"),
        ("LF CR behind the size", "3\n\rabc\r\n0\r\n\r\n"),
        ("LF behind the data", "3\r\nabc\n0\r\n\r\n"),
        ("CR behind the data", "3\r\nabc\r0\r\n\r\n"),
        ("nothing behind the data", "3\r\nabc0\r\n\r\n"),
        ("more data than said", "3\r\nabcd\r\n0\r\n\r\n"),
        ("two other bytes behind the data", "3\r\nabcXX0\r\n\r\n"),
        ("less data than said", "3\r\nab\r\n0\r\n\r\n"),
        ("LF behind the last size", "3\r\nabc\r\n0\n\r\n"),
        ("LFs behind the last size", "3\r\nabc\r\n0\n\n"),
        ("LF at the end", "3\r\nabc\r\n0\r\n\n"),
        ("CR at the end", "3\r\nabc\r\n0\r\n\rX"),
        ("extension with LF", "3;a\nabc\r\n0\r\n\r\n"),
        ("extension with LF and more", "3;a=b\nX\r\nabc\r\n0\r\n\r\n"),
        ("extension with CR", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
        ("extension with CR at its end", "3;a\r\r\nabc\r\n0\r\n\r\n"),
        ("extension with NUL", "3;a\0\r\nabc\r\n0\r\n\r\n"),
        ("extension with LF in quotes", "3;a=\"\n\"\r\nabc\r\n0\r\n\r\n"),
    ] {
        let bytes = format!("{chunked}{chunk}{INNER}");
        let lax = vec![seen("POST", "abc"), trapped()];
        let any = vec![cut("POST", &format!("abc{chunk}{INNER}"))];
        let swallowed = vec![seen("POST", "abc")];
        cases.push(
            refuse(format!("chunk, {name}"), bytes)
                .or(broken.clone())
                .or(lax)
                .or(swallowed)
                .or(any)
                .or(vec![cut("POST", "ab\r")]),
        );
    }
    // What hides a request when the line ends in two ways.
    let hidden = format!("{chunked}3;\n{:x}\r\nabc\r\n0\r\n\r\n{INNER}", length);
    cases.push(refuse("chunk, an extension that hides a size", hidden).or(vec![cut("POST", "abc")]));
    let hidden = format!("{chunked}{:x}\n;\r\n{INNER}\r\n0\r\n\r\n", length);
    cases.push(refuse("chunk, a size behind which LF hides an extension", hidden).or(vec![cut("POST", INNER)]));
    let hidden = format!("{chunked}2\r\nab\r\n0;\n{:x}\r\n{INNER}\r\n0\r\n\r\n", length);
    cases.push(refuse("chunk, an end whose extension hides a chunk", hidden).or(vec![cut("POST", "ab")]));
    let good = vec![seen("POST", "abc"), trapped()];
    for (name, chunk, served) in [
        ("plain", "3\r\nabc\r\n0\r\n\r\n", true),
        ("one byte each", "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", true),
        ("zeros before the size", "0000003\r\nabc\r\n000\r\n\r\n", true),
        ("many zeros before the size", "0000000000000000000000000000000003\r\nabc\r\n0\r\n\r\n", false),
        ("an extension", "3;a=b\r\nabc\r\n0;c\r\n\r\n", true),
        ("an extension in quotes", "3;a=\"b;c\"\r\nabc\r\n0\r\n\r\n", true),
        (
            "an extension of 100 bytes",
            "3;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nabc\r\n0\r\n\r\n",
            false,
        ),
        ("a blank behind the size", "3 \r\nabc\r\n0\r\n\r\n", false),
        ("a tab behind the size", "3\t\r\nabc\r\n0\r\n\r\n", false),
        ("blanks around the semicolon", "3 ; a = b\r\nabc\r\n0\r\n\r\n", false),
        ("a semicolon alone", "3;\r\nabc\r\n0;\r\n\r\n", false),
    ] {
        let bytes = format!("{chunked}{chunk}{INNER}");
        let name = format!("chunks, {name}");
        let case = if served { serve(name, bytes, good.clone()) } else { either(name, bytes, good.clone()) };
        cases.push(case.or(vec![cut("POST", "abc")]));
    }
    let ended = format!("{chunked}0\r\n\r\n{INNER}");
    cases.push(serve("chunks, none", ended, vec![seen("POST", ""), trapped()]));
    let inside = format!("{chunked}{length:x}\r\n{INNER}\r\n0\r\n\r\n");
    cases.push(serve("chunks, a request in one", inside, vec![seen("POST", INNER)]));
    let upper = format!("{chunked}{length:X}\r\n{INNER}\r\n0\r\n\r\n");
    cases.push(serve("chunks, a size in upper case", upper, vec![seen("POST", INNER)]));
    let flood: String =
        std::iter::repeat_n("1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n", 2_000)
            .collect();
    let all = vec![seen("POST", &"x".repeat(2_000)), trapped()];
    let part = vec![cut("POST", &"x".repeat(2_000))];
    cases.push(either("chunks, a flood of extensions", format!("{chunked}{flood}0\r\n\r\n{INNER}"), all).or(part));
    let long = format!("{chunked}3;{}\r\nabc\r\n0\r\n\r\n{INNER}", "a".repeat(100_000));
    cases.push(refuse("chunk, an extension of 100,000 bytes", long).or(vec![cut("POST", "abc")]));
    cases
}

/// Fields behind the last chunk (RFC 9110, 6.5): what frames, routes or proves may not stand there.
fn trailers() -> Vec<Case> {
    let mut cases = Vec::new();
    let chunks = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
    let good = vec![seen("POST", "abc"), trapped()];
    for field in [
        "Content-Length: 40",
        "Transfer-Encoding: chunked",
        "Host: trap.test",
        "Authorization: Basic eA==",
        "Connection: close",
        "X-Forwarded-For: 1.2.3.4",
        "X-Real-Ip: 1.2.3.4",
        "Trailer: X-B",
        "Content-Encoding: gzip",
        "Content-Type: text/html",
        "Expect: 100-continue",
        "Upgrade: websocket",
        "Cookie: a=b",
        "TE: trailers",
        "Proxy-Authorization: x",
        "Range: bytes=0-1",
    ] {
        // Refused, or taken off: it must not do anything.
        let bytes = format!("{POST}{chunks}{field}\r\n\r\n{INNER}");
        cases.push(either(format!("trailer {field}"), bytes, good.clone()).or(vec![cut("POST", "abc")]));
    }
    for (name, field) in [
        ("bare LF", "X-A: b\nX-B: c"),
        ("bare CR", "X-A: b\rX-B: c"),
        ("fold", "X-A: b\r\n c"),
        ("blank before the colon", "X-A : b"),
        ("NUL", "X-A: \0"),
        ("no colon", "X-A"),
        ("no name", ": b"),
        ("a control character in the name", "X\u{1}A: b"),
        ("a request line", "GET /m/#### HTTP/1.1"),
    ] {
        let bytes = format!("{POST}{chunks}{field}\r\n\r\n{INNER}");
        let case = refuse(format!("trailer with {name}"), bytes).or(vec![cut("POST", "abc")]);
        cases.push(case.or(good.clone()));
    }
    let many = format!("{POST}{chunks}{}\r\n{INNER}", "X-A: b\r\n".repeat(5_000));
    cases.push(either("trailers, 5,000 of them", many, good.clone()).or(vec![cut("POST", "abc")]));
    let long = format!("{POST}{chunks}X-A: {}\r\n\r\n{INNER}", "b".repeat(1_500_000));
    cases.push(either("trailer of 1,500,000 bytes", long, good.clone()).or(vec![cut("POST", "abc")]));
    let said = format!("{POST}Trailer: X-Sum\r\n{chunks}X-Sum: 1\r\n\r\n{INNER}");
    cases.push(serve("trailers as they should be", said, good));
    cases
}
