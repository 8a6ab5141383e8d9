//! The client: the storage, the running challenges and the limits that all orders share, and one HTTP
//! client for each authority.

use super::account::Accounts;
use super::ari::{self, Window};
use super::authority::Authority;
use super::challenge::Challenges;
use super::error::{AcmeError, Phase};
use super::issued::Issued;
use super::order::{self, Order};
use super::transport::{Transport, http_client};
use crate::certs::storage::Storage;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// HTTP clients kept; more authorities than that are not used at a time.
const HTTP_CLIENTS: usize = 16;

/// Limits and pauses. The defaults are right but for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Until a connection to the authority stands (10 s).
    pub connect: Duration,
    /// One request with its answer (30 s).
    pub request: Duration,
    /// First pause between two looks at what the authority does (250 ms), each half as long again as the last.
    pub first_pause: Duration,
    /// Longest such pause, and the most that the authority's `Retry-After` is obeyed between two looks (30 s).
    pub longest_pause: Duration,
    /// For the authority to look at all answers (3 min).
    pub validation: Duration,
    /// From the certificate request to the certificate (90 s).
    pub issue: Duration,
    /// For a DNS provider to take or to drop one record (60 s).
    pub provider: Duration,
    /// For a read or a write of the storage (10 s); NFS may hang.
    pub storage: Duration,
    /// For another instance that is making the account (30 s).
    pub account_lock: Duration,
    /// The whole order, with DNS propagation (20 min).
    pub order: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            connect: s(10),
            request: s(30),
            first_pause: Duration::from_millis(250),
            longest_pause: s(30),
            validation: s(180),
            issue: s(90),
            provider: s(60),
            storage: s(10),
            account_lock: s(30),
            order: s(1_200),
        }
    }
}

/// What an HTTP client depends on.
#[derive(PartialEq, Eq)]
struct Way {
    directory: String,
    roots: Vec<String>,
    system_roots: bool,
    server_name: Option<String>,
    request: Duration,
}

struct Inner {
    storage: Storage,
    challenges: Challenges,
    timing: Timing,
    accounts: Accounts,
    ways: Mutex<Vec<(Way, reqwest::Client)>>,
}

/// Orders certificates. Cloning is cheap.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("storage", &self.inner.storage).finish_non_exhaustive()
    }
}

/// Work on a thread of its own that took too long. The thread goes on; nobody waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Late;

/// Runs what blocks on a thread of its own, waiting at most `limit`.
pub(super) async fn blocking<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Late> {
    match tokio::time::timeout(limit, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(value)) => Ok(value),
        _ => Err(Late),
    }
}

impl Client {
    /// A client over the storage that account and challenges are shared through.
    pub fn new(storage: Storage, challenges: Challenges) -> Self {
        Self::with_timing(storage, challenges, Timing::default())
    }

    /// As [`Self::new`], with other limits.
    pub fn with_timing(storage: Storage, challenges: Challenges, timing: Timing) -> Self {
        let accounts = Accounts::new(storage.clone(), timing);
        Self { inner: Arc::new(Inner { storage, challenges, timing, accounts, ways: Mutex::default() }) }
    }

    /// Orders a certificate with a new key for all of these names. The account is the one in the
    /// storage, or is made; tokens stand in the challenges and in the storage while the order runs. Does not
    /// write the certificate, and takes no lock for it: that is the caller's business.
    ///
    /// # Errors
    /// No certificate; see [`AcmeError`].
    pub async fn order(&self, order: Order<'_>) -> Result<Issued, AcmeError> {
        order::run(self, order).await
    }

    /// When the authority wants a certificate (PEM, leaf first) renewed; `None` where it does not say
    /// (RFC 9773).
    ///
    /// # Errors
    /// No answer, one without sense, or no such certificate.
    pub async fn renewal_info(&self, authority: &Authority, chain_pem: &str) -> Result<Option<Window>, AcmeError> {
        let transport = self.transport(authority).await?;
        let id = ari::certificate_id(chain_pem)
            .map_err(|detail| AcmeError::Nonsense { phase: Phase::RenewalInfo, detail: detail.to_owned() })?;
        ari::ask(&transport, &authority.directory, &id, SystemTime::now()).await
    }

    /// A conversation with an authority, over a connection that may be open already.
    pub(super) async fn transport(&self, authority: &Authority) -> Result<Transport, AcmeError> {
        let timing = self.inner.timing;
        let request = authority.request_limit.unwrap_or(timing.request);
        let way = Way {
            directory: authority.directory.clone(),
            roots: authority.roots.clone(),
            system_roots: authority.system_roots,
            server_name: authority.server_name.clone(),
            request,
        };
        let known = self.ways().iter().find(|(other, _)| *other == way).map(|(_, http)| http.clone());
        if let Some(http) = known {
            return Ok(Transport::new(http, request));
        }
        let authority = authority.clone();
        let made = blocking(timing.storage, move || http_client(&authority, timing.connect, request)).await;
        let late = |_| AcmeError::Config("the system's root certificates cannot be read in time".to_owned());
        let http = made.map_err(late)??;
        let mut ways = self.ways();
        if ways.len() >= HTTP_CLIENTS {
            ways.remove(0);
        }
        ways.push((way, http.clone()));
        Ok(Transport::new(http, request))
    }

    fn ways(&self) -> std::sync::MutexGuard<'_, Vec<(Way, reqwest::Client)>> {
        self.inner.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    pub(super) fn challenges(&self) -> &Challenges {
        &self.inner.challenges
    }

    pub(super) fn timing(&self) -> &Timing {
        &self.inner.timing
    }

    pub(super) fn accounts(&self) -> &Accounts {
        &self.inner.accounts
    }
}
