//! Reads one after another over a kept connection, and the event stream: reqwest.
//!
//! A lane is a reqwest client of its own, so that what is asked one at a time uses one connection
//! and never a second: a client shared by several would open more when they meet.

use super::answer::{Error, MAX_BODY, Meta, causes, check_json};
use super::{Agent, Answer, Counted, Endpoint};
use crate::config::ClientTls;
use crate::model::Secret;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION};
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Deadline of the second, `?stale` attempt.
const STALE_READ: Duration = Duration::from_secs(3);

/// One connection's worth of requests.
#[derive(Debug, Clone)]
pub struct Lane {
    agent: Agent,
    client: reqwest::Client,
    base: Arc<str>,
    counted: Arc<Mutex<Option<Counted>>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The right to ask over a lane that is shared, until dropped.
pub type Turn = tokio::sync::OwnedMutexGuard<()>;

impl Lane {
    pub(super) fn new(agent: &Agent) -> Result<Self, Error> {
        let base = base(agent).into();
        Ok(Self { agent: agent.clone(), client: client(agent)?, base, counted: Arc::default(), turn: Arc::default() })
    }

    /// Waits until nobody else who keeps to turns asks over this lane and its clones, so that they never use two connections.
    pub async fn turn(&self) -> Turn {
        self.turn.clone().lock_owned().await
    }

    /// Asks for `path` (with its parameters, from `/v1` on) and reads the whole answer.
    /// After a refusal the token file is read again and, if it changed, the request repeated once.
    ///
    /// # Errors
    /// Everything but a 200 with something like JSON within the deadline and [`MAX_BODY`].
    pub async fn get(&self, path: &str, deadline: Duration) -> Result<Answer, Error> {
        let (response, meta) = self.send(path, Some(deadline)).await?;
        let headers = response.headers().clone();
        let body = self.note(read(response, MAX_BODY, deadline).await)?;
        check_json(&headers, &body)?;
        Ok(Answer { meta, body })
    }

    /// As [`Lane::get`], but the body is thrown away as it comes.
    ///
    /// # Errors
    /// As [`Lane::get`].
    pub async fn ring(&self, path: &str, deadline: Duration) -> Result<Meta, Error> {
        let (mut response, meta) = self.send(path, Some(deadline)).await?;
        let mut first = Vec::new();
        while let Some(chunk) = self.note(response.chunk().await.map_err(|e| Error::transport(e, deadline)))? {
            if first.is_empty() {
                first.extend_from_slice(&chunk[..chunk.len().min(16)]);
            }
        }
        check_json(response.headers(), &first)?;
        Ok(meta)
    }

    /// A read without index that falls back to `?stale` when there is no leader, or with `stale`
    /// asks that way first and asks by default only when the answer is older than `bound`.
    ///
    /// # Errors
    /// As [`Lane::get`]; the error of the default read where both fail.
    pub async fn read(&self, path: &str, stale: bool, read: Duration, bound: Duration) -> Result<Answer, Error> {
        let stale_path = format!("{path}{}stale", if path.contains('?') { '&' } else { '?' });
        if stale {
            match self.get(&stale_path, read).await {
                Ok(answer) if answer.meta.last_contact > bound => Ok(self.get(path, read).await.unwrap_or(answer)),
                other => other,
            }
        } else {
            match self.get(path, read).await {
                Err(error) if error.may_be_leaderless() => {
                    self.get(&stale_path, STALE_READ.min(read)).await.map_err(|_| error)
                }
                other => other,
            }
        }
    }

    /// Opens a stream of lines. The head has to come within `deadline`; each line's time is the caller's.
    ///
    /// # Errors
    /// As [`Lane::get`], for the head.
    pub async fn lines(&self, path: &str, deadline: Duration) -> Result<Lines, Error> {
        let sent = tokio::time::timeout(deadline, self.send(path, None)).await;
        let (response, _) = self.note(sent.unwrap_or(Err(Error::Deadline(deadline))))?;
        let content_type = response.headers().get(http::header::CONTENT_TYPE);
        if content_type.is_some_and(|v| v.as_bytes().starts_with(b"text/html")) {
            return Err(Error::NotJson("HTML".into()));
        }
        // A stream's connection serves nothing else: it is counted with the stream.
        self.set(None);
        Ok(Lines { response, buffer: Vec::new(), searched: 0, _counted: self.agent.count() })
    }

    /// Sends, and repeats once with a fresh token when the first was refused.
    async fn send(&self, path: &str, deadline: Option<Duration>) -> Result<(reqwest::Response, Meta), Error> {
        let mut again = true;
        loop {
            let token = self.agent.inner.token.current().await?;
            let used = token.as_ref().map(|(_, value)| value.clone());
            match self.note(self.send_once(path, deadline, token).await) {
                Err(error) if again && error.is_refusal() && self.agent.inner.token.reread(used.as_ref()).await => {
                    again = false
                }
                other => return other,
            }
        }
    }

    async fn send_once(
        &self,
        path: &str,
        deadline: Option<Duration>,
        token: Option<(HeaderName, HeaderValue)>,
    ) -> Result<(reqwest::Response, Meta), Error> {
        let inner = &self.agent.inner;
        let mut request = self.client.get(format!("{}{path}", self.base)).headers(headers(&self.agent, token));
        if let Some(deadline) = deadline {
            request = request.timeout(deadline);
        }
        let limit = deadline.unwrap_or(inner.timing.waits.read);
        let response = request.send().await.map_err(|e| Error::transport(e, limit))?;
        let closes = response.headers().get(CONNECTION).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"close"));
        self.set((!closes).then(|| self.agent.count()));
        let code = response.status().as_u16();
        if code != 200 {
            // The rest of a small body is read too, so that the connection can be used again.
            let body = read(response, 64 << 10, limit).await.unwrap_or_default();
            return Err(Error::status(code, &body));
        }
        let meta = Meta::read(inner.product, response.headers());
        Ok((response, meta))
    }

    /// Keeps the count: a connection on which something failed is gone.
    fn note<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Connect(_) | Error::Deadline(_) | Error::Cut(_) | Error::TooLarge { .. }) = &result {
            self.set(None);
        }
        result
    }

    fn set(&self, counted: Option<Counted>) {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = counted;
    }
}

/// What every request carries.
pub(super) fn headers(agent: &Agent, token: Option<(HeaderName, HeaderValue)>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(basic) = &agent.inner.endpoint.basic {
        headers.insert(AUTHORIZATION, basic.clone());
    }
    if let Some((name, value)) = token {
        headers.insert(name, value);
    }
    headers
}

async fn read(mut response: reqwest::Response, limit: usize, deadline: Duration) -> Result<Vec<u8>, Error> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(Error::TooLarge { limit });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| Error::transport(e, deadline))? {
        if body.len() + chunk.len() > limit {
            return Err(Error::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A body that comes line by line and does not end.
#[derive(Debug)]
pub struct Lines {
    response: reqwest::Response,
    buffer: Vec<u8>,
    searched: usize,
    _counted: Counted,
}

impl Lines {
    /// The next line, without its end; `None` when the stream ended. Safe to drop and call again.
    ///
    /// # Errors
    /// A connection that broke; a line longer than [`MAX_BODY`].
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(self.searched + at);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            match self.response.chunk().await.map_err(|e| Error::Cut(causes(&e.without_url())))? {
                Some(chunk) if self.buffer.len() + chunk.len() > MAX_BODY => {
                    return Err(Error::TooLarge { limit: MAX_BODY });
                }
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// A client for this agent: no redirects, no proxy, the configured TLS.
pub(super) fn client(agent: &Agent) -> Result<reqwest::Client, Error> {
    let (endpoint, tls, timing) = (&agent.inner.endpoint, &agent.inner.tls, &agent.inner.timing);
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("rust-lb/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timing.connect)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_max_idle_per_host(1);
    if let Some(socket) = &endpoint.socket {
        builder = builder.unix_socket(socket.clone());
    }
    if !endpoint.tls {
        // Nothing to verify: do not load the system's certificates for each lane.
        return builder.tls_certs_only([]).build().map_err(|e| Error::Tls(causes(&e)));
    }
    if let (Some(ca), Some(pem)) = (&tls.ca, &agent.inner.pem.ca) {
        let bundle = reqwest::Certificate::from_pem_bundle(pem).map_err(|e| unusable(ca, &e))?;
        if bundle.is_empty() {
            return Err(Error::File { file: ca.display().to_string(), reason: "it holds no PEM certificate".into() });
        }
        builder = builder.tls_certs_only(bundle);
    }
    if let (Some(cert), Some(pem)) = (&tls.cert, &agent.inner.pem.identity) {
        let identity = reqwest::Identity::from_pem(pem.reveal().as_bytes()).map_err(|e| unusable(cert, &e))?;
        builder = builder.identity(identity);
    }
    if let (Some(name), Some((host, _))) = (&tls.server_name, &endpoint.host) {
        if name.parse::<IpAddr>().is_ok() {
            return Err(Error::Tls(format!("server name `{name}`: expected a name, got an address")));
        }
        builder = builder.dns_resolver(Arc::new(Fixed(host.clone())));
    }
    builder = builder.tls_danger_accept_invalid_certs(tls.insecure_skip_verify);
    builder.build().map_err(|e| Error::Tls(causes(&e)))
}

/// What a URL starts with. A server name to verify instead of the host stands in its place; the
/// host is what [`Fixed`] resolves it to.
pub(super) fn base(agent: &Agent) -> String {
    let endpoint = &agent.inner.endpoint;
    match (&agent.inner.tls.server_name, &endpoint.host) {
        (Some(name), Some((_, port))) if endpoint.tls => format!("https://{name}:{port}{}", endpoint.prefix),
        _ => endpoint.base.clone(),
    }
}

/// Resolves every name to one host's addresses.
struct Fixed(String);

impl Resolve for Fixed {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The TLS files, as they were when the agent was made: a lane that is opened later reads none, since files may hang.
#[derive(Debug, Default)]
pub(super) struct Pem {
    ca: Option<Vec<u8>>,
    identity: Option<Secret>,
}

impl Pem {
    /// Reads what is configured and of use.
    pub fn read(endpoint: &Endpoint, tls: &ClientTls) -> Result<Self, Error> {
        if !endpoint.tls {
            return Ok(Self::default());
        }
        let file = |path: &PathBuf| {
            std::fs::read(path).map_err(|e| Error::File { file: path.display().to_string(), reason: e.to_string() })
        };
        let text = |path: &PathBuf| Ok::<_, Error>(String::from_utf8_lossy(&file(path)?).into_owned());
        let identity = match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => Some(Secret::new(format!("{}\n{}", text(cert)?, text(key)?))),
            _ => None,
        };
        Ok(Self { ca: tls.ca.as_ref().map(file).transpose()?, identity })
    }
}

fn unusable(path: &Path, error: &reqwest::Error) -> Error {
    Error::File { file: path.display().to_string(), reason: causes(error) }
}
