//! Certificates that are ordered: what the table wants, the keeper that has it ordered, and what the data side asks of it.
//! Without a certificate resolver nothing of this runs.

mod ask;
mod entry;
mod keeper;
mod kept;
mod record;
mod resolvers;
mod wanted;
mod work;

use super::state::State;
use super::{StartError, absolute, system};
use crate::acme::limits::{Ledger, Limits};
use crate::acme::{Challenges, Client};
use crate::certs::{self, Store as Certificates};
use crate::config::Settled;
use crate::diagnostic::Diagnostic;
use crate::proxy::{Certifier, Known};
use ask::Gate;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use keeper::{Ask, Keeper, Published};
pub(super) use kept::{Kept, mirror_root};
use record::Record;
use rustls::ServerConfig;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use wanted::{Rules, Tracker};
use work::Tools;

/// Questions of the data side that wait to be read.
const ASKS: usize = 1_024;

/// By resolver and outcome.
type Counts = BTreeMap<(Arc<str>, &'static str), u64>;

/// Orders since the start.
#[derive(Debug, Clone, Default)]
pub(super) struct Orders(Arc<Mutex<Counts>>);

impl Orders {
    fn count(&self, resolver: &Arc<str>, outcome: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((resolver.clone(), outcome)).or_default() += 1;
    }

    /// All of them.
    pub fn list(&self) -> Vec<(Arc<str>, &'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((resolver, outcome), count)| (resolver.clone(), *outcome, *count)).collect()
    }
}

/// The way to the keeper. Cloning is cheap; the keeper's thread ends with the last clone.
#[derive(Clone)]
pub(super) struct Certifying {
    certificates: Certificates,
    challenges: Challenges,
    /// What handshakes of authorities go by.
    config: Arc<ServerConfig>,
    published: Arc<Published>,
    asks: mpsc::Sender<Ask>,
    active: watch::Sender<bool>,
    orders: Orders,
}

impl fmt::Debug for Certifying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certifying").finish_non_exhaustive()
    }
}

impl Certifying {
    /// Starts the keeper; `None` where no resolver is configured. Nothing is ordered before [`Self::activate`].
    ///
    /// # Errors
    /// No thread can be had, or TLS cannot be set up.
    pub fn start(
        settled: &Settled,
        certificates: Certificates,
        kept: Kept,
        state: Arc<State>,
    ) -> Result<Option<Self>, StartError> {
        let Some(rules) = Rules::of(settled) else { return Ok(None) };
        let (resolvers, mut misconfigured) = resolvers::all(settled);
        let on_demand = settled.certificates.on_demand.as_ref();
        let limits = on_demand.map_or_else(Limits::default, |said| Limits {
            per_domain: said.per_domain,
            per_process: said.per_process,
            per_service: said.per_service,
            remember: said.remember,
        });
        let gate = match on_demand.and_then(|said| said.ask.as_deref()).map(Gate::new).transpose() {
            Ok(gate) => gate,
            Err(why) => {
                let message = format!("nobody can be asked for certificates on demand: {why}");
                misconfigured.push(Diagnostic::error("bad_value", message));
                None
            }
        };
        let challenges = Challenges::default();
        let config = certs::challenge_config(Arc::new(ByChallenge(challenges.clone())))?;
        let Kept { storage, root, mirror } = kept;
        let client = Arc::new(Client::new(storage.clone(), challenges.clone()));
        let (published, orders) = (Arc::<Published>::default(), Orders::default());
        let (asks, asked) = mpsc::channel(ASKS);
        let (active, is_active) = watch::channel(false);
        let handle = Self {
            certificates: certificates.clone(),
            challenges: challenges.clone(),
            config,
            published: published.clone(),
            asks,
            active,
            orders: orders.clone(),
        };
        let record = Record::new(&absolute(&settled.own.state_dir));
        let keeper = move || Keeper {
            tools: Tools { client, storage, certificates, root, mirror },
            challenges,
            tracker: Tracker::new(rules),
            state,
            resolvers,
            misconfigured,
            limits,
            gate,
            published,
            orders,
            entries: BTreeMap::new(),
            ledger: Ledger::default(),
            record,
            begun: VecDeque::new(),
            running: JoinSet::new(),
            tasks: HashMap::new(),
            questions: JoinSet::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(32).build();
        let runtime = runtime.map_err(system("the runtime of the certificates' keeper"))?;
        let run = move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, keeper().run(asked, is_active));
            // Whoever hangs in a storage does not keep the process.
            drop(local);
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("certificates".to_owned());
        drop(thread.spawn(run).map_err(system("the certificates' keeper"))?);
        Ok(Some(handle))
    }

    /// This process is the active proxy from now on, or no longer.
    pub fn activate(&self, active: bool) {
        self.active.send_replace(active);
    }

    /// What is wrong with orders now.
    pub fn problems(&self) -> Arc<Vec<Diagnostic>> {
        self.published.problems.load_full()
    }

    /// Orders so far.
    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// A question to the keeper; ends with its answer, or at once where it has too many.
    fn ask(&self, question: impl FnOnce(oneshot::Sender<()>) -> Ask) -> Option<BoxFuture<'static, ()>> {
        let (reply, answer) = oneshot::channel();
        self.asks.try_send(question(reply)).ok()?;
        Some(answer.map(drop).boxed())
    }
}

/// A host as names are known: in lower case, without the root's dot.
fn known(host: &str) -> Arc<str> {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase().into()
}

impl Certifier for Certifying {
    fn http_challenge(&self, host: &str, token: &str) -> Known<Arc<str>> {
        if let Some(authorization) = self.challenges.http(token) {
            return Known::Yes(authorization);
        }
        let Some(looked) = self.ask(|reply| Ask::Challenge(known(host), reply)) else { return Known::No };
        let (challenges, token) = (self.challenges.clone(), token.to_owned());
        Known::Ask(looked.map(move |()| challenges.http(&token)).boxed())
    }

    fn tls_challenge(&self, host: &str) -> Known<Arc<ServerConfig>> {
        let host = known(host);
        if self.challenges.tls_alpn(&host).is_some() {
            return Known::Yes(self.config.clone());
        }
        let Some(looked) = self.ask(|reply| Ask::Challenge(host.clone(), reply)) else { return Known::No };
        let (challenges, config) = (self.challenges.clone(), self.config.clone());
        Known::Ask(looked.map(move |()| challenges.tls_alpn(&host).map(|_| config)).boxed())
    }

    fn coming(&self, host: &str) -> Option<BoxFuture<'static, ()>> {
        let host = host.strip_suffix('.').unwrap_or(host);
        if self.certificates.covers(host, SystemTime::now()) || !*self.active.borrow() {
            return None;
        }
        let host = known(host);
        self.published.wants.load().find(&host)?;
        self.ask(|reply| Ask::Certificate(host, reply))
    }
}

/// Chooses the certificate of an authority's handshake.
#[derive(Debug)]
struct ByChallenge(Challenges);

impl rustls::server::ResolvesServerCert for ByChallenge {
    fn resolve(&self, hello: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.0.tls_alpn(&known(hello.server_name()?))
    }
}
