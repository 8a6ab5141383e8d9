//! Certificates: found under the certificate directory (Caddy's, certbot's and flat layouts, Traefik's `acme.json`), named by
//! configuration, or signed by a local authority for hosts that have none there. [`Store`] keeps them current,
//! [`server_config`] serves them.
//!
//! What always holds: a handshake reads memory alone; reading files is the business of one thread
//! that nothing waits for; a broken file never replaces a pair that works; a handshake always gets
//! a certificate. The provider of cryptography is chosen here and nowhere else.

mod copy;
mod events;
mod files;
mod folder;
mod index;
mod inventory;
mod local;
mod mirror;
mod named;
mod offline;
pub mod options;
mod pair;
mod resolver;
mod scan;
mod serving;
mod staple;
pub mod storage;
mod traefik;
mod unit;
mod watch;

pub use inventory::Certificate;
pub use mirror::Mirror;
pub use named::{Content, Named};
pub use offline::{Development, Inventory, development, inventory};
pub use pair::PairError;
pub use serving::{Inspected, Serving, challenge_config, inspect};

use crate::diagnostic::Diagnostic;
use local::LocalAuthority;
use resolver::Resolver;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use storage::Storage;
use watch::{Findings, Places, Watch};

/// How long a start waits for the certificate directory to be read.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// TLS 1.3 and 1.2; nothing older.
static VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// aws-lc-rs with AES-128 in front: the fastest that every client has.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let first = cipher_suite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != first.suite());
    provider
}

/// Makes aws-lc-rs the process's provider of cryptography. Called first thing; a second call does
/// nothing.
pub fn install_provider() {
    let _ = provider().install_default();
}

/// What a [`Store`] is opened with.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// The certificate directory, absolute.
    pub directory: PathBuf,
    /// Where our own local authority is kept, absolute.
    pub local_root: PathBuf,
    /// Where what is served is copied to (0700, files 0600), and served from at a start where the directory does not answer;
    /// absolute.
    pub copy: Option<PathBuf>,
    /// Where a [`Mirror`] is, absolute: what is in it is served besides. Then the certificate directory need not exist.
    pub mirror: Option<PathBuf>,
    /// HinD's `CERTS_SELF_SIGNED`, Caddy's `tls internal`: the authority that Caddy keeps in the certificate
    /// directory signs for every host, also for those that an ACME authority once gave a certificate. Pairs
    /// that were put there by hand or named are served all the same.
    pub self_signed: bool,
}

/// The certificates of the process. Cloning is cheap; the thread ends with the last clone and the
/// last [`ServerConfig`] made of it.
#[derive(Debug, Clone)]
pub struct Store {
    findings: Arc<Findings>,
    watch: Option<Arc<Watch>>,
    local: Option<Arc<LocalAuthority>>,
    resolver: Arc<Resolver>,
    dir: PathBuf,
    /// What went wrong at the start for good.
    trouble: Arc<Vec<Diagnostic>>,
}

impl Store {
    /// Opens the certificate directory and the local authority. Never fails: a directory that is missing or
    /// cannot be read is a diagnostic, and is looked at again. Waits two seconds at most for one that hangs.
    pub fn open(options: &StoreOptions) -> Self {
        let dir = options.directory.as_path();
        let provider = Arc::new(provider());
        let mut trouble = Vec::new();
        let local = match LocalAuthority::open(&options.local_root, SystemTime::now(), &provider) {
            Ok((local, diagnostic)) => {
                trouble.extend(diagnostic);
                Some(Arc::new(local))
            }
            Err(error) => {
                let message = format!("hosts without a certificate get none: {error}");
                trouble.push(Diagnostic::error("local_authority", message));
                None
            }
        };
        let places = Places { dir: dir.to_owned(), copy: options.copy.clone(), mirror: options.mirror.clone() };
        let (watch, findings) = match Watch::start(places, FIRST_LOOK) {
            Ok((watch, findings)) => (Some(watch), findings),
            Err(error) => {
                let message = format!("the thread that reads certificates cannot be started: {error}");
                trouble.push(Diagnostic::error("certificates", message));
                (None, Arc::default())
            }
        };
        if let Some(local) = local.as_ref().filter(|_| options.self_signed)
            && let Err(error) = local.share(Storage::directory(dir.to_owned()), dir, FIRST_LOOK)
        {
            let message = format!("the thread that keeps Caddy's local authority cannot be started: {error}");
            trouble.push(Diagnostic::error("local_authority", message));
        }
        let mut resolver = Resolver::new(findings.clone(), watch.clone(), local.clone(), Instant::now());
        findings.prefer_local.store(options.self_signed, Ordering::Relaxed);
        resolver.signed_anew = options.self_signed.then(|| dir.join("certificates"));
        let resolver = Arc::new(resolver);
        Self { findings, watch, local, resolver, dir: dir.to_owned(), trouble: Arc::new(trouble) }
    }

    /// What chooses a handshake's certificate.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        self.resolver.clone()
    }

    /// Where the certificate of the local authority that signs lies; `None` when it could not be kept.
    pub fn root_pem_path(&self) -> Option<PathBuf> {
        Some(self.local.as_ref()?.certificate_file()?.to_owned())
    }

    /// The same certificate in PEM form.
    pub fn root_pem(&self) -> Option<Arc<str>> {
        Some(self.local.as_ref()?.certificate(SystemTime::now()))
    }

    /// Serves these certificates besides those of the directory, in the place of the ones named before. Waits for nothing.
    pub fn name(&self, named: Vec<Named>) {
        let named: Vec<Arc<Named>> = named.into_iter().map(Arc::new).collect();
        if **self.findings.named.load() != named {
            self.findings.named.store(Arc::new(named));
            self.watch.iter().for_each(|watch| watch.changed());
        }
    }

    /// Serves what is in these documents of Traefik's (`acme.json`, absolute), which are never written, besides the one that lies in
    /// the directory. Waits for nothing.
    pub fn import(&self, documents: Vec<PathBuf>) {
        if **self.findings.documents.load() != documents {
            self.findings.documents.store(Arc::new(documents));
            self.watch.iter().for_each(|watch| watch.changed());
        }
    }

    /// What a mirror has: its chains, and what is wrong with those that it has not, from when on. What lies at the same place as
    /// before may be another one. Waits for nothing.
    fn mirrored(&self, files: Vec<PathBuf>, problems: Vec<(Diagnostic, Instant)>) {
        self.findings.mirrored.store(Arc::new(files));
        self.findings.mirror_problems.store(Arc::new(problems));
        self.watch.iter().for_each(|watch| watch.changed());
    }

    /// Makes the thread look for a certificate of this host at once, as a handshake that misses it does. Waits for nothing.
    pub fn seek(&self, host: &str) {
        self.watch.iter().for_each(|watch| watch.missed(host));
    }

    /// Looks at every file now and waits for it; false when it took longer than `limit`.
    pub fn rescan(&self, limit: Duration) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.look(limit))
    }

    /// Whether a certificate that is valid at `now` and not made by the house names this host.
    pub fn covers(&self, host: &str, now: SystemTime) -> bool {
        let index = self.findings.index.load();
        index.find(host, now, false, |_| true).is_some_and(|pair| !pair.local && pair.valid_at(now))
    }
}

/// What TLS listeners share: made once a process, so that a client's ticket is taken by every
/// worker. HTTP/2 and HTTP/1.1 by ALPN; the server's order of ciphers; stateless tickets under
/// rotating keys.
///
/// # Errors
/// The provider refuses its own parts, or has no randomness for ticket keys.
pub fn server_config(store: &Store) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(VERSIONS)?
        .with_no_client_auth()
        .with_cert_resolver(store.resolver());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
