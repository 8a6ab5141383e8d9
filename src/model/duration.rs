//! Durations as Go and Traefik write them: `300ms`, `1h30m`, `-1s`, a bare number of seconds.

use std::time::Duration;

/// Why a duration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing there.
    #[error("a duration is empty")]
    Empty,
    /// Text that is neither a number of seconds nor numbers with units.
    #[error("`{0}` is not a duration; write it like `10s`, `500ms` or `1h30m`")]
    Malformed(String),
    /// Below zero, where a length of time is meant.
    #[error("`{0}` is negative")]
    Negative(String),
    /// Larger than about 292 years, Go's limit.
    #[error("`{0}` is too long")]
    TooLong(String),
}

/// Nanoseconds that Go's `time.Duration` can hold.
const GO_MAX_NANOS: u128 = i64::MAX as u128;

/// Parses a duration in Go's form (<https://pkg.go.dev/time#ParseDuration>) or, as Traefik's
/// paerser does (<https://github.com/traefik/paerser>), a bare integer of seconds.
///
/// # Errors
/// Empty, malformed, negative or too long texts.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let original = text;
    let text = text.trim();
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    let malformed = || DurationError::Malformed(original.to_owned());
    let (negative, body) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let nanos = if !body.is_empty() && body.bytes().all(|b| b.is_ascii_digit()) {
        let seconds: u128 = body.parse().map_err(|_| DurationError::TooLong(original.to_owned()))?;
        seconds.saturating_mul(1_000_000_000)
    } else {
        parse_units(body).ok_or_else(malformed)?
    };
    if nanos > GO_MAX_NANOS {
        return Err(DurationError::TooLong(original.to_owned()));
    }
    if negative && nanos > 0 {
        return Err(DurationError::Negative(original.to_owned()));
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// `1h30m`, `1.5s`: numbers with units, at least one. Saturates instead of overflowing.
fn parse_units(mut body: &str) -> Option<u128> {
    if body.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !body.is_empty() {
        let digits = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
        let (whole, rest) = body.split_at(digits);
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(after) => {
                let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
                (&after[..end], &after[end..])
            }
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit: u128 = match &rest[..unit_len] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u128::MAX) };
        total = total.saturating_add(whole.saturating_mul(unit));
        let mut scale = unit;
        for digit in fraction.bytes() {
            scale /= 10;
            total = total.saturating_add(u128::from(digit - b'0') * scale);
        }
        body = &rest[unit_len..];
    }
    Some(total)
}

/// Prints a duration as Go does: `1m30s`, `500ms`, `0s`.
pub fn format_duration(d: Duration) -> String {
    let nanos = d.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, name) = if nanos < 1_000 {
            (1, "ns")
        } else if nanos < 1_000_000 {
            (1_000, "µs")
        } else {
            (1_000_000, "ms")
        };
        return format!("{}{name}", decimal(nanos, unit));
    }
    let seconds = d.as_secs();
    let (h, m) = (seconds / 3600, seconds / 60 % 60);
    let s = decimal(nanos % 60_000_000_000, 1_000_000_000);
    if h > 0 {
        format!("{h}h{m}m{s}s")
    } else if m > 0 {
        format!("{m}m{s}s")
    } else {
        format!("{s}s")
    }
}

fn decimal(value: u128, unit: u128) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_and_traefik_read() {
        for (text, nanos) in [
            ("10s", 10_000_000_000u64),
            ("500ms", 500_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("10", 10_000_000_000),
            ("0", 0),
            ("-0s", 0),
            ("1us", 1_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "s", "1", "10x", "1h-1m", "-5s", "9999999999999h", "1..5s", "."] {
            assert_eq!(parse_duration(text).is_err(), text != "1", "{text}");
        }
    }

    #[test]
    fn prints_as_go_does() {
        for text in ["0s", "10s", "500ms", "1h30m0s", "1.5s", "1m0s", "1ns", "1.5ms"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }
}
