//! Active health checks: one task for each server that is checked, on the control side's runtime.
//!
//! What always holds: a server that is new to its service and has a check gets no requests before its first check
//! has passed; a change of the table touches only the checks that it changes, all others keep their verdict and
//! their time; a check ends within its time-out, whatever the server does, and reads no body. So many at once, that
//! many servers that hang hold neither descriptors nor each other.

mod error;
mod grpc;
mod http;
mod tcp;

pub use error::ProbeError;

use super::resolve::Addresses;
use super::verdict::{Judge, Verdict};
use super::{ConnectError, Endpoint, Registry, ServerState, Settings, Transports};
use crate::model::{Difference, Map, ServerId};
use crate::table::tcp::{Servers as TcpServers, Service as TcpService, ServiceKind as TcpKind};
use crate::table::{Check, CheckKind, CheckScheme, Health, Server, Service};
use rand::Rng;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

/// Before a check is tried again that this machine could not make.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);
/// Checks that run at once.
const AT_ONCE: usize = 256;

/// Runs the checks of the table in force.
#[derive(Debug)]
pub struct Prober {
    registry: Arc<Registry>,
    transports: Transports,
    at_once: Arc<Semaphore>,
    running: RefCell<HashMap<ServerId, Running>>,
}

/// A server that is checked. Dropping it ends that.
#[derive(Debug)]
struct Running {
    target: Target,
    state: Arc<ServerState>,
    _task: AbortOnDropHandle<()>,
}

/// What is asked, and how to get there.
#[derive(Debug, Clone)]
struct Target {
    check: Check,
    endpoint: Endpoint,
    /// The server's own path.
    base: Option<Arc<str>>,
    settings: Arc<Settings>,
}

impl Target {
    fn of_http(server: &Server, health: &Health, settings: Arc<Settings>) -> Self {
        let scheme = match &health.check.kind {
            CheckKind::Http(http) => http.scheme,
            CheckKind::Grpc(grpc) => grpc.scheme,
            CheckKind::Tcp(_) => None,
        };
        let (tls, h2c) = match scheme {
            None => (server.tls, server.h2c),
            Some(CheckScheme::Http) => (false, false),
            Some(CheckScheme::Https) => (true, false),
            Some(CheckScheme::H2c) => (false, true),
        };
        let port = health.check.port.unwrap_or(server.port);
        let endpoint = Endpoint { tls, h2c, host: server.host.clone(), port };
        Self { check: health.check.clone(), endpoint, base: server.base.clone(), settings }
    }

    fn is_as(&self, other: &Self) -> bool {
        self.check == other.check
            && self.base == other.base
            && self.endpoint == other.endpoint
            && Arc::ptr_eq(&self.settings, &other.settings)
    }
}

impl Prober {
    /// Without any check. Tasks are spawned on the thread that calls [`Self::update`], in its `LocalSet`.
    pub fn new(registry: Arc<Registry>, transports: Transports) -> Self {
        Self { registry, transports, at_once: Arc::new(Semaphore::new(AT_ONCE)), running: RefCell::default() }
    }

    /// Takes up what changes from one table's services to the next one's; to be called before that is in force.
    pub fn update(&self, before: &Map<Arc<str>, Service>, after: &Map<Arc<str>, Service>) {
        for Difference { before, after, .. } in before.differences(after) {
            let checked = after.and_then(|service| Some((service, service.health.as_ref()?)));
            let has = |service: &Service, server: &Server| {
                service.servers.binary_search_by(|other| other.id.url.cmp(&server.id.url)).is_ok()
            };
            let gone = before.into_iter().flat_map(|service| &service.servers);
            for server in gone.filter(|server| !checked.is_some_and(|(service, _)| has(service, server))) {
                self.forget(&server.id);
            }
            let Some((service, health)) = checked else { continue };
            let settings = self.transports.of(service);
            for server in &service.servers {
                let known = before.is_some_and(|before| has(before, server));
                self.watch(&server.id, Target::of_http(server, health, settings.clone()), known);
            }
        }
    }

    /// The same for services of TCP.
    pub fn update_tcp(&self, before: &Map<Arc<str>, TcpService>, after: &Map<Arc<str>, TcpService>) {
        fn of(service: Option<&Arc<TcpService>>) -> Option<&TcpServers> {
            match &service?.kind {
                TcpKind::Servers(servers) => Some(servers),
                TcpKind::Weighted(_) => None,
            }
        }
        let has = |of: Option<&TcpServers>, id: &ServerId| {
            of.is_some_and(|of| of.servers.iter().any(|server| server.id == *id))
        };
        for Difference { before, after, .. } in before.differences(after) {
            let (before, after) = (of(before), of(after));
            let checked = after.and_then(|after| Some((after, after.health.as_ref()?)));
            let gone = before.into_iter().flat_map(|before| &before.servers);
            for server in gone.filter(|server| !has(checked.map(|(after, _)| after), &server.id)) {
                self.forget(&server.id);
            }
            let Some((after, check)) = checked else { continue };
            let settings = self.transports.named(&after.transport);
            for server in &after.servers {
                let port = check.port.unwrap_or(server.port);
                let endpoint = Endpoint { tls: server.tls, h2c: false, host: server.host.clone(), port };
                let target = Target { check: check.clone(), endpoint, base: None, settings: settings.clone() };
                self.watch(&server.id, target, has(before, &server.id));
            }
        }
    }

    /// Servers that are checked.
    pub fn len(&self) -> usize {
        self.running.borrow().len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the checks of a server; it counts as well then.
    fn forget(&self, id: &ServerId) {
        if let Some(running) = self.running.borrow_mut().remove(id) {
            running.state.judged(Verdict::Unchecked, None);
        }
    }

    fn watch(&self, id: &ServerId, target: Target, known: bool) {
        let mut running = self.running.borrow_mut();
        match running.get(id) {
            Some(now) if now.target.is_as(&target) => return,
            _ => {}
        }
        let state = self.registry.server(id);
        if !known {
            state.judged(Verdict::Awaited, None);
        }
        let watcher = Watcher {
            judge: Judge::new(state.verdict()),
            addresses: Rc::new(Addresses::new(target.endpoint.host.clone(), target.endpoint.port)),
            target: target.clone(),
            state: state.clone(),
            registry: self.registry.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::task::spawn_local(watcher.run(self.at_once.clone())));
        running.insert(id.clone(), Running { target, state, _task: task });
    }
}

/// Checks one server again and again.
struct Watcher {
    target: Target,
    addresses: Rc<Addresses>,
    judge: Judge,
    state: Arc<ServerState>,
    registry: Arc<Registry>,
}

impl Watcher {
    async fn run(mut self, at_once: Arc<Semaphore>) {
        let mut first = true;
        loop {
            let outcome = {
                let Ok(_permit) = at_once.acquire().await else { return };
                self.ask().await
            };
            let mut pause = self.take(outcome);
            if std::mem::take(&mut first) {
                // Checks that began together do not stay so.
                pause = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One check.
    async fn ask(&self) -> Result<(), ProbeError> {
        let Target { check, endpoint, base, settings } = &self.target;
        let limit = check.timeout;
        let work = async {
            match &check.kind {
                CheckKind::Http(check) => {
                    http::check(check, endpoint, base.as_deref(), &self.addresses, settings).await
                }
                CheckKind::Grpc(check) => grpc::check(check, endpoint, &self.addresses, settings).await,
                CheckKind::Tcp(check) => tcp::check(check, endpoint, &self.addresses, settings).await,
            }
        };
        tokio::time::timeout(limit, work).await.unwrap_or(Err(ProbeError::TimedOut(limit)))
    }

    /// Takes up what came of it; gives the time until the next one.
    fn take(&mut self, outcome: Result<(), ProbeError>) -> std::time::Duration {
        let Check { port, interval, unhealthy_interval, .. } = &self.target.check;
        if outcome.as_ref().is_err_and(ProbeError::is_ours) {
            tracing::debug!(server = %self.state.id().url, "a health check could not be made by this machine");
            return (*unhealthy_interval).min(AGAIN);
        }
        if port.is_none() {
            // What is seen at the server's own port counts for requests, too.
            match &outcome {
                Ok(()) => self.state.reachable(),
                Err(ProbeError::Connect(ConnectError::Refused)) => {
                    self.state.refused(self.registry.millis(Instant::now()));
                }
                Err(_) => {}
            }
        }
        let judged = self.judge.take(outcome.is_ok(), *interval, *unhealthy_interval);
        let why = outcome.as_ref().err().map(ToString::to_string);
        self.state.judged(judged.verdict, why.as_deref().map(Arc::from));
        if judged.changed {
            let (service, server) = (&self.state.id().service, &self.state.id().url);
            match &why {
                None => tracing::info!(%service, %server, "server is healthy"),
                Some(why) => tracing::warn!(%service, %server, %why, "server is unhealthy"),
            }
            self.registry.tell();
        }
        judged.pause
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody would ever judge it again.
            self.state.judged(Verdict::Unchecked, None);
        }
    }
}
