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
    method: Option<String>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    headers: Option<Vec<Field>>,
    #[serde(default)]
    post_data: Option<Posted>,
}

#[derive(Deserialize)]
struct Field {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    value: Option<String>,
}

#[derive(Deserialize)]
struct Posted {
    /// Nothing where only its parameters were saved.
    #[serde(default)]
    text: Option<String>,
}

/// The entries of an archive, in order.
pub(super) fn records(text: &str) -> Result<Vec<Result<Line, Bad>>, ReadError> {
    let archive: Archive =
        serde_json::from_str(text).map_err(|e| ReadError::Document("an HTTP archive", e.to_string()))?;
    Ok(archive.log.entries.into_iter().map(record).collect())
}

fn record(entry: Entry) -> Result<Line, Bad> {
    let asked = entry.request.ok_or(Bad::Form("an entry with `request`"))?;
    let url = asked.url.unwrap_or_default();
    // `data:`, `blob:`, `chrome-extension:`, and WebSockets, never reach a proxy as requests of HTTP
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Ok(Line::Other);
    }
    let fields = asked.headers.unwrap_or_default().into_iter();
    let headers = fields.filter_map(|field| Some((field.name?, field.value.unwrap_or_default()))).collect();
    let body = asked.post_data.and_then(|posted| posted.text).unwrap_or_default().into();
    Ok(Line::Request(Recorded { method: asked.method.unwrap_or_default(), headers, body, ..Recorded::get(&url) }))
}
