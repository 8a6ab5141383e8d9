//! The five security headers of the HinD design, on answers where the server did not set them.

use crate::http::{AnswerHead, HeaderValue, name};

/// Adds what is missing. `Strict-Transport-Security` goes out over TLS only (RFC 6797, 7.2).
pub fn secure(head: &mut AnswerHead, tls: bool) {
    let headers = &mut head.headers;
    for (name, value) in [
        (name::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (name::X_FRAME_OPTIONS, "SAMEORIGIN"),
        (name::REFERRER_POLICY, "strict-origin-when-cross-origin"),
        (name::X_XSS_PROTECTION, "0"),
    ] {
        headers.set_default(name, || HeaderValue::from_static(value));
    }
    if tls {
        headers.set_default(name::STRICT_TRANSPORT_SECURITY, || HeaderValue::from_static("max-age=31536000"));
    }
}
