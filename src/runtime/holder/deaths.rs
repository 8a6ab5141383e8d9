//! Workers that died, as the holder counts them and tells each worker: who starts anew knows nothing of it by itself.

use std::process::ExitStatus;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is known of them; nothing, while none died.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deaths {
    /// How many workers that served, or were about to, died since the holder started.
    pub count: u64,
    /// When the last one did, in seconds since 1970.
    at: u64,
    /// How.
    pub last: String,
}

impl Deaths {
    /// One more.
    pub(super) fn add(&mut self, status: ExitStatus, now: SystemTime) {
        let at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        *self = Self { count: self.count + 1, at, last: status.to_string() };
    }

    /// When the last one died.
    pub fn at(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.at)).unwrap_or(UNIX_EPOCH)
    }

    /// As text for the other side.
    pub(super) fn encode(&self) -> String {
        format!("{} {} {}", self.count, self.at, self.last)
    }

    /// What [`Self::encode`] made; nothing of what is no such text.
    pub(super) fn decode(text: &str) -> Self {
        let mut parts = text.splitn(3, ' ');
        let mut number = || parts.next().and_then(|number| number.parse().ok());
        match (number(), number()) {
            (Some(count), Some(at)) => Self { count, at, last: parts.next().unwrap_or_default().to_owned() },
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn what_is_said_is_understood() {
        let mut deaths = Deaths::default();
        assert_eq!(Deaths::decode(&deaths.encode()), deaths);
        deaths.add(ExitStatus::from_raw(9), UNIX_EPOCH + Duration::from_secs(5));
        deaths.add(ExitStatus::from_raw(11), UNIX_EPOCH + Duration::from_secs(7));
        assert_eq!((deaths.count, deaths.at()), (2, UNIX_EPOCH + Duration::from_secs(7)));
        assert_eq!(Deaths::decode(&deaths.encode()), deaths);
        for unknown in ["", "x", "1", "1 x y", "-1 2 y"] {
            assert_eq!(Deaths::decode(unknown), Deaths::default(), "{unknown}");
        }
    }
}
