//! Names as Traefik makes them of catalog names, and small text forms that several dialects share.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

static NEITHER_LETTER_NOR_NUMBER: LazyLock<Option<regex::Regex>> =
    LazyLock::new(|| regex::Regex::new(r"[^\p{L}\p{N}]+").ok());

/// Traefik's `Normalize`: runs of what is neither a letter nor a number become one `-`, none at the ends.
pub fn normalize(name: &str) -> Arc<str> {
    if name.is_ascii() {
        let parts: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|p| !p.is_empty()).collect();
        return if parts == [name] { name.into() } else { parts.join("-").into() };
    }
    match &*NEITHER_LETTER_NOR_NUMBER {
        Some(other) => other.replace_all(name, "-").trim_matches('-').into(),
        None => name.into(),
    }
}

/// The name that Traefik gives to a canary: the service's with a hash over its sorted tags (FNV-1, 64 bits).
pub fn canary(service: &str, tags: &[Arc<str>]) -> Arc<str> {
    let mut sorted: Vec<&str> = tags.iter().map(|t| &**t).collect();
    sorted.sort_unstable();
    normalize(&format!("{service}-{}", fnv1(sorted.iter().flat_map(|t| t.bytes()))))
}

/// FNV-1, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
pub fn fnv1(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(b))
}

/// `host:port`, with brackets around what holds a colon (Go's `net.JoinHostPort`).
pub fn join_host_port(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A text as a rule's argument: in back-ticks, or in double quotes if it holds one.
pub fn quoted(text: &str) -> String {
    if !text.contains('`') {
        return format!("`{text}`");
    }
    let mut out = String::from('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// Lower-case letters and digits stay, everything else becomes `-`.
pub fn slug(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_lowercase() || b.is_ascii_digit() { char::from(b) } else { '-' }).collect()
}

/// What messages call a namespace.
pub fn namespace(name: &str) -> Cow<'_, str> {
    if name.is_empty() { Cow::Borrowed("default") } else { Cow::Borrowed(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_as_recorded() {
        for (name, expected) in [
            ("web", "web"),
            ("app@1", "app-1"),
            ("a/b:c", "a-b-c"),
            ("käse", "käse"),
            ("日本", "日本"),
            ("_a__b_", "a-b"),
            ("ä_ö!", "ä-ö"),
            ("", ""),
        ] {
            assert_eq!(&*normalize(name), expected);
        }
    }

    #[test]
    fn canaries_are_named_as_recorded() {
        let tags = ["traefik.nomad.canary=true".into(), "traefik.enable=true".into()];
        assert_eq!(&*canary("web", &tags), "web-4566568677297612565");
    }

    #[test]
    fn quotes_so_that_the_rule_stays_one_argument() {
        assert_eq!(quoted("/a"), "`/a`");
        assert_eq!(quoted("/a`\"\\"), r#""/a`\"\\""#);
    }
}
