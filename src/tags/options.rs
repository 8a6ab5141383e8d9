//! The options of `traefik.*` tags: how one is looked up, checked and applied. Each option stands
//! once in [`reference`](super::reference): its path, the kind of its value, what it sets (nothing
//! while it is not served) and its documentation; the decoder, the checks and the printed
//! reference all read that one table.
//!
//! A path is written in Traefik's spelling, with `*` for a name of one's own, `[]` for a list
//! index and `**` for anything below. Looking up ignores case, as Traefik's label parser does
//! (<https://github.com/traefik/paerser>).

use super::apply::{Apply, MiddlewareDraft, RouterDraft, ServiceDraft};
use super::reference::SECTIONS;
use crate::model::{DurationError, parse_duration};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// What kind of value an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`, also as `1`, `t`, `T`, `TRUE`, `True` and their opposites (Go's ParseBool).
    Bool,
    /// A whole number.
    Int,
    /// Texts separated by commas; blanks around them do not count.
    List,
    /// `10s`, `1h30m`, or a number of seconds.
    Duration,
    /// A section that may stand alone: empty or `true` switches it on, anything else off.
    Section,
    /// Accepted by Traefik without any effect from tags.
    Ignored,
}

/// A checked value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Text`].
    Text(Arc<str>),
    /// Of [`Kind::Bool`] and [`Kind::Section`].
    Bool(bool),
    /// Of [`Kind::Int`].
    Int(i64),
    /// Of [`Kind::List`].
    List(Vec<Arc<str>>),
    /// Of [`Kind::Duration`], which no served option has yet, and [`Kind::Ignored`].
    Checked,
}

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not of the option's kind.
    #[error("{0}")]
    Bad(String),
    /// Not a duration.
    #[error(transparent)]
    Duration(DurationError),
}

impl ValueError {
    /// The diagnostic code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bad(_) => "bad_value",
            Self::Duration(_) => "bad_duration",
        }
    }
}

impl Kind {
    /// What the value should look like, for messages.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Bool | Self::Section => "`true` or `false`",
            Self::Int => "a whole number",
            Self::List => "texts separated by commas",
            Self::Duration => "a duration such as `10s`",
            Self::Ignored => "nothing",
        }
    }

    /// Checks a value.
    ///
    /// # Errors
    /// A value that is not of this kind.
    pub fn parse(self, text: &str) -> Result<Value, ValueError> {
        let bad = || ValueError::Bad(format!("expected {}, got `{text}`", self.expected()));
        Ok(match self {
            Self::Text => Value::Text(text.into()),
            Self::Bool => Value::Bool(go_bool(text).ok_or_else(bad)?),
            Self::Section => Value::Bool(text.is_empty() || text.eq_ignore_ascii_case("true")),
            Self::Int => Value::Int(text.parse().map_err(|_| bad())?),
            Self::List if text.is_empty() => Value::List(Vec::new()),
            Self::List => Value::List(text.split(',').map(|t| t.trim().into()).collect()),
            Self::Duration => match parse_duration(text) {
                Ok(_) | Err(DurationError::Negative(_)) => Value::Checked,
                Err(e) => return Err(ValueError::Duration(e)),
            },
            Self::Ignored => Value::Checked,
        })
    }
}

/// Go's `strconv.ParseBool`.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// What an option sets.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// Nothing yet.
    NotServed,
    /// A router.
    Router(Apply<RouterDraft>),
    /// A service.
    Service(Apply<ServiceDraft>),
    /// A middleware.
    Middleware(Apply<MiddlewareDraft>),
}

/// One option.
#[derive(Debug, Clone)]
pub struct OptionDef {
    /// Path behind the tag prefix.
    pub path: String,
    /// Kind of value.
    pub kind: Kind,
    /// What it sets.
    pub target: Target,
    /// What it does, or what its section does.
    pub doc: &'static str,
}

impl OptionDef {
    /// Whether it acts at all.
    pub fn is_served(&self) -> bool {
        !matches!(self.target, Target::NotServed)
    }
}

static OPTIONS: LazyLock<Vec<OptionDef>> = LazyLock::new(|| {
    let mut options = Vec::new();
    for section in SECTIONS {
        let path = |below: &str| match below {
            "." => section.path.to_owned(),
            _ => format!("{}.{below}", section.path),
        };
        for &(below, kind, target, doc) in section.served {
            options.push(OptionDef { path: path(below), kind, target, doc });
        }
        for &(kind, names) in section.known {
            for below in names.split_ascii_whitespace() {
                options.push(OptionDef { path: path(below), kind, target: Target::NotServed, doc: section.doc });
            }
        }
    }
    options
});

/// Every known option, in the order of the reference.
pub fn all() -> &'static [OptionDef] {
    &OPTIONS
}

/// The result of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<T> {
    /// An option.
    Option(T),
    /// A section that cannot stand alone.
    Section,
    /// No such element: its position in the path, and the nearest known one there.
    Unknown {
        /// Index into the path.
        at: usize,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
}

#[derive(Default)]
struct Node {
    option: Option<&'static OptionDef>,
    spelling: &'static str,
    children: BTreeMap<String, Node>,
    any: Option<Box<Node>>,
    rest: Option<&'static OptionDef>,
}

static TREE: LazyLock<Node> = LazyLock::new(|| {
    let mut root = Node::default();
    for def in all() {
        let mut node = &mut root;
        let mut below = false;
        for part in def.path.split('.') {
            match part {
                "**" => below = true,
                "*" => node = node.any.get_or_insert_default(),
                _ => {
                    let (name, list) = part.strip_suffix("[]").map_or((part, false), |n| (n, true));
                    node = node.children.entry(name.to_ascii_lowercase()).or_default();
                    node.spelling = name;
                    if list {
                        node = node.any.get_or_insert_default();
                    }
                }
            }
        }
        if below || def.kind == Kind::Ignored {
            node.rest = Some(def);
        }
        if !below {
            node.option = Some(def);
        }
    }
    root
});

/// Finds the option of a path (elements behind the tag prefix; list indexes are elements).
pub fn find(path: &[&str]) -> Found<&'static OptionDef> {
    let mut node = &*TREE;
    for (at, part) in path.iter().enumerate() {
        if let Some(def) = node.rest {
            return Found::Option(def);
        }
        let known = if part.bytes().any(|b| b.is_ascii_uppercase()) {
            node.children.get(&part.to_ascii_lowercase())
        } else {
            node.children.get(*part)
        };
        node = match known.or(node.any.as_deref()) {
            Some(next) => next,
            None => return Found::Unknown { at, nearest: nearest(part, node.children.values().map(|n| n.spelling)) },
        };
    }
    match node.option.or(node.rest) {
        Some(def) => Found::Option(def),
        None => Found::Section,
    }
}

/// The candidate that takes the fewest edits to reach from `word`, if it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    candidates
        .map(|c| (distance(&word, &c.to_ascii_lowercase()), c))
        .filter(|(d, c)| *d <= 1 + c.len() / 4)
        .min()
        .map(|(_, c)| c)
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn path(text: &str) -> Found<&'static str> {
        let parts: Vec<&str> = text.split('.').collect();
        match find(&parts) {
            Found::Option(def) => Found::Option(def.path.as_str()),
            Found::Section => Found::Section,
            Found::Unknown { at, nearest } => Found::Unknown { at, nearest },
        }
    }

    #[test]
    fn each_option_stands_once_and_is_found_by_its_path() {
        let mut seen = BTreeSet::new();
        for def in all() {
            assert!(seen.insert(def.path.to_ascii_lowercase()), "{} stands twice", def.path);
            assert!(!def.doc.is_empty(), "{} has no documentation", def.path);
            let example = def.path.replace("[]", ".[0]").replace("**", "x.y").replace('*', "name");
            assert_eq!(path(&example), Found::Option(def.path.as_str()));
            assert_eq!(path(&example.to_ascii_uppercase()), Found::Option(def.path.as_str()));
        }
        assert!(seen.len() > 250, "{}", seen.len());
    }

    #[test]
    fn the_setter_fits_the_section() {
        for def in all() {
            let section = def.path.split('.').nth(1);
            match def.target {
                Target::NotServed => {}
                Target::Router(_) => assert_eq!(section, Some("routers")),
                Target::Service(_) => assert_eq!(section, Some("services")),
                Target::Middleware(_) => assert_eq!(section, Some("middlewares")),
            }
        }
    }

    #[test]
    fn unknown_elements_name_the_nearest() {
        assert_eq!(path("http.routers.a.entrypoint"), Found::Unknown { at: 3, nearest: Some("entryPoints") });
        assert_eq!(path("http.router.a.rule"), Found::Unknown { at: 1, nearest: Some("routers") });
        assert_eq!(path("http.routers.a.zzz"), Found::Unknown { at: 3, nearest: None });
        assert_eq!(
            path("http.services.s.loadbalancer.servers.[0].url"),
            Found::Unknown { at: 4, nearest: Some("server") }
        );
        assert_eq!(path("http.routers.a"), Found::Section);
        assert_eq!(path("http"), Found::Section);
    }

    #[test]
    fn values_are_read_as_go_reads_them() {
        assert_eq!(Kind::Bool.parse("T"), Ok(Value::Bool(true)));
        assert!(Kind::Bool.parse("yes").is_err());
        assert_eq!(Kind::List.parse("a, b ,,c"), Ok(Value::List(vec!["a".into(), "b".into(), "".into(), "c".into()])));
        assert_eq!(Kind::Int.parse("+5"), Ok(Value::Int(5)));
        assert_eq!(Kind::Int.parse("99999999999999999999").unwrap_err().code(), "bad_value");
        assert_eq!(Kind::Duration.parse("-1"), Ok(Value::Checked));
        assert_eq!(Kind::Duration.parse("10 s").unwrap_err().code(), "bad_duration");
        assert_eq!(Kind::Section.parse(""), Ok(Value::Bool(true)));
        assert_eq!(Kind::Section.parse("no"), Ok(Value::Bool(false)));
    }
}
