//! The options of dynamic configuration: how one is looked up and checked. Each option stands once in
//! [`reference`](super::reference): its path, the kind of its value, whether it acts, and its
//! documentation; the decoders of tags and of files, the checks and the printed reference all read
//! that one table.
//!
//! A path is written in Traefik's spelling, with `*` for a name of one's own, `[]` for a list
//! index and `**` for anything below. Looking up ignores case, as Traefik's label parser does
//! (<https://github.com/traefik/paerser>).

use super::GoDuration;
use super::reference::{SECTIONS, Section};
use super::reference_files::FILE_SECTIONS;
use super::reference_middlewares::MIDDLEWARES;
use crate::model::DurationError;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

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

    /// Reads a value into the form that it has in Traefik's JSON. Lists are of texts; an empty one
    /// counts as not given. Nothing is kept of what is ignored.
    ///
    /// # Errors
    /// A value that is not of this kind.
    pub fn parse(self, text: &str) -> Result<Value, ValueError> {
        let bad = || ValueError::Bad(format!("expected {}, got `{text}`", self.expected()));
        Ok(match self {
            Self::Text => Value::from(text),
            Self::Bool => Value::Bool(go_bool(text).ok_or_else(bad)?),
            Self::Section => Value::Bool(text.is_empty() || text.eq_ignore_ascii_case("true")),
            Self::Int => Value::from(text.parse::<i64>().map_err(|_| bad())?),
            Self::List if text.is_empty() => Value::Null,
            Self::List => text.split(',').map(str::trim).collect(),
            Self::Duration => Value::from(text.parse::<GoDuration>().map_err(ValueError::Duration)?.to_string()),
            Self::Ignored => Value::Null,
        })
    }

    /// Whether it is the value that Traefik's JSON leaves out.
    pub fn is_zero(self, value: &Value) -> bool {
        match value {
            Value::Bool(on) => !on,
            Value::Number(number) => number.as_i64() == Some(0),
            Value::String(text) => text.is_empty() || self == Self::Duration && text == "0s",
            _ => false,
        }
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

/// Whether an option acts.
#[derive(Debug, Clone, Copy)]
pub enum Acts {
    /// Not yet: its tag gives a warning.
    Not,
    /// With every value.
    Always,
    /// It depends on the value; the error says what was expected and what was found.
    If(fn(&Value) -> Result<bool, String>),
}

impl Acts {
    /// Whether it acts with this value.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn with(self, value: &Value) -> Result<bool, String> {
        match self {
            Self::Not => Ok(false),
            Self::Always => Ok(true),
            Self::If(check) => check(value),
        }
    }
}

/// One option.
#[derive(Debug, Clone)]
pub struct OptionDef {
    /// Path behind the tag prefix.
    pub path: String,
    /// Kind of value.
    pub kind: Kind,
    /// Whether it acts.
    pub acts: Acts,
    /// Whether Traefik's JSON shows it even with a zero value once it was said.
    pub shown: bool,
    /// What it does, or what its section does.
    pub doc: &'static str,
}

static OPTIONS: LazyLock<Vec<OptionDef>> = LazyLock::new(|| [listed(SECTIONS), listed(MIDDLEWARES)].concat());

/// The options in the form that files and the REST provider have: those of tags without what only
/// tags can say (one server, named as such) or cannot say at all, and what stands there instead.
static FILE_OPTIONS: LazyLock<Vec<OptionDef>> = LazyLock::new(|| {
    let of_tags = |def: &OptionDef| def.kind == Kind::Ignored || def.path.contains(".loadBalancer.server.");
    let shared = all().iter().filter(|def| !of_tags(def)).cloned();
    shared.chain(listed(FILE_SECTIONS)).collect()
});

fn listed(sections: &'static [Section]) -> Vec<OptionDef> {
    let mut options = Vec::new();
    for section in sections {
        let mut push = |below: &str, kind, acts, doc| {
            let (below, marked) = below.strip_prefix('!').map_or((below, false), |b| (b, true));
            let path = match below {
                "." => section.path.to_owned(),
                _ => format!("{}.{below}", section.path),
            };
            let shown = marked || path.ends_with('*');
            options.push(OptionDef { path, kind, acts, shown, doc });
        };
        for &(below, kind, acts, doc) in section.served {
            push(below, kind, acts, doc);
        }
        for &(kind, names) in section.known {
            for below in names.split_ascii_whitespace() {
                push(below, kind, Acts::Not, section.doc);
            }
        }
    }
    options
}

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
    /// An entry of a map or a list, which may stand alone; one of the options below it.
    Entry(T),
    /// No such element: its position in the path, and the nearest known one there.
    Unknown {
        /// Index into the path.
        at: usize,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
}

/// A section or an option, by what stands below it.
#[derive(Default)]
pub(crate) struct Node {
    /// The option that stands here.
    pub option: Option<&'static OptionDef>,
    /// Its name in Traefik's spelling; empty where people choose it.
    pub spelling: &'static str,
    /// Its path in the reference.
    pub path: String,
    /// What stands below is a list.
    pub list: bool,
    /// What stands below under any name or index.
    pub any: Option<Box<Node>>,
    /// The option that everything below belongs to.
    pub rest: Option<&'static OptionDef>,
    children: BTreeMap<String, Node>,
}

impl Node {
    /// What stands below under this name, whatever its case.
    pub fn below(&self, name: &str) -> Option<&Self> {
        let known = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            self.children.get(&name.to_ascii_lowercase())
        } else {
            self.children.get(name)
        };
        known.or(self.any.as_deref())
    }

    /// Whether it is a section: names are known below it.
    pub fn is_section(&self) -> bool {
        !self.children.is_empty()
    }

    /// The first option at or below it.
    fn first(&self) -> Option<&'static OptionDef> {
        let mut nodes = self.any.as_deref().into_iter().chain(self.children.values());
        self.option.or(self.rest).or_else(|| nodes.find_map(Self::first))
    }

    /// The known name below that is nearest to this one.
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.children.values().map(|n| n.spelling))
    }
}

static TREE: LazyLock<Node> = LazyLock::new(|| tree(all()));

static FILE_TREE: LazyLock<Node> = LazyLock::new(|| tree(&FILE_OPTIONS));

/// The options of files and the REST provider.
pub(crate) fn of_files() -> &'static Node {
    &FILE_TREE
}

/// Whether a kind of HTTP middleware acts: one that has no option that does is known only.
pub(crate) fn is_served_kind(kind: &str) -> bool {
    SERVED_KINDS.contains(kind)
}

static SERVED_KINDS: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
    let acting = all().iter().filter(|def| !matches!(def.acts, Acts::Not));
    acting.filter_map(|def| def.path.strip_prefix("http.middlewares.*.")?.split('.').next()).collect()
});

fn tree(options: &'static [OptionDef]) -> Node {
    let mut root = Node::default();
    for def in options {
        let mut node = &mut root;
        let mut below = false;
        let mut path = String::new();
        for part in def.path.split('.') {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(part);
            match part {
                "**" => below = true,
                "*" => node = node.any.get_or_insert_default(),
                _ => {
                    let (name, list) = part.strip_suffix("[]").map_or((part, false), |n| (n, true));
                    node = node.children.entry(name.to_ascii_lowercase()).or_default();
                    node.spelling = name;
                    if list {
                        node.list = true;
                        node.path.clone_from(&path);
                        node = node.any.get_or_insert_default();
                    }
                }
            }
            node.path.clone_from(&path);
        }
        if below || def.kind == Kind::Ignored {
            node.rest = Some(def);
        }
        if !below {
            node.option = Some(def);
        }
    }
    root
}

/// Finds the option of a path (elements behind the tag prefix; list indexes are elements). A key of a
/// map of texts may have dots, so it may take several elements.
pub fn find(path: &[&str]) -> Found<&'static OptionDef> {
    let mut node = &*TREE;
    let mut entry = false;
    for (at, part) in path.iter().enumerate() {
        if let Some(def) = node.rest {
            return Found::Option(def);
        }
        let next = node.below(part);
        let of_any = next.zip(node.any.as_deref()).is_some_and(|(next, any)| std::ptr::eq(next, any));
        node = match (next, node.option) {
            (Some(next), _) => next,
            (None, Some(def)) if entry && def.kind == Kind::Text => return Found::Option(def),
            (None, _) => return Found::Unknown { at, nearest: node.nearest(part) },
        };
        entry = of_any;
    }
    match (node.option.or(node.rest), entry.then(|| node.first()).flatten()) {
        (Some(def), _) => Found::Option(def),
        (None, Some(below)) => Found::Entry(below),
        (None, None) => Found::Section,
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
    use serde_json::json;

    fn path(text: &str) -> Found<&'static str> {
        let parts: Vec<&str> = text.split('.').collect();
        match find(&parts) {
            Found::Option(def) => Found::Option(def.path.as_str()),
            Found::Section => Found::Section,
            Found::Entry(def) => Found::Entry(&def.path),
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
    fn unknown_elements_name_the_nearest() {
        assert_eq!(path("http.routers.a.entrypoint"), Found::Unknown { at: 3, nearest: Some("entryPoints") });
        assert_eq!(path("http.router.a.rule"), Found::Unknown { at: 1, nearest: Some("routers") });
        assert_eq!(path("http.routers.a.zzz"), Found::Unknown { at: 3, nearest: None });
        assert_eq!(
            path("http.services.s.loadbalancer.servers.[0].url"),
            Found::Unknown { at: 4, nearest: Some("server") }
        );
        assert!(matches!(path("http.routers.a"), Found::Entry(_)));
        assert_eq!(path("http.services.s.loadbalancer"), Found::Section);
        let headers = "http.middlewares.*.headers.customRequestHeaders.*";
        assert_eq!(path("http.middlewares.m.headers.customRequestHeaders.X.y"), Found::Option(headers));
        assert_eq!(path("http"), Found::Section);
    }

    #[test]
    fn values_are_read_as_go_reads_them() {
        assert_eq!(Kind::Bool.parse("T"), Ok(json!(true)));
        assert!(Kind::Bool.parse("yes").is_err());
        assert_eq!(Kind::List.parse("a, b ,,c"), Ok(json!(["a", "b", "", "c"])));
        assert_eq!(Kind::List.parse(""), Ok(Value::Null));
        assert_eq!(Kind::Int.parse("+5"), Ok(json!(5)));
        assert_eq!(Kind::Int.parse("99999999999999999999").unwrap_err().code(), "bad_value");
        assert_eq!(Kind::Duration.parse("-1"), Ok(json!("-1s")));
        assert_eq!(Kind::Duration.parse("10 s").unwrap_err().code(), "bad_duration");
        assert_eq!(Kind::Section.parse(""), Ok(json!(true)));
        assert_eq!(Kind::Section.parse("no"), Ok(json!(false)));
        assert!(Kind::Duration.is_zero(&json!("0s")) && !Kind::Text.is_zero(&json!("0s")));
    }
}
