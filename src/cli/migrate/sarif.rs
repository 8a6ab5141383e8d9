//! Findings in the Static Analysis Results Interchange Format, version 2.1.0
//! (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>), which code hosts show in place.

use super::output;
use super::work::Work;
use crate::catalog::http::escape;
use crate::diagnostic::{Diagnostic, Severity};
use crate::migrate::edit::shown;
use crate::migrate::{Outcome, Place};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a legacy tag that can be converted is called.
const TO_CONVERT: &str = "legacy_tag";
/// What a request that goes elsewhere is called.
const DIFFERS: &str = "route_differs";

/// The log of a run.
pub(super) fn log(work: &Work) -> Value {
    let mut results: Vec<Value> = output::all(work).map(of_diagnostic).collect();
    for (service, conversion) in work.services() {
        for (tag, outcome) in service.tags.iter().zip(&conversion.outcomes) {
            if matches!(outcome, Outcome::Converted(new) if !new.is_empty() || !work.keep) {
                let text = format!("the legacy tag `{}` can be converted", shown(tag));
                results.push(result(TO_CONVERT, "note", &text, location(&tag.place)));
            }
        }
    }
    for difference in &work.proof.differences {
        let (before, after) = (&difference.before, &difference.after);
        let text =
            format!("{}: {} (old tags: {}; new tags: {})", difference.url, difference.what, before.says, after.says);
        results.push(result(DIFFERS, "error", &text, location(&difference.place)));
    }
    let mut rules: BTreeMap<&str, Value> = BTreeMap::new();
    for result in &results {
        let id = result["ruleId"].as_str().unwrap_or_default();
        rules.insert(id, json!({"id": id, "shortDescription": {"text": id.replace('_', " ")}}));
    }
    let rules: Vec<Value> = rules.into_values().collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "rust-lb migrate", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "invocations": [{"executionSuccessful": work.unreadable.is_empty()}],
            "results": results,
        }],
    })
}

fn of_diagnostic(d: &Diagnostic) -> Value {
    let o = &d.origin;
    let place =
        Place { file: o.file.clone().unwrap_or_default(), line: o.line.unwrap_or(0), column: o.column.unwrap_or(0) };
    let level = match d.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let text = match &d.help {
        Some(help) => format!("{}; {help}", d.message),
        None => d.message.clone(),
    };
    result(&d.code, level, &text, location(&place))
}

fn result(rule: &str, level: &str, text: &str, location: Option<Value>) -> Value {
    let locations: Vec<Value> = location.into_iter().collect();
    json!({"ruleId": rule, "level": level, "message": {"text": text}, "locations": locations})
}

/// A place in a file; what came from elsewhere has none.
fn location(place: &Place) -> Option<Value> {
    if place.file.is_empty() || &*place.file == "-" || place.file.contains("://") {
        return None;
    }
    // Relative references (RFC 3986), as code hosts want them; absolute paths become `file` URIs.
    let path = place.file.split('/').filter(|part| *part != ".").map(escape).collect::<Vec<_>>().join("/");
    let uri = if path.starts_with('/') { format!("file://{path}") } else { path };
    let mut location = json!({"physicalLocation": {"artifactLocation": {"uri": uri}}});
    if place.line > 0 {
        location["physicalLocation"]["region"] = json!({"startLine": place.line, "startColumn": place.column.max(1)});
    }
    Some(location)
}
