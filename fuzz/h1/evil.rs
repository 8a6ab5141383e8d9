//! Turns arbitrary bytes into messages that are nearly right: framing said twice or oddly, bare LF, folding, strange
//! chunk sizes, a second request where a body may be.

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
        if self.roll(16) == 15 { self.pick(from) } else { from[0] }
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
    let name = match dice.roll(8) {
        0 | 1 => "Content-Length",
        2 => "Transfer-Encoding",
        3 => "Connection",
        4..=6 => "X-A",
        _ => dice.pick(&NAMES),
    };
    let value = match name.to_ascii_lowercase().as_str() {
        "content-length" => dice.mostly(&LENGTHS),
        "transfer-encoding" => dice.mostly(&CODINGS),
        "connection" => {
            dice.pick(&["keep-alive", "close", "Upgrade", "close, keep-alive", "X-A", "Host", "caf\u{e9}, close"])
        }
        _ => dice.mostly(&VALUES),
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
            out.push('0');
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
pub fn requests(bytes: &[u8]) -> Vec<u8> {
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
pub fn answers(bytes: &[u8]) -> Vec<u8> {
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
