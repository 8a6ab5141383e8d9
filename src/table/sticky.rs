//! Sticky cookies in Traefik's form, so that clients keep their servers when one proxy takes over from the other
//! (<https://doc.traefik.io/traefik/reference/routing-configuration/http/load-balancing/service/#sticky-sessions>):
//! the value tells the server by a hash of its URL (of a weighted service: the service by a hash of its name).

use crate::declare;
use aws_lc_rs::digest;
use std::fmt::Write as _;
use std::sync::Arc;

/// Digits of a value.
const DIGITS: usize = 16;

/// A service's sticky cookie.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sticky {
    /// The cookie's name.
    pub name: Arc<str>,
    /// What stands behind the value when it is set.
    pub attributes: Arc<str>,
    /// What it was declared as, for the API and the store.
    pub declared: declare::Cookie,
}

impl Sticky {
    /// The cookie of a service by its qualified name.
    pub fn new(service: &str, declared: &declare::Cookie) -> Self {
        Self { name: name(service, declared), attributes: attributes(declared).into(), declared: declared.clone() }
    }

    /// The value for a server's URL or a service's name: the first 16 digits of its SHA-256.
    pub fn value(of: &str) -> String {
        let mut value = hex(digest::digest(&digest::SHA256, of.as_bytes()).as_ref());
        value.truncate(DIGITS);
        value
    }

    /// Values that Traefik set in earlier versions and still takes: the name as it is, its FNV-1 hash, and that one's.
    pub fn former_values(of: &str) -> [String; 3] {
        let once = format!("{:x}", fnv1(of.as_bytes()));
        let twice = format!("{:x}", fnv1(once.as_bytes()));
        [of.to_owned(), once, twice]
    }
}

/// As said, with what no name may hold replaced; else `_` and five digits of a hash of the service's name.
fn name(service: &str, declared: &declare::Cookie) -> Arc<str> {
    if declared.name.is_empty() {
        let backend = format!("_TRAEFIK_BACKEND_{service}");
        let hash = hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, backend.as_bytes()).as_ref());
        return format!("_{}", hash.get(..5).unwrap_or_default()).into();
    }
    let may = |c: &char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^`|~".contains(*c);
    declared.name.chars().map(|c| if may(&c) { c } else { '_' }).collect::<String>().into()
}

/// In the order in which Go's HTTP library writes them. What would not be a cookie's attribute is left out, as there.
fn attributes(cookie: &declare::Cookie) -> String {
    let mut out = String::new();
    let path = cookie.path.as_deref().unwrap_or("/");
    let path: String = path.chars().filter(|c| (' '..='~').contains(c) && *c != ';').collect();
    if !path.is_empty() {
        let _ = write!(out, "; Path={path}");
    }
    if is_domain(&cookie.domain) {
        let _ = write!(out, "; Domain={}", cookie.domain.strip_prefix('.').unwrap_or(&cookie.domain));
    }
    match cookie.max_age {
        0 => {}
        seconds => {
            let _ = write!(out, "; Max-Age={}", seconds.max(0));
        }
    }
    if cookie.http_only {
        out.push_str("; HttpOnly");
    }
    if cookie.secure {
        out.push_str("; Secure");
    }
    match cookie.same_site.to_ascii_lowercase().as_str() {
        "none" => out.push_str("; SameSite=None"),
        "lax" => out.push_str("; SameSite=Lax"),
        "strict" => out.push_str("; SameSite=Strict"),
        _ => {}
    }
    out
}

fn is_domain(domain: &str) -> bool {
    let name = domain.strip_prefix('.').unwrap_or(domain);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.len() <= 255 && name.split('.').all(label)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// FNV-1 of 64 bits (Go's `fnv.New64`).
fn fnv1(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declare::Cookie;

    #[test]
    fn names_and_values_are_those_of_traefik() {
        // from pkg/server/cookie and pkg/server/service/loadbalancer of Traefik 3.7
        let named = |name: &str| Sticky::new("backend", &Cookie { name: name.into(), ..Cookie::default() }).name;
        assert_eq!(&*named(""), "_76eb3");
        assert_eq!(&*named("/my/path"), "_my_path");
        assert_eq!(&*named("a!#$%&'*+-.^`|~b"), "a!#$%&'*+-.^`|~b");
        assert_eq!(Sticky::value("first"), "a7937b64b8caa58f");
        assert_eq!(Sticky::former_values("first")[0], "first");
        assert_eq!(Sticky::former_values("a")[1], format!("{:x}", 0xaf63_bd4c_8601_b7be_u64));
    }

    #[test]
    fn attributes_are_written_as_go_does() {
        let all = Cookie {
            name: "a".into(),
            secure: true,
            http_only: true,
            same_site: "None".into(),
            max_age: 42,
            path: Some("/x;y".into()),
            domain: ".example.org".into(),
        };
        assert_eq!(attributes(&all), "; Path=/xy; Domain=example.org; Max-Age=42; HttpOnly; Secure; SameSite=None");
        assert_eq!(attributes(&Cookie::default()), "; Path=/");
        let ended = Cookie { max_age: -5, path: Some("".into()), domain: "a b".into(), ..Cookie::default() };
        assert_eq!(attributes(&ended), "; Max-Age=0");
    }
}
