//! `rust-lb rule`: parses, prints and evaluates rules, for people and, with `--jsonl`, for programs.
//!
//! Requests go through the same entry chain as the proxy's own ([`target`]); one that an HTTP
//! server refuses (a missing Host, a fragment in the path) matches nothing.

mod advice;
mod input;
mod lines;

use crate::explain;
use crate::rule::{self, Kind, Matcher, Rule, RuleError, Syntax};
use clap::Parser;
use input::{Connection, ConnectionInput, Request, RequestInput};
use std::io::{self, BufRead, Write};

const OK: u8 = 0;
const DOES_NOT_HOLD: u8 = 1;
const USAGE: u8 = 2;

/// Parses, prints and evaluates rules
#[derive(Debug, Parser)]
#[command(
    name = "rust-lb rule",
    after_help = "\
Examples:
  rust-lb rule 'Host(`a.example`) && PathPrefix(`/api`)'
  rust-lb rule 'Host(`a.example`)' --request 'GET https://a.example/api/x' -H 'X-Env: prod' --from 192.0.2.1:1234
  rust-lb rule --tcp 'HostSNI(`*.a.example`)' --request b.a.example
  rust-lb rule --jsonl < cases.jsonl

Exit code: 0 if the rule is valid (and matches, with --request), 1 if not, 2 if the command is misused."
)]
struct Options {
    /// The rule
    #[arg(required_unless_present = "jsonl", conflicts_with = "jsonl")]
    rule: Option<String>,
    /// It is a rule for TCP connections
    #[arg(long)]
    tcp: bool,
    /// The set of matchers that it is written with
    #[arg(long, value_parser = ["v2", "v3"], default_value = "v3")]
    syntax: String,
    /// Does the rule match this request (`GET https://a.example/x`; with --tcp the server name)?
    #[arg(long, value_name = "METHOD URL")]
    request: Option<String>,
    /// A header of the request
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", requires = "request", conflicts_with = "tcp")]
    headers: Vec<String>,
    /// The client's address
    #[arg(long, value_name = "IP:PORT", requires = "request")]
    from: Option<String>,
    /// Read one case a line as JSON, write one answer a line
    #[arg(long, conflicts_with_all = ["tcp", "request", "headers", "from"])]
    jsonl: bool,
}

/// Runs the command; `args` are those behind `rule`. Gives the exit code.
pub fn run(args: &[String], stdin: &mut dyn BufRead, stdout: &mut dyn Write, stderr: &mut dyn Write) -> u8 {
    let options: Options = match super::parsed("rust-lb rule", args, stdout, stderr) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let outcome = match &options.rule {
        None => lines::answer(stdin, stdout),
        Some(text) => one(text, &options, stdout, stderr),
    };
    outcome.unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::BrokenPipe {
            let _ = writeln!(stderr, "error: {error}");
        }
        DOES_NOT_HOLD
    })
}

/// Parses and compiles.
fn prepare(text: &str, kind: Kind, syntax: Syntax) -> Result<(Rule, Matcher), RuleError> {
    let rule = rule::parse(text, kind, syntax)?;
    let matcher = Matcher::compile(&rule)?;
    Ok((rule, matcher))
}

fn one(text: &str, options: &Options, stdout: &mut dyn Write, stderr: &mut dyn Write) -> io::Result<u8> {
    let kind = if options.tcp { Kind::Tcp } else { Kind::Http };
    let (rule, matcher) = match prepare(text, kind, Syntax::named(&options.syntax)) {
        Ok(ready) => ready,
        Err(error) => {
            writeln!(stderr, "error: {error}")?;
            write!(stderr, "{}", caret(text, &error.span))?;
            if let Some(help) = advice::help(text, kind, Syntax::named(&options.syntax), &error) {
                writeln!(stderr, "  = help: {help}")?;
            }
            return Ok(DOES_NOT_HOLD);
        }
    };
    writeln!(stdout, "rule      {rule}")?;
    writeln!(stdout, "priority  {}", rule::priority(text, &rule))?;
    let domains = rule.domains();
    if !domains.is_empty() {
        writeln!(stdout, "domains   {}", domains.join(", "))?;
    }
    for (span, note) in explain::notes(&rule) {
        write!(stderr, "note: {note}\n{}", caret(text, &span))?;
    }
    let Some(asked) = &options.request else { return Ok(OK) };
    let from = options.from.clone();
    let verdict = match kind {
        Kind::Http => {
            let input = match RequestInput::from_words(asked, &options.headers, from) {
                Ok(input) => input,
                Err(reason) => {
                    writeln!(stderr, "error: {reason}")?;
                    return Ok(USAGE);
                }
            };
            match Request::accept(&input) {
                Ok(request) => matcher.matches(&request),
                Err(reason) => {
                    writeln!(stdout, "verdict   refused: {reason}")?;
                    return Ok(DOES_NOT_HOLD);
                }
            }
        }
        Kind::Tcp => matcher.matches_connection(&Connection::from(&ConnectionInput::named(asked, from))),
    };
    writeln!(stdout, "verdict   {}", if verdict { "matches" } else { "does not match" })?;
    Ok(if verdict { OK } else { DOES_NOT_HOLD })
}

/// The line of the rule where something stands, with a mark under the place.
fn caret(text: &str, span: &std::ops::Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    // Tabs stay, so that the mark stands under its place on any terminal.
    let indent: String = text[line_start..before.len()].chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
    let marked = text.get(span.clone()).unwrap_or_default();
    let width = marked.lines().next().unwrap_or_default().chars().count().max(1);
    format!("  {line}\n  {indent}{}\n", "^".repeat(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(args: &[&str], input: &str) -> (u8, String, String) {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&args, &mut input.as_bytes(), &mut out, &mut err);
        (code, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
    }

    #[test]
    fn prints_the_canonical_form_and_the_verdict() {
        let text = "( host(`A.example`)&&PATHPREFIX(\"/api\") )";
        let (code, out, _) = rule(&[text, "--request", "GET https://a.example/api/x"], "");
        let lines =
            "rule      Host(`A.example`) && PathPrefix(`/api`)\npriority  41\ndomains   a.example\nverdict   matches\n";
        assert_eq!((code, &*out), (OK, lines));
        let (code, out, _) = rule(&[text, "--request", "GET https://b.example/api/x"], "");
        assert_eq!(code, DOES_NOT_HOLD);
        assert!(out.ends_with("verdict   does not match\n"), "{out}");
    }

    #[test]
    fn takes_headers_and_the_address() {
        let text = "Header(`X-Env`, `prod`) && ClientIP(`192.0.2.0/24`)";
        let args = [text, "--request", "GET http://a/", "-H", "x-env: prod ", "--from", "192.0.2.1:80"];
        assert_eq!(rule(&args, "").0, OK);
        assert_eq!(rule(&["--tcp", "HostSNI(`*.a.example`)", "--request", "B.a.example"], "").0, OK);
        assert_eq!(rule(&["--syntax", "v2", "Host(`a`, `b`)", "--request", "GET //b"], "").0, DOES_NOT_HOLD);
    }

    #[test]
    fn marks_the_place_of_an_error() {
        let (code, out, err) = rule(&["Host(`é`) ||\n\tHost(x)"], "");
        assert_eq!((code, &*out), (DOES_NOT_HOLD, ""));
        assert_eq!(
            err,
            "error: `Host` takes ASCII only, got `é` (write an international name in its `xn--` form)\n  \
             Host(`é`) ||\n       ^^^\n"
        );
        let (_, _, err) = rule(&["Host(`a`) ||\n\tHost(x)"], "");
        assert_eq!(
            err,
            "error: expected a string or `)`, found `x`\n  \tHost(x)\n  \t     ^\n  = help: texts stand in back-ticks: Host(`a.example`); in a shell put the rule in single quotes, or the back-ticks are lost\n"
        );
        let (_, _, err) = rule(&["Host(`a`"], "");
        assert_eq!(
            err,
            "error: expected `,` or `)`, found the end\n  Host(`a`\n          ^\n  = help: close the parenthesis\n"
        );
    }

    #[test]
    fn misuse_is_told_apart() {
        assert_eq!(rule(&[], "").0, USAGE);
        assert_eq!(rule(&["a", "--bogus"], "").0, USAGE);
        assert_eq!(rule(&["Host(`a`)", "--request", "https://a.example"], "").0, USAGE);
        let (code, out, _) = rule(&["--help"], "");
        assert_eq!(code, OK);
        assert!(out.contains("Examples:"), "{out}");
    }

    #[test]
    fn answers_json_lines() {
        let input = r#"{"requests":[{"id":"q1","method":"GET","target":"/api%2Fx/../y?a=1","headers":[["Host","A.example:80"]],"remote":"192.0.2.1:1"},{"id":"q2","method":"GET","target":"/","headers":[],"remote":"192.0.2.1:1"}],"connections":[{"id":"c1","sni":"A.example","alpn":["h2"],"remote":"[::1]:1"}]}
{"id":"r1","kind":"http","syntax":"v3","rule":"Host(`a.example`) || !Host(`b`)"}
{"id":"r2","kind":"tcp","rule":"ALPN(`h2`) && ClientIP(`::1`)"}
{"id":"r3","rule":"Host(`a`"}
{"id":"r4","rule":"Path(`/own`)","requests":[{"id":"own","method":"GET","target":"/own","headers":[["Host","x"]],"remote":"192.0.2.1:1"}]}
{"id":"s1","routers":[{"name":"b","rule":"Path(`/y`)"},{"name":"a","rule":"Path(`/y`)"},{"name":"low","rule":"PathPrefix(`/`)","priority":-1},{"name":"bad","rule":"Nope(`x`)"}]}
"#;
        let (code, out, _) = rule(&["--jsonl"], input);
        let expected = r#"{"id":"r1","ok":true,"priority":31,"domains":["a.example","b"],"match":["q1"]}
{"id":"r2","ok":true,"priority":29,"domains":[],"match":["c1"]}
{"id":"r3","ok":false,"error":"expected `,` or `)`, found the end","span":[8,8]}
{"id":"r4","ok":true,"priority":12,"domains":[],"match":["own"]}
{"id":"s1","ok":true,"winner":{"q1":"a"},"errors":{"bad":"unknown matcher `Nope`, expected one of `Host`, `HostRegexp`, `Path`, `PathPrefix`, `PathRegexp`, `Method`, `Header`, `HeaderRegexp`, `Query`, `QueryRegexp`, `ClientIP`"}}
"#;
        assert_eq!((code, &*out), (OK, expected));
    }

    #[test]
    fn tells_unreadable_lines_and_goes_on() {
        let (code, out, _) =
            rule(&["--jsonl"], "{\"id\":\"x\",\"rule\":7}\nnonsense\n{\"id\":\"y\",\"rule\":\"Path(`/`)\"}\n");
        assert_eq!(code, DOES_NOT_HOLD);
        let lines: Vec<_> = out.lines().collect();
        assert!(lines[0].starts_with(r#"{"id":"x","ok":false,"error":""#), "{out}");
        assert!(lines[1].starts_with(r#"{"ok":false,"error":""#), "{out}");
        assert!(lines[2].starts_with(r#"{"id":"y","ok":true"#), "{out}");
    }
}
