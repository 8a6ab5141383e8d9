//! `rust-lb rule --jsonl`: one case a line in, one answer a line out, in the order of the cases.

use super::input::{Connection, ConnectionInput, Request, RequestInput};
use super::{DOES_NOT_HOLD, OK, prepare};
use crate::rule::{self, Kind, Matcher, Syntax};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

#[derive(Deserialize)]
struct Case {
    /// Missing on a line that names requests for all that follow.
    id: Option<String>,
    #[serde(default)]
    kind: Option<KindName>,
    #[serde(default)]
    syntax: String,
    rule: Option<String>,
    routers: Option<Vec<RouterInput>>,
    requests: Option<Vec<RequestInput>>,
    connections: Option<Vec<ConnectionInput>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Http,
    Tcp,
}

#[derive(Deserialize)]
struct RouterInput {
    name: String,
    rule: String,
    #[serde(default)]
    syntax: String,
    /// 0 is as good as none, as in Traefik.
    #[serde(default)]
    priority: i64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Rule {
        id: &'a str,
        ok: bool,
        priority: i64,
        domains: Vec<String>,
        #[serde(rename = "match")]
        matching: Vec<&'a str>,
    },
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        ok: bool,
        error: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        span: Option<(usize, usize)>,
    },
    Routers {
        id: &'a str,
        ok: bool,
        /// In the order of the requests.
        winner: serde_json::Map<String, serde_json::Value>,
        errors: BTreeMap<&'a str, String>,
    },
}

/// What was named once for all lines.
#[derive(Default)]
struct Shared {
    requests: Vec<RequestInput>,
    connections: Vec<ConnectionInput>,
}

/// Answers every line. A refused rule is an answer; only a line that is no case makes the exit code 1.
pub(super) fn answer(stdin: &mut dyn BufRead, stdout: &mut dyn Write) -> io::Result<u8> {
    let mut shared = Shared::default();
    let mut code = OK;
    for line in stdin.lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let case = match serde_json::from_str::<Case>(&line) {
            Ok(case) => case,
            Err(error) => {
                code = DOES_NOT_HOLD;
                let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                let id = value.get("id").and_then(|id| id.as_str());
                write_line(stdout, &Answer::Refused { id, ok: false, error: error.to_string(), span: None })?;
                continue;
            }
        };
        let Some(id) = &case.id else {
            shared.requests = case.requests.unwrap_or_default();
            shared.connections = case.connections.unwrap_or_default();
            continue;
        };
        let requests = case.requests.as_ref().unwrap_or(&shared.requests);
        let answer = match (&case.rule, &case.routers) {
            (Some(text), None) => {
                let connections = case.connections.as_ref().unwrap_or(&shared.connections);
                one_rule(id, text, &case, requests, connections)
            }
            (None, Some(routers)) => winners(id, routers, requests),
            _ => {
                code = DOES_NOT_HOLD;
                let error = "expected either `rule` or `routers`".to_owned();
                Answer::Refused { id: Some(id), ok: false, error, span: None }
            }
        };
        write_line(stdout, &answer)?;
    }
    Ok(code)
}

fn write_line(stdout: &mut dyn Write, answer: &Answer<'_>) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stdout.write_all(&line)?;
    stdout.flush()
}

fn one_rule<'a>(
    id: &'a str,
    text: &str,
    case: &Case,
    requests: &'a [RequestInput],
    connections: &'a [ConnectionInput],
) -> Answer<'a> {
    let kind = match case.kind {
        Some(KindName::Tcp) => Kind::Tcp,
        Some(KindName::Http) | None => Kind::Http,
    };
    match prepare(text, kind, Syntax::named(&case.syntax)) {
        Err(error) => {
            let span = Some((error.span.start, error.span.end));
            Answer::Refused { id: Some(id), ok: false, error: error.to_string(), span }
        }
        Ok((rule, matcher)) => {
            let matching = match kind {
                Kind::Http => {
                    requests.iter().filter(|input| matches(&matcher, input)).map(|input| &*input.id).collect()
                }
                Kind::Tcp => {
                    let holds = |input: &&ConnectionInput| matcher.matches_connection(&Connection::from(*input));
                    connections.iter().filter(holds).map(|input| &*input.id).collect()
                }
            };
            let (priority, domains) = (rule::priority(text, &rule), rule.domains());
            Answer::Rule { id, ok: true, priority, domains, matching }
        }
    }
}

fn matches(matcher: &Matcher, input: &RequestInput) -> bool {
    Request::accept(input).is_ok_and(|request| matcher.matches(&request))
}

/// Who takes which request: the greatest priority, then the first name.
fn winners<'a>(id: &'a str, routers: &'a [RouterInput], requests: &'a [RequestInput]) -> Answer<'a> {
    let mut errors = BTreeMap::new();
    let mut live = Vec::new();
    for router in routers {
        match prepare(&router.rule, Kind::Http, Syntax::named(&router.syntax)) {
            Ok((rule, matcher)) => {
                let default = rule::priority(&router.rule, &rule);
                live.push((if router.priority == 0 { default } else { router.priority }, &router.name, matcher));
            }
            Err(error) => {
                errors.insert(&*router.name, error.to_string());
            }
        }
    }
    live.sort_by_key(|(priority, name, _)| (Reverse(*priority), *name));
    let taken = requests.iter().filter_map(|input| {
        let (_, name, _) = live.iter().find(|(_, _, matcher)| matches(matcher, input))?;
        Some((input.id.clone(), name.as_str().into()))
    });
    Answer::Routers { id, ok: true, winner: taken.collect(), errors }
}
