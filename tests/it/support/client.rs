//! A small blocking HTTP/1.1 client that shows exactly what came back.

use super::PATIENCE;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// First value of a header, name case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.text()))
    }
}

/// One kept-alive connection.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    pub fn open(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Writes raw bytes.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Reads one answer.
    pub fn read(&mut self, head_only: bool) -> std::io::Result<Answer> {
        read(&mut self.reader, head_only)
    }

    /// One GET on this connection.
    pub fn get(&mut self, host: &str, target: &str) -> std::io::Result<Answer> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        self.read(false)
    }
}

/// Reads one answer.
fn read(reader: &mut impl BufRead, head_only: bool) -> std::io::Result<Answer> {
    let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split(' ').nth(1).and_then(|s| s.trim().parse().ok()).ok_or_else(|| bad(&line))?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad(line))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    if head_only || status == 204 || status == 304 || status < 200 {
        return Ok(answer);
    }
    if answer.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(|_| bad("chunk size"))?;
            if size == 0 {
                break;
            }
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            answer.body.extend_from_slice(&chunk[..size]);
        }
        let mut trailer = String::from(":");
        while trailer.contains(':') {
            trailer.clear();
            reader.read_line(&mut trailer)?;
        }
        if trailer != "\r\n" {
            return Err(bad("trailers"));
        }
    } else if let Some(length) = answer.header("content-length") {
        answer.body = vec![0; length.parse().map_err(|_| bad("content-length"))?];
        reader.read_exact(&mut answer.body)?;
    } else {
        reader.read_to_end(&mut answer.body)?;
    }
    Ok(answer)
}

/// An answer of which all bytes are there.
pub fn parse(bytes: &[u8]) -> std::io::Result<Answer> {
    read(&mut BufReader::new(bytes), false)
}

/// One GET on a connection of its own.
pub fn try_get(addr: SocketAddr, host: &str, target: &str) -> std::io::Result<Answer> {
    let mut connection = Connection::open(addr)?;
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    connection.read(false)
}

/// As [`try_get`], where it has to work.
pub fn get(addr: SocketAddr, host: &str, target: &str) -> Answer {
    try_get(addr, host, target).unwrap_or_else(|e| panic!("GET {host}{target} at {addr}: {e}"))
}

/// One request with a body (or none) on a connection of its own.
pub fn send(addr: SocketAddr, method: &str, host: &str, target: &str, headers: &str, body: &str) -> Answer {
    let run = || -> std::io::Result<Answer> {
        let mut connection = Connection::open(addr)?;
        let length = body.len();
        connection.send(
            format!(
                "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
            )
            .as_bytes(),
        )?;
        connection.read(method == "HEAD")
    };
    run().unwrap_or_else(|e| panic!("{method} {host}{target} at {addr}: {e}"))
}

/// The next of several answers; the bytes move on behind it.
pub fn parse_next(bytes: &mut &[u8], head_only: bool) -> std::io::Result<Answer> {
    read(bytes, head_only)
}
