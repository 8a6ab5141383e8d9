//! The words of a log line: numbers, JSON texts, addresses and fractions, written into a buffer
//! that is used again. Nothing here allocates beyond the buffer's growth or goes through the
//! formatting machinery, since it runs for every logged request.

use std::io::Write as _;
use std::net::IpAddr;

/// Two digits at a time.
const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// Bytes that cannot stand in a JSON text as they are.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 0x20 {
        table[at] = true;
        at += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A line that is being written. Writing into memory does not fail, hence no results.
pub(super) struct Line<'a>(&'a mut Vec<u8>);

impl<'a> Line<'a> {
    pub(super) fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self(buffer)
    }

    #[inline]
    pub(super) fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn number(&mut self, n: u64) {
        let mut text = [0; 20];
        let mut at = text.len();
        let mut rest = n;
        while rest >= 100 {
            let pair = (rest % 100) as usize * 2;
            rest /= 100;
            at -= 2;
            text[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        }
        let pair = rest as usize * 2;
        if rest >= 10 {
            at -= 2;
            text[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        } else {
            at -= 1;
            text[at] = PAIRS[pair + 1];
        }
        self.0.extend_from_slice(&text[at..]);
    }

    /// A JSON text with its quotes.
    pub(super) fn quoted(&mut self, text: &str) {
        self.0.push(b'"');
        self.json(text);
        self.0.push(b'"');
    }

    /// The inside of a JSON text.
    pub(super) fn json(&mut self, text: &str) {
        let bytes = text.as_bytes();
        if !bytes.iter().any(|b| SPECIAL[usize::from(*b)]) {
            return self.0.extend_from_slice(bytes);
        }
        let mut from = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if !SPECIAL[usize::from(*byte)] {
                continue;
            }
            self.0.extend_from_slice(&bytes[from..at]);
            from = at + 1;
            match byte {
                b'"' => self.raw("\\\""),
                b'\\' => self.raw("\\\\"),
                b'\n' => self.raw("\\n"),
                b'\r' => self.raw("\\r"),
                b'\t' => self.raw("\\t"),
                _ => {
                    let digit = |n: u8| HEX[usize::from(n & 15)];
                    self.bytes(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(*byte)]);
                }
            }
        }
        self.0.extend_from_slice(&bytes[from..]);
    }

    /// The inside of a JSON text from bytes; what is no UTF-8 becomes the replacement character.
    pub(super) fn json_bytes(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.json(text),
            Err(_) => {
                for chunk in bytes.utf8_chunks() {
                    self.json(chunk.valid());
                    if !chunk.invalid().is_empty() {
                        self.raw("\u{fffd}");
                    }
                }
            }
        }
    }

    /// A client's text in the common formats: what could end a field or a line is escaped.
    pub(super) fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '"' => self.raw("\\\""),
                '\\' => self.raw("\\\\"),
                c if c.is_control() => {
                    // Rare, so that the formatting machinery does.
                    let _ = write!(self.0, "{}", c.escape_default());
                }
                c => self.0.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    /// An address without port.
    pub(super) fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(v4) => {
                for (at, octet) in v4.octets().into_iter().enumerate() {
                    if at > 0 {
                        self.0.push(b'.');
                    }
                    self.number(u64::from(octet));
                }
            }
            IpAddr::V6(v6) => {
                let _ = write!(self.0, "{v6}");
            }
        }
    }

    /// A fraction of a second as Go's RFC3339Nano writes it: without trailing zeros, nothing for zero.
    pub(super) fn fraction(&mut self, nanos: u32) {
        if nanos == 0 {
            return;
        }
        let mut text = *b".000000000";
        let mut rest = nanos;
        let mut at = text.len();
        while rest > 0 && at > 1 {
            at -= 1;
            text[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let end = text.iter().rposition(|digit| *digit != b'0').map_or(1, |last| last + 1);
        self.0.extend_from_slice(&text[..end]);
    }

    /// A header's name as Go spells it: `user-agent` becomes `User-Agent`.
    pub(super) fn canonical(&mut self, name: &str) {
        let mut upper = true;
        for byte in name.bytes() {
            self.0.push(if upper { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() });
            upper = byte == b'-';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Line<'_>)) -> String {
        let mut bytes = Vec::new();
        write(&mut Line::new(&mut bytes));
        String::from_utf8(bytes).unwrap()
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_the_library(n in any::<u64>(), small in 0u64..20_000) {
            prop_assert_eq!(written(|l| l.number(n)), n.to_string());
            prop_assert_eq!(written(|l| l.number(small)), small.to_string());
        }

        #[test]
        fn addresses_are_those_of_the_library(v4 in any::<u32>(), v6 in any::<u128>()) {
            for ip in [IpAddr::from(std::net::Ipv4Addr::from(v4)), IpAddr::from(std::net::Ipv6Addr::from(v6))] {
                prop_assert_eq!(written(|l| l.ip(ip)), ip.to_string());
            }
        }

        #[test]
        fn texts_are_read_back(text in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let json = written(|l| l.quoted(&text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            let json = format!("\"{}\"", written(|l| l.json_bytes(&bytes)));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn names_are_spelt_as_go_spells_them() {
        assert_eq!(written(|l| l.canonical("x-forwarded-FOR")), "X-Forwarded-For");
        assert_eq!(written(|l| l.canonical("te")), "Te");
    }
}
