//! The PROXY protocol's header as a proxy before us sends it at the beginning of a connection, version 1
//! (a line of text) and 2 (binary): <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.
//!
//! What always holds: nothing is allocated, what is no header at
//! all is told after its first byte that differs, and a header is at most [`MAX_HEADER`] bytes long.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use thiserror::Error;

/// Longest header that is taken: more than any sender needs for addresses and what it says besides (TLVs).
pub const MAX_HEADER: usize = 4_096;
/// Longest line of version 1, its end included.
const MAX_LINE: usize = 107;
const LINE_BEGIN: &[u8] = b"PROXY ";
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before the addresses: signature, command, family, length.
const FIXED: usize = 16;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header.
    Partial,
    /// No header: the bytes belong to the connection itself.
    NoHeader,
    /// A header.
    Found(Announced),
    /// A header that is malformed; the connection is to be dropped.
    Fault(Fault),
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// The client and where it connected to. `None` where the connection is the proxy's own (`LOCAL`, such as a health
    /// check) or not over TCP (`UNKNOWN`, Unix sockets): then the addresses of the connection hold.
    pub addresses: Option<Addresses>,
    /// Bytes of the header; what follows belongs to the connection.
    pub length: usize,
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// A line of version 1 without end.
    #[error("PROXY protocol: the line is longer than {MAX_LINE} bytes or does not end with CR LF")]
    Line,
    /// Neither `TCP4`, `TCP6` nor `UNKNOWN`.
    #[error("PROXY protocol: unknown address family or transport")]
    Family,
    /// An address or port that is none.
    #[error("PROXY protocol: malformed address or port")]
    Address,
    /// A version or command of the binary form that does not exist.
    #[error("PROXY protocol: unknown version or command")]
    Command,
    /// A length that does not fit the addresses, or is above the limit.
    #[error("PROXY protocol: too short for its addresses, or longer than {MAX_HEADER} bytes")]
    Length,
}

/// What the first bytes of a connection, as many as there are by now, come to.
pub fn parse(bytes: &[u8]) -> Parsed {
    let begins = |with: &[u8]| {
        let length = with.len().min(bytes.len());
        bytes[..length] == with[..length]
    };
    let found = if begins(LINE_BEGIN) {
        line(bytes)
    } else if begins(SIGNATURE) {
        binary(bytes)
    } else {
        return Parsed::NoHeader;
    };
    match found {
        Ok(Some(announced)) => Parsed::Found(announced),
        Ok(None) => Parsed::Partial,
        Err(fault) => Parsed::Fault(fault),
    }
}

fn line(bytes: &[u8]) -> Result<Option<Announced>, Fault> {
    let Some(end) = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return if bytes.len() >= MAX_LINE { Err(Fault::Line) } else { Ok(None) };
    };
    let text = bytes[..end].strip_suffix(b"\r").ok_or(Fault::Line)?;
    let text = std::str::from_utf8(text).map_err(|_| Fault::Address)?;
    let mut fields = text.split(' ').skip(1);
    let family = fields.next().ok_or(Fault::Family)?;
    let length = end + 1;
    match family {
        // What follows means nothing.
        "UNKNOWN" => return Ok(Some(Announced { addresses: None, length })),
        "TCP4" | "TCP6" => {}
        _ => return Err(Fault::Family),
    }
    let mut next = || fields.next().ok_or(Fault::Address);
    let (source, destination) = (address(family, next()?)?, address(family, next()?)?);
    let (from, to) = (port(next()?)?, port(next()?)?);
    if fields.next().is_some() {
        return Err(Fault::Address);
    }
    let addresses = Addresses { source: SocketAddr::new(source, from), destination: SocketAddr::new(destination, to) };
    Ok(Some(Announced { addresses: Some(addresses), length }))
}

/// nginx says IPv4 addresses in `TCP6` lines, where its two sides differ; they are taken, as Traefik does.
fn address(family: &str, text: &str) -> Result<IpAddr, Fault> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) if family == "TCP4" => Err(Fault::Address),
        Ok(address) => Ok(address.to_canonical()),
        Err(_) => Err(Fault::Address),
    }
}

fn port(text: &str) -> Result<u16, Fault> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Fault::Address)
}

fn binary(bytes: &[u8]) -> Result<Option<Announced>, Fault> {
    let Some(&[command, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else {
        // A command that does not exist is told as soon as it is there.
        let command = bytes.get(SIGNATURE.len()).is_none_or(|command| matches!(command, 0x20 | 0x21));
        return if command { Ok(None) } else { Err(Fault::Command) };
    };
    if !matches!(command, 0x20 | 0x21) {
        return Err(Fault::Command);
    }
    let rest = usize::from(u16::from_be_bytes([high, low]));
    // Bytes of the addresses; unspecified, TCP and UDP over IPv4 and IPv6, Unix sockets.
    let needed = match family {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(Fault::Family),
    };
    let length = FIXED + rest;
    if rest < needed || length > MAX_HEADER {
        return Err(Fault::Length);
    }
    if bytes.len() < length {
        return Ok(None);
    }
    let said = &bytes[FIXED..FIXED + needed];
    let addresses = match (command, family) {
        (0x21, 0x11) => of_v4(said),
        (0x21, 0x21) => of_v6(said),
        _ => None,
    };
    Ok(Some(Announced { addresses, length }))
}

fn of_v4(said: &[u8]) -> Option<Addresses> {
    let (hosts, ports) = said.split_at_checked(8)?;
    let host = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(hosts.get(at..at + 4)?).ok()?)));
    ends(host(0)?, host(4)?, ports)
}

fn of_v6(said: &[u8]) -> Option<Addresses> {
    let (hosts, ports) = said.split_at_checked(32)?;
    let host = |at: usize| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(hosts.get(at..at + 16)?).ok()?)));
    ends(host(0)?.to_canonical(), host(16)?.to_canonical(), ports)
}

fn ends(source: IpAddr, destination: IpAddr, ports: &[u8]) -> Option<Addresses> {
    let &[a, b, c, d] = ports else { return None };
    Some(Addresses {
        source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binary_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut all = SIGNATURE.to_vec();
        all.extend([command, family]);
        all.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        all.extend(rest);
        all
    }

    fn source(parsed: Parsed) -> Option<String> {
        let Parsed::Found(announced) = parsed else { panic!("{parsed:?}") };
        announced.addresses.map(|a| format!("{} {}", a.source, a.destination))
    }

    #[test]
    fn the_specifications_lines() {
        // Sections 2.1: the examples and the longest lines.
        let longest = format!("PROXY TCP6 {0} {0} 65535 65535\r\n", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        for (line, addresses) in [
            ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", Some("192.168.0.1:56324 192.168.0.11:443")),
            (
                "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
                Some("255.255.255.255:65535 255.255.255.255:65535"),
            ),
            (
                &longest,
                Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            ),
            ("PROXY TCP6 ::1 2001:db8::1 1 2\r\n", Some("[::1]:1 [2001:db8::1]:2")),
            ("PROXY TCP6 ::ffff:10.0.0.1 10.0.0.2 1 2\r\n", Some("10.0.0.1:1 10.0.0.2:2")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
        ] {
            let mut all = line.as_bytes().to_vec();
            all.extend(b"GET / HTTP/1.1\r\n");
            let Parsed::Found(announced) = parse(&all) else { panic!("{line}") };
            assert_eq!((announced.length, source(parse(&all)).as_deref()), (line.len(), addresses), "{line}");
            for end in 0..line.len() {
                assert_eq!(parse(&line.as_bytes()[..end]), Parsed::Partial, "{line} {end}");
            }
        }
    }

    #[test]
    fn lines_that_are_refused() {
        let endless = format!("PROXY TCP4 {}", "1".repeat(200));
        for (line, fault) in [
            (&*endless, Fault::Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", Fault::Line),
            ("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", Fault::Family),
            ("PROXY \r\n", Fault::Family),
            ("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", Fault::Family),
            ("PROXY TCP4 ::1 1.2.3.4 1 2\r\n", Fault::Address),
            ("PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", Fault::Address),
            ("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", Fault::Address),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", Fault::Address),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", Fault::Address),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", Fault::Address),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", Fault::Address),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", Fault::Address),
            ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", Fault::Address),
        ] {
            assert_eq!(parse(line.as_bytes()), Parsed::Fault(fault), "{line}");
        }
    }

    #[test]
    fn what_is_no_header_is_told_at_once() {
        for text in ["G", "POST / HTTP/1.1\r\n", "PROXYFIND /", "PROPFIND / HTTP/1.1", "\r\n\r\nG", "\x16\x03\x01"] {
            assert_eq!(parse(text.as_bytes()), Parsed::NoHeader, "{text}");
        }
        for text in ["", "P", "PRO", "\r\n\r\n"] {
            assert_eq!(parse(text.as_bytes()), Parsed::Partial, "{text}");
        }
    }

    #[test]
    fn binary_headers() {
        let v4 = [192, 0, 2, 9, 10, 0, 0, 1, 0x15, 0xb3, 0, 80];
        assert_eq!(source(parse(&binary_header(0x21, 0x11, &v4))).as_deref(), Some("192.0.2.9:5555 10.0.0.1:80"));
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 3, 4);
        assert_eq!(source(parse(&binary_header(0x21, 0x21, &v6))).as_deref(), Some("[::1]:3 [::2]:4"));
        // With TLVs behind (an SSL one and padding), which are skipped.
        let mut with_tlvs = v4.to_vec();
        with_tlvs.extend([0x20, 0, 5, 1, 0, 0, 0, 0, 0x04, 0, 2, 0, 0]);
        let header = binary_header(0x21, 0x11, &with_tlvs);
        let Parsed::Found(announced) = parse(&header) else { panic!() };
        assert_eq!((announced.length, announced.addresses.is_some()), (header.len(), true));
        // LOCAL, unspecified, datagrams and Unix sockets have no address for us.
        for (command, family, rest) in
            [(0x20, 0x00, 0), (0x20, 0x11, 12), (0x21, 0x00, 7), (0x21, 0x12, 12), (0x21, 0x31, 216)]
        {
            assert_eq!(source(parse(&binary_header(command, family, &vec![0; rest]))), None, "{command} {family}");
        }
    }

    #[test]
    fn binary_headers_that_are_refused() {
        for (command, family, rest, fault) in [
            (0x11, 0x11, 12, Fault::Command),
            (0x22, 0x11, 12, Fault::Command),
            (0x21, 0x13, 12, Fault::Family),
            (0x21, 0x41, 12, Fault::Family),
            (0x21, 0x11, 11, Fault::Length),
            (0x21, 0x21, 35, Fault::Length),
            (0x21, 0x31, 215, Fault::Length),
            (0x21, 0x11, MAX_HEADER - FIXED + 1, Fault::Length),
        ] {
            let header = binary_header(command, family, &vec![0; rest]);
            assert_eq!(parse(&header), Parsed::Fault(fault), "{command} {family} {rest}");
            // No further byte is waited for.
            assert_eq!(parse(&header[..FIXED]), Parsed::Fault(fault), "{command} {family} {rest}");
        }
        assert_eq!(parse(&binary_header(0x41, 0, &[])[..13]), Parsed::Fault(Fault::Command));
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_something(bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..300),
            "PROXY (TCP4|TCP6|UNKNOWN|[A-Z]{0,4})? ?[0-9a-f:. ]{0,60}(\r\n)?.{0,9}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..80).prop_map(|rest| [&SIGNATURE[..], &rest].concat()),
        ]) {
            match parse(&bytes) {
                Parsed::Found(announced) => {
                    prop_assert!(announced.length <= bytes.len() && announced.length <= MAX_HEADER);
                    // Exactly these bytes are the header, whatever comes behind.
                    prop_assert_eq!(parse(&bytes[..announced.length]), Parsed::Found(announced));
                    prop_assert!(parse(&bytes[..announced.length - 1]) == Parsed::Partial);
                }
                Parsed::Partial => prop_assert!(bytes.len() < MAX_HEADER),
                Parsed::NoHeader => prop_assert!(!bytes.starts_with(LINE_BEGIN) && !bytes.starts_with(SIGNATURE)),
                Parsed::Fault(_) => prop_assert!(bytes.starts_with(LINE_BEGIN) || bytes.starts_with(SIGNATURE)),
            }
        }

        #[test]
        fn what_is_written_is_read(a in any::<[u8; 4]>(), b in any::<[u8; 4]>(), from in any::<u16>(), to in any::<u16>()) {
            let (source, destination) = (SocketAddr::new(a.into(), from), SocketAddr::new(b.into(), to));
            let expected = Some(Addresses { source, destination });
            let text = format!("PROXY TCP4 {} {} {from} {to}\r\n", source.ip(), destination.ip());
            prop_assert_eq!(parse(text.as_bytes()), Parsed::Found(Announced { addresses: expected, length: text.len() }));
            let rest = [&a[..], &b, &from.to_be_bytes(), &to.to_be_bytes()].concat();
            let header = binary_header(0x21, 0x11, &rest);
            prop_assert_eq!(parse(&header), Parsed::Found(Announced { addresses: expected, length: header.len() }));
        }
    }
}
