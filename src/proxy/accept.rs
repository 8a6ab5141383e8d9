//! *Accept*: taking connections, up to a limit, whatever the kernel says.

use super::crew::{Passed, Place, Seat};
use super::handshake;
use super::settings::EntryPoint;
use super::worker::{Order, Worker};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// First wait after the kernel refused to accept (out of file descriptors or memory); doubles.
const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
/// Longest such wait.
const BACK_OFF_MOST: Duration = Duration::from_secs(1);
/// How often a full entry point looks whether another worker's connections have ended.
const FULL_LOOK: Duration = Duration::from_millis(50);
/// Silence after which the kernel asks whether a client is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// What a connection runs over, as metrics say it.
const TRANSPORT: &str = "TCP";

/// Starts to accept on a listener.
pub(super) fn start(worker: &Rc<Worker>, mut entry: EntryPoint, listener: std::net::TcpListener) -> io::Result<()> {
    // A copy of its own, so that counting its users touches no other worker's cache.
    entry.name = Arc::from(&*entry.name);
    listener.set_nonblocking(true)?;
    // Connections inherit these: no system call for each of them.
    let socket = socket2::SockRef::from(&listener);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE));
    let listener = TcpListener::from_std(listener)?;
    let (seat, passed) = Seat::new(entry.crew.clone(), listener.local_addr()?, worker.gauges.clone());
    let entry = Rc::new(entry);
    let local = listener.local_addr().ok().filter(|local| !local.ip().is_unspecified());
    tokio::task::spawn_local(adopt(worker.clone(), entry.clone(), passed, local));
    worker.gauges.accepting.send_modify(|listeners| *listeners += 1);
    let worker = worker.clone();
    tokio::task::spawn_local(async move {
        run(&worker, &entry, listener, seat, local).await;
        worker.gauges.accepting.send_modify(|listeners| *listeners -= 1);
        worker.ended.notify_one();
    });
    Ok(())
}

/// Serves what other workers accepted and passed on; as long as the worker lives, since what is under way when it is
/// told to stop is served, too.
async fn adopt(
    worker: Rc<Worker>,
    entry: Rc<EntryPoint>,
    mut passed: mpsc::Receiver<Passed>,
    local: Option<SocketAddr>,
) {
    while let Some(Passed { stream, peer, place }) = passed.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => begin(&worker, &entry, stream, (peer, local), place),
            Err(error) => tracing::warn!(entry_point = %entry.name, %peer, %error, "connection lost"),
        }
    }
}

/// Accepts until the worker is told to stop, and what the kernel has taken until then.
async fn run(
    worker: &Rc<Worker>,
    entry: &Rc<EntryPoint>,
    listener: TcpListener,
    seat: Seat,
    local: Option<SocketAddr>,
) {
    let mut orders = worker.orders.clone();
    let mut trouble: Option<Duration> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = orders.wait_for(|order| !order.accepts()) => break,
            accepted = next(worker, entry, &listener) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if trouble.take().is_some() {
                    tracing::info!(entry_point = %entry.name, "accepting connections again");
                }
                if let Some((stream, place)) = seat.take(stream, peer) {
                    begin(worker, entry, stream, (peer, local), place);
                }
            }
            // The client was gone before it was accepted.
            Err(error) if is_clients_fault(&error) => {}
            Err(error) => {
                if trouble.is_none() {
                    tracing::error!(entry_point = %entry.name, %error, "cannot accept connections, waiting");
                }
                let pause = trouble.map_or(BACK_OFF_FIRST, |last| (last * 2).min(BACK_OFF_MOST));
                trouble = Some(pause);
                tokio::time::sleep(pause).await;
            }
        }
    }
    // Somebody else takes what waits.
    if matches!(*orders.borrow(), Order::Drain { handed_over: true, .. }) {
        return;
    }
    // The kernel has shaken hands with these; closing the listener would reset them.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, peer)) = listener.accept() {
        if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            begin(worker, entry, stream, (peer, local), seat.keep());
        }
    }
}

/// The next connection, once there is room for it.
async fn next(worker: &Worker, entry: &EntryPoint, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    while entry.open.load(Relaxed) >= entry.max_connections {
        tokio::select! {
            () = worker.ended.notified() => {}
            () = tokio::time::sleep(FULL_LOOK) => {}
        }
    }
    listener.accept().await
}

fn begin(
    worker: &Rc<Worker>,
    entry: &Rc<EntryPoint>,
    stream: TcpStream,
    (peer, local): (SocketAddr, Option<SocketAddr>),
    place: Place,
) {
    // Asked of the kernel only where the listener does not know it.
    let local = local.or_else(|| stream.local_addr().ok());
    let open = Open::new(worker.clone(), entry.clone(), local, place);
    // An IPv4 client of a socket for both families is an IPv4 client.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    tokio::task::spawn_local(handshake::run(open, stream, peer));
}

/// Connections that somebody else accepted, for this worker alone.
pub(super) struct Adopted {
    worker: Rc<Worker>,
    seat: Seat,
}

impl Adopted {
    pub(super) fn new(worker: &Rc<Worker>) -> Self {
        // A crew of one: nobody passes on to it, and it passes nothing on.
        let (seat, _) = Seat::new(Arc::default(), (Ipv4Addr::UNSPECIFIED, 0).into(), worker.gauges.clone());
        Self { worker: worker.clone(), seat }
    }

    pub(super) fn take(
        &self,
        entry: EntryPoint,
        stream: std::net::TcpStream,
        peer: SocketAddr,
        secure: Option<Arc<str>>,
    ) {
        let place = self.seat.keep();
        let entry = Rc::new(entry);
        match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => {
                let open = Open::new(self.worker.clone(), entry, Some(peer), place);
                match secure {
                    None => tokio::task::spawn_local(handshake::run(open, stream, peer)),
                    Some(options) => tokio::task::spawn_local(handshake::as_encrypted(open, stream, peer, options)),
                };
            }
            Err(error) => tracing::warn!(entry_point = %entry.name, %error, "connection lost"),
        }
    }
}

fn is_clients_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// An open connection of a client; counted until it is dropped.
pub(super) struct Open {
    pub(super) worker: Rc<Worker>,
    pub(super) entry: Rc<EntryPoint>,
    /// Where the client connected to.
    pub(super) local: Option<SocketAddr>,
    _place: Place,
}

impl Open {
    fn new(worker: Rc<Worker>, entry: Rc<EntryPoint>, local: Option<SocketAddr>, place: Place) -> Self {
        entry.open.fetch_add(1, Relaxed);
        worker.sink.connection(&entry.name, TRANSPORT, 1);
        Self { worker, entry, local, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.entry.open.fetch_sub(1, Relaxed);
        self.worker.sink.connection(&self.entry.name, TRANSPORT, -1);
        // The place is given up right after this, before anybody who waits runs on this thread.
        self.worker.ended.notify_waiters();
        self.worker.ended.notify_one();
    }
}
