//! Starts everything in order, runs the control side on one small runtime, and ends it in order. The only place that
//! spawns what lives as long as the process.
//!
//! Start: cryptography, log, certificates, sockets, last good state, workers, watchers, admin API. The last good table is in
//! force before the first connection is accepted; ports in use and other faults are told before anything runs. Where
//! another process serves until now, or connections wait for one that died, the catalogs are read before the first is
//! accepted, if they answer soon.
//! End: `/ready` turns to 503, listeners stay open for `requestAcceptGraceTimeout`, then the workers drain.

mod allocations;
mod certificates;
mod control;
mod control_plane;
mod credentials;
mod departed;
mod direct;
mod doors;
mod files;
pub mod holder;
mod keep;
mod life;
mod notify;
mod providers;
mod rest;
mod signals;
mod source;
mod standby;
mod state;
#[cfg(test)]
mod tests;
mod tls;
mod translate;
mod transport;
mod view;
mod webhook;

pub(crate) use files::read as read_files;
pub(crate) use translate::{build_options, entry_point, services_allow, tag_options};

use crate::api::Admin;
use crate::catalog::{self, Before, Spawn};
use crate::certs::{self, Store as Certificates};
use crate::config::{self, Bound, Input, Settled};
use crate::diagnostic::{Diagnostic, Severity};
use crate::listen::{ListenError, Listening};
use crate::observe::access::{self, AccessLogError, AccessLogWriter};
use crate::observe::log::{self, Log, LogError};
use crate::observe::metrics::Metrics;
use crate::proxy::worker::WorkerHandle;
use crate::table::{Planner, Store, Stored, Transport};
use crate::tags::{self, Decoder};
use crate::upstream::{self, Prober, Registry, Transports};
use arc_swap::ArcSwap;
use certificates::Certifying;
use control::Control;
use credentials::Credentials;
use direct::Direct;
use doors::Doors;
use holder::channel::{Why, Word};
use keep::{Keeper, LastGood, Pen};
use life::Ending;
use rest::Rest;
use source::Source;
use state::State;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;
use transport::{Loaded, Loader};

/// How the process takes part in its surroundings; a test runs the proxy without.
#[derive(Debug, Default)]
pub struct Options {
    /// Where the configuration came from, for SIGHUP.
    pub reload: Option<Input>,
    /// Listen to signals.
    pub signals: bool,
    /// Set up the process's log.
    pub log: bool,
    /// Where readiness is told, where no holder does ([`notify`]).
    pub notify_fd: Option<u32>,
    /// On SIGTERM the holder is let go once the ports are closed.
    pub detach_drain: bool,
}

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The access log cannot be written.
    #[error(transparent)]
    Access(#[from] AccessLogError),
    /// A port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The socket of a standby cannot be had.
    #[error(transparent)]
    Standby(#[from] standby::StandbyError),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The certificates to trust towards servers.
    #[error(transparent)]
    Transport(#[from] transport::TransportError),
    /// A provider's endpoint, token or certificates make no sense.
    #[error("provider `{provider}`: {message}")]
    Provider {
        /// Name of the provider.
        provider: &'static str,
        /// Why.
        message: String,
    },
    /// The system gave no thread, runtime or signal handler.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// The answer.
        source: std::io::Error,
    },
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// A running proxy. Dropping it ends it at once.
#[derive(Debug)]
pub struct Running {
    bound: Bound,
    root: Option<PathBuf>,
    read: mpsc::Receiver<()>,
    stop: CancellationToken,
    thread: Option<JoinHandle<u8>>,
}

impl Running {
    /// Where the entry points listen.
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// File of the local root certificate, which signs where the certificate directory has nothing for a host.
    pub fn root_certificate(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Waits until every catalog has been read and its services are in the table, or for `limit`.
    pub fn wait_until_read(&self, limit: Duration) {
        // The sender is dropped, not used, when it is so; a time-out is no fault either.
        let _ = self.read.recv_timeout(limit);
    }

    /// Waits until it ends by a signal. Gives the exit code.
    pub fn join(mut self) -> u8 {
        self.wait()
    }

    /// Drains and ends it, as SIGTERM does.
    pub fn stop(mut self) -> u8 {
        self.stop.cancel();
        self.wait()
    }

    fn wait(&mut self) -> u8 {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(code)) => code,
            Some(Err(_)) => FAILED,
            None => 0,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        self.wait();
    }
}

/// Where the process stands beside others.
#[derive(Debug, Default)]
pub struct Place {
    /// Who started it, to do the work for it.
    pub holder: Option<holder::Link>,
    /// The path of a Unix socket to serve on instead of the public ports, until they are asked for.
    pub standby: Option<PathBuf>,
}

/// Starts the proxy on threads of its own.
///
/// # Errors
/// What keeps it from starting, before it has served anything.
pub fn start(loaded: config::Loaded, options: Options) -> Result<Running, StartError> {
    start_in(loaded, options, Place::default())
}

/// Starts the proxy in its place beside others.
///
/// # Errors
/// As [`start`].
pub fn start_in(loaded: config::Loaded, options: Options, mut place: Place) -> Result<Running, StartError> {
    certs::install_provider();
    let config::Loaded { settled, diagnostics, notes, default_entry_points } = loaded;
    let log = if options.log { Some(log::init(&translate::log_options(&settled.log))?) } else { None };
    for note in &notes {
        tracing::info!("{note}");
    }
    diagnostics.iter().for_each(tell);

    let state_dir = absolute(&settled.own.state_dir);
    let certificates = Certificates::open(&store_options(&settled));
    let documents = settled.certificates.resolvers.values().filter_map(|resolver| resolver.storage.as_deref());
    certificates.import(documents.map(absolute).collect());
    let tls = Arc::new(tls::TlsConfigs::new(certificates.clone(), certs::server_config(&certificates)?));
    let access = match &settled.access_log {
        Some(log) => Some(access::start(translate::access_options(log))?),
        None => None,
    };
    let transport = Arc::new(translate::default_transport(&settled));
    let loaded = transport::load(&transport).or_fail()?;
    let nomad_tls = control_plane::nomad(&settled).and_then(|(_, tls)| tls).map(transport::agent_config).transpose()?;

    let held = place.holder.as_mut().map(|link| std::mem::take(&mut link.held)).unwrap_or_default();
    let (doors, fresh) = doors::bind(&settled, place.standby.as_deref(), held)?;
    if let Some(link) = &place.holder {
        link.offer(fresh);
    }
    let bound = doors.bound();
    doors::tell(&bound);

    let stop = CancellationToken::new();
    let state = Arc::new(State::new(settled.own.history_size, diagnostics));
    let kept = certificates::Kept::of(&settled, &certificates)?;
    let mirror = kept.mirror.clone();
    let certifying = Certifying::start(&settled, certificates.clone(), kept, state.clone())?;
    let root = certificates.root_pem_path();
    let parts = Parts {
        state,
        registry: Arc::new(Registry::new(Instant::now()).with_panic_threshold(settled.own.panic_threshold)),
        metrics: Arc::new(Metrics::new(translate::metrics_options(settled.metrics.as_ref()))),
        settled,
        default_entry_points,
        state_dir,
        certificates,
        certifying,
        _mirror: mirror,
        tls,
        transport: std::cell::Cell::new(Some((transport, loaded))),
        credentials: Credentials::default(),
        nomad_tls,
        access,
        log,
        bound: Arc::new(ArcSwap::from_pointee(bound.clone())),
        stop: stop.clone(),
    };
    let (tell, told) = mpsc::channel();
    let (unread, read) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(e) => {
                    drop(tell.send(Err(system("the control runtime")(e))));
                    return FAILED;
                }
            };
            let local = tokio::task::LocalSet::new();
            let code = local.block_on(&runtime, parts.run(doors, options, place.holder, tell, unread));
            // Whoever hangs in a blocking call (a name server, a file) does not keep the process.
            runtime.shutdown_background();
            code
        })
        .map_err(system("the control thread"))?;
    // The thread tells exactly once; it can only be silent by a panic, which the join shows.
    match told.recv() {
        Ok(Ok(())) => Ok(Running { bound, root, read, stop, thread: Some(thread) }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(system("the control thread")(std::io::ErrorKind::Interrupted.into())),
    }
}

/// Where certificates are read, and who signs for hosts without one.
pub(crate) fn store_options(settled: &Settled) -> certs::StoreOptions {
    let state_dir = absolute(&settled.own.state_dir);
    certs::StoreOptions {
        directory: absolute(&settled.certificates.directory),
        local_root: state_dir.join("local"),
        copy: Some(state_dir.join("certificates")),
        mirror: certificates::mirror_root(settled),
        self_signed: settled.certificates.self_signed,
    }
}

/// A path that stays right whatever the working directory is.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Logs a diagnostic at its severity, with its place as fields.
fn tell(diagnostic: &Diagnostic) {
    let Diagnostic { severity, code, origin, message, help, .. } = diagnostic;
    let code = &**code;
    let (provider, service) = (origin.provider.as_deref(), origin.service.as_deref());
    let (tag, file, help) = (origin.tag.as_deref(), origin.file.as_deref(), help.as_deref());
    let (line, column) = (origin.line, origin.column);
    match severity {
        Severity::Error => tracing::error!(code, provider, service, tag, file, line, column, help, "{message}"),
        Severity::Warning => tracing::warn!(code, provider, service, tag, file, line, column, help, "{message}"),
    }
}

/// What the control thread is given.
struct Parts {
    settled: Settled,
    /// `web` and `websecure` are the built-in ones, with HinD's redirect between them.
    default_entry_points: bool,
    state_dir: PathBuf,
    state: Arc<State>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    certificates: Certificates,
    /// Who has certificates ordered, where somebody does.
    certifying: Option<Certifying>,
    /// Keeps what Consul has of certificates.
    _mirror: Option<certs::Mirror>,
    tls: Arc<tls::TlsConfigs>,
    /// How servers are reached by default; taken by [`Parts::begin`].
    transport: std::cell::Cell<Option<(Arc<Transport>, Loaded)>>,
    credentials: Credentials,
    /// To the Nomad of the control-plane site, where that is HTTPS.
    nomad_tls: Option<Arc<rustls::ClientConfig>>,
    access: Option<AccessLogWriter>,
    log: Option<Log>,
    /// Where the entry points listen.
    bound: Arc<ArcSwap<Bound>>,
    stop: CancellationToken,
}

type Tell = mpsc::Sender<Result<(), StartError>>;
/// Dropped once every catalog has been read and its services are in the table.
type Unread = mpsc::Sender<()>;

impl Parts {
    /// The control thread's life. Gives the exit code.
    async fn run(self, doors: Doors, options: Options, link: Option<holder::Link>, tell: Tell, unread: Unread) -> u8 {
        let why = link.as_ref().map_or(Why::First, |link| link.why);
        if let Some(link) = &link {
            self.state.deaths.send_replace(link.deaths.clone());
        }
        let deaths = self.state.deaths.clone();
        let mut signals = match options.signals.then(|| signals::Stream::open(link, deaths)).transpose() {
            Ok(signals) => signals,
            Err(e) => {
                drop(tell.send(Err(system("signal handlers")(e))));
                return FAILED;
            }
        };
        let watchers = CancellationToken::new();
        let mut started = match self.begin(why, &watchers, unread) {
            Ok(started) => started,
            Err(e) => {
                drop(tell.send(Err(e)));
                return FAILED;
            }
        };
        let mut closed = Some(doors);
        if why == Why::First
            && let Some(doors) = closed.take()
            && let Err(e) = self.open(doors, &mut started, true)
        {
            drop(tell.send(Err(e)));
            return FAILED;
        }
        if why == Why::First {
            self.order_certificates(true);
        }
        let holder = |signals: &Option<signals::Stream>, word| {
            signals.as_ref().and_then(signals::Stream::holder).into_iter().for_each(|holder| holder.say(&word));
        };
        holder(&signals, Word::Started);
        if tell.send(Ok(())).is_err() {
            return FAILED;
        }
        let mut ending = None;
        let took_over = closed.is_some();
        if let Some(doors) = closed {
            if why == Why::Replace {
                tracing::warn!("started in place of a worker that died");
            }
            ending = self.take_over(why, &mut signals, &mut started, doors).await;
        }
        if ending.is_none() && took_over {
            holder(&signals, Word::Ready);
        }
        let Options { reload, notify_fd, detach_drain, .. } = options;
        let ending = match ending {
            Some(ending) => ending,
            None => self.serve(&mut signals, reload, &mut started, (!took_over).then_some(notify_fd)).await,
        };
        match ending {
            Ending::Defect(what) => tracing::error!("{what} ended by a defect; ending, to be started again"),
            Ending::NotReady => tracing::error!("ending: not ready in time to take over"),
            Ending::HolderGone => tracing::error!("the holder is gone, and the sockets with it; ending"),
            Ending::Asked | Ending::Retired => {}
        }
        self.drain(ending, detach_drain, &started, &mut signals).await;
        watchers.cancel();
        // Where the control loop is what ended, there is nothing to wait for.
        if !started.control.is_finished()
            && let Ok(Some(keeper)) = started.control.await
        {
            keeper.finish(LAST_WRITE);
        }
        started.workers.into_iter().for_each(WorkerHandle::join);
        if let Some(access) = self.access {
            access.close(LAST_WRITE);
        }
        tracing::info!("ended");
        match ending {
            Ending::Asked | Ending::Retired => 0,
            Ending::Defect(_) | Ending::NotReady | Ending::HolderGone => FAILED,
        }
    }

    /// Puts the last good table in force, then starts workers, watchers and control loop; nothing is accepted yet.
    fn begin(&self, why: Why, watchers: &CancellationToken, unread: Unread) -> Result<Started, StartError> {
        let store = Store::new(&self.state_dir, "last-good.json");
        let restored = self.restore(&store);
        let max_age = self.settled.own.last_good_max_age;
        let keeper = match max_age {
            Some(_) => Some(Keeper::start(store).map_err(system("the keeper thread"))?),
            None => None,
        };
        let trouble = keeper.as_ref().map(Keeper::trouble);
        let pen = keeper.as_ref().map(Keeper::pen);
        if why == Why::Upgrade {
            pen.iter().for_each(Pen::hold);
        }
        let sources = self.watch(watchers, &restored)?;
        let (tag_options, build_options) =
            (translate::tag_options(&self.settled), translate::build_options(&self.settled));
        let linger_for = self.settled.own.linger_for;
        let fresh = move || (Decoder::new(tag_options.clone()), Planner::new(build_options.clone(), linger_for));
        let (decoder, planner) = fresh();
        let (direct, rest, files) = self.direct(&restored)?;
        let loader = Loader::new();
        let transports = self.transports(&loader);
        let mut control = Control {
            state: self.state.clone(),
            transports: transports.clone(),
            prober: Prober::new(self.registry.clone(), transports.clone()),
            allocations: allocations::Allocations::new(self.registry.clone()),
            tls: self.tls.clone(),
            sources,
            direct,
            restored: restored.world,
            restored_indexes: restored.indexes,
            fresh: Box::new(fresh),
            decoder,
            planner,
            metrics: self.metrics.clone(),
            keeper,
            confirm_every: max_age.unwrap_or_default().div_f64(8.0).clamp(CONFIRM.0, CONFIRM.1),
            kept: None,
            unread: Some(unread),
            applied: None,
            told: std::collections::BTreeMap::new(),
        };
        // What was served is what counts as accepted: a definition that is bad by now keeps that form.
        control.guarded(|control| {
            let before = control.planner.restore(restored.accepted, Instant::now());
            if !before.diff.is_empty() {
                control.publish(before.table, before.diff);
            }
            None
        });
        let deadline = control.guarded(Control::apply);
        if !control.direct.pairs().is_empty() {
            // those that files name are served from the first handshake on
            self.certificates.rescan(CERTIFICATES_LIMIT);
        }
        let schemes = self.settled.own.fabio_auth.values();
        let users = schemes.map(|scheme| scheme.file.display().to_string().into()).collect();
        self.credentials.start(&self.state, users, watchers.clone());
        departed::start(&self.state, &self.registry, self.settled.own.drain_limit, watchers.clone());
        let workers = self.workers(&transports)?;
        let shutdown = watchers.clone();
        let control = tokio::task::spawn_local(control.run(deadline, shutdown));
        let (activate, activations) = tokio::sync::mpsc::channel(1);
        let gauges = workers.iter().map(|worker| worker.gauges().clone()).collect();
        let admin = self.admin(activate, trouble, rest.clone(), loader.problems(), gauges);
        let admin_stop = watchers.child_token();
        Ok(Started { workers, control, admin, admin_stop, closed_admin: None, pen, rest, activations, _files: files })
    }

    /// Orders certificates from now on, unless the public ports are another process's; or no longer.
    fn order_certificates(&self, active: bool) {
        let active = active && !self.state.standby.load(Relaxed);
        self.certifying.iter().for_each(|certifying| certifying.activate(active));
    }

    /// How servers are reached.
    fn transports(&self, loader: &Loader) -> Transports {
        let default = match self.transport.take() {
            Some((transport, loaded)) => upstream::Settings::of(&transport, loader.go_on(transport.clone(), loaded)),
            None => upstream::Settings::default(),
        };
        let loader = loader.clone();
        let load = move |transport: &Arc<Transport>| loader.start(transport);
        translate::transports(&self.settled, default, self.nomad_tls.clone(), load)
    }
}

/// What a thread of its own comes to, if it does within this time: the state directory may be on a network
/// file system that hangs, and a start does not.
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, told) = mpsc::channel();
    let started = std::thread::Builder::new().name("restore".to_owned()).spawn(move || drop(tell.send(work())));
    started.ok().and_then(|_| told.recv_timeout(limit).ok())
}

/// How long the end waits for the last lines and the last state to be written.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// How long a start waits for the last good state to be read.
const RESTORE_LIMIT: Duration = Duration::from_secs(5);
/// Bounds of how often a last good state that does not change is written again: an eighth of its greatest age.
const CONFIRM: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// How long a start waits for certificates that files of dynamic configuration name.
const CERTIFICATES_LIMIT: Duration = Duration::from_secs(2);
/// Exit code of an end that nobody asked for.
const FAILED: u8 = 1;

/// What runs besides the control thread's own waiting.
struct Started {
    workers: Vec<WorkerHandle>,
    control: tokio::task::JoinHandle<Option<Keeper>>,
    admin: Arc<Admin>,
    /// Takes no more questions.
    admin_stop: CancellationToken,
    /// The admin listeners of a worker that another one still answers for.
    closed_admin: Option<Listening>,
    pen: Option<Pen>,
    rest: Option<Arc<Rest>>,
    activations: tokio::sync::mpsc::Receiver<doors::Activation>,
    /// Ends the watching of files with it.
    _files: Option<files::Watch>,
}
