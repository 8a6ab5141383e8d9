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

/// The host that rules compare: without port and surrounding blanks, ASCII lower case.
/// Borrowed when nothing needs changing, so that the usual request allocates nothing.
pub fn canonical_host(authority: &str) -> Cow<'_, str> {
    let (host, _) = split_port(authority.trim_matches([' ', '\t']));
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
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
        assert_eq!(canonical_host(" A.Example:8080"), "a.example");
        assert!(matches!(canonical_host("a.example:1"), Cow::Borrowed("a.example")));
    }
}
