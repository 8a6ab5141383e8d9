//! What can go wrong with an authority, in a form that a caller can decide by and a person can read.
//! What the authority said is carried along, cut to size and without control characters: it goes to
//! logs. No text holds a key, a token or an account's secret.

use super::ChallengeKind;
use std::fmt;
use std::time::Duration;

/// Characters kept of a text that an authority sent.
const TEXT: usize = 500;
/// Subproblems kept.
const SUBPROBLEMS: usize = 20;

/// Where in an order something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading the directory (RFC 8555, 7.1.1).
    Directory,
    /// Finding or making the account (7.3).
    Account,
    /// Asking for the order (7.4).
    NewOrder,
    /// Reading what has to be proved (7.5).
    Authorization,
    /// Putting the answers to challenges where the authority looks for them.
    Present,
    /// Waiting until the zone's name servers answer the record.
    Propagation,
    /// Waiting for the authority's look at the answers (7.5.1).
    Validation,
    /// Sending the certificate request (7.4).
    Finalize,
    /// Waiting for the certificate.
    Issue,
    /// Fetching the certificate (7.4.2).
    Download,
    /// Asking when to renew (RFC 9773).
    RenewalInfo,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "directory",
            Self::Account => "account",
            Self::NewOrder => "new order",
            Self::Authorization => "authorization",
            Self::Present => "challenge",
            Self::Propagation => "propagation",
            Self::Validation => "validation",
            Self::Finalize => "finalize",
            Self::Issue => "issue",
            Self::Download => "download",
            Self::RenewalInfo => "renewal information",
        })
    }
}

/// A problem document (RFC 8555, 6.7; RFC 7807).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    /// The last part of `urn:ietf:params:acme:error:…`, or the whole of another type; may be empty.
    pub kind: String,
    /// The authority's words.
    pub detail: String,
    /// HTTP status, where it was said.
    pub status: Option<u16>,
    /// What is wrong with which name (6.7.1).
    pub subproblems: Vec<Subproblem>,
}

/// A part of a [`Problem`] that concerns one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subproblem {
    /// The name, if it is said.
    pub name: Option<String>,
    /// As in [`Problem`].
    pub kind: String,
    /// The authority's words.
    pub detail: String,
}

/// A stranger's text for logs: no control characters, at most [`TEXT`] characters.
pub(super) fn said(text: &str) -> String {
    let mut clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT).collect();
    if text.chars().nth(TEXT).is_some() {
        clean.push('…');
    }
    clean
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_problem(f, &self.kind, &self.detail)?;
        for sub in &self.subproblems {
            f.write_str("; ")?;
            if let Some(name) = &sub.name {
                write!(f, "`{name}`: ")?;
            }
            write_problem(f, &sub.kind, &sub.detail)?;
        }
        Ok(())
    }
}

fn write_problem(f: &mut fmt::Formatter<'_>, kind: &str, detail: &str) -> fmt::Result {
    match (kind, detail) {
        ("", "") => f.write_str("no reason given"),
        ("", detail) => f.write_str(detail),
        (kind, "") => f.write_str(kind),
        (kind, detail) => write!(f, "{detail} ({kind})"),
    }
}

/// Why there is no certificate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AcmeError {
    /// What was configured cannot be used; trying again does not help.
    #[error("the authority is not configured rightly: {0}")]
    Config(String),
    /// No connection, or one that broke.
    #[error("the authority cannot be reached ({phase}): {detail}")]
    Connection {
        /// Where it happened.
        phase: Phase,
        /// The cause, with what caused it.
        detail: String,
    },
    /// An HTTP status that says nothing more.
    #[error("the authority answered {status} ({phase}) and gave no reason")]
    Status {
        /// Where it happened.
        phase: Phase,
        /// The status.
        status: u16,
        /// When to come again, if the authority said so.
        retry_after: Option<Duration>,
    },
    /// An answer that is not what RFC 8555 asks for.
    #[error("the authority's answer makes no sense ({phase}): {detail}")]
    Nonsense {
        /// Where it happened.
        phase: Phase,
        /// What was expected.
        detail: String,
    },
    /// The authority says no.
    #[error("the authority refuses ({phase}): {problem}")]
    Refused {
        /// Where it happened.
        phase: Phase,
        /// Its words.
        problem: Problem,
        /// When to come again, if the authority said so.
        retry_after: Option<Duration>,
    },
    /// Too much was asked of the authority (`rateLimited`, or status 429).
    #[error("the authority's limit is reached ({phase}): {problem}")]
    RateLimited {
        /// Where it happened.
        phase: Phase,
        /// Its words.
        problem: Problem,
        /// When to come again, if the authority said so.
        retry_after: Option<Duration>,
    },
    /// A name could not be proved.
    #[error("`{name}` could not be proved by {kind}: {problem}")]
    Challenge {
        /// The name.
        name: String,
        /// How it was tried last.
        kind: ChallengeKind,
        /// What the authority saw, or what stood in the way of an answer.
        problem: Problem,
    },
    /// No configured method fits what the authority offers for a name.
    #[error("`{name}` cannot be proved: the authority offers {offered}, configured and possible: {configured}")]
    NoMethod {
        /// The name.
        name: String,
        /// What the authority offers.
        offered: String,
        /// What is configured and possible for this name.
        configured: String,
    },
    /// It took too long.
    #[error("no end within {limit:?} ({phase})")]
    TimedOut {
        /// Where it happened.
        phase: Phase,
        /// How long was waited.
        limit: Duration,
        /// When to come again, if the authority said so.
        retry_after: Option<Duration>,
    },
    /// The store of account and tokens.
    #[error("the certificate store: {0}")]
    Storage(String),
    /// The account in the store cannot be used.
    #[error("the account in `{file}` cannot be used: {detail}")]
    Account {
        /// Its key in the store.
        file: String,
        /// Why.
        detail: String,
    },
    /// A key or a request could not be made.
    #[error("a key cannot be made: {0}")]
    Key(String),
    /// The certificate is not the one that was ordered.
    #[error("the certificate that was issued is not served: {0}")]
    Certificate(String),
}

impl AcmeError {
    /// When the authority said to come again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. }
            | Self::Refused { retry_after, .. }
            | Self::RateLimited { retry_after, .. }
            | Self::TimedOut { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the authority's limits are reached.
    pub fn is_rate_limit(&self) -> bool {
        matches!(self, Self::RateLimited { .. }) || matches!(self, Self::Status { status: 429, .. })
    }

    /// The authority's words, if it gave a reason.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused { problem, .. } | Self::RateLimited { problem, .. } | Self::Challenge { problem, .. } => {
                Some(problem)
            }
            _ => None,
        }
    }

    /// Whether the same request may fare better at once: the authority or the way to it failed.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Connection { .. } | Self::TimedOut { .. } | Self::Nonsense { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            Self::Refused { problem, .. } => problem.kind == "serverInternal",
            _ => false,
        }
    }
}

impl Problem {
    /// One that was not said by the authority.
    pub(super) fn own(detail: impl fmt::Display) -> Self {
        Self { detail: said(&detail.to_string()), ..Self::default() }
    }
}

mod foreign {
    use super::{Problem, SUBPROBLEMS, Subproblem, said};

    fn kind(text: Option<&str>) -> String {
        let text = text.unwrap_or_default();
        said(text.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(text))
    }

    impl From<&instant_acme::Problem> for Problem {
        fn from(problem: &instant_acme::Problem) -> Self {
            let subproblems = problem.subproblems.iter().take(SUBPROBLEMS).map(|sub| Subproblem {
                name: sub.identifier.as_ref().map(|name| said(&name.authorized(false).to_string())),
                kind: kind(sub.r#type.as_deref()),
                detail: said(sub.detail.as_deref().unwrap_or_default()),
            });
            Self {
                kind: kind(problem.r#type.as_deref()),
                detail: said(problem.detail.as_deref().unwrap_or_default()),
                status: problem.status,
                subproblems: subproblems.collect(),
            }
        }
    }
}
