//! Where a body ends: lengths and codings, and bodies where none are expected.

use super::case::{Case, INNER, POST, cut, either, refuse, seen, serve, trapped};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(length_with_coding());
    cases.extend(codings());
    cases.extend(lengths());
    cases.extend(methods());
    cases
}

/// `Content-Length` beside `Transfer-Encoding` (RFC 9112, 6.3): CL.TE, TE.CL and their kin. A laxer codec may take the
/// coding for what counts, and has to end the connection then.
fn length_with_coding() -> Vec<Case> {
    let mut cases = Vec::new();
    let whole = 5 + INNER.len();
    let lengths = [("all", whole), ("none", 0), ("the first line", 3), ("the last chunk", 5), ("too much", whole + 40)];
    for (what, length) in lengths {
        for (order, head) in [
            ("CL.TE", format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n")),
            ("TE.CL", format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n")),
        ] {
            let bytes = format!("{POST}{head}\r\n0\r\n\r\n{INNER}");
            cases.push(refuse(format!("{order}, the length covers {what}"), bytes).or(vec![seen("POST", "")]));
        }
    }
    // The inner one in a chunk: whoever goes by the length sees it.
    for length in [4, 3, 0] {
        let chunk = format!("{:x}\r\n{INNER}\r\n0\r\n\r\n", INNER.len());
        let bytes = format!("{POST}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        cases.push(refuse(format!("TE.CL, in a chunk, length {length}"), bytes).or(vec![seen("POST", INNER)]));
    }
    cases.push(refuse(
        "CL.TE in HTTP/1.0",
        format!(
            "POST /c/#### HTTP/1.0\r\nHost: lane-@@.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INNER}"
        ),
    ));
    cases.push(refuse(
        "TE alone in HTTP/1.0",
        format!("POST /c/#### HTTP/1.0\r\nHost: lane-@@.test\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n{INNER}"),
    ));
    cases.push(
        refuse(
            "CL.TE with the length hidden behind Connection",
            format!("{POST}Connection: Content-Length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INNER}"),
        )
        .or(vec![seen("POST", "")]),
    );
    cases.push(
        refuse(
            "CL.TE with the coding hidden behind Connection",
            format!("{POST}Connection: Transfer-Encoding\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INNER}", INNER.len() + 5),
        )
        .or(vec![seen("POST", "")]),
    );
    cases
}

/// TE.TE: codings that one party takes for `chunked` and another does not.
fn codings() -> Vec<Case> {
    let mut cases = Vec::new();
    let odd = [
        "xchunked",
        "chunkedx",
        "chunked1",
        "chunk",
        "chunked-",
        "identity",
        "gzip",
        "chunked, identity",
        "chunked, gzip",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "chunked;q=1",
        "chunked; a=b",
        "\"chunked\"",
        "'chunked'",
        "chunked chunked",
        "x chunked",
        "chun ked",
        "c\thunked",
        "\u{b}chunked",
        "chunked\u{b}",
        "\u{c}chunked",
        "chunked\u{c}",
        "\0chunked",
        "chunked\0",
        "chunked\u{1}",
        "\u{7f}chunked",
        "chunked\u{85}",
        "\u{a0}chunked",
        "chunKe\u{131}d",
        "chunked/",
        "=chunked",
        ";chunked",
        "chunked;",
        "(chunked)",
        "chunked,\u{b}",
        "%63hunked",
        "\\chunked",
        "0",
        "trailers",
        "deflate",
        "compress",
        "cow",
    ];
    for coding in odd {
        let bytes = format!("{POST}Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n{INNER}");
        let lax = [vec![seen("POST", "")], vec![seen("POST", ""), trapped()]];
        cases.push(refuse(format!("TE.TE {coding:?}"), bytes).or(lax[0].clone()).or(lax[1].clone()));
        // A length beside it is what one of the parties goes by.
        let length = 5 + INNER.len();
        let bytes = format!("{POST}Content-Length: {length}\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n{INNER}");
        cases.push(refuse(format!("TE.TE with a length {coding:?}"), bytes).or(lax[0].clone()));
    }
    // The same coding in other clothes: refused or read as chunked, behind which the next request is honest.
    let same = vec![seen("POST", "abc"), trapped()];
    for (name, field) in [
        ("upper case", "Transfer-Encoding: CHUNKED"),
        ("mixed case", "Transfer-Encoding: cHuNkEd"),
        ("a tab before", "Transfer-Encoding:\tchunked"),
        ("a tab behind", "Transfer-Encoding: chunked\t"),
        ("blanks around", "Transfer-Encoding:    chunked   "),
        ("no blank", "Transfer-Encoding:chunked"),
        ("a comma behind", "Transfer-Encoding: chunked,"),
        ("a comma before", "Transfer-Encoding: ,chunked"),
        ("commas and blanks", "Transfer-Encoding: , ,chunked , ,"),
        ("a lower-case name", "transfer-encoding: chunked"),
        ("an upper-case name", "TRANSFER-ENCODING: chunked"),
        ("an empty one first", "Transfer-Encoding:\r\nTransfer-Encoding: chunked"),
        ("an empty one behind", "Transfer-Encoding: chunked\r\nTransfer-Encoding:"),
        ("named by Connection", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked"),
    ] {
        let bytes = format!("{POST}{field}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{INNER}");
        cases.push(either(format!("chunked with {name}"), bytes, same.clone()).or(vec![seen("POST", "abc")]));
    }
    for (name, fields) in [
        ("chunked and identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ("identity and chunked", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("chunked and cow", "Transfer-Encoding: chunked\r\nTransfer-encoding: cow"),
        ("cow and chunked", "Transfer-encoding: cow\r\nTransfer-Encoding: chunked"),
        ("gzip and chunked", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
    ] {
        let bytes = format!("{POST}{fields}\r\n\r\n0\r\n\r\n{INNER}");
        let lax = vec![seen("POST", "")];
        let case = refuse(format!("two lines of coding, {name}"), bytes).or(lax.clone());
        cases.push(case.or(vec![seen("POST", ""), trapped()]));
        let bytes = format!("{POST}Content-Length: {}\r\n{fields}\r\n\r\n0\r\n\r\n{INNER}", INNER.len() + 5);
        cases.push(refuse(format!("two lines of coding and a length, {name}"), bytes).or(lax));
    }
    for (name, field) in [
        ("CRLF and blank", "Transfer-Encoding:\r\n chunked"),
        ("CRLF and tab", "Transfer-Encoding:\r\n\tchunked"),
        ("LF and blank", "Transfer-Encoding:\n chunked"),
        ("in front of it", "X-A: b\r\n Transfer-Encoding: chunked"),
        ("bare LF in front", "X-A: b\nTransfer-Encoding: chunked"),
        ("bare CR in front", "X-A: b\rTransfer-Encoding: chunked"),
        ("CR CR LF in front", "X-A: b\r\r\nTransfer-Encoding: chunked"),
        ("blank before the colon", "Transfer-Encoding : chunked"),
        ("tab before the colon", "Transfer-Encoding\t: chunked"),
        ("NUL before the colon", "Transfer-Encoding\0: chunked"),
        ("vertical tab before the colon", "Transfer-Encoding\u{b}: chunked"),
        ("blank before the name", " Transfer-Encoding: chunked"),
        ("bare LF behind", "Transfer-Encoding: chunked\nX-A: b"),
        ("bare CR behind", "Transfer-Encoding: chunked\rX-A: b"),
        ("no colon", "Transfer-Encoding chunked"),
        ("two colons", "Transfer-Encoding:: chunked"),
        ("equals", "Transfer-Encoding= chunked"),
    ] {
        let length = INNER.len() + 5;
        let bytes = format!("{POST}Content-Length: {length}\r\n{field}\r\n\r\n0\r\n\r\n{INNER}");
        // Some codecs take the coding for said and the connection ends; nobody may take the length.
        cases.push(refuse(format!("coding, {name}"), bytes).or(vec![seen("POST", "")]));
    }
    // Another name altogether: the length counts, and the body is a body.
    for name in ["Transfer_Encoding", "Transfer-Encodin", "X-Transfer-Encoding", "Transfer-Encoding-X", "TE"] {
        let body = format!("0\r\n\r\n{INNER}");
        let bytes = format!("{POST}Content-Length: {}\r\n{name}: chunked\r\n\r\n{body}", body.len());
        cases.push(either(format!("no coding, {name}"), bytes, vec![seen("POST", &body)]));
    }
    cases
}

/// Lengths that are none, or two.
fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    let length = INNER.len();
    let odd = [
        format!("+{length}"),
        format!("-{length}"),
        "-1".to_owned(),
        "-0".to_owned(),
        "+0".to_owned(),
        format!("0x{length:x}"),
        format!("0b{length:b}"),
        format!("{length}.0"),
        format!("{length}e0"),
        format!("{length}a"),
        format!("a{length}"),
        format!("{length} {length}"),
        format!("{length} 0"),
        format!("0 {length}"),
        format!("1_{length}"),
        format!("\"{length}\""),
        format!("{length};"),
        format!("{length}\0"),
        format!("\0{length}"),
        format!("{length}\u{b}"),
        format!("\u{b}{length}"),
        format!("\u{c}{length}"),
        format!("{length}\u{a0}"),
        "\u{664}\u{663}".to_owned(),
        String::new(),
        " ".to_owned(),
        ",".to_owned(),
        "18446744073709551616".to_owned(),
        "18446744073709551658".to_owned(),
        "9223372036854775808".to_owned() + "0",
        "99999999999999999999999999999999".to_owned(),
        "4294967296x".to_owned(),
        format!("{length}, 0"),
        format!("0, {length}"),
        format!("{length},0"),
        format!("{length}, {}", length + 1),
        "0,".to_owned() + &length.to_string(),
        "NaN".to_owned(),
        "inf".to_owned(),
        "chunked".to_owned(),
    ];
    for said in odd {
        let bytes = format!("{POST}Content-Length: {said}\r\n\r\n{INNER}");
        cases.push(refuse(format!("length {said:?}"), bytes));
    }
    for (name, fields) in [
        ("the first is longer", format!("Content-Length: {length}\r\nContent-Length: 0")),
        ("the second is longer", format!("Content-Length: 0\r\nContent-Length: {length}")),
        ("with another between", format!("Content-Length: 0\r\nX-A: b\r\nContent-Length: {length}")),
        ("in other case", format!("content-length: 0\r\nCONTENT-LENGTH: {length}")),
        ("three of them", format!("Content-Length: {length}\r\nContent-Length: {length}\r\nContent-Length: 0")),
        ("one of them empty", format!("Content-Length:\r\nContent-Length: {length}")),
        ("one of them bad", format!("Content-Length: x\r\nContent-Length: {length}")),
    ] {
        cases.push(refuse(format!("two lengths, {name}"), format!("{POST}{fields}\r\n\r\n{INNER}")));
    }
    let body = vec![seen("POST", INNER)];
    for (name, fields) in [
        ("two lines", format!("Content-Length: {length}\r\nContent-Length: {length}")),
        ("a list", format!("Content-Length: {length}, {length}")),
        ("a list without blank", format!("Content-Length: {length},{length}")),
        ("a list with a comma at its end", format!("Content-Length: {length},")),
        ("two lines, one with a zero before", format!("Content-Length: {length}\r\nContent-Length: 0{length}")),
    ] {
        cases.push(either(format!("equal lengths, {name}"), format!("{POST}{fields}\r\n\r\n{INNER}"), body.clone()));
    }
    for (name, field) in [
        ("zeros before", format!("Content-Length: 000{length}")),
        ("many zeros before", format!("Content-Length: {}{length}", "0".repeat(40))),
        ("blanks around", format!("Content-Length:   {length}  ")),
        ("tabs around", format!("Content-Length:\t{length}\t")),
        ("named by Connection", format!("Connection: Content-Length\r\nContent-Length: {length}")),
        ("named by Connection in other case", format!("Connection: close, CONTENT-length\r\nContent-Length: {length}")),
        ("a twin with an underscore", format!("Content_Length: 0\r\nContent-Length: {length}")),
    ] {
        cases.push(either(format!("one length, {name}"), format!("{POST}{field}\r\n\r\n{INNER}"), body.clone()));
    }
    for (name, field) in [
        ("blank before the colon", format!("Content-Length : {length}")),
        ("tab before the colon", format!("Content-Length\t: {length}")),
        ("NUL before the colon", format!("Content-Length\0: {length}")),
        ("blank before the name", format!(" Content-Length: {length}")),
        ("folded", format!("Content-Length:\r\n {length}")),
        ("folded behind", format!("Content-Length: 0\r\n {length}")),
        ("bare LF in front", format!("X-A: b\nContent-Length: {length}")),
        ("bare CR in front", format!("X-A: b\rContent-Length: {length}")),
        ("bare LF behind", format!("Content-Length: {length}\nX-A: b")),
        ("bare CR behind", format!("Content-Length: {length}\rX-A: b")),
        ("no colon", format!("Content-Length {length}")),
    ] {
        let bytes = format!("{POST}{field}\r\n\r\n{INNER}");
        cases.push(refuse(format!("length, {name}"), bytes).or(vec![seen("POST", INNER)]));
    }
    // CL.0 and 0.CL: the body is the body; nothing said is no body.
    cases.push(serve("a length, all of it a request", format!("{POST}Content-Length: {length}\r\n\r\n{INNER}"), body));
    cases.push(serve(
        "no length, and a request behind",
        format!("{POST}\r\n{INNER}"),
        vec![seen("POST", ""), trapped()],
    ));
    let zero = vec![seen("POST", ""), trapped()];
    cases.push(serve(
        "a length of 0, and a request behind",
        format!("{POST}Content-Length: 0\r\n\r\n{INNER}"),
        zero.clone(),
    ));
    cases.push(either(
        "only a twin with an underscore",
        format!("{POST}Content_Length: {length}\r\n\r\n{INNER}"),
        zero.clone(),
    ));
    cases.push(either(
        "only a twin with a letter more",
        format!("{POST}Content-Length-X: {length}\r\n\r\n{INNER}"),
        zero,
    ));
    let short = vec![cut("POST", INNER)];
    cases.push(either(
        "a length beyond what comes",
        format!("{POST}Content-Length: {}\r\n\r\n{INNER}", length + 10),
        short,
    ));
    cases
}

/// Bodies where one party expects none.
fn methods() -> Vec<Case> {
    let mut cases = Vec::new();
    let length = INNER.len();
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "PROPFIND"] {
        let head = format!("{method} /c/#### HTTP/1.1\r\nHost: lane-@@.test\r\n");
        let bytes = format!("{head}Content-Length: {length}\r\n\r\n{INNER}");
        cases.push(serve(format!("{method} with a length"), bytes, vec![seen(method, INNER)]));
        let bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{INNER}\r\n0\r\n\r\n");
        cases.push(serve(format!("{method} with chunks"), bytes, vec![seen(method, INNER)]));
        let bytes = format!("{head}\r\n{INNER}");
        cases.push(serve(
            format!("{method} without a body, and a request behind"),
            bytes,
            vec![seen(method, ""), trapped()],
        ));
        let bytes = format!("{head}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INNER}");
        cases.push(refuse(format!("{method} with both"), bytes).or(vec![seen(method, "")]));
    }
    cases
}
