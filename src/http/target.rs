//! The request target on its way in, as Traefik's entry points treat it: a fragment is refused,
//! percent-encoding normalised, the path cleaned up (`sanitizePath`), semicolons in the query become `&`
//! or are encoded (`encodeQuerySemicolons`), and the routing path that rules compare is worked out
//! (<https://doc.traefik.io/traefik/security/request-path/>).
//!
//! What always holds: `escaped_path` has only characters that a path may have (RFC 3986 section 3.3,
//! and `[`, `]`) and, unless cleaning is switched off, no `//`, no `.` and no `..` segment; what needs no
//! change is borrowed, so that the usual request allocates nothing.

use crate::model::lossy;
use std::borrow::Cow;
use std::net::Ipv6Addr;
use thiserror::Error;

/// A normalised request target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// Host and port of the absolute form (`GET http://a.example/`), which outranks the Host header.
    pub authority: Option<&'a str>,
    /// The path, percent-encoded, to be sent on. Begins with `/`, or is `*`.
    pub escaped_path: Cow<'a, str>,
    /// The path that rules compare: decoded, except for reserved characters and `%`. Bytes that are no
    /// UTF-8 are U+FFFD here.
    pub routing_path: Cow<'a, str>,
    /// The query without `?`, semicolons turned into `&`; empty when there is none.
    pub query: Cow<'a, str>,
}

/// What an entry point makes of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetOptions {
    /// `http.sanitizePath`: `//`, `.` and `..` segments are cleaned away.
    pub sanitize_path: bool,
    /// `http.encodeQuerySemicolons`: semicolons in the query become `%3B` instead of `&`.
    pub encode_query_semicolons: bool,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self { sanitize_path: true, encode_query_semicolons: false }
    }
}

/// The encoded characters that a path may have (`http.encodedCharacters`); all by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedCharacters {
    /// `%2F`.
    pub slash: bool,
    /// `%5C`.
    pub back_slash: bool,
    /// `%00`.
    pub null: bool,
    /// `%3B`.
    pub semicolon: bool,
    /// `%25`.
    pub percent: bool,
    /// `%3F`.
    pub question_mark: bool,
    /// `%23`.
    pub hash: bool,
}

impl Default for EncodedCharacters {
    fn default() -> Self {
        Self {
            slash: true,
            back_slash: true,
            null: true,
            semicolon: true,
            percent: true,
            question_mark: true,
            hash: true,
        }
    }
}

impl EncodedCharacters {
    /// Whether an escaped path has none of those that are refused. Traefik asks this of requests that
    /// a router takes, before its middlewares, and answers 400 with an empty body.
    pub fn allow(self, escaped_path: &str) -> bool {
        self == Self::default()
            || escaped_path.split('%').skip(1).all(|behind| match behind.as_bytes() {
                [b'2', b'F' | b'f', ..] => self.slash,
                [b'5', b'C' | b'c', ..] => self.back_slash,
                [b'0', b'0', ..] => self.null,
                [b'3', b'B' | b'b', ..] => self.semicolon,
                [b'2', b'5', ..] => self.percent,
                [b'3', b'F' | b'f', ..] => self.question_mark,
                [b'2', b'3', ..] => self.hash,
                _ => true,
            })
    }
}

/// Why a request target is not acceptable; the answer is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TargetError {
    /// Neither a path, nor a URL with a host, nor `*`.
    #[error("expected a path that begins with `/`, a URL or `*` as request target")]
    Form,
    /// A blank or control character.
    #[error("blank or control character in the request target")]
    Character,
    /// `#` in the path.
    #[error("fragment in the request target")]
    Fragment,
    /// `%` without two hexadecimal digits in the path.
    #[error("expected two hexadecimal digits behind `%` in the path")]
    Escape,
    /// The host of the absolute form is malformed.
    #[error("malformed host in the request target")]
    Host,
}

/// Normalises the target of any method but `CONNECT` with default options ([`normalise_with`]).
///
/// # Errors
/// As [`normalise_with`].
pub fn normalise(target: &str) -> Result<Target<'_>, TargetError> {
    normalise_with(target, TargetOptions::default())
}

/// Normalises the target of any method but `CONNECT`. Who answers `OPTIONS *` (Traefik does itself, with
/// 200) is the caller's business.
///
/// # Errors
/// [`TargetError`] for what Traefik answers with 400. Besides, URLs without a slash behind the scheme
/// (`mailto:x`) and hosts in URLs with percent-encoding or stray brackets are refused, which Go's library
/// would take.
pub fn normalise_with(target: &str, options: TargetOptions) -> Result<Target<'_>, TargetError> {
    check_characters(target)?;
    let (before_query, query) = cut_query(target, options);
    let (authority, path) = match scheme(before_query) {
        _ if target == "*" => (None, target),
        Some(rest) => match rest.strip_prefix("//") {
            Some(rest) => split_authority(rest)?,
            None if rest.starts_with('/') => (None, rest),
            None => return Err(TargetError::Form),
        },
        None if before_query.starts_with('/') => (None, before_query),
        None => return Err(TargetError::Form),
    };
    assemble(authority, path, query, options)
}

/// Normalises the target of `CONNECT`: host and port, or a path.
///
/// # Errors
/// As [`normalise`].
pub fn normalise_connect(target: &str) -> Result<Target<'_>, TargetError> {
    if target.starts_with('/') {
        return normalise(target);
    }
    check_characters(target)?;
    let options = TargetOptions::default();
    let (before_query, query) = cut_query(target, options);
    let (authority, path) = split_authority(before_query)?;
    assemble(authority, path, query, options)
}

/// True for a Host header that Go's server takes: ASCII letters and digits and the characters of RFC
/// 3986's authority, in any order; also the empty one.
pub fn is_host_header(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&b))
}

fn check_characters(target: &str) -> Result<(), TargetError> {
    match target.bytes().any(|b| b <= b' ' || b == 0x7f) {
        true => Err(TargetError::Character),
        false => Ok(()),
    }
}

fn cut_query(target: &str, options: TargetOptions) -> (&str, Cow<'_, str>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let instead = if options.encode_query_semicolons { "%3B" } else { "&" };
    let query = if query.contains(';') { Cow::Owned(query.replace(';', instead)) } else { Cow::Borrowed(query) };
    (path, query)
}

/// What stands behind `scheme:`.
fn scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once(':')?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    (scheme.bytes().all(plain) && scheme.starts_with(|c: char| c.is_ascii_alphabetic())).then_some(rest)
}

fn split_authority(rest: &str) -> Result<(Option<&str>, &str), TargetError> {
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let plain = |extra: &'static [u8]| {
        move |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&b) || extra.contains(&b)
    };
    let (name, port) = match host.strip_prefix('[') {
        Some(inner) => {
            let (address, port) = inner.split_once(']').ok_or(TargetError::Host)?;
            address.parse::<Ipv6Addr>().map_err(|_| TargetError::Host)?;
            ("", port)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_fits =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let name_fits = name.bytes().all(|b| plain(b"<>\"")(b) || !b.is_ascii());
    if !port_fits || !name_fits || !user.bytes().all(plain(b":%@")) || !has_valid_escapes(user) {
        return Err(TargetError::Host);
    }
    Ok(((!host.is_empty()).then_some(host), path))
}

fn assemble<'a>(
    authority: Option<&'a str>,
    path: &'a str,
    query: Cow<'a, str>,
    options: TargetOptions,
) -> Result<Target<'a>, TargetError> {
    let escaped_path = match normalise_encoding(path)? {
        path if path.is_empty() => Cow::Borrowed("/"),
        path if !options.sanitize_path => path,
        Cow::Borrowed(path) => clean(path),
        Cow::Owned(path) => Cow::Owned(clean(&path).into_owned()),
    };
    let routing_path = if escaped_path.contains('%') {
        Cow::Owned(decode(&escaped_path, |code| !is_reserved(code)))
    } else {
        escaped_path.clone()
    };
    Ok(Target { authority, escaped_path, routing_path, query })
}

/// Unreserved characters decoded, hexadecimal digits in upper case. A path with characters that it may
/// not have (`"`, `é`) is decoded and encoded anew as a whole, which is what Go's library makes
/// of it: `%2F` becomes `/` then.
fn normalise_encoding(path: &str) -> Result<Cow<'_, str>, TargetError> {
    if path.contains('#') {
        return Err(TargetError::Fragment);
    }
    let legal = |b: u8| is_unreserved(b) || b"!$&'()*+,;=:@[]/%".contains(&b);
    let is_legal = path.bytes().all(legal);
    if is_legal && !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    if !has_valid_escapes(path) {
        return Err(TargetError::Escape);
    }
    if !is_legal {
        let mut encoded = String::with_capacity(path.len() + 16);
        for byte in decoded(path, |_| true) {
            if is_unreserved(byte) || b"$&+,/:;=@".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                push_encoded(&mut encoded, byte);
            }
        }
        return Ok(Cow::Owned(encoded));
    }
    let mut normal = String::with_capacity(path.len());
    let mut parts = path.split('%');
    normal.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(TargetError::Escape)?;
        let byte = u8::from_str_radix(digits, 16).map_err(|_| TargetError::Escape)?;
        if is_unreserved(byte) {
            normal.push(char::from(byte));
        } else {
            push_encoded(&mut normal, byte);
        }
        normal.push_str(rest);
    }
    Ok(if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) })
}

/// A path without empty, `.` and `..` segments; a slash at the end stays. Borrowed when it was clean.
pub fn clean(path: &str) -> Cow<'_, str> {
    if path.is_empty() {
        return Cow::Borrowed("/");
    }
    // The first segment is what stands before the leading slash, the last may be empty too.
    let mut inner = path.split('/').skip(1).peekable();
    let mut is_clean = path.starts_with('/') || path == "*";
    while let Some(segment) = inner.next() {
        is_clean &= !matches!(segment, "." | "..") && (!segment.is_empty() || inner.peek().is_none());
    }
    if is_clean {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut cleaned = String::with_capacity(path.len());
    for segment in &kept {
        cleaned.push('/');
        cleaned.push_str(segment);
    }
    if path.ends_with('/') || kept.is_empty() {
        cleaned.push('/');
    }
    Cow::Owned(cleaned)
}

fn decode(path: &str, choose: impl Fn(u8) -> bool) -> String {
    lossy(decoded(path, choose).collect())
}

/// The bytes of a path with valid escapes, the chosen ones decoded.
fn decoded(path: &str, choose: impl Fn(u8) -> bool) -> impl Iterator<Item = u8> {
    let mut rest = path.as_bytes();
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        rest = tail;
        if first == b'%'
            && let Some((digits, behind)) = tail.split_at_checked(2)
            && let Ok(digits) = std::str::from_utf8(digits)
            && let Ok(byte) = u8::from_str_radix(digits, 16)
            && choose(byte)
        {
            rest = behind;
            return Some(byte);
        }
        Some(first)
    })
}

fn push_encoded(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// True if two hexadecimal digits stand behind each `%`.
fn has_valid_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|tail| tail.len() >= 2 && tail.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// RFC 3986 section 2.2, and `%` itself.
fn is_reserved(byte: u8) -> bool {
    b":/?#[]@!$&'()*+,;=%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(target: &str, escaped: &str, routing: &str, query: &str) {
        let got = normalise(target).expect(target);
        assert_eq!((&*got.escaped_path, &*got.routing_path, &*got.query), (escaped, routing, query), "{target}");
    }

    #[test]
    fn borrows_what_needs_no_change() {
        for target in ["/", "/api/v1/?a=1&b", "/.well-known/x", "/a...b/..c", "/foo;v=1/(a)'*!", "http://h/x?y"] {
            let got = normalise(target).expect(target);
            for part in [&got.escaped_path, &got.routing_path, &got.query] {
                assert!(matches!(part, Cow::Borrowed(_)), "{target}");
            }
        }
    }

    #[test]
    fn cleans_paths_after_decoding() {
        check("//a/./b/../c/", "/a/c/", "/a/c/", "");
        check("/a/%2e%2E/b/.", "/b", "/b", "");
        check("/..", "/", "/", "");
        check("/a/..", "/", "/", "");
        check("/a%2F..%2fb", "/a%2F..%2Fb", "/a%2F..%2Fb", "");
    }

    #[test]
    fn decodes_for_routing_but_reserved_characters() {
        check("/a%20b%25%2F%61", "/a%20b%25%2Fa", "/a b%25%2Fa", "");
        check("/caf%c3%a9", "/caf%C3%A9", "/café", "");
        check("/x%ff%C3", "/x%FF%C3", "/x\u{fffd}\u{fffd}", "");
        check("/%00", "/%00", "/\0", "");
    }

    #[test]
    fn encodes_anew_what_a_path_may_not_have() {
        check("/café", "/caf%C3%A9", "/café", "");
        check("/a|b*", "/a%7Cb%2A", "/a|b%2A", "");
        check("/a\"b%2Fc%2F..", "/a%22b", "/a\"b", "");
    }

    #[test]
    fn turns_semicolons_in_queries() {
        check("/a;b?c;d=1#e", "/a;b", "/a;b", "c&d=1#e");
        check("/a??b", "/a", "/a", "?b");
    }

    #[test]
    fn options_leave_paths_alone_and_encode_semicolons() {
        let options = TargetOptions { sanitize_path: false, encode_query_semicolons: true };
        for (target, escaped, routing, query) in [
            ("/a/%2e%2E/b//c/.", "/a/../b//c/.", "/a/../b//c/.", ""),
            ("//a?b;c", "//a", "//a", "b%3Bc"),
            ("http://h", "/", "/", ""),
            ("/a%2fb%20", "/a%2Fb%20", "/a%2Fb ", ""),
        ] {
            let got = normalise_with(target, options).expect(target);
            assert_eq!((&*got.escaped_path, &*got.routing_path, &*got.query), (escaped, routing, query), "{target}");
        }
        assert_eq!(normalise_with("/a#b", options), Err(TargetError::Fragment));
    }

    #[test]
    fn each_encoded_character_can_be_refused_by_itself() {
        let all = EncodedCharacters::default();
        for (refusing, path) in [
            (EncodedCharacters { slash: false, ..all }, "/a%2Fb"),
            (EncodedCharacters { slash: false, ..all }, "/a%2fb"),
            (EncodedCharacters { back_slash: false, ..all }, "/%5C"),
            (EncodedCharacters { null: false, ..all }, "/x%00"),
            (EncodedCharacters { semicolon: false, ..all }, "/a%3Bb"),
            (EncodedCharacters { percent: false, ..all }, "/a%2500"),
            (EncodedCharacters { question_mark: false, ..all }, "/a%3F"),
            (EncodedCharacters { hash: false, ..all }, "/%20%23"),
        ] {
            assert!(all.allow(path), "{path}");
            assert!(!refusing.allow(path), "{path}");
            assert!(refusing.allow("/a/b%20%7Bc"), "{path}");
        }
        // `%2500` has an encoded percent and no null character
        assert!(EncodedCharacters { null: false, ..all }.allow("/a%2500"));
    }

    #[test]
    fn takes_absolute_forms_and_the_asterisk() {
        for (target, authority, path) in [
            ("http://a.example", Some("a.example"), "/"),
            ("HTTP://u:p@a.example:80/x", Some("a.example:80"), "/x"),
            ("http://[::1]:8/", Some("[::1]:8"), "/"),
            ("http:///x", None, "/x"),
            ("http:/x", None, "/x"),
            ("*", None, "*"),
            ("//a//b", None, "/a/b"),
        ] {
            let got = normalise(target).expect(target);
            assert_eq!((got.authority, &*got.escaped_path), (authority, path), "{target}");
        }
        let got = normalise_connect("a.example:443").expect("authority form");
        assert_eq!((got.authority, &*got.escaped_path), (Some("a.example:443"), "/"));
    }

    #[test]
    fn refuses_with_a_reason() {
        for (target, error) in [
            ("", TargetError::Form),
            ("a/b", TargetError::Form),
            ("mailto:x", TargetError::Form),
            ("/a b", TargetError::Character),
            ("/a\x7f", TargetError::Character),
            ("/a#b", TargetError::Fragment),
            ("/a%", TargetError::Escape),
            ("/a%4", TargetError::Escape),
            ("/a%é", TargetError::Escape),
            ("/a%zz\"", TargetError::Escape),
            ("http://a:b/", TargetError::Host),
            ("http://a:1:2/", TargetError::Host),
            ("http://[::1/", TargetError::Host),
            ("http://a#b/", TargetError::Host),
            ("http://%9@a/", TargetError::Host),
        ] {
            assert_eq!(normalise(target), Err(error), "{target}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(target in "\\PC*") {
            let _ = normalise(&target);
            let _ = normalise_connect(&target);
        }

        #[test]
        fn is_clean_and_stays_so(target in "/([a-c./ %éA-F0-9\"*]|%2[eEfF]|//|/\\.\\./|/\\./){0,12}") {
            if let Ok(first) = normalise(&target) {
                let path = first.escaped_path.into_owned();
                prop_assert!(path.starts_with('/'));
                prop_assert!(!path.contains("//"));
                prop_assert!(!path.split('/').any(|segment| segment == "." || segment == ".."));
                let again = normalise(&path).expect("a normalised path is acceptable");
                prop_assert_eq!(&*again.escaped_path, &path);
                prop_assert_eq!(again.routing_path, first.routing_path);
            }
        }
    }
}
