//! Names and values of DNS challenges, checked before anything is told of them.
//!
//! What always holds: an [`Fqdn`] is lower-case ASCII of labels of letters, digits, `-` and `_` that
//! begin with no `-`, at most 253 characters; so it can stand in a message, a URL, a JSON text, a
//! program's argument and a log line. A value is base64url.

use super::DnsError;
use hickory_proto::rr::Name;
use std::fmt;

/// What a name that is validated has in front (RFC 8555, section 8.4).
const PREFIX: &str = "_acme-challenge";
/// The longest name, without its last dot (RFC 1035, section 2.3.4).
const LONGEST: usize = 253;

/// A fully qualified name. `Display` shows it with the last dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fqdn(String);

impl Fqdn {
    /// Checks a name; a last dot may stand there or not.
    ///
    /// # Errors
    /// [`DnsError::Name`].
    pub fn parse(text: &str) -> Result<Self, DnsError> {
        let fault = |reason| DnsError::Name { name: text.escape_debug().take(300).collect(), reason };
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(fault("it is empty"));
        }
        if name.len() > LONGEST {
            return Err(fault("it is longer than 253 characters"));
        }
        for label in name.split('.') {
            if label.is_empty() {
                return Err(fault("a label is empty"));
            }
            if label.len() > 63 {
                return Err(fault("a label is longer than 63 characters"));
            }
            if label.starts_with('-') {
                return Err(fault("a label begins with `-`"));
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return Err(fault("a label has characters other than letters, digits, `-` and `_`"));
            }
        }
        Ok(Self(name.to_ascii_lowercase()))
    }

    /// The name that a resolver or a name server gave.
    ///
    /// # Errors
    /// [`DnsError::Name`]: a name of DNS may hold any byte.
    pub fn from_wire(name: &Name) -> Result<Self, DnsError> {
        Self::parse(&name.to_ascii())
    }

    /// For messages.
    ///
    /// # Errors
    /// [`DnsError::Name`]; never for a name of this type.
    pub fn to_wire(&self) -> Result<Name, DnsError> {
        let mut name = Name::from_ascii(&self.0)
            .map_err(|_| DnsError::Name { name: self.0.clone(), reason: "it cannot be encoded" })?;
        name.set_fqdn(true);
        Ok(name)
    }

    /// Without the last dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This name and those above it, the nearest first, down to the top-level domain.
    pub fn and_above(&self) -> impl Iterator<Item = Self> + '_ {
        std::iter::successors(Some(self.0.as_str()), |name| name.split_once('.').map(|(_, above)| above))
            .map(|name| Self(name.to_owned()))
    }

    /// True for this name and every name below it.
    pub fn holds(&self, other: &Self) -> bool {
        other.0.strip_suffix(&self.0).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl fmt::Display for Fqdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.0)
    }
}

/// The domain that an identifier names, without `*.`.
pub(super) fn domain(text: &str) -> Result<Fqdn, DnsError> {
    Fqdn::parse(text.strip_prefix("*.").unwrap_or(text))
}

/// Where the challenge of a domain is looked for.
pub(super) fn challenge(domain: &Fqdn) -> Result<Fqdn, DnsError> {
    Fqdn::parse(&format!("{PREFIX}.{}", domain.as_str()))
}

/// Checks what is to stand in the record: base64url, not longer than a string of a TXT record.
pub(super) fn value(text: &str) -> Result<&str, DnsError> {
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(is_base64url);
    if fits { Ok(text) } else { Err(DnsError::Value("the value")) }
}

/// Checks a challenge's token (RFC 8555, section 8.1).
pub(super) fn token(text: &str) -> Result<&str, DnsError> {
    let fits = (1..=512).contains(&text.len()) && text.bytes().all(is_base64url);
    if fits { Ok(text) } else { Err(DnsError::Value("the token")) }
}

/// Checks a key authorization: token, dot, thumbprint.
pub(super) fn key_authorization(text: &str) -> Result<&str, DnsError> {
    let fits = text.len() <= 1024
        && text
            .split_once('.')
            .is_some_and(|(a, b)| !a.is_empty() && !b.is_empty() && a.bytes().chain(b.bytes()).all(is_base64url));
    if fits { Ok(text) } else { Err(DnsError::Value("the key authorization")) }
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_mean_something_else_are_refused() {
        let long = format!("{}.test", "a".repeat(64));
        let longer = vec!["abcdefg"; 33].join(".");
        for bad in [
            "",
            ".",
            "a..b",
            ".a",
            "-rf.test",
            "a.-b",
            "a b.test",
            "a\r\nb.test",
            "a\0.test",
            "*.test",
            "ä.test",
            "a/b",
            "a\\.b",
            "a;b",
            "$(id).test",
            &long,
            &longer,
        ] {
            let error = Fqdn::parse(bad).expect_err(bad);
            assert!(!error.to_string().contains(['\r', '\n', '\0']), "{error:?}");
        }
        assert_eq!(
            Fqdn::parse("_Acme.Example.TEST.").map(|n| n.to_string()).ok().as_deref(),
            Some("_acme.example.test.")
        );
    }

    #[test]
    fn a_wildcard_is_validated_at_its_domain() {
        let domain = domain("*.Example.test").expect("a domain");
        assert_eq!(challenge(&domain).expect("a name").to_string(), "_acme-challenge.example.test.");
    }

    #[test]
    fn names_above_and_below() {
        let name = Fqdn::parse("a.b.test").expect("a name");
        let above: Vec<String> = name.and_above().map(|n| n.to_string()).collect();
        assert_eq!(above, ["a.b.test.", "b.test.", "test."]);
        let zone = Fqdn::parse("b.test").expect("a name");
        assert!(zone.holds(&name) && zone.holds(&zone) && !name.holds(&zone));
        assert!(!zone.holds(&Fqdn::parse("ab.test").expect("a name")));
    }

    #[test]
    fn values_are_base64url() {
        assert!(value("abc-_DEF").is_ok());
        for bad in ["", "a b", "a\n", "\"", "a=", &"a".repeat(256)] {
            assert!(value(bad).is_err(), "{bad:?}");
        }
        assert!(key_authorization("tok.thumb").is_ok());
        for bad in ["tok", ".x", "x.", "a.b\n", "a.b.c"] {
            assert!(key_authorization(bad).is_err(), "{bad:?}");
        }
    }
}
