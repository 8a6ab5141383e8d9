//! What of requests and answers is not shown: credentials in fields, and in queries what its name says is one.

/// Fields whose values are credentials.
const FIELDS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "cookie2"];
/// Parts of names that say so of others.
const WORDS: [&str; 9] =
    ["token", "secret", "passw", "api-key", "api_key", "apikey", "signature", "credential", "session"];
/// Names of query parameters that are no more than that.
const PARAMETERS: [&str; 6] = ["key", "sig", "code", "auth", "pwd", "jwt"];

/// What stands for a hidden value.
const HIDDEN: &str = "***";

/// Whether a field's value is never shown; `name` in lower case.
pub(super) fn field(name: &str) -> bool {
    FIELDS.contains(&name) || WORDS.iter().any(|word| name.contains(word))
}

/// A target or URL with the values of such parameters hidden.
pub(super) fn query(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let shown: Vec<String> = query.split('&').map(parameter).collect();
    format!("{path}?{}", shown.join("&"))
}

fn parameter(text: &str) -> String {
    let Some((name, value)) = text.split_once('=') else { return text.to_owned() };
    let lower = name.to_ascii_lowercase();
    let secret = PARAMETERS.contains(&&*lower) || WORDS.iter().any(|word| lower.contains(word));
    if secret && !value.is_empty() { format!("{name}={HIDDEN}") } else { text.to_owned() }
}

/// Text of strangers for a terminal: nothing in it moves the cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden() {
        assert!(field("authorization") && field("set-cookie") && field("x-auth-token") && !field("content-type"));
        assert_eq!(query("/a?b=1&access_token=xyz&key=k&monkey=2&sig"), "/a?b=1&access_token=***&key=***&monkey=2&sig");
        assert_eq!(query("/a"), "/a");
        assert_eq!(printable("a\x1b[2Jb"), "a\u{fffd}[2Jb");
    }
}
