//! The request target as rules and servers see it.

use std::borrow::Cow;

/// A target, cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// Path that goes on to a server.
    pub escaped_path: Cow<'a, str>,
    /// Path that rules compare.
    pub routing_path: Cow<'a, str>,
    /// Query without `?`.
    pub query: Cow<'a, str>,
}

/// Why a target was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the request target is not acceptable")]
pub struct TargetError;

/// Splits a target in origin form.
///
/// # Errors
/// Targets that do not begin with `/`, and broken percent-encodings in the path.
pub fn normalise(target: &str) -> Result<Target<'_>, TargetError> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path.starts_with('/') {
        return Err(TargetError);
    }
    let mut rest = path.as_bytes();
    while let Some(at) = memchr::memchr(b'%', rest) {
        let code = rest.get(at + 1..at + 3).ok_or(TargetError)?;
        if !code.iter().all(u8::is_ascii_hexdigit) {
            return Err(TargetError);
        }
        rest = &rest[at + 3..];
    }
    let query = if query.contains(';') { Cow::Owned(query.replace(';', "&")) } else { Cow::Borrowed(query) };
    Ok(Target { escaped_path: Cow::Borrowed(path), routing_path: Cow::Borrowed(path), query })
}
