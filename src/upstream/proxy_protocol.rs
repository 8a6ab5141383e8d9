//! The PROXY protocol towards servers (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>): what goes
//! before everything else on a connection, so that the server knows who the client is.
//!
//! What always holds: it belongs to a connection and names one client, so such a connection is never used for another
//! one. Pure: values in, bytes out.

use crate::table::ProxyProtocol;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Who came to whom: the two ends of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxied {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2; the command is in the lower half.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// Family and transport: TCP over IPv4 and IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header; without a client it says that the proxy itself connects.
pub fn header(version: ProxyProtocol, client: Option<Proxied>) -> Vec<u8> {
    match version {
        ProxyProtocol::V1 => v1(client),
        ProxyProtocol::V2 => v2(client),
    }
}

/// Both addresses in one family: an IPv4 one beside an IPv6 one is written as IPv6 does it (`::ffff:192.0.2.1`).
enum Pair {
    V4([u8; 4], [u8; 4]),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Proxied {
    fn pair(&self) -> Pair {
        let six = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        match (self.source.ip().to_canonical(), self.destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Pair::V4(source.octets(), destination.octets()),
            (source, destination) => Pair::V6(six(source), six(destination)),
        }
    }
}

/// Section 2.1.
fn v1(client: Option<Proxied>) -> Vec<u8> {
    let Some(client) = client else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let (family, source, destination) = match client.pair() {
        Pair::V4(source, destination) => ("TCP4", IpAddr::from(source), IpAddr::from(destination)),
        Pair::V6(source, destination) => ("TCP6", source.into(), destination.into()),
    };
    let (from, to) = (client.source.port(), client.destination.port());
    format!("PROXY {family} {source} {destination} {from} {to}\r\n").into_bytes()
}

/// Section 2.2.
fn v2(client: Option<Proxied>) -> Vec<u8> {
    let mut out = Vec::with_capacity(52);
    out.extend_from_slice(&SIGNATURE);
    let Some(client) = client else {
        out.extend_from_slice(&[LOCAL, 0, 0, 0]);
        return out;
    };
    match client.pair() {
        Pair::V4(source, destination) => {
            out.extend_from_slice(&[PROXY, TCP4, 0, 12]);
            out.extend_from_slice(&source);
            out.extend_from_slice(&destination);
        }
        Pair::V6(source, destination) => {
            out.extend_from_slice(&[PROXY, TCP6, 0, 36]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
    }
    out.extend_from_slice(&client.source.port().to_be_bytes());
    out.extend_from_slice(&client.destination.port().to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(source: &str, destination: &str) -> Option<Proxied> {
        Some(Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    fn text(client: Option<Proxied>) -> String {
        String::from_utf8(header(ProxyProtocol::V1, client)).unwrap()
    }

    #[test]
    fn version_1_as_the_specification_writes_it() {
        // the example of section 2.1
        let four = client("192.168.0.1:56324", "192.168.0.11:443");
        assert_eq!(text(four), "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
        let six = client("[2001:db8::1]:1", "[2001:db8::2]:65535");
        assert_eq!(text(six), "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n");
        assert_eq!(text(None), "PROXY UNKNOWN\r\n");
        let mapped = client("[::ffff:192.0.2.1]:5", "192.0.2.2:6");
        assert_eq!(text(mapped), "PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n");
        let mixed = client("192.0.2.1:5", "[2001:db8::2]:6");
        assert_eq!(text(mixed), "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 5 6\r\n");
        let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        assert!(text(client(longest, longest)).len() <= 107);
    }

    #[test]
    fn version_2_byte_by_byte() {
        let four = header(ProxyProtocol::V2, client("192.168.0.1:56324", "192.168.0.11:443"));
        let start = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A];
        let rest = [0x21, 0x11, 0x00, 0x0C, 192, 168, 0, 1, 192, 168, 0, 11, 0xDC, 0x04, 0x01, 0xBB];
        assert_eq!(four, [&start[..], &rest[..]].concat());
        let six = header(ProxyProtocol::V2, client("[2001:db8::1]:1", "[2001:db8::2]:258"));
        assert_eq!((six.len(), &six[12..16]), (52, &[0x21, 0x21, 0x00, 0x24][..]));
        assert_eq!(&six[16..20], [0x20, 0x01, 0x0D, 0xB8]);
        assert_eq!((six[31], six[47], &six[48..]), (1, 2, &[0, 1, 1, 2][..]));
        assert_eq!(header(ProxyProtocol::V2, None), [&start[..], &[0x20, 0x00, 0x00, 0x00]].concat());
    }
}
