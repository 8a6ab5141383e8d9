//! Host names as requests and rules write them.

use std::borrow::Cow;

/// Splits `host:port`, `[v6]:port` or `host` into host (brackets kept) and port text.
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    let end = match authority.strip_prefix('[') {
        Some(rest) => match rest.find(']') {
            Some(close) => close + 2,
            None => return (authority, None),
        },
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(end);
    match rest.strip_prefix(':') {
        Some(port) => (host, Some(port)),
        None if rest.is_empty() => (host, None),
        None => (authority, None),
    }
}

/// The host of `host:port` or `[v6]:port`, without brackets. `None` without a port or when the text is
/// no such form (more than one colon outside brackets, a bracket left open), as Go's `net.SplitHostPort`.
pub fn without_port(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => authority.rsplit_once(':')?,
    };
    let bracketed = authority.starts_with('[');
    let bracket = |text: &str| text.contains(['[', ']']);
    let colons = if bracketed { port.contains(':') } else { host.contains(':') };
    (!colons && !bracket(host) && !bracket(port)).then_some(host)
}

/// The host that rules compare: without port, brackets and surrounding blanks, lower case (as
/// recorded from Traefik: `[::1]:80` gives `::1`; what is no `host:port` stays as it is).
/// Borrowed when nothing needs changing, so that the usual request allocates nothing.
pub fn canonical_host(authority: &str) -> Cow<'_, str> {
    let authority = authority.trim();
    let bare = || authority.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let host = match authority.contains(':') {
        true => without_port(authority).or_else(bare).unwrap_or(authority).trim(),
        false => authority,
    };
    if host.bytes().any(|b| b.is_ascii_uppercase()) || !host.is_ascii() {
        Cow::Owned(host.to_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_ports_also_behind_brackets() {
        for (input, host, port) in [
            ("a.example", "a.example", None),
            ("a.example:80", "a.example", Some("80")),
            ("[::1]:80", "[::1]", Some("80")),
            ("[::1]", "[::1]", None),
            ("[::1", "[::1", None),
            ("[::1]x", "[::1]x", None),
            (":80", "", Some("80")),
            ("", "", None),
        ] {
            assert_eq!(split_port(input), (host, port), "{input}");
        }
    }

    #[test]
    fn lowers_and_cuts() {
        for (input, host) in [
            (" A.Example:8080", "a.example"),
            ("a.example:", "a.example"),
            ("a.example:abc", "a.example"),
            ("a.example.:443", "a.example."),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("a:b:c", "a:b:c"),
            ("[::1", "[::1"),
            ("[abc]", "[abc]"),
            ("[::1]x:80", "[::1]x:80"),
            ("", ""),
        ] {
            assert_eq!(canonical_host(input), host, "{input}");
        }
        assert!(matches!(canonical_host("a.example:1"), Cow::Borrowed("a.example")));
    }
}
