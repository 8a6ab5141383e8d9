//! The check of a TCP server: it takes the connection, and answers as expected where something is.

use super::ProbeError;
use crate::table::TcpCheck;
use crate::upstream::resolve::Addresses;
use crate::upstream::{Endpoint, Settings, connect};
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Runs it; the caller keeps the time. As much is read as is expected.
pub(super) async fn check(
    check: &TcpCheck,
    endpoint: &Endpoint,
    addresses: &Rc<Addresses>,
    settings: &Settings,
) -> Result<(), ProbeError> {
    let mut stream = connect::connect(endpoint, addresses, settings, None, &[]).await?.stream;
    if !check.send.is_empty() {
        stream.write_all(&check.send).await?;
        stream.flush().await?;
    }
    let mut left = &*check.expect;
    let mut buffer = [0; 1_024];
    while !left.is_empty() {
        let most = left.len().min(buffer.len());
        let read = stream.read(&mut buffer[..most]).await?;
        if read == 0 || buffer[..read] != left[..read] {
            return Err(ProbeError::Unexpected);
        }
        left = &left[read..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// What comes of a check of a server that answers `says` after it has read `hears`.
    fn asked(send: &str, expect: &str, hears: usize, says: &'static [u8]) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = vec![0; hears];
            stream.read_exact(&mut heard).unwrap();
            let _ = stream.write_all(says);
            heard
        });
        let what = TcpCheck { send: send.into(), expect: expect.into() };
        let endpoint = Endpoint { tls: false, h2c: false, host: "127.0.0.1".into(), port };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let addresses = Rc::new(Addresses::new("127.0.0.1".into(), port));
        let outcome = runtime.block_on(check(&what, &endpoint, &addresses, &Settings::default()));
        assert_eq!(server.join().unwrap(), send.as_bytes()[..hears]);
        outcome.map_err(|error| error.to_string())
    }

    #[test]
    fn a_tcp_server_answers_as_expected_or_not() {
        assert_eq!(asked("", "", 0, b""), Ok(()));
        assert_eq!(asked("PING\r\n", "+PONG", 6, b"+PONG\r\nand more"), Ok(()));
        let unexpected = Err("the answer does not begin as expected".to_owned());
        assert_eq!(asked("PING\r\n", "+PONG", 6, b"-ERR\r\n"), unexpected);
        assert_eq!(asked("", "220 ", 0, b"22"), unexpected);
    }
}
