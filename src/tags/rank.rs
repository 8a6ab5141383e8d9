//! Priorities of prefixes: numbers whose order is that in which Fabio asks its routes (`route/table.go`; measured in tests/oracle).

use super::PathMatcher;
use super::glob::{Specificity, is_glob, specificity};

/// What decides between prefixes that all fit: exact hosts before patterns before any host, and the length of
/// the path within. A host that names its port goes before the same host without.
/// The numbers are those of a migration to `traefik.*` tags, so that both can stand side by side; where
/// Fabio's order of paths is not that of their lengths (`iprefix`, `glob`) they have more digits.
pub fn priority(host: &str, path: &str, port: bool, matcher: PathMatcher) -> i64 {
    let (class, tail) = match host {
        "" => (0, 0),
        glob if is_glob(glob) => glob_rank(glob, port),
        _ => (2 + i64::from(port), 0),
    };
    let rank = path_rank(path, matcher);
    match (matcher, class) {
        (PathMatcher::Prefix, 0) => rank.min(499_999),
        (PathMatcher::Prefix, 1) => 100_000 + 1_000 * tail + rank.min(999),
        (PathMatcher::Prefix, 4) => 2_000_000 + 1_000 * tail + rank.min(999),
        (PathMatcher::Prefix, exact) => 1_000_000 + (exact - 2) * 500_000 + rank.min(499_999),
        (_, class) => (class * 1_000 + tail) << WIDE | rank,
    }
}

/// Class of a host pattern and its rank there, up to 899. Fabio asks hosts in descending order of their
/// reversed text, so the longest literal end comes first; behind ends of one length the last wildcard
/// decides by its byte (`*`, `?`, `]`), then whether there is more text. `}` sorts behind every letter:
/// alternatives at that place go before exact hosts, and those with the shortest end first.
fn glob_rank(glob: &str, port: bool) -> (i64, i64) {
    let Specificity { tail, last, more } = specificity(glob);
    let tail = i64::try_from(tail.min(111)).unwrap_or(111);
    let port = i64::from(port);
    match last {
        '}' => (4, 8 * (111 - tail) + port),
        ']' => (1, 8 * tail + 6 + port),
        '?' => (1, 8 * tail + 4 + port),
        _ => (1, 8 * tail + 2 * i64::from(more) + port),
    }
}

/// Bits of a path's rank under `iprefix` and `glob`.
const WIDE: u32 = 50;

/// A number that grows in the order in which Fabio asks the paths of a host: descending bytes. Of two
/// prefixes of one path the longer one comes first in it. Under `iprefix` small letters come before
/// large ones, then the longer one (exact for the first 40 bytes); globs go by their first bytes (seven).
fn path_rank(path: &str, matcher: PathMatcher) -> i64 {
    let length = i64::try_from(path.len()).unwrap_or(i64::MAX);
    let packed = |count: usize, bits: u32, value: &dyn Fn(u8) -> i64| {
        let bytes = path.bytes().skip(1).chain(std::iter::repeat(0)).take(count);
        bytes.fold(0, |rank, byte| rank << bits | value(byte))
    };
    match matcher {
        PathMatcher::Prefix => length,
        PathMatcher::IPrefix => packed(40, 1, &|byte| i64::from(byte.is_ascii_lowercase())) << 10 | length.min(1_023),
        PathMatcher::Glob => packed(7, 7, &|byte| i64::from(byte.min(127))),
    }
}
