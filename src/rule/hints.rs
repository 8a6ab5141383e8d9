//! What every request that a rule matches has in common, for an index by host and path.

use super::ast::{Expr, Name, Rule, Test};
use super::{Kind, Syntax, regex, template};

/// One way in which a request can match: both must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hint {
    /// The only host, as [`host_key`] gives it for the request's canonical host; `None` = any.
    pub host: Option<String>,
    /// Where any host is possible: an expression that the canonical host fits, in the `regex` crate's syntax. One that
    /// fits the empty text says nothing: it stands for every host.
    pub host_regex: Option<String>,
    /// What the path must be.
    pub path: PathHint,
    /// Nothing else is asked: a request that satisfies the hint matches, unless its host ends with a dot.
    pub exact: bool,
}

impl Hint {
    /// Whether every request satisfies it.
    pub fn is_anything(&self) -> bool {
        self.host.is_none() && self.host_regex.is_none() && self.path == PathHint::Any
    }
}

/// What a request's routing path must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathHint {
    /// Anything.
    Any,
    /// Begins with this.
    Prefix(String),
    /// Is this.
    Exact(String),
}

/// More combinations than this and an `&&` is narrowed by one of its sides only.
const MAX_COMBINATIONS: usize = 64;

const ANYTHING: Hint = Hint { host: None, host_regex: None, path: PathHint::Any, exact: false };
/// What is true of all requests.
const EVERYTHING: Hint = Hint { exact: true, ..ANYTHING };

/// The key under which a host is looked up: trailing dots do not count (they are one dot at most
/// in a rule's comparison, and dropping more of them only finds more candidates).
pub fn host_key(canonical_host: &str) -> &str {
    canonical_host.trim_end_matches('.')
}

/// The ways in which a request can match the rule. A request that matches satisfies at least one
/// of them; one that satisfies one need not match. Empty if the rule can never match.
/// For a TCP rule the host is the server name.
pub fn hints(rule: &Rule) -> Vec<Hint> {
    of(rule.root(), rule, false)
}

fn of(expr: &Expr, rule: &Rule, negated: bool) -> Vec<Hint> {
    match (expr, negated) {
        (Expr::Not(inner), _) => of(inner, rule, !negated),
        (Expr::Test(_), true) => vec![ANYTHING],
        (Expr::Test(test), false) => test_hints(test, rule),
        (Expr::Any(parts), false) | (Expr::All(parts), true) => {
            let mut found = Vec::new();
            for hint in parts.iter().flat_map(|part| of(part, rule, negated)) {
                if !found.contains(&hint) {
                    found.push(hint);
                }
            }
            match found.iter().find(|hint| hint.is_anything()) {
                Some(all) => vec![Hint { exact: found.contains(&EVERYTHING), ..all.clone() }],
                None => found,
            }
        }
        (Expr::All(parts), false) | (Expr::Any(parts), true) => {
            parts.iter().map(|part| of(part, rule, negated)).fold(vec![EVERYTHING], both)
        }
    }
}

/// The combinations of two sets that can hold together.
fn both(left: Vec<Hint>, right: Vec<Hint>) -> Vec<Hint> {
    if left.len() * right.len() > MAX_COMBINATIONS {
        let vague = |hints: &[Hint]| hints.iter().filter(|hint| hint.host.is_none()).count();
        let narrower = if vague(&left) <= vague(&right) { left } else { right };
        return narrower.into_iter().map(|hint| Hint { exact: false, ..hint }).collect();
    }
    let mut found = Vec::new();
    for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (a, b))) {
        let host = match (&a.host, &b.host) {
            (Some(a), Some(b)) if a != b => continue,
            (Some(host), _) | (None, Some(host)) => Some(host.clone()),
            (None, None) => None,
        };
        let Some(path) = both_paths(&a.path, &b.path) else { continue };
        let regexes = [&a.host_regex, &b.host_regex].into_iter().flatten();
        let told = if host.is_some() { 0 } else { 1 };
        let exact = a.exact && b.exact && regexes.clone().count() <= told;
        let hint = Hint { host_regex: regexes.take(told).next().cloned(), host, path, exact };
        if !found.contains(&hint) {
            found.push(hint);
        }
    }
    found
}

fn both_paths(a: &PathHint, b: &PathHint) -> Option<PathHint> {
    use PathHint::{Any, Exact, Prefix};
    match (a, b) {
        (Any, other) | (other, Any) => Some(other.clone()),
        (Exact(a), Exact(b)) => (a == b).then(|| Exact(a.clone())),
        (Exact(exact), Prefix(prefix)) | (Prefix(prefix), Exact(exact)) => {
            exact.starts_with(&**prefix).then(|| Exact(exact.clone()))
        }
        (Prefix(a), Prefix(b)) if a.starts_with(&**b) => Some(Prefix(a.clone())),
        (Prefix(a), Prefix(b)) => b.starts_with(&**a).then(|| Prefix(b.clone())),
    }
}

fn test_hints(test: &Test, rule: &Rule) -> Vec<Hint> {
    let host = |name: &String| {
        let key = host_key(name);
        let exact = !key.is_empty() && name.len() - key.len() < 2 && rule.kind() == Kind::Http;
        Hint { host: Some(key.to_ascii_lowercase()), exact, ..ANYTHING }
    };
    let path = |path| {
        let any = path == PathHint::Prefix(String::new());
        Hint { path: if any { PathHint::Any } else { path }, ..ANYTHING }
    };
    let args = test.args.iter();
    match (test.name, rule.syntax()) {
        // A wildcard stands for hosts without number; in v2, with TCP, so does `*`.
        (Name::Host | Name::HostHeader | Name::HostSni, syntax)
            if test
                .args
                .iter()
                .all(|arg| !arg.starts_with('*') || (rule.kind(), syntax) == (Kind::Http, Syntax::V2)) =>
        {
            args.map(host).collect()
        }
        (Name::Path, Syntax::V3) => {
            args.map(|arg| Hint { exact: true, ..path(PathHint::Exact(arg.clone())) }).collect()
        }
        (Name::PathPrefix, Syntax::V3) => {
            args.map(|arg| Hint { exact: true, ..path(PathHint::Prefix(arg.clone())) }).collect()
        }
        (Name::HostRegexp, Syntax::V3) => args
            .map(|arg| {
                regex::translate(arg).map_or(ANYTHING, |regex| Hint {
                    host_regex: Some(regex),
                    exact: true,
                    ..ANYTHING
                })
            })
            .collect(),
        (Name::Path | Name::PathPrefix, Syntax::V2) => {
            let template = |arg| match template::literal_prefix(arg) {
                (text, true) if test.name == Name::Path => path(PathHint::Exact(text.to_owned())),
                (text, _) => path(PathHint::Prefix(text.to_owned())),
            };
            args.map(|arg| template(arg)).collect()
        }
        (Name::PathRegexp, _) => {
            args.map(|arg| path(PathHint::Prefix(regex::literal_prefix(arg).to_owned()))).collect()
        }
        _ => vec![ANYTHING],
    }
}
