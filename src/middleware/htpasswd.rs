//! Whether a password fits a hash as `htpasswd` writes it
//! (<https://httpd.apache.org/docs/2.4/misc/password_encryptions.html>): bcrypt (`$2y$`), Apache's MD5
//! (`$apr1$`) and crypt's (`$1$`), `{SHA}`, `{SSHA}`, SHA-crypt (`$5$`, `$6$`).
//!
//! What always holds: hashes are compared in constant time; a text that is no hash fits no password,
//! and neither does one whose cost would keep a thread busy for seconds.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

/// Highest cost of bcrypt that is worked out: some seconds.
const MAX_BCRYPT_COST: u32 = 15;
/// Highest number of rounds of SHA-crypt that is worked out.
const MAX_ROUNDS: u32 = 500_000;

/// Whether asking takes so long that a worker must not wait for it.
pub(super) fn is_slow(hash: &str) -> bool {
    hash.starts_with('$')
}

/// Whether the password fits. `plain`: a text without `$` or `{` before it is the password itself,
/// as Fabio takes it.
pub(super) fn fits(hash: &str, password: &[u8], plain: bool) -> bool {
    let mut parts = hash.split('$');
    match (parts.next(), parts.next()) {
        (Some(""), Some("2" | "2a" | "2b" | "2x" | "2y")) => {
            let cost = parts.next().and_then(|cost| cost.parse::<u32>().ok());
            cost.is_some_and(|cost| cost <= MAX_BCRYPT_COST) && bcrypt::verify(password, hash).unwrap_or(false)
        }
        (Some(""), Some(kind @ ("apr1" | "1"))) => {
            let (Some(salt), Some(sum), None) = (parts.next(), parts.next(), parts.next()) else { return false };
            same(md5_crypt(password, salt.as_bytes(), kind).as_bytes(), sum.as_bytes())
        }
        (Some(""), Some(kind @ ("5" | "6"))) => {
            let (rounds, salt) = match (parts.next(), hash.contains("$rounds=")) {
                (Some(rounds), true) => {
                    let rounds = rounds.strip_prefix("rounds=").and_then(|rounds| rounds.parse().ok());
                    (rounds.unwrap_or(u32::MAX), parts.next())
                }
                (salt, _) => (5_000, salt),
            };
            let (Some(salt), Some(sum), None) = (salt, parts.next(), parts.next()) else { return false };
            let own =
                if rounds > MAX_ROUNDS { None } else { sha_crypt(password, salt.as_bytes(), rounds, kind == "6") };
            own.is_some_and(|own| same(own.as_bytes(), sum.as_bytes()))
        }
        (Some(""), Some(_)) => false,
        _ => simple(hash, password, plain),
    }
}

fn simple(hash: &str, password: &[u8], plain: bool) -> bool {
    if let Some(sum) = hash.strip_prefix("{SHA}") {
        let own = digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
        return STANDARD.decode(sum).is_ok_and(|sum| same(own.as_ref(), &sum));
    }
    if let Some(sum) = hash.strip_prefix("{SSHA}") {
        let Ok(sum) = STANDARD.decode(sum) else { return false };
        let Some((sum, salt)) = sum.split_at_checked(20) else { return false };
        let own = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[password, salt].concat());
        return same(own.as_ref(), sum);
    }
    // compared by their digests, so that neither length nor content shows in the time
    let sum = |text: &[u8]| digest(&aws_lc_rs::digest::SHA256, text);
    plain && !hash.starts_with('{') && same(sum(hash.as_bytes()).as_ref(), sum(password).as_ref())
}

fn same(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

/// SHA-crypt (<https://www.akkadia.org/drepper/SHA-crypt.txt>) as its text; the rounds are at least 1,000.
fn sha_crypt(password: &[u8], salt: &[u8], rounds: u32, long: bool) -> Option<String> {
    let params = sha_crypt::Params::new(rounds.max(1_000)).ok()?;
    let mut out = String::with_capacity(86);
    let mut put = |value, count| digits(value, count, &mut out);
    // Three bytes a third apart at a time, in a turn that goes round.
    let mut groups = |sum: &[u8], all: usize, step: usize| {
        for at in (0..all / 3).map(|turn| turn * step % all) {
            let byte = |nth: usize| u32::from(sum[(at + nth * all / 3) % all]);
            put(byte(0) << 16 | byte(1) << 8 | byte(2), 4);
        }
    };
    if long {
        let sum = sha_crypt::sha512_crypt(password, salt, params);
        groups(&sum, 63, 22);
        put(u32::from(sum[63]), 2);
    } else {
        let sum = sha_crypt::sha256_crypt(password, salt, params);
        groups(&sum, 30, 21);
        put(u32::from(sum[31]) << 8 | u32::from(sum[30]), 3);
    }
    Some(out)
}

/// Crypt's digits of a number, the lowest first.
fn digits(mut value: u32, count: usize, out: &mut String) {
    const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for _ in 0..count {
        out.push(char::from(DIGITS[(value & 63) as usize]));
        value >>= 6;
    }
}

/// The MD5 scheme of FreeBSD's crypt, and of Apache under the name `apr1`.
fn md5_crypt(password: &[u8], salt: &[u8], kind: &str) -> String {
    let salt = &salt[..salt.len().min(8)];
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut outer = Md5::new();
    outer.update(password);
    outer.update(format!("${kind}$"));
    outer.update(salt);
    for chunk in password.chunks(16) {
        outer.update(&inner[..chunk.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        match bits & 1 {
            1 => outer.update([0]),
            _ => outer.update(&password[..1]),
        }
        bits >>= 1;
    }
    let mut sum = outer.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        if round % 2 == 1 {
            next.update(password)
        } else {
            next.update(sum)
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if round % 2 == 1 {
            next.update(sum)
        } else {
            next.update(password)
        }
        sum = next.finalize();
    }
    let mut out = String::with_capacity(22);
    let mut put = |value, count| digits(value, count, &mut out);
    for [a, b, c] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        put(u32::from(sum[a]) << 16 | u32::from(sum[b]) << 8 | u32::from(sum[c]), 4);
    }
    put(u32::from(sum[11]), 2);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hashes_of_every_kind() {
        for (hash, password) in [
            ("$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/", "secret"),
            ("$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1", "secret"),
            ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "secret"),
            ("$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "myPassword"),
            ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"),
            (
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
                "Hello world!",
            ),
        ] {
            assert!(fits(hash, password.as_bytes(), false), "{hash}");
            assert!(!fits(hash, b"wrong", false) && !fits(hash, hash.as_bytes(), true), "{hash}");
        }
        assert!(fits("plain", b"plain", true) && !fits("plain", b"plain", false));
        for nothing in [
            "",
            "$",
            "$2y$",
            "$2y$31$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC",
            "{SSHA}AA==",
            "$apr1$x",
            "$6$rounds=999999999$s$x",
            "{MD5}x",
            "$argon2id$x",
        ] {
            assert!(!fits(nothing, b"", false) && !fits(nothing, nothing.as_bytes(), !nothing.is_empty()), "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn no_hash_makes_it_panic(kind in "(\\$apr1\\$|\\$1\\$|\\{SHA\\}|\\{SSHA\\}|\\$5\\$|\\$2y\\$0[0-4]\\$)?", rest in "\\PC{0,40}", password in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = fits(&format!("{kind}{rest}"), &password, true);
        }
    }
}
