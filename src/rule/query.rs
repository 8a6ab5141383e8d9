//! Parameters of a raw query as Go's `net/url` reads them: separated by `&`, `+` is a blank,
//! `%XX` is a byte; a parameter with a bad escape or a semicolon does not exist.

use smallvec::SmallVec;

/// Room for a decoded `name=value` without allocation.
pub(super) type Buffer = SmallVec<[u8; 256]>;

/// The readable parameters, names and values still encoded.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|part| !part.is_empty() && !part.contains(';'))
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .filter(|(name, value)| is_readable(name) && is_readable(value))
}

/// The readable values of a parameter, still encoded.
pub(super) fn values<'a>(query: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    parameters(query).filter(move |(key, _)| is(key, name)).map(|(_, value)| value)
}

/// True if the encoded text stands for the plain one.
pub(super) fn is(encoded: &str, plain: &str) -> bool {
    bytes(encoded).eq(plain.bytes())
}

/// The encoded text's bytes.
pub(super) fn bytes(encoded: &str) -> impl Iterator<Item = u8> {
    let mut rest = encoded.bytes();
    std::iter::from_fn(move || match rest.next()? {
        b'+' => Some(b' '),
        b'%' => Some(hex(rest.next()?)? << 4 | hex(rest.next()?)?),
        byte => Some(byte),
    })
}

fn is_readable(encoded: &str) -> bool {
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%'
            && !(rest.next().is_some_and(|b| hex(b).is_some()) && rest.next().is_some_and(|b| hex(b).is_some()))
        {
            return false;
        }
    }
    true
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok())
}
