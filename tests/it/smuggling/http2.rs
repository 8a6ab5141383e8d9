//! The same by way of HTTP/2 (RFC 9113, 8.2 and 8.3): what becomes a line of HTTP/1.1 must not hold the end of one.

use super::case::{Case, HOST, INNER, Must, Reading, Seen, Wire, seen};
use super::frames::{CONTINUATION, END_HEADERS, begun, block, data, frame, headers};

const PATH: &str = "/c/####";

fn case(name: impl Into<String>, must: Must, frames: Vec<u8>, readings: &[Reading]) -> Case {
    let name = format!("HTTP/2: {}", name.into());
    let wire = Wire::Http2(frames, vec![1]);
    let case = Case { name, wire, must, readings: Vec::new(), lax: Vec::new() };
    readings.iter().fold(case, |case, reading| case.or(reading.clone()))
}

/// A head, and the body if there is one.
fn request(method: &str, path: &str, fields: &[(&str, &str)], body: Option<&str>) -> Vec<u8> {
    let mut all = vec![(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path)];
    all.extend(fields);
    let mut frames = headers(1, body.is_none(), &all);
    frames.extend(body.map(|body| data(1, true, body)).unwrap_or_default());
    frames
}

fn refuse(name: impl Into<String>, frames: Vec<u8>) -> Case {
    case(name, Must::Refuse, frames, &[vec![seen("GET", "")], vec![seen("POST", "")], vec![seen("POST", "abc")]])
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(fields());
    cases.extend(pseudo());
    cases.extend(bodies());
    cases
}

fn fields() -> Vec<Case> {
    let mut cases = Vec::new();
    let get = |fields: &[(&str, &str)]| request("GET", PATH, fields, None);
    let smuggle = "b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /m/#### HTTP/1.1\r\nHost: trap.test\r\n\r\n";
    for (name, value) in [
        ("CRLF", "b\r\nX-B: c"),
        ("LF", "b\nX-B: c"),
        ("CR", "b\rX-B: c"),
        ("NUL", "b\0c"),
        ("a request", smuggle),
        ("CR at its end", "b\r"),
        ("LF at its end", "b\n"),
        ("LF at its beginning", "\nb"),
        ("CRLF at its end", "b\r\n"),
        ("two CRLF", "\r\n\r\nGET /m/#### HTTP/1.1\r\nHost: trap.test"),
    ] {
        cases.push(refuse(format!("a value with {name}"), get(&[("x-a", value)])));
        cases.push(refuse(format!("a cookie with {name}"), get(&[("cookie", "a=1"), ("cookie", value)])));
    }
    for (name, field) in [
        ("CRLF", "x-a: b\r\nx-b"),
        ("LF", "x-a\nx-b"),
        ("CR", "x-a\rx-b"),
        ("NUL", "x-a\0"),
        ("a blank", "x-a b"),
        ("a blank at its end", "x-a "),
        ("a blank at its beginning", " x-a"),
        ("a tab", "x-a\t"),
        ("a colon", "x-a:b"),
        ("a colon at its end", "x-a:"),
        ("an upper-case letter", "X-a"),
        ("an upper-case length", "Content-Length"),
        ("an upper-case coding", "Transfer-Encoding"),
        ("nothing", ""),
        ("a byte beyond ASCII", "x-\u{e9}"),
        ("a control byte", "x-\u{1}"),
        ("DEL", "x-\u{7f}"),
        ("a request", "x-a: b\r\n\r\nGET /m/#### HTTP/1.1\r\nHost: trap.test\r\nx-b"),
        ("parentheses", "x-(a)"),
        ("a slash", "x/a"),
        ("quotes", "\"x\""),
    ] {
        cases.push(refuse(format!("a name with {name}"), get(&[(field, "b")])));
    }
    // Blanks around a value are malformed (8.2.1); nobody may be harmed by them.
    for value in [" b", "b ", "\tb", "b\t"] {
        cases.push(case(format!("a value {value:?}"), Must::Either, get(&[("x-a", value)]), &[vec![seen("GET", "")]]));
    }
    for (field, value) in [
        ("connection", "close"),
        ("connection", "keep-alive"),
        ("connection", "x-a"),
        ("connection", "content-length"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", "gzip, chunked"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
    ] {
        let body = format!("0\r\n\r\n{INNER}");
        let frames = request("POST", PATH, &[(field, value)], Some(&body));
        let lax = [vec![seen("POST", &body)]];
        // The last three are not forbidden, or harmless when taken off.
        let must = if matches!(field, "te" | "http2-settings") { Must::Either } else { Must::Refuse };
        cases.push(case(format!("{field}: {value}"), must, frames, &lax));
    }
    let fine = get(&[("te", "trailers"), ("x-a", "b")]);
    cases.push(case("te: trailers", Must::Serve, fine, &[vec![seen("GET", "")]]));
    cases
}

fn pseudo() -> Vec<Case> {
    let mut cases = Vec::new();
    let raw = |fields: &[(&str, &str)]| headers(1, true, fields);
    let (m, s, a, p) = ((":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", PATH));
    for (name, fields) in [
        ("two paths", vec![m, s, a, p, (":path", "/m/####")]),
        ("two methods", vec![m, (":method", "POST"), s, a, p]),
        ("two authorities", vec![m, s, a, (":authority", "trap.test"), p]),
        ("two schemes", vec![m, s, (":scheme", "http"), a, p]),
        ("no path", vec![m, s, a]),
        ("no method", vec![s, a, p]),
        ("no scheme", vec![m, a, p]),
        ("no authority", vec![m, s, p]),
        ("an empty path", vec![m, s, a, (":path", "")]),
        ("an empty method", vec![(":method", ""), s, a, p]),
        ("a path behind a field", vec![m, s, a, ("x-a", "b"), p]),
        ("an authority behind a field", vec![m, s, p, ("x-a", "b"), a]),
        ("a field before all", vec![("x-a", "b"), m, s, a, p]),
        ("one that is unknown", vec![m, s, a, p, (":host", "trap.test")]),
        ("a status", vec![m, s, a, p, (":status", "200")]),
        ("a protocol without CONNECT", vec![m, s, a, p, (":protocol", "websocket")]),
        ("an upper-case path", vec![m, s, a, (":Path", PATH)]),
        ("an authority against the host", vec![m, s, a, p, ("host", "trap.test")]),
        ("an authority against two hosts", vec![m, s, a, p, ("host", HOST), ("host", "trap.test")]),
        ("two hosts", vec![m, s, p, ("host", HOST), ("host", "trap.test")]),
        ("user information in the authority", vec![m, s, (":authority", "user@lane-@@.test"), p]),
        ("a path in the authority", vec![m, s, (":authority", "lane-@@.test/m/####"), p]),
        ("a blank in the authority", vec![m, s, (":authority", "lane-@@.test trap.test"), p]),
        ("CRLF in the authority", vec![m, s, (":authority", "lane-@@.test\r\nX-A: b"), p]),
        ("NUL in the authority", vec![m, s, (":authority", "lane-@@.test\0"), p]),
        ("CRLF in the scheme", vec![m, (":scheme", "https\r\nx-a: b"), a, p]),
        ("a URL as scheme", vec![m, (":scheme", "http://trap.test/m/####?"), a, p]),
        ("CONNECT with a path", vec![(":method", "CONNECT"), s, a, p]),
        ("CONNECT without one", vec![(":method", "CONNECT"), a]),
        ("extended CONNECT that was not offered", vec![(":method", "CONNECT"), (":protocol", "h2c"), s, a, p]),
        ("a host with CRLF", vec![m, s, p, ("host", "lane-@@.test\r\nX-A: b")]),
    ] {
        cases.push(refuse(format!("pseudo fields, {name}"), raw(&fields)));
    }
    let same = raw(&[m, s, a, p, ("host", HOST)]);
    cases.push(case("authority and host agree", Must::Serve, same, &[vec![seen("GET", "")]]));
    let only = raw(&[m, s, p, ("host", HOST)]);
    cases.push(case("a host alone", Must::Serve, only, &[vec![seen("GET", "")]]));
    let version = " HTTP/1.1\r\nHost: trap.test\r\n\r\nGET /m/####";
    for (name, path) in [
        ("CRLF", "/c/####\r\nX-A: b"),
        ("LF", "/c/####\nX-A: b"),
        ("CR", "/c/####\rX"),
        ("NUL", "/c/####\0"),
        ("a blank", "/c/#### /m/####"),
        ("a version", "/c/#### HTTP/1.1"),
        ("a request", &format!("/c/####{version}")),
        ("a tab", "/c/####\tx"),
        ("a blank at its beginning", " /c/####"),
        ("a blank at its end", "/c/#### "),
        ("a fragment", "/c/#####x"),
        ("DEL", "/c/####\u{7f}"),
        ("a control byte", "/c/####\u{1}"),
        ("no slash", "c/####"),
        ("another host", "http://trap.test/c/####"),
        ("a star", "*"),
        ("a broken escape", "/c/####%zz"),
        ("two slashes and a host", "//trap.test/c/####"),
    ] {
        let mut case = refuse(format!("a path with {name}"), request("GET", path, &[], None));
        if name == "two slashes and a host" {
            // A path like any other; the slash goes.
            case.must = Must::Either;
            for target in ["/trap.test/c/####", "//trap.test/c/####"] {
                case = case.or(vec![Seen { target: target.into(), ..seen("GET", "") }]);
            }
        }
        cases.push(case);
    }
    for (name, method) in [
        ("CRLF", "GET / HTTP/1.1\r\nHost: trap.test\r\n\r\nGET"),
        ("a blank", "GET /m/#### HTTP/1.1"),
        ("NUL", "GE\0T"),
        ("a colon", "GE:T"),
        ("LF", "GET\n"),
        ("a control byte", "GE\u{1}T"),
        ("a slash", "GE/T"),
        ("a byte beyond ASCII", "G\u{c9}T"),
    ] {
        cases.push(refuse(format!("a method with {name}"), request(method, PATH, &[], None)));
    }
    cases
}

/// The body against what is said of it (8.1.1).
fn bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    let post = |length: &str, body: Option<&str>| request("POST", PATH, &[("content-length", length)], body);
    let partial = |body: &str| vec![vec![super::case::cut("POST", body)], vec![super::case::cut("POST", "")]];
    for (name, length, body) in [
        ("longer than the body", "10", Some("abc")),
        ("shorter than the body", "2", Some("abc")),
        ("0 and a body", "0", Some(INNER)),
        ("3 and no body", "3", None),
        ("that is none", "abc", Some("abc")),
        ("negative", "-3", Some("abc")),
        ("with a plus", "+3", Some("abc")),
        ("in hexadecimal", "0x3", Some("abc")),
        ("beyond 64 bits", "18446744073709551619", Some("abc")),
        ("that is empty", "", Some("abc")),
        ("with CRLF", "3\r\nx-a: b", Some("abc")),
        ("that is a list", "3, 4", Some("abc")),
    ] {
        let body_seen = body.unwrap_or_default();
        cases.push(case(format!("a length {name}"), Must::Refuse, post(length, body), &partial(body_seen)));
    }
    let two = request("POST", PATH, &[("content-length", "3"), ("content-length", "4")], Some("abc"));
    cases.push(case("two lengths", Must::Refuse, two, &partial("abc")));
    let equal = request("POST", PATH, &[("content-length", "3"), ("content-length", "3")], Some("abc"));
    cases.push(case("two equal lengths", Must::Either, equal, &[vec![seen("POST", "abc")]]));
    cases.push(case("a length and its body", Must::Serve, post("3", Some("abc")), &[vec![seen("POST", "abc")]]));
    let whole = request("POST", PATH, &[], Some(INNER));
    cases.push(case("a request as body", Must::Serve, whole, &[vec![seen("POST", INNER)]]));
    let mut split = request("POST", PATH, &[], None);
    // END_STREAM stays away: three pieces follow.
    split[4] = END_HEADERS;
    for (end, piece) in [(false, "0\r\n\r\n"), (false, ""), (true, INNER)] {
        split.extend(data(1, end, piece));
    }
    cases.push(case("a body in pieces", Must::Serve, split, &[vec![seen("POST", &format!("0\r\n\r\n{INNER}"))]]));
    for (name, trailer) in [
        ("a pseudo field", (":path", "/m/####")),
        ("a coding", ("transfer-encoding", "chunked")),
        ("a length", ("content-length", "40")),
        ("a host", ("host", "trap.test")),
        ("an upper-case name", ("X-Sum", "1")),
        ("CRLF in a value", ("x-sum", "1\r\n\r\nGET /m/#### HTTP/1.1\r\nHost: trap.test")),
        ("CRLF in a name", ("x-sum\r\nx", "1")),
        ("NUL in a value", ("x-sum", "1\0")),
        ("what is fine", ("x-sum", "1")),
    ] {
        let mut frames = request("POST", PATH, &[], None);
        frames[4] = END_HEADERS;
        frames.extend(data(1, false, "abc"));
        frames.extend(headers(1, true, &[trailer]));
        let must = if name == "what is fine" { Must::Serve } else { Must::Either };
        let readings = [vec![seen("POST", "abc")], partial("abc").remove(0)];
        cases.push(case(
            format!("a trailer with {name}"),
            must,
            frames,
            &readings[..if must == Must::Serve { 1 } else { 2 }],
        ));
    }
    // A head in two frames, with something between.
    let all = block(&[(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", PATH)]);
    let (one, two) = all.split_at(20);
    let mut parts = begun(1, true, one);
    parts.extend(frame(CONTINUATION, END_HEADERS, 1, two));
    cases.push(case("a head in two frames", Must::Serve, parts, &[vec![seen("GET", "")]]));
    let mut between = begun(1, true, one);
    between.extend(data(1, true, INNER));
    between.extend(frame(CONTINUATION, END_HEADERS, 1, two));
    cases.push(refuse("a body inside a head", between));
    let mut flood = begun(1, true, one);
    for _ in 0..2_000 {
        flood.extend(frame(CONTINUATION, 0, 1, &block(&[("x-a", "b")])));
    }
    cases.push(refuse("2,000 CONTINUATIONs", flood));
    let many: Vec<_> = std::iter::repeat_n(("x-a", "b"), 10_000).collect();
    let mut large = vec![(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", PATH)];
    large.extend(many);
    let block = block(&large);
    let mut pieces = block.chunks(16_000);
    let mut frames = begun(1, true, pieces.next().unwrap_or_default());
    let rest: Vec<_> = pieces.collect();
    for (number, piece) in rest.iter().enumerate() {
        let flags = if number + 1 == rest.len() { END_HEADERS } else { 0 };
        frames.extend(frame(CONTINUATION, flags, 1, piece));
    }
    cases.push(refuse("10,000 fields", frames));
    cases
}
