//! Requests to Consul's HTTP API: where it is, with which rights it is asked, and what it answers.
//!
//! What always holds: every request has a limit of time and every answer one of size; the token travels in a header and is in no
//! error. A token file is read on a thread that may hang, and read again when Consul refuses what was read before.

use crate::model::Secret;
use reqwest::header::HeaderValue;
use reqwest::{Client, Method, StatusCode};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a token file may take to be read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Larger files hold no token.
const TOKEN_LIMIT: u64 = 64 << 10;

/// How to reach it.
#[derive(Debug, Clone)]
pub struct ConsulStorage {
    /// `http://127.0.0.1:8500`: what URLs start with before `/v1`.
    pub address: String,
    /// Needs `key:write` below the prefix and `session:write`.
    pub token: ConsulToken,
    /// Below which keys stand; a `/` at its end is of no account.
    pub prefix: String,
    /// Which part of Consul's keys.
    pub scope: ConsulScope,
    /// The client, with the TLS of the agent.
    pub client: Client,
}

/// An ACL token.
#[derive(Debug, Clone, Default)]
pub enum ConsulToken {
    /// None.
    #[default]
    None,
    /// This one.
    Value(Secret),
    /// What stands in a file, read again when it is refused.
    File(PathBuf),
}

/// `ns`, `partition` and `dc` of every request; empty for Consul's own defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsulScope {
    /// Namespace (Enterprise).
    pub namespace: String,
    /// Admin partition (Enterprise).
    pub partition: String,
    /// Datacenter.
    pub datacenter: String,
}

/// What Consul answered, or did not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsulError {
    /// No connection, or it ended too early.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// Nothing in time.
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The token may not do this, or is not known.
    #[error("refused: {0}")]
    Denied(String),
    /// There is no token to ask with.
    #[error("the token: {0}")]
    Token(String),
    /// Another answer than was asked for.
    #[error("answered {code} `{text}`")]
    Status {
        /// Status code.
        code: u16,
        /// Begin of the body.
        text: String,
    },
    /// It cannot be read.
    #[error("the answer cannot be read")]
    Decode,
    /// Too large to be one of ours.
    #[error("the answer is too large")]
    TooLarge,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `X-Consul-Index`.
    pub(super) index: Option<u64>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn good(self) -> Result<Vec<u8>, ConsulError> {
        let text = || {
            let text = String::from_utf8_lossy(&self.body[..self.body.len().min(200)]).into_owned();
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
        };
        match self.status {
            StatusCode::OK => Ok(self.body),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Err(ConsulError::Denied(text())),
            status => Err(ConsulError::Status { code: status.as_u16(), text: text() }),
        }
    }

    /// `true` or `false`: whether a conditional write took place.
    pub(super) fn said_yes(self) -> Result<bool, ConsulError> {
        match self.good()?.trim_ascii() {
            b"true" => Ok(true),
            b"false" => Ok(false),
            _ => Err(ConsulError::Decode),
        }
    }
}

/// A request.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Behind `/v1/`, with its parameters.
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    pub(super) deadline: Duration,
    /// An answer is not read beyond this, in bytes.
    pub(super) limit: usize,
}

/// Who asks.
pub(super) struct Caller {
    pub(super) options: ConsulStorage,
    token: Mutex<Option<HeaderValue>>,
}

impl Caller {
    pub(super) fn new(options: ConsulStorage) -> Arc<Self> {
        Arc::new(Self { options, token: Mutex::default() })
    }

    /// Asks, and once more with a fresh token where that of the file is refused.
    pub(super) async fn call(&self, ask: Ask) -> Result<Answer, ConsulError> {
        let used = self.token().await?;
        let answer = self.call_once(ask.clone(), used.clone()).await?;
        if !matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) {
            return Ok(answer);
        }
        let ConsulToken::File(file) = &self.options.token else { return Ok(answer) };
        match read_token(file).await {
            Ok(fresh) if used.as_ref() != Some(&fresh) => {
                self.keep(fresh.clone());
                self.call_once(ask, Some(fresh)).await
            }
            // The refusal is what is told.
            Ok(_) | Err(_) => Ok(answer),
        }
    }

    async fn call_once(&self, ask: Ask, token: Option<HeaderValue>) -> Result<Answer, ConsulError> {
        let Ask { method, path, body, deadline, limit } = ask;
        let mut request = self.options.client.request(method, self.url(&path)).timeout(deadline).body(body);
        if let Some(token) = token {
            request = request.header("X-Consul-Token", token);
        }
        let failed = |error: reqwest::Error| match error.is_timeout() {
            true => ConsulError::Deadline(deadline),
            // The address is said elsewhere.
            false => ConsulError::Unreachable(innermost(&error.without_url())),
        };
        let mut response = request.send().await.map_err(failed)?;
        let index = response.headers().get("x-consul-index").and_then(|index| index.to_str().ok()?.parse().ok());
        let (status, mut body) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > limit {
                return Err(ConsulError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, index, body })
    }

    fn url(&self, path: &str) -> String {
        let ConsulStorage { address, scope, .. } = &self.options;
        let mut url = format!("{}/v1/{path}", address.trim_end_matches('/'));
        for (name, value) in [("ns", &scope.namespace), ("partition", &scope.partition), ("dc", &scope.datacenter)] {
            if !value.is_empty() {
                let separator = if url.contains('?') { '&' } else { '?' };
                // Writing into a string cannot fail.
                let _ = write!(url, "{separator}{name}={}", escaped(value));
            }
        }
        url
    }

    async fn token(&self) -> Result<Option<HeaderValue>, ConsulError> {
        match &self.options.token {
            ConsulToken::None => Ok(None),
            ConsulToken::Value(secret) if secret.is_empty() => Ok(None),
            ConsulToken::Value(secret) => header(secret).map(Some),
            ConsulToken::File(file) => {
                let kept = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if kept.is_some() {
                    return Ok(kept);
                }
                let fresh = read_token(file).await?;
                self.keep(fresh.clone());
                Ok(Some(fresh))
            }
        }
    }

    fn keep(&self, token: HeaderValue) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }
}

/// For a parameter's value (RFC 3986, 2.3).
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn header(secret: &Secret) -> Result<HeaderValue, ConsulError> {
    let unfit = |_| ConsulError::Token("it does not fit a header".to_owned());
    let mut value = HeaderValue::from_str(secret.reveal()).map_err(unfit)?;
    value.set_sensitive(true);
    Ok(value)
}

async fn read_token(file: &Path) -> Result<HeaderValue, ConsulError> {
    let shown = file.display().to_string();
    let failed = |why: String| ConsulError::Token(format!("`{shown}` cannot be read: {why}"));
    let path = file.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        let read = std::fs::File::open(path)?.take(TOKEN_LIMIT).read_to_string(&mut text);
        read.map(|_| Secret::new(text.trim()))
    });
    match tokio::time::timeout(PATIENCE, read).await {
        Err(_) => Err(failed(format!("it gave nothing within {PATIENCE:?}"))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok(Err(error))) => Err(failed(error.to_string())),
        Ok(Ok(Ok(secret))) if secret.is_empty() => Err(failed("it is empty".to_owned())),
        Ok(Ok(Ok(secret))) => header(&secret),
    }
}

/// The innermost cause of an error, which is what says something.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
