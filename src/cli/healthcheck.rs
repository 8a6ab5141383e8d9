//! `rust-lb healthcheck`: asks the running instance's `/ready`, at the address that the same
//! configuration gives it.

use super::{FAILED, fail, refused, written};
use crate::config::{self, ADMIN_ENTRY_POINT};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

pub(super) const HELP: &str = "\
usage: rust-lb healthcheck [static configuration flags]

Exit 0 when the running instance is ready, 1 when not. Reads the same configuration as `serve` to find the address.

example, in a Dockerfile:
  HEALTHCHECK CMD rust-lb healthcheck
";

/// Longer than any healthy answer, shorter than Docker's default time-out of 30 s.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn run(input: &config::Input, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let loaded = match config::load(input) {
        Ok(loaded) => loaded,
        Err(problems) => return refused(&problems, input, stderr),
    };
    let Some(admin) = loaded.settled.entry_points.get(ADMIN_ENTRY_POINT) else {
        return fail(stderr, FAILED, format_args!("the configuration has no admin entry point"));
    };
    let host = match admin.address.host.as_str() {
        "" | "0.0.0.0" | "::" | "[::]" => "127.0.0.1",
        host => host,
    };
    let authority = format!("{host}:{}", admin.address.port);
    match ready(&authority) {
        Ok((200, _)) => written(writeln!(stdout, "OK: http://{authority}/ready")),
        Ok((status, body)) => fail(stderr, FAILED, format_args!("http://{authority}/ready answered {status}: {body}")),
        Err(e) => fail(stderr, FAILED, format_args!("http://{authority}/ready: {e}")),
    }
}

fn ready(authority: &str) -> std::io::Result<(u16, String)> {
    let address = authority.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /ready HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim().to_owned();
    status.map(|status| (status, body)).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}
