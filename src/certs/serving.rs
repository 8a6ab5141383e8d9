//! What who orders certificates asks of the store: what is served for a name, what a pair in PEM form is, and a place in memory
//! for one that cannot be stored.

use super::pair::{self, Chains, PairError, Whence};
use super::{Content, Named, Store, VERSIONS, provider};
use crate::diagnostic::{Diagnostic, Origin};
use crate::model::Secret;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

/// A certificate is told of when less than such a part of its life is left, at most [`Store::expiring`]'s limit: one that lives
/// for days is renewed later than one that lives for months.
const PART: u32 = 6;
/// Certificates told of at once.
const LIMIT: usize = 200;

/// A certificate that is served for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// File of the chain.
    pub file: PathBuf,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// Whether it is valid.
    pub valid: bool,
    /// Issued by an authority of the house.
    pub local: bool,
}

/// A pair's names and times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Hosts that it names.
    pub names: Vec<Arc<str>>,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
}

/// Reads a pair in PEM form.
///
/// # Errors
/// It cannot be served.
pub fn inspect(chain: &[u8], key: &[u8]) -> Result<Inspected, PairError> {
    let whence = Whence { file: Path::new("").into(), entry: None, local: false, default: false };
    let pair = pair::parse(chain, key, whence, &Chains::default())?;
    Ok(Inspected { names: pair.names, not_before: pair.not_before, not_after: pair.not_after })
}

/// What handshakes of `acme-tls/1` go by (RFC 8737): no other protocol, nothing to resume.
///
/// # Errors
/// The provider refuses its own parts.
pub fn challenge_config(resolver: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(VERSIONS)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

impl Store {
    /// What is served for a name, a host or a wildcard, at `now`.
    pub fn serving(&self, name: &str, now: SystemTime) -> Option<Serving> {
        let index = self.findings.index.load();
        let pair = index.find(name, now, self.findings.prefer_local.load(Ordering::Relaxed), |_| true)?;
        Some(Serving {
            file: pair.file.to_path_buf(),
            not_before: pair.not_before,
            not_after: pair.not_after,
            valid: pair.valid_at(now),
            local: pair.local,
        })
    }

    /// Serves a pair that cannot be stored from memory, as if it lay at `file`, until the process ends or one that began later
    /// is found. Takes the place of the one held for that file before. Waits for nothing.
    pub fn hold(&self, file: PathBuf, chain: &[u8], key: &[u8]) {
        let text = |pem: &[u8]| Content::Text(Secret::new(String::from_utf8_lossy(pem)));
        let pair = Named { chain: text(chain), key: text(key), default: false, place: file };
        self.findings.held.rcu(|held| {
            let others = held.iter().filter(|other| other.place != pair.place).cloned();
            others.chain([Arc::new(pair.clone())]).collect::<Vec<_>>()
        });
        self.watch.iter().for_each(|watch| watch.changed());
    }

    /// Certificates that end within `limit` and that nobody has renewed, by file.
    pub fn expiring(&self, now: SystemTime, limit: Duration) -> Vec<Diagnostic> {
        let index = self.findings.index.load();
        let prefer_local = self.findings.prefer_local.load(Ordering::Relaxed);
        let soon = index.all().iter().filter(|pair| {
            let life = pair.not_after.duration_since(pair.not_before).unwrap_or_default();
            let left = pair.not_after.duration_since(now).unwrap_or_default();
            !pair.local && !left.is_zero() && left < limit.min(life / PART)
        });
        let told = soon.filter_map(|pair| {
            let best = |name: &&Arc<str>| {
                index.find(name, now, prefer_local, |_| true).is_some_and(|best| Arc::ptr_eq(best, pair))
            };
            let name = pair.names.iter().find(best)?;
            let end = jiff::Timestamp::try_from(pair.not_after).ok()?;
            let origin = Origin { file: Some(pair.file.display().to_string().into()), ..Origin::default() };
            let message = format!("the certificate for `{name}` ends soon: at {end:.0}");
            Some(Diagnostic::warning("certificate_expires", message).with_origin(origin))
        });
        told.take(LIMIT).collect()
    }
}
