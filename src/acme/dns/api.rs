//! Requests to the HTTP interfaces of providers and hooks.
//!
//! What always holds: no redirect is followed and no proxy of the environment used (both would carry
//! credentials away); every request has a limit in time, every answer one in size; addresses hold no
//! credentials, and in errors no query.

use super::DnsError;
use super::error::one_line;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Url};
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// Largest answer, in bytes.
const LARGEST: usize = 1 << 20;
/// Of an answer that refuses, this many characters are told.
const TOLD: usize = 300;

/// One interface.
#[derive(Debug, Clone)]
pub(super) struct Api {
    client: reqwest::Client,
    base: Url,
    limit: Duration,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    /// Method and address, for errors.
    pub request: String,
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// Checks an interface's address.
///
/// # Errors
/// What is wrong; never the address, which may hold a password.
pub(super) fn base(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("it is no URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("expected http://… or https://…".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a name or password cannot stand in it".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a query (`?`) or fragment (`#`) cannot stand in it".into());
    }
    Ok(url)
}

/// A header that is not shown in logs.
///
/// # Errors
/// A value with line ends and the like.
pub(super) fn secret_header(what: &'static str, value: &str) -> Result<HeaderValue, DnsError> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| DnsError::SetUp { what, reason: "it has characters that cannot stand in a header".into() })?;
    value.set_sensitive(true);
    Ok(value)
}

impl Api {
    /// # Errors
    /// An address that is none; TLS that cannot be set up.
    pub fn new(what: &'static str, address: &str, limit: Duration) -> Result<Self, DnsError> {
        let fault = |reason: String| DnsError::SetUp { what, reason };
        let base = base(address).map_err(fault)?;
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("rust-lb/", env!("CARGO_PKG_VERSION")))
            .timeout(limit)
            .pool_max_idle_per_host(1);
        if base.scheme() == "http" {
            // Nothing to verify: the system's certificates need not be there.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|e| fault(causes(&e)))?;
        Ok(Self { client, base, limit })
    }

    /// Sends a request to the segments of `path` below the address.
    ///
    /// # Errors
    /// [`DnsError::Request`] when there is no whole answer.
    pub async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        mut headers: HeaderMap,
        body: Option<&Value>,
    ) -> Result<Answer, DnsError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = format!("{method} {url}");
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let fault = |reason: String| DnsError::Request { request: request.clone(), reason };
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut sent = self.client.request(method, url);
        if let Some(body) = body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            sent = sent.body(body.to_string());
        }
        let failed = |e: reqwest::Error| {
            fault(if e.is_timeout() { format!("no answer within {:?}", self.limit) } else { causes(&e.without_url()) })
        };
        let mut response = sent.headers(headers).send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(retry_after);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(fault(format!("the answer is larger than {LARGEST} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { request, status, retry_after, body })
    }
}

impl Answer {
    /// Refuses a status that is not 2xx, with what the answer says.
    ///
    /// # Errors
    /// [`DnsError::Status`].
    pub fn success(self) -> Result<Self, DnsError> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let text = one_line(&String::from_utf8_lossy(&self.body), TOLD);
        Err(self.refused(text))
    }

    /// The error for an answer that refuses for this reason.
    pub fn refused(self, text: String) -> DnsError {
        DnsError::Status { request: self.request, status: self.status, text, retry_after: self.retry_after }
    }

    /// The answer as JSON.
    ///
    /// # Errors
    /// [`DnsError::Request`].
    pub fn json(&self) -> Result<Value, DnsError> {
        serde_json::from_slice(&self.body).map_err(|e| DnsError::Request {
            request: self.request.clone(),
            reason: format!("the answer (status {}) is no JSON: {e}", self.status),
        })
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3); a day at most.
fn retry_after(text: &str) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text.trim()).ok()?.duration_since(SystemTime::now()).unwrap_or_default(),
    };
    Some(wait.min(Duration::from_secs(86_400)))
}

/// The innermost causes of an error, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut chain = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        chain.push(cause.to_string());
        source = cause.source();
    }
    // The outer ones only say that a request failed.
    chain.dedup();
    let from = chain.len().saturating_sub(2);
    chain[from..].join(": ")
}
