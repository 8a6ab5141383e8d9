//! Names of header fields. Those that the proxy itself has to do with are known by number, so that a
//! head tells without a search whether it has one.
//!
//! What always holds: a [`HeaderName`] is a token in lower case (RFC 9110, 5.1).

use std::borrow::Cow;
use std::fmt;

macro_rules! known {
    ($($constant:ident $kind:ident $text:literal $shown:literal,)*) => {
        /// A name that the proxy itself has to do with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub(super) enum Known {
            /// Any other.
            Other,
            $($kind,)*
        }

        impl Known {
            /// Of a name in lower case.
            const fn of_lower(name: &[u8]) -> Self {
                $(
                    const $constant: &[u8] = $text.as_bytes();
                )*
                match name {
                    $($constant => Self::$kind,)*
                    _ => Self::Other,
                }
            }

            /// As HTTP/1.1 usually writes it; empty for other names.
            pub(super) const fn shown(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $(Self::$kind => $shown,)*
                }
            }
        }

        $(
            #[doc = concat!("`", $shown, "`")]
            pub const $constant: HeaderName = HeaderName { known: Known::$kind, text: Cow::Borrowed($text) };
        )*
    };
}

known! {
    ACCEPT_ENCODING AcceptEncoding "accept-encoding" "Accept-Encoding",
    AUTHORIZATION Authorization "authorization" "Authorization",
    CONNECTION Connection "connection" "Connection",
    CONTENT_ENCODING ContentEncoding "content-encoding" "Content-Encoding",
    CONTENT_LENGTH ContentLength "content-length" "Content-Length",
    CONTENT_TYPE ContentType "content-type" "Content-Type",
    COOKIE Cookie "cookie" "Cookie",
    DATE Date "date" "Date",
    EXPECT Expect "expect" "Expect",
    HOST Host "host" "Host",
    KEEP_ALIVE KeepAlive "keep-alive" "Keep-Alive",
    LOCATION Location "location" "Location",
    ORIGIN Origin "origin" "Origin",
    PROXY_AUTHENTICATE ProxyAuthenticate "proxy-authenticate" "Proxy-Authenticate",
    PROXY_AUTHORIZATION ProxyAuthorization "proxy-authorization" "Proxy-Authorization",
    PROXY_CONNECTION ProxyConnection "proxy-connection" "Proxy-Connection",
    REFERER Referer "referer" "Referer",
    REFERRER_POLICY ReferrerPolicy "referrer-policy" "Referrer-Policy",
    RETRY_AFTER RetryAfter "retry-after" "Retry-After",
    SEC_WEBSOCKET_ACCEPT SecWebsocketAccept "sec-websocket-accept" "Sec-WebSocket-Accept",
    SEC_WEBSOCKET_KEY SecWebsocketKey "sec-websocket-key" "Sec-WebSocket-Key",
    SEC_WEBSOCKET_PROTOCOL SecWebsocketProtocol "sec-websocket-protocol" "Sec-WebSocket-Protocol",
    SEC_WEBSOCKET_VERSION SecWebsocketVersion "sec-websocket-version" "Sec-WebSocket-Version",
    SERVER Server "server" "Server",
    SET_COOKIE SetCookie "set-cookie" "Set-Cookie",
    STRICT_TRANSPORT_SECURITY StrictTransportSecurity "strict-transport-security" "Strict-Transport-Security",
    TE Te "te" "TE",
    TRAILER Trailer "trailer" "Trailer",
    TRANSFER_ENCODING TransferEncoding "transfer-encoding" "Transfer-Encoding",
    UPGRADE Upgrade "upgrade" "Upgrade",
    USER_AGENT UserAgent "user-agent" "User-Agent",
    VARY Vary "vary" "Vary",
    WWW_AUTHENTICATE WwwAuthenticate "www-authenticate" "WWW-Authenticate",
    X_CONTENT_TYPE_OPTIONS XContentTypeOptions "x-content-type-options" "X-Content-Type-Options",
    X_FORWARDED_FOR XForwardedFor "x-forwarded-for" "X-Forwarded-For",
    X_FORWARDED_HOST XForwardedHost "x-forwarded-host" "X-Forwarded-Host",
    X_FORWARDED_METHOD XForwardedMethod "x-forwarded-method" "X-Forwarded-Method",
    X_FORWARDED_PORT XForwardedPort "x-forwarded-port" "X-Forwarded-Port",
    X_FORWARDED_PREFIX XForwardedPrefix "x-forwarded-prefix" "X-Forwarded-Prefix",
    X_FORWARDED_PROTO XForwardedProto "x-forwarded-proto" "X-Forwarded-Proto",
    X_FORWARDED_SCHEME XForwardedScheme "x-forwarded-scheme" "X-Forwarded-Scheme",
    X_FORWARDED_SERVER XForwardedServer "x-forwarded-server" "X-Forwarded-Server",
    X_FORWARDED_TLS_CLIENT_CERT XForwardedTlsClientCert "x-forwarded-tls-client-cert" "X-Forwarded-Tls-Client-Cert",
    X_FORWARDED_TLS_CLIENT_CERT_INFO XForwardedTlsClientCertInfo "x-forwarded-tls-client-cert-info" "X-Forwarded-Tls-Client-Cert-Info",
    X_FORWARDED_URI XForwardedUri "x-forwarded-uri" "X-Forwarded-Uri",
    X_FRAME_OPTIONS XFrameOptions "x-frame-options" "X-Frame-Options",
    X_REAL_IP XRealIp "x-real-ip" "X-Real-Ip",
    X_SCHEME XScheme "x-scheme" "X-Scheme",
    X_XSS_PROTECTION XXssProtection "x-xss-protection" "X-XSS-Protection",
}

/// Longest known name.
const LONGEST: usize = 32;

impl Known {
    /// Of a name in any case.
    #[inline]
    pub(super) fn of(name: &[u8]) -> Self {
        let mut lower = [0; LONGEST];
        let Some(lower) = lower.get_mut(..name.len()) else { return Self::Other };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        Self::of_lower(lower)
    }

    /// Its bit in a set.
    #[inline]
    pub(in crate::http) const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

/// A field's name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HeaderName {
    pub(super) known: Known,
    text: Cow<'static, str>,
}

/// Not the name of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the name of a header field: letters, digits and any of !#$%&'*+-.^_`|~")]
pub struct NotAName;

impl HeaderName {
    /// Of a text in lower case.
    pub const fn from_static(text: &'static str) -> Self {
        Self { known: Known::of_lower(text.as_bytes()), text: Cow::Borrowed(text) }
    }

    /// In lower case.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a name in any case is this one.
    #[inline]
    pub(super) fn is(&self, known: Known, name: &[u8]) -> bool {
        known == self.known && (known != Known::Other || name.eq_ignore_ascii_case(self.text.as_bytes()))
    }
}

impl TryFrom<&str> for HeaderName {
    type Error = NotAName;

    fn try_from(text: &str) -> Result<Self, NotAName> {
        if text.is_empty() || !text.bytes().all(is_token_byte) {
            return Err(NotAName);
        }
        let text = text.to_ascii_lowercase();
        Ok(Self { known: Known::of_lower(text.as_bytes()), text: Cow::Owned(text) })
    }
}

impl From<&::http::HeaderName> for HeaderName {
    fn from(name: &::http::HeaderName) -> Self {
        Self { known: Known::of_lower(name.as_str().as_bytes()), text: Cow::Owned(name.as_str().to_owned()) }
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a token is made of (RFC 9110, 5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_found_in_any_case() {
        assert_eq!(Known::of(b"HOST"), Known::Host);
        assert_eq!(Known::of(b"x-Forwarded-tls-Client-Cert-info"), Known::XForwardedTlsClientCertInfo);
        assert_eq!(Known::of(b"x-forwarded-tls-client-cert-info2"), Known::Other);
        assert_eq!(Known::of(b""), Known::Other);
        assert_eq!(HeaderName::from_static("te").known, Known::Te);
        assert_eq!(HeaderName::try_from("TE"), Ok(TE));
        assert_eq!(HeaderName::try_from("a b"), Err(NotAName));
        assert_eq!(HeaderName::try_from(""), Err(NotAName));
    }

    #[test]
    fn all_known_names_fit_a_set() {
        // The bit of the last one is computed at compile time; a 65th name would not compile here.
        const LAST: u64 = Known::XXssProtection.bit();
        assert_ne!(LAST, 0);
    }
}
