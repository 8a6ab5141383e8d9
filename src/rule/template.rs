//! Syntax v2's templates: literal text with `{name}` and `{name:regexp}`, as the router library that
//! Traefik v2 stands on reads them (<https://github.com/containous/mux>).

use super::error::Problem;
use super::predicate::Compile;

/// What a template is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Host,
    Path,
    PathPrefix,
    Query,
    ServerName,
}

/// A piece of a template.
enum Piece<'a> {
    Text(&'a str),
    Variable { name: &'a str, pattern: &'a str },
}

/// The regular expression of a template.
pub(super) fn compile<R>(template: &str, of: Of, compile: Compile<'_, R>) -> Result<R, Problem> {
    let refused = |reason: String| Problem::Template { template: template.to_owned(), reason };
    let open = if matches!(of, Of::Host | Of::ServerName) { "(?i)^" } else { "^" };
    let mut pattern = String::from(open);
    for piece in pieces(template, of).map_err(refused)? {
        match piece {
            Piece::Text(text) => quote(&mut pattern, text),
            Piece::Variable { pattern: variable, .. } => {
                // Alone too, so that parentheses cannot close what they did not open.
                if of != Of::ServerName {
                    compile(&format!("^{variable}$")).map_err(refused)?;
                }
                pattern.push('(');
                pattern.push_str(variable);
                pattern.push(')');
            }
        }
    }
    if of == Of::Query && template.split_once('=').is_none_or(|(_, value)| value.is_empty()) {
        pattern.push_str(".*");
    }
    if of != Of::PathPrefix {
        pattern.push('$');
    }
    compile(&pattern).map_err(refused)
}

/// The queries of ``Query(`a=1`, `b={x:[0-9]+}`)``: names, and what `name=value` has to fit.
/// Arguments without `=` come in pairs of name and value.
pub(super) fn queries<R>(args: &[String], compile_pattern: Compile<'_, R>) -> Result<Vec<(String, R)>, Problem> {
    let words: Vec<&str> = args.iter().flat_map(|arg| arg.splitn(2, '=')).collect();
    if words.len() % 2 == 1 {
        let expected = "arguments of the form `name=value`";
        return Err(Problem::ArgumentCount { matcher: "Query", expected, got: args.len() });
    }
    let mut seen: Vec<Vec<String>> = Vec::new();
    let mut queries = Vec::new();
    for pair in words.chunks_exact(2) {
        let template = pair.join("=");
        let refused = |reason: String| Problem::Template { template: template.clone(), reason };
        let names = pieces(&template, Of::Query).map_err(refused)?.into_iter().filter_map(|piece| match piece {
            Piece::Variable { name, .. } => Some(name.to_owned()),
            Piece::Text(_) => None,
        });
        let names: Vec<String> = names.collect();
        if let Some(twice) = names.iter().find(|name| seen.iter().flatten().any(|known| known == *name)) {
            return Err(refused(format!("the variable `{twice}` stands in another query too")));
        }
        seen.push(names);
        let key = template.split_once('=').map_or(&*template, |(key, _)| key).to_owned();
        queries.push((key, compile(&template, Of::Query, compile_pattern)?));
    }
    Ok(queries)
}

/// The text before a template's first variable, and whether that is all.
pub(super) fn literal_prefix(template: &str) -> (&str, bool) {
    template.find('{').map_or((template, true), |open| (&template[..open], false))
}

fn pieces(template: &str, of: Of) -> Result<Vec<Piece<'_>>, String> {
    let default = match of {
        Of::Host | Of::ServerName => "[^.]+",
        Of::Path | Of::PathPrefix => "[^/]+",
        Of::Query => ".*",
    };
    let mut pieces = Vec::new();
    let (mut level, mut behind, mut open) = (0_usize, 0, 0);
    for (at, c) in template.char_indices() {
        match c {
            '{' => {
                level += 1;
                if level == 1 {
                    open = at;
                }
            }
            '}' => {
                level = level.checked_sub(1).ok_or("`}` without `{`")?;
                if level > 0 {
                    continue;
                }
                pieces.push(Piece::Text(&template[behind..open]));
                behind = at + 1;
                let variable = &template[open + 1..at];
                let (name, pattern) = variable.split_once(':').unwrap_or((variable, default));
                if name.is_empty() || pattern.is_empty() {
                    return Err(format!("`{{{variable}}}` lacks a name or a pattern"));
                }
                pieces.push(Piece::Variable { name, pattern });
            }
            _ => {}
        }
    }
    if level > 0 {
        return Err("`{` without `}`".to_owned());
    }
    pieces.push(Piece::Text(&template[behind..]));
    Ok(pieces)
}

/// Appends text as a regular expression, in Go's syntax, that stands for itself.
fn quote(pattern: &mut String, text: &str) {
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
}
