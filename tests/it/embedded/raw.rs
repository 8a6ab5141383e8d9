//! An HTTP client that hides nothing: header names in their letter case, framing, ends.

use serde_json::Value;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Fails instead of hanging; no test depends on how long anything takes below that.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("nothing came within a minute")
}

#[derive(Debug)]
pub struct Response {
    pub line: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// As the recordings name it.
    pub framing: &'static str,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn number(&self, name: &str) -> u64 {
        self.header(name).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.text()))
    }

    pub fn nomad_index(&self) -> u64 {
        self.number("X-Nomad-Index")
    }

    pub fn consul_index(&self) -> u64 {
        self.number("X-Consul-Index")
    }
}

/// One connection.
pub struct Raw(BufReader<TcpStream>);

impl Raw {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(addr).await.expect("connect")))
    }

    pub async fn send(&mut self, line: &str, headers: &[(&str, &str)], body: &str) {
        let mut text = format!("{line}\r\nHost: 127.0.0.1\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        self.0.write_all(text.as_bytes()).await.expect("send");
    }

    /// The head of a response, or `None` when the connection ends before it is complete.
    pub async fn head(&mut self) -> Option<Response> {
        let line = self.line().await?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let framing = match (has("content-length"), has("transfer-encoding")) {
            (true, _) => "content-length",
            (_, true) => "chunked",
            _ => "until close",
        };
        Some(Response { line, status, headers, framing, body: Vec::new() })
    }

    /// A whole response; `None` when the connection ends before it is complete.
    pub async fn response(&mut self) -> Option<Response> {
        let mut response = self.head().await?;
        match response.framing {
            "content-length" => {
                let length = response
                    .headers
                    .iter()
                    .find(|(n, _)| n.eq_ignore_ascii_case("content-length"))
                    .expect("a length")
                    .1
                    .parse()
                    .unwrap();
                response.body = vec![0; length];
                self.0.read_exact(&mut response.body).await.ok()?;
            }
            "chunked" => loop {
                let size = usize::from_str_radix(&self.line().await?, 16).expect("chunk size");
                let mut chunk = vec![0; size + 2];
                self.0.read_exact(&mut chunk).await.ok()?;
                if size == 0 {
                    break;
                }
                response.body.extend_from_slice(&chunk[..size]);
            },
            _ => drop(self.0.read_to_end(&mut response.body).await),
        }
        Some(response)
    }

    /// A line without its end; `None` at the end of the connection.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line).await {
            Ok(1..) if line.ends_with('\n') => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
            _ => None,
        }
    }

    /// Whether not a byte has come that was not read.
    pub fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        self.0.buffer().is_empty()
            && self.0.get_ref().try_read(&mut byte).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// How it ended: the error of a read, or `None` for an orderly end.
    pub async fn end(&mut self) -> Option<std::io::ErrorKind> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.err().map(|error| error.kind())
    }
}

pub async fn ask(addr: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Option<Response> {
    let mut raw = Raw::connect(addr).await;
    raw.send(line, headers, body).await;
    soon(raw.response()).await
}

pub async fn get(addr: SocketAddr, target: &str) -> Response {
    get_with(addr, target, &[]).await
}

pub async fn get_with(addr: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Response {
    ask(addr, &format!("GET {target} HTTP/1.1"), headers, "").await.expect("an answer")
}

pub async fn put(addr: SocketAddr, target: &str, body: &str) -> Response {
    ask(addr, &format!("PUT {target} HTTP/1.1"), &[], body).await.expect("an answer")
}

/// An event stream after its head.
pub async fn stream(addr: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Raw {
    let mut raw = Raw::connect(addr).await;
    raw.send(&format!("GET {target} HTTP/1.1"), headers, "").await;
    assert_eq!(soon(raw.head()).await.expect("a head").status, 200);
    raw
}

/// The next event line, heartbeats left out.
pub async fn event(stream: &mut Raw) -> Value {
    loop {
        let line = soon(stream.line()).await.expect("a line");
        if line != "{}" {
            return serde_json::from_str(&line).expect("JSON");
        }
    }
}
