//! `/v1/kv`, `/v1/txn` and `/v1/session` of the embedded Consul, as far as locks and a store of small
//! values need them (<https://developer.hashicorp.com/consul/api-docs/kv>, `/session`, `/txn`). With access
//! control on they take a token with rights to the agent; rules for single keys are not modelled.

use super::{ConsulApi, Refusal, denied, method, vary};
use crate::embedded::control::lock;
use crate::embedded::exchange::{Answer, Request, go_duration};
use crate::embedded::store::consul::{Behavior, Condition, NoSession, SessionEntry};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Consul's `kv_max_value_size`.
const VALUE_LIMIT: usize = 512 * 1024;
/// Operations in a transaction.
const OPERATIONS: usize = 64;
/// What a session may ask for.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(86_400);
const DEFAULT_LOCK_DELAY: Duration = Duration::from_secs(15);
const MAX_LOCK_DELAY: Duration = Duration::from_secs(60);

fn broken(text: impl Into<String>) -> Refusal {
    Refusal::Text(StatusCode::INTERNAL_SERVER_ERROR, text.into())
}

fn yes_or_no(yes: bool) -> Answer {
    vary(Answer::json(&json!(yes), false))
}

fn number(request: &Request, name: &str) -> Result<Option<u64>, Refusal> {
    let Some(text) = request.query.get(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Refusal::bad(format!("invalid {name}: {text:?}")))
}

impl ConsulApi {
    /// What all of these need: rights, and a leader.
    fn may_use_keys(&self, request: &Request) -> Result<(), Refusal> {
        if !self.agent_rights(request)?.agent {
            return Err(denied("Permission denied"));
        }
        if !self.state.contact().known_leader {
            return Err(broken("No cluster leader"));
        }
        Ok(())
    }

    pub(super) async fn kv(&self, request: &Request, key: &str) -> Result<Answer, Refusal> {
        if request.method == Method::GET {
            return self.get_key(request, key).await;
        }
        self.may_use_keys(request)?;
        let not_served = ["dc", "ns", "partition", "peer"];
        if let Some(parameter) = not_served.iter().find(|parameter| request.query.has(parameter)) {
            return Err(Refusal::not_served(parameter));
        }
        match request.method {
            Method::PUT => self.put_key(request, key),
            Method::DELETE => self.delete_key(request, key),
            _ => Err(Refusal::Method("GET,PUT,DELETE", request.method.clone())),
        }
    }

    /// Reads may wait, also for what is not there: their 404 carries an index.
    async fn get_key(&self, request: &Request, key: &str) -> Result<Answer, Refusal> {
        if !self.agent_rights(request)?.agent {
            return Err(denied("Permission denied"));
        }
        let asked = self.asked(request, &["separator", "cached", "partition", "peer"])?;
        let has = |name| request.query.has(name);
        let none = || Answer::new(StatusCode::NOT_FOUND, "");
        if has("keys") || has("recurse") {
            let (index, rows) = self.read(&asked, request, |store| store.read_keys(key, Instant::now())).await?;
            let answer = match (rows.is_empty(), has("keys")) {
                (true, _) => none(),
                (false, true) => Answer::json(&rows.into_iter().map(|(key, _)| json!(key)).collect(), true),
                (false, false) => Answer::json(&rows.into_iter().map(|(_, shown)| shown).collect(), true),
            };
            return Ok(self.read_at(answer, index, &asked));
        }
        if key.is_empty() {
            return Err(Refusal::bad("Missing key name"));
        }
        let (index, found) = self.read(&asked, request, |store| store.read_key(key, Instant::now())).await?;
        let answer = match found {
            None => none(),
            Some((value, _)) if has("raw") => {
                Answer::new(StatusCode::OK, value).with("Content-Type", "text/plain; charset=utf-8")
            }
            Some((_, shown)) => Answer::json(&json!([shown]), true),
        };
        Ok(self.read_at(answer, index, &asked))
    }

    fn put_key(&self, request: &Request, key: &str) -> Result<Answer, Refusal> {
        if key.is_empty() {
            return Err(Refusal::bad("Missing key name"));
        }
        if request.body.len() > VALUE_LIMIT {
            let text = format!("Request body({} bytes) too large, max size: {VALUE_LIMIT} bytes.", request.body.len());
            return Err(Refusal::Text(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        let session = |name: &str| request.query.get(name).map(str::to_owned);
        let condition = match (number(request, "cas")?, session("acquire"), session("release")) {
            (None, None, None) => Condition::Always,
            (Some(index), None, None) => Condition::Index(index),
            (None, Some(id), None) => Condition::Acquire(id),
            (None, None, Some(id)) => Condition::Release(id),
            _ => return Err(Refusal::bad("Conflicting flags: at most one of cas, acquire, release")),
        };
        let flags = number(request, "flags")?.unwrap_or(0);
        let put = lock(&self.store).put_key(key, request.body.clone(), flags, &condition, Instant::now());
        put.map(yes_or_no).map_err(|NoSession(id)| broken(format!("rpc error making call: invalid session {id:?}")))
    }

    fn delete_key(&self, request: &Request, key: &str) -> Result<Answer, Refusal> {
        let index = number(request, "cas")?;
        let mut store = lock(&self.store);
        if request.query.has("recurse") {
            if index.is_some() {
                return Err(Refusal::bad("Conflicting flags: recurse and cas"));
            }
            store.delete_keys(key);
            return Ok(yes_or_no(true));
        }
        if key.is_empty() {
            return Err(Refusal::bad("Missing key name"));
        }
        Ok(yes_or_no(store.delete_key(key, index)))
    }

    /// `set` and `delete` of keys, all or none; a check of them all comes first.
    pub(super) fn txn(&self, request: &Request) -> Result<Answer, Refusal> {
        method(request, "PUT")?;
        self.may_use_keys(request)?;
        let operations: Vec<Value> = serde_json::from_slice(&request.body)
            .map_err(|error| Refusal::bad(format!("Failed to parse body: {error}")))?;
        if operations.len() > OPERATIONS {
            let text = format!("Transaction contains too many operations ({} > {OPERATIONS})", operations.len());
            return Err(Refusal::Text(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        let mut steps = Vec::new();
        for operation in &operations {
            let kv = &operation["KV"];
            let text = |name: &str| kv[name].as_str().unwrap_or_default();
            let value = STANDARD.decode(text("Value")).map_err(|_| Refusal::bad("Failed to parse body: base64"))?;
            if text("Key").is_empty() {
                return Err(Refusal::bad("Missing key name"));
            }
            match text("Verb") {
                "set" => steps.push((text("Key"), Some(Bytes::from(value)))),
                "delete" => steps.push((text("Key"), None)),
                verb => return Err(Refusal::not_served(&format!("txn {verb}"))),
            }
        }
        let (mut store, now) = (lock(&self.store), Instant::now());
        let mut results = Vec::new();
        for (key, value) in steps {
            match value {
                None => drop(store.delete_key(key, None)),
                Some(value) => {
                    let put = store.put_key(key, value, 0, &Condition::Always, now);
                    debug_assert!(put == Ok(true), "nothing is asked of it");
                    let mut shown = store.key(key, now).map_or(Value::Null, |(_, shown)| shown);
                    shown["Value"] = Value::Null;
                    results.push(json!({"KV": shown}));
                }
            }
        }
        Ok(vary(Answer::json(&json!({"Results": results, "Errors": null}), true)))
    }

    pub(super) fn sessions(&self, request: &Request, what: &str) -> Result<Answer, Refusal> {
        let (verb, id) = what.split_once('/').unwrap_or((what, ""));
        method(request, if verb == "info" { "GET" } else { "PUT" })?;
        self.may_use_keys(request)?;
        let now = Instant::now();
        match (verb, id) {
            ("create", "") => {
                let entry = read_session(&request.body)?;
                let id = lock(&self.store).create_session(entry, now);
                Ok(vary(Answer::json(&json!({"ID": id}), true)))
            }
            ("renew" | "destroy" | "info", "") => Err(Refusal::bad("Missing session")),
            ("renew", id) => {
                let mut store = lock(&self.store);
                let gone = || Refusal::Text(StatusCode::NOT_FOUND, format!("Session id '{id}' not found"));
                let session = if store.renew_session(id, now) { store.session(id, now) } else { None };
                Ok(vary(Answer::json(&json!([session.ok_or_else(gone)?]), true)))
            }
            ("destroy", id) => {
                lock(&self.store).destroy_session(id, now);
                Ok(yes_or_no(true))
            }
            ("info", id) => {
                let session: Vec<_> = lock(&self.store).session(id, now).into_iter().collect();
                Ok(vary(Answer::json(&json!(session), true)))
            }
            _ => Err(Refusal::NoPath),
        }
    }
}

/// The body of `session/create`; what decides about its end and is not served is refused.
fn read_session(body: &[u8]) -> Result<SessionEntry, Refusal> {
    let body: Value = match body.is_empty() {
        true => json!({}),
        false => serde_json::from_slice(body).map_err(|e| Refusal::bad(format!("Request decode failed: {e}")))?,
    };
    for field in ["Node", "Checks", "NodeChecks", "ServiceChecks"] {
        if !body[field].is_null() {
            return Err(Refusal::not_served(field));
        }
    }
    let duration = |name: &str| match &body[name] {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => go_duration(text).map(Some).ok_or_else(|| Refusal::bad(format!("Invalid {name}"))),
        // A small number counts seconds, a large one nanoseconds.
        Value::Number(n) => {
            Ok(n.as_u64().map(|n| if n < 1_000 { Duration::from_secs(n) } else { Duration::from_nanos(n) }))
        }
        _ => Err(Refusal::bad(format!("Invalid {name}"))),
    };
    let ttl = duration("TTL")?;
    if let Some(ttl) = ttl.filter(|ttl| !TTL.contains(ttl)) {
        let text = format!("Invalid Session TTL '{}', must be between [10s=24h0m0s]", ttl.as_nanos());
        return Err(Refusal::bad(text));
    }
    let behavior = match body["Behavior"].as_str() {
        None | Some("" | "release") => Behavior::Release,
        Some("delete") => Behavior::Delete,
        Some(other) => return Err(broken(format!("rpc error making call: Invalid Behavior setting '{other}'"))),
    };
    let lock_delay = duration("LockDelay")?.unwrap_or(DEFAULT_LOCK_DELAY).min(MAX_LOCK_DELAY);
    let name = body["Name"].as_str().unwrap_or_default().to_owned();
    Ok(SessionEntry { name, ttl, behavior, lock_delay })
}
