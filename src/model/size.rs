//! Sizes in bytes as people write them: `1048576`, `64KiB`, `10MB`.

/// A size text that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; write it like `1048576`, `64KiB` or `10MB`")]
pub struct SizeError(String);

/// Parses a number of bytes with an optional unit (`k`, `KB`, `KiB`, `M`, …; case-insensitive).
///
/// # Errors
/// Texts that are not a whole number with a known unit, or overflow 64 bits.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let error = || SizeError(text.to_owned());
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let number: u64 = trimmed[..digits].parse().map_err(|_| error())?;
    let unit: u64 = match trimmed[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "kb" => 1_000,
        "m" | "mib" => 1 << 20,
        "mb" => 1_000_000,
        "g" | "gib" => 1 << 30,
        "gb" => 1_000_000_000,
        _ => return Err(error()),
    };
    number.checked_mul(unit).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn reads_units() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("10 MB"), Ok(10_000_000));
        assert_eq!(parse_size("7"), Ok(7));
        for bad in ["", "k", "1x", "-1", "99999999999999999999", "99999999999G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
