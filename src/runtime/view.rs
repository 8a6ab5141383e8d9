//! The admin API's view: everything read from where it lives, nothing kept.

use super::certificates::Certifying;
use super::credentials::Credentials;
use super::doors::Activation;
use super::keep::Trouble;
use super::rest::Rest;
use super::state::State;
use super::transport::TransportProblems;
use crate::api::{self, Connections, Documents, Readiness, Routing, ServerConnections, Source};
use crate::catalog::{SourceState, SourceStatus};
use crate::certs::{Certificate, Store as Certificates};
use crate::config::ADMIN_ENTRY_POINT;
use crate::config::{Bound, EntryPoint};
use crate::diagnostic::{Diagnostic, Origin};
use crate::explain::{self, Catalog, Door, Scene, State as ServerState};
use crate::model::{Provider, ServerId};
use crate::observe::access::AccessLog;
use crate::observe::metrics::{CertificateFact, Facts, Metrics, ProviderFact, ServerFact};
use crate::proxy::worker::Gauges;
use crate::table::Server;
use crate::tags::TagOptions;
use crate::upstream::Registry;
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// Implements [`api::Source`] over what the runtime holds.
pub(super) struct View {
    pub state: Arc<State>,
    pub registry: Arc<Registry>,
    pub certificates: Certificates,
    pub certifying: Option<Certifying>,
    /// Time before the end of a certificate from which it is told.
    pub warn_before: Duration,
    pub metrics: Arc<Metrics>,
    /// What each worker is doing.
    pub gauges: Vec<Arc<Gauges>>,
    /// `metrics.prometheus` is on.
    pub metrics_on: bool,
    pub access: Option<AccessLog>,
    pub entry_points: Vec<EntryPoint>,
    pub bound: Arc<ArcSwap<Bound>>,
    /// Where a standby is asked for the public ports.
    pub activate: mpsc::Sender<Activation>,
    /// What writing the last good state suffers from.
    pub trouble: Option<Trouble>,
    /// Takes dynamic configuration, and whether without a token.
    pub rest: Option<(Arc<Rest>, bool)>,
    /// The entry points as questions see them.
    pub doors: Vec<Door>,
    /// How tags are read.
    pub tag_options: BTreeMap<Provider, TagOptions>,
    /// The catalog that wins between equal routers.
    pub primary: Provider,
    pub credentials: Credentials,
    pub transport_problems: TransportProblems,
    /// Peers that may use services; `None` means all.
    pub services_allow: Option<Arc<[ipnet::IpNet]>>,
}

/// [`Documents`] over the REST provider.
struct Takes(Arc<Rest>, bool);

impl Documents for Takes {
    fn insecure(&self) -> bool {
        self.1
    }

    fn limit(&self) -> usize {
        crate::declare::rest::MAX_BODY_BYTES
    }

    fn put(&self, body: Vec<u8>) -> BoxFuture<'_, Result<Vec<Diagnostic>, Vec<Diagnostic>>> {
        Box::pin(self.0.put(body))
    }
}

/// How long a worker's death is a problem; the metric tells of it for ever.
const DEATH_TOLD: Duration = Duration::from_secs(24 * 3_600);

/// What servers do, by the registry.
struct Live(Arc<Registry>, BTreeMap<ServerId, ServerState>);

impl explain::Servers for Live {
    fn state(&self, id: &ServerId) -> ServerState {
        // nobody has sent it anything so far
        self.1.get(id).cloned().unwrap_or(ServerState { up: Some(true), in_flight: Some(0), why: None })
    }

    fn turn(&self, service: &Arc<str>) -> u32 {
        self.0.turn(service)
    }
}

impl View {
    fn facts(&self, admin: usize) -> Facts {
        let now = SystemTime::now();
        let table = self.state.table.load();
        let problems = self.problems();
        let errors = problems.iter().filter(|d| d.is_error()).count();
        let providers = self.state.statuses().into_iter().map(|s| ProviderFact {
            provider: s.provider,
            connected: s.state == SourceState::Connected,
            last_contact: s.last_contact,
            services: s.services_seen,
        });
        let certificates = self.certificates.certificates(now);
        let broken_certificates = certificates.iter().filter(|c| c.problem.is_some()).count();
        let certificates = certificates.into_iter().filter_map(|c| {
            Some(CertificateFact {
                common_name: c.common_name,
                sans: c.names.join(","),
                serial: c.serial,
                not_after: c.not_after?,
            })
        });
        let servers = table.services.values().flat_map(|service| &service.servers).map(|server| ServerFact {
            service: server.id.service.clone(),
            url: server.id.url.clone(),
            up: self.server_up(&server.id),
        });
        Facts {
            providers: providers.collect(),
            certificates: certificates.collect(),
            broken_certificates,
            orders: self.certifying.as_ref().map(|certifying| certifying.orders().list()).unwrap_or_default(),
            servers: servers.collect(),
            mirrored: self.registry.copies(),
            waiting: self.gauges.iter().map(|gauges| gauges.waiting.load(Relaxed)).sum(),
            queued: self.registry.queued(),
            routers: table.routers.len(),
            services: table.services.len(),
            errors,
            warnings: problems.len() - errors,
            connections: vec![(Arc::from(ADMIN_ENTRY_POINT), i64::try_from(admin).unwrap_or(i64::MAX))],
            worker_deaths: self.state.deaths.borrow().count,
            dropped_lines: self.access.as_ref().map_or(0, AccessLog::dropped),
        }
    }
}

impl View {
    /// Workers that died, as long as the last one did not long ago.
    fn dead_workers(&self, now: SystemTime) -> Option<Diagnostic> {
        let deaths = self.state.deaths.borrow();
        let lately = now.duration_since(deaths.at()).unwrap_or_default() < DEATH_TOLD;
        (deaths.count > 0 && lately).then(|| {
            let (count, last) = (deaths.count, &deaths.last);
            let at = jiff::Timestamp::try_from(deaths.at()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            let message = format!("worker processes died: {count} since the start, the last one at {at} ({last})");
            Diagnostic::warning("worker_died", message)
                .with_help("the log tells more; connections that it had are lost")
        })
    }

    /// Services all of whose servers are thought unable to answer, each with what speaks against one of them.
    fn without_healthy_server(&self) -> Vec<Diagnostic> {
        let table = self.state.table.load();
        let down = self.registry.down(Instant::now());
        let of_one_service = down.chunk_by(|a, b| a.0.service == b.0.service);
        let problem = |down: &[(ServerId, Arc<str>)]| {
            let (id, why) = down.first()?;
            let service = table.services.get(&id.service)?;
            let is_down = |server: &Arc<Server>| down.binary_search_by(|other| other.0.cmp(&server.id)).is_ok();
            if service.servers.is_empty() || !service.servers.iter().all(is_down) {
                return None;
            }
            let (count, name) = (service.servers.len(), &service.id);
            let message = format!("service `{name}` has no healthy server of {count}: `{}`: {why}", id.url);
            let origin =
                Origin { provider: name.rsplit_once('@').map(|(_, provider)| provider.into()), ..Origin::default() };
            Some(Diagnostic::warning("no_healthy_server", message).with_origin(origin))
        };
        of_one_service.filter_map(problem).collect()
    }
}

impl Source for View {
    fn routing(&self) -> Routing {
        let table = self.state.table.load();
        let mut middlewares: Vec<_> = table.routers.values().flat_map(|r| r.all_middlewares().cloned()).collect();
        middlewares.sort_by(|a, b| a.id.cmp(&b.id));
        middlewares.dedup_by(|a, b| a.id == b.id);
        Routing {
            routers: table.routers.values().cloned().collect(),
            services: table.services.values().cloned().collect(),
            middlewares,
            refused: self.state.refused(),
            tcp: table.tcp.clone(),
            tcp_refused: self.state.refused_tcp(),
        }
    }

    fn statuses(&self) -> Vec<SourceStatus> {
        self.state.statuses()
    }

    fn problems(&self) -> Vec<Diagnostic> {
        let mut problems = self.state.problems();
        let now = SystemTime::now();
        problems.extend(self.certificates.diagnostics(now));
        problems.extend(self.certificates.expiring(now, self.warn_before));
        problems.extend(self.certifying.iter().flat_map(|certifying| certifying.problems().to_vec()));
        problems.extend(self.credentials.problems());
        problems.extend(self.transport_problems.list());
        problems.extend(self.trouble.as_ref().and_then(Trouble::now));
        problems.extend(self.dead_workers(SystemTime::now()));
        problems.extend(self.without_healthy_server());
        problems
    }

    fn history(&self) -> Vec<api::Change> {
        self.state.history()
    }

    fn entry_points(&self) -> Vec<EntryPoint> {
        self.entry_points.clone()
    }

    fn bound(&self) -> Bound {
        (**self.bound.load()).clone()
    }

    fn certificates(&self) -> Vec<Certificate> {
        self.certificates.certificates(SystemTime::now())
    }

    fn readiness(&self) -> Readiness {
        Readiness {
            terminating: self.state.is_terminating(),
            standby: self.state.standby.load(Relaxed),
            // The API is served only once everything is bound that is to be.
            listeners_bound: !self.state.standby.load(Relaxed),
            last_good_loaded: self.state.restored.load(Relaxed),
            control_failing: self.state.control_failing.load(Relaxed),
        }
    }

    fn scene(&self) -> (Scene, Box<dyn explain::Servers>) {
        let now = SystemTime::now();
        let refused = self.state.refused().into_iter().map(|refused| explain::Refused {
            id: refused.id,
            router: refused.router,
            errors: refused.errors,
        });
        let scene = Scene {
            table: self.state.table.load_full(),
            secure: None,
            doors: self.doors.clone(),
            problems: self.problems(),
            refused: refused.collect(),
            world: self.state.world(),
            options: self.tag_options.clone(),
            primary: self.primary,
            catalogs: self.state.statuses().iter().map(|status| Catalog::of(status, now)).collect(),
            admission: explain::Admission {
                services: self.services_allow.clone(),
                user_files: Some(self.credentials.files()),
            },
        };
        let servers = self.registry.servers(Instant::now()).into_iter().map(|server| {
            let why = server.trouble;
            (server.id, ServerState { up: Some(!server.ejected), in_flight: Some(server.in_flight), why })
        });
        let servers = Live(self.registry.clone(), servers.collect());
        (scene, Box::new(servers))
    }

    fn server_up(&self, id: &ServerId) -> bool {
        self.registry.is_up(id, Instant::now())
    }

    fn connections(&self) -> BoxFuture<'_, Connections> {
        Box::pin(async move {
            let servers = self.registry.servers(Instant::now()).into_iter().map(|server| ServerConnections {
                service: server.id.service,
                url: server.id.url,
                in_flight: server.in_flight as usize,
            });
            Connections {
                entry_points: self.metrics.connections().await,
                routers: Vec::new(),
                servers: servers.collect(),
            }
        })
    }

    fn metrics_text(&self, admin: usize) -> BoxFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            if !self.metrics_on {
                return None;
            }
            Some(self.metrics.text(&self.facts(admin), Instant::now(), SystemTime::now()).await)
        })
    }

    fn forget(&self) -> usize {
        self.state.forget()
    }

    fn activate(&self) -> BoxFuture<'_, Result<Bound, String>> {
        Box::pin(async move {
            let ended = || "the process is ending".to_owned();
            let (tell, told) = oneshot::channel();
            self.activate.send(tell).await.map_err(|_| ended())?;
            told.await.unwrap_or_else(|_| Err(ended()))
        })
    }

    fn documents(&self) -> Option<Arc<dyn Documents>> {
        let (rest, insecure) = self.rest.clone()?;
        Some(Arc::new(Takes(rest, insecure)))
    }
}
