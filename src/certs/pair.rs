//! One certificate with its key, read from PEM text and checked: the chain parses, the key belongs
//! to the first certificate, and it names a host.
//!
//! What always holds: a handshake never reads a file for it. What rustls needs for one is made of what is in memory at the first
//! handshake, and given back when no handshake has needed it for a while ([`Pair::rest`]); equal intermediates are in memory once.

use super::staple::Staple;
use arc_swap::ArcSwapOption;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// An authority's clock may be ahead of ours by this much.
const SKEW: Duration = Duration::from_secs(300);

/// Why a pair of files is not served. Texts never quote what is in the files: it may be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("`{}` cannot be read: {reason}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's answer.
        reason: String,
    },
    /// A file is larger than any chain or key.
    #[error("`{}` is larger than {} KiB, which no chain and no key is", file.display(), limit / 1024)]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Something else than a regular file.
    #[error("`{}` is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The key's file is missing.
    #[error("the key `{}` is missing", .0.display())]
    KeyMissing(PathBuf),
    /// A link whose end is not there.
    #[error("`{}` is a link that leads nowhere", .0.display())]
    Dangling(PathBuf),
    /// No PEM certificate.
    #[error("no PEM certificate in it")]
    NoCertificate,
    /// DER instead of PEM.
    #[error("no PEM certificate in it, but DER: `openssl x509 -inform der` makes PEM of it")]
    Der,
    /// A certificate of the chain does not parse.
    #[error("certificate {0} of the chain does not parse")]
    BadCertificate(usize),
    /// No PEM private key.
    #[error("no PEM private key in it")]
    NoKey,
    /// A key that asks for a passphrase.
    #[error(
        "the private key is encrypted, and nobody can be asked for its passphrase: `openssl pkey` writes it without one"
    )]
    EncryptedKey,
    /// A key of a kind that is not supported, or one that does not parse.
    #[error(
        "the private key does not parse, or is neither RSA of 2048 to 8192 bits nor P-256, P-384, P-521 or Ed25519"
    )]
    BadKey,
    /// What is wrong with the key, where it has a file of its own.
    #[error("`{}`: {error}", file.display())]
    InKey {
        /// The key's file.
        file: PathBuf,
        /// What is wrong.
        error: Box<PairError>,
    },
    /// Key and certificate are of different pairs.
    #[error("key and certificate do not belong together")]
    Mismatch,
    /// Neither a DNS name nor an address among the subject alternative names.
    #[error("the certificate names no host (neither a DNS name nor an address among its subject alternative names)")]
    NoNames,
    /// A new certificate that is not valid in the place of one that is.
    #[error("the new certificate {0}")]
    NotValid(&'static str),
    /// A document of Traefik's that is not one, or not yet whole.
    #[error("no `acme.json` as Traefik writes it, or cut off: {0}")]
    Document(String),
    /// A certificate of Traefik's document.
    #[error("`{name}`: {error}")]
    Entry {
        /// The domain that it was asked for.
        name: Arc<str>,
        /// What is wrong.
        error: Box<PairError>,
    },
}

/// All schemes that a key may sign with; [`Pair::schemes`] has a bit for each.
const SCHEMES: [SignatureScheme; 13] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::ML_DSA_44,
    SignatureScheme::ML_DSA_65,
    SignatureScheme::ML_DSA_87,
];

/// What follows the first certificate of chains, each once.
#[derive(Debug, Default)]
pub(super) struct Chains(Mutex<HashSet<Arc<[CertificateDer<'static>]>>>);

impl Chains {
    /// The one like this in memory; `check` is called on one that is new.
    fn share(
        &self,
        rest: Vec<CertificateDer<'static>>,
        check: impl FnOnce(&[CertificateDer<'static>]) -> Result<(), PairError>,
    ) -> Result<Arc<[CertificateDer<'static>]>, PairError> {
        if let Some(known) = self.lock().get(&rest[..]) {
            return Ok(known.clone());
        }
        check(&rest)?;
        let rest: Arc<[CertificateDer<'static>]> = rest.into();
        let mut known = self.lock();
        // Another thread may have been faster.
        if let Some(known) = known.get(&rest) {
            return Ok(known.clone());
        }
        known.insert(rest.clone());
        Ok(rest)
    }

    /// Gives back those that no pair has any more.
    pub(super) fn sweep(&self) {
        self.lock().retain(|rest| Arc::strong_count(rest) > 1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Arc<[CertificateDer<'static>]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a handshake takes, as long as handshakes come.
#[derive(Debug)]
struct Live {
    key: Arc<CertifiedKey>,
    /// End of the staple's time.
    until: Option<SystemTime>,
}

/// A pair that can be served.
#[derive(Debug)]
pub(super) struct Pair {
    leaf: CertificateDer<'static>,
    rest: Arc<[CertificateDer<'static>]>,
    /// Does not print itself, and is wiped when it goes.
    key: PrivateKeyDer<'static>,
    /// By the order of [`SCHEMES`].
    schemes: u16,
    live: ArcSwapOption<Live>,
    /// Since the last [`Pair::rest`].
    used: AtomicBool,
    staple: ArcSwapOption<Staple>,
    /// What the local copy calls it, once it was asked.
    pub(super) copy_name: OnceLock<Box<str>>,
    /// FNV-1a of the chain's text, by which Caddy names its OCSP staples.
    pub(super) bundle: u32,
    /// DNS names, lower case; wildcards as `*.example.org`.
    pub(super) names: Vec<Arc<str>>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) common_name: String,
    pub(super) issuer: String,
    /// Decimal.
    pub(super) serial: String,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    /// Of the chain; a place of configuration where it stands there as text.
    pub(super) file: Arc<Path>,
    /// Which one of several in one file.
    pub(super) entry: Option<Arc<str>>,
    /// Issued by an authority of the house (Caddy's issuer `local`), not a public one.
    pub(super) local: bool,
}

impl Pair {
    /// Whether clients take it now; the authority's clock may be a little ahead of ours.
    pub(super) fn valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now + SKEW && now < self.not_after
    }

    /// What is wrong with its time.
    pub(super) fn out_of_time(&self, now: SystemTime) -> Option<&'static str> {
        if now >= self.not_after {
            return Some("has expired");
        }
        (now < self.not_before).then_some("is not valid yet")
    }

    /// Whether a client that verifies these can verify its signatures.
    pub(super) fn fits(&self, schemes: &[SignatureScheme]) -> bool {
        let bit = |scheme| SCHEMES.iter().position(|known| *known == scheme);
        schemes.iter().any(|scheme| bit(*scheme).is_some_and(|bit| self.schemes & (1 << bit) != 0))
    }

    /// For a handshake: made now when nobody has needed it for a while. `None` only where memory or the library fails.
    pub(super) fn certified(&self, now: SystemTime) -> Option<Arc<CertifiedKey>> {
        // Read first: the line is shared among all workers.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        if let Some(live) = &*self.live.load()
            && live.until.is_none_or(|until| now < until)
        {
            return Some(live.key.clone());
        }
        let signing = any_supported_type(&self.key).ok()?;
        let chain = std::iter::once(&self.leaf).chain(&*self.rest).cloned().collect();
        let mut key = CertifiedKey::new(chain, signing);
        let staple = self.staple.load_full().filter(|staple| staple.fresh_at(now));
        key.ocsp = staple.as_ref().map(|staple| staple.response.clone());
        let key = Arc::new(key);
        self.live.store(Some(Arc::new(Live { key: key.clone(), until: staple.map(|staple| staple.until) })));
        Some(key)
    }

    /// Staples this from now on.
    pub(super) fn staple(&self, staple: Option<Arc<Staple>>) {
        let same = match (&*self.staple.load(), &staple) {
            (Some(old), Some(new)) => old.response == new.response,
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.staple.store(staple);
            self.live.store(None);
        }
    }

    /// Gives back what handshakes take, unless one has come since the last call.
    pub(super) fn rest(&self) {
        if !self.used.swap(false, Ordering::Relaxed) {
            self.live.store(None);
        }
    }

    /// Whether a handshake would take it as it is.
    #[cfg(test)]
    pub(super) fn is_live(&self) -> bool {
        self.live.load().is_some()
    }

    /// The first certificate, DER.
    pub(super) fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// All certificates, DER.
    pub(super) fn chain(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&*self.leaf).chain(self.rest.iter().map(|der| &**der))
    }

    /// The key: its DER and what PEM calls it.
    pub(super) fn secret(&self) -> (&'static str, &[u8]) {
        let label = match &self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        (label, self.key.secret_der())
    }
}

/// FNV-1a, 32 bits.
pub(super) fn fnv(text: &[u8]) -> u32 {
    text.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn time(seconds: i64) -> SystemTime {
    u64::try_from(seconds).ok().and_then(|s| UNIX_EPOCH.checked_add(Duration::from_secs(s))).unwrap_or(UNIX_EPOCH)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn schemes(key: &dyn SigningKey) -> u16 {
    let can = |scheme: &SignatureScheme| key.choose_scheme(&[*scheme]).is_some();
    SCHEMES.iter().enumerate().filter(|(_, scheme)| can(scheme)).fold(0, |bits, (at, _)| bits | 1 << at)
}

/// PKCS#8 (RFC 7468, 11) or the older form (RFC 1421, 4.6.1.1) of a key under a passphrase.
fn is_encrypted(key: &[u8]) -> bool {
    let has = |text: &str| memchr::memmem::find(key, text.as_bytes()).is_some();
    has("-----BEGIN ENCRYPTED PRIVATE KEY-----") || has("Proc-Type: 4,ENCRYPTED")
}

/// Where a pair comes from.
#[derive(Debug, Clone)]
pub(super) struct Whence {
    /// As [`Pair::file`].
    pub(super) file: Arc<Path>,
    /// As [`Pair::entry`].
    pub(super) entry: Option<Arc<str>>,
    /// As [`Pair::local`].
    pub(super) local: bool,
    /// Names of its own are not needed: it answers whoever nothing else fits.
    pub(super) default: bool,
}

/// Reads a pair from the texts of its two files (the same text twice for a combined file).
///
/// # Errors
/// Anything that keeps it from being served.
pub(super) fn parse(chain: &[u8], key: &[u8], whence: Whence, chains: &Chains) -> Result<Pair, PairError> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(chain) {
        let certificate = certificate.map_err(|_| PairError::BadCertificate(certificates.len() + 1))?;
        // Without what the decoder allocated in advance.
        certificates.push(CertificateDer::from(certificate.to_vec()));
    }
    if certificates.is_empty() {
        // A SEQUENCE with its length in two bytes, as every certificate is.
        return Err(if chain.starts_with(&[0x30, 0x82]) { PairError::Der } else { PairError::NoCertificate });
    }
    let rest = certificates.split_off(1);
    let Some(first) = certificates.pop() else { return Err(PairError::NoCertificate) };
    let rest = chains.share(rest, |rest| {
        rest.iter().enumerate().try_for_each(|(at, certificate)| match X509Certificate::from_der(certificate) {
            Ok(_) => Ok(()),
            Err(_) => Err(PairError::BadCertificate(at + 2)),
        })
    })?;
    let (_, leaf) = X509Certificate::from_der(&first).map_err(|_| PairError::BadCertificate(1))?;
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    if let Ok(Some(alternative)) = leaf.subject_alternative_name() {
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(Arc::from(name.to_ascii_lowercase())),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    if names.is_empty() && addresses.is_empty() && !whence.default {
        return Err(PairError::NoNames);
    }
    let common_name = leaf.subject().iter_common_name().next().and_then(|n| n.as_str().ok()).unwrap_or_default();
    let (common_name, issuer) = (common_name.to_owned(), leaf.issuer().to_string());
    let (serial, validity) = (leaf.tbs_certificate.serial.to_string(), leaf.validity());
    let (not_before, not_after) = (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()));
    if is_encrypted(key) {
        return Err(PairError::EncryptedKey);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => PairError::NoKey,
        _ => PairError::BadKey,
    })?;
    let signing = any_supported_type(&key).map_err(|_| PairError::BadKey)?;
    let schemes = schemes(&*signing);
    CertifiedKey::new(vec![first.clone()], signing).keys_match().map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => PairError::Mismatch,
        _ => PairError::BadKey,
    })?;
    let Whence { file, entry, local, default: _ } = whence;
    Ok(Pair {
        leaf: first,
        rest,
        key,
        schemes,
        live: ArcSwapOption::empty(),
        used: AtomicBool::new(false),
        staple: ArcSwapOption::empty(),
        copy_name: OnceLock::new(),
        bundle: fnv(chain),
        names,
        addresses,
        common_name,
        issuer,
        serial,
        not_before,
        not_after,
        file,
        entry,
        local,
    })
}
