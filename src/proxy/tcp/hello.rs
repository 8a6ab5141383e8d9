//! What a TLS client says first, read without taking it: the server behind us may be who it talks to.

use rustls::server::Acceptor;

/// Longest beginning that is waited for. A handshake message has at most 65535 bytes here (rustls refuses more).
const LONGEST: usize = 70_000;
/// The content type of handshake records (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// What of a client's first message counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// The name that it asks for, lower case; empty without one.
    pub(super) name: String,
    /// The protocols that it offers.
    pub(super) alpn: Vec<String>,
}

/// Whether the first message is there, or will never be one.
pub(super) fn is_whole(read: &[u8]) -> bool {
    if read.len() >= LONGEST {
        return true;
    }
    let (mut rest, mut payload) = (read, Vec::with_capacity(4));
    let mut have = 0;
    loop {
        let [kind, _, _, high, low, behind @ ..] = rest else {
            return rest.first().is_some_and(|kind| *kind != HANDSHAKE);
        };
        if *kind != HANDSHAKE {
            return true;
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((record, next)) = behind.split_at_checked(length) else { return false };
        payload.extend(record.iter().take(4 - payload.len().min(4)));
        have += length;
        // Type and length of the message, in three bytes.
        if let [_, a, b, c] = *payload
            && have >= 4 + u32::from_be_bytes([0, a, b, c]) as usize
        {
            return true;
        }
        rest = next;
    }
}

/// Reads it; `None` when it is none.
pub(super) fn read(mut bytes: &[u8]) -> Option<Hello> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let alpn = hello.alpn().into_iter().flatten();
            return Some(Hello {
                name: hello.server_name().unwrap_or_default().trim().to_ascii_lowercase(),
                alpn: alpn.map(|protocol| String::from_utf8_lossy(protocol).into_owned()).collect(),
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn hello(name: &str, alpn: &[&str]) -> Vec<u8> {
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut out = Vec::new();
        connection.write_tls(&mut out).unwrap();
        out
    }

    #[test]
    fn names_and_protocols_are_read() {
        let bytes = hello("Db.example", &["postgresql", "h2"]);
        let read = read(&bytes).unwrap();
        assert_eq!((&*read.name, &*read.alpn), ("db.example", &["postgresql".to_owned(), "h2".to_owned()][..]));
    }

    #[test]
    fn every_beginning_is_waited_for() {
        let bytes = hello("a.example", &[]);
        for end in 1..bytes.len() {
            assert!(!is_whole(&bytes[..end]), "{end}");
            assert_eq!(read(&bytes[..end]), None);
        }
        assert!(is_whole(&bytes));
        // a message may come in several records
        let mut split = Vec::new();
        for part in bytes[5..].chunks(3) {
            split.extend([22, 3, 1, 0, part.len() as u8]);
            split.extend(part);
        }
        assert!(!is_whole(&split[..split.len() - 1]) && is_whole(&split));
        assert_eq!(read(&split).unwrap().name, "a.example");
        assert!(is_whole(b"\x17\x03\x01"), "no handshake");
    }

    proptest! {
        #[test]
        fn nothing_panics_and_nothing_is_waited_for_without_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (is_whole(&bytes), read(&bytes));
            let mut long = bytes;
            long.resize(LONGEST, 22);
            prop_assert!(is_whole(&long));
        }
    }
}
