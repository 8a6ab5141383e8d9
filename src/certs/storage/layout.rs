//! The names of Caddy's storage: which key holds what. A key is a relative path with `/` between
//! its parts, as in certmagic, whose `storage.go`, `account.go` and `acmeissuer.go` these follow to
//! the letter; so what one proxy wrote, the other finds. Pure: nothing here looks at a disk.

use std::fmt::Write as _;

/// The directory of the internal authority's certificates below `certificates/`.
pub const INTERNAL: &str = "local";

/// The three keys of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// PEM chain, leaf first.
    pub crt: String,
    /// PEM private key.
    pub key: String,
    /// Names and what the issuer said.
    pub json: String,
}

/// One part of a key for a name, host or e-mail address (certmagic's `Safe`): lower case, `*`
/// becomes `wildcard_`, and nothing stays that means something to a file system.
pub fn safe(name: &str) -> String {
    let lower = name.to_lowercase();
    let mut out = String::with_capacity(lower.len() + 8);
    let mut rest = lower.trim();
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("..") {
            rest = after;
            continue;
        }
        match first {
            ' ' => out.push('_'),
            '+' => out.push_str("_plus_"),
            '*' => out.push_str("wildcard_"),
            ':' => out.push('-'),
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '@' | '.' | '-') => out.push(c),
            _ => {}
        }
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// The directory of an ACME authority, from the URL of its directory object: host, port and path.
pub fn issuer_key(directory_url: &str) -> String {
    let url = directory_url.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/').unwrap_or((rest, "")),
        None => ("", url),
    };
    // Go leaves user information out of a URL's host.
    let mut key = authority.rsplit('@').next().unwrap_or_default().to_owned();
    let path = path.replace(['/', '\\'], "-");
    let path = path.trim_matches('-');
    if !path.is_empty() {
        // Writing into a string cannot fail.
        let _ = write!(key, "-{path}");
    }
    safe(&key)
}

/// Where the certificate of a name lies, of an issuer as [`issuer_key`] or [`INTERNAL`] names it.
pub fn site(issuer: &str, name: &str) -> Site {
    let (issuer, name) = (safe(issuer), safe(name));
    let of = |ending: &str| format!("certificates/{issuer}/{name}/{name}.{ending}");
    Site { crt: of("crt"), key: of("key"), json: of("json") }
}

/// Where the account with an authority lies: its JSON and its key.
pub fn account(issuer: &str, email: Option<&str>) -> (String, String) {
    let email = email.filter(|email| !email.is_empty()).unwrap_or("default").to_lowercase();
    let user = match email.find('@') {
        None => &*email,
        Some(0) => &email[1..],
        Some(at) => &email[..at],
    };
    let prefix = format!("acme/{}/users/{}", safe(issuer), safe(&email));
    let file = |default: &str| if user.is_empty() { default.to_owned() } else { safe(user) };
    (format!("{prefix}/{}.json", file("registration")), format!("{prefix}/{}.key", file("private")))
}

/// Where every account with an authority lies.
pub fn accounts(issuer: &str) -> String {
    format!("acme/{}/users", safe(issuer))
}

/// Where the challenge that an order for this name solves lies while it runs.
pub fn challenge(issuer: &str, name: &str) -> String {
    format!("acme/{}/challenge_tokens/{}.json", safe(issuer), safe(name))
}

/// The lock to hold while a certificate for this name is ordered or renewed.
pub fn issue_lock(name: &str) -> String {
    format!("issue_cert_{name}")
}

/// The key of a lock's file.
pub fn lock(name: &str) -> String {
    format!("locks/{}.lock", safe(name))
}

/// A part of the internal authority: `root.crt`, `root.key`, `intermediate.crt`, `intermediate.key`.
pub fn internal_authority(file: &str) -> String {
    format!("pki/authorities/{INTERNAL}/{file}")
}

/// Whether a key has the form that all of this makes: relative, of plain parts, not too deep.
pub(super) fn is_key(key: &str) -> bool {
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.len() <= 255
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'@' | b'.' | b'-'))
    };
    key.len() <= 1_024 && key.split('/').count() <= 8 && key.split('/').all(plain)
}

/// Whether what is below `certificates/` is of Caddy's form there, `<issuer>/<host>/<host>.<ending>`; any
/// other key is. Caddy's cleaning stops at what it does not know.
pub(super) fn is_caddys(key: &str, value: &[u8]) -> bool {
    let Some(rest) = key.strip_prefix("certificates/") else { return key != "certificates" };
    let mut parts = rest.split('/');
    let (Some(_), Some(host), Some(file), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    match file.strip_prefix(host) {
        Some(".crt") => value.starts_with(b"-----BEGIN CERTIFICATE-----"),
        Some(".key") => value.starts_with(b"-----BEGIN ") && memchr::memmem::find(value, b"PRIVATE KEY-----").is_some(),
        Some(".json") => serde_json::from_slice::<&serde_json::value::RawValue>(value).is_ok(),
        _ => false,
    }
}

/// The directory and the ending of a certificate's key: `certificates/<issuer>/<host>` and `crt`, `key` or `json`.
pub(in crate::certs) fn site_of(key: &str) -> Option<(&str, &str)> {
    let (dir, file) = key.rsplit_once('/')?;
    let (issuer, host) = dir.strip_prefix("certificates/")?.split_once('/')?;
    let ending = file.strip_prefix(host)?.strip_prefix('.')?;
    let known = is_key(key) && !issuer.is_empty() && !host.contains('/');
    (known && matches!(ending, "crt" | "key" | "json")).then_some((dir, ending))
}

/// What other programs leave beside the values and nobody reads: temporary files and those of NFS.
pub(super) fn is_litter(name: &str) -> bool {
    name.starts_with('.') || name.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn issuers_are_named_as_caddy_names_them() {
        for (url, key) in [
            ("https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org-directory"),
            (
                "https://acme-staging-v02.api.letsencrypt.org/directory",
                "acme-staging-v02.api.letsencrypt.org-directory",
            ),
            ("https://acme.zerossl.com/v2/DV90", "acme.zerossl.com-v2-dv90"),
            ("https://localhost:24701/dir", "localhost-24701-dir"),
            ("https://ca.test", "ca.test"),
            ("https://ca.test/", "ca.test"),
            ("https://u:p@ca.test/a//b/?x=/y#z", "ca.test-a--b"),
            ("ca.test/dir", "-ca.test-dir"),
        ] {
            assert_eq!(issuer_key(url), key, "{url}");
        }
    }

    #[test]
    fn sites_accounts_and_challenges_lie_where_caddy_looks() {
        let wild = site("local", "*.Wild.test");
        assert_eq!(wild.crt, "certificates/local/wildcard_.wild.test/wildcard_.wild.test.crt");
        assert_eq!(wild.key, "certificates/local/wildcard_.wild.test/wildcard_.wild.test.key");
        assert_eq!(wild.json, "certificates/local/wildcard_.wild.test/wildcard_.wild.test.json");
        let of = |email| account("localhost-24701-dir", email).0;
        assert_eq!(of(None), "acme/localhost-24701-dir/users/default/default.json");
        assert_eq!(of(Some("")), of(None));
        assert_eq!(of(Some("Ops@churn.test")), "acme/localhost-24701-dir/users/ops@churn.test/ops.json");
        assert_eq!(of(Some("a+b@c.test")), "acme/localhost-24701-dir/users/a_plus_b@c.test/a_plus_b.json");
        assert_eq!(of(Some("@odd")), "acme/localhost-24701-dir/users/@odd/odd.json");
        assert_eq!(account("x", Some("@")).1, "acme/x/users/@/private.key");
        assert_eq!(challenge("x", "[::1]"), "acme/x/challenge_tokens/--1.json");
        assert_eq!(lock(&issue_lock("*.a.test")), "locks/issue_cert_wildcard_.a.test.lock");
    }

    #[test]
    fn names_are_made_safe_as_certmagic_does() {
        for (name, expected) in [
            (" A b ", "a_b"),
            ("../../etc/passwd", "etcpasswd"),
            ("...", "."),
            ("a..b", "ab"),
            ("é\u{0}ß.test", ".test"),
            ("x:443", "x-443"),
        ] {
            assert_eq!(safe(name), expected, "{name:?}");
        }
    }

    #[test]
    fn nothing_foreign_counts_as_caddys() {
        let pem = b"-----BEGIN CERTIFICATE-----\n";
        assert!(is_caddys("certificates/local/a/a.crt", pem));
        assert!(is_caddys("certificates/local/a/a.json", b"{\"sans\":[]}"));
        assert!(!is_caddys("certificates/local/a/a.json", b"{"));
        for key in [
            "certificates",
            "certificates/a.crt",
            "certificates/local/a/b.crt",
            "certificates/local/a/a.pem",
            "certificates/local/a/a.crt/a.crt",
            "certificates/local/a.crt",
        ] {
            assert!(!is_caddys(key, pem), "{key}");
        }
        assert!(!is_caddys("certificates/local/a/a.crt", b"0\x82"), "Caddy's cleaning stops at what is not PEM");
        for key in ["/etc/x", "a//b", "a/../b", "..", "", "a/./b", "a\\b", "a b", "1/2/3/4/5/6/7/8/9"] {
            assert!(!is_key(key), "{key}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_safe_stays_so_and_leads_nowhere(name in "\\PC{0,40}|[.*+: /a\\\\]{0,12}") {
            let once = safe(&name);
            prop_assert!(!once.contains(['/', '\\', '\0']));
            if !matches!(&*once, "" | "." | "..") && once.len() <= 200 {
                prop_assert!(is_key(&site("local", &name).crt));
            }
        }
    }
}
