//! A standby's Unix socket: the routes answer on it as they would on the public ports, and so does the admin API.
//!
//! What decides is a connection's first request. TLS, and plain requests with `X-Forwarded-Proto: https`, come in at the
//! first entry point with TLS, others at the first without. A request for this machine (`Host` is `localhost`, a single
//! label or an address) and one of the admin API's paths is the API's; so is the connection then.
//!
//! What always holds: only processes of the same user, or of root, are heard (the socket is 0600, and the kernel says who
//! they are); what is looked at is not taken away, and neither size nor time of a look are without a limit.

use super::tls::TlsConfigs;
use crate::api::{self, Admin};
use crate::listen::Held;
use crate::proxy::EntryPoint;
use crate::proxy::worker::Inlet;
use crate::table::Table;
use arc_swap::ArcSwap;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener as AsyncListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// How much of a head is looked at.
const LOOK: usize = 16 * 1024;
/// How long a head may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at a head that comes in pieces.
const AGAIN: Duration = Duration::from_millis(5);
/// Pause after an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// First byte of a TLS handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// Who a peer without an address of IP is for the routes: somebody on this machine.
const PEER: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// Why a standby has no socket.
#[derive(Debug, thiserror::Error)]
pub enum StandbyError {
    /// Somebody listens there.
    #[error("standby: `{0}` is in use by another process")]
    InUse(PathBuf),
    /// Anything else.
    #[error("standby: cannot listen on `{path}`: {source}")]
    Failed {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// The socket at `path`: one that is held, or a new one, readable and writable by its owner alone. Gives its key and, of a
/// new one, a copy.
pub(super) fn listen(path: &Path, held: &mut Held) -> Result<(UnixListener, String, Vec<OwnedFd>), StandbyError> {
    let failed = |source| StandbyError::Failed { path: path.to_owned(), source };
    let key = format!("unix {}", path.display());
    if let Some(socket) = held.remove(&key).and_then(|sockets| sockets.into_iter().next()) {
        return Ok((socket.into(), key, Vec::new()));
    }
    let socket = match bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !is_left_over(path) {
                return Err(StandbyError::InUse(path.to_owned()));
            }
            std::fs::remove_file(path).and_then(|()| bind(path)).map_err(failed)?
        }
        outcome => outcome.map_err(failed)?,
    };
    let copy = socket.try_clone().map_err(failed)?;
    Ok((socket.into(), key, vec![copy]))
}

fn bind(path: &Path) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The file is made with the socket's own rights (unix(7)): it is never open to others, not for a moment.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Whether a socket file belongs to nobody any more.
fn is_left_over(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && std::os::unix::net::UnixStream::connect(path).is_err_and(refused)
}

/// Where connections go.
pub(super) struct Router {
    pub(super) admin: Arc<Admin>,
    /// The entry point of plain requests.
    pub(super) plain: Option<EntryPoint>,
    /// That of encrypted ones.
    pub(super) secure: Option<EntryPoint>,
    pub(super) inlets: Vec<Inlet>,
    pub(super) tls: Arc<TlsConfigs>,
    pub(super) table: Arc<ArcSwap<Table>>,
}

/// What a connection's first bytes say.
#[derive(Debug, PartialEq, Eq)]
enum First {
    Tls,
    Admin,
    Plain,
    /// Counts as encrypted, for this host.
    Secure(Option<String>),
}

/// Serves the socket until `stop`.
pub(super) async fn serve(listener: AsyncListener, router: Rc<Router>, stop: CancellationToken) {
    let turn = Rc::new(Cell::new(0));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                turn.set(turn.get() + 1);
                tokio::task::spawn_local(connection(stream, router.clone(), turn.get()));
            }
            Err(error) => {
                tracing::warn!(%error, "standby: a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, router: Rc<Router>, turn: usize) {
    let own = rustix::process::geteuid();
    match rustix::net::sockopt::socket_peercred(&stream) {
        Ok(peer) if peer.uid == own || peer.uid.is_root() => {}
        _ => return tracing::warn!("standby: a process of another user is not heard"),
    }
    let Ok(Ok(first)) = tokio::time::timeout(LIMIT, look(&stream)).await else { return };
    let peer = SocketAddr::from(PEER);
    let (entry, secure) = match first {
        First::Admin => return api::serve_peer(stream, router.admin.clone()).await,
        First::Tls => (if router.secure.is_some() { &router.secure } else { &router.plain }, None),
        First::Plain => (&router.plain, None),
        First::Secure(host) => match &router.secure {
            None => (&router.plain, None),
            Some(entry) => {
                let choice = router.tls.choose(&router.table.load(), &entry.name, host.as_deref());
                (&router.secure, choice.map(|choice| choice.options))
            }
        },
    };
    // A socket is a socket: nothing below asks for more than a stream of bytes.
    let Some(entry) = entry.clone() else { return };
    let Ok(stream) = stream.into_std().map(|stream| std::net::TcpStream::from(OwnedFd::from(stream))) else { return };
    if let Some(inlet) = router.inlets.get(turn % router.inlets.len().max(1)) {
        // Where it is not taken the worker is about to end, and the connection with it.
        let _ = inlet.serve(entry, stream, peer, secure);
    }
}

/// Looks at a connection's first request.
async fn look(stream: &UnixStream) -> io::Result<First> {
    let mut buffer = vec![0; LOOK];
    let mut seen = 0;
    loop {
        stream.readable().await?;
        let looked = stream.try_io(tokio::io::Interest::READABLE, || {
            let (length, _) = rustix::net::recv(stream, buffer.as_mut_slice(), RecvFlags::PEEK)?;
            Ok(length)
        });
        let length = match looked {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if length > seen
            && let Some(first) = judge(buffer.get(..length).unwrap_or_default())
        {
            return Ok(first);
        }
        seen = length;
        // What is there stays there: the kernel tells of nothing new.
        tokio::time::sleep(AGAIN).await;
    }
}

/// What the first bytes say; `None` when more are needed. What is no head of a request is for the proxy to refuse.
fn judge(bytes: &[u8]) -> Option<First> {
    if bytes.first() == Some(&TLS_HANDSHAKE) {
        return Some(First::Tls);
    }
    let mut lines = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if bytes.len() < LOOK => return None,
        _ => return Some(First::Plain),
    }
    let field = |name: &str| {
        let line = request.headers.iter().find(|line| line.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(line.value).ok().map(str::trim)
    };
    let host = field("host").unwrap_or_default();
    if api::is_own(host, request.path.unwrap_or_default()) {
        return Some(First::Admin);
    }
    let https = field("x-forwarded-proto").is_some_and(|proto| proto.eq_ignore_ascii_case("https"));
    let name = crate::model::split_port(host).0;
    Some(if https { First::Secure((!name.is_empty()).then(|| name.to_ascii_lowercase())) } else { First::Plain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_decides() {
        let judge = |text: &str| judge(text.as_bytes());
        assert_eq!(judge("\u{16}\u{3}\u{1}"), Some(First::Tls));
        assert_eq!(judge("GET / HT"), None);
        assert_eq!(judge("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"), Some(First::Plain));
        let secure = "GET / HTTP/1.1\r\nhost: A.test:80\r\nx-forwarded-proto: HTTPS\r\n\r\n";
        assert_eq!(judge(secure), Some(First::Secure(Some("a.test".to_owned()))));
        for host in ["localhost", "x", "127.0.0.1:80", "[::1]"] {
            let ask = |path: &str| judge(&format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(ask("/api/activate"), Some(First::Admin), "{host}");
            assert_eq!(ask("/ready"), Some(First::Admin), "{host}");
            assert_eq!(ask("/other"), Some(First::Plain), "{host}");
        }
        // A service's own API stays the service's.
        for host in ["a.test", "whoami.localhost"] {
            let text = format!("POST /api/activate HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(judge(&text), Some(First::Plain), "{host}");
        }
        assert_eq!(judge("no request at all\r\n\r\n"), Some(First::Plain));
        assert_eq!(judge(&"x".repeat(LOOK)), Some(First::Plain));
    }

    #[test]
    fn a_socket_is_its_owners_and_one_that_was_left_is_replaced() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("standby.sock");
        let mut held = Held::new();
        let (listener, key, fresh) = listen(&path, &mut held).expect("a socket");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path, &mut held), Err(StandbyError::InUse(_))));
        held.insert(key, fresh);
        let (again, _, fresh) = listen(&path, &mut held).expect("held");
        assert!(fresh.is_empty());
        drop((listener, again));
        listen(&path, &mut held).expect("left over");
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "no socket").expect("written");
        assert!(matches!(listen(&path, &mut held), Err(StandbyError::InUse(_))));
    }
}
