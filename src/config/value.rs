//! One value: its text as said, and what it is once read as its option's kind.

use super::keys::Kind;
use crate::model::{parse_duration, parse_size};
use ipnet::IpNet;
use std::time::Duration;

/// A value as said, before anybody knows what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leaf {
    /// Nothing (`key:` in YAML).
    Null,
    /// An empty group (`{}`).
    Group,
    /// A scalar, as written.
    Text(String),
    /// A list of scalars.
    List(Vec<String>),
}

/// A value of its option's kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Of a switch or a boolean.
    Bool(bool),
    /// Text, word, path or secret.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
    /// A length of time.
    Duration(Duration),
    /// `off`.
    Off,
    /// A count or a size.
    Number(u64),
    /// Bounds of buckets.
    Numbers(Vec<f64>),
    /// Networks.
    Nets(Vec<IpNet>),
}

/// What else may be said for a boolean, as Go reads it (<https://pkg.go.dev/strconv#ParseBool>).
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Reads what was said as a kind.
///
/// # Errors
/// A sentence that names what was expected and, unless it is secret, what was said.
pub(super) fn read(kind: Kind, leaf: &Leaf) -> Result<Value, String> {
    match kind {
        Kind::Section => match leaf {
            Leaf::Group => Ok(Value::Bool(true)),
            _ => Err(expected("a group of keys", leaf)),
        },
        Kind::Switch => match leaf {
            Leaf::Group => Ok(Value::Bool(true)),
            Leaf::Text(text) => {
                parse_bool(text).map(Value::Bool).ok_or_else(|| expected("a group of keys, `true` or `false`", leaf))
            }
            _ => Err(expected("a group of keys, `true` or `false`", leaf)),
        },
        Kind::Short(_) => match leaf {
            Leaf::Group => Ok(Value::Bool(true)),
            _ => Err(expected("a text or a group of keys", leaf)),
        },
        Kind::List | Kind::Paths => Ok(Value::List(texts(leaf)?)),
        Kind::SomeOf(words) => {
            texts(leaf)?.iter().map(|text| word(words, text)).collect::<Result<_, _>>().map(Value::List)
        }
        Kind::Nets => nets(texts(leaf)?.iter().map(String::as_str)).map(Value::Nets),
        Kind::Buckets => buckets(&texts(leaf)?).map(Value::Numbers),
        Kind::Loose => match leaf {
            Leaf::List(list) => Ok(Value::List(list.clone())),
            Leaf::Text(text) => Ok(Value::Text(text.clone())),
            Leaf::Null | Leaf::Group => Ok(Value::Bool(true)),
        },
        Kind::Any => Ok(Value::Bool(true)),
        Kind::Secret => match leaf {
            Leaf::Text(text) => Ok(Value::Text(text.clone())),
            _ => Err("expected a text".to_owned()),
        },
        _ => match leaf {
            Leaf::Text(text) => scalar(kind, text),
            _ => Err(expected(scalar_name(kind), leaf)),
        },
    }
}

fn scalar(kind: Kind, text: &str) -> Result<Value, String> {
    let wrong = || format!("expected {}, got `{}`", scalar_name(kind), shown(text));
    match kind {
        Kind::Bool => parse_bool(text).map(Value::Bool).ok_or_else(wrong),
        Kind::Duration => parse_duration(text).map(Value::Duration).map_err(|_| wrong()),
        Kind::DurationOrOff if text.eq_ignore_ascii_case("off") => Ok(Value::Off),
        Kind::DurationOrOff => parse_duration(text).map(Value::Duration).map_err(|_| wrong()),
        Kind::Count(least, most) => match text.trim().parse::<u64>() {
            Ok(n) if (least..=most).contains(&n) => Ok(Value::Number(n)),
            _ => Err(format!("expected a whole number from {least} to {most}, got `{}`", shown(text))),
        },
        Kind::Size => match parse_size(text) {
            Ok(n) if n > 0 => Ok(Value::Number(n)),
            _ => Err(wrong()),
        },
        Kind::OneOf(words) => word(words, text).map(Value::Text),
        Kind::Path if text.starts_with("-----BEGIN") => {
            Err("expected the path of a file, got its content; write it to a file and name that".to_owned())
        }
        _ => Ok(Value::Text(text.to_owned())),
    }
}

/// The word in its own spelling, whatever the case that was said.
fn word(words: &[&str], text: &str) -> Result<String, String> {
    let found = words.iter().find(|w| w.eq_ignore_ascii_case(text.trim()));
    found.map(|w| (*w).to_owned()).ok_or_else(|| {
        let known = words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ");
        format!("expected one of {known}, got `{}`", shown(text))
    })
}

/// Texts of a list, or of a text separated by commas.
fn texts(leaf: &Leaf) -> Result<Vec<String>, String> {
    match leaf {
        Leaf::List(list) => Ok(list.clone()),
        Leaf::Text(text) => Ok(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()),
        Leaf::Null | Leaf::Group => Err(expected("a list", leaf)),
    }
}

/// Networks; a bare address means itself alone.
///
/// # Errors
/// A sentence with the text that is neither.
pub(super) fn nets<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<IpNet>, String> {
    texts
        .map(|text| {
            let text = text.trim();
            let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
            net.ok_or_else(|| format!("expected an address or a network like `10.0.0.0/8`, got `{}`", shown(text)))
        })
        .collect()
}

fn buckets(texts: &[String]) -> Result<Vec<f64>, String> {
    let mut bounds = Vec::with_capacity(texts.len());
    for text in texts {
        match text.trim().parse::<f64>() {
            Ok(n) if n.is_finite() && n > 0.0 && bounds.last().is_none_or(|last| n > *last) => bounds.push(n),
            _ => return Err(format!("expected ascending numbers above zero, got `{}`", shown(text))),
        }
    }
    if bounds.is_empty() { Err("expected at least one number".to_owned()) } else { Ok(bounds) }
}

fn scalar_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "`true` or `false`",
        Kind::Duration => "a duration like `10s`, `1h30m` or a number of seconds",
        Kind::DurationOrOff => "a duration like `10s`, or `off`",
        Kind::Count(..) => "a whole number",
        Kind::Size => "a size like `1048576` or `64KiB`",
        Kind::Path => "a path",
        _ => "a text",
    }
}

fn expected(what: &str, leaf: &Leaf) -> String {
    match leaf {
        Leaf::Null => format!("expected {what}, got nothing"),
        Leaf::Group => format!("expected {what}, got a group of keys"),
        Leaf::List(_) => format!("expected {what}, got a list"),
        Leaf::Text(text) => format!("expected {what}, got `{}`", shown(text)),
    }
}

/// A text cut to what a message can carry, without control characters and without what stands
/// before an `@`, which may be a password.
pub(super) fn shown(text: &str) -> String {
    let text = match text.rfind('@') {
        Some(at) => {
            let start = text[..at].find("://").map_or(0, |scheme| scheme + 3);
            format!("{}***{}", &text[..start], &text[at..])
        }
        None => text.to_owned(),
    };
    let mut out: String = text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(60).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Leaf {
        Leaf::Text(text.to_owned())
    }

    #[test]
    fn reads_each_kind() {
        for (kind, said, value) in [
            (Kind::Bool, "T", Value::Bool(true)),
            (Kind::Duration, "15", Value::Duration(Duration::from_secs(15))),
            (Kind::DurationOrOff, "off", Value::Off),
            (Kind::Count(1, 8), "8", Value::Number(8)),
            (Kind::Size, "64KiB", Value::Number(65_536)),
            (Kind::List, "a, b,,c", Value::List(vec!["a".into(), "b".into(), "c".into()])),
            (
                Kind::Nets,
                "10.0.0.0/8,::1",
                Value::Nets(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]),
            ),
            (Kind::OneOf(&["INFO", "WARN"]), "warn", Value::Text("WARN".into())),
            (Kind::Buckets, "0.1,5", Value::Numbers(vec![0.1, 5.0])),
            (Kind::Switch, "false", Value::Bool(false)),
        ] {
            assert_eq!(read(kind, &text(said)), Ok(value), "{said}");
        }
    }

    #[test]
    fn names_expected_and_got() {
        for (kind, said, part) in [
            (Kind::Bool, "yes", "expected `true` or `false`, got `yes`"),
            (Kind::Duration, "-5s", "got `-5s`"),
            (Kind::Count(1, 8), "9", "from 1 to 8, got `9`"),
            (Kind::Count(1, 8), "-1", "got `-1`"),
            (Kind::Size, "0", "got `0`"),
            (Kind::Nets, "10.0.0.0/33", "got `10.0.0.0/33`"),
            (Kind::OneOf(&["a", "b"]), "c", "one of `a`, `b`, got `c`"),
            (Kind::Buckets, "5,1", "ascending"),
            (Kind::Path, "-----BEGIN CERTIFICATE-----", "path"),
        ] {
            let message = read(kind, &text(said)).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn never_shows_secrets() {
        assert_eq!(read(Kind::Secret, &Leaf::List(vec!["hunter2".into()])), Err("expected a text".into()));
        assert_eq!(shown("http://user:hunter2@host:1"), "http://***@host:1");
        assert_eq!(shown("user:hunter2@host:1"), "***@host:1");
    }
}
