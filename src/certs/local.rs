//! The local authority: signs a short-lived certificate for any host that has none, so that a TLS
//! handshake always gets one. It signs with a root of our own ([`own`]), or with the authority that
//! Caddy keeps in the shared directory ([`caddy`]) once that is there, where certificates are to be
//! self-signed. Whoever trusts the root's certificate can verify them.
//!
//! A leaf costs one P-256 signature, is cached, and is bounded in number and rate: the names come
//! from strangers. Leaves are never written: Caddy makes its own when it starts, and a thousand
//! hosts would be three thousand files every eight hours.

mod caddy;
mod own;

use super::storage::Storage;
use super::{Development, StoreOptions};
use crate::diagnostic::{Diagnostic, Origin};
use arc_swap::ArcSwapOption;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer};
use rcgen::{KeyPair, KeyUsagePurpose, SanType, SerialNumber};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;

/// Life of a leaf of our own root.
const LEAF_LIFE: Duration = Duration::from_secs(86_400 * 7);
/// One with less left is signed anew.
const LEAF_LEFT: Duration = Duration::from_secs(86_400 * 2);
/// Clients' clocks may be behind ours by this much.
const BACKDATE: Duration = Duration::from_secs(3_600);
/// Leaves kept.
const LEAVES: usize = 1_000;
/// Signatures a second, and how many at once after a quiet time.
const RATE: f64 = 50.0;
const BURST: f64 = 200.0;
/// A DNS name has at most so many characters (RFC 1035, section 2.3.4).
const NAME_LIMIT: usize = 253;
/// Life of a certificate for development.
const DEVELOPMENT_LIFE: Duration = Duration::from_secs(86_400 * 90);
/// Pauses between looks at Caddy's authority, which another process may renew or replace.
const LOOK: std::ops::Range<Duration> = Duration::from_secs(45)..Duration::from_secs(75);
/// The same where it cannot be used.
const LOOK_AGAIN: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(3);

/// Whose authority signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Own,
    Caddy,
}

/// What leaves are signed with.
struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// What stands between a leaf and the root.
    above: Vec<CertificateDer<'static>>,
    /// The root's certificate, PEM.
    root: Arc<str>,
    not_before: SystemTime,
    not_after: SystemTime,
    kind: Kind,
}

struct Leaf {
    key: Arc<CertifiedKey>,
    /// The root that it leads to.
    root: Arc<str>,
    renew_at: SystemTime,
    used: u64,
}

impl Leaf {
    fn is_fresh(&self, signer: &Signer, now: SystemTime) -> bool {
        now < self.renew_at && (Arc::ptr_eq(&self.root, &signer.root) || self.root == signer.root)
    }
}

struct Leaves {
    by_name: HashMap<Arc<str>, Leaf>,
    default: Option<Leaf>,
    uses: u64,
    tokens: f64,
    filled: Option<Instant>,
}

/// Caddy's authority, kept current by a thread of its own: its directory may hang.
struct Shared {
    /// Where its root's certificate lies.
    file: PathBuf,
    /// Its end stops the thread.
    _stop: Sender<()>,
}

/// The authority. Shared by all workers; only handshakes without a certificate on disk come here.
pub(super) struct LocalAuthority {
    own: Arc<Signer>,
    certificate_file: Option<PathBuf>,
    shared: OnceLock<Shared>,
    caddys: ArcSwapOption<Signer>,
    /// Why Caddy's authority is not used or not renewed.
    trouble: ArcSwapOption<String>,
    /// One key for all leaves of this process: a signature is dear enough.
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
    leaves: Mutex<Leaves>,
}

impl std::fmt::Debug for LocalAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalAuthority").field("certificate_file", &self.certificate_file).finish_non_exhaustive()
    }
}

fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    // Positive and of full length (RFC 5280, section 4.1.2.2).
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// When a certificate begins and ends to be valid.
fn life_of(x509: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let time = |seconds: i64| {
        let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        UNIX_EPOCH.checked_add(seconds).unwrap_or(UNIX_EPOCH)
    };
    (time(x509.validity().not_before.timestamp()), time(x509.validity().not_after.timestamp()))
}

impl LocalAuthority {
    /// The authority kept in `dir`. When it can be neither read nor kept there, one that lives as
    /// long as the process, and a diagnostic.
    ///
    /// # Errors
    /// No key can be made at all: the cryptographic library refuses.
    pub(super) fn open(
        dir: &Path,
        now: SystemTime,
        provider: &CryptoProvider,
    ) -> Result<(Self, Option<Diagnostic>), String> {
        let text = |error: own::RootError| error.to_string();
        let warning = |message: String| {
            Diagnostic::warning("local_authority", message)
                .with_origin(Origin { file: Some(dir.display().to_string().into()), ..Origin::default() })
        };
        let (root, certificate_file, diagnostic) = match own::keep_root(dir, now, provider) {
            Ok(root) => match own::publish(dir, &root) {
                Ok(file) => (root, Some(file), None),
                Err(error) => {
                    let message = format!("the local authority's certificate cannot be written: {error}");
                    (root, None, Some(warning(message)))
                }
            },
            Err(error) => {
                let message = format!("the local authority cannot be kept: {error}");
                let help = "certificates for hosts without one are signed by an authority that ends with the process";
                (own::new_root(now).map_err(text)?.0, None, Some(warning(message).with_help(help)))
            }
        };
        let leaf_key = KeyPair::generate().map_err(|error| error.to_string())?;
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let leaf_signer = provider.key_provider.load_private_key(secret).map_err(|error| error.to_string())?;
        let leaves = Leaves { by_name: HashMap::new(), default: None, uses: 0, tokens: BURST, filled: None };
        let (own, leaves) = (Arc::new(root), Mutex::new(leaves));
        let (shared, caddys, trouble) = (OnceLock::new(), ArcSwapOption::empty(), ArcSwapOption::empty());
        Ok((Self { own, certificate_file, shared, caddys, trouble, leaf_key, leaf_signer, leaves }, diagnostic))
    }

    /// Signs with the authority that Caddy keeps in `storage` (whose directory is `dir`) from when it is
    /// there, made if need be. Waits for it `limit` at most; until then, and whenever it is of no use, our
    /// own root signs.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn share(self: &Arc<Self>, storage: Storage, dir: &Path, limit: Duration) -> std::io::Result<()> {
        let (stop, stopped) = channel();
        let (first, looked) = sync_channel(1);
        let authority = Arc::downgrade(self);
        let keep = move || keep(&authority, &storage, &stopped, &first);
        std::thread::Builder::new().name("certs-local".to_owned()).spawn(keep)?;
        let _ = self.shared.set(Shared { file: dir.join(caddy::ROOT), _stop: stop });
        if looked.recv_timeout(limit).is_err() {
            tracing::warn!("the local authority's directory does not answer; its certificates are used once it does");
        }
        Ok(())
    }

    /// Whether Caddy's authority signs now.
    pub(super) fn is_shared(&self, now: SystemTime) -> bool {
        self.signer(now).kind == Kind::Caddy
    }

    /// Why it does not, or what keeps it from being renewed.
    pub(super) fn diagnostic(&self) -> Option<Diagnostic> {
        let shared = self.shared.get()?;
        let message = format!("Caddy's local authority: {}", self.trouble.load_full()?);
        let help = match self.caddys.load().is_some() {
            true => "the one read before signs for as long as it is valid",
            false => "until it can be used, rust-lb's own authority signs, which nobody who trusts Caddy's knows",
        };
        let origin = Origin { file: Some(shared.file.display().to_string().into()), ..Origin::default() };
        Some(Diagnostic::warning("local_authority", message).with_origin(origin).with_help(help))
    }

    /// What signs now.
    fn signer(&self, now: SystemTime) -> Arc<Signer> {
        let caddys = self.caddys.load_full().filter(|signer| now < signer.not_after);
        caddys.unwrap_or_else(|| self.own.clone())
    }

    /// Where the certificate of the root that signs lies, if it could be kept.
    pub(super) fn certificate_file(&self) -> Option<&Path> {
        match (self.caddys.load().is_some(), self.shared.get()) {
            (true, Some(shared)) => Some(&shared.file),
            _ => self.certificate_file.as_deref(),
        }
    }

    /// The certificate of the root that signs, in PEM form.
    pub(super) fn certificate(&self, now: SystemTime) -> Arc<str> {
        self.signer(now).root.clone()
    }

    fn sign(
        &self,
        signer: &Signer,
        names: Vec<SanType>,
        common_name: &str,
        now: SystemTime,
    ) -> Result<Leaf, rcgen::Error> {
        let (params, renew_at) = signer.leaf(names, common_name, now);
        let certificate = params.signed_by(&self.leaf_key, &signer.issuer)?;
        let chain = [certificate.der().clone()].into_iter().chain(signer.above.iter().cloned()).collect();
        let key = CertifiedKey::new(chain, self.leaf_signer.clone());
        Ok(Leaf { key: Arc::new(key), root: signer.root.clone(), renew_at, used: 0 })
    }

    /// The certificate for a host: from the cache, or signed now. Above the rate, and for names
    /// that no certificate can hold, the default one.
    pub(super) fn leaf(&self, host: &str, now: SystemTime, clock: Instant) -> Option<Arc<CertifiedKey>> {
        let signer = self.signer(now);
        if let Some(key) = self.cached(&signer, host, now) {
            return Some(key);
        }
        let name = host.try_into().map(SanType::DnsName);
        let (Ok(name), true) = (name, host.len() <= NAME_LIMIT && self.may_sign(clock)) else {
            return self.default_leaf(now);
        };
        // Signed outside the lock; that two handshakes may sign for one name at once does no harm.
        let leaf = match self.sign(&signer, vec![name], host, now) {
            Ok(leaf) => leaf,
            Err(error) => {
                tracing::warn!(host, %error, "no certificate could be made");
                return self.default_leaf(now);
            }
        };
        let key = leaf.key.clone();
        self.lock().insert(host, leaf);
        Some(key)
    }

    /// The certificate for clients that name no host.
    pub(super) fn default_leaf(&self, now: SystemTime) -> Option<Arc<CertifiedKey>> {
        let signer = self.signer(now);
        if let Some(leaf) = &self.lock().default
            && leaf.is_fresh(&signer, now)
        {
            return Some(leaf.key.clone());
        }
        let names = vec![
            SanType::DnsName("localhost".try_into().ok()?),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ];
        let leaf = self.sign(&signer, names, "localhost", now).ok()?;
        let key = leaf.key.clone();
        self.lock().default = Some(leaf);
        Some(key)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Leaves> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self, signer: &Signer, host: &str, now: SystemTime) -> Option<Arc<CertifiedKey>> {
        let mut leaves = self.lock();
        leaves.uses += 1;
        let uses = leaves.uses;
        let leaf = leaves.by_name.get_mut(host).filter(|leaf| leaf.is_fresh(signer, now))?;
        leaf.used = uses;
        Some(leaf.key.clone())
    }

    /// Takes a token of the signing rate.
    fn may_sign(&self, clock: Instant) -> bool {
        let mut leaves = self.lock();
        let since = leaves.filled.map_or(Duration::ZERO, |filled| clock.saturating_duration_since(filled));
        leaves.tokens = (leaves.tokens + since.as_secs_f64() * RATE).min(BURST);
        leaves.filled = Some(clock);
        let may = leaves.tokens >= 1.0;
        if may {
            leaves.tokens -= 1.0;
        }
        may
    }
}

impl Leaves {
    /// Keeps a leaf; when there are too many, the eighth that was used longest ago goes.
    fn insert(&mut self, host: &str, mut leaf: Leaf) {
        if self.by_name.len() >= LEAVES && !self.by_name.contains_key(host) {
            let mut used: Vec<u64> = self.by_name.values().map(|leaf| leaf.used).collect();
            let (_, limit, _) = used.select_nth_unstable(LEAVES / 8);
            let limit = *limit;
            self.by_name.retain(|_, leaf| leaf.used > limit);
        }
        leaf.used = self.uses;
        self.by_name.insert(host.into(), leaf);
    }
}

impl Signer {
    /// What a leaf is made from, and when it is to be made anew. Of Caddy's authority it is as Caddy's: 12 h
    /// long, without a subject, renewed with a third left.
    fn leaf(&self, names: Vec<SanType>, common_name: &str, now: SystemTime) -> (CertificateParams, SystemTime) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        let (not_before, not_after, renew_at);
        match self.kind {
            Kind::Own => {
                // A common name is limited to 64 characters (RFC 5280, ub-common-name); nobody reads it.
                if common_name.len() <= 64 {
                    params.distinguished_name.push(DnType::CommonName, common_name);
                }
                not_before = now - BACKDATE;
                not_after = (now + LEAF_LIFE).min(self.not_after);
                renew_at = not_after - LEAF_LEFT;
            }
            Kind::Caddy => {
                params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
                not_before = (now - caddy::LEAF_BACKDATE).max(self.not_before);
                not_after = (not_before + caddy::LEAF_LIFE).min(self.not_after);
                renew_at = not_after - not_after.duration_since(not_before).unwrap_or_default() / 3;
            }
        }
        params.not_before = not_before.into();
        params.not_after = not_after.into();
        (params, renew_at)
    }
}

/// See [`super::development`].
pub(super) fn development(
    options: &StoreOptions,
    hosts: &[String],
    now: SystemTime,
    provider: &CryptoProvider,
) -> Result<Development, String> {
    let names = hosts.iter().map(|host| match host.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) if is_host(host) => host.to_ascii_lowercase().try_into().map(SanType::DnsName).map_err(|_| host),
        Err(_) => Err(host),
    });
    let names: Vec<_> = names.collect::<Result<_, _>>().map_err(|host| format!("`{host}` is no host"))?;
    let (signer, root_file) = if options.self_signed {
        let storage = Storage::directory(options.directory.clone());
        let (signer, _) = caddy::load(&storage, now).map_err(|error| format!("Caddy's local authority: {error}"))?;
        (signer, Some(options.directory.join(caddy::ROOT)))
    } else {
        let signer = own::keep_root(&options.local_root, now, provider).map_err(|error| error.to_string())?;
        let file = own::publish(&options.local_root, &signer).map_err(|error| error.to_string())?;
        (signer, Some(file))
    };
    let (mut params, _) = signer.leaf(names, &hosts[0], now);
    params.not_after = (now + DEVELOPMENT_LIFE).min(signer.not_after).into();
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let leaf = params.signed_by(&key, &signer.issuer).map_err(|error| error.to_string())?;
    let above = signer.above.iter().map(|der| caddy::pem("CERTIFICATE", der));
    let chain = std::iter::once(leaf.pem()).chain(above).collect();
    Ok(Development { chain, key: key.serialize_pem(), root: signer.root, root_file })
}

/// Whether a certificate can name it: labels of letters, digits, `-` and `_`, a `*` alone as the first.
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(good)
    };
    name.len() <= NAME_LIMIT && name.strip_prefix("*.").unwrap_or(name).split('.').all(label)
}

/// Keeps Caddy's authority current until the authority has gone.
fn keep(authority: &Weak<LocalAuthority>, storage: &Storage, stopped: &Receiver<()>, first: &SyncSender<()>) {
    loop {
        // May hang for as long as the directory's server likes.
        let loaded = caddy::load(storage, SystemTime::now());
        let Some(authority) = authority.upgrade() else { return };
        let (signer, trouble) = match loaded {
            Ok((signer, trouble)) => (Some(signer), trouble),
            Err(error) => (None, Some(error)),
        };
        let trouble = trouble.map(|error| error.to_string());
        if let Some(text) = &trouble
            && authority.trouble.load().as_deref() != Some(text)
        {
            tracing::warn!("Caddy's local authority: {text}");
        }
        let pause = rand::random_range(if trouble.is_some() { LOOK_AGAIN } else { LOOK });
        authority.trouble.store(trouble.map(Arc::new));
        if let Some(signer) = signer {
            authority.caddys.store(Some(Arc::new(signer)));
        }
        drop(authority);
        // Nobody may be waiting any more.
        let _ = first.try_send(());
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
