//! What servers say that they should not (RFC 9112, 6.3 and 9.3; RFC 9110, 15.2).

/// What has to come of it at the client.
#[derive(Debug, Clone)]
pub enum Must {
    /// 502, or 504 where nothing comes.
    Refuse,
    /// This status and body.
    Pass(u16, Vec<u8>),
    /// Never a complete answer: the client sees that it broke off, or gets a 502.
    Cut,
    /// Refused or passed.
    Either(u16, Vec<u8>),
}

/// What the server does when it has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// Waits for more.
    Keep,
    Close,
    Reset,
    /// Has not read the request's body and never does.
    Unread,
    /// Says this when the client has its answer, and waits for more.
    Late(Vec<u8>),
}

/// One server's behaviour.
#[derive(Debug, Clone)]
pub struct Script {
    pub name: String,
    pub method: &'static str,
    /// Lines of the request's head.
    pub fields: &'static str,
    pub body: Vec<u8>,
    pub answer: Vec<u8>,
    pub after: After,
    pub must: Must,
    /// The connection may be used for other requests.
    pub reuse: bool,
}

fn script(name: &str, answer: impl Into<Vec<u8>>, must: Must) -> Script {
    let name = format!("answer: {name}");
    Script {
        name,
        method: "GET",
        fields: CLOSE,
        body: Vec::new(),
        answer: answer.into(),
        after: After::Keep,
        must,
        reuse: false,
    }
}

fn refuse(name: &str, answer: impl Into<Vec<u8>>) -> Script {
    script(name, answer, Must::Refuse)
}

fn pass(name: &str, answer: impl Into<Vec<u8>>, status: u16, body: &str) -> Script {
    script(name, answer, Must::Pass(status, body.into()))
}

fn either(name: &str, answer: impl Into<Vec<u8>>, status: u16, body: &str) -> Script {
    script(name, answer, Must::Either(status, body.into()))
}

fn cut(name: &str, answer: impl Into<Vec<u8>>) -> Script {
    script(name, answer, Must::Cut)
}

impl Script {
    fn then(self, after: After) -> Self {
        Self { after, ..self }
    }

    fn to(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    fn asked_with(self, fields: &'static str) -> Self {
        Self { fields, ..self }
    }

    fn reused(self) -> Self {
        Self { reuse: true, ..self }
    }
}

const CLOSE: &str = "Connection: close\r\n";
/// The client asks for a WebSocket.
const WEBSOCKET: &str = "Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// The client asks for HTTP/2.
const H2C: &str = "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";

const OK: &str = "HTTP/1.1 200 OK\r\n";
/// An answer that is nobody's.
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Poison: 1\r\n\r\nPOISON";

/// All of them.
pub fn scripts() -> Vec<Script> {
    [framing(), chunks(), statuses(), upgrades(), surplus(), lines(), ends(), floods()].concat()
}

fn framing() -> Vec<Script> {
    let mut scripts = vec![
        refuse(
            "a length and a coding",
            format!("{OK}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ),
        refuse(
            "a coding and a length",
            format!("{OK}Transfer-Encoding: chunked\r\nContent-Length: 12\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ),
        refuse("two lengths", format!("{OK}Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!")),
        refuse("a list of lengths", format!("{OK}Content-Length: 2, 3\r\n\r\nok!")),
        either("two equal lengths", format!("{OK}Content-Length: 2\r\nContent-Length: 2\r\n\r\nok"), 200, "ok")
            .reused(),
        either("a list of equal lengths", format!("{OK}Content-Length: 2, 2\r\n\r\nok"), 200, "ok").reused(),
        refuse("a coding nobody knows", format!("{OK}Transfer-Encoding: cow\r\n\r\nok")).then(After::Close),
        refuse("gzip behind chunked", format!("{OK}Transfer-Encoding: chunked, gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n"))
            .then(After::Close),
        refuse("gzip before chunked", format!("{OK}Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")),
        refuse("chunked twice", format!("{OK}Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")),
        refuse("chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        refuse(
            "a coding with a vertical tab",
            format!("{OK}Transfer-Encoding: \u{b}chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ),
        refuse(
            "a coding with a blank before the colon",
            format!("{OK}Transfer-Encoding : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ),
        pass(
            "a length named by Connection",
            format!("{OK}Connection: Content-Length\r\nContent-Length: 2\r\n\r\nok"),
            200,
            "ok",
        )
        .reused(),
    ];
    for length in ["+2", "-2", "0x2", "2a", "2 2", "", "2;", "18446744073709551618", "\"2\"", "1_0", "2.0"] {
        scripts.push(
            refuse(&format!("length {length:?}"), format!("{OK}Content-Length: {length}\r\n\r\nok")).then(After::Close),
        );
    }
    scripts
}

fn chunks() -> Vec<Script> {
    let head = format!("{OK}Transfer-Encoding: chunked\r\n\r\n");
    let mut scripts =
        vec![pass("chunks", format!("{head}1\r\no\r\n1;a=b\r\nk\r\n0\r\nX-Sum: 1\r\n\r\n"), 200, "ok").reused()];
    for (name, chunks) in [
        ("0x before a size", "0x2\r\nok\r\n0\r\n\r\n"),
        ("plus before a size", "+2\r\nok\r\n0\r\n\r\n"),
        ("minus before a size", "-2\r\nok\r\n0\r\n\r\n"),
        ("a letter in a size", "2g\r\nok\r\n0\r\n\r\n"),
        ("no size", "\r\nok\r\n0\r\n\r\n"),
        ("a size beyond 64 bits", "10000000000000002\r\nok\r\n0\r\n\r\n"),
        ("LF behind a size", "2\nok\r\n0\r\n\r\n"),
        ("LF behind the data", "2\r\nok\n0\r\n\r\n"),
        ("nothing behind the data", "2\r\nok0\r\n\r\n"),
        ("more than said", "2\r\nokay\r\n0\r\n\r\n"),
        ("an extension with LF", "2;a\nok\r\n0\r\n\r\n"),
        ("garbage", "zz\r\nok\r\n0\r\n\r\n"),
        ("a trailer with a fold", "2\r\nok\r\n0\r\nX-A: b\r\n c\r\n\r\n"),
        ("a trailer without a colon", "2\r\nok\r\n0\r\nX-A\r\n\r\n"),
    ] {
        scripts.push(cut(&format!("chunks with {name}"), format!("{head}{chunks}")).then(After::Close));
    }
    for (name, chunks) in [
        ("in the middle of a chunk", "5\r\nok"),
        ("behind a chunk", "2\r\nok\r\n"),
        ("behind a chunk's data", "2\r\nok"),
        ("in the last size", "2\r\nok\r\n0"),
        ("behind the last size", "2\r\nok\r\n0\r\n"),
        ("in the trailers", "2\r\nok\r\n0\r\nX-A: b\r\n"),
        ("before the first", ""),
    ] {
        scripts.push(cut(&format!("chunks that end {name}"), format!("{head}{chunks}")).then(After::Close));
        scripts.push(cut(&format!("chunks reset {name}"), format!("{head}{chunks}")).then(After::Reset));
    }
    let poison = format!("{head}2\r\nok\r\n0\r\n\r\n{POISON}");
    scripts.push(pass("chunks and more", poison, 200, "ok"));
    scripts
}

fn statuses() -> Vec<Script> {
    vec![
        refuse(
            "101 that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
        refuse(
            "101 and an answer",
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n{POISON}"),
        ),
        refuse("101 without Upgrade", format!("HTTP/1.1 101 Switching Protocols\r\n\r\n{POISON}")),
        pass("204", "HTTP/1.1 204 No Content\r\n\r\n", 204, "").reused(),
        either("204 with a body", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", 204, ""),
        either(
            "204 with an answer as body",
            format!("HTTP/1.1 204 No Content\r\nContent-Length: {}\r\n\r\n{POISON}", POISON.len()),
            204,
            "",
        ),
        either(
            "204 with chunks",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            204,
            "",
        ),
        pass("304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", 304, "").reused(),
        either("304 with a body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", 304, ""),
        either(
            "304 with an answer as body",
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: {}\r\n\r\n{POISON}", POISON.len()),
            304,
            "",
        ),
        pass("an answer to HEAD", format!("{OK}Content-Length: 2\r\n\r\n"), 200, "").to("HEAD").reused(),
        pass("an answer to HEAD with chunks said", format!("{OK}Transfer-Encoding: chunked\r\n\r\n"), 200, "")
            .to("HEAD")
            .reused(),
        pass("an answer to HEAD with a body", format!("{OK}Content-Length: 2\r\n\r\nok"), 200, "").to("HEAD"),
        pass(
            "an answer to HEAD with an answer as body",
            format!("{OK}Content-Length: {}\r\n\r\n{POISON}", POISON.len()),
            200,
            "",
        )
        .to("HEAD"),
        pass("100 and an answer", format!("HTTP/1.1 100 Continue\r\n\r\n{OK}Content-Length: 2\r\n\r\nok"), 200, "ok")
            .reused(),
        pass(
            "103 and an answer",
            format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}Content-Length: 2\r\n\r\nok"),
            200,
            "ok",
        )
        .reused(),
        pass(
            "ten 102 and an answer",
            format!("{}{OK}Content-Length: 2\r\n\r\nok", "HTTP/1.1 102 Processing\r\n\r\n".repeat(10)),
            200,
            "ok",
        )
        .reused(),
        either(
            "100 with a length",
            format!("HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n{OK}Content-Length: 2\r\n\r\nok"),
            200,
            "ok",
        )
        .reused(),
        either(
            "103 with a coding",
            format!("HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n{OK}Content-Length: 2\r\n\r\nok"),
            200,
            "ok",
        )
        .reused(),
        refuse("103 and nothing", "HTTP/1.1 103 Early Hints\r\n\r\n").then(After::Close),
        refuse("status 99", "HTTP/1.1 099 What\r\nContent-Length: 2\r\n\r\nok"),
        refuse("status 0", "HTTP/1.1 000 What\r\nContent-Length: 2\r\n\r\nok"),
        refuse("status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"),
        refuse("status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"),
        refuse("status with a letter", "HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok"),
        refuse("status with a sign", "HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nok"),
        refuse("no status", "HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok"),
        pass("no reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, "ok").reused(),
    ]
}

/// Switches to what nobody asked for, and none where one was asked for.
fn upgrades() -> Vec<Script> {
    let switch = |to: &str| format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{to}\r\n{POISON}");
    let other =
        "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno";
    vec![
        refuse("101 to something else", switch("Upgrade: h2c\r\n")).asked_with(WEBSOCKET),
        refuse("101 to nothing", switch("")).asked_with(WEBSOCKET),
        refuse("101 to h2c, which is never asked for", switch("Upgrade: h2c\r\n")).asked_with(H2C),
        refuse("101 to a WebSocket for h2c", switch("Upgrade: websocket\r\n")).asked_with(H2C),
        refuse("101 behind 103", format!("HTTP/1.1 103 Early Hints\r\n\r\n{}", switch("Upgrade: websocket\r\n"))),
        pass("426 that nobody asked for", other, 426, "no").reused(),
        pass("426 to a WebSocket", other, 426, "no").asked_with(WEBSOCKET).reused(),
        pass("200 to a WebSocket", format!("{OK}Content-Length: 2\r\n\r\nok"), 200, "ok")
            .asked_with(WEBSOCKET)
            .reused(),
        pass("200 to a WebSocket, and more", format!("{OK}Content-Length: 2\r\n\r\nok{POISON}"), 200, "ok")
            .asked_with(WEBSOCKET),
    ]
}

/// Bytes behind an answer: the next one to ask on that connection would get them.
fn surplus() -> Vec<Script> {
    let good = format!("{OK}Content-Length: 2\r\n\r\nok");
    let mut scripts = vec![
        pass("twice", format!("{good}{POISON}"), 200, "ok"),
        pass("and a line end", format!("{good}\r\n"), 200, "ok"),
        pass("and a byte", format!("{good}x"), 200, "ok"),
        pass("and half of another", format!("{good}HTTP/1.1 200 OK\r\nContent-"), 200, "ok"),
        pass("empty and an answer", format!("{OK}Content-Length: 0\r\n\r\n{POISON}"), 200, ""),
        pass("late twice", good.clone(), 200, "ok").then(After::Late(POISON.into())),
        pass("late and a byte", good.clone(), 200, "ok").then(After::Late(b"x".to_vec())),
        pass("late and a line end", good.clone(), 200, "ok").then(After::Late(b"\r\n".to_vec())),
        pass("late and 408", good.clone(), 200, "ok").then(After::Late(
            b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        )),
        pass("chunks and late twice", format!("{OK}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), 200, "ok")
            .then(After::Late(POISON.into())),
        pass("304 and late a body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", 304, "")
            .then(After::Late(b"ok".to_vec())),
    ];
    scripts.push(
        pass("HEAD and late a body", good.clone().replace("ok", ""), 200, "")
            .to("HEAD")
            .then(After::Late(POISON.into())),
    );
    scripts.push(pass(
        "close and more",
        format!("{OK}Connection: close\r\nContent-Length: 2\r\n\r\nok{POISON}"),
        200,
        "ok",
    ));
    scripts.push(pass(
        "close and kept open",
        format!("{OK}Connection: close\r\nContent-Length: 2\r\n\r\nok"),
        200,
        "ok",
    ));
    scripts.push(pass(
        "close in other words",
        format!("{OK}Connection: foo, CLOSE\r\nContent-Length: 2\r\n\r\nok"),
        200,
        "ok",
    ));
    scripts.push(pass("HTTP/1.0 and kept open", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"));
    scripts.push(pass("as it should be", good, 200, "ok").reused());
    // The answer comes while the body is still to be sent, and nobody reads that.
    let early = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno";
    // Longer than what kernels keep for the two.
    let early = pass("before a long body is read", early, 413, "no").then(After::Unread).to("POST");
    scripts.push(Script { body: vec![b'x'; 32 << 20], ..early });
    scripts
}

/// Heads that are none.
fn lines() -> Vec<Script> {
    let rest = "Content-Length: 2\r\n\r\nok";
    [
        ("bare LF behind the status line", format!("HTTP/1.1 200 OK\n{rest}")),
        ("bare LF behind a field", format!("{OK}X-A: b\n{rest}")),
        ("bare LF at the end", format!("{OK}Content-Length: 2\r\n\nok")),
        ("bare LF everywhere", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok".to_owned()),
        ("bare CR in a value", format!("{OK}X-A: b\rc\r\n{rest}")),
        ("bare CR behind a field", format!("{OK}X-A: b\r{rest}")),
        ("bare CR in the reason", format!("HTTP/1.1 200 O\rK\r\n{rest}")),
        ("NUL in the reason", format!("HTTP/1.1 200 O\0K\r\n{rest}")),
        ("a fold", format!("{OK}X-A: b\r\n c\r\n{rest}")),
        ("a fold with a tab", format!("{OK}X-A: b\r\n\tc\r\n{rest}")),
        ("a fold of nothing", format!("{OK}X-A: b\r\n \r\n{rest}")),
        ("a fold before the first field", format!("{OK} X-A: b\r\n{rest}")),
        ("a folded length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok".to_owned()),
        ("a blank before a colon", format!("{OK}X-A : b\r\n{rest}")),
        ("a blank in a name", format!("{OK}X A: b\r\n{rest}")),
        ("NUL in a value", format!("{OK}X-A: b\0\r\n{rest}")),
        ("a control byte in a value", format!("{OK}X-A: b\u{1}\r\n{rest}")),
        ("a control byte in a name", format!("{OK}X\u{1}A: b\r\n{rest}")),
        ("no name", format!("{OK}: b\r\n{rest}")),
        ("no colon", format!("{OK}X-A\r\n{rest}")),
        ("HTTP/2.0", format!("HTTP/2.0 200 OK\r\n{rest}")),
        ("HTTP/1.2", format!("HTTP/1.2 200 OK\r\n{rest}")),
        ("HTTP/0.9", "hello, this is the body".to_owned()),
        ("lower case", format!("http/1.1 200 OK\r\n{rest}")),
        ("another protocol", format!("ICY 200 OK\r\n{rest}")),
        ("garbage", "\0\u{1}\u{2}\u{3}\r\n\r\n".to_owned()),
        ("a request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("a TLS alert", "\u{15}\u{3}\u{1}\0\u{2}\u{2}\u{28}".to_owned()),
        ("HTTP/2 SETTINGS", "\0\0\0\u{4}\0\0\0\0\0".to_owned()),
        ("a tab behind the version", format!("HTTP/1.1\t200 OK\r\n{rest}")),
    ]
    .into_iter()
    .map(|(name, answer)| refuse(name, answer).then(After::Close))
    .collect()
}

/// Answers that end too soon, or not at all.
fn ends() -> Vec<Script> {
    let body = format!("{OK}Content-Length: 10\r\n\r\nok");
    vec![
        refuse("nothing, closed", "").then(After::Close).to("POST"),
        refuse("nothing, reset", "").then(After::Reset).to("POST"),
        refuse("never", ""),
        refuse("half a status line, closed", "HTTP/1.1 2").then(After::Close).to("POST"),
        refuse("half a status line, then never more", "HTTP/1.1 2"),
        refuse("half a head, closed", format!("{OK}Content-Le")).then(After::Close).to("POST"),
        refuse("half a head, reset", format!("{OK}Content-Le")).then(After::Reset).to("POST"),
        refuse("a head without its end, closed", format!("{OK}Content-Length: 2\r\n")).then(After::Close).to("POST"),
        refuse("a head that never ends", format!("{OK}Content-Length: 2\r\n")),
        cut("a body shorter than said, closed", body.clone()).then(After::Close),
        cut("a body shorter than said, reset", body).then(After::Reset),
        cut("no body at all, closed", format!("{OK}Content-Length: 10\r\n\r\n")).then(After::Close),
        cut("a large body cut at its last byte", format!("{OK}Content-Length: 1000000\r\n\r\n{}", "x".repeat(999_999)))
            .then(After::Close),
        pass("a body until the end", format!("{OK}\r\nok"), 200, "ok").then(After::Close),
        pass("a body until the end in HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nok", 200, "ok").then(After::Close),
        cut("a body until a reset", format!("{OK}\r\nok")).then(After::Reset),
    ]
}

/// More than anybody needs.
fn floods() -> Vec<Script> {
    let end = "Content-Length: 2\r\n\r\nok";
    vec![
        refuse(
            "5,000 times 103",
            format!("{}{OK}{end}", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(5_000)),
        ),
        refuse("5,000 times 100", format!("{}{OK}{end}", "HTTP/1.1 100 Continue\r\n\r\n".repeat(5_000))),
        refuse("a head of 11,000,000 bytes", format!("{OK}X-A: {}\r\n{end}", "b".repeat(11_000_000))),
        refuse("a head that never ends, of 2,000,000 bytes", format!("{OK}X-A: {}", "b".repeat(2_000_000))),
        refuse("10,000 fields", format!("{OK}{}{end}", "X-A: b\r\n".repeat(10_000))),
        refuse("a reason of 11,000,000 bytes", format!("HTTP/1.1 200 {}\r\n{end}", "b".repeat(11_000_000))),
        cut(
            "an extension of 1,100,000 bytes",
            format!("{OK}Transfer-Encoding: chunked\r\n\r\n2;{}\r\nok\r\n0\r\n\r\n", "a".repeat(1_100_000)),
        ),
        cut(
            "trailers of 1,100,000 bytes",
            format!("{OK}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-A: {}\r\n\r\n", "a".repeat(1_100_000)),
        ),
        cut(
            "10,000 trailers",
            format!("{OK}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{}\r\n", "X-A: b\r\n".repeat(10_000)),
        ),
    ]
}
