//! Certificates: found under the certificate directory (Caddy's, certbot's and flat layouts), or
//! signed by a local authority for hosts that have none there. [`Store`] keeps them current,
//! [`server_config`] serves them.
//!
//! What always holds: a handshake reads memory alone; reading files is the business of one thread
//! that nothing waits for; a broken file never replaces a pair that works; a handshake always gets
//! a certificate. The provider of cryptography is chosen here and nowhere else.

mod index;
mod inventory;
mod local;
pub mod options;
mod pair;
mod resolver;
mod scan;
pub mod storage;
mod watch;

pub use inventory::{Development, Inventory, development, inventory};
pub use pair::PairError;

use crate::diagnostic::{Diagnostic, Origin};
use local::LocalAuthority;
use resolver::Resolver;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{ServerConfig, SupportedProtocolVersion};
use scan::Scanner;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use storage::Storage;
use watch::{Findings, Watch};

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

/// One certificate of the inventory, or a file that should be one. Without keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Hosts and addresses that it names.
    pub names: Vec<Arc<str>>,
    /// Common name of the subject; may be empty.
    pub common_name: String,
    /// Issuer, as a distinguished name.
    pub issuer: String,
    /// Serial number, decimal.
    pub serial: String,
    /// Start of validity; `None` for a file that could not be read.
    #[serde(serialize_with = "as_rfc3339")]
    pub not_before: Option<SystemTime>,
    /// End of validity.
    #[serde(serialize_with = "as_rfc3339")]
    pub not_after: Option<SystemTime>,
    /// File of the chain.
    pub file: PathBuf,
    /// Issued by an authority of the house.
    pub local: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

fn as_rfc3339<S: serde::Serializer>(t: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match t.and_then(|t| jiff::Timestamp::try_from(t).ok()) {
        Some(t) => serializer.collect_str(&t),
        None => serializer.serialize_none(),
    }
}

/// What a [`Store`] is opened with.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// The certificate directory, absolute.
    pub directory: PathBuf,
    /// Where our own local authority is kept, absolute.
    pub local_root: PathBuf,
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
        let scanner = Scanner::new(dir.to_owned(), provider);
        let (watch, findings) = match Watch::start(scanner, dir.to_owned(), FIRST_LOOK) {
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

    /// Serves these pairs (chain and key, absolute) besides those of the directory, in the place of the
    /// ones named before. Waits for nothing.
    pub fn name(&self, pairs: Vec<(PathBuf, PathBuf)>) {
        if **self.findings.named.load() != pairs {
            self.findings.named.store(Arc::new(pairs));
            self.watch.iter().for_each(|watch| watch.changed());
        }
    }

    /// Looks at every file now and waits for it; false when it took longer than `limit`.
    pub fn rescan(&self, limit: Duration) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.look(limit))
    }

    /// Whether a certificate that is valid at `now` and not made by the house names this host.
    pub fn covers(&self, host: &str, now: SystemTime) -> bool {
        let index = self.findings.index.load();
        index.find(host, now, |_| true).is_some_and(|pair| !pair.local && pair.valid_at(now))
    }

    /// Everything found, by file, with what is wrong at `now`.
    pub fn certificates(&self, now: SystemTime) -> Vec<Certificate> {
        let problems = self.findings.problems.load();
        let mut all: Vec<Certificate> = self
            .findings
            .index
            .load()
            .all()
            .iter()
            .map(|pair| {
                let addresses = pair.addresses.iter().map(|address| Arc::from(address.to_string()));
                let kept = problems.iter().find(|problem| problem.file == pair.file);
                let problem = match kept {
                    Some(problem) => Some(format!("{}; the pair from before is served", problem.text)),
                    None if now >= pair.not_after => Some("expired".to_owned()),
                    None if now < pair.not_before => Some("not valid yet".to_owned()),
                    None => None,
                };
                Certificate {
                    names: pair.names.iter().cloned().chain(addresses).collect(),
                    common_name: pair.common_name.clone(),
                    issuer: pair.issuer.clone(),
                    serial: pair.serial.clone(),
                    not_before: Some(pair.not_before),
                    not_after: Some(pair.not_after),
                    file: pair.file.clone(),
                    local: pair.local,
                    problem,
                }
            })
            .collect();
        let broken = problems.iter().filter(|problem| !problem.kept && problem.file != self.dir);
        all.extend(broken.map(|problem| Certificate {
            names: Vec::new(),
            common_name: String::new(),
            issuer: String::new(),
            serial: String::new(),
            not_before: None,
            not_after: None,
            file: problem.file.clone(),
            local: false,
            problem: Some(problem.text.clone()),
        }));
        all.sort_by(|a, b| a.file.cmp(&b.file));
        all
    }

    /// What is wrong now: directories, files, and hosts whose best certificate is not valid.
    pub fn diagnostics(&self, now: SystemTime) -> Vec<Diagnostic> {
        let at = |file: &Path| Origin { file: Some(file.display().to_string().into()), ..Origin::default() };
        let mut all = (*self.trouble).clone();
        all.extend(self.local.as_ref().and_then(|local| local.diagnostic()));
        for problem in self.findings.problems.load().iter() {
            let diagnostic = if problem.file == self.dir {
                let message = format!("the certificate directory: {}", problem.text);
                Diagnostic::warning("certificate_directory", message)
            } else if problem.kept {
                let message = format!("certificate not replaced: {}", problem.text);
                Diagnostic::error("bad_certificate", message).with_help("the pair from before is served")
            } else {
                Diagnostic::error("bad_certificate", format!("certificate not served: {}", problem.text))
            };
            all.push(diagnostic.with_origin(at(&problem.file)));
        }
        let index = self.findings.index.load();
        for pair in index.all().iter().filter(|pair| !pair.valid_at(now) && !pair.local) {
            let best = |name: &Arc<str>| index.find(name, now, |_| true).is_some_and(|best| Arc::ptr_eq(best, pair));
            if let Some(name) = pair.names.iter().find(|name| best(name)) {
                let state = if now >= pair.not_after { "has expired" } else { "is not valid yet" };
                let message = format!("the only certificate for `{name}` {state}");
                all.push(Diagnostic::error("certificate_expired", message).with_origin(at(&pair.file)));
            }
        }
        all
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
