//! The way of a request as one document: what `rust-lb explain --json` prints and `/api/explain` gives. It
//! is read back by the command line, so that a running instance and a file are told of in the same words.

use super::Question;
use crate::diagnostic::Diagnostic;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What would happen: the answer of `rust-lb explain --jsonl`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The question's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// `proxied`, `redirect`, `denied`, `unauthorized`, `no_route`, `no_server` or `bad_request`.
    pub outcome: Cow<'static, str>,
    /// Status of an answer that the proxy itself makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Target of a redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The router that takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<Arc<str>>,
    /// Its service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Arc<str>>,
    /// What a server would get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// How often each server gets it, where it is sent repeatedly.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<Arc<str>, u32>,
}

/// What a server would get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// `http` or `https`.
    pub scheme: Cow<'static, str>,
    /// `host:port`.
    pub addr: Arc<str>,
    /// Path and query.
    pub request_uri: String,
    /// Host header.
    pub host: String,
    /// The other fields.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// The way of a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was asked.
    pub request: Question,
    /// The same as a URL.
    pub url: String,
    /// Where it comes in.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub entry_point: Arc<str>,
    /// Over TLS.
    pub tls: bool,
    /// Remarks on the entry point: it was guessed, or it redirects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// What rules see; nothing when it got no further than its entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
    /// What happens.
    #[serde(flatten)]
    pub answer: Answer,
    /// Why the proxy itself answers: the word of the access log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// What does not let the client in: a middleware, or the variable that holds for all routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<str>>,
    /// The same in a sentence.
    pub says: String,
    /// Routers that were asked, in order; the last one took it if one did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<Candidate>,
    /// Routers that would take it too and come later, each with why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<Candidate>,
    /// Routers that would nearly have taken it, refused ones among them, each with what kept it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<Candidate>,
    /// The router's middlewares in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<Step>,
    /// Its service and servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// Catalog services whose tags name the host, and why they do not take the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Concerned>,
    /// What was refused and concerns this request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Diagnostic>,
    /// Catalogs that are not as they should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catalogs: Vec<Catalog>,
}

/// Host and path as rules see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Without port, in lower case.
    pub host: String,
    /// Cleaned and decoded.
    pub path: String,
}

/// A catalog service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Provider, in the API's spelling.
    pub provider: Arc<str>,
    /// Namespace, where there are any.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// A router and the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Qualified name.
    pub router: Arc<str>,
    /// The catalog service that declares it; empty for files.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub declared_by: Arc<str>,
    /// Its rule.
    pub rule: Arc<str>,
    /// Its effective priority.
    pub priority: i64,
    /// Where it answers.
    pub entry_points: Vec<Arc<str>>,
    /// Whether it takes the request.
    pub takes: bool,
    /// The matchers that failed, in the rule's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Fail>,
    /// What else there is to say of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// A matcher that kept a rule from holding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fail {
    /// Where it stands in the rule, in bytes.
    pub span: (usize, usize),
    /// Its text.
    pub matcher: String,
    /// It holds and must not: it stands behind a `!`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub negated: bool,
    /// What the request has in its place.
    pub why: String,
}

/// A middleware and the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Qualified name.
    pub middleware: Arc<str>,
    /// Its definition, without secrets.
    pub definition: serde_json::Value,
    /// What it does to this request.
    pub does: String,
}

/// A service and its servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Qualified name.
    pub service: Arc<str>,
    /// How a server is chosen.
    pub strategy: String,
    /// Whether the client's Host goes to the server.
    pub pass_host_header: bool,
    /// The servers.
    pub servers: Vec<ServerNow>,
    /// What is to be said where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remark: String,
}

/// A server now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerNow {
    /// The service inside that it is of; empty where the service is not made of others.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub service: Arc<str>,
    /// URL, without user information.
    pub url: String,
    /// Weight.
    pub weight: u32,
    /// False while it is left alone; unknown offline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<bool>,
    /// Why it is not thought able to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Arc<str>>,
    /// Requests that it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// It would get the next request of this client.
    #[serde(default)]
    pub chosen: bool,
}

/// A catalog service that concerns a request and does not take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concerned {
    /// Which.
    #[serde(flatten)]
    pub named: Named,
    /// Why not.
    pub why: Vec<Diagnostic>,
}

/// How a catalog stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// Provider, in the API's spelling.
    pub provider: Arc<str>,
    /// `starting`, `connected`, `retrying` or `stale`.
    pub state: String,
    /// Where it is asked.
    pub address: String,
    /// Seconds since its last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_seconds_ago: Option<u64>,
    /// What that means.
    pub says: String,
}
