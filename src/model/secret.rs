//! Tokens and keys in a type that does not print itself.

use std::fmt;

/// A secret text. `Debug` and `Display` show `***`; the value is reached by [`Secret::reveal`] only.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The text itself; for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn does_not_print() {
        let s = Secret::new("hunter2");
        assert_eq!(format!("{s} {s:?}"), "*** ***");
        assert_eq!(s.reveal(), "hunter2");
    }
}
