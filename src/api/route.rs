//! From a request to its answer: the paths of the admin entry point.

use super::guard::{self, Ends, Refusal};
use super::page::{decode, page};
use super::views::{self, Kind};
use super::{Admin, Readiness, explain, health, tcp_views};
use crate::observe::metrics;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Full;
use serde::Serialize;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

pub(super) type Answer = Response<Full<Bytes>>;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

fn answer(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

pub(super) fn json_with(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            answer(status, JSON, body)
        }
        Err(error) => message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn ok(value: &impl Serialize) -> Answer {
    json_with(StatusCode::OK, value)
}

/// An error as Traefik words it.
pub(super) fn message(status: StatusCode, text: &str) -> Answer {
    let mut answer = answer(status, JSON, json!({ "message": text }).to_string() + "\n");
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

fn refusal((status, text): Refusal) -> Box<Answer> {
    message(status, &text).into()
}

fn not_found() -> Answer {
    message(StatusCode::NOT_FOUND, "404 page not found")
}

/// A list's page with Traefik's header for the next one.
fn list(items: Vec<super::page::Item>, query: &str) -> Answer {
    match page(items, query) {
        Ok((items, next)) => {
            let mut answer = ok(&items);
            answer.headers_mut().insert("X-Next-Page", HeaderValue::from(next));
            answer
        }
        Err(error) => message(StatusCode::BAD_REQUEST, &error),
    }
}

fn one(mut items: Vec<super::page::Item>, word: &str, name: &str) -> Answer {
    match items.pop() {
        Some(item) => ok(&item),
        None => message(StatusCode::NOT_FOUND, &format!("{word} not found: {name}")),
    }
}

fn allows(method: &Method, allowed: &'static str) -> Result<(), Box<Answer>> {
    if allowed.split(", ").any(|a| a == method.as_str()) {
        return Ok(());
    }
    let mut answer = message(StatusCode::METHOD_NOT_ALLOWED, &format!("only {allowed} is possible here"));
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    Err(answer.into())
}

impl Admin {
    /// Answers a request that came over a connection with these ends.
    pub(super) async fn answer<B: Body>(&self, request: Request<B>, ends: Ends) -> Answer
    where
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        self.try_answer(&Request::from_parts(head, ()), body, ends).await.unwrap_or_else(|answer| *answer)
    }

    /// The error is an answer too, early.
    async fn try_answer<B: Body>(&self, request: &Request<()>, body: B, ends: Ends) -> Result<Answer, Box<Answer>>
    where
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (method, path) = (request.method(), request.uri().path());
        if path == "/ping" {
            allows(method, "GET, HEAD")?;
            return Ok(match self.source.readiness().terminating {
                false => answer(StatusCode::OK, PLAIN, "OK"),
                true => answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "Service Unavailable"),
            });
        }
        let loopback = ends.loopback();
        if !loopback && !self.options.insecure && path != "/metrics" {
            let text = "only /ping and /metrics are served on this address; set `api.insecure` for the rest";
            return Err(message(StatusCode::FORBIDDEN, text).into());
        }
        guard::browser(request.headers(), loopback).map_err(refusal)?;
        let segments: Vec<String> = path.split('/').skip(1).map(|segment| decode(segment, false)).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        if segments == ["api", "forget"] {
            allows(method, "POST")?;
            guard::token(request.headers(), self.options.token_file.as_deref(), ends).await.map_err(refusal)?;
            return Ok(ok(&json!({"forgotten": self.source.forget()})));
        }
        if segments == ["api", "activate"] {
            allows(method, "POST")?;
            guard::token(request.headers(), self.options.token_file.as_deref(), ends).await.map_err(refusal)?;
            return Ok(match self.source.activate().await {
                Ok(bound) => ok(&json!({"bound": bound})),
                Err(error) => message(StatusCode::CONFLICT, &error),
            });
        }
        let query = request.uri().query().unwrap_or_default();
        if segments == ["api", "explain"] {
            allows(method, "GET, HEAD, POST")?;
            let asked = match method {
                &Method::POST => explain::of_body(body).await,
                _ => explain::of_query(query),
            };
            let told = self.explain(asked.map_err(refusal)?).await.map_err(refusal)?;
            return Ok(answer(StatusCode::OK, JSON, told));
        }
        let Some(answer) = self.read(&segments, query, ends).await else { return Ok(not_found()) };
        allows(method, "GET, HEAD")?;
        Ok(answer)
    }

    /// What is only read; `None` for a path that is not there.
    async fn read(&self, segments: &[&str], query: &str, ends: Ends) -> Option<Answer> {
        let source = &*self.source;
        let readiness = || as_asked(source.readiness(), ends);
        Some(match segments {
            ["health"] => {
                let health = health::judge(readiness(), &source.statuses(), SystemTime::now());
                json_with(available(health.ready), &health)
            }
            ["ready"] => {
                let health = health::judge(readiness(), &source.statuses(), SystemTime::now());
                let status = if health.ready { "ready" } else { health.status };
                let reasons = if health.ready { &[] } else { &*health.reasons };
                json_with(available(health.ready), &json!({"status": status, "reasons": reasons}))
            }
            ["metrics"] => {
                let text = source.metrics_text(self.open.load(Ordering::Relaxed)).await?;
                answer(StatusCode::OK, metrics::CONTENT_TYPE, text)
            }
            ["api", "version"] => ok(&views::version(&self.options)),
            ["api", "overview"] => ok(&views::overview(source, &self.options)),
            ["api", "rawdata"] => ok(&views::raw_data(source)),
            ["api", "entrypoints"] => list(views::entry_points(source, None), query),
            ["api", "entrypoints", name] => one(views::entry_points(source, Some(name)), "entry point", name),
            ["api", "http", kind] => list(views::items(Kind::parse(kind)?, source, None), query),
            ["api", "http", kind, name] => {
                let kind = Kind::parse(kind)?;
                one(views::items(kind, source, Some(name)), kind.word(), name)
            }
            ["api", "tcp", kind] => list(tcp_views::items(Kind::parse(kind)?, source, None), query),
            ["api", "tcp", kind, name] => {
                let kind = Kind::parse(kind)?;
                one(tcp_views::items(kind, source, Some(name)), kind.word(), name)
            }
            // Nothing of UDP is served yet: the lists are empty, not missing.
            ["api", "udp", kind @ ("routers" | "services")] => Kind::parse(kind).map(|_| list(Vec::new(), query))?,
            ["api", "problems"] => ok(&source.problems()),
            ["api", "history"] => ok(&source.history()),
            ["api", "certificates"] => ok(&source.certificates()),
            ["api", "connections"] => ok(&views::connections(source.connections().await)),
            _ => return None,
        })
    }
}

/// Who asks on a standby's own socket asks whether requests may come there.
fn as_asked(readiness: Readiness, ends: Ends) -> Readiness {
    Readiness { listeners_bound: readiness.listeners_bound || ends.same_user, ..readiness }
}

fn available(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
