//! Dynamic configuration as it comes through the API: Traefik's JSON
//! (<https://doc.traefik.io/traefik/reference/install-configuration/providers/others/rest/>). It is taken
//! whole or not at all.

use super::file::{Decoded, origin};
use super::read::Reader;
use crate::diagnostic::Diagnostic;
use crate::document::{Member, Node, Spot, Value};
use crate::model::Provider;
use serde_json::Value as Json;

/// Largest document in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// JSON knows its places only while it is read; what is wrong is told by its path.
const NOWHERE: Spot = Spot { line: 0, column: 0 };

/// Decodes a document.
///
/// # Errors
/// Everything that is wrong with it; warnings are no errors and come with the declarations.
pub fn decode(bytes: &[u8]) -> Result<Decoded, Vec<Diagnostic>> {
    let malformed = |message: String, at: Option<Spot>| {
        vec![Diagnostic::error("malformed_file", message).with_origin(origin(Provider::Rest, None, at))]
    };
    let document: Json = serde_json::from_slice(bytes).map_err(|e| {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        malformed(e.to_string(), Some(Spot { line: number(e.line()), column: number(e.column()) }))
    })?;
    let Value::Map(members) = value(document) else {
        return Err(malformed("expected an object".to_owned(), None));
    };
    let decoded = Reader::new(Provider::Rest, None).read(members);
    if decoded.problems.iter().any(Diagnostic::is_error) { Err(decoded.problems) } else { Ok(decoded) }
}

fn value(json: Json) -> Value {
    let node = |json: Json| Node { at: NOWHERE, value: value(json) };
    match json {
        Json::Null => Value::Null,
        Json::String(text) => Value::Text(text),
        Json::Bool(_) | Json::Number(_) => Value::Plain(json.to_string()),
        Json::Array(items) => Value::List(items.into_iter().map(node).collect()),
        Json::Object(members) => {
            Value::Map(members.into_iter().map(|(name, json)| Member { name, at: NOWHERE, node: node(json) }).collect())
        }
    }
}
