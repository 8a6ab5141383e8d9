//! Runs the checks of the embedded Consul: TTLs that run out, HTTP and TCP checks by their interval.
//!
//! As the agent does, the first run comes after a random part of the interval, and a state that
//! does not change is not written. `https` checks are not run and say so.

use super::control::lock;
use super::definition::Runs;
use super::store::consul::{ConsulStore, LOCAL_NODE, Status};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::http::{Request, Uri};
use hyper_util::rt::TokioIo;
use rand::Rng;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// What the agent keeps of a check's answer.
const MAX_OUTPUT: usize = 4096;

/// The checks that run.
#[derive(Debug)]
pub(crate) struct Checks {
    store: Arc<Mutex<ConsulStore>>,
    running: Mutex<HashMap<String, Running>>,
}

#[derive(Debug)]
struct Running {
    runs: Runs,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checks {
    pub(crate) fn new(store: Arc<Mutex<ConsulStore>>) -> Self {
        Self { store, running: Mutex::default() }
    }

    /// Starts a check, or starts it anew. Without a runtime, and for what is not run, does nothing.
    pub(crate) fn start(&self, id: &str, runs: Runs, note: &str) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (store, own_id) = (self.store.clone(), id.to_owned());
        let task = match runs.clone() {
            Runs::Never => {
                lock(&self.running).remove(id);
                return;
            }
            Runs::Ttl(ttl) => {
                let output = match note {
                    "" => "TTL expired".to_owned(),
                    note => format!("TTL expired (last output before timeout follows): {note}"),
                };
                runtime.spawn(async move {
                    sleep(ttl).await;
                    lock(&store).set_check(LOCAL_NODE, &own_id, Status::Critical, &output);
                })
            }
            Runs::Http { every, .. } | Runs::Tcp { every, .. } => {
                let (runs, first) = (runs.clone(), every.mul_f64(rand::rng().random()));
                runtime.spawn(async move {
                    sleep(first).await;
                    loop {
                        let (status, output) = run(&runs).await;
                        lock(&store).set_check(LOCAL_NODE, &own_id, status, &output);
                        sleep(every).await;
                    }
                })
            }
        };
        lock(&self.running).insert(id.to_owned(), Running { runs, task: task.abort_handle() });
    }

    /// An update came: its TTL starts over.
    pub(crate) fn updated(&self, id: &str, note: &str) {
        let runs = lock(&self.running).get(id).map(|running| running.runs.clone());
        if let Some(runs @ Runs::Ttl(_)) = runs {
            self.start(id, runs, note);
        }
    }

    /// Stops a check.
    pub(crate) fn stop(&self, id: &str) {
        lock(&self.running).remove(id);
    }

    /// Stops all checks.
    pub(crate) fn stop_all(&self) {
        lock(&self.running).clear();
    }
}

async fn run(runs: &Runs) -> (Status, String) {
    let (limit, done) = match runs {
        Runs::Http { timeout: limit, url, method, .. } => (*limit, timeout(*limit, http(url, method)).await),
        Runs::Tcp { timeout: limit, address, .. } => (*limit, timeout(*limit, tcp(address)).await),
        Runs::Ttl(_) | Runs::Never => return (Status::Critical, String::new()),
    };
    match done {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => (Status::Critical, error.to_string()),
        Err(_) => (Status::Critical, format!("timeout after {}", crate::model::format_duration(limit))),
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn tcp(address: &str) -> Result<(Status, String), Failure> {
    TcpStream::connect(address).await.map_err(|error| format!("dial tcp {address}: {error}"))?;
    Ok((Status::Passing, format!("TCP connect {address}: Success")))
}

/// 2xx passes, 429 warns, everything else is critical
/// (<https://developer.hashicorp.com/consul/docs/services/usage/checks#http-checks>).
async fn http(url: &str, method: &str) -> Result<(Status, String), Failure> {
    let uri: Uri = url.parse()?;
    let host = uri.host().ok_or("no host in the URL")?;
    if uri.scheme_str() != Some("http") {
        return Err("the embedded catalog runs http checks without TLS only".into());
    }
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80)))
        .await
        .map_err(|error| format!("{method} {url:?}: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let request = Request::builder()
        .method(method)
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header("Host", authority)
        .header("User-Agent", "Consul Health Check")
        .header("Connection", "close")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_OUTPUT).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok::<_, Failure>((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let exchange = std::pin::pin!(exchange);
    let (status, body) = match futures_util::future::select(exchange, connection).await {
        futures_util::future::Either::Left((answer, _)) => answer?,
        futures_util::future::Either::Right((ended, exchange)) => {
            ended?;
            exchange.await?
        }
    };
    let state = match status.as_u16() {
        200..=299 => Status::Passing,
        429 => Status::Warning,
        _ => Status::Critical,
    };
    Ok((state, format!("HTTP {method} {url}: {status} Output: {body}")))
}
