//! The storage in Consul's key-value store, for clusters without a shared directory: each value under
//! its key below a prefix, raw; locks by sessions (<https://developer.hashicorp.com/consul/docs/dynamic-app-config/sessions>).
//!
//! What always holds: the three values of a certificate change in one transaction; a lock ends with
//! its session, 15 s to 30 s after its holder stopped renewing it; the token travels in a header, never
//! in an address. Requests run on a thread of its own; whoever calls waits for them, each with a limit.

mod call;
mod watch;

pub use call::{ConsulError, ConsulScope, ConsulStorage, ConsulToken};
pub(in crate::certs) use watch::{News, Row, Tell};

use super::{LockError, StorageError, VALUE_LIMIT, layout};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use call::{Answer, Ask, Caller};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Where keys stand unless said otherwise.
pub const DEFAULT_PREFIX: &str = "rust-lb/certificates";

/// A request that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(10);
/// Life of a session that nobody renews. Consul ends it up to twice as late.
const TTL: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// How long nobody gets the lock of a session that ended without releasing it.
const LOCK_DELAY: &str = "1s";
/// Pause between attempts to get a lock.
const POLL: Duration = Duration::from_secs(1);
/// An answer is not read beyond this.
const ANSWER_LIMIT: usize = 4 * VALUE_LIMIT as usize;

struct Inner {
    caller: Arc<Caller>,
    runtime: Option<Runtime>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Waits for nothing, so it may also happen on a thread that must not block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct Consul {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Consul {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.caller.options.fmt(f)
    }
}

/// A key and who holds it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Held {
    session: Option<String>,
    modify_index: u64,
    value: Option<String>,
}

#[derive(Deserialize)]
struct Made {
    #[serde(rename = "ID")]
    id: String,
}

impl Consul {
    /// # Errors
    /// No thread can be started.
    pub(super) fn new(mut options: ConsulStorage) -> std::io::Result<Self> {
        options.prefix.truncate(options.prefix.trim_end_matches('/').len());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("certs-consul")
            .enable_all()
            .build()?;
        Ok(Self { inner: Arc::new(Inner { caller: Caller::new(options), runtime: Some(runtime) }) })
    }

    fn key(&self, key: &str) -> Result<String, StorageError> {
        let prefix = &self.inner.caller.options.prefix;
        let whole = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") };
        if prefix.is_empty() || layout::is_key(prefix) { Ok(whole) } else { Err(StorageError::BadKey(prefix.clone())) }
    }

    fn failed(&self, error: ConsulError) -> StorageError {
        StorageError::Consul { address: self.inner.caller.options.address.clone(), error }
    }

    /// One request, for which the calling thread waits.
    fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer, ConsulError> {
        let Some(runtime) = &self.inner.runtime else { return Err(ConsulError::Decode) };
        let ask = Ask { method, path: path.to_owned(), body, deadline: DEADLINE, limit: ANSWER_LIMIT };
        let (done, answer) = sync_channel(1);
        let caller = self.inner.caller.clone();
        runtime.spawn(async move {
            // The caller waits, unless it has gone.
            let _ = done.send(caller.call(ask).await);
        });
        answer.recv().unwrap_or(Err(ConsulError::Deadline(DEADLINE)))
    }

    /// Tells all that lies below a prefix, now and whenever it changes, until `stop`. Keys are told as Consul has them,
    /// below what this gives.
    pub(super) fn watch(&self, below: &str, tell: Tell, stop: CancellationToken) -> Result<String, StorageError> {
        let cut = self.key(below)?;
        let cut = cut.strip_suffix(below).unwrap_or_default().to_owned();
        if let Some(runtime) = &self.inner.runtime {
            runtime.spawn(watch::watch(self.inner.caller.clone(), format!("{cut}{below}/"), tell, stop));
        }
        Ok(cut)
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let answer = self.send(Method::GET, path, Vec::new()).map_err(|error| self.failed(error))?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => answer.good().map(Some).map_err(|error| self.failed(error)),
        }
    }

    fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<bool, StorageError> {
        self.send(method, path, body).and_then(Answer::said_yes).map_err(|error| self.failed(error))
    }

    pub(super) fn read(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.read_with("raw", key)
    }

    /// As [`Self::read`], from a leader that has made sure that it is one.
    pub(super) fn read_surely(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.read_with("raw&consistent", key)
    }

    fn read_with(&self, how: &str, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let value = self.get(&format!("kv/{}?{how}", self.key(key)?))?;
        match value {
            Some(value) if value.len() as u64 > VALUE_LIMIT => Err(self.failed(ConsulError::TooLarge)),
            value => Ok(value),
        }
    }

    pub(super) fn write(&self, values: &[(&str, &[u8])]) -> Result<(), StorageError> {
        let operation = |(key, value): &(&str, &[u8])| {
            Ok(json!({"KV": {"Verb": "set", "Key": self.key(key)?, "Value": STANDARD.encode(value)}}))
        };
        let operations = values.iter().map(operation).collect::<Result<Vec<_>, StorageError>>()?;
        let body = serde_json::Value::Array(operations).to_string().into_bytes();
        let sent = self.send(Method::PUT, "txn", body).and_then(Answer::good);
        sent.map(drop).map_err(|error| self.failed(error))
    }

    pub(super) fn remove(&self, key: &str) -> Result<(), StorageError> {
        self.ask(Method::DELETE, &format!("kv/{}", self.key(key)?), Vec::new()).map(drop)
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let Some(body) = self.get(&format!("kv/{}/?keys", self.key(prefix)?))? else { return Ok(Vec::new()) };
        let all: Vec<String> = serde_json::from_slice(&body).map_err(|_| self.failed(ConsulError::Decode))?;
        let cut = self.key(prefix)?.len() - prefix.len();
        let mut keys: Vec<String> = all.iter().filter_map(|key| key.get(cut..)).map(str::to_owned).collect();
        keys.retain(|key| layout::is_key(key));
        keys.sort_unstable();
        Ok(keys)
    }

    fn row(&self, key: &str) -> Result<Option<Held>, StorageError> {
        let Some(body) = self.get(&format!("kv/{key}?consistent"))? else { return Ok(None) };
        let rows: Vec<Held> = serde_json::from_slice(&body).map_err(|_| self.failed(ConsulError::Decode))?;
        Ok(rows.into_iter().next())
    }

    /// Takes a lock, waiting for it at most `limit`.
    pub(super) fn lock(&self, key: &str, limit: Duration) -> Result<ConsulLock, LockError> {
        let (start, key) = (Instant::now(), self.key(key)?);
        let body = json!({"Name": "rust-lb", "TTL": format!("{}s", TTL.as_secs()), "Behavior": "delete", "LockDelay": LOCK_DELAY});
        let body = body.to_string().into_bytes();
        let made = self.send(Method::PUT, "session/create", body).and_then(Answer::good);
        let made = made.map_err(|error| self.failed(error))?;
        let Made { id } = serde_json::from_slice(&made).map_err(|_| self.failed(ConsulError::Decode))?;
        // From here on its end is the session's.
        let lock = ConsulLock::keep(self.clone(), key, id);
        let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
        let body = json!({"created": now.to_string(), "updated": now.to_string()}).to_string();
        loop {
            if self.ask(Method::PUT, &format!("kv/{}?acquire={}", lock.key, lock.session), body.clone().into())? {
                return Ok(lock);
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(LockError::Held { since: self.since(&lock.key)? });
            }
            std::thread::sleep(POLL.min(left));
        }
    }

    /// Since when somebody holds a lock, by what it says.
    fn since(&self, key: &str) -> Result<Option<SystemTime>, StorageError> {
        let value = self.row(key)?.and_then(|row| STANDARD.decode(row.value?).ok());
        let json = value.and_then(|value| serde_json::from_slice::<serde_json::Value>(&value).ok());
        let created = json.as_ref().and_then(|json| json["created"].as_str()?.parse::<jiff::Timestamp>().ok());
        Ok(created.map(SystemTime::from))
    }
}

/// A lock by a session, which is renewed until it is dropped.
pub(super) struct ConsulLock {
    consul: Consul,
    key: String,
    session: String,
    lost: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl std::fmt::Debug for ConsulLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ConsulLock").field(&self.key).finish()
    }
}

impl ConsulLock {
    fn keep(consul: Consul, key: String, session: String) -> Self {
        let (lost, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let (caller, stopped, gone) = (consul.inner.caller.clone(), stop.clone(), lost.clone());
        let path = format!("session/renew/{session}");
        if let Some(runtime) = &consul.inner.runtime {
            runtime.spawn(async move {
                loop {
                    tokio::select! {
                        () = stopped.cancelled() => return,
                        () = tokio::time::sleep(RENEW) => {}
                    }
                    let (path, limit) = (path.clone(), ANSWER_LIMIT);
                    let ask = Ask { method: Method::PUT, path, body: Vec::new(), deadline: RENEW, limit };
                    // Anything but "there is no such session" may be better next time.
                    if caller.call(ask).await.is_ok_and(|answer| answer.status == StatusCode::NOT_FOUND) {
                        gone.store(true, Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
        Self { consul, key, session, lost, stop }
    }

    /// Asks Consul, whose word it is.
    pub(super) fn still_ours(&self) -> bool {
        let holder = || self.consul.row(&self.key).ok().flatten().and_then(|row| row.session);
        !self.lost.load(Ordering::Relaxed) && holder().as_deref() == Some(&self.session)
    }

    fn release(&self) -> Result<(), StorageError> {
        let Self { consul, key, session, .. } = self;
        // Released before the session ends, others need not wait for the lock's delay.
        if consul.ask(Method::PUT, &format!("kv/{key}?release={session}"), Vec::new())?
            && let Some(row) = consul.row(key)?
            && row.session.is_none()
        {
            // Fails where somebody has taken it meanwhile.
            consul.ask(Method::DELETE, &format!("kv/{key}?cas={}", row.modify_index), Vec::new())?;
        }
        Ok(())
    }
}

impl Drop for ConsulLock {
    fn drop(&mut self) {
        self.stop.cancel();
        let released = self.release();
        let path = format!("session/destroy/{}", self.session);
        if let Err(error) = released.and(self.consul.ask(Method::PUT, &path, Vec::new()).map(drop)) {
            tracing::warn!(key = %self.key, %error, "the lock cannot be released; it ends with its session");
        }
    }
}
