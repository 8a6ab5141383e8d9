//! A small HTTP/1.1 client on one connection that shows who answered, and whether the connection goes on.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The head of an answer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// `X-Server`: who answered.
    pub server: String,
    /// `X-Request`: to what.
    pub request: String,
    /// The proxy's or server's index, for readers of a catalog.
    pub index: Option<u64>,
    pub length: Option<u64>,
    pub chunked: bool,
    /// The connection ends with it.
    pub close: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Conn {
    pub async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads until a head is there.
    pub async fn head(&mut self) -> Result<Head> {
        let end = loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            self.more().await?;
        };
        let rest = self.buffer.split_off(end + 4);
        let text = String::from_utf8_lossy(&std::mem::replace(&mut self.buffer, rest)).into_owned();
        let mut lines = text.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let mut head = Head { status: status.ok_or(ErrorKind::InvalidData)?, ..Head::default() };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "x-server" => value.clone_into(&mut head.server),
                "x-request" => value.clone_into(&mut head.request),
                "x-consul-index" | "x-nomad-index" => head.index = value.parse().ok(),
                "content-length" => head.length = value.parse().ok(),
                "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
                "connection" => head.close = value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        Ok(head)
    }

    /// Reads the body that belongs to a head.
    pub async fn body(&mut self, head: &Head) -> Result<Vec<u8>> {
        if head.chunked {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk().await? {
                body.extend_from_slice(&chunk);
            }
            return Ok(body);
        }
        match head.length {
            Some(length) => self.exactly(length as usize).await,
            None if head.status == 204 || head.status == 304 => Ok(Vec::new()),
            None => loop {
                match self.more().await {
                    Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(std::mem::take(&mut self.buffer)),
                    other => other?,
                }
            },
        }
    }

    /// The next chunk of a chunked body; `None` is its end.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let line = loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n") {
                break at;
            }
            self.more().await?;
        };
        let size =
            std::str::from_utf8(&self.buffer[..line]).ok().and_then(|s| usize::from_str_radix(s.trim(), 16).ok());
        let size = size.ok_or(ErrorKind::InvalidData)?;
        self.buffer.drain(..line + 2);
        let mut chunk = self.exactly(size + 2).await?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    /// So many bytes.
    pub async fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn more(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// One request and its answer's head, the body read away.
    pub async fn ask(&mut self, method: &str, host: &str, target: &str, id: u64, body: &[u8]) -> Result<Head> {
        Ok(self.exchange(method, host, target, id, body).await?.0)
    }

    /// One request and its answer.
    pub async fn exchange(
        &mut self,
        method: &str,
        host: &str,
        target: &str,
        id: u64,
        body: &[u8],
    ) -> Result<(Head, Vec<u8>)> {
        use std::io::Write;
        let mut bytes = Vec::with_capacity(160 + body.len());
        write!(bytes, "{method} {target} HTTP/1.1\r\nHost: {host}\r\nX-Request: {id}\r\n")?;
        if method != "GET" {
            write!(bytes, "Content-Length: {}\r\n", body.len())?;
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.send(&bytes).await?;
        let head = self.head().await?;
        let body = self.body(&head).await?;
        Ok((head, body))
    }

    /// Whether the other side has ended it, or sent something that nobody asked for.
    pub fn is_over(&self) -> bool {
        let mut byte = [0];
        !self.buffer.is_empty()
            || !matches!(self.stream.try_read(&mut byte), Err(e) if e.kind() == ErrorKind::WouldBlock)
    }
}

/// Why an exchange failed, as a short text to count by.
pub fn reason(error: &Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "closed without an answer".to_owned(),
        ErrorKind::ConnectionReset => "reset".to_owned(),
        ErrorKind::ConnectionRefused => "refused".to_owned(),
        ErrorKind::BrokenPipe => "closed while sending".to_owned(),
        _ => error.to_string(),
    }
}
