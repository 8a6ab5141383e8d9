//! A worker: one thread with its own listeners, its own connections to servers and its own way of
//! looking at the table.

use super::accept;
use super::buffers::Buffers;
use super::client::Bell;
use super::lasting::{self, Streams};
use super::routes::Routes;
use super::service::Chooser;
use super::settings::{EntryPoint, Settings, TlsSource};
use super::tcp;
use crate::http::HeaderValue;
use crate::middleware::Guard;
use crate::observe::record::Sink;
use crate::table::Table;
use crate::upstream::{Pools, Registry};
use arc_swap::ArcSwap;
use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use std::{io, thread};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// How often unused connections and forgotten servers are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// How long a connection without a request is kept by a worker that has retired: its next answer tells the client that it
/// is the last. One that is closed without a word may meet a request on its way.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a worker starts with.
pub struct WorkerConfig {
    /// Number of the worker; its thread is called `worker-N`.
    pub index: usize,
    /// Listeners and the entry points that they belong to.
    pub listeners: Vec<(EntryPoint, TcpListener)>,
    /// The table, as published.
    pub table: Arc<ArcSwap<Table>>,
    /// Moves after each publication.
    pub generation: watch::Receiver<u64>,
    /// Answers TLS handshakes; without it they are refused.
    pub tls: Option<TlsSource>,
    /// Shared state of servers.
    pub registry: Arc<Registry>,
    /// Settings.
    pub settings: Settings,
    /// Makes the worker's sink, on its thread.
    pub sink: Box<dyn FnOnce() -> Rc<dyn Sink> + Send>,
}

/// What a worker is given while it runs.
#[derive(Debug)]
enum Given {
    /// A listener, to accept from.
    Listener(Box<EntryPoint>, TcpListener),
    /// A connection that somebody else accepted; `secure`: requests on it count as encrypted, by these TLS options.
    Connection { entry: Box<EntryPoint>, stream: TcpStream, peer: SocketAddr, secure: Option<Arc<str>> },
}

/// Things that may be on their way to one worker.
const GIVEN: usize = 256;

/// Gives a running worker listeners and connections.
#[derive(Debug, Clone)]
pub struct Inlet(mpsc::Sender<Given>);

impl Inlet {
    /// Hands over a listener; false when the worker takes no more.
    pub fn listen(&self, entry: EntryPoint, listener: TcpListener) -> bool {
        self.0.try_send(Given::Listener(Box::new(entry), listener)).is_ok()
    }

    /// Hands over a connection of any stream socket, from which nothing has been read; false when the worker takes no
    /// more. With `secure`, plain requests on it count as encrypted, as by a handshake with these TLS options.
    pub fn serve(&self, entry: EntryPoint, stream: TcpStream, peer: SocketAddr, secure: Option<Arc<str>>) -> bool {
        self.0.try_send(Given::Connection { entry: Box::new(entry), stream, peer, secure }).is_ok()
    }
}

/// What a worker is doing; read from outside.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Gauges {
    /// Connections of clients, switched ones included.
    pub connections: AtomicUsize,
    /// Requests that are not finished.
    pub requests: AtomicUsize,
    /// Requests that wait for a server to appear, or for a place at one.
    pub waiting: AtomicUsize,
    /// Listeners that connections are taken from.
    pub(super) accepting: watch::Sender<usize>,
}

/// What a worker was told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Serve,
    /// Serve, but tell clients that each answer is the last on its connection; those that ask nothing until then go.
    Announce {
        until: Instant,
    },
    StopAccepting,
    Drain {
        deadline: Instant,
        /// Who else accepts from the listeners goes on: what waits there is theirs, and clients may take their time
        /// with what they have open here.
        handed_over: bool,
    },
}

impl Order {
    /// Whether connections are still accepted.
    pub(super) fn accepts(self) -> bool {
        matches!(self, Self::Serve | Self::Announce { .. })
    }
}

/// A running worker. Dropping the handle ends it at once.
#[derive(Debug)]
pub struct WorkerHandle {
    orders: watch::Sender<Order>,
    gauges: Arc<Gauges>,
    inlet: Inlet,
    thread: Option<JoinHandle<()>>,
}

impl WorkerHandle {
    /// Where it is given listeners and connections.
    pub fn inlet(&self) -> &Inlet {
        &self.inlet
    }

    /// Goes on accepting and serving, but tells clients that each answer is the last on its connection; what is without a
    /// request by `until` from now on ends.
    pub fn announce(&self, until: Duration) {
        self.orders.send_replace(Order::Announce { until: Instant::now() + until });
    }

    /// Takes no more connections; those that the kernel took already are still served.
    pub fn stop_accepting(&self) {
        self.orders.send_if_modified(|order| {
            let serving = order.accepts();
            if serving {
                *order = Order::StopAccepting;
            }
            serving
        });
    }

    /// Stops accepting, lets the requests in flight end, tells clients to come no more on these
    /// connections, and ends when all are closed or after `grace`.
    pub fn drain(&self, grace: Duration) {
        self.orders.send_replace(Order::Drain { deadline: Instant::now() + grace, handed_over: false });
    }

    /// As [`Self::drain`], where another process accepts from the same listeners: leaves what waits there to it.
    pub fn retire(&self, grace: Duration) {
        self.orders.send_replace(Order::Drain { deadline: Instant::now() + grace, handed_over: true });
    }

    /// Waits until it takes no more connections, after [`Self::retire`].
    pub async fn stopped_accepting(&self) {
        // An error means that it has ended.
        drop(self.gauges.accepting.subscribe().wait_for(|listeners| *listeners == 0).await);
    }

    /// What it is doing.
    pub fn gauges(&self) -> &Arc<Gauges> {
        &self.gauges
    }

    /// Waits until the worker has ended.
    pub async fn ended(&self) {
        self.orders.closed().await;
    }

    /// Blocks until the thread has ended; after [`Self::drain`].
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts a worker's thread.
///
/// # Errors
/// No thread or no runtime to be had.
pub fn spawn(config: WorkerConfig) -> io::Result<WorkerHandle> {
    let (orders, received) = watch::channel(Order::Serve);
    let gauges = Arc::new(Gauges::default());
    let shared = gauges.clone();
    // It belongs to its thread, so it is made there; whether that went well is waited for.
    let (made, outcome) = std::sync::mpsc::sync_channel(1);
    let (inlet, given) = mpsc::channel(GIVEN);
    let thread = thread::Builder::new().name(format!("worker-{}", config.index)).spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(made.send(Err(error))),
        };
        drop(made.send(Ok(())));
        runtime.block_on(run(config, shared, received, given));
        // What is still running at the deadline is cut here.
        runtime.shutdown_background();
    })?;
    outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the worker's thread ended")))?;
    Ok(WorkerHandle { orders, gauges, inlet: Inlet(inlet), thread: Some(thread) })
}

/// What all tasks of a worker share; never leaves its thread.
pub(super) struct Worker {
    pub(super) settings: Settings,
    pub(super) guard: Guard,
    pub(super) registry: Arc<Registry>,
    pub(super) pools: Pools,
    pub(super) routes: RefCell<Routes>,
    pub(super) tcp: RefCell<tcp::Bindings>,
    pub(super) sink: Rc<dyn Sink>,
    pub(super) tls: Option<TlsSource>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) generation: watch::Receiver<u64>,
    pub(super) orders: watch::Receiver<Order>,
    pub(super) waiting: Cell<usize>,
    pub(super) buffers: Buffers,
    pub(super) epoch: Epoch,
    /// Rings when the worker drains.
    pub(super) bell: Bell,
    /// What may have to end with its server.
    pub(super) streams: Streams,
    /// Listeners from which it accepts, or has yet to take what the kernel took.
    /// A connection has ended: one more may be accepted. Or a listener is closed.
    pub(super) ended: Notify,
}

/// One moment by both clocks, so that a request needs only one of them.
pub(super) struct Epoch(Cell<(std::time::Instant, SystemTime)>);

impl Default for Epoch {
    fn default() -> Self {
        Self(Cell::new((std::time::Instant::now(), SystemTime::now())))
    }
}

impl Epoch {
    /// The time of a moment, as good as the clock was when it was last looked at.
    pub(super) fn of(&self, at: std::time::Instant) -> SystemTime {
        let (instant, time) = self.0.get();
        match at.checked_duration_since(instant) {
            Some(since) => time + since,
            None => time - instant.duration_since(at),
        }
    }

    /// Looks at the clock, which may be set meanwhile.
    fn look(&self) {
        self.0.set((std::time::Instant::now(), SystemTime::now()));
    }
}

impl Worker {
    /// Resolves when the worker is told to drain; at once if it was.
    pub(super) async fn draining(&self) {
        let mut orders = self.orders.clone();
        // An error means that the handle is gone, which ends the worker anyway.
        let _ = orders.wait_for(|order| matches!(order, Order::Drain { .. })).await;
    }
}

async fn run(
    mut config: WorkerConfig,
    gauges: Arc<Gauges>,
    mut orders: watch::Receiver<Order>,
    given: mpsc::Receiver<Given>,
) {
    // Values that each request copies must not be counted together with other workers.
    let hostname = config.settings.hostname.take();
    config.settings.hostname = hostname.and_then(|name| HeaderValue::from_bytes(name.as_bytes()).ok());
    let worker = Rc::new(Worker {
        pools: Pools::new(config.settings.upstream.clone()),
        routes: RefCell::new(Routes::new(config.table, Chooser::new(rand::random(), config.settings.slow_start))),
        tcp: RefCell::default(),
        guard: Guard::new(config.settings.user_files.clone()),
        settings: config.settings,
        registry: config.registry,
        sink: (config.sink)(),
        tls: config.tls,
        gauges: gauges.clone(),
        generation: config.generation,
        orders: orders.clone(),
        waiting: Cell::new(0),
        buffers: Buffers::default(),
        epoch: Epoch::default(),
        bell: Bell::default(),
        streams: Streams::default(),
        ended: Notify::new(),
    });
    for (entry_point, listener) in config.listeners {
        open(&worker, entry_point, listener);
    }
    tokio::task::spawn_local(housekeeping(Rc::downgrade(&worker)));
    tokio::task::spawn_local(lasting::watch(worker.registry.clone(), Rc::downgrade(&worker)));
    tokio::task::spawn_local(take(worker.clone(), given));
    let mut deadline = loop {
        match *orders.borrow_and_update() {
            Order::Announce { until } => worker.bell.ring(Some(until)),
            Order::Drain { deadline, handed_over } => {
                let patience = handed_over.then(|| deadline.min(Instant::now() + PATIENCE));
                worker.bell.ring(patience);
                break deadline;
            }
            Order::Serve | Order::StopAccepting => {}
        }
        if orders.changed().await.is_err() {
            return;
        }
    };
    // The deadline may be brought forward by a second order.
    while *gauges.accepting.borrow() > 0 || gauges.connections.load(Relaxed) > 0 {
        tokio::select! {
            () = worker.ended.notified() => {}
            () = tokio::time::sleep_until(deadline) => break,
            changed = orders.changed() => match changed.map(|()| *orders.borrow_and_update()) {
                Ok(Order::Drain { deadline: sooner, handed_over }) => {
                    if !handed_over {
                        worker.bell.ring(None);
                    }
                    deadline = deadline.min(sooner);
                }
                Ok(_) => {}
                Err(_) => break,
            },
        }
    }
}

fn open(worker: &Rc<Worker>, entry_point: EntryPoint, listener: TcpListener) {
    let name = entry_point.name.clone();
    if let Err(error) = accept::start(worker, entry_point, listener) {
        tracing::error!(entry_point = %name, %error, "listener cannot be used");
    }
}

/// Takes what the worker is given while it runs.
async fn take(worker: Rc<Worker>, mut given: mpsc::Receiver<Given>) {
    let adopted = accept::Adopted::new(&worker);
    while let Some(given) = given.recv().await {
        match given {
            Given::Listener(entry_point, listener) => open(&worker, *entry_point, listener),
            Given::Connection { entry, stream, peer, secure } => adopted.take(*entry, stream, peer, secure),
        }
    }
}

async fn housekeeping(worker: std::rc::Weak<Worker>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        let Some(worker) = worker.upgrade() else { return };
        worker.epoch.look();
        worker.routes.borrow_mut().forget();
        worker.tcp.borrow_mut().forget();
        worker.pools.sweep(Instant::now());
        worker.registry.sweep(std::time::Instant::now());
    }
}
