//! A certificate authority in the test's process that speaks RFC 8555 over TLS, no kinder than a real one: every
//! request's signature, nonce, address and account are verified, answers to challenges are looked at over
//! sockets, and certificate requests have to be what was ordered. It fails where a test tells it to.

mod issue;
mod jws;
mod resources;
mod validate;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use issue::Issuing;
use resources::State;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What goes wrong, once, at a resource.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Status, last part of the type, words, `Retry-After` in seconds.
    Problem(u16, &'static str, &'static str, Option<u64>),
    /// A status with an HTML page.
    Status(u16, Option<u64>),
    /// 200 with something else than what was asked for.
    Nonsense,
    /// 200 with more than anybody reads.
    Endless,
    /// No answer.
    Hang,
    /// The end of the connection.
    Close,
    /// The nonce is refused, whatever it is.
    BadNonce,
}

/// TXT records of a name.
type Zone = Arc<dyn Fn(&str) -> Vec<String> + Send + Sync>;

/// Where the authority looks at answers.
#[derive(Clone)]
pub struct Look {
    pub http: Option<SocketAddr>,
    pub tls: Option<SocketAddr>,
    /// TXT records of a name.
    pub txt: Zone,
}

/// How the authority is; the default is a plain one.
#[derive(Clone)]
pub struct Manner {
    pub look: Look,
    /// Looks no sooner than it is told where to: ports are known after whoever has them asks for certificates.
    pub waits: bool,
    /// Challenges on offer; wildcards get `dns-01` only in any case.
    pub offers: Vec<&'static str>,
    /// Asks for this external account: identifier and key.
    pub eab: Option<(String, Vec<u8>)>,
    /// Looks at an order that it stays `processing` for.
    pub slow: usize,
    /// `Retry-After` of an order or an authorization that is not finished, in seconds.
    pub retry_after: Option<u64>,
    /// Names that are never issued.
    pub refuses: Vec<&'static str>,
    /// The order turns invalid after the certificate request.
    pub breaks: bool,
    /// Whether there is renewal information.
    pub ari: bool,
    /// Life of a certificate.
    pub life: Duration,
    /// Begin and end of certificates for certain names, in seconds from the moment of issue.
    pub dates: Vec<(&'static str, i64, i64)>,
    /// Issues for another name than ordered.
    pub wrong_name: bool,
    /// Name in the authority's own certificate.
    pub host: &'static str,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            look: Look { http: None, tls: None, txt: Arc::new(|_| Vec::new()) },
            waits: false,
            offers: vec!["http-01", "tls-alpn-01", "dns-01"],
            eab: None,
            slow: 0,
            retry_after: None,
            refuses: Vec::new(),
            breaks: false,
            ari: true,
            life: Duration::from_secs(90 * 86_400),
            dates: Vec::new(),
            wrong_name: false,
            host: "127.0.0.1",
        }
    }
}

/// What the handlers share.
pub struct Inner {
    pub base: String,
    pub manner: Mutex<Manner>,
    /// Told of each change of the manner.
    changed: Notify,
    issuing: Issuing,
    state: Mutex<State>,
    faults: Mutex<HashMap<&'static str, Vec<Fault>>>,
    /// Resources that were asked for, in order.
    asked: Mutex<Vec<String>>,
}

/// A running authority; dropped, it stops.
pub struct Ca {
    pub inner: Arc<Inner>,
    /// What its own certificate is verified with.
    pub root: String,
    stop: CancellationToken,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("not poisoned")
}

impl Ca {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let own = rcgen::generate_simple_self_signed([manner.host.to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("a pair");
        let inner = Arc::new(Inner {
            base: format!("https://{addr}"),
            manner: Mutex::new(manner),
            changed: Notify::new(),
            issuing: Issuing::new(),
            state: Mutex::default(),
            faults: Mutex::default(),
            asked: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let (shared, stopped) = (inner.clone(), stop.clone());
        tokio::spawn(stopped.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), shared.clone());
                tokio::spawn(stopped.clone().run_until_cancelled_owned(async move {
                    let Ok(tls) = acceptor.accept(stream).await else { return };
                    let serve = service_fn(|request| answer(shared.clone(), request));
                    // A fault ends connections; the client says what it makes of it.
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), serve).await;
                }));
            }
        }));
        Self { inner, root: own.cert.pem(), stop }
    }

    pub fn directory(&self) -> String {
        format!("{}/dir", self.inner.base)
    }

    /// The next requests for a resource (`dir`, `new-nonce`, `new-account`, `new-order`, `order`, `authz`, `chal`,
    /// `finalize`, `cert`, `ari`) go wrong in these ways, one after another.
    pub fn fault(&self, resource: &'static str, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.inner.faults).entry(resource).or_default().extend(faults);
    }

    /// How often a resource was asked for.
    pub fn asked(&self, resource: &str) -> usize {
        lock(&self.inner.asked).iter().filter(|asked| *asked == resource).count()
    }

    pub fn change(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut lock(&self.inner.manner));
        self.inner.changed.notify_waiters();
    }

    /// Forgets all accounts, as an authority that was set up anew.
    pub fn forget_accounts(&self) {
        lock(&self.inner.state).forget_accounts();
    }

    /// How many accounts there are, and the contacts of the last.
    pub fn accounts(&self) -> (usize, Vec<String>) {
        lock(&self.inner.state).accounts()
    }

    /// The profile and the replaced certificate of the last order.
    pub fn last_order(&self) -> (Option<String>, Option<String>) {
        lock(&self.inner.state).last_order()
    }

    /// The names of all orders that were taken, in order.
    pub fn ordered(&self) -> Vec<String> {
        lock(&self.inner.state).ordered()
    }

    /// Authorizations that wait for somebody.
    pub fn pending(&self) -> usize {
        lock(&self.inner.state).pending()
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

type Answer = Result<Response<Full<Bytes>>, std::io::Error>;

/// One request: a fault, or what the resource says.
async fn answer(inner: Arc<Inner>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let resource = parts.uri.path().trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
    let resource = if parts.uri.path().ends_with("/finalize") { "finalize".to_owned() } else { resource };
    lock(&inner.asked).push(resource.clone());
    let fault = lock(&inner.faults).get_mut(&*resource).filter(|all| !all.is_empty()).map(|all| all.remove(0));
    let made = |status: u16, kind: &str, retry_after: Option<u64>, body: Bytes| {
        let mut made = Response::builder().status(status).header("content-type", kind);
        if let Some(seconds) = retry_after {
            made = made.header("retry-after", seconds);
        }
        Ok(made.header("replay-nonce", resources::nonce(&inner)).body(Full::new(body)).expect("an answer"))
    };
    let problem = |status, kind: &str, words: &str| {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        Bytes::from(serde_json::json!({"type": kind, "detail": words, "status": status}).to_string())
    };
    match fault {
        None => {}
        Some(Fault::Problem(status, kind, words, retry)) => {
            return made(status, "application/problem+json", retry, problem(status, kind, words));
        }
        Some(Fault::Status(status, retry)) => return made(status, "text/html", retry, "<html>".into()),
        Some(Fault::Nonsense) => return made(200, "text/html", None, "<html>\u{1b}[31m".into()),
        Some(Fault::Endless) => return made(200, "application/json", None, vec![b' '; 2 * 1024 * 1024].into()),
        Some(Fault::Hang) => {
            return std::future::pending::<Result<_, Infallible>>().await.map_err(|never| match never {});
        }
        Some(Fault::Close) => return Err(std::io::Error::other("closed")),
        Some(Fault::BadNonce) => {
            return made(400, "application/problem+json", None, problem(400, "badNonce", "not good"));
        }
    }
    Ok(resources::answer(&inner, &parts, &body))
}
