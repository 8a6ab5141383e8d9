//! One currency for everything that was refused or deserves a remark: tags, rules, configuration
//! and catalog answers all speak of their trouble as a [`Diagnostic`], and the command line, the
//! API, the log and the metrics all print the same value. A diagnostic never carries a secret.

use crate::model::{Map, Provider};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is lost.
    Warning,
    /// Something was refused and does not act.
    Error,
}

/// Where the text stands that the diagnostic is about. Only what is known is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// Provider name in the API's spelling (`nomad`, `consulcatalog`, `file`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// Namespace of the service, where the catalog has namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
    /// Catalog service name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Arc<str>>,
    /// Instance id in the catalog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Arc<str>>,
    /// The tag as registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Arc<str>>,
    /// Configuration file, environment variable (`$NAME`) or flag (`--name`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Arc<str>>,
    /// Line in the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in the file or in the tag, in characters from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

/// One remark or refusal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable word to branch on, `snake_case` (`unknown_option`, `bad_rule`, `router_conflict`).
    pub code: Arc<str>,
    /// Where it stands.
    #[serde(flatten)]
    pub origin: Origin,
    /// Byte range within the text concerned (the tag's value, the rule), where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<(usize, usize)>,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What the person can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without a place; add one with the `with_…` methods.
    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// A warning without a place; add one with the `with_…` methods.
    pub fn warning(code: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    fn new(severity: Severity, code: &str, message: impl Into<String>) -> Self {
        Self { severity, code: code.into(), origin: Origin::default(), span: None, message: message.into(), help: None }
    }

    /// Sets where it stands.
    #[must_use]
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// Sets the byte range within the text concerned.
    #[must_use]
    pub fn with_span(mut self, start: usize, end: usize) -> Self {
        self.span = Some((start, end));
        self
    }

    /// Sets the advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// True for [`Severity::Error`].
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Diagnostics by what they are about: what did not change is neither worked out nor copied again.
pub type Problems = Map<Subject, [Diagnostic]>;

/// What a diagnostic is about. Its order is that in which diagnostics are told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// Where it was found.
    pub stage: Stage,
    /// Whose definition it is.
    pub provider: Provider,
    /// The word for what it is; tells apart what may have the same name.
    pub kind: &'static str,
    /// Its namespace, where names have them.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// Where a diagnostic was found, in the order of the data's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The options by which a provider's tags are read.
    Options,
    /// The tags of one service.
    Tags,
    /// A pool that the tags of several services make.
    Pool,
    /// A name that several services define.
    Name,
    /// A service or middleware of the table.
    Part,
    /// A router of the table.
    Router,
    /// Routers that get in each other's way.
    Rivalry,
}

/// Sets what there is to say of a subject; nothing, mostly.
pub fn set(problems: &mut Problems, subject: &Subject, new: Vec<Diagnostic>) {
    if new.is_empty() {
        problems.remove(subject);
    } else if problems.get(subject).is_none_or(|old| **old != *new) {
        problems.insert(subject.clone(), new.into());
    }
}

/// All of them, one after another.
pub fn list(problems: &Problems) -> Vec<Diagnostic> {
    problems.values().flat_map(|of_one| of_one.iter().cloned()).collect()
}

impl fmt::Display for Diagnostic {
    /// One line, `place: severity[code]: message`, readable without colour.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let o = &self.origin;
        if let Some(file) = &o.file {
            write!(f, "{file}:")?;
            if let Some(line) = o.line {
                write!(f, "{line}:")?;
                if let Some(column) = o.column {
                    write!(f, "{column}:")?;
                }
            }
            write!(f, " ")?;
        } else if let Some(service) = &o.service {
            write!(f, "{service}")?;
            if let Some(provider) = &o.provider {
                write!(f, "@{provider}")?;
            }
            write!(f, ": ")?;
        } else if let Some(provider) = &o.provider {
            write!(f, "{provider}: ")?;
        }
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}[{}]: {}", self.code, self.message)?;
        if let Some(tag) = &o.tag {
            write!(f, " (tag `{tag}`")?;
            if let (Some(column), None) = (o.column, &o.file) {
                write!(f, ", column {column}")?;
            }
            write!(f, ")")?;
        }
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_place_severity_code_and_tag() {
        let d = Diagnostic::error("bad_rule", "expected `)`")
            .with_origin(Origin {
                provider: Some("nomad".into()),
                service: Some("web".into()),
                tag: Some("traefik.http.routers.a.rule=Host(`a`".into()),
                column: Some(36),
                ..Origin::default()
            })
            .with_help("close the bracket");
        assert_eq!(
            d.to_string(),
            "web@nomad: error[bad_rule]: expected `)` (tag `traefik.http.routers.a.rule=Host(`a``, column 36); close the bracket"
        );
    }

    #[test]
    fn names_file_line_and_column() {
        let d = Diagnostic::warning("unknown_key", "unknown key `entryPoint`").with_origin(Origin {
            file: Some("/etc/rust-lb.yaml".into()),
            line: Some(3),
            column: Some(1),
            ..Origin::default()
        });
        assert_eq!(d.to_string(), "/etc/rust-lb.yaml:3:1: warning[unknown_key]: unknown key `entryPoint`");
    }
}
