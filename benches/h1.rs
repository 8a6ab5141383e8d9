//! What reading a head costs: `cargo bench --bench h1`. Parsing and framing together, as each request needs them.

use divan::Bencher;
use divan::counter::BytesCount;
use rust_lb::http::h1::{Chunked, Limits, Parsed, What, answer_framing, parse_answer, parse_request, request_framing};
use std::hint::black_box;

const LIMITS: Limits = Limits { head_bytes: 64 * 1024, lines: 1000 };

const CURL: &str =
    "GET /api/v1/items?page=2 HTTP/1.1\r\nHost: www.example.test\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";

/// Some 300 bytes in 8 lines.
const CLIENT: &str = "POST /api/v1/items HTTP/1.1\r\nHost: www.example.test\r\nUser-Agent: client/1.2.3 (linux; x86_64)\r\n\
    Accept: application/json\r\nAccept-Encoding: gzip, br\r\nAuthorization: Bearer 0123456789abcdef0123456789abcdef0123456789abcdef\r\n\
    Content-Type: application/json\r\nContent-Length: 128\r\nConnection: keep-alive\r\n\r\n";

const BROWSER: &str = "GET /styles/site.css?v=123 HTTP/1.1\r\nHost: www.example.test\r\nConnection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n\
    Accept: text/css,*/*;q=0.1\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: style\r\n\
    Referer: https://www.example.test/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=all\r\nIf-None-Match: \"5d8c72a5edda8\"\r\n\r\n";

const ANSWER: &str = "HTTP/1.1 200 OK\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nServer: test\r\nContent-Type: text/html; charset=utf-8\r\n\
    Content-Length: 1234\r\nCache-Control: no-cache\r\nConnection: keep-alive\r\n\r\n";

fn main() {
    // `cargo test` also starts benches; this one measures only when asked to.
    if std::env::args().any(|argument| argument == "--bench") {
        divan::main();
    }
}

#[divan::bench(args = ["curl", "client", "browser"])]
fn request(bencher: Bencher, name: &str) {
    let head = match name {
        "curl" => CURL,
        "client" => CLIENT,
        _ => BROWSER,
    };
    let mut lines = Vec::with_capacity(64);
    bencher.counter(BytesCount::of_str(head)).bench_local(|| {
        let buffer = black_box(head.as_bytes());
        let Ok(Parsed::Complete { line, .. }) = parse_request(buffer, &LIMITS, &mut lines) else { return None };
        request_framing(buffer, &lines, &line).ok()
    });
}

#[divan::bench]
fn answer(bencher: Bencher) {
    let mut lines = Vec::with_capacity(64);
    bencher.counter(BytesCount::of_str(ANSWER)).bench_local(|| {
        let buffer = black_box(ANSWER.as_bytes());
        let Ok(Parsed::Complete { line, .. }) = parse_answer(buffer, &LIMITS, &mut lines) else { return None };
        answer_framing(buffer, &lines, &line, false, false, false).ok()
    });
}

/// 1 MiB of data in chunks of so many bytes.
#[divan::bench(args = [16, 512, 16 * 1024])]
fn chunks(bencher: Bencher, size: usize) {
    let chunk = format!("{size:x}\r\n{}\r\n", "a".repeat(size));
    let body = chunk.repeat((1 << 20) / size) + "0\r\n\r\n";
    bencher.counter(BytesCount::of_str(&body)).bench_local(|| {
        let (mut decoder, mut rest, mut data) = (Chunked::new(1024), black_box(body.as_bytes()), 0);
        while let Ok(piece) = decoder.next(rest) {
            match piece.what {
                What::Data(range) => data += range.len(),
                What::More => return None,
                What::End => return Some(data),
            }
            rest = rest.get(piece.consumed..)?;
        }
        None
    });
}
