//! What is sent, and what a server behind the proxy may make of it.
//!
//! Texts have places of fixed width, filled in when a case is run, so that lengths can be said of them
//! before: `lane-@@.test` is the host that leads to the server under test, `/c/####` the case's own target
//! and `/m/####` the marker, which only ever stands in what is smuggled.

/// The head that leads to the server under test, without its end.
pub const POST: &str = "POST /c/#### HTTP/1.1\r\nHost: lane-@@.test\r\n";
/// As [`POST`], without a body.
pub const GET: &str = "GET /c/#### HTTP/1.1\r\nHost: lane-@@.test\r\n";
/// What is smuggled: a request for another route.
pub const INNER: &str = "GET /m/#### HTTP/1.1\r\nHost: trap.test\r\n\r\n";
/// The host of the server under test.
pub const HOST: &str = "lane-@@.test";

/// A request, as a server saw it or may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// At the server behind `trap.test`, not at the one under test.
    pub trap: bool,
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
    /// The body came to its end.
    pub whole: bool,
}

/// One way to read what is sent: the requests that arrive, in order.
pub type Reading = Vec<Seen>;

/// What has to come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Must {
    /// No server sees anything, the client gets an error or nothing.
    Refuse,
    /// One of the readings, and the client gets an answer to each request of it.
    Serve,
    /// One of the two.
    Either,
}

/// What a client says.
#[derive(Debug, Clone)]
pub enum Wire {
    /// Bytes on a plain connection.
    Plain(Vec<u8>),
    /// Frames on an HTTP/2 connection, behind preface and SETTINGS; the streams that they open.
    Http2(Vec<u8>, Vec<u32>),
}

/// One input.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub wire: Wire,
    pub must: Must,
    /// What may be read in it, and nothing else, by whoever does not refuse it. Of a case that has to be refused:
    /// what a server may have of it before that shows.
    pub readings: Vec<Reading>,
    /// What may be read in it besides while the case is in `not_yet.txt`, because it does no harm.
    pub lax: Vec<Reading>,
}

/// A request for the server under test.
pub fn seen(method: &str, body: &str) -> Seen {
    Seen { trap: false, method: method.into(), target: "/c/####".into(), body: body.into(), whole: true }
}

/// A request for the server under test that does not come to its end.
pub fn cut(method: &str, body: &str) -> Seen {
    Seen { whole: false, ..seen(method, body) }
}

/// The marker, honestly asked for: at the other route's server.
pub fn trapped() -> Seen {
    Seen { trap: true, method: "GET".into(), target: "/m/####".into(), body: Vec::new(), whole: true }
}

fn case(name: impl Into<String>, bytes: impl Into<Vec<u8>>, must: Must) -> Case {
    Case { name: name.into(), wire: Wire::Plain(bytes.into()), must, readings: Vec::new(), lax: Vec::new() }
}

/// Has to be refused.
pub fn refuse(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Case {
    case(name, bytes, Must::Refuse)
}

/// Has to be served, as this.
pub fn serve(name: impl Into<String>, bytes: impl Into<Vec<u8>>, reading: Reading) -> Case {
    case(name, bytes, Must::Serve).or(reading)
}

/// May be refused, or served as this.
pub fn either(name: impl Into<String>, bytes: impl Into<Vec<u8>>, reading: Reading) -> Case {
    case(name, bytes, Must::Either).or(reading)
}

impl Case {
    /// One more reading that is no split.
    pub fn or(mut self, reading: Reading) -> Self {
        if self.must == Must::Refuse && reading.iter().any(|seen| seen.whole) {
            return self.lax(reading);
        }
        self.readings.push(reading);
        self
    }

    /// One more reading, for the time being.
    pub fn lax(mut self, reading: Reading) -> Self {
        self.lax.push(reading);
        self
    }

    /// The case with its places filled in.
    pub fn at(&self, lane: usize, id: usize) -> Self {
        let fill = |bytes: &[u8]| fill(bytes, lane, id);
        let text = |text: &str| String::from_utf8(fill(text.as_bytes())).expect("text");
        let wire = match &self.wire {
            Wire::Plain(bytes) => Wire::Plain(fill(bytes)),
            Wire::Http2(frames, streams) => Wire::Http2(fill(frames), streams.clone()),
        };
        let fill_seen = |seen: &Seen| Seen { target: text(&seen.target), body: fill(&seen.body), ..seen.clone() };
        let fill_all = |readings: &[Reading]| readings.iter().map(|all| all.iter().map(fill_seen).collect()).collect();
        let (readings, lax) = (fill_all(&self.readings), fill_all(&self.lax));
        Self { name: format!("{id:04} {}", self.name), wire, readings, lax, must: self.must }
    }
}

fn fill(bytes: &[u8], lane: usize, id: usize) -> Vec<u8> {
    let mut filled = bytes.to_vec();
    for (place, value) in [(&b"lane-@@"[..], format!("lane-{lane:02}")), (b"/####", format!("/{id:04}"))] {
        let mut from = 0;
        while let Some(at) = filled[from..].windows(place.len()).position(|window| window == place) {
            filled[from + at..from + at + place.len()].copy_from_slice(value.as_bytes());
            from += at + place.len();
        }
    }
    filled
}
