//! TLS towards servers: reads the certificates that transports name, off the control and worker threads, and reads them
//! again when their files change.
//!
//! What always holds: files that cannot be used leave what was read of them last in force; where nothing ever was, no
//! connection is made, and one that waits is told. Both are seen in the log and in `/api/problems`.

use super::credentials::Mark;
use crate::config::ClientTls;
use crate::diagnostic::{Diagnostic, Origin};
use crate::table::{Pem, Transport, TransportTls};
use crate::upstream::tls::{TlsConfigError, client_config};
use crate::upstream::{ServerTls, TlsState};
use arc_swap::ArcSwap;
use rustls::ClientConfig;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::watch;

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// What a file may hold, in bytes.
const MOST: u64 = 16 << 20;

/// Why connections to servers cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("{section}: {source}")]
pub struct TransportError {
    /// The section of the configuration.
    section: &'static str,
    /// What is wrong.
    source: TlsConfigError,
}

/// The configuration of connections to Nomad's agent for the control-plane site, as its provider's.
///
/// # Errors
/// Files that cannot be read or hold not what they should.
pub(super) fn agent_config(tls: &ClientTls) -> Result<Arc<ClientConfig>, TransportError> {
    let pem = |path: &Path| Pem::File(path.display().to_string().into());
    let tls = TransportTls {
        insecure_skip_verify: tls.insecure_skip_verify,
        root_cas: tls.ca.iter().map(|path| pem(path)).collect(),
        certificates: tls.cert.iter().zip(&tls.key).map(|(cert, key)| (pem(cert), pem(key))).collect(),
        ..TransportTls::default()
    };
    let config = client_config(&tls, &mut |path| read(path));
    config.map(Arc::new).map_err(|source| TransportError { section: "providers.nomad.endpoint.tls", source })
}

/// What the files of a transport were like, by name; `None` for one that is not there.
type Marks = BTreeMap<Arc<str>, Option<Mark>>;

/// A transport's certificates, read.
pub(super) struct Loaded {
    config: Result<Arc<ClientConfig>, TlsConfigError>,
    marks: Marks,
}

/// Reads what a transport names; for threads that may wait.
pub(super) fn load(transport: &Transport) -> Loaded {
    // Before the content: what changes meanwhile is seen the next time.
    let marks = marks(transport);
    // What is offered by ALPN is for each connection to say.
    Loaded { config: client_config(&transport.tls, &mut |path| read(path)).map(Arc::new), marks }
}

impl Loaded {
    /// The configuration of `serversTransport`, without which nothing starts.
    ///
    /// # Errors
    /// Files that cannot be read or hold not what they should.
    pub fn or_fail(self) -> Result<Self, TransportError> {
        match self.config {
            Ok(_) => Ok(self),
            Err(source) => Err(TransportError { section: "serversTransport", source }),
        }
    }
}

fn marks(transport: &Transport) -> Marks {
    let tls = &transport.tls;
    let pems = tls.root_cas.iter().chain(tls.certificates.iter().flat_map(|(chain, key)| [chain, key]));
    let files = pems.filter_map(|pem| match pem {
        Pem::File(path) => Some(path),
        Pem::Text(_) => None,
    });
    files.map(|path| (path.clone(), std::fs::metadata(&**path).ok().map(|data| Mark::of(&data)))).collect()
}

fn read(path: &str) -> std::io::Result<Vec<u8>> {
    // A pipe or a device would hold the thread for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(std::io::Error::other(format!("it is longer than {MOST} bytes")));
    }
    Ok(bytes)
}

/// Reads certificates on threads of the control runtime.
#[derive(Clone)]
pub(super) struct Loader {
    runtime: tokio::runtime::Handle,
    next: Arc<AtomicU64>,
    problems: TransportProblems,
}

/// What is wrong with files of transports now.
#[derive(Clone, Default)]
pub(super) struct TransportProblems(Arc<ArcSwap<BTreeMap<u64, Diagnostic>>>);

impl TransportProblems {
    /// In the order in which the transports came.
    pub fn list(&self) -> Vec<Diagnostic> {
        self.0.load().values().cloned().collect()
    }

    fn set(&self, number: u64, problem: Option<Diagnostic>) {
        if self.0.load().get(&number) == problem.as_ref() {
            return;
        }
        problem.iter().for_each(super::tell);
        self.0.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            match &problem {
                Some(problem) => drop(all.insert(number, problem.clone())),
                None => drop(all.remove(&number)),
            }
            all
        });
    }
}

impl Loader {
    /// On the runtime that this is called in.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Handle::current();
        Self { runtime, next: Arc::default(), problems: TransportProblems::default() }
    }

    /// What is wrong with files now.
    pub fn problems(&self) -> TransportProblems {
        self.problems.clone()
    }

    /// Reads a transport's certificates, and again when they change, as long as somebody wants them. Does not wait.
    pub fn start(&self, transport: &Arc<Transport>) -> ServerTls {
        self.watch(transport.clone(), None)
    }

    /// Goes on from what was read already.
    pub fn go_on(&self, transport: Arc<Transport>, loaded: Loaded) -> ServerTls {
        self.watch(transport, Some(loaded))
    }

    fn watch(&self, transport: Arc<Transport>, first: Option<Loaded>) -> ServerTls {
        let mut known = Marks::new();
        let mut state: TlsState = None;
        if let Some(loaded) = first {
            known = loaded.marks;
            state = Some(loaded.config.map_err(|error| error.to_string().into()));
        }
        let (tell, wanted) = watch::channel(state);
        let number = self.next.fetch_add(1, Relaxed);
        let problems = self.problems.clone();
        self.runtime.spawn(async move {
            loop {
                let (of, before) = (transport.clone(), known);
                let unread = tell.borrow().is_none();
                let look = move || {
                    let changed = unread || marks(&of) != before;
                    (changed.then(|| load(&of)), before)
                };
                // A look that hangs ends with its file system; what was read stays in force.
                let Ok((loaded, before)) = tokio::task::spawn_blocking(look).await else { return };
                known = match loaded {
                    Some(loaded) => {
                        problems.set(number, publish(&transport, &tell, loaded.config));
                        loaded.marks
                    }
                    None => before,
                };
                if known.is_empty() {
                    return tell.closed().await;
                }
                tokio::select! {
                    () = tell.closed() => break,
                    () = tokio::time::sleep(EVERY) => {}
                }
            }
            problems.set(number, None);
        });
        ServerTls::awaited(wanted)
    }
}

/// Puts what was read in force, or says why that cannot be.
fn publish(
    transport: &Transport,
    tell: &watch::Sender<TlsState>,
    config: Result<Arc<ClientConfig>, TlsConfigError>,
) -> Option<Diagnostic> {
    let error = match config {
        Ok(config) => {
            tell.send_replace(Some(Ok(config)));
            return None;
        }
        Err(error) => error,
    };
    let kept = matches!(&*tell.borrow(), Some(Ok(_)));
    let stays = if kept { "what was read last stays in force" } else { "no `https://` server is reached by it" };
    if !kept {
        tell.send_replace(Some(Err(error.to_string().into())));
    }
    let id = &transport.id;
    let place = transport.declared.source.place.as_ref();
    let origin = Origin {
        provider: id.rsplit_once('@').map(|(_, provider)| provider.into()),
        file: place.map(|place| place.file.clone()),
        line: place.map(|place| place.at.0),
        column: place.map(|place| place.at.1),
        ..Origin::default()
    };
    let message = format!("serversTransport `{id}`: {error}");
    Some(Diagnostic::error("servers_transport_files", message).with_origin(origin).with_help(stays))
}
