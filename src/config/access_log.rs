//! `accessLog` (<https://doc.traefik.io/traefik/reference/install-configuration/observability/logs-and-accesslogs/>):
//! its options checked and in types.

use super::merge::{Merged, View};
use crate::diagnostic::Diagnostic;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// `accessLog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Format; JSON in the HinD set-up, `common` with a static file that does not say.
    pub format: AccessFormat,
    /// File; `None` means stdout.
    pub file: Option<PathBuf>,
    /// `bufferingSize`: lines that may wait at least.
    pub buffering: usize,
    /// `addInternals`: the proxy's own routes too.
    pub internals: bool,
    /// `filters`.
    pub filters: Filters,
    /// `fields.defaultMode`.
    pub fields_kept: bool,
    /// `fields.names`: whether a field is kept, by its name.
    pub fields: BTreeMap<String, bool>,
    /// `fields.headers.defaultMode`.
    pub headers: FieldMode,
    /// `fields.headers.names`, by name in lower case.
    pub header_names: BTreeMap<String, FieldMode>,
    /// `fields.queryParameters.defaultMode`: targets are logged with their query.
    pub query: bool,
    /// `rustLb.accessLog.sample`: one request in so many.
    pub sample: u32,
    /// The variable `TZ`.
    pub time_zone: Option<String>,
}

/// `accessLog.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFormat {
    /// Traefik's common format.
    Common,
    /// The common format without Traefik's additions.
    GenericClf,
    /// One JSON object a line.
    Json,
}

/// `accessLog.filters`: a request is logged that one of them asks for; all where none is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filters {
    /// `statusCodes`: from and to, both included.
    pub statuses: Vec<(u16, u16)>,
    /// `retryAttempts`.
    pub retried: bool,
    /// `minDuration`; zero means none.
    pub min_duration: Duration,
}

/// What is done with a header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldMode {
    /// It is logged.
    Keep,
    /// It is not logged.
    Drop,
    /// `REDACTED` is logged.
    Redact,
}

impl FieldMode {
    fn named(text: &str) -> Self {
        match text {
            "keep" => Self::Keep,
            "redact" => Self::Redact,
            _ => Self::Drop,
        }
    }
}

/// Reads it; problems are added to `diagnostics`.
pub(super) fn access_log(
    merged: &Merged,
    env: &BTreeMap<String, String>,
    diagnostics: &mut Vec<Diagnostic>,
) -> AccessLog {
    let root = merged.at(&[]);
    let names = ["accessLog", "fields", "names"];
    let mut fields = BTreeMap::new();
    for name in merged.said_below(&names) {
        let mode = FieldMode::named(&merged.at(&names).text(&name));
        if mode == FieldMode::Redact {
            let message = format!("`accessLog.fields.names.{name}`: a field is kept or dropped, `redact` drops it");
            let origin = merged.at(&names).origin(&name);
            diagnostics.push(Diagnostic::warning("bad_value", message).with_origin(origin));
        }
        fields.insert(name, mode == FieldMode::Keep);
    }
    let names = ["accessLog", "fields", "headers", "names"];
    let header_names = merged.said_below(&names).into_iter().map(|name| {
        let mode = FieldMode::named(&merged.at(&names).text(&name));
        (name.to_ascii_lowercase(), mode)
    });
    AccessLog {
        format: match root.text("accessLog.format").as_str() {
            "json" => AccessFormat::Json,
            "genericCLF" => AccessFormat::GenericClf,
            _ => AccessFormat::Common,
        },
        file: root.path_of("accessLog.filePath"),
        buffering: root.size("accessLog.bufferingSize"),
        internals: root.bool("accessLog.addInternals"),
        filters: Filters {
            statuses: statuses(&root, diagnostics),
            retried: root.bool("accessLog.filters.retryAttempts"),
            min_duration: root.time("accessLog.filters.minDuration"),
        },
        fields_kept: root.text("accessLog.fields.defaultMode") != "drop",
        fields,
        headers: FieldMode::named(&root.text("accessLog.fields.headers.defaultMode")),
        header_names: header_names.collect(),
        query: root.text("accessLog.fields.queryParameters.defaultMode") != "drop",
        sample: root.number("rustLb.accessLog.sample").and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        time_zone: env.get("TZ").cloned(),
    }
}

fn statuses(root: &View<'_>, diagnostics: &mut Vec<Diagnostic>) -> Vec<(u16, u16)> {
    const KEY: &str = "accessLog.filters.statusCodes";
    let mut ranges = Vec::new();
    for text in root.list(KEY) {
        match range(&text) {
            Some(range) => ranges.push(range),
            None => {
                let shown = super::value::shown(&text);
                let message = format!("`{KEY}`: expected a status like `404` or a range like `500-599`, got `{shown}`");
                diagnostics.push(Diagnostic::error("bad_value", message).with_origin(root.origin(KEY)));
            }
        }
    }
    ranges
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..1000).contains(status));
    let range = (status(from)?, status(to)?);
    (range.0 <= range.1).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn statuses_are_numbers_and_ranges() {
        assert_eq!(range("404"), Some((404, 404)));
        assert_eq!(range("500 - 599"), Some((500, 599)));
        for bad in ["", "5xx", "599-500", "20", "-1", "200-"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}
