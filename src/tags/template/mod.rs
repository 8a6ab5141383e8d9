//! The default rule: a Go template (<https://pkg.go.dev/text/template>) over a service's name and
//! labels, with Traefik's `normalize` and the common text functions of sprig
//! (<https://masterminds.github.io/sprig/strings.html>). Known are text, `{{ pipeline }}`,
//! `{{ if }}`, `{{ else if }}`, `{{ else }}`, `{{ end }}`, comments and trim marks; anything else is
//! refused when the template is parsed, not when it is used.

mod functions;

use functions::{Function, call};
use std::collections::BTreeMap;

/// Templates within templates, brackets within brackets.
const MAX_DEPTH: usize = 64;
/// A rule longer than this is a mistake.
const MAX_OUTPUT: usize = 64 * 1024;

/// Why a template was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

fn fail<T>(message: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError(message.into()))
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Print(Pipeline),
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
}

/// Commands, each of which gets the result of the one before as its last argument.
type Pipeline = Vec<Vec<Term>>;

#[derive(Debug, Clone, PartialEq)]
enum Term {
    Literal(Value),
    Name,
    Labels(Vec<String>),
    Dot,
    Function(Function),
    Group(Pipeline),
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Int(i64),
    Bool(bool),
    List(Vec<String>),
    Labels,
    Missing,
}

/// What a template is applied to.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// The catalog service's name.
    pub name: &'a str,
    /// Labels by full key (`traefik.enable`).
    pub labels: &'a BTreeMap<String, String>,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// What is not in the language above, with the place in words.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = split(text)?.into_iter();
        let (nodes, stop) = parse_nodes(&mut pieces, 0)?;
        match stop {
            Stop::End => Ok(Self { nodes }),
            _ => fail("`end` or `else` without `if`"),
        }
    }

    /// Applies it.
    ///
    /// # Errors
    /// A function that got values it cannot work on, or a text that grew without bounds.
    pub fn apply(&self, model: Model<'_>) -> Result<String, TemplateError> {
        let mut out = String::new();
        print_nodes(&self.nodes, model, &mut out)?;
        Ok(out)
    }
}

enum Piece {
    Text(String),
    Action(String),
}

/// Cuts the text at `{{` and `}}`, and blanks beside trim marks.
fn split(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let mut before = if trim { before.trim_start() } else { before };
        let Some(mut after) = after else {
            pieces.push(Piece::Text(before.to_owned()));
            return Ok(pieces);
        };
        if let Some(marked) = after.strip_prefix('-').filter(|m| m.starts_with([' ', '\t', '\n', '\r'])) {
            before = before.trim_end();
            after = marked;
        }
        pieces.push(Piece::Text(before.to_owned()));
        let Some(end) = action_end(after) else { return fail("`{{` without `}}`") };
        let action = &after[..end];
        rest = &after[end + 2..];
        let (action, marked) = match action.strip_suffix('-') {
            Some(a) if a.ends_with([' ', '\t', '\n', '\r']) => (a, true),
            _ => (action, false),
        };
        trim = marked;
        let action = action.trim();
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            pieces.push(Piece::Action(action.to_owned()));
        }
    }
}

/// Where `}}` stands outside of texts.
fn action_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            None if text[at..].starts_with("}}") => return Some(at),
            None if matches!(c, '"' | '`') => quote = Some(c),
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if q == c => quote = None,
            _ => {}
        }
    }
    None
}

enum Stop {
    End,
    Else(Option<Pipeline>),
    Close,
}

fn parse_nodes(pieces: &mut std::vec::IntoIter<Piece>, depth: usize) -> Result<(Vec<Node>, Stop), TemplateError> {
    if depth > MAX_DEPTH {
        return fail("too many `if` within each other");
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(action) => action,
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
        match word {
            "end" => return Ok((nodes, Stop::Close)),
            "else" => {
                let rest = rest.trim();
                return match rest.strip_prefix("if").filter(|r| r.starts_with(char::is_whitespace)) {
                    _ if rest.is_empty() => Ok((nodes, Stop::Else(None))),
                    Some(condition) => Ok((nodes, Stop::Else(Some(pipeline(condition)?)))),
                    None => fail(format!("`else {rest}` is not known")),
                };
            }
            "if" => {
                let mut branches = Vec::new();
                let mut otherwise = Vec::new();
                let mut condition = Some(pipeline(rest)?);
                loop {
                    let (inner, stop) = parse_nodes(pieces, depth + 1)?;
                    let last = match condition.take() {
                        Some(c) => {
                            branches.push((c, inner));
                            false
                        }
                        None => {
                            otherwise = inner;
                            true
                        }
                    };
                    match stop {
                        Stop::Close => break,
                        Stop::End => return fail("`if` without `end`"),
                        Stop::Else(_) if last => return fail("`else` after `else`"),
                        Stop::Else(next) => condition = next,
                    }
                }
                nodes.push(Node::If(branches, otherwise));
            }
            "range" | "with" | "define" | "template" | "block" | "break" | "continue" => {
                return fail(format!("`{word}` is not served"));
            }
            _ => nodes.push(Node::Print(pipeline(&action)?)),
        }
    }
    Ok((nodes, Stop::End))
}

fn pipeline(text: &str) -> Result<Pipeline, TemplateError> {
    let mut rest = text.trim();
    let parsed = commands(&mut rest, 0)?;
    if rest.is_empty() { Ok(parsed) } else { fail(format!("unexpected `{rest}`")) }
}

fn commands(rest: &mut &str, depth: usize) -> Result<Pipeline, TemplateError> {
    if depth > MAX_DEPTH {
        return fail("too many brackets");
    }
    let mut parsed = vec![Vec::new()];
    loop {
        *rest = rest.trim_start();
        let Some(c) = rest.chars().next() else { break };
        match c {
            ')' => break,
            '|' => {
                *rest = &rest[1..];
                parsed.push(Vec::new());
                continue;
            }
            _ => {}
        }
        let term = term(rest, c, depth)?;
        if let Some(command) = parsed.last_mut() {
            command.push(term);
        }
    }
    for (at, command) in parsed.iter().enumerate() {
        for term in command.iter().skip(1) {
            if let Term::Function(f) = term
                && f.arity().0 > 0
            {
                return fail(format!("`{}` takes values of its own: put it in brackets", f.name()));
            }
        }
        match command.first() {
            None => return fail("a command is missing"),
            Some(Term::Function(f)) => {
                let given = command.len() - 1 + usize::from(at > 0);
                let (least, most) = f.arity();
                if given < least || given > most {
                    return fail(format!("`{}` takes {least} values, got {given}", f.name()));
                }
            }
            Some(_) if command.len() > 1 || at > 0 => return fail("only a function takes values"),
            Some(_) => {}
        }
    }
    Ok(parsed)
}

fn term(rest: &mut &str, first: char, depth: usize) -> Result<Term, TemplateError> {
    let text = *rest;
    match first {
        '(' => {
            *rest = &text[1..];
            let inner = commands(rest, depth + 1)?;
            *rest = rest.strip_prefix(')').ok_or_else(|| TemplateError("`(` without `)`".into()))?;
            Ok(Term::Group(inner))
        }
        '`' => {
            let Some(end) = text[1..].find('`') else { return fail("a text without its end") };
            *rest = &text[end + 2..];
            Ok(Term::Literal(Value::Text(text[1..=end].to_owned())))
        }
        '"' => {
            let mut value = String::new();
            let mut chars = text.char_indices().skip(1);
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        *rest = &text[at + 1..];
                        return Ok(Term::Literal(Value::Text(value)));
                    }
                    '\\' => match chars.next() {
                        Some((_, 'n')) => value.push('\n'),
                        Some((_, 't')) => value.push('\t'),
                        Some((_, c @ ('"' | '\\' | '\''))) => value.push(c),
                        _ => return fail("an escape that is not known"),
                    },
                    c => value.push(c),
                }
            }
            fail("a text without its end")
        }
        _ => {
            let end = text.find(|c: char| c.is_whitespace() || "()|\"`".contains(c)).unwrap_or(text.len());
            let word = &text[..end];
            *rest = &text[end..];
            word_term(word)
        }
    }
}

fn word_term(word: &str) -> Result<Term, TemplateError> {
    if let Some(fields) = word.strip_prefix('.') {
        let mut fields = fields.split('.');
        return match (fields.next(), fields.clone().next()) {
            (Some(""), None) => Ok(Term::Dot),
            (Some("Name"), None) => Ok(Term::Name),
            (Some("Labels"), _) => Ok(Term::Labels(fields.map(str::to_owned).collect())),
            _ => fail(format!("`{word}` is not known; there are `.Name` and `.Labels`")),
        };
    }
    match word {
        "true" => return Ok(Term::Literal(Value::Bool(true))),
        "false" => return Ok(Term::Literal(Value::Bool(false))),
        _ => {}
    }
    if let Ok(number) = word.parse() {
        return Ok(Term::Literal(Value::Int(number)));
    }
    match Function::by_name(word) {
        Some(f) => Ok(Term::Function(f)),
        None => fail(format!("`{word}` is not a known function")),
    }
}

fn print_nodes(nodes: &[Node], model: Model<'_>, out: &mut String) -> Result<(), TemplateError> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(pipeline) => out.push_str(&run(pipeline, model)?.print()),
            Node::If(branches, otherwise) => {
                let mut chosen = otherwise;
                for (condition, inner) in branches {
                    if run(condition, model)?.is_true(model) {
                        chosen = inner;
                        break;
                    }
                }
                print_nodes(chosen, model, out)?;
            }
        }
        if out.len() > MAX_OUTPUT {
            return fail("the result is too long");
        }
    }
    Ok(())
}

fn run(pipeline: &Pipeline, model: Model<'_>) -> Result<Value, TemplateError> {
    let mut last: Option<Value> = None;
    for command in pipeline {
        let mut values = Vec::with_capacity(command.len());
        let function = match command.first() {
            Some(Term::Function(f)) => Some(*f),
            _ => None,
        };
        for term in &command[usize::from(function.is_some())..] {
            values.push(match term {
                Term::Literal(value) => value.clone(),
                Term::Name => Value::Text(model.name.to_owned()),
                Term::Labels(fields) if fields.is_empty() => Value::Labels,
                Term::Labels(fields) => {
                    model.labels.get(&fields.join(".")).map_or(Value::Missing, |v| Value::Text(v.clone()))
                }
                Term::Dot => return fail("`.` cannot be printed; there are `.Name` and `.Labels`"),
                Term::Group(inner) => run(inner, model)?,
                Term::Function(f) => call(*f, &[], model)?,
            });
        }
        values.extend(last.take());
        last = match function {
            Some(f) => Some(call(f, &values, model)?),
            None => values.pop(),
        };
    }
    Ok(last.unwrap_or(Value::Missing))
}

impl Value {
    fn print(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::List(items) => format!("[{}]", items.join(" ")),
            Self::Labels => "map[]".to_owned(),
            Self::Missing => "<no value>".to_owned(),
        }
    }

    fn is_true(&self, model: Model<'_>) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Int(number) => *number != 0,
            Self::Bool(value) => *value,
            Self::List(items) => !items.is_empty(),
            Self::Labels => !model.labels.is_empty(),
            Self::Missing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(template: &str) -> Result<String, TemplateError> {
        let labels = [("traefik.enable", "true"), ("traefik.x", "a,b")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        Template::parse(template)?.apply(Model { name: "My_App", labels: &labels.into_iter().collect() })
    }

    #[test]
    fn default_rules_of_the_documentation() {
        for (template, expected) in [
            ("Host(`{{ normalize .Name }}.example.org`)", "Host(`My-App.example.org`)"),
            ("Host(`{{ .Name | normalize | lower }}`)", "Host(`my-app`)"),
            ("{{ if eq .Name \"x\" }}Host(`x`){{ end }}", ""),
            ("{{ if eq .Name `x` `My_App` }}a{{ else }}b{{ end }}", "a"),
            ("{{ if false }}a{{ else if .Labels }}b{{ else }}c{{ end }}", "b"),
            ("Host(`{{ index .Labels \"traefik.enable\" }}.{{ index .Labels \"none\" }}`)", "Host(`true.`)"),
            ("{{ .Labels.none }}", "<no value>"),
            ("{{ trimPrefix \"My_\" .Name }}-{{ replace \"_\" \".\" .Name }}", "App-My.App"),
            ("{{ printf \"%s-%d%%\" .Name 3 }}", "My_App-3%"),
            ("{{ (splitList \",\" (index .Labels \"traefik.x\")) | last }}", "b"),
            ("a {{- /* none */ -}} b", "ab"),
            ("a {{- .Name -}} b", "aMy_Appb"),
            ("{{ \"}}\" }}", "}}"),
            ("{{ .Name | trunc 2 }}{{ .Name | trunc -3 }}", "MyApp"),
            ("", ""),
        ] {
            assert_eq!(apply(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_when_parsed() {
        for template in [
            "{{",
            "{{ if }}",
            "{{ if .Name }}",
            "{{ end }}",
            "{{ nope .Name }}",
            "{{ .Nope }}",
            "{{ range .Labels }}{{ end }}",
            "{{ normalize }}",
            "{{ normalize .Name .Name }}",
            "{{ lower quote }}",
            "{{ printf `%s` index }}",
            "{{ .Name .Name }}",
            "{{ (lower .Name }}",
            "{{ \"a }}",
            "{{ | lower }}",
            "{{ if .Name }}{{ else }}{{ else }}{{ end }}",
        ] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
        assert!(Template::parse(&format!("{{{{ {} }}}}", "(".repeat(10_000))).is_err());
        assert!(Template::parse(&"{{ if .Name }}".repeat(10_000)).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_actions_never_panic(words in proptest::collection::vec("(if|end|else|normalize|index|trunc|printf|default|first|eq|join|print|\\.Name|\\.Labels|-1|3|\"%q\"|`,`|\\(|\\)|\\|)", 0..7)) {
            let _ = apply(&format!("{{{{ {} }}}}", words.join(" ")));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "(\\{\\{|\\}\\}|if |end|else |-| |normalize|index|trunc|printf|\"%q\"|\\.Name|\\.Labels|\\(|\\)|\\||[0-9]|`|\"|[a-zä]){0,24}") {
            let _ = apply(&text);
        }
    }
}
