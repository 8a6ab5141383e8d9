//! What to do about a rule that is refused.

use crate::rule::{Kind, Name, Problem, RuleError, Syntax};
use std::ops::Range;

/// What a person can do about an error.
pub(super) fn help(text: &str, kind: Kind, syntax: Syntax, error: &RuleError) -> Option<String> {
    match &error.problem {
        Problem::UnknownMatcher { name, .. } => unknown(name, kind, syntax),
        Problem::ArgumentCount { got: 0, matcher, .. } => Some(format!(
            "write its argument in back-ticks, {matcher}(`…`); in a shell put the rule in single quotes, or the back-ticks are lost"
        )),
        Problem::ArgumentCount { matcher, expected: "1", .. } if syntax == Syntax::V3 => Some(format!(
            "one for each: {matcher}(`a`) || {matcher}(`b`); lists are of v2's syntax (`--syntax v2`, `ruleSyntax: v2`)"
        )),
        Problem::EmptyArgument { matcher: "Host" } => Some("leave the matcher out to take any host".to_owned()),
        Problem::Regex { .. } => Some("expressions are Go's: https://github.com/google/re2/wiki/Syntax".to_owned()),
        Problem::Path { value } => Some(format!("write `/{value}`")),
        Problem::Syntax { .. } | Problem::Unclosed { .. } | Problem::Character { .. } => of_syntax(text, &error.span),
        _ => None,
    }
}

fn unknown(name: &str, kind: Kind, syntax: Syntax) -> Option<String> {
    let is = |known: &&Name| known.as_str().eq_ignore_ascii_case(name);
    if kind == Kind::Http && Name::known(Kind::Tcp, syntax).iter().any(|n| is(&n)) {
        return Some(format!("`{name}` is a matcher of TCP rules (`--tcp`); for requests write `Host`"));
    }
    if kind == Kind::Tcp && Name::known(Kind::Http, syntax).iter().any(|n| is(&n)) {
        return Some(format!("`{name}` is a matcher of HTTP rules; a connection has `HostSNI`"));
    }
    let other = if syntax == Syntax::V3 { (Syntax::V2, "v2") } else { (Syntax::V3, "v3") };
    if Name::known(kind, other.0).iter().any(|n| is(&n)) {
        let of = other.1;
        let now = if of == "v2" { v3_for(name).map(|v3| format!("; v3 has `{v3}`")) } else { None };
        let now = now.unwrap_or_default();
        return Some(format!("`{name}` is of {of}'s syntax (`--syntax {of}`, `ruleSyntax: {of}`){now}"));
    }
    let far = |known: &Name| strsim::damerau_levenshtein(&known.as_str().to_lowercase(), &name.to_lowercase());
    let nearest = Name::known(kind, syntax).iter().min_by_key(|known| far(known))?;
    (far(nearest) <= 1 + name.len() / 4).then(|| format!("did you mean `{}`?", nearest.as_str()))
}

/// What took the place of a matcher of v2.
fn v3_for(name: &str) -> Option<&'static str> {
    match name.to_ascii_lowercase().as_str() {
        "headers" => Some("Header"),
        "headersregexp" => Some("HeaderRegexp"),
        "hostheader" => Some("Host"),
        _ => None,
    }
}

fn of_syntax(text: &str, span: &Range<usize>) -> Option<String> {
    let rest = text.get(span.start..).unwrap_or_default();
    let word: &str = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let before = text.get(..span.start).unwrap_or_default().trim_end();
    let advice = match (rest.chars().next(), word.to_ascii_lowercase().as_str()) {
        (None, _) if before.is_empty() => "name at least one matcher, such as Host(`a.example`)",
        (None, _) if before.ends_with(['&', '|', '!']) => "a matcher is missing behind the operator",
        (None, _) => "close the parenthesis",
        (Some('&'), _) | (_, "and") => "`and` is written `&&`",
        (Some('|'), _) | (_, "or") => "`or` is written `||`",
        (_, "not") => "`not` is written `!`",
        (Some(')'), _) => "there is one closing parenthesis too many",
        (Some(':'), _) => "that is the form of Traefik v1; write Host(`a.example`)",
        (Some(','), _) => "matchers are joined by `&&` or `||`",
        (Some('\''), _) => "texts stand in back-ticks or double quotes, not in single ones",
        (Some(c), _) if before.ends_with(['(', ',']) && c.is_alphanumeric() => {
            "texts stand in back-ticks: Host(`a.example`); in a shell put the rule in single quotes, or the back-ticks are lost"
        }
        (Some('`' | '"'), _) => "close the text, and put a matcher's name before it",
        _ => return None,
    };
    Some(advice.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let error = crate::cli::rule::prepare(text, Kind::Http, Syntax::V3).map(|_| ()).unwrap_err();
        help(text, Kind::Http, Syntax::V3, &error).unwrap_or_default()
    }

    #[test]
    fn each_common_mistake_has_its_advice() {
        for (text, says) in [
            ("Hst(`a`)", "did you mean `Host`?"),
            ("PathPrefx(`/`)", "did you mean `PathPrefix`?"),
            ("Headers(`X`, `y`)", "`Headers` is of v2's syntax (`--syntax v2`, `ruleSyntax: v2`); v3 has `Header`"),
            ("HostSNI(`a`)", "matcher of TCP rules"),
            ("Host(`a`", "close the parenthesis"),
            ("Host(`a`))", "one closing parenthesis too many"),
            ("Host(a.example)", "texts stand in back-ticks"),
            ("Host('a')", "not in single ones"),
            ("Host()", "in a shell put the rule in single quotes"),
            ("Host(``)", "leave the matcher out"),
            ("Host(`a`, `b`)", "Host(`a`) || Host(`b`)"),
            ("Host(`a`) & Path(`/`)", "`&&`"),
            ("Host(`a`) or Path(`/`)", "`||`"),
            ("Host:a.example", "Traefik v1"),
            ("Path(`x`)", "write `/x`"),
            ("PathRegexp(`(`)", "re2"),
            ("Host(`a`) &&", "missing behind the operator"),
            ("", "at least one matcher"),
        ] {
            assert!(of(text).contains(says), "{text}: {}", of(text));
        }
    }
}
