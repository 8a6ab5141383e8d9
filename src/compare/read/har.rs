//! HTTP archives, as browsers save them (HAR 1.2, <http://www.softwareishard.com/blog/har-12-spec/>). Answers are
//! read over, so that a large archive costs little memory.

use super::{Line, ReadError};
use crate::compare::request::{Bad, Recorded};
use serde::Deserialize;

#[derive(Deserialize)]
struct Archive {
    log: Log,
}

#[derive(Deserialize)]
struct Log {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    request: Option<Asked>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    method: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    headers: Vec<Field>,
    #[serde(default)]
    post_data: Option<Posted>,
}

#[derive(Deserialize)]
struct Field {
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Posted {
    #[serde(default)]
    text: String,
}

/// The entries of an archive, in order.
pub(super) fn records(text: &str) -> Result<Vec<Result<Line, Bad>>, ReadError> {
    let archive: Archive =
        serde_json::from_str(text).map_err(|e| ReadError::Document("an HTTP archive", e.to_string()))?;
    Ok(archive.log.entries.into_iter().map(record).collect())
}

fn record(entry: Entry) -> Result<Line, Bad> {
    let asked = entry.request.ok_or(Bad::Form("an entry with `request`"))?;
    // `data:`, `blob:`, `chrome-extension:`, and WebSockets, never reach a proxy as requests of HTTP
    if !asked.url.starts_with("http://") && !asked.url.starts_with("https://") {
        return Ok(Line::Other);
    }
    Ok(Line::Request(Recorded {
        method: asked.method,
        headers: asked.headers.into_iter().map(|field| (field.name, field.value)).collect(),
        body: asked.post_data.map(|posted| posted.text).unwrap_or_default().into(),
        ..Recorded::get(&asked.url)
    }))
}
