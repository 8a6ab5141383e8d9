//! Several requests on one connection, and answers that come before the request is there.

use super::case::{Case, GET, HOST, INNER, POST, Seen, cut, either, refuse, seen, serve, trapped};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(pipelined());
    cases.extend(early());
    cases
}

fn at(path: &str, method: &str, body: &str) -> Seen {
    Seen { target: format!("/c/####{path}"), ..seen(method, body) }
}

fn get(path: &str) -> String {
    format!("GET /c/####{path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

fn pipelined() -> Vec<Case> {
    let mut cases = Vec::new();
    let (one, two) = (get("/1"), get("/2"));
    let pair = vec![at("/1", "GET", ""), at("/2", "GET", "")];
    cases.push(serve("two requests at once", format!("{one}{two}"), pair.clone()));
    let many: Vec<_> = (0..50).map(|n| format!("/{n}")).collect();
    let all: String = many.iter().map(|path| get(path)).collect();
    cases.push(serve("50 requests at once", all, many.iter().map(|path| at(path, "GET", "")).collect()));
    let turns = format!("{one}{INNER}{two}");
    let order = vec![at("/1", "GET", ""), trapped(), at("/2", "GET", "")];
    cases.push(serve("requests for two servers in turn", turns, order));
    let bodies = format!(
        "{POST}Content-Length: 3\r\n\r\nabc{POST}Transfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n{INNER}"
    );
    cases.push(serve("bodies of both kinds", bodies, vec![seen("POST", "abc"), seen("POST", "def"), trapped()]));
    let head = format!("HEAD /c/####/1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n{two}{INNER}");
    cases.push(serve("HEAD first", head, vec![at("/1", "HEAD", ""), at("/2", "GET", ""), trapped()]));
    for (name, bad) in [
        ("garbage", "\0\u{1}\u{2}\r\n\r\n".to_owned()),
        ("both lengths", format!("{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INNER}")),
        ("two lengths", format!("{POST}Content-Length: 0\r\nContent-Length: {}\r\n\r\n{INNER}", INNER.len())),
        ("a bare LF", format!("GET /c/####/2 HTTP/1.1\nHost: {HOST}\n\n{INNER}")),
        ("no host", format!("GET /c/####/2 HTTP/1.1\r\n\r\n{INNER}")),
        ("a fold", format!("{GET}X-A: b\r\n c\r\n\r\n{INNER}")),
        ("a blank before the colon", format!("{GET}X-A : b\r\n\r\n{INNER}")),
        ("a bad version", format!("GET /c/#### HTTP/3.1\r\nHost: {HOST}\r\n\r\n{INNER}")),
        ("a body too many", format!("abc{INNER}")),
    ] {
        // The first is served, and then there is nothing more.
        let case = serve(format!("a good request before {name}"), format!("{one}{bad}"), vec![at("/1", "GET", "")]);
        let case = match name {
            // A laxer codec serves these as well; the last one is a request with an odd method.
            "both lengths" => case.lax(vec![at("/1", "GET", ""), seen("POST", "")]),
            "a bare LF" => case.lax(vec![at("/1", "GET", ""), at("/2", "GET", ""), trapped()]),
            _ => case,
        };
        cases.push(case);
    }
    let odd = Seen { method: "abcGET".into(), ..trapped() };
    if let Some(case) = cases.last_mut() {
        case.readings.push(vec![at("/1", "GET", ""), odd]);
    }
    let short = format!("{POST}Content-Length: 1\r\n\r\n{INNER}");
    let odd = Seen { method: "ET".into(), ..trapped() };
    cases.push(
        either("a body shorter than what comes", short, vec![seen("POST", "G"), odd]).or(vec![seen("POST", "G")]),
    );
    let closed = format!("{POST}Connection: close\r\nContent-Length: 3\r\n\r\nabc{INNER}");
    cases.push(serve("nothing behind a last request with a body", closed, vec![seen("POST", "abc")]));
    cases
}

/// Requests that the proxy answers by itself: their bodies are still no requests.
fn early() -> Vec<Case> {
    let mut cases = Vec::new();
    let length = INNER.len();
    let nowhere = "POST /c/#### HTTP/1.1\r\nHost: nowhere.test\r\n";
    for (name, head) in [
        ("no route", nowhere.to_owned()),
        ("a bad host", "POST /c/#### HTTP/1.1\r\nHost: a/b\r\n".to_owned()),
        ("an expectation that nobody meets", format!("{POST}Expect: a-pony\r\n")),
        ("no host", "POST /c/#### HTTP/1.1\r\n".to_owned()),
        ("a broken target", format!("POST /c/####%zz HTTP/1.1\r\nHost: {HOST}\r\n")),
        ("CONNECT", format!("CONNECT {HOST}:80 HTTP/1.1\r\nHost: {HOST}\r\n")),
    ] {
        cases.push(refuse(
            format!("{name}, a request as body"),
            format!("{head}Content-Length: {length}\r\n\r\n{INNER}"),
        ));
        let chunk = format!("{length:x}\r\n{INNER}\r\n0\r\n\r\n");
        cases.push(refuse(
            format!("{name}, a request in a chunk"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}"),
        ));
        let twice = format!("{head}Content-Length: {length}\r\n\r\n{INNER}{INNER}");
        // Behind the body there is an honest one.
        cases.push(either(format!("{name}, a request as body and one behind"), twice, vec![trapped()]));
        let large = format!("{head}Content-Length: 300000\r\n\r\n{}", INNER.repeat(300_000 / length + 1));
        let case = either(format!("{name}, 300,000 bytes of requests as body"), large, Vec::new());
        cases.push(case);
        cases.push(refuse(
            format!("{name}, both lengths"),
            format!("{head}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INNER}"),
        ));
    }
    let stalled = format!("{POST}Content-Length: {}\r\n\r\nabc", length + 3);
    cases.push(either("a body that stops", stalled, vec![cut("POST", "abc")]));
    let stalled = format!("{POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    cases.push(either("chunks that stop", stalled, vec![cut("POST", "abc")]));
    let stalled = format!("{POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n{:x}\r\n", length);
    cases.push(either("a chunk that does not come", stalled, vec![cut("POST", "abc")]));
    let stalled = format!("{POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n");
    cases.push(either("an end that does not come", stalled, vec![cut("POST", "abc")]));
    let stalled = format!("{POST}X-A");
    cases.push(refuse("a head that does not end", stalled));
    cases.push(refuse("nothing at all", ""));
    cases
}
