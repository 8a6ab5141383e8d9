//! Heads: request lines, line ends, names, values, hosts, and the fields that mean something to a hop.

use super::case::{Case, GET, HOST, INNER, POST, either, refuse, seen, serve, trapped};

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(lines());
    cases.extend(bytes());
    cases.extend(request_lines());
    cases.extend(versions());
    cases.extend(hosts());
    cases.extend(options());
    cases.extend(upgrades());
    cases.extend(long());
    cases
}

/// The ends of lines (RFC 9112, 2.2) and folds (5.2).
fn lines() -> Vec<Case> {
    let mut cases = Vec::new();
    let request = "GET /c/#### HTTP/1.1";
    let host = format!("Host: {HOST}");
    let lax = [vec![seen("GET", "")], vec![seen("GET", ""), trapped()]];
    for (name, bytes) in [
        ("LF behind the request line", format!("{request}\n{host}\r\n\r\n{INNER}")),
        ("LF behind a field", format!("{request}\r\n{host}\nX-A: b\r\n\r\n{INNER}")),
        ("LF at the end", format!("{request}\r\n{host}\r\n\n{INNER}")),
        ("LF LF at the end", format!("{request}\r\n{host}\n\n{INNER}")),
        ("LF everywhere", format!("{request}\n{host}\n\n{INNER}")),
        ("CR behind the request line", format!("{request}\r{host}\r\n\r\n{INNER}")),
        ("CR behind a field", format!("{request}\r\n{host}\rX-A: b\r\n\r\n{INNER}")),
        ("CR at the end", format!("{request}\r\n{host}\r\n\r{INNER}")),
        ("CR everywhere", format!("{request}\r{host}\r\r{INNER}")),
        ("CR in a value", format!("{request}\r\n{host}\r\nX-A: b\rc\r\n\r\n{INNER}")),
        ("CR at the end of a value", format!("{request}\r\n{host}\r\nX-A: b\r\r\n\r\n{INNER}")),
        ("CR before a name", format!("{request}\r\n{host}\r\n\rX-A: b\r\n\r\n{INNER}")),
        ("LF CR at the end", format!("{request}\r\n{host}\r\n\n\r{INNER}")),
        ("fold with a blank", format!("{request}\r\n{host}\r\nX-A: b\r\n c\r\n\r\n{INNER}")),
        ("fold with a tab", format!("{request}\r\n{host}\r\nX-A: b\r\n\tc\r\n\r\n{INNER}")),
        ("fold of nothing", format!("{request}\r\n{host}\r\nX-A: b\r\n \r\n\r\n{INNER}")),
        ("fold before the first field", format!("{request}\r\n X-A: b\r\n{host}\r\n\r\n{INNER}")),
        ("fold of the host", format!("{request}\r\nHost:\r\n {HOST}\r\n\r\n{INNER}")),
        ("fold that hides a field", format!("{request}\r\n{host}\r\nX-A: b\r\n Host: trap.test\r\n\r\n{INNER}")),
        ("fold at the end", format!("{request}\r\n{host}\r\n \r\n\r\n{INNER}")),
        ("a request in a fold", format!("{request}\r\n{host}\r\nX-A: b\r\n GET /m/#### HTTP/1.1\r\n\r\n{INNER}")),
    ] {
        let case = refuse(name, bytes);
        cases.push(lax.iter().fold(case, |case, reading| case.or(reading.clone())));
    }
    for (name, before) in
        [("one CRLF", "\r\n"), ("two CRLF", "\r\n\r\n"), ("an LF", "\n"), ("40 CRLF", &"\r\n".repeat(40))]
    {
        let bytes = format!("{before}{GET}\r\n");
        cases.push(either(format!("{name} before the request"), bytes, vec![seen("GET", "")]));
        let bytes = format!("{GET}\r\n{before}{INNER}");
        let case = either(format!("{name} between requests"), bytes, vec![seen("GET", ""), trapped()]);
        cases.push(case.or(vec![seen("GET", "")]));
    }
    for before in [" ", "\t", "\r", "\0", "\r\r\n", " \r\n", "x\r\n", "\u{b}\r\n"] {
        let bytes = format!("{before}{GET}\r\n");
        cases.push(refuse(format!("{before:?} before the request"), bytes).or(vec![seen("GET", "")]));
    }
    cases
}

/// Bytes that have no place in names or values (RFC 9110, 5.1 and 5.5).
fn bytes() -> Vec<Case> {
    let mut cases = Vec::new();
    for byte in (0..=0x1f_u8).chain([0x7f]).filter(|byte| !b"\t\n\r".contains(byte)) {
        for (place, before, after) in [("a value", "X-A: b", "c"), ("a name", "X-A", "b: c")] {
            let bytes = [POST.as_bytes(), before.as_bytes(), &[byte], after.as_bytes(), b"\r\n\r\n", INNER.as_bytes()];
            cases.push(refuse(format!("byte {byte:#04x} in {place}"), bytes.concat()));
        }
    }
    for byte in b" \t\"(),/;<=>?@[\\]{}\x80\xa0\xff" {
        let bytes = [POST.as_bytes(), b"X-A", &[*byte], b"b: c\r\n\r\n", INNER.as_bytes()].concat();
        cases.push(refuse(format!("byte {byte:#04x} in a name"), bytes));
    }
    for (name, line) in [
        ("no name", ": b"),
        ("a blank as name", " : b"),
        ("no colon", "X-A"),
        ("only a colon", ":"),
        ("a blank before the colon", "X-A : b"),
        ("a tab before the colon", "X-A\t: b"),
        ("a request line as field", "GET /m/#### HTTP/1.1"),
        ("a request line with a colon", "GET /m/#### HTTP/1.1: b"),
    ] {
        cases.push(refuse(name, format!("{POST}{line}\r\n\r\n{INNER}")));
    }
    let fine = vec![seen("POST", ""), trapped()];
    for (name, line) in [
        ("an empty value", "X-A:"),
        ("a value of blanks", "X-A:    "),
        ("a tab in a value", "X-A: b\tc"),
        ("odd but allowed bytes in a name", "X!#$%&'*+-.^_`|~9: b"),
        ("Latin-1 in a value", "X-A: \u{e9}"),
        ("a colon in a value", "X-A: b: c"),
    ] {
        cases.push(serve(name, format!("{POST}{line}\r\n\r\n{INNER}"), fine.clone()));
    }
    cases
}

fn request_lines() -> Vec<Case> {
    let mut cases = Vec::new();
    let rest = format!("\r\nHost: {HOST}\r\n\r\n{INNER}");
    let lax = vec![seen("GET", ""), trapped()];
    for (name, line) in [
        ("two blanks before the target", "GET  /c/#### HTTP/1.1"),
        ("two blanks behind the target", "GET /c/####  HTTP/1.1"),
        ("a tab before the target", "GET\t/c/#### HTTP/1.1"),
        ("a tab behind the target", "GET /c/####\tHTTP/1.1"),
        ("a blank at the end", "GET /c/#### HTTP/1.1 "),
        ("a blank in the target", "GET /c/#### /m/#### HTTP/1.1"),
        ("a version in the target", "GET /c/#### HTTP/1.1 HTTP/1.1"),
        ("no target", "GET HTTP/1.1"),
        ("an empty target", "GET  HTTP/1.1"),
        ("no method", "/c/#### HTTP/1.1"),
        ("an empty method", " /c/#### HTTP/1.1"),
        ("a method with a colon", "GE:T /c/#### HTTP/1.1"),
        ("a method with a slash", "GE/T /c/#### HTTP/1.1"),
        ("a method with NUL", "GE\0T /c/#### HTTP/1.1"),
        ("a method beyond ASCII", "G\u{c9}T /c/#### HTTP/1.1"),
        ("NUL in the target", "GET /c/####\0 HTTP/1.1"),
        ("CR in the target", "GET /c/####\rX HTTP/1.1"),
        ("a control byte in the target", "GET /c/####\u{1} HTTP/1.1"),
        ("DEL in the target", "GET /c/####\u{7f} HTTP/1.1"),
        ("a vertical tab as blank", "GET\u{b}/c/#### HTTP/1.1"),
        ("a no-break space as blank", "GET\u{a0}/c/#### HTTP/1.1"),
        ("a target without a slash", "GET c/#### HTTP/1.1"),
        ("a broken escape", "GET /c/####%zz HTTP/1.1"),
        ("half an escape", "GET /c/####%a HTTP/1.1"),
        ("a response", "HTTP/1.1 200 OK"),
        ("HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n"),
    ] {
        cases.push(refuse(format!("request line, {name}"), format!("{line}{rest}")).or(lax.clone()));
    }
    // It is refused, and where the next request begins is beyond doubt.
    let fragment = format!("GET /c/#####x HTTP/1.1{rest}");
    cases.push(either("request line, a fragment in the target", fragment, vec![trapped()]));
    // Escaped ends of lines stay escaped.
    for escape in ["%0d%0a", "%0D%0AX-A:%20b", "%20HTTP/1.1%0d%0aHost:%20trap.test%0d%0a%0d%0a"] {
        let bytes = format!("GET /c/####{escape} HTTP/1.1{rest}");
        let shown = |text: &str| {
            let target = format!("/c/####{text}");
            vec![super::case::Seen { target, ..seen("GET", "") }, trapped()]
        };
        let case = either(format!("target with {escape}"), bytes, shown(escape));
        cases.push(case.or(shown(&escape.replace("%0d", "%0D").replace("%0a", "%0A"))));
    }
    cases
}

fn versions() -> Vec<Case> {
    let mut cases = Vec::new();
    let rest = format!("\r\nHost: {HOST}\r\n\r\n{INNER}");
    for version in [
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/2",
        "HTTP/2.0",
        "HTTP/3",
        "HTTP/11",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1.10",
        "HTTP/1.01",
        "HTTP/01.1",
        "http/1.1",
        "Http/1.1",
        "HTTP/1,1",
        "HTTP1.1",
        "HTTPS/1.1",
        "HTTP /1.1",
        "HTTP/ 1.1",
        "HTTP/1.1x",
        "HTTP/1.1\0",
        "HTTP/-1.1",
        "HTTP/+1.1",
        "ICAP/1.0",
        "RTSP/1.0",
        "HTTP/1.\u{661}",
    ] {
        let lax = vec![seen("GET", ""), trapped()];
        cases.push(refuse(format!("version {version:?}"), format!("GET /c/#### {version}{rest}")).or(lax));
    }
    cases.push(refuse("HTTP/0.9, a line alone", format!("GET /c/####\r\n{INNER}")));
    cases.push(refuse("HTTP/0.9, with fields", format!("GET /c/####{rest}")));
    let ten = format!("GET /c/#### HTTP/1.0\r\nHost: {HOST}\r\n");
    // Who does not ask for more is not answered more than once.
    cases.push(serve("HTTP/1.0, and a request behind", format!("{ten}\r\n{INNER}"), vec![seen("GET", "")]));
    let kept = format!("{ten}Connection: keep-alive\r\n\r\n{INNER}");
    cases.push(
        serve("HTTP/1.0 kept, and a request behind", kept, vec![seen("GET", ""), trapped()]).or(vec![seen("GET", "")]),
    );
    let body = format!("POST /c/#### HTTP/1.0\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{INNER}", INNER.len());
    cases.push(serve("HTTP/1.0 with a length", body, vec![seen("POST", INNER)]));
    cases.push(refuse(
        "HTTP/1.0 with two lengths",
        format!(
            "POST /c/#### HTTP/1.0\r\nHost: {HOST}\r\nContent-Length: 0\r\nContent-Length: {}\r\n\r\n{INNER}",
            INNER.len()
        ),
    ));
    let bare = format!("POST /c/#### HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\r\n{INNER}");
    cases.push(serve("HTTP/1.0 without a length", bare, vec![seen("POST", ""), trapped()]).or(vec![seen("POST", "")]));
    cases
}

/// Which host is asked (RFC 9112, 3.2).
fn hosts() -> Vec<Case> {
    let mut cases = Vec::new();
    let get = "GET /c/#### HTTP/1.1\r\n";
    let served = vec![seen("GET", ""), trapped()];
    for (name, fields) in [
        ("none", String::new()),
        ("two", format!("Host: {HOST}\r\nHost: trap.test\r\n")),
        ("two, the other way", format!("Host: trap.test\r\nHost: {HOST}\r\n")),
        ("two equal ones", format!("Host: {HOST}\r\nHost: {HOST}\r\n")),
        ("two, one in lower case", format!("Host: {HOST}\r\nhost: trap.test\r\n")),
        ("two, one empty", format!("Host:\r\nHost: {HOST}\r\n")),
        ("a list", format!("Host: {HOST}, trap.test\r\n")),
        ("with a blank before the colon", format!("Host : {HOST}\r\n")),
        ("a second with a blank before the colon", format!("Host: {HOST}\r\nHost : trap.test\r\n")),
        ("with user information", format!("Host: user@{HOST}\r\n")),
        ("with a path", format!("Host: {HOST}/m/####\r\n")),
        ("with a query", format!("Host: {HOST}?x\r\n")),
        ("with a fragment", format!("Host: {HOST}#x\r\n")),
        ("with a blank", format!("Host: {HOST} trap.test\r\n")),
        ("with a tab", format!("Host: {HOST}\ttrap.test\r\n")),
        ("with a scheme", format!("Host: http://{HOST}\r\n")),
        ("with a backslash", format!("Host: {HOST}\\trap.test\r\n")),
        ("with NUL", format!("Host: {HOST}\0trap.test\r\n")),
        ("with an LF", format!("Host: {HOST}\nX: trap.test\r\n")),
        ("beyond ASCII", format!("Host: {HOST}\u{e9}\r\n")),
        ("in quotes", format!("Host: \"{HOST}\"\r\n")),
    ] {
        cases.push(refuse(format!("host, {name}"), format!("{get}{fields}\r\n{INNER}")).or(served.clone()));
    }
    // What this side takes for the host leads to no other server than the one that it names.
    for (name, fields) in [
        ("with a port", format!("Host: {HOST}:80\r\n")),
        ("in upper case", "Host: LANE-@@.TEST\r\n".to_owned()),
        ("with a dot at its end", format!("Host: {HOST}.\r\n")),
        ("beside X-Forwarded-Host", format!("Host: {HOST}\r\nX-Forwarded-Host: trap.test\r\n")),
        ("beside Forwarded", format!("Host: {HOST}\r\nForwarded: host=trap.test\r\n")),
        ("beside X-Host", format!("Host: {HOST}\r\nX-Host: trap.test\r\n")),
    ] {
        cases.push(either(format!("host, {name}"), format!("{get}{fields}\r\n"), vec![seen("GET", "")]));
    }
    let absolute = |url: &str, host: &str| format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n{INNER}");
    let own = format!("http://{HOST}/c/####");
    cases.push(serve("absolute form with its host", absolute(&own, HOST), served.clone()));
    cases.push(refuse("absolute form against another host", absolute(&own, "trap.test")).or(served.clone()));
    cases.push(
        refuse("absolute form against no host at all", format!("GET {own} HTTP/1.1\r\n\r\n{INNER}")).or(served.clone()),
    );
    cases.push(refuse(
        "absolute form against two hosts",
        format!("GET {own} HTTP/1.1\r\nHost: {HOST}\r\nHost: trap.test\r\n\r\n{INNER}"),
    ));
    cases.push(refuse("absolute form against an empty host", absolute(&own, "")).or(served.clone()));
    for (name, url) in [
        ("user information", "http://user@lane-@@.test/c/####"),
        ("two ats", "http://trap.test@lane-@@.test/c/####"),
        ("a backslash", "http://lane-@@.test\\trap.test/c/####"),
        ("no host", "http:///c/####"),
        ("another scheme", "ftp://lane-@@.test/c/####"),
        ("a broken port", "http://lane-@@.test:80x/c/####"),
        ("an escape in the host", "http://lane-@@.tes%74/c/####"),
    ] {
        cases.push(either(format!("absolute form with {name}"), absolute(url, HOST), served.clone()));
    }
    cases
}

/// `Connection` naming what is not one hop's (RFC 9110, 7.6.1).
fn options() -> Vec<Case> {
    let mut cases = Vec::new();
    let served = vec![seen("POST", "abc")];
    for name in ["Host", "Authorization", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"] {
        for (how, option) in [("alone", name.to_owned()), ("beside close", format!("close, {}", name.to_lowercase()))] {
            let bytes = format!("{POST}Connection: {option}\r\nContent-Length: 3\r\n\r\nabc");
            cases.push(refuse(format!("Connection names {name}, {how}"), bytes).or(served.clone()));
        }
    }
    for name in
        ["Content-Length", "Transfer-Encoding", "Cookie", "Content-Type", "Trailer", "TE", "Expect", "Upgrade", "X-A"]
    {
        let bytes = format!("{POST}Connection: close, {name}\r\nX-A: b\r\nContent-Length: 3\r\n\r\nabc");
        cases.push(either(format!("Connection names {name}"), bytes, served.clone()));
    }
    for option in ["close, close", "keep-alive, close", ",close,", "Close", "\"close\"", "close;", "cl ose"] {
        // Whether it is `close` or not, there is one body and one request behind it.
        let bytes = format!("{POST}Connection: {option}\r\nContent-Length: 3\r\n\r\nabc{INNER}");
        let case = either(format!("Connection: {option}"), bytes, served.clone());
        cases.push(case.or(vec![seen("POST", "abc"), trapped()]));
    }
    let last = format!("{GET}Connection: close\r\n\r\n{INNER}");
    cases.push(serve("nothing behind Connection: close", last, vec![seen("GET", "")]));
    let proxy = format!("{GET}Proxy-Connection: close\r\n\r\n{INNER}");
    cases.push(serve("Proxy-Connection means nothing", proxy, vec![seen("GET", ""), trapped()]));
    cases
}

/// Upgrades that nobody agrees to, CONNECT, Expect.
fn upgrades() -> Vec<Case> {
    let mut cases = Vec::new();
    let served = [vec![seen("GET", "")], vec![seen("GET", ""), trapped()]];
    let both = |case: Case| served.iter().fold(case, |case, reading| case.or(reading.clone()));
    for (name, fields) in [
        ("h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
        ("h2c without settings", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        ("h2c in upper case", "Connection: upgrade\r\nUpgrade: H2C\r\n"),
        ("h2c in a list", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"),
        ("TLS", "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n"),
        ("HTTP/2.0", "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n"),
        (
            "a WebSocket that the server does not speak",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ),
        (
            "a WebSocket of a wrong version",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 9999\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ),
        ("no Connection", "Upgrade: websocket\r\n"),
        ("no Upgrade", "Connection: Upgrade\r\n"),
    ] {
        let bytes = format!("{GET}{fields}\r\n{INNER}");
        cases.push(both(either(format!("upgrade, {name}"), bytes, served[0].clone())));
    }
    let with_body =
        format!("{POST}Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: {}\r\n\r\n{INNER}", INNER.len());
    cases.push(either("upgrade with a body", with_body, vec![seen("POST", INNER)]));
    for target in [HOST, "lane-@@.test:80", "trap.test:80", "/c/####", "http://lane-@@.test/c/####", "*"] {
        let bytes = format!("CONNECT {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n{INNER}");
        // Refused; whether what stands behind is a request is the proxy's to say, not the server's to see.
        cases.push(either(format!("CONNECT {target}"), bytes, vec![trapped()]));
        let bytes =
            format!("CONNECT {target} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{INNER}", INNER.len());
        cases.push(refuse(format!("CONNECT {target} with a body"), bytes));
    }
    for (name, expect) in [
        ("100-continue", "100-continue"),
        ("100-continue in upper case", "100-CONTINUE"),
        ("y 100-continue", "y 100-continue"),
        ("100-continue twice", "100-continue, 100-continue"),
        ("something else", "a-pony"),
        ("nothing", ""),
    ] {
        let bytes = format!("{POST}Expect: {expect}\r\nContent-Length: {}\r\n\r\n{INNER}", INNER.len());
        cases.push(either(format!("expecting {name}"), bytes, vec![seen("POST", INNER)]));
        let bytes = format!("{GET}Expect: {expect}\r\n\r\n{INNER}");
        cases.push(both(either(format!("expecting {name} without a body"), bytes, served[0].clone())));
    }
    let bytes = format!("{POST}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INNER}");
    cases.push(
        serve("expecting 100-continue of no chunks", bytes, vec![seen("POST", ""), trapped()])
            .or(vec![seen("POST", "")]),
    );
    cases
}

/// More than anybody needs.
fn long() -> Vec<Case> {
    let mut cases = Vec::new();
    let served = vec![seen("GET", ""), trapped()];
    let fits = format!("{GET}X-A: {}\r\n\r\n{INNER}", "b".repeat(6_000));
    cases.push(serve("a value of 6,000 bytes", fits, served.clone()));
    for (name, fields) in [
        ("a value of 1,100,000 bytes", format!("X-A: {}\r\n", "b".repeat(1_100_000))),
        ("a name of 1,100,000 bytes", format!("{}: b\r\n", "X".repeat(1_100_000))),
        ("10,000 fields", "X-A: b\r\n".repeat(10_000)),
        ("100,000 fields of three bytes", "a:\r\n".repeat(100_000)),
        ("a million blanks", format!("X-A:{}b\r\n", " ".repeat(1_100_000))),
    ] {
        cases.push(refuse(format!("head with {name}"), format!("{GET}{fields}\r\n{INNER}")));
    }
    cases.push(refuse(
        "a target of 1,100,000 bytes",
        format!("GET /c/####?{} HTTP/1.1\r\nHost: {HOST}\r\n\r\n{INNER}", "a".repeat(1_100_000)),
    ));
    cases.push(refuse(
        "a method of 1,100,000 bytes",
        format!("{} /c/#### HTTP/1.1\r\nHost: {HOST}\r\n\r\n{INNER}", "A".repeat(1_100_000)),
    ));
    cases
}
