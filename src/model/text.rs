//! Bytes that people wrote, as text.

/// Bytes as text; each byte that is no part of valid UTF-8 becomes one U+FFFD, so that a
/// regular expression sees as many characters as Go's, which reads such bytes one by one.
pub fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let mut text = String::new();
        for chunk in error.as_bytes().utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_byte_by_byte() {
        assert_eq!(lossy("é☃".into()), "é☃");
        assert_eq!(lossy(b"a\xff\xe2\x98b".to_vec()), "a\u{fffd}\u{fffd}\u{fffd}b");
    }
}
