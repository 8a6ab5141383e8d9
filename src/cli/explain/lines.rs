//! `rust-lb explain --jsonl`: one case a line in, one answer a line out, in the order of the cases.

use super::offline::{self, Untried};
use crate::cli::{FAILED, services};
use crate::explain::{Answer, Question};
use crate::tags::TagOptions;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

#[derive(Deserialize)]
struct Case {
    id: String,
    provider: String,
    #[serde(default)]
    options: Map<String, Value>,
    #[serde(default)]
    services: Vec<Box<RawValue>>,
    #[serde(default)]
    requests: Vec<Question>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Out {
    Answers {
        id: String,
        answers: Vec<Answer>,
    },
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        error: String,
    },
}

/// Answers every line. A line that is no case gets an error and makes the exit code 1.
pub(super) fn answer(stdin: &mut dyn BufRead, stdout: &mut dyn Write) -> io::Result<u8> {
    let mut code = 0;
    for line in stdin.lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let out = case(&line).unwrap_or_else(|error| {
            code = FAILED;
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            Out::Refused { id: value.get("id").and_then(Value::as_str).map(str::to_owned), error }
        });
        let mut text = serde_json::to_vec(&out)?;
        text.push(b'\n');
        stdout.write_all(&text)?;
        stdout.flush()?;
    }
    Ok(code)
}

fn case(line: &str) -> Result<Out, String> {
    let case: Case = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let provider = services::provider(&case.provider)?;
    let options = services::tag_options(TagOptions::default(), &case.options)?;
    let world = services::world(provider, &case.services)?;
    let scene = offline::of_world(&world, BTreeMap::from([(provider, options)]));
    let servers = Untried::default();
    let answers = case.requests.iter().map(|question| scene.ask(question, &servers).answer).collect();
    Ok(Out::Answers { id: case.id, answers })
}
