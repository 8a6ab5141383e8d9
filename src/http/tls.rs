//! What a client's TLS handshake agreed on, in the words of Go's library, which Traefik's log and
//! metrics use.

/// Version and cipher of a connection; static text, made once a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsInfo {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// `TLS_AES_128_GCM_SHA256` and the like.
    pub cipher: &'static str,
}

impl TlsInfo {
    /// From the numbers of the handshake (RFC 8446, 4.2.1 and B.4; RFC 5289; RFC 7905).
    pub fn new(version: u16, cipher: u16) -> Self {
        let version = match version {
            0x0304 => "1.3",
            0x0303 => "1.2",
            _ => "unknown",
        };
        let cipher = match cipher {
            0x1301 => "TLS_AES_128_GCM_SHA256",
            0x1302 => "TLS_AES_256_GCM_SHA384",
            0x1303 => "TLS_CHACHA20_POLY1305_SHA256",
            0xc02b => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            0xc02c => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            0xc02f => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            0xc030 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            0xcca8 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            0xcca9 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            _ => "unknown",
        };
        Self { version, cipher }
    }
}
