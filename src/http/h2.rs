//! The rules between HTTP/2's heads and HTTP/1.1's, as pure functions.
//!
//! What the codec (the `h2` crate) refuses by itself is not looked at again: names with capitals or
//! bytes that no token has; CR, LF and NUL in values; `connection`, `transfer-encoding`, `upgrade`,
//! `keep-alive`, `proxy-connection`, and `te` other than `trailers`; pseudo-fields that are unknown,
//! repeated, late or missing; a content-length that the DATA frames do not keep; blanks and control
//! bytes in `:path`. The raw-frame tests (`tests/it/proxy/frames.rs`) hold it to that.

use super::h1::is_forbidden_trailer;
use ::http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use ::http::{Method, Uri};

/// Why a request from HTTP/2 is malformed (RFC 9113, 8.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither `:authority` nor Host (8.3.1).
    #[error("it names no host")]
    NoAuthority,
    /// `:authority` and Host name different hosts, or there are two Hosts (8.3.1).
    #[error("`:authority` and Host disagree")]
    TwoAuthorities,
    /// `:authority` with a user name (8.3.1).
    #[error("`:authority` holds a user name")]
    UserInfo,
    /// A `:path` that is neither a path nor the `*` of OPTIONS (8.3.1).
    #[error("`:path` is no path")]
    Path,
    /// A `:scheme` that is not HTTP's.
    #[error("`:scheme` is not HTTP's")]
    Scheme,
    /// A value that begins or ends with a blank (8.2.1).
    #[error("a value begins or ends with a blank")]
    Blank,
    /// A name that is no token (RFC 9110, 5.1): the codec takes quotes.
    #[error("a name is no token")]
    Name,
    /// Lengths that differ, or are none.
    #[error("two lengths")]
    Length,
}

/// Checks a request's head as the codec gives it.
///
/// # Errors
/// See [`Malformed`]; the request must not go on in any form.
pub fn check_request(method: &Method, uri: &Uri, fields: &HeaderMap) -> Result<(), Malformed> {
    if method != Method::CONNECT {
        match uri.path_and_query().map_or("", |path| path.as_str()) {
            "*" if method == Method::OPTIONS => {}
            path if path.starts_with('/') => {}
            _ => return Err(Malformed::Path),
        }
    }
    if !uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https")) {
        return Err(Malformed::Scheme);
    }
    let mut hosts = fields.get_all(HOST).iter();
    match (uri.authority(), hosts.next()) {
        (None, None) => return Err(Malformed::NoAuthority),
        (None, Some(host)) if host.is_empty() => return Err(Malformed::NoAuthority),
        (Some(authority), _) if authority.as_str().contains('@') => return Err(Malformed::UserInfo),
        (Some(authority), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            return Err(Malformed::TwoAuthorities);
        }
        _ => {}
    }
    if hosts.next().is_some() {
        return Err(Malformed::TwoAuthorities);
    }
    if !one_length(fields) {
        return Err(Malformed::Length);
    }
    if fields.keys().any(|name| memchr::memchr(b'"', name.as_str().as_bytes()).is_some()) {
        return Err(Malformed::Name);
    }
    check_values(fields)
}

/// Whether the lengths are one number, however often it is said. The codec counts by the first alone.
fn one_length(fields: &HeaderMap) -> bool {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return true };
    first.as_bytes().iter().all(u8::is_ascii_digit) && !first.is_empty() && lengths.all(|length| length == first)
}

/// Checks that no value begins or ends with a blank (RFC 9113, 8.2.1).
fn check_values(fields: &HeaderMap) -> Result<(), Malformed> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let at_an_end = |value: &HeaderValue| blank(value.as_bytes().first()) || blank(value.as_bytes().last());
    if fields.values().any(at_an_end) { Err(Malformed::Blank) } else { Ok(()) }
}

/// Takes off the trailers that must not be any.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    if !trailers.keys().any(|name| is_forbidden_trailer(name.as_str().as_bytes())) {
        return;
    }
    let gone: Vec<HeaderName> =
        trailers.keys().filter(|name| is_forbidden_trailer(name.as_str().as_bytes())).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
}

/// The URI of a request to an HTTP/2 server: `:scheme`, `:authority` and `:path` come of it.
/// `None` where the parts make no URI.
pub fn uri(scheme: &str, authority: &[u8], target: ::http::uri::PathAndQuery) -> Option<Uri> {
    let authority = ::http::uri::Authority::try_from(authority).ok()?;
    Uri::builder().scheme(scheme).authority(authority).path_and_query(target).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn requests_are_checked() {
        use Malformed::{Length, NoAuthority, Path, Scheme, TwoAuthorities, UserInfo};
        type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Result<(), Malformed>);
        let cases: &[Case<'_>] = &[
            ("GET", "https://h.test/", &[], Ok(())),
            ("GET", "https://h.test/", &[("host", "H.test")], Ok(())),
            ("GET", "https://h.test/", &[("host", "other.test")], Err(TwoAuthorities)),
            ("GET", "https://h.test/", &[("host", "h.test:443")], Err(TwoAuthorities)),
            ("GET", "https://h.test/", &[("host", "h.test"), ("host", "h.test")], Err(TwoAuthorities)),
            ("GET", "/", &[("host", "h.test")], Ok(())),
            ("GET", "/", &[], Err(NoAuthority)),
            ("GET", "/", &[("host", "")], Err(NoAuthority)),
            ("GET", "https://u@h.test/", &[], Err(UserInfo)),
            ("GET", "ftp://h.test/", &[], Err(Scheme)),
            ("OPTIONS", "*", &[("host", "h.test")], Ok(())),
            ("GET", "*", &[("host", "h.test")], Err(Path)),
            ("POST", "/", &[("host", "h"), ("content-length", "5"), ("content-length", "5")], Ok(())),
            ("POST", "/", &[("host", "h"), ("content-length", "5"), ("content-length", "6")], Err(Length)),
            ("POST", "/", &[("host", "h"), ("content-length", "+5")], Err(Length)),
            ("POST", "/", &[("host", "h"), ("content-length", "5, 5")], Err(Length)),
            ("POST", "/", &[("host", "h"), ("content-length", "")], Err(Length)),
        ];
        for (method, uri, lines, wanted) in cases {
            let found = check_request(&method.parse().unwrap(), &uri.parse().unwrap(), &fields(lines));
            assert_eq!(found, *wanted, "{method} {uri} {lines:?}");
        }
    }

    #[test]
    fn values_have_no_blanks_at_their_ends() {
        for (value, good) in [("a", true), ("a b", true), ("", true), (" a", false), ("a ", false), ("\ta", false)] {
            assert_eq!(check_values(&fields(&[("x-a", value)])).is_ok(), good, "{value:?}");
        }
    }

    #[test]
    fn trailers_that_frame_or_route_are_taken_off() {
        let mut trailers = fields(&[
            ("grpc-status", "0"),
            ("content-length", "5"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-checksum", "9"),
            ("if-match", "x"),
            ("x-real-ip", "1.2.3.4"),
        ]);
        clean_trailers(&mut trailers);
        assert_eq!(trailers, fields(&[("grpc-status", "0"), ("x-checksum", "9")]));
        for name in ["age", "www-authenticate", "te", "host", "x-forwarded-proto"] {
            assert!(is_forbidden_trailer(name.as_bytes()), "{name}");
        }
        assert!(!is_forbidden_trailer(b"grpc-message"));
    }

    #[test]
    fn the_uri_has_all_three_parts() {
        let found = uri("http", b"[::1]:80", "/a?b".parse().unwrap()).unwrap();
        assert_eq!(found.to_string(), "http://[::1]:80/a?b");
        assert!(uri("http", b"a b", "/".parse().unwrap()).is_none());
        assert!(uri("http", b"", "/".parse().unwrap()).is_none());
    }
}
