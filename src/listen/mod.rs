//! The sockets that clients come in by: binding them, once for each worker, and saying who has a
//! port that is in use.
//!
//! What always holds: a port is first bound alone, so that one that another process has is an
//! error that names it (unless sharing is meant); then every worker gets a listener of its own on
//! it, and the kernel spreads connections over them (`SO_REUSEPORT`). Sockets that the process
//! before this one listened on are taken over all of them, since what waits in the queue of one
//! that is closed is reset.

mod owner;

pub use owner::{Owner, of as owner};

use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Connections that wait to be accepted, for each listener; the kernel has a limit of its own.
const BACKLOG: i32 = 4_096;

/// What to bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the entry point.
    pub name: Arc<str>,
    /// Host as said; empty means all addresses, of IPv6 and IPv4.
    pub host: String,
    /// Port; 0 lets the kernel choose one, the same for all workers.
    pub port: u16,
}

/// The listeners of one worker, by entry point.
pub type WorkerListeners = Vec<(Arc<str>, TcpListener)>;

/// What was bound.
#[derive(Debug)]
pub struct Listening {
    /// One element for each worker.
    pub workers: Vec<WorkerListeners>,
    /// The addresses, with the ports that the kernel chose.
    pub bound: BTreeMap<Arc<str>, Vec<SocketAddr>>,
    /// For who keeps sockets beyond this process: a copy of each that is new, by [`Endpoint::key`]; also keys of which
    /// none is new.
    pub fresh: Held,
}

/// Sockets that outlive the process that uses them, by what was asked for when they were bound.
pub type Held = BTreeMap<String, Vec<OwnedFd>>;

impl Endpoint {
    /// What says that a socket is for this endpoint, also in another process with another configuration.
    pub fn key(&self) -> String {
        let Self { name, host, port } = self;
        // Which one is which of those that the kernel chose, their names alone can say.
        if *port == 0 { format!("tcp {host}:0 {name}") } else { format!("tcp {host}:{port}") }
    }
}

/// Why an entry point could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there.
    #[error("entry point `{name}`: {address} is in use by {}", owner_text(.owner))]
    InUse {
        /// Entry point.
        name: Arc<str>,
        /// Address wanted.
        address: SocketAddr,
        /// Who has it, where that can be seen.
        owner: Option<Owner>,
    },
    /// The port is reserved for the privileged.
    #[error("entry point `{name}`: no right to listen on {address} (ports below 1024 need CAP_NET_BIND_SERVICE)")]
    Forbidden {
        /// Entry point.
        name: Arc<str>,
        /// Address wanted.
        address: SocketAddr,
    },
    /// A host that has no address.
    #[error("entry point `{name}`: `{host}` has no address: {error}")]
    Unresolved {
        /// Entry point.
        name: Arc<str>,
        /// Host as said.
        host: String,
        /// The resolver's word.
        error: io::Error,
    },
    /// Anything else.
    #[error("entry point `{name}`: cannot listen on {address}: {error}")]
    Failed {
        /// Entry point.
        name: Arc<str>,
        /// Address wanted.
        address: SocketAddr,
        /// The kernel's word.
        error: io::Error,
    },
}

fn owner_text(owner: &Option<Owner>) -> String {
    owner.as_ref().map_or_else(|| "a process that cannot be seen from here".to_owned(), Owner::to_string)
}

/// Binds all entry points, `workers` times each. With `overlap`, ports may be shared with another
/// process that shares them too.
///
/// # Errors
/// The first entry point that cannot be bound; what was bound before it is closed again.
pub fn bind(endpoints: &[Endpoint], workers: usize, overlap: bool) -> Result<Listening, ListenError> {
    take_over(endpoints, workers, overlap, &mut Held::new())
}

/// As [`bind`], but an endpoint of which sockets are held takes these out of `held`, all of them, and binds only what is
/// missing to one for each worker. Those that are added do not listen yet: see [`start`].
///
/// # Errors
/// As [`bind`].
pub fn take_over(
    endpoints: &[Endpoint],
    workers: usize,
    overlap: bool,
    held: &mut Held,
) -> Result<Listening, ListenError> {
    let workers = workers.max(1);
    let mut listening = Listening { workers: Vec::new(), bound: BTreeMap::new(), fresh: Held::new() };
    listening.workers.resize_with(workers, Vec::new);
    for endpoint in endpoints {
        let fresh = listening.fresh.entry(endpoint.key()).or_default();
        if let Some(sockets) = held.remove(&endpoint.key()).filter(|sockets| !sockets.is_empty()) {
            let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, endpoint.port));
            let failed = |error| ListenError::Failed { name: endpoint.name.clone(), address: unknown, error };
            let mut sockets: Vec<Socket> = sockets.into_iter().map(Socket::from).collect();
            let address = match sockets.first() {
                Some(first) => first.local_addr().map_err(failed)?.as_socket().unwrap_or(unknown),
                None => unknown,
            };
            while sockets.len() < workers {
                let added = open(address, true).map_err(failed)?;
                fresh.push(added.try_clone().map_err(failed)?.into());
                sockets.push(added);
            }
            for (at, socket) in sockets.into_iter().enumerate() {
                listening.workers[at % workers].push((endpoint.name.clone(), socket.into()));
            }
            listening.bound.entry(endpoint.name.clone()).or_default().push(address);
            continue;
        }
        let (first, address) = bind_first(endpoint, overlap)?;
        let failed = |error| ListenError::Failed { name: endpoint.name.clone(), address, error };
        let address = first.local_addr().map_err(failed)?.as_socket().unwrap_or(address);
        for (at, listeners) in listening.workers.iter_mut().enumerate() {
            let socket =
                if at == 0 { first.try_clone().map_err(failed)? } else { open(address, true).map_err(failed)? };
            fresh.push(socket.try_clone().map_err(failed)?.into());
            let listener = TcpListener::from(socket);
            start(&listener).map_err(failed)?;
            listeners.push((endpoint.name.clone(), listener));
        }
        listening.bound.entry(endpoint.name.clone()).or_default().push(address);
    }
    Ok(listening)
}

/// The first socket of an entry point, bound to the first of its addresses that this machine has.
fn bind_first(endpoint: &Endpoint, overlap: bool) -> Result<(Socket, SocketAddr), ListenError> {
    let name = || endpoint.name.clone();
    let candidates = addresses(&endpoint.host, endpoint.port).map_err(|error| ListenError::Unresolved {
        name: name(),
        host: endpoint.host.clone(),
        error,
    })?;
    let mut last = None;
    for address in candidates {
        match open(address, overlap) {
            Ok(socket) => return Ok((socket, address)),
            Err(error) => {
                last = Some(match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        return Err(ListenError::InUse { name: name(), address, owner: owner::of(address) });
                    }
                    io::ErrorKind::PermissionDenied => return Err(ListenError::Forbidden { name: name(), address }),
                    _ => ListenError::Failed { name: name(), address, error },
                });
            }
        }
    }
    Err(last.unwrap_or_else(|| ListenError::Unresolved {
        name: name(),
        host: endpoint.host.clone(),
        error: io::ErrorKind::NotFound.into(),
    }))
}

/// The addresses to try: of all addresses IPv6 with IPv4 mapped before IPv4 alone (no IPv6 in the
/// kernel), of a name its IPv4 address before its IPv6 one.
fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.is_empty() {
        return Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]);
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

/// A bound socket that others of ours can join. Without `shared` it was alone when it was bound.
fn open(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Connections of a process before us may still be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.set_reuse_port(true)?;
    Ok(socket)
}

/// Lets the kernel queue connections for a listener; nothing where it does already.
///
/// # Errors
/// The port was taken meanwhile.
pub fn start(listener: &TcpListener) -> io::Result<()> {
    socket2::SockRef::from(listener).listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { name: "web".into(), host: host.to_owned(), port }
    }

    #[test]
    fn all_workers_share_the_port_that_the_kernel_chose() {
        let listening = bind(&[endpoint("127.0.0.1", 0)], 3, false).expect("a port");
        let address = listening.bound["web"][0];
        assert_ne!(address.port(), 0);
        assert_eq!(listening.workers.len(), 3);
        for worker in &listening.workers {
            assert_eq!(worker[0].1.local_addr().expect("an address"), address);
        }
        // The kernel takes connections for each of them.
        for _ in 0..8 {
            TcpStream::connect(address).expect("a connection");
        }
    }

    #[test]
    fn sockets_that_are_held_are_taken_over_whatever_the_number_of_workers() {
        let wanted = [endpoint("127.0.0.1", 0)];
        let before = bind(&wanted, 2, false).expect("a port");
        let address = before.bound["web"][0];
        let mut held = before.fresh;
        let waiting = TcpStream::connect(address).expect("queued");
        drop(before.workers);
        assert_eq!(held["tcp 127.0.0.1:0 web"].len(), 2);
        let copies = |held: &Held| -> Held {
            let copy = |sockets: &Vec<OwnedFd>| sockets.iter().map(|s| s.try_clone().expect("a copy")).collect();
            held.iter().map(|(key, sockets)| (key.clone(), copy(sockets))).collect()
        };
        let mut kept = copies(&held);
        // More workers: the ones that are added take nothing before they are started.
        let more = take_over(&wanted, 3, false, &mut held).expect("taken over");
        assert!(held.is_empty());
        assert_eq!(more.bound["web"], [address]);
        assert_eq!(more.workers.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(more.fresh.into_values().next().expect("the key").len(), 1);
        drop(more.workers);
        // Fewer: none is closed.
        let fewer = take_over(&wanted, 1, false, &mut kept).expect("taken over");
        assert_eq!(fewer.workers.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
        assert_eq!(fewer.fresh.into_values().next().expect("the key").len(), 0);
        // What came before waits in one of the two.
        let peer = waiting.local_addr().expect("an address");
        let found = fewer.workers[0].iter().any(|(_, l)| l.accept().is_ok_and(|(_, from)| from == peer));
        assert!(found);
    }

    #[test]
    fn no_host_means_both_families() {
        let listening = bind(&[endpoint("", 0)], 1, false).expect("a port");
        let address = listening.bound["web"][0];
        assert!(address.ip().is_unspecified());
        TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).expect("over IPv4");
        if address.is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, address.port())).expect("over IPv6");
        }
    }

    #[test]
    fn a_port_in_use_names_its_owner_unless_shared() {
        let held = bind(&[endpoint("127.0.0.1", 0)], 2, false).expect("a port");
        let port = held.bound["web"][0].port();
        let error = bind(&[endpoint("127.0.0.1", port)], 1, false).expect_err("in use");
        let ListenError::InUse { owner: Some(owner), .. } = &error else { panic!("{error}") };
        assert_eq!(owner.pid, std::process::id());
        assert!(error.to_string().contains(&format!("pid {}", owner.pid)), "{error}");
        bind(&[endpoint("127.0.0.1", port)], 1, true).expect("shared on purpose");
        // Somebody on one address keeps all addresses from being bound.
        assert!(matches!(bind(&[endpoint("", port)], 1, false), Err(ListenError::InUse { .. })));
    }

    #[test]
    fn a_host_without_an_address_is_said_so() {
        let error = bind(&[endpoint("no such host", 1)], 1, false).expect_err("no address");
        assert!(error.to_string().starts_with("entry point `web`: `no such host` has no address"), "{error}");
    }
}
