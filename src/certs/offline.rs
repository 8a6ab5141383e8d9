//! What is in the certificate directory, read once for a person who asks, as `serve` reads it: no
//! thread is kept, nothing is made and nothing is written.

use super::folder::Depth;
use super::mirror;
use super::resolver::Resolver;
use super::scan::Scanner;
use super::watch::Findings;
use super::{Certificate, Store, StoreOptions, local, provider};
use crate::diagnostic::Diagnostic;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant, SystemTime};

/// A renewal is seen half-way: looked at again so often, after so long.
const RETRIES: usize = 3;
const SETTLE: Duration = Duration::from_millis(100);

/// The certificates of a directory at one moment.
#[derive(Debug)]
pub struct Inventory {
    /// The directory.
    pub directory: PathBuf,
    /// What was found, by file.
    pub certificates: Vec<Certificate>,
    /// What is wrong, as a running instance would say it.
    pub diagnostics: Vec<Diagnostic>,
}

impl Inventory {
    /// Nothing is broken, expired or out of reach.
    pub fn is_well(&self) -> bool {
        self.diagnostics.is_empty() && self.certificates.iter().all(|certificate| certificate.problem.is_none())
    }
}

/// Reads the directory; `None` when it does not answer within `limit` (a dead NFS server: the thread that
/// reads is left behind).
pub fn inventory(options: &StoreOptions, now: SystemTime, limit: Duration) -> Option<Inventory> {
    let dir = options.directory.clone();
    let mut scanner = Scanner::new(dir.clone(), options.mirror.is_some());
    let mirror = options.mirror.clone();
    let (send, found) = sync_channel(1);
    let read = move || {
        if let Some(root) = mirror {
            scanner.mirror(&mirror::files(&root));
        }
        scanner.look(Depth::Every, now);
        for _ in 0..RETRIES {
            if scanner.unsettled(SETTLE).is_empty() {
                break;
            }
            std::thread::sleep(SETTLE);
            scanner.look(Depth::Every, now);
        }
        // Nobody may be waiting any more.
        let _ = send.send((scanner.index(), scanner.problems(Duration::ZERO)));
    };
    std::thread::Builder::new().name("certs".to_owned()).spawn(read).ok()?;
    let (index, problems) = found.recv_timeout(limit).ok()?;
    let findings = Arc::new(Findings::default());
    findings.index.store(Arc::new(index));
    findings.problems.store(Arc::new(problems));
    let resolver = Arc::new(Resolver::new(findings.clone(), None, None, Instant::now()));
    let store = Store { findings, watch: None, local: None, resolver, dir: dir.clone(), trouble: Arc::default() };
    let (certificates, diagnostics) = (store.certificates(now), store.diagnostics(now));
    Some(Inventory { directory: dir, certificates, diagnostics })
}

/// A certificate for development.
pub struct Development {
    /// PEM chain, leaf first, without the root.
    pub chain: String,
    /// PEM private key.
    pub key: String,
    /// The root's certificate, PEM.
    pub root: Arc<str>,
    /// Where it lies, if it could be kept.
    pub root_file: Option<PathBuf>,
}

impl std::fmt::Debug for Development {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Development").field("root_file", &self.root_file).finish_non_exhaustive()
    }
}

/// Signs a certificate for these hosts (names, also wildcards, and addresses) with the local authority that
/// [`Store::open`] would use, which is made when there is none. Valid for 90 days, or as long as the
/// authority signs: seven days at most where it is Caddy's.
///
/// # Errors
/// A host is neither a name nor an address, or the authority is of no use; for people.
pub fn development(options: &StoreOptions, hosts: &[String], now: SystemTime) -> Result<Development, String> {
    local::development(options, hosts, now, &provider())
}
