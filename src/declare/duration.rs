//! A duration as Traefik's configuration has it: Go's, which may be below zero.

use crate::model::{DurationError, format_duration, parse_duration};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time in nanoseconds, as Go's `time.Duration`. Written `1m30s`; read in that form,
/// or as a number of seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GoDuration(i64);

impl GoDuration {
    /// Whole seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// As a length of time; `None` below zero.
    pub fn length(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }

    /// Whole milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        // Go takes no blanks around it
        if text.trim() != text {
            return Err(DurationError::Malformed(text.to_owned()));
        }
        let (sign, size) = match text.strip_prefix('-') {
            Some(rest) if rest.starts_with(['+', '-']) => return Err(DurationError::Malformed(text.to_owned())),
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        let length = parse_duration(size).map_err(|_| match parse_duration(text) {
            Err(e) => e,
            Ok(_) => DurationError::Malformed(text.to_owned()),
        })?;
        i64::try_from(length.as_nanos())
            .map(|nanos| Self(sign * nanos))
            .map_err(|_| DurationError::TooLong(text.to_owned()))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", format_duration(Duration::from_nanos(self.0.unsigned_abs())))
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = GoDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as `10s`, or a number of seconds")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<GoDuration, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: Error>(self, seconds: i64) -> Result<GoDuration, E> {
                Ok(GoDuration::from_seconds(seconds))
            }
            fn visit_u64<E: Error>(self, seconds: u64) -> Result<GoDuration, E> {
                i64::try_from(seconds).map(GoDuration::from_seconds).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_as_go() {
        for (text, printed) in
            [("10", "10s"), ("-1", "-1s"), ("+5", "5s"), ("1h30m", "1h30m0s"), ("-250ms", "-250ms"), ("0", "0s")]
        {
            let duration: GoDuration = text.parse().unwrap();
            assert_eq!(duration.to_string(), printed);
            assert_eq!(printed.parse(), Ok(duration));
        }
        for bad in ["", "-", "--1", "-+1", " 1s", "1s ", "1x", "9999999999999h", "-9999999999999999999"] {
            assert!(bad.parse::<GoDuration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_json() {
        assert_eq!(serde_json::from_str::<GoDuration>("\"5s\"").unwrap(), GoDuration::from_seconds(5));
        assert_eq!(serde_json::from_str::<GoDuration>("5").unwrap(), GoDuration::from_seconds(5));
        assert!(serde_json::from_str::<GoDuration>("true").is_err());
    }
}
