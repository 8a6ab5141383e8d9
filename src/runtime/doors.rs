//! Where clients come in: binding the entry points, or taking over their sockets, and opening them once there is something
//! to serve by; the worker threads, the admin API, and the standby's way to the public ports.

use super::standby::{self, Router};
use super::transport::TransportProblems;
use super::{Parts, StartError, Started, signals, system, translate, view, webhook};
use crate::api::{self, Admin};
use crate::config::{self, ADMIN_ENTRY_POINT, Bound, Settled};
use crate::explain::Door;
use crate::listen::{self, Endpoint, Held, ListenError, Listening};
use crate::observe::access::AccessLogWriter;
use crate::proxy::worker::{self, Gauges, WorkerConfig, WorkerHandle};
use crate::proxy::{self, EntryPoint};
use crate::runtime::keep::Trouble;
use crate::runtime::rest::Rest;
use crate::upstream::Transports;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;
use tokio::sync::{mpsc, oneshot};

/// Somebody asks for the public ports, and waits for the outcome.
pub(super) type Activation = oneshot::Sender<Result<Bound, String>>;

/// Sockets from which nothing is accepted yet.
#[derive(Debug)]
pub(super) struct Doors {
    /// `None` in a standby.
    public: Option<Listening>,
    /// `None` where another process has the port that the standby wants later.
    admin: Option<Listening>,
    standby: Option<UnixListener>,
}

impl Doors {
    /// The addresses.
    pub(super) fn bound(&self) -> Bound {
        self.public.iter().chain(&self.admin).flat_map(|listening| listening.bound.clone()).collect()
    }
}

/// Logs the addresses.
pub(super) fn tell(bound: &Bound) {
    for (name, addresses) in bound {
        for address in addresses {
            tracing::info!(entry_point = %name, %address, "listening");
        }
    }
}

/// The entry points' endpoints: public ones, and the admin API's.
fn endpoints(settled: &Settled) -> (Vec<Endpoint>, Vec<Endpoint>) {
    let (admin, public): (Vec<_>, Vec<_>) =
        settled.entry_points.values().map(translate::endpoint).partition(|e| &*e.name == ADMIN_ENTRY_POINT);
    (public, admin)
}

/// Binds the entry points, as far as their sockets are not held already; gives what is to be held of them, too. With a
/// `standby` it is on that socket instead, unless the process before was activated.
pub(super) fn bind(settled: &Settled, standby: Option<&Path>, mut held: Held) -> Result<(Doors, Held), StartError> {
    let (public, admin) = endpoints(settled);
    let (workers, overlap) = (settled.own.workers, settled.own.overlap);
    let mut fresh = Held::new();
    let active = standby.is_none() || public.iter().any(|endpoint| held.contains_key(&endpoint.key()));
    let mut doors = Doors { public: None, admin: None, standby: None };
    if let Some(path) = standby {
        let (listener, key, new) = standby::listen(path, &mut held)?;
        fresh.insert(key, new);
        doors.standby = Some(listener);
    }
    if active {
        let mut listening = listen::take_over(&public, workers, overlap, &mut held)?;
        fresh.append(&mut listening.fresh);
        doors.public = Some(listening);
        overlap.then(tell_overlap);
    }
    match listen::take_over(&admin, 1, overlap, &mut held) {
        Ok(mut listening) => {
            fresh.append(&mut listening.fresh);
            doors.admin = Some(listening);
        }
        Err(error @ ListenError::InUse { .. }) if !active => {
            tracing::warn!("{error}; the standby answers on its own socket until it is activated");
        }
        Err(error) => return Err(error.into()),
    }
    Ok((doors, fresh))
}

/// Whether connections that wait in the queue of a process that leaves are lost is the kernel's to say.
fn tell_overlap() {
    const SWITCH: &str = "/proc/sys/net/ipv4/tcp_migrate_req";
    let moves = std::fs::read_to_string(SWITCH).is_ok_and(|text| text.trim() == "1");
    if moves {
        tracing::info!("ports are shared: connections that wait at another process move here when it leaves them");
    } else {
        tracing::warn!(
            "ports are shared: connections that wait at another process when it closes them are reset; \
             `sysctl net.ipv4.tcp_migrate_req=1` moves them (Linux 5.14)"
        );
    }
}

/// This machine's name.
fn hostname() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned())
}

impl Parts {
    /// The addresses, and where nothing is bound yet, what will be.
    fn ports(&self) -> Bound {
        let mut bound = (**self.bound.load()).clone();
        for (name, ep) in &self.settled.entry_points {
            let wanted = SocketAddr::from((Ipv6Addr::UNSPECIFIED, ep.address.port));
            bound.entry(name.clone()).or_insert_with(|| vec![wanted]);
        }
        bound
    }

    /// An entry point as workers are told of it.
    fn entry_point(&self, ep: &config::EntryPoint) -> EntryPoint {
        let built_in = self.default_entry_points && &*ep.name == "web";
        let ports = self.ports();
        let to_tls = built_in.then(|| translate::to_tls(&ports, &self.certificates)).flatten();
        EntryPoint {
            not_found: self.default_entry_points.then_some(translate::HIND_NOT_FOUND),
            ..translate::entry_point(ep, &ports, to_tls)
        }
    }

    /// Accepts connections from now on, and answers questions where `answer` says so; what is left is for later.
    pub(super) fn open(&self, doors: Doors, started: &mut Started, answer: bool) -> Result<(), StartError> {
        let Doors { public, admin, standby } = doors;
        if let Some(public) = public {
            self.open_public(public, &started.workers)?;
        } else {
            self.state.standby.store(true, Relaxed);
        }
        if let Some(listener) = standby {
            self.open_standby(listener, started)?;
        }
        match (admin, answer) {
            (Some(admin), true) => self.open_admin(admin, started)?,
            (Some(admin), false) => started.closed_admin = Some(admin),
            (None, _) => {}
        }
        Ok(())
    }

    fn open_public(&self, public: Listening, workers: &[WorkerHandle]) -> Result<(), StartError> {
        let entry_points: Vec<EntryPoint> = self.settled.entry_points.values().map(|ep| self.entry_point(ep)).collect();
        let of = |name: &Arc<str>| entry_points.iter().find(|ep| ep.name == *name).cloned();
        for (worker, listeners) in workers.iter().zip(public.workers) {
            for (name, listener) in listeners {
                listen::start(&listener).map_err(system("a listener"))?;
                let Some(entry_point) = of(&name) else { continue };
                if !worker.inlet().listen(entry_point, listener) {
                    return Err(system("a listener")(std::io::ErrorKind::BrokenPipe.into()));
                }
            }
        }
        Ok(())
    }

    pub(super) fn open_admin(&self, listening: Listening, started: &Started) -> Result<(), StartError> {
        for (_, listener) in listening.workers.into_iter().flatten() {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(system("the admin listener"))?;
            tokio::spawn(api::serve(listener, started.admin.clone(), started.admin_stop.clone()));
        }
        Ok(())
    }

    fn open_standby(&self, listener: UnixListener, started: &Started) -> Result<(), StartError> {
        let entry_points = self.settled.entry_points.values().filter(|ep| &*ep.name != ADMIN_ENTRY_POINT);
        let of = |tls: bool| entry_points.clone().find(|ep| ep.tls == tls).map(|ep| self.entry_point(ep));
        let router = Router {
            admin: started.admin.clone(),
            plain: of(false).or_else(|| of(true)),
            secure: of(true),
            inlets: started.workers.iter().map(|worker| worker.inlet().clone()).collect(),
            tls: self.tls.clone(),
            table: self.state.table.clone(),
        };
        listener.set_nonblocking(true).map_err(system("the standby's socket"))?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(system("the standby's socket"))?;
        tokio::task::spawn_local(standby::serve(listener, Rc::new(router), started.admin_stop.clone()));
        Ok(())
    }

    /// Binds the public ports of a standby and goes on as any other. What went wrong, for who asked: nothing changed then.
    pub(super) fn activate(&self, started: &Started, signals: Option<&signals::Stream>) -> Result<Bound, String> {
        let now = || (**self.bound.load()).clone();
        if !self.state.standby.load(Relaxed) {
            return Ok(now());
        }
        let (public, admin) = endpoints(&self.settled);
        let (workers, overlap) = (self.settled.own.workers, self.settled.own.overlap);
        let mut listening = listen::bind(&public, workers, overlap).map_err(|e| e.to_string())?;
        let missing: Vec<Endpoint> = admin.into_iter().filter(|e| !now().contains_key(&e.name)).collect();
        let mut admin = listen::bind(&missing, 1, overlap).map_err(|e| e.to_string())?;
        overlap.then(tell_overlap);
        let mut bound = now();
        bound.extend(listening.bound.clone());
        bound.extend(admin.bound.clone());
        tell(&bound);
        self.bound.store(Arc::new(bound.clone()));
        if let Some(holder) = signals.and_then(signals::Stream::holder) {
            holder.offer(std::mem::take(&mut listening.fresh));
            holder.offer(std::mem::take(&mut admin.fresh));
        }
        self.open_public(listening, &started.workers).map_err(|e| e.to_string())?;
        self.open_admin(admin, started).map_err(|e| e.to_string())?;
        self.state.standby.store(false, Relaxed);
        self.order_certificates(true);
        tracing::info!("activated: the public ports are served");
        Ok(bound)
    }

    /// Starts the worker threads; they accept nothing yet.
    pub(super) fn workers(&self, transports: &Transports) -> Result<Vec<WorkerHandle>, StartError> {
        let hostname = hostname();
        let settings = proxy::Settings {
            user_files: self.credentials.files(),
            certification: match &self.certifying {
                Some(certifying) => proxy::Certification::by(Arc::new(certifying.clone())),
                None => proxy::Certification::default(),
            },
            tls_options: proxy::TlsByName::new({
                let tls = self.tls.clone();
                move |name| tls.named(name)
            }),
            ..translate::settings(&self.settled, transports.clone(), hostname)
        };
        let start = |index: usize| {
            let (tls, table) = (self.tls.clone(), self.state.table.clone());
            let metrics = self.metrics.clone();
            let access = self.access.as_ref().map(AccessLogWriter::handle);
            worker::spawn(WorkerConfig {
                index,
                listeners: Vec::new(),
                table: self.state.table.clone(),
                generation: self.state.generation.subscribe(),
                tls: Some(Arc::new(move |entry_point, name| tls.choose(&table.load(), entry_point, name))),
                registry: self.registry.clone(),
                settings: settings.clone(),
                sink: Box::new(move || {
                    let observer = Rc::new(metrics.observer(access));
                    tokio::task::spawn_local(observer.clone().serve());
                    observer
                }),
            })
        };
        let workers: Result<_, _> = (0..self.settled.own.workers.max(1)).map(start).collect();
        workers.map_err(system("a worker thread"))
    }

    /// The admin API; nobody can ask it yet.
    pub(super) fn admin(
        &self,
        activate: mpsc::Sender<Activation>,
        trouble: Option<Trouble>,
        rest: Option<Arc<Rest>>,
        transport_problems: TransportProblems,
        gauges: Vec<Arc<Gauges>>,
    ) -> Arc<Admin> {
        let ports = self.ports();
        let public = self.settled.entry_points.values().filter(|ep| &*ep.name != ADMIN_ENTRY_POINT);
        let doors = public.map(|ep| {
            let bound = ports.get(&ep.name).and_then(|addresses| addresses.first());
            Door::of(self.entry_point(ep), bound.map_or(ep.address.port, SocketAddr::port), ep.tls)
        });
        let view = view::View {
            doors: doors.collect(),
            tag_options: translate::tag_options(&self.settled),
            primary: translate::build_options(&self.settled).primary,
            state: self.state.clone(),
            registry: self.registry.clone(),
            certificates: self.certificates.clone(),
            certifying: self.certifying.clone(),
            warn_before: self.settled.certificates.warn_before,
            metrics: self.metrics.clone(),
            gauges,
            metrics_on: self.settled.metrics.is_some(),
            access: self.access.as_ref().map(AccessLogWriter::handle),
            entry_points: self.settled.entry_points.values().cloned().collect(),
            bound: self.bound.clone(),
            trouble,
            rest: rest.zip(self.settled.rest.as_ref().map(|rest| rest.insecure)),
            credentials: self.credentials.clone(),
            transport_problems,
            services_allow: translate::services_allow(&self.settled),
            activate,
        };
        let view = Arc::new(view);
        if let Some(url) = self.settled.certificates.notify.clone() {
            let instance = hostname().unwrap_or_default();
            tokio::task::spawn_local(webhook::run(view.clone(), url, instance, self.stop.child_token()));
        }
        let options = api::Options {
            insecure: self.settled.api_insecure,
            metrics: self.settled.metrics.is_some(),
            access_log: self.settled.access_log.is_some(),
            token_file: self.settled.own.api_token_file.clone(),
            started: SystemTime::now(),
            limits: api::Limits::default(),
        };
        Arc::new(Admin::new(view, options))
    }
}
