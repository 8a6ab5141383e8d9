//! The time zone of the log's local times, and the text of a second, which all lines of that second
//! share.

use super::line::Line;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::path::{Component, Path};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the system keeps its zones.
const ZONES: &str = "/usr/share/zoneinfo";
/// The system's own zone.
const LOCAL: &str = "/etc/localtime";
/// A file of a zone is not larger.
const LARGEST: u64 = 256 * 1024;

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// UTC.
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The zone that the variable `TZ` names, as Go reads it: nothing said means the system's own,
    /// an empty text UTC, a path a file, and else a name in the system's list of zones.
    ///
    /// # Errors
    /// A sentence when there is no such zone.
    pub fn named(said: Option<&str>) -> Result<Self, String> {
        let Some(said) = said else {
            // A machine without one keeps UTC.
            return Ok(read("Local", Path::new(LOCAL)).unwrap_or_else(|_| Self::utc()));
        };
        let name = said.strip_prefix(':').unwrap_or(said);
        if name.is_empty() || name == "UTC" {
            return Ok(Self::utc());
        }
        let path = Path::new(name);
        if path.is_absolute() {
            return read(name, path);
        }
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(format!("`{name}` is no name of a time zone"));
        }
        read(name, &Path::new(ZONES).join(path))
    }
}

fn read(name: &str, path: &Path) -> Result<Zone, String> {
    let unknown = |error: &dyn std::fmt::Display| format!("time zone `{name}` cannot be read: {error}");
    let size = std::fs::metadata(path).map_err(|e| unknown(&e))?;
    if !size.is_file() || size.len() > LARGEST {
        return Err(unknown(&"not a file of a zone"));
    }
    let data = std::fs::read(path).map_err(|e| unknown(&e))?;
    TimeZone::tzif(name, &data).map(Zone).map_err(|e| unknown(&e))
}

/// How a second is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    /// `2026-11-20T22:36:00`, then a fraction, then the offset.
    Rfc3339,
    /// `20/Nov/2026:22:36:00 +0000`.
    Common,
}

/// Text of a second, kept as long as the second lasts.
pub(super) struct Second {
    zone: Zone,
    style: Style,
    unix: i64,
    text: String,
    offset: String,
}

impl Second {
    pub(super) fn new(zone: Zone, style: Style) -> Self {
        Self { zone, style, unix: i64::MIN, text: String::new(), offset: String::new() }
    }

    fn look(&mut self, unix: i64) {
        if self.unix == unix {
            return;
        }
        self.unix = unix;
        let time = Timestamp::from_second(unix).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(self.zone.0.clone());
        match self.style {
            Style::Rfc3339 => {
                self.text = time.strftime("%Y-%m-%dT%H:%M:%S").to_string();
                let utc = time.offset().is_zero();
                self.offset = if utc { "Z".to_owned() } else { time.strftime("%:z").to_string() };
            }
            Style::Common => self.text = time.strftime("%d/%b/%Y:%H:%M:%S %z").to_string(),
        }
    }

    /// Writes an instant; in RFC 3339 with its nanoseconds, as Go does.
    pub(super) fn write(&mut self, line: &mut Line<'_>, unix: i64, nanos: u32) {
        self.look(unix);
        line.raw(&self.text);
        if matches!(self.style, Style::Rfc3339) {
            line.fraction(nanos);
            line.raw(&self.offset);
        }
    }
}

/// Seconds since the epoch and the nanoseconds in them; times before it count as the epoch.
pub(super) fn split_time(time: SystemTime) -> (i64, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (i64::try_from(since.as_secs()).unwrap_or(0), since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_named_as_for_go() {
        assert_eq!(Zone::named(Some("")), Ok(Zone::utc()));
        assert_eq!(Zone::named(Some("UTC")), Ok(Zone::utc()));
        for bad in ["../../etc/passwd", "No/Such", "/etc/passwd", "/"] {
            assert!(Zone::named(Some(bad)).is_err(), "{bad}");
        }
        assert!(Zone::named(None).is_ok());
    }

    #[test]
    fn local_times_have_their_offset() {
        // Not every machine has a list of zones.
        let Ok(zone) = Zone::named(Some("Europe/Berlin")) else { return };
        let text = |style, nanos| {
            let mut bytes = Vec::new();
            Second::new(zone.clone(), style).write(&mut Line::new(&mut bytes), 1_790_000_000, nanos);
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(text(Style::Rfc3339, 5_000_000), "2026-09-21T16:13:20.005+02:00");
        assert_eq!(text(Style::Common, 5), "21/Sep/2026:16:13:20 +0200");
    }
}
