//! The admin entry point of a running instance, asked by commands: where it is, and one question.

use crate::config::{self, ADMIN_ENTRY_POINT, Input};
use crate::diagnostic::Diagnostic;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Where an instance without a configuration has it.
pub(super) const DEFAULT: &str = "127.0.0.1:8080";
/// An answer is not read beyond this many bytes.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// `host:port` of the admin entry point by the static configuration.
///
/// # Errors
/// What is wrong with the configuration; nothing where it has no such entry point.
pub(super) fn configured(input: &Input) -> Result<String, Vec<Diagnostic>> {
    let loaded = config::load(input)?;
    let admin = loaded.settled.entry_points.get(ADMIN_ENTRY_POINT).ok_or_else(Vec::new)?;
    let host = match admin.address.host.as_str() {
        "" | "0.0.0.0" | "::" | "[::]" => "127.0.0.1",
        host => host,
    };
    Ok(format!("{host}:{}", admin.address.port))
}

/// `host:port` of a URL such as `http://127.0.0.1:8080`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn of_url(url: &str) -> Result<String, String> {
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some((other, _)) => return Err(format!("the admin entry point speaks `http`, got `{other}` in `{url}`")),
        None => url,
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) || authority.contains(char::is_control) {
        return Err(format!("expected the admin entry point as `http://host:port`, got `{url}`"));
    }
    let has_port = crate::http::split_port(authority).1.is_some();
    Ok(if has_port { authority.to_owned() } else { format!("{authority}:80") })
}

/// Asks; gives the status and the body.
///
/// # Errors
/// The instance cannot be reached, does not answer in time, or not in HTTP.
pub(super) fn ask(authority: &str, path: &str, body: Option<&str>, limit: Duration) -> std::io::Result<(u16, String)> {
    let address = authority.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    match body {
        None => write!(stream, "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?,
        Some(body) => write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )?,
    }
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).map_err(|_| std::io::ErrorKind::InvalidData)?;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim().to_owned();
    status.map(|status| (status, body)).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_urls() {
        for (url, authority) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:9/", "[::1]:9"),
            ("localhost:1", "localhost:1"),
            ("http://admin.internal", "admin.internal:80"),
        ] {
            assert_eq!(of_url(url).unwrap(), authority);
        }
        for bad in ["https://a:1", "http://", "", "http://a/b", "http://u@a", "a\r\nb"] {
            assert!(of_url(bad).is_err(), "{bad}");
        }
    }
}
