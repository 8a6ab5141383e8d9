//! For which names an authority may be asked at all, and which names share a limit: plain checks without a network.

use std::net::IpAddr;
use std::sync::Arc;

/// Domains that no public authority issues for (RFC 2606, RFC 6761, RFC 9476 and the one that ICANN keeps for private use).
const RESERVED: &[&str] = &["localhost", "local", "test", "internal", "invalid", "example", "onion", "alt", "arpa"];
/// Longest name and longest label (RFC 1035, 2.3.4).
const NAME_LIMIT: usize = 253;
const LABEL_LIMIT: usize = 63;

/// Why a name is not ordered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unordered {
    /// Nobody issues for it.
    #[error("no public authority issues for names under `{0}`")]
    Reserved(&'static str),
    /// An address.
    #[error("it is an address, not a name")]
    Address,
    /// One label: a machine of the own network.
    #[error("it has no domain, so that no public authority can know it")]
    OneLabel,
    /// Not a host name.
    #[error("it is no host name")]
    NotAName,
}

/// Whether certificates may be ordered for a name: a host, or `*.` and a domain, in lower case.
///
/// # Errors
/// Why not.
pub fn orderable(name: &str) -> Result<(), Unordered> {
    let host = name.strip_prefix("*.").unwrap_or(name);
    if host.parse::<IpAddr>().is_ok() || host.starts_with('[') {
        return Err(Unordered::Address);
    }
    let good = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        !label.is_empty() && label.len() <= LABEL_LIMIT && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.len() > NAME_LIMIT || !host.split('.').all(good) {
        return Err(Unordered::NotAName);
    }
    let top = host.rsplit('.').next().unwrap_or(host);
    if let Some(reserved) = RESERVED.iter().find(|reserved| **reserved == top) {
        return Err(Unordered::Reserved(reserved));
    }
    match host.contains('.') {
        true => Ok(()),
        false => Err(Unordered::OneLabel),
    }
}

/// The domain under which an authority counts a name's certificates: one label below the public suffix
/// (<https://publicsuffix.org/>).
pub fn registered_domain(name: &str) -> Arc<str> {
    let host = name.strip_prefix("*.").unwrap_or(name);
    psl::domain_str(host).unwrap_or(host).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_issues_for_are_not_ordered() {
        for good in ["a.example.com", "*.example.com", "xn--bcher-kva.example.org", "a1.b-c.de"] {
            assert_eq!(orderable(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("localhost", Unordered::Reserved("localhost")),
            ("app.localhost", Unordered::Reserved("localhost")),
            ("a.b.test", Unordered::Reserved("test")),
            ("*.svc.internal", Unordered::Reserved("internal")),
            ("www.example", Unordered::Reserved("example")),
            ("192.0.2.1", Unordered::Address),
            ("::1", Unordered::Address),
            ("nomad", Unordered::OneLabel),
            ("*.com", Unordered::OneLabel),
            ("a_b.example.com", Unordered::NotAName),
            ("a..example.com", Unordered::NotAName),
            ("-a.example.com", Unordered::NotAName),
            ("*.*.example.com", Unordered::NotAName),
            ("A.example.com", Unordered::NotAName),
            ("a.example.com.", Unordered::NotAName),
            ("", Unordered::NotAName),
            ("a b.example.com", Unordered::NotAName),
        ] {
            assert_eq!(orderable(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn domains_are_counted_below_the_public_suffix() {
        for (name, domain) in [
            ("a.b.example.com", "example.com"),
            ("*.example.co.uk", "example.co.uk"),
            ("x.github.io", "x.github.io"),
            ("com", "com"),
        ] {
            assert_eq!(&*registered_domain(name), domain, "{name}");
        }
    }
}
