//! HTTP/2 spoken frame by frame (RFC 9113): nothing here knows what is allowed.

use super::super::support::PATIENCE;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Any frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field block: literals without indexing and without Huffman code (RFC 7541, 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(&mut bytes, text.len());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn length(bytes: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return bytes.push(length as u8);
    }
    bytes.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        bytes.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    bytes.push(rest as u8);
}

/// HEADERS, complete.
pub fn headers(stream: u32, end: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | u8::from(end), stream, &block(fields))
}

/// HEADERS that a CONTINUATION has to follow.
pub fn begun(stream: u32, end: bool, payload: &[u8]) -> Vec<u8> {
    frame(HEADERS, u8::from(end), stream, payload)
}

/// DATA.
pub fn data(stream: u32, end: bool, body: &str) -> Vec<u8> {
    frame(DATA, u8::from(end), stream, body.as_bytes())
}

/// Sends these frames behind preface and SETTINGS, and reads until each stream has ended or the connection has.
/// Gives nothing but the frames' bytes.
pub fn talk(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    host: &str,
    frames: &[u8],
    streams: &[u32],
    faults: &mut Vec<String>,
) -> Vec<u8> {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let mut tls = StreamOwned::new(ClientConnection::new(config.clone(), name).expect("a session"), stream);
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend(frame(SETTINGS, 0, 0, &[]));
    hello.extend(frames);
    drop(tls.write_all(&hello));
    drop(tls.flush());
    let mut read = Vec::new();
    let mut open = streams.to_vec();
    while !open.is_empty() {
        match next(&mut tls, &mut read) {
            Ok((kind, flags, stream)) => {
                let ends = kind == RST_STREAM || (matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0);
                if ends {
                    open.retain(|open| *open != stream);
                }
                if kind == GOAWAY {
                    // Whatever it still says, it says before it closes.
                    while next(&mut tls, &mut read).is_ok() {}
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                faults.push(format!("streams {open:?} did not end within {PATIENCE:?}"));
                break;
            }
            Err(_) => break,
        }
    }
    read
}

/// Kind, flags and stream of the next frame.
fn next(stream: &mut impl Read, all: &mut Vec<u8>) -> io::Result<(u8, u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    all.extend(head);
    all.extend(payload);
    Ok((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
}
